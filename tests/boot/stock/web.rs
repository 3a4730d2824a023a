//! A web server as a person starts one beside a seed: files of a folder, to whoever asks.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The server. It ends with the test's process.
#[derive(Debug)]
pub(super) struct Web {
    /// Port of 127.0.0.1.
    pub(super) port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Web {
    pub(super) fn serve(folder: &Path) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (folder, seen) = (folder.to_owned(), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (folder, seen) = (folder.clone(), Arc::clone(&seen));
                // Who hangs up early has what he wanted.
                std::thread::spawn(move || drop(answer(&stream, &folder, &seen)));
            }
        });
        Self { port, asked }
    }

    /// The paths that were asked for and found since the last call.
    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn answer(mut stream: &TcpStream, folder: &Path, seen: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    // No `..`: a path that is not plain is not there.
    let plain = PathBuf::from(&path).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    match fs::read(folder.join(&path)) {
        Ok(bytes) if plain => {
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(path);
            write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len())?;
            stream.write_all(&bytes)
        }
        _ => write!(stream, "HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    }
}
