//! Files of a tree by path, links followed as a running system would.

use kiln_formats::tree::{Content, Kind, Tree};

/// No honest chain of links is longer (Linux, MAXSYMLINKS).
const MOST_LINKS: usize = 40;

/// The content of the regular file that `path` leads to.
pub(super) fn file<'a>(tree: &'a Tree, path: &str) -> Option<&'a Content> {
    let mut path = path.as_bytes().to_vec();
    for _ in 0..MOST_LINKS {
        match &tree.get(&resolve_parents(tree, &path)?)?.kind {
            Kind::File(content) => return Some(content),
            Kind::HardLink(first) => path = first.to_vec(),
            Kind::Symlink(target) => path = join(&path, target),
            _ => return None,
        }
    }
    None
}

/// The path with links among its directories replaced by what they lead to.
fn resolve_parents(tree: &Tree, path: &[u8]) -> Option<Vec<u8>> {
    let mut path = path.to_vec();
    'again: for _ in 0..MOST_LINKS {
        let slashes: Vec<usize> =
            path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).collect();
        for at in slashes {
            if let Some(Kind::Symlink(target)) = tree.get(&path[..at]).map(|entry| &entry.kind) {
                let rest = path[at + 1..].to_vec();
                path = join(&path[..at], target);
                path.push(b'/');
                path.extend(rest);
                continue 'again;
            }
        }
        return Some(path);
    }
    None
}

/// What `target`, a link at `link`, means from the root of the tree.
fn join(link: &[u8], target: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    if !target.starts_with(b"/") {
        parts.extend(link.split(|byte| *byte == b'/'));
        parts.pop();
    }
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::file;
    use kiln_formats::tree::{Entry, Kind, Tree};

    #[test]
    fn links_lead_to_files_and_circles_to_nothing() {
        let mut tree = Tree::new();
        tree.insert("usr/lib/firmware/a.bin", Entry::file(*b"A"));
        tree.insert("usr/lib/firmware/b.bin", Entry::symlink("a.bin"));
        tree.insert("usr/lib/firmware/c/d.bin", Entry::symlink("../b.bin"));
        tree.insert("lib", Entry::symlink("usr/lib"));
        tree.insert("e.bin", Entry::symlink("/lib/firmware/c/d.bin"));
        tree.insert("hard", Entry::new(Kind::HardLink((*b"usr/lib/firmware/a.bin").into()), 0));
        tree.insert("x", Entry::symlink("y"));
        tree.insert("y", Entry::symlink("x"));
        for path in ["lib/firmware/a.bin", "usr/lib/firmware/c/d.bin", "e.bin", "hard"] {
            assert_eq!(file(&tree, path).unwrap().read().unwrap(), b"A", "{path}");
        }
        assert!(file(&tree, "x").is_none());
        assert!(file(&tree, "nothing").is_none());
    }
}
