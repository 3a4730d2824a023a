//! `iscsi`: what a node mounts.

use super::{Around, IQN, LABEL, Mounted, PLACE, Served, luns_for};
use crate::cluster::file::{IscsiSection, NodeSection};
use crate::cluster::model::Node;
use crate::cluster::read::Text;
use crate::cluster::validate::disks::mounts::MOUNT_POINT;
use crate::cluster::validate::{Check, Rule, Seen};
use crate::diag::{Fault, nearest};
use kiln_contract::iscsi::{Longhorn, Lun, PORT, host_fault, name_fault, relative_path_fault};
use kiln_contract::policy;
use std::net::IpAddr;
use uuid::Uuid;

const FOLDER: Rule = Rule {
    check: |text| super::none(relative_path_fault(text)),
    what: "a folder below the mount point",
    code: "iscsi-path",
    help: "write plain names without a slash in front, such as `longhorn`",
};

/// The target that a LUN names.
struct Named<'a> {
    iqn: String,
    /// The target itself, where a node of this cluster serves it.
    served: Option<&'a Served<'a>>,
}

/// One node among all.
struct Here<'a> {
    at: usize,
    nodes: &'a [Node],
    sections: &'a [NodeSection],
    around: &'a Around<'a>,
}

impl Here<'_> {
    fn node(&self) -> &Node {
        &self.nodes[self.at]
    }
}

impl Check<'_> {
    /// The LUNs that nodes mount.
    pub(super) fn mounts<'a>(
        &mut self,
        (sections, nodes): (&'a [NodeSection], &[Node]),
        served: &[Served<'_>],
        around: &Around<'_>,
    ) -> Vec<Mounted<'a>> {
        let mut all = Vec::new();
        for (at, section) in sections.iter().enumerate() {
            let Some(list) = &section.iscsi else { continue };
            let mut names = Seen::new("iscsi-name", "the LUN's name", "give each LUN its own");
            let mut places = Seen::new("iscsi-path", "the mount point", "give each LUN its own");
            let here = Here { at, nodes, sections, around };
            if let Some(first) = list.value.first() {
                let place = first.name.as_ref().map_or(&first.span, |name| &name.span);
                self.wants_overlay("iscsi-initiator", "iscsi", (place, around));
            }
            for section in &list.value {
                if let Some(text) = &section.name {
                    names.check(&text.value, &text.span, self.faults);
                }
                if let Some(text) = &section.mount_point {
                    places.check(&text.value, &text.span, self.faults);
                }
                if let Some(lun) = self.mounted_lun(section, &here, served) {
                    all.push(Mounted { node: at, lun, section });
                }
            }
        }
        all
    }

    fn mounted_lun(&mut self, section: &IscsiSection, here: &Here<'_>, served: &[Served<'_>]) -> Option<Lun> {
        let name = section.name.as_ref().and_then(|name| self.word(name, LABEL));
        let named = section.target.as_ref().and_then(|target| self.named(target, here, served));
        let portal = named.as_ref().and_then(|named| self.portal(section, named, here));
        let number = named.as_ref().and_then(|named| self.number(section, named, here));
        let mount_point = section.mount_point.as_ref().and_then(|point| self.lun_place(point, here));
        let chap = section.chap.as_ref().map(|chap| self.chap(chap));
        let options = self.mount_options(section.mount_options.as_ref());
        let longhorn = section.longhorn.as_ref().map(|folder| self.longhorn(folder, here));
        let identity = here.around.identity(&here.node().name);
        let name = name?;
        let longhorn = match longhorn {
            None => None,
            // Longhorn's UUIDs are given when all disks are known.
            Some(folder) => Some(Longhorn { folder: folder?, uuid: Uuid::nil() }),
        };
        let (host, port) = portal?;
        Some(Lun {
            host,
            port,
            target: named?.iqn,
            lun: number?,
            // A fault in it has been reported.
            chap: chap.map_or(Some(None), |chap| chap.map(Some))?,
            mount_point: mount_point?,
            filesystem: section
                .filesystem
                .as_ref()
                .map_or(policy::FileSystem::Ext4, |word| word.value.into()),
            mount_options: options,
            format: section.format.as_ref().is_none_or(|format| format.value),
            partition: identity.lun_partition(&name),
            uuid: identity.lun_filesystem(&name),
            longhorn,
            name,
        })
    }

    /// An iSCSI name, or a node of this cluster that serves LUNs.
    fn named<'a>(&mut self, text: &Text, here: &Here<'_>, served: &'a [Served<'a>]) -> Option<Named<'a>> {
        let mut fail = |message: String, help: String| {
            self.faults.push(Fault::error("iscsi-target", &text.span, message).label("here").help(help));
            None
        };
        let own = "a machine that mounts its own LUN hangs when memory runs out: mount the volume itself";
        if let Some(node) = here.nodes.iter().position(|node| node.name == text.value) {
            if node == here.at {
                return fail(format!("`{}` is the node itself", text.value), own.to_owned());
            }
            // Faults of a target that could not be read have been reported.
            let written = here.sections[node].iscsi_target.is_some();
            return match served.iter().find(|served| served.node == node) {
                Some(served) => Some(Named { iqn: served.target.name.clone(), served: Some(served) }),
                None if written => None,
                None => {
                    let help =
                        format!("give `{}` an `iscsi_target`, or write the target's iSCSI name", text.value);
                    fail(format!("`{}` serves no LUNs", text.value), help)
                }
            };
        }
        if name_fault(&text.value).is_none() {
            let served = served.iter().find(|served| served.target.name == text.value);
            if served.is_some_and(|served| served.node == here.at) {
                return fail(format!("`{}` is the node's own target", text.value), own.to_owned());
            }
            return Some(Named { iqn: text.value.clone(), served });
        }
        let near = nearest(&text.value, here.nodes.iter().map(|node| node.name.as_str()));
        if let Some(near) = near.filter(|_| !text.value.contains(['.', ':'])) {
            return fail(format!("no node is called `{}`", text.value), format!("did you mean `{near}`?"));
        }
        self.word(text, IQN);
        None
    }

    /// Host and port.
    fn portal(
        &mut self,
        section: &IscsiSection,
        named: &Named<'_>,
        here: &Here<'_>,
    ) -> Option<(String, u16)> {
        let server = named.served.map(|served| (&here.nodes[served.node], &served.target));
        let fixed =
            server.and_then(|(node, _)| node.network.fixed.as_ref()).map(|fixed| fixed.address.addr());
        let Some(text) = &section.portal else {
            let target = section.target.as_ref()?;
            let (message, help) = match (server, fixed) {
                (Some((_, target)), Some(address)) => return Some((address.to_string(), target.port)),
                (Some((node, _)), None) => (
                    format!("`{}` has no fixed address", node.name),
                    "add `portal:` with the address or the name that it is reached by",
                ),
                (None, _) => (
                    format!("where `{}` is must be said", target.value),
                    "add `portal:` with the target's address, such as `portal: 192.168.1.10`",
                ),
            };
            let fault = Fault::error("iscsi-portal", &target.span, message).label("this target");
            self.faults.push(fault.help(help));
            return None;
        };
        let Some((host, port)) = parts(&text.value) else {
            let message = format!("{:?} is not an address with or without a port", text.value);
            let fault = Fault::error("iscsi-portal", &text.span, message).label("here");
            let help = "write an address or a name, and a port unless it is 3260: `192.168.1.10:3260`, `[2001:db8::10]`";
            self.faults.push(fault.help(help));
            return None;
        };
        let owner = |address: IpAddr| {
            here.nodes
                .iter()
                .find(|node| node.network.fixed.as_ref().is_some_and(|fixed| fixed.address.addr() == address))
        };
        let owner = host.parse().ok().and_then(owner);
        let wrong = match (owner, server) {
            (Some(owner), None) => {
                Some(format!("`{}` has this address and does not serve {}", owner.name, named.iqn))
            }
            (Some(owner), Some((node, _))) if owner.name != node.name => Some(format!(
                "this is the address of `{}`, and {} is served by `{}`",
                owner.name, named.iqn, node.name
            )),
            _ => None,
        };
        if let Some(message) = wrong {
            let fault = Fault::error("iscsi-portal", &text.span, message).label("here");
            let help = "leave `portal` out for a node of this cluster, or give the address of the machine that serves";
            self.faults.push(fault.help(help));
            return None;
        }
        Some((host, port.unwrap_or_else(|| server.map_or(PORT, |(_, target)| target.port))))
    }

    /// The LUN's number, held against what the target serves where that is known.
    fn number(&mut self, section: &IscsiSection, named: &Named<'_>, here: &Here<'_>) -> Option<u16> {
        let target = section.target.as_ref()?;
        let number = match &section.lun {
            Some(number) => Some((self.lun_number(number)?, &number.span)),
            None => None,
        };
        let Some(served) = named.served else { return Some(number.map_or(0, |(number, _)| number)) };
        let server = &here.nodes[served.node].name;
        let node = &here.node().name;
        let mine = luns_for(&served.target, &here.around.identity(node).iscsi_initiator());
        let (place, message, help) = match (number, &mine[..]) {
            (Some((number, _)), _) if mine.iter().any(|lun| lun.lun == number) => return Some(number),
            (None, [lun]) => return Some(lun.lun),
            (Some((number, span)), _) => match served.target.luns.iter().find(|lun| lun.lun == number) {
                Some(lun) => (
                    span,
                    format!("LUN {number} of `{server}`, `{}`, is not for `{node}`", lun.name),
                    format!("add `{node}` to its `initiators`"),
                ),
                None => (
                    span,
                    format!("`{server}` serves no LUN {number}"),
                    format!("it serves {}", list(&served.target.luns.iter().collect::<Vec<_>>())),
                ),
            },
            (None, []) => (
                &target.span,
                format!("`{server}` serves no LUN for `{node}`"),
                format!("add `{node}` to the `initiators` of one of its LUNs"),
            ),
            (None, several) => (
                &target.span,
                format!("`{server}` serves {} LUNs for `{node}`", several.len()),
                format!("say which with `lun:`; it serves {}", list(several)),
            ),
        };
        let fault = Fault::error("iscsi-lun", place, message).label("here");
        self.faults.push(fault.help(help));
        None
    }

    /// A place that no data disk of the node has, nor has inside of it.
    fn lun_place(&mut self, text: &Text, here: &Here<'_>) -> Option<String> {
        self.word(text, MOUNT_POINT)?;
        let path = self.word(text, PLACE)?;
        let inside = |a: &str, b: &str| a == b || a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/'));
        let mut disks = here.node().disks.slots().filter_map(|slot| slot.mount_point.as_deref());
        if let Some(disk) = disks.find(|disk| inside(disk, &path) || inside(&path, disk)) {
            let message = format!("`{path}` and the data disk's `{disk}` are in each other's way");
            let fault = Fault::error("mount-point", &text.span, message).label("here");
            self.faults.push(fault.help("give the LUN a place of its own, such as `/storage`"));
            return None;
        }
        Some(path)
    }

    fn longhorn(&mut self, folder: &Text, here: &Here<'_>) -> Option<String> {
        self.wants_overlay("longhorn", "longhorn", (&folder.span, here.around));
        self.word(folder, FOLDER)
    }
}

/// Host and port of `host`, `host:port`, `[v6]`, `[v6]:port` and `v6`.
fn parts(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None if text.parse::<IpAddr>().is_ok() => (text, None),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        None => None,
        Some(port) => Some(port.parse().ok().filter(|port| *port > 0)?),
    };
    // Four numbers that are no address are not a name either.
    let numeric = host.chars().all(|c| c.is_ascii_digit() || c == '.');
    if host_fault(host).is_some() || (numeric && host.parse::<IpAddr>().is_err()) {
        return None;
    }
    Some((host.to_owned(), port))
}

/// `0 (node2), 1 (node3)`.
fn list(luns: &[&kiln_contract::iscsi::ServedLun]) -> String {
    luns.iter().map(|lun| format!("{} ({})", lun.lun, lun.name)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn portals_are_hosts_with_and_without_ports() {
        let text = |host: &str, port| Some((host.to_owned(), port));
        for (portal, want) in [
            ("192.168.1.10", text("192.168.1.10", None)),
            ("192.168.1.10:3261", text("192.168.1.10", Some(3261))),
            ("storage.lan:3260", text("storage.lan", Some(3260))),
            ("[2001:db8::1]", text("2001:db8::1", None)),
            ("[2001:db8::1]:1", text("2001:db8::1", Some(1))),
            ("2001:db8::1", text("2001:db8::1", None)),
            ("192.168.1.300", None),
            ("192.168.1.10:0", None),
            ("192.168.1.10:http", None),
            ("[192.168.1.10]", None),
            ("[::1", None),
            ("iscsi://host", None),
            ("a b", None),
            ("", None),
        ] {
            assert_eq!(parts(portal), want, "{portal}");
        }
    }
}
