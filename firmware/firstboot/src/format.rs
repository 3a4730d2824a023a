//! Making file systems, with the well-kept programs that the initramfs carries.

use crate::sys;
use kiln_contract::policy::FileSystem;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use uuid::Uuid;

/// Lines of a program's complaint that are kept.
const LINES: usize = 4;

/// What a file system is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted<'a> {
    /// Its kind.
    pub(crate) kind: FileSystem,
    /// Its UUID.
    pub(crate) uuid: Uuid,
    /// Its label; cut to what the kind has room for.
    pub(crate) label: &'a str,
    /// Per cent of an ext4 that only root may fill.
    pub(crate) reserved_percent: u8,
}

/// Why a program did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It is not there, or can't be started.
    #[error("{program} can't be started: {error}")]
    Start { program: &'static str, error: io::Error },
    /// It failed: how, and the end of what it said.
    #[error("{program} failed ({status}): {said}")]
    Failed { program: &'static str, status: String, said: String },
}

/// Makes a file system on `device`, over whatever is there.
pub(crate) fn make(device: &Path, wanted: &Wanted<'_>) -> Result<(), Error> {
    match wanted.kind {
        FileSystem::Ext4 => run("/usr/sbin/mke2fs", ext4(device, wanted)),
        FileSystem::Xfs => run("/usr/sbin/mkfs.xfs", xfs(device, wanted)),
    }
    .map(drop)
}

/// mke2fs(8): inode tables of large disks are zeroed by the kernel, later; nothing is discarded, which can take minutes
/// and which trim timers do; the hash seed is not random, so that the same disk is made the same twice.
fn ext4(device: &Path, wanted: &Wanted<'_>) -> Vec<String> {
    let Wanted { uuid, label, reserved_percent, .. } = wanted;
    let extended = format!("lazy_itable_init=1,lazy_journal_init=1,nodiscard,hash_seed={uuid}");
    let mut arguments: Vec<String> = ["-q", "-F", "-t", "ext4", "-E"].map(str::to_owned).to_vec();
    arguments.extend([extended, "-m".to_owned(), reserved_percent.to_string()]);
    arguments.extend(["-U".to_owned(), uuid.to_string(), "-L".to_owned(), cut(label, 16)]);
    arguments.push(device.display().to_string());
    arguments
}

/// mkfs.xfs(8).
fn xfs(device: &Path, wanted: &Wanted<'_>) -> Vec<String> {
    let uuid = format!("uuid={}", wanted.uuid);
    let mut arguments: Vec<String> = ["-q", "-f", "-K", "-m"].map(str::to_owned).to_vec();
    arguments.extend([uuid, "-L".to_owned(), cut(wanted.label, 12), device.display().to_string()]);
    arguments
}

/// The first `most` bytes of a label: names are ASCII.
fn cut(label: &str, most: usize) -> String {
    label.chars().take(most).collect()
}

/// Repairs what needs no decision (`e2fsck -p`), of a file system that is not mounted. Says whether anything was wrong.
pub(crate) fn repair(device: &Path) -> Result<bool, Error> {
    const PROGRAM: &str = "/usr/sbin/e2fsck";
    let device = device.display().to_string();
    let output = output(PROGRAM, ["-p", "-f", &device], &[])?;
    // e2fsck(8): 0 nothing wrong, 1 repaired.
    match output.status.code() {
        Some(0) => Ok(false),
        Some(1) => Ok(true),
        _ => Err(failed(PROGRAM, &output)),
    }
}

/// Runs a program that must succeed, and gives its standard output.
pub(crate) fn run<S: AsRef<OsStr>>(
    program: &'static str,
    arguments: impl IntoIterator<Item = S>,
) -> Result<String, Error> {
    run_with(program, arguments, &[])
}

/// As [`run`], with bytes for its standard input: the only way by which a program is given a secret.
pub(crate) fn run_with<S: AsRef<OsStr>>(
    program: &'static str,
    arguments: impl IntoIterator<Item = S>,
    input: &[u8],
) -> Result<String, Error> {
    let output = output(program, arguments, input)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(failed(program, &output))
}

fn output<S: AsRef<OsStr>>(
    program: &'static str,
    arguments: impl IntoIterator<Item = S>,
    input: &[u8],
) -> Result<Output, Error> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin");
    // libdevmapper would wait for a udev that is not there (dmsetup(8)).
    command.env("DM_DISABLE_UDEV", "1");
    let failed = |error| Error::Start { program, error };
    // Not a pipe: systemd-cryptenroll of Debian 12 (252.39) seeks in what it reads a key from.
    let stdin = if input.is_empty() { Stdio::null() } else { sys::in_memory(input).map_err(failed)?.into() };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.output().map_err(failed)
}

fn failed(program: &'static str, output: &Output) -> Error {
    let text =
        String::from_utf8_lossy(if output.stderr.is_empty() { &output.stdout } else { &output.stderr });
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let said = lines[lines.len().saturating_sub(LINES)..].join("; ").replace(char::is_control, "?");
    Error::Failed { program, status: output.status.to_string(), said }
}

#[cfg(test)]
mod tests {
    use super::{Error, FileSystem, Wanted, ext4, make, run, xfs};
    use std::path::Path;
    use uuid::Uuid;

    const WANTED: Wanted<'_> = Wanted {
        kind: FileSystem::Ext4,
        uuid: Uuid::from_u128(7),
        label: "a-name-that-is-too-long",
        reserved_percent: 0,
    };

    #[test]
    fn labels_are_cut_to_what_has_room() {
        let line = ext4(Path::new("/dev/x"), &WANTED).join(" ");
        assert!(line.contains("-L a-name-that-is-t /dev/x"), "{line}");
        let line = xfs(Path::new("/dev/x"), &WANTED).join(" ");
        assert!(line.contains("-L a-name-that- /dev/x"), "{line}");
    }

    /// The same disk is made the same twice, by the true program.
    #[test]
    fn the_same_twice() {
        let folder = tempfile::tempdir().unwrap();
        let made = ["one", "two"].map(|name| {
            let path = folder.path().join(name);
            std::fs::File::create(&path).unwrap().set_len(64 << 20).unwrap();
            make(&path, &WANTED).unwrap();
            let said = run("/usr/sbin/dumpe2fs", [Path::new("-h"), &path]).unwrap();
            let stable = |line: &&str| {
                !line.contains("created:")
                    && !line.contains("write time:")
                    && !line.contains("checked:")
                    && !line.contains("hecksum:")
            };
            said.lines().filter(stable).collect::<Vec<_>>().join("\n")
        });
        assert_eq!(made[0], made[1]);
        assert!(made[0].contains("00000000-0000-0000-0000-000000000007"), "{}", made[0]);
    }

    #[test]
    fn a_program_that_fails_says_why() {
        let error = make(Path::new("/nonexistent/disk"), &WANTED).unwrap_err();
        assert!(
            matches!(&error, Error::Failed { said, .. } if said.contains("/nonexistent/disk")),
            "{error}"
        );
    }
}
