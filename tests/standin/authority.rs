//! The cluster's CAs, and what they sign.

use crate::Outcome;
use crate::config::Config;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use std::fs;
use time::{Duration, OffsetDateTime};

/// Where k3s keeps its CAs, and looks for those that were made elsewhere.
pub(crate) const FOLDER: &str = "/var/lib/rancher/k3s/server/tls";

/// A CA: its certificate file as it is served, and its key.
pub(crate) struct Authority {
    pub(crate) pem: String,
    key: String,
}

/// Who a certificate is for.
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) organisation: Option<&'static str>,
    pub(crate) server: bool,
    pub(crate) hosts: Vec<String>,
}

impl Subject {
    /// A kubelet towards the API.
    pub(crate) fn kubelet(node: &str) -> Self {
        let name = format!("system:node:{node}");
        Self { name, organisation: Some("system:nodes"), server: false, hosts: Vec::new() }
    }

    fn fill(self, params: &mut CertificateParams) -> Outcome<()> {
        let mut name = DistinguishedName::new();
        if let Some(organisation) = self.organisation {
            name.push(DnType::OrganizationName, organisation);
        }
        name.push(DnType::CommonName, self.name);
        params.distinguished_name = name;
        params.is_ca = IsCa::NoCa;
        let now = OffsetDateTime::now_utc();
        params.not_before = now - Duration::hours(1);
        params.not_after = now + Duration::days(365);
        params.serial_number =
            Some(SerialNumber::from(u64::try_from(now.unix_timestamp_nanos() & 0x7fff_ffff_ffff)?));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        let usage = if self.server {
            ExtendedKeyUsagePurpose::ServerAuth
        } else {
            ExtendedKeyUsagePurpose::ClientAuth
        };
        params.extended_key_usages = vec![usage];
        params.subject_alt_names = Vec::new();
        for host in self.hosts {
            params.subject_alt_names.push(match host.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(host.try_into()?),
            });
        }
        Ok(())
    }
}

impl Authority {
    /// `server` or `client`.
    pub(crate) fn read(config: &Config, name: &str) -> Outcome<Self> {
        let read = |ending: &str| {
            let path = config.path(FOLDER).join(format!("{name}-ca.{ending}"));
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        Ok(Self { pem: read("crt")?, key: read("key")? })
    }

    fn issuer(&self) -> Outcome<Issuer<'static, KeyPair>> {
        Ok(Issuer::from_ca_cert_pem(&self.pem, key_pair(&self.key)?)?)
    }

    /// A certificate with its chain, and a new key.
    pub(crate) fn issue(&self, subject: Subject) -> Outcome<(String, String)> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        subject.fill(&mut params)?;
        let certificate = params.signed_by(&key, &self.issuer()?)?;
        Ok((certificate.pem() + &self.pem, key.serialize_pem()))
    }

    /// A certificate with its chain for the key of a request (PKCS #10, DER).
    pub(crate) fn sign(&self, request: &[u8], subject: Subject) -> Outcome<String> {
        let mut request = CertificateSigningRequestParams::from_der(&request.into())?;
        subject.fill(&mut request.params)?;
        Ok(request.signed_by(&self.issuer()?)?.pem() + &self.pem)
    }
}

/// A key, and a request for it.
pub(crate) fn request() -> Outcome<(String, Vec<u8>)> {
    let key = KeyPair::generate()?;
    let request = CertificateParams::default().serialize_request(&key)?;
    Ok((key.serialize_pem(), request.der().to_vec()))
}

/// A P-256 key in either form that k3s takes: PKCS #8 (RFC 5958), or that of RFC 5915, which `ring` wants wrapped into
/// the other.
fn key_pair(pem: &str) -> Outcome<KeyPair> {
    /// SEQUENCE { version 0, AlgorithmIdentifier { ecPublicKey, prime256v1 }, OCTET STRING: without the lengths.
    const HEAD: [u8; 24] = [
        0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
        0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07,
    ];
    let PrivateKeyDer::Sec1(key) = PrivateKeyDer::from_pem_slice(pem.as_bytes())? else {
        return Ok(KeyPair::from_pem(pem)?);
    };
    let key = key.secret_sec1_der();
    // Such a key has fewer than 128 bytes, and all of it fewer than 256.
    let (inner, whole) = (u8::try_from(key.len())?, u8::try_from(HEAD.len() + 2 + key.len())?);
    if inner >= 0x80 || whole < 0x80 {
        return Err(format!("a key of {inner} bytes is none of P-256").into());
    }
    let wrapped = [&[0x30, 0x81, whole][..], &HEAD, &[0x04, inner], key].concat();
    Ok(KeyPair::from_pkcs8_der_and_sign_algo(&wrapped.as_slice().into(), &PKCS_ECDSA_P256_SHA256)?)
}
