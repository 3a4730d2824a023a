//! JSON with its keys in order.

use super::tree::{Kind, Tree};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeSet;
use std::fmt;

/// Reads one JSON text. The reason of a fault quotes nothing but its place.
pub(super) fn parse(text: &str) -> Result<Tree, String> {
    serde_json::from_str(text)
        .map_err(|fault| format!("line {} column {} is not JSON", fault.line(), fault.column()))
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::scalar(Kind::Integer, value.to_string()))
    }
    #[expect(clippy::cast_precision_loss, reason = "sops reads what is no int64 as a float64")]
    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        match i64::try_from(value) {
            Ok(value) => Ok(Tree::scalar(Kind::Integer, value.to_string())),
            Err(_) => Ok(Tree::float(value as f64)),
        }
    }
    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::float(value))
    }
    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::scalar(Kind::Text, value))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut entries: Vec<(String, Tree)> = Vec::new();
        let mut seen = BTreeSet::new();
        while let Some((key, value)) = access.next_entry::<String, Tree>()? {
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom("a key is given twice"));
            }
            entries.push((key, value));
        }
        Ok(Tree::Map(entries))
    }
}
