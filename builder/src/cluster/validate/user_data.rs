//! `user_data`: the user's own files for cloud-init.

mod around;
mod values;

use super::Check;
use super::base::PathIs;
use crate::cluster::read::Text;
use crate::cluster::user_data::{
    Content, MAX_BYTES, NotYaml, OTHERS, PACKAGES, UserData, Yaml, parse, read_keys,
};
use crate::diag::{Fault, Span, nearest};
use std::sync::Arc;

pub(super) use around::{Around, accounts, groups, placed};

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

/// Keys that a read-only root can't obey, why, and what stands for them.
const ELSEWHERE: [(&str, &str, &str); 8] = [
    (
        "mounts",
        READ_ONLY,
        "write them below `cluster` or the node: `mounts: [{ source: \"192.168.1.2:/vol\", mount_point: /mnt/nas }]`",
    ),
    ("mount_default_fields", READ_ONLY, "write `options` of each entry of the cluster file's own `mounts`"),
    ("swap", READ_ONLY, "write `disks: { system: { swap: 2GiB } }`, or `memory: { zram: 50% }`"),
    (
        "ssh_import_id",
        "asks GitHub or Launchpad when the node boots",
        "write `ssh_keys: [github:NAME]` of a user: `kiln lock` asks once and keeps the answer",
    ),
    (
        "locale",
        "makes the locale on the node, whose root is read-only",
        "write it below `cluster` or the node: `locale: de_DE.UTF-8`; the image then has it",
    ),
    (
        "locale_configfile",
        "is of the module that makes the locale on the node, whose root is read-only",
        "write `locale: de_DE.UTF-8` below `cluster` or the node; the image then has it",
    ),
    (
        "keyboard",
        "is for a root that can be written to",
        "write it below `cluster` or the node: `keyboard: de`, or `keyboard: { layout: us, variant: intl }`",
    ),
    ("ca-certs", "is the old name of `ca_certs`", "write `ca_certs`"),
];
const READ_ONLY: &str = "makes folders or files on the root, which is read-only";

/// First lines of files that cloud-init takes and Kiln does not.
const FORMS: [&str; 5] =
    ["## template: jinja", "#cloud-config-archive", "#include", "#part-handler", "content-type:"];

impl Check<'_> {
    /// The file, read. A folder that is not looked at has none.
    pub(super) fn user_data(&mut self, text: Option<&Text>) -> Option<Arc<UserData>> {
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
                let known = FORMS.iter().find(|other| first.to_ascii_lowercase().starts_with(*other));
                let message = known.map_or_else(
                    || "its first line does not say what it is".to_owned(),
                    |known| format!("files that begin with `{known}` are not merged"),
                );
                fail(message, forms);
                return None;
            }
        };
        Some(Arc::new(UserData { path, content }))
    }

    fn keys(&mut self, entries: &[(Yaml, Yaml)], text: &Text, path: &str) {
        let mut said = Said { faults: self.faults, path, span: &text.span };
        for key in entries.iter().filter_map(|(key, _)| key.scalar()) {
            if let Some((_, help)) = OWNED.iter().find(|(owned, _)| *owned == key) {
                said.error(format!("`{key}` is Kiln's own"), *help);
            } else if let Some((_, reason, help)) = ELSEWHERE.iter().find(|(known, ..)| *known == key) {
                said.error(format!("`{key}` {reason}"), *help);
            } else if PACKAGES.contains(&key) {
                said.warning(
                    format!("`{key}` is for stock images only: the root of a Kiln image is read-only"),
                    "name packages in `base.packages`, or in `packages` of a node; the image then has them",
                );
            } else if OTHERS.contains(&key) {
                said.warning(
                    format!("`{key}` is for stock images only: a Kiln image runs no module of cloud-init that reads it"),
                    "write files and commands instead (`write_files`, `runcmd`)",
                );
            } else if !read_keys().any(|read| read == key) {
                let near = nearest(key, read_keys());
                let help = near.map_or_else(
                    || "cloud-init ignores it: remove it".to_owned(),
                    |near| format!("did you mean `{near}`?"),
                );
                said.error(format!("cloud-init has no key `{key}`"), help);
            }
        }
        values::all(entries, &mut said);
    }
}

/// What is said of a file of the user's own: its entries have no place in the cluster file, so the words name them.
struct Said<'a> {
    faults: &'a mut Vec<Fault>,
    path: &'a str,
    span: &'a Span,
}

impl Said<'_> {
    fn error(&mut self, message: String, help: impl Into<String>) {
        let fault = Fault::error("user-data", self.span, format!("{}: {message}", self.path));
        self.faults.push(fault.label("this file").help(help));
    }
    fn warning(&mut self, message: String, help: impl Into<String>) {
        let fault = Fault::warning("user-data", self.span, format!("{}: {message}", self.path));
        self.faults.push(fault.label("this file").help(help));
    }
}
