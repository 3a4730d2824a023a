//! QEMU as a typed machine: what it is made of ([`Machine`], a pure way to an argument vector), a process that
//! dies with its owner ([`Running`]), and what its console and its ports say, with deadlines.
//!
//! ```no_run
//! use kiln_qemu::{Accelerator, Disk, Firmware, Machine, Source};
//! use std::time::{Duration, Instant};
//!
//! # fn main() -> Result<(), kiln_qemu::Error> {
//! let machine = Machine {
//!     disks: vec![Disk::virtio(Source::image("disk.img"))],
//!     ports: vec!["org.example.report".to_owned()],
//!     ..Machine::new(Firmware::find()?, Accelerator::Tcg)
//! };
//! let mut running = machine.start()?;
//! let line = running.line("org.example.report", Instant::now() + Duration::from_secs(300))?;
//! println!("{line}");
//! # Ok(())
//! # }
//! ```

mod accelerator;
mod console;
mod disk;
mod error;
mod firmware;
mod machine;
mod network;
mod process;

pub use accelerator::{Accelerator, probe};
pub use disk::{Bus, Disk, Format, Source};
pub use error::Error;
pub use firmware::Firmware;
pub use machine::{Machine, PROGRAM, Serial};
pub use network::{Forward, Network, Subnet, free_port};
pub use process::{Running, Seen, Wanted};
