//! One kernel module: what its ELF64 sections say (System V ABI, "Sections" and "Symbol Table"; `.modinfo`
//! and `__ksymtab_strings` are the kernel's own, see its `include/linux/moduleparam.h` and `export.h`).

use super::super::Error;
use super::super::formats::tree::Content;
use std::io::Read;

/// More than any module unpacks to.
const LIMIT: u64 = 512 << 20;

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Module {
    /// Path below the release's folder.
    pub(super) path: String,
    /// Name as the kernel has it, with underscores.
    pub(super) name: String,
    /// Keys and values of `.modinfo` in order.
    pub(super) info: Vec<(String, String)>,
    /// Symbols that other modules may use.
    pub(super) exports: Vec<String>,
    /// Symbols that it needs from elsewhere.
    pub(super) imports: Vec<String>,
}

/// The kernel's name of the module at `path`.
pub(super) fn name_of(path: &str) -> String {
    let base = path.rsplit('/').next().unwrap_or(path);
    base.split(".ko").next().unwrap_or(base).replace('-', "_")
}

/// An alias as indices hold it: hyphens are underscores, but not inside brackets.
pub(super) fn normal_alias(alias: &str) -> String {
    let mut inside = false;
    let normal = |c| {
        inside = (inside || c == '[') && c != ']';
        if c == '-' && !inside { '_' } else { c }
    };
    alias.chars().map(normal).collect()
}

impl Module {
    pub(super) fn read(path: &str, content: &Content) -> Result<Self, Error> {
        let failed = |source| Error::Read { path: path.to_owned(), source };
        let packed = content.read().map_err(failed)?;
        let mut elf = Vec::with_capacity(packed.len() * 6);
        match path.rsplit('.').next() {
            Some("xz") => liblzma::bufread::XzDecoder::new(&packed[..])
                .take(LIMIT)
                .read_to_end(&mut elf)
                .map_err(failed)?,
            Some("zst") => zstd::Decoder::with_buffer(&packed[..])
                .map_err(failed)?
                .take(LIMIT)
                .read_to_end(&mut elf)
                .map_err(failed)?,
            _ => {
                elf = packed;
                elf.len()
            }
        };
        let module = Self { path: path.to_owned(), name: name_of(path), ..Self::default() };
        let reason =
            || "it is not a 64-bit little-endian ELF object with the sections of a module".to_owned();
        module.parse(&elf).ok_or_else(|| Error::Malformed { path: path.to_owned(), reason: reason() })
    }

    fn parse(mut self, elf: &[u8]) -> Option<Self> {
        if elf.get(..6)? != b"\x7fELF\x02\x01" {
            return None;
        }
        let (headers, count, names) = (number(elf, 0x28, 8)?, number(elf, 0x3c, 2)?, number(elf, 0x3e, 2)?);
        // Name, offset, size, linked section of a section header of 64 bytes.
        let section = |at: usize| {
            let header = headers.checked_add(at.checked_mul(64)?)?;
            let field = |offset: usize, len| number(elf, header.checked_add(offset)?, len);
            Some((field(0, 4)?, field(0x18, 8)?, field(0x20, 8)?, field(0x28, 4)?))
        };
        let body =
            |(_, offset, size, _): (usize, usize, usize, usize)| elf.get(offset..offset.checked_add(size)?);
        let names = body(section(names)?)?;
        let mut named = Vec::new();
        for at in 1..count {
            let header = section(at)?;
            match string(names, header.0)? {
                b".modinfo" => self.info = strings(body(header)?).filter_map(pair).collect(),
                b"__ksymtab_strings" => named = strings(body(header)?).collect(),
                b".symtab" => {
                    (self.exports, self.imports) = symbols(body(header)?, body(section(header.3)?)?)?
                }
                _ => {}
            }
        }
        // Kernels without symbol versions have names only; among them are names of symbol spaces, too.
        if self.exports.is_empty() {
            self.exports = named;
        }
        Some(self)
    }

    /// `name type major:minor` when the module says which device node it serves.
    pub(super) fn device_node(&self) -> Option<String> {
        let (mut name, mut number) = (None, None);
        for (_, alias) in self.info.iter().filter(|(key, _)| key == "alias") {
            if let Some(node) = alias.strip_prefix("devname:") {
                name = Some(node);
            } else {
                for (prefix, kind) in [("char-major-", 'c'), ("block-major-", 'b')] {
                    let pair = alias.strip_prefix(prefix).and_then(|rest| rest.split_once('-'));
                    if let Some((Ok(major), Ok(minor))) =
                        pair.map(|(a, b)| (a.parse::<u32>(), b.parse::<u32>()))
                    {
                        number = Some(format!("{kind}{major}:{minor}"));
                    }
                }
            }
            if let (Some(name), Some(number)) = (name, &number) {
                return Some(format!("{name} {number}"));
            }
        }
        None
    }
}

/// A little-endian number of at most eight bytes.
fn number(bytes: &[u8], at: usize, len: usize) -> Option<usize> {
    let field = bytes.get(at..at.checked_add(len)?)?;
    usize::try_from(field.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte))).ok()
}

/// The bytes from `at` up to a NUL.
fn string(table: &[u8], at: usize) -> Option<&[u8]> {
    table.get(at..)?.split(|byte| *byte == 0).next()
}

fn strings(section: &[u8]) -> impl Iterator<Item = String> {
    let parts = section.split(|byte| *byte == 0).filter(|part| !part.is_empty());
    parts.map(|part| String::from_utf8_lossy(part).into_owned())
}

fn pair(text: String) -> Option<(String, String)> {
    text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()))
}

/// What a checksum is given for, and what is undefined, both in the table's order; entries are 24 bytes:
/// name, info, other, section, value, size.
fn symbols(table: &[u8], names: &[u8]) -> Option<(Vec<String>, Vec<String>)> {
    let (mut exports, mut imports) = (Vec::new(), Vec::new());
    let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    for entry in table.chunks_exact(24).skip(1) {
        let name = string(names, number(entry, 0, 4)?)?;
        if let Some(name) = name.strip_prefix(b"__crc_") {
            exports.push(text(name));
        } else if number(entry, 6, 2)? == 0 && !name.is_empty() {
            imports.push(text(name));
        }
    }
    Some((exports, imports))
}

#[cfg(test)]
mod tests {
    use super::{Module, name_of, normal_alias};

    #[test]
    fn names_and_aliases_are_normal() {
        assert_eq!(name_of("kernel/drivers/a-b/snd-hda.ko.xz"), "snd_hda");
        assert_eq!(normal_alias("usb:v0-[0-9]*-"), "usb:v0_[0-9]*_");
    }

    #[test]
    fn device_nodes_need_both_halves() {
        let module = |aliases: &[&str]| Module {
            info: aliases.iter().map(|alias| ("alias".to_owned(), (*alias).to_owned())).collect(),
            ..Module::default()
        };
        assert_eq!(
            module(&["devname:net/tun", "char-major-10-200"]).device_node().as_deref(),
            Some("net/tun c10:200")
        );
        assert_eq!(module(&["char-major-10-200"]).device_node(), None);
        assert_eq!(module(&["devname:x", "block-major-7-*"]).device_node(), None);
    }

    #[test]
    fn garbage_is_no_module() {
        assert_eq!(Module::default().parse(b"MZ"), None);
        assert_eq!(Module::default().parse(&[b"\x7fELF\x02\x01".as_slice(), &[0xff; 200]].concat()), None);
    }
}
