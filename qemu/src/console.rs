//! The serial console: everything it shows is kept, and expectations are met or end at their deadline.

use crate::error::Error;
use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Lines of the console that a failed expectation shows.
const TAIL_LINES: usize = 40;

/// A console, read in the background.
#[derive(Debug)]
pub struct Console {
    chunks: Receiver<Vec<u8>>,
    text: Vec<u8>,
    /// What lies before was matched already.
    cursor: usize,
    ended: bool,
}

impl Console {
    /// Reads `output` until its end. What comes is also written to `echo`.
    pub(crate) fn new(
        mut output: impl Read + Send + 'static,
        mut echo: Option<Box<dyn Write + Send>>,
    ) -> Self {
        let (sender, chunks) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut buffer) {
                if let Some(echo) = &mut echo {
                    let _ = echo.write_all(&buffer[..read]).and_then(|()| echo.flush());
                }
                if sender.send(buffer[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { chunks, text: Vec::new(), cursor: 0, ended: false }
    }

    /// Waits until the console shows `pattern` after what earlier expectations matched, and returns the line that it
    /// stands in, as far as it was shown.
    ///
    /// # Errors
    /// [`Error::Expectation`] at the deadline, [`Error::Ended`] when the machine ends before it; both show the
    /// console's last lines.
    pub fn expect(&mut self, pattern: &str, within: Duration) -> Result<String, Error> {
        let wanted = pattern.as_bytes();
        let deadline = Instant::now() + within;
        let mut searched = self.cursor;
        loop {
            let found =
                self.text[searched..].windows(wanted.len().max(1)).position(|window| window == wanted);
            if let Some(at) = found {
                let start = searched + at;
                self.cursor = start + wanted.len();
                self.rest_of_line(deadline);
                return Ok(self.line_around(start));
            }
            // The pattern's start may have come already.
            searched = self.text.len().saturating_sub(wanted.len()).max(self.cursor);
            let left = deadline.saturating_duration_since(Instant::now());
            match self.chunks.recv_timeout(left) {
                Ok(chunk) => self.text.extend(chunk),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(Error::Expectation {
                        pattern: pattern.to_owned(),
                        within,
                        tail: self.tail(),
                    });
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.ended = true;
                    let (pattern, tail) = (pattern.to_owned(), self.tail());
                    return Err(Error::Ended { pattern, stderr: String::new(), tail });
                }
            }
        }
    }

    /// Everything that was shown until now.
    pub fn text(&mut self) -> String {
        while let Ok(chunk) = self.chunks.try_recv() {
            self.text.extend(chunk);
        }
        String::from_utf8_lossy(&self.text).into_owned()
    }

    /// The last lines, without control sequences.
    pub fn tail(&mut self) -> String {
        let text = without_controls(&self.text());
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    /// A match is worth little when its line is cut; but a prompt has no line end, so a moment must do.
    fn rest_of_line(&mut self, deadline: Instant) {
        let moment = Instant::now() + Duration::from_millis(500);
        while !self.text[self.cursor..].contains(&b'\n') {
            let left = deadline.min(moment).saturating_duration_since(Instant::now());
            match self.chunks.recv_timeout(left) {
                Ok(chunk) => self.text.extend(chunk),
                Err(_) => return,
            }
        }
    }

    fn line_around(&self, at: usize) -> String {
        let start = self.text[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let end =
            self.text[at..].iter().position(|byte| *byte == b'\n').map_or(self.text.len(), |end| at + end);
        without_controls(&String::from_utf8_lossy(&self.text[start..end])).trim_end().to_owned()
    }
}

/// Text without ECMA-48 control sequences (`ESC [ … letter`) and other control characters but line ends.
fn without_controls(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\x1b' => {
                if letters.next_if_eq(&'[').is_some() {
                    while letters.next().is_some_and(|next| !('@'..='~').contains(&next)) {}
                }
            }
            '\n' | '\t' => plain.push(letter),
            _ if letter.is_control() => {}
            _ => plain.push(letter),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::{Console, without_controls};
    use crate::error::Error;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    const SOON: Duration = Duration::from_secs(5);

    fn console() -> (UnixStream, Console) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (ours, Console::new(theirs, None))
    }

    #[test]
    fn expectations_go_forward() {
        let (mut machine, mut console) = console();
        machine.write_all(b"one\r\n\x1b[31mtwo\x1b[0m and\r\none more\r\n").unwrap();
        assert_eq!(console.expect("one", SOON).unwrap(), "one");
        assert_eq!(console.expect("two", SOON).unwrap(), "two and");
        assert_eq!(console.expect("one", SOON).unwrap(), "one more");
    }

    #[test]
    fn a_pattern_may_come_in_pieces() {
        let (mut machine, mut console) = console();
        let writer = std::thread::spawn(move || {
            for piece in ["k3s1 lo", "gi", "n: "] {
                machine.write_all(piece.as_bytes()).unwrap();
                std::thread::sleep(Duration::from_millis(30));
            }
            machine
        });
        assert_eq!(console.expect("login:", SOON).unwrap(), "k3s1 login:");
        drop(writer.join().unwrap());
    }

    #[test]
    fn a_deadline_shows_the_end_of_the_console() {
        let (mut machine, mut console) = console();
        machine.write_all(b"something else\n").unwrap();
        let error = console.expect("login:", Duration::from_millis(100)).unwrap_err();
        assert!(matches!(&error, Error::Expectation { tail, .. } if tail == "something else"), "{error}");
    }

    #[test]
    fn the_end_of_the_machine_is_told_at_once() {
        let (machine, mut console) = console();
        drop(machine);
        assert!(matches!(console.expect("login:", Duration::from_secs(60)), Err(Error::Ended { .. })));
    }

    #[test]
    fn what_comes_is_echoed() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let (mut seen, echo) = UnixStream::pair().unwrap();
        let mut console = Console::new(theirs, Some(Box::new(echo)));
        ours.write_all(b"text\n").unwrap();
        console.expect("text", SOON).unwrap();
        let mut bytes = [0; 5];
        seen.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"text\n");
    }

    #[test]
    fn control_sequences_go() {
        assert_eq!(without_controls("\x1b[2J\x1b[H\x1b[0;32m  OK  \x1b[0m] a\r\n\x07"), "  OK  ] a\n");
    }
}
