//! What a node's system is told: `sysctls`, `hosts`, `mounts`, `files`.

use crate::cluster::read::{Read, Spanned, Text, document, wrong_type};
use crate::cluster::settings::Raw;
use crate::cluster::tree::{Tree, Value};
use crate::diag::Fault;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

document! {
    /// Something that is mounted beside the node's disks.
    MountSection, "an entry of `mounts`",
    required {
        /// What is mounted: `server:/path` of NFS.
        #[schemars(extend("examples" = ["192.168.1.2:/vol"]))]
        source: Text,
        /// Where.
        #[schemars(extend("pattern" = "^/", "examples" = ["/mnt/nas"]))]
        mount_point: Text,
    }
    optional {
        /// File system: `nfs` when left out, `nfs4`, `tmpfs`, `9p` or `virtiofs`.
        filesystem: Text,
        /// Options to mount with.
        #[schemars(extend("examples" = [["ro", "soft"]]))]
        options: Spanned<Vec<Text>>,
    }
}

document! {
    /// A file of the node.
    FileSection, "an entry of `files`",
    required {
        /// Where it is on the node, an absolute path below /etc, /var and other places that can be written to.
        #[schemars(extend("pattern" = "^/", "examples" = ["/etc/app/app.conf"]))]
        path: Text,
    }
    optional {
        /// What is in it: text, or where a secret is kept, such as `{ secret: NAME }`.
        content: Raw,
        /// The file beside the cluster file that it is a copy of, in place of `content`.
        source: Text,
        /// Permission bits, four octal digits in quotes. `"0644"` when left out, and `"0600"` with a secret.
        #[schemars(extend("pattern" = "^0?[0-7]{3}$"))]
        mode: Text,
    }
}

document! {
    /// A keyboard, in the words of xkeyboard-config(7).
    KeyboardSection, "`keyboard`",
    required {
        /// Layout; several with commas between.
        #[schemars(extend("examples" = ["de", "us,ru"]))]
        layout: Text,
    }
    optional {
        /// Variant of the layout; of several layouts with commas between.
        #[schemars(extend("examples" = ["nodeadkeys"]))]
        variant: Text,
        /// Model. `pc105` when left out.
        model: Text,
        /// Options, with commas between.
        #[schemars(extend("examples" = ["ctrl:nocaps"]))]
        options: Text,
    }
}

/// A layout, or a keyboard with more to say of it.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(untagged, inline)]
pub enum KeyboardItem {
    /// The layout.
    Layout(Text),
    /// With its variant and the like.
    Section(KeyboardSection),
}

impl Read for KeyboardItem {
    const WANT: &'static str = "a layout or a mapping";
    fn read(tree: &Tree, faults: &mut Vec<Fault>) -> Option<Self> {
        match &tree.value {
            Value::Text(_) => Text::read(tree, faults).map(Self::Layout),
            Value::Map(_) => KeyboardSection::read(tree, faults).map(Self::Section),
            _ => {
                wrong_type(tree, Self::WANT, faults);
                None
            }
        }
    }
}

/// Text or a number, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word(pub Text);

impl JsonSchema for Word {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Word".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number"] })
    }
}

impl Read for Word {
    const WANT: &'static str = "text or a number";
    fn read(tree: &Tree, faults: &mut Vec<Fault>) -> Option<Self> {
        match &tree.value {
            Value::Text(text) | Value::Number(text) => {
                Some(Self(Spanned { value: text.clone(), span: tree.span.clone() }))
            }
            _ => {
                wrong_type(tree, Self::WANT, faults);
                None
            }
        }
    }
}

/// A name or a list of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names(pub Vec<Text>);

impl JsonSchema for Names {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Names".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] })
    }
}

impl Read for Names {
    const WANT: &'static str = "a name or a list of names";
    fn read(tree: &Tree, faults: &mut Vec<Fault>) -> Option<Self> {
        match &tree.value {
            Value::List(_) => Vec::read(tree, faults).map(Self),
            _ => Text::read(tree, faults).map(|text| Self(vec![text])),
        }
    }
}
