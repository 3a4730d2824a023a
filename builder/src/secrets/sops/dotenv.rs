//! dotenv: a line a value, and the `sops` section flattened into keys that begin with `sops_` (getsops/sops,
//! stores/flatten.go).

use super::tree::{Kind, Tree};
use std::collections::BTreeMap;

const PREFIX: &str = "sops_";

/// True when a line of `text` is the digest of a dotenv file.
pub(super) fn is_dotenv(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("sops_mac="))
}

/// The values, and the `sops` section.
pub(super) fn parse(text: &str) -> Result<(Tree, Tree), String> {
    let mut values = Vec::new();
    let mut section = Vec::new();
    let mut recipients: BTreeMap<usize, Vec<(String, Tree)>> = BTreeMap::new();
    // Only a line feed ends a line: a value may hold a carriage return.
    for (number, line) in text.split('\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        if line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once('=').ok_or_else(|| format!("line {} has no `=`", number + 1))?;
        let tree = Tree::scalar(Kind::Text, value.replace("\\n", "\n"));
        let Some(key) = key.strip_prefix(PREFIX) else {
            values.push((key.to_owned(), tree));
            continue;
        };
        let recipient = key
            .strip_prefix("age__list_")
            .and_then(|rest| rest.split_once("__map_"))
            .and_then(|(index, field)| Some((index.parse::<usize>().ok()?, field)));
        match recipient {
            Some((index, field)) => {
                recipients.entry(index).or_default().push((field.to_owned(), tree));
            }
            None => section.push((key.to_owned(), tree)),
        }
    }
    section.push(("age".to_owned(), Tree::List(recipients.into_values().map(Tree::Map).collect())));
    Ok((Tree::Map(values), Tree::Map(section)))
}
