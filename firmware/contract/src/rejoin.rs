//! May a server that was made anew have its old member taken out of etcd? The decision is pure: facts in, one word out.
//!
//! k3s (1.34.3) ends with `duplicate node name found` when etcd still has a member whose name is the node's, a hyphen and
//! eight digits (k3s, pkg/etcd/etcd.go: join, setName). The annotation [`REMOVE`] on the Node object makes another server take
//! that member out and keep the Node (pkg/etcd/member_controller.go). Whoever asks for it wrongly takes a living server out,
//! or the majority away: so all of this must hold, and what does not is said.

use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

/// What asks k3s to take a node's member out of etcd (pkg/etcd/member_controller.go: removalAnnotation).
pub const REMOVE: &str = "etcd.k3s.cattle.io/remove";
/// The name of the node's member (pkg/etcd/etcd.go: NodeNameAnnotation).
pub const MEMBER: &str = "etcd.k3s.cattle.io/node-name";

/// What the cluster file says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// The join does it by itself when all conditions hold.
    Automatic,
    /// It waits for a person's word as well.
    Ask,
}

/// Why the datastore of this node is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emptied {
    /// Kiln made this state, or the data disk that keeps the datastore, since the node's last completed join.
    Made,
    /// The node was Ready with this state or this disk, or Kiln did not make it: somebody else emptied it.
    BySomebody,
    /// It is not empty.
    Not,
}

/// The Node object, as far as it matters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Object {
    /// When it was made: seconds since 1970, by the cluster's clocks.
    pub created: u64,
    /// `status.nodeInfo.systemUUID`.
    pub system_uuid: String,
    /// What [`MEMBER`] says.
    pub member: Option<String>,
}

/// What a while of watching the nodes' leases has shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watched {
    /// This node's own lease was renewed.
    pub own: bool,
    /// Another node whose lease was.
    pub other: Option<String>,
}

/// A member of etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name; empty while it has never been up.
    pub name: String,
    /// It has no vote yet.
    pub learner: bool,
    /// What is wrong with it by its own etcd's answer; nothing when it is healthy.
    pub trouble: Option<String>,
}

/// All that the decision rests on. What takes long to find out comes last, and is nothing until it was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The node's name, as Kubernetes knows it.
    pub node: &'a str,
    /// Who may say so.
    pub policy: Policy,
    /// Why its datastore is empty.
    pub emptied: Emptied,
    /// The member that this state has asked to be taken out already.
    pub before: Option<&'a str>,
    /// When this state, or the data disk, was made: seconds since 1970, by the cluster's clocks.
    pub made: u64,
    /// The board's own UUID, as DMI has it.
    pub board: Option<&'a str>,
    /// The Node object.
    pub object: &'a Object,
    /// Name and `systemUUID` of every other Node.
    pub others: &'a [(String, String)],
    /// The members of etcd.
    pub members: &'a [Member],
    /// What leases did.
    pub watched: Option<&'a Watched>,
    /// The question that a person has said yes to.
    pub word: Option<&'a str>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The leases must be watched first.
    Watch,
    /// A person must be asked this first.
    Ask(String),
    /// Have that member taken out.
    Remove(String),
    /// Do nothing, and say why.
    Wait(Why),
}

/// Which condition does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "their words are below")]
pub enum Why {
    Emptied,
    NotEmpty,
    Once { before: String, now: String },
    Younger { created: u64, made: u64 },
    NoMember,
    OtherMember { object: String, etcd: String },
    Several { members: String },
    Learner { member: String },
    Unhealthy { members: String },
    NoMajority { healthy: usize, voters: usize },
    Alive,
    AllStill,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Emptied => f.write_str(
                "the datastore here is empty, and not because Kiln made this state or its data disk anew: somebody emptied it",
            ),
            Self::NotEmpty => f.write_str("there is a datastore here"),
            Self::Once { before, now } => {
                write!(f, "{before} was taken out of etcd for this state already, and k3s now meets {now}")
            }
            Self::Younger { created, made } => write!(
                f,
                "the Node object is {} s younger than what was made anew here: another machine has made it meanwhile",
                created.saturating_sub(*made)
            ),
            Self::NoMember => f.write_str("etcd has no member of this node's name any more"),
            Self::OtherMember { object, etcd } => write!(
                f,
                "etcd's member of this node's name is {etcd}, and the Node object says {object} ({MEMBER})"
            ),
            Self::Several { members } => write!(f, "etcd has several members of this node's name: {members}"),
            Self::Learner { member } => {
                write!(f, "etcd has a member that does not vote yet, {member}: another server is joining")
            }
            Self::Unhealthy { members } => {
                write!(f, "without this node's old member not all that vote in etcd are healthy: {members}")
            }
            Self::NoMajority { healthy, voters } => {
                write!(f, "{healthy} of the {voters} that vote in etcd are no majority")
            }
            Self::Alive => f.write_str(
                "the Node's lease is renewed all the time: a machine of this node's name is alive, and this is another one",
            ),
            Self::AllStill => f.write_str(
                "no node's lease is renewed: whether a machine of this node's name is alive can't be seen",
            ),
        }
    }
}

/// What makes it doubtful that this board is the one that the Node object is of.
fn doubt(facts: &Facts<'_>) -> Option<String> {
    let said = &facts.object.system_uuid;
    let Some(board) = facts.board.and_then(board) else {
        return Some(
            "this board has no UUID of its own (DMI) that could prove that it is the same one".to_owned(),
        );
    };
    if !is_same(board, said) {
        let said = if said.is_empty() { "none" } else { said };
        return Some(format!(
            "this board's UUID is {board}, and the Node object has {said}: it was another machine"
        ));
    }
    let twin = facts.others.iter().find(|(_, other)| is_same(board, other))?;
    Some(format!("this board's UUID is {board}, and node {} has the same: it proves nothing", twin.0))
}

/// The UUID of a board, when it has one: firmware that was never told one has all zeros, all ones, or the one of the maker's
/// own example, which many boards share.
pub fn board(text: &str) -> Option<Uuid> {
    /// `03000200-0400-0500-0006-000700080009`, and the same with its first fields the other way round.
    const EXAMPLES: [u128; 2] =
        [0x0300_0200_0400_0500_0006_0007_0008_0009, 0x0002_0003_0004_0005_0006_0007_0008_0009];
    let uuid = Uuid::try_parse(text.trim()).ok()?;
    (!uuid.is_nil() && !uuid.is_max() && !EXAMPLES.contains(&uuid.as_u128())).then_some(uuid)
}

/// Case does not matter, and neither does the order of bytes in the first three fields: SMBIOS turned it in version 2.6, the
/// kernel prints it by the version that firmware names (drivers/firmware/dmi_scan.c: dmi_save_uuid), and an update of the
/// firmware may name another.
fn is_same(board: Uuid, said: &str) -> bool {
    let Ok(said) = Uuid::try_parse(said.trim()) else { return false };
    let (first, second, third, rest) = said.as_fields();
    board == said || board == Uuid::from_fields_le(first, second, third, rest)
}

/// The node that a member's name is of, as k3s reads it: what stands before the last hyphen.
pub fn node_of(member: &str) -> &str {
    match member.rfind('-') {
        Some(at) if at > 1 => &member[..at],
        _ => member,
    }
}

/// What is to be done.
pub fn decide(facts: &Facts<'_>) -> Decision {
    match local(facts).and_then(|()| member(facts)) {
        Err(why) => Decision::Wait(why),
        Ok(member) => match facts.watched {
            None => Decision::Watch,
            Some(Watched { own: true, .. }) => Decision::Wait(Why::Alive),
            Some(Watched { other: None, .. }) => Decision::Wait(Why::AllStill),
            Some(_) => match question(facts, member) {
                Some(question) if facts.word != Some(question.as_str()) => Decision::Ask(question),
                _ => Decision::Remove(member.to_owned()),
            },
        },
    }
}

/// What a person must say yes to; nothing when nobody need be asked.
fn question(facts: &Facts<'_>, member: &str) -> Option<String> {
    let what = format!("take the old etcd member {member} of node {} out of the cluster", facts.node);
    match (doubt(facts), facts.policy) {
        (Some(doubt), _) => Some(format!("{what}, although {doubt}")),
        (None, Policy::Ask) => Some(what),
        (None, Policy::Automatic) => None,
    }
}

fn local(facts: &Facts<'_>) -> Result<(), Why> {
    match facts.emptied {
        Emptied::Made => {}
        Emptied::BySomebody => return Err(Why::Emptied),
        Emptied::Not => return Err(Why::NotEmpty),
    }
    let Facts { made, object: Object { created, .. }, .. } = *facts;
    if *created >= made { Err(Why::Younger { created: *created, made }) } else { Ok(()) }
}

/// The one member that is this node's old one, when etcd can do without it.
fn member<'a>(facts: &Facts<'a>) -> Result<&'a str, Why> {
    let names = |members: &[&Member]| {
        let each = members.iter().map(|member| match (&member.trouble, member.name.as_str()) {
            (None, name) => name.to_owned(),
            (Some(trouble), "") => format!("one without a name ({trouble})"),
            (Some(trouble), name) => format!("{name} ({trouble})"),
        });
        each.collect::<Vec<_>>().join(", ")
    };
    let (old, left): (Vec<&Member>, Vec<&Member>) =
        facts.members.iter().partition(|member| node_of(&member.name) == facts.node);
    let old = match old.as_slice() {
        [] => return Err(Why::NoMember),
        [old] => *old,
        several => return Err(Why::Several { members: names(several) }),
    };
    if facts.object.member.as_deref() != Some(old.name.as_str()) {
        let object = facts.object.member.clone().unwrap_or_else(|| "nothing".to_owned());
        return Err(Why::OtherMember { object, etcd: old.name.clone() });
    }
    if let Some(before) = facts.before.filter(|before| *before != old.name) {
        return Err(Why::Once { before: before.to_owned(), now: old.name.clone() });
    }
    if let Some(learner) = left.iter().find(|member| member.learner) {
        let member = if learner.name.is_empty() { "which has no name yet" } else { &learner.name };
        return Err(Why::Learner { member: member.to_owned() });
    }
    let ill: Vec<&Member> = left.iter().filter(|member| member.trouble.is_some()).copied().collect();
    if !ill.is_empty() {
        return Err(Why::Unhealthy { members: names(&ill) });
    }
    // Taking it out is itself a vote of all that vote now; afterwards those that are left are all healthy.
    let voters = left.len() + usize::from(!old.learner);
    if left.len() * 2 <= voters {
        return Err(Why::NoMajority { healthy: left.len(), voters });
    }
    Ok(&old.name)
}

#[cfg(test)]
mod tests;
