//! `tailscale`: what `tailscale up` refuses (tailscale 1.94.1: tailcfg.CheckTag, cmd/tailscale/cli; headscale 0.28).

use super::Told;
use crate::cluster::ip;
use crate::cluster::settings::{Secret, Setting, SettingValue};
use crate::diag::Fault;

/// Ways to everywhere: who offers one must offer both.
const EVERYWHERE: [&str; 2] = ["0.0.0.0/0", "::/0"];
/// Tailscale's own control server (ipn/prefs.go: DefaultControlURL), and its older name.
const OWN: [&str; 2] = ["controlplane.tailscale.com", "login.tailscale.com"];
/// How the secret of an OAuth client begins.
const CLIENT: &str = "tskey-client-";

pub(super) fn check(told: &Told<'_>, faults: &mut Vec<Fault>) {
    let list = |name: &str| told.given(name).map(Setting::list).unwrap_or_default();
    let routes = list("routes");
    let offered = EVERYWHERE.map(|net| {
        let same =
            |route: &&Setting| route.text().and_then(|text| ip::network(text).ok()) == ip::network(net).ok();
        routes.iter().find(same)
    });
    if let [Some(route), None] | [None, Some(route)] = offered {
        let text = route.text().unwrap_or_default();
        let other = if offered[0].is_some() { EVERYWHERE[1] } else { EVERYWHERE[0] };
        let fault = Fault::error("tailscale", &route.span, format!("`{text}` is offered without `{other}`"));
        faults.push(fault.label("refused").help("write `exit_node: true` in its place, which offers both"));
    }
    for tag in list("tags") {
        let text = tag.text().unwrap_or_default();
        let name = text.strip_prefix("tag:").unwrap_or_default();
        let fits = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if !fits {
            let fault = Fault::error("tailscale", &tag.span, format!("{text:?} is no tag")).label("refused");
            faults.push(
                fault.help("write `tag:` and a name of letters, digits and `-`, a letter first: `tag:k3s`"),
            );
        }
    }
    let plain = told.given("auth_key").and_then(|key| match &key.value {
        SettingValue::Secret(Secret::Plain(text)) => Some((key, text.reveal().starts_with(CLIENT))),
        _ => None,
    });
    if let (Some((key, true)), []) = (plain, list("tags")) {
        // tailscale 1.94.1, feature/oauthkey: "oauth authkeys require --advertise-tags".
        let fault =
            Fault::error("secret", &key.span, "the secret of an OAuth client makes keys for tags alone");
        faults.push(
            fault
                .label("refused without `tags`")
                .help("add `tags: [\"tag:k3s\"]`, tags that the client may give"),
        );
    }
    let elsewhere = told.given("login_server").filter(|url| {
        let host = url.text().and_then(|text| text.split("://").nth(1)).unwrap_or_default();
        !OWN.contains(&host.trim_end_matches('/'))
    });
    if let (Some(_), Some(tag)) = (elsewhere, list("tags").first()) {
        let message = "no control server but Tailscale's own lets a node ask for tags";
        let fault = Fault::error("tailscale", &tag.span, message).label("refused by headscale");
        faults.push(fault.help(
            "leave `tags` out and give them to the key: `headscale preauthkeys create --tags tag:k3s` on the control server",
        ));
    }
}
