//! What overlays that are not Kiln's own ask for: whoever uses somebody's overlay sees what it brings and what it is given.

use crate::cluster::settings::{Setting, SettingValue};
use crate::cluster::{Cluster, Overlay};
use crate::render::{self, overlay};
use kiln_formats::tree::Kind;
use std::collections::{BTreeMap, BTreeSet};

/// Lines for people, of every such overlay once.
pub(super) fn lines(cluster: &Cluster) -> Result<Vec<String>, render::Error> {
    let mut all: BTreeMap<&str, BTreeMap<&str, BTreeSet<String>>> = BTreeMap::new();
    let foreign = |overlay: &&Overlay| overlay.folder.is_some();
    for node in &cluster.nodes {
        for overlay in node.overlays.iter().filter(foreign) {
            let said = all.entry(&overlay.name).or_default();
            for (what, words) in asked(overlay)? {
                said.entry(what).or_default().extend(words);
            }
        }
        for artefact in render::artefacts(cluster, node)? {
            if let Some(said) = all.get_mut(artefact.overlay.as_str()) {
                let word = format!("{} from {}", artefact.path, artefact.url);
                said.entry("artefacts").or_default().insert(word);
            }
        }
    }
    let mut lines = Vec::new();
    for (name, said) in all {
        let said: Vec<_> = said.into_iter().filter(|(_, words)| !words.is_empty()).collect();
        if said.is_empty() {
            lines.push(format!("the overlay {name} asks for nothing"));
            continue;
        }
        lines.push(format!("the overlay {name} asks for"));
        for (what, words) in said {
            lines.push(format!("  {what}: {}", words.into_iter().collect::<Vec<_>>().join(", ")));
        }
    }
    Ok(lines)
}

fn asked(overlay: &Overlay) -> Result<Vec<(&'static str, Vec<String>)>, render::Error> {
    let read = overlay::read(overlay).map_err(|error| render::Error::Overlay(error.to_string()))?;
    let files = read.files.iter().filter(|(_, entry)| !matches!(entry.kind, Kind::Directory));
    let mut secrets = Vec::new();
    for (name, setting) in &overlay.settings {
        places(name, setting, &mut secrets);
    }
    Ok(vec![
        ("packages", overlay.packages.iter().cloned().collect()),
        ("modules", overlay.modules.iter().cloned().collect()),
        ("units", overlay.enable.iter().cloned().collect()),
        (
            "files of the image",
            files.map(|(path, _)| format!("/{}", String::from_utf8_lossy(path))).collect(),
        ),
        ("files of the seed", overlay.seed.iter().map(|file| file.path.clone()).collect()),
        ("secrets", secrets),
    ])
}

/// Where secrets are that the cluster file gives to a setting, by the setting's name; never what they are.
fn places(name: &str, setting: &Setting, found: &mut Vec<String>) {
    match &setting.value {
        SettingValue::Secret(secret) => found.push(format!("{name} ({secret:?})")),
        SettingValue::List(items) => items.iter().for_each(|item| places(name, item, found)),
        SettingValue::Map(entries) => {
            entries.iter().for_each(|(key, value)| places(&format!("{name}.{key}"), value, found));
        }
        _ => {}
    }
}
