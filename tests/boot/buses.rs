//! Where the disk hangs must not matter: one image comes up healthy from every bus that UEFI boots.

use crate::direct::kernel;
use crate::disks::{copy_to, folder};
use crate::nodes::{Site, large_sectors, machine, report, site};
use kiln_qemu::{Bus, Disk, Machine, Source, free_port};
use kiln_tests::{root_or_skip, said as said_by, succeed, tool};
use std::net::Ipv4Addr;
use std::path::Path;

/// The first node on a disk on this bus; the disk is larger than the image, as disks are.
fn node(site: &Site, folder: &Path, bus: Bus, sector_size: u32) -> Machine {
    // QEMU's cards have 2ⁿ bytes.
    let image = copy_to(&site.image("k3s1"), folder, 4 << 30);
    let mut machine = machine(&image, Ipv4Addr::new(192, 168, 86, 71), free_port().unwrap());
    machine.disks = vec![Disk { sector_size, ..Disk::new(Source::file(image), bus) }];
    machine
}

/// Boots a machine to its report, which must be a healthy one.
fn healthy(machine: &Machine) {
    let mut running = machine.start().unwrap();
    let report = report(&mut running);
    assert_eq!(report["state"], "running", "{report:#}");
    assert_eq!(report["failed_units"], serde_json::json!([]), "{report:#}");
}

fn boots(site: &Site, bus: Bus, sector_size: u32) {
    let folder = folder();
    healthy(&node(site, folder.path(), bus, sector_size));
}

#[test]
#[ignore = "a minute each under translation: `--ignored` runs them"]
fn it_boots_from_nvme() {
    boots(site(), Bus::Nvme, 512);
}

#[test]
fn it_boots_from_scsi() {
    boots(site(), Bus::Scsi, 512);
}

#[test]
#[ignore = "a minute each under translation: `--ignored` runs them"]
fn it_boots_from_ahci() {
    boots(site(), Bus::Ahci, 512);
}

#[test]
#[ignore = "a minute each under translation: `--ignored` runs them"]
fn it_boots_from_usb() {
    boots(site(), Bus::Usb, 512);
}

#[test]
#[ignore = "a minute each under translation: `--ignored` runs them"]
fn it_runs_from_sd() {
    // Debian's build of UEFI for QEMU does not find QEMU's cards: the kernel is loaded past it.
    let folder = folder();
    let machine = node(site(), folder.path(), Bus::Sd, 512);
    healthy(&Machine { kernel: Some(kernel("k3s1", folder.path())), ..machine });
}

#[test]
#[ignore = "a minute each under translation: `--ignored` runs them"]
fn it_boots_from_virtio_that_stays() {
    boots(site(), Bus::Virtio, 512);
}

#[test]
#[ignore = "a minute each under translation: `--ignored` runs them"]
fn large_sectors_boot_from_virtio() {
    boots(large_sectors(), Bus::Virtio, 4096);
}

/// What others say of the image on a device with sectors of 4096 bytes: both tables, and each file system in its partition.
fn judged(site: &Site) {
    if !root_or_skip("a loop device with sectors of 4096 bytes") {
        return;
    }
    let attach = |arguments: &[&str]| {
        let sectors = ["--find", "--show", "--read-only", "--sector-size", "4096"];
        let mut losetup = tool("losetup", "mount");
        succeed(losetup.args(sectors).args(arguments).arg(site.image("k3s1"))).trim().to_owned()
    };
    let detach = |device: &str| succeed(tool("losetup", "mount").args(["--detach", device]));
    let whole = attach(&[]);
    let judgements = [("sgdisk", "gdisk", "-v"), ("sfdisk", "fdisk", "--verify")];
    let said = judgements.map(|(name, package, word)| succeed(tool(name, package).args([word, &whole])));
    detach(&whole);
    assert!(said[0].contains("No problems found") && said[1].contains("No errors detected"), "{said:?}");
    let described = site.described("k3s1");
    for partition in described["disk"]["partitions"].as_array().unwrap() {
        let place = |key: &str| partition[key].as_u64().unwrap().to_string();
        let device = attach(&["--offset", &place("start"), "--sizelimit", &place("size")]);
        let output = match partition["name"].as_str().unwrap() {
            "ESP" | "CIDATA" => tool("fsck.fat", "dosfstools").args(["-n", &device]).output(),
            _ => tool("e2fsck", "e2fsprogs").args(["-fn", &device]).output(),
        };
        detach(&device);
        let output = output.unwrap();
        assert!(output.status.success(), "{partition}: {}", said_by(&output));
    }
}

/// NVMe and large sectors at once: small ones are booted from SCSI and virtio.
#[test]
fn large_sectors_boot_from_nvme() {
    judged(large_sectors());
    boots(large_sectors(), Bus::Nvme, 4096);
}

#[test]
#[ignore = "a minute each under translation: `--ignored` runs them"]
fn large_sectors_boot_from_usb() {
    boots(large_sectors(), Bus::Usb, 4096);
}

#[test]
#[ignore = "a minute each under translation: `--ignored` runs them"]
fn large_sectors_boot_from_scsi() {
    boots(large_sectors(), Bus::Scsi, 4096);
}
