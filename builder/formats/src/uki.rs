//! Unified kernel images: systemd's stub with the kernel, its command line and its initramfs as further
//! sections of one PE/COFF file.
//!
//! Facts are from Microsoft's "PE Format" (sections COFF File Header, Optional Header, Section Table) and the
//! UAPI group's "Unified Kernel Image" specification; the layout is the one that systemd's ukify makes.

mod assemble;
mod parse;

pub use assemble::{AssembleError, Section, assemble};
pub use parse::{FoundSection, Image, ParseError, parse};

/// The kernel's section. The stub may unpack the kernel over what follows it in memory, so it comes last.
const LINUX: &str = ".linux";
/// The revocation facts of UEFI's shim; a stub brings its own.
const SBAT: &str = ".sbat";
