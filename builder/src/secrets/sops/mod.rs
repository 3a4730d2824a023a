//! Reads files that SOPS encrypted to age recipients: YAML, JSON, dotenv, and any other file whole ("binary").
//!
//! The format is that of getsops/sops, `sops.go`, `aes/cipher.go` and `stores/`: values are encrypted one by one with
//! a data key, which is encrypted to each recipient; a digest over all values proves that none was changed, moved or
//! removed. Nothing is given out before that digest was compared. Comments are not part of it, and are not read.

mod cipher;
mod dotenv;
mod json;
mod metadata;
#[cfg(test)]
mod tests;
mod tree;
mod walk;
mod yaml;

use super::identities::Identities;
use super::secret::Secret;
use metadata::Metadata;
use std::fs::File as Handle;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use tree::Tree;
use zeroize::Zeroizing;

/// No file of secrets is larger.
const MAX_BYTES: u64 = 16 << 20;

/// Why a SOPS file cannot be read. No variant holds a value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the system says.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Not in one of the forms.
    #[error("{} is no YAML, JSON or dotenv that kiln can read: {reason}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Why, without its text.
        reason: String,
    },
    /// There is no `sops` in it.
    #[error("{} is not encrypted by SOPS: it has no `sops` section; `sops encrypt --in-place {}` encrypts it", path.display(), path.display())]
    NotEncrypted {
        /// The file.
        path: PathBuf,
    },
    /// The `sops` section asks for what is not supported.
    #[error("{} needs what kiln does not have: {what}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What.
        what: String,
    },
    /// The identities here do not open the file.
    #[error(
        "{} is encrypted to {}, and no key that is here opens it; looked in {looked}; name the file that holds the \
         right key in KILN_IDENTITY",
        path.display(),
        recipients.join(", ")
    )]
    NoMatchingKey {
        /// The file.
        path: PathBuf,
        /// Its age recipients.
        recipients: Vec<String>,
        /// Where identities were looked for.
        looked: String,
    },
    /// A value does not decrypt.
    #[error("the value `{at}` of {} is damaged or was moved there: it does not decrypt", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Its keys.
        at: String,
    },
    /// The digest over all values is another.
    #[error("{} was changed after SOPS encrypted it: its MAC does not match; `sops edit` changes a file", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// No such key.
    #[error("{} has no value `{key}`; it has {has}", path.display())]
    NoValue {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        key: String,
        /// The keys at its top.
        has: String,
    },
}

/// A SOPS file, decrypted and proven.
pub struct File {
    path: PathBuf,
    documents: Vec<Tree>,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("File").field("path", &self.path).finish_non_exhaustive()
    }
}

impl File {
    /// Reads, decrypts and proves the whole file.
    pub fn open(path: &Path, identities: &Identities) -> Result<Self, Error> {
        let fault = |source| Error::Io { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        Handle::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes)).map_err(fault)?;
        Self::parse(path, &bytes, identities)
    }

    fn parse(path: &Path, bytes: &[u8], identities: &Identities) -> Result<Self, Error> {
        let form = |reason| Error::Form { path: path.to_owned(), reason };
        let (documents, metadata) = split(bytes).map_err(form)?;
        let metadata = metadata.ok_or_else(|| Error::NotEncrypted { path: path.to_owned() })?;
        let documents = Metadata::read(path, &metadata)?.decrypt(documents, identities)?;
        Ok(Self { path: path.to_owned(), documents })
    }

    /// The value under `key`: names of keys with `.` between them, `0`, `1`, ... for items of lists. Names may have
    /// dots themselves: `stringData.tls.crt` finds `tls.crt` in `stringData`. For a file that was encrypted whole the
    /// key is `data`.
    pub fn get(&self, key: &str) -> Result<&Secret, Error> {
        let found = self.documents.iter().find_map(|document| document.find(key)).and_then(Tree::text);
        found.ok_or_else(|| {
            let has: Vec<&str> = self.documents.iter().flat_map(Tree::keys).collect();
            let has = if has.is_empty() { "none".to_owned() } else { has.join(", ") };
            Error::NoValue { path: self.path.clone(), key: key.to_owned(), has }
        })
    }
}

/// One value of a SOPS file; see [`File::get`].
pub fn read(path: &Path, key: &str, identities: &Identities) -> Result<Secret, Error> {
    File::open(path, identities)?.get(key).cloned()
}

/// True when these bytes have a `sops` section.
pub(super) fn is_sops(bytes: &[u8]) -> bool {
    split(bytes).is_ok_and(|(_, metadata)| metadata.is_some())
}

/// A whole document as JSON.
pub(super) fn whole(path: &Path, bytes: &[u8], identities: &Identities) -> Result<Zeroizing<Vec<u8>>, Error> {
    let file = File::parse(path, bytes, identities)?;
    let [document] = file.documents.as_slice() else {
        let reason = "it holds more than one document".to_owned();
        return Err(Error::Form { path: path.to_owned(), reason });
    };
    // Large enough not to grow: growing leaves copies in freed memory.
    let mut text = Zeroizing::new(Vec::with_capacity(2 * bytes.len() + 4096));
    document.write_json(&mut text);
    Ok(text)
}

/// The documents of a file without their `sops` section, and that section.
fn split(bytes: &[u8]) -> Result<(Vec<Tree>, Option<Tree>), String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
    if dotenv::is_dotenv(text) {
        let (document, metadata) = dotenv::parse(text)?;
        return Ok((vec![document], Some(metadata)));
    }
    let mut documents =
        if text.trim_start().starts_with('{') { vec![json::parse(text)?] } else { yaml::parse(text)? };
    // Older versions repeat the section in every document.
    let sections: Vec<Tree> = documents.iter_mut().filter_map(|document| document.remove("sops")).collect();
    Ok((documents, sections.into_iter().next()))
}
