//! `user_data`: the user's own files for cloud-init.

use super::Check;
use super::base::PathIs;
use crate::cluster::read::Text;
use crate::cluster::user_data::{Content, MAX_BYTES, NotYaml, PACKAGES, UserData, Yaml, parse};
use crate::diag::Fault;

/// Keys that Kiln answers for, and where the cluster file has them.
const OWNED: [(&str, &str); 10] = [
    ("hostname", "the node's `name` is its host name"),
    ("fqdn", "it is made of the node's `name` and `cluster.domain`"),
    ("preserve_hostname", "the node's `name` is its host name"),
    ("growpart", "the first boot makes the partitions; `disks` says what for"),
    ("resize_rootfs", "the root has the size that `base.root_size` says"),
    ("disk_setup", "write what disks are for below `disks`"),
    ("fs_setup", "write what disks are for below `disks`"),
    ("cloud_init_modules", "Kiln runs the modules that the file's keys need"),
    ("cloud_config_modules", "Kiln runs the modules that the file's keys need"),
    ("cloud_final_modules", "Kiln runs the modules that the file's keys need"),
];

/// First lines of files that cloud-init takes and Kiln does not.
const OTHERS: [&str; 5] =
    ["## template: jinja", "#cloud-config-archive", "#include", "#part-handler", "content-type:"];

impl Check<'_> {
    /// The file, read. A folder that is not looked at has none.
    pub(super) fn user_data(&mut self, text: Option<&Text>) -> Option<UserData> {
        let text = text?;
        let path = self.path(text, "user-data", PathIs::File)?;
        let mut fail = |message: String, help: &str| {
            let fault = Fault::error("user-data", &text.span, format!("{}: {message}", path.display()));
            self.faults.push(fault.label("this file").help(help));
        };
        let read = match std::fs::metadata(&path) {
            Ok(meta) if meta.len() > MAX_BYTES => {
                fail(
                    format!("it has {} bytes, more than {MAX_BYTES}", meta.len()),
                    "fetch large files from elsewhere",
                );
                return None;
            }
            Ok(_) => std::fs::read(&path),
            Err(error) => Err(error),
        };
        let source = match read.map(String::from_utf8) {
            Ok(Ok(source)) => source,
            Ok(Err(_)) => {
                fail("it is not UTF-8 text".to_owned(), "save it as UTF-8");
                return None;
            }
            Err(error) => {
                fail(error.to_string(), "`user_data` names a file that can be read");
                return None;
            }
        };
        let first = source.lines().next().unwrap_or_default().trim_end();
        let forms = "Kiln takes a file that begins with `#cloud-config`, a script (`#!/bin/sh`) and `#cloud-boothook`";
        let content = match first {
            _ if first.starts_with("#!") => Content::Script(source),
            "#cloud-boothook" => Content::Boothook(source),
            "#cloud-config" => match parse(&source) {
                Ok(Yaml::Map(entries)) => {
                    self.keys(&entries, text, &path.display().to_string());
                    Content::CloudConfig(entries)
                }
                Ok(Yaml::Plain(empty)) if empty.is_empty() => Content::CloudConfig(Vec::new()),
                Ok(_) => {
                    fail(
                        "it is not a mapping".to_owned(),
                        "a cloud-config is a mapping of keys such as `runcmd:`",
                    );
                    return None;
                }
                Err(NotYaml { line, reason }) => {
                    fail(
                        format!("line {line}: {reason}"),
                        "`cloud-init schema --config-file` checks such files",
                    );
                    return None;
                }
            },
            _ => {
                let known = OTHERS.iter().find(|other| first.to_ascii_lowercase().starts_with(*other));
                let message = known.map_or_else(
                    || "its first line does not say what it is".to_owned(),
                    |known| format!("files that begin with `{known}` are not merged"),
                );
                fail(message, forms);
                return None;
            }
        };
        Some(UserData { path, content })
    }

    fn keys(&mut self, entries: &[(Yaml, Yaml)], text: &Text, path: &str) {
        for key in entries.iter().filter_map(|(key, _)| key.scalar()) {
            if let Some((_, help)) = OWNED.iter().find(|(owned, _)| *owned == key) {
                let message = format!("{path}: `{key}` is Kiln's own");
                self.faults
                    .push(Fault::error("user-data", &text.span, message).label("this file").help(*help));
            }
            if PACKAGES.contains(&key) {
                let message = format!(
                    "{path}: `{key}` is for stock images only: the root of a Kiln image is read-only"
                );
                let help =
                    "name packages in `base.packages`, or in `packages` of a node; the image then has them";
                self.faults
                    .push(Fault::warning("user-data", &text.span, message).label("this file").help(help));
            }
        }
    }
}
