//! Making the booted disk what it was planned to be, and its state partition ready to mount.

use crate::block::Block;
use crate::choose::Booted;
use crate::disks::Disk;
use crate::failure::Failure;
use crate::format::{self, Wanted};
use crate::own::{self, Own};
use crate::steps::Steps;
use crate::{DEV, partition, sys};
use kiln_contract::handoff::Handoff;
use kiln_contract::partition::LABEL_STATE;
use kiln_contract::policy::FileSystem;
use kiln_formats::ext4::read::FileSystem as Ext4;
use kiln_formats::gpt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Per cent of the state partition that only root may fill: a full disk must not keep the node from starting.
const RESERVED_PERCENT: u8 = 2;

/// What must be done with the booted disk. Nothing is written.
pub(crate) fn plan(booted: &Booted, handoff: &Handoff) -> Result<Own, Failure> {
    let disk = &booted.disk;
    let unreadable = |error: String| Failure::OwnTable { disk: Box::new(disk.clone()), error };
    let block = Block::open(&device(disk), disk.size).map_err(|error| unreadable(error.to_string()))?;
    let found = gpt::read(&block, disk.sector).map_err(|error| unreadable(error.to_string()))?;
    own::plan(&found, disk.size, handoff)
}

/// Carries it out, and gives the device of the state partition.
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
    let device = partition::device(&disk.name, own.state).map_err(failed)?;
    if own.format_state {
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
    }
    Ok(device)
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
    grow(steps, device, target)
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
        let bytes = crate::disks::human(whole * block_size);
        Ok::<_, Failure>(((), format!("file system of {bytes}")))
    })
}

fn device(disk: &Disk) -> PathBuf {
    Path::new(DEV).join(&disk.name)
}
