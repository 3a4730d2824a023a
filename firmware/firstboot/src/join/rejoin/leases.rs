//! Leases: who of the nodes is alive, and whose turn it is to rejoin. No clock is believed: what is renewed is seen to change.

use super::api::Api;
use crate::join::Around;
use crate::join::words::{Cause, Trouble};
use kiln_contract::rejoin::Watched;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Every node's, which its kubelet renews four times in the time that it names (kubernetes, pkg/kubelet/kubelet.go:
/// nodeLeaseRenewIntervalFraction), 40 s as a rule.
const NODES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
/// Where servers agree on one rejoin at a time, and the name there.
const SYSTEM: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
const NAME: &str = "kiln-rejoin";
/// As long as leases are watched, and as long as they are at most.
const WATCH: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));
/// Between two looks.
const LOOK: Duration = Duration::from_secs(5);
/// How long a rejoin may take: from its last look until the node is Ready.
const TURN: u64 = 600;
/// How often a change that met another one is tried again.
const CONFLICTS: u32 = 5;

/// What was seen.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) watched: Watched,
    /// This node's lease at the end.
    pub(super) own: Option<String>,
}

/// What of a lease changes when it is renewed.
fn version(lease: &Value) -> String {
    let spec = &lease["spec"];
    format!("{} {} {}", spec["holderIdentity"], spec["renewTime"], lease["metadata"]["uid"])
}

fn all(api: &Api) -> Result<BTreeMap<String, Value>, Trouble> {
    let named = |lease: Value| Some((lease["metadata"]["name"].as_str()?.to_owned(), lease));
    Ok(api.list(NODES)?.into_iter().filter_map(named).collect())
}

/// This node's lease, as it is now.
pub(super) fn own(api: &Api, node: &str) -> Result<Option<String>, Trouble> {
    Ok(api.get(&format!("{NODES}/{node}"))?.map(|lease| version(&lease)))
}

/// Watches all nodes' leases for a minute, longer where this node's is renewed less often. Ends early when its own is.
pub(super) fn watch(
    around: &Around,
    node: &str,
    connect: &dyn Fn() -> Result<Api, Trouble>,
) -> Result<Watch, Trouble> {
    let first = all(&connect()?)?;
    let named = first.get(node).and_then(|lease| lease["spec"]["leaseDurationSeconds"].as_u64()).unwrap_or(0);
    let lasts = WATCH.0.max(Duration::from_secs(named.saturating_mul(3) / 2)).min(WATCH.1);
    let before: BTreeMap<&str, String> =
        first.iter().map(|(name, lease)| (name.as_str(), version(lease))).collect();
    let start = Instant::now();
    let mut watched = Watched::default();
    loop {
        std::thread::sleep(around.shorter(LOOK));
        // Its certificate is made anew: it lives for minutes.
        let mut now = all(&connect()?)?;
        let own = now.remove(node).map(|lease| version(&lease));
        watched.own = own.as_ref() != before.get(node);
        let moved = now
            .iter()
            .find(|(name, lease)| before.get(name.as_str()).is_some_and(|old| *old != version(lease)));
        watched.other = watched.other.or_else(|| moved.map(|(name, _)| name.clone()));
        if watched.own || start.elapsed() >= around.shorter(lasts) {
            return Ok(Watch { watched, own });
        }
    }
}

/// Another server's turn, since when it has not changed.
#[derive(Debug)]
pub(super) struct Other {
    version: String,
    since: Instant,
}

/// Takes the turn, or goes on with it. Another's is over when it says so, or does not change for as long as it names.
pub(super) fn take(
    api: &Api,
    around: &Around,
    (holder, other): (&str, &mut Option<Other>),
) -> Result<(), Trouble> {
    let now = jiff::Timestamp::from_second(i64::try_from(api.now).unwrap_or(0)).unwrap_or_default();
    // MicroTime has six digits (kubernetes, apimachinery, meta/v1/micro_time.go).
    let now = now.to_string().replace('Z', ".000000Z");
    let spec = json!({
        "holderIdentity": holder, "leaseDurationSeconds": TURN, "acquireTime": now, "renewTime": now,
    });
    for _ in 0..CONFLICTS {
        let Some(mut lease) = api.get(&format!("{SYSTEM}/{NAME}"))? else {
            let new = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": { "name": NAME, "namespace": "kube-system" }, "spec": spec,
            });
            if api.write(("POST", SYSTEM), &new)? {
                return Ok(());
            }
            continue;
        };
        let held = lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
        if !held.is_empty() && held != holder && !is_over(around, &lease, other) {
            return Err(Trouble::new(Cause::RejoinHeld, held));
        }
        lease["spec"] = spec.clone();
        if api.write(("PUT", &format!("{SYSTEM}/{NAME}")), &lease)? {
            *other = None;
            return Ok(());
        }
    }
    Err(Trouble::new(Cause::ApiConflict, ""))
}

fn is_over(around: &Around, lease: &Value, other: &mut Option<Other>) -> bool {
    let version = version(lease);
    let lasts = lease["spec"]["leaseDurationSeconds"].as_u64().unwrap_or(TURN).clamp(1, 3600);
    match other {
        Some(seen) if seen.version == version => {
            seen.since.elapsed() >= around.shorter(Duration::from_secs(lasts))
        }
        _ => {
            *other = Some(Other { version, since: Instant::now() });
            false
        }
    }
}

/// Gives the turn back.
pub(super) fn release(api: &Api, holder: &str) -> Result<(), Trouble> {
    let path = format!("{SYSTEM}/{NAME}");
    let Some(mut lease) = api.get(&path)? else { return Ok(()) };
    if lease["spec"]["holderIdentity"] == holder {
        lease["spec"]["holderIdentity"] = "".into();
        lease["spec"]["leaseDurationSeconds"] = 1.into();
        api.write(("PUT", &path), &lease)?;
    }
    Ok(())
}
