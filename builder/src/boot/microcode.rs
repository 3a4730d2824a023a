//! CPU microcode in the form that the kernel loads before anything else: an uncompressed cpio archive ahead of the
//! initramfs (Linux, Documentation/arch/x86/microcode.rst).

use super::Error;
use kiln_formats::cpio;
use kiln_formats::tree::{Entry, Kind, Tree};

/// Directory of the root, and the file of the archive that all of it is joined into.
const VENDORS: [(&str, &str); 2] = [
    ("usr/lib/firmware/amd-ucode", "kernel/x86/microcode/AuthenticAMD.bin"),
    ("usr/lib/firmware/intel-ucode", "kernel/x86/microcode/GenuineIntel.bin"),
];

/// The archive; nothing when the root has no microcode.
pub(super) fn build(root: &Tree) -> Result<Option<Vec<u8>>, Error> {
    let mut tree = Tree::new();
    for (directory, target) in VENDORS {
        let mut joined = Vec::new();
        for (path, entry) in root.below(directory) {
            let Kind::File(content) = &entry.kind else { continue };
            if is_microcode(&path[directory.len() + 1..]) {
                let path = || String::from_utf8_lossy(path).into_owned();
                joined.extend(content.read().map_err(|source| Error::Read { path: path(), source })?);
            }
        }
        if !joined.is_empty() {
            tree.make_parents(target, &Entry::directory());
            tree.insert(target, Entry::file(joined));
        }
    }
    if tree.is_empty() {
        return Ok(None);
    }
    let mut archive = Vec::new();
    cpio::write(&tree, &mut archive)?;
    Ok(Some(archive))
}

/// AMD: `microcode_amd*.bin`. Intel: family-model-stepping in hexadecimal, `06-55-04`.
fn is_microcode(name: &[u8]) -> bool {
    let intel = name.len() == 8
        && name.iter().enumerate().all(|(at, byte)| match at {
            2 | 5 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    intel || name.starts_with(b"microcode_amd") && name.ends_with(b".bin")
}

#[cfg(test)]
mod tests {
    use super::{build, is_microcode};
    use kiln_formats::tree::{Entry, Tree};

    #[test]
    fn only_microcode_counts() {
        for name in ["06-55-04", "0f-06-08", "microcode_amd.bin", "microcode_amd_fam19h.bin"] {
            assert!(is_microcode(name.as_bytes()), "{name}");
        }
        for name in ["README", "06-55-04.initramfs", "microcode_amd.bin.asc", "06_55_04"] {
            assert!(!is_microcode(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn no_microcode_is_no_section() {
        let mut tree = Tree::new();
        assert!(build(&tree).unwrap().is_none());
        tree.insert("usr/lib/firmware/intel-ucode/06-55-04", Entry::file(*b"MICRO"));
        let archive = build(&tree).unwrap().unwrap();
        assert!(archive.windows(5).any(|window| window == b"MICRO"));
    }
}
