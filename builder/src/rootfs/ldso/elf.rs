//! What the cache says about a library, from its ELF headers.

use kiln_formats::tree::Content;

pub(super) const X86_64: u16 = 62;
pub(super) const AARCH64: u16 = 183;

/// What the cache wants of a library.
pub(super) struct Facts {
    pub(super) soname: Option<Vec<u8>>,
    pub(super) flags: u32,
    pub(super) isa_level: u32,
}

/// Reads a shared object of `machine`; none for any other file (System V gABI, "Program Header" and
/// "Dynamic Section").
pub(super) fn facts(content: &Content, machine: u16) -> std::io::Result<Option<Facts>> {
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

pub(super) fn elf_u16(bytes: &[u8], at: usize) -> Option<u16> {
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
pub(super) fn generator(ldconfig: &[u8]) -> Option<&[u8]> {
    let needle = b" release version ";
    let mut strings = ldconfig.split(|byte| *byte == 0).filter(|string| string.starts_with(b"ldconfig "));
    strings.find(|string| string.windows(needle.len()).any(|part| part == needle))
}
