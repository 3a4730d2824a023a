//! YAML with its keys in order. Plain scalars resolve as go.yaml.in/yaml/v3 does it, which is what sops reads with:
//! `0755` is octal, `1_000` a number, a date a time.

use super::tree::{Kind, Tree};
use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle};
use std::collections::BTreeSet;

/// Where a parser bomb ends.
const MAX_DEPTH: usize = 64;

/// Reads all documents of a YAML text. The reason of a fault quotes nothing.
pub(super) fn parse(text: &str) -> Result<Vec<Tree>, String> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    let mut reader = Reader::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event
            .map_err(|fault| format!("it is not YAML: {} (line {})", fault.info(), fault.marker().line()))?;
        reader.take(event).map_err(|reason| format!("{reason} (line {})", span.start.line()))?;
    }
    Ok(reader.documents)
}

enum Open {
    List(Vec<Tree>),
    Map { entries: Vec<(String, Tree)>, keys: BTreeSet<String>, key: Option<String> },
}

#[derive(Default)]
struct Reader {
    open: Vec<Open>,
    documents: Vec<Tree>,
}

impl Reader {
    fn take(&mut self, event: Event<'_>) -> Result<(), &'static str> {
        match event {
            Event::Scalar(text, style, _, tag) => {
                let tag = tag.map(|tag| tag.to_string());
                let tree = match tag.as_deref() {
                    None if style == ScalarStyle::Plain => plain(&text),
                    None => Tree::scalar(Kind::Text, text.into_owned()),
                    Some(tag) if tag == "!" || tag.ends_with("str") => {
                        Tree::scalar(Kind::Text, text.into_owned())
                    }
                    Some(_) => return Err("a tag that is not supported"),
                };
                self.add(tree)
            }
            Event::SequenceStart(..) => self.begin(Open::List(Vec::new())),
            Event::MappingStart(..) => {
                self.begin(Open::Map { entries: Vec::new(), keys: BTreeSet::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List(items)) => self.add(Tree::List(items)),
                Some(Open::Map { entries, .. }) => self.add(Tree::Map(entries)),
                None => Ok(()),
            },
            // sops writes values out.
            Event::Alias(_) => Err("an alias, which sops never writes"),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, open: Open) -> Result<(), &'static str> {
        if self.open.len() == MAX_DEPTH {
            return Err("nested too deep");
        }
        self.open.push(open);
        Ok(())
    }

    fn add(&mut self, tree: Tree) -> Result<(), &'static str> {
        match self.open.last_mut() {
            None => self.documents.push(tree),
            Some(Open::List(items)) => items.push(tree),
            Some(Open::Map { entries, keys, key }) => match key.take() {
                Some(name) => entries.push((name, tree)),
                None => {
                    let name = tree.text().ok_or("a key that is not text")?.expose().to_owned();
                    if !keys.insert(name.clone()) {
                        return Err("a key is given twice");
                    }
                    *key = Some(name);
                }
            },
        }
        Ok(())
    }
}

/// `resolve.go` of go.yaml.in/yaml/v3.
fn plain(text: &str) -> Tree {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Tree::Null,
        "true" | "True" | "TRUE" => return Tree::bool(true),
        "false" | "False" | "FALSE" => return Tree::bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Tree::float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Tree::float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Tree::float(f64::NAN),
        _ => {}
    }
    let begins = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.');
    if !text.as_bytes().first().is_some_and(begins) {
        return Tree::scalar(Kind::Text, text);
    }
    if let Some(time) = time(text) {
        return Tree::scalar(Kind::Time, time);
    }
    let digits = text.replace('_', "");
    if let Some(number) = integer(&digits) {
        return Tree::scalar(Kind::Integer, number.to_string());
    }
    match digits.parse::<f64>() {
        Ok(number) if is_float(&digits) => Tree::float(number),
        _ => Tree::scalar(Kind::Text, text),
    }
}

/// `strconv.ParseInt` with base 0.
fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = [("0x", 16), ("0o", 8), ("0b", 2)]
        .into_iter()
        .find_map(|(prefix, radix)| Some((radix, lower.strip_prefix(prefix)?)))
        .unwrap_or(match lower.strip_prefix('0') {
            Some(rest) if !rest.is_empty() => (8, rest),
            _ => (10, lower.as_str()),
        });
    if !digits.starts_with(|digit: char| digit.is_ascii_alphanumeric()) {
        return None;
    }
    let number = i128::from_str_radix(digits, radix).ok()?;
    i64::try_from(if negative { -number } else { number }).ok()
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`; what else Rust reads as a number is text here.
fn is_float(text: &str) -> bool {
    let body = text.strip_prefix(['+', '-']).unwrap_or(text);
    body.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && body.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'))
}

/// The RFC 3339 form of a date, or of a time that is nearly in it already.
fn time(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    if bytes.get(4) != Some(&b'-') || !bytes[..4].iter().all(u8::is_ascii_digit) {
        return None;
    }
    if let Ok(date) = text.parse::<jiff::civil::Date>()
        && text.len() == 10
    {
        return Some(format!("{date}T00:00:00Z"));
    }
    let is_time = matches!(bytes.get(10), Some(b'T' | b't')) && text.parse::<jiff::Timestamp>().is_ok();
    is_time.then(|| text.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::{Kind, Tree, parse, plain};

    #[test]
    fn plain_scalars_are_what_go_makes_of_them() {
        for (text, kind, form) in [
            ("12", Kind::Integer, "12"),
            ("-0x1F", Kind::Integer, "-31"),
            ("0755", Kind::Integer, "493"),
            ("0o17", Kind::Integer, "15"),
            ("1_000", Kind::Integer, "1000"),
            ("0", Kind::Integer, "0"),
            ("089", Kind::Float, "89"),
            ("1.50", Kind::Float, "1.5"),
            ("1e3", Kind::Float, "1000"),
            (".5", Kind::Float, "0.5"),
            ("99999999999999999999", Kind::Float, "100000000000000000000"),
            ("True", Kind::Bool, "True"),
            ("false", Kind::Bool, "False"),
            ("yes", Kind::Text, "yes"),
            ("1.2.3", Kind::Text, "1.2.3"),
            ("10.0.0.1/8", Kind::Text, "10.0.0.1/8"),
            ("-", Kind::Text, "-"),
            ("2026-01-02", Kind::Time, "2026-01-02T00:00:00Z"),
            ("2026-01-02T03:04:05Z", Kind::Time, "2026-01-02T03:04:05Z"),
            ("2026-13-02", Kind::Text, "2026-13-02"),
            ("1infinity", Kind::Text, "1infinity"),
        ] {
            assert_eq!(plain(text), Tree::scalar(kind, form), "{text}");
        }
    }

    #[test]
    fn what_sops_never_writes_is_refused() {
        for (text, said) in [
            ("a: &x 1\nb: *x\n", "an alias, which sops never writes (line 2)"),
            ("a: 1\na: 2\n", "a key is given twice (line 2)"),
            ("[a]: 1\n", "a key that is not text (line 1)"),
            ("a: !!binary aGk=\n", "a tag that is not supported (line 1)"),
        ] {
            assert_eq!(parse(text).unwrap_err(), said);
        }
        assert!(parse(&"[".repeat(100)).is_err());
    }
}
