//! depmod.d(5): which of several modules of one name counts.

use super::Error;
use kiln_formats::tree::{Kind, Tree};
use std::collections::BTreeMap;

/// In order of precedence: a file's name in an earlier one hides the same name in a later one.
const FOLDERS: [&str; 4] = ["etc/depmod.d", "run/depmod.d", "usr/local/lib/depmod.d", "usr/lib/depmod.d"];

#[derive(Debug)]
pub(super) struct Config {
    /// Folders of a release, best first; `None` stands for everything not listed (`built-in`).
    searches: Vec<Option<String>>,
    /// Paths without suffix, the last line's first.
    overrides: Vec<String>,
    excludes: Vec<String>,
}

impl Config {
    pub(super) fn read(tree: &Tree, release: &str) -> Result<Self, Error> {
        let mut files = BTreeMap::new();
        for folder in FOLDERS.into_iter().rev() {
            for (path, entry) in tree.below(folder) {
                let name = &path[folder.len() + 1..];
                if let Kind::File(content) = &entry.kind
                    && name.ends_with(b".conf")
                    && !name.starts_with(b".")
                    && !name.contains(&b'/')
                {
                    files.insert(name, (path, content));
                }
            }
        }
        let mut config = Self { searches: Vec::new(), overrides: Vec::new(), excludes: Vec::new() };
        for (path, content) in files.into_values() {
            let path = String::from_utf8_lossy(path).into_owned();
            let bytes = content.read().map_err(|source| Error::Read { path: path.clone(), source })?;
            for (at, text) in String::from_utf8_lossy(&bytes).replace("\\\n", "").lines().enumerate() {
                if !config.line(text, release) {
                    return Err(Error::Config { path, line: at + 1, text: text.into() });
                }
            }
        }
        if config.searches.is_empty() {
            config.searches.push(Some("updates".into()));
        }
        Ok(config)
    }

    /// False when the line is none that is implemented.
    fn line(&mut self, text: &str, release: &str) -> bool {
        let words: Vec<&str> = text.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
        match words.as_slice() {
            [] => true,
            [first, ..] if first.starts_with('#') => true,
            ["search", folders @ ..] if !folders.contains(&"external") => {
                let folder = |word: &&str| (*word != "built-in").then(|| (*word).to_owned());
                self.searches.extend(folders.iter().map(folder));
                true
            }
            ["override", name, kernel, folder] if *kernel == "*" || *kernel == release => {
                self.overrides.insert(0, format!("{folder}/{name}"));
                true
            }
            ["exclude", folders @ ..] => {
                self.excludes.extend(folders.iter().map(|word| (*word).to_owned()));
                true
            }
            _ => false,
        }
    }

    /// True when depmod does not go into a folder of this name.
    pub(super) fn excludes(&self, folder: &str) -> bool {
        matches!(folder, "build" | "source") || self.excludes.iter().any(|name| name == folder)
    }

    /// True when a module at `new` takes the place of one at `old`: both without suffix, relative to the
    /// release's directory.
    pub(super) fn prefers(&self, new: &str, old: &str) -> bool {
        for path in &self.overrides {
            if path == new || path == old {
                return path == new;
            }
        }
        let inside =
            |path: &str, folder: &str| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        let rank = |path: &str| {
            let listed = self
                .searches
                .iter()
                .position(|search| search.as_ref().is_some_and(|folder| inside(path, folder)));
            let found = listed.or_else(|| self.searches.iter().position(Option::is_none));
            found.unwrap_or(self.searches.len())
        };
        rank(new) < rank(old)
    }
}
