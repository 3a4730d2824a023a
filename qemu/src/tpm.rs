//! A TPM 2.0: swtpm, which answers QEMU on a socket and keeps what the TPM remembers in a folder.

use crate::Error;
use std::fs;
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The program.
const PROGRAM: &str = "swtpm";
/// How long it may take to listen.
const START: Duration = Duration::from_secs(20);

/// A TPM 2.0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tpm {
    /// The folder that holds what it remembers; made when it is missing. One machine at a time may use it.
    pub state: PathBuf,
}

/// A running emulator; dropping it kills it.
#[derive(Debug)]
pub(crate) struct Emulator(Child);

impl Tpm {
    fn arguments(&self, socket: &Path) -> Vec<String> {
        vec![
            "socket".to_owned(),
            "--tpm2".to_owned(),
            "--tpmstate".to_owned(),
            format!("dir={}", self.state.display()),
            "--ctrl".to_owned(),
            format!("type=unixio,path={}", socket.display()),
            // It ends when QEMU does, even when this process can't see to it.
            "--terminate".to_owned(),
        ]
    }

    /// Starts the emulator and waits until it listens on `socket`.
    pub(crate) fn start(&self, socket: &Path) -> Result<Emulator, Error> {
        fs::create_dir_all(&self.state).map_err(Error::io("create", &self.state))?;
        let mut said = tempfile::tempfile().map_err(Error::io("create a file in", std::env::temp_dir()))?;
        let copy = said.try_clone().map_err(Error::io("use", std::env::temp_dir()))?;
        let mut command = Command::new(PROGRAM);
        command.args(self.arguments(socket)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(copy);
        let child = command.spawn().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => {
                Error::Tpm { said: "it is not installed: apt-get install swtpm".to_owned() }
            }
            _ => Error::Io { action: "start", path: PROGRAM.into(), source },
        })?;
        let mut emulator = Emulator(child);
        let start = Instant::now();
        while !socket.exists() {
            let ended = emulator.0.try_wait().ok().flatten();
            if ended.is_some() || start.elapsed() > START {
                let mut text = String::new();
                // No complaint is better than a complaint about the complaint.
                let _ = said.rewind().and_then(|()| said.read_to_string(&mut text));
                return Err(Error::Tpm { said: text });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(emulator)
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::Tpm;
    use std::path::Path;

    #[test]
    fn the_emulator_is_told_where() {
        let tpm = Tpm { state: "/s/tpm".into() };
        assert_eq!(
            tpm.arguments(Path::new("/run/m/tpm.sock")).join(" "),
            "socket --tpm2 --tpmstate dir=/s/tpm --ctrl type=unixio,path=/run/m/tpm.sock --terminate"
        );
    }

    #[test]
    fn it_says_why_it_does_not_start() {
        let folder = tempfile::tempdir().unwrap();
        // A socket can't be made in a folder that is not there.
        let tpm = Tpm { state: folder.path().join("state") };
        let error = tpm.start(&folder.path().join("none/tpm.sock")).unwrap_err().to_string();
        assert!(error.starts_with("swtpm, the TPM's emulator, did not start\n  it said:"), "{error}");
    }
}
