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
//! no lock. Nothing is flushed to the disk: after a power cut a file can be short, and sizes are checked at
//! every use. A digest is checked when a file comes in and again when the caller asks for it
//! ([`Check::Digest`], for `--fresh`), not at every use: that would cost more than the build.

use crate::digest::{Hashing, Sha256};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// From so many bytes on a file is better removed than replaced.
const LARGE: u64 = 1 << 20;

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
        Ok(Self { root: root.to_owned(), check: Check::Size })
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
        remove(&path)?;
        Ok(None)
    }

    /// Keeps bytes that are at hand, and says where.
    pub fn insert(&self, bytes: &[u8]) -> Result<PathBuf, Error> {
        let name = Sha256::of(bytes).to_string();
        self.store("sha256", &name, |file| io::Write::write_all(file, bytes)).map(|(path, _)| path)
    }

    /// A file for bytes whose digest is not known before they are all there; it goes when it is dropped.
    pub fn incoming(&self) -> Result<tempfile::NamedTempFile, Error> {
        let folder = self.root.join("partial");
        tempfile::NamedTempFile::new_in(&folder).map_err(|fault| Error::io("create", &folder, fault))
    }

    /// Gives such a file its final name: the digest of its bytes, which the caller has taken.
    pub fn keep(&self, file: tempfile::NamedTempFile, sha256: &Sha256) -> Result<PathBuf, Error> {
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
                return Ok(Claim::Mine(Partial { file, path, target }));
            }
        }
    }

    /// The built thing with this key (hexadecimal), if there is one.
    pub fn blob(&self, key: &str) -> Option<File> {
        used(&self.path_of("blobs", key))
    }

    /// Keeps a built thing: `write` fills the file, which then appears under `key` (hexadecimal).
    pub fn store_blob(
        &self,
        key: &str,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<File, Error> {
        self.store("blobs", key, write).map(|(_, file)| file)
    }

    /// The decompressed content of the package with this digest, if it was kept.
    pub fn unpacked(&self, package: &Sha256) -> Option<File> {
        used(&self.path_of("unpacked", &package.to_string()))
    }

    /// Keeps the decompressed content of a package.
    pub fn store_unpacked(
        &self,
        package: &Sha256,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<File, Error> {
        self.store("unpacked", &package.to_string(), write).map(|(_, file)| file)
    }

    /// The text of a package index with this digest, if it was kept and has this size.
    pub fn index(&self, sha256: &Sha256, size: u64) -> Option<Vec<u8>> {
        let bytes = fs::read(self.path_of("indexes", &sha256.to_string())).ok()?;
        (bytes.len() as u64 == size).then_some(bytes)
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

    /// Writes a file and gives it its name: where it is, and the file for reading.
    fn store(
        &self,
        shelf: &str,
        name: &str,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(PathBuf, File), Error> {
        let path = self.path_of(shelf, name);
        let folder = path.parent().unwrap_or(&self.root);
        make_folder(folder)?;
        let written = |fault| Error::io("write", &path, fault);
        let mut temporary = tempfile::NamedTempFile::new_in(folder).map_err(written)?;
        write(temporary.as_file_mut()).map_err(written)?;
        // Once it has its name another run may remove it.
        let file = File::open(temporary.path()).map_err(written)?;
        make_way(&path, &file);
        temporary.persist(&path).map_err(|fault| written(fault.error))?;
        Ok((path, file))
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

/// Removes what a large file is about to replace at `path`. ext4 writes a file to the disk before its name takes the
/// place of another (ext4(5), `auto_da_alloc`), which for an image is most of the time that a build takes. What can't
/// be removed is replaced all the same.
fn make_way(path: &Path, file: &File) {
    if file.metadata().is_ok_and(|metadata| metadata.len() >= LARGE) {
        let _ = fs::remove_file(path);
    }
}

/// The time that files are told to be used at, and that [`Cache::trim`] is told.
#[expect(clippy::disallowed_methods, reason = "when a file was used last never becomes bytes of an image")]
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// Opens what is to be used again, and notes that it is: [`Cache::trim`] goes by the time of change.
fn used(path: &Path) -> Option<File> {
    let file = File::open(path).ok()?;
    // A cache that may only be read is none that may be trimmed.
    let _ = file.set_modified(now());
    Some(file)
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
