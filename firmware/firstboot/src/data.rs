//! Doing with the data disks what was decided. Every step can be cut by a power failure and is done again: a partition has
//! the type "unfinished" until what is on it is whole, and only then its final one.

use crate::block::{Block, hold};
use crate::format::{self, Wanted};
use crate::luks::{self, Home, Volume};
use crate::mounts::ROOT;
use crate::steps::Steps;
use crate::sys::{self, Flags};
use crate::{DEV, SYSFS, booted, keys, longhorn, partition, places, units};
use kiln_contract::handoff::Handoff;
use kiln_contract::machine::{Disk, Machine};
use kiln_contract::partition as types;
use kiln_contract::plan::{Action, Place, Plan};
use kiln_contract::policy::{Key, Rule, Slot, Use};
use kiln_formats::gpt::{self, Partition, Table};
use kiln_formats::io::WriteAt;
use std::io;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// The one partition begins and ends at multiples of this (bytes).
const ALIGNMENT: u64 = 1 << 20;
/// Bytes at both ends of a disk and of each of its partitions that are zeroed when it is emptied: signatures of every
/// kind that libblkid knows lie there (ZFS has the most: four labels of 256 KiB, two at each end).
const WIPED: u64 = 4 << 20;
/// Where a new file system is mounted to put the first files on it.
const WORKSHOP: &str = "/run/kiln/data";

/// A slot whose disk is there and ready.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Present<'a> {
    /// Its rule.
    pub(crate) rule: &'a Rule,
    /// The slot.
    pub(crate) slot: &'a Slot,
    /// Where its key is, when it is encrypted.
    pub(crate) lock: Option<Lock>,
    /// The kernel's number of its disk, where udev makes links of those: the disk that was looked at, and no copy of it that
    /// comes later.
    pub(crate) sequence: Option<u64>,
}

/// Where the key of an encrypted disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lock {
    /// In the machine's TPM.
    Tpm,
    /// In a file of the state partition.
    File,
}

impl<'a> Present<'a> {
    /// How it is mounted in the system below `root`; nothing when it has no place there.
    pub(crate) fn mount(&self, root: &Path) -> Option<units::Mount<'a>> {
        let target = places::resolve(root, self.slot.mount_point.as_deref()?);
        Some(units::Mount { rule: self.rule, slot: self.slot, source: self.source(), target })
    }

    /// What is mounted.
    pub(crate) fn source(&self) -> String {
        match self.lock {
            Some(_) => luks::opened(&self.mapped()).display().to_string(),
            None => self.partition(),
        }
    }

    /// The partition.
    pub(crate) fn partition(&self) -> String {
        match self.sequence {
            Some(sequence) => booted::link(sequence, 1),
            None => format!("/dev/disk/by-partuuid/{}", self.slot.partition),
        }
    }

    /// Name below /dev/mapper while it is open.
    pub(crate) fn mapped(&self) -> String {
        format!("kiln-{}", self.slot.name)
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
    /// Somebody else works on it.
    #[error("{device} is held by another program: {error}")]
    Held { device: String, error: io::Error },
    /// Its file system.
    #[error(transparent)]
    Format(#[from] format::Error),
    /// Its encryption.
    #[error(transparent)]
    Luks(#[from] luks::Error),
    /// It is encrypted, and its rule does not say so.
    #[error(
        "it is encrypted, and its rule does not say so: add `encrypt` to the rule, with the word that it had"
    )]
    Encrypted,
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
            let path = Path::new(DEV).join(&disk.name);
            let _held =
                hold(&path).map_err(|error| Error::Held { device: path.display().to_string(), error })?;
            let lock = if make {
                provision(steps, (disk, found), (handoff, erase), look)?
            } else {
                mend(steps, disk)?;
                lock(steps, disk, found)?
            };
            Ok(Present { lock, sequence: booted::sequence(Path::new(SYSFS), &disk.name), ..found })
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
    let mut slots = rules.flat_map(|rule| {
        rule.slots.iter().map(move |slot| Present { rule, slot, lock: None, sequence: None })
    });
    slots.find(|found| found.slot.name == place.slot).ok_or_else(|| Error::Slot(place.slot.clone()))
}

/// Partitions, encrypts and formats a disk. Gives where its key is, when it has one.
fn provision(
    steps: &mut Steps,
    (disk, found): (&Disk, Present<'_>),
    (handoff, erase): (&Handoff, bool),
    look: &dyn Fn(&str) -> Option<Disk>,
) -> Result<Option<Lock>, Error> {
    let Present { rule, slot, .. } = found;
    let home = rule.encrypt.map(|key| home(key, luks::has_tpm(Path::new(SYSFS)))).transpose()?;
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
    let volume = home.map(|home| encrypt(steps, (&device, found), home)).transpose()?;
    if rule.usage != Use::Lvm {
        let device = volume.as_ref().unwrap_or(&device);
        steps.run("format", &slot.name, |_| {
            make_file_system(device, (rule, slot))?;
            Ok::<_, Error>(((), format!("{} on {}", rule.filesystem.as_str(), device.display())))
        })?;
    }
    if volume.is_some() {
        luks::close(&found.mapped())?;
    }
    table.partitions[0].type_guid = types::TYPE_DATA;
    partition::write_types(&disk.name, &table)?;
    Ok(home)
}

/// Where the key of a new volume goes.
fn home(key: Key, tpm: bool) -> Result<Lock, luks::Error> {
    match (key, tpm) {
        (Key::Tpm2 | Key::Auto, true) => Ok(Lock::Tpm),
        (Key::Tpm2, false) => Err(luks::Error::NoTpm),
        (Key::Auto, false) | (Key::Seed, _) => Ok(Lock::File),
    }
}

/// Makes the partition a LUKS volume and opens it. A key that no TPM holds goes straight to the state partition, which
/// is mounted already: the seed never sees it.
fn encrypt(steps: &mut Steps, (device, found): (&Path, Present<'_>), lock: Lock) -> Result<PathBuf, Error> {
    let (_, path) = keys::of_slot(Path::new(ROOT), &found.slot.name);
    let failed = |error| luks::Error::Place { place: keys::FOLDER, error };
    let name = found.mapped();
    steps.run("encrypt", &found.slot.name, |_| {
        let keep = |key: &keys::Key| {
            keys::keep(path.parent().unwrap_or(Path::new("/")), &found.slot.name, key).map_err(failed)
        };
        let (home, place) = match lock {
            Lock::Tpm => (Home::Tpm, "in the TPM".to_owned()),
            Lock::File => (Home::File(&keep), format!("in {}", keys::FOLDER)),
        };
        if lock == Lock::Tpm {
            keys::shred(&path).map_err(failed)?;
        }
        let volume = luks::create(device, &Volume { uuid: found.slot.luks, name: &name }, &home)?;
        Ok((volume, format!("LUKS2 on {}, key {place}", device.display())))
    })
}

/// Where the key of a disk is that was made ready before; nothing when it is not encrypted.
fn lock(steps: &mut Steps, disk: &Disk, found: Present<'_>) -> Result<Option<Lock>, Error> {
    let device = partition::device(&disk.name, 1)?;
    match (luks::is_on(&device)?, found.rule.encrypt) {
        (true, None) => return Err(Error::Encrypted),
        (true, Some(_)) => {}
        (false, Some(_)) => {
            let name = &found.slot.name;
            steps.problem(format!(
                "disk {} for {name} is not encrypted: it was made before its rule asked for it, and what is on it is kept",
                disk.name
            ));
            return Ok(None);
        }
        (false, None) => return Ok(None),
    }
    let (_, path) = keys::of_slot(Path::new(ROOT), &found.slot.name);
    let kept = keys::read(&path).map_err(|error| luks::Error::Place { place: keys::FOLDER, error })?;
    match (kept, luks::has_tpm(Path::new(SYSFS))) {
        (Some(_), _) => Ok(Some(Lock::File)),
        (None, true) => Ok(Some(Lock::Tpm)),
        (None, false) => Err(luks::Error::NoKey { place: keys::FOLDER }.into()),
    }
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
        std::fs::create_dir_all(top)?;
        let flags = Flags::NOSUID | Flags::NODEV | Flags::NOEXEC;
        sys::mount(&device.to_string_lossy(), WORKSHOP, rule.filesystem.as_str(), (flags, ""))?;
        let written = longhorn::prepare(top, slot).and_then(|()| sys::sync_file_system(top));
        sys::unmount(WORKSHOP)?;
        let _ = std::fs::remove_dir(top);
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
