//! A file out of an archive.

use super::{Error, Placing};
use crate::cache;
use crate::lock::{self, Url};
use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::Path;
use std::rc::Rc;
use tar::EntryType;

/// The most bytes that an archive may unpack to: 8 GiB.
const MOST: u64 = 8 << 30;
/// Memory that xz may take: its largest preset wants 65 MiB.
const MEMORY: u64 = 128 << 20;
/// The most bytes of the headers of a file, its name among them.
const MOST_HEADER: u64 = 32 << 10;
/// Longer names are of no file that was meant.
const LONGEST: usize = 4096;
/// Names that an error lists.
const LISTED: usize = 5;
/// Names that are looked through for those.
const LOOKED_AT: usize = 20_000;

/// The file `member` of an archive in the cache, unpacked, and its bytes. It is unpacked into the cache, once.
pub(super) fn unpacked(
    (locked, member): (&lock::Artefact, &str),
    archive: &Path,
    placing: &Placing<'_>,
) -> Result<(File, u64), Error> {
    let key = blake3::hash(format!("member {} {member}", locked.sha256).as_bytes()).to_hex();
    let length = |file: File| -> Result<(File, u64), Error> {
        let length = file.metadata().map_err(|fault| cache::Error::io("read", archive, fault))?.len();
        Ok((file, length))
    };
    if let Some(file) = placing.cache.blob(&key).filter(|_| !placing.fresh) {
        return length(file);
    }
    let mut missing = None;
    let stored = placing.cache.store_blob(&key, |file| {
        let names = copy(&locked.url, archive, (member, file))?;
        missing = names;
        // Nothing gets the name of a member that is not there.
        if missing.is_some() { Err(io::ErrorKind::NotFound.into()) } else { Ok(()) }
    });
    if let Some(names) = missing {
        let (name, near) = (locked.name.clone(), nearest(member, names));
        return Err(Error::NoMember { name, member: member.to_owned(), near });
    }
    match stored {
        Ok(file) => length(file),
        Err(cache::Error::Io { source, .. }) => Err(Error::Archive { name: locked.name.clone(), source }),
        Err(fault) => Err(fault.into()),
    }
}

/// Copies the member; where there is none, gives the names of the files that there are.
fn copy(url: &str, archive: &Path, (member, target): (&str, &mut File)) -> io::Result<Option<Vec<String>>> {
    let plain = |name: &str| name.trim_start_matches("./").to_owned();
    let (wanted, mut names) = (plain(member), Vec::new());
    let left = Rc::new(Cell::new(MOST_HEADER));
    let metered = Metered { archive: reader(url, archive)?.take(MOST), left: Rc::clone(&left) };
    let mut archive = tar::Archive::new(metered);
    for entry in archive.entries()? {
        let mut entry = entry?;
        // What is passed over, and the next header.
        left.set(entry.header().entry_size()?.saturating_add(MOST_HEADER));
        let name = plain(&String::from_utf8_lossy(&entry.path_bytes()));
        let kind = entry.header().entry_type();
        if !matches!(kind, EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse) {
            continue;
        }
        if name == wanted {
            let size = entry.size();
            return match io::copy(&mut entry, target)? {
                copied if copied == size => Ok(None),
                _ => Err(ErrorKind::UnexpectedEof.into()),
            };
        }
        if names.len() < LOOKED_AT && name.len() <= LONGEST {
            names.push(name);
        }
    }
    Ok(Some(names))
}

/// An archive of which only so much is read as the files in it account for: a long name is read into memory whole.
struct Metered<R> {
    archive: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left.get()).unwrap_or(usize::MAX).min(buf.len());
        if most == 0 && !buf.is_empty() {
            return Err(io::Error::new(ErrorKind::InvalidData, "a name in it is too long"));
        }
        let read = self.archive.read(&mut buf[..most])?;
        self.left.set(self.left.get() - read as u64);
        Ok(read)
    }
}

/// The archive, decompressed by the ending of its address.
fn reader(url: &str, archive: &Path) -> io::Result<Box<dyn Read>> {
    let file = BufReader::with_capacity(1 << 17, File::open(archive)?);
    let name = Url::parse(url).map(|url| url.file_name()).unwrap_or_default();
    Ok(match name.rsplit('.').next() {
        Some("gz" | "tgz") => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        Some("xz") => {
            let stream = liblzma::stream::Stream::new_stream_decoder(MEMORY, liblzma::stream::CONCATENATED)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(file, stream))
        }
        Some("zst") => Box::new(zstd::Decoder::with_buffer(file)?),
        _ => Box::new(file),
    })
}

/// The names that were most likely meant: those of the same file elsewhere, then the most similar.
fn nearest(member: &str, mut names: Vec<String>) -> Vec<String> {
    let base = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let wanted = base(member);
    names.sort_by_cached_key(|name| {
        (base(name) != wanted, strsim::damerau_levenshtein(member, name), name.clone())
    });
    names.dedup();
    names.truncate(LISTED);
    names
}
