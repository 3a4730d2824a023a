//! Secrets for templates: where the cluster file says that one is, it is read.

use crate::cluster::settings::Secret;
use crate::render::Vault;
use std::fs;
use std::path::Path;

/// No honest secret is larger.
const MOST: u64 = 1 << 20;

/// Reads secrets when they are asked for.
#[derive(Debug, Default)]
pub struct Keeper {}

impl Keeper {
    /// One without secrets of the cluster's own.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Vault for Keeper {
    fn reveal(&self, secret: &Secret) -> Result<String, String> {
        match secret {
            Secret::Plain(secret) => Ok(secret.reveal().to_owned()),
            Secret::File(path) => file(path),
            Secret::Environment(name) => {
                let value = std::env::var(name).ok().filter(|value| !value.is_empty());
                value.ok_or_else(|| format!("the environment variable {name} is not set, or not text"))
            }
            Secret::Stored(name) => {
                self.own(name, "")?.ok_or_else(|| format!("the cluster has no secret `{name}`"))
            }
            Secret::Sops { file, .. } => {
                Err(format!("{}: SOPS files are not read by this version", file.display()))
            }
        }
    }

    fn own(&self, name: &str, _: &str) -> Result<Option<String>, String> {
        Err(format!("there is no {name} yet: `kiln secrets init` makes the cluster's own secrets"))
    }
}

/// A file that holds a secret and nothing else. A line break at its end is an editor's, and goes.
fn file(path: &Path) -> Result<String, String> {
    let said = |reason: String| format!("{}: {reason}", path.display());
    let meta = fs::metadata(path).map_err(|error| said(error.to_string()))?;
    if !meta.is_file() || meta.len() > MOST {
        return Err(said("it is no file of at most 1 MiB".to_owned()));
    }
    let mut text = fs::read_to_string(path).map_err(|error| said(error.to_string()))?;
    if text.trim_end_matches(['\r', '\n']).lines().count() == 1 {
        text.truncate(text.trim_end_matches(['\r', '\n']).len());
    }
    if text.is_empty() { Err(said("it is empty".to_owned())) } else { Ok(text) }
}
