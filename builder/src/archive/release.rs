//! `InRelease`: a signed list of an archive's indices with their digests.
//!
//! The form is the one of <https://wiki.debian.org/DebianRepository/Format#A.22Release.22_files> inside the
//! cleartext signature framework of RFC 9580 §7.

use super::control::stanzas;
use super::keyring::{Keyring, issuers};
use crate::digest::Sha256;
use jiff::{Timestamp, civil::DateTime, fmt::strtime, tz::TimeZone};
use pgp::composed::CleartextSignedMessage;
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use std::collections::BTreeMap;

/// The most lines of a release file (trixie's has 1,700), of them before its text, and bytes of its signatures: the OpenPGP
/// library takes minutes over what an enemy makes of more.
const MOST_LINES: usize = 50_000;
const MOST_HEADERS: usize = 8;
const MOST_SIGNATURE: usize = 32 << 10;
/// The most bytes of a line.
const MOST_LINE: usize = 1 << 12;
/// The most signatures that are tried; Debian makes three.
const MOST_SIGNATURES: usize = 16;

/// How far a release's date may lie ahead of the clock, in seconds.
const CLOCK_SLACK: i64 = 600;

/// A release file that was signed by a trusted key and is of the suite that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// `Suite`, such as `stable`.
    pub suite: String,
    /// `Codename`, such as `trixie`.
    pub codename: String,
    /// `Date`, seconds since the epoch.
    pub date: i64,
    /// `Valid-Until`, seconds since the epoch.
    pub valid_until: Option<i64>,
    /// The indices by path below the suite's directory.
    pub files: BTreeMap<String, Listed>,
    /// The key that signed: fingerprint and owner.
    pub signed_by: String,
}

/// A file of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Size in bytes.
    pub size: u64,
    /// Digest.
    pub sha256: Sha256,
}

/// What a release is held against.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The suite that was asked for: its `Codename` or its `Suite`.
    pub suite: &'a str,
    /// The keys that are trusted.
    pub keyring: &'a Keyring,
    /// The time, seconds since the epoch.
    pub now: i64,
    /// A release whose `Valid-Until` has passed is taken, too: the user knows that the mirror stands still.
    pub expired: bool,
}

/// Why a release is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No cleartext signed message.
    #[error(
        "it is no signed release file ({reason}); a login page of the network or a broken mirror can be the cause"
    )]
    NotSigned {
        /// What the parser says.
        reason: String,
    },
    /// No signature is by a trusted key.
    #[error("it is signed by {}, and none of these keys is trusted; trusted are {}", found.join(", "), trusted.join(", "))]
    UnknownKey {
        /// Fingerprints or key ids that the signatures name.
        found: Vec<String>,
        /// Fingerprints of the trusted keys.
        trusted: Vec<String>,
    },
    /// A signature names a trusted key and does not fit the text.
    #[error("it was changed after it was signed: the signature by {key} does not fit the text")]
    Tampered {
        /// Fingerprint and owner.
        key: String,
    },
    /// The signature fits, but its key or itself has ended.
    #[error("the signature by {key} does not count any more: it ended on {ended}")]
    EndedKey {
        /// Fingerprint and owner.
        key: String,
        /// Date.
        ended: String,
    },
    /// The signature uses a digest that is broken.
    #[error("the signature by {key} uses {digest}, which can be forged")]
    WeakDigest {
        /// Fingerprint and owner.
        key: String,
        /// Name of the digest.
        digest: String,
    },
    /// Another suite.
    #[error("it is of suite {codename} ({suite}), and {wanted} was asked for")]
    WrongSuite {
        /// `Codename` of the file.
        codename: String,
        /// `Suite` of the file.
        suite: String,
        /// What was asked for.
        wanted: String,
    },
    /// `Valid-Until` lies in the past.
    #[error(
        "it was valid until {until}, and now it is {now}; the mirror is stale, or the clock of this machine is wrong; where it \
         is meant to stand still, `kiln lock --allow-expired` takes it"
    )]
    Expired {
        /// `Valid-Until`.
        until: String,
        /// The caller's time.
        now: String,
    },
    /// `Date` lies in the future.
    #[error("it is dated {date}, and now it is {now}: the clock of this machine is wrong")]
    FromTheFuture {
        /// `Date`.
        date: String,
        /// The caller's time.
        now: String,
    },
    /// A field that must be there.
    #[error("{}", match value { Some(value) => format!("{value:?} is no {field}"), None => format!("there is no {field}") })]
    BadField {
        /// Name.
        field: &'static str,
        /// Its value.
        value: Option<String>,
    },
}

impl Release {
    /// Takes an `InRelease` file when it is signed, current and of the suite that was asked for.
    pub fn open(in_release: &[u8], expected: Expected<'_>) -> Result<Self, Error> {
        let message = message(in_release)?;
        let signed = message.signed_text();
        let signed_by = check(message.signatures(), &signed, expected)?;
        // Only what the signature covers is read, never the file around it.
        let release = Self { signed_by, ..Self::parse(&signed.replace("\r\n", "\n"))? };
        release.check_suite(expected.suite)?;
        release.check_dates(expected)?;
        Ok(release)
    }

    /// Reads the list of an `InRelease` file without looking at its signatures: for finding the keyring of an
    /// archive, which is then judged by itself.
    pub fn open_untrusted(in_release: &[u8]) -> Result<Self, Error> {
        Self::parse(&message(in_release)?.signed_text().replace("\r\n", "\n"))
    }

    fn parse(text: &str) -> Result<Self, Error> {
        let missing = |field| Error::BadField { field, value: None };
        let stanza = stanzas(text).next().ok_or_else(|| missing("Codename"))?;
        let date = |field| {
            let value = stanza.get(field);
            let bad = |value: &str| Error::BadField { field, value: Some(value.to_owned()) };
            value.map(|value| parse_date(value).ok_or_else(|| bad(value))).transpose()
        };
        let mut files = BTreeMap::new();
        for line in stanza.get("SHA256").ok_or_else(|| missing("SHA256"))?.lines() {
            let (path, listed) = parse_listed(line).ok_or_else(|| Error::BadField {
                field: "line of SHA256",
                value: Some(line.trim().to_owned()),
            })?;
            files.insert(path.to_owned(), listed);
        }
        Ok(Self {
            suite: stanza.get("Suite").unwrap_or_default().to_owned(),
            codename: stanza.get("Codename").ok_or_else(|| missing("Codename"))?.to_owned(),
            date: date("Date")?.ok_or_else(|| missing("Date"))?,
            valid_until: date("Valid-Until")?,
            files,
            signed_by: String::new(),
        })
    }

    fn check_suite(&self, wanted: &str) -> Result<(), Error> {
        if self.codename == wanted || self.suite == wanted {
            return Ok(());
        }
        Err(Error::WrongSuite {
            codename: self.codename.clone(),
            suite: self.suite.clone(),
            wanted: wanted.to_owned(),
        })
    }

    fn check_dates(&self, Expected { now, expired, .. }: Expected<'_>) -> Result<(), Error> {
        match self.valid_until {
            Some(until) if until < now && !expired => {
                Err(Error::Expired { until: show_date(until), now: show_date(now) })
            }
            _ if self.date > now.saturating_add(CLOCK_SLACK) => {
                Err(Error::FromTheFuture { date: show_date(self.date), now: show_date(now) })
            }
            _ => Ok(()),
        }
    }
}

/// The signed message of a file that has the form of one.
fn message(in_release: &[u8]) -> Result<CleartextSignedMessage, Error> {
    let not_signed = |reason: String| Error::NotSigned { reason };
    let text = std::str::from_utf8(in_release).map_err(|fault| not_signed(fault.to_string()))?;
    bounded(text).map_err(|reason| not_signed(reason.to_owned()))?;
    let read = CleartextSignedMessage::from_string(text);
    read.map(|(message, _)| message).map_err(|fault| not_signed(fault.to_string()))
}

/// Whether the text is as long as an honest one at most.
fn bounded(text: &str) -> Result<(), &'static str> {
    const MESSAGE: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
    const SIGNATURE: &str = "\n-----BEGIN PGP SIGNATURE-----";
    let lines = || text.split(['\n', '\r']);
    if !text.trim_start().starts_with(MESSAGE) {
        return Err("it does not begin as one");
    }
    if lines().count() > MOST_LINES || lines().any(|line| line.len() > MOST_LINE) {
        return Err("it has too many lines, or too long ones");
    }
    let headers = text.trim_start().lines().skip(1).take_while(|line| !line.trim().is_empty());
    if headers.count() > MOST_HEADERS {
        return Err("it has too many headers");
    }
    let Some((_, signature)) = text.split_once(SIGNATURE) else { return Err("it has no signature") };
    if signature.len() > MOST_SIGNATURE { Err("its signatures are too long") } else { Ok(()) }
}

/// The key of the first signature that counts, else why the most promising one does not.
fn check(signatures: &[Signature], text: &str, expected: Expected<'_>) -> Result<String, Error> {
    let mut refused = None;
    for signature in signatures.iter().take(MOST_SIGNATURES) {
        for key in expected.keyring.issuers(signature) {
            match judge(signature, key, text, expected.now) {
                Ok(()) => return Ok(key.to_string()),
                // A tampered text is the graver finding, whichever signature is seen first.
                Err(fault @ Error::Tampered { .. }) => refused = Some(fault),
                Err(fault) => refused = refused.or(Some(fault)),
            }
        }
    }
    Err(refused.unwrap_or_else(|| Error::UnknownKey {
        found: signatures.iter().flat_map(issuers).collect(),
        trusted: expected.keyring.keys().iter().map(|key| key.fingerprint.clone()).collect(),
    }))
}

fn judge(signature: &Signature, key: &super::keyring::Key, text: &str, now: i64) -> Result<(), Error> {
    let of_a_document = matches!(signature.typ(), Some(SignatureType::Text | SignatureType::Binary));
    if !of_a_document || !key.verifies(signature, text.as_bytes()) {
        return Err(Error::Tampered { key: key.to_string() });
    }
    let strong = [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512];
    let digest = signature.hash_alg().unwrap_or(HashAlgorithm::None);
    if !strong.contains(&digest) {
        return Err(Error::WeakDigest { key: key.to_string(), digest: digest.to_string() });
    }
    let made = signature.created().map_or(0, |time| i64::from(time.as_secs()));
    let lifetime = signature.signature_expiration_time().filter(|time| time.as_secs() > 0);
    let ends = lifetime.map(|time| made + i64::from(time.as_secs()));
    let ended = [key.expires, ends].into_iter().flatten().filter(|ends| *ends <= now).min();
    match ended {
        Some(ended) => Err(Error::EndedKey { key: key.to_string(), ended: show_date(ended) }),
        None => Ok(()),
    }
}

/// A date as release files have it: `Sat, 12 Sep 2026 07:55:41 UTC`.
fn parse_date(text: &str) -> Option<i64> {
    let text = text.trim().strip_suffix("UTC").or_else(|| text.trim().strip_suffix("GMT"))?.trim_end();
    let parts = strtime::parse("%a, %d %b %Y %H:%M:%S", text).ok()?;
    let time: DateTime = parts.to_datetime().ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second())
}

/// RFC 3339 of seconds since the epoch; the number itself when it is out of range.
pub fn show_date(secs: i64) -> String {
    Timestamp::from_second(secs).map_or_else(|_| secs.to_string(), |time| time.to_string())
}

fn parse_listed(line: &str) -> Option<(&str, Listed)> {
    let mut words = line.split_ascii_whitespace();
    let (sha256, size, path) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?);
    let inside = path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    (inside && words.next().is_none()).then_some((path, Listed { size, sha256 }))
}

#[cfg(test)]
mod tests;
