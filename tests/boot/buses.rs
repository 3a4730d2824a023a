//! Where the disk hangs must not matter: one image comes up healthy from every bus that UEFI boots.

use crate::disks::{copy_to, folder};
use crate::nodes::{Site, large_sectors, machine, report, site};
use kiln_qemu::{Bus, Disk, Source, free_port};
use std::net::Ipv4Addr;

/// Boots the first node from a disk on this bus; the disk is larger than the image, as disks are.
fn boots(site: &Site, bus: Bus, sector_size: u32) {
    let folder = folder();
    // QEMU's cards have 2ⁿ bytes.
    let image = copy_to(&site.image("k3s1"), folder.path(), 4 << 30);
    let port = free_port().unwrap();
    let mut machine = machine(&image, Ipv4Addr::new(192, 168, 86, 71), port);
    machine.disks = vec![Disk { sector_size, ..Disk::new(Source::file(image), bus) }];
    let mut running = machine.start().unwrap();
    let report = report(&mut running);
    assert_eq!(report["state"], "running", "{} {sector_size}: {report:#}", bus.name());
    assert_eq!(report["failed_units"], serde_json::json!([]), "{} {sector_size}: {report:#}", bus.name());
}

#[test]
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
fn it_boots_from_sd() {
    boots(site(), Bus::Sd, 512);
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

#[test]
#[ignore = "a minute each under translation: `--ignored` runs them"]
fn large_sectors_boot_from_nvme() {
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
