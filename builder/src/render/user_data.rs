//! The user's own files for cloud-init in Kiln's user-data: merged here, so that what cloud-init reads is one document that
//! can be looked at and checked.

use super::Error;
use super::yaml::{merge, print};
use crate::cluster::Node;
use crate::cluster::user_data::{Content, MODULES, PACKAGES, UserData, Yaml, parse, read_keys};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeSet;

/// Whether a Kiln image obeys the user's own files.
pub fn check(node: &Node) -> Result<(), Error> {
    modules(node, false).map(drop)
}

/// The modules that a node of a Kiln image runs, by stage. `boot`: Kiln has commands of its own for every boot.
pub(super) fn modules(node: &Node, boot: bool) -> Result<[Vec<&'static str>; 3], Error> {
    let mut keys: BTreeSet<&str> = boot.then_some("bootcmd").into_iter().collect();
    let mut scripts = false;
    for data in &node.user_data {
        let Content::CloudConfig(entries) = &data.content else {
            scripts |= matches!(data.content, Content::Script(_));
            continue;
        };
        for key in entries.iter().filter_map(|(key, _)| key.scalar()) {
            let refused = if PACKAGES.contains(&key) {
                Some(
                    "the root of a Kiln image is read-only: name packages in `base.packages`, or in `packages` of the node",
                )
            } else if read_keys().any(|read| read == key) {
                None
            } else {
                Some(
                    "a Kiln image runs no module of cloud-init that reads it: write files and commands instead",
                )
            };
            if let Some(reason) = refused {
                let (node, path) = (node.name.clone(), data.path.display().to_string());
                return Err(Error::UserData { node, path, reason: format!("`{key}`: {reason}") });
            }
            keys.insert(key);
        }
    }
    let wanted = |name: &str, of: &[&str]| {
        of.is_empty() || of.iter().any(|key| keys.contains(key)) || scripts && name == "scripts_user"
    };
    let of = |stage: usize| {
        let all = MODULES.iter().filter(|(at, name, of)| *at == stage && wanted(name, of));
        all.map(|(_, name, _)| *name).collect()
    };
    Ok([of(0), of(1), of(2)])
}

/// `own`, which is Kiln's, with the files of the node's user in it.
pub(super) fn with_own(node: &Node, own: String) -> Result<String, Error> {
    let configs = || {
        node.user_data.iter().filter_map(|data| match &data.content {
            Content::CloudConfig(entries) => Some((data, entries)),
            _ => None,
        })
    };
    let mut document = own;
    if let Some((first, _)) = configs().next() {
        let failed = |reason: String| Error::UserData {
            node: node.name.clone(),
            path: first.path.display().to_string(),
            reason,
        };
        let Ok(Yaml::Map(mut entries)) = parse(&document) else {
            return Err(failed("Kiln's own document is none: this is a fault of Kiln".to_owned()));
        };
        for (_, more) in configs() {
            merge(&mut entries, more);
        }
        document = format!("#cloud-config\n{}", print(&entries));
    }
    let parts: Vec<(&str, &str)> = node.user_data.iter().filter_map(|data| part(data)).collect();
    if parts.is_empty() {
        return Ok(document);
    }
    Ok(multipart(&[&[("cloud-config", document.as_str())], &parts[..]].concat()))
}

/// What stands beside the cloud-config: its type below `text/`, and its text.
fn part(data: &UserData) -> Option<(&str, &str)> {
    match &data.content {
        Content::CloudConfig(_) => None,
        Content::Script(text) => Some(("x-shellscript", text)),
        Content::Boothook(text) => Some(("cloud-boothook", text)),
    }
}

/// Several documents as one (RFC 2046 §5.1). What is not ASCII goes in Base64: readers of mail guess at anything else.
fn multipart(parts: &[(&str, &str)]) -> String {
    let mut boundary = "==kiln==".to_owned();
    while parts.iter().any(|(_, text)| text.contains(&boundary)) {
        boundary.push('=');
    }
    let mut mail = format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\nMIME-Version: 1.0\n");
    for (kind, text) in parts {
        let plain = text.is_ascii() && !text.contains('\r');
        let encoding = if plain { "7bit" } else { "base64" };
        mail += &format!(
            "\n--{boundary}\nContent-Type: text/{kind}; charset=\"utf-8\"\nMIME-Version: 1.0\n\
             Content-Transfer-Encoding: {encoding}\n\n"
        );
        if plain {
            mail += text;
        } else {
            let code = STANDARD.encode(text);
            let lines =
                code.as_bytes().chunks(76).map(|line| String::from_utf8_lossy(line).into_owned() + "\n");
            mail.extend(lines);
        }
    }
    mail + &format!("\n--{boundary}--\n")
}
