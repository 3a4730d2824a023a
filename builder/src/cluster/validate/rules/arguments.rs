//! Words for the kubelet that k3s hands on as they are: `kubelet_arguments`, and `kubelet-arg` below `server` and `agent`. They
//! go over what its configuration files say.

use super::Told;
use crate::cluster::k3s::kubelet_flags;
use crate::cluster::model::{Node, Role};
use crate::cluster::settings::Setting;
use crate::diag::{Fault, Span, nearest};

/// `name=value`, and where it is written.
#[derive(Clone, Copy)]
pub(in crate::cluster::validate) struct Argument<'a> {
    pub(in crate::cluster::validate) name: &'a str,
    pub(in crate::cluster::validate) value: &'a str,
    pub(in crate::cluster::validate) span: &'a Span,
}

/// What a flag of k3s is told on a node, with that of `flag+`, and text with commas as the list that k3s makes of it.
pub(in crate::cluster::validate) fn told<'a>(node: &'a Node, flag: &str) -> Vec<(&'a str, &'a Span)> {
    let Some(k3s) = node.overlay("k3s") else { return Vec::new() };
    let sections: &[&str] = if node.role == Role::Server { &["agent", "server"] } else { &["agent"] };
    let mut all = Vec::new();
    for section in sections {
        let Some(section) = k3s.settings.get(*section) else { continue };
        for (_, value) in section.map().iter().filter(|(key, _)| key.strip_suffix('+').unwrap_or(key) == flag)
        {
            let one =
                value.text().into_iter().flat_map(|text| text.split(',')).map(|text| (text, &value.span));
            all.extend(one);
            all.extend(value.list().iter().filter_map(|item| Some((item.text()?, &item.span))));
        }
    }
    all
}

/// All of a node's, the last of a name at the end.
pub(in crate::cluster::validate) fn arguments(node: &Node) -> Vec<Argument<'_>> {
    let Some(k3s) = node.overlay("k3s") else { return Vec::new() };
    let own = k3s.settings.get("kubelet_arguments").map(Setting::list).unwrap_or_default();
    let own = own.iter().filter_map(|setting| Some((setting.text()?, &setting.span)));
    own.chain(told(node, "kubelet-arg"))
        .map(|(text, span)| {
            let text = text.trim_start_matches('-');
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            Argument { name, value, span }
        })
        .collect()
}

/// The last word on a flag counts.
pub(in crate::cluster::validate) fn last<'a>(all: &[Argument<'a>], name: &str) -> Option<Argument<'a>> {
    all.iter().rev().find(|argument| argument.name == name).copied()
}

/// Flags that the kubelet does not have end it (Kubernetes 1.34, cmd/kubelet/app/options: "unknown flag").
pub(super) fn known(told: &Told<'_>, all: &[Argument<'_>], faults: &mut Vec<Fault>) {
    let version =
        told.node.overlay("k3s").and_then(|k3s| k3s.settings.get("version")).and_then(Setting::text);
    let (flags, minor, own) = kubelet_flags(version);
    for argument in all.iter().filter(|argument| !flags.contains(argument.name)) {
        let near = nearest(argument.name, flags.iter().copied());
        let message = match argument.name.contains([' ', '\t']) {
            true => format!("{:?} is no argument of the kubelet", argument.name),
            false => format!("the kubelet of 1.{minor} has no flag `{}`", argument.name),
        };
        let fault = if own || near.is_some() { Fault::error } else { Fault::warning };
        let help = near.map_or_else(
            || "write `NAME=VALUE` without dashes, a flag of `kubelet --help`".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        let fault = fault("kubelet", argument.span, message);
        faults.push(fault.label("the kubelet would not start").help(help));
    }
}
