//! Files into the cache: every place tried in turn, cut downloads resumed, size and digest checked before a
//! file gets its name.

mod unpinned;

pub use unpinned::Taken;

use super::Progress;
use super::http::{Client, Fault, Patience, SLOWEST};
use super::mirrors::Location;
use crate::cache::{self, Cache, Claim, Partial};
use crate::digest::{Hashing, Sha256};
use std::collections::BTreeSet;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

/// Downloads at the same time.
const THREADS: usize = 6;

/// The most bytes that a file of unknown size may have: 8 GiB.
const MOST: u64 = 8 << 30;

/// A file that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// For messages: `htop 3.4.1-5 (amd64)`.
    pub name: String,
    /// Where it can be had, the best place first.
    pub from: Vec<Location>,
    /// Its size in bytes, where that is known.
    pub size: Option<u64>,
    /// Its digest.
    pub sha256: Sha256,
}

/// One place that was tried, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// The place, without credentials.
    pub place: String,
    /// What came of it.
    pub reason: String,
}

/// Why a file cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Every place failed.
    #[error("cannot get {name}: {}", if tried.is_empty() {
        "no mirror has it; name one in the cluster file or in KILN_MIRROR".to_owned()
    } else {
        tried.iter().map(|tried| format!("{}: {}", tried.place, tried.reason)).collect::<Vec<_>>().join("; ")
    })]
    Nowhere {
        /// The file.
        name: String,
        /// The places.
        tried: Vec<Tried>,
    },
    /// Another download failed first.
    #[error("{name} was not fetched, because another download failed")]
    Cancelled {
        /// The file.
        name: String,
    },
    /// The cache.
    #[error(transparent)]
    Cache(#[from] cache::Error),
}

/// What fetches.
pub struct Fetcher<'a> {
    client: Client,
    cache: &'a Cache,
    progress: &'a dyn Progress,
    patience: Patience,
    /// Servers that could not be reached: they are not waited for again.
    down: Mutex<BTreeSet<String>>,
    stop: AtomicBool,
}

/// A file under way, and how many of its bytes the progress was told of.
struct Part {
    partial: Partial,
    shown: u64,
}

/// The end of one try.
enum End {
    Fault(Fault),
    Cache(cache::Error),
}

impl From<cache::Error> for End {
    fn from(fault: cache::Error) -> Self {
        Self::Cache(fault)
    }
}

impl<'a> Fetcher<'a> {
    /// Fetches into `cache` and tells `progress`.
    pub fn new(cache: &'a Cache, progress: &'a dyn Progress, patience: Patience) -> Self {
        let client = Client::new(patience);
        Self { client, cache, progress, patience, down: Mutex::default(), stop: AtomicBool::new(false) }
    }

    /// Fetches all files, several at a time, and gives their places in the cache in the same order. Nothing
    /// is asked for what is in the cache. The first file that fails stops the others.
    pub fn files(&self, wanted: &[Wanted]) -> Result<Vec<PathBuf>, Error> {
        let mut paths = Vec::with_capacity(wanted.len());
        for file in wanted {
            paths.push(self.cache.get(&file.sha256, file.size)?);
        }
        let mut missing: Vec<usize> = (0..wanted.len()).filter(|at| paths[*at].is_none()).collect();
        if !missing.is_empty() {
            missing.sort_by_key(|at| std::cmp::Reverse(wanted[*at].size)); // no long one left over at the end
            let bytes = missing.iter().filter_map(|at| wanted[*at].size).sum();
            self.progress.begin(missing.len(), bytes);
            self.stop.store(false, Ordering::Relaxed);
            let next = AtomicUsize::new(0);
            let done = Mutex::new(Vec::new());
            let work = || {
                while let Some(at) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = self.file(&wanted[*at]);
                    if result.is_err() {
                        self.stop.store(true, Ordering::Relaxed);
                    }
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((*at, result));
                }
            };
            thread::scope(|scope| (0..THREADS.min(missing.len())).for_each(|_| drop(scope.spawn(work))));
            let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
            done.sort_by_key(|(at, result)| (matches!(result, Err(Error::Cancelled { .. })), *at));
            for (at, result) in done {
                paths[at] = Some(result?);
            }
        }
        Ok(paths.into_iter().flatten().collect())
    }

    /// Fetches one file, unless it is in the cache, and gives its place there.
    pub fn file(&self, wanted: &Wanted) -> Result<PathBuf, Error> {
        let mut part = match self.cache.claim(&wanted.sha256, wanted.size)? {
            Claim::Here(path) => return Ok(path),
            Claim::Mine(partial) => Part { partial, shown: 0 },
        };
        self.anywhere(&wanted.name, &wanted.from, |location| self.try_file(wanted, location, &mut part))?;
        Ok(part.partial.finish()?)
    }

    /// Fetches bytes whose digest is not known beforehand, at most `limit` of them, from the first place for
    /// which `accept` gives something. What it refuses is told like any other fault of that place.
    pub fn fresh<T>(
        &self,
        name: &str,
        (from, limit): (&[Location], u64),
        mut accept: impl FnMut(Vec<u8>, &Location) -> Result<T, String>,
    ) -> Result<T, Error> {
        self.anywhere(name, from, |location| {
            let mut answer = self.client.get(location, 0).map_err(End::Fault)?;
            let mut bytes = Vec::new();
            self.receive(&mut answer.bytes, (0, limit), |piece, _| {
                bytes.extend_from_slice(piece);
                Ok(())
            })?;
            accept(bytes, location).map_err(|reason| End::Fault(Fault::Lasting(reason)))
        })
    }

    /// Asks one place after the other until one of them gives.
    fn anywhere<T>(
        &self,
        name: &str,
        from: &[Location],
        mut attempt: impl FnMut(&Location) -> Result<T, End>,
    ) -> Result<T, Error> {
        let mut tried = Vec::new();
        for location in from {
            match self.patiently(name, location, || attempt(location))? {
                Ok(given) => return Ok(given),
                Err(reason) => {
                    let place = location.to_string();
                    self.progress.message(&format!("{name}: {place}: {reason}"));
                    tried.push(Tried { place, reason });
                }
            }
        }
        Err(Error::Nowhere { name: name.to_owned(), tried })
    }

    /// Asks a place until it gives, or does not in a way that lasts, or patience ends.
    fn patiently<T>(
        &self,
        name: &str,
        location: &Location,
        mut attempt: impl FnMut() -> Result<T, End>,
    ) -> Result<Result<T, String>, Error> {
        let mut pause = self.patience.pause;
        for left in (0..self.patience.tries.max(1)).rev() {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::Cancelled { name: name.to_owned() });
            }
            if location.server().is_some_and(|server| self.down().contains(server)) {
                return Ok(Err("it could not be reached before".to_owned()));
            }
            match attempt() {
                Ok(given) => return Ok(Ok(given)),
                Err(End::Cache(fault)) => return Err(fault.into()),
                Err(End::Fault(fault)) if left == 0 || matches!(fault, Fault::Lasting(_)) => {
                    if let (Fault::Unreachable(_), Some(server)) = (&fault, location.server()) {
                        self.down().insert(server.to_owned());
                    }
                    return Ok(Err(fault.text().to_owned()));
                }
                Err(End::Fault(_)) => {
                    thread::sleep(pause);
                    pause *= 2;
                }
            }
        }
        Ok(Err("it was not tried".to_owned()))
    }

    /// One try at one place, appending to what is there.
    fn try_file(&self, wanted: &Wanted, location: &Location, part: &mut Part) -> Result<(), End> {
        let Part { partial, shown } = part;
        let path = partial.path().to_owned();
        let write_fault = |fault| cache::Error::io("write", &path, fault);
        let most = wanted.size.unwrap_or(MOST);
        let file = partial.file();
        let mut hashing = Hashing::new(io::sink());
        file.seek(SeekFrom::Start(0)).map_err(write_fault)?;
        let mut have = io::copy(&mut file.take(most + 1), &mut hashing).map_err(write_fault)?;
        let resumed = have > 0 && have <= most;
        if have > most {
            have = 0;
        }
        if wanted.size != Some(have) || have == 0 {
            let mut answer = self.client.get(location, have).map_err(End::Fault)?;
            if answer.from == 0 {
                (have, hashing) = (0, Hashing::new(io::sink()));
                file.set_len(0).map_err(write_fault)?;
            }
            file.seek(SeekFrom::Start(have)).map_err(write_fault)?;
            have = self.receive(&mut answer.bytes, (have, most), |bytes, have| {
                file.write_all(bytes).map_err(write_fault)?;
                hashing.write_all(bytes).map_err(write_fault)?;
                if have > *shown {
                    self.progress.advance(have - *shown);
                    *shown = have;
                }
                Ok(())
            })?;
        }
        match wanted.size {
            Some(size) if have < size => {
                let cut = format!("the connection was cut after {have} of {size} bytes");
                return Err(End::Fault(Fault::Passing(cut)));
            }
            _ => {}
        }
        let (_, got, _) = hashing.finish();
        if got == wanted.sha256 {
            return Ok(());
        }
        file.set_len(0).map_err(write_fault)?;
        let wrong = format!("its bytes have SHA-256 {got}, wanted is {}", wanted.sha256);
        // The first part may be another place's: ask this one for all of it before blaming it.
        Err(End::Fault(if resumed { Fault::Passing(wrong) } else { Fault::Lasting(wrong) }))
    }

    /// Takes what a place sends to its end, `have` bytes of the file being there before, `most` the most that it may
    /// have. `take` gets each piece and how many bytes of the file are there with it. Gives that number at the end.
    fn receive(
        &self,
        bytes: &mut dyn Read,
        (mut have, most): (u64, u64),
        mut take: impl FnMut(&[u8], u64) -> Result<(), cache::Error>,
    ) -> Result<u64, End> {
        let mut buffer = vec![0; 128 << 10];
        let (began, before) = (Instant::now(), have);
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(End::Fault(Fault::Passing("another download failed".to_owned())));
            }
            let piece = match bytes.read(&mut buffer) {
                Ok(0) => return Ok(have),
                Ok(read) => &buffer[..read],
                Err(fault) => {
                    let cut = format!("the connection was cut after {have} bytes ({fault})");
                    return Err(End::Fault(Fault::Passing(cut)));
                }
            };
            have += piece.len() as u64;
            // A server that sends a byte now and then never falls silent.
            let (took, got) = (began.elapsed(), have - before);
            if took.saturating_sub(self.patience.grace).as_secs() > got / SLOWEST {
                let slow = format!("it is too slow: {got} bytes in {} s", took.as_secs());
                return Err(End::Fault(Fault::Lasting(slow)));
            }
            if have > most {
                return Err(End::Fault(Fault::Lasting(format!("it sends more than {most} bytes"))));
            }
            take(piece, have)?;
        }
    }

    fn down(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
