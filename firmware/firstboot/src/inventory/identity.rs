//! What a disk says about itself: transport, model, vendor, serial number, WWN, and the names that udev makes of them
//! below /dev/disk/by-id (60-persistent-storage.rules of systemd 254, ata_id, scsi_id and usb_id). udev asks disks by
//! commands; what the kernel has asked them already is in sysfs, and is all that is used here: the ATA serial number
//! behind a USB bridge can't be told, for one.

use super::sysfs::{Device, printable};
use kiln_contract::machine::Transport;

/// Who a disk is.
#[derive(Debug, Default)]
pub(super) struct Identity {
    pub(super) model: String,
    pub(super) vendor: String,
    pub(super) serial: String,
    pub(super) wwn: String,
    pub(super) by_id: Vec<String>,
}

/// The way to a disk.
pub(super) fn transport(disk: &Device) -> Transport {
    let name = disk.name();
    match () {
        () if name.starts_with("nvme") => Transport::Nvme,
        () if name.starts_with("mmcblk") => Transport::Mmc,
        () if name.starts_with("vd") => Transport::Virtio,
        () if !name.starts_with("sd") => Transport::Other,
        () => scsi_transport(disk),
    }
}

fn scsi_transport(disk: &Device) -> Transport {
    let path = disk.path();
    let below = |prefix: &str| path.split('/').any(|part| part.starts_with(prefix));
    let is_ata_port = |part: &str| part.strip_prefix("ata").is_some_and(|rest| rest.parse::<u32>().is_ok());
    if disk.chain().any(|device| device.subsystem() == "usb") {
        Transport::Usb
    } else if below("rport-") {
        Transport::Fc
    } else if below("session") {
        Transport::Iscsi
    } else if below("end_device-") {
        Transport::Sas
    } else if path.split('/').any(is_ata_port) {
        Transport::Sata
    } else {
        Transport::Scsi
    }
}

impl Identity {
    /// Of a disk that is reached so.
    pub(super) fn of(disk: &Device, transport: Transport) -> Self {
        let mut identity = match transport {
            Transport::Nvme => nvme(disk),
            Transport::Virtio => virtio(disk),
            Transport::Mmc => mmc(disk),
            Transport::Usb => usb(disk),
            _ => scsi(disk),
        };
        for text in [&mut identity.model, &mut identity.vendor, &mut identity.serial, &mut identity.wwn] {
            *text = text.trim().to_owned();
        }
        identity.by_id.sort();
        identity.by_id.dedup();
        identity
    }
}

fn nvme(disk: &Device) -> Identity {
    let of_controller = |name: &str| {
        let text = disk.text(&format!("device/{name}"));
        if text.is_empty() { disk.nearest(name) } else { text }
    };
    let (model, serial, wwn) = (of_controller("model"), of_controller("serial"), disk.text("wwid"));
    let mut by_id = Vec::new();
    if !wwn.is_empty() {
        by_id.push(format!("nvme-{}", allowed(&collapse(&wwn))));
    }
    if !model.is_empty() && !serial.is_empty() {
        let both = format!("{model}_{serial}");
        if !both.contains('/') {
            by_id.push(format!("nvme-{}", allowed(&collapse(&both))));
        }
        by_id.push(format!("nvme-{}", allowed(&both)));
        let namespace = disk.text("nsid");
        if !namespace.is_empty() {
            by_id.push(format!("nvme-{}", allowed(&format!("{both}_{namespace}"))));
        }
    }
    Identity { model, serial, wwn, by_id, vendor: String::new() }
}

fn virtio(disk: &Device) -> Identity {
    let serial = disk.text("serial");
    let by_id =
        if serial.is_empty() { Vec::new() } else { vec![format!("virtio-{}", allowed(&collapse(&serial)))] };
    Identity { serial, by_id, ..Identity::default() }
}

fn mmc(disk: &Device) -> Identity {
    let (model, serial) = (disk.text("device/name"), disk.text("device/serial"));
    let named = !model.is_empty() && !serial.is_empty();
    let part = |text: &str| allowed(&collapse(text));
    let by_id = if named { vec![format!("mmc-{}_{}", part(&model), part(&serial))] } else { Vec::new() };
    Identity { model, serial, by_id, ..Identity::default() }
}

fn usb(disk: &Device) -> Identity {
    let (vendor, model) = (disk.text("device/vendor"), disk.text("device/model"));
    let bridge = disk.chain().find(|device| device.has("idVendor"));
    let of_bridge = |name: &str| bridge.as_ref().map(|bridge| bridge.text(name)).unwrap_or_default();
    // A serial number with other bytes is none (usb_id).
    let is_clean = |text: &String| {
        text.bytes().all(|byte| (0x20..=0x7f).contains(&byte) && byte != b',' && byte != b'?')
    };
    let serial = Some(of_bridge("serial")).filter(is_clean).unwrap_or_default();
    let or = |text: &str, other: &str, id: &str| {
        [text.to_owned(), of_bridge(other), of_bridge(id)].into_iter().find(|text| !text.is_empty())
    };
    let name_part = |text: Option<String>| allowed(&collapse(&text.unwrap_or_default()));
    let mut id = name_part(or(&vendor, "manufacturer", "idVendor"));
    id = format!("usb-{id}_{}", name_part(or(&model, "product", "idProduct")));
    if !serial.is_empty() {
        id = format!("{id}_{}", allowed(&collapse(&serial)));
    }
    // Some bridges give one identifier to all their disks: target and unit are part of the name.
    let address = disk.chain().map(|device| device.name()).find(|name| name.split(':').count() == 4);
    if let Some([_, _, target, unit]) =
        address.as_deref().map(|name| name.split(':').collect::<Vec<_>>()).as_deref()
    {
        id = format!("{id}-{target}:{unit}");
    }
    Identity { model, vendor, serial, wwn: String::new(), by_id: vec![id] }
}

fn scsi(disk: &Device) -> Identity {
    let (vendor, model) = (disk.text("device/vendor"), disk.text("device/model"));
    let (page80, page83) = (disk.bytes("device/vpd_pg80"), disk.bytes("device/vpd_pg83"));
    let unit_serial = printable(page80.get(4..).unwrap_or_default());
    let designators = designators(&page83);
    let wwn = designators.iter().filter(|one| one.kind == NAA).map(Designator::hex).max_by_key(String::len);
    let wwn = wwn.map(|hex| format!("0x{hex}")).unwrap_or_default();
    let mut by_id = Vec::new();
    if !wwn.is_empty() {
        by_id.push(format!("wwn-{wwn}"));
    }
    if vendor.trim() == "ATA" {
        // The kernel, like every SCSI adapter, puts an ATA disk's words into page 83 (SAT-3, 10.3.4.2.3).
        let words = designators.iter().find_map(Designator::ata);
        let (model, serial) = words.unwrap_or((model, unit_serial));
        if !serial.trim().is_empty() {
            by_id.push(format!("ata-{}_{}", allowed(&collapse(&model)), allowed(&collapse(&serial))));
        }
        return Identity { model, vendor, serial, wwn, by_id };
    }
    let best = PRIORITY.iter().find_map(|wanted| designators.iter().find(|one| one.is(*wanted)));
    let padded = || format!("{vendor:<8}{model:<16}");
    let (id, short) = match best {
        Some(one) if one.kind == VENDOR_SPECIFIC => (format!("0{}{}", padded(), one.value()), one.value()),
        Some(one) => (format!("{:x}{}", one.kind, one.value()), one.value()),
        None if !unit_serial.trim().is_empty() => {
            (format!("S{}{unit_serial}", padded()), unit_serial.clone())
        }
        None => (String::new(), String::new()),
    };
    if !id.is_empty() {
        by_id.push(format!("scsi-{}", allowed(&collapse(&id))));
    }
    let serial = if unit_serial.trim().is_empty() { short } else { unit_serial };
    Identity { model, vendor, serial, wwn, by_id }
}

/// Types of designators (SPC-5, table 494).
const VENDOR_SPECIFIC: u8 = 0;
const T10: u8 = 1;
const EUI64: u8 = 2;
const NAA: u8 = 3;
/// Code sets of designators (SPC-5, table 490).
const BINARY: u8 = 1;
const ASCII: u8 = 2;

/// In which order scsi_id takes them: type, NAA of it (SPC-5, table 502), code set.
const PRIORITY: [(u8, Option<u8>, u8); 12] = [
    (NAA, Some(6), BINARY),
    (NAA, Some(6), ASCII),
    (NAA, Some(5), BINARY),
    (NAA, Some(5), ASCII),
    (NAA, None, BINARY),
    (NAA, None, ASCII),
    (EUI64, None, BINARY),
    (EUI64, None, ASCII),
    (T10, None, BINARY),
    (T10, None, ASCII),
    (VENDOR_SPECIFIC, None, BINARY),
    (VENDOR_SPECIFIC, None, ASCII),
];

/// A descriptor of VPD page 83 that is about the logical unit.
struct Designator {
    code_set: u8,
    kind: u8,
    bytes: Vec<u8>,
}

impl Designator {
    fn is(&self, (kind, naa, code_set): (u8, Option<u8>, u8)) -> bool {
        let own = self.bytes.first().map(|byte| byte >> 4);
        self.kind == kind && self.code_set == code_set && (naa.is_none() || naa == own)
    }

    fn hex(&self) -> String {
        self.bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn value(&self) -> String {
        if self.code_set == ASCII { printable(&self.bytes) } else { self.hex() }
    }

    /// Model and serial number of an ATA disk.
    fn ata(&self) -> Option<(String, String)> {
        let rest = self.bytes.strip_prefix(b"ATA     ").filter(|_| self.kind == T10)?;
        Some((printable(rest.get(..40)?), printable(rest.get(40..)?)))
    }
}

/// The logical unit's designators in VPD page 83 (SPC-5, 7.7.6). A page that claims more than it has ends early.
fn designators(page: &[u8]) -> Vec<Designator> {
    let mut rest = page.get(4..).unwrap_or_default();
    let mut found = Vec::new();
    while let [code_set, kind, _, length, tail @ ..] = rest {
        let Some((bytes, tail)) = tail.split_at_checked(usize::from(*length)) else { break };
        if kind & 0x30 == 0 && !bytes.is_empty() {
            found.push(Designator { code_set: code_set & 0xf, kind: kind & 0xf, bytes: bytes.to_vec() });
        }
        rest = tail;
    }
    found
}

/// Blanks at the ends gone, blanks within an underscore (udev's replace_whitespace).
fn collapse(text: &str) -> String {
    text.split_ascii_whitespace().collect::<Vec<_>>().join("_")
}

/// Whatever a udev name may not hold is an underscore (udev's replace_chars).
fn allowed(text: &str) -> String {
    let may =
        |letter: char| letter.is_ascii_alphanumeric() || "#+-.:=@_".contains(letter) || !letter.is_ascii();
    text.chars().map(|letter| if may(letter) { letter } else { '_' }).collect()
}
