//! The seed partition: looked into read-only, for the handoff document and for a key, and written to for a key alone.

use crate::bounded;
use crate::choose::Booted;
use crate::failure::Failure;
use crate::keys::{self, Key};
use crate::sys::{self, Flags};
use kiln_contract::handoff::{self, Handoff};
use std::fs;
use std::io;
use std::path::Path;

const MOUNT_POINT: &str = "/seed";

/// Reads the handoff document of the booted disk.
pub(crate) fn read(booted: &Booted) -> Result<Handoff, Failure> {
    let device = format!("/dev/{}", booted.seed.name);
    let disk = &booted.disk;
    let _ = fs::create_dir(MOUNT_POINT);
    sys::mount(&device, MOUNT_POINT, "vfat", (sys::read_only_data(), "")).map_err(|error| {
        Failure::SeedMount { device: device.clone(), error, disk: Box::new(disk.clone()) }
    })?;
    let bytes = bounded::read(&Path::new(MOUNT_POINT).join(handoff::PATH), handoff::MAX_BYTES)
        .map_err(|error| Failure::SeedRead { device: device.clone(), error, disk: Box::new(disk.clone()) });
    let _ = sys::unmount(MOUNT_POINT);
    Handoff::parse(&bytes?).map_err(|error| Failure::Handoff { device, error, disk: Box::new(disk.clone()) })
}

/// The key of that name; nothing when the seed has none.
pub(crate) fn key(booted: &Booted, name: &str) -> io::Result<Option<Key>> {
    mounted(booted, sys::read_only_data(), |top| keys::read(&top.join(keys::SEED_FOLDER).join(name)))
}

/// Keeps a key in the seed, and gives what is read back after the volume was mounted anew.
pub(crate) fn keep_key(booted: &Booted, name: &str, new: &Key) -> io::Result<Key> {
    mounted(booted, sys::quiet(), |top| keys::keep(&top.join(keys::SEED_FOLDER), name, new))?;
    key(booted, name)?
        .filter(|kept| kept == new)
        .ok_or_else(|| io::Error::other("the seed does not hold what was written to it"))
}

/// Overwrites and removes a key that the seed holds; one that holds none is not written to.
pub(crate) fn shred_key(booted: &Booted, name: &str) -> io::Result<()> {
    let path = Path::new(keys::SEED_FOLDER).join(name);
    if mounted(booted, sys::read_only_data(), |top| top.join(&path).try_exists())? {
        mounted(booted, sys::quiet(), |top| keys::shred(&top.join(&path)))?;
    }
    Ok(())
}

fn mounted<T>(booted: &Booted, flags: Flags, work: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let _ = fs::create_dir(MOUNT_POINT);
    sys::mount(&format!("/dev/{}", booted.seed.name), MOUNT_POINT, "vfat", (flags, "umask=0077"))?;
    let result = work(Path::new(MOUNT_POINT));
    sys::unmount(MOUNT_POINT)?;
    result
}
