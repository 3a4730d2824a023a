//! The output folder: files appear under their final name when they are whole, and never otherwise.

use crate::digest::Sha256;
use crate::plan::{Inputs, Present};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

mod room;

/// Beside the images: what each was made of. Not part of what is built.
const STATE: &str = ".kiln";
/// What the folder holds of a cluster.
pub const MANIFEST: &str = "manifest.json";

/// The mode of what only its owner may read.
const PRIVATE: u32 = 0o600;

/// Why the output can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder can't be made, written or renamed.
    #[error("{}: {source}{}", path.display(), advice(source))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Something else is where Kiln keeps a file or folder of its own.
    #[error("{} is {what}, and Kiln writes through none: move it away, or name another folder with -o", path.display())]
    InTheWay {
        /// The thing.
        path: PathBuf,
        /// What it is: "a symbolic link".
        what: &'static str,
    },
    /// A file of that name that Kiln did not write.
    #[error("{} is not Kiln's, and would be replaced: move it away, or name another folder with -o", .0.display())]
    NotOurs(PathBuf),
    /// Another build writes there.
    #[error("another kiln is building into {}: wait for it, or name another folder with -o", .0.display())]
    Busy(PathBuf),
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ": free some space or name another folder with -o; nothing half-written was kept"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            ": name a folder that you can write to with -o"
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            ": something that is not a folder is in the way; move it or name another folder with -o"
        }
        _ => "",
    }
}

impl Error {
    /// An error of the system about `path`.
    pub fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

/// An output folder that no other build writes to.
#[derive(Debug)]
pub struct Output {
    folder: PathBuf,
    /// What is to be remembered once it is on the disk: path of the stamp, and its bytes.
    unsettled: Mutex<Vec<(String, Vec<u8>)>>,
    _guard: File,
}

/// What a node's files were made of and how they looked when they were made.
#[derive(Debug, Serialize, Deserialize)]
struct Stamp {
    inputs: Inputs,
    /// Size in bytes and modification time in nanoseconds of each file.
    files: BTreeMap<String, (u64, i64)>,
}

impl Output {
    /// Makes the folder where it is not there, locks it, and clears away what an interrupted build of these nodes left.
    /// Nothing is written or removed where a link leads: `folder` itself may be one, which is its owner's word.
    pub fn open(folder: &Path, nodes: &[&str]) -> Result<Self, Error> {
        room::check(folder, nodes)?;
        let state = folder.join(STATE);
        fs::create_dir_all(&state).map_err(|e| Error::io(folder, e))?;
        let lock = state.join("lock");
        let guard = room::lock_file(&lock)?;
        match guard.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Busy(folder.to_owned())),
            Err(TryLockError::Error(error)) => return Err(Error::io(&lock, error)),
        }
        room::sweep(folder, nodes);
        Ok(Self { folder: folder.to_owned(), unsettled: Mutex::default(), _guard: guard })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A warning for who writes secrets to it, where the file system has no modes that could keep them (vfat, exFAT, NTFS).
    pub fn open_to_all(&self) -> Result<Option<String>, Error> {
        let mut probe = self.create_private(&format!("{STATE}/modes"))?;
        let fault = |fault| Error::io(&self.folder, fault);
        let open = probe.file().metadata().map_err(fault)?.mode() & 0o077 != 0;
        Ok(open.then(|| {
            format!(
                "{} is on a file system that keeps no modes of files: whoever can read the folder can read the secrets in seeds and images; name another folder with -o, or mount this one with umask=077",
                self.folder.display()
            )
        }))
    }

    /// A file to be written, at `path` below the folder, that only its owner may read.
    pub fn create_private(&self, path: &str) -> Result<Partial, Error> {
        self.create_with(path, PRIVATE)
    }

    /// A file to be written, at `path` below the folder.
    pub fn create(&self, path: &str) -> Result<Partial, Error> {
        self.create_with(path, 0o666)
    }

    fn create_with(&self, path: &str, mode: u32) -> Result<Partial, Error> {
        let end = self.folder.join(path);
        let partial = room::beside(&end, room::NEW);
        if let Some(parent) = partial.parent() {
            fs::create_dir_all(parent).map_err(|e| Error::io(parent, e))?;
        }
        // One that a cut build left would keep its mode.
        let _ = fs::remove_file(&partial);
        let mut options = File::options();
        let options = options.read(true).write(true).create_new(true).mode(mode).open(&partial);
        let file = options.map_err(|e| Error::io(&partial, e))?;
        if mode == PRIVATE {
            // Some file systems take a mode and keep another; whoever writes secrets is warned.
            let _ = file.set_permissions(fs::Permissions::from_mode(mode));
        }
        Ok(Partial { file, partial: Some(partial), end })
    }

    /// Writes a small file whole.
    pub fn write(&self, path: &str, bytes: &[u8]) -> Result<Sha256, Error> {
        self.fill(self.create(path)?, path, bytes)
    }

    /// Writes a small file whole that only its owner may read.
    pub fn write_private(&self, path: &str, bytes: &[u8]) -> Result<Sha256, Error> {
        self.fill(self.create_private(path)?, path, bytes)
    }

    /// Writes a small document whole, which is on the disk before it takes the place of the one before.
    pub fn write_flushed(&self, path: &str, bytes: &[u8]) -> Result<Sha256, Error> {
        let mut partial = self.create(path)?;
        let flushed = partial.file().write_all(bytes).and_then(|()| partial.file().sync_all());
        flushed.map_err(|e| Error::io(&self.folder.join(path), e))?;
        partial.finish()?;
        Ok(Sha256::of(bytes))
    }

    fn fill(&self, mut partial: Partial, path: &str, bytes: &[u8]) -> Result<Sha256, Error> {
        let written = partial.file().write_all(bytes);
        written.map_err(|e| Error::io(&self.folder.join(path), e))?;
        partial.finish()?;
        Ok(Sha256::of(bytes))
    }

    /// Forgets what a node's image was made of, before its files change.
    pub fn forget(&self, node: &str) {
        let _ = fs::remove_file(self.stamp_path(node));
    }

    /// Remembers what a node's files were made of, as soon as [`Output::settle`] has them on the disk.
    pub fn remember(&self, node: &str, inputs: &Inputs, files: &[String]) -> Result<(), Error> {
        let mut looks = BTreeMap::new();
        for file in files {
            let path = self.folder.join(file);
            looks.insert(file.clone(), look(&path).map_err(|e| Error::io(&path, e))?);
        }
        let stamp = Stamp { inputs: inputs.clone(), files: looks };
        let bytes = serde_json::to_vec(&stamp).map_err(|e| Error::io(&self.stamp_path(node), e.into()))?;
        self.unsettled().push((format!("{STATE}/{node}.json"), bytes));
        Ok(())
    }

    /// Flushes the files to the disk, once for all of them, writes `manifest` where it is not there already, and then says
    /// that all is there: what a power cut spoils is built again.
    pub fn settle(&self, manifest: Option<&[u8]>) -> Result<(), Error> {
        let stamps = std::mem::take(&mut *self.unsettled());
        if !stamps.is_empty() {
            let flush = File::open(&self.folder).and_then(|folder| Ok(rustix::fs::syncfs(folder)?));
            flush.map_err(|fault| Error::io(&self.folder, fault))?;
        }
        let stands =
            |manifest: &[u8]| fs::read(self.folder.join(MANIFEST)).is_ok_and(|bytes| bytes == manifest);
        if let Some(manifest) = manifest.filter(|manifest| !stands(manifest)) {
            self.write_flushed(MANIFEST, manifest)?;
        }
        for (path, bytes) in stamps {
            self.write_private(&path, &bytes)?;
        }
        Ok(())
    }

    fn unsettled(&self) -> MutexGuard<'_, Vec<(String, Vec<u8>)>> {
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stamp_path(&self, node: &str) -> PathBuf {
        self.folder.join(STATE).join(format!("{node}.json"))
    }
}

/// What the images in `folder` were made of, as far as they are as they were made, and the manifest tells of them.
pub fn images(folder: &Path, nodes: &[&str]) -> Present {
    let mut present = Present::default();
    let manifest = fs::read(folder.join(MANIFEST)).ok();
    let Some(manifest) = manifest.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok()) else {
        return present;
    };
    for node in nodes {
        let Ok(bytes) = fs::read(folder.join(STATE).join(format!("{node}.json"))) else { continue };
        let Ok(stamp) = serde_json::from_slice::<Stamp>(&bytes) else { continue };
        let as_made = |(file, was): (&String, &(u64, i64))| {
            manifest["files"][file]["size"] == was.0 && look(&folder.join(file)).is_ok_and(|is| is == *was)
        };
        if stamp.files.iter().all(as_made) {
            present.images.insert((*node).to_owned(), stamp.inputs);
        }
    }
    present
}

fn look(path: &Path) -> io::Result<(u64, i64)> {
    let meta = fs::metadata(path)?;
    Ok((meta.len(), meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec())))
}

/// A file that is being written; it goes away when it is dropped unfinished.
#[derive(Debug)]
pub struct Partial {
    file: File,
    partial: Option<PathBuf>,
    end: PathBuf,
}

impl Partial {
    /// The file.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }
    /// Its final name.
    pub fn end(&self) -> &Path {
        &self.end
    }
    /// Gives the file its final name.
    pub fn finish(mut self) -> Result<PathBuf, Error> {
        if let Some(partial) = self.partial.take() {
            let previous = room::beside(&self.end, room::OLD);
            // ext4 writes a file to the disk before its name takes the place of another (ext4(5),
            // `auto_da_alloc`), which for an image is most of the time that a build takes: so the old one steps
            // aside first. A build that is cut right here is mended by the next one's sweep.
            let aside = fs::rename(&self.end, &previous).is_ok();
            if let Err(error) = fs::rename(&partial, &self.end) {
                let _ = fs::remove_file(&partial);
                if aside {
                    let _ = fs::rename(&previous, &self.end);
                }
                return Err(Error::io(&self.end, error));
            }
            if aside {
                let _ = fs::remove_file(&previous);
            }
        }
        Ok(self.end.clone())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(partial) = self.partial.take() {
            let _ = fs::remove_file(partial);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, Output, images};
    use crate::plan::Inputs;
    use std::io::Write as _;

    #[test]
    fn only_whole_files_get_their_name() {
        let folder = tempfile::tempdir().unwrap();
        let output = Output::open(folder.path(), &["n"]).unwrap();
        drop(output.create("n/disk.img").unwrap());
        assert!(!folder.path().join("n/.kiln-new.disk.img").exists());
        let mut partial = output.create("n/disk.img").unwrap();
        partial.file().write_all(b"x").unwrap();
        assert!(!folder.path().join("n/disk.img").exists());
        partial.finish().unwrap();
        assert_eq!(std::fs::read(folder.path().join("n/disk.img")).unwrap(), b"x");
        assert!(matches!(Output::open(folder.path(), &["n"]), Err(Error::Busy(_))));
    }

    #[test]
    fn an_image_that_was_touched_is_not_present() {
        let folder = tempfile::tempdir().unwrap();
        let output = Output::open(folder.path(), &["n"]).unwrap();
        output.write("n/disk.img", b"x").unwrap();
        let inputs = Inputs::from([("a".to_owned(), "b".to_owned())]);
        output.remember("n", &inputs, &["n/disk.img".to_owned()]).unwrap();
        assert!(images(folder.path(), &["n"]).images.is_empty(), "it is not on the disk yet");
        output.settle(Some(br#"{"files": {"n/disk.img": {"size": 1}}}"#)).unwrap();
        assert_eq!(images(folder.path(), &["n", "m"]).images.get("n"), Some(&inputs));
        let manifest = folder.path().join("manifest.json");
        for lost in ["", "{}", r#"{"files": {"n/disk.img": {"size": 2}}}"#] {
            std::fs::write(&manifest, lost).unwrap();
            assert!(images(folder.path(), &["n"]).images.is_empty(), "the manifest is {lost:?}");
        }
        output.settle(Some(br#"{"files": {"n/disk.img": {"size": 1}}}"#)).unwrap();
        assert_eq!(images(folder.path(), &["n"]).images.get("n"), Some(&inputs));
        std::fs::write(folder.path().join("n/disk.img"), "longer").unwrap();
        assert!(images(folder.path(), &["n"]).images.is_empty());
    }
}
