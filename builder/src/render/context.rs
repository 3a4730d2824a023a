//! What templates of overlays see: the cluster, the node, the settings, and secrets when they ask for them.

use crate::cluster::settings::{Secret, Setting, SettingValue, Settings};
use crate::cluster::{Cluster, Interface, Node, Role};
use crate::digest::Sha256;
use kiln_contract::policy::Use;
use minijinja::value::{Object, ObjectRepr};
use minijinja::{Error, ErrorKind, Value, context};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Gives out secrets. Errors are for people and hold no secret.
pub trait Vault: Send + Sync + fmt::Debug {
    /// A secret that the cluster file refers to.
    fn reveal(&self, secret: &Secret) -> Result<String, String>;
    /// One of the cluster's own, such as `agent_token`, or of the node, such as `node_password`. None when there is no
    /// secret of that name.
    fn own(&self, name: &str, node: &str) -> Result<Option<String>, String>;
    /// What belongs to those and is no secret, such as the certificate `server_ca`.
    fn public(&self, name: &str, node: &str) -> Result<Option<String>, String>;
    /// A digest of a document with secrets in it: keyed, or where there is no key a plain one, which only a file of 0600
    /// may record.
    fn digest(&self, bytes: &[u8]) -> String;
    /// Such a digest under the cluster's own key, which only who can open its secrets has. None where there is no key.
    fn keyed(&self, _: &[u8]) -> Option<String> {
        None
    }
}

/// Where a cluster has no secrets, or none are wanted: every question is an error.
#[derive(Debug)]
pub struct NoVault;

impl Vault for NoVault {
    fn reveal(&self, secret: &Secret) -> Result<String, String> {
        Err(format!("{secret:?} was not read"))
    }
    fn own(&self, name: &str, _: &str) -> Result<Option<String>, String> {
        Err(format!("there is no {name} yet: `kiln secrets init` makes the cluster's own secrets"))
    }
    fn public(&self, name: &str, node: &str) -> Result<Option<String>, String> {
        self.own(name, node)
    }
    fn digest(&self, bytes: &[u8]) -> String {
        Sha256::of(bytes).to_string()
    }
}

/// A node's view of everything.
pub(super) struct View<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) node: &'a Node,
    pub(super) vault: &'a Arc<dyn Vault>,
    /// Set when a secret is printed.
    pub(super) secret: Arc<AtomicBool>,
    /// What every overlay sees of the nodes, in the order of the file.
    nodes: Vec<Value>,
}

impl<'a> View<'a> {
    /// What the overlays of `node` see.
    pub(super) fn new(cluster: &'a Cluster, node: &'a Node, vault: &'a Arc<dyn Vault>) -> Self {
        let mut view = Self { cluster, node, vault, secret: Arc::default(), nodes: Vec::new() };
        view.nodes = cluster.nodes.iter().map(|node| view.node_values(node)).collect();
        view
    }

    /// The values for the templates of an overlay with these settings.
    pub(super) fn values(&self, settings: &Settings) -> Value {
        let both = || self.cluster.nodes.iter().zip(&self.nodes);
        let of = |role: Role| -> Vec<Value> {
            both().filter(|(node, _)| node.role == role).map(|(_, values)| values.clone()).collect()
        };
        let this = both().find(|(node, _)| node.name == self.node.name).map(|(_, values)| values.clone());
        let overlays: BTreeMap<&str, Value> = self
            .node
            .overlays
            .iter()
            .map(|overlay| (overlay.name.as_str(), self.settings(&overlay.settings)))
            .collect();
        context! {
            cluster => context! {
                id => self.cluster.id.to_string(),
                name => &self.cluster.name,
                endpoint => self.cluster.endpoint.clone().or_else(|| {
                    self.cluster.first_server().and_then(address)
                }),
                domain => &self.cluster.domain,
            },
            node => this,
            nodes => &self.nodes,
            servers => of(Role::Server),
            agents => of(Role::Agent),
            overlay => self.settings(settings),
            overlays,
            makers => self.makers(),
            architecture => self.node.architecture.as_str(),
            flags => self.flags(),
            secrets => Value::from_object(Own {
                vault: Arc::clone(self.vault), node: self.node.name.clone(), seen: Arc::clone(&self.secret),
            }),
            trust => Value::from_object(Trust { vault: Arc::clone(self.vault), node: self.node.name.clone() }),
        }
    }

    /// Of each backup of the node the name of the node that makes its repository: the first that names it, in the same
    /// words.
    fn makers(&self) -> BTreeMap<String, String> {
        let backups = |node: &'a Node| {
            let overlay = node.overlay("backup-restic");
            let list = overlay.and_then(|overlay| overlay.settings.get("backups")).map(Setting::list);
            list.unwrap_or_default()
                .iter()
                .filter_map(|backup| Some((backup, &backup.get("repository")?.value)))
        };
        let maker = |repository: &SettingValue| {
            let mut nodes = self.cluster.nodes.iter();
            nodes.find(|node| backups(node).any(|(_, other)| other == repository)).unwrap_or(self.node)
        };
        let own = backups(self.node);
        own.filter_map(|(backup, repository)| {
            Some((backup.get("name")?.text()?.to_owned(), maker(repository).name.clone()))
        })
        .collect()
    }

    fn node_values(&self, node: &Node) -> Value {
        let identity = self.cluster.identity(node);
        let fixed = node.network.fixed.as_ref();
        let (interface, mac) = match &node.network.interface {
            Interface::Name(name) => (Some(name), None),
            Interface::Mac(mac) => (None, Some(mac)),
        };
        let servers: Vec<&Node> =
            self.cluster.nodes.iter().filter(|node| node.role == Role::Server).collect();
        let place = servers.iter().position(|server| server.name == node.name);
        context! {
            name => &node.name,
            fqdn => self.cluster.fqdn(node),
            role => node.role.as_str(),
            first => place == Some(0),
            // The server that must be there before this one joins.
            after => place.and_then(|at| at.checked_sub(1)).map(|at| context! {
                name => &servers[at].name, host => address(servers[at]).unwrap_or_else(|| self.cluster.fqdn(servers[at])),
            }),
            address => address(node),
            // One of each family, the first of the node's own first.
            addresses => one_of_each(node),
            // All networks that it has an address in.
            networks => networks(node),
            node_ip => node_ip(node),
            prefix => fixed.map(|fixed| fixed.address.prefix_len()),
            network => fixed.map(|fixed| fixed.address.trunc().to_string()),
            gateway => fixed.and_then(|fixed| fixed.gateway).map(|gateway| gateway.to_string()),
            interface,
            mac,
            labels => &node.labels,
            taints => &node.taints,
            initiator => identity.iscsi_initiator(),
            // Data disks and where they are mounted.
            mounts => node.disks.slots().filter_map(|slot| {
                Some(context! { name => &slot.name, path => slot.mount_point.as_ref()? })
            }).collect::<Vec<_>>(),
            longhorn_disks => longhorn_disks(node),
        }
    }

    /// Flags of k3s that the cluster file names, for this node: `agent`'s, and on a server `server`'s over them, lists behind
    /// each other. The lists that Kiln writes, too, are always there.
    fn flags(&self) -> Value {
        const LISTS: [&str; 5] = ["tls-san", "disable", "node-label", "node-taint", "kubelet-arg"];
        let mut flags: Vec<(String, Value)> =
            LISTS.iter().map(|name| ((*name).to_owned(), Value::from(Vec::<Value>::new()))).collect();
        let Some(k3s) = self.node.overlay("k3s") else { return Value::from_pairs(flags) };
        let sections =
            ["agent", "server"].into_iter().filter(|one| *one == "agent" || self.node.role == Role::Server);
        for (key, setting) in sections.filter_map(|one| k3s.settings.get(one)).flat_map(Setting::map) {
            let name = key.strip_suffix('+').unwrap_or(key);
            let known = flags.iter_mut().find(|(known, _)| known == name);
            let items = |setting: &Setting| -> Vec<Value> {
                match (&setting.value, setting.text()) {
                    (SettingValue::List(items), _) => items.iter().map(|item| self.value(item)).collect(),
                    // k3s takes commas for the ends of entries.
                    (_, Some(text)) => text.split(',').map(Value::from).collect(),
                    _ => vec![self.value(setting)],
                }
            };
            match known {
                Some((_, value)) if value.kind() == minijinja::value::ValueKind::Seq => {
                    let before = value.try_iter().into_iter().flatten();
                    *value = before.chain(items(setting)).collect();
                }
                Some((_, value)) => *value = self.value(setting),
                None => flags.push((name.to_owned(), self.value(setting))),
            }
        }
        Value::from_pairs(flags)
    }

    /// Settings alone.
    pub(super) fn settings(&self, settings: &Settings) -> Value {
        Value::from_pairs(settings.iter().map(|(name, setting)| (name.clone(), self.value(setting))))
    }

    fn value(&self, setting: &Setting) -> Value {
        match &setting.value {
            SettingValue::Null => Value::from(()),
            SettingValue::Bool(value) => Value::from(*value),
            SettingValue::Integer(number) => Value::from(*number),
            SettingValue::Float(text) => {
                text.parse::<f64>().map_or_else(|_| Value::from(text.as_str()), Value::from)
            }
            SettingValue::Text(text) => Value::from(text.as_str()),
            SettingValue::Secret(secret) => Value::from_object(Hidden {
                what: What::Named(secret.clone()),
                vault: Arc::clone(self.vault),
                seen: Arc::clone(&self.secret),
                node: self.node.name.clone(),
            }),
            SettingValue::List(items) => items.iter().map(|item| self.value(item)).collect(),
            SettingValue::Map(entries) => {
                Value::from_pairs(entries.iter().map(|(name, value)| (name.clone(), self.value(value))))
            }
        }
    }
}

/// What k3s is told of the node's addresses: one of each kind that the pods have (k3s, pkg/daemons/agent: "must share the
/// same IP version"), the pods' first kind first.
fn node_ip(node: &Node) -> Option<String> {
    let all = node.network.addresses();
    let pods = node.overlay("k3s").and_then(|k3s| k3s.settings.get("pod_cidr")).and_then(Setting::text);
    let kinds: Vec<bool> =
        pods.into_iter().flat_map(|pods| pods.split(',')).map(|net| !net.contains(':')).collect();
    let found = kinds.iter().filter_map(|four| all.iter().find(|address| address.is_ipv4() == *four));
    let found: Vec<String> = found.map(ToString::to_string).collect();
    match found.is_empty() {
        true => all.first().map(ToString::to_string),
        false => Some(found.join(",")),
    }
}

fn one_of_each(node: &Node) -> Vec<String> {
    let all = node.network.addresses();
    let first = all.first().map(IpAddr::is_ipv4);
    let other = all.iter().find(|address| Some(address.is_ipv4()) != first);
    all.first().into_iter().chain(other).map(ToString::to_string).collect()
}

fn networks(node: &Node) -> Vec<String> {
    let mut all = Vec::new();
    for address in node.network.nets() {
        let net = address.trunc().to_string();
        if !all.contains(&net) {
            all.push(net);
        }
    }
    all
}

fn address(node: &Node) -> Option<String> {
    node.network.fixed.as_ref().map(|fixed| fixed.address.addr().to_string())
}

/// The folders that Longhorn keeps replicas in: on data disks and on LUNs.
fn longhorn_disks(node: &Node) -> Vec<Value> {
    let rules = node.disks.data.iter().filter(|rule| rule.usage == Use::Longhorn);
    let disks = rules.flat_map(|rule| {
        rule.slots.iter().filter_map(|slot| {
            let path = slot.mount_point.as_ref()?;
            Some(context! { name => &slot.name, path, tags => &rule.tags, reserved => rule.reserved })
        })
    });
    let luns = node.iscsi.iter().flat_map(|iscsi| &iscsi.luns).filter_map(|lun| {
        let path = format!("{}/{}", lun.mount_point, lun.longhorn.as_ref()?.folder);
        Some(context! { name => &lun.name, path, tags => Vec::<String>::new(), reserved => 0 })
    });
    disks.chain(luns).collect()
}

/// The cluster's own secrets by name.
#[derive(Debug)]
struct Own {
    vault: Arc<dyn Vault>,
    node: String,
    seen: Arc<AtomicBool>,
}

impl Object for Own {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        Some(Value::from_object(Hidden {
            what: What::Own(key.as_str()?.to_owned()),
            vault: Arc::clone(&self.vault),
            node: self.node.clone(),
            seen: Arc::clone(&self.seen),
        }))
    }
}

/// What belongs to the cluster's own secrets and is none, by name. A name that there is not is undefined.
#[derive(Debug)]
struct Trust {
    vault: Arc<dyn Vault>,
    node: String,
}

impl Object for Trust {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let what = What::Public(key.as_str()?.to_owned());
        let (vault, node) = (Arc::clone(&self.vault), self.node.clone());
        // Nobody looks at this mark.
        Some(Value::from_object(Hidden { what, vault, node, seen: Arc::default() }))
    }
}

#[derive(Debug)]
enum What {
    Named(Secret),
    Own(String),
    Public(String),
}

/// A secret: it is asked for when it is printed, and whoever prints it is remembered.
#[derive(Debug)]
struct Hidden {
    what: What,
    vault: Arc<dyn Vault>,
    node: String,
    seen: Arc<AtomicBool>,
}

impl Object for Hidden {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
    fn is_true(self: &Arc<Self>) -> bool {
        true
    }
    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.seen.store(true, Ordering::Relaxed);
        match self.text() {
            Ok(text) => f.write_str(&text),
            // fmt::Error has no words: `reveal` in the template environment asks first and has them.
            Err(_) => Err(fmt::Error),
        }
    }
}

impl Hidden {
    fn text(&self) -> Result<String, String> {
        match &self.what {
            What::Named(secret) => self.vault.reveal(secret),
            What::Own(name) => {
                let text = self.vault.own(name, &self.node)?;
                text.ok_or_else(|| format!("the cluster has no secret `{name}`"))
            }
            What::Public(name) => {
                let text = self.vault.public(name, &self.node)?;
                text.ok_or_else(|| format!("`trust` has no `{name}`"))
            }
        }
    }
}

/// The text of a value that is a secret, when it is one.
pub(super) fn revealed(value: &Value) -> Result<Option<String>, Error> {
    let Some(hidden) = value.downcast_object_ref::<Hidden>() else { return Ok(None) };
    hidden.seen.store(true, Ordering::Relaxed);
    hidden.text().map(Some).map_err(|reason| Error::new(ErrorKind::InvalidOperation, reason))
}
