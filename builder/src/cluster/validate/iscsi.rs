//! `iscsi` and `iscsi_target` of all nodes: both sides are read, then held against each other, because what one node
//! serves is what another mounts.

mod mounts;
mod served;
mod thin;

use super::{Check, Rule};
use crate::cluster::file::{ChapSection, IscsiSection, NodeSection};
use crate::cluster::identity::Identity;
use crate::cluster::model::Node;
use crate::cluster::read::Text;
use crate::diag::{Fault, Severity, Span};
use kiln_contract::iscsi::{
    Chap, Credentials, Initiator, Iscsi, Lun, ServedLun, Target, credential_fault, label_fault, name_fault,
    path_fault,
};
use kiln_contract::secret::Secret;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Passwords outside these lengths are taken by Linux, and refused by others (RFC 7143 §12.1.3 asks for 96 bits; some
/// initiators take no more than 16 characters).
const PASSWORD: std::ops::RangeInclusive<usize> = 12..=16;

const LABEL: Rule = Rule {
    check: |text| none(label_fault(text)),
    what: "a name for a LUN",
    code: "iscsi-name",
    help: "use a-z, 0-9 and inner hyphens, at most 31 of them, such as `storage`",
};
const IQN: Rule = Rule {
    check: |text| none(name_fault(text)),
    what: "an iSCSI name",
    code: "iscsi-iqn",
    help: "write `iqn.`, a year and a month, a domain turned around, and a name of your own, such as `iqn.2025-01.home:node1.storage`",
};
const SERVED_IQN: Rule = Rule {
    check: served_name,
    what: "an iSCSI name that a node can serve",
    help: "give the domain two parts, such as `iqn.2025-01.home.arpa:storage`, or put a dot behind the colon",
    ..IQN
};
const PLACE: Rule = Rule {
    check: |text| none(path_fault(text)),
    what: "an absolute path",
    code: "iscsi-path",
    help: "write the whole path with plain names, such as `/storage`",
};

/// What the contract finds, as the rules of this module say it.
fn none(fault: Option<&'static str>) -> Result<(), &'static str> {
    fault.map_or(Ok(()), Err)
}

/// rtslib-fb (utils.py, `normalize_wwn`) leaves out targets and initiators with other names, without an error.
fn served_name(text: &str) -> Result<(), &'static str> {
    none(name_fault(text))?;
    let behind_date = text.strip_prefix("iqn.").and_then(|rest| rest.get(8..));
    let network_address = text.strip_prefix("naa.");
    if behind_date.is_some_and(|rest| !rest.contains('.')) {
        Err("targetcli wants a second dot behind the date")
    } else if network_address
        .is_some_and(|rest| rest.len() != 16 || !rest.starts_with(|c| "125cdefCDEF".contains(c)))
    {
        Err("targetcli takes `naa.` names of 16 digits that begin with 1, 2, 5 or c to f")
    } else if text.starts_with("eui.") && text.chars().any(|c| c.is_ascii_uppercase()) {
        Err("targetcli takes `eui.` names with lower-case digits")
    } else {
        Ok(())
    }
}

/// What all nodes share.
pub(super) struct Around<'a> {
    /// The cluster's id.
    pub(super) id: Uuid,
    /// The names of the overlays that any node has.
    pub(super) overlays: &'a BTreeSet<String>,
}

impl Around<'_> {
    fn identity(&self, node: &str) -> Identity {
        Identity::new(self.id, node)
    }
    fn has(&self, overlay: &str) -> bool {
        self.overlays.contains(overlay)
    }
}

/// A target and where the file says so.
struct Served<'a> {
    node: usize,
    target: Target,
    /// The entries of [`Target::luns`], in the same order.
    sections: Vec<&'a crate::cluster::file::ServedLunSection>,
}

/// A LUN that a node mounts and where the file says so.
struct Mounted<'a> {
    node: usize,
    lun: Lun,
    section: &'a IscsiSection,
}

impl Check<'_> {
    /// Fills [`Node::iscsi`]; `nodes` are those of `sections`, in the same order.
    pub(super) fn iscsi(&mut self, sections: &[NodeSection], nodes: &mut [Node], around: &Around<'_>) {
        let mut served = self.targets(sections, nodes, around);
        let mounted = self.mounts((sections, nodes), &served, around);
        self.shared(&mounted, nodes);
        self.credentials(&mut served, &mounted, (nodes, around));
        self.idle(&served, &mounted, (nodes, around));
        for (at, node) in nodes.iter_mut().enumerate() {
            let luns: Vec<Lun> = mounted
                .iter()
                .filter(|mounted| mounted.node == at)
                .map(|mounted| mounted.lun.clone())
                .collect();
            let target = served.iter().find(|served| served.node == at).map(|served| served.target.clone());
            if !luns.is_empty() || target.is_some() {
                let initiator = around.identity(&node.name).iscsi_initiator();
                node.iscsi = Some(Iscsi { initiator, luns, target });
            }
        }
    }

    /// No file system of those that there are survives two machines that write to it.
    fn shared(&mut self, mounted: &[Mounted<'_>], nodes: &[Node]) {
        let mut first: BTreeMap<(&str, u16), (usize, &Span)> = BTreeMap::new();
        for Mounted { node, lun, section } in mounted {
            let Some(text) = &section.name else { continue };
            let Some((other, span)) = first.get(&(lun.target.as_str(), lun.lun)) else {
                first.insert((&lun.target, lun.lun), (*node, &text.span));
                continue;
            };
            let message = match other == node {
                true => format!("LUN {} of {} is mounted twice", lun.lun, lun.target),
                false => format!(
                    "LUN {} of {} is mounted by two nodes, {} and {}: each would destroy what the other writes",
                    lun.lun, lun.target, nodes[*other].name, nodes[*node].name
                ),
            };
            let fault = Fault::error("iscsi-shared", &text.span, message).label("again here");
            self.faults.push(fault.also(span, "first here").help("give each its own LUN"));
        }
    }

    /// Targets ask nodes for what the nodes' own side says.
    fn credentials(
        &mut self,
        served: &mut [Served<'_>],
        mounted: &[Mounted<'_>],
        of: (&[Node], &Around<'_>),
    ) {
        let (nodes, around) = of;
        let names: BTreeMap<String, usize> = nodes
            .iter()
            .enumerate()
            .map(|(at, node)| (around.identity(&node.name).iscsi_initiator(), at))
            .collect();
        let mut first: BTreeMap<(usize, &str), (&Option<Chap>, &Span)> = BTreeMap::new();
        for Mounted { node, lun, section } in mounted {
            let Some(text) = &section.name else { continue };
            match first.get(&(*node, lun.target.as_str())) {
                None => {
                    first.insert((*node, &lun.target), (&lun.chap, &text.span));
                }
                Some((chap, span)) if **chap != lun.chap => {
                    let message = format!("both LUNs are of {}, and their `chap` differs", lun.target);
                    let fault = Fault::error("iscsi-chap", &text.span, message).label("this one");
                    let help = "a node logs in to a target once, for all its LUNs: give both the same `chap`";
                    self.faults.push(fault.also(span, "and this one").help(help));
                }
                Some(_) => {}
            }
        }
        for target in served.iter_mut().map(|served| &mut served.target) {
            let name = target.name.clone();
            for initiator in target.luns.iter_mut().flat_map(|lun| &mut lun.initiators) {
                if let Some(node) = names.get(&initiator.name) {
                    initiator.chap = first.get(&(*node, name.as_str())).and_then(|(chap, _)| (*chap).clone());
                }
            }
        }
    }

    /// LUNs that are made for a node which does not use them.
    fn idle(
        &mut self,
        served: &[Served<'_>],
        mounted: &[Mounted<'_>],
        (nodes, around): (&[Node], &Around<'_>),
    ) {
        // A LUN with a fault is not among those that are mounted.
        let reported = |fault: &Fault| fault.severity == Severity::Error && fault.code.starts_with("iscsi");
        if self.faults.iter().any(reported) {
            return;
        }
        for Served { node: server, target, sections } in served {
            for (lun, section) in target.luns.iter().zip(sections) {
                for text in section.initiators.iter().flat_map(|list| &list.value) {
                    let Some(user) = nodes.iter().position(|node| node.name == text.value) else { continue };
                    let uses = |mounted: &Mounted<'_>| {
                        mounted.node == user
                            && mounted.lun.target == target.name
                            && mounted.lun.lun == lun.lun
                    };
                    let written = mounted.iter().any(uses);
                    if !written && around.has("iscsi-initiator") {
                        let message = format!("`{}` does not mount the LUN `{}`", text.value, lun.name);
                        let fault = Fault::warning("iscsi-idle", &text.span, message).label("this node");
                        let server = &nodes[*server].name;
                        self.faults.push(fault.help(format!(
                            "add to that node: `iscsi: [{{name: storage, target: {server}, mount_point: /storage}}]`"
                        )));
                    }
                }
            }
        }
    }

    /// The overlay that a key needs.
    fn wants_overlay(&mut self, overlay: &str, key: &str, (span, around): (&Span, &Around<'_>)) {
        if !around.has(overlay) {
            let message = format!("`{key}` needs the overlay `{overlay}`");
            let fault = Fault::error("iscsi-overlay", span, message).label("used here");
            self.faults.push(fault.help(format!("add it to the file's top: `overlays: [{overlay}]`")));
        }
    }

    fn chap(&mut self, section: &ChapSection) -> Option<Chap> {
        let initiator = self.login_of(section.user.as_ref(), section.password.as_ref());
        let target = section.mutual.as_ref().map(|mutual| {
            let same = mutual.password.as_ref().zip(section.password.as_ref());
            if let Some((mutual, _)) = same.filter(|(mutual, password)| mutual.value == password.value) {
                let message = "both sides have the same password";
                let fault = Fault::error("iscsi-chap", &mutual.span, message).label("not shown");
                let help = "give the target another one: who sees one side's answer could repeat it (RFC 7143 §12.1.3)";
                self.faults.push(fault.help(help));
            }
            self.login_of(mutual.user.as_ref(), mutual.password.as_ref())
        });
        Some(Chap { initiator: initiator?, target: target.flatten() })
    }

    /// Never quotes the password.
    fn login_of(&mut self, user: Option<&Text>, password: Option<&Text>) -> Option<Credentials> {
        const USER: Rule = Rule {
            check: |text| none(credential_fault(text)),
            what: "a name for CHAP",
            code: "iscsi-chap",
            help: "use printable ASCII, such as `node2`",
        };
        let name = user.and_then(|user| self.word(user, USER));
        let password = password?;
        if let Some(reason) = credential_fault(&password.value) {
            let message = format!("this can't be a password for CHAP: {reason}");
            let fault = Fault::error("iscsi-chap", &password.span, message).label("not shown");
            self.faults.push(fault.help("`openssl rand -hex 8` makes one that every side takes"));
            return None;
        }
        let length = password.value.len();
        if !PASSWORD.contains(&length) {
            let message = format!("a password of {length} characters, where CHAP has 12 to 16");
            let fault = Fault::warning("iscsi-chap", &password.span, message).label("not shown");
            let help = "not every side takes it; `openssl rand -hex 8` makes one that each does";
            self.faults.push(fault.help(help));
        }
        Some(Credentials { user: name?, password: Secret::new(password.value.clone()) })
    }

    /// A LUN's number.
    fn lun_number(&mut self, number: &crate::cluster::Spanned<u32>) -> Option<u16> {
        let lun = u16::try_from(number.value).ok().filter(|lun| *lun <= kiln_contract::iscsi::MOST_LUN);
        if lun.is_none() {
            let message = format!("there is no LUN {}", number.value);
            let fault = Fault::error("iscsi-lun", &number.span, message).label("here");
            self.faults.push(fault.help("LUNs are numbered from 0 to 255"));
        }
        lun
    }
}

/// The LUNs of a target that an initiator may use.
fn luns_for<'a>(target: &'a Target, initiator: &str) -> Vec<&'a ServedLun> {
    let may = |lun: &&ServedLun| lun.initiators.iter().any(|Initiator { name, .. }| name == initiator);
    target.luns.iter().filter(may).collect()
}

#[cfg(test)]
mod tests {
    use super::served_name;
    use crate::cluster::identity::{Identity, cluster_id};

    #[test]
    fn what_targetcli_leaves_out_is_not_served() {
        let own = Identity::new(cluster_id("home"), "n");
        let (target, initiator) = (own.iscsi_target(), own.iscsi_initiator());
        for good in [
            target.as_str(),
            &initiator,
            "iqn.2025-01.home:node1.storage",
            "iqn.2001-04.com.example",
            "eui.02004567a425678d",
            "naa.52004567ba64678d",
        ] {
            assert_eq!(served_name(good), Ok(()), "{good}");
        }
        for bad in [
            "iqn.2025-01.home:storage",
            "iqn.2025-01.home",
            "eui.02004567A425678D",
            "naa.32004567ba64678d",
            "x",
        ] {
            assert!(served_name(bad).is_err(), "{bad}");
        }
    }
}
