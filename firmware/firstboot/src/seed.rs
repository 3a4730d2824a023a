//! The seed partition: looked into read-only, for the handoff document, for what cloud-init is to read, and for a key; and
//! written to for a key alone.

use crate::bounded;
use crate::choose::Booted;
use crate::failure::Failure;
use crate::keys::{self, Key};
use crate::sys::{self, Flags};
use kiln_contract::addresses;
use kiln_contract::handoff::{self, Handoff, SEED_FOLDER};
use kiln_contract::join::AFTER;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

const MOUNT_POINT: &str = "/seed";
/// What cloud-init reads of a seed (cloudinit/util.py, `read_seeded`), and which of it there must be.
const DOCUMENTS: [(&str, bool); 4] =
    [("meta-data", true), (USER_DATA, true), ("vendor-data", false), ("network-config", false)];
const USER_DATA: &str = "user-data";
/// No partition for a seed has more bytes.
const MAX_BYTES: usize = 64 << 20;

/// Reads the handoff document of the booted disk, and lays out what cloud-init reads. That looks for no volume by itself: any
/// stick, disc, old disk or LUN may carry the label that it would look for.
pub(crate) fn read(booted: &Booted) -> Result<Handoff, Failure> {
    let device = format!("/dev/{}", booted.seed.name);
    let disk = &booted.disk;
    let _ = fs::create_dir(MOUNT_POINT);
    sys::mount(&device, MOUNT_POINT, "vfat", (sys::read_only_data(), "")).map_err(|error| {
        Failure::SeedMount { device: device.clone(), error, disk: Box::new(disk.clone()) }
    })?;
    let top = Path::new(MOUNT_POINT);
    let unread = |path: &'static str| {
        let (device, disk) = (device.clone(), Box::new(disk.clone()));
        move |error| Failure::SeedRead { device, path, error, disk }
    };
    let bytes = bounded::read(&top.join(handoff::PATH), handoff::MAX_BYTES).map_err(unread(handoff::PATH));
    let laid = lay_out(top, Path::new(SEED_FOLDER)).map_err(|(path, error)| unread(path)(error));
    // An older Kiln's seed has none, and nothing but the report goes by it.
    if let Ok(bytes) = bounded::read(&top.join(addresses::PATH), addresses::MAX_BYTES) {
        let _ = fs::write(addresses::RUNTIME_PATH, bytes);
    }
    let _ = sys::unmount(MOUNT_POINT);
    let handoff = Handoff::parse(&bytes?).map_err(|error| Failure::Handoff {
        device: device.clone(),
        error,
        disk: Box::new(disk.clone()),
    })?;
    laid.map(|()| handoff)
}

/// Copies cloud-init's documents from the volume to `folder`, which root alone looks into. The error names the document.
fn lay_out(top: &Path, folder: &Path) -> Result<(), (&'static str, io::Error)> {
    let above = folder.parent().unwrap_or(Path::new("/run"));
    let made = DirBuilder::new().recursive(true).mode(0o755).create(above);
    let made = made.and_then(|()| DirBuilder::new().recursive(true).mode(0o700).create(folder));
    made.map_err(|error| (SEED_FOLDER, error))?;
    for (name, must) in DOCUMENTS {
        let bytes = match document(top, name) {
            Err(error) if error.kind() == ErrorKind::NotFound && !must => continue,
            read => read.map_err(|error| (name, error))?,
        };
        let mut options = File::options();
        let written = options.write(true).create(true).truncate(true).mode(0o600).open(folder.join(name));
        written.and_then(|mut file| file.write_all(&bytes)).map_err(|error| (name, error))?;
    }
    Ok(())
}

/// A document of the volume. Where power went while the seed lost its secrets, `user-data` may be zeros or not there: what
/// was about to take its place lies beside it.
fn document(top: &Path, name: &str) -> io::Result<Vec<u8>> {
    let read = |path: &str| {
        let bytes = bounded::read(&top.join(path), MAX_BYTES)?;
        if bytes.len() > MAX_BYTES { Err(io::Error::other("it is too large")) } else { Ok(bytes) }
    };
    let found = read(name);
    if name != USER_DATA {
        return found;
    }
    match found {
        Ok(bytes) if !bytes.is_empty() && !bytes.starts_with(&[0]) => Ok(bytes),
        found => read(AFTER).or(found),
    }
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

#[cfg(test)]
mod tests {
    use super::lay_out;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn cloud_init_gets_the_documents_of_this_volume_for_root_alone() {
        let (volume, run) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (top, folder) = (volume.path(), run.path().join("kiln/seed"));
        fs::write(top.join("meta-data"), "instance-id: a\n").unwrap();
        assert_eq!(lay_out(top, &folder).unwrap_err().0, "user-data");
        fs::write(top.join("user-data"), "#cloud-config\n{}\n").unwrap();
        fs::write(top.join("network-config"), "version: 2\n").unwrap();
        fs::create_dir_all(top.join("kiln")).unwrap();
        fs::write(top.join("kiln/handoff.json"), "{}").unwrap();
        // Twice, as when a boot begins again without a restart.
        for _ in 0..2 {
            lay_out(top, &folder).unwrap();
            let mut names: Vec<_> =
                fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            assert_eq!(names, ["meta-data", "network-config", "user-data"]);
            for name in names {
                assert_eq!(fs::read(folder.join(&name)).unwrap(), fs::read(top.join(&name)).unwrap());
                assert_eq!(fs::metadata(folder.join(&name)).unwrap().permissions().mode() & 0o777, 0o600);
            }
            assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }

    /// The states of `join::shred`'s tests, met by a boot.
    #[test]
    fn a_seed_that_was_cut_while_it_lost_its_secrets_is_read_as_the_clean_one() {
        for cut in ["zeros", "empty", "gone"] {
            let (volume, run) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let top = volume.path();
            fs::write(top.join("meta-data"), "instance-id: a\n").unwrap();
            fs::create_dir_all(top.join("kiln/after")).unwrap();
            fs::write(top.join("kiln/after/user-data"), "#cloud-config\n").unwrap();
            match cut {
                "zeros" => fs::write(top.join("user-data"), [0; 99]).unwrap(),
                "empty" => fs::write(top.join("user-data"), "").unwrap(),
                _ => {}
            }
            lay_out(top, run.path()).unwrap();
            assert_eq!(fs::read_to_string(run.path().join("user-data")).unwrap(), "#cloud-config\n", "{cut}");
        }
    }
}
