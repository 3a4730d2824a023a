//! Taints, held against what must run on the nodes that have them.

use super::{Both, Check};
use crate::cluster::model::{Node, Role};
use crate::cluster::validate::rules::arguments;
use crate::diag::{Fault, Span};

/// Taints that the Job of a chart with `bootstrap: true` tolerates, and with which effect; with every one where none is named
/// (k3s-io/helm-controller, pkg/controllers/chart/chart.go: job). It runs on servers alone.
const TOLERATED: [(&str, Option<&str>); 6] = [
    ("CriticalAddonsOnly", None),
    ("node-role.kubernetes.io/control-plane", Some("NoSchedule")),
    ("node-role.kubernetes.io/etcd", Some("NoExecute")),
    ("node.cloudprovider.kubernetes.io/uninitialized", Some("NoSchedule")),
    ("node.kubernetes.io/network-unavailable", Some("NoSchedule")),
    ("node.kubernetes.io/not-ready", Some("NoSchedule")),
];

impl Check<'_> {
    /// Cilium is installed by a Job, and without it no node is ever Ready: there must be a server that the Job may run on.
    pub(super) fn cilium_can_start(&mut self, both: &Both<'_>) {
        let servers: Vec<_> = both.members().filter(|(_, node, _)| node.role == Role::Server).collect();
        if !servers.iter().any(|(_, node, _)| node.overlay("cilium").is_some()) {
            return;
        }
        // Those of `taints`, and those that k3s and the kubelet are told beside it, with their places.
        let kept_out = |node: &Node| {
            let own = node.taints.iter().map(|taint| (taint.clone(), None));
            let further =
                passed(node).into_iter().map(|(taint, span)| (taint.to_owned(), Some(span.clone())));
            own.chain(further).find(|(taint, _)| keeps_out(taint))
        };
        let taints: Vec<_> = servers.iter().map(|(at, node, _)| (*at, kept_out(node))).collect();
        let Some((at, Some((taint, place)))) =
            taints.first().filter(|_| taints.iter().all(|(_, taint)| taint.is_some()))
        else {
            return;
        };
        let named = both.section(*at).and_then(|section| section.taints.as_ref());
        let written = named.and_then(|all| all.iter().find(|text| text.value == *taint));
        let span = place.clone().or_else(|| written.map(|text| text.span.clone()));
        let span = span.unwrap_or_else(|| both.name(*at));
        let message = format!(
            "Cilium is never installed: the Job that does it runs on servers, and does not tolerate {taint}"
        );
        let label = if servers.len() == 1 {
            "on the only server"
        } else {
            "and each other server has such a taint, too"
        };
        self.faults.push(Fault::error("cilium-taint", &span, message).label(label).help(
            "keep workloads off servers with `node-role.kubernetes.io/control-plane:NoSchedule` or `CriticalAddonsOnly=true:NoExecute`, \
             which the Job tolerates, or set this taint when the cluster is up (`kubectl taint`)",
        ));
    }
}

/// Taints of `node-taint` of k3s and `register-with-taints` of the kubelet.
fn passed(node: &Node) -> Vec<(&str, &Span)> {
    let mut all = arguments::told(node, "node-taint");
    if let Some(taints) = arguments::last(&arguments::arguments(node), "register-with-taints") {
        all.extend(taints.value.split(',').map(|taint| (taint, taints.span)));
    }
    all
}

fn keeps_out(taint: &str) -> bool {
    let Some((rest, effect)) = taint.rsplit_once(':') else { return false };
    let key = rest.split('=').next().unwrap_or_default();
    let tolerated =
        |(known, with): &(&str, Option<&str>)| *known == key && with.is_none_or(|with| with == effect);
    effect != "PreferNoSchedule" && !TOLERATED.iter().any(tolerated)
}

#[cfg(test)]
mod tests {
    use super::keeps_out;

    #[test]
    fn what_the_job_tolerates_is_known() {
        for (taint, out) in [
            ("dedicated=x:NoSchedule", true),
            ("dedicated:NoExecute", true),
            ("dedicated:PreferNoSchedule", false),
            ("CriticalAddonsOnly=true:NoExecute", false),
            ("node-role.kubernetes.io/control-plane:NoSchedule", false),
            ("node-role.kubernetes.io/control-plane:NoExecute", true),
            ("node-role.kubernetes.io/master:NoSchedule", true),
        ] {
            assert_eq!(keeps_out(taint), out, "{taint}");
        }
    }
}
