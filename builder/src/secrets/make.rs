//! Makes keys, certificates and tokens. The one place of this room that reads the clock and random numbers: what is
//! made here is kept in the encrypted file, and builds only read it.

use super::Error;
use super::authority::Authority;
use super::document::{
    Certified, Cluster, Dated, Document, HostKey, NodeSecrets, Sealed, ServiceAccount, Tokens, VERSION,
};
use super::secret::Secret;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rsa::pkcs1::EncodeRsaPrivateKey as _;
use rsa::rand_core::{OsRng, RngCore as _};
use sec1::der::SecretDocument;
use sec1::der::asn1::ObjectIdentifier;
use sec1::der::pem::PemLabel as _;
use sec1::pkcs8::PrivateKeyInfo;
use sec1::{EcParameters, EcPrivateKey, LineEnding};
use ssh_key::{Algorithm, PrivateKey};
use std::collections::BTreeMap;
use std::fmt::Display;
use zeroize::Zeroizing;

/// Bits of the service-account key, as k3s makes it.
const RSA_BITS: usize = 2048;
/// Object identifier of the curve P-256, prime256v1 (RFC 5480 §2.1.1.1).
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
/// Years for which an authority is valid, as k3s makes it.
const YEARS: i16 = 10;

fn failed<E: Display>(what: &'static str) -> impl Fn(E) -> Error {
    move |reason| Error::Make { what, reason: reason.to_string() }
}

/// 2026-01-01T00:00:00Z: no clock is right that says less.
const BEGINNING: i64 = 1_767_225_600;

/// Now, in whole seconds.
#[expect(clippy::disallowed_methods, reason = "the date of a secret; builds read it from the encrypted file")]
pub(super) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_second(i64::try_from(since.as_secs()).unwrap_or_default()).unwrap_or_default()
}

/// Now, RFC 3339.
pub(super) fn date() -> String {
    now().to_string()
}

/// So many random bytes as lower-case hexadecimal digits. There is no `.` in it, so no token that is made of it is
/// taken for a bootstrap token.
fn random_hex<const BYTES: usize>() -> Result<Sealed, Error> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut bytes = Zeroizing::new([0_u8; BYTES]);
    OsRng.try_fill_bytes(&mut *bytes).map_err(failed("random bytes"))?;
    let mut text = Zeroizing::new(String::with_capacity(2 * BYTES));
    for byte in bytes.iter() {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(DIGITS[usize::from(digit)]));
        }
    }
    Ok(Sealed(Secret::new(text)))
}

/// An age identity.
pub(super) fn identity() -> age::x25519::Identity {
    age::x25519::Identity::generate()
}

/// A document for a new cluster, without nodes.
pub(super) fn document(cluster: Cluster) -> Result<Document, Error> {
    Ok(Document {
        version: VERSION,
        cluster,
        recipients: Vec::new(),
        digest_key: random_hex::<32>()?,
        authorities: authorities()?,
        service_account: service_account()?,
        tokens: tokens()?,
        nodes: BTreeMap::new(),
        values: BTreeMap::new(),
        founded: None,
    })
}

/// All five authorities.
pub(super) fn authorities() -> Result<BTreeMap<Authority, Certified>, Error> {
    Authority::ALL.into_iter().map(|authority| Ok((authority, certified(authority)?))).collect()
}

/// A self-signed P-256 certificate with its key, in the form that k3s gives its own.
fn certified(authority: Authority) -> Result<Certified, Error> {
    let what = "a certificate authority";
    let now = now();
    // A certificate of 1970 is one that ended before any node was built.
    if now.as_second() < BEGINNING {
        let reason = format!("the clock of this machine says {now}: set it first");
        return Err(Error::Make { what, reason });
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed(what))?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let name = format!("{}-ca@{}", authority.common_name(), now.as_second());
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::KeyCertSign,
    ];
    // Valid from the day before: what k3s signs begins when its CA does, and clocks differ.
    let today = now.to_zoned(TimeZone::UTC).date();
    let from = today.saturating_sub(1.day());
    let until = today.saturating_add(YEARS.years());
    let [from, until] = [from, until].map(|day| {
        rcgen::date_time_ymd(i32::from(day.year()), day.month().unsigned_abs(), day.day().unsigned_abs())
    });
    params.not_before = from;
    params.not_after = until;
    let certificate = params.self_signed(&key).map_err(failed(what))?;
    let key = elliptic_key(&Zeroizing::new(key.serialize_der())).map_err(failed(what))?;
    Ok(Certified { made: now.to_string(), certificate: certificate.pem(), key: Sealed(Secret::new(key)) })
}

/// From PKCS #8 to the PEM of RFC 5915, which is what k3s writes itself. The curve must be named in it: OpenSSL and
/// Go read no key without.
fn elliptic_key(pkcs8: &[u8]) -> sec1::Result<Zeroizing<String>> {
    let outer = PrivateKeyInfo::try_from(pkcs8).map_err(sec1::Error::Pkcs8)?;
    let mut key = EcPrivateKey::try_from(outer.private_key)?;
    key.parameters = Some(EcParameters::NamedCurve(P256));
    Ok(SecretDocument::encode_msg(&key)?.to_pem(EcPrivateKey::PEM_LABEL, LineEnding::LF)?)
}

/// The service-account key: RSA, which is what k3s makes (docs.k3s.io/cli/certificate).
pub(super) fn service_account() -> Result<ServiceAccount, Error> {
    let what = "the service-account key";
    let key = rsa::RsaPrivateKey::new(&mut OsRng, RSA_BITS).map_err(failed(what))?;
    let key = key.to_pkcs1_pem(LineEnding::LF).map_err(failed(what))?;
    Ok(ServiceAccount { made: date(), key: Sealed(Secret::new(key)), former: None })
}

/// The secret parts of the tokens.
pub(super) fn tokens() -> Result<Tokens, Error> {
    Ok(Tokens { made: date(), server: random_hex::<32>()?, agent: random_hex::<32>()? })
}

/// The secrets of a node.
pub(super) fn node(name: &str) -> Result<NodeSecrets, Error> {
    Ok(NodeSecrets { password: node_password()?, ssh_host_key: ssh_host_key(name)? })
}

/// What /etc/rancher/node/password holds: 32 digits, as k3s makes it.
pub(super) fn node_password() -> Result<Dated, Error> {
    Ok(Dated { made: date(), value: random_hex::<16>()? })
}

/// An Ed25519 host key.
pub(super) fn ssh_host_key(node: &str) -> Result<HostKey, Error> {
    let what = "an SSH host key";
    let mut key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).map_err(failed(what))?;
    key.set_comment(node);
    let public = key.public_key().to_openssh().map_err(failed(what))?;
    let private = key.to_openssh(ssh_key::LineEnding::LF).map_err(failed(what))?;
    Ok(HostKey { made: date(), private: Sealed(Secret::new(private)), public })
}
