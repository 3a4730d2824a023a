//! What a running machine has said: its console as a text, its ports as lines, each with the time of its arrival.

use crate::console::Transcript;
use std::collections::VecDeque;
use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Something to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// These words on the console. What an earlier match was in is not searched again.
    Console(&'a str),
    /// The next line from the port of this name. Lines of other ports wait until they are asked for.
    Port(&'a str),
}

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Which of the wanted.
    pub which: usize,
    /// Its line, without the end.
    pub line: String,
    /// When it came: a port's line when its end was read, whenever it is asked for; a console's when it was found.
    pub at: Instant,
}

/// What a port has said that is not taken yet.
#[derive(Debug, Default)]
pub(crate) struct Port {
    lines: VecDeque<(String, Instant)>,
    /// Bytes of the line that is not complete yet.
    partial: Vec<u8>,
}

impl Port {
    /// Takes bytes as they come.
    pub(crate) fn push(&mut self, bytes: &[u8], now: Instant) {
        self.partial.extend_from_slice(bytes);
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line[..end]).trim_end_matches('\r').to_owned();
            self.lines.push_back((line, now));
        }
    }
}

/// What was heard so far.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) console: Transcript,
    pub(crate) ports: Vec<Port>,
    /// The machine has closed a socket: it is ending.
    pub(crate) closed: bool,
}

impl Heard {
    /// The line of one of these ports, given as (which of the wanted, index), that came first.
    pub(crate) fn take_line(&mut self, ports: &[(usize, usize)]) -> Option<Seen> {
        let when = |&(_, index): &(usize, usize)| Some(self.ports.get(index)?.lines.front()?.1);
        let first = ports.iter().filter(|port| when(port).is_some()).min_by_key(|port| when(port))?;
        let (which, index) = *first;
        let (line, at) = self.ports.get_mut(index)?.lines.pop_front()?;
        Some(Seen { which, line, at })
    }
}

/// What the threads that listen share with the machine's owner.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    heard: Mutex<Heard>,
    pub(crate) news: Condvar,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads `stream` to its end on a thread of its own.
    pub(crate) fn listen(
        self: &Arc<Self>,
        mut stream: UnixStream,
        take: impl Fn(&mut Heard, &[u8]) + Send + 'static,
    ) {
        let shared = Arc::clone(self);
        std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            loop {
                let count = match stream.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(_) => break,
                };
                take(&mut shared.lock(), &buffer[..count]);
                shared.news.notify_all();
            }
            shared.lock().closed = true;
            shared.news.notify_all();
        });
    }

    /// Reads a port.
    pub(crate) fn listen_to_port(self: &Arc<Self>, stream: UnixStream, index: usize) {
        self.listen(stream, move |heard, bytes| {
            // The time is taken under the lock: lines of all ports are in one order.
            if let Some(port) = heard.ports.get_mut(index) {
                port.push(bytes, Instant::now());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{Heard, Port, Seen};
    use std::time::{Duration, Instant};

    #[test]
    fn lines_keep_their_port_and_their_time() {
        let begin = Instant::now();
        let later = |millis| begin + Duration::from_millis(millis);
        let mut heard = Heard { ports: vec![Port::default(), Port::default()], ..Heard::default() };
        heard.ports[0].push(b"one\r\ntw", later(20));
        heard.ports[1].push(b"first\nsecond\n", later(10));
        heard.ports[0].push(b"o\n", later(30));
        let seen = |which, line: &str, millis| Some(Seen { which, line: line.to_owned(), at: later(millis) });
        // Of several ports the line that came first; of one port its own, whatever others have said.
        assert_eq!(heard.take_line(&[(7, 0), (8, 1)]), seen(8, "first", 10));
        assert_eq!(heard.take_line(&[(0, 0)]), seen(0, "one", 20));
        assert_eq!(heard.take_line(&[(0, 0)]), seen(0, "two", 30));
        assert_eq!(heard.take_line(&[(0, 0)]), None);
        assert_eq!(heard.take_line(&[(0, 0), (1, 1)]), seen(1, "second", 10));
        assert_eq!(heard.take_line(&[]), None);
    }
}
