//! Making the booted disk what it was planned to be, and its state partition ready to mount.

use crate::block::Block;
use crate::choose::Booted;
use crate::disks::Disk;
use crate::failure::Failure;
use crate::format::{self, Wanted};
use crate::keys::Key as Secret;
use crate::luks::{self, Home, Volume};
use crate::own::{self, Own};
use crate::steps::Steps;
use crate::{DEV, SYSFS, partition, room, seed, swap, sys};
use kiln_contract::handoff::Handoff;
use kiln_contract::partition::{LABEL_STATE, LABEL_SWAP};
use kiln_contract::plan::human;
use kiln_contract::policy::{Encryption, FileSystem, Key};
use kiln_formats::ext4::read::FileSystem as Ext4;
use kiln_formats::gpt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Per cent of the state partition that only root may fill: a full disk must not keep the node from starting.
const RESERVED_PERCENT: u8 = 2;

/// Name of the open state partition below /dev/mapper. No data disk's has a dot.
const MAPPED: &str = "kiln.state";
/// Where keys are that no TPM holds, in words.
const SEED: &str = "the seed";

/// What must be done with the booted disk. Nothing is written.
pub(crate) fn plan(booted: &Booted, handoff: &Handoff) -> Result<Own, Failure> {
    let disk = &booted.disk;
    let unreadable = |error: String| Failure::OwnTable { disk: Box::new(disk.clone()), error };
    let block = Block::open(&device(disk), disk.size).map_err(|error| unreadable(error.to_string()))?;
    let found = gpt::read(&block, disk.sector).map_err(|error| unreadable(error.to_string()))?;
    own::plan(&found, disk.size, handoff)
}

/// Carries it out, and gives the device of the state partition's file system.
pub(crate) fn commit(
    steps: &mut Steps,
    (booted, own): (&Booted, &Own),
    handoff: &Handoff,
) -> Result<PathBuf, Failure> {
    let disk = &booted.disk;
    let failed = |error: partition::Error| Failure::OwnWrite { disk: Box::new(disk.clone()), error };
    if !own.changes.is_empty() {
        steps.run("partition", &disk.name, |_| {
            partition::write(&disk.name, &own.table).map(|()| ((), own.changes.join(", "))).map_err(failed)
        })?;
    }
    swap_area(steps, (booted, own), handoff);
    let partition = partition::device(&disk.name, own.state).map_err(failed)?;
    let encryption = handoff.disks.system.encrypt.as_ref();
    if !own.format_state {
        return open(steps, booted, (&partition, encryption));
    }
    let device = match encryption {
        Some(encryption) => encrypt(steps, booted, (&partition, encryption))?,
        None => partition,
    };
    steps.run("format", LABEL_STATE, |_| {
        let wanted = Wanted {
            kind: FileSystem::Ext4,
            uuid: handoff.partitions.state_filesystem,
            label: LABEL_STATE,
            reserved_percent: RESERVED_PERCENT,
        };
        format::make(&device, &wanted)
            .map_err(|error| Failure::FormatState { device: device.display().to_string(), error })?;
        partition::write_types(&disk.name, &own::finished(own)).map_err(failed)?;
        Ok::<_, Failure>(((), format!("ext4 on {}", device.display())))
    })?;
    Ok(device)
}

/// Makes the swap area that the cluster file asks for. A node without it still runs, so what is in the way is told.
fn swap_area(steps: &mut Steps, (booted, own): (&Booted, &Own), handoff: &Handoff) {
    let (disk, Some(wanted)) = (&booted.disk, &handoff.disks.system.swap) else { return };
    let Some(number) = own.swap else {
        let text = format!(
            "no swap: the cluster file asks for {} of it, and the booted disk {} was divided before it did; write the \
             node's disk.img to it again (what is in /var is lost), or leave `swap` out",
            human(wanted.bytes),
            disk.name
        );
        return steps.problem(text);
    };
    // Whoever encrypts what is stored wants no plain copy of it: systemd makes a new area at each boot, under a key
    // that nobody knows.
    if handoff.disks.system.encrypt.is_some() {
        return;
    }
    let size = own.table.partition(number).map_or(0, |found| found.size(own.table.sector_size));
    let make = || {
        let device = partition::device(&disk.name, number).map_err(io::Error::other)?;
        swap::make(&device, size, (wanted.filesystem, LABEL_SWAP))
    };
    match make() {
        Ok(true) => steps.note("format", LABEL_SWAP, &format!("swap area of {}", human(size))),
        Ok(false) => {}
        Err(error) => steps.problem(format!("no swap: the swap partition of {}: {error}", disk.name)),
    }
}

/// Makes the state partition a LUKS volume and opens it.
fn encrypt(
    steps: &mut Steps,
    booted: &Booted,
    (partition, encryption): (&Path, &Encryption),
) -> Result<PathBuf, Failure> {
    let volume = Volume { uuid: encryption.luks, name: MAPPED };
    let keep = |key: &Secret| {
        seed::keep_key(booted, LABEL_STATE, key).map_err(|error| luks::Error::Place { place: SEED, error })
    };
    let home = match (encryption.key, luks::has_tpm(Path::new(SYSFS))) {
        (Key::Tpm2 | Key::Auto, true) => Ok(Home::Tpm),
        (Key::Tpm2, false) => Err(luks::Error::NoTpm),
        (Key::Auto, false) | (Key::Seed, _) => Ok(Home::File(&keep)),
    };
    let make = |_: &mut Steps| {
        let (device, place) = match home? {
            Home::Tpm => {
                // A boot that was cut short may have found no TPM.
                seed::shred_key(booted, LABEL_STATE)
                    .map_err(|error| luks::Error::Place { place: SEED, error })?;
                (luks::create(partition, &volume, &Home::Tpm)?, "in the TPM")
            }
            home @ Home::File(_) => (luks::create(partition, &volume, &home)?, "in the seed"),
        };
        Ok::<_, luks::Error>((device, format!("LUKS2 on {}, key {place}", partition.display())))
    };
    steps
        .run("encrypt", LABEL_STATE, make)
        .map_err(|error| Failure::EncryptState { device: partition.display().to_string(), error })
}

/// Opens the state partition when it is encrypted. One that is not, although it should be, holds the node's data: it is
/// kept, and told.
fn open(
    steps: &mut Steps,
    booted: &Booted,
    (partition, encryption): (&Path, Option<&Encryption>),
) -> Result<PathBuf, Failure> {
    let failed = |error| Failure::UnlockState { device: partition.display().to_string(), error };
    if !luks::is_on(partition).map_err(failed)? {
        if encryption.is_some() {
            let text = "the state partition is not encrypted: it was made before the cluster file asked for it; to \
                        encrypt it, write the node's disk.img to the disk again (what is in /var is lost)";
            steps.problem(text.to_owned());
        }
        return Ok(partition.to_owned());
    }
    let unlock = |_: &mut Steps| {
        let kept = seed::key(booted, LABEL_STATE);
        let found = match kept.map_err(|error| luks::Error::Place { place: SEED, error })? {
            Some(key) => (luks::open(partition, MAPPED, &key)?, "by the key in the seed".to_owned()),
            None if luks::has_tpm(Path::new(SYSFS)) => {
                (luks::open_with_tpm(partition, MAPPED)?, "by the TPM".to_owned())
            }
            None => return Err(luks::Error::NoKey { place: SEED }),
        };
        Ok(found)
    };
    steps.run("unlock", LABEL_STATE, unlock).map_err(failed)
}

/// Mounts the state partition on `target`. One that can't be mounted is repaired as far as that needs no decision.
pub(crate) fn mount(steps: &mut Steps, device: &Path, target: &str) -> Result<(), Failure> {
    let source = device.display().to_string();
    let mount = || sys::mount(&source, target, "ext4", (sys::Flags::NOSUID | sys::Flags::NODEV, ""));
    if let Err(first) = mount() {
        steps.note("state", &source, &format!("can't be mounted: {first}"));
        let repaired = steps.run("repair", &source, |_| {
            let wrong = format::repair(device)?;
            let found = if wrong { "e2fsck repaired it" } else { "e2fsck found nothing wrong" };
            Ok::<_, format::Error>(((), found.to_owned()))
        });
        let failed = |error| Failure::StateMount { device: source.clone(), error };
        repaired.map_err(|error| failed(io::Error::other(format!("{first}; {error}"))))?;
        mount().map_err(failed)?;
    }
    grow(steps, device, target)?;
    room::keep(steps, &source, Path::new(target));
    Ok(())
}

/// Grows the file system to the end of its partition, when that ends later: the disk was made larger since.
fn grow(steps: &mut Steps, device: &Path, target: &str) -> Result<(), Failure> {
    let source = device.display().to_string();
    let failed =
        |error: io::Error| Failure::Root { what: format!("grow the file system on {source}"), error };
    let size = std::io::Seek::seek(&mut File::open(device).map_err(failed)?, io::SeekFrom::End(0))
        .map_err(failed)?;
    let block = Block::open(device, size).map_err(failed)?;
    let facts = match Ext4::open(Arc::new(block)) {
        Ok(file_system) => file_system.facts(),
        // It is mounted, so the kernel can read it: our reader's opinion stops nothing.
        Err(error) => {
            steps.note("grow", &source, &format!("not looked at: {error}"));
            return Ok(());
        }
    };
    let block_size = facts.block_size.max(1);
    let (now, whole) = (facts.blocks, size / block_size);
    // mke2fs leaves the last blocks unused when they are too few for a group.
    let group = 8 * block_size;
    if whole < now + group {
        return Ok(());
    }
    steps.run("grow", &source, |_| {
        let mounted = File::open(target).map_err(failed)?;
        sys::grow_ext4(&mounted, whole).map_err(failed)?;
        let bytes = human(whole * block_size);
        Ok::<_, Failure>(((), format!("file system of {bytes}")))
    })
}

fn device(disk: &Disk) -> PathBuf {
    Path::new(DEV).join(&disk.name)
}
