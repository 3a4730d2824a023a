//! The files that overlays have in a node's seed.

use super::context::{NoVault, Vault, View};
use super::{Error, manifests, overlay, template};
use crate::cluster::{Cluster, Node, Overlay, Quoting, Role, SeedFile};
use minijinja::{Environment, Value, context};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Permission bits of a file with a secret in it, and of one without.
const MODES: (u16, u16) = (0o600, 0o644);

/// A file that cloud-init writes on the node.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Absolute path.
    pub path: String,
    /// Permission bits; its owner is root.
    pub mode: u16,
    /// Its text.
    pub text: String,
    /// A secret is in it.
    pub secret: bool,
}

/// What is in it is nobody's business.
impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:04o}, {} bytes", self.path, self.mode, self.text.len())
    }
}

/// The files of all overlays of `node`, in the order of their paths; of two with one path, that of the later overlay.
pub fn files(cluster: &Cluster, node: &Node, vault: &Arc<dyn Vault>) -> Result<Vec<File>, Error> {
    let mut files = BTreeMap::new();
    let view = View::new(cluster, node, vault);
    for layer in node.overlays.iter().filter(|layer| !layer.seed.is_empty()) {
        let others = overlay::read(layer).map_err(|error| Error::Overlay(error.to_string()))?.others;
        let values = view.values(&layer.settings);
        for wanted in &layer.seed {
            let made = Making::new(layer, wanted, &others)?.all(&view, &values)?;
            files.extend(made.into_iter().map(|file| (file.path.clone(), file)));
        }
    }
    let server = node.role == Role::Server && node.overlay("k3s").is_some();
    let overlays = node.overlays.iter().map(|layer| layer.name.as_str());
    manifests::arranged(files.into_values().collect(), server.then(|| manifests::withdrawn(overlays)))
}

/// The paths of the same files, each with the name of its overlay. No template is rendered, so no secret is asked for.
pub(super) fn paths(cluster: &Cluster, node: &Node) -> Result<Vec<(String, String)>, Error> {
    let vault: Arc<dyn Vault> = Arc::new(NoVault);
    let view = View::new(cluster, node, &vault);
    let mut paths = Vec::new();
    for layer in node.overlays.iter().filter(|layer| !layer.seed.is_empty()) {
        let others = overlay::read(layer).map_err(|error| Error::Overlay(error.to_string()))?.others;
        let values = view.values(&layer.settings);
        for wanted in &layer.seed {
            let making = Making::new(layer, wanted, &others)?;
            for item in making.items(&values)? {
                if making.is_wanted(&item)? {
                    paths.push((layer.name.clone(), making.place(&item)?));
                }
            }
        }
    }
    Ok(paths)
}

/// A file, or one for each entry of a list, in the making.
struct Making<'a> {
    layer: &'a Overlay,
    wanted: &'a SeedFile,
    environment: Environment<'static>,
}

impl<'a> Making<'a> {
    fn new(
        layer: &'a Overlay,
        wanted: &'a SeedFile,
        others: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Self, Error> {
        let mut making = Self { layer, wanted, environment: template::environment(wanted.quoting) };
        for (path, bytes) in others.iter().filter(|(path, _)| path.ends_with(".j2")) {
            let text = std::str::from_utf8(bytes)
                .map_err(|_| making.fault(path, "it is not UTF-8 text"))?
                .to_owned();
            let added = making.environment.add_template_owned(path.clone(), text);
            added.map_err(|error| template::in_template(&making.name(path), &error))?;
        }
        if making.environment.get_template(&wanted.template).is_err() {
            return Err(making.fault(&wanted.template, "there is no such file in the overlay's folder"));
        }
        Ok(making)
    }

    fn name(&self, path: &str) -> String {
        format!("{path} of the overlay {}", self.layer.name)
    }

    fn fault(&self, path: &str, reason: &str) -> Error {
        Error::Template { name: self.name(path), line: 0, reason: reason.to_owned() }
    }

    fn all(&self, view: &View<'_>, values: &Value) -> Result<Vec<File>, Error> {
        view.secret.store(false, Ordering::Relaxed);
        let items = self.items(values)?;
        // What an entry is made of is a secret in all that is made of the entry, whoever printed it.
        let secret = view.secret.load(Ordering::Relaxed);
        let files = items.into_iter().map(|values| self.one((view, secret), values));
        files.filter_map(Result::transpose).collect()
    }

    /// What each of its files sees.
    fn items(&self, values: &Value) -> Result<Vec<Value>, Error> {
        let Some(each) = &self.wanted.each else { return Ok(vec![values.clone()]) };
        let items = self.asked("each", each, values)?;
        let items = items.try_iter().map_err(|_| {
            self.fault(&format!("`each` of {}", self.wanted.path), "what it asks for is not a list")
        })?;
        Ok(items.map(|item| context! { item, ..values.clone() }).collect())
    }

    /// Whether the node gets it.
    fn is_wanted(&self, values: &Value) -> Result<bool, Error> {
        let Some(when) = &self.wanted.when else { return Ok(true) };
        Ok(self.asked("when", when, values)?.is_true())
    }

    /// Where it goes.
    fn place(&self, values: &Value) -> Result<String, Error> {
        if self.wanted.each.is_some() { self.path(values) } else { Ok(self.wanted.path.clone()) }
    }

    /// What an expression of the overlay's document gives.
    fn asked(&self, key: &str, expression: &str, values: &Value) -> Result<Value, Error> {
        let compiled = self.environment.compile_expression(expression);
        compiled.and_then(|compiled| compiled.eval(values)).map_err(|error| {
            template::in_template(&self.name(&format!("`{key}` of {}", self.wanted.path)), &error)
        })
    }

    /// A file; `secret`: a secret is in `values` as plain text.
    fn one(&self, (view, secret): (&View<'_>, bool), values: Value) -> Result<Option<File>, Error> {
        let wanted = self.wanted;
        // Of this file alone: another may have printed one.
        view.secret.store(secret, Ordering::Relaxed);
        if !self.is_wanted(&values)? {
            return Ok(None);
        }
        let path = self.place(&values)?;
        if wanted.each.is_some() && view.secret.load(Ordering::Relaxed) && !secret {
            let reason = "its `path` or `when` prints a secret, and names of files are seen by everybody";
            return Err(self.fault(&wanted.path, reason));
        }
        let text = template::rendered(&self.environment, &wanted.template, values);
        let text = text.map_err(|error| match error {
            Error::Template { name: path, line, reason } => {
                Error::Template { name: self.name(&path), line, reason }
            }
            error => error,
        })?;
        let secret = view.secret.load(Ordering::Relaxed);
        let mode = wanted.mode.unwrap_or(if secret { MODES.0 } else { MODES.1 });
        if secret && mode & 0o077 != 0 {
            return Err(self.fault(
                &wanted.template,
                "it prints a secret, and others than root could read the file: leave out `mode`",
            ));
        }
        Ok(Some(File { path, mode, text, secret }))
    }

    /// The path of an entry's file. What the entry brings is part of a name, and never another folder.
    fn path(&self, values: &Value) -> Result<String, Error> {
        let template = &self.wanted.path;
        let path = template::environment(Quoting::None)
            .render_str(template, values)
            .map_err(|error| template::in_template(&self.name(template), &error))?;
        let slashes = |text: &str| text.bytes().filter(|byte| *byte == b'/').count();
        let plain = |part: &str| !matches!(part, "" | "." | "..");
        if slashes(&path) != slashes(template) || !path.split('/').skip(1).all(plain) {
            return Err(self.fault(template, &format!("{path:?} is not the path of a file there")));
        }
        Ok(path)
    }
}
