//! How guest code runs. /dev/kvm can be there and still hang every guest (nested virtualisation, broken hosts), so it
//! is believed only after a guest has run on it.

use crate::error::Error;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// An accelerator of QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The kernel's virtualisation.
    Kvm,
    /// Emulation in software.
    Tcg,
}

/// How long the tiny guest may take; it needs well under a second.
const PROBE: Duration = Duration::from_secs(5);

/// A boot sector that writes 0x10 to the isa-debug-exit port: `mov al, 0x10; out 0xf4, al`, then halts for ever. QEMU
/// ends with twice the value plus one.
const SAYS_HELLO: [u8; 7] = [0xb0, 0x10, 0xe6, 0xf4, 0xf4, 0xeb, 0xfd];
const HELLO: i32 = 0x10 << 1 | 1;

impl Accelerator {
    /// The best accelerator that was proved to work. The answer is kept in `cache` (a small JSON file; delete it to
    /// ask again); a cache that can't be read or written costs only the question.
    ///
    /// # Errors
    /// [`Error::NotInstalled`] when there is no QEMU.
    pub fn proven(cache: &Path) -> Result<Self, Error> {
        if let Some(known) = fs::read(cache).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            return Ok(known);
        }
        let usable = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
        let found = if usable && works(Self::Kvm, &SAYS_HELLO)? { Self::Kvm } else { Self::Tcg };
        if let Some(directory) = cache.parent() {
            let _ = fs::create_dir_all(directory);
        }
        if let Ok(bytes) = serde_json::to_vec(&found) {
            let _ = fs::write(cache, bytes);
        }
        Ok(found)
    }

    /// QEMU's options for it.
    pub(crate) fn arguments(self) -> [(&'static str, &'static str); 2] {
        match self {
            Self::Kvm => [("-accel", "kvm"), ("-cpu", "host")],
            Self::Tcg => [("-accel", "tcg,thread=multi"), ("-cpu", "max")],
        }
    }
}

/// True when a guest that runs `code` as its boot sector says hello in time.
fn works(accelerator: Accelerator, code: &[u8]) -> Result<bool, Error> {
    let fault = |source| Error::Process { what: "probing the accelerator", source };
    let mut sector = vec![0; 512];
    sector[..code.len()].copy_from_slice(code);
    // The mark that makes a sector a boot sector.
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    let mut file = tempfile::NamedTempFile::new().map_err(fault)?;
    file.write_all(&sector).map_err(fault)?;

    let mut command = Command::new(crate::PROGRAM);
    for (option, value) in accelerator.arguments() {
        command.args([option, value]);
    }
    command.args(["-machine", "pc", "-m", "16", "-nodefaults", "-no-user-config", "-display", "none"]);
    command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04", "-drive"]);
    command.arg(format!("if=ide,format=raw,readonly=off,snapshot=on,file={}", file.path().display()));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut guest = command.spawn().map_err(crate::process::spawn_error)?;
    let start = Instant::now();
    let status = loop {
        match guest.try_wait().map_err(fault)? {
            Some(status) => break Some(status),
            None if start.elapsed() >= PROBE => break None,
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    if status.is_none() {
        let _ = guest.kill();
        let _ = guest.wait();
    }
    Ok(status.and_then(|status| status.code()) == Some(HELLO))
}

#[cfg(test)]
mod tests {
    use super::{Accelerator, SAYS_HELLO, works};

    #[test]
    fn a_guest_that_runs_is_believed_and_one_that_hangs_is_not() {
        assert!(works(Accelerator::Tcg, &SAYS_HELLO).unwrap());
        // jmp to itself
        assert!(!works(Accelerator::Tcg, &[0xeb, 0xfe]).unwrap());
    }

    #[test]
    fn a_known_answer_is_not_asked_for_again() {
        let directory = tempfile::tempdir().unwrap();
        let cache = directory.path().join("accelerator.json");
        std::fs::write(&cache, "\"tcg\"").unwrap();
        assert_eq!(Accelerator::proven(&cache).unwrap(), Accelerator::Tcg);
        std::fs::write(&cache, "\"kvm\"").unwrap();
        assert_eq!(Accelerator::proven(&cache).unwrap(), Accelerator::Kvm);
    }
}
