//! Files of which no digest is known yet, for a lock.

use super::{End, Error, Fetcher, Location, MOST, Tried, Wanted};
use crate::cache;
use crate::digest::{Hashing, Sha256};
use crate::fetch::http::Fault;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};

/// A file that came without a digest: it is in the cache now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Where it came from.
    pub from: Location,
    /// Bytes.
    pub size: u64,
    /// Digest of the bytes that came.
    pub sha256: Sha256,
}

fn wanted(name: &str) -> Wanted {
    Wanted { name: name.to_owned(), from: Vec::new(), size: None, sha256: Sha256::of(&[]) }
}

impl Fetcher<'_> {
    /// Fetches a file of which no digest is known, from the first place that has it, into the cache. The caller answers
    /// for the place.
    pub fn unpinned(&self, name: &str, from: &[Location]) -> Result<Taken, Error> {
        let wanted = wanted(name);
        let mut tried = Vec::new();
        for location in from {
            let mut taken = None;
            let fetched = self.patiently(&wanted, location, || {
                taken = Some(self.try_unpinned(location)?);
                Ok(())
            })?;
            match (fetched, taken) {
                (Ok(()), Some((size, sha256))) => return Ok(Taken { from: location.clone(), size, sha256 }),
                (Err(reason), _) => tried.push(self.note(&wanted, location, reason)),
                (Ok(()), None) => {}
            }
        }
        Err(Error::Nowhere { name: wanted.name, tried })
    }

    /// Bytes of a file, as the first place that has it says before it sends it; none when that place does not say.
    pub fn size(&self, name: &str, from: &[Location]) -> Result<Option<u64>, Error> {
        let wanted = wanted(name);
        let mut tried: Vec<Tried> = Vec::new();
        for location in from {
            let mut size = None;
            let asked = self.patiently(&wanted, location, || {
                // Not HEAD: addresses that are signed for GET, as those behind releases are, may refuse it.
                size = self.client.get(location, 0).map_err(End::Fault)?.length;
                Ok(())
            })?;
            match asked {
                Ok(()) => return Ok(size),
                Err(reason) => tried.push(self.note(&wanted, location, reason)),
            }
        }
        Err(Error::Nowhere { name: wanted.name, tried })
    }

    fn try_unpinned(&self, location: &Location) -> Result<(u64, Sha256), End> {
        let mut answer = self.client.get(location, 0).map_err(End::Fault)?;
        self.progress.begin(1, answer.length.unwrap_or(0));
        let mut incoming = self.cache.incoming()?;
        let path = incoming.path().to_owned();
        let write_fault = |fault| cache::Error::io("write", &path, fault);
        incoming.as_file_mut().seek(SeekFrom::Start(0)).map_err(write_fault)?;
        let mut hashing = Hashing::new(incoming.as_file_mut());
        let mut buffer = vec![0; 128 << 10];
        let mut have = 0;
        loop {
            let read = match answer.bytes.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => &buffer[..read],
                Err(fault) => {
                    let cut = format!("the connection was cut after {have} bytes ({fault})");
                    return Err(End::Fault(Fault::Passing(cut)));
                }
            };
            have += read.len() as u64;
            if have > MOST {
                return Err(End::Fault(Fault::Lasting(format!("it sends more than {MOST} bytes"))));
            }
            hashing.write_all(read).map_err(write_fault)?;
            self.progress.advance(read.len() as u64);
        }
        // A digest of half a file must never be locked.
        if let Some(length) = answer.length.filter(|length| *length != have) {
            let cut = format!("the connection was cut after {have} of {length} bytes");
            return Err(End::Fault(Fault::Passing(cut)));
        }
        let (_, sha256, _) = hashing.finish();
        self.cache.keep(incoming, &sha256)?;
        Ok((have, sha256))
    }
}
