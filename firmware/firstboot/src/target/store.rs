//! Where LUNs are kept: logical volumes, or files.

use super::group::Group;
use super::pool;
use crate::{format, inventory};
use kiln_contract::iscsi::{self, Target};
use kiln_contract::plan::human;
use kiln_contract::policy::{Policy, Use};
use std::fs::{self, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// lvm's name for a volume of a pool.
const THIN: &str = "thin";
/// How long the partitions of a volume group may take to appear.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a LUN is not there.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// No disk for the group.
    #[error("the volume group {group} has no disk: partition {partition} is not there")]
    NoDisk { group: String, partition: Uuid },
    /// Something else is where the group belongs.
    #[error(
        "the volume group {group} is not there, and {found} is on its partition {device}: nothing was written"
    )]
    Foreign { group: String, device: String, found: String },
    /// A group that has disks which no rule took.
    #[error(
        "the volume group {group} also lies on {missing} that are not on the disks of its rule, or are missing: nothing was written. Give the rule those disks, too, or take the group apart (vgreduce)"
    )]
    Partial { group: String, missing: String },
    /// A volume of another group, of the same name, has the place.
    #[error(
        "{path} is a volume of another volume group {group}, on a disk that no rule took: it is not served, and nothing was written. Give that group another name (vgrename and its UUID, which vgs shows), or take its disk out",
        path = path.display()
    )]
    OtherVolume { path: PathBuf, group: String },
    /// A disk that is to be mounted is not.
    #[error("{folder} belongs on the data disk that is mounted at {place}, and nothing is mounted there")]
    NotMounted { folder: String, place: String },
    /// The pool's name is another volume's.
    #[error(
        "{pool} is a volume of the kind {found}, where the pool of thin LUNs belongs: nothing was written"
    )]
    NotAPool { pool: String, found: String },
    /// A file.
    #[error("{path} can't be made: {error}", path = path.display())]
    File { path: PathBuf, error: io::Error },
    /// A program.
    #[error(transparent)]
    Program(#[from] format::Error),
}

/// A store that is ready.
#[derive(Debug)]
pub(super) enum Store {
    /// A volume group.
    Group(Group),
    /// A volume group whose LUNs are in a pool.
    Pool(Group),
    /// A folder.
    Folder(PathBuf),
}

/// A LUN that is there.
#[derive(Debug)]
pub(super) struct Made {
    /// Its device or file.
    pub(super) path: PathBuf,
    /// What a person should know.
    pub(super) remark: Option<String>,
    /// It takes room as it is written to, and gives it back.
    pub(super) thin: bool,
}

/// Makes the target's store ready: the volume group on its partitions, when they are blank, or the folder.
pub(super) fn open(target: &Target, disks: &Policy) -> Result<Store, Error> {
    match &target.store {
        iscsi::Store::VolumeGroup(name) => {
            let rule = disks.data.iter().find(|rule| rule.usage == Use::Lvm && rule.name == *name);
            let group = Group::of(name, rule)?;
            group.make()?;
            group.lvm(["vgchange", "--activate", "y", name])?;
            Ok(if target.thin { Store::Pool(group) } else { Store::Group(group) })
        }
        iscsi::Store::Folder(folder) => {
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            if let Some(place) = unmounted(folder, disks, &mounts) {
                return Err(Error::NotMounted { folder: folder.clone(), place });
            }
            let path = PathBuf::from(folder);
            fs::create_dir_all(&path).map_err(|error| Error::File { path: path.clone(), error })?;
            Ok(Store::Folder(path))
        }
    }
}

/// The mount point of a data disk that the folder belongs on, when nothing is mounted there: the LUNs would fill what is
/// below it.
fn unmounted(folder: &str, disks: &Policy, mountinfo: &str) -> Option<String> {
    let slots = disks.data.iter().flat_map(|rule| &rule.slots);
    let mut places = slots.filter_map(|slot| slot.mount_point.as_deref());
    let place = places.find(|place| Path::new(folder).starts_with(place))?;
    let canonical = fs::canonicalize(place).unwrap_or_else(|_| PathBuf::from(place));
    let is_mounted =
        mountinfo.lines().any(|line| line.split(' ').nth(4).is_some_and(|at| Path::new(at) == canonical));
    (!is_mounted).then(|| place.to_owned())
}

/// What is on a partition; nothing when it is blank. A physical volume of no group is what a cut `vgcreate` leaves.
pub(super) fn content(group: &Group, device: &str) -> Result<Option<String>, Error> {
    // Of a partition blkid always finds something: its place in the table. That has other names.
    let found =
        match format::run("/usr/sbin/blkid", ["-p", "-o", "value", "-s", "TYPE", "-s", "PTTYPE", device]) {
            Ok(text) => text.split_whitespace().collect::<Vec<_>>().join(" and "),
            // blkid(8): 2 is nothing found. A device that can't be read ends the same way, and is read below.
            Err(format::Error::Failed { status, .. }) if status.ends_with(": 2") => String::new(),
            Err(error) => return Err(error.into()),
        };
    let orphan = || {
        let of = group.lvm(["pvs", "--noheadings", "-o", "vg_name", device]);
        of.is_ok_and(|of| of.trim().is_empty())
    };
    if found == "LVM2_member" && orphan() {
        return Ok(None);
    }
    if !found.is_empty() {
        return Ok(Some(found));
    }
    let path = PathBuf::from(device);
    let size = fs::File::open(&path).and_then(|mut file| file.seek(SeekFrom::End(0)));
    let written = size.and_then(|size| inventory::written(&path, size));
    let written = written.map_err(|error| Error::File { path, error })?;
    Ok(written.map(|at| format!("data without a signature, from {} on,", human(at))))
}

pub(super) fn wait_for(path: &Path) -> Option<()> {
    let start = Instant::now();
    while !path.exists() {
        if start.elapsed() > PATIENCE {
            return None;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Some(())
}

impl Store {
    /// What a person should know of other groups of the same name.
    pub(super) fn namesakes(&self) -> Option<String> {
        match self {
            Self::Pool(group) | Self::Group(group) => group.namesakes(),
            Self::Folder(_) => None,
        }
    }

    /// Makes the pool of thin LUNs, when there is none. Gives what a person should know. LUNs that are there can be served
    /// without.
    pub(super) fn pool(&self) -> Result<Option<String>, Error> {
        match self {
            Self::Pool(group) => pool::open(group),
            Self::Group(_) | Self::Folder(_) => Ok(None),
        }
    }

    /// A LUN of that name and size (bytes), made when it is not there.
    pub(super) fn make(&self, name: &str, bytes: u64) -> Result<Made, Error> {
        match self {
            Self::Group(group) | Self::Pool(group) => {
                volume(group, (name, bytes), matches!(self, Self::Pool(_)))
            }
            Self::Folder(folder) => file(folder, name, bytes),
        }
    }
}

fn volume(group: &Group, (name, bytes): (&str, u64), pooled: bool) -> Result<Made, Error> {
    let full = format!("{}/{name}", group.name());
    let path = PathBuf::from(format!("/dev/{full}"));
    let (remark, thin) = match group.show(&full, "lv_size,segtype") {
        Ok(text) => {
            let (has, kind) = text.trim().split_once(char::is_whitespace).unwrap_or((text.trim(), ""));
            let has = has.parse::<u64>().unwrap_or(0);
            let thin = kind.trim() == THIN;
            // Extents round a size up.
            let smaller = (has < bytes).then(|| stays(has, bytes));
            (smaller.or_else(|| (thin != pooled).then(|| other_kind(thin))), thin)
        }
        Err(_) => {
            let size = format!("{bytes}b");
            let create = ["lvcreate", "--yes", "-n", name];
            // Extents that were in use before may hold what looks like a file system. A pool's are zeroed when they are
            // given away.
            let thick = ["--wipesignatures", "y", "--zero", "y", "-L", &size, group.name()];
            let thin = ["--type", THIN, "-V", &size, "--thinpool", pool::POOL, group.name()];
            group.lvm(create.into_iter().chain(if pooled { thin } else { thick }))?;
            (Some(format!("made in {}", group.name())), pooled)
        }
    };
    wait_for(&path).ok_or_else(|| {
        let error = io::Error::from(io::ErrorKind::NotFound);
        Error::File { path: path.clone(), error }
    })?;
    if !group.has(&full, &path)? {
        return Err(Error::OtherVolume { path, group: group.name().to_owned() });
    }
    Ok(Made { path, remark, thin })
}

/// A sparse file. It has its final name when it has its size.
fn file(folder: &Path, name: &str, bytes: u64) -> Result<Made, Error> {
    let path = folder.join(format!("{name}.img"));
    let failed = |error| Error::File { path: path.clone(), error };
    let remark = match fs::metadata(&path) {
        Ok(metadata) => (metadata.len() != bytes).then(|| stays(metadata.len(), bytes)),
        Err(_) => {
            let new = folder.join(format!(".{name}.kiln"));
            let _ = fs::remove_file(&new);
            let make = || -> io::Result<()> {
                let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
                file.set_len(bytes)?;
                file.sync_all()?;
                fs::rename(&new, &path)
            };
            make().map_err(failed)?;
            Some(format!("made as {}", path.display()))
        }
    };
    Ok(Made { path, remark, thin: false })
}

/// What to say of a volume that is not of the kind that the cluster file asks for.
fn other_kind(thin: bool) -> String {
    let (is, asked) = if thin { ("thin", "false") } else { ("not thin", "true") };
    format!("is {is} and the cluster file says `thin: {asked}`: it stays as it is")
}

fn stays(has: u64, asked: u64) -> String {
    let (has, asked) = (human(has), human(asked));
    format!("has {has} and the cluster file asks for {asked}: it stays as it is")
}

#[cfg(test)]
mod tests {
    use super::{Store, unmounted};
    use crate::data::tests::rule;
    use kiln_contract::policy::Policy;
    use std::fs;

    #[test]
    fn files_are_made_once_and_never_changed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::Folder(folder.path().to_owned());
        let made = store.make("node2", 64 << 20).unwrap();
        assert_eq!(fs::metadata(&made.path).unwrap().len(), 64 << 20);
        assert!(made.remark.unwrap().starts_with("made as "));
        assert_eq!(store.make("node2", 64 << 20).unwrap().remark, None);
        for bytes in [32 << 20, 128 << 20] {
            let again = store.make("node2", bytes).unwrap();
            assert!(again.remark.unwrap().ends_with("it stays as it is"));
            assert_eq!(fs::metadata(&again.path).unwrap().len(), 64 << 20);
        }
    }

    #[test]
    fn a_folder_of_an_absent_disk_is_not_made_on_the_state_partition() {
        let disks = Policy { data: vec![rule("sdf", 1)], ..Policy::default() };
        let place = disks.data[0].slots[0].mount_point.clone().unwrap();
        let folder = format!("{place}/luns");
        assert_eq!(unmounted(&folder, &disks, ""), Some(place.clone()));
        let mounted = format!("30 22 8:17 / {place} rw - ext4 /dev/sdb1 rw\n");
        assert_eq!(unmounted(&folder, &disks, &mounted), None);
        assert_eq!(unmounted("/srv/luns", &disks, ""), None);
    }
}
