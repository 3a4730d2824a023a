//! Keys that sign archives: read from OpenPGP certificates (RFC 9580 §10.1), with their expiry and the
//! binding of every signing subkey checked.

use crate::digest::Sha256;
use pgp::composed::{Deserializable as _, SignedPublicKey};
use pgp::packet::{PublicKey, PublicSubkey, Signature, SignatureType};
use pgp::ser::Serialize as _;
use pgp::types::{KeyDetails as _, Tag, Timestamp};
use std::fmt;

/// A certificate known beforehand: a fact, not a key.
#[derive(Debug, Clone, Copy)]
pub struct Pin {
    /// Whose it is.
    pub owner: &'static str,
    /// Version 4 fingerprint of the primary key, upper-case hexadecimal.
    pub fingerprint: &'static str,
    /// SHA-256 of the body of the primary key's packet: the fingerprint alone is SHA-1.
    pub packet: &'static str,
}

/// The archive signing keys of Debian 12 and 13, as <https://ftp-master.debian.org/keys.html> lists them.
pub const DEBIAN: &[Pin] = &[
    Pin {
        owner: "Debian Stable Release Key (12/bookworm)",
        fingerprint: "4D64FEC119C2029067D6E791F8D2585B8783D481",
        packet: "e694217a8597f2d2fe54ee451198ec23e1a18e3648c2f5508a35369584e6ed44",
    },
    Pin {
        owner: "Debian Archive Automatic Signing Key (12/bookworm)",
        fingerprint: "B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8",
        packet: "04dfd389405db37246e89be006d9e2d04adbcc70e801720987244b92494e8d53",
    },
    Pin {
        owner: "Debian Security Archive Automatic Signing Key (12/bookworm)",
        fingerprint: "05AB90340C0C5E797F44A8C8254CF3B5AEC0A8F0",
        packet: "a28750af2edfa018be87eb995106e99d6cb012790900ba21bcb44c548432f4c1",
    },
    Pin {
        owner: "Debian Stable Release Key (13/trixie)",
        fingerprint: "41587F7DB8C774BCCF131416762F67A0B2C39DE4",
        packet: "1e2dac83f5aba374c124d2f97829633265c564b6b2d2ffc398777610dd7788b9",
    },
    Pin {
        owner: "Debian Archive Automatic Signing Key (13/trixie)",
        fingerprint: "04B54C3CDCA79751B16BC6B5225629DF75B188BD",
        packet: "0a5adec3207421e86bdf451a5733ef862a645d6758b2b50a7457a49f96d3a69f",
    },
    Pin {
        owner: "Debian Security Archive Automatic Signing Key (13/trixie)",
        fingerprint: "5E04A1E3223A19A20706E20F9904613D4CCE68C6",
        packet: "a7457ac0425e1763a997a5f235184f4e458ba4980e237fa2d080566085c74c61",
    },
];

/// Which certificates of a keyring count.
#[derive(Debug, Clone, Copy)]
pub enum Trust {
    /// All: the user named the keyring.
    All,
    /// Those that are pinned, wherever the bytes came from.
    Pinned(&'static [Pin]),
}

/// Keys that may sign an archive.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    keys: Vec<Key>,
}

/// One key that may sign: a primary key or a subkey bound to it.
#[derive(Debug, Clone)]
pub struct Key {
    packet: KeyPacket,
    /// Fingerprint, upper-case hexadecimal.
    pub fingerprint: String,
    /// Fingerprint of the primary key.
    pub certificate: String,
    /// First user id of the certificate.
    pub owner: String,
    /// Seconds since the epoch from which the key is not valid any more.
    pub expires: Option<i64>,
}

#[derive(Debug, Clone)]
enum KeyPacket {
    Primary(Box<PublicKey>),
    Subkey(Box<PublicSubkey>),
}

/// The bytes hold no key that counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a sequence of OpenPGP certificates, binary or armoured.
    #[error("this is no OpenPGP keyring ({reason}); `gpg --export` and `gpg --export --armor` make one")]
    NotAKeyring {
        /// What the parser says.
        reason: String,
    },
    /// Certificates, but none that counts or none that can sign.
    #[error("none of the {found} keys of this keyring is a known Debian archive key that can sign")]
    NothingTrusted {
        /// Number of certificates that were read.
        found: usize,
    },
}

impl Keyring {
    /// Reads certificates from `bytes`, binary or armoured, one after the other. Certificates that do not
    /// count, are revoked or do not parse, and subkeys whose binding does not hold, are left out.
    pub fn parse(bytes: &[u8], trust: Trust) -> Result<Self, Error> {
        let not_a_keyring = |reason: pgp::errors::Error| Error::NotAKeyring { reason: reason.to_string() };
        let (certificates, _) = SignedPublicKey::from_reader_many(bytes).map_err(not_a_keyring)?;
        let (mut keys, mut found, mut fault) = (Vec::new(), 0, None);
        for certificate in certificates {
            match certificate {
                Ok(certificate) => {
                    found += 1;
                    if trust.counts(&certificate) {
                        keys.extend(signing_keys(&certificate));
                    }
                }
                Err(reason) => fault = Some(reason),
            }
        }
        match (keys.is_empty(), found, fault) {
            (false, ..) => Ok(Self { keys }),
            (true, 0, Some(reason)) => Err(not_a_keyring(reason)),
            (true, 0, None) => Err(Error::NotAKeyring { reason: "it is empty".to_owned() }),
            (true, found, _) => Err(Error::NothingTrusted { found }),
        }
    }

    /// All keys.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The keys that a signature says it was made by.
    pub(super) fn issuers<'a>(&'a self, signature: &Signature) -> impl Iterator<Item = &'a Key> {
        let issuers = issuers(signature);
        self.keys.iter().filter(move |key| issuers.iter().any(|issuer| key.fingerprint.ends_with(issuer)))
    }
}

/// The fingerprints, or where there is none the key ids, that a signature names; upper-case hexadecimal.
pub(super) fn issuers(signature: &Signature) -> Vec<String> {
    let fingerprints: Vec<_> =
        signature.issuer_fingerprint().iter().map(|print| format!("{print:X}")).collect();
    if !fingerprints.is_empty() {
        return fingerprints;
    }
    signature.issuer_key_id().iter().map(|id| id.to_string().to_uppercase()).collect()
}

impl Trust {
    fn counts(self, certificate: &SignedPublicKey) -> bool {
        let Self::Pinned(pins) = self else { return true };
        let fingerprint = format!("{:X}", certificate.primary_key.fingerprint());
        let Ok(packet) = certificate.primary_key.to_bytes() else { return false };
        let packet = Sha256::of(&packet).to_string();
        pins.iter().any(|pin| pin.fingerprint == fingerprint && pin.packet == packet)
    }
}

impl Key {
    /// Whether `signature` over `text` is this key's.
    pub(super) fn verifies(&self, signature: &Signature, text: &[u8]) -> bool {
        match &self.packet {
            KeyPacket::Primary(key) => signature.verify(key.as_ref(), text).is_ok(),
            KeyPacket::Subkey(key) => signature.verify(key.as_ref(), text).is_ok(),
        }
    }

    /// Whether the key is past its end at `now` (seconds since the epoch).
    pub fn expired(&self, now: i64) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.fingerprint, self.owner)
    }
}

/// The keys of a certificate that may sign data.
fn signing_keys(certificate: &SignedPublicKey) -> Vec<Key> {
    let primary = &certificate.primary_key;
    let details = &certificate.details;
    let revokes = |signature: &Signature| {
        signature.typ() == Some(SignatureType::KeyRevocation) && signature.verify_key(primary).is_ok()
    };
    if details.revocation_signatures.iter().any(revokes) {
        return Vec::new();
    }
    let certified = details.users.iter().flat_map(|user| {
        let holds = move |signature: &&Signature| {
            signature.typ() != Some(SignatureType::CertRevocation)
                && signature.verify_certification(primary, Tag::UserId, &user.id).is_ok()
        };
        user.signatures.iter().filter(holds)
    });
    let direct = details.direct_signatures.iter().filter(|signature| signature.verify_key(primary).is_ok());
    let Some(newest) = certified.chain(direct).max_by_key(|signature| made(signature)) else {
        return Vec::new();
    };
    let certificate_ends = ends(primary.created_at(), newest);
    let fingerprint = format!("{:X}", primary.fingerprint());
    let owner = details.users.first().map_or_else(String::new, |user| {
        String::from_utf8_lossy(user.id.id()).chars().filter(|c| !c.is_control()).collect()
    });
    let key = |packet, fingerprint_of_key: String, expires| Key {
        packet,
        fingerprint: fingerprint_of_key,
        certificate: fingerprint.clone(),
        owner: owner.clone(),
        expires,
    };
    let mut keys = Vec::new();
    if newest.key_flags().sign() {
        keys.push(key(KeyPacket::Primary(Box::new(primary.clone())), fingerprint.clone(), certificate_ends));
    }
    for subkey in &certificate.public_subkeys {
        let of_primary =
            |signature: &&Signature| signature.verify_subkey_binding(primary, &subkey.key).is_ok();
        let held: Vec<_> = subkey.signatures.iter().filter(of_primary).collect();
        if held.iter().any(|signature| signature.typ() == Some(SignatureType::SubkeyRevocation)) {
            continue;
        }
        let Some(binding) = held.into_iter().max_by_key(|signature| made(signature)) else { continue };
        // RFC 9580 §5.2.1.9: a subkey that signs must have signed that it belongs to the primary key.
        let back = binding.embedded_signature();
        let returned = back.is_some_and(|back| back.verify_primary_key_binding(&subkey.key, primary).is_ok());
        if binding.key_flags().sign() && returned {
            let subkey_ends = ends(subkey.key.created_at(), binding);
            let expires = [certificate_ends, subkey_ends].into_iter().flatten().min();
            let print = format!("{:X}", subkey.key.fingerprint());
            keys.push(key(KeyPacket::Subkey(Box::new(subkey.key.clone())), print, expires));
        }
    }
    keys
}

fn made(signature: &Signature) -> u32 {
    signature.created().map_or(0, Timestamp::as_secs)
}

/// When a key ends that was made at `created` and whose lifetime `signature` gives; zero is for ever.
fn ends(created: Timestamp, signature: &Signature) -> Option<i64> {
    let lifetime = signature.key_expiration_time().filter(|time| time.as_secs() > 0)?;
    Some(i64::from(created.as_secs()) + i64::from(lifetime.as_secs()))
}
