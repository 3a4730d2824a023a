//! Overlays: layers of packages, kernel modules, units and literal files on top of the base root.
//!
//! An overlay is a folder with `overlay.yaml` (read in `cluster`) and, below `files/`, the files as they stand in
//! the image. Kiln's own are embedded; a user's own has the same form and is named by its path.

use crate::cluster;
use crate::digest::Sha256;
use kiln_formats::tree::{Entry, Timestamp, Tree};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A file of an embedded overlay: path below the overlay's folder, permission bits, bytes.
type Embedded = (&'static str, u16, &'static [u8]);

include!(concat!(env!("OUT_DIR"), "/overlays.rs"));

/// An overlay, read and ready to be laid over a root.
#[derive(Debug, Clone)]
pub struct Overlay {
    /// Its name: the folder's.
    pub name: String,
    /// Kernel modules to load at every boot.
    modules: Vec<String>,
    /// Its files, owned by root; only the directories that it names or needs.
    pub files: Tree,
    /// Digest of what it brings to an image: modules, and names, modes and bytes of its files.
    pub digest: Sha256,
    /// Its other files by their path in its folder: templates, among others.
    pub others: BTreeMap<String, Vec<u8>>,
}

/// Why an overlay was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the overlay can't be read.
    #[error("overlay {overlay}: cannot read {}: {source}", path.display())]
    Read {
        /// The overlay.
        overlay: String,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A thing that an overlay can't carry.
    #[error("overlay {overlay}: {} is neither a file, a folder nor a symbolic link", path.display())]
    Kind {
        /// The overlay.
        overlay: String,
        /// The thing.
        path: PathBuf,
    },
}

/// The files of an overlay: the embedded ones of its name, or those of its folder.
pub fn read(overlay: &cluster::Overlay) -> Result<Overlay, Error> {
    let mut members = Vec::new();
    if let Some(folder) = &overlay.folder {
        collect(&overlay.name, folder, folder, &mut members)?;
        members.sort_by(|a, b| a.path.cmp(&b.path));
    } else if let Some((_, files)) = OVERLAYS.iter().find(|(known, _)| *known == overlay.name) {
        members.extend(files.iter().map(|(path, mode, bytes)| Member {
            path: (*path).as_bytes().to_vec(),
            mode: *mode,
            what: What::File(bytes.to_vec()),
        }));
    }
    Ok(assemble(overlay, members))
}

enum What {
    Directory,
    File(Vec<u8>),
    Symlink(Vec<u8>),
}

struct Member {
    path: Vec<u8>,
    mode: u16,
    what: What,
}

fn collect(overlay: &str, top: &Path, folder: &Path, members: &mut Vec<Member>) -> Result<(), Error> {
    let read =
        |path: &Path, source| Error::Read { overlay: overlay.to_owned(), path: path.to_owned(), source };
    for entry in fs::read_dir(folder).map_err(|e| read(folder, e))? {
        let path = entry.map_err(|e| read(folder, e))?.path();
        let meta = fs::symlink_metadata(&path).map_err(|e| read(&path, e))?;
        let name = path.strip_prefix(top).unwrap_or(&path).as_os_str().as_encoded_bytes().to_vec();
        let kind = meta.file_type();
        let what = if kind.is_dir() {
            collect(overlay, top, &path, members)?;
            What::Directory
        } else if kind.is_file() {
            What::File(fs::read(&path).map_err(|e| read(&path, e))?)
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).map_err(|e| read(&path, e))?;
            What::Symlink(target.into_os_string().into_encoded_bytes())
        } else {
            return Err(Error::Kind { overlay: overlay.to_owned(), path });
        };
        // Only the executable bit is the author's; the rest of the mode is his umask's.
        let mode = if kind.is_dir() || meta.permissions().mode() & 0o100 != 0 { 0o755 } else { 0o644 };
        members.push(Member { path: name, mode, what });
    }
    Ok(())
}

fn assemble(overlay: &cluster::Overlay, members: Vec<Member>) -> Overlay {
    let mut files = Tree::new();
    let mut others = BTreeMap::new();
    let modules: Vec<String> = overlay.modules.iter().cloned().collect();
    let mut seen = modules.join("\n").into_bytes();
    for Member { path, mode, what } in members {
        let Some(inner) = path.strip_prefix(b"files/") else {
            if let What::File(bytes) = what {
                others.insert(String::from_utf8_lossy(&path).into_owned(), bytes);
            }
            continue;
        };
        let (letter, bytes): (u8, &[u8]) = match &what {
            What::Directory => (b'd', &[]),
            What::File(bytes) => (b'f', bytes),
            What::Symlink(target) => (b'l', target),
        };
        seen.push(letter);
        seen.extend_from_slice(&mode.to_le_bytes());
        seen.extend_from_slice(&(inner.len() as u64).to_le_bytes());
        seen.extend_from_slice(inner);
        seen.extend_from_slice(Sha256::of(bytes).as_bytes());
        let mut entry = match what {
            What::Directory => Entry::directory(),
            What::File(bytes) => Entry::file(bytes),
            What::Symlink(target) => Entry::symlink(&target),
        };
        if !matches!(entry.kind, kiln_formats::tree::Kind::Symlink(_)) {
            entry.meta.mode = mode;
        }
        files.make_parents(inner, &Entry::directory());
        files.insert(inner, entry);
    }
    Overlay { name: overlay.name.clone(), modules, files, digest: Sha256::of(&seen), others }
}

impl Overlay {
    /// Lays the files (and the modules-load.d entry) over `root`; all of it gets `time`.
    pub fn lay(&self, root: &mut Tree, time: Timestamp) {
        let stamped = |entry: &Entry| {
            let mut entry = entry.clone();
            entry.meta.mtime = time;
            entry
        };
        let directory = stamped(&Entry::directory());
        for (path, entry) in self.files.iter() {
            let merge = matches!(entry.kind, kiln_formats::tree::Kind::Directory) && root.contains(path);
            if !merge {
                root.make_parents(path, &directory);
                root.insert(path, stamped(entry));
            }
        }
        if !self.modules.is_empty() {
            let path = format!("usr/lib/modules-load.d/kiln-{}.conf", self.name);
            let text = self.modules.join("\n") + "\n";
            root.make_parents(&path, &directory);
            root.insert(&path, stamped(&Entry::file(text.into_bytes())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::read;
    use crate::cluster::Overlay;
    use kiln_formats::tree::{Timestamp, Tree};
    use std::path::Path;

    fn overlay(name: &str, folder: Option<&Path>) -> Overlay {
        Overlay { folder: folder.map(Path::to_owned), modules: ["m".into()].into(), ..Overlay::new(name) }
    }

    #[test]
    fn an_embedded_overlay_has_its_files() {
        let base = read(&overlay("base", None)).unwrap();
        assert!(base.files.contains("usr/lib/systemd/system/kiln-report.service"));
    }

    #[test]
    fn a_folder_of_the_user_has_the_same_form() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("files/etc/x")).unwrap();
        std::fs::write(folder.path().join("files/etc/x/y"), "z").unwrap();
        let before = read(&overlay("mine", Some(folder.path()))).unwrap();
        let mut root = Tree::new();
        before.lay(&mut root, Timestamp { secs: 7, nanos: 0 });
        assert_eq!(root.get("etc/x/y").unwrap().meta.mtime.secs, 7);
        assert!(root.contains("usr/lib/modules-load.d/kiln-mine.conf"));
        std::fs::write(folder.path().join("files/etc/x/y"), "other").unwrap();
        assert_ne!(before.digest, read(&overlay("mine", Some(folder.path()))).unwrap().digest);
    }
}
