//! The indices of kernel modules: what `depmod <release>` of kmod 34 (Debian trixie) makes in
//! `usr/lib/modules/<release>`, byte for byte.
//!
//! Two steps, because the first is dear and depends on the kernel packages only: [`analyse`] unpacks every
//! module and notes the names in it, [`write`] makes the files from those notes. Behaviour follows kmod's
//! tools/depmod.c; where that warns and goes on with a damaged module, this fails and names it. Modules
//! that are symbolic links are not followed (Debian ships none), nor is `external` of depmod.d(5).

mod config;
mod elf;
mod graph;
mod index;
mod output;
mod unpack;

#[cfg(test)]
mod tests;

pub use elf::Malformed;
pub use index::Unfit;

use kiln_formats::tree::{Content, Entry, Kind, Timestamp, Tree};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

const MODULES: &str = "usr/lib/modules";

/// Why the indices can't be made. Paths are those of the tree.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read from where its package lies.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A compressed module can't be unpacked.
    #[error("cannot unpack the kernel module {path}; is its package damaged?")]
    Unpack {
        /// The module.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A module is no module.
    #[error("{path} is no kernel module: {source}")]
    Module {
        /// The module.
        path: String,
        /// Why.
        source: Malformed,
    },
    /// A name does not fit the format of an index.
    #[error("cannot index {path}: {source}")]
    Index {
        /// The module, or the index when no single module is to blame.
        path: String,
        /// Why.
        source: Unfit,
    },
    /// A line of depmod.d(5) that would change the outcome in a way that is not implemented.
    #[error("{path}, line {line}: '{text}' is not understood; take the line out or the file away")]
    Config {
        /// The file.
        path: String,
        /// Its line, from 1.
        line: usize,
        /// What it says.
        text: String,
    },
    /// Modules need each other in a circle, so none can be loaded first.
    #[error("kernel modules of {release} depend on each other in a circle: {}", modules.join(", "))]
    Cycle {
        /// The kernel release.
        release: String,
        /// Names of all that lie on a circle or behind one.
        modules: Vec<String>,
    },
    /// A path is not UTF-8, so no index can name it.
    #[error("{0} is not UTF-8")]
    Path(String),
    /// A thread that unpacked modules died.
    #[error("a thread that read kernel modules stopped early: this is a bug of the builder")]
    Thread,
}

/// What the modules of a tree say about themselves. Depends on their bytes and paths alone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Facts {
    /// By path in the tree.
    pub modules: BTreeMap<String, Module>,
}

/// What one module says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Module {
    /// Symbols it offers.
    pub exports: Vec<String>,
    /// Symbols it wants of other modules of these facts (those of the kernel itself are left out).
    pub needs: Vec<String>,
    /// `alias=` of its `.modinfo`, in order; so are the next two.
    pub aliases: Vec<String>,
    /// `softdep=`.
    pub softdeps: Vec<String>,
    /// `weakdep=`.
    pub weakdeps: Vec<String>,
}

/// Makes the indices of every kernel release in the tree, dated `time`.
pub fn run(tree: &mut Tree, time: Timestamp) -> Result<(), Error> {
    let facts = analyse(tree, std::thread::available_parallelism().map_or(1, usize::from))?;
    write(tree, &facts, time)
}

/// Unpacks every module on `threads` threads; the outcome does not depend on how many there are.
pub fn analyse(tree: &Tree, threads: usize) -> Result<Facts, Error> {
    let files = module_files(tree)?;
    let threads = threads.min(files.len());
    // The largest first, so that no thread is left alone with it at the end.
    let mut order: Vec<usize> = (0..files.len()).collect();
    order.sort_by_key(|at| Reverse(files[*at].1.len()));
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(files.len()));
    let work = || {
        let mut unpacker = unpack::Unpacker::default();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(at) = order.get(at).copied() else { return };
            let (path, content) = files[at];
            let module = read(path, content, &mut unpacker);
            if let Ok(mut done) = done.lock() {
                done.push((at, module));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    let mut done = done.into_inner().map_err(|_| Error::Thread)?;
    // The first error by path, not the first by time.
    done.sort_by_key(|(at, _)| *at);
    let mut modules = BTreeMap::new();
    for (at, module) in done {
        modules.insert(files[at].0.to_owned(), module?);
    }
    forget_kernel_symbols(&mut modules);
    Ok(Facts { modules })
}

/// Writes the indices of every release that is a directory of `usr/lib/modules`.
pub fn write(tree: &mut Tree, facts: &Facts, time: Timestamp) -> Result<(), Error> {
    for release in releases(tree)? {
        for (name, bytes) in output::files(tree, facts, &release)? {
            let mut entry = Entry::file(bytes);
            entry.meta.mtime = time;
            tree.insert(&format!("{MODULES}/{release}/{name}"), entry);
        }
    }
    Ok(())
}

fn releases(tree: &Tree) -> Result<BTreeSet<String>, Error> {
    let mut releases = BTreeSet::new();
    for (path, entry) in tree.below(MODULES) {
        let name = &path[MODULES.len() + 1..];
        if matches!(entry.kind, Kind::Directory) && !name.contains(&b'/') {
            releases.insert(utf8(name)?.to_owned());
        }
    }
    Ok(releases)
}

fn module_files(tree: &Tree) -> Result<Vec<(&str, &Content)>, Error> {
    let mut files = Vec::new();
    for (path, entry) in tree.below(MODULES) {
        if !unpack::is_module(path) {
            continue;
        }
        let content = match &entry.kind {
            Kind::File(content) => content,
            Kind::HardLink(target) => match tree.get(target).map(|entry| &entry.kind) {
                Some(Kind::File(content)) => content,
                _ => continue,
            },
            _ => continue,
        };
        files.push((utf8(path)?, content));
    }
    Ok(files)
}

fn read(path: &str, content: &Content, unpacker: &mut unpack::Unpacker) -> Result<Module, Error> {
    let packed = content.read().map_err(|source| Error::Read { path: path.into(), source })?;
    let bytes =
        unpacker.unpack(path, &packed).map_err(|source| Error::Unpack { path: path.into(), source })?;
    let names = elf::read(bytes).map_err(|source| Error::Module { path: path.into(), source })?;
    let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => Ok(text.to_owned()),
        _ => {
            let source = Unfit::Character(String::from_utf8_lossy(bytes).into_owned());
            Err(Error::Index { path: path.into(), source })
        }
    };
    let values = |wanted: &[u8]| -> Result<Vec<String>, Error> {
        names.info.iter().filter(|(key, _)| *key == wanted).map(|(_, value)| text(value)).collect()
    };
    Ok(Module {
        exports: names.exports.iter().map(|name| text(name)).collect::<Result<_, _>>()?,
        // PowerPC's `.name` is `name`; what is not ASCII is nobody's export.
        needs: names
            .needs
            .iter()
            .filter_map(|name| text(name.strip_prefix(b".").unwrap_or(name)).ok())
            .collect(),
        aliases: values(b"alias")?,
        softdeps: values(b"softdep")?,
        weakdeps: values(b"weakdep")?,
    })
}

/// Nine in ten symbols are the kernel's own and say nothing about the order of modules.
fn forget_kernel_symbols(modules: &mut BTreeMap<String, Module>) {
    let exports: HashSet<String> =
        modules.values().flat_map(|module| module.exports.iter().cloned()).collect();
    for module in modules.values_mut() {
        module.needs.retain(|name| exports.contains(name));
    }
}

fn utf8(path: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(path).map_err(|_| Error::Path(String::from_utf8_lossy(path).into_owned()))
}
