//! Typed QEMU machines: what a machine is made of, the argument vector that says so (pure), the process, its console
//! with expectations that end at a deadline, and the port on which a guest reports.
//!
//! ```no_run
//! # fn main() -> Result<(), kiln_qemu::Error> {
//! use kiln_qemu::{Disk, Machine};
//! let mut machine = Machine::uefi()?;
//! machine.disks.push(Disk::throw_away("disk.img"));
//! let mut running = machine.start()?;
//! running.console.expect("login:", std::time::Duration::from_secs(120))?;
//! # Ok(()) }
//! ```

pub mod accelerator;
mod argv;
mod console;
mod error;
mod machine;
mod overlay;
mod process;
mod report;

pub use accelerator::Accelerator;
pub use console::Console;
pub use error::Error;
pub use machine::{Bus, Disk, Firmware, Format, Machine, Network};
pub use overlay::overlay;
pub use process::Running;
pub use report::ReportPort;

/// The program for amd64 guests.
pub(crate) const PROGRAM: &str = "qemu-system-x86_64";
