//! Artefacts: files that overlays fetch into images.

use super::Change;
use crate::digest::Sha256;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A file that an overlay fetches. It is found again by its name, architecture and address together: nodes with other
/// settings have other addresses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artefact {
    /// Name in the overlay's document.
    pub name: String,
    /// Debian's name of the architecture that it was rendered for: `amd64`, `arm64`.
    pub architecture: String,
    /// Where it is published.
    pub url: String,
    /// Size of the file in bytes.
    pub size: u64,
    /// Digest of the file.
    pub sha256: Sha256,
}

/// What differs, by architecture and name. Where one address takes the place of another, that is one change.
pub(super) fn changes(old: &[Artefact], new: &[Artefact]) -> Vec<Change> {
    type Named<'a> = BTreeMap<(&'a str, &'a str), BTreeMap<&'a str, Sha256>>;
    fn named(artefacts: &[Artefact]) -> Named<'_> {
        let mut named = Named::new();
        for artefact in artefacts {
            let addresses = named.entry((&artefact.architecture, &artefact.name)).or_default();
            addresses.insert(&artefact.url, artefact.sha256);
        }
        named
    }
    let (old, new, none) = (named(old), named(new), BTreeMap::new());
    let keys: BTreeSet<_> = old.keys().chain(new.keys()).copied().collect();
    let mut changes = Vec::new();
    for key in keys {
        let (old, new) = (old.get(&key).unwrap_or(&none), new.get(&key).unwrap_or(&none));
        let mut change = |from: Option<&str>, to: Option<&str>| {
            let (from, to) = (from.map(str::to_owned), to.map(str::to_owned));
            changes.push(Change { root: key.0.to_owned(), name: key.1.to_owned(), from, to });
        };
        for (url, _) in old.iter().filter(|(url, sha256)| new.get(*url).is_some_and(|new| new != *sha256)) {
            change(Some(url), Some(url));
        }
        let gone: Vec<&str> = old.keys().filter(|url| !new.contains_key(*url)).copied().collect();
        let come: Vec<&str> = new.keys().filter(|url| !old.contains_key(*url)).copied().collect();
        match (&gone[..], &come[..]) {
            ([from], [to]) => change(Some(from), Some(to)),
            _ => {
                gone.iter().for_each(|from| change(Some(from), None));
                come.iter().for_each(|to| change(None, Some(to)));
            }
        }
    }
    changes
}
