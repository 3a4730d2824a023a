//! Artefacts: from addresses to digests, from digests to files in the cache, from there into a root.

mod locking;
mod member;
mod sums;

pub use locking::{Locked, Origin, Request, lock};

use crate::cache::{self, Cache};
use crate::digest::Sha256;
use crate::fetch::Progress;
use crate::fetch::artefacts::Places;
use crate::fetch::download::{self, Fetcher, Wanted};
use crate::fetch::http::Patience;
use crate::lock::{self, NotAUrl, Url};
use crate::plan::Artefact;
use kiln_formats::tree::{Content, Entry, Kind, Timestamp, Tree};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Where archives of container images lie in a root: `/usr/lib/kiln/k3s-images` links to them.
const IMAGES: &str = "usr/share/kiln/images/";

/// Why an artefact is not locked, not fetched or not in a root.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be had.
    #[error(
        "{0}; `artefacts` in the cluster file and KILN_ARTEFACTS name folders and mirrors that have such files"
    )]
    Download(#[from] download::Error),
    /// The cache.
    #[error(transparent)]
    Cache(#[from] cache::Error),
    /// A file that a folder has can't be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// An address of the lock.
    #[error("the lock has no sound address for the artefact {name}: {reason}; run `kiln lock`")]
    Address {
        /// The artefact.
        name: String,
        /// What is wrong with it.
        reason: NotAUrl,
    },
    /// It is not in the cache any more.
    #[error("the artefact {name} is not in the cache any more: build again")]
    Gone {
        /// The artefact.
        name: String,
    },
    /// The archive that it is can't be read.
    #[error("the artefact {name} cannot be unpacked: {source}")]
    Archive {
        /// The artefact.
        name: String,
        /// What is wrong.
        source: io::Error,
    },
    /// The archive has no such member, or it is no file.
    #[error("the artefact {name} has no file {member} in it; {}", if near.is_empty() {
        "it has no files at all".to_owned()
    } else {
        format!("what it has is called {}", near.join(", "))
    })]
    NoMember {
        /// The artefact.
        name: String,
        /// The path that was asked for.
        member: String,
        /// Paths of files in it, the most similar first.
        near: Vec<String>,
    },
    /// Something else is in its place.
    #[error("the artefact {name} cannot be {path} in the image: /{taken} is {what} there")]
    Taken {
        /// The artefact.
        name: String,
        /// Where it was to be.
        path: String,
        /// What is in the way.
        taken: String,
        /// What that is.
        what: &'static str,
    },
}

/// Fetches what is not in the cache yet.
pub fn fetch(
    artefacts: &[Artefact],
    places: &Places,
    cache: &Cache,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let mut wanted: BTreeMap<Sha256, Wanted> = BTreeMap::new();
    for Artefact { locked, .. } in artefacts {
        let url =
            Url::parse(&locked.url).map_err(|reason| Error::Address { name: locked.name.clone(), reason })?;
        wanted.entry(locked.sha256).or_insert_with(|| Wanted {
            name: label(&locked.name, &locked.architecture),
            from: places.locations(url),
            size: Some(locked.size),
            sha256: locked.sha256,
        });
    }
    let wanted: Vec<Wanted> = wanted.into_values().collect();
    Fetcher::new(cache, progress, Patience::default()).files(&wanted)?;
    Ok(())
}

/// What an artefact is called in messages.
fn label(name: &str, architecture: &str) -> String {
    format!("the artefact {name} ({architecture})")
}

/// What placing needs beside the artefact.
#[derive(Debug, Clone, Copy)]
pub struct Placing<'a> {
    /// Where its bytes are.
    pub cache: &'a Cache,
    /// The time that it gets.
    pub time: Timestamp,
    /// Archives are unpacked again even where the cache has what was unpacked.
    pub fresh: bool,
}

/// Puts an artefact of the cache into a root. Its bytes stay where they are until the file system is written.
pub fn place(tree: &mut Tree, artefact: &Artefact, placing: &Placing<'_>) -> Result<(), Error> {
    let Artefact { path, member, mode, locked } = artefact;
    let lock::Artefact { name, sha256, size, .. } = locked;
    let gone = || Error::Gone { name: name.clone() };
    let file = placing.cache.get(sha256, Some(*size))?.ok_or_else(gone)?;
    let (source, len) = match member {
        None => {
            let opened = File::open(&file).map_err(|fault| cache::Error::io("read", &file, fault))?;
            (opened, *size)
        }
        Some(member) => member::unpacked((locked, member), &file, placing)?,
    };
    let inner = path.trim_start_matches('/');
    free(tree, inner, artefact)?;
    let mut directory = Entry::directory();
    directory.meta.mtime = placing.time;
    let content = Content::Extern { source: Arc::new(source), offset: 0, len };
    let mut entry = Entry::new(Kind::File(content), *mode);
    entry.meta.mtime = placing.time;
    tree.make_parents(inner, &directory);
    tree.insert(inner, entry);
    if let (None, Some(image)) = (member, inner.strip_prefix(IMAGES)) {
        // The node tells by it whether k3s has imported these very images.
        let mut digest = Entry::new(Kind::File(Content::bytes(format!("{sha256}\n").into_bytes())), 0o644);
        digest.meta.mtime = placing.time;
        tree.insert(&format!("{IMAGES}.{image}.sha256"), digest);
    }
    Ok(())
}

/// A file takes the place of a file and of a link; a folder with what is in it is in the way, and so is whatever else
/// stands where a folder is wanted: Debian's /bin and /lib are links.
fn free(tree: &Tree, inner: &str, artefact: &Artefact) -> Result<(), Error> {
    let taken = |taken: &str, what| Error::Taken {
        name: artefact.locked.name.clone(),
        path: artefact.path.clone(),
        taken: taken.to_owned(),
        what,
    };
    for (at, _) in inner.match_indices('/') {
        match tree.get(&inner[..at]).map(|entry| &entry.kind) {
            None | Some(Kind::Directory) => {}
            Some(Kind::Symlink(_)) => return Err(taken(&inner[..at], "a symbolic link")),
            Some(_) => return Err(taken(&inner[..at], "no folder")),
        }
    }
    match tree.get(inner).map(|entry| &entry.kind) {
        Some(Kind::Directory) => Err(taken(inner, "a folder")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
