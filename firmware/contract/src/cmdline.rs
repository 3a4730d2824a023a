//! The words that `kiln-firstboot` knows on the kernel command line.

/// Print the plan for the disks, change nothing and stop.
pub const REPORT: &str = "kiln.report";
/// Seconds that a person has to stop a plan that empties disks (default [`COUNTDOWN_SECONDS`]); 0 asks nobody.
pub const COUNTDOWN: &str = "kiln.countdown";
/// What [`COUNTDOWN`] is when it is not given.
pub const COUNTDOWN_SECONDS: u64 = 20;
/// Say every step on the console, not only the milestones.
pub const DEBUG: &str = "kiln.debug";
/// Seconds to wait for the booted disk to appear (default [`DISK_TIMEOUT_SECONDS`]).
pub const DISK_TIMEOUT: &str = "kiln.disk_timeout";
/// What [`DISK_TIMEOUT`] is when it is not given.
pub const DISK_TIMEOUT_SECONDS: u64 = 60;
