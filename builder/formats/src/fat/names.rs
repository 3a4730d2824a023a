//! Names: what FAT can hold, and the short names beside long ones (fatgen103, Long File Names).

use std::collections::{HashMap, HashSet};

/// A long name has at most 255 UTF-16 units.
const LONG_MAX: usize = 255;
/// Characters of a long name in one entry.
pub(super) const LONG_PART: usize = 13;

/// A short name as on disk: eight and three characters, padded with spaces.
pub(super) type Short = [u8; 11];

/// The short names of a directory, handed out one by one.
#[derive(Default)]
pub(super) struct Names {
    taken: HashSet<Short>,
    /// The next number to try behind `~`, by how the name begins and ends: else a directory of many alike
    /// names would take quadratic time.
    tails: HashMap<([u8; 6], [u8; 3]), u32>,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) short: Short,
    /// UTF-16 units; empty when the short name says all.
    pub(super) long: Vec<u16>,
}

/// Why FAT cannot hold a name; `None` when it can. Trailing dots and spaces get lost in drivers.
pub(super) fn fault(name: &str) -> Option<&'static str> {
    let forbidden = |char: char| char < ' ' || "\"*/:<>?\\|".contains(char);
    match () {
        () if name.is_empty() => Some("it is empty"),
        () if name.contains(forbidden) => Some("FAT forbids control characters and any of \"*/:<>?\\|"),
        () if name.ends_with(['.', ' ']) => Some("FAT drops dots and spaces at the end"),
        () if name.encode_utf16().count() > LONG_MAX => Some("it has more than 255 UTF-16 units"),
        () => None,
    }
}

/// Two names that fold to the same text cannot be in one directory.
pub(super) fn fold(name: &str) -> String {
    name.chars().flat_map(char::to_uppercase).collect()
}

impl Names {
    /// Names in one directory, in the order given. Those that are short by themselves come first to their
    /// names, so that `~1` never takes one that somebody has.
    pub(super) fn assign<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Option<Vec<Name>> {
        let mut handed = Self::default();
        let bases: Vec<Basis> = names.clone().map(Basis::of).collect();
        // A set of own names that collide only in case was refused before; here it would be a lost race.
        handed.taken.extend(bases.iter().filter(|basis| basis.fits).map(|basis| basis.short));
        names
            .zip(bases)
            .map(|(name, basis)| {
                let short = if basis.fits { basis.short } else { handed.with_tail(&basis)? };
                let long = if basis.exact { Vec::new() } else { name.encode_utf16().collect() };
                Some(Name { short, long })
            })
            .collect()
    }

    /// The Numeric-Tail Generation Algorithm: the first of `NAME~1` to `~999999` that is free.
    fn with_tail(&mut self, basis: &Basis) -> Option<Short> {
        let (mut start, mut end) = ([b' '; 6], [b' '; 3]);
        start.copy_from_slice(&basis.short[..6]);
        end.copy_from_slice(&basis.short[8..]);
        let next = self.tails.entry((start, end)).or_insert(1);
        while *next <= 999_999 {
            let tail = format!("~{next}");
            *next += 1;
            let mut short = basis.short;
            let length = short[..8].iter().position(|byte| *byte == b' ').unwrap_or(8);
            let from = length.min(8 - tail.len());
            short[from..8].fill(b' ');
            short[from..from + tail.len()].copy_from_slice(tail.as_bytes());
            if self.taken.insert(short) {
                return Some(short);
            }
        }
        None
    }
}

/// The Basis-Name Generation Algorithm.
struct Basis {
    short: Short,
    /// Nothing but case was lost: no tail is needed.
    fits: bool,
    /// Not even case was lost: no long name is needed.
    exact: bool,
}

impl Basis {
    fn of(name: &str) -> Self {
        let mut fits = true;
        let stripped = name.trim_start_matches(['.', ' ']);
        fits &= stripped.len() == name.len();
        let (primary, extension) = match stripped.rfind('.') {
            Some(dot) => (&stripped[..dot], &stripped[dot + 1..]),
            None => (stripped, ""),
        };
        let mut short = [b' '; 11];
        let (first, last) = short.split_at_mut(8);
        for (part, room) in [(primary, first), (extension, last)] {
            let mut places = room.iter_mut();
            for char in part.chars() {
                if matches!(char, ' ' | '.') {
                    fits = false;
                    continue;
                }
                let byte = u8::try_from(char).ok().filter(|byte| allowed(byte.to_ascii_uppercase()));
                fits &= byte.is_some();
                match places.next() {
                    Some(place) => *place = byte.unwrap_or(b'_').to_ascii_uppercase(),
                    None => fits = false,
                }
            }
        }
        // Names such as "+" or "..." leave nothing to begin with.
        if short[0] == b' ' {
            short[0] = b'_';
            fits = false;
        }
        let exact = fits && name.bytes().all(|byte| !byte.is_ascii_lowercase());
        Self { short, fits, exact }
    }
}

/// What a short name may hold beside letters and digits (FAT Directory Structure, `DIR_Name`).
fn allowed(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"$%'-_@~`!(){}^#&".contains(&byte)
}

/// A volume label as on disk; `None` when it is too long or has other characters than short names and spaces.
pub(super) fn label(text: &str) -> Option<Short> {
    let mut short = [b' '; 11];
    let fits = text.len() <= short.len() && !text.starts_with(' ');
    if !fits || !text.bytes().all(|byte| byte == b' ' || allowed(byte)) {
        return None;
    }
    short[..text.len()].copy_from_slice(text.as_bytes());
    Some(short)
}

/// The checksum by which the parts of a long name point to their short name (`ChkSum`).
pub(super) fn checksum(short: &Short) -> u8 {
    short.iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte))
}

#[cfg(test)]
mod tests {
    use super::{Names, fault};

    fn shorts(names: &[&str]) -> Vec<String> {
        let assigned = Names::assign(names.iter().copied()).unwrap();
        assigned
            .iter()
            .map(|name| {
                let text = String::from_utf8(name.short.to_vec()).unwrap();
                let long = if name.long.is_empty() { "" } else { "+" };
                format!("{}.{}{long}", text[..8].trim_end(), text[8..].trim_end())
            })
            .collect()
    }

    #[test]
    fn short_names() {
        for (name, short) in [
            ("BOOTX64.EFI", "BOOTX64.EFI"),
            ("bootx64.efi", "BOOTX64.EFI+"),
            ("loader.conf", "LOADER~1.CON+"),
            ("a b.c.txt", "ABC~1.TXT+"),
            (".hidden", "HIDDEN~1.+"),
            ("grüße", "GR__E~1.+"),
            ("+", "_~1.+"),
            ("kiln-6.12.0+3.efi", "KILN-6~1.EFI+"),
            ("NOEXT", "NOEXT."),
            ("\u{1f600}", "_~1.+"),
        ] {
            assert_eq!(shorts(&[name]), [short], "{name}");
        }
    }

    #[test]
    fn tails_are_unique() {
        assert_eq!(
            shorts(&["longname1", "LONGNA~1", "longname2"]),
            ["LONGNA~2.+", "LONGNA~1.", "LONGNA~3.+"]
        );
        let many: Vec<String> = (0..12_000).map(|at| format!("many alike {at:05}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let mut handed = shorts(&many);
        assert_eq!((handed[9].as_str(), handed[9_999].as_str()), ("MANYA~10.+", "MA~10000.+"));
        handed.sort();
        handed.dedup();
        assert_eq!(handed.len(), 12_000);
    }

    #[test]
    fn faults() {
        assert_eq!(fault(&"x".repeat(255)), None);
        for name in
            ["", "a:b", "a.", "a ", "a\u{1}", ".", "..", "a\\b", &"x".repeat(256), &"\u{1f600}".repeat(128)]
        {
            assert!(fault(name).is_some(), "{name}");
        }
    }
}
