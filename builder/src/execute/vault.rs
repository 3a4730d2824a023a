//! Secrets for templates: where the cluster file says that one is, it is read.

use crate::cluster::settings::Secret;
use crate::digest::Sha256;
use crate::render::Vault;
use crate::secrets::{Authority, Identities, Secrets, bundle_hash, sops};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// No honest secret is larger.
const MOST: u64 = 1 << 20;

/// Gives out the cluster's own secrets and reads those that are elsewhere when they are asked for.
#[derive(Debug)]
pub struct Keeper {
    /// The cluster's own; without them, why.
    own: Result<Secrets, String>,
    identities: Identities,
    /// The cluster is to begin anew, whatever is known of it.
    found: bool,
    /// SOPS files that were read: each is decrypted once.
    sops: Mutex<BTreeMap<PathBuf, sops::File>>,
}

impl Keeper {
    /// One with the cluster's own secrets, or the reason why there are none: it is said when one is asked for.
    pub fn new(own: Result<Secrets, String>, identities: Identities) -> Self {
        Self { own, identities, found: false, sops: Mutex::default() }
    }

    /// One that gives the founding word although the cluster is known to exist.
    #[must_use]
    pub fn with_founding(self, found: bool) -> Self {
        Self { found, ..self }
    }

    fn secrets(&self) -> Result<&Secrets, String> {
        self.own.as_ref().map_err(Clone::clone)
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
            Secret::Stored(name) => said(self.secrets()?.get(name)).map(|secret| secret.expose().to_owned()),
            Secret::Sops { file, key } => {
                let mut read = self.sops.lock().unwrap_or_else(PoisonError::into_inner);
                if !read.contains_key(file) {
                    read.insert(file.clone(), said(sops::File::open(file, &self.identities))?);
                }
                let Some(open) = read.get(file) else {
                    return Err(format!("{} was not read", file.display()));
                };
                said(open.get(key)).map(|secret| secret.expose().to_owned())
            }
        }
    }

    fn own(&self, name: &str, node: &str) -> Result<Option<String>, String> {
        let secrets = self.secrets()?;
        let text = match name {
            "server_token" => said(secrets.server_token())?.expose().to_owned(),
            "agent_token" => said(secrets.agent_token())?.expose().to_owned(),
            "server_token_secret" => secrets.server_token_secret().expose().to_owned(),
            "agent_token_secret" => secrets.agent_token_secret().expose().to_owned(),
            "service_key" => secrets.service_key().expose().to_owned(),
            "node_password" => said(secrets.node(node))?.password().expose().to_owned(),
            "ssh_host_key" => said(secrets.node(node))?.ssh_host_key().expose().to_owned(),
            name => match name.strip_suffix("_key").and_then(authority) {
                Some(authority) => said(secrets.authority_key(authority))?.expose().to_owned(),
                None => return Ok(None),
            },
        };
        Ok(Some(text))
    }

    fn public(&self, name: &str, node: &str) -> Result<Option<String>, String> {
        let secrets = self.secrets()?;
        let text = match name {
            "server_ca_sha256" => {
                let bundle = said(secrets.certificate(Authority::Server))?;
                said(bundle_hash(bundle, "server-ca"))?.to_string()
            }
            // Whether a cluster may begin: `true` or `false`.
            "founding" => (self.found || secrets.founded().is_none()).to_string(),
            // How many servers there were when it was founded; `0` when that is not known.
            "founded_servers" => secrets.founded().map_or(0, |founded| founded.servers).to_string(),
            "made" => secrets.made().to_string(),
            "ssh_host_key" => said(secrets.node(node))?.ssh_host_key_public().to_owned(),
            name => match authority(name) {
                Some(authority) => said(secrets.certificate(authority))?.to_owned(),
                None => return Ok(None),
            },
        };
        Ok(Some(text))
    }

    fn digest(&self, bytes: &[u8]) -> String {
        self.keyed(bytes).unwrap_or_else(|| Sha256::of(bytes).to_string())
    }

    fn keyed(&self, bytes: &[u8]) -> Option<String> {
        self.own.as_ref().ok().map(|secrets| secrets.keyed_digest(bytes))
    }
}

fn said<T, E: std::fmt::Display>(result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

/// `server_ca`, `client_ca`, `request_header_ca`, `etcd_server_ca`, `etcd_peer_ca`.
fn authority(name: &str) -> Option<Authority> {
    Authority::ALL.into_iter().find(|authority| authority.name().replace('-', "_") == name)
}

/// A file that holds a secret and nothing else. A line break at its end is an editor's, and goes.
fn file(path: &Path) -> Result<String, String> {
    let said = |reason: String| format!("{}: {reason}", path.display());
    let meta = fs::metadata(path).map_err(|error| said(error.to_string()))?;
    if !meta.is_file() || meta.len() > MOST {
        return Err(said("it is no file of at most 1 MiB".to_owned()));
    }
    let mut text = fs::read_to_string(path).map_err(|error| said(error.to_string()))?;
    let bare = text.trim_end_matches(['\r', '\n']);
    if bare.lines().count() == 1 {
        text.truncate(bare.len());
    }
    if text.is_empty() { Err(said("it is empty".to_owned())) } else { Ok(text) }
}
