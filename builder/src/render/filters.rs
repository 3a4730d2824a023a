//! Filters for what Kiln's overlays print into files of other programs: no value may become another program's syntax.

use super::context::revealed;
use crate::cluster::certificates;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::fmt::Write as _;

/// What stands in a name or a password of an address as it is (RFC 3986 §2.3).
const ESCAPED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Bytes of one text in a TXT record (RFC 1035 §3.3).
const CHARACTER_STRING: usize = 255;

pub(super) fn add(environment: &mut Environment<'static>) {
    environment.add_filter("at_least", at_least);
    environment
        .add_filter("character_strings", |text: &str| Value::from_safe_string(character_strings(text)));
    environment.add_filter("one_each", one_each);
    environment.add_filter("with_login", with_login);
}

fn refused(reason: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason)
}

fn text(value: &Value) -> Result<String, Error> {
    Ok(revealed(value)?.unwrap_or_else(|| value.to_string()))
}

/// The secret, when it is long enough.
fn at_least(value: &Value, least: usize) -> Result<Value, Error> {
    let text = text(value)?;
    match text.chars().count() {
        count if count < least => Err(refused(format!(
            "a secret has {count} characters, and the program takes no less than {least}"
        ))),
        _ => Ok(Value::from(text)),
    }
}

/// Text of a TXT record: texts between quotes, each of which has no more bytes than one can have.
fn character_strings(text: &str) -> String {
    let mut strings = Vec::new();
    let mut bytes = text.as_bytes();
    loop {
        let (one, rest) = bytes.split_at(bytes.len().min(CHARACTER_STRING));
        let mut string = String::from("\"");
        for byte in one {
            match byte {
                b'"' | b'\\' => drop(write!(string, "\\{}", char::from(*byte))),
                b' '..=b'~' => string.push(char::from(*byte)),
                _ => drop(write!(string, "\\{byte:03}")),
            }
        }
        strings.push(string + "\"");
        if rest.is_empty() {
            return strings.join(" ");
        }
        bytes = rest;
    }
}

/// Each certificate of `pem` as an entry of its own, numbered: the first has no number. `_` is in no name of an entry.
fn one_each(entries: &Value) -> Result<Value, Error> {
    let mut all: Vec<Value> = Vec::new();
    for entry in entries.try_iter()? {
        let pem = entry.get_attr("pem")?;
        let blocks = certificates(pem.as_str().unwrap_or_default()).map_err(refused)?;
        for (at, pem) in blocks.into_iter().enumerate() {
            let number = if at == 0 { String::new() } else { format!("_{}", at + 1) };
            all.push(context! { name => format!("{}{number}", entry.get_attr("name")?), pem });
        }
    }
    Ok(Value::from(all))
}

/// An address with a name and a password in it. None of both leaves it as it is.
fn with_login(url: &str, user: &Value, password: &Value) -> Result<Value, Error> {
    if user.is_none() {
        return Ok(Value::from(url));
    }
    let escaped = |value: &Value| text(value).map(|text| utf8_percent_encode(&text, &ESCAPED).to_string());
    let mut login = escaped(user)?;
    if !password.is_none() {
        login = format!("{login}:{}", escaped(password)?);
    }
    let (scheme, rest) = url.split_once("://").ok_or_else(|| refused("an address has no scheme"))?;
    Ok(Value::from(format!("{scheme}://{login}@{rest}")))
}

#[cfg(test)]
mod tests {
    use super::{character_strings, with_login};
    use minijinja::Value;

    #[test]
    fn texts_are_cut_where_they_are_too_long() {
        assert_eq!(character_strings(""), "\"\"");
        assert_eq!(character_strings("a\"b\\c é\t"), "\"a\\\"b\\\\c \\195\\169\\009\"");
        let long = "x".repeat(600);
        let lengths: Vec<usize> =
            character_strings(&long).split(' ').map(|string| string.len() - 2).collect();
        assert_eq!(lengths, [255, 255, 90]);
    }

    #[test]
    fn passwords_are_escaped() {
        let (user, password) = (Value::from("ops"), Value::from("pa#s/s@%é"));
        let url = with_login("http://proxy:3128", &user, &password).expect("an address");
        assert_eq!(url.to_string(), "http://ops:pa%23s%2Fs%40%25%C3%A9@proxy:3128");
        let none = Value::from(());
        assert_eq!(
            with_login("http://proxy:3128", &none, &none).expect("one").to_string(),
            "http://proxy:3128"
        );
    }
}
