//! A server that was made anew comes back by itself: when k3s ends with `duplicate node name found`, and all that
//! [`kiln_contract::rejoin`] asks for holds, the node's old member is taken out of etcd, which another server does at the
//! annotation of the Node object. This looks, says what comes, counts down, looks once more, writes down and asks.

mod api;
mod credential;
mod etcd;
mod leases;
mod word;

use super::story::{Progress, Story};
use super::words::{Cause, Trouble};
use super::{Around, countdown, datastore, journal, node, server};
use crate::sys;
use api::Api;
use kiln_contract::ending::Known;
use kiln_contract::join::{Endpoint, Join, Role};
use kiln_contract::rejoin::{Decision, Emptied, Facts, MEMBER, Object, Policy, REMOVE, Watched, Why, decide};
use leases::{Other, Watch};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs;
pub(crate) use word::run as say_yes;

/// The board's UUID, which is what the kubelet reports as `systemUUID` (google/cadvisor, utils/sysfs/sysfs.go:
/// GetSystemUUID; kubernetes, pkg/kubelet/nodestatus/setters.go: MachineInfo). Where it is missing cadvisor takes
/// /etc/machine-id, which is the seed's.
const BOARD: &str = "/sys/class/dmi/id/product_uuid";
/// How often a change that met another one is tried again before that is told.
const CONFLICTS: u32 = 20;

/// What became of this node's old member, for as long as this state lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Past {
    /// k3s' own words, which this began with.
    said: String,
    /// Who this state is where servers agree on one rejoin at a time.
    holder: String,
    /// The member, written down before it is asked to be taken out. There is one for a state.
    member: Option<String>,
    /// It is out.
    gone: bool,
    /// How often k3s had ended by itself then.
    ends: u32,
}

/// What k3s came to.
pub(super) enum Up {
    /// The node is Ready.
    Ready,
    /// etcd has a member of this node's name.
    Duplicate,
}

/// Who decides, where a server keeps etcd and its seed knows of this.
fn policy(join: &Join) -> Option<Policy> {
    let store = join.store.as_ref().filter(|store| join.role == Role::Server && !store.external)?;
    store.rejoin
}

/// Is the node Ready? When what keeps it is its old member in etcd, that is told apart.
pub(super) fn ready(around: &Around, join: &Join, progress: &Progress) -> Result<(Up, String), Trouble> {
    let trouble = match node::ready(around, join) {
        Ok(((), found)) => return Ok((Up::Ready, found)),
        Err(trouble) => trouble,
    };
    if trouble.known != Some(Known::DuplicateName) || policy(join).is_none() {
        return Err(trouble);
    }
    let past = progress.rejoin.as_ref();
    let member =
        past.and_then(|past| past.member.as_ref()).map(|member| format!(" {member}")).unwrap_or_default();
    let starts = || Trouble::new(Cause::RejoinStarts, member.clone());
    // Those last words are from before.
    if matches!(datastore::emptied(around, join, progress), Ok((Emptied::Not, _))) {
        return Err(starts());
    }
    let Some(past) = past.filter(|past| past.gone) else {
        let said = "etcd has a member of this node's name, from before it was made anew";
        return Ok((Up::Duplicate, said.to_owned()));
    };
    let count = journal::exits(around, join).map_or(0, |exits| exits.count);
    // A start that was under way when the member went may have ended after that; a smaller count is of another boot.
    if count >= past.ends && count <= past.ends.saturating_add(1) {
        return Err(starts());
    }
    let facts = format!("{} was taken out for this state already, and {}", member.trim(), trouble.said());
    Err(Trouble::new(Cause::RejoinOnce, facts))
}

/// Has the old member taken out, or finds that k3s has come up meanwhile.
pub(super) fn run(story: &mut Story<'_>, (around, join): (&Around, &Join), endpoint: &Endpoint) {
    let Some(policy) = policy(join) else { return };
    let past = story.progress.rejoin.get_or_insert_with(|| Past {
        said: journal::quoted(around, join),
        holder: holder(join),
        member: None,
        gone: false,
        ends: 0,
    });
    let mut work = Work { around, join, endpoint, policy, past: past.clone(), other: None };
    story.keep();
    loop {
        let progress = story.progress.clone();
        let Some((watch, member)) = story.step("rejoin", |_| work.check(&progress)) else { return };
        let what = format!(
            "the old etcd member {member} of this node is taken out of the cluster, and k3s joins as a new one"
        );
        story.step("removal", countdown::attempt(around, &what));
        // A cut from here on finds which member it was about.
        work.past.member = Some(member.clone());
        story.progress.rejoin = Some(work.past.clone());
        story.keep();
        let progress = story.progress.clone();
        if !story.step("request", |_| work.request(&progress, (&watch, &member))) {
            continue;
        }
        word::forget(around);
        story.step("member", |_| work.is_gone(&member));
        work.past.gone = true;
        work.past.ends = journal::exits(around, join).map_or(0, |exits| exits.count);
        story.progress.rejoin = Some(work.past);
        story.keep();
        return;
    }
}

/// The node is Ready: another server's turn. What can't be said now ends by itself.
pub(super) fn over(story: &mut Story<'_>, (around, join): (&Around, &Join), endpoint: &Endpoint) {
    let Some(past) = &mut story.progress.rejoin else { return };
    if past.member.is_some() {
        past.gone = true;
        let api = server::find(around, endpoint).and_then(|(dial, _)| Api::connect(around, join, dial));
        let _ = api.and_then(|api| leases::release(&api, &past.holder));
    }
    word::forget(around);
}

/// A name that no other machine of this node's name has.
fn holder(join: &Join) -> String {
    let mut bytes = [0; 4];
    // Without random numbers two machines of one name would be one here; all other conditions still tell them apart.
    let _ = sys::random(&mut bytes);
    format!("{}_{:08x}", join.node, u32::from_be_bytes(bytes))
}

/// A rejoin that goes on.
struct Work<'a> {
    around: &'a Around,
    join: &'a Join,
    endpoint: &'a Endpoint,
    policy: Policy,
    past: Past,
    /// Another server's rejoin that is waited for.
    other: Option<Other>,
}

/// What was seen, and what follows.
struct Look {
    api: Api,
    node: Value,
    decision: Decision,
}

impl Work<'_> {
    fn connect(&self) -> Result<Api, Trouble> {
        let (dial, _) = server::find(self.around, self.endpoint)?;
        Api::connect(self.around, self.join, dial)
    }

    /// Looks at everything but the leases.
    fn look(&self, progress: &Progress, watched: Option<&Watched>) -> Result<Look, Trouble> {
        let (around, join) = (self.around, self.join);
        let (emptied, made) = datastore::emptied(around, join, progress)?;
        let api = self.connect()?;
        let path = format!("/api/v1/nodes/{}", join.node);
        let node = api.get(&path)?.ok_or_else(|| Trouble::new(Cause::RejoinNoNode, &join.node))?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let uuid = |node: &Value| text(&node["status"]["nodeInfo"]["systemUUID"]);
        let nodes = api.list("/api/v1/nodes")?;
        let others = nodes.iter().filter(|other| other["metadata"]["name"] != node["metadata"]["name"]);
        let others: Vec<_> = others.map(|other| (text(&other["metadata"]["name"]), uuid(other))).collect();
        let created = text(&node["metadata"]["creationTimestamp"]).parse::<jiff::Timestamp>();
        let created = created.ok().and_then(|time| u64::try_from(time.as_second()).ok());
        let created =
            created.ok_or_else(|| Trouble::new(Cause::ApiSilent, "the Node has no creationTimestamp"))?;
        let object = Object {
            created,
            system_uuid: uuid(&node),
            member: node["metadata"]["annotations"][MEMBER].as_str().map(str::to_owned),
        };
        let members = etcd::members(around, join, &api.dial)?;
        let board = fs::read_to_string(around.path(BOARD)).ok();
        let decision = decide(&Facts {
            node: &join.node,
            policy: self.policy,
            emptied,
            before: self.past.member.as_deref(),
            made: made.unwrap_or(api.now),
            board: board.as_deref(),
            object: &object,
            others: &others,
            members: &members,
            watched,
            word: word::given(around).as_deref(),
        });
        Ok(Look { api, node, decision })
    }

    /// Do all conditions hold? Gives what the leases did, and the member; nothing when k3s has come up meanwhile.
    fn check(&mut self, progress: &Progress) -> Result<(Option<(Watch, String)>, String), Trouble> {
        if self.is_up(progress) {
            return Ok((None, "k3s goes on by itself".to_owned()));
        }
        if let Decision::Wait(why) = self.look(progress, None)?.decision {
            return Err(waits(&why));
        }
        let watch = leases::watch(self.around, &self.join.node, &|| self.connect())?;
        let Look { api, decision, .. } = self.look(progress, Some(&watch.watched))?;
        match decision {
            Decision::Remove(member) => {
                leases::take(&api, self.around, (&self.past.holder, &mut self.other))?;
                let other = watch.watched.other.clone().unwrap_or_default();
                let said = format!(
                    "its machine is this one, its lease stood still while {other}'s moved, and all else that votes in etcd is healthy: {member} may go"
                );
                Ok((Some((watch, member)), said))
            }
            Decision::Ask(question) => {
                word::ask(self.around, &question)?;
                Err(Trouble::new(Cause::RejoinAsks, question))
            }
            Decision::Wait(why) => Err(waits(&why)),
            Decision::Watch => Err(waits(&Why::AllStill)),
        }
    }

    /// k3s no longer ends with those words: somebody else has had the member taken out.
    fn is_up(&self, progress: &Progress) -> bool {
        let emptied = datastore::emptied(self.around, self.join, progress);
        matches!(emptied, Ok((Emptied::Not, _))) || {
            let last = journal::exits(self.around, self.join).and_then(|exits| exits.last);
            last.is_some_and(|last| last.known != Some(Known::DuplicateName))
        }
    }

    /// A last look, and the annotation on the version that was looked at. False when something else holds by now.
    fn request(
        &mut self,
        progress: &Progress,
        (watch, member): (&Watch, &str),
    ) -> Result<(bool, String), Trouble> {
        for _ in 0..CONFLICTS {
            let Look { api, node, decision } = self.look(progress, Some(&watch.watched))?;
            if decision != Decision::Remove(member.to_owned()) {
                return Ok((false, "something has changed meanwhile: all is looked at again".to_owned()));
            }
            if leases::own(&api, &self.join.node)? != watch.own {
                return Ok((
                    false,
                    "the Node's lease was renewed meanwhile: all is looked at again".to_owned(),
                ));
            }
            leases::take(&api, self.around, (&self.past.holder, &mut self.other))?;
            let metadata = &node["metadata"];
            let patch = json!({ "metadata": {
                "uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"],
                "annotations": { REMOVE: "true" },
            }});
            let path = format!("/api/v1/nodes/{}", self.join.node);
            if api.write(("PATCH", &path), &patch)? {
                return Ok((true, format!("{REMOVE} stands on the Node object")));
            }
            // Somebody has changed it: all is read again.
        }
        Err(Trouble::new(Cause::ApiConflict, ""))
    }

    /// Is it out, by etcd's own answer?
    fn is_gone(&self, member: &str) -> Result<((), String), Trouble> {
        let (dial, _) = server::find(self.around, self.endpoint)?;
        if etcd::names(self.around, self.join, &dial)?.iter().any(|name| name == member) {
            return Err(Trouble::new(Cause::RejoinStill, member));
        }
        Ok(((), format!("etcd has no {member} any more")))
    }
}

/// Which condition does not hold, with its way out.
fn waits(why: &Why) -> Trouble {
    let cause = match why {
        Why::Emptied | Why::NotEmpty => Cause::RejoinEmptied,
        Why::Once { .. } => Cause::RejoinOnce,
        Why::Younger { .. } => Cause::RejoinYounger,
        Why::NoMember => Cause::RejoinNoMember,
        Why::OtherMember { .. } | Why::Several { .. } => Cause::RejoinMembers,
        Why::Learner { .. } => Cause::RejoinLearner,
        Why::Unhealthy { .. } | Why::NoMajority { .. } => Cause::RejoinUnhealthy,
        Why::Alive => Cause::RejoinAlive,
        Why::AllStill => Cause::RejoinAllStill,
    };
    Trouble::new(cause, why.to_string())
}
