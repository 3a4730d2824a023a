//! Node objects, as far as a kubelet and who acts as one use them. A node may read and change itself alone, which is what the
//! Node authorizer and NodeRestriction leave it (Kubernetes 1.32 and later).

use crate::serving::{Answer, Request};
use crate::store::Store;
use crate::{Outcome, objects};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use time::OffsetDateTime;

const COLLECTION: &str = "/api/v1/nodes";

pub(crate) fn status(code: u16, message: &str) -> Answer {
    let body = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code });
    Answer { status: code, kind: "application/json", body: body.to_string().into_bytes() }
}

pub(crate) fn object(code: u16, value: &Value) -> Answer {
    Answer { status: code, kind: "application/json", body: value.to_string().into_bytes() }
}

/// Where nodes' leases are. A node may write its own (NodeRestriction).
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// Answers a request to the API.
pub(crate) fn answer(store: &Store, request: &Request) -> Outcome<Answer> {
    let Some(who) = &request.node else { return Ok(status(401, "Unauthorized")) };
    let path = request.path.split('?').next().unwrap_or_default();
    if path == LEASES || path.strip_prefix(LEASES) == Some(format!("/{who}").as_str()) {
        return objects::answer(store, request);
    }
    if request.method == "POST" && path == COLLECTION {
        return create(store, who, &request.body);
    }
    let Some(name) = path.strip_prefix(COLLECTION).and_then(|rest| rest.strip_prefix('/')) else {
        return Ok(status(403, "a node may work on nodes alone"));
    };
    let name = name.trim_end_matches("/status");
    if name != who {
        return Ok(status(403, &format!("node {who:?} cannot read {name:?}, only its own Node object")));
    }
    match request.method.as_str() {
        "GET" => store.with("node", name, |node| match node {
            Some(node) => object(200, node),
            None => status(404, &format!("nodes {name:?} not found")),
        }),
        "PATCH" if !path.ends_with("/status") && conflicts() => {
            Ok(status(409, "the object has been modified"))
        }
        "PATCH" => {
            let patch: Value = serde_json::from_slice(&request.body)?;
            store.with("node", name, |node| match node {
                Some(node) => change(node, &patch),
                None => status(404, &format!("nodes {name:?} not found")),
            })
        }
        _ => Ok(status(405, "the stand-in knows GET and PATCH")),
    }
}

/// True as often as a test wants it.
pub(crate) fn conflicts() -> bool {
    static ANSWERED: AtomicUsize = AtomicUsize::new(0);
    let wanted = std::env::var("K3S_STANDIN_CONFLICTS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    ANSWERED.fetch_add(1, Ordering::SeqCst) < wanted
}

fn create(store: &Store, who: &str, body: &[u8]) -> Outcome<Answer> {
    let mut new: Value = serde_json::from_slice(body)?;
    let name = new["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if name != who {
        return Ok(status(403, &format!("node {who:?} is not allowed to create node {name:?}")));
    }
    store.with("node", &name, |node| {
        if node.is_some() {
            return status(409, &format!("nodes {name:?} already exists"));
        }
        new["metadata"]["resourceVersion"] = "1".into();
        let now = OffsetDateTime::now_utc();
        new["metadata"]["creationTimestamp"] = stamp(now).into();
        new["metadata"]["uid"] = format!("uid-{}", now.unix_timestamp_nanos()).into();
        object(201, node.insert(new))
    })
}

/// RFC 3339, in seconds.
fn stamp(time: OffsetDateTime) -> String {
    let (hour, minute, second) = time.to_hms();
    let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// RFC 7386, on the version that was read where the patch names one.
fn change(node: &mut Value, patch: &Value) -> Answer {
    let version = node["metadata"]["resourceVersion"].as_str().unwrap_or("0").to_owned();
    if patch["metadata"]["resourceVersion"].as_str().is_some_and(|wanted| wanted != version) {
        return status(409, "the object has been modified");
    }
    merge(node, patch);
    node["metadata"]["resourceVersion"] = (version.parse().unwrap_or(0) + 1).to_string().into();
    object(200, node)
}

pub(crate) fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    if let Value::Object(into) = into {
        for (key, value) in patch {
            if value.is_null() {
                into.remove(key);
            } else {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
    }
}
