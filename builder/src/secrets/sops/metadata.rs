//! The `sops` section of a file (getsops/sops, stores/stores.go).

use super::Error;
use super::cipher::Cipher;
use super::tree::Tree;
use super::walk::Walk;
use crate::secrets::identities::Identities;
use age::armor::ArmoredReader;
use regex::bytes::{Regex, RegexBuilder};
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Which values are encrypted; the whole path of a value is looked at.
pub(super) enum Rule {
    AllBut(Matcher),
    Only(Matcher),
}

pub(super) enum Matcher {
    Suffix(String),
    Pattern(Regex),
}

impl Rule {
    pub(super) fn encrypts(&self, path: &[String]) -> bool {
        let any = |matcher: &Matcher| {
            path.iter().any(|key| match matcher {
                Matcher::Suffix(suffix) => key.ends_with(suffix.as_str()),
                Matcher::Pattern(pattern) => pattern.is_match(key.as_bytes()),
            })
        };
        match self {
            Self::AllBut(matcher) => !any(matcher),
            Self::Only(matcher) => any(matcher),
        }
    }
}

/// What the section says.
pub(super) struct Metadata {
    path: PathBuf,
    /// Recipient and armoured data key.
    keys: Vec<(String, String)>,
    pub(super) rule: Rule,
    pub(super) only_encrypted: bool,
    mac: String,
    modified: String,
}

impl Metadata {
    /// Reads the section; `path` is for messages.
    pub(super) fn read(path: &Path, section: &Tree) -> Result<Self, Error> {
        let unsupported = |what: &str| Error::Unsupported { path: path.to_owned(), what: what.to_owned() };
        if section.get("key_groups").is_some() {
            return Err(unsupported("a data key that is shared out to several key groups"));
        }
        let keys: Vec<(String, String)> = match section.get("age") {
            Some(Tree::List(keys)) => keys
                .iter()
                .filter_map(|key| Some((key.word("recipient")?.to_owned(), key.word("enc")?.to_owned())))
                .collect(),
            _ => Vec::new(),
        };
        if keys.is_empty() {
            return Err(unsupported(
                "a key of PGP or of a cloud; it has no age recipient: `sops rotate --in-place --add-age <age1...>`",
            ));
        }
        let form = |what: &str| Error::Form {
            path: path.to_owned(),
            reason: format!("its `sops` section has no `{what}`"),
        };
        let mac = section.word("mac").ok_or_else(|| form("mac"))?.to_owned();
        let modified = section.word("lastmodified").ok_or_else(|| form("lastmodified"))?.to_owned();
        let only_encrypted =
            section.word("mac_only_encrypted").is_some_and(|word| word.eq_ignore_ascii_case("true"));
        let rule = rule(section).map_err(|what| unsupported(&what))?;
        Ok(Self { path: path.to_owned(), keys, rule, only_encrypted, mac, modified })
    }

    /// Decrypts all values, and compares the digest over them.
    pub(super) fn decrypt(&self, trees: Vec<Tree>, identities: &Identities) -> Result<Vec<Tree>, Error> {
        let cipher = self.data_key(identities)?;
        let changed = || Error::Changed { path: self.path.clone() };
        let mut walk = Walk::new(self, &cipher);
        let trees = trees
            .into_iter()
            .map(|tree| walk.decrypt(tree))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|at| Error::Value { path: self.path.clone(), at })?;
        let said = cipher.decrypt(&self.mac, &self.modified).ok_or_else(changed)?;
        let said = said.text().ok_or_else(changed)?;
        if said.expose().is_empty() || *said.expose() != walk.digest() {
            return Err(changed());
        }
        Ok(trees)
    }

    fn data_key(&self, identities: &Identities) -> Result<Cipher, Error> {
        for (_, armoured) in &self.keys {
            if let Some(cipher) = open(armoured, identities).and_then(|key| Cipher::new(&key)) {
                return Ok(cipher);
            }
        }
        Err(Error::NoMatchingKey {
            path: self.path.clone(),
            recipients: self.keys.iter().map(|(recipient, _)| recipient.clone()).collect(),
            looked: identities.looked(),
        })
    }
}

fn open(armoured: &str, identities: &Identities) -> Option<Zeroizing<Vec<u8>>> {
    let reader = BufReader::new(ArmoredReader::new(armoured.as_bytes()));
    let mut reader = age::Decryptor::new_buffered(reader).ok()?.decrypt(identities.iter()).ok()?;
    let mut key = Zeroizing::new(Vec::with_capacity(64));
    reader.read_to_end(&mut key).ok()?;
    Some(key)
}

/// At most one of these stands in the section; none means the first with `_unencrypted`. The error is what is not
/// supported.
fn rule(section: &Tree) -> Result<Rule, String> {
    let kinds = [
        "unencrypted_suffix",
        "encrypted_suffix",
        "unencrypted_regex",
        "encrypted_regex",
        "unencrypted_comment_regex",
        "encrypted_comment_regex",
    ];
    let given: Vec<(&str, &str)> =
        kinds.into_iter().filter_map(|kind| Some((kind, section.word(kind)?))).collect();
    let (kind, word) = match given.as_slice() {
        [] => ("unencrypted_suffix", "_unencrypted"),
        [one] => *one,
        _ => return Err("more than one rule for what is encrypted".to_owned()),
    };
    let matcher = if kind.ends_with("_comment_regex") {
        return Err(format!("`{kind}`: kiln reads no comments"));
    } else if kind.ends_with("_suffix") {
        Matcher::Suffix(word.to_owned())
    } else {
        // Go's classes such as `\d` are ASCII.
        let pattern = RegexBuilder::new(word).unicode(false).build();
        Matcher::Pattern(pattern.map_err(|_| format!("the pattern of `{kind}` is not understood"))?)
    };
    Ok(if kind.starts_with("unencrypted") { Rule::AllBut(matcher) } else { Rule::Only(matcher) })
}
