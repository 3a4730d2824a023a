//! The seed partition: looked into read-only, for the handoff document.

use crate::choose::Booted;
use crate::failure::Failure;
use crate::sys;
use kiln_contract::handoff::{self, Handoff};
use std::fs::{self, File};
use std::io::{self, Read};

const MOUNT_POINT: &str = "/seed";

/// Reads the handoff document of the booted disk.
pub(crate) fn read(booted: &Booted) -> Result<Handoff, Failure> {
    let device = format!("/dev/{}", booted.seed.name);
    let disk = &booted.disk;
    let _ = fs::create_dir(MOUNT_POINT);
    sys::mount(&device, MOUNT_POINT, "vfat", (sys::read_only_data(), "")).map_err(|error| {
        Failure::SeedMount { device: device.clone(), error, disk: Box::new(disk.clone()) }
    })?;
    let bytes = read_bounded(&format!("{MOUNT_POINT}/{}", handoff::PATH))
        .map_err(|error| Failure::SeedRead { device: device.clone(), error, disk: Box::new(disk.clone()) });
    let _ = sys::unmount(MOUNT_POINT);
    Handoff::parse(&bytes?).map_err(|error| Failure::Handoff { device, error, disk: Box::new(disk.clone()) })
}

/// One byte more than a document may have is enough to refuse it.
fn read_bounded(path: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(handoff::MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
