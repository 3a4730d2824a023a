//! The two names that every entry has.

use std::collections::BTreeSet;

/// Characters of a Joliet name (Joliet Specification, Joliet Directory Specification: 128 bytes of UCS-2).
const JOLIET_MAX: usize = 64;
/// Characters of a primary name before and behind the dot: interchange level 1 (ECMA-119 §10.1).
const STEM: usize = 8;
const ENDING: usize = 3;

/// Why a name can't be a Joliet one.
pub(super) fn fault(name: &str) -> Option<&'static str> {
    // Joliet Specification, Allowed Character Set.
    if name.chars().any(|c| c.is_control() || matches!(c, '*' | '/' | ':' | ';' | '?' | '\\')) {
        return Some("it has a control character or one of */:;?\\");
    }
    if name.chars().any(|c| u32::from(c) > 0xffff) {
        return Some("it has a character beyond UCS-2");
    }
    (name.chars().count() > JOLIET_MAX).then_some("it has more than 64 characters")
}

/// UCS-2, big endian.
pub(super) fn joliet(name: &str) -> Vec<u8> {
    name.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// The primary name of an entry (ECMA-119 §7.5, §7.6.2): d-characters, unlike all `taken` ones of its directory. A file has
/// a dot and a version.
pub(super) fn primary(name: &str, directory: bool, taken: &mut BTreeSet<Vec<u8>>) -> Vec<u8> {
    let plain = |text: &str, most: usize| -> String {
        let fit = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        text.chars().take(most).map(fit).collect()
    };
    let (stem, ending) = match name.rsplit_once('.') {
        Some((stem, ending)) if !directory && !stem.is_empty() => (stem, plain(ending, ENDING)),
        _ => (name, String::new()),
    };
    let mut number = 0_u32;
    loop {
        // Like short names of FAT: as many characters give way as the number needs.
        let tail = if number == 0 { String::new() } else { number.to_string() };
        let stem = plain(stem, STEM - tail.len().min(STEM)) + &tail;
        let full = if directory { stem } else { format!("{stem}.{ending};1") };
        if taken.insert(full.clone().into_bytes()) {
            return full.into_bytes();
        }
        number += 1;
    }
}

/// A name as directories sort it: as if shorter ones were filled up with spaces (ECMA-119 §9.3). The version comes off, and
/// the dot is not part of what is compared.
pub(super) fn key(identifier: &[u8], directory: bool) -> (Vec<u8>, Vec<u8>) {
    let text = identifier.strip_suffix(b";1").unwrap_or(identifier);
    let dot = if directory { None } else { text.iter().rposition(|byte| *byte == b'.') };
    let (stem, ending) = dot.map_or((text, &b""[..]), |at| (&text[..at], &text[at + 1..]));
    let padded = |part: &[u8], to: usize| {
        let mut part = part.to_vec();
        part.resize(part.len().max(to), b' ');
        part
    };
    (padded(stem, STEM), padded(ending, ENDING))
}

#[cfg(test)]
mod tests {
    use super::{fault, primary};
    use std::collections::BTreeSet;

    #[test]
    fn primary_names_are_unique_and_plain() {
        let mut taken = BTreeSet::new();
        let mut of =
            |name: &str, directory| String::from_utf8(primary(name, directory, &mut taken)).expect("ASCII");
        assert_eq!(of("user-data", false), "USER_DAT.;1");
        assert_eq!(of("user_date", false), "USER_DA1.;1");
        assert_eq!(of("handoff.json", false), "HANDOFF.JSO;1");
        assert_eq!(of(".hidden", false), "_HIDDEN.;1");
        assert_eq!(of("kiln", true), "KILN");
        assert_eq!(of("é", true), "_");
    }

    #[test]
    fn names_that_joliet_has_not() {
        assert_eq!(fault("network-config"), None);
        assert_eq!(fault(&"x".repeat(64)), None);
        for name in ["a:b", "a\\b", "a\nb", "😀", &"x".repeat(65)] {
            assert!(fault(name).is_some(), "{name:?}");
        }
    }
}
