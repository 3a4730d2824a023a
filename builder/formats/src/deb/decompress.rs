//! Decompression of a member with bounds on memory and output.

use super::Error;
use super::ar::Member;
use liblzma::stream::{CONCATENATED, Stream};
use std::io::{ErrorKind, Read, Write};

/// Memory that a decoder may take: xz's largest preset wants 65 MiB, dpkg's largest zstd window 128 MiB.
const MEMORY: u64 = 256 << 20;
/// The base-two logarithm of the largest zstd window that is accepted (128 MiB, zstd's own default).
const WINDOW_LOG: u32 = 27;

/// The compressions of deb(5) that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Xz,
    Zstd,
}

impl Compression {
    /// By the suffix of a member's name.
    pub(super) fn of(member: &str) -> Result<Self, Error> {
        match member.rsplit_once(".tar").map(|(_, suffix)| suffix) {
            Some("") => Ok(Self::None),
            Some(".xz") => Ok(Self::Xz),
            Some(".zst") => Ok(Self::Zstd),
            _ => Err(Error::Compression(member.to_owned())),
        }
    }
}

/// The whole unpacked member, at most `limit` bytes.
pub(super) fn to_vec<R: Read>(
    member: &mut Member<'_, R>,
    how: Compression,
    limit: u64,
) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    copy(member, how, &mut bytes, limit)?;
    Ok(bytes)
}

/// Streams the unpacked member to `target`, at most `limit` bytes.
pub(super) fn copy<R: Read>(
    member: &mut Member<'_, R>,
    how: Compression,
    target: &mut impl Write,
    limit: u64,
) -> Result<(), Error> {
    let outcome = match how {
        Compression::None => pump(member, target, limit),
        Compression::Xz => Stream::new_stream_decoder(MEMORY, CONCATENATED)
            .map_err(|error| Outcome::Read(error.into()))
            .and_then(|stream| {
                let buffered = std::io::BufReader::with_capacity(1 << 16, &mut *member);
                pump(&mut liblzma::bufread::XzDecoder::new_stream(buffered, stream), target, limit)
            }),
        Compression::Zstd => {
            zstd::Decoder::new(&mut *member).map_err(Outcome::Read).and_then(|mut decoder| {
                decoder.window_log_max(WINDOW_LOG).map_err(Outcome::Read)?;
                pump(&mut decoder, target, limit)
            })
        }
    };
    let name = || member.name.clone();
    match outcome {
        Ok(()) => Ok(()),
        Err(Outcome::Read(source)) => {
            Err(member.truncated().unwrap_or_else(|| Error::Corrupt { member: name(), source }))
        }
        Err(Outcome::Write(error)) => Err(Error::Write(error)),
        Err(Outcome::TooLarge) => Err(Error::TooLarge { member: name(), limit }),
    }
}

enum Outcome {
    Read(std::io::Error),
    Write(std::io::Error),
    TooLarge,
}

fn pump(source: &mut impl Read, target: &mut impl Write, limit: u64) -> Result<(), Outcome> {
    let mut buf = vec![0; 1 << 17];
    let mut total = 0_u64;
    loop {
        let got = match source.read(&mut buf) {
            Ok(0) => return Ok(()),
            Ok(got) => got,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(Outcome::Read(error)),
        };
        total += got as u64;
        if total > limit {
            return Err(Outcome::TooLarge);
        }
        target.write_all(&buf[..got]).map_err(Outcome::Write)?;
    }
}
