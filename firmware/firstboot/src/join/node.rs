//! The node as Kubernetes has it, by the kubelet's own credentials: is it ready, and does it name its Longhorn disks?

use super::tls::{Answer, Client, Dial, Identity, Question};
use super::unit;
use super::words::{Cause, Trouble};
use super::{Around, journal};
use kiln_contract::event::{BOOT_RECORD, RECORD, Record};
use kiln_contract::join::{Join, LONGHORN_ANNOTATION};
use serde_json::{Value, json};
use std::fs;

/// How often a change that met another one is tried again before that is told.
const CONFLICTS: u32 = 20;

/// What a kubeconfig that k3s wrote says (pkg/daemons/control/deps/deps.go: kubeconfigTemplate): one cluster, one user, all
/// of it files.
struct Kubeconfig {
    server: String,
    certificate: String,
    key: String,
}

impl Kubeconfig {
    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let value =
                text.lines().find_map(|line| line.trim().trim_start_matches("- ").strip_prefix(name))?;
            let value = value.strip_prefix(':')?.trim().trim_matches('"');
            (!value.is_empty()).then(|| value.to_owned())
        };
        Some(Self {
            server: field("server")?,
            certificate: field("client-certificate")?,
            key: field("client-key")?,
        })
    }

    /// `https://127.0.0.1:6444`.
    fn dial(&self) -> Option<Dial> {
        let address =
            self.server.strip_prefix("https://")?.trim_end_matches('/').parse::<std::net::SocketAddr>();
        let address = address.ok()?;
        Some(Dial { host: address.ip().to_string(), addresses: vec![address] })
    }
}

/// A client of Kubernetes that is the kubelet.
fn client(around: &Around, join: &Join) -> Result<Client, Trouble> {
    let not_yet = |said: String| {
        Trouble::new(Cause::NotStarted, format!("{said}; {} is {}", join.unit, unit::state(around, join)))
    };
    let read = |path: &str| fs::read(around.path(path)).map_err(|error| not_yet(format!("{path}: {error}")));
    let text = String::from_utf8_lossy(&read(&join.kubeconfig)?).into_owned();
    let whole = Kubeconfig::parse(&text).and_then(|config| Some((config.dial()?, config)));
    let (dial, config) =
        whole.ok_or_else(|| not_yet(format!("{} is not what k3s writes", join.kubeconfig)))?;
    let identity = Identity { certificate: read(&config.certificate)?, key: read(&config.key)? };
    Client::new(&dial, &join.ca.pem, Some(&identity), around.clock)
        .map_err(|error| not_yet(error.to_string()))
}

fn api(client: &Client, question: Question<'_>) -> Result<Answer, Trouble> {
    client.ask(question).map_err(|error| Trouble::new(Cause::ApiSilent, error.to_string()))
}

fn path(join: &Join) -> String {
    format!("/api/v1/nodes/{}", join.node)
}

/// The Node object.
fn get(client: &Client, join: &Join) -> Result<Value, Trouble> {
    let answer = api(client, Question { method: "GET", path: &path(join), ..Question::default() })?;
    match answer.status {
        200 => serde_json::from_slice(&answer.body)
            .map_err(|error| Trouble::new(Cause::ApiSilent, format!("it sent no JSON: {error}"))),
        status => Err(refused(status, join)),
    }
}

fn refused(status: u16, join: &Join) -> Trouble {
    match status {
        404 => Trouble::new(Cause::NotRegistered, &join.node),
        409 => Trouble::new(Cause::ApiConflict, ""),
        401 | 403 => Trouble::new(Cause::ApiRefused, format!("it answered {status}")),
        other => Trouble::new(Cause::ApiSilent, format!("it answered {other}")),
    }
}

/// Is the node Ready? While k3s does not stay, its own last words are what keeps it.
pub(super) fn ready(around: &Around, join: &Join) -> Result<((), String), Trouble> {
    is_ready(around, join).map_err(|found| journal::explained(around, join, found))
}

fn is_ready(around: &Around, join: &Join) -> Result<((), String), Trouble> {
    let node = get(&client(around, join)?, join)?;
    let mut conditions = node["status"]["conditions"].as_array().into_iter().flatten();
    match conditions.find(|condition| condition["type"] == "Ready") {
        Some(ready) if ready["status"] == "True" => Ok(((), format!("node {} is Ready", join.node))),
        Some(other) => {
            let said =
                other["message"].as_str().filter(|text| !text.is_empty()).unwrap_or("it does not say why");
            Err(Trouble::new(Cause::NotReady, said))
        }
        None => Err(Trouble::new(Cause::NotReady, "the kubelet has not said yet")),
    }
}

/// Tells Longhorn of the node's disks. An annotation that is there and says something else is kept: somebody meant it.
pub(super) fn annotate(around: &Around, join: &Join) -> Result<((), String), Trouble> {
    // What can't be read now can't be read later: secrets do not wait for it.
    let wanted = match wanted(around) {
        Ok(Some(wanted)) => wanted,
        Ok(None) => return Ok(((), "the first boot made no Longhorn disk".to_owned())),
        Err(said) => return Ok(((), format!("nothing is told of disks: {said}"))),
    };
    let client = client(around, join)?;
    let mut left = CONFLICTS;
    loop {
        match tell(&client, join, &wanted) {
            // The kubelet and k3s write to the object as well: the newer one is read and tried at once.
            Err(trouble) if trouble.cause == Cause::ApiConflict && left > 0 => left -= 1,
            told => return told,
        }
    }
}

/// Reads the object, and adds the annotation to the version that was read.
fn tell(client: &Client, join: &Join, wanted: &str) -> Result<((), String), Trouble> {
    let node = get(client, join)?;
    let metadata = &node["metadata"];
    match metadata["annotations"][LONGHORN_ANNOTATION].as_str() {
        Some(found) if found == wanted => return Ok(((), "Kubernetes knows the disks".to_owned())),
        Some(_) => {
            return Ok(((), format!("{LONGHORN_ANNOTATION} says something else already, and is kept")));
        }
        None => {}
    }
    // With the version that was read: who writes at the same time is not overwritten (409).
    let patch = json!({ "metadata": {
        "resourceVersion": metadata["resourceVersion"],
        "annotations": { LONGHORN_ANNOTATION: wanted },
    }});
    let headers = vec![("Content-Type", "application/merge-patch+json".to_owned())];
    let body = patch.to_string().into_bytes();
    let answer = api(client, Question { method: "PATCH", path: &path(join), headers, body })?;
    match answer.status {
        200 => Ok(((), "Kubernetes was told of the disks".to_owned())),
        status => Err(refused(status, join)),
    }
}

/// The annotation's text, from this boot's record, else from the one that stays. Stock systems have neither.
fn wanted(around: &Around) -> Result<Option<String>, String> {
    let found = [BOOT_RECORD, RECORD].iter().find_map(|path| Some((path, fs::read(around.path(path)).ok()?)));
    let (path, bytes) = found.ok_or_else(|| format!("there is no {BOOT_RECORD} and no {RECORD}"))?;
    let record: Record = serde_json::from_slice(&bytes).map_err(|error| format!("{path}: {error}"))?;
    Ok(record.default_disks_config)
}

#[cfg(test)]
mod tests {
    use super::Kubeconfig;

    #[test]
    fn a_kubeconfig_of_k3s_is_read() {
        let text = "apiVersion: v1\nclusters:\n- cluster:\n    server: https://127.0.0.1:6444\n    certificate-authority: /var/lib/rancher/k3s/agent/server-ca.crt\n  name: local\nusers:\n- name: user\n  user:\n    client-certificate: /a/client-kubelet.crt\n    client-key: /a/client-kubelet.key\n";
        let config = Kubeconfig::parse(text).unwrap();
        assert_eq!(
            (config.certificate.as_str(), config.key.as_str()),
            ("/a/client-kubelet.crt", "/a/client-kubelet.key")
        );
        let dial = config.dial().unwrap();
        assert_eq!(dial.authority(), "127.0.0.1:6444");
        assert!(Kubeconfig::parse("apiVersion: v1\n").is_none());
        let six = Kubeconfig { server: "https://[::1]:6444".to_owned(), ..config };
        assert_eq!(six.dial().unwrap().authority(), "[::1]:6444");
    }
}
