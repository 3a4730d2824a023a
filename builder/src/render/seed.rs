//! The NoCloud seed of a node, and its handoff document.

use super::template::{META_DATA, NETWORK_CONFIG, USER_DATA, render};
use super::{Error, File, Vault, disks, files};
use crate::cluster::identity::Medium;
use crate::cluster::{Cluster, Interface, Node, User};
use kiln_contract::handoff::{self, Handoff};
use kiln_contract::partition::{LABEL_CIDATA, LABEL_ESP, LABEL_ROOT_A, LABEL_ROOT_B, LABEL_STATE};
use minijinja::{Value, context};
use std::sync::Arc;

/// The documents of one node, as they stand on its CIDATA volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// `user-data`, a cloud-config.
    pub user_data: String,
    /// The same without the files that hold secrets, when there are any: what stands in its place after the join.
    pub public_user_data: Option<String>,
    /// `meta-data`.
    pub meta_data: String,
    /// `network-config`, version 2.
    pub network_config: String,
    /// What Kiln's own helper reads, at [`handoff::PATH`].
    pub handoff: Handoff,
}

impl Seed {
    /// Whether any secret is in it.
    pub fn is_private(&self) -> bool {
        let iscsi = self.handoff.iscsi.iter();
        let luns = iscsi.clone().flat_map(|iscsi| &iscsi.luns).any(|lun| lun.chap.is_some());
        // Targets have them for their initiators.
        self.public_user_data.is_some() || luns || iscsi.clone().any(|iscsi| iscsi.target.is_some())
    }
}

/// The seed of `node`, which is one of `cluster`'s, for its own disk.
pub fn seed(cluster: &Cluster, node: &Node, vault: &Arc<dyn Vault>) -> Result<Seed, Error> {
    let identity = cluster.identity(node);
    let files = files(cluster, node, vault)?;
    let file = |file: &File| {
        context! { path => &file.path, permissions => format!("{:04o}", file.mode), content => &file.text }
    };
    let user_data = |files: Vec<Value>| {
        let values = context! {
        hostname => &node.name,
        fqdn => cluster.fqdn(node),
        time_zone => &node.time_zone,
        users => node.users.iter().map(user).collect::<Vec<_>>(),
        password_authentication => cluster.ssh_password_authentication,
        files,
        };
        render(&USER_DATA, values)
    };
    let public: Vec<Value> = files.iter().filter(|file| !file.secret).map(file).collect();
    let public_user_data = (public.len() < files.len()).then(|| user_data(public)).transpose()?;
    let meta_data = context! { instance_id => identity.instance_id(), hostname => &node.name };
    Ok(Seed {
        user_data: user_data(files.iter().map(file).collect())?,
        public_user_data,
        meta_data: render(&META_DATA, meta_data)?,
        network_config: render(&NETWORK_CONFIG, network(node))?,
        handoff: handoff(cluster, node)?,
    })
}

/// The handoff document of `node`, which is one of `cluster`'s.
pub fn handoff(cluster: &Cluster, node: &Node) -> Result<Handoff, Error> {
    let identity = cluster.identity(node);
    let handoff = Handoff {
        version: handoff::VERSION,
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

fn network(node: &Node) -> Value {
    let network = &node.network;
    let (interface, mac) = match &network.interface {
        Interface::Name(name) => (name.as_str(), None),
        // The renderer wants a name too; cloud-init replaces it with the true one when it sees the address.
        Interface::Mac(mac) => ("e*", Some(mac)),
    };
    let fixed = network.fixed.as_ref().map(|fixed| {
        context! {
            address => fixed.address.to_string(),
            gateway => fixed.gateway.map(|gateway| gateway.to_string()),
            // cloud-init's networkd renderer has no word `default`.
            everywhere => if fixed.address.addr().is_ipv4() { "0.0.0.0/0" } else { "::/0" },
        }
    });
    let dns: Vec<String> = network.dns.iter().map(ToString::to_string).collect();
    context! { interface, mac, fixed, dns, search => &network.search }
}
