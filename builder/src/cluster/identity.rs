//! Identifiers: each is UUIDv5 (RFC 9562 §5.5) of (cluster id, node, purpose, medium), so that a build
//! repeats them and no two nodes, and no stick and the disk made from it, share one.

use std::collections::BTreeSet;
use uuid::{Uuid, uuid};

/// Namespace of cluster ids. Fixed for ever: all that exists derives from it.
const NAMESPACE: Uuid = uuid!("6b1f9c6e-0d53-5c0a-8f5e-4b696c6e0000");

/// What a disk image is written to. A stick and the disk made from it differ in every identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Medium {
    /// The node's own disk.
    Disk,
    /// An installation stick.
    Stick,
}

impl Medium {
    fn as_str(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Stick => "stick",
        }
    }
}

/// The cluster's id from `cluster.id`, or from its name where there is none.
pub fn cluster_id(text: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, text.as_bytes())
}

/// An identifier that nodes share, such as the UUID of a root file system; `digest` is of what it is for.
pub fn shared(cluster: Uuid, purpose: &str, digest: &str) -> Uuid {
    derive(cluster, &["", purpose, digest])
}

/// The identifiers of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    cluster: Uuid,
    node: String,
}

impl Identity {
    /// Those of `node` in the cluster with this id.
    pub fn new(cluster: Uuid, node: &str) -> Self {
        Self { cluster, node: node.to_owned() }
    }
    /// GUID of the disk's partition table.
    pub fn disk_guid(&self, medium: Medium) -> Uuid {
        self.on("disk-guid", medium)
    }
    /// Unique GUID of the partition with this label (`kiln_contract::partition`).
    pub fn partition_guid(&self, label: &str, medium: Medium) -> Uuid {
        self.on(&format!("partition-guid {label}"), medium)
    }
    /// UUID of the file system in the partition with this label.
    pub fn filesystem_uuid(&self, label: &str, medium: Medium) -> Uuid {
        self.on(&format!("filesystem-uuid {label}"), medium)
    }
    /// Volume id of the FAT file system in the partition with this label; never 0.
    pub fn fat_volume_id(&self, label: &str, medium: Medium) -> u32 {
        let (first, ..) = self.on(&format!("fat-volume-id {label}"), medium).as_fields();
        first.max(1)
    }
    /// What /etc/machine-id holds: 32 lower-case hexadecimal digits (machine-id(5)).
    pub fn machine_id(&self) -> String {
        self.of("machine-id").simple().to_string()
    }
    /// cloud-init's instance-id. It stays when the node is built anew, so that host keys stay.
    pub fn instance_id(&self) -> String {
        format!("kiln-{}", self.of("instance-id"))
    }
    /// iSCSI initiator name (RFC 7143 §4.2.7.4), in the form that Debian's open-iscsi makes.
    pub fn iscsi_initiator(&self) -> String {
        let id = self.of("iscsi-initiator").simple().to_string();
        format!("iqn.1993-08.org.debian:01:{}", &id[..12])
    }
    /// Name of the node's iSCSI target when the cluster file gives none, in the form that targetcli makes.
    pub fn iscsi_target(&self) -> String {
        let id = self.of("iscsi-target").simple().to_string();
        format!("iqn.2003-01.org.linux-iscsi.{}:sn.{}", self.node, &id[..12])
    }
    /// Serial number of a LUN that the node serves.
    pub fn served_lun(&self, name: &str) -> Uuid {
        self.of(&format!("iscsi-served-lun {name}"))
    }
    /// Unique GUID of the partition on a LUN that the node mounts.
    pub fn lun_partition(&self, name: &str) -> Uuid {
        self.of(&format!("iscsi-lun-partition {name}"))
    }
    /// UUID of the file system on that.
    pub fn lun_filesystem(&self, name: &str) -> Uuid {
        self.of(&format!("iscsi-lun-filesystem {name}"))
    }
    /// UUID of the LUKS header in the partition with this label.
    pub fn luks_uuid(&self, label: &str, medium: Medium) -> Uuid {
        self.on(&format!("luks-uuid {label}"), medium)
    }
    /// Unique GUID of the partition on the data disk in this slot. It outlives the system disk, whatever that is.
    pub fn data_partition(&self, slot: &str) -> Uuid {
        self.of(&format!("data-partition {slot}"))
    }
    /// UUID of the file system on the data disk in this slot.
    pub fn data_filesystem(&self, slot: &str) -> Uuid {
        self.of(&format!("data-filesystem {slot}"))
    }
    /// UUID of the LUKS header on the data disk in this slot.
    pub fn data_luks(&self, slot: &str) -> Uuid {
        self.of(&format!("data-luks {slot}"))
    }
    /// Any other identifier of the node.
    pub fn of(&self, purpose: &str) -> Uuid {
        derive(self.cluster, &[&self.node, purpose])
    }
    fn on(&self, purpose: &str, medium: Medium) -> Uuid {
        derive(self.cluster, &[&self.node, purpose, medium.as_str()])
    }
}

/// Gives Longhorn's UUIDs of disks: the first four characters of each are unique in the cluster, so that
/// they are told apart where they are cut short. Whoever asks first keeps the first choice, so disks that are added
/// at the end of a cluster file change none before them.
#[derive(Debug, Default)]
pub struct LonghornDisks {
    taken: BTreeSet<u16>,
}

impl LonghornDisks {
    /// Most disks that a cluster can have: a quarter of all beginnings, so that a free one is soon found.
    pub const MOST: usize = 1 << 14;

    /// The UUID of the disk in a node's slot. Nothing when [`Self::MOST`] have been given.
    pub fn give(&mut self, identity: &Identity, slot: &str) -> Option<Uuid> {
        if self.taken.len() >= Self::MOST {
            return None;
        }
        let choice = |number: u32| match number {
            0 => identity.of(&format!("longhorn-disk {slot}")),
            number => identity.of(&format!("longhorn-disk {slot} {number}")),
        };
        (0..).map(choice).find(|uuid| {
            let [first, second, ..] = uuid.into_bytes();
            self.taken.insert(u16::from_be_bytes([first, second]))
        })
    }
}

/// NUL can't be part of a name or a purpose: no two lists make the same bytes.
fn derive(cluster: Uuid, parts: &[&str]) -> Uuid {
    Uuid::new_v5(&cluster, parts.join("\0").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::{Identity, LonghornDisks, Medium, cluster_id};
    use std::collections::BTreeSet;

    fn all(node: &str) -> Vec<String> {
        let id = Identity::new(cluster_id("home"), node);
        let mut all = vec![id.machine_id(), id.instance_id(), id.iscsi_initiator(), id.iscsi_target()];
        all.extend(
            [id.served_lun("a"), id.lun_partition("a"), id.lun_filesystem("a")].map(|id| id.to_string()),
        );
        for medium in [Medium::Disk, Medium::Stick] {
            all.push(id.disk_guid(medium).to_string());
            for label in ["ESP", "CIDATA", "root-a"] {
                all.push(id.partition_guid(label, medium).to_string());
                all.push(id.filesystem_uuid(label, medium).to_string());
                all.push(id.fat_volume_id(label, medium).to_string());
            }
        }
        all
    }

    #[test]
    fn nothing_is_shared() {
        let both: Vec<String> = all("k3s1").into_iter().chain(all("k3s2")).collect();
        assert_eq!(both.iter().collect::<BTreeSet<_>>().len(), both.len());
    }

    /// Identifiers of clusters that run must never change.
    #[test]
    fn frozen() {
        let id = Identity::new(cluster_id("home"), "k3s1");
        insta::assert_debug_snapshot!(
            (cluster_id("home"), id.machine_id(), id.disk_guid(Medium::Disk), id.fat_volume_id("ESP", Medium::Disk)),
            @r#"
        (
            5d561668-f360-5dfa-b0ca-b54d499f90d8,
            "8e52f62119d751aeab3fd42bf72dcd0c",
            ea2f352a-5bbe-5f98-b627-4714cdf81eb3,
            2779563711,
        )
        "#
        );
    }

    /// A LUN that holds data is known by these.
    #[test]
    fn frozen_of_iscsi() {
        let id = Identity::new(cluster_id("home"), "k3s1");
        insta::assert_debug_snapshot!(
            (id.iscsi_initiator(), id.iscsi_target(), id.served_lun("a"), id.lun_partition("a"), id.lun_filesystem("a")),
            @r#"
        (
            "iqn.1993-08.org.debian:01:d5c65bcb547c",
            "iqn.2003-01.org.linux-iscsi.k3s1:sn.6f878a5ff761",
            baa48bc0-5c75-5963-b192-3bbfd54a3bba,
            d5476916-5995-5fec-b157-1137beeecc9c,
            2106b1d6-3404-5392-9a2d-4a52dc5a3f13,
        )
        "#
        );
    }

    /// A disk with data on it is known by these.
    #[test]
    fn frozen_of_disks() {
        let id = Identity::new(cluster_id("home"), "k3s1");
        insta::assert_debug_snapshot!((
            id.data_partition("sdf-1"),
            id.data_filesystem("sdf-1"),
            id.data_luks("sdf-1"),
            id.luks_uuid("state", Medium::Disk),
            LonghornDisks::default().give(&id, "sdf-1"),
        ), @r#"
        (
            0ff22794-f834-57b0-bcfe-c6ab22c79c69,
            d922008f-4d06-5a12-8c90-02c75550982e,
            c51139e0-62ca-5cdc-81ae-9f00534082cb,
            e9a0c9d8-1f89-501e-aefb-0f19354b64f7,
            Some(
                e9ef3812-977a-58fb-909b-2bf1b0b6420f,
            ),
        )
        "#);
    }

    #[test]
    fn beginnings_of_longhorn_disks_are_unique_and_repeat() {
        let all = || {
            let mut disks = LonghornDisks::default();
            let mut all = Vec::new();
            for node in 0..LonghornDisks::MOST / 4 {
                let id = Identity::new(cluster_id("home"), &format!("node-{node}"));
                all.extend((1..=4).map(|slot| disks.give(&id, &format!("sdf-{slot}")).unwrap()));
            }
            assert_eq!(disks.give(&Identity::new(cluster_id("home"), "more"), "sdf-1"), None);
            all
        };
        let beginnings: BTreeSet<String> =
            all().iter().map(|uuid| uuid.to_string()[..4].to_owned()).collect();
        assert_eq!(beginnings.len(), LonghornDisks::MOST);
        assert_eq!(all(), all());
    }
}
