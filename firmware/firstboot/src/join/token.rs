//! Tokens of k3s, `K10<hash>::<user>:<secret>` (pkg/clientaccess/token.go: parseToken), and hashes of CAs.

use super::words::{Cause, Trouble};
use kiln_contract::secret::Secret;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// A full token.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) hash: String,
    pub(super) secret: Secret,
}

impl Token {
    /// From a file, which is named when it holds none.
    pub(super) fn read(path: &Path, shown: &str) -> Result<Self, Trouble> {
        let text = fs::read_to_string(path)
            .map_err(|error| Trouble::new(Cause::NoToken, format!("{shown}: {error}")))?;
        Self::parse(text.trim()).ok_or_else(|| Trouble::new(Cause::BadToken, shown))
    }

    fn parse(text: &str) -> Option<Self> {
        let (hash, credentials) = text.strip_prefix("K10")?.split_once("::")?;
        let (_, secret) = credentials.split_once(':')?;
        let whole =
            hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) && !secret.is_empty();
        whole.then(|| Self { hash: hash.to_owned(), secret: Secret::new(secret) })
    }
}

/// SHA-256 in hexadecimal.
fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// True when a served bundle is the one that tokens pin: the bytes of one certificate, or, of more, one that is in it. Which
/// of them is the root is TLS' business; here only words depend on it.
pub(super) fn is_pinned(bundle: &[u8], pin: &str) -> bool {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(bundle).filter_map(Result::ok).collect();
    match certificates.as_slice() {
        [] => false,
        [_] => hash(bundle) == pin,
        more => more.iter().any(|certificate| hash(certificate) == pin),
    }
}

/// What a bundle's hash would be in words: of the bytes, or of the last certificate, where roots stand.
pub(super) fn hash_in_words(bundle: &[u8]) -> String {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(bundle).filter_map(Result::ok).collect();
    match certificates.as_slice() {
        [] => "no certificate at all".to_owned(),
        [_] => format!("hash {}…", &hash(bundle)[..12]),
        [.., last] => format!("hash {}…", &hash(last)[..12]),
    }
}

#[cfg(test)]
mod tests {
    use super::{Token, hash};

    #[test]
    fn only_full_tokens_are_taken() {
        let hash = "a".repeat(64);
        let token = Token::parse(&format!("K10{hash}::node:a:b")).unwrap();
        assert_eq!((token.hash.as_str(), token.secret.reveal()), (hash.as_str(), "a:b"));
        assert!(!format!("{token:?}").contains("a:b"));
        for bad in ["", "secret", "K10::node:x", &format!("K10{hash}::node:"), &format!("K10{hash}:node:x")] {
            assert!(Token::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn hashes_are_hexadecimal() {
        assert_eq!(hash(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
