//! The files depmod makes for one release.

use super::graph::{Node, dependencies, symbols};
use super::index::{Index, LONGEST};
use super::{Error, Facts, MODULES, Unfit, config::Config, graph, utf8};
use kiln_formats::tree::{Kind, Tree};
use std::collections::HashMap;
use std::fmt::Write;

/// Names (in the release's directory) and bytes.
pub(super) fn files(
    tree: &Tree,
    facts: &Facts,
    release: &str,
) -> Result<Vec<(&'static str, Vec<u8>)>, Error> {
    let nodes = nodes(tree, facts, release)?;
    let symbols = symbols(&nodes);
    let needs = dependencies(&nodes, &symbols).map_err(|circle| {
        let mut modules: Vec<_> = circle.into_iter().map(|at| nodes[at].name.clone()).collect();
        modules.sort();
        Error::Cycle { release: release.into(), modules }
    })?;
    let mut dep = String::new();
    let mut dep_index = Indexer::new("modules.dep.bin");
    let mut alias = String::from("# Aliases extracted from modules themselves.\n");
    let mut alias_index = Indexer::new("modules.alias.bin");
    let mut softdep = String::from("# Soft dependencies extracted from modules themselves.\n");
    let mut weakdep = String::from("# Weak dependencies extracted from modules themselves.\n");
    let mut devname = String::new();
    for (at, node) in nodes.iter().enumerate() {
        let mut line = format!("{}:", node.path);
        for need in &needs[at] {
            line.push(' ');
            line.push_str(nodes[*need].path);
        }
        dep_index.insert(&node.name, &line, at)?;
        dep.push_str(&line);
        dep.push('\n');
        let name = &node.name;
        for value in &node.module.aliases {
            push(&mut alias, format_args!("alias {value} {name}\n"));
            if let Some(value) = normalise(value) {
                alias_index.insert(&value, name, at)?;
            }
        }
        for value in &node.module.softdeps {
            push(&mut softdep, format_args!("softdep {name} {value}\n"));
        }
        for value in &node.module.weakdeps {
            push(&mut weakdep, format_args!("weakdep {name} {value}\n"));
        }
        if let Some((device, number)) = device(&node.module.aliases) {
            if devname.is_empty() {
                devname.push_str("# Device nodes to trigger on-demand module loading.\n");
            }
            push(&mut devname, format_args!("{name} {device} {number}\n"));
        }
    }
    let mut symbol = String::from("# Aliases for symbols, used by symbol_request().\n");
    let mut symbol_index = Indexer::new("modules.symbols.bin");
    for (name, owner) in symbols {
        push(&mut symbol, format_args!("alias symbol:{name} {}\n", nodes[owner].name));
        symbol_index.insert(&format!("symbol:{name}"), &nodes[owner].name, owner)?;
    }
    Ok(vec![
        ("modules.dep", dep.into()),
        dep_index.file()?,
        ("modules.alias", alias.into()),
        alias_index.file()?,
        ("modules.softdep", softdep.into()),
        ("modules.weakdep", weakdep.into()),
        ("modules.symbols", symbol.into()),
        symbol_index.file()?,
        builtin(tree, release)?,
        builtin_alias(tree, release)?,
        ("modules.devname", devname.into()),
    ])
}

/// An index and the file it becomes.
struct Indexer {
    name: &'static str,
    index: Index,
}

impl Indexer {
    fn new(name: &'static str) -> Self {
        Self { name, index: Index::default() }
    }
    fn insert(&mut self, key: &str, value: &str, priority: usize) -> Result<(), Error> {
        let priority = u32::try_from(priority).map_err(|_| self.error(Unfit::Size))?;
        self.index.insert(key, value, priority).map_err(|source| self.error(source))
    }
    fn file(self) -> Result<(&'static str, Vec<u8>), Error> {
        let bytes = self.index.bytes().map_err(|source| self.error(source))?;
        Ok((self.name, bytes))
    }
    fn error(&self, source: Unfit) -> Error {
        Error::Index { path: self.name.into(), source }
    }
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing into a String has no way to fail.
    let _ = text.write_fmt(line);
}

/// The modules that count, in the order of modules.order; others follow as kmod's table of names has them.
fn nodes<'a>(tree: &Tree, facts: &'a Facts, release: &str) -> Result<Vec<Node<'a>>, Error> {
    let config = Config::read(tree, release)?;
    let prefix = format!("{MODULES}/{release}/");
    let mut by_name: HashMap<String, Node<'a>> = HashMap::new();
    for (path, module) in facts.modules.range(prefix.clone()..) {
        let Some(path) = path.strip_prefix(&prefix) else { break };
        let (folders, file) = path.rsplit_once('/').unwrap_or(("", path));
        if folders.split('/').any(|folder| config.excludes(folder)) {
            continue;
        }
        let node = Node { path, name: name(file), module };
        let worse = by_name.get(&node.name).is_some_and(|old| !config.prefers(&stem(&node), &stem(old)));
        if !worse {
            by_name.insert(node.name.clone(), node);
        }
    }
    let order = read(tree, release, "modules.order")?;
    let mut ranks = HashMap::new();
    for (rank, line) in order.split(|byte| *byte == b'\n').enumerate() {
        ranks.entry(line).or_insert(rank);
    }
    let rank =
        |node: &Node<'_>| ranks.get(format!("{}.ko", stem(node)).as_bytes()).copied().unwrap_or(usize::MAX);
    let mut nodes: Vec<_> = by_name.into_values().collect();
    nodes.sort_by_cached_key(|node| (rank(node), graph::bucket(&node.name, 512), node.name.clone()));
    Ok(nodes)
}

/// A module's path as overrides and modules.order have it: no suffix, but its normalised name.
fn stem(node: &Node<'_>) -> String {
    match node.path.rsplit_once('/') {
        Some((folders, file)) => format!("{folders}/{}", file.split('.').next().unwrap_or(file)),
        None => node.path.split('.').next().unwrap_or(node.path).to_owned(),
    }
}

fn name(file: &str) -> String {
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

/// An alias with underscores for hyphens outside of brackets; none when brackets do not match.
fn normalise(alias: &str) -> Option<String> {
    let mut out = String::with_capacity(alias.len());
    let mut inside = false;
    for character in alias.chars() {
        match character {
            ']' if !inside => return None,
            ']' => inside = false,
            '[' => inside = true,
            _ => {}
        }
        out.push(if character == '-' && !inside { '_' } else { character });
    }
    (!inside && out.len() <= LONGEST).then_some(out)
}

/// The device node that loads the module on demand: its name, and its type and numbers.
fn device(aliases: &[String]) -> Option<(&str, String)> {
    let mut name = None;
    let mut number = None;
    for alias in aliases {
        if let Some(device) = alias.strip_prefix("devname:") {
            name = Some(device);
        } else if let Some(numbers) = alias.strip_prefix("char-major-").and_then(numbers) {
            number = Some(format!("c{numbers}"));
        } else if let Some(numbers) = alias.strip_prefix("block-major-").and_then(numbers) {
            number = Some(format!("b{numbers}"));
        }
        if name.is_some() && number.is_some() {
            break;
        }
    }
    name.zip(number)
}

/// `10-200…` becomes `10:200`.
fn numbers(text: &str) -> Option<String> {
    let (major, minor) = text.split_once('-')?;
    let end = minor.find(|character: char| !character.is_ascii_digit()).unwrap_or(minor.len());
    Some(format!("{}:{}", major.parse::<u32>().ok()?, minor[..end].parse::<u32>().ok()?))
}

/// A file the kernel package ships in the release's directory; empty when there is none.
fn read(tree: &Tree, release: &str, name: &str) -> Result<Vec<u8>, Error> {
    let path = format!("{MODULES}/{release}/{name}");
    match tree.get(&path).map(|entry| &entry.kind) {
        Some(Kind::File(content)) => content.read().map_err(|source| Error::Read { path, source }),
        _ => Ok(Vec::new()),
    }
}

fn builtin(tree: &Tree, release: &str) -> Result<(&'static str, Vec<u8>), Error> {
    let file = "modules.builtin.bin";
    let list = read(tree, release, "modules.builtin")?;
    if list.is_empty() && !tree.contains(&format!("{MODULES}/{release}/modules.builtin")) {
        return Ok((file, Vec::new()));
    }
    let mut index = Indexer::new(file);
    for line in
        utf8(&list)?.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_alphabetic()))
    {
        index.insert(&name(line.rsplit('/').next().unwrap_or(line)), "", 0)?;
    }
    index.file()
}

fn builtin_alias(tree: &Tree, release: &str) -> Result<(&'static str, Vec<u8>), Error> {
    let file = "modules.builtin.alias.bin";
    let info = read(tree, release, "modules.builtin.modinfo")?;
    if info.is_empty() && !tree.contains(&format!("{MODULES}/{release}/modules.builtin.modinfo")) {
        return Ok((file, Vec::new()));
    }
    let mut index = Indexer::new(file);
    // `module.key=value` with a zero byte after each.
    for line in info.split(|byte| *byte == 0) {
        let Some(dot) = line.iter().position(|byte| *byte == b'.') else { continue };
        let Some(value) = line[dot + 1..].strip_prefix(b"alias=") else { continue };
        if let Some(alias) = normalise(utf8(value)?).filter(|alias| !alias.is_empty()) {
            index.insert(&alias, utf8(&line[..dot])?, 0)?;
        }
    }
    index.file()
}
