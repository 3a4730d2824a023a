//! Overlays: layers of packages, kernel modules, units and literal files on top of the base root.
//!
//! An overlay is a folder with `overlay.yaml` ([`Manifest`]) and, below `files/`, the files as they stand in
//! the image. Kiln's own are embedded; a user's own has the same form and is named by its path.

use crate::digest::Sha256;
use kiln_formats::tree::{Entry, Timestamp, Tree};
use serde::Deserialize;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A file of an embedded overlay: path below the overlay's folder, permission bits, bytes.
type Embedded = (&'static str, u16, &'static [u8]);

include!(concat!(env!("OUT_DIR"), "/overlays.rs"));

/// `overlay.yaml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// One line for people.
    pub summary: String,
    /// Debian packages; `@ARCHITECTURE@` stands for Debian's name of the node's architecture.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Kernel modules to load at every boot (modules-load.d(5)).
    #[serde(default)]
    pub modules: Vec<String>,
    /// systemd units to enable, as `systemctl enable` would.
    #[serde(default)]
    pub enable: Vec<String>,
}

/// An overlay, read and ready to be laid over a root.
#[derive(Debug, Clone)]
pub struct Overlay {
    /// Its name: the folder's.
    pub name: String,
    /// What `overlay.yaml` says.
    pub manifest: Manifest,
    /// Its files, owned by root; only the directories that it names or needs.
    pub files: Tree,
    /// Digest of all that it holds: names, modes and bytes.
    pub digest: Sha256,
}

/// Why an overlay was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No embedded overlay has this name.
    #[error("there is no overlay {0:?}; the embedded ones are {known}; a folder of your own is named by its path, as ./{0}", known = names().join(", "))]
    Unknown(String),
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
    /// `overlay.yaml` is missing.
    #[error("overlay {overlay}: {} is missing; it must say at least `summary:`", path.display())]
    NoManifest {
        /// The overlay.
        overlay: String,
        /// Where the file was looked for.
        path: PathBuf,
    },
    /// `overlay.yaml` is not what it should be.
    #[error("overlay {overlay}: overlay.yaml: {reason}")]
    Manifest {
        /// The overlay.
        overlay: String,
        /// The parser's words.
        reason: String,
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

/// The names of the embedded overlays, sorted; `base` is part of every root and not listed.
pub fn names() -> Vec<&'static str> {
    OVERLAYS.iter().map(|(name, _)| *name).filter(|name| *name != "base").collect()
}

/// The embedded overlay of that name.
pub fn embedded(name: &str) -> Result<Overlay, Error> {
    let (_, files) =
        OVERLAYS.iter().find(|(known, _)| *known == name).ok_or_else(|| Error::Unknown(name.to_owned()))?;
    let members = files.iter().map(|(path, mode, bytes)| Member {
        path: (*path).as_bytes().to_vec(),
        mode: *mode,
        what: What::File(bytes.to_vec()),
    });
    assemble(name, members.collect())
}

/// The overlay in a folder of the user.
pub fn from_folder(folder: &Path) -> Result<Overlay, Error> {
    let name = folder.file_name().map_or_else(|| folder.display().to_string(), |n| n.to_string_lossy().into());
    let manifest = folder.join("overlay.yaml");
    if !manifest.is_file() {
        return Err(Error::NoManifest { overlay: name, path: manifest });
    }
    let mut members = Vec::new();
    collect(&name, folder, folder, &mut members)?;
    members.sort_by(|a, b| a.path.cmp(&b.path));
    assemble(&name, members)
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
    let read = |path: &Path, source| Error::Read { overlay: overlay.to_owned(), path: path.to_owned(), source };
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

fn assemble(name: &str, members: Vec<Member>) -> Result<Overlay, Error> {
    let mut files = Tree::new();
    let mut manifest = None;
    let mut seen = Vec::new();
    for Member { path, mode, what } in members {
        let (letter, bytes): (u8, &[u8]) = match &what {
            What::Directory => (b'd', &[]),
            What::File(bytes) => (b'f', bytes),
            What::Symlink(target) => (b'l', target),
        };
        seen.push(letter);
        seen.extend_from_slice(&mode.to_le_bytes());
        seen.extend_from_slice(&(path.len() as u64).to_le_bytes());
        seen.extend_from_slice(&path);
        seen.extend_from_slice(Sha256::of(bytes).as_bytes());
        if path == b"overlay.yaml" {
            manifest = Some(bytes.to_vec());
        } else if let Some(path) = path.strip_prefix(b"files/") {
            let mut entry = match what {
                What::Directory => Entry::directory(),
                What::File(bytes) => Entry::file(bytes),
                What::Symlink(target) => Entry::symlink(&target),
            };
            if !matches!(entry.kind, kiln_formats::tree::Kind::Symlink(_)) {
                entry.meta.mode = mode;
            }
            files.make_parents(path, &Entry::directory());
            files.insert(path, entry);
        }
    }
    let bad = |reason: String| Error::Manifest { overlay: name.to_owned(), reason };
    let manifest = manifest.ok_or_else(|| bad("is missing".into()))?;
    let text = String::from_utf8(manifest).map_err(|e| bad(e.to_string()))?;
    let manifest: Manifest = serde_saphyr::from_str(&text).map_err(|e| bad(e.to_string()))?;
    Ok(Overlay { name: name.to_owned(), manifest, files, digest: Sha256::of(&seen) })
}

impl Overlay {
    /// The packages for one architecture (Debian's name of it).
    pub fn packages(&self, architecture: &str) -> Vec<String> {
        self.manifest.packages.iter().map(|name| name.replace("@ARCHITECTURE@", architecture)).collect()
    }

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
        if !self.manifest.modules.is_empty() {
            let path = format!("usr/lib/modules-load.d/kiln-{}.conf", self.name);
            let text = self.manifest.modules.join("\n") + "\n";
            root.make_parents(&path, &directory);
            root.insert(&path, stamped(&Entry::file(text.into_bytes())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, embedded, from_folder, names};
    use kiln_formats::tree::{Timestamp, Tree};

    #[test]
    fn every_embedded_overlay_reads() {
        for name in names().into_iter().chain(["base"]) {
            let overlay = embedded(name).unwrap();
            assert!(!overlay.manifest.summary.is_empty(), "{name}");
        }
        assert!(embedded("base").unwrap().packages("amd64").contains(&"linux-image-amd64".to_owned()));
        assert!(matches!(embedded("nope"), Err(Error::Unknown(name)) if name == "nope"));
    }

    #[test]
    fn a_folder_of_the_user_has_the_same_form() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("files/etc/x")).unwrap();
        std::fs::write(folder.path().join("files/etc/x/y"), "z").unwrap();
        assert!(matches!(from_folder(folder.path()), Err(Error::NoManifest { .. })));
        std::fs::write(folder.path().join("overlay.yaml"), "summary: s\nmodules: [m]\n").unwrap();
        let overlay = from_folder(folder.path()).unwrap();
        let mut root = Tree::new();
        overlay.lay(&mut root, Timestamp { secs: 7, nanos: 0 });
        assert_eq!(root.get("etc/x/y").unwrap().meta.mtime.secs, 7);
        let conf = format!("usr/lib/modules-load.d/kiln-{}.conf", overlay.name);
        assert!(root.contains(&conf));
        std::fs::write(folder.path().join("overlay.yaml"), "summary: s\nmodule: [m]\n").unwrap();
        assert!(matches!(from_folder(folder.path()), Err(Error::Manifest { .. })));
    }
}
