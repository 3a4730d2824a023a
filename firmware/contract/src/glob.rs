//! Shell patterns, as cluster files name disks by and as depmod writes its aliases.

/// Shell patterns as fnmatch(3) with no flags has them: `*`, `?`, `[a-z]`, `[!a-z]`, `\`.
pub fn matches(mut pattern: &[u8], mut text: &[u8]) -> bool {
    // Where to take up again after the last star: (pattern after the star, text it has not swallowed yet).
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let Some(rest) = pattern.strip_prefix(b"*") {
            pattern = rest;
            retry = Some((rest, text));
            continue;
        }
        let step = text.split_first().and_then(|(byte, rest)| Some((match_one(pattern, *byte)?, rest)));
        if let Some((rest_of_pattern, rest_of_text)) = step {
            (pattern, text) = (rest_of_pattern, rest_of_text);
        } else if pattern.is_empty() && text.is_empty() {
            return true;
        } else {
            let Some((after_star, [_, rest @ ..])) = retry else { return false };
            (pattern, text) = (after_star, rest);
            retry = Some((after_star, rest));
        }
    }
}

/// The pattern after its first element, when that element takes `byte`.
fn match_one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [b'?', rest @ ..] => Some(rest),
        [b'[', rest @ ..] if rest.contains(&b']') => {
            let negated = matches!(rest.first(), Some(b'!' | b'^'));
            let set = if negated { &rest[1..] } else { rest };
            // A bracket right at the start is a member, not the end.
            let end = set.iter().skip(1).position(|member| *member == b']')? + 1;
            let (members, rest) = (&set[..end], &set[end + 1..]);
            (in_set(members, byte) != negated).then_some(rest)
        }
        [b'\\', literal, rest @ ..] => (*literal == byte).then_some(rest),
        [literal, rest @ ..] => (*literal == byte).then_some(rest),
        [] => None,
    }
}

fn in_set(mut members: &[u8], byte: u8) -> bool {
    loop {
        members = match members {
            [] => return false,
            [low, b'-', high, rest @ ..] => {
                if (*low..=*high).contains(&byte) {
                    return true;
                }
                rest
            }
            [member, rest @ ..] => {
                if *member == byte {
                    return true;
                }
                rest
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::matches;
    use proptest::prelude::proptest;

    #[test]
    fn patterns_match_as_fnmatch_does() {
        let virtio = "pci:v00001AF4d00001042sv00001AF4sd00001100bc01sc00i00";
        let table = [
            ("pci:v00001AF4d*sv*sd*bc*sc*i*", virtio, true),
            ("pci:v00001AF4d00001042sv*sd*bc*sc*i*", virtio, true),
            ("pci:v00001AF5d*sv*sd*bc*sc*i*", virtio, false),
            ("pci:v*d*sv*sd*bc01sc06i01*", virtio, false),
            ("pci:v*d*sv*sd*bc01sc00i*", virtio, true),
            ("usb:v*p*d*dc*dsc*dp*ic08isc06ip[5-8]0in*", "usb:v1p1d1dc0dsc0dp0ic08isc06ip50in00", true),
            ("usb:v*p*d*dc*dsc*dp*ic08isc06ip[5-8]0in*", "usb:v1p1d1dc0dsc0dp0ic08isc06ip90in00", false),
            ("a[!b]c", "abc", false),
            ("a[!b]c", "axc", true),
            ("a[]]c", "a]c", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a\\*c", "a*c", true),
            ("a\\*c", "abc", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXcXb", false),
            ("a[b", "a[b", true),
            ("acpi*:PNP0A03:*", "acpi:PNP0A03:", true),
        ];
        for (pattern, text, want) in table {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), want, "{pattern} against {text}");
        }
    }

    proptest! {
        #[test]
        fn hostile_patterns_end(pattern in "[a\\*\\?\\[\\]!\\\\-]{0,40}", text in "[ab]{0,40}") {
            let _ = matches(pattern.as_bytes(), text.as_bytes());
        }
    }
}
