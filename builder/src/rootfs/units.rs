//! Enabling units as `systemctl preset --preset-mode=enable-only` does, for the units that maintainer
//! scripts name: what their `[Install]` sections ask for becomes links under /etc/systemd, unless a preset
//! file disables them (systemd.preset(5)). Units that nothing enables stay as packaged.

use super::Error;
use super::root::Root;
use crate::rootfs::formats::tree::{Entry, Kind, Timestamp, Tree};
use std::collections::BTreeSet;

const SYSTEM: [&str; 2] = ["etc/systemd/system", "usr/lib/systemd/system"];
const USER: [&str; 2] = ["etc/systemd/user", "usr/lib/systemd/user"];

pub(super) fn apply(root: &mut Root<'_>) -> Result<(), Error> {
    let mut wanted = BTreeSet::new();
    for package in &root.packages {
        // A section that asks first whether the unit was installed before does nothing at a first installation.
        let calls = || package.postinst.calls("deb-systemd-helper");
        let upgrades: BTreeSet<&String> = calls()
            .filter(|words| words.iter().any(|w| w == "debian-installed"))
            .filter_map(|w| w.last())
            .collect();
        for words in calls().filter(|words| words.iter().any(|word| word == "enable")) {
            let user = words.iter().any(|word| word == "--user");
            let units = words.iter().skip_while(|word| *word != "enable").skip(1);
            wanted.extend(units.filter(|unit| !upgrades.contains(unit)).map(|unit| (user, unit.clone())));
        }
        for words in package.postinst.calls("systemctl") {
            let units = words.iter().skip_while(|word| *word != "enable").skip(1);
            wanted.extend(units.filter(|unit| !unit.contains('$')).map(|unit| (false, unit.clone())));
        }
    }
    let presets = presets(root)?;
    for (user, unit) in wanted {
        let folders = if user { USER } else { SYSTEM };
        if user || allowed(&presets, &unit) {
            let stamp = root.stamp;
            Enabling { tree: &mut root.tree, folders, stamp }.unit(&unit, &mut BTreeSet::new())?;
        }
    }
    Ok(())
}

/// Verb and pattern of every preset line; files sorted by name whatever their folder, /etc winning.
fn presets(root: &Root<'_>) -> Result<Vec<(bool, String)>, Error> {
    let mut files = std::collections::BTreeMap::new();
    for folder in ["usr/lib/systemd/system-preset", "etc/systemd/system-preset"] {
        for name in root.names(folder).into_iter().filter(|name| name.ends_with(".preset")) {
            files.insert(name.clone(), format!("{folder}/{name}"));
        }
    }
    let mut rules = Vec::new();
    for path in files.values() {
        for line in root.text(path)?.unwrap_or_default().lines() {
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("enable"), Some(pattern)) => rules.push((true, pattern.to_owned())),
                (Some("disable"), Some(pattern)) => rules.push((false, pattern.to_owned())),
                _ => {}
            }
        }
    }
    Ok(rules)
}

fn allowed(presets: &[(bool, String)], unit: &str) -> bool {
    presets.iter().find(|(_, pattern)| matches(pattern, unit)).is_none_or(|(enable, _)| *enable)
}

/// Shell patterns with `*` only, as preset files use them.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => name.strip_prefix(head).is_some_and(|rest| {
            (0..=rest.len()).any(|at| rest.is_char_boundary(at) && matches(tail, &rest[at..]))
        }),
    }
}

/// `name@instance.suffix` as its parts; no instance for what is not a template.
fn template(unit: &str) -> Option<(&str, &str, &str)> {
    let (prefix, rest) = unit.split_once('@')?;
    let (instance, suffix) = rest.rsplit_once('.')?;
    Some((prefix, instance, suffix))
}

/// Enables system units in a finished tree, as `systemctl enable` would; links get the time `stamp`. A name that
/// no unit file has is passed over.
///
/// # Errors
/// [`Error::Read`] when a unit file's bytes cannot be read.
pub fn enable(tree: &mut Tree, units: &[String], stamp: Timestamp) -> Result<(), Error> {
    let mut enabling = Enabling { tree, folders: SYSTEM, stamp };
    units.iter().try_for_each(|unit| enabling.unit(unit, &mut BTreeSet::new()))
}

/// Where units are looked for and links are made.
struct Enabling<'a> {
    tree: &'a mut Tree,
    folders: [&'static str; 2],
    stamp: Timestamp,
}

impl Enabling<'_> {
    fn unit(&mut self, unit: &str, seen: &mut BTreeSet<String>) -> Result<(), Error> {
        let folders = self.folders;
        if !seen.insert(unit.to_owned()) {
            return Ok(());
        }
        let generic = template(unit).map(|(prefix, _, suffix)| format!("{prefix}@.{suffix}"));
        let names = [Some(unit.to_owned()), generic].into_iter().flatten();
        let found = names
            .flat_map(|name| folders.map(|folder| format!("{folder}/{name}")))
            .find(|path| self.tree.contains(path));
        let Some(path) = found else { return Ok(()) };
        let text = match self.tree.get(&path).map(|entry| &entry.kind) {
            Some(Kind::File(content)) => {
                content.read().map_err(|source| Error::Read { path: path.clone(), source })?
            }
            _ => Vec::new(),
        };
        let text = String::from_utf8_lossy(&text).into_owned();
        let install = install(&text);
        let values = |key: &'static str| {
            install.iter().filter(move |(k, _)| *k == key).flat_map(|(_, v)| v.split_whitespace())
        };
        let mut name = unit.to_owned();
        if let (Some((prefix, "", suffix)), Some(default)) =
            (template(unit), values("DefaultInstance").next())
        {
            name = format!("{prefix}@{default}.{suffix}");
        }
        let target = format!("/{path}");
        for (key, suffix) in [("WantedBy", "wants"), ("RequiredBy", "requires"), ("UpheldBy", "upholds")] {
            for by in values(key) {
                self.link(&format!("{}/{by}.{suffix}/{name}", folders[0]), &target);
            }
        }
        for alias in values("Alias").filter(|alias| *alias != unit) {
            self.link(&format!("{}/{alias}", folders[0]), &target);
        }
        let also: Vec<String> = values("Also").map(str::to_owned).collect();
        for other in also {
            self.unit(&other, seen)?;
        }
        Ok(())
    }

    fn link(&mut self, path: &str, to: &str) {
        let stamped = |mut entry: Entry| {
            entry.meta.mtime = self.stamp;
            entry
        };
        let (parent, link) = (stamped(Entry::directory()), stamped(Entry::symlink(to)));
        self.tree.make_parents(path, &parent);
        self.tree.insert(path, link);
    }
}

/// Keys and values of the `[Install]` section.
fn install(text: &str) -> Vec<(&str, &str)> {
    let lines = text.lines().map(str::trim).skip_while(|line| *line != "[Install]").skip(1);
    lines
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.starts_with(['#', ';']))
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim(), value.trim()))
        .collect()
}
