//! What a server keeps over its restarts: Node objects, and hashes of node passwords.

use crate::Outcome;
use crate::config::{self, Config};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

const PATH: &str = "/var/lib/rancher/k3s/server/standin.json";

/// All of it.
pub(crate) struct Store {
    path: PathBuf,
    kept: Mutex<Map<String, Value>>,
}

impl Store {
    /// What the last run left.
    pub(crate) fn open(config: &Config) -> Outcome<Self> {
        let path = config.path(PATH);
        let kept = if path.exists() { serde_json::from_slice(&fs::read(&path)?)? } else { Map::new() };
        Ok(Self { path, kept: Mutex::new(kept) })
    }

    /// Works on one thing of a kind; what becomes of it is kept.
    pub(crate) fn with<T>(
        &self,
        kind: &str,
        name: &str,
        work: impl FnOnce(&mut Option<Value>) -> T,
    ) -> Outcome<T> {
        self.whole(&format!("{kind}/{name}"), work)
    }

    /// All things whose keys begin so, in the order of their keys.
    pub(crate) fn all(&self, start: &str) -> Outcome<Vec<(String, Value)>> {
        let kept = self.kept.lock().map_err(|_| "a request ended in the middle of the store")?;
        let mut all: Vec<(String, Value)> = kept
            .iter()
            .filter(|(key, _)| key.starts_with(start))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        all.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(all)
    }

    /// Works on one thing by its whole key; what becomes of it is kept.
    pub(crate) fn whole<T>(&self, key: &str, work: impl FnOnce(&mut Option<Value>) -> T) -> Outcome<T> {
        let mut kept = self.kept.lock().map_err(|_| "a request ended in the middle of the store")?;
        let key = key.to_owned();
        let mut value = kept.get(&key).cloned();
        let result = work(&mut value);
        if value.as_ref() != kept.get(&key) {
            match value {
                Some(value) => kept.insert(key, value),
                None => kept.remove(&key),
            };
            config::write(&self.path, serde_json::to_vec_pretty(&*kept)?)?;
        }
        Ok(result)
    }

    /// Compares a node's password with the first one that was given for that name, and keeps that one.
    pub(crate) fn password_fits(&self, node: &str, password: &str) -> Outcome<bool> {
        let hash = Sha256::digest(password).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        self.with("password", node, |kept| {
            *kept.get_or_insert(Value::String(hash.clone())) == Value::String(hash)
        })
    }
}
