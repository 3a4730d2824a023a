//! From the file as written to a [`Cluster`] in which all is valid. Every fault is reported; the result
//! counts only when none was.

mod accounts;
mod base;
mod console;
mod cross;
mod directories;
mod disks;
mod iscsi;
mod k3s;
mod kubernetes;
mod machine;
mod memory;
mod network;
mod overlays;
mod people;
mod rules;
mod shells;
mod user_data;

use super::file::{API_VERSION, ClusterFile, NodeSection, SecretsSection};
use super::model::Machine;
use super::model::{Architecture, Base, Cluster, Disks, Firmware, Node, Overlay, Role, Secrets, User};
use super::read::{Spanned, Text};
use super::user_data::UserData;
use super::words::zones::{self, Zone};
use super::{identity, words};
use crate::diag::{Fault, Span, nearest};
use kiln_contract::memory::Memory;
use kubernetes::TAINT;
use machine::Written;
pub(super) use network::fits;
use network::is_kernels;
use people::{Person, Shells};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use user_data::Around;

/// What the checks share.
struct Check<'a> {
    faults: &'a mut Vec<Fault>,
    /// Relative paths of the file count from here.
    folder: &'a Path,
    /// Faults that every node would repeat: where, and what about.
    said: BTreeSet<(usize, &'static str)>,
    /// Overlays, by their names and places, with settings that could not be read.
    unsettled: Vec<(String, Span)>,
    /// Network cards keep the kernel's own names.
    kernel_names: bool,
}

impl Check<'_> {
    /// The text when `rule` takes it; else a fault `<code>`: "`text` is not <what>: reason".
    fn word(&mut self, text: &Text, rule: Rule) -> Option<String> {
        match (rule.check)(&text.value) {
            Ok(()) => Some(text.value.clone()),
            Err(reason) => {
                let message = format!("{:?} is not {}: {reason}", text.value, rule.what);
                self.faults.push(Fault::error(rule.code, &text.span, message).label("here").help(rule.help));
                None
            }
        }
    }
    /// The words that `rule` takes, sorted, once each.
    fn set(&mut self, texts: Option<&Vec<Text>>, rule: Rule) -> BTreeSet<String> {
        texts.into_iter().flatten().filter_map(|text| self.word(text, rule)).collect()
    }
}

/// What a text must be.
#[derive(Clone, Copy)]
struct Rule {
    check: fn(&str) -> Result<(), &'static str>,
    what: &'static str,
    code: &'static str,
    help: &'static str,
}

const NAME: Rule = Rule {
    check: words::host_label,
    what: "a host name (RFC 1123)",
    code: "host-name",
    help: "use a-z, 0-9 and inner hyphens, at most 63 of them, such as `node-1`",
};
const CLUSTER_NAME: Rule = Rule { what: "a name for a cluster", code: "cluster-name", ..NAME };
const DOMAIN: Rule = Rule {
    check: words::domain,
    what: "a domain name",
    code: "domain",
    help: "write labels of a-z, 0-9 and inner hyphens with dots between, such as `home.arpa`",
};
const TIME_ZONE: Rule = Rule {
    check: words::time_zone,
    what: "a time zone",
    code: "time-zone",
    help: "write it as the tz database does, such as `Europe/Berlin` or `UTC`; `timedatectl list-timezones` lists them",
};
const PACKAGE: Rule = Rule {
    check: words::package,
    what: "a package name",
    code: "package-name",
    help: "write the name as `apt list` shows it in front of the slash, such as `htop`",
};

/// The cluster, or what there is of it when faults were found.
pub(super) fn validate(file: &ClusterFile, folder: &Path, faults: &mut Vec<Fault>) -> Option<Cluster> {
    let mut check =
        Check { faults, folder, said: BTreeSet::new(), unsettled: Vec::new(), kernel_names: false };
    if let Some(version) = file.api_version.as_ref().filter(|version| version.value != API_VERSION) {
        let message = format!("{:?} is not a version that this kiln reads", version.value);
        check.faults.push(
            Fault::error("api-version", &version.span, message)
                .label("unknown version")
                .help(format!("write `apiVersion: {API_VERSION}`")),
        );
    }
    let section = file.cluster.as_ref();
    let name = section.and_then(|section| section.name.as_ref());
    let name = name.and_then(|name| check.word(name, CLUSTER_NAME));
    let id = section.and_then(|section| section.id.as_ref());
    if let Some(id) = id.filter(|id| id.value.is_empty() || id.value.len() > 255) {
        let fault = Fault::error("cluster-id", &id.span, "`id` has from 1 to 255 bytes").label("not so long");
        check.faults.push(fault.help("give any text that stays as it is, such as the cluster's first name"));
    }
    let id = id.map(|id| id.value.clone()).or_else(|| name.clone());
    let endpoint = section.and_then(|section| section.endpoint.as_ref());
    let endpoint = endpoint.and_then(|endpoint| check.endpoint(endpoint));
    let domain = section.and_then(|section| section.domain.as_ref());
    let domain = domain.and_then(|domain| check.word(domain, DOMAIN));
    let time_zone = section.and_then(|section| section.time_zone.as_ref());
    let given_zone = time_zone.filter(|zone| check.word(zone, TIME_ZONE).is_some());
    let time_zone = given_zone.map_or_else(|| "UTC".to_owned(), |zone| zone.value.clone());

    let base = check.base(file.base.as_ref());
    check.kernel_names = base.kernel_arguments.iter().any(|word| word == "net.ifnames=0");
    let artefacts = file.artefacts.iter().flatten().filter_map(|place| check.artefact_place(place)).collect();
    let k3s = section.and_then(|section| section.k3s.as_ref());
    let layers = check.layers(file.overlays.as_ref(), k3s);
    let overlays = check.settled(&layers);
    let secrets = check.secrets(file.secrets.as_ref());
    let users = check.users(file.users.as_ref(), &[]);
    let disks = file.disks.as_ref().map(|disks| check.disks(disks, &overlays)).unwrap_or_default();
    let memory = file.memory.as_ref().map(|memory| check.memory(memory)).unwrap_or_default();
    let user_data = check.user_data(file.user_data.as_ref());
    let mut packages = base.packages.clone();
    if let Firmware::Packages(firmware) = &base.firmware {
        packages.extend(firmware.iter().cloned());
    }
    if let Some(zone) = given_zone {
        check.zone(zone, &packages);
    }
    let machine = check.machine(section.map(Written::cluster), None);
    let inherited = Inherited {
        machine: &machine,
        zone: &time_zone,
        users: &users,
        disks: &disks,
        memory: &memory,
        overlays: (&layers, &overlays),
        packages: &packages,
        user_data: file.user_data.as_ref().zip(user_data.as_ref()),
    };
    let own = file.user_data.as_ref().zip(user_data.as_deref());
    check.clashes(&users, &own.into_iter().collect::<Vec<_>>());
    let mut nodes = check.nodes(file.nodes.as_ref(), &inherited);
    check.own_files((file, &base), &nodes, own);
    let ssh = file.ssh.as_ref().and_then(|ssh| ssh.password_authentication.as_ref());
    check.unused_endpoint(endpoint.as_deref(), section.and_then(|section| section.endpoint.as_ref()), &nodes);
    // What is wrong with the name must not hide what is wrong with the nodes.
    let sound = id.is_some() && name.is_some();
    let id = identity::cluster_id(&id.unwrap_or_default());
    if let Some(sections) = &file.nodes {
        let names = nodes.iter().flat_map(|node| &node.overlays).map(|overlay| overlay.name.clone());
        let around = iscsi::Around { id, overlays: &names.collect() };
        check.iscsi(&sections.value, &mut nodes, &around);
    }
    check.longhorn_disks(id, &mut nodes, file.nodes.as_ref());
    check.directory_places(file, &nodes);
    let cluster = Cluster {
        id,
        name: name.unwrap_or_default(),
        endpoint,
        domain,
        base,
        artefacts,
        secrets,
        ssh_password_authentication: ssh.is_some_and(|ssh| ssh.value),
        nodes,
    };
    check.rules(&cluster);
    check.cross(&cross::Both { cluster: &cluster, file });
    sound.then_some(cluster)
}

/// What nodes have from the rest of the file.
struct Inherited<'a> {
    machine: &'a Machine,
    zone: &'a str,
    users: &'a [Person],
    disks: &'a Disks,
    memory: &'a Memory,
    overlays: (&'a [overlays::Layer], &'a [Overlay]),
    /// Packages of every node, firmware among them.
    packages: &'a BTreeSet<String>,
    user_data: Option<(&'a Text, &'a Arc<UserData>)>,
}

impl Check<'_> {
    fn secrets(&mut self, section: Option<&SecretsSection>) -> Secrets {
        let file = section.and_then(|section| section.file.as_ref());
        let recipients = section.and_then(|section| section.recipients.as_ref()).into_iter().flatten();
        let recipients = recipients.filter_map(|recipient| self.recipient(recipient)).collect();
        let file = file.map(|file| self.folder.join(file.value.trim_start_matches("./")));
        Secrets { file, recipients }
    }

    fn recipient(&mut self, text: &Text) -> Option<String> {
        let (key, rest) = text.value.split_once(' ').unwrap_or((&text.value, ""));
        let known = key.starts_with("age1") && rest.is_empty() || super::is_ssh_key(&text.value);
        if !known {
            let secret = text.value.starts_with("AGE-SECRET-KEY-") || text.value.contains("PRIVATE KEY");
            let message = match secret {
                true => "this is a private key, and a recipient is a public one".to_owned(),
                false => format!("{:?} is neither an age nor an SSH public key", text.value),
            };
            let fault = Fault::error("recipient", &text.span, message).label("here");
            self.faults
                .push(fault.help("`age-keygen -y KEYFILE` prints the public key of an identity: `age1...`"));
        }
        known.then(|| text.value.clone())
    }

    fn endpoint(&mut self, text: &Text) -> Option<String> {
        if text.value.parse::<std::net::IpAddr>().is_ok() {
            return Some(text.value.clone());
        }
        let help = "write an address or a name, without `https://` and without a port, such as `k3s1.local`";
        self.word(text, Rule { what: "an address or a host name", code: "endpoint", help, ..DOMAIN })
    }

    /// A plain name as endpoint that is nearly, but not quite, a node's.
    fn unused_endpoint(&mut self, endpoint: Option<&str>, text: Option<&Text>, nodes: &[Node]) {
        let (Some(endpoint), Some(text)) = (endpoint, text) else { return };
        if endpoint.contains(['.', ':']) || nodes.iter().any(|node| node.name == endpoint) {
            return;
        }
        if let Some(near) = nearest(endpoint, nodes.iter().map(|node| node.name.as_str())) {
            let fault = Fault::warning("endpoint", &text.span, format!("no node is called `{endpoint}`"));
            self.faults.push(fault.label("unknown").help(format!("did you mean `{near}`?")));
        }
    }

    fn nodes(
        &mut self,
        sections: Option<&Spanned<Vec<NodeSection>>>,
        inherited: &Inherited<'_>,
    ) -> Vec<Node> {
        let Some(sections) = sections else { return Vec::new() };
        if sections.value.is_empty() {
            let fault = Fault::error("no-nodes", &sections.span, "the cluster has no nodes").label("empty");
            self.faults.push(fault.help("add one: `nodes: [{name: node-1}]`"));
        }
        let mut names = Seen::new("duplicate-node", "the node name", "give each node its own name");
        let mut known = network::Known::new();
        let mut nodes = Vec::new();
        for section in &sections.value {
            let name = section.name.as_ref().and_then(|name| self.word(name, NAME));
            if let (Some(name), Some(text)) = (&name, &section.name) {
                names.check(name, &text.span, self.faults);
            }
            if let Some(given) =
                section.architecture.as_ref().filter(|given| given.value != Architecture::Amd64)
                && self.said.insert((given.span.start, "architecture"))
            {
                let message = format!("this version of kiln builds no images for {}", given.value);
                let fault = Fault::note("architecture", &given.span, message).label("not yet");
                self.faults.push(fault.help("`kiln lock` and `kiln build` refuse the file with it"));
            }
            let network = self.network(section.network.as_ref(), &mut known);
            let own_zone = section.time_zone.as_ref().and_then(|zone| self.word(zone, TIME_ZONE));
            let packages = self.set(section.packages.as_ref(), PACKAGE);
            if let (Some(zone), Some(_)) = (&section.time_zone, &own_zone) {
                self.zone(zone, &inherited.packages.union(&packages).cloned().collect());
            }
            let machine = match Written::is_any(section) {
                true => self.machine(Some(Written::node(section)), Some(inherited.machine)),
                false => inherited.machine.clone(),
            };
            self.wifi_firmware(section.network.as_ref(), inherited.packages.iter().chain(&packages));
            let user_data = self.user_data(section.user_data.as_ref());
            let persons = self.users(section.users.as_ref(), inherited.users);
            if section.users.is_some() || user_data.is_some() {
                let own: Vec<_> = inherited
                    .user_data
                    .map(|(text, data)| (text, &**data))
                    .into_iter()
                    .chain(section.user_data.as_ref().zip(user_data.as_deref()))
                    .collect();
                self.clashes(&persons, &own);
            }
            let mut users = people::of(&persons);
            let keys = self.ssh_keys(section.ssh_keys.as_ref());
            for user in &mut users {
                let new = keys.iter().filter(|key| !user.ssh_keys.contains(key)).cloned().collect::<Vec<_>>();
                user.ssh_keys.extend(new);
            }
            self.access(section, &users);
            let role = section.role.as_ref().map_or(Role::None, |role| role.value);
            let mut overlays =
                self.node_overlays(inherited.overlays, section.overlays.as_ref(), section.k3s.as_ref());
            let own_disks = section.disks.as_ref().map(|disks| self.disks(disks, &overlays));
            overlays.retain(|overlay| overlay.roles.contains(&role));
            let layers = overlays.iter().flat_map(|overlay| &overlay.packages);
            let all = inherited.packages.iter().chain(&packages).chain(layers).map(String::as_str).collect();
            let own = !inherited.packages.is_empty()
                || !packages.is_empty()
                || overlays.iter().any(|overlay| overlay.folder.is_some());
            self.shells(&persons, &Shells { packages: all, own, overlays: &overlays });
            let disks = own_disks.unwrap_or_else(|| inherited.disks.clone());
            let sector_size = self.sector_size(section, &disks);
            let own_memory = section.memory.as_ref().map(|memory| self.memory(memory));
            nodes.push(Node {
                name: name.unwrap_or_default(),
                role,
                architecture: section.architecture.as_ref().map_or(Architecture::Amd64, |given| given.value),
                network,
                time_zone: own_zone.unwrap_or_else(|| inherited.zone.to_owned()),
                packages,
                users,
                sector_size,
                disks,
                memory: own_memory.unwrap_or_else(|| inherited.memory.clone()),
                iscsi: None,
                overlays,
                machine,
                labels: self.labels(section.labels.as_ref()),
                taints: section.taints.iter().flatten().filter_map(|taint| self.word(taint, TAINT)).collect(),
                user_data: inherited
                    .user_data
                    .map(|(_, data)| Arc::clone(data))
                    .into_iter()
                    .chain(user_data)
                    .collect(),
            });
        }
        nodes
    }

    /// Files of the user's own, beside what is known of the nodes that have them.
    fn own_files(
        &mut self,
        (file, base): (&ClusterFile, &Base),
        nodes: &[Node],
        all: Option<(&Text, &UserData)>,
    ) {
        if let Some((text, data)) = all {
            self.around(text, data, &around(base, &nodes.iter().collect::<Vec<_>>()));
        }
        let sections = file.nodes.iter().flat_map(|nodes| &nodes.value);
        for (section, node) in sections.zip(nodes) {
            if let Some((text, data)) = section.user_data.as_ref().zip(node.user_data.last())
                && node.user_data.len() > usize::from(all.is_some())
            {
                self.around(text, data, &around(base, &[node]));
            }
        }
    }

    /// Whether the node has the zone.
    fn zone(&mut self, text: &Text, packages: &BTreeSet<String>) {
        let name = text.value.as_str();
        let (message, help) = match zones::zone(name) {
            Some(Zone::Known) => return,
            Some(Zone::Legacy(_)) if packages.contains("tzdata-legacy") => return,
            Some(Zone::Legacy(now)) => (
                format!("the time zone `{name}` has left the package tzdata"),
                format!("write `{now}`, which it is now called, or add `tzdata-legacy` to `base.packages`"),
            ),
            None => (
                format!("there is no time zone `{name}`"),
                nearest(name, zones::all())
                    .map_or_else(|| TIME_ZONE.help.to_owned(), |near| format!("did you mean `{near}`?")),
            ),
        };
        self.faults.push(Fault::error("time-zone", &text.span, message).label("unknown").help(help));
    }

    /// Bytes of a sector of the node's disk, by its own word or by that of its `disks`.
    fn sector_size(&mut self, section: &NodeSection, disks: &Disks) -> u32 {
        let of_disks = disks.sector_size;
        let Some(size) = &section.sector_size else { return of_disks.unwrap_or(512) };
        self.sectors(size);
        let own = section.disks.as_ref().and_then(|disks| disks.system.as_ref()?.sector_size.as_ref());
        if let Some(other) = own.filter(|other| other.value != size.value) {
            let message = format!("a disk has one size of sectors, not {} and {}", size.value, other.value);
            let fault =
                Fault::error("sector-size", &other.span, message).label("here").also(&size.span, "and here");
            self.faults.push(fault.help("leave one of the two out"));
        }
        size.value
    }

    fn sectors(&mut self, size: &Spanned<u32>) -> u32 {
        if !matches!(size.value, 512 | 4096) {
            let message = format!("a sector has 512 or 4096 bytes, not {}", size.value);
            let fault = Fault::error("sector-size", &size.span, message).label("here");
            self.faults.push(fault.help("nearly every disk says 512; `lsblk -o NAME,LOG-SEC` shows it"));
        }
        size.value
    }

    /// Can anybody log in?
    fn access(&mut self, section: &NodeSection, users: &[User]) {
        let locked_out = users.iter().all(|user| user.ssh_keys.is_empty() && user.password_hash.is_none());
        // Faults in keys have been reported already; the warning would only repeat them.
        let reported =
            self.faults.iter().any(|fault| matches!(fault.code, "ssh-key" | "private-key" | "password-hash"));
        let Some(name) = section.name.as_ref().filter(|_| locked_out && !reported) else { return };
        let message = format!("nobody can log in to `{}`: no user has an SSH key or a password", name.value);
        let fault = Fault::warning("no-login", &name.span, message).label("this node");
        self.faults
            .push(fault.help("add `users:` with `ssh_keys:`; `cat ~/.ssh/*.pub` shows your public keys"));
    }
}

/// What these nodes have in common.
fn around<'a>(base: &Base, nodes: &[&'a Node]) -> Around<'a> {
    let of =
        |node: &'a Node| -> BTreeSet<&'a str> { node.users.iter().map(|user| user.name.as_str()).collect() };
    let mut users = nodes.first().map(|node| of(node)).unwrap_or_default();
    for node in nodes.iter().skip(1) {
        let here = of(node);
        users.retain(|name| here.contains(name));
    }
    let own = |node: &&Node| {
        !node.packages.is_empty() || node.overlays.iter().any(|overlay| overlay.folder.is_some())
    };
    let named = !base.packages.is_empty() || nodes.iter().any(own);
    let disks =
        nodes.iter().flat_map(|node| node.disks.slots()).filter_map(|slot| slot.mount_point.as_deref());
    let directories = nodes.iter().flat_map(|node| &node.machine.directories).map(String::as_str);
    Around { users, packages: named, mounts: disks.chain(directories).collect() }
}

/// Values that may be given once.
struct Seen {
    code: &'static str,
    what: &'static str,
    help: &'static str,
    first: BTreeMap<String, Span>,
}

impl Seen {
    fn new(code: &'static str, what: &'static str, help: &'static str) -> Self {
        Self { code, what, help, first: BTreeMap::new() }
    }
    fn check(&mut self, value: &str, span: &Span, faults: &mut Vec<Fault>) {
        if let Some(first) = self.first.get(value) {
            let message = format!("{} `{value}` is given twice", self.what);
            let fault = Fault::error(self.code, span, message).label("again here").also(first, "first here");
            faults.push(fault.help(self.help));
        } else {
            self.first.insert(value.to_owned(), span.clone());
        }
    }
}
