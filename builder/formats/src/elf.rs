//! What the dynamic loader reads of ELF files of 64 bits, little-endian: which libraries a file needs, and what a
//! library calls itself (System V gABI, "ELF Header", "Program Header" and "Dynamic Section").

use crate::tree::Content;
use std::io::Result;

/// `e_type` of programs that are loaded where they say.
pub const EXECUTABLE: u16 = 2;
/// `e_type` of shared objects and of programs that are loaded anywhere.
pub const SHARED: u16 = 3;
/// `e_machine` of amd64.
pub const X86_64: u16 = 62;
/// `e_machine` of arm64.
pub const AARCH64: u16 = 183;

/// The longest name that is read, in bytes (Linux, PATH_MAX).
const LONGEST: usize = 4096;
/// More libraries than anything needs.
const MOST_ENTRIES: usize = 4096;

/// A program or a library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// `e_type`, such as [`SHARED`].
    pub kind: u16,
    /// `e_machine`, such as [`X86_64`].
    pub machine: u16,
    /// The dynamic loader that a program asks for (PT_INTERP).
    pub interpreter: Option<Vec<u8>>,
    /// What the loader is told; none in files that need no loader.
    pub dynamic: Option<Dynamic>,
    /// The highest bit of GNU_PROPERTY_X86_ISA_1_NEEDED (x86-64 psABI, "Program Property"), 0 when not told.
    pub isa_level: u32,
}

/// The names of a dynamic section.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dynamic {
    /// What the library calls itself (DT_SONAME).
    pub soname: Option<Vec<u8>>,
    /// Libraries that must be loaded with it (DT_NEEDED), in order.
    pub needed: Vec<Vec<u8>>,
    /// Folders to look for them first, separated by colons (DT_RUNPATH, else DT_RPATH).
    pub run_path: Option<Vec<u8>>,
}

/// Reads the headers of a file; none when it is no ELF file of this kind.
pub fn read(content: &Content) -> Result<Option<Object>> {
    if content.len() < 64 {
        return Ok(None);
    }
    let header = part(content, 0, 64)?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return Ok(None);
    }
    let machine = half(&header, 18);
    let count = usize::from(half(&header, 56));
    let segments = part(content, long(&header, 32), count * 56)?;
    let segments: Vec<_> = segments.chunks_exact(56).collect();
    let mut object =
        Object { kind: half(&header, 16), machine, interpreter: None, dynamic: None, isa_level: 0 };
    let mut section = Vec::new();
    for segment in &segments {
        let at = long(segment, 8);
        let size = usize::try_from(long(segment, 32)).unwrap_or(usize::MAX);
        match word(segment) {
            2 => section = part(content, at, size)?,
            3 => object.interpreter = Some(string(content, at)?),
            0x6474_e553 if machine == X86_64 && long(segment, 48) == 8 => {
                object.isa_level = x86_level(&part(content, at, size)?);
            }
            _ => {}
        }
    }
    let entries = || section.chunks_exact(16).take_while(|entry| long(entry, 0) != 0);
    let values = |tag: u64| entries().filter(move |entry| long(entry, 0) == tag).map(|entry| long(entry, 8));
    let Some(strings) = values(5).next() else { return Ok(Some(object)) };
    let inside = |segment: &&&[u8]| {
        word(segment) == 1 && strings.checked_sub(long(segment, 16)).is_some_and(|at| at < long(segment, 32))
    };
    let load = segments.iter().find(inside);
    let strings =
        load.map_or(strings, |load| strings.wrapping_sub(long(load, 16)).wrapping_add(long(load, 8)));
    let name = |at: u64| string(content, strings.saturating_add(at));
    object.dynamic = Some(Dynamic {
        soname: values(14).next().map(name).transpose()?,
        needed: values(1).take(MOST_ENTRIES).map(name).collect::<Result<_>>()?,
        run_path: values(29).chain(values(15)).next().map(name).transpose()?,
    });
    Ok(Some(object))
}

fn x86_level(mut notes: &[u8]) -> u32 {
    while notes.len() > 16 {
        let (name, len) = (word(notes) as usize, word(&notes[4..]) as usize);
        let start = 12 + name.next_multiple_of(4);
        if name == 4 && word(&notes[8..]) == 5 && &notes[12..16] == b"GNU\0" {
            let mut properties = notes.get(16..16 + len).unwrap_or_default();
            while properties.len() >= 12 {
                if word(properties) == 0xc000_8002 {
                    return word(&properties[8..]).checked_ilog2().unwrap_or(0);
                }
                let size = word(&properties[4..]) as usize;
                properties = properties.get(8 + size.next_multiple_of(8)..).unwrap_or_default();
            }
            return 0;
        }
        notes = notes.get((start + len).next_multiple_of(8)..).unwrap_or_default();
    }
    0
}

/// At most `len` bytes from `offset`, fewer at the end of the file.
fn part(content: &Content, offset: u64, len: usize) -> Result<Vec<u8>> {
    let left = usize::try_from(content.len().saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; len.min(left)];
    if !bytes.is_empty() {
        content.read_exact_at(&mut bytes, offset)?;
    }
    Ok(bytes)
}

/// The string at `offset`, without its NUL.
fn string(content: &Content, offset: u64) -> Result<Vec<u8>> {
    let bytes = part(content, offset, LONGEST)?;
    Ok(bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec())
}

fn half(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |half| u16::from_le_bytes(*half))
}

/// The first 32 bits, 0 when there are fewer.
fn word(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |word| u32::from_le_bytes(*word))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u64::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::{SHARED, read};
    use crate::tree::Content;

    /// This test is a program itself, of the machine that runs it.
    #[test]
    fn a_program_tells_its_loader_and_its_libraries() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let object = read(&Content::bytes(bytes)).unwrap().unwrap();
        assert_eq!(object.kind, SHARED);
        let interpreter = String::from_utf8(object.interpreter.unwrap()).unwrap();
        assert!(interpreter.starts_with("/lib") && interpreter.contains("/ld-"), "{interpreter}");
        let needed = object.dynamic.unwrap().needed;
        assert!(needed.iter().any(|name| name == b"libc.so.6"), "{needed:?}");
    }

    #[test]
    fn any_other_file_is_none() {
        for bytes in [&b""[..], b"#!/bin/sh\n", &[0; 100], b"\x7fELF\x01\x01"] {
            assert_eq!(read(&Content::bytes(bytes)).unwrap(), None);
        }
    }

    /// Every byte of the headers changed, every length cut: an answer or none, never a crash.
    #[test]
    fn damage_is_survived() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let head = &bytes[..bytes.len().min(8192)];
        for at in 4..1024 {
            let mut damaged = head.to_vec();
            damaged[at] ^= 0xff;
            let _ = read(&Content::bytes(damaged)).unwrap();
            let _ = read(&Content::bytes(&head[..at])).unwrap();
        }
    }
}
