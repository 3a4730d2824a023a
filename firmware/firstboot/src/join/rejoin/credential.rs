//! A certificate of an administrator, by the CA of clients that a server's seed has. It lives for minutes, and is never written.

use crate::join::Around;
use crate::join::tls::Identity;
use crate::join::words::{Cause, Trouble};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SignatureAlgorithm, SigningKey,
};
use rustls::SignatureScheme;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::Signer;
use std::fs;
use time::OffsetDateTime;

/// Where k3s keeps its CAs, and the seed puts them.
const CERTIFICATE: &str = "/var/lib/rancher/k3s/server/tls/client-ca.crt";
const KEY: &str = "/var/lib/rancher/k3s/server/tls/client-ca.key";
/// Seconds before the server's time from which it is valid, since servers' clocks differ, and after it.
const VALID: (u64, u64) = (60, 600);

/// For the user `kiln-firstboot:NODE` of the group whom Kubernetes refuses nothing. `now` is the time by the server that is to
/// see it (seconds since 1970).
pub(super) fn administrator(around: &Around, node: &str, now: u64) -> Result<Identity, Trouble> {
    let read = |path: &str| {
        fs::read_to_string(around.path(path))
            .map_err(|error| Trouble::new(Cause::RejoinKey, format!("{path}: {error}")))
    };
    let (certificate, key) = (read(CERTIFICATE)?, read(KEY)?);
    // What such errors quote is no secret, but nobody promises that.
    let wrong =
        || Trouble::new(Cause::RejoinKey, format!("{KEY} is no key that can sign, or {CERTIFICATE} no CA"));
    issued((&certificate, &key), node, now).ok_or_else(wrong)
}

fn issued((certificate, key): (&str, &str), node: &str, now: u64) -> Option<Identity> {
    let issuer = Issuer::from_ca_cert_pem(certificate, Authority::read(key)?).ok()?;
    let own = KeyPair::generate().ok()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "system:masters");
    params.distinguished_name.push(DnType::CommonName, format!("kiln-firstboot:{node}"));
    params.is_ca = IsCa::NoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let time = |seconds: u64| OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok();
    params.not_before = time(now.saturating_sub(VALID.0))?;
    params.not_after = time(now.saturating_add(VALID.1))?;
    let leaf = params.signed_by(&own, &issuer).ok()?.pem();
    // CAs between it and the root come with it.
    Some(Identity { certificate: (leaf + certificate).into_bytes(), key: own.serialize_pem().into_bytes() })
}

/// A CA's key in any form that k3s takes.
struct Authority {
    signer: Box<dyn Signer>,
    algorithm: &'static SignatureAlgorithm,
    public: Vec<u8>,
}

impl Authority {
    fn read(pem: &str) -> Option<Self> {
        let key = any_supported_type(&PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok()?).ok()?;
        let known: [(SignatureScheme, &'static SignatureAlgorithm); 4] = [
            (SignatureScheme::ECDSA_NISTP256_SHA256, &rcgen::PKCS_ECDSA_P256_SHA256),
            (SignatureScheme::ECDSA_NISTP384_SHA384, &rcgen::PKCS_ECDSA_P384_SHA384),
            (SignatureScheme::RSA_PKCS1_SHA256, &rcgen::PKCS_RSA_SHA256),
            (SignatureScheme::ED25519, &rcgen::PKCS_ED25519),
        ];
        let (signer, algorithm) = known
            .into_iter()
            .find_map(|(scheme, algorithm)| Some((key.choose_scheme(&[scheme])?, algorithm)))?;
        let public = key.public_key()?.to_vec();
        Some(Self { signer, algorithm, public })
    }
}

impl PublicKeyData for Authority {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

impl SigningKey for Authority {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.signer.sign(message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

#[cfg(test)]
mod tests {
    use super::{VALID, issued};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use rcgen::{BasicConstraints, CertificateParams, DnType, DnValue, IsCa, KeyPair, KeyUsagePurpose};
    use rustls::RootCertStore;
    use rustls::crypto::ring::default_provider;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
    use rustls::server::WebPkiClientVerifier;
    use std::sync::Arc;
    use std::time::Duration;

    /// In the form of RFC 5915 with the curve's name, which seeds have: ring gives PKCS #8, whose end is the key without it.
    fn sec1(key: &KeyPair) -> String {
        let whole = key.serialize_der();
        let inner = &whole[whole.len() - 0x6d..];
        assert_eq!(inner[..2], [0x30, 0x6b]);
        let curve = [0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
        let der = [&[0x30, 0x77][..], &inner[2..39], &curve, &inner[39..]].concat();
        format!("-----BEGIN EC {0}-----\n{1}\n-----END EC {0}-----\n", "PRIVATE KEY", STANDARD.encode(der))
    }

    fn valid(certificates: &[u8], ca: &str, at: u64) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()));
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificates).map(Result::unwrap).collect();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(at));
        verifier.build().unwrap().verify_client_cert(&chain[0], &chain[1..], now).is_ok()
    }

    #[test]
    fn a_certificate_is_of_the_seeds_ca_and_lives_for_minutes() {
        let now = 1_900_000_000;
        for other_form in [false, true] {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            // A name in the form that OpenSSL gives it.
            let name = DnValue::PrintableString("k3s-client-ca 1".try_into().unwrap());
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            let ca = params.self_signed(&key).unwrap().pem();
            let text = if other_form { key.serialize_pem() } else { sec1(&key) };
            let identity = issued((&ca, &text), "k3s2", now).unwrap();
            for (at, want) in [
                (now, true),
                (now - VALID.0, true),
                (now - VALID.0 - 1, false),
                (now + VALID.1, true),
                (now + VALID.1 + 1, false),
            ] {
                assert_eq!(valid(&identity.certificate, &ca, at), want, "{at}");
            }
            let leaf = CertificateDer::from_pem_slice(&identity.certificate).unwrap().to_vec();
            for part in ["system:masters", "kiln-firstboot:k3s2"] {
                assert!(leaf.windows(part.len()).any(|bytes| bytes == part.as_bytes()), "{part}");
            }
            // Another key each time, which is not the CA's.
            let again = issued((&ca, &text), "k3s2", now).unwrap();
            assert!(again.key != identity.key && identity.key != text.as_bytes());
            assert!(PrivateKeyDer::from_pem_slice(&identity.key).is_ok());
            let other = KeyPair::generate().unwrap().serialize_pem();
            let strange = issued((&ca, &other), "k3s2", now).unwrap();
            assert!(!valid(&strange.certificate, &ca, now));
        }
        for (ca, key) in [("", ""), ("x", "x")] {
            assert!(issued((ca, key), "k3s2", now).is_none());
        }
    }
}
