//! Flags of k3s, which are the keys of its config.yaml: k3s logs a key that it does not know and goes on without it, so a
//! misspelt one is found here or never.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Tables of flags by the minor release of Kubernetes that k3s is of.
const TABLES: [(u32, &str); 1] = [(34, include_str!("k3s/flags-1.34.tsv"))];

/// What a flag holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text, durations among it.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Switch,
    /// Texts.
    List,
}

/// A flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flag {
    pub(super) kind: Kind,
    /// `k3s server` alone takes it.
    pub(super) server_only: bool,
}

/// The flags of a release.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flags {
    /// Its minor number.
    pub(super) minor: u32,
    pub(super) all: &'static BTreeMap<&'static str, Flag>,
}

/// The table that is nearest to a release such as `v1.34.3+k3s1`, and whether it is that release's own.
pub(super) fn flags(version: Option<&str>) -> (Flags, bool) {
    static READ: LazyLock<Vec<(u32, BTreeMap<&str, Flag>)>> =
        LazyLock::new(|| TABLES.iter().map(|(minor, text)| (*minor, read(text))).collect());
    static NONE: BTreeMap<&str, Flag> = BTreeMap::new();
    let wanted = version.and_then(minor);
    let nearest = READ.iter().min_by_key(|(minor, _)| minor.abs_diff(wanted.unwrap_or(u32::MAX)));
    let (minor, all) = nearest.map_or((0, &NONE), |(minor, all)| (*minor, all));
    (Flags { minor, all }, wanted == Some(minor))
}

/// The minor number of a release.
fn minor(version: &str) -> Option<u32> {
    let rest = version.strip_prefix("v1.")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn read(text: &'static str) -> BTreeMap<&'static str, Flag> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let mut words = line.split('\t');
            let (name, kind, command) = (words.next()?, words.next()?, words.next()?);
            let kind = match kind {
                "number" => Kind::Number,
                "switch" => Kind::Switch,
                "list" => Kind::List,
                _ => Kind::Text,
            };
            Some((name, Flag { kind, server_only: command == "server" }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Flag, Kind, flags};

    #[test]
    fn tables_are_read() {
        let (table, own) = flags(Some("v1.34.3+k3s1"));
        assert!(own && table.minor == 34 && table.all.len() > 100, "{}", table.all.len());
        assert_eq!(table.all.get("tls-san"), Some(&Flag { kind: Kind::List, server_only: true }));
        assert_eq!(table.all.get("debug"), Some(&Flag { kind: Kind::Switch, server_only: false }));
        assert!(!flags(Some("v1.99.0+k3s1")).1 && !flags(None).1);
    }
}
