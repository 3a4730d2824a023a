//! What a seed said of an object, as digests of its fields: enough to tell later what a person changed, and of no use to
//! whoever would like to know a password. The key is in a Secret; who can read that can read the Secrets themselves.

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// Bytes of a digest: enough for some hundred fields of one object to be told apart.
const LENGTH: usize = 6;

/// Makes digests with a key.
#[derive(Clone)]
pub struct Marker(Vec<u8>);

impl std::fmt::Debug for Marker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Marker(..)")
    }
}

/// What was said of the fields of an object: digests of their places, and of what stood there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said(BTreeSet<[u8; LENGTH]>);

pub(super) fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

impl Marker {
    /// With a key of random bytes.
    pub fn new(key: &[u8]) -> Self {
        Self(key.to_owned())
    }

    /// Tells keys apart.
    pub fn name(&self) -> String {
        digest(&[&self.0, b"name"]).iter().take(LENGTH).map(|byte| format!("{byte:02x}")).collect()
    }

    fn mark(&self, what: &[u8], path: &str, value: &str) -> [u8; LENGTH] {
        let mut mark = [0; LENGTH];
        let whole = digest(&[&self.0, what, path.as_bytes(), value.as_bytes()]);
        mark.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
        mark
    }
}

impl Said {
    /// Something was said of that place.
    pub(super) fn knows(&self, marker: &Marker, path: &str) -> bool {
        self.0.contains(&marker.mark(b"place", path, ""))
    }

    /// That was said of it.
    pub(super) fn has(&self, marker: &Marker, path: &str, value: &Value) -> bool {
        self.0.contains(&marker.mark(b"value", path, &plain(value)))
    }

    pub(super) fn add_place(&mut self, marker: &Marker, path: &str) {
        self.0.insert(marker.mark(b"place", path, ""));
    }

    pub(super) fn add_value(&mut self, marker: &Marker, path: &str, value: &Value) {
        self.0.insert(marker.mark(b"value", path, &plain(value)));
    }

    /// As bytes, for the record.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flatten().copied().collect()
    }

    /// From the record; nothing when they can't be.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let chunks = bytes.chunks(LENGTH).map(|chunk| <[u8; LENGTH]>::try_from(chunk).ok());
        Some(Self(chunks.collect::<Option<_>>()?))
    }
}

/// The one text of a value: keys in their order, whatever the map keeps, and one form of a number.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Object(entries) => {
            let mut all: Vec<(&String, &Value)> =
                entries.iter().filter(|(_, value)| !value.is_null()).collect();
            all.sort_by_key(|(key, _)| *key);
            let inner: Vec<String> = all
                .iter()
                .map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), plain(value)))
                .collect();
            format!("{{{}}}", inner.join(","))
        }
        Value::Array(items) => {
            let inner: Vec<String> = items.iter().map(plain).collect();
            format!("[{}]", inner.join(","))
        }
        Value::Number(number) => match number.as_f64() {
            Some(whole)
                if !number.is_i64() && !number.is_u64() && whole.fract() == 0.0 && whole.abs() < 1e15 =>
            {
                format!("{whole:.0}")
            }
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}
