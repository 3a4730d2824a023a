//! Files of which no digest is known yet, for a lock.

use super::{End, Error, Fetcher, Location, MOST};
use crate::cache;
use crate::digest::{Hashing, Sha256};
use crate::fetch::http::Fault;
use std::io::Write as _;

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

impl Fetcher<'_> {
    /// Fetches a file of which no digest is known, from the first place that has it, into the cache. The caller answers
    /// for the place.
    pub fn unpinned(&self, name: &str, from: &[Location]) -> Result<Taken, Error> {
        self.anywhere(name, from, |location| self.try_unpinned(location))
    }

    /// Bytes of a file, as the first place that has it says before it sends it; none when that place does not say.
    pub fn size(&self, name: &str, from: &[Location]) -> Result<Option<u64>, Error> {
        // Not HEAD: addresses that are signed for GET, as those behind releases are, may refuse it.
        self.anywhere(name, from, |location| Ok(self.client.get(location, 0).map_err(End::Fault)?.length))
    }

    fn try_unpinned(&self, location: &Location) -> Result<Taken, End> {
        let mut answer = self.client.get(location, 0).map_err(End::Fault)?;
        self.progress.begin(1, answer.length.unwrap_or(0));
        let mut incoming = self.cache.incoming()?;
        let path = incoming.path().to_owned();
        let mut hashing = Hashing::new(incoming.as_file_mut());
        let size = self.receive(&mut answer.bytes, (0, MOST), |bytes, _| {
            hashing.write_all(bytes).map_err(|fault| cache::Error::io("write", &path, fault))?;
            self.progress.advance(bytes.len() as u64);
            Ok(())
        })?;
        // A digest of half a file must never be locked.
        if let Some(length) = answer.length.filter(|length| *length != size) {
            let cut = format!("the connection was cut after {size} of {length} bytes");
            return Err(End::Fault(Fault::Passing(cut)));
        }
        let (_, sha256, _) = hashing.finish();
        self.cache.keep(incoming, &sha256)?;
        Ok(Taken { from: location.clone(), size, sha256 })
    }
}
