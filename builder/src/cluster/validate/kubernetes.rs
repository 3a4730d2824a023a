//! Labels and taints that a node registers with.

use super::{Check, Rule};
use crate::cluster::read::Text;
use crate::diag::{Fault, Span};
use std::collections::BTreeMap;

pub(in crate::cluster::validate) const TAINT: Rule = Rule {
    check: taint,
    what: "a taint",
    code: "taint",
    help: "write `key=value:NoSchedule`, `key:NoSchedule` (or `PreferNoSchedule`, `NoExecute`)",
};

/// Prefixes of labels that a node may not give itself (Kubernetes, admission plugin NodeRestriction), but for those of
/// the second list.
const RESTRICTED: [&str; 2] = ["kubernetes.io", "k8s.io"];
const ALLOWED: [&str; 2] = ["node.kubernetes.io", "kubelet.kubernetes.io"];
/// And whole keys that a node may give itself.
const OWN: [&str; 10] = [
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
];

impl Check<'_> {
    pub(super) fn labels(
        &mut self,
        labels: Option<&BTreeMap<String, (Span, Text)>>,
    ) -> BTreeMap<String, String> {
        let mut kept = BTreeMap::new();
        for (key, (span, value)) in labels.into_iter().flatten() {
            if let Err(refused) = own_label(key, &value.value) {
                let (place, label) = match refused.what {
                    Part::Key => (span, "here"),
                    Part::Value => (&value.span, "here"),
                    Part::Both => (span, "refused by Kubernetes"),
                };
                self.faults
                    .push(Fault::error("label", place, refused.message).label(label).help(refused.help));
                continue;
            }
            kept.insert(key.clone(), value.value.clone());
        }
        kept
    }
}

/// Which part of a label is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Its key is none.
    Key,
    /// Its value is none.
    Value,
    /// It is a label, and not a node's to give.
    Both,
}

/// Why a node can't have a label, and what to do.
#[derive(Debug)]
pub(super) struct Refused {
    what: Part,
    pub(super) message: String,
    pub(super) help: &'static str,
}

/// A label that a node may give itself (Kubernetes 1.34, cmd/kubelet/app/options: "unknown 'kubernetes.io' or 'k8s.io' labels";
/// staging/src/k8s.io/kubelet/pkg/apis/well_known_labels.go); else why not, and what to do.
pub(super) fn own_label(key: &str, value: &str) -> Result<(), Refused> {
    const WRITE: &str = "write such as `example.com/tier: storage`: letters and digits, inside also `-`, `_` and `.`, \
                         at most 63 of them";
    let refused = |what, message| Refused { what, message, help: WRITE };
    qualified(key)
        .map_err(|reason| refused(Part::Key, format!("{key:?} is not the key of a label: {reason}")))?;
    label_value(value)
        .map_err(|reason| refused(Part::Value, format!("{value:?} is not the value of a label: {reason}")))?;
    let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
    let within =
        |names: &[&str]| names.iter().any(|name| prefix == *name || prefix.ends_with(&format!(".{name}")));
    if within(&RESTRICTED) && !within(&ALLOWED) && !OWN.contains(&key) {
        return Err(Refused {
            what: Part::Both,
            message: format!("no node may give itself the label `{key}`"),
            help: "leave it out and set it from outside, `kubectl label node NAME ...`, or take a prefix of your own",
        });
    }
    Ok(())
}

/// `[prefix/]name` (Kubernetes, "Labels and Selectors", Syntax and character set).
fn qualified(key: &str) -> Result<(), &'static str> {
    let name = match key.split_once('/') {
        Some((prefix, name)) => {
            crate::cluster::words::domain(prefix)?;
            name
        }
        None => key,
    };
    if name.is_empty() { Err("it is empty") } else { label_value(name) }
}

fn label_value(text: &str) -> Result<(), &'static str> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match text {
        _ if text.len() > 63 => Err("it has more than 63 characters"),
        _ if !text.chars().all(inner) => {
            Err("it has a character other than letters, digits, `-`, `_` and `.`")
        }
        _ if text.starts_with(['-', '_', '.']) || text.ends_with(['-', '_', '.']) => {
            Err("it doesn't start and end with a letter or digit")
        }
        _ => Ok(()),
    }
}

fn taint(text: &str) -> Result<(), &'static str> {
    let Some((what, effect)) = text.rsplit_once(':') else { return Err("it has no effect behind a colon") };
    if !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        return Err("its effect is none of NoSchedule, PreferNoSchedule and NoExecute");
    }
    let (key, value) = what.split_once('=').unwrap_or((what, ""));
    qualified(key)?;
    label_value(value)
}
