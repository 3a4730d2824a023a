//! The static helper for the device, carried inside this binary. `build.rs` makes it.

/// The bytes of `kiln-firstboot` for amd64: `/init` of the initramfs and `/usr/lib/kiln/kiln-firstboot` of the root.
pub static AMD64: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kiln-firstboot"));

/// Where the root carries the helper; `kiln-report.service` starts it from there.
pub const PATH_IN_ROOT: &str = "usr/lib/kiln/kiln-firstboot";

#[cfg(test)]
mod tests {
    use super::AMD64;

    fn contains(needle: &str) -> bool {
        AMD64.windows(needle.len()).any(|window| window == needle.as_bytes())
    }

    /// ELF header: magic, 64-bit, little-endian; e_machine 62 (System V ABI, AMD64 supplement).
    #[test]
    fn it_is_a_program_for_amd64_that_needs_no_library() {
        assert_eq!(&AMD64[..6], b"\x7fELF\x02\x01");
        assert_eq!(&AMD64[18..20], &[62, 0]);
        // ELF-64: e_phoff at byte 32, e_phentsize at 54, e_phnum at 56; PT_INTERP (3) names a dynamic loader, and
        // PT_DYNAMIC alone does not: a static-pie program relocates itself.
        let word = |at: usize| usize::from(u16::from_le_bytes([AMD64[at], AMD64[at + 1]]));
        let table = usize::try_from(u64::from_le_bytes(AMD64[32..40].try_into().unwrap())).unwrap();
        assert!(word(56) > 0, "no program headers");
        for number in 0..word(56) {
            let at = table + number * word(54);
            assert_ne!(AMD64[at..at + 4], [3, 0, 0, 0], "a dynamic helper can't run as /init");
        }
    }

    /// The same bytes wherever it was built: no path of this machine is in it.
    #[test]
    fn it_does_not_tell_where_it_was_built() {
        let out = env!("OUT_DIR");
        let manifest = env!("CARGO_MANIFEST_DIR");
        let home = std::env::var("HOME").unwrap_or_else(|_| "/root".to_owned()) + "/.cargo";
        for path in [out, manifest, &home, manifest.trim_end_matches("builder")] {
            assert!(!contains(path), "{path} is in the helper");
        }
    }
}
