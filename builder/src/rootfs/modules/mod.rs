//! The indices that modprobe and udev look modules up in, as depmod(8) makes them from the modules' ELF
//! sections: text files and the binary tries of libkmod.
//!
//! Reading the modules is most of the work, for they are packed: it is spread over threads, and the result
//! depends on the kernel package alone, so a caller may keep it.

mod module;
mod trie;

use super::Error;
use super::formats::tree::{Content, Kind};
use super::root::Root;
use module::Module;
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use trie::Trie;

const FOLDER: &str = "usr/lib/modules";

pub(super) fn apply(root: &mut Root<'_>) -> Result<(), Error> {
    for release in root.names(FOLDER) {
        let folder = format!("{FOLDER}/{release}");
        for (name, bytes) in indices(root, &folder)? {
            root.put_file(&format!("{folder}/{name}"), bytes, 0o644);
        }
    }
    Ok(())
}

/// Name and bytes of every index of the modules below `folder`.
fn indices(root: &Root<'_>, folder: &str) -> Result<Vec<(&'static str, Vec<u8>)>, Error> {
    let order = root.text(&format!("{folder}/modules.order"))?.unwrap_or_default();
    let order: HashMap<&str, usize> = order.lines().enumerate().map(|(at, path)| (path, at)).collect();
    let mut files: Vec<(usize, &str, &Content)> = Vec::new();
    for (path, entry) in root.tree.below(folder) {
        let Ok(path) = std::str::from_utf8(&path[folder.len() + 1..]) else { continue };
        if let (Kind::File(content), Some(at)) = (&entry.kind, path.find(".ko"))
            && matches!(&path[at + 3..], "" | ".xz" | ".zst")
        {
            let place = order.get(&path[..at + 3]).copied().unwrap_or(usize::MAX);
            files.push((place, path, content));
        }
    }
    files.sort_by_key(|(place, path, _)| (*place, *path));
    let modules = load(&files, root.options.threads.max(1))?;
    let mut made = text_and_tries(&modules, &dependencies(&modules));
    if let Some(builtin) = root.text(&format!("{folder}/modules.builtin"))? {
        let mut trie = Trie::default();
        builtin.lines().for_each(|path| trie.insert(&module::name_of(path), "", 0));
        made.push(("modules.builtin.bin", trie.to_bytes()));
    }
    if let Some(info) = root.read(&format!("{folder}/modules.builtin.modinfo"))? {
        let mut trie = Trie::default();
        for entry in info.split(|byte| *byte == 0).filter_map(|entry| std::str::from_utf8(entry).ok()) {
            let Some((module, rest)) = entry.split_once('.') else { continue };
            if let Some(alias) = rest.strip_prefix("alias=") {
                trie.insert(&module::normal_alias(alias), module, 0);
            }
        }
        made.push(("modules.builtin.alias.bin", trie.to_bytes()));
    }
    Ok(made)
}

fn load(files: &[(usize, &str, &Content)], threads: usize) -> Result<Vec<Module>, Error> {
    let next = AtomicUsize::new(0);
    let loaded = Mutex::new(Vec::with_capacity(files.len()));
    let work = || {
        let mut mine = Vec::new();
        // Several at a time: modules are small, and the counter is shared.
        loop {
            let start = next.fetch_add(16, Ordering::Relaxed);
            let Some(chunk) = files.get(start..files.len().min(start + 16)).filter(|chunk| !chunk.is_empty())
            else {
                break;
            };
            mine.extend(
                chunk
                    .iter()
                    .enumerate()
                    .map(|(at, (_, path, content))| (start + at, Module::read(path, content))),
            );
        }
        if let Ok(mut loaded) = loaded.lock() {
            loaded.append(&mut mine);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    let mut loaded = loaded.into_inner().unwrap_or_default();
    loaded.sort_by_key(|(at, _)| *at);
    loaded.into_iter().map(|(_, module)| module).collect()
}

/// For every module the modules that it needs, all of them, in the order in which modules.dep lists them:
/// users before what they use, so that loading goes from the end.
fn dependencies(modules: &[Module]) -> Vec<Vec<usize>> {
    let exports: HashMap<&str, usize> = modules
        .iter()
        .enumerate()
        .flat_map(|(at, m)| m.exports.iter().map(move |symbol| (symbol.as_str(), at)))
        .collect();
    let mut users = vec![0_usize; modules.len()];
    let mut direct: Vec<Vec<usize>> = Vec::with_capacity(modules.len());
    for (at, module) in modules.iter().enumerate() {
        let mut needs: Vec<usize> = Vec::new();
        for owner in module.imports.iter().filter_map(|symbol| exports.get(symbol.as_str()).copied()) {
            if owner != at && !needs.contains(&owner) {
                needs.push(owner);
                users[owner] += 1;
            }
        }
        direct.push(needs);
    }
    // depmod's own topological order: the last that became free goes first. Members of a cycle keep the end.
    let mut rank = vec![usize::MAX; modules.len()];
    let mut free: Vec<usize> = (0..modules.len()).filter(|at| users[*at] == 0).collect();
    let mut placed = 0;
    while let Some(at) = free.pop() {
        rank[at] = placed;
        placed += 1;
        for need in &direct[at] {
            users[*need] -= 1;
            if users[*need] == 0 {
                free.push(*need);
            }
        }
    }
    (0..modules.len())
        .map(|at| {
            let mut all: Vec<usize> = Vec::new();
            let mut open = direct[at].clone();
            while let Some(need) = open.pop() {
                if need != at && !all.contains(&need) {
                    all.push(need);
                    open.extend(&direct[need]);
                }
            }
            all.sort_by_key(|need| (rank[*need], *need));
            all
        })
        .collect()
}

fn text_and_tries(modules: &[Module], needs: &[Vec<usize>]) -> Vec<(&'static str, Vec<u8>)> {
    let mut dep = String::new();
    let mut alias = "# Aliases extracted from modules themselves.\n".to_owned();
    let mut softdep = "# Soft dependencies extracted from modules themselves.\n".to_owned();
    let mut weakdep = "# Weak dependencies extracted from modules themselves.\n".to_owned();
    let mut devname = "# Device nodes to trigger on-demand module loading.\n".to_owned();
    let (mut dep_trie, mut alias_trie, mut symbol_trie) = (Trie::default(), Trie::default(), Trie::default());
    let mut symbols = BTreeMap::new();
    for (at, (module, needs)) in modules.iter().zip(needs).enumerate() {
        let priority = u32::try_from(at).unwrap_or(u32::MAX);
        let line =
            needs.iter().fold(format!("{}:", module.path), |line, need| line + " " + &modules[*need].path);
        dep_trie.insert(&module.name, &line, priority);
        dep.extend([line.as_str(), "\n"]);
        for (key, value) in &module.info {
            match key.as_str() {
                "alias" => {
                    alias.push_str(&format!("alias {value} {}\n", module.name));
                    alias_trie.insert(&module::normal_alias(value), &module.name, priority);
                }
                "softdep" => softdep.push_str(&format!("softdep {} {value}\n", module.name)),
                "weakdep" => weakdep.push_str(&format!("weakdep {} {value}\n", module.name)),
                _ => {}
            }
        }
        if let Some(node) = module.device_node() {
            devname.push_str(&format!("{} {node}\n", module.name));
        }
        for symbol in &module.exports {
            symbols.insert(symbol.as_str(), (at, priority));
        }
    }
    let mut symbol_text = "# Aliases for symbols, used by symbol_request().\n".to_owned();
    for (symbol, (at, priority)) in symbols {
        let key = format!("symbol:{symbol}");
        symbol_text.push_str(&format!("alias {key} {}\n", modules[at].name));
        symbol_trie.insert(&key, &modules[at].name, priority);
    }
    vec![
        ("modules.dep", dep.into_bytes()),
        ("modules.dep.bin", dep_trie.to_bytes()),
        ("modules.alias", alias.into_bytes()),
        ("modules.alias.bin", alias_trie.to_bytes()),
        ("modules.symbols", symbol_text.into_bytes()),
        ("modules.symbols.bin", symbol_trie.to_bytes()),
        ("modules.softdep", softdep.into_bytes()),
        ("modules.weakdep", weakdep.into_bytes()),
        ("modules.devname", devname.into_bytes()),
    ]
}
