//! The overlay `traefik` tells the controller that k3s brings where to listen: it must be there.

use super::{Both, Check};
use crate::cluster::settings::Setting;
use crate::diag::Fault;

impl Check<'_> {
    /// Not both: told and left out.
    pub(super) fn traefik_is_there(&mut self, both: &Both<'_>) {
        for node in &both.cluster.nodes {
            let (Some(overlay), Some(k3s)) = (node.overlay("traefik"), node.overlay("k3s")) else { continue };
            let disabled = k3s.settings.get("disable").map(Setting::list).unwrap_or_default();
            if let Some(item) = disabled.iter().find(|item| item.text() == Some("traefik")) {
                let message = "the overlay `traefik` is told where to listen, and k3s leaves Traefik out";
                let fault = Fault::error("traefik", &item.span, message).label("left out");
                self.faults.push(
                    fault
                        .also(&overlay.span, "told here")
                        .help("take `traefik` out of `disable`, or out of `overlays`"),
                );
                return;
            }
        }
    }
}
