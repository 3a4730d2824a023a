//! What a node's disks are for, in the words of the handoff document: the cluster file's with every identifier.

use crate::cluster::identity::{Identity, Medium};
use crate::cluster::{Cluster, DiskRule, DiskSlot, Node};
use kiln_contract::partition::{LABEL_STATE, LABEL_SWAP};
use kiln_contract::policy::{Encryption, Policy, Rule, Slot, Swap, System};

/// The policy of `node`, which is one of `cluster`'s, for its own disk.
pub fn policy(cluster: &Cluster, node: &Node) -> Policy {
    let identity = cluster.identity(node);
    let disks = &node.disks;
    let swap = disks.swap.map(|bytes| Swap {
        bytes,
        partition: identity.partition_guid(LABEL_SWAP, Medium::Disk),
        filesystem: identity.filesystem_uuid(LABEL_SWAP, Medium::Disk),
    });
    let encrypt =
        disks.encrypt.map(|key| Encryption { luks: identity.luks_uuid(LABEL_STATE, Medium::Disk), key });
    Policy {
        system: System { swap, encrypt },
        data: disks.data.iter().map(|written| rule(&identity, written)).collect(),
        erase: disks.erase.clone(),
    }
}

fn rule(identity: &Identity, rule: &DiskRule) -> Rule {
    Rule {
        name: rule.name.clone(),
        matching: rule.matching.clone(),
        exclude: rule.exclude.clone(),
        usage: rule.usage,
        slots: rule.slots.iter().map(|written| slot(identity, written)).collect(),
        filesystem: rule.filesystem,
        mount_options: rule.mount_options.clone(),
        tags: rule.tags.clone(),
        reserved: rule.reserved,
        encrypt: rule.encrypt,
        removable: rule.names_its_disks(),
    }
}

fn slot(identity: &Identity, slot: &DiskSlot) -> Slot {
    Slot {
        name: slot.name.clone(),
        partition: identity.data_partition(&slot.name),
        filesystem: identity.data_filesystem(&slot.name),
        luks: identity.data_luks(&slot.name),
        longhorn: slot.longhorn,
        mount_point: slot.mount_point.clone(),
    }
}
