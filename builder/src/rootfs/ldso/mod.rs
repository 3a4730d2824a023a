//! `etc/ld.so.cache`: where the dynamic loader finds libraries, as ldconfig of glibc 2.41 writes it.
//!
//! Format: glibc, sysdeps/generic/dl-cache.h (`struct cache_file_new`, `struct cache_extension`); order,
//! string table and choice of libraries: elf/cache.c, elf/stringtable.c, elf/ldconfig.c and
//! elf/readelflib.c. Like ldconfig, this makes symbolic links named by soname where they are missing or
//! lead to another library. It leaves dangling links alone, and libraries of another machine or of 32 bits
//! are not listed.
//!
//! Runs after alternatives are set: a library may be one.

mod cache;
mod elf;
#[cfg(test)]
mod tests;

use cache::{Library, compare};
use elf::Facts;
use kiln_formats::elf::{AARCH64, X86_64};
use kiln_formats::path::{children, directory, file};
use kiln_formats::tree::{Entry, Kind, Timestamp, Tree};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, btree_map};

const CACHE: &str = "etc/ld.so.cache";
const CONFIG: &str = "etc/ld.so.conf";
/// What makes the cache in a root that has a dynamic loader at all: its machine and its release count.
const LDCONFIG: &str = "usr/sbin/ldconfig";
/// Searched after the configured ones. Debian's ldconfig does not look into `/lib64`, as upstream's does.
const STANDARD: [&str; 2] = ["/lib", "/usr/lib"];
const HWCAPS: &str = "glibc-hwcaps";

/// Why the cache can't be made.
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
    /// The root's ldconfig is for a machine that Kiln makes no images of, or names no release.
    #[error("{LDCONFIG} is no program of glibc for amd64 or arm64")]
    Ldconfig,
    /// Configuration files include each other, or far too many.
    #[error("{CONFIG} includes more than a thousand files; does one include itself?")]
    Includes,
    /// More or longer names than the format's 32 bits can count.
    #[error("the libraries do not fit into {CACHE}")]
    Size,
}

/// Writes the cache of a root that has ldconfig, dated `time` (as are new links).
pub fn run(tree: &mut Tree, time: Timestamp) -> Result<(), Error> {
    let Some((_, content)) = file(tree, LDCONFIG.as_bytes()) else { return Ok(()) };
    let ldconfig = content.read().map_err(|source| read_error(LDCONFIG.as_bytes(), source))?;
    let object =
        kiln_formats::elf::read(content).map_err(|source| read_error(LDCONFIG.as_bytes(), source))?;
    let machine = object.map(|object| object.machine).filter(|it| [X86_64, AARCH64].contains(it));
    let machine = machine.ok_or(Error::Ldconfig)?;
    let generator = elf::generator(&ldconfig).ok_or(Error::Ldconfig)?.to_vec();
    let mut links = Vec::new();
    let mut libraries = Vec::new();
    let folders = folders(tree)?;
    for folder in &folders {
        libraries.extend(search(tree, folder, machine, &mut links)?);
    }
    // Stable: of equal entries the folder that is searched first stays first.
    libraries.sort_by(cache::order);
    let bytes = cache::bytes(&libraries, &folders, &generator).ok_or(Error::Size)?;
    for (path, target) in links {
        let mut link = Entry::symlink(&target);
        link.meta.mtime = time;
        tree.insert(&path, link);
    }
    let mut entry = Entry::file(bytes);
    entry.meta.mtime = time;
    tree.insert(CACHE, entry);
    Ok(())
}

/// A folder to search.
struct Folder {
    /// As configured, which is how the cache names it.
    path: Vec<u8>,
    /// Where it is.
    real: Vec<u8>,
    /// The name below `glibc-hwcaps`.
    hwcaps: Option<Vec<u8>>,
}

/// The folders of the configuration, then the standard ones, each followed by its `glibc-hwcaps`.
fn folders(tree: &Tree) -> Result<Vec<Folder>, Error> {
    let mut lines = Vec::new();
    configured(tree, CONFIG.as_bytes(), &mut lines, &mut 0)?;
    lines.extend(STANDARD.iter().map(|path| path.as_bytes().to_vec()));
    let mut folders = Vec::new();
    let mut seen = BTreeSet::new();
    for line in lines {
        let path = line.trim_ascii_end();
        let path = path.iter().rposition(|byte| *byte != b'/').map_or(&path[..0], |last| &path[..=last]);
        let Some(real) = directory(tree, path).filter(|_| !path.is_empty()) else { continue };
        if !seen.insert(real.clone()) {
            continue;
        }
        let below = [&real, "/".as_bytes(), HWCAPS.as_bytes()].concat();
        folders.push(Folder { path: path.to_vec(), real, hwcaps: None });
        for (name, _) in children(tree, &directory(tree, &below).unwrap_or_default()) {
            let Some(real) = directory(tree, &[&below, "/".as_bytes(), name].concat()) else { continue };
            if !name.starts_with(b".") && !name.contains(&b':') && seen.insert(real.clone()) {
                let path = [path, b"/", HWCAPS.as_bytes(), b"/", name].concat();
                folders.push(Folder { path, real, hwcaps: Some(name.to_vec()) });
            }
        }
    }
    Ok(folders)
}

/// Appends the folders that a configuration file and those it includes name.
fn configured(tree: &Tree, path: &[u8], lines: &mut Vec<Vec<u8>>, files: &mut usize) -> Result<(), Error> {
    *files += 1;
    if *files > 1000 {
        return Err(Error::Includes);
    }
    let Some((_, content)) = file(tree, path) else { return Ok(()) };
    let text = content.read().map_err(|source| read_error(path, source))?;
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or(line).trim_ascii_start();
        let Some(patterns) =
            line.strip_prefix(b"include").filter(|rest| rest.starts_with(b" ") || rest.starts_with(b"\t"))
        else {
            if !line.is_empty() && !line.get(..6).is_some_and(|word| word.eq_ignore_ascii_case(b"hwcap ")) {
                lines.push(line.to_vec());
            }
            continue;
        };
        for pattern in patterns.split(u8::is_ascii_whitespace).filter(|pattern| !pattern.is_empty()) {
            let (folder, pattern) = match pattern.iter().rposition(|byte| *byte == b'/') {
                Some(at) if pattern.starts_with(b"/") => (pattern[1..at.max(1)].to_vec(), &pattern[at + 1..]),
                at => {
                    let own =
                        path.iter().rposition(|byte| *byte == b'/').map_or(&path[..0], |at| &path[..=at]);
                    let at = at.map_or(0, |at| at + 1);
                    ([own, &pattern[..at]].concat(), &pattern[at..])
                }
            };
            let Some(folder) = directory(tree, &folder) else { continue };
            for (name, _) in children(tree, &folder).filter(|(name, _)| matches(pattern, name)) {
                configured(tree, &[&folder, "/".as_bytes(), name].concat(), lines, files)?;
            }
        }
    }
    Ok(())
}

/// glob(7) with `*` and `?`; a leading dot must be spelled out.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    fn rest(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.first(), name.first()) {
            (None, None) => true,
            (Some(b'*'), _) => (0..=name.len()).any(|at| rest(&pattern[1..], &name[at..])),
            (Some(b'?'), Some(_)) => rest(&pattern[1..], &name[1..]),
            (Some(a), Some(b)) if a == b => rest(&pattern[1..], &name[1..]),
            _ => false,
        }
    }
    (!name.starts_with(b".") || pattern.starts_with(b".")) && rest(pattern, name)
}

/// The library that stands for a soname in one folder.
struct Candidate {
    name: Vec<u8>,
    real: Vec<u8>,
    is_link: bool,
    facts: Facts,
}

/// The libraries of one folder; `links` gets the symbolic links that it lacks.
fn search(
    tree: &Tree,
    folder: &Folder,
    machine: u16,
    links: &mut Vec<(Vec<u8>, Vec<u8>)>,
) -> Result<Vec<Library>, Error> {
    let mut found: BTreeMap<Vec<u8>, Candidate> = BTreeMap::new();
    for (name, entry) in children(tree, &folder.real) {
        let mut is_link = matches!(entry.kind, Kind::Symlink(_));
        if !(is_library(name) || (is_link && folder.hwcaps.is_some())) || is_temporary(name) {
            continue;
        }
        let path = [&folder.real, "/".as_bytes(), name].concat();
        let Some((real, content)) = file(tree, &path) else { continue };
        let Some(facts) = elf::facts(content, machine).map_err(|source| read_error(&path, source))? else {
            continue;
        };
        let own = facts.soname.clone().unwrap_or_else(|| name.to_vec());
        // A link is one for the compiler (libx.so for libx.so.1), one by soname, or as good as a file.
        is_link &= own == name || (name.ends_with(b".so") && own.starts_with(name));
        let soname = if is_link { name.to_vec() } else { own };
        let candidate = Candidate { name: name.to_vec(), real, is_link, facts };
        match found.entry(soname) {
            btree_map::Entry::Vacant(slot) => drop(slot.insert(candidate)),
            btree_map::Entry::Occupied(mut slot) => {
                let old = slot.get();
                let newer = compare(&old.name, name) == Ordering::Less;
                if (!is_link && old.is_link) || (is_link == old.is_link && newer) {
                    slot.insert(candidate);
                }
            }
        }
    }
    let mut libraries = Vec::new();
    for (soname, candidate) in found {
        let name = if folder.hwcaps.is_some() { &candidate.name } else { &soname };
        let path = [&folder.path, "/".as_bytes(), name].concat();
        let link = [&folder.real, "/".as_bytes(), name].concat();
        let taken = tree.get(&link).is_some_and(|entry| !matches!(entry.kind, Kind::Symlink(_)));
        let right = file(tree, &link).is_some_and(|(real, _)| real == candidate.real);
        // Debian's ldconfig never touches the loader's own name.
        if folder.hwcaps.is_none() && !candidate.is_link && !taken && !right && !soname.starts_with(b"ld-") {
            links.push((link, candidate.name));
        }
        let Facts { flags, isa_level, .. } = candidate.facts;
        libraries.push(Library { soname, path, flags, isa_level, hwcaps: folder.hwcaps.clone() });
    }
    Ok(libraries)
}

/// glibc's elf/dl-is_dso.h.
fn is_library(name: &[u8]) -> bool {
    let has_so = name.windows(3).any(|part| part == b".so");
    ((name.starts_with(b"lib") || name.starts_with(b"ld-")) && has_so)
        || name.starts_with(b"ld.so.")
        || name.starts_with(b"ld64.so.")
}

fn is_temporary(name: &[u8]) -> bool {
    name.contains(&b';')
        || name.ends_with(b".dpkg-new")
        || name.ends_with(b".dpkg-tmp")
        || name.ends_with(b".#prelink#")
}

fn read_error(path: &[u8], source: std::io::Error) -> Error {
    Error::Read { path: String::from_utf8_lossy(path).into_owned(), source }
}
