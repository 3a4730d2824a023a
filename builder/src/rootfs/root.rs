//! What finalisers work on: the merged tree, the packages in it, and words for reading and writing files.

use super::formats::tree::{Content, Entry, Kind, Path, Timestamp, Tree};
use super::merge::{self, Aliases};
use super::script::Script;
use super::{Error, Options, Unpacked};
use std::collections::BTreeSet;

/// A package with its control data parsed.
#[derive(Debug)]
pub(super) struct Package<'a> {
    pub(super) unpacked: &'a Unpacked,
    /// Fields of the control file in order, values as written (continuation lines and all).
    pub(super) fields: Vec<(String, String)>,
    /// What the postinst does, as far as it can be read; empty when the scripts are to be passed over.
    pub(super) postinst: Script,
    /// Paths as the package ships them, minus those that another package replaced.
    pub(super) paths: BTreeSet<Path>,
}

impl<'a> Package<'a> {
    fn new(unpacked: &'a Unpacked, options: &Options) -> Result<Self, Error> {
        let text = unpacked.control.text("control").unwrap_or_default();
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            match (line.starts_with([' ', '\t']), fields.last_mut(), line.split_once(':')) {
                (true, Some((_, value)), _) => value.extend(["\n", line]),
                (false, _, Some((name, value))) => fields.push((name.to_owned(), value.trim().to_owned())),
                _ => {
                    let reason = format!("{line:?} is neither a field nor the continuation of one");
                    return Err(Error::Control { package: unpacked.name.clone(), reason });
                }
            }
        }
        let skip = options.scripts_skip.contains(&unpacked.name);
        let postinst = unpacked.control.text("postinst").filter(|_| !skip).unwrap_or_default();
        Ok(Self { unpacked, fields, postinst: Script::parse(&postinst), paths: BTreeSet::new() })
    }

    /// The value of a control field.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// True when the package may take over files of `other` (versions are the resolver's business).
    pub(super) fn replaces(&self, other: &str) -> bool {
        let names = self.field("Replaces").unwrap_or("").split(',');
        names
            .filter_map(|item| item.split_whitespace().next())
            .any(|name| name.split(':').next() == Some(other))
    }

    /// The name under which dpkg keeps its files: with the architecture when several can be installed.
    pub(super) fn info_name(&self) -> String {
        match self.field("Multi-Arch") {
            Some("same") => format!("{}:{}", self.unpacked.name, self.unpacked.architecture),
            _ => self.unpacked.name.clone(),
        }
    }
}

/// The root in the making.
#[derive(Debug)]
pub(super) struct Root<'a> {
    pub(super) tree: Tree,
    pub(super) packages: Vec<Package<'a>>,
    pub(super) options: &'a Options,
    pub(super) stamp: Timestamp,
    /// Modes that must outlive upgrades: lines of dpkg's `statoverride`.
    pub(super) overrides: Vec<String>,
    aliases: Aliases,
}

impl<'a> Root<'a> {
    /// Merges the packages: base-files first, for the layout is its own, then by name.
    pub(super) fn new(
        packages: &'a [Unpacked],
        options: &'a Options,
        stamp: Timestamp,
    ) -> Result<Self, Error> {
        let mut parsed = packages.iter().map(|p| Package::new(p, options)).collect::<Result<Vec<_>, _>>()?;
        parsed.sort_by_key(|package| (package.unpacked.name != "base-files", package.unpacked.name.clone()));
        let aliases = merge::aliases(packages);
        let tree = merge::merge(&mut parsed, &aliases)?;
        Ok(Self { tree, packages: parsed, options, stamp, overrides: Vec::new(), aliases })
    }

    /// A path of a running system (`/bin/more`) as the tree's (`usr/bin/more`).
    pub(super) fn real(&self, path: &str) -> String {
        let path = path.trim_start_matches('/');
        String::from_utf8_lossy(&merge::follow(&self.aliases, path.as_bytes())).into_owned()
    }

    /// True when a package of that name is in the root.
    pub(super) fn has(&self, package: &str) -> bool {
        self.packages.iter().any(|other| other.unpacked.name == package)
    }

    /// The bytes of a regular file, if there is one at `path`.
    pub(super) fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Error> {
        match self.tree.get(path).map(|entry| &entry.kind) {
            Some(Kind::File(content)) => {
                content.read().map(Some).map_err(|source| Error::Read { path: path.to_owned(), source })
            }
            _ => Ok(None),
        }
    }

    /// The text of a regular file, if there is one at `path`.
    pub(super) fn text(&self, path: &str) -> Result<Option<String>, Error> {
        Ok(self.read(path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The names of the entries right in `directory`, sorted.
    pub(super) fn names(&self, directory: &str) -> Vec<String> {
        let skip = directory.len() + 1;
        let names =
            self.tree.below(directory).map(|(path, _)| &path[skip..]).filter(|path| !path.contains(&b'/'));
        names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    }

    /// Puts any entry, dated with the root's own time, and the directories above it.
    pub(super) fn put(&mut self, path: &str, mut entry: Entry) {
        entry.meta.mtime = self.stamp;
        let mut parent = Entry::directory();
        parent.meta.mtime = self.stamp;
        self.tree.make_parents(path, &parent);
        self.tree.insert(path, entry);
    }

    /// Puts a file of root's.
    pub(super) fn put_file(&mut self, path: &str, bytes: impl Into<Vec<u8>>, mode: u16) {
        self.put(path, Entry::new(Kind::File(Content::bytes(bytes.into())), mode));
    }

    /// Puts a directory of root's, unless there is one.
    pub(super) fn put_directory(&mut self, path: &str, mode: u16) {
        if !self.tree.contains(path) {
            self.put(path, Entry::new(Kind::Directory, mode));
        }
    }

    /// Puts a symbolic link.
    pub(super) fn put_link(&mut self, path: &str, to: &str) {
        self.put(path, Entry::symlink(to));
    }

    /// Changes owner and mode of an entry that may be there.
    pub(super) fn own(&mut self, path: &str, (uid, gid): (u32, u32), mode: u16) {
        if let Some(entry) = self.tree.get_mut(path) {
            entry.meta.uid = uid;
            entry.meta.gid = gid;
            entry.meta.mode = mode;
        }
    }
}
