//! Decrypts a document value by value, in order, and takes the digest on the way (getsops/sops, sops.go).

use super::cipher::Cipher;
use super::metadata::{Metadata, Rule};
use super::tree::{Kind, Tree};
use sha2::{Digest as _, Sha512};
use std::fmt::Write as _;

/// What the digest begins with when it is over encrypted values alone: the SHA-256 of `sops`.
fn only_encrypted_begins() -> [u8; 32] {
    sha2::Sha256::digest(b"sops").into()
}

/// The way through a document.
pub(super) struct Walk<'a> {
    cipher: &'a Cipher,
    rule: &'a Rule,
    only_encrypted: bool,
    digest: Sha512,
    path: Vec<String>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(metadata: &'a Metadata, cipher: &'a Cipher) -> Self {
        let mut digest = Sha512::new();
        if metadata.only_encrypted {
            digest.update(only_encrypted_begins());
        }
        let Metadata { rule, only_encrypted, .. } = metadata;
        Self { cipher, rule, only_encrypted: *only_encrypted, digest, path: Vec::new() }
    }

    /// The document with its values decrypted. The error is the path of a value that does not decrypt.
    pub(super) fn decrypt(&mut self, tree: Tree) -> Result<Tree, String> {
        match tree {
            Tree::Null => Ok(Tree::Null),
            Tree::Scalar(kind, text) => {
                let encrypted = self.rule.encrypts(&self.path);
                let tree = if encrypted {
                    // Whoever is not the owner can only put plain values there.
                    let place = format!("{}:", self.path.join(":"));
                    let plain = match kind {
                        Kind::Text => self.cipher.decrypt(text.expose(), &place),
                        _ => None,
                    };
                    plain.ok_or_else(|| self.path.join("."))?
                } else {
                    Tree::Scalar(kind, text)
                };
                if encrypted || !self.only_encrypted {
                    self.digest.update(tree.text().map_or("", |text| text.expose()));
                }
                Ok(tree)
            }
            // Items of a list have the place of the list.
            Tree::List(items) => {
                items.into_iter().map(|item| self.decrypt(item)).collect::<Result<_, _>>().map(Tree::List)
            }
            Tree::Map(entries) => {
                let mut plain = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    self.path.push(key.clone());
                    let value = self.decrypt(value)?;
                    self.path.pop();
                    plain.push((key, value));
                }
                Ok(Tree::Map(plain))
            }
        }
    }

    /// The digest of what was walked: 128 upper-case hexadecimal digits.
    pub(super) fn digest(self) -> String {
        self.digest.finalize().iter().fold(String::with_capacity(128), |mut text, byte| {
            // Writing to memory cannot fail.
            let _ = write!(text, "{byte:02X}");
            text
        })
    }
}
