//! Disks: what is in them and what they hang on.

use crate::Error;
use crate::machine::quoted;
use std::path::{Path, PathBuf};

/// What a disk hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// virtio-blk.
    Virtio,
    /// NVMe, one controller a disk.
    Nvme,
    /// SATA on the chipset's AHCI controller; it has six ports.
    Ahci,
    /// A stick on xHCI.
    Usb,
    /// A card in an SDHCI slot; QEMU takes cards of 2ⁿ bytes only.
    Sd,
}

impl Bus {
    fn name(self) -> &'static str {
        match self {
            Self::Virtio => "virtio",
            Self::Nvme => "nvme",
            Self::Ahci => "ahci",
            Self::Usb => "usb",
            Self::Sd => "sd",
        }
    }
}

/// Format of an image file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Byte for byte.
    Raw,
    /// QEMU copy-on-write.
    Qcow2,
}

/// What a disk holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// An image file.
    Image {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: Format,
        /// Writes go to a temporary file that dies with the machine; the image stays as it is.
        overlay: bool,
    },
    /// Nothing: a sparse file of its own that dies with the machine.
    Empty {
        /// Size of the disk in bytes.
        bytes: u64,
    },
}

impl Source {
    /// A raw image that stays as it is.
    pub fn image(path: impl Into<PathBuf>) -> Self {
        Self::Image { path: path.into(), format: Format::Raw, overlay: true }
    }
}

/// A disk. The first of a machine is the one that its firmware boots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// What is in it.
    pub source: Source,
    /// What it hangs on.
    pub bus: Bus,
    /// Serial number, at most 20 characters (an SD card has none).
    pub serial: Option<String>,
    /// Logical sector size in bytes, 512 or 4096.
    pub sector_size: u32,
}

impl Disk {
    /// A virtio disk with sectors of 512 bytes.
    pub fn virtio(source: Source) -> Self {
        Self { source, bus: Bus::Virtio, serial: None, sector_size: 512 }
    }

    /// The arguments of disk number `index`; its own file, if it has one, is in `folder`.
    pub(crate) fn arguments(&self, index: usize, folder: &Path) -> Result<Vec<String>, Error> {
        let (file, format, snapshot) = match &self.source {
            Source::Image { path, format: Format::Raw, overlay } => (path.clone(), "raw", *overlay),
            Source::Image { path, format: Format::Qcow2, overlay } => (path.clone(), "qcow2", *overlay),
            Source::Empty { .. } => (empty(index, folder), "raw", false),
        };
        // Nothing here has to survive a power cut of the host: cache=unsafe flushes nothing.
        let mut drive = format!("if=none,id=disk{index},format={format},cache=unsafe,discard=unmap");
        if snapshot {
            drive.push_str(",snapshot=on");
        }
        drive.push_str(&format!(",file={}", quoted(&file.to_string_lossy())));

        let sectors = match (self.bus, self.sector_size) {
            (_, 512) => String::new(),
            (Bus::Virtio | Bus::Nvme | Bus::Usb, 4096) => {
                ",logical_block_size=4096,physical_block_size=4096".to_owned()
            }
            (bus, sector_size) => return Err(Error::SectorSize { bus: bus.name(), sector_size }),
        };
        let serial = self.serial.as_ref().map(|serial| format!(",serial={}", quoted(serial)));
        let serial = serial.unwrap_or_default();
        let boot = if index == 0 { ",bootindex=0" } else { "" };
        let mut arguments = vec!["-drive".to_owned(), drive];
        let mut device = |text: String| arguments.extend(["-device".to_owned(), text]);
        match self.bus {
            Bus::Virtio => device(format!("virtio-blk-pci,drive=disk{index}{serial}{sectors}{boot}")),
            Bus::Nvme => {
                // The specification asks for a serial number, and so does QEMU.
                let serial = if serial.is_empty() { format!(",serial=disk{index}") } else { serial };
                device(format!("nvme,drive=disk{index}{serial}{sectors}{boot}"));
            }
            Bus::Ahci => device(format!("ide-hd,bus=ide.{index},drive=disk{index}{serial}{boot}")),
            Bus::Usb => {
                device(format!("qemu-xhci,id=usb{index}"));
                device(format!(
                    "usb-storage,bus=usb{index}.0,drive=disk{index},removable=on{serial}{sectors}{boot}"
                ));
            }
            Bus::Sd => {
                // The card finds the newest bus without a card; a card can't be booted by index.
                device(format!("sdhci-pci,id=sd{index}"));
                device(format!("sd-card,drive=disk{index}"));
            }
        }
        Ok(arguments)
    }
}

/// The file of an empty disk.
pub(crate) fn empty(index: usize, folder: &Path) -> PathBuf {
    folder.join(format!("disk{index}.img"))
}
