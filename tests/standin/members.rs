//! etcd's members, as a table of what was seen of k3s 1.34.3, no model of etcd. The server that began the cluster keeps it; those
//! that joined ask that one. A node's name may be in it once (pkg/etcd/etcd.go: join), and an annotation of the Node takes a
//! member out and keeps the Node (pkg/etcd/member_controller.go).

use crate::Outcome;
use crate::api::{merge, status};
use crate::client::{Ask, Peer};
use crate::config::{self, Config};
use crate::serving::Answer;
use crate::store::Store;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::time::Duration;

const TABLE: &str = "etcd/members";
/// The name of this server's member.
const NAME: &str = "/var/lib/rancher/k3s/server/db/etcd/name";
const START: &str = "etcd.k3s.cattle.io/";

/// This server's member; its name is made once for a datastore.
pub(crate) fn own(config: &Config) -> Outcome<Value> {
    let path = config.path(NAME);
    if !path.exists() {
        let mut bytes = [0; 4];
        std::io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut bytes)?;
        config::write(&path, format!("{}-{:08x}", config.node()?, u32::from_be_bytes(bytes)))?;
    }
    let name = fs::read_to_string(path)?;
    let id = Sha256::digest(&name).iter().take(8).fold(0_u64, |id, byte| id << 8 | u64::from(*byte));
    let address = config.text("bind-address").unwrap_or_else(|| "127.0.0.1".to_owned());
    Ok(json!({
        "ID": id | 1, "name": name,
        "peerURLs": [format!("https://{address}:2380")], "clientURLs": [format!("https://{address}:2379")],
    }))
}

/// The node that a member is of.
fn node_of(member: &Value) -> &str {
    let name = member["name"].as_str().unwrap_or_default();
    name.rsplit_once('-').map_or(name, |(node, _)| node)
}

/// Adds a member, unless one of that node's name is there.
pub(crate) fn add(store: &Store, member: Value) -> Outcome<Answer> {
    store.whole(TABLE, |table| {
        let mut all = table.take().and_then(|all| all.as_array().cloned()).unwrap_or_default();
        let known = all.iter().any(|one| one["name"] == member["name"]);
        let answer = if !known && all.iter().any(|one| node_of(one) == node_of(&member)) {
            status(409, "duplicate node name found")
        } else {
            Answer::text(200, "added")
        };
        if answer.status == 200 && !known {
            all.push(member);
        }
        *table = Some(Value::Array(all));
        answer
    })
}

/// What `/db/info` answers.
pub(crate) fn list(store: &Store) -> Outcome<Answer> {
    let all = store.whole(TABLE, |table| table.clone().unwrap_or_else(|| json!([])))?;
    let body = json!({ "members": all }).to_string().into_bytes();
    Ok(Answer { status: 200, kind: "application/json", body })
}

/// Joins another server's etcd, or ends as k3s does.
pub(crate) fn join(config: &Config, peer: &Peer, secret: &str) -> Outcome<()> {
    let ask = Ask {
        method: "POST",
        path: "/standin/members",
        headers: Vec::new(),
        body: own(config)?.to_string().into_bytes(),
    };
    match peer.ask(ask.with("server", secret)) {
        Err(error) if error.to_string().ends_with(": 409") => {
            fs::remove_file(config.path(NAME))?;
            Err("etcd cluster join failed: duplicate node name found, please use a unique name for this node"
                .into())
        }
        other => other.map(drop),
    }
}

/// What k3s' controllers do with the Nodes' annotations, for ever.
pub(crate) fn watch(store: &Store) -> Outcome<()> {
    loop {
        for (key, _) in store.all("node/")? {
            let gone = store.whole(&key, |node| node.as_mut().and_then(taken_out))?;
            let Some(name) = gone else { continue };
            store.whole(TABLE, |table| {
                if let Some(Value::Array(all)) = table {
                    all.retain(|member| member["name"] != name.as_str());
                }
            })?;
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// The member that is to go with this.
fn taken_out(node: &mut Value) -> Option<String> {
    let text =
        |name: &str| node["metadata"]["annotations"][format!("{START}{name}")].as_str().map(str::to_owned);
    if !text("remove")?.eq_ignore_ascii_case("true") {
        return None;
    }
    let (patch, gone) = match (text("removed-node-name"), text("node-name")) {
        // It has come back as another member.
        (Some(removed), Some(now)) if removed != now => (
            json!({ "etcd.k3s.cattle.io/remove": "false", "etcd.k3s.cattle.io/removed-node-name": null }),
            None,
        ),
        (None, Some(now)) => (
            json!({
                "etcd.k3s.cattle.io/removed-node-name": now,
                "etcd.k3s.cattle.io/node-name": null, "etcd.k3s.cattle.io/node-address": null,
            }),
            Some(now),
        ),
        _ => return None,
    };
    merge(node, &json!({ "metadata": { "annotations": patch } }));
    let version: u64 =
        node["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0);
    node["metadata"]["resourceVersion"] = (version + 1).to_string().into();
    gone
}
