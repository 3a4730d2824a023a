//! The certificate authorities of a k3s cluster, and the hash of one that a token carries.

use super::Error;
use crate::digest::Sha256;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// A certificate authority of k3s. Each signs itself, as those do that k3s makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Authority {
    /// Signs what servers and kubelets show; what tokens pin.
    Server,
    /// Signs client certificates.
    Client,
    /// Signs the API aggregation's proxy.
    RequestHeader,
    /// Signs etcd's servers and clients.
    EtcdServer,
    /// Signs etcd's members to one another.
    EtcdPeer,
}

impl Authority {
    /// All five. k3s wants those of etcd even where it runs without etcd.
    pub const ALL: [Self; 5] =
        [Self::Server, Self::Client, Self::RequestHeader, Self::EtcdServer, Self::EtcdPeer];

    /// Its name, such as `server-ca`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "server-ca",
            Self::Client => "client-ca",
            Self::RequestHeader => "request-header-ca",
            Self::EtcdServer => "etcd-server-ca",
            Self::EtcdPeer => "etcd-peer-ca",
        }
    }
    /// Path of its files below `/var/lib/rancher/k3s/server/tls`, without `.crt` or `.key`
    /// (docs.k3s.io/cli/certificate).
    pub fn path(self) -> &'static str {
        match self {
            Self::Server => "server-ca",
            Self::Client => "client-ca",
            Self::RequestHeader => "request-header-ca",
            Self::EtcdServer => "etcd/server-ca",
            Self::EtcdPeer => "etcd/peer-ca",
        }
    }
    /// The start of its common name; `-ca@` and the seconds since 1970 follow.
    pub(super) fn common_name(self) -> &'static str {
        match self {
            Self::Server => "k3s-server",
            Self::Client => "k3s-client",
            Self::RequestHeader => "k3s-request-header",
            Self::EtcdServer => "etcd-server",
            Self::EtcdPeer => "etcd-peer",
        }
    }
}

/// The hash of a bundle that `/cacerts` serves, as tokens carry it: of the bytes when it is one certificate, of the
/// DER of the root that the first one leads to when it is more (k3s, pkg/clientaccess/token.go). Where k3s finds no
/// root it takes the bytes, and so does this. `what` is for messages.
pub fn bundle_hash(bundle: &str, what: &str) -> Result<Sha256, Error> {
    let certificates = certificates(bundle, what)?;
    if certificates.len() == 1 {
        return Ok(Sha256::of(bundle.as_bytes()));
    }
    let root = root(&certificates);
    Ok(Sha256::of(root.unwrap_or(bundle.as_bytes())))
}

/// The digest that people compare certificates by: of the DER of the first one.
pub(super) fn fingerprint(bundle: &str, what: &str) -> Result<Sha256, Error> {
    Ok(Sha256::of(&certificates(bundle, what)?[0]))
}

/// From when to when all certificates of a bundle are valid, seconds since 1970.
pub(super) fn validity(bundle: &str, what: &str) -> Result<(i64, i64), Error> {
    let mut both = (i64::MIN, i64::MAX);
    for der in certificates(bundle, what)? {
        let wrong = || Error::Certificate { what: what.to_owned(), reason: "it has no dates".to_owned() };
        let (from, until) = names(&der).and_then(|names| dates(names.validity)).ok_or_else(wrong)?;
        both = (both.0.max(from), both.1.min(until));
    }
    Ok(both)
}

/// RFC 5280 §4.1.2.5: two times.
fn dates(validity: &[u8]) -> Option<(i64, i64)> {
    let (from_tag, from, rest) = item(validity)?;
    let (until_tag, until, _) = item(rest)?;
    Some((date(from_tag, from)?, date(until_tag, until)?))
}

/// UTCTime (two digits for the year, from 1950 on) or GeneralizedTime, both in seconds and Zulu (RFC 5280 §4.1.2.5.1 f.).
fn date(tag: u8, text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let text = match (tag, text.len()) {
        (0x17, 12) if text < "50" => format!("20{text}"),
        (0x17, 12) => format!("19{text}"),
        (0x18, 14) => text.to_owned(),
        _ => return None,
    };
    let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", text).ok()?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

/// The DER of each certificate of a PEM bundle (RFC 7468 §5); at least one.
fn certificates(bundle: &str, what: &str) -> Result<Vec<Vec<u8>>, Error> {
    let wrong = |reason: &str| Error::Certificate { what: what.to_owned(), reason: reason.to_owned() };
    let mut found = Vec::new();
    for block in bundle.split("-----BEGIN CERTIFICATE-----").skip(1) {
        let (body, _) = block.split_once("-----END CERTIFICATE-----").ok_or_else(|| wrong("it was cut"))?;
        let body: String = body.split_whitespace().collect();
        found.push(STANDARD.decode(body).map_err(|_| wrong("it is not base64"))?);
    }
    if found.is_empty() { Err(wrong("there is no certificate in it")) } else { Ok(found) }
}

/// From the first certificate by issuer to one that names itself.
fn root(certificates: &[Vec<u8>]) -> Option<&[u8]> {
    let named: Vec<(Names<'_>, &[u8])> =
        certificates.iter().map(|der| Some((names(der)?, der.as_slice()))).collect::<Option<_>>()?;
    let (mut at, _) = *named.first()?;
    for _ in 0..named.len() {
        let (next, der) = named[1..].iter().find(|(names, _)| names.subject == at.issuer)?;
        if next.subject == next.issuer {
            return Some(der);
        }
        at = *next;
    }
    None
}

#[derive(Clone, Copy)]
struct Names<'a> {
    issuer: &'a [u8],
    subject: &'a [u8],
    validity: &'a [u8],
}

/// RFC 5280 §4.1: Certificate is a sequence whose first item is one of: [0] version, serial number, algorithm,
/// issuer, validity, subject, ...
fn names(der: &[u8]) -> Option<Names<'_>> {
    let (_, certificate, _) = item(der)?;
    let (_, mut rest, _) = item(certificate)?;
    let (tag, _, after) = item(rest)?;
    if tag == 0xa0 {
        rest = after;
    }
    let (_, _, rest) = item(rest)?;
    let (_, _, rest) = item(rest)?;
    let (_, issuer, rest) = item(rest)?;
    let (_, validity, rest) = item(rest)?;
    let (_, subject, _) = item(rest)?;
    Some(Names { issuer, subject, validity })
}

/// Tag, content and what follows (X.690 §8.1).
fn item(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk::<2>()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if digits.len() > 4 {
            return None;
        }
        (digits.iter().fold(0_usize, |length, digit| length << 8 | usize::from(*digit)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}
