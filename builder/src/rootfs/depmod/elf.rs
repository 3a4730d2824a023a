//! What depmod reads out of a kernel module: an ELF64 little-endian relocatable object.
//!
//! Layouts: System V gABI ("ELF header", "Sections", "Symbol table"); which sections count and in which
//! order names are found follows kmod 34, libkmod/libkmod-elf.c, because that order reaches the indices.

use std::collections::HashMap;

/// Sections of an ELF64 header, one entry of which is this long.
const SECTION_HEADER: usize = 64;
const SYMBOL: usize = 24;
/// `struct modversion_info` of Linux' include/linux/module.h on 64 bits: 8 bytes of CRC, 56 of name.
const VERSION: usize = 64;
const VERSION_NAME: u32 = 8;

/// Why a file is no kernel module that can be indexed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The magic, class or byte order is another one.
    #[error("it is not an ELF file of 64 bits, little-endian")]
    NotElf,
    /// Section headers or their names lie outside of the file.
    #[error("its section headers do not fit the file")]
    Sections,
    /// A section that every module has is missing.
    #[error("it has no section {0}")]
    Missing(&'static str),
    /// A section's size or a name in it does not fit.
    #[error("its section {0} is damaged")]
    Damaged(&'static str),
}

/// The names of one module, as slices of its bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names<'a> {
    /// Symbols it offers, in symbol table order.
    pub(super) exports: Vec<&'a [u8]>,
    /// Symbols it wants: undefined ones, then those only `__versions` knows.
    pub(super) needs: Vec<&'a [u8]>,
    /// `key=value` strings of `.modinfo`, cut at the first `=`.
    pub(super) info: Vec<(&'a [u8], &'a [u8])>,
}

#[derive(Default)]
struct Sections<'a> {
    exports: Option<&'a [u8]>,
    info: Option<&'a [u8]>,
    strings: Option<&'a [u8]>,
    symbols: Option<&'a [u8]>,
    versions: Option<&'a [u8]>,
}

/// Reads a module's names.
pub(super) fn read(file: &[u8]) -> Result<Names<'_>, Malformed> {
    let sections = sections(file)?;
    let strings = sections.strings.ok_or(Malformed::Missing(".strtab"))?;
    let symbols = sections.symbols.ok_or(Malformed::Missing(".symtab"))?;
    if symbols.len() % SYMBOL != 0 {
        return Err(Malformed::Damaged(".symtab"));
    }
    let versions = sections.versions.unwrap_or_default();
    // kmod takes a section of odd length as absent, too.
    let versions = if versions.len() % VERSION == 0 { versions } else { &[] };
    let symbols = Symbols { symbols, strings };
    let mut exports = symbols.exports()?;
    if exports.is_empty() {
        let section = sections.exports.unwrap_or_default();
        if section.last().is_some_and(|last| *last != 0) {
            return Err(Malformed::Damaged("__ksymtab_strings"));
        }
        exports = split(section).collect();
    }
    let info = split(sections.info.unwrap_or_default());
    Ok(Names { exports, needs: symbols.needs(versions)?, info: info.map(cut_at_equals).collect() })
}

fn cut_at_equals(line: &[u8]) -> (&[u8], &[u8]) {
    match line.iter().position(|byte| *byte == b'=') {
        Some(at) => (&line[..at], &line[at + 1..]),
        None => (line, &[]),
    }
}

/// The strings of a section that separates them by one or more zero bytes.
fn split(section: &[u8]) -> impl Iterator<Item = &[u8]> {
    section.split(|byte| *byte == 0).filter(|string| !string.is_empty())
}

fn sections(file: &[u8]) -> Result<Sections<'_>, Malformed> {
    if file.get(..6) != Some(b"\x7fELF\x02\x01") {
        return Err(Malformed::NotElf);
    }
    let table = u64_at(file, 40).ok_or(Malformed::NotElf)?;
    let entry = u16_at(file, 58).ok_or(Malformed::NotElf)?;
    let count = u16_at(file, 60).ok_or(Malformed::NotElf)?;
    let names = u16_at(file, 62).ok_or(Malformed::NotElf)?;
    if usize::from(entry) != SECTION_HEADER {
        return Err(Malformed::Sections);
    }
    let headers = slice(file, table, u64::from(count) * u64::from(entry)).ok_or(Malformed::Sections)?;
    let mut headers = headers.chunks_exact(SECTION_HEADER);
    let names = headers.clone().nth(usize::from(names)).ok_or(Malformed::Sections)?;
    let names = content(file, names).filter(|names| names.last() == Some(&0)).ok_or(Malformed::Sections)?;
    let mut found = Sections::default();
    headers.next();
    for header in headers {
        // A section that lies outside of the file (.bss has no bytes there) is none of those wanted.
        let Some(content) = content(file, header) else { continue };
        let slot = match u32_at(header, 0).and_then(|at| string(names, at)) {
            Some(b"__ksymtab_strings") => &mut found.exports,
            Some(b".modinfo") => &mut found.info,
            Some(b".strtab") => &mut found.strings,
            Some(b".symtab") => &mut found.symbols,
            Some(b"__versions") => &mut found.versions,
            _ => continue,
        };
        slot.get_or_insert(content);
    }
    Ok(found)
}

struct Symbols<'a> {
    symbols: &'a [u8],
    strings: &'a [u8],
}

impl<'a> Symbols<'a> {
    /// Every symbol but the first, which is reserved: its entry and its name.
    fn iter(&self) -> impl Iterator<Item = Result<(&'a [u8], &'a [u8]), Malformed>> + '_ {
        self.symbols.chunks_exact(SYMBOL).skip(1).map(|symbol| {
            let name = u32_at(symbol, 0).and_then(|at| string(self.strings, at));
            Ok((symbol, name.ok_or(Malformed::Damaged(".strtab"))?))
        })
    }

    /// Exported symbols have a companion that holds their CRC.
    fn exports(&self) -> Result<Vec<&'a [u8]>, Malformed> {
        let mut exports = Vec::new();
        for symbol in self.iter() {
            if let Some(name) = symbol?.1.strip_prefix(b"__crc_") {
                exports.push(name);
            }
        }
        Ok(exports)
    }

    fn needs(&self, versions: &'a [u8]) -> Result<Vec<&'a [u8]>, Malformed> {
        let mut unseen = HashMap::new();
        let mut names = Vec::new();
        for (at, version) in versions.chunks_exact(VERSION).enumerate() {
            let name = string(version, VERSION_NAME).ok_or(Malformed::Damaged("__versions"))?;
            unseen.entry(name).or_insert(at);
            names.push(Some(name));
        }
        let mut needs = Vec::new();
        for symbol in self.iter() {
            let (symbol, name) = symbol?;
            if u16_at(symbol, 6) != Some(0) || name.is_empty() {
                continue;
            }
            if let Some(at) = unseen.get(name) {
                names[*at] = None;
            }
            needs.push(name);
        }
        needs.extend(names.into_iter().flatten());
        Ok(needs)
    }
}

fn content<'a>(file: &'a [u8], header: &[u8]) -> Option<&'a [u8]> {
    slice(file, u64_at(header, 24)?, u64_at(header, 32)?)
}

fn slice(file: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    file.get(start..start.checked_add(usize::try_from(len).ok()?)?)
}

fn string(strings: &[u8], at: u32) -> Option<&[u8]> {
    let rest = strings.get(usize::try_from(at).ok()?..)?;
    rest.get(..rest.iter().position(|byte| *byte == 0)?)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
