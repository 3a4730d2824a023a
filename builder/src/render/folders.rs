//! The folders of overlays that not everybody may look into. cloud-init makes the folders of what it writes with mode 0755.

use super::context::{Vault, View};
use super::{Error, template};
use crate::cluster::{Cluster, Node, Quoting};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Commands that make the folders of all overlays of `node`, or set their modes: one for each mode, outer folders first.
pub(super) fn commands(
    cluster: &Cluster,
    node: &Node,
    vault: &Arc<dyn Vault>,
) -> Result<Vec<Vec<String>>, Error> {
    let view = View::new(cluster, node, vault);
    let environment = template::environment(Quoting::None);
    let mut modes: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for layer in &node.overlays {
        for folder in &layer.folders {
            let wanted = match &folder.when {
                None => true,
                Some(when) => {
                    let asked = environment
                        .compile_expression(when)
                        .and_then(|asked| asked.eval(view.values(&layer.settings)));
                    let name = format!("`when` of {} of the overlay {}", folder.path, layer.name);
                    asked.map_err(|error| template::in_template(&name, &error))?.is_true()
                }
            };
            if wanted {
                modes.entry(folder.mode).or_default().push(folder.path.clone());
            }
        }
    }
    let command = |(mode, mut paths): (u16, Vec<String>)| {
        paths.sort();
        paths.dedup();
        let words = ["install", "-d", "-m", &format!("{mode:04o}"), "--"].map(str::to_owned);
        [&words[..], &paths[..]].concat()
    };
    Ok(modes.into_iter().map(command).collect())
}
