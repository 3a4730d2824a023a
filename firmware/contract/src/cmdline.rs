//! The words that `kiln-firstboot` knows on the kernel command line.

/// Print the plan for the disks, change nothing and stop.
pub const REPORT: &str = "kiln.report";
/// Say every step on the console, not only the milestones.
pub const DEBUG: &str = "kiln.debug";
/// Seconds to wait for the booted disk to appear (default [`DISK_TIMEOUT_SECONDS`]).
pub const DISK_TIMEOUT: &str = "kiln.disk_timeout";
/// What [`DISK_TIMEOUT`] is when it is not given.
pub const DISK_TIMEOUT_SECONDS: u64 = 60;
