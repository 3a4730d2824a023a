//! `disks`: what a node's disks are for.

mod erase;
mod matching;
pub(super) mod mounts;

use super::{Check, NAME, Rule, Seen};
use crate::cluster::file::{DataDiskSection, DisksSection, NodeSection, SystemDiskSection};
use crate::cluster::identity::{Identity, LonghornDisks};
use crate::cluster::model::{DiskRule, DiskSlot, Disks, Node, Overlay};
use crate::cluster::read::{Spanned, Text};
use crate::cluster::{size, words};
use crate::diag::{Fault, Span};
use kiln_contract::policy::{FileSystem, Match, Use};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Rules that a node can have.
const MOST_RULES: usize = 64;
/// Disks that a rule can want.
const MOST_DISKS: u32 = 64;
/// Longest name of a slot: the partition on it is called `kiln-<slot>`, and a GPT's entry has room for 36 UTF-16 units
/// (UEFI 2.10, table 5-6).
const LONGEST_SLOT: usize = 36 - "kiln-".len();
const LEAST_SWAP: u64 = 64 << 20;
const MOST_SWAP: u64 = 1 << 40;

const RULE_NAME: Rule = Rule {
    what: "a name for a disk",
    code: "disk-name",
    help: "use a-z, 0-9 and inner hyphens, such as `storage`",
    ..NAME
};
/// A volume group has the rule's name, and a folder in /dev.
const GROUP_NAME: Rule = Rule {
    check: words::disks::volume_group,
    what: "a name for a volume group",
    code: "disk-name",
    help: "the volume group gets the rule's name: give it one that /dev does not have, such as `vg-data`",
};
const TAG: Rule = Rule {
    check: words::disks::kubernetes_name,
    what: "a tag for a disk",
    code: "disk-tag",
    help: "use letters and digits, inside also `-`, `_` and `.`, at most 63 of them, such as `ssd`",
};

impl Check<'_> {
    pub(super) fn disks(&mut self, section: &DisksSection, overlays: &[Overlay]) -> Disks {
        let system = section.system.as_ref().map(|system| self.system_disk(system)).unwrap_or_default();
        let written: &[DataDiskSection] = section.data.as_ref().map_or(&[], |data| &data.value);
        if let Some(data) = section.data.as_ref().filter(|data| data.value.len() > MOST_RULES) {
            let message =
                format!("a node has at most {MOST_RULES} rules for disks, not {}", data.value.len());
            let start = data.span.start..data.span.start + 1;
            let fault = Fault::error("disk-rules", &start, message).label("this list");
            self.faults.push(fault.help("disks of the same kind need one rule with a `count`"));
        }
        let written = &written[..written.len().min(MOST_RULES)];
        let data: Vec<DiskRule> = written.iter().map(|rule| self.disk_rule(rule)).collect();
        self.disk_names(written, &data);
        self.mount_places(written, &data);
        self.alike(written, &data);
        self.longhorn_overlay(written, overlays);
        let erase = self.erase(section.erase.as_ref(), &data);
        Disks { data, erase, ..system }
    }

    /// The disk that is booted from; no others.
    fn system_disk(&mut self, section: &SystemDiskSection) -> Disks {
        let size = section.size.as_ref().and_then(|text| self.size(text, size::exact));
        let swap = section.swap.as_ref().and_then(|text| {
            let bytes = self.size(text, size::parse)?;
            if (LEAST_SWAP..=MOST_SWAP).contains(&bytes) {
                return Some(bytes);
            }
            let (problem, limit) =
                if bytes < LEAST_SWAP { ("small", "at least 64 MiB") } else { ("large", "at most 1 TiB") };
            let message = format!("a swap partition of {} is too {problem}: it takes {limit}", text.value);
            let fault = Fault::error("swap", &text.span, message).label(format!("too {problem}"));
            self.faults.push(fault.help("leave `swap` out for a node without swap"));
            None
        });
        let encrypt = section.encrypt.as_ref().map(|key| key.value.into());
        let sector_size = section.sector_size.as_ref().map(|size| self.sectors(size));
        Disks { size, sector_size, swap, encrypt, ..Disks::default() }
    }

    /// Bytes of a size, as `read` takes it.
    fn size(&mut self, text: &Text, read: fn(&str) -> Result<u64, &'static str>) -> Option<u64> {
        let reason = match read(&text.value) {
            Ok(bytes) => return Some(bytes),
            Err(reason) => reason,
        };
        let message = format!("{:?} is not a size: {reason}", text.value);
        let fault = Fault::error("disk-size", &text.span, message).label("here");
        self.faults
            .push(fault.help("write a number with its unit, such as `400GB` (10^9 bytes) or `20GiB` (2^30)"));
        None
    }

    fn disk_rule(&mut self, written: &DataDiskSection) -> DiskRule {
        let usage = written.usage.as_ref().map(|usage| Use::from(usage.value));
        let rule = if usage == Some(Use::Lvm) { GROUP_NAME } else { RULE_NAME };
        let name = written.name.as_ref().and_then(|name| {
            self.word(name, RULE_NAME)?;
            self.word(name, rule)
        });
        self.unfit(written, usage);
        let matching = written.matching.as_ref().map(|section| self.matching(section, "match"));
        let exclude: Vec<Match> =
            written.exclude.iter().flatten().map(|section| self.matching(section, "exclude")).collect();
        let tags =
            written.tags.iter().flat_map(|tags| &tags.value).filter_map(|tag| self.word(tag, TAG)).collect();
        let options = self.mount_options(written.mount_options.as_ref());
        let mut rule = DiskRule {
            name: name.unwrap_or_default(),
            matching: matching.unwrap_or_default(),
            exclude,
            usage: usage.unwrap_or(Use::Raw),
            slots: Vec::new(),
            filesystem: written.filesystem.as_ref().map_or(FileSystem::Ext4, |word| word.value.into()),
            mount_options: options,
            tags,
            reserved: written.reserved.as_ref().and_then(|text| self.size(text, size::exact)).unwrap_or(0),
            encrypt: written.encrypt.as_ref().map(|key| key.value.into()),
        };
        let names = self.slot_names(written, &rule.name);
        let folder = self.mount_folder(written, rule.usage, &names);
        let place = |name: &String| folder.as_ref().map(|folder| folder.replace(mounts::NAME, name));
        rule.slots = names
            .iter()
            .map(|name| DiskSlot { name: name.clone(), mount_point: place(name), longhorn: Uuid::nil() })
            .collect();
        rule
    }

    /// Keys that mean nothing for what the disks are for.
    fn unfit(&mut self, written: &DataDiskSection, usage: Option<Use>) {
        let (Some(usage), Some(word)) = (usage, &written.usage) else { return };
        let text = |text: &Option<Text>| text.as_ref().map(|text| text.span.clone());
        let list = |list: &Option<Spanned<Vec<Text>>>| list.as_ref().map(|list| list.span.clone());
        let mounted: &[Use] = &[Use::Longhorn, Use::Mount];
        let given = [
            ("filesystem", written.filesystem.as_ref().map(|word| word.span.clone()), mounted),
            ("mount_point", text(&written.mount_point), mounted),
            ("mount_options", list(&written.mount_options), mounted),
            ("tags", list(&written.tags), &[Use::Longhorn]),
            ("reserved", text(&written.reserved), &[Use::Longhorn]),
            (
                "encrypt",
                written.encrypt.as_ref().map(|key| key.span.clone()),
                &[Use::Longhorn, Use::Mount, Use::Lvm],
            ),
        ];
        for (key, span, uses) in given {
            let Some(span) = span.filter(|_| !uses.contains(&usage)) else { continue };
            let message = format!("`{key}` means nothing for disks with `use: {}`", usage.as_str());
            let uses: Vec<String> = uses.iter().map(|usage| format!("`use: {}`", usage.as_str())).collect();
            let fault = Fault::error("disk-key", &span, message).label("this").also(&word.span, "the use");
            self.faults.push(fault.help(format!("remove `{key}`, which belongs to {}", uses.join(", "))));
        }
        if let (Use::Mount, None, Some(name)) = (usage, &written.mount_point, &written.name) {
            let fault =
                Fault::error("mount-point", &name.span, "a disk with `use: mount` needs a `mount_point`");
            self.faults.push(fault.label("this rule").help("add `mount_point: /srv/data`, or another place"));
        }
    }

    /// What the rule's disks are called.
    fn slot_names(&mut self, written: &DataDiskSection, name: &str) -> Vec<String> {
        let count = written.count.as_ref().map_or(1, |count| count.value);
        if let Some(given) = written.count.as_ref().filter(|_| !(1..=MOST_DISKS).contains(&count)) {
            let message = format!("a rule wants from 1 to {MOST_DISKS} disks, not {count}");
            let fault = Fault::error("disk-count", &given.span, message).label("here");
            self.faults.push(fault.help("remove a rule that wants none; split one that wants more"));
            return Vec::new();
        }
        let names: Vec<String> = match count {
            1 => vec![name.to_owned()],
            _ => (1..=count).map(|number| format!("{name}-{number}")).collect(),
        };
        if let (Some(text), Some(longest)) = (&written.name, names.last().filter(|n| n.len() > LONGEST_SLOT))
        {
            let message = format!("the name {longest:?} of a disk has more than {LONGEST_SLOT} characters");
            let fault = Fault::error("disk-name", &text.span, message).label("too long");
            self.faults.push(
                fault.help("its partition is called `kiln-<name>`, and a GPT has room for 36: shorten it"),
            );
        }
        names
    }

    /// No two disks of a node have one name.
    fn disk_names(&mut self, written: &[DataDiskSection], data: &[DiskRule]) {
        let mut rules = Seen::new("duplicate-disk-rule", "the rule name", "give each rule its own name");
        let mut slots: BTreeMap<&str, (&str, &Span)> = BTreeMap::new();
        for (section, rule) in written.iter().zip(data) {
            let Some(text) = section.name.as_ref().filter(|_| !rule.name.is_empty()) else { continue };
            rules.check(&rule.name, &text.span, self.faults);
            let clash = rule.slots.iter().find_map(|slot| {
                let first = slots.get(slot.name.as_str()).filter(|(other, _)| *other != rule.name);
                first.map(|(other, span)| (slot, *other, (*span).clone()))
            });
            if let Some((slot, other, span)) = clash {
                let message =
                    format!("`{}` is a disk of the rule `{other}` and of `{}`", slot.name, rule.name);
                let fault =
                    Fault::error("duplicate-disk", &text.span, message).label("and here").also(&span, "here");
                self.faults.push(
                    fault.help("a rule with a `count` numbers its disks: give one of the two another name"),
                );
            }
            for slot in &rule.slots {
                slots.entry(&slot.name).or_insert((&rule.name, &text.span));
            }
        }
    }

    /// Rules that no disk can tell apart.
    fn alike(&mut self, written: &[DataDiskSection], data: &[DiskRule]) {
        for (at, rule) in data.iter().enumerate() {
            let same = |other: &DiskRule| other.matching == rule.matching && other.exclude == rule.exclude;
            let Some(first) = data[..at].iter().position(same) else { continue };
            let (Some(here), Some(there)) = (&written[at].matching, &written[first].matching) else {
                continue;
            };
            if self.faulty(&here.span) || rule.matching == Match::default() {
                continue;
            }
            let message = "two rules match the same disks, and a disk that fits two rules is refused";
            let fault = Fault::warning("same-match", &here.span, message).label("as there");
            self.faults.push(
                fault.also(&there.span, "there").help("tell the disks apart, or use one rule with a `count`"),
            );
        }
    }

    fn longhorn_overlay(&mut self, written: &[DataDiskSection], overlays: &[Overlay]) {
        let reported = self.faults.iter().any(|fault| fault.code.contains("overlay"));
        if reported || overlays.iter().any(|overlay| overlay.name == "longhorn") {
            return;
        }
        let mut uses = written.iter().filter_map(|rule| rule.usage.as_ref());
        if let Some(word) = uses.find(|word| Use::from(word.value) == Use::Longhorn) {
            let message =
                "disks are made for Longhorn, and the cluster lacks what Longhorn needs of its hosts";
            let fault = Fault::warning("longhorn-overlay", &word.span, message).label("this use");
            self.faults.push(fault.help("add the overlay: `overlays: [longhorn]`"));
        }
    }

    /// True when a fault inside of `span` has been reported.
    fn faulty(&self, span: &Span) -> bool {
        self.faults.iter().any(|fault| span.contains(&fault.span.start))
    }

    /// Gives every disk of the cluster Longhorn's UUID.
    pub(super) fn longhorn_disks(
        &mut self,
        cluster: Uuid,
        nodes: &mut [Node],
        written: Option<&Spanned<Vec<NodeSection>>>,
    ) {
        let mut uuids = LonghornDisks::default();
        let mut full = false;
        let mut give = |identity: &Identity, name: &str| {
            let uuid = uuids.give(identity, name);
            full |= uuid.is_none();
            uuid.unwrap_or_default()
        };
        for node in nodes.iter_mut() {
            let identity = Identity::new(cluster, &node.name);
            for slot in node.disks.data.iter_mut().flat_map(|rule| &mut rule.slots) {
                slot.longhorn = give(&identity, &slot.name);
            }
        }
        // LUNs choose after all disks, so that none of them changes a disk's.
        for node in nodes {
            let identity = Identity::new(cluster, &node.name);
            for lun in node.iscsi.iter_mut().flat_map(|iscsi| &mut iscsi.luns) {
                let name = format!("iscsi {}", lun.name);
                if let Some(longhorn) = &mut lun.longhorn {
                    longhorn.uuid = give(&identity, &name);
                }
            }
        }
        if full {
            let place = written.map_or(0, |nodes| nodes.span.start);
            let message = format!("a cluster has at most {} data disks", LonghornDisks::MOST);
            let fault = Fault::error("too-many-disks", &(place..place + 1), message).label("these nodes");
            self.faults.push(fault.help("make two clusters of it"));
        }
    }
}
