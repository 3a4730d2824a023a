//! LUNs that take room as they are written to.

use crate::cluster::file::{IscsiTargetSection, ServedLunSection};
use crate::cluster::model::Node;
use crate::cluster::validate::Check;
use crate::diag::Fault;
use kiln_contract::iscsi::{ServedLun, Store, Target};
use kiln_contract::plan::human;
use kiln_contract::policy::Use;

impl Check<'_> {
    /// True when the LUNs are to be thin and can be.
    pub(super) fn thin(&mut self, section: &IscsiTargetSection) -> bool {
        let Some(thin) = section.thin.as_ref().filter(|thin| thin.value) else { return false };
        if section.volume_group.is_none() && section.folder.is_some() {
            let message =
                "`thin` is for LUNs of a volume group: files take room only where they are written to";
            let fault = Fault::error("iscsi-thin", &thin.span, message).label("here");
            self.faults.push(fault.help("remove it"));
            return false;
        }
        true
    }

    /// Holds thin LUNs against the disks that the rule of their group takes, as far as it says how large those are.
    pub(super) fn pool_size(
        &mut self,
        (target, node): (&Target, &Node),
        (section, luns): (&IscsiTargetSection, &[&ServedLunSection]),
    ) {
        let (Store::VolumeGroup(group), true) = (&target.store, target.thin) else { return };
        let rule = node.disks.data.iter().find(|rule| rule.usage == Use::Lvm && rule.name == *group);
        let Some((rule, place)) = rule.zip(section.thin.as_ref()) else { return };
        let count = u64::try_from(rule.slots.len()).unwrap_or(u64::MAX);
        let all = |size: u64| size.saturating_mul(count);
        let (least, most) = (rule.matching.min_size.map(all), rule.matching.max_size.map(all));
        for (ServedLun { bytes, .. }, written) in target.luns.iter().zip(luns) {
            let Some(size) = &written.size else { continue };
            let over = |bound: Option<u64>| bound.filter(|bound| bytes > bound).map(human);
            let fault = if let Some(most) = over(most) {
                let message = format!(
                    "a LUN of {} never fits: the largest disks that `{group}` takes have {most}",
                    size.value
                );
                Fault::error("iscsi-size", &size.span, message).help("give it less")
            } else if let Some(least) = over(least) {
                let message = format!(
                    "a LUN of {} may not fit: the smallest disks that `{group}` takes have {least}",
                    size.value
                );
                Fault::warning("iscsi-size", &size.span, message)
                    .help("give it less, or the rule of the disks a larger `min_size`")
            } else {
                continue;
            };
            self.faults.push(fault.label("here"));
        }
        let sum = target.luns.iter().fold(0, |sum: u64, lun| sum.saturating_add(lun.bytes));
        if let Some(least) = least.filter(|least| sum > *least) {
            let message = format!(
                "the LUNs may grow to {} together, {} more than the {} of the smallest disks that `{group}` takes",
                human(sum),
                human(sum - least),
                human(least)
            );
            let fault = Fault::note("iscsi-thin", &place.span, message).label("so they can be");
            let help = "when the pool is full, writes to new places fail: look at it with `lvs`; `fstrim` on the initiators gives room back";
            self.faults.push(fault.help(help));
        }
    }
}
