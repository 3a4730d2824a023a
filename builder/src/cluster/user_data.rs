//! A user's own file for cloud-init: what it is, and a cloud-config as a document that can be merged and printed
//! without its meaning changing.
//!
//! cloud-init reads YAML 1.1, in which a plain `yes` is true and a plain `0644` is a number. What is plain stays plain
//! here, and what is quoted stays quoted: nothing is resolved. What cloud-init's reader fails at is refused ([`pyyaml`]):
//! it would lose the whole seed.

mod modules;
mod pyyaml;

pub use modules::{MODULES, keys as read_keys};

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// No honest file is larger: with all of Kiln's own it must fit where the seed does.
pub const MAX_BYTES: u64 = 1 << 20;
/// Where a parser bomb ends.
const MAX_DEPTH: usize = 64;
const MAX_NODES: usize = 100_000;
/// Bytes of text that aliases and anchors may copy.
const MAX_COPIED: usize = 8 << 20;

/// Keys that change packages of the running system, which a root that can't be written to has not.
pub const PACKAGES: [&str; 8] = [
    "apt",
    "apt_pipelining",
    "package_reboot_if_required",
    "package_update",
    "package_upgrade",
    "packages",
    "snap",
    "ubuntu_pro",
];

/// Further keys that cloud-init 25.1.4 knows (`schema-cloud-config-v1.json`).
pub const OTHERS: [&str; 33] = [
    "ansible",
    "apk_repos",
    "autoinstall",
    "byobu_by_default",
    "ca-certs",
    "chef",
    "device_aliases",
    "disable_ec2_metadata",
    "drivers",
    "fan",
    "grub-dpkg",
    "grub_dpkg",
    "landscape",
    "launch-index",
    "lxd",
    "mcollective",
    "migrate",
    "puppet",
    "rh_subscription",
    "salt_minion",
    "spacewalk",
    "system_info",
    "ubuntu_advantage",
    "updates",
    "vendor_data",
    "version",
    "wireguard",
    "yum_repo_dir",
    "yum_repos",
    "zypper",
    "apt_reboot_if_required",
    "apt_update",
    "apt_upgrade",
];

/// A user's own file.
#[derive(Clone, PartialEq, Eq)]
pub struct UserData {
    /// The file, absolute or relative to the working directory.
    pub path: PathBuf,
    /// What is in it.
    pub content: Content,
}

/// What a user's own file is.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// A YAML document, which begins with `#cloud-config`: the keys at its top.
    CloudConfig(Vec<(Yaml, Yaml)>),
    /// A program, which begins with `#!`.
    Script(String),
    /// A program that runs early at every boot, which begins with `#cloud-boothook`.
    Boothook(String),
}

/// What is in it is nobody's business: it may hold passwords.
impl std::fmt::Debug for UserData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the file {}", self.path.display())
    }
}

/// A YAML node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Yaml {
    /// A scalar that is no text for certain: written without quotes, on one line.
    Plain(String),
    /// Text, or with a tag such as `!!binary` what that makes of it.
    Text {
        /// The text.
        text: String,
        /// Its tag, as it is written.
        tag: Option<String>,
    },
    /// A list.
    List(Vec<Self>),
    /// A mapping, in its order.
    Map(Vec<(Self, Self)>),
}

/// What a node is to cloud-init.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// A number.
    Number,
    /// `yes`, `off` and the like.
    Truth,
    /// A date, or a date and a time.
    Date,
    /// No value.
    Nothing,
    /// A list.
    List,
    /// A mapping.
    Map,
}

impl Yaml {
    /// What it is to cloud-init, which reads YAML 1.1.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Plain(text) => pyyaml::kind(text),
            Self::Text { .. } => Kind::Text,
            Self::List(_) => Kind::List,
            Self::Map(_) => Kind::Map,
        }
    }
    /// The value behind a key of a mapping.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(entries) => find(entries, key),
            _ => None,
        }
    }
    /// The entries of a list; none of anything else.
    pub fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }
    /// Text without a tag.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into(), tag: None }
    }
    /// The text of a scalar, whatever a reader makes of it.
    pub fn scalar(&self) -> Option<&str> {
        match self {
            Self::Plain(text) | Self::Text { text, .. } => Some(text),
            _ => None,
        }
    }
    /// Nodes, and bytes of their texts.
    fn weight(&self) -> (usize, usize) {
        let add = |one: (usize, usize), other: (usize, usize)| (one.0 + other.0, one.1 + other.1);
        match self {
            Self::List(items) => items.iter().map(Self::weight).fold((1, 0), add),
            Self::Map(entries) => {
                let entry = |(key, value): &(Self, Self)| add(key.weight(), value.weight());
                entries.iter().map(entry).fold((1, 0), add)
            }
            Self::Plain(text) | Self::Text { text, .. } => (1, text.len()),
        }
    }
}

/// The value behind a key.
pub fn find<'a>(entries: &'a [(Yaml, Yaml)], key: &str) -> Option<&'a Yaml> {
    entries.iter().find(|(known, _)| known.scalar() == Some(key)).map(|(_, value)| value)
}

/// Why a file is no document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct NotYaml {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong, in words that hold nothing of the file.
    pub reason: &'static str,
}

/// Reads the one document of `text`. The document of an empty text is an empty mapping.
pub fn parse(text: &str) -> Result<Yaml, NotYaml> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(text, options) {
        match event {
            Ok((event, span)) => {
                let line = span.start.line();
                builder.take(event).map_err(|reason| NotYaml { line, reason })?;
            }
            Err(error) => {
                let reason =
                    "this is not YAML: look at the indentation, the quotes and the brackets up to here";
                return Err(NotYaml { line: error.marker().line(), reason });
            }
        }
    }
    Ok(builder.root.unwrap_or_else(|| Yaml::Map(Vec::new())))
}

/// A collection that is still open: a mapping, or a list.
struct Open {
    node: Yaml,
    anchor: usize,
    key: Option<Yaml>,
    /// What stands behind the merge keys (`<<`) of a mapping, in their order.
    merged: Vec<(Yaml, Yaml)>,
}

impl Open {
    fn wants_key(&self) -> bool {
        matches!(self.node, Yaml::Map(_)) && self.key.is_none()
    }
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: BTreeMap<usize, Yaml>,
    nodes: usize,
    /// Bytes of text that are there once more.
    copied: usize,
    documents: usize,
    root: Option<Yaml>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>) -> Result<(), &'static str> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err("a second YAML document starts here");
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.as_deref().map(|tag| short(&tag.to_string()));
                // No rule of YAML 1.1 makes anything but text of what has other characters than these.
                let word = text.chars().all(|c| c == ' ' || c == '\t' || c.is_ascii_graphic());
                let plain = style == ScalarStyle::Plain && tag.is_none() && word;
                if let Some(tag) = &tag {
                    pyyaml::tagged(tag, &text)?;
                } else if plain {
                    if self.open.last().is_some_and(Open::wants_key) {
                        pyyaml::word(&text)?;
                    } else {
                        pyyaml::value(&text)?;
                    }
                }
                let node = match plain {
                    true => Yaml::Plain(text.into_owned()),
                    false => Yaml::Text { text: text.into_owned(), tag: tag.filter(|tag| tag != "!") },
                };
                self.add(node, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                tag.as_deref().map_or(Ok(()), |tag| pyyaml::collection(&short(&tag.to_string()), true))?;
                self.begin(Yaml::List(Vec::new()), anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                tag.as_deref().map_or(Ok(()), |tag| pyyaml::collection(&short(&tag.to_string()), false))?;
                self.begin(Yaml::Map(Vec::new()), anchor)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(mut open) => {
                    if let Yaml::Map(entries) = &mut open.node {
                        // What the mapping says itself stays, and so does what is merged first.
                        for (key, value) in open.merged {
                            if !entries.iter().any(|(known, _)| known.scalar() == key.scalar()) {
                                entries.push((key, value));
                            }
                        }
                    }
                    self.add(open.node, open.anchor)
                }
                None => Ok(()),
            },
            Event::Alias(anchor) => {
                const INSIDE: &str = "this alias stands inside its own anchor";
                // Before the copy is made.
                let weight = self.anchors.get(&anchor).ok_or(INSIDE)?.weight();
                self.spend(weight)?;
                let node = self.anchors.get(&anchor).cloned().ok_or(INSIDE)?;
                self.add(node, 0)
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, node: Yaml, anchor: usize) -> Result<(), &'static str> {
        if self.open.len() == MAX_DEPTH {
            return Err("it is nested too deep here");
        }
        self.open.push(Open { node, anchor, key: None, merged: Vec::new() });
        Ok(())
    }

    /// Counts nodes, and bytes that are copied.
    fn spend(&mut self, (nodes, copied): (usize, usize)) -> Result<(), &'static str> {
        self.nodes = self.nodes.saturating_add(nodes);
        self.copied = self.copied.saturating_add(copied);
        if self.nodes > MAX_NODES {
            return Err("it has too many values: aliases count as often as they are used");
        }
        if self.copied > MAX_COPIED {
            return Err("its aliases copy more than 8 MiB of text");
        }
        Ok(())
    }

    fn add(&mut self, node: Yaml, anchor: usize) -> Result<(), &'static str> {
        self.spend((1, 0))?;
        if anchor != 0 {
            self.spend(node.weight())?;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.node {
            Yaml::List(items) => items.push(node),
            Yaml::Map(entries) => match open.key.take() {
                None if node.scalar().is_none() => return Err("a key must be a word"),
                None => open.key = Some(node),
                Some(key) if key == Yaml::Plain("<<".to_owned()) => {
                    // PyYAML's merge keys (YAML 1.1): a mapping, or a list of them.
                    let behind = match node {
                        Yaml::List(all) => all,
                        one => vec![one],
                    };
                    for one in behind {
                        let Yaml::Map(more) = one else { return Err("behind `<<` a mapping is wanted") };
                        open.merged.extend(more);
                    }
                }
                Some(key) => {
                    if entries.iter().any(|(known, _)| known.scalar() == key.scalar()) {
                        return Err("a key is given twice");
                    }
                    entries.push((key, node));
                }
            },
            _ => {}
        }
        Ok(())
    }
}

/// `tag:yaml.org,2002:x` as `!!x`.
fn short(tag: &str) -> String {
    tag.strip_prefix("tag:yaml.org,2002:").map_or_else(|| tag.to_owned(), |name| format!("!!{name}"))
}
