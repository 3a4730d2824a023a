//! Mounting LUNs by systemd, so that they are unmounted before the network goes.

use crate::format;
use crate::longhorn;
use crate::sys;
use crate::units::{FOLDER, escape_path};
use kiln_contract::iscsi::Lun;
use kiln_contract::policy::FileSystem;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

const SYSTEMCTL: &str = "/usr/bin/systemctl";

/// Why a LUN is not mounted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No mount point.
    #[error("the mount point {place} can't be made: {error}")]
    Place { place: String, error: io::Error },
    /// No unit.
    #[error("{path} can't be written: {error}", path = path.display())]
    Unit { path: PathBuf, error: io::Error },
    /// The file system needs a person.
    #[error("its file system needs a person: {error}; `e2fsck -f {device}` asks what to do")]
    Check { device: String, error: format::Error },
    /// systemd did not mount it.
    #[error("{0}")]
    Systemd(#[from] format::Error),
    /// Longhorn's folder.
    #[error("Longhorn's folder {folder} can't be made: {error}")]
    Longhorn { folder: String, error: io::Error },
}

/// `major:minor` of what is mounted at the LUN's mount point, if anything is.
pub(crate) fn mounted(lun: &Lun) -> Option<String> {
    let place = canonical(&lun.mount_point);
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    find(&table, &place.to_string_lossy())
}

/// The last mount at a place in /proc/self/mountinfo (proc(5)): its third field is the device, its fifth the place.
fn find(table: &str, place: &str) -> Option<String> {
    let at = |line: &&str| line.split(' ').nth(4) == Some(place);
    table.lines().rfind(at).and_then(|line| line.split(' ').nth(2)).map(str::to_owned)
}

/// Mounts `device`, after a look at an ext4 that was not unmounted.
pub(super) fn start(lun: &Lun, device: &str) -> Result<(), Error> {
    let place =
        place(&lun.mount_point).map_err(|error| Error::Place { place: lun.mount_point.clone(), error })?;
    // The links below /dev/disk are udev's, and it has been at work.
    format::run("/usr/bin/udevadm", ["settle", "--timeout=15"])?;
    if lun.filesystem == FileSystem::Ext4 {
        format::repair(Path::new(device))
            .map_err(|error| Error::Check { device: device.to_owned(), error })?;
    }
    let name = unit_name(&place);
    let path = Path::new(FOLDER).join(&name);
    let text = unit(lun, device, &place);
    if fs::read_to_string(&path).ok().as_ref() != Some(&text) {
        let write = fs::create_dir_all(FOLDER).and_then(|()| fs::write(&path, &text));
        write.map_err(|error| Error::Unit { path: path.clone(), error })?;
        format::run(SYSTEMCTL, ["daemon-reload"])?;
    }
    format::run(SYSTEMCTL, ["start", &name])?;
    match &lun.longhorn {
        None => Ok(()),
        Some(wanted) => {
            let folder = place.join(&wanted.folder);
            let made = fs::create_dir_all(&folder)
                .and_then(|()| longhorn::prepare_as(&folder, (&lun.name, wanted.uuid)));
            made.map_err(|error| Error::Longhorn { folder: folder.display().to_string(), error })
        }
    }
}

/// Unmounts, whatever still uses it: the device behind it is gone.
pub(super) fn stop(lun: &Lun) {
    let place = canonical(&lun.mount_point);
    if format::run(SYSTEMCTL, ["stop", &unit_name(&place)]).is_err() || mounted(lun).is_some() {
        let _ = sys::unmount(&place.to_string_lossy());
    }
}

fn unit_name(place: &Path) -> String {
    format!("{}.mount", escape_path(&place.to_string_lossy()))
}

/// systemd refuses mount points with symbolic links in them, and /srv, /mnt and others are such.
fn canonical(path: &str) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| PathBuf::from(path))
}

/// The mount point, made when it is not there: immutable, so that nothing fills the state partition instead of the LUN.
fn place(path: &str) -> io::Result<PathBuf> {
    if !Path::new(path).is_dir() {
        fs::create_dir_all(path)?;
        // A file system without the attribute is one in memory, which goes with the boot.
        let _ = File::open(path).and_then(|folder| sys::make_immutable(&folder));
    }
    fs::canonicalize(path)
}

/// systemd takes `_netdev` for a remote file system: after the network, and unmounted before it goes; `nofail`: the boot
/// does not wait (systemd.mount(5)). The service comes first and goes last, for it holds the session.
fn unit(lun: &Lun, device: &str, place: &Path) -> String {
    let fixed = ["_netdev", "nofail", "nosuid", "nodev"];
    let options: Vec<&str> = fixed.into_iter().chain(lun.mount_options.iter().map(String::as_str)).collect();
    format!(
        "[Unit]\nDescription=iSCSI LUN {}\nAfter=kiln-luns.service iscsid.service\n\n\
         [Mount]\nWhat={device}\nWhere={}\nType={}\nOptions={}\nTimeoutSec=90\n",
        lun.name,
        place.display(),
        lun.filesystem.as_str(),
        options.join(",").replace('%', "%%"),
    )
}

#[cfg(test)]
mod tests {
    use super::{find, unit};
    use crate::luns::content::tests::lun;
    use std::path::Path;

    #[test]
    fn the_last_mount_at_a_place_counts() {
        let table = "22 1 254:3 / / ro - ext4 /dev/vda3 ro\n30 22 8:17 / /storage rw - ext4 /dev/sdb1 rw\n\
                     31 30 8:33 / /storage rw - ext4 /dev/sdc1 rw\n32 22 0:9 / /storage2 rw - tmpfs x rw\n";
        assert_eq!(find(table, "/storage").as_deref(), Some("8:33"));
        assert_eq!(find(table, "/stor"), None);
    }

    #[test]
    fn the_unit_is_one_of_the_network() {
        let text = unit(&lun(), "/dev/disk/by-partuuid/1", Path::new("/storage"));
        assert_eq!(
            text,
            "[Unit]\nDescription=iSCSI LUN storage\nAfter=kiln-luns.service iscsid.service\n\n\
             [Mount]\nWhat=/dev/disk/by-partuuid/1\nWhere=/storage\nType=ext4\n\
             Options=_netdev,nofail,nosuid,nodev,noatime\nTimeoutSec=90\n"
        );
    }
}
