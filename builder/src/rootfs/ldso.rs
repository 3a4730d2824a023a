//! `etc/ld.so.cache`: where the dynamic loader finds libraries, as ldconfig of glibc 2.41 writes it.
//!
//! Format: glibc, sysdeps/generic/dl-cache.h (`struct cache_file_new`, `struct cache_extension`); order,
//! string table and choice of libraries: elf/cache.c, elf/stringtable.c, elf/ldconfig.c and
//! elf/readelflib.c. Like ldconfig, this makes symbolic links named by soname where they are missing or
//! lead to another library. It leaves dangling links alone, and libraries of another machine or of 32 bits
//! are not listed.
//!
//! Runs after alternatives are set: a library may be one.

use kiln_formats::tree::{Content, Entry, Kind, Timestamp, Tree};
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, btree_map};

const CACHE: &str = "etc/ld.so.cache";
const CONFIG: &str = "etc/ld.so.conf";
/// What makes the cache in a root that has a dynamic loader at all: its machine and its release count.
const LDCONFIG: &str = "usr/sbin/ldconfig";
/// Searched after the configured ones. Debian's ldconfig does not look into `/lib64`, as upstream's does.
const STANDARD: [&str; 2] = ["/lib", "/usr/lib"];
const HWCAPS: &str = "glibc-hwcaps";
const HEADER: usize = 48;
const ENTRY: usize = 24;
const EXTENSION_MAGIC: i32 = -358_342_284;
const HWCAP_EXTENSION: u64 = 1 << 62;
const X86_64: u16 = 62;
const AARCH64: u16 = 183;

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
    let machine = elf_u16(&ldconfig, 18).filter(|machine| [X86_64, AARCH64].contains(machine));
    let machine = machine.ok_or(Error::Ldconfig)?;
    let generator = generator(&ldconfig).ok_or(Error::Ldconfig)?.to_vec();
    let mut links = Vec::new();
    let mut libraries = Vec::new();
    let folders = folders(tree)?;
    for folder in &folders {
        libraries.extend(search(tree, folder, machine, &mut links)?);
    }
    // Stable: of equal entries the folder that is searched first stays first.
    libraries.sort_by(order);
    let bytes = bytes(&libraries, &folders, &generator).ok_or(Error::Size)?;
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

/// A line of the cache.
struct Library {
    soname: Vec<u8>,
    path: Vec<u8>,
    flags: u32,
    isa_level: u32,
    hwcaps: Option<Vec<u8>>,
}

fn order(a: &Library, b: &Library) -> Ordering {
    let unlisted = |library: &Library| library.hwcaps.is_none();
    compare(&b.soname, &a.soname)
        .then(b.flags.cmp(&a.flags))
        .then(unlisted(a).cmp(&unlisted(b)))
        .then_with(|| a.hwcaps.cmp(&b.hwcaps))
}

/// `_dl_cache_libcmp` of glibc's elf/dl-cache.c: runs of digits by their value, digits after all else.
fn compare(mut a: &[u8], mut b: &[u8]) -> Ordering {
    let number = |text: &mut &[u8]| {
        let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
        let (digits, rest) = text.split_at(end);
        *text = rest;
        digits.iter().fold(0_i32, |value, digit| value.wrapping_mul(10).wrapping_add(i32::from(digit - b'0')))
    };
    while let Some(first) = a.first() {
        let digits = (first.is_ascii_digit(), b.first().is_some_and(u8::is_ascii_digit));
        let ordering = match digits {
            (true, true) => number(&mut a).cmp(&number(&mut b)),
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => {
                let ordering = Some(first).cmp(&b.first());
                (a, b) = (&a[1..], b.get(1..).unwrap_or_default());
                ordering
            }
        };
        if ordering != Ordering::Equal {
            return ordering;
        }
    }
    a.len().cmp(&b.len())
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
        let Some(facts) = facts(content, machine).map_err(|source| read_error(&path, source))? else {
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

/// What the cache wants of a library.
struct Facts {
    soname: Option<Vec<u8>>,
    flags: u32,
    isa_level: u32,
}

/// Reads a shared object of `machine`; none for any other file (System V gABI, "Program Header" and
/// "Dynamic Section").
fn facts(content: &Content, machine: u16) -> std::io::Result<Option<Facts>> {
    if content.len() < 64 {
        return Ok(None);
    }
    let header = part(content, 0, 64)?;
    let shared = header.starts_with(b"\x7fELF\x02\x01") && elf_u16(&header, 16) == Some(3);
    if !shared || elf_u16(&header, 18) != Some(machine) {
        return Ok(None);
    }
    let count = usize::from(elf_u16(&header, 56).unwrap_or_default());
    let segments = part(content, word(&header, 32), count * 56)?;
    let segments: Vec<_> = segments.chunks_exact(56).collect();
    let mut isa_level = 0;
    let mut dynamic = Vec::new();
    for segment in &segments {
        let size = usize::try_from(word(segment, 32)).unwrap_or(usize::MAX);
        match kind(segment) {
            2 => dynamic = part(content, word(segment, 8), size)?,
            0x6474_e553 if machine == X86_64 && word(segment, 48) == 8 => {
                isa_level = x86_level(&part(content, word(segment, 8), size)?);
            }
            _ => {}
        }
    }
    let entry = |tag: u64| {
        let mut entries = dynamic.chunks_exact(16).take_while(|entry| word(entry, 0) != 0);
        entries.find(|entry| word(entry, 0) == tag).map(|entry| word(entry, 8))
    };
    let Some(strings) = entry(5) else { return Ok(None) };
    let inside = |segment: &&&[u8]| {
        kind(segment) == 1 && strings.checked_sub(word(segment, 16)).is_some_and(|at| at < word(segment, 32))
    };
    let load = segments.iter().find(inside);
    let strings =
        load.map_or(strings, |load| strings.wrapping_sub(word(load, 16)).wrapping_add(word(load, 8)));
    let soname = match entry(14) {
        Some(at) => {
            let bytes = part(content, strings.saturating_add(at), 4096)?;
            Some(bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec())
        }
        None => None,
    };
    // glibc's sysdeps/generic/ldconfig.h: FLAG_ELF_LIBC6 with FLAG_X8664_LIB64 or FLAG_AARCH64_LIB64.
    let flags = if machine == X86_64 { 0x0303 } else { 0x0a03 };
    let usable = |name: &Vec<u8>| !name.is_empty() && !name.contains(&b'/');
    Ok(soname.as_ref().is_none_or(usable).then_some(Facts { soname, flags, isa_level }))
}

/// The highest bit of GNU_PROPERTY_X86_ISA_1_NEEDED in a note (x86-64 psABI, "Program Property").
fn x86_level(mut notes: &[u8]) -> u32 {
    while notes.len() > 16 {
        let (name, len) = (kind(notes) as usize, kind(&notes[4..]) as usize);
        let start = 12 + name.next_multiple_of(4);
        if name == 4 && kind(&notes[8..]) == 5 && &notes[12..16] == b"GNU\0" {
            let mut properties = notes.get(16..16 + len).unwrap_or_default();
            while properties.len() >= 12 {
                if kind(properties) == 0xc000_8002 {
                    return kind(&properties[8..]).checked_ilog2().unwrap_or(0);
                }
                let size = kind(&properties[4..]) as usize;
                properties = properties.get(8 + size.next_multiple_of(8)..).unwrap_or_default();
            }
            return 0;
        }
        notes = notes.get((start + len).next_multiple_of(8)..).unwrap_or_default();
    }
    0
}

/// At most `len` bytes from `offset`, fewer at the end of the file.
fn part(content: &Content, offset: u64, len: usize) -> std::io::Result<Vec<u8>> {
    let left = usize::try_from(content.len().saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; len.min(left)];
    if !bytes.is_empty() {
        content.read_exact_at(&mut bytes, offset)?;
    }
    Ok(bytes)
}

fn elf_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The first 32 bits, 0 when there are fewer.
fn kind(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |word| u32::from_le_bytes(*word))
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u64::from_le_bytes(*word))
}

/// `ldconfig (Debian GLIBC 2.41-12) stable release version 2.41`, which the program carries.
fn generator(ldconfig: &[u8]) -> Option<&[u8]> {
    let needle = b" release version ";
    let mut strings = ldconfig.split(|byte| *byte == 0).filter(|string| string.starts_with(b"ldconfig "));
    strings.find(|string| string.windows(needle.len()).any(|part| part == needle))
}

/// The file; none when it would overflow its 32-bit offsets.
fn bytes(libraries: &[Library], folders: &[Folder], generator: &[u8]) -> Option<Vec<u8>> {
    let used: BTreeSet<&[u8]> = libraries.iter().filter_map(|library| library.hwcaps.as_deref()).collect();
    let mut names: BTreeSet<&[u8]> = folders.iter().filter_map(|folder| folder.hwcaps.as_deref()).collect();
    names.extend(libraries.iter().flat_map(|library| [library.soname.as_slice(), &library.path]));
    let table_at = HEADER + ENTRY * libraries.len();
    let (table, offsets) = strings(&names, table_at);
    let offset = |name: &[u8]| u32::try_from(*offsets.get(name)?).ok();
    let extension = (table_at + table.len()).next_multiple_of(4);
    let mut out = b"glibc-ld.so.cache1.1".to_vec();
    out.extend(u32::try_from(libraries.len()).ok()?.to_le_bytes());
    out.extend(u32::try_from(table.len()).ok()?.to_le_bytes());
    // Little-endian.
    out.extend(2_u32.to_le_bytes());
    out.extend(u32::try_from(extension).ok()?.to_le_bytes());
    out.resize(HEADER, 0);
    for library in libraries {
        let hwcap = library.hwcaps.as_deref().and_then(|name| used.iter().position(|other| *other == name));
        let level = u64::from(library.isa_level) << 32;
        let hwcap = hwcap.map_or(0, |index| HWCAP_EXTENSION | level | index as u64);
        for word in [library.flags, offset(&library.soname)?, offset(&library.path)?, 0] {
            out.extend(word.to_le_bytes());
        }
        out.extend(hwcap.to_le_bytes());
    }
    out.extend(table);
    out.resize(extension, 0);
    let sections = if used.is_empty() { 1 } else { 2 };
    let hwcaps_at = extension + 8 + 16 * sections;
    let generator_at = hwcaps_at + 4 * used.len();
    out.extend(EXTENSION_MAGIC.to_le_bytes());
    let mut words = vec![sections, 0, 0, generator_at, generator.len()];
    if !used.is_empty() {
        words.extend([1, 0, hwcaps_at, 4 * used.len()]);
    }
    for word in words {
        out.extend(u32::try_from(word).ok()?.to_le_bytes());
    }
    for name in used {
        out.extend(offset(name)?.to_le_bytes());
    }
    out.extend(generator);
    Some(out)
}

/// The string table, in which a name may be the end of another, and where each name starts in the file.
fn strings<'a>(names: &BTreeSet<&'a [u8]>, start: usize) -> (Vec<u8>, BTreeMap<&'a [u8], usize>) {
    let mut sorted: Vec<&[u8]> = names.iter().copied().collect();
    sorted.sort_by_cached_key(|name| Reverse(name.iter().rev().copied().collect::<Vec<_>>()));
    let mut table = Vec::new();
    let mut offsets = BTreeMap::new();
    let mut previous: &[u8] = &[];
    for name in sorted {
        if table.is_empty() || !previous.ends_with(name) {
            table.extend(name);
            table.push(0);
        }
        offsets.insert(name, start + table.len() - 1 - name.len());
        previous = name;
    }
    (table, offsets)
}

fn read_error(path: &[u8], source: std::io::Error) -> Error {
    Error::Read { path: String::from_utf8_lossy(path).into_owned(), source }
}

/// Names and entries directly in a folder, by its real path.
fn children<'a>(tree: &'a Tree, folder: &[u8]) -> impl Iterator<Item = (&'a [u8], &'a Entry)> {
    let skip = folder.len() + 1;
    let folder = std::str::from_utf8(folder).ok().filter(|folder| !folder.is_empty());
    let below = folder.map(|folder| tree.below(folder)).into_iter().flatten();
    below.map(move |(path, entry)| (&path[skip..], entry)).filter(|(name, _)| !name.contains(&b'/'))
}

fn directory(tree: &Tree, path: &[u8]) -> Option<Vec<u8>> {
    let real = resolve(tree, path, &mut 0)?;
    matches!(tree.get(&real)?.kind, Kind::Directory).then_some(real)
}

/// The regular file that a path leads to: its own path and content.
fn file<'a>(tree: &'a Tree, path: &[u8]) -> Option<(Vec<u8>, &'a Content)> {
    let real = resolve(tree, path, &mut 0)?;
    match &tree.get(&real)?.kind {
        Kind::File(content) => Some((real, content)),
        Kind::HardLink(target) => match &tree.get(target)?.kind {
            Kind::File(content) => Some((target.to_vec(), content)),
            _ => None,
        },
        _ => None,
    }
}

/// Follows symbolic links in every component, at most 40 as the kernel does; absolute ones start at the root.
fn resolve(tree: &Tree, path: &[u8], links: &mut usize) -> Option<Vec<u8>> {
    let mut real: Vec<u8> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => continue,
            b".." => {
                real.truncate(real.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
                continue;
            }
            _ => {}
        }
        let parent = real.clone();
        if !real.is_empty() {
            real.push(b'/');
        }
        real.extend(name);
        if let Kind::Symlink(target) = &tree.get(&real)?.kind {
            *links += 1;
            if *links > 40 {
                return None;
            }
            let from: &[u8] = if target.starts_with(b"/") { b"" } else { &parent };
            real = resolve(tree, &[from, b"/", target].concat(), links)?;
        }
    }
    Some(real)
}

#[cfg(test)]
mod tests {
    use super::{CACHE, HWCAPS, compare, run, strings};
    use crate::rootfs::oracle;
    use kiln_formats::tree::{Entry, Kind, Timestamp, Tree};
    use std::cmp::Ordering;

    const TIME: Timestamp = Timestamp { secs: 7, nanos: 0 };

    /// A shared object with a dynamic segment at 176, its strings at 224.
    fn library(soname: &str, machine: u8) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(16, 0);
        file.extend([3, 0, machine, 0]);
        file.resize(64, 0);
        file[32] = 64;
        file[56] = 2;
        let words = [1 | 5 << 32, 0, 0x1000, 0, 4096, 4096, 4096, 2 | 4 << 32, 176, 0x10b0, 0, 48, 48, 8];
        words.into_iter().for_each(|word: u64| file.extend(word.to_le_bytes()));
        [5, 0x10e0, 14, 1, 0, 0].into_iter().for_each(|word: u64| file.extend(word.to_le_bytes()));
        file.push(0);
        file.extend(soname.as_bytes());
        file.push(0);
        file
    }

    fn tree(files: &[(&str, Entry)]) -> Tree {
        let mut tree = Tree::new();
        let mut ldconfig = library("", 62);
        ldconfig.extend(b"ldconfig (Test) stable release version 2.41\0");
        let more = [("usr/sbin/ldconfig", Entry::file(ldconfig)), ("lib", Entry::symlink("usr/lib"))];
        for (path, entry) in more.iter().chain(files) {
            tree.make_parents(path, &Entry::directory());
            tree.insert(path, entry.clone());
        }
        tree
    }

    fn cache(tree: &Tree) -> Vec<u8> {
        let Kind::File(content) = &tree.get(CACHE).unwrap().kind else { panic!("no file") };
        content.read().unwrap()
    }

    /// Soname and path of each line, with its capability bits.
    fn lines(cache: &[u8]) -> Vec<(String, String, u64)> {
        let number = |at: usize| u32::from_le_bytes(cache[at..at + 4].try_into().unwrap()) as usize;
        let text = |at: usize| {
            let end = cache[at..].iter().position(|byte| *byte == 0).unwrap();
            String::from_utf8(cache[at..at + end].to_vec()).unwrap()
        };
        (0..number(20))
            .map(|line| 48 + 24 * line)
            .map(|at| {
                let hwcap = u64::from_le_bytes(cache[at + 16..at + 24].try_into().unwrap());
                (text(number(at + 4)), text(number(at + 8)), hwcap)
            })
            .collect()
    }

    #[test]
    fn libraries_are_found_sorted_and_linked() {
        let mut tree = tree(&[
            ("etc/ld.so.conf", Entry::file(*b"include /etc/ld.so.conf.d/*.conf\n")),
            ("etc/ld.so.conf.d/a.conf", Entry::file(*b"# first\n/opt/lib/\n/absent\n")),
            ("etc/ld.so.conf.d/b.conf~", Entry::file(*b"/usr/share\n")),
            ("opt/lib/liba.so.2", Entry::file(library("liba.so.2", 62))),
            ("usr/lib/liba.so.2.0", Entry::file(library("liba.so.2", 62))),
            ("usr/lib/liba.so.10", Entry::file(library("liba.so.10", 62))),
            ("usr/lib/liba.so", Entry::symlink("liba.so.10")),
            ("usr/lib/libarm.so.1", Entry::file(library("libarm.so.1", 183))),
            ("usr/lib/libtext.so", Entry::file(*b"GROUP ( libtext.so.1 )")),
            ("usr/lib/glibc-hwcaps/x86-64-v3/liba.so.10.1", Entry::file(library("liba.so.10", 62))),
            ("usr/share/libno.so", Entry::file(library("libno.so", 62))),
        ]);
        run(&mut tree, TIME).unwrap();
        let cache = cache(&tree);
        let line = |name: &str, path: &str, hwcap| (name.to_owned(), path.to_owned(), hwcap);
        assert_eq!(
            lines(&cache),
            [
                line("liba.so.10", "/lib/glibc-hwcaps/x86-64-v3/liba.so.10.1", 1 << 62),
                line("liba.so.10", "/lib/liba.so.10", 0),
                line("liba.so.2", "/opt/lib/liba.so.2", 0),
                line("liba.so.2", "/lib/liba.so.2", 0),
                line("liba.so", "/lib/liba.so", 0),
            ]
        );
        assert!(cache.ends_with(b"ldconfig (Test) stable release version 2.41"));
        let link = tree.get("usr/lib/liba.so.2").unwrap();
        assert!(matches!(&link.kind, Kind::Symlink(target) if **target == *b"liba.so.2.0"), "{link:?}");
        let mut again = tree.clone();
        run(&mut again, TIME).unwrap();
        assert_eq!((self::cache(&again), again.len()), (cache, tree.len()));
    }

    #[test]
    fn names_compare_as_glibc_does() {
        assert_eq!(compare(b"liba.so.10", b"liba.so.9"), Ordering::Greater);
        assert_eq!(compare(b"liba.so.1", b"liba.so"), Ordering::Greater);
        assert_eq!(compare(b"liba1.so", b"liba-1.so"), Ordering::Greater);
        assert_eq!(compare(b"liba.so.1", b"liba.so.1"), Ordering::Equal);
    }

    #[test]
    fn strings_share_their_ends() {
        let names = [b"/lib/b".as_slice(), b"b", b"ab"].into_iter().collect();
        let (table, offsets) = strings(&names, 100);
        assert_eq!(table, b"ab\0/lib/b\0");
        assert_eq!(offsets.into_values().collect::<Vec<_>>(), [103, 100, 108]);
    }

    #[test]
    fn damaged_libraries_are_passed_over() {
        let whole = library("liba.so.1", 62);
        for at in 16..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            run(&mut tree(&[("usr/lib/liba.so.1", Entry::file(bytes))]), TIME).unwrap();
            run(&mut tree(&[("usr/lib/liba.so.1", Entry::file(whole[..at].to_vec()))]), TIME).unwrap();
        }
    }

    /// Takes away the links that ldconfig could have made and compares those that are made again.
    #[test]
    #[ignore = "needs a Debian root"]
    fn same_links_as_in_debian() {
        let wanted = oracle::load(&oracle::root());
        let mut tree = wanted.clone();
        let numbered =
            |path: &[u8]| path.starts_with(b"usr/lib/") && path.windows(4).any(|part| part == b".so.");
        for (path, entry) in wanted.iter().filter(|(path, _)| numbered(path)) {
            let beside = matches!(&entry.kind, Kind::Symlink(target) if !target.contains(&b'/'));
            if beside && !path.windows(HWCAPS.len()).any(|part| part == HWCAPS.as_bytes()) {
                tree.remove(path);
            }
        }
        let (before, after) = (tree.len(), run(&mut tree, TIME).map(|()| tree.len()).unwrap());
        println!("{} links were taken away, {} made", wanted.len() - before, after - before);
        assert!(after > before);
        for (path, entry) in tree.iter() {
            if let Kind::Symlink(target) = &entry.kind {
                let Kind::Symlink(old) = &wanted.get(path).unwrap().kind else {
                    panic!("{path:?} was no link")
                };
                assert_eq!(target, old, "{}", String::from_utf8_lossy(path));
            }
        }
    }

    /// Compares with the ldconfig that ran in the root.
    #[test]
    #[ignore = "needs a Debian root"]
    fn same_as_debians_ldconfig() {
        let root = oracle::root();
        let mut tree = oracle::load(&root);
        let entries = tree.len();
        tree.remove(CACHE).unwrap();
        let start = std::time::Instant::now();
        run(&mut tree, TIME).unwrap();
        println!("{} bytes in {:?}", cache(&tree).len(), start.elapsed());
        assert_eq!(tree.len(), entries, "links were made");
        oracle::same_file(&tree, &root, CACHE);
    }
}
