//! Every console that the kernel talks to. /dev/console is only the last of them, and whoever stands before the
//! machine may look at another one.

use crate::sys;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

/// O_NOCTTY of asm-generic/fcntl.h: PID 1 must not become a terminal's session leader by looking at it.
const O_NOCTTY: i32 = 0o400;

/// The open consoles.
#[derive(Debug)]
pub(crate) struct Console {
    outputs: Vec<File>,
    debug: bool,
}

impl Console {
    /// Only what the kernel gave to PID 1, as long as /sys can't be asked.
    pub(crate) fn early() -> Self {
        Self { outputs: open(Path::new("/dev/console")).into_iter().collect(), debug: false }
    }

    /// Opens every active console: `tty0 ttyS0` in sysfs' words, first to last.
    pub(crate) fn open_all(&mut self, sysfs: &Path, debug: bool) {
        self.debug = debug;
        let active = std::fs::read_to_string(sysfs.join("class/tty/console/active")).unwrap_or_default();
        let opened: Vec<File> =
            active.split_ascii_whitespace().filter_map(|name| open(&Path::new("/dev").join(name))).collect();
        if !opened.is_empty() {
            self.outputs = opened;
        } else if self.outputs.is_empty() {
            self.outputs = open(Path::new("/dev/console")).into_iter().collect();
        }
    }

    /// A step of the story, with the time since the kernel's start.
    pub(crate) fn milestone(&mut self, what: &str) {
        self.print(&format!("kiln: {:>7.2} {what}\n", sys::uptime().as_secs_f64()));
    }

    /// A detail, said when the command line asks for details.
    pub(crate) fn detail(&mut self, what: &str) {
        if self.debug {
            self.milestone(what);
        }
    }

    /// True when the command line asks for details.
    pub(crate) fn is_debug(&self) -> bool {
        self.debug
    }

    /// Text as it is, on every console. A console that can't be written to is no reason to stop.
    pub(crate) fn print(&mut self, text: &str) {
        for output in &mut self.outputs {
            let _ = output.write_all(text.as_bytes());
        }
    }

    /// The same consoles, for a thread of its own.
    pub(crate) fn another(&self) -> Self {
        Self {
            outputs: self.outputs.iter().filter_map(|file| file.try_clone().ok()).collect(),
            debug: self.debug,
        }
    }

    /// True when there is anybody to talk to.
    pub(crate) fn is_open(&self) -> bool {
        !self.outputs.is_empty()
    }

    /// Takes single keys from every console, until it is let go of. What was typed before is thrown away.
    pub(crate) fn keys(&self) -> Keys {
        let raw = |file: &File| Some((file.try_clone().ok()?, sys::take_keys(file).ok()?));
        Keys { inputs: self.outputs.iter().filter_map(raw).collect() }
    }

    #[cfg(test)]
    pub(crate) fn to_file(file: File, debug: bool) -> Self {
        Self { outputs: vec![file], debug }
    }

    #[cfg(test)]
    pub(crate) fn of(outputs: Vec<File>) -> Self {
        Self { outputs, debug: false }
    }

    /// A message for every Enter that is pressed on any console.
    pub(crate) fn enter_pressed(&self) -> Receiver<()> {
        let (sender, receiver) = channel();
        for mut input in self.outputs.iter().filter_map(|file| file.try_clone().ok()) {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let mut byte = [0];
                while input.read(&mut byte).is_ok_and(|read| read == 1) {
                    if matches!(byte[0], b'\n' | b'\r') && sender.send(()).is_err() {
                        return;
                    }
                }
            });
        }
        receiver
    }
}

/// Consoles that give every key at once, without Enter and without showing it.
#[derive(Debug)]
pub(crate) struct Keys {
    inputs: Vec<(File, sys::Terminal)>,
}

impl Keys {
    /// True when a key was pressed on any console since the last time. Does not wait.
    pub(crate) fn pressed(&mut self) -> bool {
        let mut bytes = [0; 64];
        // Every console is asked: a key on one of them must not be left for later.
        self.inputs
            .iter_mut()
            .filter_map(|(input, _)| input.read(&mut bytes).ok())
            .filter(|count| *count > 0)
            .count()
            > 0
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        for (input, before) in &self.inputs {
            let _ = sys::give_back(input, before);
        }
    }
}

/// Says one line of a service, on every console and in the journal. The consoles are opened for the line alone: whoever
/// logs in on one ends what was open there (vhangup(2)).
pub(crate) fn announce(what: &str) {
    let mut console = Console::early();
    console.open_all(Path::new(crate::SYSFS), false);
    console.milestone(what);
    eprintln!("{what}");
}

fn open(path: &Path) -> Option<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(O_NOCTTY);
    options.open(path).ok()
}
