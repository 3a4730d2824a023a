//! A web server on 127.0.0.1 for tests, with the faults that real mirrors have.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What goes wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// A byte, and again one after so many milliseconds.
    Drip(u64),
    /// The connection is cut after this many bytes of the body, each time.
    CutAfter(usize),
    /// The same for as many requests as the second number says, then all is well.
    CutAfterFor(usize, u32),
    /// HTTP 503 for this many requests, then all is well.
    BusyFor(u32),
    /// `Range` is not looked at.
    NoRanges,
    /// The answer ends with the connection, and does not say how long it is.
    NoLength,
    /// Silence of this many milliseconds before the answer.
    Slow(u64),
    /// The bytes are answered with another status.
    Status(u16),
}

#[derive(Default)]
struct Site {
    files: BTreeMap<String, Vec<u8>>,
    mishaps: BTreeMap<String, Mishap>,
    log: Vec<String>,
}

/// The running server; it ends when dropped.
pub(crate) struct Server {
    address: String,
    site: Arc<Mutex<Site>>,
    ended: Arc<AtomicBool>,
}

impl Server {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (site, ended) = (Arc::new(Mutex::new(Site::default())), Arc::new(AtomicBool::new(false)));
        let (of_thread, is_ended) = (Arc::clone(&site), Arc::clone(&ended));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if is_ended.load(Ordering::SeqCst) {
                    return;
                }
                let (stream, site) = (stream.unwrap(), Arc::clone(&of_thread));
                std::thread::spawn(move || answer(&stream, &site));
            }
        });
        Self { address, site, ended }
    }

    pub(crate) fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.site.lock().unwrap().files.insert(path.to_owned(), bytes.into());
    }

    pub(crate) fn remove(&self, path: &str) {
        self.site.lock().unwrap().files.remove(path);
    }

    pub(crate) fn bytes(&self, path: &str) -> Vec<u8> {
        self.site.lock().unwrap().files[path].clone()
    }

    pub(crate) fn mishap(&self, path: &str, mishap: Mishap) {
        self.site.lock().unwrap().mishaps.insert(path.to_owned(), mishap);
    }

    /// The address of a path.
    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.address)
    }

    /// What was asked for since the last call: `path` or `path from N`.
    pub(crate) fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.site.lock().unwrap().log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address.trim_start_matches("http://"));
    }
}

/// An address that nothing listens at.
pub(crate) fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn answer(mut stream: &TcpStream, site: &Mutex<Site>) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let path = first.split(' ').nth(1).unwrap().trim_start_matches('/').to_owned();
    let (mut from, mut asked) = (0, None);
    for line in lines.take_while(|line| !line.is_empty()) {
        if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().unwrap();
            asked = Some(from);
        }
    }
    let (bytes, mishap) = {
        let mut site = site.lock().unwrap();
        site.log.push(asked.map_or(path.clone(), |from| format!("{path} from {from}")));
        let mishap = site.mishaps.get(&path).copied();
        let left = match mishap {
            Some(Mishap::BusyFor(times)) => Some(Mishap::BusyFor(times.saturating_sub(1))),
            Some(Mishap::CutAfterFor(at, times)) => Some(Mishap::CutAfterFor(at, times.saturating_sub(1))),
            other => other,
        };
        left.map(|left| site.mishaps.insert(path.clone(), left));
        (site.files.get(&path).cloned(), mishap)
    };
    let mut send = |head: &str, body: &[u8]| {
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    };
    let close = "Connection: close\r\n\r\n";
    if let Some(Mishap::Drip(milliseconds)) = mishap {
        let bytes = bytes.unwrap_or_default();
        send(&format!("HTTP/1.1 200 X\r\nContent-Length: {}\r\n{close}", bytes.len()), b"");
        for byte in bytes {
            if stream.write_all(&[byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(milliseconds));
        }
        return;
    }
    if let Some(Mishap::Slow(milliseconds)) = mishap {
        std::thread::sleep(Duration::from_millis(milliseconds));
    }
    let status = match (&bytes, mishap) {
        (_, Some(Mishap::BusyFor(1..))) => 503,
        (_, Some(Mishap::Status(status))) => status,
        (None, _) => 404,
        (Some(bytes), _) if from > bytes.len() || (from == bytes.len() && from > 0) => 416,
        (Some(_), _) => 200,
    };
    let Some(bytes) = bytes.filter(|_| status == 200) else {
        return send(&format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n{close}"), b"");
    };
    let from = if mishap == Some(Mishap::NoRanges) { 0 } else { from };
    let body = &bytes[from..];
    let range = format!("Content-Range: bytes {from}-{}/{}\r\n", bytes.len().saturating_sub(1), bytes.len());
    let (status, range) = if from > 0 { (206, range.as_str()) } else { (200, "") };
    let until = match mishap {
        Some(Mishap::CutAfter(at) | Mishap::CutAfterFor(at, 1..)) => at.min(body.len()),
        _ => body.len(),
    };
    let length = match mishap {
        Some(Mishap::NoLength) => String::new(),
        _ => format!("Content-Length: {}\r\n", body.len()),
    };
    send(&format!("HTTP/1.1 {status} X\r\n{length}{range}{close}"), &body[..until]);
}
