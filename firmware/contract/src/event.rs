//! What the first boot tells while it goes on, one JSON object a line on a virtio-serial port, and the record
//! of it that stays on the node.

use crate::plan::Plan;
use serde::{Deserialize, Serialize};

/// Name of the virtio-serial port; sysfs has it in `/sys/class/virtio-ports/*/name`.
pub const PORT: &str = "org.kiln.events";
/// Where the record of the last boot is that wrote to a disk: the first one, as a rule.
pub const RECORD: &str = "/var/lib/kiln/first-boot.json";
/// Where the record of the boot that goes on is.
pub const BOOT_RECORD: &str = "/run/kiln/boot.json";
/// The only version of a record that this code writes and reads.
pub const VERSION: u32 = 1;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Seconds since the kernel's start.
    pub at: f64,
    /// Which step: a word such as `modules`, `partition`, `format`.
    pub step: String,
    /// What it works on: a disk, a partition, a slot; empty when the step is about the whole machine.
    #[serde(default)]
    pub subject: String,
    /// Begun, ended or failed.
    pub state: State,
    /// What was found or done, or why it failed, in words.
    #[serde(default)]
    pub found: String,
    /// How long it took in seconds; of steps that ended or failed.
    #[serde(default)]
    pub seconds: Option<f64>,
}

/// Where a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has begun.
    Begun,
    /// It has ended.
    Done,
    /// It has failed; the boot goes on without what it was for, or stops.
    Failed,
}

/// The record of a boot, at [`RECORD`] and [`BOOT_RECORD`]: what was seen, decided and done before the system started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Always [`VERSION`].
    pub version: u32,
    /// Version of the helper.
    pub kiln: String,
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the node.
    pub node: String,
    /// The kernel's random id of this boot (/proc/sys/kernel/random/boot_id).
    pub boot_id: String,
    /// Seconds since the kernel's start when the helper began.
    pub began: f64,
    /// Seconds since the kernel's start when it handed over to the system.
    pub ended: f64,
    /// Steps that ended or failed, in their order.
    pub steps: Vec<Event>,
    /// The decision about the data disks.
    pub plan: Plan,
    /// What went wrong without ending the boot, in words for people; empty on a healthy node.
    pub problems: Vec<String>,
    /// Longhorn's annotation `node.longhorn.io/default-disks-config`: a JSON text; nothing without Longhorn disks.
    #[serde(default)]
    pub default_disks_config: Option<String>,
}
