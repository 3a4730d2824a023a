//! What a booted node says of itself, one JSON object a line on a virtio-serial port and on the console.

use crate::event::Record;
use serde::{Deserialize, Serialize};

/// Name of the virtio-serial port; udev links it as `/dev/virtio-ports/<name>`.
pub const PORT: &str = "org.kiln.report";
/// What a console line with a report starts with.
pub const CONSOLE_PREFIX: &str = "kiln: report ";

/// The node's own judgement when its boot has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Host name.
    pub node: String,
    /// `systemctl is-system-running`: running, degraded, …
    pub state: String,
    /// Units that failed.
    pub failed_units: Vec<String>,
    /// File systems that are full, then the end of each failed unit's journal, as `unit: line`.
    pub reasons: Vec<String>,
    /// /etc/machine-id.
    pub machine_id: String,
    /// Global addresses with prefix length, as `interface address/len`.
    pub addresses: Vec<String>,
    /// SSH host public keys, as `type base64`.
    pub host_keys: Vec<String>,
    /// Seconds from kernel start to this report.
    pub uptime_seconds: f64,
    /// The record of what the initramfs did in this boot; only on the port, and only when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Record>,
}

impl Report {
    /// True when systemd calls the system running and no unit failed.
    pub fn is_healthy(&self) -> bool {
        self.state == "running" && self.failed_units.is_empty()
    }
}
