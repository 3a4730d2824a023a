//! Debian version numbers and their order (Debian Policy §5.6.12, deb-version(7)).

use std::cmp::Ordering;
use std::fmt;

/// A version as it is written: `[epoch:]upstream[-revision]`. Order and equality are Debian's, so
/// `1.0` equals `0:1.0-0`.
#[derive(Debug, Clone, Copy)]
pub struct Version<'a>(&'a str);

impl<'a> Version<'a> {
    /// Takes the text as a version when its characters can be in one.
    pub fn parse(text: &'a str) -> Option<Self> {
        let ok = |byte: u8| byte.is_ascii_alphanumeric() || b".+-:~".contains(&byte);
        let epoch_ok =
            text.split_once(':').is_none_or(|(epoch, rest)| epoch.parse::<u32>().is_ok() && !rest.is_empty());
        (!text.is_empty() && text.bytes().all(ok) && epoch_ok).then_some(Self(text))
    }

    /// The text.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// Epoch, upstream version and revision; what is left out counts as `0`.
    fn parts(self) -> (u32, &'a str, &'a str) {
        let (epoch, rest) = self.0.split_once(':').unwrap_or(("0", self.0));
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, "0"));
        (epoch.parse().unwrap_or(0), upstream, revision)
    }
}

/// The weight of a character outside a number: `~` before the end, the end before letters, letters before
/// the rest.
fn weight(byte: Option<&u8>) -> u16 {
    match byte {
        Some(b'~') => 0,
        None | Some(b'0'..=b'9') => 1,
        Some(letter) if letter.is_ascii_alphabetic() => u16::from(*letter) + 1,
        Some(other) => u16::from(*other) + 257,
    }
}

/// Takes the digits at the front, without leading zeros, off `text`.
fn number<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let zeros = text.iter().take_while(|byte| **byte == b'0').count();
    let end = zeros + text[zeros..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let digits = &text[zeros..end];
    *text = &text[end..];
    digits
}

fn compare_part(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    while !left.is_empty() || !right.is_empty() {
        loop {
            let order = weight(left.first()).cmp(&weight(right.first()));
            if order.is_ne() {
                return order;
            }
            if left.first().is_none_or(u8::is_ascii_digit) {
                break; // equal weights: the right one is at a number or its end, too
            }
            (left, right) = (&left[1..], &right[1..]);
        }
        let (a, b) = (number(&mut left), number(&mut right));
        let order = a.len().cmp(&b.len()).then_with(|| a.cmp(b));
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

impl Ord for Version<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self.parts(), other.parts());
        a.0.cmp(&b.0).then_with(|| compare_part(a.1, b.1)).then_with(|| compare_part(a.2, b.2))
    }
}

impl PartialOrd for Version<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version<'_> {}

impl fmt::Display for Version<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Version;
    use proptest::{prop_assert_eq, proptest};
    use std::cmp::Ordering;

    fn version(text: &str) -> Version<'_> {
        Version::parse(text).unwrap()
    }

    #[test]
    fn order_is_debians() {
        let sorted = [
            "0~~",
            "0~~a",
            "0~",
            "0",
            "0.0~rc1",
            "0.1",
            "1.0~beta1~svn",
            "1.0~beta1",
            "1.0",
            "1.0-1~",
            "1.0-1",
            "1.0-1+b1",
            "1.0-1.1",
            "1.0-10",
            "1.0a",
            "1.0+1",
            "1.0.1",
            "1.2.3-4-1",
            "1.10",
            "1:0.1",
            "2:0",
        ];
        for pair in sorted.windows(2) {
            assert!(version(pair[0]) < version(pair[1]), "{} < {}", pair[0], pair[1]);
        }
    }

    #[test]
    fn what_is_left_out_is_zero() {
        for (a, b) in
            [("1", "0:1"), ("1", "1-0"), ("1.0", "1.00"), ("1.", "1.0"), ("1a", "1a0"), ("00:1", "1")]
        {
            assert_eq!(version(a), version(b));
        }
    }

    #[test]
    fn what_is_no_version() {
        for text in ["", "1 0", "a:1", ":1", "1:", "99999999999:1", "1_0", "1\u{e9}"] {
            assert!(Version::parse(text).is_none(), "{text:?}");
        }
    }

    /// dpkg has the last word on the order.
    #[test]
    fn agrees_with_dpkg() {
        let some = [
            "1.0", "1.0~", "1.0-1", "1.0+b", "1.0a", "1:0", "1.0-1~x", "1.0-01", "1.0.", "1.0-a.0", "1.0-a.",
        ];
        for (a, b) in some.iter().flat_map(|a| some.iter().map(move |b| (a, b))) {
            let op = match version(a).cmp(&version(b)) {
                Ordering::Less => "lt",
                Ordering::Equal => "eq",
                Ordering::Greater => "gt",
            };
            let status = std::process::Command::new("dpkg").args(["--compare-versions", a, op, b]).status();
            let status = status.expect("this test compares with dpkg: install the Debian package dpkg");
            assert!(status.success(), "dpkg does not say {a} {op} {b}");
        }
    }

    proptest! {
        #[test]
        fn order_is_total(a in "[0-2a~.+:-]{1,7}", b in "[0-2a~.+:-]{1,7}", c in "[0-2a~.+:-]{1,7}") {
            if let (Some(a), Some(b), Some(c)) = (Version::parse(&a), Version::parse(&b), Version::parse(&c)) {
                prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
                if a <= b && b <= c {
                    assert!(a <= c);
                }
            }
        }
    }
}
