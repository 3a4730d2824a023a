//! What is on a LUN, what may be done with it, and doing it: the guards of a data disk, for a disk that comes over the
//! network.

use crate::format::{self, Wanted};
use crate::{SYSFS, inventory, partition};
use kiln_contract::iscsi::Lun;
use kiln_contract::machine::{Content, Disk, Signature, UNSIGNED};
use kiln_contract::partition as types;
use kiln_formats::gpt::{Partition, Table};
use std::fs::File;
use std::io;
use std::path::Path;
use uuid::Uuid;

/// The one partition begins and ends at multiples of this (bytes).
const ALIGNMENT: u64 = 1 << 20;
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
    // udev probes a disk whenever it was written to, and reads its table again; not while somebody holds this lock
    // (systemd.io, "Locking Block Device Access").
    let lock = File::open(&device).map_err(failed)?;
    lock.lock().map_err(failed)?;
    let seen = inventory::look(Path::new(SYSFS), dev, disk);
    let seen = seen.ok_or_else(|| unreadable("it has gone".to_owned()))?;
    let ours = |formatted| Source { device: format!("/dev/disk/by-partuuid/{}", lun.partition), formatted };
    let source = match decide(&seen, (lun, cluster))? {
        Decision::Keep => ours(false),
        Decision::Whole => Source { device: device.display().to_string(), formatted: false },
        Decision::Format => {
            provision(&seen, (lun, cluster))?;
            ours(true)
        }
    };
    drop(lock);
    Ok(source)
}

/// Pure: what was found, and what was asked for.
fn decide(seen: &Disk, (lun, cluster): (&Lun, Uuid)) -> Result<Decision, Error> {
    let wanted = lun.filesystem.as_str();
    let not_there = |found: &str| Error::NotThere { found: found.to_owned(), wanted };
    if let Content::Unreadable(why) = &seen.content {
        return Err(Error::Unreadable { device: seen.name.clone(), why: why.clone() });
    }
    if let Some(table) = &seen.table {
        if let Some(size) = table.sector_size {
            let found = format!("a partition table for sectors of {size} bytes, which it does not show,");
            return Err(Error::Foreign { found });
        }
        let mine = table.disk_guid == types::data_disk_guid(cluster, lun.partition);
        if let ([partition], true) = (&table.partitions[..], mine)
            && partition.guid == lun.partition
        {
            match partition.kind {
                types::TYPE_DATA => return Ok(Decision::Keep),
                types::TYPE_UNFINISHED if lun.format => return Ok(Decision::Format),
                types::TYPE_UNFINISHED => return Err(not_there("a formatting that was cut short")),
                _ => {}
            }
        }
        return Err(Error::Foreign { found: "somebody else's partition table".to_owned() });
    }
    let signatures = match &seen.content {
        Content::Signatures(all) => &all[..],
        _ => &[],
    };
    match signatures {
        [] if lun.format => Ok(Decision::Format),
        [] => Err(not_there("nothing")),
        [one] if !lun.format && one.kind == wanted => Ok(Decision::Whole),
        all => {
            let found = all.iter().map(words).collect::<Vec<_>>().join(" and ");
            Err(if lun.format { Error::Foreign { found } } else { not_there(&found) })
        }
    }
}

/// `ext4 "backup"`.
fn words(Signature { kind, label, .. }: &Signature) -> String {
    if kind == UNSIGNED {
        return format!("data without a signature, {label},");
    }
    if label.is_empty() { kind.clone() } else { format!("{kind} {label:?}") }
}

/// Partitions and formats. Cut at any moment it is done again: until the file system is whole, the partition's type says
/// that it is not.
fn provision(Disk { name: disk, size, sector_size, .. }: &Disk, of: (&Lun, Uuid)) -> Result<(), Error> {
    let mut table = table((*size, *sector_size), of).ok_or(Error::Small(*size))?;
    let (lun, _) = of;
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
    use super::{Decision, Error, decide, table};
    use kiln_contract::iscsi::Lun;
    use kiln_contract::machine::{self, Content, Disk, Signature, Transport, UNSIGNED};
    use kiln_contract::partition::{TYPE_DATA, TYPE_SWAP, TYPE_UNFINISHED};
    use kiln_contract::policy::FileSystem;
    use kiln_formats::gpt::Table;
    use uuid::Uuid;

    const CLUSTER: Uuid = Uuid::from_u128(9);

    pub(crate) fn lun() -> Lun {
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

    fn disk(table: Option<&Table>, content: Content) -> Disk {
        let table = table.map(|table| machine::Table {
            disk_guid: table.disk_guid,
            partitions: (table.partitions.iter())
                .map(|partition| machine::Partition {
                    number: partition.number,
                    kind: partition.type_guid,
                    guid: partition.guid,
                    label: partition.name.clone(),
                    start: partition.offset(512),
                    size: partition.size(512),
                })
                .collect(),
            sector_size: None,
        });
        Disk {
            name: "sdb".to_owned(),
            size: 64 << 20,
            sector_size: 512,
            booted: false,
            read_only: false,
            removable: false,
            rotational: None,
            transport: Transport::Iscsi,
            model: String::new(),
            vendor: String::new(),
            serial: String::new(),
            wwn: String::new(),
            by_id: vec![],
            path: String::new(),
            other_paths: vec![],
            content,
            table,
        }
    }

    fn signature(kind: &str) -> Content {
        let (kind, label) = (kind.to_owned(), "old".to_owned());
        Content::Signatures(vec![Signature { kind, label, uuid: String::new(), partition: None }])
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
        let gpt = || signature("gpt");
        let ok = |table, content, lun: &Lun| decide(&disk(table, content), (lun, CLUSTER)).ok();

        assert_eq!(fresh.partitions[0].type_guid, TYPE_UNFINISHED);
        assert_eq!(ok(None, Content::Blank, &format), Some(Decision::Format));
        assert_eq!(ok(Some(&fresh), gpt(), &format), Some(Decision::Format));
        assert_eq!(ok(Some(&fresh), Content::Blank, &format), Some(Decision::Format));
        assert_eq!(ok(Some(&done), gpt(), &format), Some(Decision::Keep));
        assert_eq!(ok(Some(&done), gpt(), &keep), Some(Decision::Keep));
        assert_eq!(ok(None, signature("ext4"), &keep), Some(Decision::Whole));
        for (table, content, lun) in [
            (None, signature("ext4"), &format),
            (None, signature("LVM2_member"), &format),
            (None, gpt(), &format),
            (None, signature(UNSIGNED), &format),
            (None, signature(UNSIGNED), &keep),
            (Some(&stranger), gpt(), &format),
            (Some(&other), gpt(), &format),
            (Some(&two), gpt(), &format),
            (None, Content::Blank, &keep),
            (None, signature("xfs"), &keep),
            (Some(&fresh), gpt(), &keep),
            (None, Content::Unreadable("I/O error".to_owned()), &format),
            (Some(&fresh), Content::Unreadable("I/O error".to_owned()), &format),
        ] {
            assert_eq!(ok(table, content.clone(), lun), None, "{content:?}");
        }
    }

    #[test]
    fn a_refusal_says_what_was_found() {
        let error = decide(&disk(None, signature("ext4")), (&lun(), CLUSTER)).unwrap_err();
        assert!(
            error.to_string().starts_with("there is ext4 \"old\" on it: it is never formatted"),
            "{error}"
        );
        assert!(matches!(error, Error::Foreign { .. }));
        let error = decide(&disk(None, signature(UNSIGNED)), (&lun(), CLUSTER)).unwrap_err();
        assert!(error.to_string().starts_with("there is data without a signature, old, on it: it is never"));
    }
}
