//! Documents put together from several, and printed so that YAML 1.1 and 1.2 read the same.

use super::scalar;
use crate::cluster::user_data::Yaml;

/// A mapping of these entries, whose keys are Kiln's own words.
pub(super) fn map<const N: usize>(entries: [(&str, Yaml); N]) -> Yaml {
    Yaml::Map(entries.into_iter().map(|(key, value)| (Yaml::text(key), value)).collect())
}

/// A list of texts.
pub(super) fn texts(items: impl IntoIterator<Item = impl ToString>) -> Yaml {
    Yaml::List(items.into_iter().map(|item| Yaml::text(item.to_string())).collect())
}

/// A number, `true` or `false`.
pub(super) fn plain(value: impl ToString) -> Yaml {
    Yaml::Plain(value.to_string())
}

/// Puts `value` in the place of what the key has, or behind all others.
pub(super) fn set(entries: &mut Vec<(Yaml, Yaml)>, key: &str, value: Yaml) {
    match entries.iter_mut().find(|(known, _)| known.scalar() == Some(key)) {
        Some((_, known)) => *known = value,
        None => entries.push((Yaml::text(key), value)),
    }
}

/// `over` into `under`: lists behind each other, mappings key by key, and else what is in `over`.
pub(super) fn merge(under: &mut Vec<(Yaml, Yaml)>, over: &[(Yaml, Yaml)]) {
    for (key, value) in over {
        let known = under.iter_mut().find(|(known, _)| known.scalar() == key.scalar());
        match (known, value) {
            (Some((_, Yaml::List(items))), Yaml::List(more)) => items.extend(more.iter().cloned()),
            (Some((_, Yaml::Map(entries))), Yaml::Map(more)) => merge(entries, more),
            (Some((_, known)), value) => *known = value.clone(),
            (None, value) => under.push((key.clone(), value.clone())),
        }
    }
}

/// The document, with a line break at its end.
pub(super) fn print(entries: &[(Yaml, Yaml)]) -> String {
    let mut text = String::new();
    for (at, (key, value)) in entries.iter().enumerate() {
        // Keys at the top are read one by one.
        if at > 0 && matches!(value, Yaml::List(_) | Yaml::Map(_)) {
            text.push('\n');
        }
        name(&mut text, key);
        text.push(':');
        behind(&mut text, value, 2);
        text.push('\n');
    }
    text
}

/// What stands behind a colon or a hyphen; further lines `indent` spaces from the left.
fn behind(text: &mut String, node: &Yaml, indent: usize) {
    let line = |text: &mut String| {
        text.push('\n');
        text.extend(std::iter::repeat_n(' ', indent));
    };
    match node {
        Yaml::List(items) if items.is_empty() => text.push_str(" []"),
        Yaml::Map(entries) if entries.is_empty() => text.push_str(" {}"),
        Yaml::List(items) => {
            for item in items {
                line(text);
                text.push('-');
                inside(text, item, indent + 2);
            }
        }
        Yaml::Map(entries) => {
            for (key, value) in entries {
                line(text);
                name(text, key);
                text.push(':');
                behind(text, value, indent + 2);
            }
        }
        Yaml::Text { text: value, tag: None } if value.contains('\n') => {
            text.push(' ');
            text.push_str(&scalar::literal(value, indent));
        }
        Yaml::Plain(_) | Yaml::Text { .. } => {
            text.push(' ');
            word(text, node);
        }
    }
}

/// An item of a list: a mapping begins on the hyphen's line, so do short lists of words.
fn inside(text: &mut String, node: &Yaml, indent: usize) {
    match node {
        Yaml::Map(entries) if !entries.is_empty() => {
            for (at, (key, value)) in entries.iter().enumerate() {
                if at == 0 {
                    text.push(' ');
                } else {
                    text.push('\n');
                    text.extend(std::iter::repeat_n(' ', indent));
                }
                name(text, key);
                text.push(':');
                behind(text, value, indent + 2);
            }
        }
        node => behind(text, node, indent),
    }
}

/// A key.
fn name(text: &mut String, node: &Yaml) {
    match node {
        Yaml::Text { text: key, tag: None } => scalar::key(text, key),
        node => word(text, node),
    }
}

fn word(text: &mut String, node: &Yaml) {
    match node {
        Yaml::Plain(plain) if plain.is_empty() => text.push_str("null"),
        Yaml::Plain(plain) => text.push_str(plain),
        Yaml::Text { text: value, tag } => {
            if let Some(tag) = tag {
                text.push_str(tag);
                text.push(' ');
            }
            scalar::quote(text, value);
        }
        Yaml::List(_) | Yaml::Map(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::{merge, print};
    use crate::cluster::user_data::{Yaml, parse};

    fn entries(text: &str) -> Vec<(Yaml, Yaml)> {
        match parse(text).expect("YAML") {
            Yaml::Map(entries) => entries,
            _ => Vec::new(),
        }
    }

    #[test]
    fn what_is_plain_stays_plain() {
        let text = "a: yes\nb: 0644\nc: 'yes'\nd: !!binary aGk=\ne: [x, {y: ~, z: }]\nf: |\n  one\n  two\n<<: {g: 1}\n";
        insta::assert_snapshot!(print(&entries(text)), @r#"
        a: yes
        b: 0644
        c: "yes"
        d: !!binary "aGk="

        e:
          - x
          - y: ~
            z: ~
        f: |
          one
          two
        g: 1
        "#);
    }

    #[test]
    fn lists_grow_and_words_give_way() {
        let mut under = entries("a: [1]\nb: {c: 1, d: 2}\ne: 5\n");
        merge(&mut under, &entries("a: [2]\nb: {c: 3}\ne: [6]\nf: 7\n"));
        assert_eq!(print(&under), print(&entries("a: [1, 2]\nb: {c: 3, d: 2}\ne: [6]\nf: 7\n")));
    }

    fn node() -> impl proptest::strategy::Strategy<Value = Yaml> {
        use proptest::prelude::Strategy as _;
        let text = proptest::prop_oneof![
            "[ a-c#:\n\t'\"{}|>%&*!-]{0,20}",
            "(.|[\u{0}-\u{ff}\u{2028}\u{feff}\n]){0,8}",
            "\\PC{0,9}"
        ];
        let leaf = proptest::prop_oneof![
            text.clone().prop_map(Yaml::text),
            proptest::sample::select(vec!["yes", "0644", "1.5", "null", "a b"])
                .prop_map(|word| Yaml::Plain(word.to_owned())),
        ];
        leaf.prop_recursive(4, 40, 5, move |inner| {
            let entries = proptest::collection::btree_map(text.clone(), inner.clone(), 0..5);
            proptest::prop_oneof![
                proptest::collection::vec(inner, 0..5).prop_map(Yaml::List),
                entries.prop_map(|all| Yaml::Map(
                    all.into_iter().map(|(key, value)| (Yaml::text(key), value)).collect()
                )),
            ]
        })
    }

    /// A key is a word, with quotes and without.
    fn same(one: &Yaml, other: &Yaml) -> bool {
        match (one, other) {
            (Yaml::List(one), Yaml::List(other)) => {
                one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
            }
            (Yaml::Map(one), Yaml::Map(other)) => {
                let mut both = one.iter().zip(other);
                one.len() == other.len()
                    && both.all(|(a, b)| a.0.scalar() == b.0.scalar() && same(&a.1, &b.1))
            }
            (one, other) => one == other,
        }
    }

    proptest::proptest! {
        /// What is printed is read again as it was.
        #[test]
        fn documents_come_back(value in node()) {
            let document = vec![(Yaml::text("key"), value)];
            let text = print(&document);
            proptest::prop_assert!(same(&parse(&text).expect("YAML"), &Yaml::Map(document)), "{}", text);
        }
    }
}
