//! minijinja as Kiln uses it: an undefined variable is an error, and every value that a template prints is
//! printed as YAML, quoted, without the template asking for it. Nothing in a value can end a string,
//! begin a comment or be taken for a template.

use super::Error;
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
pub(super) const INIT: Template =
    Template { name: "init/cluster.yaml.j2", text: include_str!("../../../templates/init/cluster.yaml.j2") };

/// The template with these values in it. minijinja drops the last newline of a template; it comes back here.
pub(super) fn render(template: &Template, values: Value) -> Result<String, Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_formatter(print);
    let rendered = environment
        .add_template(template.name, template.text)
        .and_then(|()| environment.get_template(template.name)?.render(values));
    rendered.map(|text| text + "\n").map_err(|error| Error::Template {
        name: template.name.to_owned(),
        line: error.line().unwrap_or(0),
        reason: error.detail().map_or_else(|| error.kind().to_string(), str::to_owned),
    })
}

fn print(out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value) -> Result<(), minijinja::Error> {
    let mut text = String::new();
    yaml(&mut text, value)?;
    out.write_str(&text)?;
    Ok(())
}

/// `value` in YAML's flow style (YAML 1.2.2 §7.3.1, §7.4.1), which readers of YAML 1.1 take the same way.
fn yaml(text: &mut String, value: &Value) -> Result<(), minijinja::Error> {
    match value.kind() {
        ValueKind::None => text.push_str("null"),
        // minijinja would print Python's `True`, which YAML 1.2 takes for text.
        ValueKind::Bool => text.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => write!(text, "{value}")?,
        ValueKind::String => quote(text, value.as_str().unwrap_or_default())?,
        ValueKind::Seq => {
            text.push('[');
            for (at, item) in value.try_iter()?.enumerate() {
                if at > 0 {
                    text.push_str(", ");
                }
                yaml(text, &item)?;
            }
            text.push(']');
        }
        ValueKind::Undefined => {
            return Err(minijinja::Error::new(ErrorKind::UndefinedError, "a variable is undefined"));
        }
        kind => {
            let reason = format!("a template prints no {kind}");
            return Err(minijinja::Error::new(ErrorKind::InvalidOperation, reason));
        }
    }
    Ok(())
}

/// A double-quoted scalar. Every character that YAML 1.1 or 1.2 calls unprintable, or a line break, is
/// escaped; the rest stands as it is. Escapes of one code unit only: YAML knows no surrogate pairs.
fn quote(text: &mut String, value: &str) -> std::fmt::Result {
    text.push('"');
    for c in value.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '\r' => text.push_str("\\r"),
            '\0'..='\u{1f}'
            | '\u{7f}'..='\u{a0}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{feff}'
            | '\u{fffe}'
            | '\u{ffff}' => write!(text, "\\u{:04x}", u32::from(c))?,
            _ => text.push(c),
        }
    }
    text.push('"');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Template, render};

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
