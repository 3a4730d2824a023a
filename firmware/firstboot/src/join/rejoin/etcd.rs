//! What etcd itself says of its members. It is asked by way of k3s' `/db/info`, at each member's own server: k3s passes a
//! linearizable member list of the etcd beside it (k3s, pkg/etcd/etcd.go: infoHandler; etcd, client/v3/cluster.go), which a
//! member can answer only while it is in touch with a majority; so an answer is that member's own word that it is well. This is
//! what k3s asks when it joins. etcd's ports are no way: 2379 speaks gRPC alone, and HTTP is on the loopback (listenClientHTTPURLs).

use crate::join::tls::{Dial, Question};
use crate::join::words::{Cause, Trouble};
use crate::join::{Around, server};
use kiln_contract::join::{Endpoint, Join};
use kiln_contract::rejoin::{Member, node_of};
use serde::Deserialize;

const INFO: &str = "/db/info";

/// etcd's members, as k3s gives them (etcd, api/etcdserverpb/rpc.pb.go: Member).
#[derive(Debug, Deserialize)]
struct List {
    #[serde(default)]
    members: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    /// Missing in what an older k3s makes up when its etcd does not answer.
    #[serde(rename = "ID", default)]
    id: u64,
    #[serde(default)]
    name: String,
    #[serde(rename = "clientURLs", default)]
    client_urls: Vec<String>,
    #[serde(rename = "isLearner", default)]
    learner: bool,
}

fn list(around: &Around, join: &Join, dial: &Dial) -> Result<Vec<Entry>, Trouble> {
    let silent = |said: String| Trouble::new(Cause::EtcdSilent, format!("{} {said}", dial.authority()));
    let secret = server::token(around, join)?.secret;
    let headers = vec![("Authorization", server::basic("server", secret.reveal()))];
    let question = Question { method: "GET", path: INFO, headers, body: Vec::new() };
    let answer = server::ask(around, join, dial, question)?;
    match answer.status {
        200 => {}
        500..=599 => return Err(silent(format!("({})", answer.status))),
        status => return Err(server::refused(status, INFO)),
    }
    let list: List = serde_json::from_slice(&answer.body).map_err(|error| silent(format!("({error})")))?;
    if list.members.is_empty() || list.members.iter().any(|member| member.id == 0) {
        return Err(silent("(it names only itself)".to_owned()));
    }
    Ok(list.members)
}

/// Names of all members, by the word of one server.
pub(super) fn names(around: &Around, join: &Join, dial: &Dial) -> Result<Vec<String>, Trouble> {
    Ok(list(around, join, dial)?.into_iter().map(|member| member.name).collect())
}

/// All members. Each but this node's own is asked how it is.
pub(super) fn members(around: &Around, join: &Join, dial: &Dial) -> Result<Vec<Member>, Trouble> {
    let all = list(around, join, dial)?;
    let mut ids: Vec<u64> = all.iter().map(|member| member.id).collect();
    ids.sort_unstable();
    let members = all.iter().map(|member| {
        let asked = node_of(&member.name) != join.node && !member.learner;
        let trouble = if asked { unwell(around, join, (member, &ids)) } else { None };
        Member { name: member.name.clone(), learner: member.learner, trouble }
    });
    Ok(members.collect())
}

/// What is wrong with a member, by its own etcd's answer.
fn unwell(around: &Around, join: &Join, (member, ids): (&Entry, &[u64])) -> Option<String> {
    let Some(endpoint) = supervisor(join, member) else {
        return Some("it has no address".to_owned());
    };
    let said = server::find(around, &endpoint).and_then(|(dial, _)| {
        server::reach(&dial)?;
        list(around, join, &dial)
    });
    match said {
        Err(trouble) => Some(trouble.said()),
        Ok(said) => {
            let mut theirs: Vec<u64> = said.iter().map(|member| member.id).collect();
            theirs.sort_unstable();
            (theirs != ids).then(|| "it names other members".to_owned())
        }
    }
}

/// k3s' own port beside that etcd: at the address that etcd gives to clients.
fn supervisor(join: &Join, member: &Entry) -> Option<Endpoint> {
    let url = member.client_urls.iter().find_map(|url| url.strip_prefix("https://"))?;
    let host = url.rsplit_once(':').map_or(url, |(host, _)| host).trim_matches(['[', ']']).to_owned();
    let others = join.store.iter().flat_map(|store| &store.others);
    let known = others.filter(|peer| peer.name == node_of(&member.name)).map(|peer| peer.server.port).next();
    Some(Endpoint { host, port: known.unwrap_or(join.server.port) })
}

#[cfg(test)]
mod tests {
    use super::{Entry, List, supervisor};
    use crate::join::tests::document;

    #[test]
    fn members_are_read_as_k3s_gives_them() {
        let text = r#"{"members":[{"ID":11270180394046532325,"name":"k3s1-9cd7e5ab","peerURLs":["https://10.0.0.1:2380"],"clientURLs":["https://10.0.0.1:2379"]},{"ID":7,"peerURLs":["https://[fd00::2]:2380"],"isLearner":true}]}"#;
        let list: List = serde_json::from_str(text).unwrap();
        let [first, second] = &list.members[..] else { panic!("{list:?}") };
        assert_eq!(
            (first.id, first.name.as_str(), first.learner),
            (11_270_180_394_046_532_325, "k3s1-9cd7e5ab", false)
        );
        assert!(second.learner && second.name.is_empty());
        let join = document();
        assert_eq!(supervisor(&join, first).unwrap().host, "10.0.0.1");
        assert!(supervisor(&join, second).is_none());
        let six = Entry {
            client_urls: vec!["https://[fd00::1]:2379".to_owned()],
            id: 1,
            name: String::new(),
            learner: false,
        };
        assert_eq!(supervisor(&join, &six).unwrap().host, "fd00::1");
    }
}
