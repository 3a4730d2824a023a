//! When a certificate ends, read from its DER (RFC 5280, section 4.1): a clock beside the cluster's CA is wrong.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// DER's tags that are of use here.
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The last second at which any certificate of a bundle is valid, since 1970. Nothing when none can be read.
pub(super) fn end(pem: &str) -> Option<u64> {
    let all = CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok);
    all.filter_map(|certificate| not_after(&certificate)).max()
}

fn not_after(der: &[u8]) -> Option<u64> {
    let (certificate, _) = value(der, SEQUENCE)?;
    let (mut tbs, _) = value(certificate, SEQUENCE)?;
    if tbs.first() == Some(&VERSION) {
        tbs = value(tbs, VERSION)?.1;
    }
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        tbs = value(tbs, *tbs.first()?)?.1;
    }
    let (validity, _) = value(tbs, SEQUENCE)?;
    let (_, rest) = value(validity, *validity.first()?)?;
    let tag = *rest.first()?;
    time(tag, std::str::from_utf8(value(rest, tag)?.0).ok()?)
}

/// The value that bytes begin with, and what follows it.
fn value(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match usize::from(*length) {
        short @ 0..=0x7f => (short, rest),
        long @ 0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(long - 0x80)?;
            (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    (*found == tag).then(|| rest.split_at_checked(length)).flatten()
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
fn time(tag: u8, text: &str) -> Option<u64> {
    let text = match tag {
        // Two digits from 50 on are of the last century.
        UTC_TIME => format!("{}{text}", if text.get(..2)? < "50" { "20" } else { "19" }),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M%SZ", &text).ok()?;
    u64::try_from(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second()).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::{GENERALIZED_TIME, UTC_TIME, end, time};

    /// Made by `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -days 3650 -subj /CN=k3s-server-ca`.
    pub(in crate::join) const CA: &str = "-----BEGIN CERTIFICATE-----\nMIIBhjCCASugAwIBAgIUUvd2HDIzVHJPcd5WUaZqJxoRcRgwCgYIKoZIzj0EAwIw\nGDEWMBQGA1UEAwwNazNzLXNlcnZlci1jYTAeFw0yNjExMjgyMDA3NDBaFw0zNjEx\nMjUyMDA3NDBaMBgxFjAUBgNVBAMMDWszcy1zZXJ2ZXItY2EwWTATBgcqhkjOPQIB\nBggqhkjOPQMBBwNCAASUPLOQR6ECpMOcps1MAh8lNZCpslFcmXOm77o/oHtYNBAW\nXAguec4jDmm0IKURsREn8n/+Mf4A690hDTXGJ25Wo1MwUTAdBgNVHQ4EFgQUXOgx\nZU+h1Qi0OLv36eDH2yAd2DIwHwYDVR0jBBgwFoAUXOgxZU+h1Qi0OLv36eDH2yAd\n2DIwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNJADBGAiEAno65md67Wt1V\nyK7yNZy7ezwMdRr64nj69MW/5fX2OIMCIQDW/m5649MQ4uFO0LFEvi6xuTS6Xp2G\nAYlUTapKHu1A9w==\n-----END CERTIFICATE-----\n";

    #[test]
    fn the_end_of_a_certificate_is_read() {
        assert_eq!(end(CA), Some(2_111_256_460));
        assert_eq!(end(&format!("{CA}{CA}")), end(CA));
        assert_eq!(end("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"), None);
        assert_eq!(end(""), None);
    }

    #[test]
    fn both_forms_of_time() {
        assert_eq!(time(UTC_TIME, "491231235959Z"), Some(2_524_607_999));
        assert_eq!(time(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(time(GENERALIZED_TIME, "20500101000000Z"), Some(2_524_608_000));
        for bad in ["", "5", "20501301000000Z", "205001010000", "é"] {
            assert_eq!(time(GENERALIZED_TIME, bad), None, "{bad}");
            assert_eq!(time(UTC_TIME, bad), None, "{bad}");
        }
    }

    #[test]
    fn damaged_certificates_never_panic() {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        let der = CertificateDer::from_pem_slice(CA.as_bytes()).unwrap().to_vec();
        for at in 0..der.len() {
            for byte in [0, 1, 0x30, 0x7f, 0x80, 0x84, 0xff] {
                let mut bytes = der.clone();
                bytes[at] = byte;
                let _ = super::not_after(&bytes);
                let _ = super::not_after(&bytes[..at]);
            }
        }
    }
}
