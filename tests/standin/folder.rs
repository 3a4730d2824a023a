//! The folder that k3s applies (k3s, pkg/deploy/controller.go): every 15 s it looks at all files in the order of their paths. A
//! file whose time or digest is new is applied; all of them are at each start, and again in every look until one look has gone
//! through without an error. What left a file since it was applied is deleted; a file that is gone takes nothing with it.

use crate::config::{self, Config};
use crate::store::Store;
use crate::{Outcome, objects};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const FOLDER: &str = "/var/lib/rancher/k3s/server/manifests";

/// Looks for ever.
pub(crate) fn watch(config: &Config, store: &Store) -> Outcome<()> {
    let folder = config.path(FOLDER);
    let mut times = BTreeMap::new();
    let mut force = true;
    loop {
        match look(&folder, store, (&mut times, force)) {
            Ok(()) => force = false,
            Err(error) => eprintln!("Failed to process config: {error}"),
        }
        std::thread::sleep(config::seconds("K3S_STANDIN_LOOK", 15.0));
    }
}

fn look(
    folder: &Path,
    store: &Store,
    (times, force): (&mut BTreeMap<PathBuf, SystemTime>, bool),
) -> Outcome<()> {
    let mut paths = Vec::new();
    walk(folder, &mut paths)?;
    paths.sort();
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let skipped: Vec<String> =
        paths.iter().filter_map(|path| name(path).strip_suffix(".skip").map(str::to_owned)).collect();
    let mut errors = Vec::new();
    for path in paths {
        let name = name(&path);
        let read = [".json", ".yaml", ".yml"].iter().any(|ending| name.ends_with(ending));
        if !read || name.starts_with('.') || skipped.contains(&name) {
            continue;
        }
        // Between the list and this it may have been taken away.
        let Ok(time) = fs::metadata(&path).and_then(|meta| meta.modified()) else { continue };
        if !force && times.get(&path) == Some(&time) {
            continue;
        }
        match deploy(&path, store, force) {
            Ok(()) => drop(times.insert(path, time)),
            Err(error) => errors.push(format!("failed to process {}: {error}", path.display())),
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors.join("\n").into()) }
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Outcome<()> {
    if !folder.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { walk(&path, found)? } else { found.push(path) }
    }
    Ok(())
}

fn deploy(path: &Path, store: &Store, force: bool) -> Outcome<()> {
    let stem = path.file_name().unwrap_or_default().to_string_lossy();
    let addon = stem.split('.').next().unwrap_or_default().to_owned();
    let bytes = fs::read(path)?;
    let digest = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let before = store.whole(&format!("addon/{addon}"), |kept| kept.clone().unwrap_or_default())?;
    if !force && before["digest"] == digest.as_str() {
        return Ok(());
    }
    let documents: Vec<Value> = serde_saphyr::from_multiple(&String::from_utf8(bytes)?)?;
    let mut keys = Vec::new();
    for object in documents.iter().filter(|object| !object.is_null()) {
        keys.push(objects::apply(store, object)?);
    }
    for gone in before["objects"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !keys.iter().any(|key| key == gone) {
            store.whole(gone, |object| drop(object.take()))?;
        }
    }
    let times = before["times"].as_u64().unwrap_or(0) + 1;
    let now = json!({ "digest": digest, "objects": keys, "times": times });
    store.whole(&format!("addon/{addon}"), |kept| *kept = Some(now))
}
