//! What a server of k3s starts with: does it found a cluster, join a server, go on with the datastore that it has, turn SQLite
//! into etcd, or wait? The decision is pure: facts in, one word out.
//!
//! k3s itself founds a cluster whenever it finds no datastore and is told of no server (`cluster-init`, or SQLite without
//! it), and knows nothing of the servers that a cluster file names. A server that was flashed again has no datastore, the
//! same CAs and the same tokens: an empty datastore says nothing of the world. So a cluster is founded on a word alone.

use crate::rejoin::Policy;
use serde::{Deserialize, Serialize};

/// What a seed tells a server about the cluster's datastore. A join document of an older Kiln has none: its `config.yaml`
/// says what k3s starts with, as it did then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// The founding word: this server may begin the cluster.
    #[serde(default)]
    pub found: bool,
    /// An external datastore; nothing of it lies on servers.
    #[serde(default)]
    pub external: bool,
    /// Servers keep etcd; else the only one keeps SQLite.
    #[serde(default)]
    pub etcd: bool,
    /// The other servers, each at its own address.
    #[serde(default)]
    pub others: Vec<Peer>,
    /// The data disk that keeps the datastore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Disk>,
    /// Who has this node's old member taken out of etcd when it was made anew. Documents of an older Kiln have none, and a
    /// person does it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejoin: Option<Policy>,
}

/// Another server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Name of the node.
    pub name: String,
    /// Its own endpoint, not a shared address.
    pub server: crate::join::Endpoint,
}

/// A data disk, as the cluster file names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Its name.
    pub disk: String,
    /// Where it is mounted.
    pub mount_point: String,
}

/// What lies where k3s keeps its datastore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Here {
    /// Nothing.
    Nothing,
    /// etcd has been up.
    Etcd,
    /// SQLite.
    Sqlite,
    /// SQLite that was being turned into etcd: what etcd has of it is not whole.
    HalfTurned,
}

/// What another server said to a question at its own address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It proved itself by the pinned CA, and takes servers of this cluster.
    Takes,
    /// It proved itself, and keeps a datastore that no other server can join (400).
    Alone,
    /// Somebody is there who may be a server of this cluster, and does not say yet; in words.
    Unsure(String),
    /// Nobody of this cluster answered; in words.
    Silent(String),
}

/// All that the decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// It is the first server of the cluster file.
    pub first: bool,
    /// What its seed says.
    pub store: &'a Store,
    /// What it has.
    pub here: Here,
    /// It was Ready once, on this state or this data disk: the founding word was for that.
    pub was_ready: bool,
    /// What the others of [`Store::others`] said, in that order; nothing when they were not asked.
    pub said: &'a [Said],
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Start k3s with the datastore that is there.
    Resume,
    /// The others must be asked first.
    Ask,
    /// Join by the cluster's endpoint, as every server but the first does.
    Follow,
    /// Join that one of the other servers.
    Join(usize),
    /// Begin the cluster.
    Found,
    /// Begin etcd with what SQLite holds.
    Turn,
    /// Do nothing, and say why.
    Wait(Why),
}

/// Why a server waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// There is no word, and nobody answered.
    NoWord {
        /// What the others said.
        silent: String,
    },
    /// There is a word, and it was used: this node has been Ready, and its datastore is gone.
    Spent {
        /// What the others said.
        silent: String,
    },
    /// Another server may be of this cluster, and does not say yet.
    Unsure {
        /// Its name.
        name: String,
        /// What it said.
        said: String,
    },
    /// Another server keeps SQLite.
    OtherAlone {
        /// Its name.
        name: String,
    },
    /// SQLite is here, and another server has a datastore of this cluster.
    Two {
        /// Its name.
        name: String,
    },
    /// SQLite is here, and the cluster file has this server as a later one.
    NotFirst,
}

/// What is to be done. Without answers it says whether they are needed.
pub fn decide(facts: &Facts<'_>) -> Decision {
    let Facts { first, store, here, said, .. } = *facts;
    if store.external {
        return if first { Decision::Resume } else { Decision::Follow };
    }
    match here {
        Here::Etcd => return Decision::Resume,
        // The only server there is.
        Here::Sqlite if first && !store.etcd => return Decision::Resume,
        Here::Sqlite | Here::HalfTurned if !first => return Decision::Wait(Why::NotFirst),
        Here::Nothing if !first => return Decision::Follow,
        Here::Nothing | Here::Sqlite | Here::HalfTurned => {}
    }
    if said.len() < store.others.len() {
        return Decision::Ask;
    }
    let name = |at: usize| store.others.get(at).map_or_else(String::new, |peer| peer.name.clone());
    let proved = said.iter().position(|said| matches!(said, Said::Takes | Said::Alone));
    if let Some(at) = proved
        && here != Here::Nothing
    {
        return Decision::Wait(Why::Two { name: name(at) });
    }
    if let Some(at) = said.iter().position(|said| *said == Said::Takes) {
        return Decision::Join(at);
    }
    if let Some(at) = proved {
        return Decision::Wait(Why::OtherAlone { name: name(at) });
    }
    let unsure = said.iter().enumerate().find_map(|(at, said)| match said {
        Said::Unsure(said) => Some(Why::Unsure { name: name(at), said: said.clone() }),
        _ => None,
    });
    if let Some(why) = unsure {
        return Decision::Wait(why);
    }
    let silent = || {
        let each = said.iter().enumerate().filter_map(|(at, said)| match said {
            Said::Silent(said) => Some(format!("{} ({said})", name(at))),
            _ => None,
        });
        let each = each.collect::<Vec<_>>().join(", ");
        if each.is_empty() {
            "the cluster file has no other server".to_owned()
        } else {
            format!("nobody answers: {each}")
        }
    };
    match (here, store.found, facts.was_ready) {
        (Here::Sqlite | Here::HalfTurned, ..) => Decision::Turn,
        (_, true, false) => Decision::Found,
        (_, true, true) => Decision::Wait(Why::Spent { silent: silent() }),
        (_, false, _) => Decision::Wait(Why::NoWord { silent: silent() }),
    }
}

#[cfg(test)]
mod tests {
    use super::{Decision, Facts, Here, Peer, Said, Store, Why, decide};
    use crate::join::Endpoint;

    fn store(found: bool, others: &[&str]) -> Store {
        let peer = |name: &&str| Peer {
            name: (*name).to_owned(),
            server: Endpoint { host: format!("{name}.lan"), port: 6443 },
        };
        let others: Vec<Peer> = others.iter().map(peer).collect();
        Store { found, etcd: !others.is_empty(), others, ..Store::default() }
    }

    fn silent() -> Said {
        Said::Silent("off".to_owned())
    }

    fn unsure() -> Said {
        Said::Unsure("starting".to_owned())
    }

    /// The whole table for the first of three servers, with an empty datastore.
    #[test]
    fn an_empty_first_server() {
        let join = Decision::Join;
        let no_word =
            || Decision::Wait(Why::NoWord { silent: "nobody answers: s2 (off), s3 (off)".to_owned() });
        let spent = || Decision::Wait(Why::Spent { silent: "nobody answers: s2 (off), s3 (off)".to_owned() });
        let not_sure =
            |name: &str| Decision::Wait(Why::Unsure { name: name.to_owned(), said: "starting".to_owned() });
        let alone = || Decision::Wait(Why::OtherAlone { name: "s2".to_owned() });
        // The word, whether it was Ready once, the two answers.
        for (found, was_ready, said, want) in [
            (true, false, vec![], Decision::Ask),
            (true, false, vec![silent()], Decision::Ask),
            (true, false, vec![silent(), silent()], Decision::Found),
            (true, true, vec![silent(), silent()], spent()),
            (false, false, vec![silent(), silent()], no_word()),
            (false, true, vec![silent(), silent()], no_word()),
            (true, false, vec![Said::Takes, silent()], join(0)),
            (false, false, vec![silent(), Said::Takes], join(1)),
            (true, false, vec![unsure(), Said::Takes], join(1)),
            (true, false, vec![Said::Alone, Said::Takes], join(1)),
            (true, false, vec![silent(), unsure()], not_sure("s3")),
            (false, false, vec![unsure(), silent()], not_sure("s2")),
            (true, false, vec![Said::Alone, unsure()], alone()),
            (false, false, vec![Said::Alone, silent()], alone()),
        ] {
            let store = store(found, &["s2", "s3"]);
            let facts = Facts { first: true, store: &store, here: Here::Nothing, was_ready, said: &said };
            assert_eq!(decide(&facts), want, "{found} {was_ready} {said:?}");
        }
    }

    #[test]
    fn a_lone_server() {
        for (found, here, want) in [
            (true, Here::Nothing, Decision::Found),
            (
                false,
                Here::Nothing,
                Decision::Wait(Why::NoWord { silent: "the cluster file has no other server".to_owned() }),
            ),
            (false, Here::Sqlite, Decision::Resume),
            (false, Here::Etcd, Decision::Resume),
        ] {
            let store = store(found, &[]);
            let facts = Facts { first: true, store: &store, here, was_ready: false, said: &[] };
            assert_eq!(decide(&facts), want, "{found} {here:?}");
        }
        // It is to keep etcd.
        let store = Store { etcd: true, ..Store::default() };
        let facts = Facts { first: true, store: &store, here: Here::Sqlite, was_ready: true, said: &[] };
        assert_eq!(decide(&facts), Decision::Turn);
    }

    /// A datastore that is here is taken, whatever others say; SQLite only where it can be the cluster's.
    #[test]
    fn a_datastore_that_is_here() {
        let two = || Decision::Wait(Why::Two { name: "s3".to_owned() });
        let waits = || Decision::Wait(Why::Unsure { name: "s2".to_owned(), said: "starting".to_owned() });
        for (first, here, said, want) in [
            (true, Here::Etcd, vec![], Decision::Resume),
            (false, Here::Etcd, vec![], Decision::Resume),
            (false, Here::Nothing, vec![], Decision::Follow),
            (false, Here::Sqlite, vec![], Decision::Wait(Why::NotFirst)),
            (true, Here::Sqlite, vec![], Decision::Ask),
            (true, Here::Sqlite, vec![silent(), silent()], Decision::Turn),
            (true, Here::HalfTurned, vec![silent(), silent()], Decision::Turn),
            (true, Here::Sqlite, vec![silent(), Said::Takes], two()),
            (true, Here::Sqlite, vec![silent(), Said::Alone], two()),
            (true, Here::Sqlite, vec![unsure(), silent()], waits()),
        ] {
            for found in [true, false] {
                let store = store(found, &["s2", "s3"]);
                let facts = Facts { first, store: &store, here, was_ready: true, said: &said };
                assert_eq!(decide(&facts), want, "{first} {here:?} {said:?} {found}");
            }
        }
    }

    #[test]
    fn an_external_datastore_is_nobodys_on_this_node() {
        let store = Store { external: true, etcd: false, ..store(false, &["s2"]) };
        for (first, want) in [(true, Decision::Resume), (false, Decision::Follow)] {
            let facts = Facts { first, store: &store, here: Here::Nothing, was_ready: false, said: &[] };
            assert_eq!(decide(&facts), want);
        }
    }
}
