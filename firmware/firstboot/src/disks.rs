//! Disks and partitions as sysfs and the partition tables tell them.

use crate::block::Block;
use kiln_contract::partition as types;
use kiln_contract::plan::human;
use kiln_formats::gpt;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use uuid::Uuid;

/// A partition that has a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partition {
    /// Kernel name: `sda1`.
    pub(crate) name: String,
    /// Its place in the table, from 1.
    pub(crate) number: u32,
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
    /// Logical sector size in bytes.
    pub(crate) sector: u32,
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
    let sector = attribute(sysfs, "queue/logical_block_size").parse().unwrap_or(512);
    let (table, problem) = match read_table(&dev.join(&name), size, sector) {
        Ok(found) => (Some(found.table), None),
        Err(problem) => (None, Some(problem)),
    };
    let devices = partition_devices(sysfs);
    let entries = table.into_iter().flat_map(|table| table.partitions);
    let partitions = entries.filter_map(|entry| {
        let (_, name) = devices.iter().find(|(number, _)| *number == entry.number)?;
        let size = bytes(&sysfs.join(name));
        // A label is foreign text on its way to a terminal.
        let label = entry.name.replace(char::is_control, "\u{fffd}");
        let (name, kind, guid) = (name.clone(), entry.type_guid, entry.guid);
        Some(Partition { name, number: entry.number, size, kind, guid, label })
    });
    let partitions = partitions.collect();
    let text = |names: [&str; 2]| {
        let found = names.iter().map(|name| attribute(sysfs, name)).find(|text| !text.is_empty());
        found.unwrap_or_default().replace(char::is_control, "?")
    };
    let (model, serial) = (text(["device/model", "device/name"]), text(["device/serial", "serial"]));
    Some(Disk { name, size, sector, model, serial, partitions, problem })
}

/// The partition table of a device, or why there is none, in words for a table of disks.
fn read_table(device: &Path, size: u64, sector: u32) -> Result<gpt::Found, String> {
    let block = Block::open(device, size).map_err(|error| format!("can't be read: {error}"))?;
    gpt::read(&block, sector).map_err(|error| match error {
        gpt::ReadError::Io(error) => format!("can't be read: {error}"),
        gpt::ReadError::None { primary, backup } => match (*primary, *backup) {
            (gpt::Fault::Io { source, .. }, _) => format!("can't be read: {source}"),
            (gpt::Fault::NoSignature { .. }, gpt::Fault::NoSignature { .. }) => {
                "no GUID partition table".to_owned()
            }
            _ => "damaged GUID partition table".to_owned(),
        },
    })
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
            let Partition { name, size, kind, guid, label, .. } = partition;
            let label: String = label.chars().take(9).collect();
            let (size, kind) = (human(*size), kind_word(*kind));
            let _ = writeln!(text, "    {name:<10} {size:>10} {kind:<6} {label:<9} {guid}");
        }
    }
    text
}

/// As [`human`], rounded up: what is said to be needed is enough.
pub(crate) fn human_up(bytes: u64) -> String {
    const TENTH: u64 = (1 << 30) / 10 + 1;
    human(bytes.checked_next_multiple_of(TENTH).unwrap_or(bytes))
}

fn kind_word(kind: Uuid) -> &'static str {
    match kind {
        types::TYPE_ESP => "ESP",
        types::TYPE_CIDATA => "seed",
        types::TYPE_ROOT => "root",
        types::TYPE_STATE => "state",
        types::TYPE_SWAP => "swap",
        types::TYPE_DATA => "data",
        types::TYPE_UNFINISHED => "unmade",
        _ => "other",
    }
}

#[cfg(test)]
pub(crate) mod tests;
