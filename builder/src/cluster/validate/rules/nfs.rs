//! `nfs-server`: what exports(5) takes.

use super::{Told, field};
use crate::cluster::model::LINKED;
use crate::cluster::settings::Setting;
use crate::diag::{Fault, nearest};

/// Folders of a Kiln image that can be exported: what else there is belongs to the system.
const PLACES: [&str; 3] = ["/media/", "/mnt/", "/var/"];
/// Options of exports(5), nfs-utils 2.8; those with a value end in `=`.
const OPTIONS: [&str; 39] = [
    "all_squash",
    "anongid=",
    "anonuid=",
    "async",
    "auth_nlm",
    "crossmnt",
    "fsid=",
    "fsuid=",
    "hide",
    "insecure",
    "insecure_locks",
    "mountpoint",
    "mountpoint=",
    "mp",
    "mp=",
    "no_acl",
    "no_all_squash",
    "no_auth_nlm",
    "no_pnfs",
    "no_root_squash",
    "no_subtree_check",
    "no_wdelay",
    "nocrossmnt",
    "nohide",
    "nordirplus",
    "pnfs",
    "refer=",
    "replicas=",
    "ro",
    "root_squash",
    "rw",
    "sec=",
    "secure",
    "secure_locks",
    "security_label",
    "subtree_check",
    "sync",
    "wdelay",
    "xprtsec=",
];

pub(super) fn check(told: &Told<'_>, faults: &mut Vec<Fault>) {
    for export in told.overlay.settings.get("exports").map(Setting::list).unwrap_or_default() {
        if let Some(path) = field(export, "path") {
            exported(told, path, faults);
        }
        for client in export.get("clients").map(Setting::list).unwrap_or_default() {
            if let Some(host) = field(client, "host") {
                let text = host.text().unwrap_or_default();
                let odd = |c: char| !(c.is_ascii_alphanumeric() || ".:/-_*?@[]".contains(c));
                if text.contains(odd) || text.starts_with('-') {
                    let fault = Fault::error(
                        "nfs-server",
                        &host.span,
                        format!("{text:?} is no client of exports(5)"),
                    );
                    faults.push(
                        fault.label("here").help("write an address, a network `10.0.0.0/24`, a name, or `*`"),
                    );
                }
            }
            for option in client.get("options").map(Setting::list).unwrap_or_default() {
                known(option, faults);
            }
        }
    }
}

fn exported(told: &Told<'_>, path: &Setting, faults: &mut Vec<Fault>) {
    let text = path.text().unwrap_or_default();
    let mut fail = |message: String, help: String| {
        faults.push(Fault::error("nfs-server", &path.span, message).label("here").help(help));
    };
    // A client of NFS 4 is shown the link, and finds nothing behind it.
    let link = LINKED.iter().find_map(|(link, to)| Some((*link, *to, text.strip_prefix(link)?)));
    if let Some((link, to, rest)) = link {
        fail(
            format!("{text:?} lies behind a link, which clients of NFS 4 do not follow"),
            format!(
                "on a Kiln image {} leads to {}: write `path: {to}{rest}`, and mount that",
                link.trim_end_matches('/'),
                to.trim_end_matches('/')
            ),
        );
        return;
    }
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    let mounted = told.cluster.mount_roots().iter().any(|top| text.starts_with(&format!("/{top}/")));
    let placed = mounted || PLACES.iter().any(|place| text.starts_with(place));
    let odd = |c: char| c.is_control() || matches!(c, '"' | '\\');
    if !text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(plain)) || text.contains(odd) || !placed
    {
        fail(
            format!("{text:?} can't be exported"),
            "write a whole path below /var, /mnt or a disk's place, without quotes and without a `/` at its end".to_owned(),
        );
    }
}

fn known(option: &Setting, faults: &mut Vec<Fault>) {
    let text = option.text().unwrap_or_default();
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    let form = value.map_or_else(|| name.to_owned(), |_| format!("{name}="));
    let plain = |c: char| c.is_ascii_alphanumeric() || "@.:/-_+".contains(c);
    if OPTIONS.contains(&form.as_str())
        && value.is_none_or(|value| !value.is_empty() && value.chars().all(plain))
    {
        return;
    }
    let fault = Fault::error("nfs-server", &option.span, format!("{text:?} is no option of exports(5)"));
    faults.push(fault.label("unknown").help(nearest(&form, OPTIONS).map_or_else(
        || "write each option as an entry of its own, such as `rw`".to_owned(),
        |near| format!("did you mean `{near}`?"),
    )));
}
