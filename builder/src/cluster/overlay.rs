//! Overlays: layers on top of the base. Those that Kiln knows are embedded; a user's own has the same form.

use super::file::Role;
use super::model::{Artefact, SeedFile, SeedFolder};
use super::read::{Read, Spanned, Text, document, words};
use super::settings::{self, SettingSection};
use super::{Overlay, tree};
use crate::diag::{Fault, Span};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

/// No honest document is larger.
const MOST: u64 = 1 << 20;

// `BUILT_IN`: overlays that this version has, with their documents.
include!(concat!(env!("OUT_DIR"), "/overlay_documents.rs"));

/// The document of the layer that is under every node.
const BASE: &str = include_str!("../../../overlays/base/overlay.yaml");

words! {
    /// How what a template prints is quoted.
    Quoting, "a way of quoting" {
        /// As YAML, which JSON is part of.
        Yaml = "yaml",
        /// For a POSIX shell, and for what reads its assignments, such as systemd's environment files.
        Shell = "shell",
        /// Not at all; text with control characters is refused.
        None = "none",
    }
}

document! {
    /// A file that a node gets with its seed.
    SeedFileSection, "a file of `seed`",
    required {
        /// Where it is on the node, an absolute path; the template is `seed/<path>.j2` in the overlay's folder, unless
        /// `template` names another.
        path: Text,
    }
    optional {
        /// The template's path in the overlay's folder.
        template: Text,
        /// Permission bits, four octal digits. `0644` when left out, and `0600` when a secret is in it.
        mode: Text,
        /// A list: an expression over what templates see, such as `overlay.zones`. There is a file for each of its entries,
        /// which `path`, `when` and the template know as `item`. Then `template` is needed.
        each: Text,
        /// Which nodes get it: an expression over what templates see, such as `node.role == "server"`.
        when: Text,
        /// How values are quoted. `yaml` for .yaml, .yml and .json, `shell` for .sh and .env, `none` for all others.
        quote: Spanned<Quoting>,
    }
}

document! {
    /// A folder that a node has from its first boot on.
    FolderSection, "a folder of `folders`",
    required {
        /// Where it is on the node, an absolute path.
        path: Text,
        /// Permission bits, four octal digits in quotes.
        mode: Text,
    }
    optional {
        /// Which nodes get it: an expression over what templates see, such as `node.role == "server"`.
        when: Text,
    }
}

document! {
    /// A file that is fetched when the image is built, and pinned by its digest in `kiln.lock`.
    ArtefactSection, "an artefact",
    required {
        /// Its name in `kiln.lock`.
        name: Text,
        /// Where it is published: a template over `overlay` (the settings) and `architecture`.
        url: Text,
        /// Where it is in the image.
        path: Text,
    }
    optional {
        /// Where its digest is published: a file of lines as sha256sum writes them, or the digest alone. A template, too.
        sums: Text,
        /// Path in the archive, when the artefact is one (.tar, .tgz, .tar.gz, .tar.xz, .tar.zst): a template, too.
        member: Text,
        /// Permission bits, four octal digits. `0755` when left out.
        mode: Text,
        /// Whether it is wanted: an expression over `overlay` and `architecture`.
        when: Text,
    }
}

document! {
    /// An overlay's own document, `overlay.yaml`.
    OverlayFile, "an overlay's document",
    required {}
    optional {
        /// One line for people: what it is for.
        summary: Text,
        /// Overlays that must be there too; they are added.
        needs: Vec<Text>,
        /// Nodes that it is for, by their role; all when left out.
        roles: Vec<Spanned<Role>>,
        /// What a cluster file may say beside its name.
        settings: BTreeMap<String, (Span, SettingSection)>,
        /// Packages to install.
        packages: Vec<Text>,
        /// Kernel modules to load at boot.
        modules: Vec<Text>,
        /// systemd units to enable.
        enable: Vec<Text>,
        /// Files that are fetched into the image.
        artefacts: Vec<ArtefactSection>,
        /// Files that differ from node to node: they go into the seed.
        seed: Vec<SeedFileSection>,
        /// Folders for them that not everybody may look into. All others are made with the mode 0755.
        folders: Vec<FolderSection>,
    }
}

/// The layer that is under every node. Packages named with `@ARCHITECTURE@` are still to be completed.
pub(super) fn base() -> Overlay {
    let (file, faults) = read(BASE);
    debug_assert!(faults.is_empty(), "{faults:?}");
    let set = |texts: Option<Vec<Text>>| texts.into_iter().flatten().map(|text| text.value).collect();
    let (packages, modules, enable) =
        file.map(|file| (set(file.packages), set(file.modules), set(file.enable))).unwrap_or_default();
    Overlay { packages, modules, enable, ..Overlay::new("base") }
}

/// What settings a known overlay takes; none of one that is not known.
pub(super) fn rules(name: &str) -> settings::Rules {
    let document = BUILT_IN.iter().find(|(known, _)| *known == name);
    let file = document.and_then(|(_, document)| read(document).0);
    settings::compile(file.as_ref().and_then(|file| file.settings.as_ref()), &mut Vec::new())
}

/// The text of a user's `overlay.yaml`. A pipe would never end, and a link is not taken: it may lead to what its author can't
/// read.
pub(super) fn source(document: &Path) -> io::Result<String> {
    let kind = fs::symlink_metadata(document)?.file_type();
    let refused = |what: &str| Err(io::Error::other(format!("it is {what}, and a file is wanted")));
    if kind.is_symlink() {
        return refused("a symbolic link");
    } else if !kind.is_file() {
        return refused("no file");
    }
    let mut text = String::new();
    fs::File::open(document)?.take(MOST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MOST { refused("larger than 1 MiB") } else { Ok(text) }
}

/// Reads an `overlay.yaml`; its faults have spans of `source`.
pub(super) fn read(source: &str) -> (Option<OverlayFile>, Vec<Fault>) {
    let (tree, mut faults) = tree::parse(source);
    let file = tree.and_then(|tree| OverlayFile::read(&tree, &mut faults));
    if let Some(file) = &file {
        settings::compile(file.settings.as_ref(), &mut faults);
        file.seed.iter().flatten().for_each(|section| drop(seed_file(section, &mut faults)));
        file.folders.iter().flatten().for_each(|section| drop(folder(section, &mut faults)));
        file.artefacts.iter().flatten().for_each(|section| drop(artefact(section, &mut faults)));
    }
    (file, faults)
}

impl OverlayFile {
    /// The roles of the nodes that it is for.
    pub(super) fn roles(&self) -> BTreeSet<Role> {
        match &self.roles {
            Some(roles) => roles.iter().map(|role| role.value).collect(),
            None => BTreeSet::from([Role::Server, Role::Agent, Role::None]),
        }
    }
    /// Its files of the seed.
    pub(super) fn seed_files(&self) -> Vec<SeedFile> {
        self.seed.iter().flatten().filter_map(|section| seed_file(section, &mut Vec::new())).collect()
    }
    /// Its folders.
    pub(super) fn folders(&self) -> Vec<SeedFolder> {
        self.folders.iter().flatten().filter_map(|section| folder(section, &mut Vec::new())).collect()
    }
    /// Its artefacts.
    pub(super) fn artefacts(&self) -> Vec<Artefact> {
        self.artefacts.iter().flatten().filter_map(|section| artefact(section, &mut Vec::new())).collect()
    }
}

fn seed_file(section: &SeedFileSection, faults: &mut Vec<Fault>) -> Option<SeedFile> {
    let path = absolute(section.path.as_ref()?, faults)?;
    let quoting = match (&section.quote, path.rsplit_once('.').map(|(_, ending)| ending)) {
        (Some(quoting), _) => quoting.value,
        (None, Some("yaml" | "yml" | "json")) => Quoting::Yaml,
        (None, Some("sh" | "env")) => Quoting::Shell,
        _ => Quoting::None,
    };
    let template = match &section.template {
        Some(template) => template.value.trim_start_matches("./").to_owned(),
        None => format!("seed{path}.j2"),
    };
    let mode = section.mode.as_ref().map(|mode| octal(mode, faults));
    let mode = match mode {
        Some(mode) => Some(mode?),
        None => None,
    };
    Some(SeedFile {
        path,
        each: section.each.as_ref().map(|each| each.value.clone()),
        template,
        mode,
        when: section.when.as_ref().map(|when| when.value.clone()),
        quoting,
    })
}

fn folder(section: &FolderSection, faults: &mut Vec<Fault>) -> Option<SeedFolder> {
    Some(SeedFolder {
        path: absolute(section.path.as_ref()?, faults)?,
        mode: octal(section.mode.as_ref()?, faults)?,
        when: section.when.as_ref().map(|when| when.value.clone()),
    })
}

fn artefact(section: &ArtefactSection, faults: &mut Vec<Fault>) -> Option<Artefact> {
    let mode = section.mode.as_ref().map_or(Some(0o755), |mode| octal(mode, faults))?;
    let text = |text: &Option<Text>| text.as_ref().map(|text| text.value.clone());
    Some(Artefact {
        name: text(&section.name)?,
        url: text(&section.url)?,
        path: absolute(section.path.as_ref()?, faults)?,
        sums: text(&section.sums),
        member: text(&section.member),
        mode,
        when: text(&section.when),
    })
}

fn absolute(text: &Text, faults: &mut Vec<Fault>) -> Option<String> {
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(char::is_control);
    if text.value.strip_prefix('/').is_some_and(|rest| rest.split('/').all(plain)) {
        return Some(text.value.clone());
    }
    let fault = Fault::error("path", &text.span, format!("{:?} is not an absolute path", text.value));
    faults
        .push(fault.label("here").help("write the whole path with plain names, such as `/etc/app/app.conf`"));
    None
}

fn octal(text: &Text, faults: &mut Vec<Fault>) -> Option<u16> {
    let mode = u16::from_str_radix(&text.value, 8).ok();
    let mode = mode.filter(|mode| *mode <= 0o777 && (3..=4).contains(&text.value.len()));
    if mode.is_none() {
        let message = format!("{:?} is not the permission bits of a file", text.value);
        faults.push(
            Fault::error("mode", &text.span, message)
                .label("here")
                .help("write four octal digits in quotes, such as \"0644\""),
        );
    }
    mode
}
