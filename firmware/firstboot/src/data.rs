//! Doing with the data disks what was decided. Every step can be cut by a power failure and is done again: a partition has
//! the type "unfinished" until what is on it is whole, and only then its final one.

use crate::block::Block;
use crate::format::{self, Wanted};
use crate::steps::Steps;
use crate::sys::{self, Flags};
use crate::{DEV, longhorn, partition};
use kiln_contract::handoff::Handoff;
use kiln_contract::machine::{Disk, Machine};
use kiln_contract::partition as types;
use kiln_contract::plan::{Action, Place, Plan};
use kiln_contract::policy::{Rule, Slot, Use};
use kiln_formats::gpt::{self, Partition, Table};
use kiln_formats::io::WriteAt;
use std::io;
use std::path::Path;
use uuid::Uuid;

/// The one partition begins and ends at multiples of this (bytes).
const ALIGNMENT: u64 = 1 << 20;
/// Bytes at both ends of a disk and of each of its partitions that are zeroed when it is emptied: signatures of every
/// kind that libblkid knows lie there (ZFS has the most: four labels of 256 KiB, two at each end).
const WIPED: u64 = 4 << 20;
/// Where a new file system is mounted to put the first files on it.
const WORKSHOP: &str = "/data";

/// A slot whose disk is there and ready.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Present<'a> {
    /// Its rule.
    pub(crate) rule: &'a Rule,
    /// The slot.
    pub(crate) slot: &'a Slot,
}

impl Present<'_> {
    /// What is mounted.
    pub(crate) fn source(&self) -> String {
        format!("/dev/disk/by-partuuid/{}", self.slot.partition)
    }
}

/// Why a disk was not made ready.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// It is not what was looked at.
    #[error("{0} is not the disk any more that it was when the plan was made: nothing was written to it")]
    Changed(String),
    /// The plan names what the handoff document has not.
    #[error("the plan names slot {0}, which no rule has")]
    Slot(String),
    /// It can't be emptied.
    #[error("{device} can't be emptied: {error}")]
    Wipe { device: String, error: io::Error },
    /// Its table.
    #[error(transparent)]
    Partition(#[from] partition::Error),
    /// The disk has no room for a partition.
    #[error("{0} is too small for a partition")]
    Small(String),
    /// Its file system.
    #[error(transparent)]
    Format(#[from] format::Error),
    /// The first files on it.
    #[error("the first files can't be written to {slot}: {error}")]
    Files { slot: String, error: io::Error },
}

/// Carries the plan out. `look` gives a disk as it is at this moment. A disk that fails is a problem of the record, and the
/// others go on.
pub(crate) fn commit<'a>(
    steps: &mut Steps,
    (handoff, plan): (&'a Handoff, &Plan),
    machine: &Machine,
    look: &dyn Fn(&str) -> Option<Disk>,
) -> Vec<Present<'a>> {
    let mut present = Vec::new();
    for decision in &plan.disks {
        let Some(disk) = machine.disks.iter().find(|disk| disk.name == decision.disk) else { continue };
        let (place, make) = match &decision.action {
            Action::Keep(place) => (place, false),
            Action::Provision(place) | Action::Resume(place) | Action::Erase(place, _) => (place, true),
            Action::Leave(_) | Action::Ignore(_) => continue,
        };
        let erase = matches!(decision.action, Action::Erase(..));
        let done = find(handoff, place).and_then(|found| {
            if make {
                provision(steps, (disk, found), (handoff, erase), look)?
            } else {
                mend(steps, disk)?
            }
            Ok(found)
        });
        match done {
            Ok(found) => present.push(found),
            Err(error) => steps.problem(format!("disk {} for {}: {error}", disk.name, place.slot)),
        }
    }
    present
}

fn find<'a>(handoff: &'a Handoff, place: &Place) -> Result<Present<'a>, Error> {
    let rules = handoff.disks.data.iter().filter(|rule| rule.name == place.rule);
    let mut slots = rules.flat_map(|rule| rule.slots.iter().map(move |slot| Present { rule, slot }));
    slots.find(|found| found.slot.name == place.slot).ok_or_else(|| Error::Slot(place.slot.clone()))
}

/// Partitions and formats a disk.
fn provision(
    steps: &mut Steps,
    (disk, Present { rule, slot }): (&Disk, Present<'_>),
    (handoff, erase): (&Handoff, bool),
    look: &dyn Fn(&str) -> Option<Disk>,
) -> Result<(), Error> {
    if !look(&disk.name).is_some_and(|now| is_same(disk, &now)) {
        return Err(Error::Changed(disk.name.clone()));
    }
    if erase {
        steps.run("erase", &disk.name, |_| wipe(disk).map(|()| ((), "emptied".to_owned())))?;
    }
    let mut table = table(disk, slot, handoff.cluster.id).ok_or_else(|| Error::Small(disk.name.clone()))?;
    let device = steps.run("partition", &disk.name, |_| {
        partition::write(&disk.name, &table)?;
        Ok::<_, Error>((
            partition::device(&disk.name, 1)?,
            format!("one partition, {}", table.partitions[0].name),
        ))
    })?;
    if rule.usage != Use::Lvm {
        steps.run("format", &slot.name, |_| {
            make_file_system(&device, (rule, slot))?;
            Ok::<_, Error>(((), format!("{} on {}", rule.filesystem.as_str(), device.display())))
        })?;
    }
    table.partitions[0].type_guid = types::TYPE_DATA;
    partition::write_types(&disk.name, &table)?;
    Ok(())
}

/// True when it is the disk that was looked at, with the same on it: kernel names are given anew when disks come and go.
fn is_same(then: &Disk, now: &Disk) -> bool {
    let what =
        |disk: &Disk| (disk.size, disk.sector_size, disk.serial.clone(), disk.wwn.clone(), disk.path.clone());
    what(then) == what(now) && then.table == now.table && then.content == now.content
}

/// The file system, with what its user expects to find on it.
fn make_file_system(device: &Path, (rule, slot): (&Rule, &Slot)) -> Result<(), Error> {
    let wanted =
        Wanted { kind: rule.filesystem, uuid: slot.filesystem, label: &slot.name, reserved_percent: 0 };
    format::make(device, &wanted)?;
    if rule.usage != Use::Longhorn {
        return Ok(());
    }
    let top = Path::new(WORKSHOP);
    let write = || -> io::Result<()> {
        let _ = std::fs::create_dir(top);
        let flags = Flags::NOSUID | Flags::NODEV | Flags::NOEXEC;
        sys::mount(&device.to_string_lossy(), WORKSHOP, rule.filesystem.as_str(), (flags, ""))?;
        let written = longhorn::prepare(top, slot).and_then(|()| sys::sync_file_system(top));
        sys::unmount(WORKSHOP)?;
        written
    };
    write().map_err(|error| Error::Files { slot: slot.name.clone(), error })
}

/// Writes a table again of which one copy is damaged. A disk that is as it must be is not opened for writing.
fn mend(steps: &mut Steps, disk: &Disk) -> Result<(), Error> {
    let path = Path::new(DEV).join(&disk.name);
    let found = Block::open(&path, disk.size).ok().and_then(|block| gpt::read(&block, disk.sector_size).ok());
    if let Some(found) = found.filter(|found| found.primary.is_some() || found.backup.is_some()) {
        steps.run("repair", &disk.name, |_| {
            partition::write(&disk.name, &found.table)
                .map(|()| ((), "a copy of the partition table was damaged".to_owned()))
        })?;
    }
    Ok(())
}

/// The table of a data disk: one partition of ours from end to end.
fn table(disk: &Disk, slot: &Slot, cluster: Uuid) -> Option<Table> {
    let sector = u64::from(disk.sector_size);
    let disk_size = disk.size - disk.size % sector;
    let mut table = Table {
        disk_guid: types::data_disk_guid(cluster, slot.partition),
        sector_size: disk.sector_size,
        disk_size,
        partitions: Vec::new(),
    };
    let end = (table.last_usable() + 1) * sector / ALIGNMENT * ALIGNMENT;
    table.partitions.push(Partition {
        number: 1,
        type_guid: types::TYPE_UNFINISHED,
        guid: slot.partition,
        name: types::data_label(&slot.name),
        first_lba: ALIGNMENT / sector,
        last_lba: (end / sector).checked_sub(1)?,
        attributes: 0,
    });
    (end > ALIGNMENT).then_some(table)
}

/// Zeroes the places where signatures lie.
fn wipe(disk: &Disk) -> Result<(), Error> {
    let path = Path::new(DEV).join(&disk.name);
    let write = || -> io::Result<()> {
        let mut block = Block::claim(&path, disk.size)?;
        let zeros = vec![0; 1 << 20];
        for (start, end) in wiped(disk) {
            let mut at = start;
            while at < end {
                let length = usize::try_from(end - at).map_or(zeros.len(), |left| left.min(zeros.len()));
                block.write_all_at(&zeros[..length], at)?;
                at += length as u64;
            }
        }
        sys::reread_partitions(block.file())
    };
    write().map_err(|error| Error::Wipe { device: path.display().to_string(), error })
}

/// Ranges (bytes, end excluded): the ends of the partitions first, those of the disk last, so that a disk that was cut
/// in between still shows what it was.
fn wiped(disk: &Disk) -> Vec<(u64, u64)> {
    let partitions = disk.table.iter().flat_map(|table| &table.partitions);
    let mut spans: Vec<(u64, u64)> = partitions
        .map(|partition| (partition.start, partition.start.saturating_add(partition.size)))
        .collect();
    spans.push((0, disk.size));
    let ends = spans.into_iter().flat_map(|(start, end)| {
        let end = end.min(disk.size);
        let start = start.min(end);
        [(start, start.saturating_add(WIPED).min(end)), (end.saturating_sub(WIPED).max(start), end)]
    });
    ends.filter(|(start, end)| start < end).collect()
}

#[cfg(test)]
pub(crate) mod tests;
