//! `proxy`: what Go's `net/http` and others make of the words (golang.org/x/net/http/httpproxy).

use super::Told;
use crate::cluster::settings::{Setting, Url};
use crate::diag::Fault;

pub(super) fn check(told: &Told<'_>, faults: &mut Vec<Fault>) {
    let (user, password) = (told.given("username"), told.given("password"));
    for name in ["http", "https"] {
        let Some(setting) = told.given(name) else { continue };
        let Some(Ok(url)) = setting.text().map(Url::parse) else { continue };
        if !matches!(url.rest, "" | "/") {
            let message = format!("`{name}` has something behind its host and port");
            let fault = Fault::error("secret", &setting.span, message).label("here");
            faults.push(fault.help(
                "a proxy is `http://host:port`; a `/` or `?` in a name or password is given as `username` and `password`",
            ));
        } else if url.user.is_some() && user.or(password).is_some() {
            let message = format!("the name for the proxy is in `{name}` and in `username` or `password`");
            let fault = Fault::error("secret", &setting.span, message).label("here, too");
            faults.push(fault.help("take it out of the address"));
        } else if url.user.is_some_and(|user| user.contains(':')) {
            let message = format!("`{name}` has a password in plain text");
            let fault = Fault::warning("plain-secret", &setting.span, message).label("readable");
            faults.push(fault.help(
                "keep it encrypted: `kiln secrets set NAME` asks for it; write `username:` and `password: { secret: NAME }`",
            ));
        }
    }
    if let (None, Some(password)) = (user, password) {
        let fault =
            Fault::error("secret", &password.span, "`password` is given without `username`").label("whose?");
        faults.push(fault.help("add `username:`"));
    }
    for entry in told.given("no_proxy").map(Setting::list).unwrap_or_default() {
        let text = entry.text().unwrap_or_default();
        if text.contains([',', ' ', '\t', '"', '\'']) || text.contains("://") {
            let message = format!("{text:?} is neither a name, a domain, an address nor a network");
            let fault = Fault::error("no-proxy", &entry.span, message).label("here");
            faults.push(
                fault.help("write one entry for each, such as `.example.com`, `10.0.0.9` or `10.0.0.0/8`"),
            );
        }
    }
}
