//! What a cluster file says of an overlay's settings, read by the overlay's rules.

use super::form::Form;
use super::rule::{Kind, Rule, Settings as Rules, number};
use super::url::Url;
use super::{Raw, RawMap};
use crate::cluster::read::wrong_type;
use crate::cluster::tree::{Entry, Tree, Value};
use crate::cluster::{ip, size, words};
use crate::diag::{Fault, Span, nearest};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Names and values of all settings of an overlay: those that are given, and the defaults of the others.
pub type Settings = BTreeMap<String, Setting>;

/// A value and its place in the cluster file. A default has the place of the overlay's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its bytes in the cluster file.
    pub span: Span,
    /// The value.
    pub value: SettingValue,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingValue {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number; sizes are bytes.
    Integer(i64),
    /// Another number, as it is written.
    Float(String),
    /// Text.
    Text(String),
    /// Where a secret is kept.
    Secret(Secret),
    /// A list.
    List(Vec<Setting>),
    /// A mapping, in the order of the file.
    Map(Vec<(String, Setting)>),
}

/// Where a secret is kept.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// In the cluster file itself.
    Plain(kiln_contract::secret::Secret),
    /// A value of a SOPS file.
    Sops {
        /// The file, absolute or relative to the working directory.
        file: PathBuf,
        /// Keys on the way to the value, with dots between.
        key: String,
    },
    /// A named value of the cluster's own secrets.
    Stored(String),
    /// A file that holds nothing else.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
}

/// Says where the secret is, and never what it is.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain(_) => f.write_str("a secret in the cluster file"),
            Self::Sops { file, key } => write!(f, "{key} of {}", file.display()),
            Self::Stored(name) => write!(f, "the secret {name}"),
            Self::File(file) => write!(f, "{}", file.display()),
            Self::Environment(name) => write!(f, "${name}"),
        }
    }
}

impl Setting {
    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            SettingValue::Text(text) => Some(text),
            _ => None,
        }
    }
    /// `true`, when it is that.
    pub fn is_true(&self) -> bool {
        self.value == SettingValue::Bool(true)
    }
    /// The number, if it is one.
    pub fn integer(&self) -> Option<i64> {
        match self.value {
            SettingValue::Integer(number) => Some(number),
            _ => None,
        }
    }
    /// The entries of a list; none of anything else.
    pub fn list(&self) -> &[Self] {
        match &self.value {
            SettingValue::List(items) => items,
            _ => &[],
        }
    }
    /// The entries of a mapping; none of anything else.
    pub fn map(&self) -> &[(String, Self)] {
        match &self.value {
            SettingValue::Map(entries) => entries,
            _ => &[],
        }
    }
    /// A value of a mapping.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.map().iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }
}

/// What a key is called until it is known whose it is: no setting has such a name.
const KEY: &str = " key ";

/// Reads settings.
pub(crate) struct Reading<'a> {
    pub(crate) faults: &'a mut Vec<Fault>,
    /// Relative paths count from here.
    pub(crate) folder: &'a Path,
    /// Whose settings they are, for messages: "the overlay `flux`".
    pub(crate) what: String,
    /// The place of what is not in the file: defaults.
    pub(crate) place: Span,
}

/// `over` with its keys in place of those of `under`.
pub(crate) fn merged(under: &RawMap, over: &RawMap) -> RawMap {
    let entries = |map: &RawMap| match &map.0.0.value {
        Value::Map(entries) => entries.clone(),
        _ => Vec::new(),
    };
    let over_entries = entries(over);
    let mut all: Vec<Entry> = entries(under);
    all.retain(|entry| !over_entries.iter().any(|other| other.key == entry.key));
    all.extend(over_entries);
    RawMap(Raw(Tree { span: over.0.0.span.clone(), value: Value::Map(all) }))
}

impl Reading<'_> {
    /// The settings that `given` has, by `rules`; the keys `known` are not settings.
    pub(crate) fn settings(&mut self, given: Option<&RawMap>, rules: &Rules, known: &[&str]) -> Settings {
        let entries: Vec<&Entry> = match given.map(|given| &given.0.0.value) {
            Some(Value::Map(entries)) => {
                entries.iter().filter(|entry| !known.contains(&entry.key.as_str())).collect()
            }
            _ => Vec::new(),
        };
        let place = given.map_or_else(|| self.place.clone(), |given| first_key(&given.0.0));
        self.mapping((&entries, &place), rules, &self.what.clone()).into_iter().collect()
    }

    fn mapping(
        &mut self,
        (entries, place): (&[&Entry], &Span),
        rules: &Rules,
        what: &str,
    ) -> Vec<(String, Setting)> {
        for entry in entries.iter().filter(|entry| !rules.contains_key(&entry.key)) {
            let all: Vec<&str> = rules.keys().map(String::as_str).collect();
            let help = match nearest(&entry.key, all.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if all.is_empty() => "it takes none: remove this line".to_owned(),
                None => format!("it takes {}", all.join(", ")),
            };
            let message = format!("{what} has no setting `{}`", entry.key);
            self.faults
                .push(Fault::error("unknown-setting", &entry.key_span, message).label("unknown").help(help));
        }
        let mut settings = Vec::new();
        for (name, rule) in rules {
            let given = entries.iter().find(|entry| entry.key == *name && entry.value.value != Value::Null);
            let value = match (given, &rule.default) {
                (Some(entry), _) => self.value(&entry.value, rule, name),
                // An author's default has no place in the cluster file.
                (None, Some(default)) => {
                    let mut default = default.0.clone();
                    displace(&mut default, place);
                    self.value(&default, rule, name)
                }
                (None, None) => {
                    if rule.required {
                        let message = format!("{what} needs its setting `{name}`");
                        let help = format!("add `{name}:` with {}{}", rule.want(), summary(rule));
                        self.faults.push(
                            Fault::error("missing-setting", place, message)
                                .label("in this mapping")
                                .help(help),
                        );
                    }
                    // A template may ask for what is left out, and for nothing that an overlay does not know.
                    Some(Setting { span: place.clone(), value: SettingValue::Null })
                }
            };
            settings.extend(value.map(|value| (name.clone(), value)));
        }
        settings
    }

    fn value(&mut self, tree: &Tree, rule: &Rule, name: &str) -> Option<Setting> {
        let value = match (&rule.kind, &tree.value) {
            (Kind::Any, _) => self.any(tree, name)?,
            (Kind::Networks, Value::List(_)) => self.networks(tree, name)?,
            (Kind::Secret, _) => SettingValue::Secret(self.secret(tree, name)?),
            (Kind::Boolean, Value::Bool(value)) => SettingValue::Bool(*value),
            (Kind::Integer, Value::Number(text)) => match number(text).as_i64() {
                Some(number) => SettingValue::Integer(number),
                None => {
                    rule.wrong_type(tree, self.faults);
                    return None;
                }
            },
            (Kind::List(items, unique), Value::List(list)) => {
                let list: Vec<Setting> =
                    list.iter().filter_map(|item| self.value(item, items, name)).collect();
                if let Some(field) = unique {
                    self.twice(&list, (name, field));
                }
                SettingValue::List(list)
            }
            (Kind::Map(items, keys), Value::Map(entries)) => SettingValue::Map(
                entries
                    .iter()
                    .filter_map(|entry| {
                        if let Some(keys) = keys {
                            self.key(entry, keys, name)?;
                        }
                        Some((entry.key.clone(), self.value(&entry.value, items, &entry.key)?))
                    })
                    .collect(),
            ),
            // What is an amount may look like a number.
            (Kind::Form(Form::Quantity), Value::Number(text)) => {
                self.text(text, (&rule.kind, name), &tree.span)?
            }
            (Kind::Object(fields), Value::Map(entries)) => {
                let entries: Vec<&Entry> = entries.iter().collect();
                let mapping = self.mapping((&entries, &first_key(tree)), fields, &format!("`{name}`"));
                SettingValue::Map(mapping)
            }
            (
                Kind::Text(_)
                | Kind::Size
                | Kind::Network
                | Kind::Networks
                | Kind::Address
                | Kind::Host
                | Kind::Url(_)
                | Kind::Form(_),
                Value::Text(text),
            ) => self.text(text, (&rule.kind, name), &tree.span)?,
            _ => {
                rule.wrong_type(tree, self.faults);
                return None;
            }
        };
        self.range(&value, (rule, name), &tree.span)?;
        Some(Setting { span: tree.span.clone(), value })
    }

    fn text(&mut self, text: &str, (kind, name): (&Kind, &str), span: &Span) -> Option<SettingValue> {
        let refused = match kind {
            Kind::Text(one_of) if !one_of.is_empty() && !one_of.iter().any(|one| one == text) => {
                let fault = crate::cluster::read::unknown_word(
                    text,
                    span,
                    &format!("a value of `{name}`"),
                    &one_of.iter().map(String::as_str).collect::<Vec<_>>(),
                );
                self.faults.push(fault);
                return None;
            }
            Kind::Size => match size::parse(text) {
                Ok(bytes) => return Some(SettingValue::Integer(i64::try_from(bytes).unwrap_or(i64::MAX))),
                Err(reason) => {
                    Some((format!("a size: {reason}"), "write a number with its unit, such as `20GiB`"))
                }
            },
            Kind::Network | Kind::Networks => ip::network(text).err().map(|reason| {
                let want = format!("a network with a prefix length (CIDR): {reason}");
                (want, "write it such as `10.42.0.0/16`")
            }),
            Kind::Address => ip::address(text).err().map(|reason| {
                let want = format!("an IP address: {reason}");
                (want, "write it such as `192.168.86.1`, without a prefix length")
            }),
            Kind::Host if ip::address(text).is_err() => words::domain(text).err().map(|reason| {
                (
                    format!("a host name or an address: {reason}"),
                    "write it such as `k3s1.local` or `192.168.86.1`",
                )
            }),
            Kind::Url(schemes) => return self.url(text, (schemes, name), span),
            Kind::Form(form) => form.check(text).err().map(|reason| {
                let (what, help) = form.words();
                (format!("{what}: {reason}"), help)
            }),
            _ => None,
        };
        match refused {
            None => Some(SettingValue::Text(text.to_owned())),
            Some((want, help)) => {
                let message = match text.contains("PRIVATE KEY") {
                    true => format!("`{name}` is not {want}"),
                    false => format!("`{name}` is {:?}, which is not {want}", shortened(text)),
                };
                self.faults.push(Fault::error("setting", span, message).label("here").help(help));
                None
            }
        }
    }

    /// An address. Where a password may be in it, none of it is shown.
    fn url(&mut self, text: &str, (schemes, name): (&[String], &str), span: &Span) -> Option<SettingValue> {
        let reason = match Url::parse(text) {
            Ok(url) if schemes.iter().any(|scheme| scheme == url.scheme) => {
                return Some(SettingValue::Text(text.to_owned()));
            }
            // An address in the way of scp is the most likely one.
            _ if !text.contains("://") => "it does not begin with its scheme",
            Err(reason) if schemes.iter().any(|scheme| text.split("://").next() == Some(scheme)) => reason,
            _ => "its scheme is another one",
        };
        let all: Vec<String> = schemes.iter().map(|scheme| format!("`{scheme}://`")).collect();
        let want = format!("an address that begins with {}", all.join(" or "));
        let behind = text.split_once("://").map_or(text, |(_, behind)| behind);
        let hidden = behind.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'));
        let (code, message) = match hidden {
            true => ("secret", format!("`{name}` is not {want}: {reason}")),
            false => ("setting", format!("`{name}` is {:?}, which is not {want}: {reason}", shortened(text))),
        };
        let fault = Fault::error(code, span, message).label("here");
        self.faults.push(fault.help("write it with its scheme and its host"));
        None
    }

    /// The key of a map, by the rule for keys.
    fn key(&mut self, entry: &Entry, rule: &Rule, name: &str) -> Option<()> {
        let before = self.faults.len();
        let value = self.text(&entry.key, (&rule.kind, KEY), &entry.key_span);
        let taken = value.and_then(|value| self.range(&value, (rule, KEY), &entry.key_span));
        for fault in &mut self.faults[before..] {
            for words in [format!("a value of `{KEY}`"), format!("`{KEY}`")] {
                fault.message = fault.message.replace(&words, &format!("a key of `{name}`"));
            }
        }
        taken
    }

    /// Entries of a list that have the same in `field`.
    fn twice(&mut self, list: &[Setting], (name, field): (&str, &str)) {
        let mut first: BTreeMap<&str, &Span> = BTreeMap::new();
        for value in list.iter().filter_map(|item| item.get(field)) {
            let Some(text) = value.text() else { continue };
            if let Some(other) = first.insert(text, &value.span) {
                let message = format!("two entries of `{name}` have the {field} `{}`", shortened(text));
                let fault = Fault::error("setting", &value.span, message).label("again here");
                self.faults
                    .push(fault.also(other, "first here").help("keep one of the two, or give it another"));
            }
        }
    }

    fn range(&mut self, value: &SettingValue, (rule, name): (&Rule, &str), span: &Span) -> Option<()> {
        let (count, unit) = match value {
            SettingValue::Integer(number) if rule.kind == Kind::Integer => (*number, ""),
            SettingValue::Text(text) => {
                (i64::try_from(text.chars().count()).unwrap_or(i64::MAX), " characters")
            }
            SettingValue::Secret(Secret::Plain(secret)) => {
                (i64::try_from(secret.reveal().chars().count()).unwrap_or(i64::MAX), " characters")
            }
            SettingValue::List(items) => (i64::try_from(items.len()).unwrap_or(i64::MAX), " entries"),
            SettingValue::Map(items) if matches!(rule.kind, Kind::Map(..)) => {
                (i64::try_from(items.len()).unwrap_or(i64::MAX), " entries")
            }
            _ => return Some(()),
        };
        let (min, max) = rule.range;
        let help = match (min, max) {
            (Some(min), _) if count < i64::from(min) => format!("it takes at least {min}{unit}"),
            (_, Some(max)) if count > i64::from(max) => format!("it takes at most {max}{unit}"),
            _ => return Some(()),
        };
        let has = if unit.is_empty() { "is" } else { "has" };
        let message = format!("`{name}` {has} {count}{unit}");
        let code = if rule.kind == Kind::Secret { "secret" } else { "setting" };
        self.faults.push(Fault::error(code, span, message).label("here").help(help));
        None
    }

    /// A network of each family.
    fn networks(&mut self, tree: &Tree, name: &str) -> Option<SettingValue> {
        let Value::List(items) = &tree.value else { return None };
        let mut texts = Vec::new();
        for item in items {
            let Value::Text(text) = &item.value else {
                wrong_type(item, "text", self.faults);
                return None;
            };
            self.text(text, (&Kind::Network, name), &item.span)?;
            texts.push(text.as_str());
        }
        let four = ip::networks(&texts.join(",")).iter().filter(|net| net.addr().is_ipv4()).count();
        if texts.is_empty() || four > 1 || texts.len() - four > 1 {
            let message = format!("`{name}` takes one network of IPv4, one of IPv6, or one of each");
            let help = "write such as `[10.42.0.0/16, \"fd00:42::/56\"]`";
            self.faults.push(Fault::error("setting", &tree.span, message).label("here").help(help));
            return None;
        }
        Some(SettingValue::Text(texts.join(",")))
    }

    /// Whatever YAML can hold. What says where a secret is, is that secret; a text whose key says that it is a secret is
    /// told, and is one.
    fn any(&mut self, tree: &Tree, name: &str) -> Option<SettingValue> {
        Some(match &tree.value {
            Value::Null => SettingValue::Null,
            Value::Bool(value) => SettingValue::Bool(*value),
            Value::Number(text) => match number(text).as_i64() {
                Some(number) => SettingValue::Integer(number),
                None => SettingValue::Float(text.clone()),
            },
            Value::Text(text) if !text.is_empty() && names_secret(name) => {
                SettingValue::Secret(self.secret(tree, name)?)
            }
            Value::Text(text) => SettingValue::Text(text.clone()),
            Value::List(items) => {
                let mut list = Vec::new();
                for item in items {
                    list.push(Setting { span: item.span.clone(), value: self.any(item, name)? });
                }
                SettingValue::List(list)
            }
            Value::Map(entries) if is_reference(entries) => SettingValue::Secret(self.secret(tree, name)?),
            Value::Map(entries) => {
                let mut map = Vec::new();
                for entry in entries {
                    let value = self.any(&entry.value, &entry.key)?;
                    map.push((entry.key.clone(), Setting { span: entry.value.span.clone(), value }));
                }
                SettingValue::Map(map)
            }
        })
    }

    /// Where a secret is kept. In plain text it is taken, with a warning: it is then as safe as the cluster file.
    pub(crate) fn secret(&mut self, tree: &Tree, name: &str) -> Option<Secret> {
        let text = |key: &str| match &tree.value {
            Value::Map(entries) => {
                entries.iter().find(|entry| entry.key == key).and_then(|entry| match &entry.value.value {
                    Value::Text(text) if !text.is_empty() => Some(text.clone()),
                    _ => None,
                })
            }
            _ => None,
        };
        let keys: BTreeSet<&str> = match &tree.value {
            Value::Map(entries) => entries.iter().map(|entry| entry.key.as_str()).collect(),
            _ => BTreeSet::new(),
        };
        let path = |path: String| self.folder.join(path.trim_start_matches("./"));
        let secret = match &tree.value {
            Value::Text(text) if !text.is_empty() => {
                let message = format!("`{name}` is a secret in plain text");
                let help = "keep it encrypted: `kiln secrets set NAME` asks for it, and `{ secret: NAME }` is written here";
                self.faults
                    .push(Fault::warning("plain-secret", &tree.span, message).label("readable").help(help));
                Some(Secret::Plain(kiln_contract::secret::Secret::new(text.clone())))
            }
            _ if keys.len() == 1 && keys.contains("secret") => text("secret").map(Secret::Stored),
            _ if keys.len() == 1 && keys.contains("file") => text("file").map(path).map(Secret::File),
            _ if keys.len() == 1 && keys.contains("env") => text("env").map(Secret::Environment),
            _ if keys.len() == 2 && keys.contains("sops") && keys.contains("key") => {
                let key = text("key");
                text("sops").map(path).zip(key).map(|(file, key)| Secret::Sops { file, key })
            }
            _ => None,
        };
        if secret.is_none() {
            let message = format!("`{name}` does not say where its secret is");
            let help = "write `{ secret: NAME }` for one of the cluster's own (`kiln secrets set NAME`), `{ sops: FILE, key: KEY }`, \
                        `{ file: FILE }` or `{ env: VARIABLE }`";
            self.faults.push(Fault::error("secret", &tree.span, message).label("here").help(help));
        }
        secret
    }
}

/// A whole block would be underlined: its first key is enough.
fn first_key(tree: &Tree) -> Span {
    match &tree.value {
        Value::Map(entries) => entries.first().map_or(tree.span.clone(), |entry| entry.key_span.clone()),
        _ => tree.span.clone(),
    }
}

fn displace(tree: &mut Tree, place: &Span) {
    tree.span = place.clone();
    match &mut tree.value {
        Value::List(items) => items.iter_mut().for_each(|item| displace(item, place)),
        Value::Map(entries) => entries.iter_mut().for_each(|entry| {
            entry.key_span = place.clone();
            displace(&mut entry.value, place);
        }),
        _ => {}
    }
}

/// Whether a mapping of anything says where a secret is: one of the four forms, with text behind each key.
fn is_reference(entries: &[Entry]) -> bool {
    let keys: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
    let texts = entries.iter().all(|entry| matches!(entry.value.value, Value::Text(_)));
    texts && matches!(keys[..], ["secret" | "file" | "env"] | ["sops", "key"] | ["key", "sops"])
}

/// Whether a key's name says that its text is a secret, and not where one is or how long it holds.
fn names_secret(name: &str) -> bool {
    const ENDS: [&str; 14] = [
        "password",
        "passwd",
        "passphrase",
        "token",
        "secretkey",
        "accesskey",
        "privatekey",
        "apikey",
        "authkey",
        "secretaccesskey",
        "accesskeyid",
        "credentials",
        "clientsecret",
        "vpnauth",
    ];
    let word: String = name.trim_end_matches('+').chars().filter(char::is_ascii_alphanumeric).collect();
    let word = word.to_ascii_lowercase();
    ENDS.iter().any(|end| word.ends_with(end))
}

fn summary(rule: &Rule) -> String {
    if rule.summary.is_empty() { String::new() } else { format!(": {}", rule.summary) }
}

/// A text as it stands in a message.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
