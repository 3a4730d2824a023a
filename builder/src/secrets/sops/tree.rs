//! A document whose keys keep their order: the digest of a file is over its values in that order.

use super::super::secret::Secret;

/// What a scalar is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Integer,
    Float,
    Bool,
    Time,
}

/// A node. Its texts are in the form that goes into the digest (`ToBytes` of getsops/sops, sops.go): `True` and
/// `False`, integers in decimal, floating-point numbers without an exponent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tree {
    Null,
    Scalar(Kind, Secret),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

impl Tree {
    pub(super) fn scalar(kind: Kind, text: impl Into<String>) -> Self {
        Self::Scalar(kind, Secret::new(text.into()))
    }
    pub(super) fn bool(value: bool) -> Self {
        Self::scalar(Kind::Bool, if value { "True" } else { "False" })
    }
    /// As Go writes it with `strconv.FormatFloat(value, 'f', -1, 64)`.
    pub(super) fn float(value: f64) -> Self {
        let text = match value {
            f64::INFINITY => "+Inf".to_owned(),
            f64::NEG_INFINITY => "-Inf".to_owned(),
            value => value.to_string(),
        };
        Self::scalar(Kind::Float, text)
    }
    /// The content of a scalar.
    pub(super) fn text(&self) -> Option<&Secret> {
        match self {
            Self::Scalar(_, text) => Some(text),
            _ => None,
        }
    }
    /// The value of a key, where this is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }
    /// The text of a key; nothing when it is empty.
    pub(super) fn word(&self, key: &str) -> Option<&str> {
        self.get(key)?.text().map(Secret::expose).filter(|text| !text.is_empty())
    }
    /// Takes a key out of a mapping.
    pub(super) fn remove(&mut self, key: &str) -> Option<Self> {
        let Self::Map(entries) = self else { return None };
        let at = entries.iter().position(|(name, _)| name == key)?;
        Some(entries.remove(at).1)
    }
    /// The keys of a mapping.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        let entries = match self {
            Self::Map(entries) => entries.as_slice(),
            _ => &[],
        };
        entries.iter().map(|(name, _)| name.as_str())
    }
    /// The scalar under keys with `.` between them; the longest name that fits is tried first.
    pub(super) fn find(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Scalar(..) if key.is_empty() => Some(self),
            Self::Map(entries) => {
                let fits = |name: &str| match key.strip_prefix(name)? {
                    "" => Some(""),
                    rest => rest.strip_prefix('.'),
                };
                let mut fitting: Vec<(&str, &Self)> =
                    entries.iter().filter_map(|(name, value)| Some((fits(name)?, value))).collect();
                fitting.sort_by_key(|(rest, _)| rest.len());
                fitting.into_iter().find_map(|(rest, value)| value.find(rest))
            }
            Self::List(items) => {
                let (index, rest) = key.split_once('.').unwrap_or((key, ""));
                items.get(index.parse::<usize>().ok()?)?.find(rest)
            }
            _ => None,
        }
    }
    /// The same in JSON.
    pub(super) fn write_json(&self, text: &mut Vec<u8>) {
        match self {
            Self::Null => text.extend_from_slice(b"null"),
            Self::Scalar(Kind::Bool, value) => {
                text.extend_from_slice(if value.expose() == "True" { b"true" } else { b"false" });
            }
            Self::Scalar(Kind::Integer | Kind::Float, value) if value.expose().bytes().all(is_digit) => {
                text.extend_from_slice(value.expose().as_bytes());
            }
            Self::Scalar(_, value) => string(value.expose(), text),
            Self::List(items) => {
                text.push(b'[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        text.push(b',');
                    }
                    item.write_json(text);
                }
                text.push(b']');
            }
            Self::Map(entries) => {
                text.push(b'{');
                for (at, (key, value)) in entries.iter().enumerate() {
                    if at > 0 {
                        text.push(b',');
                    }
                    string(key, text);
                    text.push(b':');
                    value.write_json(text);
                }
                text.push(b'}');
            }
        }
    }
}

/// Infinity is no number in JSON.
fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'-' | b'.')
}

/// RFC 8259 §7.
fn string(value: &str, text: &mut Vec<u8>) {
    // Writing to memory cannot fail.
    let _ = serde_json::to_writer(text, value);
}
