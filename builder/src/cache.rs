//! The cache: files by what they hold, shared by all clusters and by runs at the same time.
//!
//! | below the root | holds | named by |
//! | --- | --- | --- |
//! | `sha256/ab/…` | downloads | SHA-256 of the bytes |
//! | `partial/…` | downloads under way, kept when cut | SHA-256 that is wanted |
//! | `unpacked/ab/…` | decompressed `data.tar` of packages | SHA-256 of the package |
//! | `blobs/ab/…` | built things | BLAKE3 of what they were made of |
//! | `indexes/ab/…` | decompressed package indices | SHA-256 of the bytes |
//!
//! What was built is looked up again and again while clusters change, and is large: [`Cache::trim`] keeps it within a limit.
//! Downloads stay, because a mirror may have dropped them.
//!
//! A file appears under its final name whole, by rename, and is never changed after that; so readers need
//! no lock. After a power cut a download can be short, and sizes are checked at every use. What was built may have any size
//! and holes, so a cut could leave the right size and zeros: it gets its name only after all of it was flushed to the disk,
//! once for all of a build ([`Cache::settle`]); until then it is in `partial`, for this run alone. What a killed run left
//! there goes when the cache is next opened. A digest is checked when a file comes in and again when the caller asks for it
//! ([`Check::Digest`], for `--fresh`), not at every use: that would cost more than the build.

use crate::digest::{Hashing, Sha256};
use rustix::fs::{FlockOperation, flock};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tempfile::NamedTempFile;

/// How names of temporary files begin.
const TEMPORARY: &str = ".tmp";

/// What is looked at before a download is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Check {
    /// Its size.
    #[default]
    Size,
    /// Its size and all of its bytes.
    Digest,
}

/// Why the cache cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No environment variable says where it is.
    #[error("no place for the cache is known: set XDG_CACHE_HOME or HOME to a folder with an absolute path")]
    NoPlace,
    /// The disk is full.
    #[error("the disk that holds {} is full; make room, or set XDG_CACHE_HOME to a folder with more", path.display())]
    Full {
        /// The file that was written.
        path: PathBuf,
    },
    /// Anything else the system says.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// `read`, `write`, `create`, `lock`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Error {
    /// The error of an action on a path; a full disk is told apart.
    pub fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full { path: path.to_owned() },
            _ => Self::Io { action, path: path.to_owned(), source },
        }
    }
}

/// An opened cache.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
    check: Check,
    /// Built things that were not flushed yet, by their final path. Shared by all clones.
    unsettled: Arc<Mutex<BTreeMap<PathBuf, NamedTempFile>>>,
}

/// What [`Cache::claim`] found.
#[derive(Debug)]
pub enum Claim {
    /// The bytes are here: another thread or run has fetched them.
    Here(PathBuf),
    /// They are to be fetched, by the caller alone.
    Mine(Partial),
}

/// A download under way, locked against other runs. Left as it is when dropped, so that it can be resumed.
#[derive(Debug)]
pub struct Partial {
    file: File,
    path: PathBuf,
    target: PathBuf,
}

impl Cache {
    /// The folder that the environment gives: `$XDG_CACHE_HOME/kiln`, else `$HOME/.cache/kiln`.
    pub fn place(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf, Error> {
        // The XDG base directory specification wants relative paths ignored.
        let absolute = |name| variable(name).filter(|path| path.is_absolute());
        let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
        base.map(|base| base.join("kiln")).ok_or(Error::NoPlace)
    }

    /// Opens the cache at `root`, which is made when it is not there.
    pub fn open(root: &Path) -> Result<Self, Error> {
        for folder in ["sha256", "partial", "unpacked", "blobs", "indexes"] {
            make_folder(&root.join(folder))?;
        }
        let cache = Self { root: root.to_owned(), check: Check::Size, unsettled: Arc::default() };
        cache.sweep();
        Ok(cache)
    }

    /// Removes temporary files of runs that were killed: a run that lives has its own locked. What can't be removed does
    /// no harm.
    fn sweep(&self) {
        let folder = self.root.join("partial");
        let Ok(gate) = File::open(&folder) else { return };
        // Whoever makes a file has not locked it yet: the next run sweeps.
        if flock(&gate, FlockOperation::NonBlockingLockExclusive).is_err() {
            return;
        }
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if !entry.file_name().as_encoded_bytes().starts_with(TEMPORARY.as_bytes()) {
                continue;
            }
            let path = entry.path();
            let free = |file: &File| flock(file, FlockOperation::NonBlockingLockExclusive).is_ok();
            if entry.file_type().is_ok_and(|kind| kind.is_file())
                && File::open(&path).is_ok_and(|file| free(&file))
            {
                let _ = fs::remove_file(&path);
            }
        }
    }

    /// A file that goes when it is dropped, or when the cache is opened after this run was killed.
    fn temporary(&self) -> Result<NamedTempFile, Error> {
        let folder = self.root.join("partial");
        let fault = |fault| Error::io("create", &folder, fault);
        let gate = File::open(&folder).map_err(fault)?;
        flock(&gate, FlockOperation::LockShared).map_err(|errno| fault(errno.into()))?;
        let file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(&folder).map_err(fault)?;
        flock(file.as_file(), FlockOperation::LockExclusive).map_err(|errno| fault(errno.into()))?;
        Ok(file)
    }

    fn unsettled(&self) -> MutexGuard<'_, BTreeMap<PathBuf, NamedTempFile>> {
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Flushes what was built to the disk and gives it its names: from then on other runs use it, whatever happens.
    ///
    /// # Errors
    ///
    /// The disk is full, or did not take the bytes.
    pub fn settle(&self) -> Result<(), Error> {
        let mut unsettled = self.unsettled();
        if unsettled.is_empty() {
            return Ok(());
        }
        let flush = File::open(&self.root).and_then(|root| Ok(rustix::fs::syncfs(root)?));
        flush.map_err(|fault| Error::io("write", &self.root, fault))?;
        for (path, file) in std::mem::take(&mut *unsettled) {
            make_folder(path.parent().unwrap_or(&self.root))?;
            file.persist(&path).map_err(|fault| Error::io("write", &path, fault.error))?;
        }
        Ok(())
    }

    /// A built thing of this run, or of one whose bytes are on the disk.
    fn used(&self, path: &Path) -> Option<File> {
        if let Some(file) = self.unsettled().get(path) {
            return File::open(file.path()).ok();
        }
        let file = File::open(path).ok()?;
        // When it was used last; a cache that may only be read is none that may be trimmed.
        let _ = file.set_modified(now());
        Some(file)
    }

    /// The same cache with another [`Check`].
    pub fn with_check(self, check: Check) -> Self {
        Self { check, ..self }
    }

    /// The folder that the cache is in.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The download with this digest; `None` when it is not there, or not of `size` bytes, or (with
    /// [`Check::Digest`]) not what it should be. A wrong one is removed.
    pub fn get(&self, sha256: &Sha256, size: Option<u64>) -> Result<Option<PathBuf>, Error> {
        let path = self.path_of("sha256", &sha256.to_string());
        let Some(metadata) = metadata(&path)? else { return Ok(None) };
        let right = size.is_none_or(|size| size == metadata.len())
            && (self.check == Check::Size || digest_of(&path)? == *sha256);
        if right {
            return Ok(Some(path));
        }
        // A wrong size may be the caller's fault: what has its digest is what it should be.
        if self.check == Check::Digest || digest_of(&path)? != *sha256 {
            remove(&path)?;
        }
        Ok(None)
    }

    /// Whether the download with this digest is there and of `size` bytes. Changes nothing, whatever is there.
    pub fn has(&self, sha256: &Sha256, size: u64) -> Result<bool, Error> {
        let path = self.path_of("sha256", &sha256.to_string());
        Ok(metadata(&path)?.is_some_and(|metadata| metadata.len() == size))
    }

    /// Keeps bytes that are at hand, and says where.
    pub fn insert(&self, bytes: &[u8]) -> Result<PathBuf, Error> {
        let name = Sha256::of(bytes).to_string();
        self.store("sha256", &name, |file| io::Write::write_all(file, bytes))
    }

    /// A file for bytes whose digest is not known before they are all there; it goes when it is dropped.
    pub fn incoming(&self) -> Result<NamedTempFile, Error> {
        self.temporary()
    }

    /// Gives such a file its final name: the digest of its bytes, which the caller has taken.
    pub fn keep(&self, file: NamedTempFile, sha256: &Sha256) -> Result<PathBuf, Error> {
        let path = self.path_of("sha256", &sha256.to_string());
        make_folder(path.parent().unwrap_or(&self.root))?;
        file.persist(&path).map_err(|fault| Error::io("write", &path, fault.error))?;
        Ok(path)
    }

    /// Takes the right to fetch the bytes with this digest; waits while another thread or run has it.
    pub fn claim(&self, sha256: &Sha256, size: Option<u64>) -> Result<Claim, Error> {
        let name = sha256.to_string();
        let (path, target) = (self.root.join("partial").join(&name), self.path_of("sha256", &name));
        loop {
            if let Some(path) = self.get(sha256, size)? {
                return Ok(Claim::Here(path));
            }
            let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
            let file = open.map_err(|fault| Error::io("create", &path, fault))?;
            let locked = flock(&file, FlockOperation::LockExclusive);
            locked.map_err(|fault| Error::io("lock", &path, fault.into()))?;
            // Whoever had the lock before may have moved the file to its final name: then this one is not
            // the partial download any more.
            let inode = file.metadata().map_err(|fault| Error::io("read", &path, fault))?.ino();
            if metadata(&path)?.is_some_and(|metadata| metadata.ino() == inode) {
                // It may have come to its end between the look above and the lock: then this one is empty, and of no use.
                if let Some(here) = self.get(sha256, size)? {
                    remove(&path)?;
                    return Ok(Claim::Here(here));
                }
                return Ok(Claim::Mine(Partial { file, path, target }));
            }
        }
    }

    /// The built thing with this key (hexadecimal), if there is one.
    pub fn blob(&self, key: &str) -> Option<File> {
        self.used(&self.path_of("blobs", key))
    }

    /// Keeps a built thing: `write` fills the file, which then appears under `key` (hexadecimal).
    pub fn store_blob(
        &self,
        key: &str,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<File, Error> {
        self.build("blobs", key, write)
    }

    /// The decompressed content of the package with this digest, if it was kept.
    pub fn unpacked(&self, package: &Sha256) -> Option<File> {
        self.used(&self.path_of("unpacked", &package.to_string()))
    }

    /// Keeps the decompressed content of a package.
    pub fn store_unpacked(
        &self,
        package: &Sha256,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<File, Error> {
        self.build("unpacked", &package.to_string(), write)
    }

    /// The text of a package index with this digest, if it was kept and is whole.
    pub fn index(&self, sha256: &Sha256, size: u64) -> Option<Vec<u8>> {
        let bytes = fs::read(self.path_of("indexes", &sha256.to_string())).ok()?;
        (bytes.len() as u64 == size && Sha256::of(&bytes) == *sha256).then_some(bytes)
    }

    /// Keeps the text of a package index, which the caller has checked.
    pub fn store_index(&self, sha256: &Sha256, bytes: &[u8]) -> Result<(), Error> {
        self.store("indexes", &sha256.to_string(), |file| io::Write::write_all(file, bytes)).map(drop)
    }

    /// Where a file of a shelf is. Names are hexadecimal digits, two of them the folder.
    fn path_of(&self, shelf: &str, name: &str) -> PathBuf {
        let folder = name.get(..2).unwrap_or("_");
        let safe = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let name: String = name.chars().map(safe).collect();
        self.root.join(shelf).join(folder.chars().map(safe).collect::<String>()).join(name)
    }

    /// Writes a file and gives it its name.
    fn store(
        &self,
        shelf: &str,
        name: &str,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<PathBuf, Error> {
        let path = self.path_of(shelf, name);
        make_folder(path.parent().unwrap_or(&self.root))?;
        let written = |fault| Error::io("write", &path, fault);
        let mut temporary = self.temporary()?;
        write(temporary.as_file_mut()).map_err(written)?;
        temporary.persist(&path).map_err(|fault| written(fault.error))?;
        Ok(path)
    }

    /// Writes a file that gets its name when all of the run is on the disk, and gives it for reading.
    fn build(
        &self,
        shelf: &str,
        name: &str,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<File, Error> {
        let path = self.path_of(shelf, name);
        let written = |fault| Error::io("write", &path, fault);
        let mut temporary = self.temporary()?;
        write(temporary.as_file_mut()).map_err(written)?;
        let file = File::open(temporary.path()).map_err(written)?;
        // One that is there is not to be mixed up with the new one: whoever asked for that did not trust it.
        self.unsettled().insert(path, temporary);
        Ok(file)
    }
}

impl Partial {
    /// The file, to be appended to and read.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Where the file is, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its final name. The caller has checked size and digest.
    pub fn finish(self) -> Result<PathBuf, Error> {
        if let Some(folder) = self.target.parent() {
            make_folder(folder)?;
        }
        fs::rename(&self.path, &self.target).map_err(|fault| Error::io("write", &self.target, fault))?;
        Ok(self.target)
    }
}

/// The time that files are told to be used at, and that [`Cache::trim`] is told.
#[expect(clippy::disallowed_methods, reason = "when a file was used last never becomes bytes of an image")]
pub fn now() -> SystemTime {
    SystemTime::now()
}

fn make_folder(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|fault| Error::io("create", path, fault))
}

fn metadata(path: &Path) -> Result<Option<fs::Metadata>, Error> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(fault) if fault.kind() == ErrorKind::NotFound => Ok(None),
        Err(fault) => Err(Error::io("read", path, fault)),
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(fault) if fault.kind() != ErrorKind::NotFound => Err(Error::io("remove", path, fault)),
        _ => Ok(()),
    }
}

fn digest_of(path: &Path) -> Result<Sha256, Error> {
    let mut hashing = Hashing::new(io::sink());
    let copied = File::open(path).and_then(|mut file| io::copy(&mut file, &mut hashing));
    copied.map_err(|fault| Error::io("read", path, fault))?;
    Ok(hashing.finish().1)
}

#[cfg(test)]
mod tests;
mod trim;

pub use trim::{LIMIT, Trimmed};
