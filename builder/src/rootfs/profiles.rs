//! Profiles of AppArmor whose programs no package of the root has are switched off as aa-disable(8) does: by a link below
//! `disable/`. Debian's own are for a hundred programs, most of desktops, and apparmor.service compiles all of them before
//! anything else starts. What is left is loaded by `usr/lib/kiln/apparmor-profiles`: the parser itself starts a process for each
//! that it skips.
//!
//! Format: apparmor.d(5), "Profile names and attachment specifications".

use super::Error;
use super::root::Root;
use std::collections::BTreeSet;

const FOLDER: &str = "etc/apparmor.d";
/// Braces in one attachment are taken apart in at most so many steps.
const MOST: usize = 1024;

pub(super) fn apply(root: &mut Root<'_>) -> Result<(), Error> {
    if !root.has("apparmor") {
        return Ok(());
    }
    let mut idle = Vec::new();
    for name in root.names(FOLDER) {
        let Some(text) = root.text(&format!("{FOLDER}/{name}"))? else { continue };
        if attachments(&text).is_some_and(|paths| !paths.iter().any(|path| may_exist(root, path))) {
            idle.push(name);
        }
    }
    for name in idle {
        root.put_link(&format!("{FOLDER}/disable/{name}"), &format!("/{FOLDER}/{name}"));
    }
    Ok(())
}

/// The programs that the profiles of a file attach to, with `*` for what is not known before it runs; `None` where one
/// attaches to none, for others refer to it, or where there is no profile.
fn attachments(text: &str) -> Option<BTreeSet<String>> {
    let known = variables(text);
    let mut paths = BTreeSet::new();
    for line in text.lines() {
        let header =
            line.trim_end().strip_suffix('{').filter(|rest| !rest.starts_with([' ', '\t', '#', '@']));
        let Some(header) = header else { continue };
        let header = header.strip_prefix("profile ").unwrap_or(header);
        let attachment = words(header).into_iter().take(2).find(|word| word.starts_with(['/', '@', '{']))?;
        let attachment = known.iter().fold(attachment, |text, (name, values)| text.replace(name, values));
        paths.extend(alternatives(&without_variables(&attachment))?);
    }
    Some(paths).filter(|paths| !paths.is_empty())
}

/// The variables that the file itself defines, each with all its values in braces.
fn variables(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter_map(|line| line.split_once('='));
    let defined = lines.filter(|(name, _)| name.starts_with("@{"));
    let value = |values: &str| format!("{{{}}}", words(values).join(","));
    defined.map(|(name, values)| (name.trim_end_matches(['+', ' ']).to_owned(), value(values))).collect()
}

/// Words of a line; those with blanks stand in quotes.
fn words(line: &str) -> Vec<String> {
    let (mut all, mut quoted) = (vec![String::new()], false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => all.push(String::new()),
            c => all.iter_mut().last().into_iter().for_each(|word| word.push(c)),
        }
    }
    all.retain(|word| !word.is_empty());
    all
}

/// `*` in the place of each `@{VARIABLE}`.
fn without_variables(text: &str) -> String {
    let mut parts = text.split("@{");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + "*" + part.split_once('}').map_or("", |(_, rest)| rest))
}

/// What `{a,b}` in a text stands for, innermost first; `None` where braces do not fit or there is too much of it.
fn alternatives(text: &str) -> Option<BTreeSet<String>> {
    let mut open = vec![text.to_owned()];
    let mut done = BTreeSet::new();
    for _ in 0..MOST {
        let Some(text) = open.pop() else { return Some(done) };
        let Some(end) = text.find('}') else {
            if text.contains('{') {
                return None;
            }
            done.insert(text);
            continue;
        };
        let start = text[..end].rfind('{')?;
        let (before, after) = (&text[..start], &text[end + 1..]);
        open.extend(text[start + 1..end].split(',').map(|one| format!("{before}{one}{after}")));
    }
    None
}

/// Whether the root has a path like that: of what has patterns only the ends are looked at.
fn may_exist(root: &Root<'_>, path: &str) -> bool {
    let wild = |c: char| matches!(c, '*' | '?' | '[' | ']');
    let Some(first) = path.find(wild) else { return root.tree.contains(&root.real(path)) };
    let last = path.rfind(wild).unwrap_or(first);
    let (folder, _) = path[..first].rsplit_once('/').unwrap_or_default();
    let (begin, end) = (root.real(folder), &path.as_bytes()[last + 1..]);
    begin.is_empty() || root.tree.below(&begin).any(|(path, _)| path.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::{alternatives, attachments};

    #[test]
    fn programs_are_read_from_the_heads_of_profiles() {
        for (text, want) in [
            (
                "profile a /usr/bin/a flags=(unconfined) {\n  profile inner /usr/bin/b {\n }\n}\n",
                Some(vec!["/usr/bin/a"]),
            ),
            ("abi <abi/4.0>,\n/usr/sbin/{b,c} {\n}\n", Some(vec!["/usr/sbin/b", "/usr/sbin/c"])),
            ("profile \"a b\" \"/usr/lib/a b/A B\" flags=(unconfined) {\n", Some(vec!["/usr/lib/a b/A B"])),
            ("@{x} = {a,b}\nprofile c /usr/lib/@{x}-c {\n", Some(vec!["/usr/lib/a-c", "/usr/lib/b-c"])),
            (
                "@{x} = a b\nprofile c /usr/lib/@{multiarch}/@{x} {\n",
                Some(vec!["/usr/lib/*/a", "/usr/lib/*/b"]),
            ),
            ("profile d {\n}\n", None),
            ("profile d {\n}\nprofile e /usr/bin/e {\n}\n", None),
            ("# nothing\n", None),
        ] {
            let want = want.map(|paths| paths.into_iter().map(str::to_owned).collect());
            assert_eq!(attachments(text), want, "{text}");
        }
    }

    #[test]
    fn braces_stand_in_braces() {
        let found = alternatives("/{{a,b}/c,d{,-e}}").unwrap();
        assert_eq!(found, ["/a/c", "/b/c", "/d", "/d-e"].map(str::to_owned).into());
        assert_eq!(alternatives("/a}"), None);
        assert_eq!(alternatives("/{a"), None);
        assert_eq!(alternatives(&"{a,b}".repeat(30)), None);
    }
}
