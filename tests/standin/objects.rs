//! The Kubernetes API for administrators: objects of any kind, as they were given. Kinds are Kubernetes' own that overlays use,
//! k3s' own, and those of CustomResourceDefinitions, which are objects themselves.

use crate::Outcome;
use crate::api::{conflicts, merge, object, status};
use crate::serving::{Answer, Request};
use crate::store::Store;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// API version, kind, plural, and whether it is in a namespace.
const KINDS: [(&str, &str, &str, bool); 15] = [
    ("v1", "Namespace", "namespaces", false),
    ("v1", "Node", "nodes", false),
    ("v1", "ConfigMap", "configmaps", true),
    ("v1", "Secret", "secrets", true),
    ("v1", "Service", "services", true),
    ("v1", "ServiceAccount", "serviceaccounts", true),
    ("coordination.k8s.io/v1", "Lease", "leases", true),
    ("apps/v1", "DaemonSet", "daemonsets", true),
    ("apps/v1", "Deployment", "deployments", true),
    ("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", false),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", false),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", false),
    ("helm.cattle.io/v1", "HelmChart", "helmcharts", true),
    ("helm.cattle.io/v1", "HelmChartConfig", "helmchartconfigs", true),
    ("k3s.cattle.io/v1", "Addon", "addons", true),
];
const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];
const DEFINITIONS: &str = "object/apiextensions.k8s.io/customresourcedefinitions/";

/// A kind that the server knows.
pub(crate) struct Kind {
    api_version: String,
    kind: String,
    plural: String,
    namespaced: bool,
}

/// All of them, at this moment.
fn kinds(store: &Store) -> Outcome<Vec<Kind>> {
    let own = KINDS.iter().map(|(api_version, kind, plural, namespaced)| Kind {
        api_version: (*api_version).to_owned(),
        kind: (*kind).to_owned(),
        plural: (*plural).to_owned(),
        namespaced: *namespaced,
    });
    let mut all: Vec<Kind> = own.collect();
    for (_, definition) in store.all(DEFINITIONS)? {
        let spec = &definition["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        for version in spec["versions"].as_array().into_iter().flatten() {
            all.push(Kind {
                api_version: format!("{}/{}", text(&spec["group"]), text(&version["name"])),
                kind: text(&spec["names"]["kind"]),
                plural: text(&spec["names"]["plural"]),
                namespaced: spec["scope"] == "Namespaced",
            });
        }
    }
    Ok(all)
}

/// Where an object is kept. The version is no part of it.
fn key(kind: &Kind, namespace: &str, name: &str) -> String {
    if kind.plural == "nodes" && kind.api_version == "v1" {
        return format!("node/{name}");
    }
    let group = kind.api_version.split_once('/').map_or("", |(group, _)| group);
    format!("object/{group}/{}/{namespace}/{name}", kind.plural)
}

/// Answers an administrator.
pub(crate) fn answer(store: &Store, request: &Request) -> Outcome<Answer> {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let parts: Vec<String> = path.split('/').skip(1).map(decoded).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let (api_version, rest) = match &parts[..] {
        ["api", version, rest @ ..] => ((*version).to_owned(), rest),
        ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
        _ => return Ok(status(404, "the server could not find the requested resource")),
    };
    let all = kinds(store)?;
    let mut of = all.iter().filter(|kind| kind.api_version == api_version).peekable();
    if of.peek().is_none() {
        return Ok(status(404, "the server could not find the requested resource"));
    }
    let (namespace, plural, name) = match rest {
        [] => {
            let list: Vec<Value> = of
                .map(|kind| json!({ "name": kind.plural, "kind": kind.kind, "namespaced": kind.namespaced }))
                .collect();
            return Ok(object(
                200,
                &json!({ "kind": "APIResourceList", "groupVersion": api_version, "resources": list }),
            ));
        }
        ["namespaces", namespace, plural, name @ ..] => (*namespace, *plural, name.first().copied()),
        [plural, name @ ..] => ("", *plural, name.first().copied()),
    };
    let Some(kind) = of.find(|kind| kind.plural == plural) else {
        return Ok(status(404, "the server could not find the requested resource"));
    };
    let body = || serde_json::from_slice::<Value>(&request.body);
    match (request.method.as_str(), name) {
        ("GET", None) => list(store, kind, (namespace, query)),
        ("GET", Some(name)) => store.whole(&key(kind, namespace, name), |found| match found {
            Some(found) => object(200, found),
            None => absent(kind, name),
        }),
        ("POST", None) => create(store, kind, namespace, body()?),
        ("PUT", Some(name)) => {
            let mut new = body()?;
            store.whole(&key(kind, namespace, name), |found| {
                let Some(found) = found else { return absent(kind, name) };
                let version = found["metadata"]["resourceVersion"].as_str().unwrap_or("0");
                if new["metadata"]["resourceVersion"].as_str().is_some_and(|wanted| wanted != version) {
                    return status(
                        409,
                        "the object has been modified; please apply your changes to the latest version",
                    );
                }
                new["metadata"]["resourceVersion"] = next(version).into();
                *found = settled(new.take());
                object(200, found)
            })
        }
        ("PATCH", Some(name)) => {
            let patch = body()?;
            let mut conflict = kind.plural == "nodes" && conflicts();
            store.whole(&key(kind, namespace, name), |found| {
                let Some(found) = found else { return absent(kind, name) };
                for condition in ["uid", "resourceVersion"] {
                    let wanted = &patch["metadata"][condition];
                    conflict |= !wanted.is_null() && *wanted != found["metadata"][condition];
                }
                if conflict {
                    return status(409, "the object has been modified");
                }
                change(found, &patch);
                object(200, found)
            })
        }
        ("DELETE", Some(name)) => store.whole(&key(kind, namespace, name), |found| match found.take() {
            Some(found) => object(200, &found),
            None => absent(kind, name),
        }),
        _ => Ok(status(405, "the stand-in does not do that")),
    }
}

fn absent(kind: &Kind, name: &str) -> Answer {
    status(404, &format!("{} {name:?} not found", kind.plural))
}

fn next(version: &str) -> String {
    (version.parse::<u64>().unwrap_or(0) + 1).to_string()
}

/// A merge patch (RFC 7386).
fn change(found: &mut Value, patch: &Value) {
    let before = found.clone();
    merge(found, patch);
    *found = settled(found.take());
    if *found != before {
        let version = before["metadata"]["resourceVersion"].as_str().unwrap_or("0").to_owned();
        found["metadata"]["resourceVersion"] = next(&version).into();
    }
}

/// What the API makes of an object that is written: `stringData` of Secrets becomes `data`.
fn settled(mut object: Value) -> Value {
    if object["kind"] == "Secret"
        && let Some(Value::Object(texts)) = object.as_object_mut().and_then(|all| all.remove("stringData"))
    {
        for (key, text) in texts {
            object["data"][key] = STANDARD.encode(text.as_str().unwrap_or_default()).into();
        }
    }
    object
}

fn create(store: &Store, kind: &Kind, namespace: &str, mut new: Value) -> Outcome<Answer> {
    let name = new["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if kind.namespaced && !NAMESPACES.contains(&namespace) {
        let known = store.whole(&format!("object//namespaces//{namespace}"), |found| found.is_some())?;
        if !known {
            return Ok(status(404, &format!("namespaces {namespace:?} not found")));
        }
    }
    store.whole(&key(kind, namespace, &name), |found| {
        if found.is_some() {
            return status(409, &format!("{} {name:?} already exists", kind.plural));
        }
        if !new["metadata"].is_object() || name.is_empty() {
            return status(422, "metadata.name: Required value");
        }
        new["metadata"]["resourceVersion"] = "1".into();
        object(201, found.insert(settled(new.take())))
    })
}

/// A page of a collection.
fn list(store: &Store, kind: &Kind, (namespace, query): (&str, &str)) -> Outcome<Answer> {
    let all = store.all(&key(kind, namespace, ""))?;
    let asked = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let start: usize = asked("continue").map_or(Ok(0), str::parse)?;
    let limit: usize = asked("limit").map_or(Ok(all.len()), str::parse)?.max(1);
    let items: Vec<&Value> = all.iter().map(|(_, item)| item).skip(start).take(limit).collect();
    let left = all.len().saturating_sub(start + items.len());
    let token = if left > 0 { (start + items.len()).to_string() } else { String::new() };
    Ok(object(200, &json!({ "kind": "List", "metadata": { "continue": token }, "items": items })))
}

fn decoded(part: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = part.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).filter(|_| *first == b'%').and_then(|two| std::str::from_utf8(two).ok());
        match hex.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => (bytes.push(byte), rest = &after[2..]).1,
            None => (bytes.push(*first), rest = after).1,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What k3s does with an object of its folder: makes it, or lays over what is there what the file says. Gives its key.
pub(crate) fn apply(store: &Store, wanted: &Value) -> Outcome<String> {
    let mut wanted = wanted.clone();
    wanted["metadata"]["labels"]["objectset.rio.cattle.io/hash"] = "of the add-on".into();
    let wanted = &wanted;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (version, name) = (text(&wanted["apiVersion"]), text(&wanted["kind"]));
    let all = kinds(store)?;
    let found = all.iter().find(|kind| kind.api_version == version && kind.kind == name);
    let kind = found.ok_or_else(|| format!("no matches for kind {name:?} in version {version:?}"))?;
    let namespace = match wanted["metadata"]["namespace"].as_str() {
        Some(namespace) if kind.namespaced => namespace.to_owned(),
        None if kind.namespaced => "default".to_owned(),
        _ => String::new(),
    };
    let key = key(kind, &namespace, &text(&wanted["metadata"]["name"]));
    let there = store.whole(&key, |found| match found {
        Some(found) => {
            change(found, wanted);
            true
        }
        None => false,
    })?;
    if !there {
        let made = create(store, kind, &namespace, wanted.clone())?;
        if made.status != 201 {
            return Err(String::from_utf8_lossy(&made.body).into_owned().into());
        }
    }
    Ok(key)
}
