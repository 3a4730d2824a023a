//! What can go wrong with a machine.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Why a machine does not run, or did not do what was waited for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program is not there.
    #[error(
        "{program} is not installed: on Debian and Ubuntu, `apt-get install qemu-system-x86 qemu-utils ovmf` brings it and its firmware"
    )]
    NoQemu {
        /// The program.
        program: &'static str,
    },
    /// No UEFI firmware at any of the usual places.
    #[error(
        "no UEFI firmware was found for the machine: on Debian and Ubuntu, `apt-get install ovmf` brings it; elsewhere name its files in KILN_OVMF_CODE and KILN_OVMF_VARS\n  looked for: {}",
        list(looked)
    )]
    NoFirmware {
        /// Where it could have been.
        looked: Vec<PathBuf>,
    },
    /// A file that the environment names is not there, or only one of two is named.
    #[error("{name} {problem}: it and its partner must both name a file")]
    FirmwareSetting {
        /// The environment variable.
        name: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// An environment variable with a value that is not known.
    #[error("{name} is {value:?}, where {want} is wanted")]
    Setting {
        /// The environment variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        want: &'static str,
    },
    /// A disk that its image does not fit on.
    #[error("{} has {image} bytes, more than the {disk} of the disk that it is to be the beginning of", path.display())]
    Smaller {
        /// The image.
        path: PathBuf,
        /// Its size in bytes.
        image: u64,
        /// The disk's size in bytes.
        disk: u64,
    },
    /// qemu-img failed.
    #[error("qemu-img could not make a disk: {said}")]
    ImageProgram {
        /// What it said.
        said: String,
    },
    /// A part that this bus can't have.
    #[error("a disk on {bus} can't have logical sectors of {sector_size} bytes")]
    SectorSize {
        /// The bus.
        bus: &'static str,
        /// Bytes.
        sector_size: u32,
    },
    /// A fact that a disk on this bus does not have, or a text that it has no room for.
    #[error("a disk on {bus} can't have {fact}")]
    DiskFact {
        /// The bus.
        bus: &'static str,
        /// What is asked for.
        fact: &'static str,
    },
    /// Faults that can't be injected together.
    #[error("a disk can't have {0} as its faults")]
    Faults(&'static str),
    /// A disk image that is not there.
    #[error("the disk image {} can't be read: {source}", path.display())]
    Image {
        /// The image.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file or socket of the machine itself.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// `create`, `copy`, `start`, …
        action: &'static str,
        /// What.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The machine ended while something was waited for.
    #[error(
        "the machine ended ({status}) while waiting for {wanted}{}{}",
        section("qemu said", stderr),
        section("the console's last lines", tail)
    )]
    Ended {
        /// How the process ended.
        status: ExitStatus,
        /// What QEMU wrote to its standard error.
        stderr: String,
        /// What was waited for.
        wanted: String,
        /// The console's last lines.
        tail: String,
    },
    /// It took too long.
    #[error("waited {} s for {wanted} in vain{}", waited.as_secs(), section("the console's last lines", tail))]
    Deadline {
        /// How long.
        waited: Duration,
        /// What was waited for.
        wanted: String,
        /// The console's last lines.
        tail: String,
    },
    /// The TPM's emulator does not start.
    #[error("swtpm, the TPM's emulator, did not start{}", section("it said", said))]
    Tpm {
        /// What it wrote.
        said: String,
    },
    /// The machine refuses a command.
    #[error("the machine refused {command}: {reason}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's words.
        reason: String,
    },
    /// The machine speaks other words than QMP's.
    #[error("the machine answered {command} with {answer:?}, which is not QMP")]
    Answer {
        /// The command.
        command: String,
        /// What came.
        answer: String,
    },
    /// The machine has no such console or port.
    #[error("this machine has no {0} that can be listened to")]
    NotCaptured(String),
}

impl Error {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// A headline with indented text below; nothing when there is no text.
fn section(headline: &str, text: &str) -> String {
    let lines: String = text.trim_end().lines().map(|line| format!("\n  | {line}")).collect();
    if lines.is_empty() { String::new() } else { format!("\n  {headline}:{lines}") }
}
