//! The guest's report port: lines of text over a virtio-serial port.

use crate::error::Error;
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// The host's end of the port.
#[derive(Debug)]
pub struct ReportPort {
    lines: Receiver<String>,
}

/// No honest report is longer: what comes after that is not kept.
const MOST_BYTES: usize = 1 << 20;

impl ReportPort {
    /// Listens on a new socket at `path`. QEMU connects when it starts, so that no line can come before a listener.
    pub(crate) fn listen(path: &Path) -> Result<Self, Error> {
        let fault = |source| Error::File { path: path.to_owned(), source };
        let listener = UnixListener::bind(path).map_err(fault)?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let (mut buffer, mut line) = ([0; 4096], Vec::new());
            while let Ok(read @ 1..) = stream.read(&mut buffer) {
                for byte in &buffer[..read] {
                    if *byte != b'\n' {
                        if line.len() < MOST_BYTES {
                            line.push(*byte);
                        }
                    } else if sender
                        .send(String::from_utf8_lossy(&std::mem::take(&mut line)).into_owned())
                        .is_err()
                    {
                        return;
                    }
                }
            }
        });
        Ok(Self { lines })
    }

    /// The next line, without its end.
    ///
    /// # Errors
    /// [`Error::NoReport`] when none comes in time or the machine has ended.
    pub fn next_line(&mut self, within: Duration) -> Result<String, Error> {
        self.lines.recv_timeout(within).map_err(|_| Error::NoReport { within })
    }
}

#[cfg(test)]
mod tests {
    use super::ReportPort;
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    #[test]
    fn lines_come_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report");
        let mut port = ReportPort::listen(&path).unwrap();
        let mut guest = UnixStream::connect(&path).unwrap();
        guest.write_all(b"{\"a\":1}\n{\"b\"").unwrap();
        assert_eq!(port.next_line(Duration::from_secs(5)).unwrap(), "{\"a\":1}");
        assert!(port.next_line(Duration::from_millis(50)).is_err());
        guest.write_all(b":2}\n").unwrap();
        assert_eq!(port.next_line(Duration::from_secs(5)).unwrap(), "{\"b\":2}");
    }
}
