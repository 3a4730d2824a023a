//! Disks and partitions as sysfs and the partition tables tell them.

use crate::gpt;
use kiln_contract::partition as types;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use uuid::Uuid;

/// A partition that has a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partition {
    /// Kernel name: `sda1`.
    pub(crate) name: String,
    /// Size in bytes.
    pub(crate) size: u64,
    /// Partition type GUID.
    pub(crate) kind: Uuid,
    /// Unique partition GUID.
    pub(crate) guid: Uuid,
    /// GPT name.
    pub(crate) label: String,
}

/// A whole disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Disk {
    /// Kernel name: `sda`.
    pub(crate) name: String,
    /// Size in bytes.
    pub(crate) size: u64,
    /// Model as the device gives it; empty when it gives none.
    pub(crate) model: String,
    /// Serial number; empty when it gives none.
    pub(crate) serial: String,
    /// Partitions in the order of the table.
    pub(crate) partitions: Vec<Partition>,
    /// Why there are no partitions.
    pub(crate) problem: Option<String>,
}

impl Disk {
    /// `sda (931.5 GiB, Samsung SSD 870)`.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!("{} ({}", self.name, human(self.size));
        for part in [&self.model, &self.serial].into_iter().filter(|part| !part.is_empty()) {
            text.push_str(", ");
            text.push_str(part);
        }
        text.push(')');
        text
    }

    /// The partitions of a type.
    pub(crate) fn of_kind(&self, kind: Uuid) -> impl Iterator<Item = &Partition> {
        self.partitions.iter().filter(move |partition| partition.kind == kind)
    }

    /// True when ESP, seed and root are all there: the shape of a Kiln disk.
    pub(crate) fn is_kiln(&self) -> bool {
        let has = |kind| self.of_kind(kind).next().is_some();
        has(types::TYPE_ESP) && has(types::TYPE_CIDATA) && has(types::TYPE_ROOT)
    }
}

/// Kernel name and size of everything in /sys/class/block: changes when a device comes, goes or gets a medium.
pub(crate) fn fingerprint(sysfs: &Path) -> Vec<(String, String)> {
    let Ok(directory) = fs::read_dir(sysfs.join("class/block")) else { return Vec::new() };
    let mut all: Vec<_> = directory
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.file_name().to_string_lossy().into_owned(), attribute(&entry.path(), "size")))
        })
        .collect();
    all.sort();
    all
}

/// All disks with a medium, sorted by name. `sysfs` is /sys, `dev` is /dev, or a recorded tree.
pub(crate) fn scan(sysfs: &Path, dev: &Path) -> Vec<Disk> {
    let names = fingerprint(sysfs).into_iter().map(|(name, _)| name);
    names.filter_map(|name| whole_disk(&sysfs.join("class/block").join(&name), dev, name)).collect()
}

/// Devices that are made of others or of memory, and optical drives: never what firmware booted from.
const NOT_DISKS: [&str; 8] = ["loop", "ram", "zram", "dm-", "md", "sr", "nbd", "fd"];

fn whole_disk(sysfs: &Path, dev: &Path, name: String) -> Option<Disk> {
    let digits_from = |prefix: &&str| {
        name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|next: char| next.is_ascii_digit()))
    };
    // A hidden disk is one path of a multipath NVMe namespace; the namespace has its own entry.
    if NOT_DISKS.iter().any(digits_from)
        || sysfs.join("partition").exists()
        || attribute(sysfs, "hidden") == "1"
    {
        return None;
    }
    // sysfs counts in 512-byte units whatever the disk's sectors are.
    let bytes =
        |directory: &Path| attribute(directory, "size").parse::<u64>().unwrap_or(0).saturating_mul(512);
    let size = bytes(sysfs);
    if size == 0 {
        return None;
    }
    let sector = attribute(sysfs, "queue/logical_block_size").parse().ok().filter(|sector| *sector >= 512);
    let table = fs::File::open(dev.join(&name))
        .map_err(gpt::Error::from)
        .and_then(|file| gpt::read(&file, sector.unwrap_or(512), size));
    let (entries, problem) = match table {
        Ok(entries) => (entries, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let devices = partition_devices(sysfs);
    let partitions = entries.into_iter().filter_map(|entry| {
        let (_, name) = devices.iter().find(|(number, _)| *number == entry.number)?;
        let gpt::Entry { kind, guid, label, .. } = entry;
        Some(Partition { name: name.clone(), size: bytes(&sysfs.join(name)), kind, guid, label })
    });
    let partitions = partitions.collect();
    let text = |names: [&str; 2]| {
        let found = names.iter().map(|name| attribute(sysfs, name)).find(|text| !text.is_empty());
        found.unwrap_or_default().replace(char::is_control, "?")
    };
    let (model, serial) = (text(["device/model", "device/name"]), text(["device/serial", "serial"]));
    Some(Disk { name, size, model, serial, partitions, problem })
}

/// (number, kernel name) of a disk's partitions.
fn partition_devices(disk: &Path) -> Vec<(u32, String)> {
    let Ok(directory) = fs::read_dir(disk) else { return Vec::new() };
    let numbered = directory.filter_map(|entry| {
        let entry = entry.ok()?;
        let number = attribute(&entry.path(), "partition").parse().ok()?;
        Some((number, entry.file_name().to_string_lossy().into_owned()))
    });
    numbered.collect()
}

fn attribute(directory: &Path, name: &str) -> String {
    fs::read_to_string(directory.join(name)).unwrap_or_default().trim().to_owned()
}

/// `1.5 GiB`.
pub(crate) fn human(bytes: u64) -> String {
    let units = [("TiB", 1_u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let (unit, one) = units.into_iter().find(|(_, one)| bytes >= *one).unwrap_or(("B", 1));
    let tenths = bytes / one * 10 + bytes % one * 10 / one;
    if one == 1 { format!("{bytes} B") } else { format!("{}.{} {unit}", tenths / 10, tenths % 10) }
}

/// Everything that was found, as lines of at most 80 columns.
pub(crate) fn table(disks: &[Disk]) -> String {
    let mut text = String::new();
    if disks.is_empty() {
        text.push_str("  (no disk at all)\n");
    }
    for disk in disks {
        let problem = disk.problem.as_ref().map(|problem| format!(": {problem}")).unwrap_or_default();
        let _ = writeln!(text, "  {}{problem}", disk.describe());
        for partition in &disk.partitions {
            let Partition { name, size, kind, guid, label } = partition;
            let label: String = label.chars().take(9).collect();
            let (size, kind) = (human(*size), kind_word(*kind));
            let _ = writeln!(text, "    {name:<10} {size:>10} {kind:<6} {label:<9} {guid}");
        }
    }
    text
}

fn kind_word(kind: Uuid) -> &'static str {
    match kind {
        types::TYPE_ESP => "ESP",
        types::TYPE_CIDATA => "seed",
        types::TYPE_ROOT => "root",
        types::TYPE_STATE => "state",
        _ => "other",
    }
}

#[cfg(test)]
pub(crate) mod tests;
