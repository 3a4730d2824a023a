//! QEMU as a typed machine: what it is made of ([`Machine`], a pure way to an argument vector), a process that
//! dies with its owner ([`Running`]), what its console and its ports say, with deadlines, and what it is told to do
//! while it runs.
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
mod heard;
mod machine;
mod network;
mod process;
mod qmp;
mod tpm;

pub use accelerator::{Accelerator, probe};
pub use disk::{Bus, Cache, Disk, Fault, Format, Operation, Source, create_sparse, device_id};
pub use error::Error;
pub use firmware::Firmware;
pub use heard::{Seen, Wanted};
pub use machine::{Kernel, Machine, PROGRAM, Serial};
pub use network::{Card, Forward, Link, Network, Subnet, free_port};
pub use process::Running;
pub use tpm::Tpm;
