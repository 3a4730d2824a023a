//! `tailscale`: what `tailscale up` refuses (tailscale 1.94.1: tailcfg.CheckTag, cmd/tailscale/cli; headscale 0.28).

use super::Told;
use crate::cluster::settings::Setting;
use crate::diag::Fault;

/// Ways to everywhere: who offers one must offer both.
const EVERYWHERE: [&str; 2] = ["0.0.0.0/0", "::/0"];

pub(super) fn check(told: &Told<'_>, faults: &mut Vec<Fault>) {
    let list = |name: &str| told.given(name).map(Setting::list).unwrap_or_default();
    let routes = list("routes");
    let offered = EVERYWHERE.map(|net| routes.iter().find(|route| route.text() == Some(net)));
    if let [Some(route), None] | [None, Some(route)] = offered {
        let text = route.text().unwrap_or_default();
        let other = if text == EVERYWHERE[0] { EVERYWHERE[1] } else { EVERYWHERE[0] };
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
    if let (Some(_), Some(tag)) = (told.given("login_server"), list("tags").first()) {
        let message = "no control server but Tailscale's own lets a node ask for tags";
        let fault = Fault::error("tailscale", &tag.span, message).label("refused by headscale");
        faults.push(fault.help(
            "leave `tags` out and give them to the key: `headscale preauthkeys create --tags tag:k3s` on the control server",
        ));
    }
}
