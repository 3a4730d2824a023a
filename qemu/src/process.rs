//! A running machine: the process, its console and its ports. It ends when its owner lets go of it.

use crate::heard::{Port, Shared};
use crate::machine::{self, PROGRAM};
use crate::qmp::Qmp;
use crate::tpm::Emulator;
use crate::{Disk, Error, Firmware, Machine, Operation, Seen, Serial, Wanted, device_id};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long QEMU may take to open its sockets.
const START: Duration = Duration::from_secs(30);
/// How long a matched line's end is waited for; a prompt has none.
const LINE_END: Duration = Duration::from_millis(500);
/// How often the process is looked after while nothing is heard of it.
const LOOK: Duration = Duration::from_millis(200);
/// `sun_path` of unix(7) has 108 bytes, our names need 24 of them.
const LONGEST_FOLDER: usize = 60;

/// A running machine. Dropping it kills it; its own files go with it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stderr: File,
    shared: Arc<Shared>,
    console: Option<UnixStream>,
    ports: Vec<String>,
    disks: Vec<Disk>,
    status: Option<ExitStatus>,
    qmp: Option<Qmp>,
    tpm: Option<Emulator>,
    /// Holds sockets, variables and empty disks, until QEMU has them all open.
    folder: Option<TempDir>,
}

impl Machine {
    /// Starts the machine. QEMU's own complaints come with the error.
    pub fn start(&self) -> Result<Running, Error> {
        let folder = folder()?;
        self.prepare(folder.path())?;
        let mut sockets = Vec::new();
        if self.serial == Serial::Captured {
            sockets.push(machine::console(folder.path()));
        }
        sockets.extend((0..self.ports.len()).map(|index| machine::port(index, folder.path())));
        if self.control {
            sockets.push(machine::qmp(folder.path()));
        }
        let listeners: Vec<(PathBuf, UnixListener)> =
            sockets.into_iter().map(listener).collect::<Result<_, Error>>()?;

        let tpm = match &self.tpm {
            Some(tpm) => Some(tpm.start(&machine::tpm(folder.path()))?),
            None => None,
        };
        let stderr =
            tempfile::tempfile_in(folder.path()).map_err(Error::io("create a file in", folder.path()))?;
        let copy = stderr.try_clone().map_err(Error::io("use", folder.path()))?;
        let mut command = Command::new(PROGRAM);
        // What a snapshot writes goes to a file that QEMU makes where TMPDIR says.
        command.args(self.arguments(folder.path())?).env("TMPDIR", folder.path());
        if self.serial == Serial::Terminal {
            // QEMU's complaints and the console share the terminal.
            command.stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
        } else {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(copy);
        }
        let child = command.spawn().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::NoQemu { program: PROGRAM },
            _ => Error::Io { action: "start", path: PROGRAM.into(), source },
        })?;
        let shared = Arc::new(Shared::default());
        shared.lock().ports = self.ports.iter().map(|_| Port::default()).collect();
        let mut running = Running {
            child,
            stderr,
            shared,
            console: None,
            ports: self.ports.clone(),
            disks: self.disks.clone(),
            status: None,
            qmp: None,
            tpm,
            folder: Some(folder),
        };
        let mut listeners = listeners.into_iter();
        if self.serial == Serial::Captured
            && let Some((path, listener)) = listeners.next()
        {
            let stream = running.accept(&path, &listener)?;
            let reader = stream.try_clone().map_err(Error::io("use", &path))?;
            running.shared.listen(reader, |heard, bytes| heard.console.push(bytes));
            running.console = Some(stream);
        }
        for (index, (path, listener)) in listeners.by_ref().take(self.ports.len()).enumerate() {
            let stream = running.accept(&path, &listener)?;
            running.shared.listen_to_port(stream, index);
        }
        if let Some((path, listener)) = listeners.next() {
            let stream = running.accept(&path, &listener)?;
            match Qmp::new(stream) {
                Ok(qmp) => running.qmp = Some(qmp),
                // A machine that can't start says why elsewhere.
                Err(Error::Io { .. }) => {
                    let status = running.wait_until(Instant::now() + START)?;
                    return Err(running.ended(status, "its start"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(running)
    }

    /// Makes the machine's own files.
    fn prepare(&self, folder: &Path) -> Result<(), Error> {
        if self.kernel.is_none()
            && let Firmware::Uefi { vars, .. } = &self.firmware
        {
            let bytes = fs::read(vars).map_err(Error::io("read", vars))?;
            let copy = machine::variables(folder);
            fs::write(&copy, bytes).map_err(Error::io("write", &copy))?;
        }
        for (index, disk) in self.disks.iter().enumerate() {
            disk.prepare(index, folder)?;
        }
        Ok(())
    }
}

/// A folder for sockets and files, with a name short enough for sockets.
fn folder() -> Result<TempDir, Error> {
    let mut place = std::env::temp_dir();
    if place.as_os_str().len() > LONGEST_FOLDER {
        place = PathBuf::from("/tmp");
    }
    tempfile::Builder::new()
        .prefix("kiln-qemu-")
        .tempdir_in(&place)
        .map_err(Error::io("create a folder in", place))
}

fn listener(path: PathBuf) -> Result<(PathBuf, UnixListener), Error> {
    let listener = UnixListener::bind(&path).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    let listener = listener.map_err(Error::io("listen on", &path))?;
    Ok((path, listener))
}

impl Running {
    /// Waits until QEMU has connected.
    fn accept(&mut self, path: &Path, listener: &UnixListener) -> Result<UnixStream, Error> {
        let start = Instant::now();
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).map_err(Error::io("use", path))?;
                    return Ok(stream);
                }
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Err(Error::io("listen on", path)(error)),
            }
            if let Some(status) = self.poll() {
                return Err(self.ended(status, "its start"));
            }
            if start.elapsed() > START {
                return Err(self.late(start, "its start"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Process id of QEMU.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the first of several things to come.
    pub fn wait_for(&mut self, wanted: &[Wanted<'_>], deadline: Instant) -> Result<Seen, Error> {
        let start = Instant::now();
        let mut console = Vec::new();
        let mut ports = Vec::new();
        for (which, wanted) in wanted.iter().enumerate() {
            match wanted {
                Wanted::Console(_) if self.console.is_none() => {
                    return Err(Error::NotCaptured("console".to_owned()));
                }
                Wanted::Console(words) => console.push((which, *words)),
                Wanted::Port(name) => {
                    let index = self.ports.iter().position(|port| port == name);
                    ports.push((which, index.ok_or_else(|| Error::NotCaptured(format!("port {name}")))?));
                }
            }
        }
        let shared = Arc::clone(&self.shared);
        let mut heard = shared.lock();
        let mut matched_at: Option<Instant> = None;
        loop {
            // What the machine said before it ended counts.
            let over = heard.closed || Instant::now() >= deadline;
            if !heard.console.text().is_empty() {
                // A guest that talks runs, and QEMU has opened everything that it will ever open. Names that are
                // gone now can't be left behind by an owner that is killed.
                self.folder = None;
            }
            if let Some(seen) = heard.take_line(&ports) {
                return Ok(seen);
            }
            let words: Vec<&str> = console.iter().map(|(_, words)| *words).collect();
            if let Some((at, found)) = heard.console.find(&words) {
                let patient = matched_at.get_or_insert_with(Instant::now).elapsed() < LINE_END;
                if let Some(line) = heard.console.line(at, over || !patient) {
                    let seen = Seen { which: console[found].0, line: line.to_owned(), at: Instant::now() };
                    heard.console.advance(at + words[found].len());
                    return Ok(seen);
                }
            }
            if heard.closed {
                drop(heard);
                let status = self.wait()?;
                return Err(self.ended(status, &describe(wanted)));
            }
            if Instant::now() >= deadline {
                drop(heard);
                return Err(self.late(start, &describe(wanted)));
            }
            let pause = LOOK.min(deadline.saturating_duration_since(Instant::now()));
            heard = shared.news.wait_timeout(heard, pause).unwrap_or_else(PoisonError::into_inner).0;
            // With neither console nor port nothing tells of the end but the process itself.
            if self.poll().is_some() && self.console.is_none() && self.ports.is_empty() {
                heard.closed = true;
            }
        }
    }

    /// Waits for these words on the console and gives their line.
    pub fn expect(&mut self, words: &str, deadline: Instant) -> Result<String, Error> {
        Ok(self.wait_for(&[Wanted::Console(words)], deadline)?.line)
    }

    /// Waits for the first of several words on the console.
    pub fn expect_any(&mut self, words: &[&str], deadline: Instant) -> Result<Seen, Error> {
        let wanted: Vec<Wanted<'_>> = words.iter().map(|words| Wanted::Console(words)).collect();
        self.wait_for(&wanted, deadline)
    }

    /// Waits for the next line from a port.
    pub fn line(&mut self, port: &str, deadline: Instant) -> Result<String, Error> {
        Ok(self.wait_for(&[Wanted::Port(port)], deadline)?.line)
    }

    /// Types on the console; Enter is `\r`.
    pub fn send(&mut self, keys: &str) -> Result<(), Error> {
        let console = self.console.as_mut().ok_or_else(|| Error::NotCaptured("console".to_owned()))?;
        console.write_all(keys.as_bytes()).map_err(Error::io("type on", "the console"))
    }

    /// What the console has said so far, without escape sequences.
    pub fn console(&self) -> String {
        self.shared.lock().console.text().to_owned()
    }

    /// How the machine ended, if it has.
    pub fn poll(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status
    }

    /// Waits for the machine's own end.
    pub fn wait(&mut self) -> Result<ExitStatus, Error> {
        match self.status {
            Some(status) => Ok(status),
            None => {
                let status = self.child.wait().map_err(Error::io("wait for", PROGRAM))?;
                self.status = Some(status);
                Ok(status)
            }
        }
    }

    /// Waits for the machine's own end until a deadline.
    pub fn wait_until(&mut self, deadline: Instant) -> Result<ExitStatus, Error> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.poll() {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(self.late(start, "its end"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Has QEMU's machine protocol execute a command, such as `system_reset`, `quit`, `stop`, `cont` or `query-block`,
    /// and gives what it returns. `arguments` is an object. The machine needs [`Machine::control`].
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value, Error> {
        self.qmp()?.execute(command, arguments)
    }

    /// Waits for an event of QEMU's machine protocol, such as `RESET`, and gives it. Events before it are dropped.
    pub fn event(&mut self, name: &str, deadline: Instant) -> Result<Value, Error> {
        self.qmp()?.event(name, |_| true, deadline)
    }

    /// Pulls disk number `index`, which needs [`Disk::hot_plug`](crate::Disk::hot_plug). Virtio and NVMe go when the
    /// guest has let go of the slot, USB and SCSI at once.
    pub fn unplug(&mut self, index: usize, deadline: Instant) -> Result<(), Error> {
        let id = device_id(index);
        let qmp = self.qmp()?;
        qmp.execute("device_del", &json!({"id": id}))?;
        qmp.event("DEVICE_DELETED", |data| data["device"] == id.as_str(), deadline)?;
        Ok(())
    }

    /// From now on, every request of these kinds to disk number `index` fails with EIO. It must be a raw
    /// [`Source::File`](crate::Source::File), the machine needs [`Machine::control`], and this happens once a disk.
    pub fn fail(&mut self, index: usize, operations: &[Operation]) -> Result<(), Error> {
        let disk = self.disks.get(index).ok_or_else(|| Error::NotCaptured(format!("disk {index}")))?;
        for (command, arguments) in disk.failing(index, operations)? {
            self.execute(command, &arguments)?;
        }
        Ok(())
    }

    fn qmp(&mut self) -> Result<&mut Qmp, Error> {
        self.qmp.as_mut().ok_or_else(|| Error::NotCaptured("control".to_owned()))
    }

    /// Cuts the power: QEMU is sent SIGKILL at once and is gone when this returns. Requests that it has not given to the
    /// host yet are lost, as is what a qcow2 file's tables don't show. What has reached a [`Source::File`] stays, also
    /// what the guest has not flushed: a real disk may lose, of that, any part.
    ///
    /// [`Source::File`]: crate::Source::File
    pub fn kill(&mut self) -> Result<(), Error> {
        if self.poll().is_none() {
            self.child.kill().map_err(Error::io("end", PROGRAM))?;
            self.wait()?;
        }
        self.tpm = None;
        Ok(())
    }

    fn ended(&mut self, status: ExitStatus, wanted: &str) -> Error {
        let mut stderr = Vec::new();
        // No complaint is better than a complaint about the complaint.
        let _ = self.stderr.rewind().and_then(|()| self.stderr.read_to_end(&mut stderr));
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        Error::Ended { status, stderr, wanted: wanted.to_owned(), tail: self.shared.lock().console.tail() }
    }

    fn late(&self, start: Instant, wanted: &str) -> Error {
        let tail = self.shared.lock().console.tail();
        Error::Deadline { waited: start.elapsed(), wanted: wanted.to_owned(), tail }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

fn describe(wanted: &[Wanted<'_>]) -> String {
    let one = |wanted: &Wanted<'_>| match wanted {
        Wanted::Console(words) => format!("{words:?} on the console"),
        Wanted::Port(name) => format!("a line from port {name}"),
    };
    wanted.iter().map(one).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests;
