//! iSCSI sessions as sysfs shows them (kernel: drivers/scsi/scsi_transport_iscsi.c).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a disk may take to appear once its session is there.
const PATIENCE: Duration = Duration::from_secs(10);

/// A session with a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    /// `session1`.
    name: String,
}

/// The session with the target of that name.
pub(super) fn find(sysfs: &Path, target: &str) -> Option<Session> {
    names(&sysfs.join("class/iscsi_session"))
        .into_iter()
        .find(|name| attribute(&sysfs.join("class/iscsi_session").join(name).join("targetname")) == target)
        .map(|name| Session { name })
}

/// The same, once it is there.
pub(super) fn appears(sysfs: &Path, target: &str) -> Option<Session> {
    wait(|| find(sysfs, target))
}

impl Session {
    /// True when the target answers.
    pub(super) fn is_logged_in(&self, sysfs: &Path) -> bool {
        attribute(&sysfs.join("class/iscsi_session").join(&self.name).join("state")) == "LOGGED_IN"
    }

    /// Kernel name of the disk that a LUN is; asks for it once when the kernel has not seen it yet.
    pub(super) fn disk(&self, sysfs: &Path, lun: u16) -> Option<String> {
        self.look(sysfs, lun).or_else(|| {
            self.scan(sysfs);
            wait(|| self.look(sysfs, lun))
        })
    }

    /// …/session1/target2:0:0/2:0:0:LUN/block/sdb.
    fn look(&self, sysfs: &Path, lun: u16) -> Option<String> {
        let session = self.device(sysfs);
        let ending = format!(":{lun}");
        names(&session).into_iter().filter(|name| name.starts_with("target")).find_map(|target| {
            let target = session.join(target);
            let mut luns = names(&target).into_iter().filter(|name| name.ends_with(&ending));
            luns.find_map(|lun| names(&target.join(lun).join("block")).into_iter().next())
        })
    }

    /// Asks the host adapter for LUNs that came since the login.
    fn scan(&self, sysfs: &Path) {
        let device = fs::canonicalize(self.device(sysfs)).unwrap_or_default();
        let host = device.ancestors().filter_map(|path| path.file_name()?.to_str()).find(|name| {
            name.strip_prefix("host").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
        });
        if let Some(host) = host {
            let _ = fs::write(sysfs.join("class/scsi_host").join(host).join("scan"), "- - -");
        }
    }

    fn device(&self, sysfs: &Path) -> PathBuf {
        sysfs.join("class/iscsi_session").join(&self.name).join("device")
    }
}

/// Makes what reads and writes a disk wait for as long as its session is waited for. Without it a command that was on its
/// way when the connection broke for the sixth time fails for good (drivers/scsi/sd.h, `SD_MAX_RETRIES`), and what was
/// written is lost though the target came back. -1 is without an end (drivers/scsi/sd.c, `max_retries_store`).
pub(super) fn be_patient(sysfs: &Path, disk: &str) -> io::Result<()> {
    let device = sysfs.join("class/block").join(disk).join("device/scsi_disk");
    for name in names(&device) {
        fs::write(device.join(name).join("max_retries"), "-1")?;
    }
    Ok(())
}

/// True when the device number `major:minor` is the disk's or one of its partitions'.
pub(super) fn is_of(sysfs: &Path, disk: &str, number: &str) -> bool {
    let top = sysfs.join("class/block").join(disk);
    let is = |path: &Path| attribute(&path.join("dev")) == number;
    is(&top) || names(&top).iter().any(|name| is(&top.join(name)))
}

fn wait<T>(look: impl Fn() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        match look() {
            None if start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(100)),
            found => return found,
        }
    }
}

/// Names in a folder, sorted; none when it can't be read.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect();
    names.sort();
    names
}

fn attribute(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Session, be_patient, find, is_of};
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    /// As on a machine with a session to a target with LUNs 0 and 10.
    fn sysfs(root: &Path) {
        let session = root.join("devices/platform/host2/session1");
        let class = root.join("class/iscsi_session");
        fs::create_dir_all(session.join("iscsi_session/session1")).unwrap();
        for (lun, disk) in [("2:0:0:10", "sdc"), ("2:0:0:0", "sdb")] {
            let block = session.join("target2:0:0").join(lun).join("block").join(disk);
            fs::create_dir_all(block.join(format!("{disk}1"))).unwrap();
            fs::write(block.join("dev"), if disk == "sdb" { "8:16\n" } else { "8:32\n" }).unwrap();
            fs::write(block.join(format!("{disk}1/dev")), if disk == "sdb" { "8:17\n" } else { "8:33\n" })
                .unwrap();
            fs::create_dir_all(root.join("class/block")).unwrap();
            symlink(&block, root.join("class/block").join(disk)).unwrap();
        }
        fs::create_dir_all(class.join("session1")).unwrap();
        let scsi = session.join("target2:0:0/2:0:0:0");
        symlink(&scsi, scsi.join("block/sdb/device")).unwrap();
        fs::create_dir_all(scsi.join("scsi_disk/2:0:0:0")).unwrap();
        fs::write(scsi.join("scsi_disk/2:0:0:0/max_retries"), "5\n").unwrap();
        symlink(&session, class.join("session1/device")).unwrap();
        fs::write(class.join("session1/targetname"), "iqn.2025-01.home:x\n").unwrap();
        fs::write(class.join("session1/state"), "LOGGED_IN\n").unwrap();
    }

    #[test]
    fn a_lun_is_found_by_target_and_number() {
        let root = tempfile::tempdir().unwrap();
        sysfs(root.path());
        assert_eq!(find(root.path(), "iqn.2025-01.home:y"), None);
        let session = find(root.path(), "iqn.2025-01.home:x").unwrap();
        assert_eq!(session, Session { name: "session1".to_owned() });
        assert!(session.is_logged_in(root.path()));
        assert_eq!(session.disk(root.path(), 0).as_deref(), Some("sdb"));
        assert_eq!(session.disk(root.path(), 10).as_deref(), Some("sdc"));
        assert!(is_of(root.path(), "sdb", "8:17") && is_of(root.path(), "sdb", "8:16"));
        assert!(!is_of(root.path(), "sdb", "8:33"));
        be_patient(root.path(), "sdb").unwrap();
        let retries = root.path().join("class/block/sdb/device/scsi_disk/2:0:0:0/max_retries");
        assert_eq!(fs::read_to_string(retries).unwrap(), "-1");
        fs::write(root.path().join("class/iscsi_session/session1/state"), "FAILED\n").unwrap();
        assert!(!session.is_logged_in(root.path()));
    }
}
