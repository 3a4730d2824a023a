//! The Kubernetes API of this server, by the administrator's credentials that k3s has written, and pinned to the cluster's CA.

use crate::join::Around;
use crate::join::tls::{Answer, Client, Dial, Identity as Credentials, Question};
use crate::join::unit;
use crate::join::words::{Cause, Trouble};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kiln_contract::join::Join;
use kiln_contract::manifest::Identity;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// Nodes asked for at once, of as many pages at most.
const PAGE: usize = 100;
const PAGES: usize = 200;

/// How a kind is called in paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resource {
    plural: String,
    namespaced: bool,
}

impl Resource {
    /// One of Kubernetes' first API that is in a namespace.
    pub(super) fn core(plural: &str) -> Self {
        Self { plural: plural.to_owned(), namespaced: true }
    }

    /// The collection that an object is in.
    fn path(&self, identity: &Identity) -> String {
        let top = top(&identity.api_version);
        match (self.namespaced, &identity.namespace) {
            (false, _) => format!("{top}/{}", self.plural),
            (true, namespace) => {
                let namespace = namespace.as_deref().unwrap_or("default");
                format!("{top}/namespaces/{}/{}", escaped(namespace), self.plural)
            }
        }
    }
}

/// What became of what was written.
pub(super) enum Put {
    /// The object as it is now.
    Done(Value),
    /// It is there already, or somebody has changed it since it was read.
    Conflict,
    /// Why not.
    Refused(u16, String),
}

/// The API, and what was asked of it in one look.
pub(super) struct Api {
    client: Client,
    kinds: BTreeMap<String, Vec<(String, Resource)>>,
    nodes: Option<BTreeSet<String>>,
}

impl Api {
    /// With the kubeconfig that k3s writes for administrators.
    pub(super) fn connect(around: &Around, join: &Join) -> Result<Self, Trouble> {
        let path = &join.admin_kubeconfig;
        let not_yet = |said: String| {
            Trouble::new(
                Cause::ApiSilent,
                format!("{path}: {said}; {} is {}", join.unit, unit::state(around, join)),
            )
        };
        let text = fs::read_to_string(around.path(path)).map_err(|error| not_yet(error.to_string()))?;
        let (dial, credentials) =
            credentials(&text).ok_or_else(|| not_yet("it is not what k3s writes".to_owned()))?;
        let client = Client::new(&dial, &join.ca.pem, Some(&credentials), around.clock)
            .map_err(|error| not_yet(error.to_string()))?;
        Ok(Self { client, kinds: BTreeMap::new(), nodes: None })
    }

    fn ask(&self, (method, path): (&str, &str), body: Option<&Value>) -> Result<Answer, Trouble> {
        let mut headers = Vec::new();
        if path.contains("?limit=") {
            // What is in a list is asked for its names alone.
            let kind = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
            headers.push(("Accept", kind.to_owned()));
        }
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        if !body.is_empty() {
            headers.push(("Content-Type", "application/json".to_owned()));
        }
        let answer = self.client.ask(Question { method, path, headers, body });
        let answer = answer.map_err(|error| Trouble::new(Cause::ApiSilent, error.to_string()))?;
        match answer.status {
            // 403 is an admission's word on one object: nothing else is refused an administrator.
            401 => Err(Trouble::new(Cause::ApiRefused, format!("it answered {} to {path}", answer.status))),
            429 | 503 => Err(Trouble::new(Cause::ApiSilent, format!("it answered {}", answer.status))),
            _ => Ok(answer),
        }
    }

    /// How a kind is called; nothing while Kubernetes does not know it.
    pub(super) fn resource(&mut self, api_version: &str, kind: &str) -> Result<Option<Resource>, Trouble> {
        if !self.kinds.contains_key(api_version) {
            let answer = self.ask(("GET", &top(api_version)), None)?;
            let found = match answer.status {
                200 => resources(&parsed(&answer)?),
                404 => Vec::new(),
                status => return Err(Trouble::new(Cause::ApiSilent, format!("it answered {status}"))),
            };
            self.kinds.insert(api_version.to_owned(), found);
        }
        let known = self.kinds.get(api_version).into_iter().flatten();
        Ok(known.filter(|(name, _)| name == kind).map(|(_, resource)| resource.clone()).next())
    }

    /// Names of the nodes that have joined.
    pub(super) fn nodes(&mut self) -> Result<&BTreeSet<String>, Trouble> {
        if self.nodes.is_none() {
            let mut names = BTreeSet::new();
            let mut next = String::new();
            for _ in 0..PAGES {
                let answer = self.ask(("GET", &format!("/api/v1/nodes?limit={PAGE}{next}")), None)?;
                if answer.status != 200 {
                    return Err(Trouble::new(Cause::ApiSilent, format!("it answered {}", answer.status)));
                }
                let list = parsed(&answer)?;
                let items = list["items"].as_array().into_iter().flatten();
                names.extend(items.filter_map(|node| node["metadata"]["name"].as_str().map(str::to_owned)));
                match list["metadata"]["continue"].as_str().filter(|text| !text.is_empty()) {
                    Some(token) => next = format!("&continue={}", escaped(token)),
                    None => break,
                }
            }
            self.nodes = Some(names);
        }
        Ok(self.nodes.get_or_insert_default())
    }

    /// An object; nothing where there is none.
    pub(super) fn get(&self, resource: &Resource, identity: &Identity) -> Result<Option<Value>, Trouble> {
        let path = format!("{}/{}", resource.path(identity), escaped(&identity.name));
        let answer = self.ask(("GET", &path), None)?;
        match answer.status {
            200 => parsed(&answer).map(Some),
            404 => Ok(None),
            status => Err(Trouble::new(Cause::NotTaken, format!("{identity}: it answered {status}"))),
        }
    }

    /// Makes an object.
    pub(super) fn create(
        &self,
        resource: &Resource,
        identity: &Identity,
        object: &Value,
    ) -> Result<Put, Trouble> {
        put(&self.ask(("POST", &resource.path(identity)), Some(object))?)
    }

    /// Puts an object in the place of the version that it names.
    pub(super) fn replace(
        &self,
        resource: &Resource,
        identity: &Identity,
        object: &Value,
    ) -> Result<Put, Trouble> {
        let path = format!("{}/{}", resource.path(identity), escaped(&identity.name));
        put(&self.ask(("PUT", &path), Some(object))?)
    }
}

fn put(answer: &Answer) -> Result<Put, Trouble> {
    match answer.status {
        200 | 201 => parsed(answer).map(Put::Done),
        409 => Ok(Put::Conflict),
        status => {
            let said = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
            let said = said["message"].as_str().unwrap_or_default().chars().take(300).collect();
            Ok(Put::Refused(status, said))
        }
    }
}

fn parsed(answer: &Answer) -> Result<Value, Trouble> {
    serde_json::from_slice(&answer.body)
        .map_err(|error| Trouble::new(Cause::ApiSilent, format!("it sent no JSON: {error}")))
}

/// What a discovery document lists; subresources (`nodes/status`) are none of ours.
fn resources(document: &Value) -> Vec<(String, Resource)> {
    let all = document["resources"].as_array().into_iter().flatten();
    all.filter_map(|one| {
        let plural = one["name"].as_str().filter(|name| !name.contains('/'))?.to_owned();
        let namespaced = one["namespaced"].as_bool().unwrap_or_default();
        Some((one["kind"].as_str()?.to_owned(), Resource { plural, namespaced }))
    })
    .collect()
}

fn top(api_version: &str) -> String {
    let folder = if api_version.contains('/') { "apis" } else { "api" };
    let parts: Vec<String> = api_version.split('/').map(escaped).collect();
    format!("/{folder}/{}", parts.join("/"))
}

/// As part of a path (RFC 3986, section 3.3).
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// `stringData` of a Secret is for writers alone: the API gives it back as `data` (core/v1, Secret).
pub(super) fn with_data(object: &Value) -> Value {
    let mut object = object.clone();
    if object["kind"] != "Secret" || object["apiVersion"] != "v1" {
        return object;
    }
    let Some(Value::Object(texts)) = object.as_object_mut().and_then(|entries| entries.remove("stringData"))
    else {
        return object;
    };
    if !object["data"].is_object() {
        object["data"] = Value::Object(Map::new());
    }
    for (key, text) in texts {
        let text = text.as_str().map(str::to_owned).unwrap_or_else(|| text.to_string());
        object["data"][key] = STANDARD.encode(text).into();
    }
    object
}

/// What k3s' kubeconfig for administrators says (pkg/cli/server: writes it with clientcmd): one cluster and one user, in Base64.
fn credentials(text: &str) -> Option<(Dial, Credentials)> {
    let field = |name: &str| {
        let start = format!("{name}:");
        let lines = text.lines().map(|line| line.trim().trim_start_matches("- "));
        let value = lines.filter_map(|line| line.strip_prefix(&start)).next()?.trim().trim_matches('"');
        (!value.is_empty()).then(|| value.to_owned())
    };
    let address = field("server")?
        .strip_prefix("https://")?
        .trim_end_matches('/')
        .parse::<std::net::SocketAddr>()
        .ok()?;
    let data = |name: &str| STANDARD.decode(field(name)?).ok();
    let credentials =
        Credentials { certificate: data("client-certificate-data")?, key: data("client-key-data")? };
    Some((Dial { host: address.ip().to_string(), addresses: vec![address] }, credentials))
}

#[cfg(test)]
mod tests {
    use super::{Identity, Resource, credentials, escaped, resources, with_data};
    use serde_json::json;

    #[test]
    fn a_kubeconfig_for_administrators_is_read() {
        let text = "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: eA==\n    server: https://[::1]:6443\n  name: default\nusers:\n- name: default\n  user:\n    client-certificate-data: YQ==\n    client-key-data: Yg==\n";
        let (dial, credentials) = credentials(text).unwrap();
        assert_eq!(dial.authority(), "[::1]:6443");
        assert_eq!((credentials.certificate, credentials.key), (b"a".to_vec(), b"b".to_vec()));
        assert!(super::credentials("server: https://k3s:6443\n").is_none());
    }

    #[test]
    fn paths_are_those_of_the_api() {
        let identity = |api_version: &str, namespace: Option<&str>| Identity {
            api_version: api_version.to_owned(),
            kind: String::new(),
            namespace: namespace.map(str::to_owned),
            name: "a".to_owned(),
        };
        let path = |api_version, namespaced, namespace| {
            Resource { plural: "things".to_owned(), namespaced }.path(&identity(api_version, namespace))
        };
        assert_eq!(path("v1", true, Some("b")), "/api/v1/namespaces/b/things");
        assert_eq!(path("v1", true, None), "/api/v1/namespaces/default/things");
        assert_eq!(path("example.com/v1", false, Some("b")), "/apis/example.com/v1/things");
        assert_eq!(escaped("system:a/../b c"), "system:a%2F..%2Fb%20c");
    }

    #[test]
    fn kinds_are_found_and_subresources_are_none() {
        let document = json!({ "resources": [
            { "name": "nodes", "kind": "Node", "namespaced": true },
            { "name": "nodes/status", "kind": "Node", "namespaced": true },
        ]});
        let nodes = Resource { plural: "nodes".to_owned(), namespaced: true };
        assert_eq!(resources(&document), [("Node".to_owned(), nodes)]);
    }

    #[test]
    fn texts_of_a_secret_are_data() {
        let secret = json!({ "apiVersion": "v1", "kind": "Secret", "stringData": { "a": "b" }, "data": { "c": "ZA==" } });
        assert_eq!(with_data(&secret)["data"], json!({ "a": "Yg==", "c": "ZA==" }));
        assert!(with_data(&secret).get("stringData").is_none());
        let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "stringData": { "a": "b" } });
        assert_eq!(with_data(&map), map);
    }
}
