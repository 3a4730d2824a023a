//! `kubelet-limits`: what ends the kubelet when it starts (Kubernetes 1.34: pkg/kubelet/apis/config/validation,
//! pkg/kubelet/eviction/helpers.go, cmd/kubelet/app/server.go).

use super::Told;
use crate::cluster::ip;
use crate::cluster::settings::{Setting, is_quantity, is_zero};
use crate::diag::Fault;
use ipnet::IpNet;

/// What the kubelet takes when they are left out, in percent.
const HIGH: i64 = 85;
const LOW: i64 = 80;

pub(super) fn check(told: &Told<'_>, faults: &mut Vec<Fault>) {
    thresholds(told, faults);
    images(told, faults);
    pods(told, faults);
    if let Some(size) = told.given("container_log_max_size")
        && size.text().is_some_and(is_zero)
    {
        let fault = Fault::error("kubelet", &size.span, "`container_log_max_size` is nothing").label("here");
        faults.push(fault.help("write such as `10Mi`"));
    }
}

/// "eviction threshold ... must be positive", "grace period must be specified for the soft eviction threshold ...".
fn thresholds(told: &Told<'_>, faults: &mut Vec<Fault>) {
    let map = |name: &str| told.given(name).map(Setting::map).unwrap_or_default();
    for (signal, value) in map("eviction_hard").iter().chain(map("eviction_soft")) {
        let text = value.text().unwrap_or_default();
        let Err(reason) = threshold(text) else { continue };
        let message = format!("`{signal}` is {text:?}, which is no threshold: {reason}");
        let fault = Fault::error("kubelet", &value.span, message).label("the kubelet would not start");
        faults.push(fault.help("write a percentage or an amount, such as `10%` or `500Mi`"));
    }
    let grace = map("eviction_soft_grace_period");
    for (signal, value) in
        map("eviction_soft").iter().filter(|(signal, _)| grace.iter().all(|(name, _)| name != signal))
    {
        let message = format!("`{signal}` of `eviction_soft` has no grace period");
        let fault = Fault::error("kubelet", &value.span, message).label("the kubelet would not start");
        faults.push(fault.help(format!("add `eviction_soft_grace_period: {{ {signal}: 1m30s }}`")));
    }
}

fn threshold(text: &str) -> Result<(), &'static str> {
    let Some(percent) = text.strip_suffix('%') else {
        is_quantity(text)?;
        return if is_zero(text) { Err("it is nothing") } else { Ok(()) };
    };
    let digits = percent.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    match percent.parse::<f32>() {
        Ok(percent) if digits && percent <= 100.0 => Ok(()),
        Ok(_) if digits => Err("it is more than 100 percent"),
        _ => Err("it is no percentage"),
    }
}

/// "imageGCLowThresholdPercent ... must be less than imageGCHighThresholdPercent".
fn images(told: &Told<'_>, faults: &mut Vec<Fault>) {
    let percent = |name: &str| told.given(name).and_then(|setting| Some((setting, setting.integer()?)));
    let (high, low) = (percent("image_gc_high_threshold"), percent("image_gc_low_threshold"));
    let (from, to) = (high.map_or(HIGH, |(_, percent)| percent), low.map_or(LOW, |(_, percent)| percent));
    let Some((given, _)) = low.or(high).filter(|_| to >= from) else { return };
    let message = format!("images would be removed above {from} percent of the disk, and down to {to}");
    let fault = Fault::error("kubelet", &given.span, message).label("the kubelet would not start");
    faults.push(fault.help(format!(
        "let `image_gc_low_threshold` be less than `image_gc_high_threshold`; what is left out is {LOW} and {HIGH}"
    )));
}

/// Every pod has an address of its node's part of the pods' network.
fn pods(told: &Told<'_>, faults: &mut Vec<Fault>) {
    let Some(k3s) = told.node.overlay("k3s") else { return };
    let arguments = k3s.settings.get("kubelet_arguments").map(Setting::list).unwrap_or_default();
    let argument = arguments.iter().rev().find_map(|argument| {
        Some((argument, argument.text()?.strip_prefix("max-pods=")?.parse::<i64>().ok()?))
    });
    let given = told.given("max_pods").and_then(|pods| Some((pods, pods.integer()?)));
    let Some((setting, wanted)) = given.or(argument) else { return };
    let net = k3s.settings.get("pod_cidr").and_then(|cidr| ip::networks(cidr.text()?).into_iter().next());
    let (bits, mask, flags): (u32, u32, _) = match net {
        Some(IpNet::V6(_)) => (128, 64, ["node-cidr-mask-size=", "node-cidr-mask-size-ipv6="]),
        _ => (32, 24, ["node-cidr-mask-size=", "node-cidr-mask-size-ipv4="]),
    };
    let told_mask = told.server_flag("kube-controller-manager-arg").into_iter().rev().find_map(|argument| {
        let argument = argument.trim_start_matches('-');
        flags.iter().find_map(|flag| argument.strip_prefix(flag)?.parse::<u32>().ok())
    });
    let mask = told_mask.unwrap_or(mask);
    let room = 1_i64.checked_shl(bits.saturating_sub(mask).min(62)).unwrap_or(i64::MAX) - 2;
    if wanted > room {
        let message =
            format!("{wanted} pods do not fit a node: its /{mask} of the pods' network has {room} addresses");
        let fault = Fault::error("kubelet", &setting.span, message).label("too many");
        faults.push(fault.help(format!(
            "take at most {room}, or give nodes more: `cluster.k3s.server: {{ kube-controller-manager-arg: [node-cidr-mask-size=22] }}`"
        )));
    }
}
