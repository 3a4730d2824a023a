//! What the cache says about a library, from its ELF headers.

use kiln_formats::elf::{self, X86_64};
use kiln_formats::tree::Content;

/// What the cache wants of a library.
pub(super) struct Facts {
    pub(super) soname: Option<Vec<u8>>,
    pub(super) flags: u32,
    pub(super) isa_level: u32,
}

/// Reads a shared object of `machine`; none for any other file.
pub(super) fn facts(content: &Content, machine: u16) -> std::io::Result<Option<Facts>> {
    let Some(object) = elf::read(content)? else { return Ok(None) };
    if object.kind != elf::SHARED || object.machine != machine {
        return Ok(None);
    }
    let Some(elf::Dynamic { soname, .. }) = object.dynamic else { return Ok(None) };
    // glibc's sysdeps/generic/ldconfig.h: FLAG_ELF_LIBC6 with FLAG_X8664_LIB64 or FLAG_AARCH64_LIB64.
    let flags = if machine == X86_64 { 0x0303 } else { 0x0a03 };
    let usable = |name: &Vec<u8>| !name.is_empty() && !name.contains(&b'/');
    let isa_level = object.isa_level;
    Ok(soname.as_ref().is_none_or(usable).then_some(Facts { soname, flags, isa_level }))
}

/// `ldconfig (Debian GLIBC 2.41-12) stable release version 2.41`, which the program carries.
pub(super) fn generator(ldconfig: &[u8]) -> Option<&[u8]> {
    let needle = b" release version ";
    let mut strings = ldconfig.split(|byte| *byte == 0).filter(|string| string.starts_with(b"ldconfig "));
    strings.find(|string| string.windows(needle.len()).any(|part| part == needle))
}
