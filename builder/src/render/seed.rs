//! The NoCloud seed of a node, and its handoff document.

use super::stock::{self, Stock};
use super::template::{META_DATA, USER_DATA, render};
use super::{Error, File, Vault, disks, folders, lost, machine, network, networkd, settle, user_data, wifi};
use crate::cluster::identity::Medium;
use crate::cluster::{Cluster, Node, User};
use ipnet::IpNet;
use kiln_contract::addresses::{self, Addresses};
use kiln_contract::credentials::Whereabouts;
use kiln_contract::handoff::{self, Handoff};
use kiln_contract::iscsi::Iscsi;
use kiln_contract::partition::{LABEL_CIDATA, LABEL_ESP, LABEL_ROOT_A, LABEL_ROOT_B, LABEL_STATE};
use minijinja::{Value, context};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// What a seed is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// An image that Kiln built.
    Kiln,
    /// A stock cloud image of Debian or Ubuntu.
    Stock,
}

/// The documents of one node, as they stand on its CIDATA volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// `user-data`: a cloud-config, or several parts (MIME) of which the first is one.
    pub user_data: String,
    /// The same without the files that hold secrets, when there are any: what stands in its place after the join.
    pub public_user_data: Option<String>,
    /// `meta-data`.
    pub meta_data: String,
    /// `network-config`, version 2.
    pub network_config: String,
    /// A secret is in `network-config`.
    pub private_network: bool,
    /// Files of the user's own are in `user-data`, and what is in those is not known.
    pub own_user_data: bool,
    /// A user's password is in `user-data` as a hash, which whoever reads it may try words against.
    pub password_hashes: bool,
    /// What Kiln's own helper reads, at [`handoff::PATH`].
    pub handoff: Handoff,
    /// What the node's own report compares its addresses with, at [`addresses::PATH`].
    pub addresses: Addresses,
}

impl Seed {
    /// Whether any secret is in it.
    pub fn is_private(&self) -> bool {
        let chap = self.handoff.credentials.is_some();
        let written = self.own_user_data || self.password_hashes;
        self.public_user_data.is_some() || self.private_network || written || chap
    }
}

/// The seed of `node`, which is one of `cluster`'s, for its own disk.
pub fn seed(cluster: &Cluster, node: &Node, vault: &Arc<dyn Vault>) -> Result<Seed, Error> {
    // cloud-init ends at the first file that it can't write: the network's come first, then Kiln's own, then the user's.
    let mut files = networkd::files(node, vault)?;
    files.extend(super::files(cluster, node, vault)?);
    let system = machine::System::new(cluster, Target::Kiln);
    files.extend(machine::files(node, &system, vault)?);
    files.extend(settle::document((cluster, node), &files, &handoff(cluster, node)?));
    // Before the network is up there is no unit that brings Wi-Fi up: networkd waits for it.
    let boot = node
        .network
        .wifis()
        .map(|wifi| ["systemctl", "start", "--no-block", &wifi::unit(wifi)].map(str::to_owned));
    let host_key = host_key(node, vault)?;
    let folders = folders::commands(cluster, node, vault)?;
    let boot =
        folders.into_iter().chain(boot.map(Vec::from)).chain(machine::commands(node, &system)).collect();
    let documents = Documents { files, boot, host_key, ..Documents::default() };
    documents.seed((cluster, node), Target::Kiln, vault)
}

/// The seed of `node`, which is one of `cluster`'s, for a stock image.
pub fn stock_seed(
    (cluster, node): (&Cluster, &Node),
    vault: &Arc<dyn Vault>,
    stock: &Stock<'_>,
) -> Result<Seed, Error> {
    let documents = stock::documents((cluster, node), vault, stock)?;
    documents.seed((cluster, node), Target::Stock, vault)
}

/// What user-data is made of beside what the cluster file says of the node itself.
#[derive(Default)]
pub(super) struct Documents {
    pub(super) files: Vec<File>,
    /// Files that are no text, in Base64.
    pub(super) binaries: Vec<File>,
    /// Commands of every boot.
    pub(super) boot: Vec<Vec<String>>,
    /// Commands of the first boot.
    pub(super) run: Vec<Vec<String>>,
    /// Packages that a stock image installs.
    pub(super) packages: Vec<String>,
    /// The key that the node's SSH server shows, when it was made with the cluster's own secrets.
    pub(super) host_key: Option<HostKey>,
}

/// An SSH host key: OpenSSH's own format, and the line of its public half.
pub(super) struct HostKey {
    private: String,
    public: String,
}

/// The host key of a node of k3s: its cluster has secrets. Any other node makes its own at its first boot.
pub(super) fn host_key(node: &Node, vault: &Arc<dyn Vault>) -> Result<Option<HostKey>, Error> {
    if node.overlay("k3s").is_none() {
        return Ok(None);
    }
    let failed = |reason| Error::Secret { node: node.name.clone(), reason };
    let private = vault.own("ssh_host_key", &node.name).map_err(failed)?;
    let public = vault.public("ssh_host_key", &node.name).map_err(failed)?;
    Ok(private.zip(public).map(|(private, public)| HostKey { private, public }))
}

impl Documents {
    fn seed(
        &self,
        (cluster, node): (&Cluster, &Node),
        target: Target,
        vault: &Arc<dyn Vault>,
    ) -> Result<Seed, Error> {
        if let Some(lost) = lost(cluster, node)?.into_iter().next() {
            return Err(Error::Lost(lost));
        }
        if let Some(source) = node.users.iter().flat_map(User::key_sources).next() {
            return Err(Error::Keys { node: node.name.clone(), source_name: source.clone() });
        }
        let identity = cluster.identity(node);
        let secrets = self.files.iter().any(|file| file.secret) || self.host_key.is_some();
        let user_data = |private| self.user_data((cluster, node), target, private);
        let local = target == Target::Kiln && !node.network.links.is_empty();
        let meta_data = context! { instance_id => identity.instance_id(), hostname => &node.name, local };
        let password = node.network.wifis().any(|wifi| wifi.password.is_some());
        Ok(Seed {
            user_data: user_data(true)?,
            public_user_data: secrets.then(|| user_data(false)).transpose()?,
            meta_data: render(&META_DATA, meta_data)?,
            network_config: network::config(node, target, vault)?,
            private_network: target == Target::Stock && password,
            own_user_data: !node.user_data.is_empty(),
            password_hashes: node.users.iter().any(|user| user.password_hash.is_some()),
            handoff: handoff(cluster, node)?,
            addresses: addresses(node),
        })
    }

    fn user_data(
        &self,
        (cluster, node): (&Cluster, &Node),
        target: Target,
        private: bool,
    ) -> Result<String, Error> {
        let file = |file: &File, base64: bool| {
            let permissions = format!("{:04o}", file.mode);
            context! { path => &file.path, permissions, content => &file.text, base64 }
        };
        let files = self.files.iter().filter(|file| private || !file.secret).map(|one| file(one, false));
        let files: Vec<Value> = files.chain(self.binaries.iter().map(|one| file(one, true))).collect();
        let stock = match target {
            Target::Kiln => None,
            Target::Stock => Some(context! { packages => &self.packages }),
        };
        let modules = match target {
            Target::Kiln => user_data::modules(node, !self.boot.is_empty())?,
            Target::Stock => Default::default(),
        };
        let values = context! {
            hostname => &node.name,
            fqdn => cluster.fqdn(node),
            time_zone => &node.time_zone,
            // `false` keeps cloud-init from making one: a Kiln image has it.
            locale => node.machine.locale.as_ref().filter(|_| target == Target::Stock).map_or(Value::from(false), Value::from),
            users => node.users.iter().map(user).collect::<Vec<_>>(),
            password_authentication => cluster.ssh_password_authentication,
            host_key => self.host_key.as_ref().filter(|_| private).map(|key| {
                context! { private => &key.private, public => &key.public }
            }),
            files,
            boot => &self.boot,
            run => &self.run,
            stock,
            modules => modules.to_vec(),
        };
        user_data::with_own(node, render(&USER_DATA, values)?)
    }
}

/// The fixed addresses of a node.
fn addresses(node: &Node) -> Addresses {
    let network = &node.network;
    let fixed = network.fixed.iter().map(|fixed| fixed.address.addr());
    let all = fixed.chain(network.links.iter().flat_map(|link| &link.addresses).map(IpNet::addr));
    let all: BTreeSet<IpAddr> = all.collect();
    Addresses { version: addresses::VERSION, addresses: all.into_iter().collect() }
}

/// The handoff document of `node`, which is one of `cluster`'s.
pub fn handoff(cluster: &Cluster, node: &Node) -> Result<Handoff, Error> {
    let identity = cluster.identity(node);
    let mut credentials = node.iscsi.iter().flat_map(Iscsi::credentials);
    let handoff = Handoff {
        version: handoff::VERSION,
        credentials: credentials.next().map(|_| Whereabouts::Seed),
        cluster: handoff::Cluster { id: cluster.id, name: cluster.name.clone() },
        node: handoff::Node { name: node.name.clone(), machine_id: identity.machine_id() },
        partitions: handoff::Partitions {
            esp: identity.partition_guid(LABEL_ESP, Medium::Disk),
            cidata: identity.partition_guid(LABEL_CIDATA, Medium::Disk),
            root_a: identity.partition_guid(LABEL_ROOT_A, Medium::Disk),
            root_b: identity.partition_guid(LABEL_ROOT_B, Medium::Disk),
            state: identity.partition_guid(LABEL_STATE, Medium::Disk),
            state_filesystem: identity.filesystem_uuid(LABEL_STATE, Medium::Disk),
        },
        disks: disks::policy(cluster, node),
        memory: node.memory.clone(),
        iscsi: node.iscsi.clone(),
    };
    Handoff::parse(&handoff.to_bytes())
        .map_err(|source| Error::Handoff { node: node.name.clone(), source })?;
    Ok(handoff)
}

fn user(user: &User) -> Value {
    let sudo = match (user.sudo, &user.password_hash) {
        (false, _) => None,
        (true, None) => Some("ALL=(ALL:ALL) NOPASSWD:ALL"),
        (true, Some(_)) => Some("ALL=(ALL:ALL) ALL"),
    };
    context! {
        name => &user.name,
        shell => &user.shell,
        groups => &user.groups,
        sudo,
        password_hash => &user.password_hash,
        ssh_keys => &user.ssh_keys,
    }
}
