//! Which devices this boot chose, for services that run later. They find them by what the kernel counts disks with, and never
//! by a label or a GUID: a copy of the disk has the same, and may come at any time.

use crate::choose::Booted;
use crate::{bounded, partition};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where the choice is kept.
pub(crate) const PATH: &str = "/run/kiln/booted.json";
/// No honest one is larger.
const MAX_BYTES: usize = 4096;

/// The disk that this boot chose, and the partitions that are looked for later, by their numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chosen {
    /// Kernel name of the disk.
    pub(crate) disk: String,
    /// The kernel's number of the disk's appearance, which no other gets until the machine is started anew (Linux,
    /// Documentation/ABI/stable/sysfs-block, `diskseq`); nothing where it does not count.
    sequence: Option<u64>,
    /// Number of the ESP.
    pub(crate) esp: u32,
    /// Number of the seed's partition.
    pub(crate) seed: u32,
}

impl Chosen {
    /// What was chosen, as sysfs sees it now.
    pub(crate) fn of(booted: &Booted, sysfs: &Path) -> Self {
        Self {
            disk: booted.disk.name.clone(),
            sequence: sequence(sysfs, &booted.disk.name),
            esp: booted.esp.number,
            seed: booted.seed.number,
        }
    }

    /// Leaves it for later, readable by everybody: it holds no secret.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("/run"));
        DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o644).open(path)?;
        file.write_all(&serde_json::to_vec(self)?)
    }

    /// What was left; nothing on a system that Kiln's initramfs did not boot.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&bounded::read(path, MAX_BYTES).ok()?).ok()
    }

    /// The disk's name now; nothing when it is gone.
    pub(crate) fn name(&self, sysfs: &Path) -> Option<String> {
        if self.sequence.is_none() {
            return sysfs.join("class/block").join(&self.disk).exists().then(|| self.disk.clone());
        }
        let names = fs::read_dir(sysfs.join("class/block")).ok()?;
        let mut names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.find(|name| sequence(sysfs, name) == self.sequence)
    }

    /// The name of one of its partitions that stays its own; nothing where the kernel does not count disks.
    pub(crate) fn link(&self, number: u32) -> Option<String> {
        self.sequence.map(|sequence| link(sequence, number))
    }

    /// The device of one of its partitions; nothing when the disk is gone.
    pub(crate) fn device(&self, (sysfs, dev): (&Path, &Path), number: u32) -> Option<PathBuf> {
        let name = partition::name(sysfs, &self.name(sysfs)?, number)?;
        Some(dev.join(name))
    }
}

/// The number of a whole disk's appearance; partitions have none.
pub(crate) fn sequence(sysfs: &Path, disk: &str) -> Option<u64> {
    let path = sysfs.join("class/block").join(disk).join("diskseq");
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// A name of a disk's partition that stays the same disk's in this boot (udev, `60-persistent-storage.rules`).
pub(crate) fn link(sequence: u64, number: u32) -> String {
    format!("/dev/disk/by-diskseq/{sequence}-part{number}")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::Chosen;
    use crate::choose::booted;
    use crate::disks::tests::kiln_disk;
    use std::fs;
    use std::path::Path;

    /// A disk with three partitions, as sysfs has it, the `sequence`th to appear.
    pub(crate) fn appear(sysfs: &Path, name: &str, sequence: u32) {
        let disk = sysfs.join("class/block").join(name);
        for number in 1..=3 {
            let partition = format!("{name}{number}");
            fs::create_dir_all(disk.join(&partition)).unwrap();
            fs::write(disk.join(&partition).join("partition"), format!("{number}\n")).unwrap();
        }
        fs::write(disk.join("diskseq"), format!("{sequence}\n")).unwrap();
    }

    #[test]
    fn the_same_disk_is_found_again_and_never_its_copy() {
        let root = tempfile::tempdir().unwrap();
        let (sysfs, dev) = (root.path().join("sys"), root.path().join("dev"));
        appear(&sysfs, "sda", 7);
        let booted = booted(&[kiln_disk("sda", 1)], None).unwrap();
        let path = root.path().join("run/kiln/booted.json");
        Chosen::of(&booted, &sysfs).write(&path).unwrap();
        let chosen = Chosen::read(&path).unwrap();
        let seed = || chosen.device((&sysfs, &dev), chosen.seed);
        assert_eq!(seed(), Some(dev.join("sda2")));
        assert_eq!(chosen.link(3).unwrap(), "/dev/disk/by-diskseq/7-part3");
        // Its copy comes, whatever the two are called now.
        appear(&sysfs, "sda", 9);
        assert_eq!(seed(), None);
        appear(&sysfs, "sdb", 7);
        assert_eq!(seed(), Some(dev.join("sdb2")));
    }

    #[test]
    fn nothing_is_believed_that_is_no_choice() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("booted.json");
        assert_eq!(Chosen::read(&path), None);
        for text in ["", "{}", "{\"disk\":1}", &" ".repeat(5000)] {
            fs::write(&path, text).unwrap();
            assert_eq!(Chosen::read(&path), None, "{text}");
        }
    }
}
