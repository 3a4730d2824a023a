//! What a machine is made of.

use crate::accelerator::Accelerator;
use crate::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// OVMF of Debian's package: code and an empty variable store, for 4 MiB flash.
const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const OVMF_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// A machine of the q35 kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// How guest code runs.
    pub accelerator: Accelerator,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Number of processors.
    pub cpus: u32,
    /// What starts first.
    pub firmware: Firmware,
    /// Disks; the first is what firmware boots from.
    pub disks: Vec<Disk>,
    /// The only network card, if any.
    pub network: Option<Network>,
    /// Name of a virtio-serial port on which the guest reports.
    pub report_port: Option<String>,
    /// True: QEMU ends when the guest wants to reboot.
    pub ends_at_reboot: bool,
    /// True: a VGA adapter, for what only a screen shows.
    pub screen: bool,
    /// Further arguments, as they are.
    pub extra: Vec<OsString>,
}

/// What starts first in a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Firmware {
    /// UEFI firmware in flash. The variable store is copied at every start: the file stays as it is.
    Uefi {
        /// The firmware's code.
        code: PathBuf,
        /// An empty variable store that fits it.
        vars: PathBuf,
    },
    /// A Linux kernel, without firmware in between.
    Direct {
        /// The kernel.
        kernel: PathBuf,
        /// Its initramfs.
        initrd: PathBuf,
        /// Its command line.
        command_line: String,
    },
}

/// How a disk is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// virtio-blk.
    Virtio,
    /// virtio-scsi.
    Scsi,
    /// NVMe.
    Nvme,
    /// SATA at the chipset's own controller.
    Ahci,
    /// A stick at an xHCI controller.
    Usb,
    /// A card in an SDHCI reader.
    Sd,
}

/// What an image file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The disk's bytes.
    Raw,
    /// QEMU's copy-on-write format.
    Qcow2,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The image.
    pub path: PathBuf,
    /// What the image is.
    pub format: Format,
    /// How it is attached.
    pub bus: Bus,
    /// True: what the guest writes is thrown away, and the image stays as it is.
    pub throw_away: bool,
    /// Serial number; NVMe gets `kiln<n>` when none is given.
    pub serial: Option<String>,
    /// Logical sector size in bytes: 512, or 4096 where the bus can.
    pub sector: u32,
}

/// A user-mode network: the guest sees a router that gives it an address, the host sees forwarded ports only.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Network {
    /// The guest's network as `address/length`; QEMU's own when none is given.
    pub net: Option<String>,
    /// The router's address in it.
    pub host: Option<String>,
    /// TCP ports of 127.0.0.1 that lead to (address of the guest or empty, port): (host's port, address, port).
    pub forwards: Vec<(u16, String, u16)>,
    /// True: the guest reaches nothing beyond the router.
    pub restricted: bool,
}

impl Machine {
    /// A machine with the installed UEFI firmware, 2 processors, 2 GiB, user network, and software emulation.
    ///
    /// # Errors
    /// [`Error::NotInstalled`] when there is no OVMF.
    pub fn uefi() -> Result<Self, Error> {
        for path in [OVMF_CODE, OVMF_VARS] {
            if !Path::new(path).exists() {
                return Err(Error::NotInstalled { program: path.to_owned(), package: "ovmf" });
            }
        }
        Ok(Self::with(Firmware::Uefi { code: OVMF_CODE.into(), vars: OVMF_VARS.into() }))
    }

    /// As [`Machine::uefi`], with other firmware.
    pub fn with(firmware: Firmware) -> Self {
        Self {
            accelerator: Accelerator::Tcg,
            memory_mib: 2048,
            cpus: 2,
            firmware,
            disks: Vec::new(),
            network: Some(Network::default()),
            report_port: None,
            ends_at_reboot: true,
            screen: false,
            extra: Vec::new(),
        }
    }
}

impl Disk {
    /// A raw image at a virtio bus that is not changed by what the guest writes.
    pub fn throw_away(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            format: Format::Raw,
            bus: Bus::Virtio,
            throw_away: true,
            serial: None,
            sector: 512,
        }
    }

    /// The same disk at another bus.
    #[must_use]
    pub fn at(self, bus: Bus) -> Self {
        Self { bus, ..self }
    }
}
