//! From a [`Tree`] to typed values, without stopping at the first fault: what can't be read is reported
//! and left out, the rest is read on.

use super::tree::{Tree, Value};
use crate::diag::{Fault, Span, nearest};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A value with its place in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Its bytes.
    pub span: Span,
}

/// Text with its place.
pub type Text = Spanned<String>;

impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }
    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// What can be read from a tree.
pub(super) trait Read: Sized {
    /// What is wanted, for messages: "a list", "text".
    const WANT: &'static str;
    /// `None` has been reported.
    fn read(tree: &Tree, faults: &mut Vec<Fault>) -> Option<Self>;
}

/// Reports that `tree` is not what was wanted.
pub(super) fn wrong_type(tree: &Tree, want: &str, faults: &mut Vec<Fault>) {
    let help = match (&tree.value, want) {
        (Value::Number(number), "text") => format!("put it in quotes: \"{number}\""),
        (Value::Bool(value), "text") => format!("put it in quotes: \"{value}\""),
        (Value::Text(word), "true or false") => match word.to_ascii_lowercase().as_str() {
            "yes" | "on" | "y" => "write `true`: in YAML 1.2 `yes` and `on` are plain text".to_owned(),
            "no" | "off" | "n" => "write `false`: in YAML 1.2 `no` and `off` are plain text".to_owned(),
            _ => "write `true` or `false`".to_owned(),
        },
        (Value::Text(_) | Value::Number(_) | Value::Bool(_), want) if want.starts_with("a list") => {
            "write it as a list: in brackets, or on a line of its own behind `- `".to_owned()
        }
        (Value::List(_), "text") => "give one value, without brackets and without `- `".to_owned(),
        (Value::Null, _) => "give a value or remove the key".to_owned(),
        _ => "`kiln schema` prints what each key takes".to_owned(),
    };
    let message = format!("{want} is wanted here, and this is {}", tree.kind());
    faults.push(Fault::error("wrong-type", &tree.span, message).label(tree.kind()).help(help));
}

impl Read for Text {
    const WANT: &'static str = "text";
    fn read(tree: &Tree, faults: &mut Vec<Fault>) -> Option<Self> {
        match &tree.value {
            Value::Text(text) => Some(Spanned { value: text.clone(), span: tree.span.clone() }),
            _ => {
                wrong_type(tree, Self::WANT, faults);
                None
            }
        }
    }
}

impl Read for Spanned<bool> {
    const WANT: &'static str = "true or false";
    fn read(tree: &Tree, faults: &mut Vec<Fault>) -> Option<Self> {
        match tree.value {
            Value::Bool(value) => Some(Spanned { value, span: tree.span.clone() }),
            _ => {
                wrong_type(tree, Self::WANT, faults);
                None
            }
        }
    }
}

impl Read for Spanned<u32> {
    const WANT: &'static str = "a whole number";
    fn read(tree: &Tree, faults: &mut Vec<Fault>) -> Option<Self> {
        let number = match &tree.value {
            Value::Number(number) => number.parse().ok(),
            _ => None,
        };
        if number.is_none() {
            wrong_type(tree, Self::WANT, faults);
        }
        Some(Spanned { value: number?, span: tree.span.clone() })
    }
}

impl<T: Read> Read for Vec<T> {
    const WANT: &'static str = "a list";
    fn read(tree: &Tree, faults: &mut Vec<Fault>) -> Option<Self> {
        match &tree.value {
            Value::List(items) => {
                let good: Self = items.iter().filter_map(|item| T::read(item, faults)).collect();
                // A list whose every entry was refused is not an empty list.
                (items.is_empty() || !good.is_empty()).then_some(good)
            }
            _ => {
                wrong_type(tree, Self::WANT, faults);
                None
            }
        }
    }
}

impl<T: Read> Read for Spanned<Vec<T>> {
    const WANT: &'static str = "a list";
    fn read(tree: &Tree, faults: &mut Vec<Fault>) -> Option<Self> {
        Vec::read(tree, faults).map(|value| Self { value, span: tree.span.clone() })
    }
}

impl<T: Read> Read for BTreeMap<String, (Span, T)> {
    const WANT: &'static str = "a mapping";
    fn read(tree: &Tree, faults: &mut Vec<Fault>) -> Option<Self> {
        let Value::Map(entries) = &tree.value else {
            wrong_type(tree, Self::WANT, faults);
            return None;
        };
        let mut map = Self::new();
        for entry in entries {
            if let Some(value) = T::read(&entry.value, faults) {
                map.insert(entry.key.clone(), (entry.key_span.clone(), value));
            }
        }
        Some(map)
    }
}

/// Keys of `cluster` and of nodes, which people look for at the top.
const BELOW: [&str; 10] =
    ["domain", "endpoint", "files", "hosts", "k3s", "modules", "mounts", "ntp", "sysctls", "time_zone"];

/// A mapping whose keys are taken one by one; what is left over at the end is unknown.
pub(super) struct Keys<'a> {
    tree: &'a Tree,
    known: &'static [&'static str],
    what: &'static str,
}

impl<'a> Keys<'a> {
    /// Reports unknown keys at once. `what` names the mapping in messages.
    pub(super) fn new(
        tree: &'a Tree,
        known: &'static [&'static str],
        what: &'static str,
        faults: &mut Vec<Fault>,
    ) -> Option<Self> {
        let Value::Map(entries) = &tree.value else {
            wrong_type(tree, "a mapping", faults);
            return None;
        };
        for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let help = nearest(&entry.key, known.iter().copied()).map_or_else(
                || match BELOW.contains(&entry.key.as_str()) && what == "the cluster file" {
                    true => format!("write `{}` below `cluster`, for all nodes, or below a node", entry.key),
                    false => format!("{what} takes {}", known.join(", ")),
                },
                |key| format!("did you mean `{key}`?"),
            );
            let message = if entry.key == "<<" {
                "merge keys (`<<`) are not part of YAML 1.2".to_owned()
            } else {
                format!("{what} has no key `{}`", entry.key)
            };
            faults.push(Fault::error("unknown-key", &entry.key_span, message).label("unknown").help(help));
        }
        Some(Self { tree, known, what })
    }

    /// The value of an optional key; a key without a value counts as absent.
    pub(super) fn optional<T: Read>(&self, key: &str, faults: &mut Vec<Fault>) -> Option<T> {
        debug_assert!(self.known.contains(&key));
        self.find(key).filter(|tree| tree.value != Value::Null).and_then(|tree| T::read(tree, faults))
    }

    /// The value of a key that must be there.
    pub(super) fn required<T: Read>(&self, key: &str, faults: &mut Vec<Fault>) -> Option<T> {
        if let Some(tree) = self.find(key) {
            if tree.value == Value::Null {
                wrong_type(tree, T::WANT, faults);
                return None;
            }
            return T::read(tree, faults);
        }
        let message = format!("{} lacks its key `{key}`", self.what);
        // A whole block would be underlined: its first byte is enough.
        let start = self.tree.span.start;
        let place = match &self.tree.value {
            Value::Map(entries) => entries.first().map_or(start..start + 1, |entry| entry.key_span.clone()),
            _ => start..start + 1,
        };
        let fault = Fault::error("missing-key", &place, message).label("in this mapping");
        faults.push(fault.help(format!("add `{key}:` with {}", T::WANT)));
        None
    }

    fn find(&self, key: &str) -> Option<&'a Tree> {
        match &self.tree.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value),
            _ => None,
        }
    }
}

/// Defines a mapping of the cluster file: the struct, its JSON Schema and its [`Read`], from one list of keys.
macro_rules! document {
    (
        $(#[$meta:meta])*
        $name:ident, $what:literal,
        required { $($(#[$rmeta:meta])* $rfield:ident $(as $rkey:literal)? : $rtype:ty,)* }
        optional { $($(#[$ometa:meta])* $ofield:ident : $otype:ty,)* }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, schemars::JsonSchema)]
        #[schemars(deny_unknown_fields)]
        #[allow(unreachable_pub, reason = "some of these documents stay inside this module")]
        pub struct $name {
            $($(#[$rmeta])* #[schemars(required $(, rename = $rkey)?)] pub $rfield: Option<$rtype>,)*
            $($(#[$ometa])* pub $ofield: Option<$otype>,)*
            /// The place of the whole mapping.
            #[schemars(skip)]
            pub span: $crate::diag::Span,
        }
        impl $crate::cluster::read::Read for $name {
            const WANT: &'static str = "a mapping";
            fn read(
                tree: &$crate::cluster::tree::Tree,
                faults: &mut Vec<$crate::diag::Fault>,
            ) -> Option<Self> {
                const KNOWN: &[&str] = &[
                    $($crate::cluster::read::document!(@key $rfield $($rkey)?),)*
                    $(stringify!($ofield),)*
                ];
                let keys = $crate::cluster::read::Keys::new(tree, KNOWN, $what, faults)?;
                Some(Self {
                    $($rfield: keys.required($crate::cluster::read::document!(@key $rfield $($rkey)?), faults),)*
                    $($ofield: keys.optional(stringify!($ofield), faults),)*
                    span: tree.span.clone(),
                })
            }
        }
    };
    (@key $field:ident $key:literal) => { $key };
    (@key $field:ident) => { stringify!($field) };
}

/// Defines a closed set of words: the enum, its JSON Schema and its [`Read`], from one list.
macro_rules! words {
    (
        $(#[$meta:meta])*
        $name:ident, $what:literal { $($(#[$vmeta:meta])* $variant:ident = $word:literal,)* }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, schemars::JsonSchema)]
        #[allow(unreachable_pub, reason = "some of these words stay inside this module")]
        pub enum $name {
            $($(#[$vmeta])* #[schemars(rename = $word)] $variant,)*
        }
        #[allow(unreachable_pub, reason = "some of these words stay inside this module")]
        impl $name {
            /// The word of the cluster file.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl $crate::cluster::read::Read for $crate::cluster::read::Spanned<$name> {
            const WANT: &'static str = "text";
            fn read(
                tree: &$crate::cluster::tree::Tree,
                faults: &mut Vec<$crate::diag::Fault>,
            ) -> Option<Self> {
                const WORDS: &[&str] = &[$($word),*];
                let text = $crate::cluster::read::Text::read(tree, faults)?;
                let value = match text.value.as_str() {
                    $($word => $name::$variant,)*
                    other => {
                        faults.push($crate::cluster::read::unknown_word(other, &text.span, $what, WORDS));
                        return None;
                    }
                };
                Some($crate::cluster::read::Spanned { value, span: text.span })
            }
        }
    };
}

pub(super) use {document, words};

/// The fault of a word that is not in its set.
pub(super) fn unknown_word(word: &str, span: &Span, what: &str, words: &[&str]) -> Fault {
    let all = words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    let help = nearest(word, words.iter().copied()).map_or_else(
        || format!("possible here: {all}"),
        |near| format!("did you mean `{near}`? possible here: {all}"),
    );
    Fault::error("unknown-value", span, format!("`{word}` is not {what}")).label("unknown").help(help)
}
