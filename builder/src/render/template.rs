//! minijinja as Kiln uses it: an undefined variable is an error, and every value that a template prints is
//! quoted for the file that it is printed into, without the template asking for it. Nothing in a value can end a
//! string, begin a comment or be taken for a template.

use super::{Error, context, scalar};
use crate::cluster::Quoting;
use minijinja::value::ValueKind;
use minijinja::{Environment, ErrorKind, Output, State, UndefinedBehavior, Value};
use std::fmt::Write as _;

/// A template and its name below `templates/`.
pub(super) struct Template {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
}

pub(super) const USER_DATA: Template = Template {
    name: "cloud-init/user-data.j2",
    text: include_str!("../../../templates/cloud-init/user-data.j2"),
};
pub(super) const META_DATA: Template = Template {
    name: "cloud-init/meta-data.j2",
    text: include_str!("../../../templates/cloud-init/meta-data.j2"),
};
pub(super) const NETWORK_CONFIG: Template = Template {
    name: "cloud-init/network-config.j2",
    text: include_str!("../../../templates/cloud-init/network-config.j2"),
};
pub(super) const STOCK_SETUP: Template = Template {
    name: "cloud-init/stock-setup.j2",
    text: include_str!("../../../templates/cloud-init/stock-setup.j2"),
};
pub(super) const STOCK_BOOT: Template = Template {
    name: "cloud-init/stock-boot.j2",
    text: include_str!("../../../templates/cloud-init/stock-boot.j2"),
};
pub(super) const STOCK_SERVICE: Template = Template {
    name: "cloud-init/stock-service.j2",
    text: include_str!("../../../templates/cloud-init/stock-service.j2"),
};
pub(super) const INIT: Template =
    Template { name: "init/cluster.yaml.j2", text: include_str!("../../../templates/init/cluster.yaml.j2") };

/// Steps that one text may take: the longest of Kiln's own take some thousands.
const FUEL: u64 = 2_000_000;
/// Bytes that one text may have: all of a seed must fit its volume.
const MOST: usize = 8 << 20;

/// The template with these values in it, quoted as YAML.
pub(super) fn render(template: &Template, values: Value) -> Result<String, Error> {
    render_as(template, values, Quoting::Yaml)
}

/// The template with these values in it.
pub(super) fn render_as(template: &Template, values: Value, quoting: Quoting) -> Result<String, Error> {
    let mut environment = environment(quoting);
    environment
        .add_template(template.name, template.text)
        .map_err(|error| in_template(template.name, &error))?;
    rendered(&environment, template.name, values)
}

/// The template of that name. minijinja drops the last newline of a template; it comes back here.
pub(super) fn rendered(environment: &Environment<'_>, name: &str, values: Value) -> Result<String, Error> {
    let mut bounded = Bounded::default();
    let done = environment
        .get_template(name)
        .and_then(|template| template.render_captured_to(values, &mut bounded).map(drop));
    if bounded.full {
        let reason = format!("it prints more than {} MiB: is there a loop in it that grows?", MOST >> 20);
        return Err(Error::Template { name: name.to_owned(), line: 0, reason });
    }
    match done.map(|_| String::from_utf8_lossy(&bounded.bytes).into_owned()) {
        Ok(text) if text.is_empty() || text.ends_with('\n') => Ok(text),
        Ok(text) => Ok(text + "\n"),
        Err(error) => Err(in_template(name, &error)),
    }
}

/// What a template prints, up to a limit.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    full: bool,
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + bytes.len() > MOST {
            self.full = true;
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(super) fn in_template(name: &str, error: &minijinja::Error) -> Error {
    if error.kind() == ErrorKind::OutOfFuel {
        let reason = "it takes too many steps: is there a loop in it that grows?".to_owned();
        return Error::Template { name: name.to_owned(), line: 0, reason };
    }
    Error::Template {
        // A template that another one includes has its own name and line.
        name: error.name().unwrap_or(name).to_owned(),
        line: error.line().unwrap_or(0),
        reason: error.detail().map_or_else(|| error.kind().to_string(), str::to_owned),
    }
}

/// minijinja, strict, with what templates may call.
pub(super) fn environment(quoting: Quoting) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_formatter(move |out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value| {
        print(out, state, value, quoting)
    });
    environment.add_filter("verbatim", |value: &Value| text(value).map(Value::from_safe_string));
    super::filters::add(&mut environment);
    environment.add_filter("block", block);
    environment.add_filter("literal", |text: &str, indent: usize| {
        Value::from_safe_string(scalar::literal(text, indent))
    });
    environment
}

fn print(
    out: &mut Output<'_>,
    _: &mut State<'_, '_>,
    value: &Value,
    quoting: Quoting,
) -> Result<(), minijinja::Error> {
    let mut text = String::new();
    match quoting {
        _ if value.is_safe() => text.push_str(value.as_str().unwrap_or_default()),
        Quoting::Yaml => flow(&mut text, value)?,
        Quoting::Shell => text.push_str(&scalar::shell(&plain(value)?)),
        Quoting::None => {
            let plain = plain(value)?;
            if plain.chars().any(char::is_control) {
                let reason =
                    "a value with a line break or another control character, in a file without quoting";
                return Err(minijinja::Error::new(ErrorKind::InvalidOperation, reason));
            }
            text.push_str(&plain);
        }
    }
    out.write_str(&text)?;
    Ok(())
}

/// A value that is one word for a shell or a plain file.
fn plain(value: &Value) -> Result<String, minijinja::Error> {
    match value.kind() {
        ValueKind::Bool => Ok(if value.is_true() { "true" } else { "false" }.to_owned()),
        ValueKind::Number | ValueKind::String | ValueKind::Plain => text(value),
        kind => Err(refused(kind)),
    }
}

/// A value's text; a secret's, too.
fn text(value: &Value) -> Result<String, minijinja::Error> {
    Ok(context::revealed(value)?.unwrap_or_else(|| value.to_string()))
}

fn refused(kind: ValueKind) -> minijinja::Error {
    let reason = match kind {
        ValueKind::Undefined => {
            return minijinja::Error::new(ErrorKind::UndefinedError, "a variable is undefined");
        }
        ValueKind::None => "a setting that is left out has no text: ask with `if` first".to_owned(),
        kind => format!("a template prints no {kind} here"),
    };
    minijinja::Error::new(ErrorKind::InvalidOperation, reason)
}

/// `value` in YAML's flow style (YAML 1.2.2 §7.3.1, §7.4), which readers of YAML 1.1 take the same way.
fn flow(text: &mut String, value: &Value) -> Result<(), minijinja::Error> {
    match value.kind() {
        ValueKind::None => text.push_str("null"),
        // minijinja would print Python's `True`, which YAML 1.2 takes for text.
        ValueKind::Bool => text.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => write!(text, "{value}")?,
        ValueKind::String | ValueKind::Plain => scalar::quote(text, &self::text(value)?),
        ValueKind::Seq => {
            text.push('[');
            for (at, item) in value.try_iter()?.enumerate() {
                text.push_str(if at > 0 { ", " } else { "" });
                flow(text, &item)?;
            }
            text.push(']');
        }
        ValueKind::Map => {
            text.push('{');
            for (at, key) in value.try_iter()?.enumerate() {
                text.push_str(if at > 0 { ", " } else { "" });
                flow(text, &key)?;
                text.push_str(": ");
                flow(text, &value.get_item(&key)?)?;
            }
            text.push('}');
        }
        kind => return Err(refused(kind)),
    }
    Ok(())
}

/// What stands behind the colon of a key: `value` in YAML's block style, its lines `indent` spaces from the left.
fn block(value: &Value, indent: usize) -> Result<Value, minijinja::Error> {
    let mut text = String::new();
    block_into(&mut text, value, indent)?;
    Ok(Value::from_safe_string(text))
}

fn block_into(text: &mut String, value: &Value, indent: usize) -> Result<(), minijinja::Error> {
    let items: Vec<(Option<Value>, Value)> = match value.kind() {
        ValueKind::Seq => value.try_iter()?.map(|item| (None, item)).collect(),
        ValueKind::Map => {
            let keys = value.try_iter()?;
            keys.map(|key| Ok((Some(key.clone()), value.get_item(&key)?)))
                .collect::<Result<_, minijinja::Error>>()?
        }
        _ => Vec::new(),
    };
    if items.is_empty() {
        text.push(' ');
        return flow(text, value);
    }
    for (key, item) in items {
        text.push('\n');
        text.extend(std::iter::repeat_n(' ', indent));
        match key {
            Some(key) => {
                scalar::key(text, &key.to_string());
                text.push(':');
            }
            None => text.push('-'),
        }
        block_into(text, &item, indent + 2)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Template, render};

    #[test]
    fn blocks_are_readable() {
        let template = Template { name: "t", text: "a:{{ value | block(2) }}\n" };
        let none: [&str; 0] = [];
        let value = minijinja::context! {
            b => vec![minijinja::Value::from(1), minijinja::context! { c => "x: y", no => none.to_vec() }],
            d => minijinja::context! {},
        };
        let text = render(&template, minijinja::context! { value }).expect("rendered");
        insta::assert_snapshot!(text, @r#"
        a:
          b:
            - 1
            -
              c: "x: y"
              "no": []
          d: {}
        "#);
    }

    #[test]
    fn a_template_that_grows_ends_in_words() {
        let error = |text: &'static str| {
            render(&Template { name: "t", text }, minijinja::context! {}).map_err(|error| error.to_string())
        };
        let steps = "{% for a in range(9000) %}{% for b in range(9000) %}{% if a == b %}{% endif %}{% endfor %}{% endfor %}";
        assert_eq!(
            error(steps),
            Err("the template t: it takes too many steps: is there a loop in it that grows?".into())
        );
        let bytes = "{% for a in range(9000) %}{{ ('x' * 10000) | verbatim }}{% endfor %}";
        assert_eq!(
            error(bytes),
            Err("the template t: it prints more than 8 MiB: is there a loop in it that grows?".into())
        );
        assert!(error("{% for a in range(9000) %}{{ a }}{% endfor %}").is_ok());
    }

    const LIST: Template =
        Template { name: "list", text: "# {# not shown #}\nlist: {{ list }}\nlast: {{ list[0] }}\n" };

    #[test]
    fn an_undefined_variable_is_an_error_with_its_line() {
        let template = Template { name: "t", text: "a: 1\nb: {{ nothing }}\n" };
        let error = render(&template, minijinja::context! {}).map_err(|error| error.to_string());
        assert_eq!(error, Err("the template t, line 2: `nothing` is undefined".to_owned()));
        let template = Template { name: "t", text: "a: {{ some.thing }}\n" };
        assert!(render(&template, minijinja::context! { some => minijinja::context! {} }).is_err());
    }

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Document {
        list: Vec<String>,
        last: String,
    }

    proptest::proptest! {
        /// What goes in comes out, whatever it is made of.
        #[test]
        fn values_arrive_unchanged(list in proptest::collection::vec(
            proptest::prop_oneof!["\\PC{0,12}", "[\"'#{}%:\\\\\n\r\t ~!&*|>-]{0,12}", "(.|[\u{0}-\u{ff}\u{2028}\u{feff}\u{ffff}\u{1f600}]){0,8}"],
            1..4,
        )) {
            let text = render(&LIST, minijinja::context! { list => &list }).expect("rendered");
            let document: Document = serde_saphyr::from_str(&text).expect("parsed");
            proptest::prop_assert_eq!(document, Document { last: list[0].clone(), list });
        }
    }
}
