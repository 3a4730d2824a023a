//! Releases that the file takes, held against what is known of them.

use super::{Both, Check};
use crate::cluster::model::Overlay;
use crate::cluster::pins::{PINS, flux_is_not_shipped};
use crate::cluster::settings::Setting;
use crate::diag::Fault;
use std::collections::BTreeSet;

impl Check<'_> {
    /// Each once, where it is said.
    pub(super) fn pins(&mut self, both: &Both<'_>) {
        let mut said = BTreeSet::new();
        for overlay in both.cluster.nodes.iter().flat_map(|node| &node.overlays) {
            let own = PINS.iter().filter(|pin| overlay.folder.is_none() && pin.overlay == overlay.name);
            for pin in own {
                let Some(setting) = setting(overlay, pin.setting) else { continue };
                let Some(release) = setting.text() else { continue };
                for known in pin.known.iter().filter(|known| known.is_of(release)) {
                    if said.insert((pin.name, setting.span.start, known.code)) {
                        let message = format!("{} {release} {}", pin.name, known.says);
                        let fault = Fault::warning(known.code, &setting.span, message);
                        self.faults.push(fault.label("taken here").help(known.help));
                    }
                }
            }
            self.flux_release(overlay, &mut said);
        }
    }

    fn flux_release(&mut self, overlay: &Overlay, said: &mut BTreeSet<(&str, usize, &str)>) {
        let text = |name: &str| overlay.settings.get(name).and_then(Setting::text);
        // An artifact has manifests of its own, and the other method has a file.
        if overlay.folder.is_some()
            || overlay.name != "flux"
            || text("artifact").is_some()
            || text("method") != Some("operator")
        {
            return;
        }
        let (Some(wanted), Some(operator)) = (overlay.settings.get("version"), text("operator_version"))
        else {
            return;
        };
        let why = wanted.text().and_then(|wanted| flux_is_not_shipped(operator, wanted));
        if let Some(why) = why.filter(|_| said.insert(("flux", wanted.span.start, "flux-release"))) {
            self.faults.push(Fault::error("flux-release", &wanted.span, why).label("not to be had").help(
                "write a minor with `.x`, such as 2.9.x; a newer one comes with a newer `operator_version`, or as an `artifact`",
            ));
        }
    }
}

fn setting<'a>(overlay: &'a Overlay, path: &[&str]) -> Option<&'a Setting> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(overlay.settings.get(*first)?, |setting, name| setting.get(name))
}
