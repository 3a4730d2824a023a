//! `flux`: what source-controller 1.7 (39b711b1) can't log in with, and what installs nothing.

use super::{Told, field};
use crate::diag::Fault;

pub(super) fn check(told: &Told<'_>, faults: &mut Vec<Fault>) {
    if let (Some(method), None) = (told.given("method"), told.given("manifests"))
        && method.text() == Some("manifests")
    {
        let fault = Fault::error("flux", &method.span, "the method `manifests` has no `manifests`");
        faults.push(fault.label("nothing would be installed").help(
            "add `manifests: { url: ... }`, a file as `flux install --export` writes it, or take the method `operator`",
        ));
    }
    if let Some(registry) =
        told.given("registry").filter(|setting| setting.text().is_some_and(|text| text.contains("://")))
    {
        let fault =
            Fault::error("flux", &registry.span, "`registry` is not the name of a registry").label("here");
        faults.push(fault.help("write it without a scheme, such as `ghcr.io/fluxcd`"));
    }
    let Some(repository) = told.given("repository") else { return };
    let (Some(url), identity) = (field(repository, "url"), field(repository, "identity")) else { return };
    let ssh = url.text().is_some_and(|text| text.starts_with("ssh://"));
    match identity {
        None if ssh => {
            let fault = Fault::error(
                "flux",
                &url.span,
                "a repository by ssh is read with a key, and `identity` is left out",
            );
            faults.push(
                fault.label("never fetched").help("add `identity:` and `known_hosts:`, or take `https://`"),
            );
        }
        Some(identity) if ssh && field(repository, "known_hosts").is_none() => {
            let fault = Fault::error(
                "secret",
                &identity.span,
                "Flux trusts no server by ssh whose key it was not told",
            );
            faults.push(
                fault
                    .label("never fetched")
                    .help("add `known_hosts:` with the lines that `ssh-keyscan HOST` prints"),
            );
        }
        Some(identity) if !ssh => {
            let fault = Fault::error(
                "secret",
                &identity.span,
                "`identity` is for repositories by ssh, and this one is not",
            );
            let help = "write `ssh://` in `url`, or `username` and `password` in place of `identity`";
            faults.push(fault.label("never used").also(&url.span, "the repository").help(help));
        }
        _ => {}
    }
    if let (true, Some(password)) = (ssh, field(repository, "password")) {
        let fault = Fault::error(
            "secret",
            &password.span,
            "`password` is for repositories by https, and this one is not",
        );
        faults.push(
            fault.label("never used").also(&url.span, "the repository").help("give `identity:` in its place"),
        );
    }
}
