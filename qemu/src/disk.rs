//! Disks: what is in them, what they hang on, and what they say of themselves.

mod fault;

pub use fault::{Fault, Operation};

use crate::Error;
use crate::machine::quoted;
use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};

/// The program that makes image files.
const IMAGE_PROGRAM: &str = "qemu-img";

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
    /// A SCSI disk on virtio-scsi, as many clouds have them; one controller a disk.
    Scsi,
    /// A disc in a drive on the chipset's AHCI controller, which can't be written to.
    Disc,
}

impl Bus {
    /// Every bus.
    pub const ALL: [Self; 7] =
        [Self::Virtio, Self::Nvme, Self::Ahci, Self::Usb, Self::Sd, Self::Scsi, Self::Disc];

    /// A word for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Virtio => "virtio",
            Self::Nvme => "nvme",
            Self::Ahci => "ahci",
            Self::Usb => "usb",
            Self::Sd => "sd",
            Self::Scsi => "scsi",
            Self::Disc => "disc",
        }
    }

    /// True where QEMU has disks with logical sectors of 4096 bytes.
    pub fn has_large_sectors(self) -> bool {
        matches!(self, Self::Virtio | Self::Nvme | Self::Usb | Self::Scsi)
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

/// How a disk's writes reach the host's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// Through the host's page cache. What a guest flushes goes to the host's disk before the flush ends.
    Writeback,
    /// Through the host's page cache; a flush hands QEMU's own caches (the tables of a qcow2 file) to the host and
    /// waits for nothing more. All that was flushed outlives QEMU, but not the host.
    Unsafe,
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
    /// A file that is written to and stays. When QEMU is killed, the file holds all that the guest has flushed (raw:
    /// all that was told the guest to be written), so that the next machine goes on from there.
    File {
        /// The file, which must exist.
        path: PathBuf,
        /// Its format.
        format: Format,
        /// What a flush does.
        cache: Cache,
    },
    /// A raw image as the beginning of a larger disk. Writes go to a temporary file that dies with the machine; the
    /// image stays as it is.
    Larger {
        /// The file.
        path: PathBuf,
        /// Size of the disk in bytes, no less than the image's.
        bytes: u64,
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

    /// A raw file that is written to and stays, as far as the host runs on.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::File { path: path.into(), format: Format::Raw, cache: Cache::Unsafe }
    }

    /// The file that must be there.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Image { path, .. } | Self::File { path, .. } => Some(path),
            Self::Larger { .. } | Self::Empty { .. } => None,
        }
    }

    fn format(&self) -> Format {
        match self {
            Self::Image { format, .. } | Self::File { format, .. } => *format,
            Self::Larger { .. } => Format::Qcow2,
            Self::Empty { .. } => Format::Raw,
        }
    }
}

/// A disk. The first of a machine is the one that its firmware boots. Facts that a bus does not have are an error,
/// those left out are QEMU's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// What is in it.
    pub source: Source,
    /// What it hangs on.
    pub bus: Bus,
    /// Logical sector size in bytes, 512 or 4096.
    pub sector_size: u32,
    /// Serial number: at most 20 characters, 36 on SCSI; an SD card has none.
    pub serial: Option<String>,
    /// Model: at most 40 characters on AHCI, 16 on SCSI (there the product; the vendor stays QEMU). Others have none.
    pub model: Option<String>,
    /// Revision of the disk's own firmware: AHCI at most 8 characters, SCSI 4.
    pub revision: Option<String>,
    /// World-wide name, on AHCI and SCSI.
    pub wwn: Option<u64>,
    /// Says that its medium can be taken out: USB (where it is so unless told otherwise) and SCSI.
    pub removable: Option<bool>,
    /// AHCI and SCSI: 1 is a disk without moving parts, else turns a minute (ATA8-ACS, word 217).
    pub rotation_rate: Option<u16>,
    /// Can't be written to; AHCI and SD have no such disks.
    pub read_only: bool,
    /// Offers discard, which punches holes into the file. NVMe offers it always; without this, it then does nothing.
    pub discard: bool,
    /// Can be pulled while the machine runs: see [`Running::unplug`](crate::Running::unplug). Not on AHCI and SD.
    pub hot_plug: bool,
    /// Requests that fail. Only over a raw file.
    pub faults: Vec<Fault>,
}

/// Which of a machine's disks one is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Its number.
    pub(crate) index: usize,
    /// Its AHCI port, if it needs one; a drive for discs does, too.
    pub(crate) port: usize,
    /// The firmware boots it.
    pub(crate) boots: bool,
}

impl Disk {
    /// A disk with sectors of 512 bytes and QEMU's own facts.
    pub fn new(source: Source, bus: Bus) -> Self {
        Self {
            source,
            bus,
            sector_size: 512,
            serial: None,
            model: None,
            revision: None,
            wwn: None,
            removable: None,
            rotation_rate: None,
            read_only: false,
            discard: true,
            hot_plug: false,
            faults: Vec::new(),
        }
    }

    /// A virtio disk with sectors of 512 bytes.
    pub fn virtio(source: Source) -> Self {
        Self::new(source, Bus::Virtio)
    }

    /// The arguments of a disk at its place; its own files, if it has any, are in `folder`.
    pub(crate) fn arguments(&self, place: Place, folder: &Path) -> Result<Vec<String>, Error> {
        let Place { index, port, boots } = place;
        let facts = self.facts()?;
        let mut arguments = vec!["-drive".to_owned(), self.drive(index, folder)?];
        let mut device = |text: String| arguments.extend(["-device".to_owned(), text]);
        let boot = if boots { ",bootindex=0" } else { "" };
        let slot = if self.hot_plug && matches!(self.bus, Bus::Virtio | Bus::Nvme) {
            // What sits on the root itself can't be pulled.
            device(format!("pcie-root-port,id=slot{index},chassis={}", index + 1));
            format!(",bus=slot{index}")
        } else {
            String::new()
        };
        let common = format!("id={},drive=disk{index}", device_id(index));
        match self.bus {
            Bus::Virtio => device(format!("virtio-blk-pci{slot},{common}{facts}{boot}")),
            Bus::Nvme => {
                // The specification asks for a serial number, and so does QEMU.
                let serial =
                    if self.serial.is_none() { format!(",serial=disk{index}") } else { String::new() };
                device(format!("nvme{slot},{common}{serial}{facts}{boot}"));
            }
            Bus::Ahci => device(format!("ide-hd,bus=ide.{port},{common}{facts}{boot}")),
            Bus::Disc => device(format!("ide-cd,bus=ide.{port},{common}{facts}{boot}")),
            Bus::Usb => {
                device(format!("qemu-xhci,id=usb{index}"));
                device(format!("usb-storage,bus=usb{index}.0,{common}{facts}{boot}"));
            }
            Bus::Sd => {
                // The card finds the newest bus without a card; a card can't be booted by index.
                device(format!("sdhci-pci,id=sd{index}"));
                device(format!("sd-card,{common}"));
            }
            Bus::Scsi => {
                device(format!("virtio-scsi-pci,id=scsi{index}"));
                device(format!("scsi-hd,bus=scsi{index}.0,{common}{facts}{boot}"));
            }
        }
        Ok(arguments)
    }

    /// The value of `-drive`.
    fn drive(&self, index: usize, folder: &Path) -> Result<String, Error> {
        let file = self.source.path().map_or_else(|| empty(index, folder), Path::to_owned);
        let file = quoted(&file.to_string_lossy());
        let (format, snapshot, cache) = match &self.source {
            Source::Image { format, overlay, .. } => (*format, *overlay, Cache::Unsafe),
            Source::File { format, cache, .. } => (*format, false, *cache),
            Source::Larger { .. } => (Format::Qcow2, false, Cache::Unsafe),
            Source::Empty { .. } => (Format::Raw, false, Cache::Unsafe),
        };
        let format = match format {
            Format::Raw => "raw",
            Format::Qcow2 => "qcow2",
        };
        let cache = match cache {
            Cache::Writeback => "writeback",
            Cache::Unsafe => "unsafe",
        };
        let discard = if self.discard { "unmap" } else { "ignore" };
        let mut drive = format!("if=none,id=disk{index},format={format},cache={cache},discard={discard}");
        if snapshot {
            drive.push_str(",snapshot=on");
        }
        if self.read_only || self.bus == Bus::Disc {
            drive.push_str(",readonly=on");
        }
        if !self.faults.is_empty() {
            let rules = quoted(&faults(index, folder).to_string_lossy());
            drive.push_str(&format!(
                ",file.driver=blkdebug,file.config={rules},file.image.driver=file,file.image.filename={file}"
            ));
        } else if self.can_fail() {
            let (node, below) = (node(index), file_node(index));
            drive.push_str(&format!(
                ",node-name={node},file.driver=file,file.node-name={below},file.filename={file}"
            ));
        } else {
            drive.push_str(&format!(",file={file}"));
        }
        Ok(drive)
    }

    /// True when faults can begin while the machine runs.
    fn can_fail(&self) -> bool {
        self.faults.is_empty() && matches!(self.source, Source::File { format: Format::Raw, .. })
    }

    /// What QEMU's machine protocol is told, one after the other, so that from then on every request of these kinds
    /// fails: a faulty layer is made over the file, and the disk put on it.
    pub(crate) fn failing(
        &self,
        index: usize,
        operations: &[Operation],
    ) -> Result<[(&'static str, Value); 2], Error> {
        if !self.can_fail() {
            let fact = "faults that begin later: it must be a raw file that stays, without other faults";
            return Err(Error::DiskFact { bus: self.bus.name(), fact });
        }
        let discard = if self.discard { "unmap" } else { "ignore" };
        let no_flush = !matches!(self.source, Source::File { cache: Cache::Writeback, .. });
        let layer = format!("fault{index}");
        let add = json!({
            "driver": "blkdebug",
            "node-name": layer,
            "image": file_node(index),
            "discard": discard,
            "read-only": self.read_only,
            "inject-error": fault::always(operations),
        });
        let reopen = json!({"options": [{
            "driver": "raw",
            "node-name": node(index),
            "file": layer,
            "discard": discard,
            "read-only": self.read_only,
            "cache": {"direct": false, "no-flush": no_flush},
        }]});
        Ok([("blockdev-add", add), ("blockdev-reopen", reopen)])
    }

    /// What the disk says of itself, as options of its device. A fact that the bus does not have is refused.
    fn facts(&self) -> Result<String, Error> {
        use Bus::{Ahci, Nvme, Scsi, Sd, Usb, Virtio};
        let on_off = |on: bool| if on { "on" } else { "off" };
        let refuse = |fact: &'static str| Error::DiskFact { bus: self.bus.name(), fact };
        let can = |fact: &'static str, buses: &[Bus]| {
            if buses.contains(&self.bus) { Ok(()) } else { Err(refuse(fact)) }
        };
        let mut facts = String::new();
        let mut text = |name: &str, fact: &'static str, value: &Option<String>, longest: &[(Bus, usize)]| {
            let Some(value) = value else { return Ok(()) };
            let room = longest.iter().find(|(bus, _)| *bus == self.bus).map_or(0, |(_, longest)| *longest);
            if value.is_empty() || value.len() > room {
                return Err(refuse(fact));
            }
            facts.push_str(&format!(",{name}={}", quoted(value)));
            Ok(())
        };
        let serials = [(Virtio, 20), (Nvme, 20), (Ahci, 20), (Usb, 20), (Scsi, 36)];
        text("serial", "this serial number", &self.serial, &serials)?;
        let model = if self.bus == Scsi { "product" } else { "model" };
        text(model, "this model", &self.model, &[(Ahci, 40), (Scsi, 16)])?;
        text("ver", "this revision", &self.revision, &[(Ahci, 8), (Scsi, 4)])?;
        if let Some(wwn) = self.wwn {
            can("a world-wide name", &[Ahci, Scsi])?;
            facts.push_str(&format!(",wwn={wwn:#x}"));
        }
        if let Some(removable) = self.removable.or((self.bus == Usb).then_some(true)) {
            can("a say whether its medium is removable", &[Usb, Scsi])?;
            facts.push_str(&format!(",removable={}", on_off(removable)));
        }
        if let Some(rate) = self.rotation_rate {
            can("a rotation rate", &[Ahci, Scsi])?;
            facts.push_str(&format!(",rotation_rate={rate}"));
        }
        if self.read_only {
            can("write protection", &[Virtio, Nvme, Usb, Scsi])?;
        }
        if self.hot_plug {
            can("hot plugging", &[Virtio, Nvme, Usb, Scsi])?;
        }
        if !self.faults.is_empty() && self.source.format() != Format::Raw {
            return Err(refuse("faults over a file that is not raw"));
        }
        if !self.discard {
            match self.bus {
                Virtio => facts.push_str(",discard=off"),
                Ahci | Usb | Scsi => facts.push_str(",discard_granularity=0"),
                Nvme | Sd | Bus::Disc => {}
            }
        }
        match self.sector_size {
            512 => {}
            4096 if self.bus.has_large_sectors() => {
                facts.push_str(",logical_block_size=4096,physical_block_size=4096");
            }
            sector_size => return Err(Error::SectorSize { bus: self.bus.name(), sector_size }),
        }
        Ok(facts)
    }

    /// Makes the disk's own files.
    pub(crate) fn prepare(&self, index: usize, folder: &Path) -> Result<(), Error> {
        match &self.source {
            Source::Image { path, .. } | Source::File { path, .. } => {
                File::open(path).map_err(|source| Error::Image { path: path.clone(), source })?;
            }
            Source::Larger { path, bytes } => create_larger(path, *bytes, &empty(index, folder))?,
            Source::Empty { bytes } => create_sparse(&empty(index, folder), *bytes)?,
        }
        if !self.faults.is_empty() {
            let path = faults(index, folder);
            let rules = fault::rules(&self.faults, self.sector_size)?;
            std::fs::write(&path, rules).map_err(Error::io("write", &path))?;
        }
        Ok(())
    }
}

/// Makes a file of this many bytes, all of them holes. One that was there is emptied first.
pub fn create_sparse(path: &Path, bytes: u64) -> Result<(), Error> {
    let file = File::create(path).map_err(Error::io("create", path))?;
    file.set_len(bytes).map_err(Error::io("make room in", path))
}

/// Makes a qcow2 file of `bytes` whose beginning is a raw image.
fn create_larger(image: &Path, bytes: u64, file: &Path) -> Result<(), Error> {
    let fault = |source| Error::Image { path: image.to_owned(), source };
    let least = File::open(image).and_then(|image| image.metadata()).map_err(fault)?.len();
    if bytes < least {
        return Err(Error::Smaller { path: image.to_owned(), image: least, disk: bytes });
    }
    let image = std::path::absolute(image).map_err(fault)?;
    let mut command = std::process::Command::new(IMAGE_PROGRAM);
    command.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]).arg(image).arg(file);
    let output = command.arg(bytes.to_string()).stdin(std::process::Stdio::null()).output();
    let output = output.map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::NoQemu { program: IMAGE_PROGRAM },
        _ => Error::Io { action: "start", path: IMAGE_PROGRAM.into(), source },
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::ImageProgram { said: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}

/// What QEMU calls disk number `index` of a machine, in `device_del` for example; its block device is `disk0`, `disk1`
/// and so on.
pub fn device_id(index: usize) -> String {
    format!("device{index}")
}

/// What QEMU calls the format layer of a disk, and the file below it. Names of disks are taken.
fn node(index: usize) -> String {
    format!("format{index}")
}

fn file_node(index: usize) -> String {
    format!("file{index}")
}

/// The file of an empty disk.
fn empty(index: usize, folder: &Path) -> PathBuf {
    folder.join(format!("disk{index}.img"))
}

/// The file of a disk's faults.
fn faults(index: usize, folder: &Path) -> PathBuf {
    folder.join(format!("disk{index}.faults"))
}
