//! The machine's disks as [`Machine`], from sysfs: there is no udev in the initramfs. What is on them is asked of
//! blkid, and only of those that somebody wants to know about.

mod content;
mod identity;
mod path;
mod sysfs;

use crate::block::Block;
use identity::Identity;
use kiln_contract::machine::{self, Content, Disk, Machine, Table, Transport};
use kiln_formats::gpt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use sysfs::Device;

/// A disk that has not answered by then hangs: longer than a platter needs to spin up, and than one retry of the
/// kernel's (30 s).
const PATIENCE: Duration = Duration::from_secs(45);

/// Sizes of sectors that disks have (bytes).
const SECTORS: [u32; 2] = [512, 4096];

pub(crate) use content::{BLKID, written};

/// True when there is a blkid to ask what is on disks.
pub(crate) fn can_probe() -> bool {
    Path::new(BLKID).exists()
}

/// All whole disks with a medium, sorted by name, with their partition tables. `sysfs` is /sys, `dev` is /dev, or both
/// are recorded; `booted` is the kernel name of the disk that the machine was booted from. What is on the disks is
/// not known yet: their content is [`Content::Unreadable`] until [`probe`] has looked.
pub(crate) fn machine(sysfs: &Path, dev: &Path, booted: Option<&str>) -> Machine {
    let mut names: Vec<String> = fs::read_dir(sysfs.join("class/block"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    names.sort();
    let mut disks: Vec<Disk> = names.iter().filter_map(|name| disk(sysfs, name)).collect();
    for disk in &mut disks {
        disk.booted = booted == Some(&*disk.name);
    }
    let mut machine = Machine { version: machine::VERSION, product: product(sysfs), disks };
    read_tables(&mut machine, dev);
    machine
}

fn read_tables(machine: &mut Machine, dev: &Path) {
    let jobs: Vec<_> = machine
        .disks
        .iter()
        .map(|disk| (dev.join(&disk.name), disk.sector_size, disk.size))
        .map(|(device, sector, size)| move || table(&device, sector, size))
        .collect();
    for (disk, table) in machine.disks.iter_mut().zip(all(jobs)) {
        match table {
            Some(table) => disk.table = table,
            None => disk.content = Content::Unreadable(no_answer()),
        }
    }
}

/// Looks at what is on the disks of these names.
pub(crate) fn probe(machine: &mut Machine, dev: &Path, names: &[String]) {
    let mut wanted: Vec<&mut Disk> =
        machine.disks.iter_mut().filter(|disk| names.contains(&disk.name)).collect();
    let jobs: Vec<_> = wanted
        .iter()
        .map(|disk| {
            let partitions =
                disk.table.iter().flat_map(|table| &table.partitions).map(|partition| partition.number);
            let numbers: Vec<u32> = partitions.collect();
            let (device, size) = (dev.join(&disk.name), disk.size);
            move || content::of(&device, size, &numbers)
        })
        .collect();
    for (disk, content) in wanted.iter_mut().zip(all(jobs)) {
        disk.content = content.unwrap_or_else(|| Content::Unreadable(no_answer()));
    }
}

/// One disk as it is at this moment, with what is on it; nothing when it has gone.
pub(crate) fn look(sysfs: &Path, dev: &Path, name: &str) -> Option<Disk> {
    let disks = vec![disk(sysfs, name)?];
    let mut machine = Machine { version: machine::VERSION, product: String::new(), disks };
    read_tables(&mut machine, dev);
    probe(&mut machine, dev, &[name.to_owned()]);
    machine.disks.pop()
}

fn no_answer() -> String {
    format!("it did not answer within {} s", PATIENCE.as_secs())
}

/// What each job gives, all done at once; nothing for those that take longer than [`PATIENCE`]. Their threads stay
/// behind in the kernel, where nothing can end them.
fn all<T: Send + 'static>(jobs: Vec<impl FnOnce() -> T + Send + 'static>) -> Vec<Option<T>> {
    let deadline = Instant::now() + PATIENCE;
    let receivers: Vec<_> = jobs
        .into_iter()
        .map(|job| {
            let (sender, receiver) = channel();
            std::thread::spawn(move || sender.send(job()));
            receiver
        })
        .collect();
    receivers
        .into_iter()
        .map(|receiver| receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok())
        .collect()
}

fn disk(sysfs: &Path, name: &str) -> Option<Disk> {
    let device = Device::of_block(sysfs, name)?;
    // Loops, mapped devices, arrays and memory are made of something else; the paths of a multipath NVMe namespace are
    // hidden, and the namespace itself is virtual. An eMMC's boot areas and key store are no disks to put data on.
    let is_virtual = device.path().starts_with("/devices/virtual/") && device.nearest("nsid").is_empty();
    let is_area = name.starts_with("mmcblk") && (name.contains("boot") || name.contains("rpmb"));
    let is_medium = ["sr", "fd"].iter().any(|prefix| {
        name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|next: char| next.is_ascii_digit()))
    });
    if is_virtual || is_area || is_medium || device.has("partition") || device.text("hidden") == "1" {
        return None;
    }
    // sysfs counts in 512-byte units whatever the disk's sectors are.
    let size = device.text("size").parse::<u64>().ok()?.checked_mul(512).filter(|size| *size != 0)?;
    let transport = identity::transport(&device);
    let Identity { model, vendor, serial, wwn, by_id } = Identity::of(&device, transport);
    let mut paths = path::of(&device).into_iter();
    let is_card = transport == Transport::Mmc && device.text("device/type") == "SD";
    Some(Disk {
        name: name.to_owned(),
        size,
        sector_size: device.text("queue/logical_block_size").parse().unwrap_or(512),
        booted: false,
        read_only: device.text("ro") == "1",
        removable: device.text("removable") == "1" || transport == Transport::Usb || is_card,
        rotational: rotational(&device, transport),
        transport,
        model,
        vendor,
        serial,
        wwn,
        by_id,
        path: paths.next().unwrap_or_default(),
        other_paths: paths.collect(),
        content: Content::Unreadable("it was not looked at".to_owned()),
        table: None,
    })
}

/// The kernel takes a disk that does not tell for one that spins; VPD page b1 has the word of those that do (SBC-4,
/// 6.6.2: rotation rate in bytes 4 and 5, 0 for unknown, 1 for none).
fn rotational(device: &Device, transport: Transport) -> Option<bool> {
    let page = device.bytes("device/vpd_pgb1");
    let told = page.get(4..6).is_some_and(|rate| rate > &[0, 1][..]);
    match &*device.text("queue/rotational") {
        "0" => Some(false),
        "1" if told || transport == Transport::Sata => Some(true),
        _ => None,
    }
}

/// The GUID partition table, when there is one and the disk can be read. A bridge may show sectors of another size than the
/// disk was divided with.
fn table(device: &Path, sector_size: u32, size: u64) -> Option<Table> {
    let disk = Block::open(device, size).ok()?;
    let others = SECTORS.into_iter().filter(|other| *other != sector_size);
    let read = |sector| gpt::read(&disk, sector).ok();
    let found = read(sector_size).or_else(|| others.into_iter().find_map(read))?.table;
    let sector = found.sector_size;
    let partitions = found.partitions.iter().map(|partition| machine::Partition {
        number: partition.number,
        kind: partition.type_guid,
        guid: partition.guid,
        label: sysfs::printable(partition.name.as_bytes()),
        start: partition.offset(sector),
        size: partition.size(sector),
    });
    let partitions = partitions.collect();
    Some(Table {
        disk_guid: found.disk_guid,
        partitions,
        sector_size: (sector != sector_size).then_some(sector),
    })
}

/// What firmware calls the machine: DMI on PCs, the device tree on boards.
fn product(sysfs: &Path) -> String {
    let text =
        |path: &str| sysfs::printable(&fs::read(sysfs.join(path)).unwrap_or_default()).trim().to_owned();
    let parts = [text("class/dmi/id/sys_vendor"), text("class/dmi/id/product_name")];
    let product =
        parts.iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join(" ");
    if product.is_empty() { text("firmware/devicetree/base/model") } else { product }
}

/// Kernel name of the disk under a partition or mapped device, as far as there is a single one.
pub(crate) fn whole_disk(sysfs: &Path, name: &str) -> Option<String> {
    let directory: PathBuf = fs::canonicalize(sysfs.join("class/block").join(name)).ok()?;
    if directory.join("partition").exists() {
        return directory.parent()?.file_name().map(|name| name.to_string_lossy().into_owned());
    }
    let below: Vec<_> = fs::read_dir(directory.join("slaves")).into_iter().flatten().flatten().collect();
    match &below[..] {
        [] => Some(name.to_owned()),
        [only] => whole_disk(sysfs, &only.file_name().to_string_lossy()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
