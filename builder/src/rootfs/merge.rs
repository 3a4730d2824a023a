//! Many package trees into one, with the rules of dpkg: directories are shared, everything else has one
//! owner unless a package declares that it replaces the other, and the merged `/usr` is followed.

use super::formats::tree::{Entry, Kind, Path, Tree};
use super::root::Package;
use super::{Error, Unpacked};
use std::collections::{BTreeMap, HashMap};

/// Names at the top that base-files makes links into `usr` (Debian's merged `/usr`).
const MERGED: [&str; 7] = ["bin", "sbin", "lib", "lib32", "lib64", "libo32", "libx32"];

/// The links at the top of the tree: name to target without slash.
pub(super) type Aliases = BTreeMap<Path, Path>;

/// The links of the merged `/usr` that the packages ship.
pub(super) fn aliases(packages: &[Unpacked]) -> Aliases {
    let link = |name: &&str| {
        packages.iter().find_map(|package| match &package.tree.get(name)?.kind {
            Kind::Symlink(to) if to.starts_with(b"usr/") => Some((name.as_bytes().into(), to.clone())),
            _ => None,
        })
    };
    MERGED.iter().filter_map(link).collect()
}

/// `path` with its first component followed when it is one of the `aliases`.
pub(super) fn follow(aliases: &Aliases, path: &[u8]) -> Path {
    let end = path.iter().position(|byte| *byte == b'/');
    match end.and_then(|end| Some((aliases.get(&path[..end])?, end))) {
        Some((to, end)) => [to, &path[end..]].concat().into(),
        None => path.into(),
    }
}

/// Puts the files of `packages` into one tree. `packages` come in the order in which directories are made;
/// the first one's mode counts. Paths that lose to a replacing package are taken out of their lists.
pub(super) fn merge(packages: &mut [Package<'_>], aliases: &Aliases) -> Result<Tree, Error> {
    let mut tree = Tree::new();
    let mut owners: HashMap<Path, usize> = HashMap::new();
    for at in 0..packages.len() {
        let unpacked = packages[at].unpacked;
        for (shipped, entry) in unpacked.tree.iter() {
            let path = follow(aliases, shipped);
            packages[at].paths.insert(shipped.into());
            let directory = matches!(entry.kind, Kind::Directory);
            if directory && aliases.contains_key(shipped) {
                continue;
            }
            let Some(present) = tree.get(&path) else {
                if !directory {
                    owners.insert(path.clone(), at);
                }
                tree.make_parents(&path, &Entry::directory());
                tree.insert(&path, renamed(entry, aliases));
                continue;
            };
            if directory && matches!(present.kind, Kind::Directory) {
                continue;
            }
            let Some(first) = owners.get(&path).copied().filter(|_| !directory) else {
                return Err(conflict(&path, "another package, as a directory,", &unpacked.name));
            };
            if packages[at].replaces(&packages[first].unpacked.name) {
                tree.insert(&path, renamed(entry, aliases));
                owners.insert(path.clone(), at);
                packages[first].paths.retain(|lost| follow(aliases, lost) != path);
            } else if packages[first].replaces(&unpacked.name) {
                packages[at].paths.remove(shipped);
            } else {
                return Err(conflict(&path, &packages[first].unpacked.name, &unpacked.name));
            }
        }
    }
    check_links(&tree)?;
    Ok(tree)
}

fn conflict(path: &[u8], first: &str, second: &str) -> Error {
    let path = String::from_utf8_lossy(path).into_owned();
    Error::Conflict { path, first: first.to_owned(), second: second.to_owned() }
}

fn renamed(entry: &Entry, aliases: &Aliases) -> Entry {
    let mut entry = entry.clone();
    if let Kind::HardLink(to) = &mut entry.kind {
        *to = follow(aliases, to);
    }
    entry
}

/// A hard link whose file lost to another package would name nothing.
fn check_links(tree: &Tree) -> Result<(), Error> {
    for (path, entry) in tree.iter() {
        if let Kind::HardLink(to) = &entry.kind
            && !matches!(tree.get(to).map(|entry| &entry.kind), Some(Kind::File(_)))
        {
            let reason = format!("it is a hard link to /{}, which is no file", String::from_utf8_lossy(to));
            return Err(Error::Malformed { path: String::from_utf8_lossy(path).into_owned(), reason });
        }
    }
    Ok(())
}
