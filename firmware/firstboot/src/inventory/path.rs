//! The names that udev gives a disk below /dev/disk/by-path: where it is attached, from the disk outwards to the
//! machine (systemd's path_id builtin; checked against udev 254).

use super::sysfs::Device;

/// The path as it is put together; the two forms differ for ATA and USB only.
#[derive(Default)]
struct Paths {
    /// `ID_PATH`.
    now: String,
    /// `ID_PATH_ATA_COMPAT` and `ID_PATH_WITH_USB_REVISION`.
    other: String,
    /// A bus of which places tell disks apart.
    transport: bool,
    /// Something that stays where it is.
    anchor: bool,
}

impl Paths {
    fn prepend(&mut self, now: &str) {
        self.prepend_both(now, now);
    }

    fn prepend_both(&mut self, now: &str, other: &str) {
        for (path, part) in [(&mut self.now, now), (&mut self.other, other)] {
            *path = if path.is_empty() { part.to_owned() } else { format!("{part}-{path}") };
        }
    }
}

/// The disk's path and its other name, if it has one; nothing when its place can't be told.
pub(super) fn of(disk: &Device) -> Vec<String> {
    let mut paths = Paths::default();
    let mut at = Some(disk.clone());
    while let Some(device) = at {
        let outermost = step(disk, &device, &mut paths);
        at = outermost.parent();
    }
    if paths.now.is_empty() || !paths.anchor || !paths.transport {
        return Vec::new();
    }
    let mut all = vec![paths.now, paths.other];
    all.dedup();
    all
}

/// What `device` adds, and the outermost device that this covers.
fn step(disk: &Device, device: &Device, paths: &mut Paths) -> Device {
    let name = device.name();
    let subsystem = device.subsystem();
    match &*subsystem {
        "scsi" => {
            paths.transport = true;
            scsi(device, paths);
            return device.clone();
        }
        "usb" => {
            let Some((_, port)) = name.split_once('-') else { return device.clone() };
            paths.transport = true;
            let version = device.nearest("version");
            let revision = version.trim().split('.').next().unwrap_or_default().to_owned();
            paths.prepend_both(&format!("usb-0:{port}"), &format!("usbv{revision}-0:{port}"));
        }
        "virtio" => paths.transport = true,
        "pci" | "acpi" | "xen" => {
            paths.prepend(&format!("{subsystem}-{name}"));
            paths.anchor = true;
        }
        "platform" => {
            paths.prepend(&format!("platform-{name}"));
            (paths.anchor, paths.transport) = (true, true);
        }
        "nvme" | "nvme-subsystem" => {
            let namespace = disk.text("nsid");
            if namespace.is_empty() {
                return device.clone();
            }
            paths.prepend(&format!("nvme-{namespace}"));
            (paths.anchor, paths.transport) = (true, true);
            // A namespace that may have several paths lies beside the controllers: that of its own number counts.
            if subsystem == "nvme-subsystem" {
                let controller = disk.name().rsplit_once('n').map(|(controller, _)| controller.to_owned());
                return controller
                    .and_then(|name| disk.of_class("nvme", &name))
                    .unwrap_or_else(|| device.clone());
            }
        }
        _ => return device.clone(),
    }
    // Bridges and hubs between the device and its root are not named.
    let same = device.chain().take_while(|outer| outer.subsystem() == subsystem);
    same.last().unwrap_or_else(|| device.clone())
}

/// Only a SCSI device itself has an address; its target and its host add nothing.
fn scsi(device: &Device, paths: &mut Paths) {
    let name = device.name();
    let address: Vec<u64> = name.split(':').filter_map(|number| number.parse().ok()).collect();
    let [host, bus, target, unit] = address[..] else { return };
    let outer = |prefix: &str| device.chain().find(|outer| outer.name().starts_with(prefix));
    if outer("rport-").is_some() {
        let target =
            device.parent().map(|target| target.text(&format!("fc_transport/{}/port_name", target.name())));
        paths.anchor = true;
        paths.prepend(&format!("fc-{}-{}", target.unwrap_or_default(), lun(unit)));
    } else if let Some(end) = outer("end_device-") {
        paths.anchor = true;
        paths.prepend(&sas(&end, unit));
    } else if let Some(session) = outer("session") {
        let name = session.name();
        let number = name.trim_start_matches("session");
        let target = session.text(&format!("iscsi_session/{name}/targetname"));
        let connection = format!("connection{number}:0");
        let of = |what: &str| session.text(&format!("{connection}/iscsi_connection/{connection}/{what}"));
        let (address, port) = (of("persistent_address"), of("persistent_port"));
        paths.anchor = true;
        paths.prepend(&format!("ip-{address}:{port}-iscsi-{target}-{}", lun(unit)));
    } else if let Some(number) = device.chain().find_map(|outer| ata_port(&outer)) {
        // Behind a port multiplier the bus tells, on parallel ATA the target (master or slave).
        let now = if bus == 0 { format!("ata-{number}.{target}") } else { format!("ata-{number}.{bus}.0") };
        paths.prepend_both(&now, &format!("ata-{number}"));
    } else {
        // Hosts are numbered as they are found; within their controller they stay in order.
        let controller = outer("host").and_then(|host| host.parent());
        let hosts = controller.map(|controller| controller.entries()).unwrap_or_default();
        let numbers = hosts.iter().filter_map(|name| name.strip_prefix("host")?.parse::<u64>().ok());
        let first = numbers.min().unwrap_or(host);
        paths.prepend(&format!("scsi-{}:{bus}:{target}:{unit}", host.saturating_sub(first)));
    }
}

fn ata_port(device: &Device) -> Option<String> {
    let name = device.name();
    name.strip_prefix("ata")?.parse::<u32>().ok()?;
    Some(device.text(&format!("ata_port/{name}/port_no"))).filter(|number| !number.is_empty())
}

/// A disk on its own phy is named by that, one on a wide port by its own address.
fn sas(end: &Device, unit: u64) -> String {
    let of_end = |what: &str| end.text(&format!("sas_device/{}/{what}", end.name()));
    let Some(port) = end.parent() else { return String::new() };
    if port.text(&format!("sas_port/{}/num_phys", port.name())) != "1" {
        return format!("sas-{}-{}", of_end("sas_address"), lun(unit));
    }
    let phy = of_end("phy_identifier");
    let expander = port.parent().map(|outer| outer.text(&format!("sas_device/{}/sas_address", outer.name())));
    match expander.filter(|address| !address.is_empty()) {
        Some(address) => format!("sas-exp{address}-phy{phy}-{}", lun(unit)),
        None => format!("sas-phy{phy}-{}", lun(unit)),
    }
}

/// Linux packs the first four bytes of a LUN into one number (scsilun_to_int).
fn lun(unit: u64) -> String {
    if unit < 256 {
        format!("lun-{unit}")
    } else {
        format!("lun-0x{:04x}{:04x}00000000", unit & 0xffff, unit >> 16 & 0xffff)
    }
}
