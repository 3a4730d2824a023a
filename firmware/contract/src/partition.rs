//! Partition types and labels of a Kiln disk (design: ESP, CIDATA, root-a, root-b, state).
//!
//! Types of root and state are those of the Discoverable Partitions Specification (UAPI Group, version 1);
//! the EFI system type is UEFI 2.10, table 5-7. GUIDs are in their textual order.

use uuid::{Uuid, uuid};

/// EFI System Partition.
pub const TYPE_ESP: Uuid = uuid!("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
/// The seed's FAT volume; Kiln's own type, so that no other system mounts it by type.
pub const TYPE_CIDATA: Uuid = uuid!("2f1a5b0c-7d3e-5f60-9a41-6b696c6e0001");
/// Root, x86-64.
pub const TYPE_ROOT_AMD64: Uuid = uuid!("4f68bce3-e8cd-4db1-96e7-fbcaf984b709");
/// Root, 64-bit ARM.
pub const TYPE_ROOT_ARM64: Uuid = uuid!("b921b045-1df0-41c3-af44-4c6f280d3fae");
/// Root of the architecture that this is compiled for: the device's own.
#[cfg(target_arch = "x86_64")]
pub const TYPE_ROOT: Uuid = TYPE_ROOT_AMD64;
/// Root of the architecture that this is compiled for: the device's own.
#[cfg(target_arch = "aarch64")]
pub const TYPE_ROOT: Uuid = TYPE_ROOT_ARM64;
/// Variable data: the state partition.
pub const TYPE_STATE: Uuid = uuid!("4d21b016-b534-45c2-a9fb-5c16e091fd2d");

/// Linux swap.
pub const TYPE_SWAP: Uuid = uuid!("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f");
/// A data disk's one partition, formatted; Kiln's own type, so that nothing else mounts it by type.
pub const TYPE_DATA: Uuid = uuid!("2f1a5b0c-7d3e-5f60-9a41-6b696c6e0002");
/// A partition of Kiln's that was not formatted to its end: nothing of value is in it. When the formatting is done, and
/// only then, the entry gets its final type; power may fail at any moment before.
pub const TYPE_UNFINISHED: Uuid = uuid!("2f1a5b0c-7d3e-5f60-9a41-6b696c6e0003");

/// Least size of the state partition (bytes): container images of k3s alone take most of it.
pub const STATE_MIN: u64 = 1 << 30;

/// Partition name (GPT) of the ESP.
pub const LABEL_ESP: &str = "ESP";
/// Partition name and FAT volume label of the seed; NoCloud looks for this label.
pub const LABEL_CIDATA: &str = "CIDATA";
/// Partition name of the first root slot.
pub const LABEL_ROOT_A: &str = "root-a";
/// Partition name of the second root slot, made at first boot.
pub const LABEL_ROOT_B: &str = "root-b";
/// Partition name of the state partition, made at first boot.
pub const LABEL_STATE: &str = "state";
/// Partition name of the swap partition, made at first boot.
pub const LABEL_SWAP: &str = "swap";

/// Partition name on the data disk of a slot.
pub fn data_label(slot: &str) -> String {
    format!("kiln-{slot}")
}

/// GUID of the table on a data disk, from the cluster's identifier and the GUID of the disk's one partition: whoever
/// knows the cluster knows its disks, whichever node's they are.
pub fn data_disk_guid(cluster: Uuid, partition: Uuid) -> Uuid {
    Uuid::new_v5(&cluster, format!("data-disk\0{partition}").as_bytes())
}
