//! `sysctls`, `modules`, `hosts`, `ntp`, `mounts`, `directories` and `files`, of all nodes and of one.

use super::disks::mounts::MOUNT_POINT;
use super::overlays::MODULE;
use super::user_data::placed;
use super::{Check, DOMAIN, Rule};
use crate::cluster::file::{
    ClusterSection, FileSection, KeyboardItem, MountSection, Names, NodeSection, Word,
};
use crate::cluster::ip;
use crate::cluster::model::{Content, Machine, Mount, OwnFile};
use crate::cluster::read::Text;
use crate::cluster::settings::Reading;
use crate::cluster::tree::Value;
use crate::diag::{Fault, Span};
use std::collections::{BTreeMap, BTreeSet};

/// Largest file that `files` copies: all of a seed must fit on its volume.
const MOST_BYTES: u64 = 256 << 10;
/// File systems that are mounted, and whether their source is `server:/path`.
const FILE_SYSTEMS: [(&str, bool); 5] =
    [("9p", false), ("nfs", true), ("nfs4", true), ("tmpfs", false), ("virtiofs", false)];

/// Places that others write, whole folders with `/` at their end, and the way to say what is to be in them.
const KEPT: [(&str, &str); 18] = [
    ("/etc/group", "accounts and their groups are `users`"),
    ("/etc/gshadow", "accounts and their groups are `users`"),
    ("/etc/hostname", "the node's `name` is its host name"),
    ("/etc/hosts", "write `hosts: { 192.168.1.5: [nas] }`: cloud-init makes this file anew at each boot"),
    ("/etc/kiln/", "this folder is Kiln's own"),
    ("/etc/localtime", "write `time_zone: Europe/Berlin`"),
    ("/etc/machine-id", "it is made of the node's identity"),
    ("/etc/passwd", "accounts are `users`"),
    ("/etc/rancher/k3s/agent-token", "`kiln secrets` makes it"),
    (
        "/etc/rancher/k3s/config.yaml",
        "write keys below `cluster.k3s.server` and `agent`, or a file in /etc/rancher/k3s/config.yaml.d",
    ),
    ("/etc/rancher/k3s/config.yaml.d/95-kiln.yaml", "choose another name in this folder"),
    ("/etc/rancher/k3s/registries.yaml", "take the overlay `registry-mirrors`"),
    ("/etc/rancher/k3s/token", "`kiln secrets` makes it"),
    ("/etc/rancher/node/password", "`kiln secrets` makes it"),
    ("/etc/shadow", "passwords are `password_hash` of `users`"),
    ("/etc/timezone", "write `time_zone: Europe/Berlin`"),
    ("/run/", "it is in memory and empty at each boot: take a place below /etc or /var"),
    ("/var/lib/kiln/", "this folder is Kiln's own"),
];

const OPTION: Rule = Rule {
    check: option,
    what: "a mount option",
    code: "mounts",
    help: "write each option as an entry of its own, such as `ro`",
};

fn option(text: &str) -> Result<(), &'static str> {
    match text {
        "" => Err("it is empty"),
        _ if text.contains(',') => Err("it has a comma"),
        _ if !text
            .chars()
            .all(|c| c.is_ascii_graphic() && !matches!(c, '%' | '"' | '\'' | '\\' | '#' | ';')) =>
        {
            Err("it has a blank, a quote, `%`, `#`, `;` or a character outside ASCII")
        }
        _ => Ok(()),
    }
}

const SYSCTL: Rule = Rule {
    check: sysctl,
    what: "the name of a kernel parameter",
    code: "sysctl",
    help: "write it as `sysctl -a` does, such as `vm.max_map_count`",
};

fn sysctl(text: &str) -> Result<(), &'static str> {
    let part = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_*/".contains(c))
    };
    match text {
        _ if !text.contains('.') => Err("it has no dot"),
        _ if !text.split('.').all(part) => Err("it has an empty part or a character that none has"),
        _ => Ok(()),
    }
}

/// What the file says, of all nodes or of one.
pub(super) struct Written<'a> {
    sysctls: Option<&'a BTreeMap<String, (Span, Word)>>,
    modules: Option<&'a Vec<Text>>,
    hosts: Option<&'a BTreeMap<String, (Span, Names)>>,
    ntp: Option<&'a Vec<Text>>,
    mounts: Option<&'a Vec<MountSection>>,
    directories: Option<&'a Vec<Text>>,
    files: Option<&'a Vec<FileSection>>,
    locale: Option<&'a Text>,
    keyboard: Option<&'a KeyboardItem>,
}

impl<'a> Written<'a> {
    pub(super) fn cluster(section: &'a ClusterSection) -> Self {
        Self {
            sysctls: section.sysctls.as_ref(),
            modules: section.modules.as_ref(),
            hosts: section.hosts.as_ref(),
            ntp: section.ntp.as_ref(),
            mounts: section.mounts.as_ref(),
            directories: section.directories.as_ref(),
            files: section.files.as_ref(),
            locale: section.locale.as_ref(),
            keyboard: section.keyboard.as_ref(),
        }
    }
    pub(super) fn node(section: &'a NodeSection) -> Self {
        Self {
            sysctls: section.sysctls.as_ref(),
            modules: section.modules.as_ref(),
            hosts: section.hosts.as_ref(),
            ntp: section.ntp.as_ref(),
            mounts: section.mounts.as_ref(),
            directories: section.directories.as_ref(),
            files: section.files.as_ref(),
            locale: section.locale.as_ref(),
            keyboard: section.keyboard.as_ref(),
        }
    }
    /// Whether a node says any of it.
    pub(super) fn is_any(section: &NodeSection) -> bool {
        section.sysctls.is_some()
            || section.modules.is_some()
            || section.hosts.is_some()
            || section.ntp.is_some()
            || section.mounts.is_some()
            || section.directories.is_some()
            || section.files.is_some()
            || section.locale.is_some()
            || section.keyboard.is_some()
    }
}

impl Check<'_> {
    /// What `written` says, over what all nodes have.
    pub(super) fn machine(&mut self, written: Option<Written<'_>>, under: Option<&Machine>) -> Machine {
        let mut machine = under.cloned().unwrap_or_default();
        let Some(written) = written else { return machine };
        machine.locale = written.locale.and_then(|locale| self.locale(locale)).or(machine.locale);
        machine.keyboard = written.keyboard.and_then(|item| self.keyboard(item)).or(machine.keyboard);
        for (name, (span, Word(value))) in written.sysctls.into_iter().flatten() {
            let text = Text { value: name.clone(), span: span.clone() };
            let Some(name) = self.word(&text, SYSCTL) else { continue };
            if value.value.is_empty() || value.value.contains(char::is_control) {
                let fault =
                    Fault::error("sysctl", &value.span, format!("`{name}` has no value that fits on a line"));
                self.faults.push(fault.label("here").help("write a number or a line of text"));
                continue;
            }
            machine.sysctls.insert(name, value.value.clone());
        }
        machine.modules.extend(self.set(written.modules, MODULE));
        for (address, (span, Names(names))) in written.hosts.into_iter().flatten() {
            match ip::address(address) {
                Err(reason) => {
                    let message = format!("{address:?} is not an IP address: {reason}");
                    let fault = Fault::error("hosts", span, message).label("here");
                    self.faults.push(fault.help(
                        "write `hosts: { 192.168.1.5: [nas, nas.home.arpa] }`; an IPv6 address needs quotes",
                    ));
                }
                Ok(address) => {
                    let names = names
                        .iter()
                        .filter_map(|name| self.word(name, Rule { code: "hosts", ..DOMAIN }))
                        .collect();
                    machine.hosts.insert(address, names);
                }
            }
        }
        if let Some(servers) = written.ntp {
            let good = servers.iter().filter(|text| {
                ip::address(&text.value).is_ok()
                    || self.word(text, Rule { what: "a time server", code: "ntp", ..DOMAIN }).is_some()
            });
            machine.ntp = good.map(|text| text.value.clone()).collect();
        }
        let mut places = super::Seen::new("duplicate-mount", "the mount point", "keep one of the two");
        for section in written.mounts.into_iter().flatten() {
            let Some(mount) = self.mount(section) else { continue };
            if let Some(place) = &section.mount_point {
                places.check(&mount.mount_point, &place.span, self.faults);
            }
            let place = |known: &Mount| known.mount_point == mount.mount_point;
            match machine.mounts.iter_mut().find(|known| place(known)) {
                Some(known) => *known = mount,
                None => machine.mounts.push(mount),
            }
        }
        self.directories(written.directories, &mut machine);
        let mut seen = super::Seen::new("duplicate-file", "the file", "keep one of the two");
        for section in written.files.into_iter().flatten() {
            let Some(file) = self.file(section, &machine.directories) else { continue };
            if let Some(path) = &section.path {
                seen.check(&file.path, &path.span, self.faults);
            }
            match machine.files.iter_mut().find(|known| known.path == file.path) {
                Some(known) => *known = file,
                None => machine.files.push(file),
            }
        }
        machine
    }

    fn mount(&mut self, section: &MountSection) -> Option<Mount> {
        let (source, place) = (section.source.as_ref()?, section.mount_point.as_ref()?);
        let mount_point = self.word(place, MOUNT_POINT);
        let kind = section.filesystem.as_ref().map_or("nfs", |text| text.value.as_str());
        let Some((_, remote)) = FILE_SYSTEMS.iter().find(|(known, _)| *known == kind) else {
            let span = section.filesystem.as_ref().map_or(&section.span, |text| &text.span);
            let words: Vec<&str> = FILE_SYSTEMS.iter().map(|(known, _)| *known).collect();
            let fault = crate::cluster::read::unknown_word(kind, span, "a file system of `mounts`", &words);
            self.faults.push(fault);
            return None;
        };
        let shown = |c: char| c.is_ascii_graphic() && !matches!(c, '%' | '"' | '\'' | '\\' | '#' | ';');
        // nfs(5): an IPv6 address is in brackets.
        let path = source.value.rsplit_once(":/").is_some_and(|(host, _)| {
            !host.is_empty() && (!host.contains(':') || host.starts_with('[') && host.ends_with(']'))
        });
        if !source.value.chars().all(shown) || source.value.is_empty() || *remote && !path {
            let message = format!("{:?} is not a source of {kind}", source.value);
            let fault = Fault::error("mounts", &source.span, message).label("here");
            let help = match remote {
                true => {
                    "write the server and the path that it exports, such as `192.168.1.2:/vol` or `[fd00::2]:/vol`"
                }
                false => "write it without blanks, quotes, `%`, `#` and `;`",
            };
            self.faults.push(fault.help(help));
            return None;
        }
        let options = section.options.iter().flat_map(|options| &options.value);
        let options = options.filter_map(|option| self.word(option, OPTION)).collect();
        Some(Mount {
            source: source.value.clone(),
            mount_point: mount_point?,
            filesystem: kind.to_owned(),
            options,
        })
    }

    fn file(&mut self, section: &FileSection, directories: &BTreeSet<String>) -> Option<OwnFile> {
        let path = section.path.as_ref()?;
        let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(char::is_control);
        let mut fail = |span: &Span, message: String, help: &str| {
            self.faults.push(Fault::error("files", span, message).label("here").help(help));
            None
        };
        if !path.value.strip_prefix('/').is_some_and(|rest| rest.split('/').all(plain)) {
            let message = format!("{:?} is not an absolute path", path.value);
            return fail(
                &path.span,
                message,
                "write the whole path with plain names, such as `/etc/app/app.conf`",
            );
        }
        let kept = |(place, _): &&(&str, &str)| match place.strip_suffix('/') {
            Some(folder) => path.value == folder || path.value.starts_with(place),
            None => path.value == *place,
        };
        if let Some((_, help)) = KEPT.iter().find(kept) {
            let message = format!(
                "{} is written by Kiln or by the system, and this would be lost or break it",
                path.value
            );
            return fail(&path.span, message, help);
        }
        if let Some((message, help)) = placed(&path.value, &directories.iter().map(String::as_str).collect())
        {
            return fail(&path.span, format!("{}: {message}", path.value), &help);
        }
        let mode = match &section.mode {
            None => None,
            Some(text) => {
                let mode = u16::from_str_radix(&text.value, 8)
                    .ok()
                    .filter(|mode| *mode <= 0o777 && (3..=4).contains(&text.value.len()));
                if mode.is_none() {
                    let message = format!("{:?} is not the permission bits of a file", text.value);
                    return fail(&text.span, message, "write four octal digits in quotes, such as \"0644\"");
                }
                mode
            }
        };
        let content = match (&section.content, &section.source) {
            (Some(_), Some(source)) => {
                return fail(
                    &source.span,
                    "`content` and `source` both say what is in the file".to_owned(),
                    "keep one of the two",
                );
            }
            (None, None) => {
                return fail(
                    &path.span,
                    format!("nothing says what is in {}", path.value),
                    "add `content:`, or `source:` with a file beside this one",
                );
            }
            (Some(raw), None) => match &raw.0.value {
                Value::Text(text) => Content::Text(text.as_str().into()),
                Value::Map(_) => {
                    let mut reading = Reading {
                        faults: self.faults,
                        folder: self.folder,
                        what: "a file".to_owned(),
                        place: raw.0.span.clone(),
                    };
                    Content::Secret(reading.secret(&raw.0, "content")?)
                }
                _ => {
                    return fail(
                        &raw.0.span,
                        "`content` is neither text nor a place of a secret".to_owned(),
                        "put it in quotes, or write it as a block behind `content: |`",
                    );
                }
            },
            (None, Some(source)) => {
                let place = self.path(source, "files", super::base::PathIs::File)?;
                let read = std::fs::metadata(&place).and_then(|meta| match meta.len() {
                    0..=MOST_BYTES => std::fs::read_to_string(&place),
                    _ => Err(std::io::Error::other(format!("it has more than {MOST_BYTES} bytes"))),
                });
                match read {
                    Ok(text) => Content::Text(text.into()),
                    Err(error) => {
                        let message = format!("{}: {error}", place.display());
                        let fault = Fault::error("files", &source.span, message).label("this file");
                        self.faults.push(fault.help("it takes text of at most 256 KiB; larger files and others are for an overlay's `files/`"));
                        return None;
                    }
                }
            }
        };
        if let (Content::Secret(_), Some(mode), Some(text)) = (&content, mode, &section.mode)
            && mode & 0o077 != 0
        {
            let fault = Fault::error("files", &text.span, "a secret that others than root may read");
            self.faults.push(fault.label("here").help("write `mode: \"0600\"`, or leave it out"));
        }
        Some(OwnFile { path: path.value.clone(), mode, content })
    }
}
