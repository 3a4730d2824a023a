//! What an image boots with: systemd-boot, and one unified kernel image of kernel, command line, microcode and an
//! initramfs of our own. Pure: a finished root and options in, the tree of the ESP out.

mod drivers;
pub mod helper;
mod initramfs;
mod kernel;
mod microcode;
mod modules;
mod programs;

use kiln_formats::tree::{Content, Entry, Kind, Tree};
use kiln_formats::{cpio, path, uki};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The command line of every image. The last console is /dev/console; both are listened to. `ro`: the root is never
/// remounted for writing. `gpt`: when power fails while the helper writes the first partition table, the kernel takes
/// the second one at the disk's end, which it does only when told (Linux, block/partitions/efi.c, `force_gpt`).
/// `systemd.gpt_auto=no`: what is mounted is the helper's decision alone. `systemd.ssh_auto=no`: sshd listens where the
/// image says, not on sockets of a hypervisor. `panic=30`: a kernel that panics tries again, as nobody may be near.
const COMMAND_LINE: &str =
    "ro gpt console=tty0 console=ttyS0,115200n8 loglevel=4 panic=30 systemd.gpt_auto=no systemd.ssh_auto=no";

/// systemd-boot's and its stub's files, in Debian's package systemd-boot-efi.
const LOADER: &str = "usr/lib/systemd/boot/efi/systemd-bootx64.efi";
const STUB: &str = "usr/lib/systemd/boot/efi/linuxx64.efi.stub";

/// What can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Name of the kernel image without suffix: `kiln` gives `EFI/Linux/kiln+3.efi`.
    pub name: String,
    /// Words after the built-in command line.
    pub command_line: Vec<String>,
    /// How often the loader tries an image that never reported itself healthy before it is the last choice
    /// (systemd's Automatic Boot Assessment); nothing turns counting off.
    pub tries: Option<u8>,
    /// Seconds that the loader's menu waits.
    pub menu_seconds: u32,
    /// What the initramfs carries beside the programs that every first boot runs.
    pub programs: BTreeSet<Program>,
    /// Threads to work with; the bytes are the same for any number.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "kiln".to_owned(),
            command_line: Vec::new(),
            tries: Some(3),
            menu_seconds: 3,
            programs: BTreeSet::new(),
            threads: 1,
        }
    }
}

/// A group of programs, with their files and kernel modules, that an initramfs carries when asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// Making xfs file systems and mounting them; Debian's package xfsprogs.
    Xfs,
    /// Formatting and opening LUKS volumes; cryptsetup-bin.
    Luks,
    /// Opening LUKS volumes, and enrolling their keys, with the machine's TPM; systemd-cryptsetup. Of use with
    /// [`Program::Luks`] only.
    Tpm2,
}

/// The boot chain of an image.
#[derive(Debug)]
pub struct Boot {
    /// What the ESP holds.
    pub esp: Tree,
    /// What image.json says of it.
    pub facts: Facts,
}

/// Figures and choices of a boot chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// `uname -r` of the kernel.
    pub kernel_release: String,
    /// The whole kernel command line.
    pub command_line: String,
    /// Path of the unified kernel image on the ESP.
    pub kernel_image: String,
    /// Its size in bytes.
    pub kernel_image_bytes: u64,
    /// Size of the packed initramfs in bytes.
    pub initramfs_bytes: u64,
    /// Size of the initramfs in memory, in bytes.
    pub initramfs_unpacked_bytes: u64,
    /// Size of the microcode archive in bytes; 0 when there is none.
    pub microcode_bytes: u64,
    /// Number of kernel modules in the initramfs.
    pub modules: usize,
    /// Firmware files in the initramfs, as modules name them.
    pub firmware: Vec<String>,
    /// Programs in the initramfs, as paths below its root.
    pub programs: Vec<String>,
}

/// Why there is no boot chain.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No release with modules.
    #[error(
        "the root holds no kernel: there is no {}/<release>/kernel; add the package linux-image-amd64",
        kernel::MODULES
    )]
    NoKernel,
    /// More than one.
    #[error("the root holds {} kernels ({}): keep one of their packages", .0.len(), .0.join(", "))]
    SeveralKernels(Vec<String>),
    /// A file that a package should have brought.
    #[error("the root holds no {path}: add the package {package}")]
    Missing {
        /// Where it should be.
        path: String,
        /// Debian's package that has it.
        package: &'static str,
    },
    /// A program or a library needs a library that is not where the dynamic loader looks.
    #[error(
        "the root holds no {library}, which {needed_by} needs: the package {package} depends on the one that has it"
    )]
    Library {
        /// Its soname, or its path.
        library: String,
        /// Path of the file that needs it.
        needed_by: String,
        /// Debian's package of the program that all began with.
        package: &'static str,
    },
    /// A program is none.
    #[error("{path} is no program for amd64: reinstall the package {package}")]
    NoProgram {
        /// The file.
        path: String,
        /// Debian's package that has it.
        package: &'static str,
    },
    /// depmod's output is missing or not text.
    #[error("{0} is missing or not text: the module index must be made before the boot chain")]
    NoIndex(String),
    /// A file of the root can't be read or unpacked.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// What failed.
        source: std::io::Error,
    },
    /// The archive can't be made.
    #[error("initramfs: {0}")]
    Cpio(#[from] cpio::WriteError),
    /// The kernel image can't be made.
    #[error("unified kernel image: {0}")]
    Uki(#[from] uki::AssembleError),
}

/// Makes the boot chain of a finished root.
pub fn assemble(root: &Tree, options: &Options) -> Result<Boot, Error> {
    let kernel = kernel::choose(root)?;
    let microcode = microcode::build(root)?;
    let initramfs = initramfs::build(root, &kernel.release, options)?;
    let command_line = command_line(options);
    let needed = |path: &str| {
        let missing = || Error::Missing { path: path.to_owned(), package: "systemd-boot-efi" };
        file(root, path)
            .ok_or_else(missing)?
            .read()
            .map_err(|source| Error::Read { path: path.to_owned(), source })
    };

    let os_release = file(root, "usr/lib/os-release").cloned();
    let text = |text: &str| Some(Content::bytes(text.as_bytes()));
    let facts = Facts {
        kernel_image: kernel_image(options),
        kernel_image_bytes: 0,
        initramfs_bytes: initramfs.packed.len() as u64,
        initramfs_unpacked_bytes: initramfs.unpacked_bytes,
        microcode_bytes: microcode.as_ref().map_or(0, |archive| archive.len() as u64),
        modules: initramfs.modules,
        firmware: initramfs.firmware,
        programs: initramfs.programs,
        kernel_release: kernel.release,
        command_line,
    };
    let sections = [
        (".osrel", os_release),
        (".cmdline", text(&facts.command_line)),
        (".uname", text(&facts.kernel_release)),
        (".ucode", microcode.map(Content::bytes)),
        (".initrd", Some(Content::bytes(initramfs.packed))),
        (".linux", Some(kernel.image)),
    ];
    let sections: Vec<_> = sections
        .into_iter()
        .filter_map(|(name, content)| Some(uki::Section { name, content: content? }))
        .collect();
    let mut image = Vec::new();
    let kernel_image_bytes = uki::assemble(&needed(STUB)?, &sections, &mut image)?;

    let loader = needed(LOADER)?;
    let conf = format!("timeout {}\neditor no\n", options.menu_seconds);
    let files = [
        ("EFI/BOOT/BOOTX64.EFI", loader.clone()),
        ("EFI/systemd/systemd-bootx64.efi", loader),
        (facts.kernel_image.as_str(), image),
        ("loader/loader.conf", conf.into_bytes()),
    ];
    let mut esp = Tree::new();
    for (path, bytes) in files {
        esp.make_parents(path, &Entry::directory());
        esp.insert(path, Entry::new(Kind::File(Content::bytes(bytes)), 0o644));
    }
    Ok(Boot { esp, facts: Facts { kernel_image_bytes, ..facts } })
}

/// The regular file of the root that `path` leads to.
fn file<'a>(root: &'a Tree, path: &str) -> Option<&'a Content> {
    Some(path::file(root, path.as_bytes())?.1)
}

fn command_line(options: &Options) -> String {
    let words = std::iter::once(COMMAND_LINE).chain(options.command_line.iter().map(String::as_str));
    words.collect::<Vec<_>>().join(" ")
}

/// Where the loader looks for unified kernel images (UAPI Group, Boot Loader Specification, type #2).
fn kernel_image(options: &Options) -> String {
    let tries = options.tries.map(|tries| format!("+{tries}")).unwrap_or_default();
    format!("EFI/Linux/{}{tries}.efi", options.name)
}

#[cfg(test)]
mod tests;
