//! The indices that modprobe and udev look modules up in, as depmod(8) makes them from the modules' ELF
//! sections: text files and the binary tries of libkmod.
//!
//! Reading the modules is most of the work, for they are packed: it is spread over threads, and the result
//! depends on the kernel package alone, so a caller may keep it.

mod module;
mod trie;

use super::formats::tree::{Content, Kind, Tree};
use super::root::Root;
use super::{Error, Unpacked};
use module::Module;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use trie::Trie;

const FOLDER: &str = "usr/lib/modules";

/// The indices of all kernels among some packages. They depend on the packages that ship modules alone
/// ([`ships_modules`]), so a caller may keep the encoded form under those packages' digests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModuleIndices {
    /// Bytes by path in the root.
    files: BTreeMap<String, Vec<u8>>,
}

/// True when a package ships something below /lib/modules.
pub fn ships_modules(package: &Unpacked) -> bool {
    ["lib/modules", FOLDER].iter().any(|folder| package.tree.below(folder).next().is_some())
}

impl ModuleIndices {
    /// Makes the indices of the modules in `packages`; packages without modules change nothing.
    ///
    /// # Errors
    /// [`Error::Malformed`] for modules that are none, [`Error::Read`] when their bytes cannot be read.
    pub fn of(packages: &[Unpacked], threads: usize) -> Result<Self, Error> {
        let mut tree = Tree::new();
        for package in packages.iter().filter(|package| ships_modules(package)) {
            for top in ["", "usr/"] {
                for (path, entry) in package.tree.below(&format!("{top}lib/modules")) {
                    tree.insert(&[b"usr/", &path[top.len()..]].concat(), entry.clone());
                }
            }
        }
        Self::of_tree(&tree, threads)
    }

    fn of_tree(tree: &Tree, threads: usize) -> Result<Self, Error> {
        let mut files = BTreeMap::new();
        let releases: BTreeSet<&str> = tree
            .below(FOLDER)
            .filter_map(|(path, _)| std::str::from_utf8(&path[FOLDER.len() + 1..]).ok()?.split('/').next())
            .collect();
        for release in releases {
            let folder = format!("{FOLDER}/{release}");
            for (name, bytes) in indices(tree, &folder, threads)? {
                files.insert(format!("{folder}/{name}"), bytes);
            }
        }
        Ok(Self { files })
    }

    /// The form to keep: for each file lengths of path and content (little-endian, 8 bytes each), then both.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (path, bytes) in &self.files {
            out.extend((path.len() as u64).to_le_bytes());
            out.extend((bytes.len() as u64).to_le_bytes());
            out.extend(path.as_bytes());
            out.extend(bytes);
        }
        out
    }

    /// Reads the kept form; `None` when it is not whole.
    pub fn decode(mut kept: &[u8]) -> Option<Self> {
        let mut files = BTreeMap::new();
        while !kept.is_empty() {
            let len = |kept: &[u8]| usize::try_from(u64::from_le_bytes(*kept.first_chunk()?)).ok();
            let (path, bytes) = (len(kept)?, len(kept.get(8..)?)?);
            kept = kept.get(16..)?;
            let name = std::str::from_utf8(kept.get(..path)?).ok()?.to_owned();
            kept = kept.get(path..)?;
            files.insert(name, kept.get(..bytes)?.to_vec());
            kept = &kept[bytes..];
        }
        Some(Self { files })
    }
}

pub(super) fn apply(root: &mut Root<'_>) -> Result<(), Error> {
    let files = match &root.options.modules {
        Some(kept) => kept.files.clone(),
        None => ModuleIndices::of_tree(&root.tree, root.options.threads.max(1))?.files,
    };
    for (path, bytes) in files {
        root.put_file(&path, bytes, 0o644);
    }
    Ok(())
}

/// The bytes of a regular file of `tree`.
fn read(tree: &Tree, path: &str) -> Result<Vec<u8>, Error> {
    match tree.get(path).map(|entry| &entry.kind) {
        Some(Kind::File(content)) => {
            content.read().map_err(|source| Error::Read { path: path.to_owned(), source })
        }
        _ => Ok(Vec::new()),
    }
}

/// Name and bytes of every index of the modules below `folder`.
fn indices(tree: &Tree, folder: &str, threads: usize) -> Result<Vec<(&'static str, Vec<u8>)>, Error> {
    let text = |name: &str| -> Result<String, Error> {
        Ok(String::from_utf8_lossy(&read(tree, &format!("{folder}/{name}"))?).into_owned())
    };
    let order = text("modules.order")?;
    let order: HashMap<&str, usize> = order.lines().enumerate().map(|(at, path)| (path, at)).collect();
    let mut files: Vec<(usize, &str, &Content)> = Vec::new();
    for (path, entry) in tree.below(folder) {
        let Ok(path) = std::str::from_utf8(&path[folder.len() + 1..]) else { continue };
        if let (Kind::File(content), Some(at)) = (&entry.kind, path.find(".ko"))
            && matches!(&path[at + 3..], "" | ".xz" | ".zst")
        {
            let place = order.get(&path[..at + 3]).copied().unwrap_or(usize::MAX);
            files.push((place, path, content));
        }
    }
    files.sort_by_key(|(place, path, _)| (*place, *path));
    let modules = load(&files, threads).map_err(|error| below(folder, error))?;
    let mut made = text_and_tries(&modules, &dependencies(&modules));
    let mut builtin = Trie::default();
    text("modules.builtin")?.lines().for_each(|path| builtin.insert(&module::name_of(path), "", 0));
    made.push(("modules.builtin.bin", builtin.to_bytes()));
    let mut aliases = Trie::default();
    for entry in text("modules.builtin.modinfo")?.split('\0') {
        if let Some((module, alias)) = entry.split_once(".alias=") {
            aliases.insert(&module::normal_alias(alias), module, 0);
        }
    }
    made.push(("modules.builtin.alias.bin", aliases.to_bytes()));
    Ok(made)
}

/// The error with the whole path: modules know theirs below the release's folder only.
fn below(folder: &str, error: Error) -> Error {
    let whole = |path: String| format!("{folder}/{path}");
    match error {
        Error::Malformed { path, reason } => Error::Malformed { path: whole(path), reason },
        Error::Read { path, source } => Error::Read { path: whole(path), source },
        other => other,
    }
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
