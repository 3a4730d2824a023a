//! `update-alternatives --install` calls of postinsts: the links, and dpkg's state in its text format
//! (update-alternatives(1), "QUERY FORMAT" is another; the file's own is: status, link, slave name and
//! link pairs, blank line, then path, priority and slave paths of each choice, blank line).

use super::Error;
use super::root::Root;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
struct Choice {
    path: String,
    priority: i32,
    /// Slave name to path.
    slaves: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
struct Alternative {
    link: String,
    /// Slave name to link.
    slaves: BTreeMap<String, String>,
    choices: BTreeMap<String, Choice>,
}

pub(super) fn apply(root: &mut Root<'_>) -> Result<(), Error> {
    let mut all: BTreeMap<String, Alternative> = BTreeMap::new();
    for package in &root.packages {
        for words in package.postinst.calls("update-alternatives") {
            if let Some(install) = words.iter().position(|word| word == "--install") {
                add(&mut all, &words[install + 1..]);
            }
        }
    }
    for (name, alternative) in &all {
        // The first of the best by path: update-alternatives keeps the earlier one of equals.
        let best = alternative.choices.values().filter(|choice| root.tree.contains(&root.real(&choice.path)));
        let Some(best) = best.reduce(|best, next| if next.priority > best.priority { next } else { best })
        else {
            continue;
        };
        link(root, &alternative.link, name, &best.path);
        for (slave, at) in &alternative.slaves {
            // A slave whose file is not installed (documentation left out) gets no link.
            if let Some(path) = best.slaves.get(slave).filter(|path| root.tree.contains(&root.real(path))) {
                let path = path.clone();
                link(root, at, slave, &path);
            }
        }
    }
    root.put_directory("var/lib/dpkg/alternatives", 0o755);
    for (name, alternative) in &all {
        root.put_file(&format!("var/lib/dpkg/alternatives/{name}"), state(alternative), 0o644);
    }
    Ok(())
}

fn add(all: &mut BTreeMap<String, Alternative>, words: &[String]) {
    let [link, name, path, priority, rest @ ..] = words else { return };
    let Ok(priority) = priority.parse() else { return };
    let alternative = all.entry(name.clone()).or_default();
    alternative.link.clone_from(link);
    let mut choice = Choice { path: path.clone(), priority, slaves: BTreeMap::new() };
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        if word == "--slave"
            && let (Some(link), Some(name), Some(path)) = (rest.next(), rest.next(), rest.next())
        {
            alternative.slaves.insert(name.clone(), link.clone());
            choice.slaves.insert(name.clone(), path.clone());
        }
    }
    alternative.choices.insert(path.clone(), choice);
}

fn link(root: &mut Root<'_>, link: &str, name: &str, path: &str) {
    let generic = format!("etc/alternatives/{name}");
    root.put_link(&generic, path);
    let link = root.real(link);
    root.put_link(&link, &format!("/{generic}"));
}

fn state(alternative: &Alternative) -> String {
    let mut lines = vec!["auto".to_owned(), alternative.link.clone()];
    lines.extend(alternative.slaves.iter().flat_map(|(name, link)| [name.clone(), link.clone()]));
    lines.push(String::new());
    for choice in alternative.choices.values() {
        lines.extend([choice.path.clone(), choice.priority.to_string()]);
        lines.extend(
            alternative.slaves.keys().map(|name| choice.slaves.get(name).cloned().unwrap_or_default()),
        );
    }
    lines.push(String::new());
    lines.iter().map(|line| format!("{line}\n")).collect()
}
