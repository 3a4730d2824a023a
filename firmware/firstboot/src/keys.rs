//! Keys of encrypted volumes, as files: made here, never shown, kept where only root reads.

use crate::sys;
use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where the system keeps keys of data disks that no TPM holds.
pub(crate) const FOLDER: &str = "/var/lib/kiln/keys";
/// Where the seed keeps the state partition's, below the volume's top.
pub(crate) const SEED_FOLDER: &str = "kiln/keys";
/// Bytes of a key: as much as the cipher that it protects takes (AES-256 in XTS mode).
const BYTES: usize = 64;

/// A key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key([u8; BYTES]);

/// Nothing of it, whoever asks.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// A new one, from the kernel's random numbers.
    pub(crate) fn random() -> io::Result<Self> {
        let mut bytes = [0; BYTES];
        sys::random(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Its bytes, for the standard input of a program.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Keeps a key as `folder/name`: a power cut leaves none or all of it. Gives what is read back from there.
pub(crate) fn keep(folder: &Path, name: &str, key: &Key) -> io::Result<Key> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let (path, beside) = (folder.join(name), folder.join(format!("{name}.new")));
    // Left over from a cut.
    shred(&beside)?;
    let mut file = File::options().write(true).create_new(true).mode(0o400).open(&beside)?;
    file.write_all(key.bytes())?;
    file.sync_all()?;
    fs::rename(&beside, &path)?;
    File::open(folder)?.sync_all()?;
    sys::sync_file_system(folder)?;
    match read(&path)? {
        Some(kept) if kept == *key => Ok(kept),
        _ => Err(io::Error::other(format!("{} does not hold what was written to it", path.display()))),
    }
}

/// The key in a file; nothing when there is no file.
pub(crate) fn read(path: &Path) -> io::Result<Option<Key>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(BYTES as u64 + 1).read_to_end(&mut bytes)?;
    match <[u8; BYTES]>::try_from(bytes.as_slice()) {
        Ok(bytes) => Ok(Some(Key(bytes))),
        Err(_) => Err(io::Error::other(format!(
            "{} has {} bytes, not a key's {BYTES}",
            path.display(),
            bytes.len()
        ))),
    }
}

/// Overwrites a key's file in its place and removes it. What a flash medium keeps of an overwritten block is out of
/// reach.
pub(crate) fn shred(path: &Path) -> io::Result<()> {
    // The mode of a key's file lets nobody write, which does not concern root.
    let mut file = match File::options().write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(BYTES).min(4096);
    file.write_all(&vec![0; length])?;
    file.sync_all()?;
    fs::remove_file(path)?;
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// Where the running system finds the key of a data disk, and where it is below `root` while that is mounted there.
pub(crate) fn of_slot(root: &Path, slot: &str) -> (PathBuf, PathBuf) {
    let system = Path::new(FOLDER).join(slot);
    let now = root.join(FOLDER.trim_start_matches('/')).join(slot);
    (system, now)
}

#[cfg(test)]
mod tests {
    use super::{BYTES, Key, keep, read, shred};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_kept_read_and_shredded() {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("kiln/keys");
        let key = Key::random().unwrap();
        assert_ne!(key, Key::random().unwrap());
        // A cut left half a file beside.
        fs::create_dir_all(&keys).unwrap();
        fs::write(keys.join("state.new"), [7; 9]).unwrap();
        assert_eq!(keep(&keys, "state", &key).unwrap(), key);
        let path = keys.join("state");
        assert_eq!(read(&path).unwrap(), Some(key.clone()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o400);
        assert_eq!(fs::read_dir(&keys).unwrap().count(), 1);
        // Another takes its place.
        let other = Key::random().unwrap();
        keep(&keys, "state", &other).unwrap();
        assert_eq!(read(&path).unwrap(), Some(other));

        // Whoever holds the file open sees what is left of it.
        let held = folder.path().join("held");
        fs::hard_link(&path, &held).unwrap();
        shred(&path).unwrap();
        assert_eq!(read(&path).unwrap(), None);
        assert_eq!(fs::read(&held).unwrap(), [0; BYTES]);
        shred(&path).unwrap();
    }

    #[test]
    fn a_file_of_another_length_is_no_key() {
        let folder = tempfile::tempdir().unwrap();
        for length in [0, BYTES - 1, BYTES + 1, 4096] {
            let path = folder.path().join("key");
            fs::write(&path, vec![1; length]).unwrap();
            assert!(read(&path).is_err(), "{length}");
        }
    }

    #[test]
    fn nobody_is_shown_a_key() {
        assert_eq!(format!("{:?}", Key([0x41; BYTES])), "Key(..)");
    }
}
