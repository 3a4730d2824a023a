//! Buses that find their devices one after the other, as sysfs shows them: USB, and slots for cards.

use std::fs;
use std::path::{Path, PathBuf};

/// Class of interfaces for mass storage (USB Implementers Forum, "Defined Class Codes").
const MASS_STORAGE: &str = "08";
/// So deep below an interface are the units behind it: host, target, unit; one more for a bridge's own.
const DEPTH: usize = 4;
/// Kinds of units that disks are (SCSI Primary Commands, "peripheral device type"): disk, optical memory, simplified disk.
/// A drive for discs is none, nor what a modem brings its drivers on.
const DISKS: [&str; 3] = ["0", "7", "14"];

/// What is on them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Buses {
    /// Devices, the buses' own among them, sorted.
    pub(crate) devices: Vec<String>,
    /// Those that should have a disk, and have none yet.
    pub(crate) waiting: Vec<String>,
}

/// Looks at them.
pub(crate) fn look(sysfs: &Path) -> Buses {
    let mut buses = Buses::default();
    for device in entries(&sysfs.join("bus/usb/devices")) {
        let name = name(&device);
        let class = fs::read_to_string(device.join("bInterfaceClass")).unwrap_or_default();
        if class.trim() == MASS_STORAGE {
            let units = units(&device, DEPTH);
            if units.is_empty() || units.iter().any(|unit| lacks_disk(unit)) {
                buses.waiting.push(name.clone());
            }
        }
        buses.devices.push(name);
    }
    let cards = ["class/mmc_host", "bus/mmc/devices"];
    buses
        .devices
        .extend(cards.iter().flat_map(|folder| entries(&sysfs.join(folder))).map(|card| name(&card)));
    buses.devices.sort();
    buses.waiting.sort();
    buses
}

/// The units below a device.
fn units(folder: &Path, depth: usize) -> Vec<PathBuf> {
    if folder.join("scsi_level").exists() {
        return vec![folder.to_owned()];
    }
    // Links lead out of the device.
    let is_folder = |entry: &PathBuf| fs::symlink_metadata(entry).is_ok_and(|facts| facts.is_dir());
    let below = entries(folder).into_iter().filter(|entry| depth > 0 && is_folder(entry));
    below.flat_map(|entry| units(&entry, depth - 1)).collect()
}

/// True when a unit is a disk's, and the disk is not there. A reader without a card has one, too, of no size.
fn lacks_disk(unit: &Path) -> bool {
    let kind = fs::read_to_string(unit.join("type")).unwrap_or_default();
    DISKS.contains(&kind.trim()) && entries(&unit.join("block")).is_empty()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::look;
    use std::fs;

    /// A keyboard, a stick whose disk is there, one whose disk comes, one without a unit so far, and a drive for discs.
    #[test]
    fn sticks_without_a_disk_are_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let sysfs = root.path();
        assert_eq!(look(sysfs), super::Buses::default());
        let usb = sysfs.join("bus/usb/devices");
        for (device, class, kind) in [
            ("1-1:1.0", "03", ""),
            ("1-2:1.0", "08", "0"),
            ("1-3:1.0", "08", "0"),
            ("1-4:1.0", "08", ""),
            ("1-5:1.0", "08", "5"),
        ] {
            let unit = usb.join(device).join("host6/target6:0:0/6:0:0:0");
            fs::create_dir_all(usb.join(device)).unwrap();
            fs::write(usb.join(device).join("bInterfaceClass"), format!("{class}\n")).unwrap();
            if !kind.is_empty() {
                fs::create_dir_all(&unit).unwrap();
                fs::write(unit.join("scsi_level"), "7\n").unwrap();
                fs::write(unit.join("type"), format!("{kind}\n")).unwrap();
            }
        }
        fs::create_dir_all(usb.join("usb1")).unwrap();
        let disk = |device: &str| usb.join(device).join("host6/target6:0:0/6:0:0:0/block/sda");
        fs::create_dir_all(disk("1-2:1.0")).unwrap();
        let found = look(sysfs);
        assert_eq!(found.devices, ["1-1:1.0", "1-2:1.0", "1-3:1.0", "1-4:1.0", "1-5:1.0", "usb1"]);
        assert_eq!(found.waiting, ["1-3:1.0", "1-4:1.0"]);
        fs::create_dir_all(disk("1-3:1.0")).unwrap();
        assert_eq!(look(sysfs).waiting, ["1-4:1.0"]);
        fs::create_dir_all(sysfs.join("class/mmc_host/mmc0")).unwrap();
        assert!(look(sysfs).devices.contains(&"mmc0".to_owned()));
    }
}
