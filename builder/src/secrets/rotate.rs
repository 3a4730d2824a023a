//! Makes secrets anew, and says what that means for nodes that are built and nodes that run.

use super::document::ServiceAccount;
use super::{Error, Secrets, make};
use serde::Serialize;
use std::fmt;

/// What can be made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// The server token and the agent token.
    Tokens,
    /// Passwords of nodes.
    NodePasswords,
    /// SSH host keys of nodes.
    SshHostKeys,
    /// The key that signs tokens of service accounts.
    ServiceKey,
    /// All certificate authorities.
    Cas,
}

impl What {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Tokens, Self::NodePasswords, Self::SshHostKeys, Self::ServiceKey, Self::Cas];

    /// The word of the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::NodePasswords => "node-passwords",
            Self::SshHostKeys => "ssh-host-keys",
            Self::ServiceKey => "service-key",
            Self::Cas => "cas",
        }
    }
    /// True when each node has its own.
    pub fn is_per_node(self) -> bool {
        matches!(self, Self::NodePasswords | Self::SshHostKeys)
    }
    /// True when a cluster that runs needs more than new images.
    pub fn is_destructive(self) -> bool {
        !self.is_per_node()
    }
    /// What must be built anew, and what becomes of a cluster that runs; a sentence each. From docs.k3s.io,
    /// cli/token and cli/certificate, and from k3s, pkg/nodepassword.
    pub fn consequences(self) -> &'static [&'static str] {
        match self {
            Self::Tokens => &[
                "build all nodes anew: every seed carries a token",
                "nodes that run go on: nothing changes in a cluster until its servers are told",
                "tell a cluster that runs before any node is installed anew: on a server run `k3s token rotate` with the \
                 old and the new server token, put the new tokens into the configuration of all servers and agents, and \
                 restart them, servers first; until then the old tokens let nodes in and the new ones do not",
                "the server token also encrypts the CAs and keys in the datastore: a server with the new token cannot \
                 read a datastore, or a snapshot of one, that was written with the old token; keep the old file",
            ],
            Self::NodePasswords => &[
                "build these nodes anew",
                "a node that runs keeps its old password and stays in the cluster",
                "once it is installed anew the cluster refuses it (\"Node password rejected\") until its record of the \
                 old password is gone: `kubectl -n kube-system delete secret <node>.node-password.k3s`",
            ],
            Self::SshHostKeys => &[
                "build these nodes anew",
                "a node that runs shows its old key until it is installed anew; then clients that know the old one \
                 refuse to connect until `ssh-keygen -R <node>`",
            ],
            Self::ServiceKey => &[
                "build all servers anew; agents carry no part of it",
                "the key before stays behind the new one in service.key, so tokens that it signed stay valid; the one \
                 before that, if there was one, goes, and with it what it signed",
                "servers that run keep the key of their datastore: put the new service.key into a folder of its own as \
                 `server/tls/service.key`, run `k3s certificate rotate-ca --path=<folder>/server` on one server, and \
                 restart k3s on all servers; agents and pods need no restart",
            ],
            Self::Cas => &[
                "build all nodes anew: every token carries the hash of the server's CA, and kubeconfig files of before \
                 stop working",
                "a cluster that runs breaks apart: nodes with new seeds refuse the servers of before, and nodes of before \
                 refuse new servers",
                "to keep a cluster that runs: `k3s certificate rotate-ca --force --path=<folder>/server` with the new \
                 files on one server, then new tokens in the configuration of every node, a restart of k3s on all \
                 servers and then on all agents, and a restart of every pod; a datastore is not moved to new CAs by \
                 installing its servers anew",
            ],
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What to make anew, and for which nodes where each has its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// What.
    pub what: What,
    /// The nodes; all when empty.
    pub nodes: Vec<String>,
}

/// What was made anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rotated {
    /// The word of the command line.
    pub what: &'static str,
    /// The nodes, where each has its own.
    pub nodes: Vec<String>,
    /// See [`What::consequences`].
    pub consequences: &'static [&'static str],
}

impl Secrets {
    /// Makes these anew; nothing is written. The words are those for what was done.
    pub fn rotate(&mut self, wishes: &[Wish]) -> Result<Vec<Rotated>, Error> {
        wishes.iter().map(|wish| self.rotate_one(wish)).collect()
    }

    fn rotate_one(&mut self, wish: &Wish) -> Result<Rotated, Error> {
        let mut nodes = Vec::new();
        match wish.what {
            What::Tokens => self.document.tokens = make::tokens()?,
            What::ServiceKey => {
                let new = make::service_account()?;
                let former = Some(self.document.service_account.key.clone());
                self.document.service_account = ServiceAccount { former, ..new };
            }
            What::Cas => self.document.authorities = make::authorities()?,
            What::NodePasswords | What::SshHostKeys => {
                nodes = if wish.nodes.is_empty() {
                    self.nodes().map(str::to_owned).collect()
                } else {
                    wish.nodes.clone()
                };
                for name in &nodes {
                    let node = self.document.nodes.get_mut(name);
                    let node = node.ok_or_else(|| Error::NoNode { node: name.clone() })?;
                    if wish.what == What::NodePasswords {
                        node.password = make::node_password()?;
                    } else {
                        node.ssh_host_key = make::ssh_host_key(name)?;
                    }
                }
            }
        }
        Ok(Rotated { what: wish.what.as_str(), nodes, consequences: wish.what.consequences() })
    }
}
