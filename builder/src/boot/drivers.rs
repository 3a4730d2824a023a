//! Which kernel modules the initramfs carries: what a machine needs to reach the disk that it was booted from, to
//! mount what is on it, and to take a key press when that fails. Drivers for everything else load from the root.

use super::Program;
use kiln_contract::encryption;

/// Directories below `kernel/` of which every module is taken, those in deeper directories not.
pub(super) const DIRECTORIES: &[&str] = &[
    // SATA and PATA controllers of every make: small, and nobody knows which one an old board has.
    "drivers/ata",
    "drivers/nvme/host",
    "drivers/usb/host",
    "drivers/usb/storage",
    "drivers/mmc/core",
    "drivers/mmc/host",
    "drivers/ufs/host",
    "fs/efivarfs",
    "fs/ext4",
    "fs/overlayfs",
];

/// Modules by name, wherever they are. A kernel that lacks one has it built in, or never had it.
pub(super) const NAMES: &[&str] = &[
    // Disks and the ways to them.
    "sd_mod",
    "vmd",
    "mtip32xx",
    "virtio_pci",
    "virtio_mmio",
    "virtio_blk",
    "virtio_scsi",
    // Where the first boot tells its steps.
    "virtio_console",
    "xen_blkfront",
    "xen_scsifront",
    "hv_vmbus",
    "hv_storvsc",
    "pci_hyperv",
    "vmw_pvscsi",
    "BusLogic",
    "mptspi",
    "mptsas",
    // RAID and SAS host bus adapters.
    "3w_9xxx",
    "3w_sas",
    "3w_xxxx",
    "aacraid",
    "aic79xx",
    "aic7xxx",
    "aic94xx",
    "arcmsr",
    "esas2r",
    "hpsa",
    "hptiop",
    "ips",
    "isci",
    "megaraid_mbox",
    "megaraid_sas",
    "mpi3mr",
    "mpt3sas",
    "mvsas",
    "mvumi",
    "myrb",
    "myrs",
    "pm80xx",
    "pmcraid",
    "smartpqi",
    "stex",
    "sym53c8xx",
    // Card readers that laptops and small boards boot from.
    "rtsx_pci",
    "rtsx_usb",
    // The port on which the host of a virtual machine is told the steps of the boot.
    "virtio_console",
    // A keyboard to answer the failure screen with.
    "usbhid",
    "hid_generic",
    "hid_hyperv",
    "hyperv_keyboard",
    // Mounting: FAT asks for its code page by name, ext4 for its checksum.
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "nls_utf8",
    "nls_iso8859_1",
    "crc32c_generic",
    "crc32c_intel",
];

/// Modules of those directories that reach no disk of this machine.
pub(super) const EXCEPT: &[&str] = &[
    // Disks across a network, which nothing has configured in the initramfs.
    "nvme_tcp",
    "nvme_rdma",
    "nvme_fc",
    "nvme_fabrics",
    // Answers to addresses that other hardware may be behind.
    "pata_legacy",
    // PCMCIA.
    "pata_pcmcia",
    "sdricoh_cs",
    "sl811_cs",
];

/// Modules that a program asked for needs.
pub(super) const fn of(program: Program) -> &'static [&'static str] {
    match program {
        Program::Xfs => &["xfs", "libcrc32c"],
        Program::Luks => encryption::MODULES,
        Program::Tpm2 => encryption::TPM_MODULES,
    }
}
