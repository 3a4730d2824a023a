//! The file's order and bytes.

use super::Folder;
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet};

const HEADER: usize = 48;
const ENTRY: usize = 24;
const EXTENSION_MAGIC: i32 = -358_342_284;
const HWCAP_EXTENSION: u64 = 1 << 62;

/// A line of the cache.
pub(super) struct Library {
    pub(super) soname: Vec<u8>,
    pub(super) path: Vec<u8>,
    pub(super) flags: u32,
    pub(super) isa_level: u32,
    pub(super) hwcaps: Option<Vec<u8>>,
}

pub(super) fn order(a: &Library, b: &Library) -> Ordering {
    let unlisted = |library: &Library| library.hwcaps.is_none();
    compare(&b.soname, &a.soname)
        .then(b.flags.cmp(&a.flags))
        .then(unlisted(a).cmp(&unlisted(b)))
        .then_with(|| a.hwcaps.cmp(&b.hwcaps))
}

/// `_dl_cache_libcmp` of glibc's elf/dl-cache.c: runs of digits by their value, digits after all else.
pub(super) fn compare(mut a: &[u8], mut b: &[u8]) -> Ordering {
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

/// The file; none when it would overflow its 32-bit offsets.
pub(super) fn bytes(libraries: &[Library], folders: &[Folder], generator: &[u8]) -> Option<Vec<u8>> {
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
pub(super) fn strings<'a>(names: &BTreeSet<&'a [u8]>, start: usize) -> (Vec<u8>, BTreeMap<&'a [u8], usize>) {
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
