//! `directories`: folders that can be written to on a root that can't.

use super::{Check, Rule, Seen};
use crate::cluster::file::ClusterFile;
use crate::cluster::model::{Machine, Node};
use crate::cluster::read::Text;
use crate::cluster::words;
use crate::diag::Fault;
use std::collections::BTreeSet;

const DIRECTORY: Rule = Rule {
    check: words::disks::directory,
    what: "a place for a folder",
    code: "directories",
    help: "write a whole path with a first name that the system has not, or below /srv, /opt or /home, such as `/data`",
};

impl Check<'_> {
    /// The folders of one list, beside those that `machine` has.
    pub(super) fn directories(&mut self, texts: Option<&Vec<Text>>, machine: &mut Machine) {
        let mut seen = Seen::new("directories", "the folder", "keep one of the two");
        for text in texts.into_iter().flatten() {
            let Some(path) = self.word(text, DIRECTORY) else { continue };
            seen.check(&path, &text.span, self.faults);
            machine.directories.insert(path);
        }
    }

    /// No folder is where something is mounted, nor inside of it: without the disk it would not be there. What is mounted
    /// inside a folder is welcome.
    pub(super) fn directory_places(&mut self, file: &ClusterFile, nodes: &[Node]) {
        let of_all = file.cluster.as_ref().and_then(|section| section.directories.as_ref());
        let sections = file.nodes.iter().flat_map(|sections| &sections.value);
        let mut told = BTreeSet::new();
        for section in sections {
            let named = |node: &&Node| section.name.as_ref().is_some_and(|name| name.value == node.name);
            let Some(node) = nodes.iter().find(named) else { continue };
            let points = mounted(node);
            for text in of_all.into_iter().chain(section.directories.as_ref()).flatten() {
                let inside = |point: &&String| {
                    text.value
                        .strip_prefix(point.as_str())
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                };
                let Some(point) = points.iter().find(inside) else { continue };
                if !node.machine.directories.contains(&text.value) || !told.insert(text.span.start) {
                    continue;
                }
                let message = match *point == text.value {
                    true => format!("something is mounted at {point} on `{}`", node.name),
                    false => format!(
                        "{} is inside {point}, where something is mounted on `{}`",
                        text.value, node.name
                    ),
                };
                let fault = Fault::error("directories", &text.span, message).label("here");
                self.faults.push(fault.help(
                    "leave it out: what is mounted can be written to; or take another place for one of the two",
                ));
            }
        }
    }
}

/// Where the node mounts disks, LUNs and file systems of others.
fn mounted(node: &Node) -> BTreeSet<String> {
    let disks = node.disks.slots().filter_map(|slot| slot.mount_point.clone());
    let luns = node.iscsi.iter().flat_map(|iscsi| &iscsi.luns).map(|lun| lun.mount_point.clone());
    let mounts = node.machine.mounts.iter().map(|mount| mount.mount_point.clone());
    disks.chain(luns).chain(mounts).collect()
}
