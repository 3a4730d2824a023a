//! The CA bundle, as update-ca-certificates(8) makes it of the certificates in /usr/share/ca-certificates:
//! the bundle, a `.pem` link for each, and links by the hash of the subject that OpenSSL looks up by.

use super::Error;
use super::root::Root;
use sha1::{Digest, Sha1};
use std::collections::BTreeMap;

const SOURCE: &str = "usr/share/ca-certificates";
const TARGET: &str = "etc/ssl/certs";

pub(super) fn apply(root: &mut Root<'_>) -> Result<(), Error> {
    let paths: Vec<String> = root
        .tree
        .below(SOURCE)
        .filter_map(|(path, _)| std::str::from_utf8(path).ok().map(str::to_owned))
        .filter(|path| path.ends_with(".crt"))
        .collect();
    if paths.is_empty() {
        return Ok(());
    }
    let mut names: Vec<(String, String)> = paths.into_iter().map(|path| (pem_name(&path), path)).collect();
    names.sort_by(|a, b| a.1.cmp(&b.1));
    let mut bundle = String::new();
    let mut hashes: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for (name, path) in &names {
        let text = root.text(path)?.unwrap_or_default();
        bundle.push_str(text.trim_end());
        bundle.push('\n');
        root.put_link(&format!("{TARGET}/{name}"), &format!("/{path}"));
        let malformed =
            || Error::Malformed { path: path.clone(), reason: "it is not a PEM certificate".to_owned() };
        let hash = der(&text).as_deref().and_then(subject_hash).ok_or_else(malformed)?;
        hashes.entry(hash).or_default().push(name.clone());
    }
    for (hash, mut names) in hashes {
        names.sort();
        for (at, name) in names.iter().enumerate() {
            root.put_link(&format!("{TARGET}/{hash:08x}.{at}"), name);
        }
    }
    root.put_file(&format!("{TARGET}/ca-certificates.crt"), bundle, 0o644);
    let list: String = names.iter().map(|(_, path)| format!("{}\n", &path[SOURCE.len() + 1..])).collect();
    let head = "# Certificates in /usr/share/ca-certificates that /etc/ssl/certs trusts; \"!\" in front takes one out.\n";
    root.put_file("etc/ca-certificates.conf", head.to_owned() + &list, 0o644);
    Ok(())
}

/// The name under which update-ca-certificates links a certificate.
fn pem_name(path: &str) -> String {
    let base = path.rsplit('/').next().unwrap_or(path);
    let base = base.strip_suffix(".crt").unwrap_or(base);
    let name: String = base
        .chars()
        .filter(|c| !matches!(c, '(' | ')'))
        .map(|c| match c {
            ' ' => '_',
            ',' => '=',
            c => c,
        })
        .collect();
    name + ".pem"
}

/// The bytes inside the first PEM block (RFC 7468).
fn der(text: &str) -> Option<Vec<u8>> {
    let body = text.split_once("-----BEGIN CERTIFICATE-----")?.1.split_once("-----END CERTIFICATE-----")?.0;
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for c in body.bytes().filter(|c| !c.is_ascii_whitespace() && *c != b'=') {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
    }
    Some(bytes)
}

/// Tag, content and what follows of a DER element (X.690, definite lengths).
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, first) = (*bytes.first()?, *bytes.get(1)?);
    let (len, start) = match first {
        0..=0x7f => (usize::from(first), 2),
        0x81..=0x84 => {
            let count = usize::from(first & 0x7f);
            let digits = bytes.get(2..2 + count)?;
            (digits.iter().fold(0_usize, |len, digit| len << 8 | usize::from(*digit)), 2 + count)
        }
        _ => return None,
    };
    let end = start.checked_add(len)?;
    Some((tag, bytes.get(start..end)?, bytes.get(end..)?))
}

fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = content.len().to_be_bytes();
    let len: Vec<u8> = len.into_iter().skip_while(|byte| *byte == 0).collect();
    let mut out = vec![tag];
    match len[..] {
        [] => out.push(0),
        [short @ 0..=0x7f] => out.push(short),
        _ => {
            out.push(0x80 | u8::try_from(len.len()).unwrap_or(0));
            out.extend(&len);
        }
    }
    out.extend(content);
    out
}

/// OpenSSL's `X509_NAME_hash`: the first four bytes, little-endian, of the SHA-1 of the subject's
/// relative names in canonical form.
fn subject_hash(certificate: &[u8]) -> Option<u32> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut fields, _) = element(certificate)?;
    // RFC 5280 4.1: version, serial, signature, issuer, validity, subject.
    if *fields.first()? == 0xa0 {
        fields = element(fields)?.2;
    }
    for _ in 0..4 {
        fields = element(fields)?.2;
    }
    let (_, mut names, _) = element(fields)?;
    let mut canonical = Vec::new();
    while !names.is_empty() {
        let (_, mut set, rest) = element(names)?;
        let mut members = Vec::new();
        while !set.is_empty() {
            let (_, pair, others) = element(set)?;
            let (_, _, value) = element(pair)?;
            let oid = &pair[..pair.len() - value.len()];
            let (tag, text, _) = element(value)?;
            members.push(wrap(0x30, &[oid, &canonical_value(tag, text, value)].concat()));
            set = others;
        }
        members.sort();
        canonical.extend(wrap(0x31, &members.concat()));
        names = rest;
    }
    let digest = Sha1::digest(&canonical);
    Some(u32::from_le_bytes(digest.get(..4)?.try_into().ok()?))
}

/// Texts become UTF-8, lower-case ASCII, with blanks trimmed and run together; other types stay as they are.
fn canonical_value(tag: u8, text: &[u8], whole: &[u8]) -> Vec<u8> {
    let text = match tag {
        // UTF8String, NumericString (not), PrintableString, T61String, IA5String, VisibleString.
        0x0c => String::from_utf8_lossy(text).into_owned(),
        0x13 | 0x14 | 0x16 | 0x1a => text.iter().map(|byte| char::from(*byte)).collect(),
        // BMPString: UTF-16, big-endian.
        0x1e => {
            let units: Vec<u16> =
                text.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            String::from_utf16_lossy(&units)
        }
        _ => return whole.to_vec(),
    };
    let words: Vec<&str> = text
        .split(|c: char| c.is_ascii_whitespace() || c == '\u{b}')
        .filter(|word| !word.is_empty())
        .collect();
    wrap(0x0c, words.join(" ").to_ascii_lowercase().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::{canonical_value, der, element, pem_name, subject_hash, wrap};

    #[test]
    fn names_lose_what_shells_dislike() {
        assert_eq!(pem_name("usr/share/ca-certificates/mozilla/A B, C (D).crt"), "A_B=_C_D.pem");
    }

    #[test]
    fn texts_are_canonical() {
        assert_eq!(canonical_value(0x13, b"  Foo \t BAR ", b""), b"\x0c\x07foo bar");
        assert_eq!(canonical_value(0x1e, b"\0A\0b", b""), b"\x0c\x02ab");
        assert_eq!(canonical_value(0x03, b"", b"\x03\x01x"), b"\x03\x01x");
    }

    #[test]
    fn lengths_round_trip_and_hostile_bytes_are_none() {
        for len in [0, 1, 127, 128, 255, 256, 70_000] {
            let bytes = wrap(4, &vec![7; len]);
            assert_eq!(
                element(&bytes).map(|(tag, content, rest)| (tag, content.len(), rest.len())),
                Some((4, len, 0))
            );
        }
        assert_eq!(element(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(subject_hash(b"\x30\x03\x30\x01\x02"), None);
        assert_eq!(der("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"), None);
    }
}
