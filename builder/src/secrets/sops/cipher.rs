//! The encryption of one value: AES-256-GCM with a nonce of 32 bytes, as `ENC[AES256_GCM,data:...,iv:...,tag:...,
//! type:...]` in base64 (getsops/sops, aes/cipher.go).

use super::super::secret::Secret;
use super::tree::{Kind, Tree};
use aes_gcm::aead::consts::U32;
use aes_gcm::aes::Aes256;
use aes_gcm::{AeadInPlace as _, AesGcm, KeyInit as _, Nonce, Tag};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// Decrypts values with the data key of a file.
pub(super) struct Cipher(AesGcm<Aes256, U32>);

impl Cipher {
    /// `None` when the key has not 32 bytes.
    pub(super) fn new(key: &[u8]) -> Option<Self> {
        AesGcm::new_from_slice(key).ok().map(Self)
    }

    /// The value, when `text` was encrypted with this key in the place that `authenticated` names.
    pub(super) fn decrypt(&self, text: &str, authenticated: &str) -> Option<Tree> {
        // sops leaves empty text as it is.
        if text.is_empty() {
            return Some(Tree::scalar(Kind::Text, ""));
        }
        let body = text.strip_prefix("ENC[AES256_GCM,")?.strip_suffix(']')?;
        let field = |name: &str| {
            body.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix(':')).map(str::as_bytes)
        };
        let bytes = |name: &str| STANDARD.decode(field(name)?).ok();
        let (nonce, tag) = (bytes("iv")?, bytes("tag")?);
        if nonce.len() != 32 || tag.len() != 16 {
            return None;
        }
        let mut data = Zeroizing::new(bytes("data")?);
        self.0
            .decrypt_in_place_detached(
                Nonce::from_slice(&nonce),
                authenticated.as_bytes(),
                &mut data,
                Tag::from_slice(&tag),
            )
            .ok()?;
        value(field("type")?, std::str::from_utf8(&data).ok()?)
    }
}

/// The value of a type, in the form that goes into the digest.
fn value(kind: &[u8], text: &str) -> Option<Tree> {
    let keep = |kind| Tree::Scalar(kind, Secret::new(text.to_owned()));
    Some(match kind {
        b"str" | b"bytes" => keep(Kind::Text),
        b"int" => Tree::scalar(Kind::Integer, text.parse::<i64>().ok()?.to_string()),
        b"float" => Tree::float(text.parse().ok()?),
        // `strconv.ParseBool`.
        b"bool" => match text {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Tree::bool(true),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Tree::bool(false),
            _ => return None,
        },
        b"time" => keep(Kind::Time),
        _ => return None,
    })
}
