//! `iscsi_target`: what a node serves.

use super::{Around, LABEL, PLACE, SERVED_IQN, Served};
use crate::cluster::file::{IscsiTargetSection, NodeSection, ServedLunSection};
use crate::cluster::model::Node;
use crate::cluster::read::Text;
use crate::cluster::size;
use crate::cluster::validate::disks::mounts::MOUNT_POINT;
use crate::cluster::validate::{Check, Seen};
use crate::diag::{Fault, nearest};
use kiln_contract::iscsi::{Chap, Initiator, PORT, ServedLun, Store, Target, name_fault};
use kiln_contract::policy::Use;
use std::net::IpAddr;

/// Smaller than this no file system fits with its partition table.
const LEAST: u64 = 16 << 20;
/// A unit that was meant to be another one.
const MOST: u64 = 1 << 50;

/// The node whose target is read, and those around it.
struct Server<'a> {
    name: &'a str,
    /// Of initiators that are not nodes.
    chap: Option<Chap>,
    nodes: &'a [Node],
    around: &'a Around<'a>,
}

impl Check<'_> {
    /// The targets of all nodes.
    pub(super) fn targets<'a>(
        &mut self,
        sections: &'a [NodeSection],
        nodes: &[Node],
        around: &Around<'_>,
    ) -> Vec<Served<'a>> {
        let mut names = Seen::new("iscsi-iqn", "the target's name", "give each target its own");
        let mut all = Vec::new();
        for (at, section) in sections.iter().enumerate() {
            let Some(written) = &section.iscsi_target else { continue };
            if let Some(first) = written.luns.as_ref().and_then(|luns| luns.value.first()) {
                let place = first.name.as_ref().map_or(&first.span, |name| &name.span);
                self.wants_overlay("iscsi-target", "iscsi_target", (place, around));
            }
            let own = around.identity(&nodes[at].name).iscsi_target();
            let name = match &written.name {
                None => Some(own),
                Some(text) => self.word(text, SERVED_IQN),
            };
            if let (Some(name), Some(text)) = (&name, &written.name) {
                names.check(name, &text.span, self.faults);
            }
            let store = self.store(written, &nodes[at]);
            let thin = self.thin(written);
            let port = self.target_port(written);
            let chap = written.chap.as_ref().and_then(|chap| self.chap(chap));
            let server = Server { name: &nodes[at].name, chap, nodes, around };
            let (luns, sections) = self.served_luns(written, &server);
            let fixed = nodes[at].network.fixed.as_ref();
            let listen = match fixed.map(|fixed| fixed.address.addr()) {
                Some(IpAddr::V6(_)) => "[::0]",
                _ => "0.0.0.0",
            };
            if let (Some(name), Some(store)) = (name, store) {
                let target = Target { name, listen: listen.to_owned(), port, store, thin, luns };
                self.pool_size((&target, &nodes[at]), (written, &sections));
                all.push(Served { node: at, target, sections });
            }
        }
        all
    }

    fn store(&mut self, section: &IscsiTargetSection, node: &Node) -> Option<Store> {
        match (&section.volume_group, &section.folder) {
            (Some(group), None) => self.group(group, node).map(Store::VolumeGroup),
            (None, Some(folder)) => {
                self.word(folder, MOUNT_POINT)?;
                self.word(folder, PLACE).map(Store::Folder)
            }
            (Some(group), Some(folder)) => {
                let message = "`volume_group` and `folder` both say where the LUNs are";
                let fault = Fault::error("iscsi-store", &folder.span, message).label("and this");
                self.faults.push(fault.also(&group.span, "this").help("keep one of the two"));
                None
            }
            (None, None) => {
                let place = section.span.start..section.span.start + 1;
                let message = "`iscsi_target` lacks the place of its LUNs";
                let fault = Fault::error("iscsi-store", &place, message).label("in this mapping");
                self.faults
                    .push(fault.help("add `volume_group: data` for LVM, or `folder: /srv/luns` for files"));
                None
            }
        }
    }

    /// The volume group that a rule of the node's disks makes.
    fn group(&mut self, text: &Text, node: &Node) -> Option<String> {
        let name = self.word(text, super::Rule { what: "the name of a volume group", ..LABEL })?;
        let rules = node.disks.data.iter().filter(|rule| rule.usage == Use::Lvm);
        let groups: Vec<&str> = rules.map(|rule| rule.name.as_str()).collect();
        if !groups.contains(&name.as_str()) {
            let help = nearest(&name, groups.iter().copied()).map_or_else(
                || {
                    format!(
                        "add a rule to its `disks.data`: `{{name: {name}, match: {{serial: ...}}, use: lvm}}`"
                    )
                },
                |near| format!("did you mean `{near}`?"),
            );
            let message = format!("no rule of the node's disks makes the volume group `{name}`");
            self.faults.push(Fault::error("iscsi-store", &text.span, message).label("unknown").help(help));
            return None;
        }
        Some(name)
    }

    fn target_port(&mut self, section: &IscsiTargetSection) -> u16 {
        let Some(port) = &section.port else { return PORT };
        match u16::try_from(port.value) {
            Ok(port) if port > 0 => port,
            _ => {
                let message = format!("{} is not a TCP port", port.value);
                let fault = Fault::error("iscsi-portal", &port.span, message).label("here");
                self.faults.push(fault.help("ports are numbered from 1 to 65535; iSCSI has 3260"));
                PORT
            }
        }
    }

    fn served_luns<'a>(
        &mut self,
        section: &'a IscsiTargetSection,
        server: &Server<'_>,
    ) -> (Vec<ServedLun>, Vec<&'a ServedLunSection>) {
        let mut names = Seen::new("iscsi-name", "the LUN's name", "give each LUN its own");
        let mut numbers = Seen::new("iscsi-lun", "the LUN", "give each its own number");
        let (mut luns, mut sections) = (Vec::new(), Vec::new());
        let Some(list) = &section.luns else { return (luns, sections) };
        if list.value.is_empty() {
            let fault = Fault::error("iscsi-lun", &list.span, "the target has no LUNs").label("empty");
            let help = "add one: `luns: [{name: node2, size: 100GB, initiators: [node2]}]`";
            self.faults.push(fault.help(help));
        }
        for (written, place) in list.value.iter().zip(0_u32..) {
            let name = written.name.as_ref().and_then(|name| self.word(name, LABEL));
            if let (Some(name), Some(text)) = (&name, &written.name) {
                names.check(name, &text.span, self.faults);
            }
            let placed =
                || crate::cluster::Spanned { value: place, span: written.span.start..written.span.start + 1 };
            let number = written.lun.clone().unwrap_or_else(placed);
            let lun = self.lun_number(&number);
            if let Some(lun) = lun {
                numbers.check(&lun.to_string(), &number.span, self.faults);
            }
            let bytes = written.size.as_ref().and_then(|size| self.lun_size(size));
            let initiators = self.initiators(written, server);
            if let (Some(name), Some(lun), Some(bytes)) = (name, lun, bytes) {
                let serial = server.around.identity(server.name).served_lun(&name);
                luns.push(ServedLun { name, lun, bytes, serial, initiators });
                sections.push(written);
            }
        }
        (luns, sections)
    }

    fn lun_size(&mut self, text: &Text) -> Option<u64> {
        let mut fail = |message: String, help: &str| {
            self.faults.push(Fault::error("iscsi-size", &text.span, message).label("here").help(help));
            None
        };
        match size::parse(&text.value) {
            Err(reason) => fail(
                format!("{:?} is not a size: {reason}", text.value),
                "write a number with its unit, such as `100GB`",
            ),
            Ok(bytes) if bytes < LEAST => fail(
                format!("a LUN of {} is too small for a file system", text.value),
                "give it 16 MiB at least",
            ),
            Ok(bytes) if bytes > MOST => {
                fail(format!("a LUN of {} is more than a node has", text.value), "give it 1 PiB at most")
            }
            Ok(bytes) => Some(bytes),
        }
    }

    fn initiators(&mut self, written: &ServedLunSection, server: &Server<'_>) -> Vec<Initiator> {
        let Server { chap, nodes, around, .. } = server;
        let Some(list) = &written.initiators else { return Vec::new() };
        if list.value.is_empty() {
            let fault = Fault::error("iscsi-initiator", &list.span, "nobody may use this LUN").label("empty");
            self.faults.push(fault.help("name the nodes that may, such as `initiators: [node2]`"));
        }
        let mut seen = Seen::new("iscsi-initiator", "the initiator", "name it once");
        let mut all = Vec::new();
        for text in &list.value {
            seen.check(&text.value, &text.span, self.faults);
            if nodes.iter().any(|node| node.name == text.value) {
                let name = around.identity(&text.value).iscsi_initiator();
                all.push(Initiator { name, chap: None });
            } else if name_fault(&text.value).is_none() {
                let name = self.word(text, SERVED_IQN);
                all.extend(name.map(|name| Initiator { name, chap: chap.clone() }));
            } else if text.value.contains('.') {
                self.word(text, SERVED_IQN);
            } else {
                let near = nearest(&text.value, nodes.iter().map(|node| node.name.as_str()));
                let help = near.map_or_else(
                    || "write a node's name, or the iSCSI name of a machine that is none".to_owned(),
                    |near| format!("did you mean `{near}`?"),
                );
                let message = format!("no node is called `{}`", text.value);
                let fault = Fault::error("iscsi-initiator", &text.span, message).label("unknown");
                self.faults.push(fault.help(help));
            }
        }
        all
    }
}
