//! Paths of a tree, symbolic links followed.

use kiln_formats::tree::{Content, Entry, Kind, Tree};

/// Names and entries directly in a folder, by its real path.
pub(in crate::rootfs) fn children<'a>(
    tree: &'a Tree,
    folder: &[u8],
) -> impl Iterator<Item = (&'a [u8], &'a Entry)> {
    let skip = folder.len() + 1;
    let folder = std::str::from_utf8(folder).ok().filter(|folder| !folder.is_empty());
    let below = folder.map(|folder| tree.below(folder)).into_iter().flatten();
    below.map(move |(path, entry)| (&path[skip..], entry)).filter(|(name, _)| !name.contains(&b'/'))
}

pub(in crate::rootfs) fn directory(tree: &Tree, path: &[u8]) -> Option<Vec<u8>> {
    let real = resolve(tree, path, &mut 0)?;
    matches!(tree.get(&real)?.kind, Kind::Directory).then_some(real)
}

/// The regular file that a path leads to: its own path and content.
pub(in crate::rootfs) fn file<'a>(tree: &'a Tree, path: &[u8]) -> Option<(Vec<u8>, &'a Content)> {
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

/// Follows symbolic links in every component, at most 40 as the kernel does; absolute ones start at the root.
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
            if *links > 40 {
                return None;
            }
            let from: &[u8] = if target.starts_with(b"/") { b"" } else { &parent };
            real = resolve(tree, &[from, b"/", target].concat(), links)?;
        }
    }
    Some(real)
}
