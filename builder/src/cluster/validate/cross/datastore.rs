//! Where servers keep the cluster's datastore.

use super::{Both, Check};
use crate::cluster::model::Role;
use crate::cluster::settings::SettingValue;
use crate::diag::{Fault, nearest};
use kiln_contract::policy::Use;

impl Check<'_> {
    /// A data disk that keeps the datastore must be one that every server has, and that has a file system.
    pub(super) fn datastore(&mut self, both: &Both<'_>) {
        let servers = || both.members().filter(|(_, node, _)| node.role == Role::Server);
        let Some((_, _, k3s)) = servers().next() else { return };
        let given = |name: &str| k3s.settings.get(name).filter(|setting| setting.value != SettingValue::Null);
        if let (Some(external), Some(other)) =
            (given("datastore"), ["data", "embedded", "rejoin"].into_iter().find_map(given))
        {
            let message = "with an external `datastore` servers keep no data of their own";
            let fault = Fault::error("datastore", &other.span, message.to_owned()).label("keeps nothing");
            self.faults.push(fault.also(&external.span, "the external one").help("leave one of them out"));
            return;
        }
        let Some((disk, setting)) = given("data").and_then(|data| Some((data.text()?, data))) else { return };
        for (at, node, _) in servers() {
            let kept = |name: &str| {
                node.disks.data.iter().any(|rule| {
                    rule.usage == Use::Mount
                        && rule.slots.iter().any(|slot| slot.name == name && slot.mount_point.is_some())
                })
            };
            if kept(disk) {
                continue;
            }
            let names: Vec<&str> =
                node.disks.slots().map(|slot| slot.name.as_str()).filter(|name| kept(name)).collect();
            let message = format!("server {} has no data disk `{disk}` that is mounted", node.name);
            let fault = Fault::error("data-disk", &setting.span, message).label("keeps the datastore");
            let help = match (names.as_slice(), nearest(disk, names.iter().copied())) {
                ([], _) => format!(
                    "give every server a data disk of that name: `disks: {{ data: [{{ name: {disk}, … }}] }}`"
                ),
                (_, Some(near)) => format!("did you mean `{near}`?"),
                (names, None) => format!("it has {}", names.join(", ")),
            };
            self.faults.push(fault.also(&both.name(at), "the server").help(help));
            return;
        }
    }
}
