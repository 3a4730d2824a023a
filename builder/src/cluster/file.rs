//! The cluster file as it is written: every key optional to the type, every value with its place. The JSON
//! Schema comes from these types, and so does the reader.

mod disks;
mod machine;

pub use disks::{
    DataDiskSection, DiskUse, DisksSection, Encryption, FileSystem, MatchSection, SystemDiskSection,
    Transport,
};
mod iscsi;

mod network;

pub use iscsi::{ChapSection, CredentialsSection, IscsiSection, IscsiTargetSection, ServedLunSection};
pub use machine::{FileSection, KeyboardItem, KeyboardSection, MountSection, Names, Word};
pub use network::{
    BondHash, BondMode, BondSection, BridgeSection, InterfaceSection, LacpRate, NetworkSection, RouteSection,
    VlanSection, WifiSection,
};

use super::overlay;
use super::read::{Read, Spanned, Text, document, unknown_word, words, wrong_type};
use super::settings::{self, RawMap};
use super::tree::{Tree, Value};
use crate::diag::{Fault, Span};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The only `apiVersion` there is.
pub const API_VERSION: &str = "kiln/v1";

document! {
    /// A Kiln cluster file.
    ClusterFile, "the cluster file",
    required {
        /// Version of this file's form.
        #[schemars(extend("const" = "kiln/v1"))]
        api_version as "apiVersion": Text,
        /// What all nodes share.
        cluster: ClusterSection,
        /// The machines. One disk image is built for each.
        #[schemars(length(min = 1))]
        nodes: Spanned<Vec<NodeSection>>,
    }
    optional {
        /// The operating system of every node.
        base: BaseSection,
        /// Layers on top of the base: a name that Kiln knows, or `./path` of a folder with an `overlay.yaml`.
        overlays: Vec<OverlayItem>,
        /// Where the files that overlays fetch are taken from before they are asked for where they are published:
        /// folders, or addresses of mirrors, tried in turn.
        #[schemars(extend("examples" = [["./artefacts", "https://mirror.home.arpa/files"]]))]
        artefacts: Vec<Text>,
        /// Where the cluster's own secrets are kept, encrypted.
        secrets: SecretsSection,
        /// People who may log in, on every node.
        users: Vec<UserSection>,
        /// The SSH server of every node.
        ssh: SshSection,
        /// The disks of every node that has no `disks` of its own.
        disks: DisksSection,
        /// The memory of every node that has no `memory` of its own.
        memory: MemorySection,
        /// A file of your own for cloud-init on every node: a cloud-config, which is merged into Kiln's, or a script.
        #[schemars(extend("examples" = ["./user-data.yaml"]))]
        user_data: Text,
    }
}

document! {
    /// What all nodes share.
    ClusterSection, "`cluster`",
    required {
        /// Name of the cluster; all identifiers derive from it unless `id` is given.
        #[schemars(extend("pattern" = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", "examples" = ["home"]))]
        name: Text,
    }
    optional {
        /// Text that the cluster's identifiers derive from instead of its name. Set it before the name
        /// changes, to the old name, to keep every identifier.
        #[schemars(length(min = 1, max = 255))]
        id: Text,
        /// What agents dial: an address or a name of the first server, or a virtual address.
        #[schemars(extend("examples" = ["k3s1.local", "192.168.86.70"]))]
        endpoint: Text,
        /// Time zone of every node, as in the tz database. UTC when left out.
        #[schemars(extend("examples" = ["Europe/Berlin", "Etc/UTC"]))]
        time_zone: Text,
        /// Locale of every login, in UTF-8. Any but `C.UTF-8`, the default, makes the root 240 MB larger.
        #[schemars(extend("examples" = ["de_DE.UTF-8", "C.UTF-8"]))]
        locale: Text,
        /// Keyboard of the console: a layout, or a mapping. That of the US when left out.
        #[schemars(extend("examples" = ["de", {"layout": "us", "variant": "intl"}]))]
        keyboard: KeyboardItem,
        /// DNS domain: a node's full name is `<node>.<domain>`.
        #[schemars(extend("examples" = ["home.arpa"]))]
        domain: Text,
        /// Kernel parameters of sysctl(8), in force from the first boot on.
        #[schemars(with = "Option<BTreeMap<String, Word>>", extend("examples" = [{"vm.max_map_count": 524288}]))]
        sysctls: BTreeMap<String, (Span, Word)>,
        /// Kernel modules that are loaded at boot.
        #[schemars(extend("examples" = [["nbd", "br_netfilter"]]))]
        modules: Vec<Text>,
        /// Further lines of /etc/hosts: addresses, and a name or a list of names for each.
        #[schemars(with = "Option<BTreeMap<String, Names>>", extend("examples" = [{"192.168.1.5": ["nas", "nas.home.arpa"]}]))]
        hosts: BTreeMap<String, (Span, Names)>,
        /// Time servers, by name or address. Debian's pool when left out.
        ntp: Vec<Text>,
        /// Network file systems and the like that are mounted.
        mounts: Vec<MountSection>,
        /// Folders that can be written to although the root can't: for `hostPath` volumes, say. Their content is kept below /var.
        #[schemars(extend("examples" = [["/data"]]))]
        directories: Vec<Text>,
        /// Files that are written at the first boot, before anything of yours runs.
        files: Vec<FileSection>,
        /// What k3s is told. With it every server and agent has the overlay `k3s`, whose settings these are.
        k3s: K3sSection,
    }
}

document! {
    /// Where the cluster's own secrets are kept: its certificate authorities, tokens, passwords and named values.
    SecretsSection, "`secrets`",
    required {}
    optional {
        /// The encrypted file. `kiln.secrets.age` beside the cluster file when left out.
        file: Text,
        /// Who can read it: age public keys (`age1...`) and SSH public keys. Whoever makes it when left out.
        recipients: Vec<Text>,
    }
}

/// The settings of the overlay `k3s`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct K3sSection(pub RawMap);

impl JsonSchema for K3sSection {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "K3s".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema_of(settings::schema(&overlay::rules("k3s")))
    }
}

impl Read for K3sSection {
    const WANT: &'static str = RawMap::WANT;
    fn read(tree: &Tree, faults: &mut Vec<Fault>) -> Option<Self> {
        RawMap::read(tree, faults).map(Self)
    }
}

fn schema_of(value: serde_json::Value) -> Schema {
    Schema::try_from(value).unwrap_or_default()
}

words! {
    /// A distribution that roots are assembled from.
    Distribution, "a distribution that this version builds" {
        /// Debian.
        Debian = "debian",
    }
}

words! {
    /// A release of the distribution.
    Suite, "a suite that this version builds" {
        /// Debian 13.
        Trixie = "trixie",
    }
}

words! {
    /// What can be done about a package's maintainer scripts.
    ScriptRule, "a rule for maintainer scripts" {
        /// Install the package without what its scripts would have done.
        Skip = "skip",
    }
}

document! {
    /// The operating system of every node.
    BaseSection, "`base`",
    required {}
    optional {
        /// Distribution. `debian` when left out.
        distribution: Spanned<Distribution>,
        /// Release. `trixie` when left out.
        suite: Spanned<Suite>,
        /// Packages beside those that Kiln always installs.
        packages: Vec<Text>,
        /// `auto`: the firmware that bare metal commonly needs; `none`; or a list of firmware packages.
        firmware: FirmwareItem,
        /// Where packages come from, tried in turn: addresses, or folders of .deb files. Without any,
        /// the host's own apt sources and then Debian's are used.
        mirrors: Vec<MirrorItem>,
        /// OpenPGP keyring (binary or armoured) that signs the mirrors' indices. Debian's keys are built in.
        keyring: Text,
        /// Words to add to the kernel's command line.
        #[schemars(extend("examples" = [["console=ttyS1,115200n8"]]))]
        kernel_arguments: Vec<Text>,
        /// Packages that may be installed although Kiln doesn't know what their maintainer scripts do.
        #[schemars(with = "Option<BTreeMap<String, ScriptRule>>")]
        scripts: BTreeMap<String, (Span, Spanned<ScriptRule>)>,
        /// Size of the root partition with its unit, such as `2GiB`; `auto` (the default) fits it to its content.
        #[schemars(extend("pattern" = "^(auto|[0-9]+(\\.[0-9]+)? ?([KMGT]i?)?B?)$", "examples" = ["auto", "2GiB"]))]
        root_size: Text,
    }
}

/// `auto`, `none` or a list of packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirmwareItem {
    /// What bare metal commonly needs.
    Auto,
    /// No firmware.
    None,
    /// These packages.
    Packages(Vec<Text>),
}

impl JsonSchema for FirmwareItem {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Firmware".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "string", "enum": ["auto", "none"] },
            { "type": "array", "items": { "type": "string" } },
        ] })
    }
}

impl Read for FirmwareItem {
    const WANT: &'static str = "`auto`, `none` or a list of packages";
    fn read(tree: &Tree, faults: &mut Vec<Fault>) -> Option<Self> {
        match &tree.value {
            Value::Text(word) => match word.as_str() {
                "auto" => Some(Self::Auto),
                "none" => Some(Self::None),
                word => {
                    let fault = unknown_word(word, &tree.span, "a choice of firmware", &["auto", "none"]);
                    let help = format!("{}; or a list of packages: [{word}]", fault.help);
                    faults.push(fault.help(help));
                    None
                }
            },
            Value::List(_) => Vec::read(tree, faults).map(Self::Packages),
            _ => {
                wrong_type(tree, Self::WANT, faults);
                None
            }
        }
    }
}

document! {
    /// A mirror of one archive.
    MirrorSection, "a mirror",
    required {
        /// Address, or folder of .deb files.
        url: Text,
    }
    optional {
        /// Which archive it mirrors: `debian` or `debian-security`. Left out: the last part of the address.
        archive: Text,
    }
}

/// A mirror: an address or folder, or a mapping.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(untagged, inline)]
pub enum MirrorItem {
    /// `http://…`, `https://…` or a folder.
    Location(Text),
    /// With its archive.
    Section(MirrorSection),
}

impl Read for MirrorItem {
    const WANT: &'static str = "an address, a folder or a mapping";
    fn read(tree: &Tree, faults: &mut Vec<Fault>) -> Option<Self> {
        match &tree.value {
            Value::Text(_) => Text::read(tree, faults).map(Self::Location),
            Value::Map(_) => MirrorSection::read(tree, faults).map(Self::Section),
            _ => {
                wrong_type(tree, Self::WANT, faults);
                None
            }
        }
    }
}

/// An overlay with its settings: which they may be is its own document's to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlaySection {
    /// A name that Kiln knows, or `./path` of a folder with an `overlay.yaml`.
    pub name: Text,
    /// The whole mapping, `name` included.
    pub settings: RawMap,
}

/// An overlay: its name, or a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OverlayItem {
    /// Its name or path.
    Name(Text),
    /// With settings.
    Section(OverlaySection),
}

impl OverlayItem {
    /// The name or path.
    pub fn name(&self) -> &Text {
        match self {
            Self::Name(name) => name,
            Self::Section(section) => &section.name,
        }
    }
    /// Its settings, where any are given.
    pub fn settings(&self) -> Option<&RawMap> {
        match self {
            Self::Name(_) => None,
            Self::Section(section) => Some(&section.settings),
        }
    }
}

impl JsonSchema for OverlayItem {
    fn schema_name() -> Cow<'static, str> {
        "Overlay".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut forms = vec![serde_json::json!({
            "description": "A name that Kiln knows, or `./path` of a folder with an `overlay.yaml`.", "type": "string",
        })];
        for (name, document) in overlay::BUILT_IN {
            let mut form = settings::schema(&overlay::rules(name));
            let summary = overlay::read(document).0.and_then(|file| file.summary);
            form["properties"]["name"] = serde_json::json!({"const": name});
            form["required"].as_array_mut().into_iter().for_each(|list| list.push("name".into()));
            form["description"] = summary.map(|summary| summary.value).unwrap_or_default().into();
            forms.push(form);
        }
        let own = serde_json::json!({
            "description": "A folder of your own, with the settings that its document declares.", "type": "object",
            "properties": {"name": {"type": "string", "pattern": "^[./]"}}, "required": ["name"],
        });
        forms.push(own);
        schema_of(serde_json::json!({"anyOf": forms}))
    }
}

impl Read for OverlayItem {
    const WANT: &'static str = "the name of an overlay or a mapping";
    fn read(tree: &Tree, faults: &mut Vec<Fault>) -> Option<Self> {
        match &tree.value {
            Value::Text(_) => Text::read(tree, faults).map(Self::Name),
            Value::Map(entries) => {
                let Some(entry) = entries.iter().find(|entry| entry.key == "name") else {
                    let start = entries.first().map_or(tree.span.clone(), |entry| entry.key_span.clone());
                    let fault = Fault::error("missing-key", &start, "an overlay lacks its key `name`");
                    faults.push(fault.label("in this mapping").help("add `name:` with text"));
                    return None;
                };
                let name = Text::read(&entry.value, faults)?;
                let settings = RawMap::read(tree, faults)?;
                Some(Self::Section(OverlaySection { name, settings }))
            }
            _ => {
                wrong_type(tree, Self::WANT, faults);
                None
            }
        }
    }
}

document! {
    /// Somebody who may log in.
    UserSection, "a user",
    required {
        /// Login name.
        #[schemars(extend("pattern" = "^[a-z_][a-z0-9_-]{0,31}$"))]
        name: Text,
    }
    optional {
        /// SSH public keys, one line each, as in `~/.ssh/id_ed25519.pub`.
        ssh_keys: Vec<Text>,
        /// Further groups, such as `adm`.
        groups: Vec<Text>,
        /// May become root: without a password when the user has none, else with it. `true` when left out.
        sudo: Spanned<bool>,
        /// Login shell. `/bin/bash` when left out.
        shell: Text,
        /// A crypt(5) hash, as `mkpasswd` prints it; for the console, since SSH takes keys only.
        password_hash: Text,
    }
}

document! {
    /// The SSH server.
    SshSection, "`ssh`",
    required {}
    optional {
        /// Lets people log in over SSH with a password. `false` when left out.
        password_authentication: Spanned<bool>,
    }
}

words! {
    /// What a node does in the cluster.
    Role, "a role" {
        /// Runs the control plane.
        Server = "server",
        /// Runs workloads.
        Agent = "agent",
        /// A Debian machine outside the cluster.
        None = "none",
    }
}

words! {
    /// Debian's name of a processor architecture.
    Architecture, "an architecture that this version builds" {
        /// x86-64.
        Amd64 = "amd64",
        /// 64-bit ARM.
        Arm64 = "arm64",
    }
}

document! {
    /// A machine.
    NodeSection, "a node",
    required {
        /// Host name (RFC 1123, lower case, without a domain).
        #[schemars(extend("pattern" = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", "examples" = ["k3s1"]))]
        name: Text,
    }
    optional {
        /// `server`, `agent` or `none`. `none` when left out.
        role: Spanned<Role>,
        /// `amd64` or `arm64`. `amd64` when left out.
        architecture: Spanned<Architecture>,
        /// How the node reaches its network. DHCP on every wired interface when left out.
        network: NetworkSection,
        /// Time zone of this node.
        time_zone: Text,
        /// Locale of every login, in UTF-8. Any but `C.UTF-8`, the default, makes the root 240 MB larger.
        #[schemars(extend("examples" = ["de_DE.UTF-8", "C.UTF-8"]))]
        locale: Text,
        /// Keyboard of the console: a layout, or a mapping. That of the US when left out.
        #[schemars(extend("examples" = ["de", {"layout": "us", "variant": "intl"}]))]
        keyboard: KeyboardItem,
        /// Kernel parameters of sysctl(8), in force from the first boot on.
        #[schemars(with = "Option<BTreeMap<String, Word>>", extend("examples" = [{"vm.max_map_count": 524288}]))]
        sysctls: BTreeMap<String, (Span, Word)>,
        /// Kernel modules that are loaded at boot.
        #[schemars(extend("examples" = [["nbd", "br_netfilter"]]))]
        modules: Vec<Text>,
        /// Further lines of /etc/hosts: addresses, and a name or a list of names for each.
        #[schemars(with = "Option<BTreeMap<String, Names>>", extend("examples" = [{"192.168.1.5": ["nas", "nas.home.arpa"]}]))]
        hosts: BTreeMap<String, (Span, Names)>,
        /// Time servers, by name or address. Debian's pool when left out.
        ntp: Vec<Text>,
        /// Network file systems and the like that are mounted.
        mounts: Vec<MountSection>,
        /// Folders that can be written to although the root can't: for `hostPath` volumes, say. Their content is kept below /var.
        #[schemars(extend("examples" = [["/data"]]))]
        directories: Vec<Text>,
        /// Files that are written at the first boot, before anything of yours runs.
        files: Vec<FileSection>,
        /// Packages of this node alone; it then has a root of its own.
        packages: Vec<Text>,
        /// Users of this node; one with the name of a cluster-wide user takes that one's place.
        users: Vec<UserSection>,
        /// SSH public keys that every user of this node accepts too.
        ssh_keys: Vec<Text>,
        /// Logical sector size of the disk in bytes: 512 (default) or 4096.
        #[schemars(extend("enum" = [512, 4096, null]))]
        sector_size: Spanned<u32>,
        /// What the node's disks are for, instead of what the file's top says of them.
        disks: DisksSection,
        /// What the node's memory is for, instead of what the file's top says of it.
        memory: MemorySection,
        /// LUNs of iSCSI targets that the node mounts.
        iscsi: Spanned<Vec<IscsiSection>>,
        /// LUNs that the node serves to others over iSCSI.
        iscsi_target: IscsiTargetSection,
        /// Layers of this node alone; one that all nodes have takes its settings here in place of those.
        overlays: Vec<OverlayItem>,
        /// What k3s is told on this node in place of what `cluster.k3s` says.
        k3s: K3sSection,
        /// Kubernetes labels that the node registers with.
        #[schemars(with = "Option<BTreeMap<String, String>>")]
        labels: BTreeMap<String, (Span, Text)>,
        /// Kubernetes taints that the node registers with.
        #[schemars(extend("examples" = [["node-role.kubernetes.io/control-plane:NoSchedule"]]))]
        taints: Vec<Text>,
        /// A file of your own for cloud-init on this node, on top of the one for every node.
        user_data: Text,
    }
}

document! {
    /// What a node's memory is for. A node without `memory` of its own has that of the file's top.
    MemorySection, "`memory`",
    required {}
    optional {
        /// Compressed swap in memory (zram): a share of the machine's memory, or a size with its unit, of what goes in
        /// before it is compressed. None when left out.
        #[schemars(extend("pattern" = "^[0-9]+(%|(\\.[0-9]+)? ?([KMGT]i?)?B?)$", "examples" = ["50%", "2GiB"]))]
        zram: Text,
    }
}

/// The JSON Schema (draft 2020-12) of a cluster file, for editors.
pub fn schema() -> Schema {
    let mut schema = schemars::schema_for!(ClusterFile);
    schema.insert("title".to_owned(), "Kiln cluster file".into());
    schema
}
