//! Whose a disk is, by the identifiers in its partition table.

use crate::handoff::Handoff;
use crate::machine::Disk;
use crate::partition::{TYPE_DATA, TYPE_UNFINISHED, data_disk_guid};
use crate::plan::Obstacle;
use crate::policy::{Rule, Slot};

/// Whom a disk belongs to.
pub(super) enum Owner<'a> {
    /// It is the disk of one of this node's slots.
    Ours {
        /// The slot's rule.
        rule: &'a Rule,
        /// The slot.
        slot: &'a Slot,
        /// It was formatted to the end.
        finished: bool,
    },
    /// It is Kiln's, but not this node's.
    Foreign(Obstacle),
    /// Its table does not say.
    Nobody,
}

impl<'a> Owner<'a> {
    /// Whose `disk` is, as the node of `handoff` sees it.
    pub(super) fn of(disk: &Disk, handoff: &'a Handoff) -> Self {
        let Some(table) = &disk.table else { return Self::Nobody };
        let cluster = handoff.cluster.id;
        let of_cluster = |guid| table.disk_guid == data_disk_guid(cluster, guid);
        if let [partition] = &table.partitions[..]
            && of_cluster(partition.guid)
            && matches!(partition.kind, TYPE_DATA | TYPE_UNFINISHED)
            && let Some((rule, slot)) = slots(handoff).find(|(_, slot)| slot.partition == partition.guid)
        {
            return Self::Ours { rule, slot, finished: partition.kind == TYPE_DATA };
        }
        // Also a disk of this cluster that somebody has added partitions to, or changed the type of.
        if let Some(partition) = table.partitions.iter().find(|partition| of_cluster(partition.guid)) {
            return Self::Foreign(Obstacle::ForeignNode(partition.label.clone()));
        }
        let is_data = |kind| matches!(kind, TYPE_DATA | TYPE_UNFINISHED);
        if table.partitions.iter().any(|partition| is_data(partition.kind)) {
            return Self::Foreign(Obstacle::ForeignCluster);
        }
        Self::Nobody
    }
}

/// All slots of the node that are written to, with their rules.
fn slots(handoff: &Handoff) -> impl Iterator<Item = (&Rule, &Slot)> {
    let rules = handoff.disks.data.iter().filter(|rule| rule.writes());
    rules.flat_map(|rule| rule.slots.iter().map(move |slot| (rule, slot)))
}
