//! `server` and `agent` of k3s: further keys of its config.yaml, held against its flags and against those that Kiln writes.

use super::Check;
use crate::cluster::k3s::{Flags, Kind, flags, is_duration};
use crate::cluster::settings::{Setting, SettingValue, Settings};
use crate::diag::{Fault, nearest};

/// Flags that Kiln writes itself, and where the cluster file says what is in them.
const OWN: [(&str, &str); 21] = [
    ("agent-token", "`kiln secrets` makes it and `kiln secrets rotate` changes it"),
    ("agent-token-file", "`kiln secrets` makes it and `kiln secrets rotate` changes it"),
    ("cluster-cidr", "write `pod_cidr` below `cluster.k3s`"),
    ("cluster-dns", "write `cluster_dns` below `cluster.k3s`"),
    ("cluster-domain", "write `cluster_domain` below `cluster.k3s`"),
    ("cluster-init", "the first server of several has it; which one that is, the order of `nodes` says"),
    ("cluster-reset", "it would empty etcd at every start: run it by hand on the node"),
    ("cluster-reset-restore-path", "it would restore at every start: run it by hand on the node"),
    (
        "config",
        "Kiln writes /etc/rancher/k3s/config.yaml; add keys here, or a file in config.yaml.d by an overlay",
    ),
    ("data-dir", "Kiln's files, and those of its overlays, are below /var/lib/rancher/k3s"),
    ("datastore-endpoint", "write `datastore` below `cluster.k3s`"),
    ("embedded-registry", "write `embedded_registry` below `cluster.k3s`"),
    ("flannel-backend", "write `flannel` below `cluster.k3s`"),
    ("https-listen-port", "nodes dial port 6443"),
    ("node-ip", "it is the node's address in `network`"),
    ("node-name", "the node's `name` is its name"),
    ("server", "write `cluster.endpoint`"),
    ("service-cidr", "write `service_cidr` below `cluster.k3s`"),
    ("token", "`kiln secrets` makes it and `kiln secrets rotate` changes it"),
    ("token-file", "`kiln secrets` makes it and `kiln secrets rotate` changes it"),
    ("with-node-id", "the node's `name` is its name"),
];

impl Check<'_> {
    /// The flags of a node, or of all.
    pub(super) fn flags(&mut self, settings: &Settings) {
        let (table, own) = flags(settings.get("version").and_then(Setting::text));
        for (section, server) in [("agent", false), ("server", true)] {
            for (key, value) in settings.get(section).map(Setting::map).unwrap_or_default() {
                let Some(fault) = fault((key, value), (section, server), (&table, own)) else { continue };
                if self.said.insert((value.span.start, "flag")) {
                    self.faults.push(fault);
                }
            }
        }
    }
}

fn fault(
    (key, value): (&str, &Setting),
    (section, server): (&str, bool),
    (table, own): (&Flags, bool),
) -> Option<Fault> {
    let error = |message: String, label: &str, help: String| {
        Some(Fault::error("k3s-flag", &value.span, message).label(label).help(help))
    };
    // With a `+` k3s adds to what config.yaml says, and so does Kiln.
    let name = key.strip_suffix('+').unwrap_or(key);
    if let Some((_, help)) = OWN.iter().find(|(own, _)| *own == name) {
        return error(format!("`{section}.{key}`: Kiln writes `{name}` itself"), "twice", (*help).to_owned());
    }
    let Some(flag) = table.all.get(name) else {
        let dashes = name.replace('_', "-");
        let near = if table.all.contains_key(dashes.as_str()) {
            Some(dashes.as_str())
        } else {
            nearest(name, table.all.keys().copied())
        };
        let help = near.map_or_else(
            || "keys are those of `k3s server --help`, without their dashes".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        let message = format!("k3s 1.{} has no flag `{name}`, and would go on without it", table.minor);
        let fault = match own || near.is_some() {
            true => Fault::error("k3s-flag", &value.span, message),
            // Another release may know it.
            false => Fault::warning("k3s-flag", &value.span, message),
        };
        return Some(fault.label(format!("of `{key}`")).help(help));
    };
    if flag.server_only && !server {
        return error(
            format!("`agent.{key}`: `{name}` is a flag of servers, and agents would go on without it"),
            "here",
            format!("write it below `server:` of k3s: `server: {{ {name}: ... }}`"),
        );
    }
    let scalar = |value: &SettingValue| {
        matches!(
            value,
            SettingValue::Text(_)
                | SettingValue::Integer(_)
                | SettingValue::Float(_)
                | SettingValue::Secret(_)
                | SettingValue::Bool(_)
        )
    };
    let (fits, want) = match (flag.kind, &value.value) {
        (Kind::Switch, SettingValue::Bool(_)) => (true, ""),
        // k3s makes `--key=value` of each, which Go's strconv reads.
        (Kind::Switch, SettingValue::Text(text)) => {
            let words = ["1", "t", "T", "true", "TRUE", "True", "0", "f", "F", "false", "FALSE", "False"];
            (words.contains(&text.as_str()), "`true` or `false`")
        }
        (Kind::Switch, SettingValue::Integer(number)) => ((0..=1).contains(number), "`true` or `false`"),
        (Kind::Switch, _) => (false, "`true` or `false`"),
        (Kind::Number, SettingValue::Integer(_)) => (true, ""),
        (Kind::Number, SettingValue::Text(text)) => (text.parse::<i64>().is_ok(), "a whole number"),
        (Kind::Number, _) => (false, "a whole number"),
        (Kind::Duration, value) => {
            let fits = match value {
                SettingValue::Text(text) => is_duration(text),
                SettingValue::Secret(_) | SettingValue::Integer(0) => true,
                _ => false,
            };
            (fits, "a span of time as Go writes it, such as `5m` or `1h30m`")
        }
        (Kind::List, SettingValue::List(items)) => {
            (items.iter().all(|item| scalar(&item.value)), "a list of texts")
        }
        (Kind::List, other) => (scalar(other), "a list of texts"),
        (Kind::Text, SettingValue::Bool(_)) => (false, "text"),
        (Kind::Text, other) => (scalar(other), "text"),
    };
    if fits {
        return None;
    }
    let help = match &value.value {
        SettingValue::Map(_) => {
            format!(
                "give {want}; a secret is `{{ secret: NAME }}`, `{{ sops: FILE, key: KEY }}`, `{{ file: FILE }}` or `{{ env: VARIABLE }}`"
            )
        }
        _ => format!("give {want}"),
    };
    error(format!("`{section}.{key}` is not {want}"), "here", help)
}
