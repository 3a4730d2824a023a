//! What is on a LUN, what may be done with it, and doing it: the guards of a data disk, for a disk that comes over the
//! network.

use crate::block::Block;
use crate::format::{self, Wanted};
use crate::{SYSFS, partition};
use kiln_contract::iscsi::Lun;
use kiln_contract::partition as types;
use kiln_formats::gpt::{self, Partition, Table};
use kiln_formats::io::ReadAt;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use uuid::Uuid;

/// The one partition begins and ends at multiples of this (bytes).
const ALIGNMENT: u64 = 1 << 20;
/// Bytes at both ends that must be readable before a disk counts as blank.
const ENDS: usize = 1 << 20;

/// What can be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// Its device.
    pub(super) device: String,
    /// It was blank, and was formatted just now.
    pub(super) formatted: bool,
}

/// Why nothing can be mounted, or not safely.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It can't be read.
    #[error("{device} can't be read: {why}: nothing was written to it")]
    Unreadable { device: String, why: String },
    /// Something is on it.
    #[error(
        "there is {found} on it: it is never formatted; to mount a file system that is there, write `format: false`, to begin anew, empty the LUN on its target"
    )]
    Foreign { found: String },
    /// A file system that is not the one that is wanted, and formatting was not asked for.
    #[error("there is {found} on it, and {wanted} was to be mounted")]
    NotThere { found: String, wanted: &'static str },
    /// Too small.
    #[error("it has {0} bytes, too few for a partition")]
    Small(u64),
    /// The table.
    #[error(transparent)]
    Partition(#[from] partition::Error),
    /// The file system.
    #[error(transparent)]
    Format(#[from] format::Error),
}

/// What a probe says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    /// Nothing, and all of it was readable.
    Blank,
    /// Signatures: kind and label.
    Signatures(Vec<(String, String)>),
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Decision {
    /// Ours and whole: the partition is mounted.
    Keep,
    /// A file system without a partition table, which the user asked for: the disk itself is mounted.
    Whole,
    /// Blank, or ours and cut short: formatted.
    Format,
}

/// Makes a LUN ready to mount. `dev` is /dev, `disk` the kernel's name of the LUN.
pub(super) fn prepare(dev: &Path, disk: &str, (lun, cluster): (&Lun, Uuid)) -> Result<Source, Error> {
    let device = dev.join(disk);
    let unreadable = |why: String| Error::Unreadable { device: device.display().to_string(), why };
    let failed = |error: io::Error| unreadable(error.to_string());
    let attribute = |name: &str| {
        let text = fs::read_to_string(Path::new(SYSFS).join("class/block").join(disk).join(name));
        text.ok().and_then(|text| text.trim().parse::<u64>().ok())
    };
    // sysfs counts in 512-byte units whatever the disk's sectors are.
    let size = attribute("size").unwrap_or(0).saturating_mul(512);
    let sector =
        attribute("queue/logical_block_size").and_then(|size| u32::try_from(size).ok()).unwrap_or(512);
    // udev probes a disk whenever it was written to, and reads its table again; not while somebody holds this lock
    // (systemd.io, "Locking Block Device Access").
    let lock = File::open(&device).map_err(failed)?;
    lock.lock().map_err(failed)?;
    let block = Block::open(&device, size).map_err(failed)?;
    let table = gpt::read(&block, sector).ok().map(|found| found.table);
    let found = probe(&device, &block).map_err(unreadable)?;
    let whole = Source { device: device.display().to_string(), formatted: false };
    let ours = |formatted| Source { device: format!("/dev/disk/by-partuuid/{}", lun.partition), formatted };
    let source = match decide((table.as_ref(), &found), (lun, cluster))? {
        Decision::Keep => ours(false),
        Decision::Whole => whole,
        Decision::Format => {
            drop(block);
            provision(disk, (size, sector), (lun, cluster))?;
            ours(true)
        }
    };
    drop(lock);
    Ok(source)
}

/// Pure: what was found, and what was asked for.
fn decide((table, found): (Option<&Table>, &Found), (lun, cluster): (&Lun, Uuid)) -> Result<Decision, Error> {
    let wanted = lun.filesystem.as_str();
    if let Some(table) = table {
        let mine = table.disk_guid == types::data_disk_guid(cluster, lun.partition);
        if let ([partition], true) = (&table.partitions[..], mine)
            && partition.guid == lun.partition
        {
            match partition.type_guid {
                types::TYPE_DATA => return Ok(Decision::Keep),
                types::TYPE_UNFINISHED if lun.format => return Ok(Decision::Format),
                types::TYPE_UNFINISHED => {
                    return Err(Error::NotThere {
                        found: "a formatting that was cut short".to_owned(),
                        wanted,
                    });
                }
                _ => {}
            }
        }
        return Err(Error::Foreign { found: "somebody else's partition table".to_owned() });
    }
    match found {
        Found::Blank if lun.format => Ok(Decision::Format),
        Found::Blank => Err(Error::NotThere { found: "nothing".to_owned(), wanted }),
        Found::Signatures(all) => {
            let words: Vec<String> = all.iter().map(words).collect();
            let found = words.join(" and ");
            match &all[..] {
                [(kind, _)] if !lun.format && kind == wanted => Ok(Decision::Whole),
                _ if lun.format => Err(Error::Foreign { found }),
                _ => Err(Error::NotThere { found, wanted }),
            }
        }
    }
}

/// `ext4 "backup"`.
fn words((kind, label): &(String, String)) -> String {
    if label.is_empty() { kind.clone() } else { format!("{kind} {label:?}") }
}

/// Asks libblkid for every signature that it knows.
fn probe(device: &Path, block: &Block) -> Result<Found, String> {
    let mut command = Command::new("/usr/sbin/blkid");
    command.args(["-p", "-o", "export", "--"]).arg(device).stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("blkid can't be started: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    // blkid(8): 2 nothing found, or the device could not be read; 8 several signatures that contradict each other.
    match output.status.code() {
        Some(0) => Ok(Found::Signatures(signatures(&text))),
        Some(8) => Ok(Found::Signatures(vec![("more than one signature".to_owned(), String::new())])),
        Some(2) => ends(block).map(|()| Found::Blank),
        _ => Err(format!(
            "blkid failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

/// From `blkid -o export`. Whatever it says beside types, something was found.
fn signatures(text: &str) -> Vec<(String, String)> {
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().replace(char::is_control, "?")
    };
    let all = [("TYPE", "LABEL"), ("PTTYPE", "")].map(|(kind, label)| (value(kind), value(label)));
    let mut all: Vec<_> = all.into_iter().filter(|(kind, _)| !kind.is_empty()).collect();
    if all.is_empty() {
        all.push(("something that blkid gives no name".to_owned(), String::new()));
    }
    all
}

/// Reads both ends, so that a disk with errors does not count as blank.
fn ends(block: &Block) -> Result<(), String> {
    let size = block.size().map_err(|error| error.to_string())?;
    let length = usize::try_from(size).map_or(ENDS, |size| size.min(ENDS));
    let mut buffer = vec![0; length];
    for at in [0, size - length as u64] {
        block.read_exact_at(&mut buffer, at).map_err(|error| error.to_string())?;
    }
    if length == 0 { Err("it has no bytes".to_owned()) } else { Ok(()) }
}

/// Partitions and formats. Cut at any moment it is done again: until the file system is whole, the partition's type says
/// that it is not.
fn provision(disk: &str, (size, sector): (u64, u32), (lun, cluster): (&Lun, Uuid)) -> Result<(), Error> {
    let mut table = table((size, sector), (lun, cluster)).ok_or(Error::Small(size))?;
    partition::write(disk, &table)?;
    let device = partition::device(disk, 1)?;
    let wanted = Wanted { kind: lun.filesystem, uuid: lun.uuid, label: &lun.name, reserved_percent: 0 };
    format::make(&device, &wanted)?;
    table.partitions[0].type_guid = types::TYPE_DATA;
    partition::write_types(disk, &table)?;
    Ok(())
}

/// One partition of ours from end to end, not yet formatted.
fn table((size, sector_size): (u64, u32), (lun, cluster): (&Lun, Uuid)) -> Option<Table> {
    let sector = u64::from(sector_size.max(1));
    let disk_guid = types::data_disk_guid(cluster, lun.partition);
    let mut table = Table { disk_guid, sector_size, disk_size: size - size % sector, partitions: Vec::new() };
    let end = (table.last_usable() + 1) * sector / ALIGNMENT * ALIGNMENT;
    table.partitions.push(Partition {
        number: 1,
        type_guid: types::TYPE_UNFINISHED,
        guid: lun.partition,
        name: types::data_label(&lun.name),
        first_lba: ALIGNMENT / sector,
        last_lba: (end / sector).checked_sub(1)?,
        attributes: 0,
    });
    (end > 2 * ALIGNMENT).then_some(table)
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Block, Decision, Error, Found, decide, probe, signatures, table};
    use kiln_contract::iscsi::Lun;
    use kiln_contract::partition::{TYPE_DATA, TYPE_SWAP, TYPE_UNFINISHED};
    use kiln_contract::policy::FileSystem;
    use kiln_formats::gpt;
    use std::process::Command;
    use uuid::Uuid;

    const CLUSTER: Uuid = Uuid::from_u128(9);

    pub(in crate::luns) fn lun() -> Lun {
        Lun {
            name: "storage".to_owned(),
            host: "10.0.0.1".to_owned(),
            port: 3260,
            target: "iqn.2025-01.home:x".to_owned(),
            lun: 0,
            chap: None,
            mount_point: "/storage".to_owned(),
            filesystem: FileSystem::Ext4,
            mount_options: vec!["noatime".to_owned()],
            format: true,
            partition: Uuid::from_u128(1),
            uuid: Uuid::from_u128(2),
            longhorn: None,
        }
    }

    fn signature(kind: &str) -> Found {
        Found::Signatures(vec![(kind.to_owned(), "old".to_owned())])
    }

    #[test]
    fn only_what_is_blank_or_ours_is_formatted() {
        let format = lun();
        let keep = Lun { format: false, ..lun() };
        let fresh = table((64 << 20, 512), (&format, CLUSTER)).unwrap();
        let with = |kind| {
            let mut table = fresh.clone();
            table.partitions[0].type_guid = kind;
            table
        };
        let (done, other) = (with(TYPE_DATA), with(TYPE_SWAP));
        let stranger = table((64 << 20, 512), (&format, Uuid::from_u128(8))).unwrap();
        let mut two = done.clone();
        two.partitions.push(two.partitions[0].clone());
        let gpt = signature("gpt");
        let ok = |table, found: &Found, lun: &Lun| decide((table, found), (lun, CLUSTER)).ok();

        assert_eq!(fresh.partitions[0].type_guid, TYPE_UNFINISHED);
        assert_eq!(ok(None, &Found::Blank, &format), Some(Decision::Format));
        assert_eq!(ok(Some(&fresh), &gpt, &format), Some(Decision::Format));
        assert_eq!(ok(Some(&fresh), &Found::Blank, &format), Some(Decision::Format));
        assert_eq!(ok(Some(&done), &gpt, &format), Some(Decision::Keep));
        assert_eq!(ok(Some(&done), &gpt, &keep), Some(Decision::Keep));
        assert_eq!(ok(None, &signature("ext4"), &keep), Some(Decision::Whole));
        for (table, found, lun) in [
            (None, &signature("ext4"), &format),
            (None, &signature("LVM2_member"), &format),
            (None, &gpt, &format),
            (Some(&stranger), &gpt, &format),
            (Some(&other), &gpt, &format),
            (Some(&two), &gpt, &format),
            (None, &Found::Blank, &keep),
            (None, &signature("xfs"), &keep),
            (Some(&fresh), &gpt, &keep),
        ] {
            assert_eq!(ok(table, found, lun), None, "{found:?}");
        }
    }

    #[test]
    fn a_refusal_says_what_was_found() {
        let error = decide((None, &signature("ext4")), (&lun(), CLUSTER)).unwrap_err();
        assert!(
            error.to_string().starts_with("there is ext4 \"old\" on it: it is never formatted"),
            "{error}"
        );
        assert!(matches!(error, Error::Foreign { .. }));
        assert_eq!(signatures("DEVNAME=/dev/x\nPTTYPE=dos\n"), [("dos".to_owned(), String::new())]);
        assert_eq!(signatures("DEVNAME=/dev/x\nUSAGE=crypto\n").len(), 1);
    }

    /// The true blkid on true bytes.
    #[test]
    fn probes_tell_blank_from_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lun");
        std::fs::File::create(&path).unwrap().set_len(32 << 20).unwrap();
        let block = Block::open(&path, 32 << 20).unwrap();
        assert_eq!(probe(&path, &block), Ok(Found::Blank));
        let longer = Block::open(&path, 64 << 20).unwrap();
        assert!(probe(&path, &longer).is_err(), "an end that can't be read is not blank");
        let made = Command::new("/usr/sbin/mke2fs")
            .args(["-q", "-F", "-L", "old", "-t", "ext4"])
            .arg(&path)
            .status();
        assert!(made.unwrap().success());
        assert_eq!(probe(&path, &block), Ok(signature("ext4")));
        assert!(gpt::read(&block, 512).is_err());
    }
}
