//! The volume group of LUNs. LVM finds groups by their names, on whatever disks are there: here it is shown the partitions of
//! the group's rule alone, so that a group of the same name on anybody's disk is neither used nor written to.

use super::store::{Error, content, wait_for};
use crate::{SYSFS, format, sys};
use kiln_contract::policy::Rule;
use std::fs;
use std::path::{Path, PathBuf};
use uuid::Uuid;

const LVM: &str = "/usr/sbin/lvm";

/// A volume group and where it may lie.
#[derive(Debug)]
pub(super) struct Group {
    name: String,
    /// Devices of its rule's partitions.
    devices: Vec<String>,
}

impl Group {
    /// The group of a rule, once its partitions are there.
    pub(super) fn of(name: &str, rule: Option<&Rule>) -> Result<Self, Error> {
        let mut devices = Vec::new();
        for partition in rule.iter().flat_map(|rule| &rule.slots).map(|slot| slot.partition) {
            let link = PathBuf::from(format!("/dev/disk/by-partuuid/{partition}"));
            let absent = || Error::NoDisk { group: name.to_owned(), partition };
            wait_for(&link).ok_or_else(absent)?;
            // LVM knows devices by their kernel names.
            devices.push(fs::canonicalize(&link).map_err(|_| absent())?.display().to_string());
        }
        if devices.is_empty() {
            return Err(Error::NoDisk { group: name.to_owned(), partition: Uuid::nil() });
        }
        Ok(Self { name: name.to_owned(), devices })
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Makes the group when it is not there and its partitions are blank.
    pub(super) fn make(&self) -> Result<(), Error> {
        let group = || self.name.clone();
        match self.lvm(["vgs", "--noheadings", "-o", "vg_missing_pv_count", &self.name]) {
            Ok(missing) if missing.trim() == "0" => Ok(()),
            Ok(missing) => {
                Err(Error::Partial { group: group(), missing: format!("{} disks", missing.trim()) })
            }
            Err(_) => {
                for device in &self.devices {
                    if let Some(found) = content(self, device)? {
                        return Err(Error::Foreign { group: group(), device: device.clone(), found });
                    }
                }
                // Without a terminal to ask, lvm takes "no" for the answer to whether a signature may go.
                let devices = self.devices.iter().map(String::as_str);
                self.lvm(["vgcreate", &self.name].into_iter().chain(devices)).map(drop)
            }
        }
    }

    /// Runs a command of lvm, which sees no device but the group's, and gives what it says.
    pub(super) fn lvm<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<String, Error> {
        let devices = self.devices.join(",");
        let mut words: Vec<&str> = arguments.into_iter().collect();
        words.splice(1..1, ["--devices", &devices]);
        Ok(format::run(LVM, words)?)
    }

    /// Fields of a volume, sizes in bytes.
    pub(super) fn show(&self, volume: &str, fields: &str) -> Result<String, Error> {
        self.lvm(["lvs", "--noheadings", "--units", "b", "--nosuffix", "-o", fields, volume])
    }

    /// True when a device is that volume of this group: one of the same name in a group of the same name that somebody
    /// activated has the same path.
    pub(super) fn has(&self, volume: &str, device: &Path) -> Result<bool, Error> {
        let wanted = self.show(volume, "vg_uuid,lv_uuid")?;
        let failed = |error| Error::File { path: device.to_owned(), error };
        // By its number: lvm makes a node of its own where it does not wait for udev, which makes a link.
        let (major, minor) = sys::device_number(device).map_err(failed)?;
        let known = Path::new(SYSFS).join(format!("dev/block/{major}:{minor}/dm/uuid"));
        Ok(fs::read_to_string(known).is_ok_and(|found| is_volume(&found, &wanted)))
    }

    /// What to say of groups of the same name on other disks. They are looked at, and nothing else.
    pub(super) fn namesakes(&self) -> Option<String> {
        let all = format::run(LVM, ["pvs", "--noheadings", "-o", "pv_name,vg_uuid,vg_name"]).ok()?;
        let others: Vec<String> = all
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let (device, uuid, name) = (words.next()?, words.next()?, words.next()?);
                let other = name == self.name && !self.devices.iter().any(|ours| ours == device);
                other.then(|| format!("{device} (UUID {uuid})"))
            })
            .collect();
        (!others.is_empty()).then(|| {
            format!(
                "a volume group of the same name, {}, lies on {}, which is no disk of its rule: it is not used. To work on \
                 either by name, give the other one another name first (vgrename and its UUID)",
                self.name,
                others.join(", ")
            )
        })
    }
}

/// A device's name for itself (lvm2, lib/activate/dev_manager.c: `LVM-`, then both UUIDs without their hyphens, and a suffix
/// for what is not a volume by itself).
fn is_volume(found: &str, wanted: &str) -> bool {
    let bare: String = wanted.chars().filter(|letter| letter.is_ascii_alphanumeric()).collect();
    !bare.is_empty() && found.trim().strip_prefix("LVM-").is_some_and(|found| found == bare)
}

#[cfg(test)]
mod tests {
    use super::{Group, LVM, is_volume};
    use crate::format::run;
    use crate::target::store::Error;
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt;
    use std::path::{Path, PathBuf};

    /// A file as a block device, which is all that lvm takes.
    struct Loop {
        device: String,
        file: PathBuf,
    }

    impl Loop {
        /// Nothing where the machine gives none, which root is needed for.
        fn new(folder: &Path, name: &str) -> Option<Self> {
            let file = folder.join(name);
            File::create(&file).unwrap().set_len(64 << 20).unwrap();
            match run("/usr/sbin/losetup", ["--find".as_ref(), "--show".as_ref(), file.as_os_str()]) {
                Ok(device) => Some(Self { device: device.trim().to_owned(), file }),
                Err(error) => {
                    eprintln!("SKIPPED, no loop device: {error}");
                    None
                }
            }
        }

        fn bytes(&self) -> Vec<u8> {
            File::open(&self.device).unwrap().sync_all().unwrap();
            fs::read(&self.file).unwrap()
        }
    }

    impl Drop for Loop {
        fn drop(&mut self) {
            let _ = run("/usr/sbin/losetup", ["--detach", &self.device]);
        }
    }

    fn group(devices: &[&Loop]) -> Group {
        let devices = devices.iter().map(|device| device.device.clone()).collect();
        Group { name: "kiln-test-luns".to_owned(), devices }
    }

    /// By the true lvm: a group of the name on another disk is none, and is not written to.
    #[test]
    fn only_the_disks_of_the_rule_count() {
        let folder = tempfile::tempdir().unwrap();
        let disks = ["old", "new", "more", "third"].map(|name| Loop::new(folder.path(), name));
        let [Some(old), Some(new), Some(more), Some(third)] = disks else { return };
        let stranger = group(&[&old]);
        stranger.make().unwrap();
        let before = old.bytes();

        let ours = group(&[&new]);
        ours.make().unwrap();
        ours.make().unwrap();
        assert_eq!(ours.lvm(["pvs", "--noheadings", "-o", "pv_name"]).unwrap().trim(), new.device);
        let said = ours.namesakes().unwrap();
        assert!(said.contains(&old.device) && !said.contains(&new.device), "{said}");

        // A group that goes on beyond the disks of its rule.
        run(
            LVM,
            ["vgextend", "--devices", &format!("{},{}", new.device, more.device), &ours.name, &more.device],
        )
        .unwrap();
        let wide = (new.bytes(), more.bytes());
        let error = ours.make().unwrap_err();
        assert!(matches!(&error, Error::Partial { missing, .. } if missing == "1 disks"), "{error}");
        assert_eq!(wide, (new.bytes(), more.bytes()));
        group(&[&new, &more]).make().unwrap();

        // Somebody's group of another name, and what has no name at all.
        run(LVM, ["vgcreate", "--devices", &third.device, "kiln-test-other", &third.device]).unwrap();
        for found in ["LVM2_member", "data without a signature, from 0 B on,"] {
            let theirs = third.bytes();
            let error = group(&[&third]).make().unwrap_err();
            assert!(matches!(&error, Error::Foreign { found: said, .. } if said == found), "{error}");
            assert!(third.bytes() == theirs);
            let device = File::options().write(true).open(&third.device).unwrap();
            device.write_all_at(&vec![0x5a; 64 << 20], 0).unwrap();
        }
        assert!(old.bytes() == before);
    }

    #[test]
    fn a_volume_is_known_by_both_uuids() {
        let wanted = "  2nKs9b-OiiV-El3T-kt9j-WUAK-cdjX-PZgIeW kIDs13-8yVq-FcLk-UtDt-kBbl-KL1H-1tAvJB\n";
        let ours = "LVM-2nKs9bOiiVEl3Tkt9jWUAKcdjXPZgIeWkIDs138yVqFcLkUtDtkBblKL1H1tAvJB";
        assert!(is_volume(&format!("{ours}\n"), wanted));
        for other in ["", "LVM-", &ours.replace("2nKs", "2nKt"), &format!("{ours}-tpool")] {
            assert!(!is_volume(other, wanted), "{other}");
        }
        assert!(!is_volume("LVM-", ""));
    }
}
