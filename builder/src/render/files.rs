//! The files that overlays have in a node's seed.

use super::context::{Vault, View};
use super::{Error, overlay, template};
use crate::cluster::{Cluster, Node, Overlay, SeedFile};
use minijinja::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
    for layer in node.overlays.iter().filter(|layer| !layer.seed.is_empty()) {
        let others = overlay::read(layer).map_err(|error| Error::Overlay(error.to_string()))?.others;
        for wanted in &layer.seed {
            let view = View { cluster, node, vault, secret: Arc::new(AtomicBool::new(false)) };
            if let Some(file) = file(&view, layer, (wanted, &others))? {
                files.insert(file.path.clone(), file);
            }
        }
    }
    Ok(files.into_values().collect())
}

fn file(
    view: &View<'_>,
    layer: &Overlay,
    (wanted, others): (&SeedFile, &BTreeMap<String, Vec<u8>>),
) -> Result<Option<File>, Error> {
    let name = |path: &str| format!("{path} of the overlay {}", layer.name);
    let fault =
        |path: &str, reason: &str| Error::Template { name: name(path), line: 0, reason: reason.to_owned() };
    let mut environment = template::environment(wanted.quoting);
    let values: Value = view.values(&layer.settings);
    if let Some(when) = &wanted.when {
        let asked = environment.compile_expression(when).and_then(|expression| expression.eval(&values));
        match asked {
            Ok(answer) if !answer.is_true() => return Ok(None),
            Ok(_) => {}
            Err(error) => {
                return Err(template::in_template(&name(&format!("`when` of {}", wanted.path)), &error));
            }
        }
    }
    for (path, bytes) in others.iter().filter(|(path, _)| path.ends_with(".j2")) {
        let text = std::str::from_utf8(bytes).map_err(|_| fault(path, "it is not UTF-8 text"))?;
        environment
            .add_template_owned(path.clone(), text.to_owned())
            .map_err(|error| template::in_template(&name(path), &error))?;
    }
    if environment.get_template(&wanted.template).is_err() {
        return Err(fault(&wanted.template, "there is no such file in the overlay's folder"));
    }
    let text = template::rendered(&environment, &wanted.template, values).map_err(|error| match error {
        Error::Template { name: path, line, reason } => Error::Template { name: name(&path), line, reason },
        error => error,
    })?;
    let secret = view.secret.load(Ordering::Relaxed);
    let mode = wanted.mode.unwrap_or(if secret { MODES.0 } else { MODES.1 });
    if secret && mode & 0o077 != 0 {
        return Err(fault(
            &wanted.template,
            "it prints a secret, and others than root could read the file: leave out `mode`",
        ));
    }
    Ok(Some(File { path: wanted.path.clone(), mode, text, secret }))
}
