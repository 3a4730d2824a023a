//! Documents in JSON that name their version: all of them are read and written in one way, whatever they hold.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What helps against a document of a seed that another version wrote.
pub(crate) const REBUILD: &str = "rebuild the seed and the image with one version of kiln";

/// What all documents of a kind share.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// What messages call one: `the join document`.
    pub name: &'static str,
    /// What one is that can't be read: `is damaged`.
    pub damaged: &'static str,
    /// The only version that is written and read.
    pub version: u32,
    /// No honest one has more bytes; more are refused unread.
    pub most: usize,
    /// Who reads it: `this kiln-firstboot`.
    pub reader: &'static str,
    /// What helps against another version.
    pub remedy: &'static str,
}

/// Why the bytes were not taken for a document.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// More bytes than one can have.
    #[error("{} has {bytes} bytes, more than the {} that one can have", kind.name, kind.most)]
    TooLarge {
        /// What was read.
        kind: &'static Kind,
        /// Its bytes.
        bytes: usize,
    },
    /// Not JSON of this shape.
    #[error("{} {}: {fault}", kind.name, kind.damaged)]
    Damaged {
        /// What was read.
        kind: &'static Kind,
        /// What the parser says.
        fault: serde_json::Error,
    },
    /// Written by another version of Kiln.
    #[error("{} has version {version}, {} reads version {}: {}", kind.name, kind.reader, kind.version, kind.remedy)]
    Version {
        /// What was read.
        kind: &'static Kind,
        /// Its version.
        version: u64,
    },
}

/// The one field that every version has.
#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

/// Reads a document; what its fields hold is not looked at. Hostile bytes end in an [`Error`], never in a panic.
pub fn read<T: DeserializeOwned>(kind: &'static Kind, bytes: &[u8]) -> Result<T, Error> {
    if bytes.len() > kind.most {
        return Err(Error::TooLarge { kind, bytes: bytes.len() });
    }
    let damaged = |fault| Error::Damaged { kind, fault };
    // First, since another version may have other fields.
    let Versioned { version } = serde_json::from_slice(bytes).map_err(damaged)?;
    if version != u64::from(kind.version) {
        return Err(Error::Version { kind, version });
    }
    serde_json::from_slice(bytes).map_err(damaged)
}

/// The document's bytes: pretty JSON with a final newline.
pub fn write<T: Serialize>(document: &T) -> Vec<u8> {
    // What derives Serialize and has no maps with keys that are not strings always serialises.
    let mut bytes = serde_json::to_vec_pretty(document).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}
