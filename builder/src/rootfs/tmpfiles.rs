//! tmpfiles.d(5), the part that matters to a tree at rest: directories, links and modes under /etc, /root,
//! /usr and /var. Everything under /run and /tmp, and what is removed, aged or filled from credentials, is
//! systemd-tmpfiles' own work at boot; so are the access control lists of the journal.

use super::Error;
use super::formats::tree::Kind;
use super::root::Root;
use super::users;
use std::collections::BTreeMap;

pub(super) fn apply(root: &mut Root<'_>) -> Result<(), Error> {
    let mut files = BTreeMap::new();
    for folder in ["usr/lib/tmpfiles.d", "etc/tmpfiles.d"] {
        for name in root.names(folder).into_iter().filter(|name| name.ends_with(".conf")) {
            files.insert(name.clone(), format!("{folder}/{name}"));
        }
    }
    let mut lines = BTreeMap::new();
    for path in files.values() {
        for line in root.text(path)?.unwrap_or_default().lines() {
            let words = users::words(line);
            if words.len() >= 2 && concerns(&words[1]) {
                // The first line for a path and kind wins; parents come before what they hold.
                lines.entry((words[1].clone(), words[0].clone())).or_insert(words);
            }
        }
    }
    for words in lines.values() {
        line(root, words)?;
    }
    Ok(())
}

fn concerns(path: &str) -> bool {
    !path.contains(['%', '*', '['])
        && ["/etc/", "/root", "/usr/", "/var/", "/srv", "/home"].iter().any(|p| path.starts_with(p))
}

fn line(root: &mut Root<'_>, words: &[String]) -> Result<(), Error> {
    let field = |at: usize| words.get(at).map(String::as_str).filter(|word| *word != "-" && !word.is_empty());
    let kind = &words[0];
    if kind.contains(['!', '^']) {
        return Ok(());
    }
    let path = root.real(&words[1]);
    let present = root.tree.contains(&path);
    match kind.chars().next() {
        Some('d' | 'D' | 'q' | 'Q' | 'v') if !present => root.put_directory(&path, 0o755),
        Some('L') => {
            let replace = kind.contains('+');
            if let Some(to) = field(6).filter(|_| replace || !present) {
                let to = to.to_owned();
                root.put_link(&path, &to);
            }
            return Ok(());
        }
        Some('f') if !present => root.put_file(&path, field(6).unwrap_or(""), 0o644),
        Some('d' | 'D' | 'q' | 'Q' | 'v' | 'z') if present => {}
        _ => return Ok(()),
    }
    let Some(entry) = root.tree.get(&path) else { return Ok(()) };
    if matches!(entry.kind, Kind::Symlink(_)) {
        return Ok(());
    }
    let (mut uid, mut gid, mut mode) = (entry.meta.uid, entry.meta.gid, entry.meta.mode);
    // A colon in front: only for what this line made.
    let value = |at: usize| {
        field(at)
            .and_then(|word| word.strip_prefix(':').map_or(Some(word), |word| (!present).then_some(word)))
    };
    if let Some(word) = value(2) {
        mode = u16::from_str_radix(word.trim_start_matches('~'), 8).unwrap_or(mode);
    }
    if let Some(user) = value(3) {
        uid = users::id(root, "passwd", user)?.unwrap_or(uid);
    }
    if let Some(group) = value(4) {
        gid = users::id(root, "group", group)?.unwrap_or(gid);
    }
    root.own(&path, (uid, gid), mode);
    Ok(())
}
