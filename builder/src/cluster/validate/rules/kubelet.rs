//! `kubelet-limits`: what ends the kubelet when it starts (Kubernetes 1.34: pkg/kubelet/apis/config/validation,
//! pkg/kubelet/eviction/helpers.go, cmd/kubelet/app/server.go).

use super::Told;
use super::arguments::{Argument, arguments, known, last};
use crate::cluster::ip;
use crate::cluster::settings::{Setting, is_quantity, is_zero};
use crate::diag::Fault;
use ipnet::IpNet;

/// What the kubelet takes when they are left out, in percent.
const HIGH: i64 = 85;
const LOW: i64 = 80;

/// The kubelet's resources that are kept back ("cannot reserve … resource").
const RESERVED: [&str; 4] = ["cpu", "memory", "ephemeral-storage", "pid"];
/// Signals of evictions (pkg/kubelet/eviction/api).
const SIGNALS: [&str; 9] = [
    "memory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "imagefs.available",
    "imagefs.inodesFree",
    "containerfs.available",
    "containerfs.inodesFree",
    "allocatableMemory.available",
    "pid.available",
];

/// Of the overlay's settings.
pub(super) fn check(told: &Told<'_>, faults: &mut Vec<Fault>) {
    thresholds(told, faults);
    if let Some(size) = told.given("container_log_max_size")
        && let Some(Err(reason)) = size.text().map(whole_bytes)
    {
        let message = format!("`container_log_max_size` is {:?}: {reason}", size.text().unwrap_or_default());
        let fault = Fault::error("kubelet", &size.span, message).label("the kubelet would not start");
        faults.push(fault.help("write such as `10Mi`"));
    }
}

/// Of all that the kubelet of a node is told, by arguments and by the overlay.
pub(super) fn words(told: &Told<'_>, faults: &mut Vec<Fault>) {
    let all = arguments(told.node);
    known(told, &all, faults);
    let limits = told.node.overlay("kubelet-limits");
    let setting =
        |name: &str| limits.and_then(|limits| limits.settings.get(name)).filter(|one| super::given(one));
    images(&all, &setting, faults);
    pods(told, (&all, &setting), faults);
    let fault = |argument: &Argument<'_>, message: String, help: &str| {
        Fault::error("kubelet", argument.span, message).label("the kubelet would not start").help(help)
    };
    if let Some(size) = last(&all, "container-log-max-size")
        && let Err(reason) = whole_bytes(size.value)
    {
        let message = format!("`container-log-max-size` is {:?}: {reason}", size.value);
        faults.push(fault(&size, message, "write such as `10Mi`"));
    }
    for name in ["eviction-hard", "eviction-soft"] {
        let Some(argument) = last(&all, name) else { continue };
        let grace = last(&all, "eviction-soft-grace-period").map(|grace| grace.value);
        let graced = |signal: &str| {
            let grace = grace.unwrap_or_default();
            name == "eviction-hard" || grace.split(',').any(|one| one.split('=').next() == Some(signal))
        };
        for one in argument.value.split(',').filter(|one| !one.is_empty()) {
            let (signal, amount) = one.split_once('<').unwrap_or((one, ""));
            let reason = match threshold(amount) {
                _ if !SIGNALS.contains(&signal) => format!("the kubelet knows no signal `{signal}`"),
                Err(reason) => reason.to_owned(),
                Ok(()) if !graced(signal) => {
                    "it has no grace period in `eviction-soft-grace-period`".to_owned()
                }
                Ok(()) => continue,
            };
            let message = format!("`{name}` has {one:?}, which is no threshold: {reason}");
            faults.push(fault(&argument, message, "write such as `memory.available<500Mi`"));
        }
    }
    for name in ["system-reserved", "kube-reserved"] {
        let Some(argument) = last(&all, name) else { continue };
        for one in argument.value.split(',').filter(|one| !one.is_empty()) {
            let (resource, amount) = one.split_once('=').unwrap_or((one, ""));
            let reason = match is_quantity(amount) {
                _ if !RESERVED.contains(&resource) => "it is none of what can be kept back",
                Err(reason) => reason,
                Ok(()) => continue,
            };
            let message = format!("`{name}` has {one:?}: {reason}");
            faults.push(fault(&argument, message, "write such as `cpu=500m,memory=1Gi`"));
        }
    }
    if let Some(taints) = last(&all, "register-with-taints") {
        for one in taints.value.split(',').filter(|one| !one.is_empty()) {
            super::k3s::taint((one, taints.span), faults);
        }
    }
    if let Some(labels) = last(&all, "node-labels") {
        for one in labels.value.split(',').filter(|one| !one.is_empty()) {
            super::k3s::label((one, labels.span), faults);
        }
    }
}

/// "invalid max log size": whole bytes, more than none (pkg/kubelet/logs: parseMaxSize; apimachinery: AsInt64).
fn whole_bytes(text: &str) -> Result<(), &'static str> {
    is_quantity(text)?;
    let number = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number);
    match unit {
        _ if is_zero(text) => Err("it is nothing"),
        "m" | "u" | "n" => Err("it is no whole number of bytes"),
        _ if number.contains('.') && (unit.is_empty() || unit.ends_with('i')) => {
            Err("it is no whole number of bytes")
        }
        _ => Ok(()),
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
fn images<'a>(all: &[Argument<'a>], setting: Settings<'_, 'a>, faults: &mut Vec<Fault>) {
    let percent = |flag: &str, name: &str| {
        let argument = last(all, flag).and_then(|one| Some((one.span, one.value.parse::<i64>().ok()?)));
        argument.or_else(|| setting(name).and_then(|one| Some((&one.span, one.integer()?))))
    };
    let high = percent("image-gc-high-threshold", "image_gc_high_threshold");
    let low = percent("image-gc-low-threshold", "image_gc_low_threshold");
    let (from, to) = (high.map_or(HIGH, |(_, percent)| percent), low.map_or(LOW, |(_, percent)| percent));
    let Some((given, _)) = low.or(high).filter(|_| to >= from) else { return };
    let message = format!("images would be removed above {from} percent of the disk, and down to {to}");
    let fault = Fault::error("kubelet", given, message).label("the kubelet would not start");
    faults.push(fault.help(format!(
        "let `image_gc_low_threshold` be less than `image_gc_high_threshold`; what is left out is {LOW} and {HIGH}"
    )));
}

/// The overlay's setting of that name, when it is given.
type Settings<'s, 'a> = &'s dyn Fn(&str) -> Option<&'a Setting>;

/// Every pod has an address of its node's part of the pods' network.
fn pods<'a>(told: &Told<'a>, (all, setting): (&[Argument<'a>], Settings<'_, 'a>), faults: &mut Vec<Fault>) {
    let Some(k3s) = told.node.overlay("k3s") else { return };
    let argument =
        last(all, "max-pods").and_then(|argument| Some((argument.span, argument.value.parse::<i64>().ok()?)));
    let given = || setting("max_pods").and_then(|pods| Some((&pods.span, pods.integer()?)));
    let Some((span, wanted)) = argument.or_else(given) else { return };
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
        let fault = Fault::error("kubelet", span, message).label("too many");
        faults.push(fault.help(format!(
            "take at most {room}, or give nodes more: `cluster.k3s.server: {{ kube-controller-manager-arg: [node-cidr-mask-size=22] }}`"
        )));
    }
}
