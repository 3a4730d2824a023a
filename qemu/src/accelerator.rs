//! What executes the guest. `/dev/kvm` can be there, open, and still hang every guest (nested virtualisation
//! that is half there), so that KVM counts only after a tiny guest has run on it.

use crate::error::Error;
use crate::machine::{PROGRAM, quoted};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Overrides the probe: `kvm` or `tcg`.
const OVERRIDE: &str = "KILN_ACCEL";
/// How long the tiny guest may take; it needs a few tenths of a second where KVM works.
const PATIENCE: Duration = Duration::from_millis(4500);
/// The kernel's device.
const KVM: &str = "/dev/kvm";

/// What executes the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor itself, through Linux.
    Kvm,
    /// QEMU's translator, one thread a processor.
    Tcg,
}

impl Accelerator {
    /// Values of `-accel` and `-cpu`.
    pub(crate) fn arguments(self) -> (&'static str, &'static str) {
        match self {
            Self::Kvm => ("kvm", "host"),
            Self::Tcg => ("tcg,thread=multi", "max"),
        }
    }

    /// `kvm` or `tcg`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        [Self::Kvm, Self::Tcg].into_iter().find(|accelerator| accelerator.name() == name)
    }
}

/// The accelerator that works here: what `KILN_ACCEL` says, else KVM where a tiny guest runs on it, else TCG.
/// The answer is kept in `cache`, a file, until the host boots again; the question takes at most five seconds.
/// A cache that can't be written is no error: the question is asked again.
pub fn probe(cache: &Path) -> Result<Accelerator, Error> {
    if let Ok(value) = std::env::var(OVERRIDE) {
        let known = Accelerator::of_name(&value);
        return known.ok_or(Error::Setting { name: OVERRIDE, value, want: "`kvm` or `tcg`" });
    }
    // No permission, no device: nothing to remember, it is found out at once.
    if fs::OpenOptions::new().read(true).write(true).open(KVM).is_err() {
        return Ok(Accelerator::Tcg);
    }
    // Another kernel, or another machine under it, may answer differently.
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let boot = boot.trim();
    if let Some(known) = remembered(&fs::read_to_string(cache).unwrap_or_default(), boot) {
        return Ok(known);
    }
    let accelerator = if runs_on("kvm")? { Accelerator::Kvm } else { Accelerator::Tcg };
    if let Some(folder) = cache.parent() {
        let _ = fs::create_dir_all(folder);
    }
    let _ = fs::write(cache, format!("{} {boot}\n", accelerator.name()));
    Ok(accelerator)
}

/// What an earlier question in this boot of the host was answered with.
fn remembered(text: &str, boot: &str) -> Option<Accelerator> {
    let (name, when) = text.trim().split_once(' ')?;
    (when == boot && !boot.is_empty()).then(|| Accelerator::of_name(name))?
}

/// What the guest writes to QEMU's debug port; QEMU ends with status `(ANSWER << 1) | 1`
/// (QEMU, hw/misc/debugexit.c).
const ANSWER: u8 = 0x2a;
/// The debug port's address.
const PORT: u8 = 0xf4;

/// A boot sector that counts to some millions, so that more than a single exit of the guest is tried, and then
/// writes [`ANSWER`] to [`PORT`]. Real-mode machine code (Intel SDM, volume 2).
fn boot_sector() -> [u8; 512] {
    let code = [
        0xfa, // cli
        0x66, 0xb9, 0x00, 0x00, 0x40, 0x00, // mov ecx, 0x400000
        0x67, 0xe2, 0xfd, // again: loop again (counts ecx down to 0)
        0xb0, ANSWER, // mov al, ANSWER
        0xe6, PORT, // out PORT, al
        0xf4, // halt: hlt
        0xeb, 0xfd, // jmp halt
    ];
    let mut sector = [0; 512];
    sector[..code.len()].copy_from_slice(&code);
    // The mark that makes it bootable.
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// True when a tiny guest runs to its end on this accelerator.
fn runs_on(accelerator: &str) -> Result<bool, Error> {
    let folder = tempfile::tempdir().map_err(Error::io("create a folder in", std::env::temp_dir()))?;
    let image = folder.path().join("probe.img");
    fs::write(&image, boot_sector()).map_err(Error::io("write", &image))?;
    let drive = format!("if=ide,format=raw,readonly=off,file={}", quoted(&image.to_string_lossy()));
    let debug = format!("isa-debug-exit,iobase={PORT:#x},iosize=1");
    let mut command = Command::new(PROGRAM);
    command.args([
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
        "-machine",
        "pc",
        "-m",
        "32",
    ]);
    command.args(["-accel", accelerator, "-device", &debug, "-drive", &drive]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut guest = command.spawn().map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::NoQemu { program: PROGRAM },
        _ => Error::Io { action: "start", path: PROGRAM.into(), source },
    })?;
    let start = Instant::now();
    let mut status = None;
    while status.is_none() && start.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(20));
        status = guest.try_wait().ok().flatten();
    }
    if status.is_none() {
        let _ = guest.kill();
        let _ = guest.wait();
    }
    Ok(status.and_then(|status| status.code()) == Some(i32::from(ANSWER) << 1 | 1))
}

#[cfg(test)]
mod tests {
    use super::{Accelerator, probe, remembered, runs_on};
    use std::time::{Duration, Instant};

    /// The tiny guest itself is sound: it ends on the accelerator that works everywhere.
    #[test]
    fn the_tiny_guest_runs() {
        assert!(runs_on("tcg").expect("this test needs qemu: apt-get install qemu-system-x86 ovmf"));
        assert!(!runs_on("no-such-accelerator").unwrap());
    }

    /// A /dev/kvm that hangs its guests costs five seconds once, never a hang.
    #[test]
    fn the_question_is_short_and_asked_once() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("new/accelerator");
        let start = Instant::now();
        let answer = probe(&cache).unwrap();
        assert!(start.elapsed() < Duration::from_secs(7), "{:?}", start.elapsed());
        let again = Instant::now();
        assert_eq!(probe(&cache).unwrap(), answer);
        assert!(again.elapsed() < Duration::from_millis(500), "{:?}", again.elapsed());
        eprintln!("{} after {:?}", answer.name(), start.elapsed());
    }

    #[test]
    fn an_answer_holds_for_one_boot_of_the_host() {
        assert_eq!(remembered("kvm 1234\n", "1234"), Some(Accelerator::Kvm));
        assert_eq!(remembered("tcg 1234\n", "1234"), Some(Accelerator::Tcg));
        assert_eq!(remembered("kvm 1234\n", "5678"), None);
        assert_eq!(remembered("kvm \n", ""), None);
        assert_eq!(remembered("", "1234"), None);
        assert_eq!(remembered("xen 1234", "1234"), None);
    }
}
