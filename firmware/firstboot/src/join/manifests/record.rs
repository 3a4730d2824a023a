//! What was made, as the cluster has it: a ConfigMap with an entry for each object, and a Secret with the key of the digests in
//! it. Several servers may write it at once.

use super::api::{Api, Put, Resource};
use crate::join::words::{Cause, Trouble};
use crate::sys;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kiln_contract::manifest::{Identity, Marker, RECORD, Recorded, Said};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const TRIES: usize = 8;

/// An entry: which manifest said it, which server made it last, under which key, and the digests.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    manifest: String,
    node: String,
    key: String,
    fields: String,
}

/// The record.
pub(super) struct Record {
    marker: Marker,
    /// The ConfigMap as it was read; nothing while there is none.
    map: Option<Value>,
    /// What is to be written.
    news: BTreeMap<String, String>,
}

/// What the record has of an object.
pub(super) enum Known {
    No,
    Unreadable,
    Said(Said),
}

impl Known {
    pub(super) fn recorded(&self) -> Recorded<'_> {
        match self {
            Self::No => Recorded::No,
            Self::Unreadable => Recorded::Unreadable,
            Self::Said(said) => Recorded::Said(said),
        }
    }
}

fn identity(kind: &str) -> Identity {
    let (namespace, name) = RECORD;
    Identity {
        api_version: "v1".to_owned(),
        kind: kind.to_owned(),
        namespace: Some(namespace.to_owned()),
        name: name.to_owned(),
    }
}

fn object(kind: &str, data: &Value) -> Value {
    let (namespace, name) = RECORD;
    let labels = json!({ "app.kubernetes.io/managed-by": "kiln" });
    json!({ "apiVersion": "v1", "kind": kind, "data": data,
        "metadata": { "name": name, "namespace": namespace, "labels": labels } })
}

fn map() -> (Resource, Identity) {
    (Resource::core("configmaps"), identity("ConfigMap"))
}

impl Record {
    /// Reads it, and makes the key where there is none.
    pub(super) fn open(api: &Api) -> Result<Self, Trouble> {
        let marker = Marker::new(&key(api)?);
        let (resource, identity) = map();
        Ok(Self { marker, map: api.get(&resource, &identity)?, news: BTreeMap::new() })
    }

    pub(super) fn marker(&self) -> &Marker {
        &self.marker
    }

    /// How many entries are not written yet.
    pub(super) fn news(&self) -> usize {
        self.news.len()
    }

    fn text(&self, key: &str) -> Option<&str> {
        let kept = || self.map.as_ref().and_then(|map| map["data"][key].as_str());
        self.news.get(key).map(String::as_str).or_else(kept)
    }

    pub(super) fn of(&self, identity: &Identity) -> Known {
        let Some(text) = self.text(&identity.key()) else { return Known::No };
        let entry = serde_json::from_str::<Entry>(text).ok().filter(|entry| entry.key == self.marker.name());
        let bytes = entry.and_then(|entry| STANDARD.decode(entry.fields).ok());
        bytes.and_then(|bytes| Said::from_bytes(&bytes)).map_or(Known::Unreadable, Known::Said)
    }

    /// Notes what was said of an object; it is written with [`Self::keep`]. Whoever made it last stays named while nothing is
    /// said anew.
    pub(super) fn note(&mut self, identity: &Identity, (manifest, node): (&str, &str), said: &Said) {
        if matches!(self.of(identity), Known::Said(known) if known == *said) {
            return;
        }
        let entry = Entry {
            manifest: manifest.to_owned(),
            node: node.to_owned(),
            key: self.marker.name(),
            fields: STANDARD.encode(said.to_bytes()),
        };
        self.news.insert(identity.key(), serde_json::to_string(&entry).unwrap_or_default());
    }

    /// Writes what was noted, over what others have written meanwhile.
    pub(super) fn keep(&mut self, api: &Api) -> Result<(), Trouble> {
        if self.news.is_empty() {
            return Ok(());
        }
        let (resource, identity) = map();
        for _ in 0..TRIES {
            let put = match &self.map {
                None => api.create(&resource, &identity, &object("ConfigMap", &json!(self.news)))?,
                Some(map) => {
                    let mut map = map.clone();
                    for (key, text) in &self.news {
                        map["data"][key] = text.as_str().into();
                    }
                    api.replace(&resource, &identity, &map)?
                }
            };
            match put {
                Put::Done(map) => {
                    self.map = Some(map);
                    self.news.clear();
                    return Ok(());
                }
                Put::Conflict => self.map = api.get(&resource, &identity)?,
                Put::Refused(status, _) => return Err(refused(&identity, status)),
            }
        }
        Err(Trouble::new(Cause::NotTaken, format!("{identity}: others write it all the time")))
    }
}

fn refused(identity: &Identity, status: u16) -> Trouble {
    Trouble::new(Cause::NotTaken, format!("{identity} ({status})"))
}

/// The key, which one server makes.
fn key(api: &Api) -> Result<Vec<u8>, Trouble> {
    let (resource, identity) = (Resource::core("secrets"), identity("Secret"));
    for _ in 0..TRIES {
        if let Some(secret) = api.get(&resource, &identity)? {
            let key = secret["data"]["key"].as_str().and_then(|text| STANDARD.decode(text).ok());
            let fault = || {
                Trouble::new(
                    Cause::NotTaken,
                    format!("{identity}: it has no key; delete it, and a new one is made"),
                )
            };
            return key.filter(|key| key.len() >= 16).ok_or_else(fault);
        }
        let mut bytes = [0; 32];
        sys::random(&mut bytes)
            .map_err(|error| Trouble::new(Cause::NotTaken, format!("{identity}: {error}")))?;
        match api.create(
            &resource,
            &identity,
            &object("Secret", &json!({ "key": STANDARD.encode(bytes) })),
        )? {
            Put::Done(_) => return Ok(bytes.to_vec()),
            Put::Conflict => {}
            Put::Refused(status, _) => return Err(refused(&identity, status)),
        }
    }
    Err(Trouble::new(Cause::NotTaken, format!("{identity}: it comes and goes")))
}
