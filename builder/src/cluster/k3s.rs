//! Flags of k3s, which are the keys of its config.yaml: k3s logs a key that it does not know and goes on without it, so a
//! misspelt one is found here or never.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// Tables of flags by the minor release of Kubernetes that k3s is of.
const TABLES: [(u32, &str); 1] = [(34, include_str!("k3s/flags-1.34.tsv"))];

/// The kubelet's own flags, in the same way.
const KUBELET: [(u32, &str); 1] = [(34, include_str!("k3s/kubelet-1.34.tsv"))];

/// What a flag holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text.
    Text,
    /// A span of time as Go takes it.
    Duration,
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
    static READ: Read<BTreeMap<&str, Flag>> = LazyLock::new(|| tables(&TABLES, read));
    static NONE: BTreeMap<&str, Flag> = BTreeMap::new();
    let (all, minor, own) = nearest((&READ, &NONE), version);
    (Flags { minor, all }, own)
}

/// The kubelet's flags of the release that is nearest, its minor number, and whether that is the release's own.
pub(super) fn kubelet_flags(version: Option<&str>) -> (&'static BTreeSet<&'static str>, u32, bool) {
    static READ: Read<BTreeSet<&str>> = LazyLock::new(|| tables(&KUBELET, |text| lines(text).collect()));
    static NONE: BTreeSet<&str> = BTreeSet::new();
    nearest((&READ, &NONE), version)
}

/// Tables by their minor numbers, once they were read.
type Read<T> = LazyLock<Vec<(u32, T)>>;

fn tables<T>(texts: &[(u32, &'static str)], read: impl Fn(&'static str) -> T) -> Vec<(u32, T)> {
    texts.iter().map(|(minor, text)| (*minor, read(text))).collect()
}

/// Lines that are no comments.
fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.starts_with('#'))
}

fn nearest<T>(
    (all, none): (&'static [(u32, T)], &'static T),
    version: Option<&str>,
) -> (&'static T, u32, bool) {
    let wanted = version.and_then(minor);
    let nearest = all.iter().min_by_key(|(minor, _)| minor.abs_diff(wanted.unwrap_or(u32::MAX)));
    let (minor, table) = nearest.map_or((0, none), |(minor, table)| (*minor, table));
    (table, minor, wanted == Some(minor))
}

/// A span of time as Go's `time.ParseDuration` takes it: `1h30m`, `500ms`, `1us`; at most 292 years.
pub(super) fn is_duration(text: &str) -> bool {
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("μs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let unit = rest[number..]
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .map_or(rest.len(), |at| number + at);
        let known = UNITS.iter().find(|(name, _)| *name == &rest[number..unit]);
        // `.5s` and `5.s` are taken, `.` is not.
        let (Some((_, factor)), Ok(value)) = (known, format!("0{}", &rest[..number]).parse::<f64>()) else {
            return false;
        };
        if !rest[..number].contains(|c: char| c.is_ascii_digit()) {
            return false;
        }
        seconds += value * factor;
        rest = &rest[unit..];
    }
    !text.is_empty() && text != "+" && text != "-" && seconds < 9_223_372_036.0
}

/// The minor number of a release.
pub(super) fn minor(version: &str) -> Option<u32> {
    let rest = version.strip_prefix("v1.")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn read(text: &'static str) -> BTreeMap<&'static str, Flag> {
    lines(text)
        .filter_map(|line| {
            let mut words = line.split('\t');
            let (name, kind, command) = (words.next()?, words.next()?, words.next()?);
            let kind = match kind {
                "number" => Kind::Number,
                "switch" => Kind::Switch,
                "list" => Kind::List,
                "duration" => Kind::Duration,
                _ => Kind::Text,
            };
            Some((name, Flag { kind, server_only: command == "server" }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Flag, Kind, flags, is_duration, kubelet_flags};

    #[test]
    fn spans_of_time_are_gos() {
        for text in ["1h30m", "500ms", "0", "-1.5h", ".5s", "5.s", "10µs", "2562047h"] {
            assert!(is_duration(text), "{text}");
        }
        for text in ["", "5", "1d", "5 m", "5min", "h", ".s", "-", "9999999999h", "1h 30m", "1e3s"] {
            assert!(!is_duration(text), "{text}");
        }
    }

    #[test]
    fn kubelet_flags_are_read() {
        let (all, minor, own) = kubelet_flags(Some("v1.34.3+k3s1"));
        assert!(own && minor == 34 && all.len() > 120 && all.contains("max-pods"), "{}", all.len());
    }

    #[test]
    fn tables_are_read() {
        let (table, own) = flags(Some("v1.34.3+k3s1"));
        assert!(own && table.minor == 34 && table.all.len() > 100, "{}", table.all.len());
        assert_eq!(table.all.get("tls-san"), Some(&Flag { kind: Kind::List, server_only: true }));
        assert_eq!(table.all.get("debug"), Some(&Flag { kind: Kind::Switch, server_only: false }));
        assert!(!flags(Some("v1.99.0+k3s1")).1 && !flags(None).1);
    }
}
