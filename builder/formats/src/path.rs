//! Paths of a tree, symbolic links followed as a running system would.

use crate::tree::{Content, Entry, Kind, Tree};

/// No honest chain of links is longer (Linux, MAXSYMLINKS).
const MOST_LINKS: usize = 40;

/// Names and entries directly in a folder, by its real path.
pub fn children<'a>(tree: &'a Tree, folder: &[u8]) -> impl Iterator<Item = (&'a [u8], &'a Entry)> {
    let skip = folder.len() + 1;
    let folder = std::str::from_utf8(folder).ok().filter(|folder| !folder.is_empty());
    let below = folder.map(|folder| tree.below(folder)).into_iter().flatten();
    below.map(move |(path, entry)| (&path[skip..], entry)).filter(|(name, _)| !name.contains(&b'/'))
}

/// The real path of the directory that a path leads to.
pub fn directory(tree: &Tree, path: &[u8]) -> Option<Vec<u8>> {
    let real = resolve(tree, path, &mut 0)?;
    matches!(tree.get(&real)?.kind, Kind::Directory).then_some(real)
}

/// The regular file that a path leads to: its own path and content.
pub fn file<'a>(tree: &'a Tree, path: &[u8]) -> Option<(Vec<u8>, &'a Content)> {
    let real = resolve(tree, path, &mut 0)?;
    match &tree.get(&real)?.kind {
        Kind::File(content) => Some((real, content)),
        Kind::HardLink(target) => match &tree.get(target)?.kind {
            Kind::File(content) => Some((target.to_vec(), content)),
            _ => None,
        },
        _ => None,
    }
}

/// Follows symbolic links in every component; absolute ones start at the root.
fn resolve(tree: &Tree, path: &[u8], links: &mut usize) -> Option<Vec<u8>> {
    let mut real: Vec<u8> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => continue,
            b".." => {
                real.truncate(real.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
                continue;
            }
            _ => {}
        }
        let parent = real.clone();
        if !real.is_empty() {
            real.push(b'/');
        }
        real.extend(name);
        if let Kind::Symlink(target) = &tree.get(&real)?.kind {
            *links += 1;
            if *links > MOST_LINKS {
                return None;
            }
            let from: &[u8] = if target.starts_with(b"/") { b"" } else { &parent };
            real = resolve(tree, &[from, b"/", target].concat(), links)?;
        }
    }
    Some(real)
}

#[cfg(test)]
mod tests {
    use super::file;
    use crate::tree::{Entry, Kind, Tree};

    #[test]
    fn links_lead_to_files_and_circles_to_nothing() {
        let mut tree = Tree::new();
        for directory in ["usr", "usr/lib", "usr/lib/firmware", "usr/lib/firmware/c"] {
            tree.insert(directory, Entry::directory());
        }
        tree.insert("usr/lib/firmware/a.bin", Entry::file(*b"A"));
        tree.insert("usr/lib/firmware/b.bin", Entry::symlink("a.bin"));
        tree.insert("usr/lib/firmware/c/d.bin", Entry::symlink("../b.bin"));
        tree.insert("lib", Entry::symlink("usr/lib"));
        tree.insert("e.bin", Entry::symlink("/lib/firmware/c/d.bin"));
        tree.insert("hard", Entry::new(Kind::HardLink((*b"usr/lib/firmware/a.bin").into()), 0));
        tree.insert("x", Entry::symlink("y"));
        tree.insert("y", Entry::symlink("x"));
        for path in ["lib/firmware/a.bin", "usr/lib/firmware/c/d.bin", "e.bin", "hard"] {
            let (real, content) = file(&tree, path.as_bytes()).unwrap();
            assert_eq!(
                (&real[..], content.read().unwrap()),
                (&b"usr/lib/firmware/a.bin"[..], b"A".to_vec()),
                "{path}"
            );
        }
        assert!(file(&tree, b"x").is_none());
        assert!(file(&tree, b"nothing").is_none());
    }
}
