//! A YAML text as a tree in which every node and every key knows its bytes.
//!
//! serde stops at its first error; a cluster file's faults are wanted all at once. So the events of
//! serde-saphyr's parser become this tree, and `read` walks it. Scalars resolve by YAML 1.2.2 §10.3 (core
//! schema).

use crate::diag::{Fault, Span};
use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, Tag};
use std::collections::BTreeMap;

/// A file nests three or four deep; this is where a parser bomb ends.
const MAX_DEPTH: usize = 32;
/// Nodes in all, copies made by aliases included.
const MAX_NODES: usize = 200_000;
/// Bytes of text that aliases and anchors may copy.
const MAX_COPIED: usize = 8 << 20;

/// A node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tree {
    pub(crate) span: Span,
    pub(crate) value: Value,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// Its text, as written.
    Number(String),
    Text(String),
    List(Vec<Tree>),
    Map(Vec<Entry>),
}

/// One key of a mapping with its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) value: Tree,
}

impl Tree {
    /// "a list", "a number", … for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
    /// Nodes, and bytes of their texts.
    fn weight(&self) -> (usize, usize) {
        let add = |one: (usize, usize), other: (usize, usize)| (one.0 + other.0, one.1 + other.1);
        match &self.value {
            Value::List(items) => items.iter().map(Self::weight).fold((1, 0), add),
            Value::Map(entries) => {
                let entry = |entry: &Entry| add(entry.value.weight(), (0, entry.key.len()));
                entries.iter().map(entry).fold((1, 0), add)
            }
            Value::Text(text) | Value::Number(text) => (1, text.len()),
            Value::Null | Value::Bool(_) => (1, 0),
        }
    }
}

/// Reads one YAML document. Without a tree the text is not YAML, or too much of it; duplicate keys and the
/// like are reported and the tree goes on without them.
pub(crate) fn parse(source: &str) -> (Option<Tree>, Vec<Fault>) {
    let mut options = Options::default();
    options.set_emit_comments(false);
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(source, options) {
        match event {
            Ok((event, span)) => {
                let range = span.byte_range().unwrap_or(0..0);
                if let Err(fault) = builder.take(event, range) {
                    builder.faults.push(*fault);
                    return (None, builder.faults);
                }
            }
            Err(error) => {
                let at = error.marker().byte_offset().unwrap_or(source.len());
                let fault =
                    Fault::error("yaml", &(at..at + 1), format!("this is not YAML: {}", error.info()))
                        .label("here, or in the lines above")
                        .help("look at the indentation, the quotes and the brackets up to this place");
                builder.faults.push(fault);
                return (None, builder.faults);
            }
        }
    }
    (builder.root, builder.faults)
}

/// A collection that is still open.
struct Open {
    tree: Tree,
    anchor: usize,
    /// The keys of a mapping so far.
    keys: BTreeMap<String, Span>,
    /// The key that waits for its value.
    key: Option<(Option<String>, Span)>,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: BTreeMap<usize, Tree>,
    nodes: usize,
    /// Bytes of text that are there once more.
    copied: usize,
    documents: usize,
    root: Option<Tree>,
    faults: Vec<Fault>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Box<Fault>> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    let fault = Fault::error("documents", &span, "a second YAML document starts here");
                    let help = "a cluster file is one document: remove the `---` and what follows";
                    return Err(Box::new(fault.help(help)));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = self.tag_says_text(tag.as_deref(), &span) || style != ScalarStyle::Plain;
                let value = if is_text { Value::Text(text.into_owned()) } else { plain(&text) };
                self.add(Tree { span, value }, anchor)?;
            }
            Event::SequenceStart(_, anchor, _) => self.begin(Value::List(Vec::new()), span, anchor)?,
            Event::MappingStart(_, anchor, _) => self.begin(Value::Map(Vec::new()), span, anchor)?,
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(mut open) = self.open.pop() {
                    open.tree.span.end = open.tree.span.end.max(span.end);
                    self.add(open.tree, open.anchor)?;
                }
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(tree) => {
                    // Before the copy is made.
                    let weight = tree.weight();
                    self.spend(weight, &span)?;
                    let Some(tree) = self.anchors.get(&anchor) else { return Ok(()) };
                    let mut copy = tree.clone();
                    copy.span = span;
                    self.add(copy, 0)?;
                }
                None => {
                    return Err(Box::new(
                        Fault::error("alias", &span, "this alias stands inside its own anchor")
                            .help("write the value out"),
                    ));
                }
            },
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, value: Value, span: Span, anchor: usize) -> Result<(), Box<Fault>> {
        if self.open.len() == MAX_DEPTH {
            return Err(Box::new(
                Fault::error("too-deep", &span, format!("nested more than {MAX_DEPTH} deep"))
                    .help("a cluster file needs no more than six levels"),
            ));
        }
        self.open.push(Open { tree: Tree { span, value }, anchor, keys: BTreeMap::new(), key: None });
        Ok(())
    }

    /// Counts nodes, and bytes that are copied.
    fn spend(&mut self, (nodes, copied): (usize, usize), span: &Span) -> Result<(), Box<Fault>> {
        self.nodes = self.nodes.saturating_add(nodes);
        self.copied = self.copied.saturating_add(copied);
        let message = if self.nodes > MAX_NODES {
            format!("more than {MAX_NODES} values in all")
        } else if self.copied > MAX_COPIED {
            format!("aliases copy more than {} MiB of text", MAX_COPIED >> 20)
        } else {
            return Ok(());
        };
        let help = "is this a cluster file? aliases count as often as they are used";
        Err(Box::new(Fault::error("too-large", span, message).help(help)))
    }

    fn add(&mut self, tree: Tree, anchor: usize) -> Result<(), Box<Fault>> {
        self.spend((1, 0), &tree.span)?;
        if anchor != 0 {
            self.spend(tree.weight(), &tree.span)?;
            self.anchors.insert(anchor, tree.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(tree);
            return Ok(());
        };
        match &mut open.tree.value {
            Value::List(items) => items.push(tree),
            Value::Map(entries) => match open.key.take() {
                None => open.key = Some((key_text(&tree, &mut self.faults), tree.span)),
                Some((Some(key), key_span)) => {
                    if let Some(first) = open.keys.get(&key) {
                        let message = format!("the key `{key}` is given twice");
                        self.faults.push(
                            Fault::error("duplicate-key", &key_span, message)
                                .label("again here")
                                .also(first, "first here")
                                .help("keep one of the two"),
                        );
                    } else {
                        open.keys.insert(key.clone(), key_span.clone());
                        entries.push(Entry { key, key_span, value: tree });
                    }
                }
                Some((None, _)) => {}
            },
            _ => {}
        }
        Ok(())
    }

    /// `!!str` and `!` make text of any scalar (YAML 1.2.2 §10.1.1.3, §6.9.1); no other tag is taken.
    fn tag_says_text(&mut self, tag: Option<&Tag>, span: &Span) -> bool {
        let Some(tag) = tag.map(ToString::to_string) else { return false };
        let text = tag == "!" || tag.ends_with("str");
        if !text {
            let message = format!("the tag `{tag}` means nothing here");
            self.faults.push(Fault::error("tag", span, message).help("remove the tag"));
        }
        text
    }
}

fn key_text(tree: &Tree, faults: &mut Vec<Fault>) -> Option<String> {
    match &tree.value {
        Value::Text(text) | Value::Number(text) => Some(text.clone()),
        Value::Bool(value) => Some(value.to_string()),
        _ => {
            let message = format!("a key must be text, and this is {}", tree.kind());
            let help = "write `key: value`; text with `{` or `[` in front needs quotes";
            faults.push(Fault::error("key", &tree.span, message).help(help));
            None
        }
    }
}

fn plain(text: &str) -> Value {
    let numeric = || {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        let hex = digits
            .strip_prefix("0x")
            .is_some_and(|d| !d.is_empty() && d.chars().all(|c| c.is_ascii_hexdigit()));
        let start = digits.strip_prefix('.').unwrap_or(digits);
        hex || (start.starts_with(|c: char| c.is_ascii_digit()) && digits.parse::<f64>().is_ok())
    };
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ if numeric() => Value::Number(text.to_owned()),
        _ => Value::Text(text.to_owned()),
    }
}
