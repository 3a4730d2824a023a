//! A machine that runs.

use crate::argv::RunFiles;
use crate::console::Console;
use crate::error::Error;
use crate::machine::{Firmware, Machine};
use crate::report::ReportPort;
use std::fs;
use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A running machine. Dropping it ends it.
#[derive(Debug)]
pub struct Running {
    /// The serial console.
    pub console: Console,
    /// The report port, when the machine has one.
    pub report: Option<ReportPort>,
    child: Child,
    input: Option<ChildStdin>,
    /// Holds the variable store and the socket for as long as the machine runs.
    _directory: tempfile::TempDir,
}

impl Machine {
    /// Starts the machine.
    ///
    /// # Errors
    /// When QEMU is not installed, or a file of the machine can't be read.
    pub fn start(&self) -> Result<Running, Error> {
        self.start_with_echo(None)
    }

    /// Starts the machine; what its console shows is also written to `echo`.
    ///
    /// # Errors
    /// As [`Machine::start`].
    pub fn start_with_echo(&self, echo: Option<Box<dyn Write + Send>>) -> Result<Running, Error> {
        let fault = |what| move |source| Error::Process { what, source };
        let directory = tempfile::Builder::new()
            .prefix("kiln-qemu-")
            .tempdir()
            .map_err(fault("making a directory for the machine"))?;
        let files =
            RunFiles { vars: directory.path().join("vars.fd"), report: directory.path().join("report") };
        for disk in &self.disks {
            fs::metadata(&disk.path).map_err(|source| Error::File { path: disk.path.clone(), source })?;
        }
        if let Firmware::Uefi { vars, .. } = &self.firmware {
            fs::copy(vars, &files.vars).map_err(|source| Error::File { path: vars.clone(), source })?;
        }
        let report = self.report_port.as_ref().map(|_| ReportPort::listen(&files.report)).transpose()?;
        let mut command = Command::new(crate::PROGRAM);
        command.args(self.argv(&files));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(spawn_error)?;
        let input = child.stdin.take();
        let output = child
            .stdout
            .take()
            .ok_or_else(|| fault("reading the console")(io::ErrorKind::BrokenPipe.into()))?;
        Ok(Running { console: Console::new(output, echo), report, child, input, _directory: directory })
    }
}

impl Running {
    /// As [`Console::expect`]; when the machine ends first, the error also says what QEMU said.
    ///
    /// # Errors
    /// As [`Console::expect`].
    pub fn expect(&mut self, pattern: &str, within: Duration) -> Result<String, Error> {
        match self.console.expect(pattern, within) {
            Err(Error::Ended { pattern, tail, .. }) => {
                let mut stderr = String::new();
                if let Some(mut pipe) = self.child.stderr.take() {
                    let _ = pipe.read_to_string(&mut stderr);
                }
                Err(Error::Ended { pattern, stderr, tail })
            }
            other => other,
        }
    }

    /// Types on the serial console.
    ///
    /// # Errors
    /// [`Error::Process`] when the machine has ended.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let fault = |source| Error::Process { what: "typing on the console", source };
        let input = self.input.as_mut().ok_or_else(|| fault(io::ErrorKind::BrokenPipe.into()))?;
        input.write_all(bytes).and_then(|()| input.flush()).map_err(fault)
    }

    /// Waits for the machine to end by itself; nothing when it still runs by then.
    ///
    /// # Errors
    /// [`Error::Process`] when the process can't be asked.
    pub fn wait(&mut self, within: Duration) -> Result<Option<ExitStatus>, Error> {
        let fault = |source| Error::Process { what: "waiting for the machine", source };
        let deadline = Instant::now() + within;
        loop {
            match self.child.try_wait().map_err(fault)? {
                Some(status) => return Ok(Some(status)),
                None if Instant::now() >= deadline => return Ok(None),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Ends the machine as a cut of its power would.
    pub fn cut_power(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.cut_power();
    }
}

/// The error of a QEMU that could not be started.
pub(crate) fn spawn_error(source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::NotFound => {
            Error::NotInstalled { program: crate::PROGRAM.to_owned(), package: "qemu-system-x86" }
        }
        _ => Error::Process { what: "starting QEMU", source },
    }
}
