//! What a setting may be: the `settings` of an `overlay.yaml`.

use super::Raw;
use super::form::Form;
use crate::cluster::read::{Read, Spanned, Text, document, words, wrong_type};
use crate::cluster::tree::{Tree, Value};
use crate::diag::{Fault, Span};
use serde_json::json;
use std::collections::BTreeMap;

words! {
    /// What a setting holds.
    Type, "a type of settings" {
        /// Any text.
        Text = "text",
        /// A whole number.
        Integer = "integer",
        /// `true` or `false`.
        Boolean = "boolean",
        /// A size with its unit, as a number of bytes.
        Size = "size",
        /// A network: an address with its prefix length.
        Network = "network",
        /// A network, or a list of one for IPv4 and one for IPv6; templates see one text with a comma between.
        Networks = "networks",
        /// An IP address.
        Address = "address",
        /// A host name or an IP address.
        Host = "host",
        /// An address with a scheme: `http` or `https`, or those of `schemes`.
        Url = "url",
        /// A span of time as Go and Flux take it: `1h30m`.
        Duration = "duration",
        /// A span of time as systemd takes it: `30min`.
        Timespan = "timespan",
        /// Times as systemd's `OnCalendar=` takes them: `Mon..Fri 03:00`.
        Schedule = "schedule",
        /// An amount as Kubernetes writes it: `500Mi`.
        Quantity = "quantity",
        /// The key of a label, or another qualified name of Kubernetes: `example.com/tier`.
        Label = "label",
        /// The value of a label.
        LabelValue = "label_value",
        /// The name of a thing in Kubernetes: labels of a-z, 0-9 and hyphens with dots between.
        Name = "name",
        /// The name of a namespace: such a label.
        Namespace = "namespace",
        /// A network by its first address: `10.42.0.0/16`.
        Cidr = "cidr",
        /// A regular expression as Go takes it.
        Regex = "regex",
        /// The name of a variable: letters, digits and `_`.
        Variable = "variable",
        /// Certificates in PEM, one or more.
        Certificates = "certificates",
        /// A secret: where it is kept.
        Secret = "secret",
        /// A list of `items`.
        List = "list",
        /// Keys of the user's own, all with values like `items`.
        Map = "map",
        /// A mapping of `fields`.
        Object = "object",
        /// Whatever YAML can hold.
        Any = "any",
    }
}

document! {
    /// A setting of an overlay.
    SettingSection, "a setting",
    required {
        /// What it holds.
        kind as "type": Spanned<Type>,
    }
    optional {
        /// One line for people.
        summary: Text,
        /// What counts when it is left out. Without it the setting is undefined then, and a template must ask.
        default: Raw,
        /// It must be given.
        required: Spanned<bool>,
        /// Of `text`: the only texts that are taken.
        one_of: Vec<Text>,
        /// Of `url`: the schemes that are taken, in place of `http` and `https`.
        schemes: Vec<Text>,
        /// Of `text` and `secret`: characters, `integer`: the number, `list` and `map`: entries, at least.
        min: Spanned<u32>,
        /// The same, at most.
        max: Spanned<u32>,
        /// Of `list` and `map`: what each entry is.
        items: Box<SettingSection>,
        /// Of `map`: what each key is, a setting of one of the types that are text.
        keys: Box<SettingSection>,
        /// Of a list of objects: a field by which no two of them are the same.
        unique: Text,
        /// Of `object`: what each key is.
        fields: BTreeMap<String, (Span, SettingSection)>,
    }
}

impl<T: Read> Read for Box<T> {
    const WANT: &'static str = T::WANT;
    fn read(tree: &Tree, faults: &mut Vec<Fault>) -> Option<Self> {
        T::read(tree, faults).map(Self::new)
    }
}

/// What a setting may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    /// What it holds.
    pub(crate) kind: Kind,
    /// One line for people.
    pub(crate) summary: String,
    /// What counts when it is left out.
    pub(crate) default: Option<Raw>,
    /// It must be given.
    pub(crate) required: bool,
    /// The least and the most: of characters, of the number itself, or of entries.
    pub(crate) range: (Option<u32>, Option<u32>),
}

/// What a setting holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any text, or one of these when there are any.
    Text(Vec<String>),
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// Bytes.
    Size,
    /// An address with its prefix length.
    Network,
    /// One of those, or one of each family.
    Networks,
    /// An IP address.
    Address,
    /// A host name or an IP address.
    Host,
    /// An address with one of these schemes.
    Url(Vec<String>),
    /// A text whose form others have laid down.
    Form(Form),
    /// Where a secret is kept.
    Secret,
    /// Entries that are alike, and the field by which no two are the same.
    List(Box<Rule>, Option<String>),
    /// Keys of the user's own, and what they must be.
    Map(Box<Rule>, Option<Box<Rule>>),
    /// These keys.
    Object(Settings),
    /// Whatever YAML can hold.
    Any,
}

/// Names of settings and what each may be.
pub(crate) type Settings = BTreeMap<String, Rule>;

/// The rules of `settings`; what an overlay's author got wrong is a fault.
pub(crate) fn compile(
    sections: Option<&BTreeMap<String, (Span, SettingSection)>>,
    faults: &mut Vec<Fault>,
) -> Settings {
    if let Some((span, _)) = sections.and_then(|sections| sections.get("name")) {
        let fault = Fault::error("setting", span, "no setting can be called `name`");
        faults.push(fault.label("here").help("`name` says which overlay is meant: choose another word"));
    }
    rules(sections, faults)
}

fn rules(sections: Option<&BTreeMap<String, (Span, SettingSection)>>, faults: &mut Vec<Fault>) -> Settings {
    let sections = sections.into_iter().flatten();
    sections
        .filter_map(|(name, (_, section))| rule(section, faults).map(|rule| (name.clone(), rule)))
        .collect()
}

fn rule(section: &SettingSection, faults: &mut Vec<Fault>) -> Option<Rule> {
    let kind = section.kind.as_ref()?;
    let wants = |word: &str| {
        let message = format!("a setting of type `{}` needs `{word}`", kind.value);
        Fault::error("setting", &kind.span, message)
            .label("this type")
            .help(format!("add `{word}:` beside it"))
    };
    let mut items = || match &section.items {
        Some(items) => rule(items, faults).map(Box::new),
        None => {
            faults.push(wants("items"));
            None
        }
    };
    let texts = |texts: &Option<Vec<Text>>| -> Vec<String> {
        texts.iter().flatten().map(|text| text.value.clone()).collect()
    };
    let compiled = match kind.value {
        Type::Text => Kind::Text(texts(&section.one_of)),
        Type::Integer => Kind::Integer,
        Type::Boolean => Kind::Boolean,
        Type::Size => Kind::Size,
        Type::Network => Kind::Network,
        Type::Networks => Kind::Networks,
        Type::Address => Kind::Address,
        Type::Host => Kind::Host,
        Type::Url if section.schemes.is_none() => Kind::Url(vec!["http".to_owned(), "https".to_owned()]),
        Type::Url => Kind::Url(texts(&section.schemes)),
        Type::Duration => Kind::Form(Form::Duration),
        Type::Timespan => Kind::Form(Form::Timespan),
        Type::Schedule => Kind::Form(Form::Schedule),
        Type::Quantity => Kind::Form(Form::Quantity),
        Type::Label => Kind::Form(Form::Label),
        Type::LabelValue => Kind::Form(Form::LabelValue),
        Type::Name => Kind::Form(Form::Name),
        Type::Namespace => Kind::Form(Form::Namespace),
        Type::Cidr => Kind::Form(Form::Cidr),
        Type::Regex => Kind::Form(Form::Regex),
        Type::Variable => Kind::Form(Form::Variable),
        Type::Certificates => Kind::Form(Form::Certificates),
        Type::Secret => Kind::Secret,
        Type::List => Kind::List(items()?, section.unique.as_ref().map(|field| field.value.clone())),
        Type::Map => {
            let items = items()?;
            Kind::Map(items, section.keys.as_ref().and_then(|keys| rule(keys, faults)).map(Box::new))
        }
        Type::Object if section.fields.is_none() => {
            faults.push(wants("fields"));
            return None;
        }
        Type::Object => Kind::Object(rules(section.fields.as_ref(), faults)),
        Type::Any => Kind::Any,
    };
    if let Some(default) = &section.default
        && let Some(place) = reference(&compiled, &default.0)
    {
        let message =
            "a default says where a secret is, and would be read on whoever builds with this overlay";
        let help = "leave the default out: the cluster file says where its own secrets are";
        faults.push(Fault::error("default-reference", &place, message).label("this reference").help(help));
        return None;
    }
    Some(Rule {
        kind: compiled,
        summary: section.summary.as_ref().map(|text| text.value.clone()).unwrap_or_default(),
        default: section.default.clone(),
        required: section.required.as_ref().is_some_and(|required| required.value),
        range: (section.min.as_ref().map(|min| min.value), section.max.as_ref().map(|max| max.value)),
    })
}

/// The place in a default that a file, a variable or a secret would be read for. Whoever wrote the overlay must not choose
/// what is read where it is used.
fn reference(kind: &Kind, default: &Tree) -> Option<Span> {
    match (kind, &default.value) {
        // Whatever is not plain text names a place, or is wrong anyway.
        (Kind::Secret, Value::Text(_) | Value::Null) => None,
        (Kind::Secret, _) => Some(default.span.clone()),
        (Kind::List(rule, _), Value::List(items)) => {
            items.iter().find_map(|item| reference(&rule.kind, item))
        }
        (Kind::Map(rule, _), Value::Map(entries)) => {
            entries.iter().find_map(|entry| reference(&rule.kind, &entry.value))
        }
        (Kind::Object(rules), Value::Map(entries)) => entries
            .iter()
            .find_map(|entry| rules.get(&entry.key).and_then(|rule| reference(&rule.kind, &entry.value))),
        // Free values may be read for references, too.
        (Kind::Any, Value::List(items)) => items.iter().find_map(|item| reference(&Kind::Any, item)),
        (Kind::Any, Value::Map(entries)) => {
            let mut keys: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
            keys.sort_unstable();
            match keys.as_slice() {
                ["secret"] | ["file"] | ["env"] | ["key", "sops"] => Some(default.span.clone()),
                _ => entries.iter().find_map(|entry| reference(&Kind::Any, &entry.value)),
            }
        }
        _ => None,
    }
}

impl Rule {
    /// What is wanted, for messages: "a list", "text".
    pub(crate) fn want(&self) -> &'static str {
        match self.kind {
            Kind::Text(_) | Kind::Host | Kind::Url(_) => "text",
            Kind::Form(Form::Quantity) => "a quantity",
            Kind::Form(Form::Cidr) => "a network",
            Kind::Form(_) => "text",
            Kind::Integer => "a whole number",
            Kind::Boolean => "true or false",
            Kind::Size => "a size",
            Kind::Network => "a network",
            Kind::Networks => "a network or a list of two",
            Kind::Address => "an address",
            Kind::Secret => "a secret",
            Kind::List(..) => "a list",
            Kind::Map(..) | Kind::Object(_) => "a mapping",
            Kind::Any => "a value",
        }
    }

    /// Reports that `tree` is not what was wanted.
    pub(crate) fn wrong_type(&self, tree: &Tree, faults: &mut Vec<Fault>) {
        wrong_type(tree, self.want(), faults);
    }

    /// The rule as a JSON Schema.
    fn schema(&self) -> serde_json::Value {
        let (min, max) = self.range;
        let mut schema = match &self.kind {
            Kind::Text(one_of) if one_of.is_empty() => json!({"type": "string"}),
            Kind::Text(one_of) => json!({"type": "string", "enum": one_of}),
            Kind::Integer => json!({"type": "integer"}),
            Kind::Boolean => json!({"type": "boolean"}),
            Kind::Size | Kind::Network | Kind::Address | Kind::Host | Kind::Url(_) | Kind::Form(_) => {
                json!({"type": "string"})
            }
            Kind::Networks => json!({"anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2},
            ]}),
            Kind::Secret => secret_schema(),
            Kind::List(items, _) => json!({"type": "array", "items": items.schema()}),
            Kind::Map(items, None) => json!({"type": "object", "additionalProperties": items.schema()}),
            Kind::Map(items, Some(keys)) => {
                json!({"type": "object", "additionalProperties": items.schema(), "propertyNames": keys.schema()})
            }
            Kind::Object(fields) => schema(fields),
            Kind::Any => json!({}),
        };
        let words = match &self.kind {
            Kind::Text(_) | Kind::Url(_) | Kind::Form(_) => ("minLength", "maxLength"),
            Kind::List(..) => ("minItems", "maxItems"),
            Kind::Map(..) => ("minProperties", "maxProperties"),
            _ => ("minimum", "maximum"),
        };
        let (min, max) = if self.kind == Kind::Secret { (None, None) } else { (min, max) };
        if let Some(map) = schema.as_object_mut() {
            map.extend(min.map(|min| (words.0.to_owned(), json!(min))));
            map.extend(max.map(|max| (words.1.to_owned(), json!(max))));
            if !self.summary.is_empty() {
                map.insert("description".to_owned(), json!(self.summary));
            }
            if let Some(default) = &self.default {
                map.insert("default".to_owned(), plain(&default.0));
            }
        }
        schema
    }
}

/// Settings as the JSON Schema of their mapping.
pub(crate) fn schema(settings: &Settings) -> serde_json::Value {
    let properties: BTreeMap<_, _> = settings.iter().map(|(name, rule)| (name, rule.schema())).collect();
    let required: Vec<_> = settings.iter().filter(|(_, rule)| rule.required).map(|(name, _)| name).collect();
    json!({
        "type": "object", "properties": properties, "required": required, "additionalProperties": false,
    })
}

/// The ways to say where a secret is.
fn secret_schema() -> serde_json::Value {
    let one = |properties: serde_json::Value, required: &[&str]| json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
    let text = json!({"type": "string"});
    json!({"anyOf": [
        text,
        one(json!({"secret": text}), &["secret"]),
        one(json!({"sops": text, "key": text}), &["sops", "key"]),
        one(json!({"file": text}), &["file"]),
        one(json!({"env": text}), &["env"]),
    ]})
}

/// A tree without its places.
pub(crate) fn plain(tree: &Tree) -> serde_json::Value {
    match &tree.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => json!(value),
        Value::Number(text) => number(text),
        Value::Text(text) => json!(text),
        Value::List(items) => items.iter().map(plain).collect(),
        Value::Map(entries) => entries.iter().map(|entry| (entry.key.clone(), plain(&entry.value))).collect(),
    }
}

/// A number as it is written (YAML 1.2.2 §10.3.2).
pub(crate) fn number(text: &str) -> serde_json::Value {
    let hex = text.strip_prefix("0x").and_then(|digits| i64::from_str_radix(digits, 16).ok());
    let integer = hex.or_else(|| text.strip_prefix('+').unwrap_or(text).parse::<i64>().ok());
    match integer {
        Some(integer) => json!(integer),
        None => text.parse::<f64>().map_or_else(|_| json!(text), |float| json!(float)),
    }
}

#[cfg(test)]
mod tests {
    use crate::cluster::overlay;

    #[test]
    fn a_default_is_no_reference() {
        let faults = |setting: &str| {
            let (_, faults) = overlay::read(&format!("settings: {{ x: {setting} }}\n"));
            faults.into_iter().map(|fault| fault.code).collect::<Vec<_>>()
        };
        for setting in [
            "{ type: secret, default: { file: /etc/shadow } }",
            "{ type: secret, default: { env: HOME } }",
            "{ type: secret, default: { secret: other } }",
            "{ type: secret, default: { sops: x.yaml, key: y } }",
            "{ type: list, items: { type: secret }, default: [a, { file: /etc/shadow }] }",
            "{ type: map, items: { type: secret }, default: { a: { env: HOME } } }",
            "{ type: object, fields: { a: { type: secret } }, default: { a: { file: /etc/shadow } } }",
            "{ type: object, fields: { a: { type: secret, default: { file: /etc/shadow } } } }",
            "{ type: any, default: { a: [{ file: /etc/shadow }] } }",
        ] {
            assert_eq!(faults(setting), ["default-reference"], "{setting}");
        }
        for setting in [
            "{ type: object, fields: { file: { type: text } }, default: { file: a.txt } }",
            "{ type: any, default: { file: a, more: b } }",
            "{ type: map, items: { type: secret }, default: {} }",
        ] {
            assert_eq!(faults(setting), [] as [&str; 0], "{setting}");
        }
    }
}
