//! `k3s`: what its flags and the kubelet's are told, held against what reads them and against the overlays beside it.

use super::{Told, arguments, kubelet};
use crate::cluster::model::Overlay;
use crate::cluster::settings::{Setting, SettingValue};
use crate::cluster::validate::kubernetes;
use crate::diag::{Fault, Span};

/// Flags that files of other overlays set after config.yaml: the user's word would be lost.
const SET: [(&str, &str, &str); 3] = [
    ("cilium", "disable-network-policy", "leave it out: Cilium keeps network policies itself"),
    ("cilium", "disable-kube-proxy", "write `kube_proxy_replacement: false` below `cilium`"),
    (
        "registry-mirrors",
        "disable-default-registry-endpoint",
        "write `default_endpoint: true` below `registry-mirrors`",
    ),
];

pub(super) fn check(told: &Told<'_>, faults: &mut Vec<Fault>) {
    kubelet::words(told, faults);
    for (text, span) in arguments::told(told.node, "node-label") {
        label((text, span), faults);
    }
    for (text, span) in arguments::told(told.node, "node-taint") {
        taint((text, span), faults);
    }
    ports(told, faults);
    others(told, faults);
}

/// `key=value`, as the kubelet registers with it.
pub(super) fn label((text, span): (&str, &Span), faults: &mut Vec<Fault>) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if let Err(refused) = kubernetes::own_label(key, value) {
        let fault = Fault::error("label", span, refused.message).label("the kubelet would not start");
        faults.push(fault.help(refused.help));
    }
}

pub(super) fn taint((text, span): (&str, &Span), faults: &mut Vec<Fault>) {
    let rule = kubernetes::TAINT;
    if let Err(reason) = (rule.check)(text) {
        let fault = Fault::error(rule.code, span, format!("{text:?} is not {}: {reason}", rule.what));
        faults.push(fault.label("the kubelet would not start").help(rule.help));
    }
}

/// What is said of the ports of Services on nodes.
pub(super) struct NodePorts<'a> {
    /// First and last; none where the text is no range.
    pub(super) range: Option<(i64, i64)>,
    text: &'a str,
    span: &'a Span,
}

/// First and last port of Services on nodes, by what k3s and kube-apiserver are told of it, and where that is written.
/// `first-last` or `first+more` (apimachinery, pkg/util/net: PortRange).
pub(super) fn node_ports<'a>(told: &Told<'a>) -> Option<NodePorts<'a>> {
    let server = told.servers().find(|node| node.overlay("k3s").is_some())?;
    let direct = arguments::told(server, "service-node-port-range").into_iter().next_back();
    let passed = arguments::told(server, "kube-apiserver-arg").into_iter().rev().find_map(|(text, span)| {
        Some((text.trim_start_matches('-').strip_prefix("service-node-port-range=")?, span))
    });
    let (text, span) = passed.or(direct)?;
    Some(NodePorts { range: range(text), text, span })
}

fn range(text: &str) -> Option<(i64, i64)> {
    let number = |text: &str| text.parse::<u16>().ok().map(i64::from);
    let (first, last) = match (text.split_once('-'), text.split_once('+')) {
        (Some((first, last)), _) => (number(first)?, number(last)?),
        (None, Some((first, more))) => {
            let first = number(first)?;
            (first, (first + number(more)?).min(i64::from(u16::MAX)))
        }
        (None, None) => (number(text)?, number(text)?),
    };
    (first > 0 && first <= last).then_some((first, last))
}

fn ports(told: &Told<'_>, faults: &mut Vec<Fault>) {
    if let Some(NodePorts { range: None, text, span }) = node_ports(told) {
        let fault = Fault::error("node-port", span, format!("{text:?} is no range of ports"));
        faults.push(fault.label("k3s would not start").help("write such as `30000-32767`"));
    }
}

/// What overlays beside it say as well.
fn others(told: &Told<'_>, faults: &mut Vec<Fault>) {
    let Some(k3s) = told.node.overlay("k3s") else { return };
    let sections = ["agent", "server"].map(|section| k3s.settings.get(section).map(Setting::map));
    for (key, value) in sections.into_iter().flatten().flatten() {
        let flag = key.strip_suffix('+').unwrap_or(key);
        let set = SET.iter().find(|(overlay, name, _)| {
            *name == flag && told.node.overlay(overlay).is_some_and(|overlay| sets(overlay, flag))
        });
        if let Some((overlay, _, help)) = set.filter(|_| value.value == SettingValue::Bool(false)) {
            let message = format!("`{key}` is false, and `{overlay}` makes it true");
            faults.push(Fault::error("k3s-flag", &value.span, message).label("without effect").help(*help));
        }
        if flag == "private-registry" && told.node.overlay("registry-mirrors").is_some() {
            let message = "k3s would read another file than the one that `registry-mirrors` writes";
            let fault = Fault::error("k3s-flag", &value.span, message).label("this file");
            faults.push(fault.help("leave it out, or the overlay `registry-mirrors`"));
        }
    }
}

/// Whether the overlay's file has the flag.
fn sets(overlay: &Overlay, flag: &str) -> bool {
    let is = |name: &str, value: bool| {
        overlay.settings.get(name).is_some_and(|setting| setting.value == SettingValue::Bool(value))
    };
    match flag {
        "disable-kube-proxy" => is("kube_proxy_replacement", true),
        "disable-default-registry-endpoint" => is("default_endpoint", false),
        _ => true,
    }
}
