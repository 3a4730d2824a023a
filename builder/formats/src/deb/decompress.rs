//! Decompression of a member with bounds on memory and output.

use super::Error;
use super::ar::Member;
use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, MtStreamBuilder, Stream};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};

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
    copy(member, how, &mut bytes, (limit, 1))?;
    Ok(bytes)
}

/// Streams the unpacked member to `target`, at most `limit` bytes, with at most so many threads.
pub(super) fn copy<R: Read>(
    member: &mut Member<'_, R>,
    how: Compression,
    target: &mut impl Write,
    (limit, threads): (u64, u32),
) -> Result<(), Error> {
    let outcome = match how {
        Compression::None => pump(member, target, limit).map(drop),
        Compression::Xz => xz(BufReader::with_capacity(1 << 16, &mut *member), target, (limit, threads)),
        Compression::Zstd => {
            zstd::Decoder::new(&mut *member).map_err(Outcome::Read).and_then(|mut decoder| {
                decoder.window_log_max(WINDOW_LOG).map_err(Outcome::Read)?;
                pump(&mut decoder, target, limit).map(drop)
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

/// liblzma's decoder for many threads ends at the end of a stream (.xz file format, section 2), so the streams are
/// counted here.
fn xz(
    mut source: impl BufRead,
    target: &mut impl Write,
    (limit, threads): (u64, u32),
) -> Result<(), Outcome> {
    let failed = |error: liblzma::stream::Error| Outcome::Read(error.into());
    if threads <= 1 {
        let stream = Stream::new_stream_decoder(MEMORY, CONCATENATED).map_err(failed)?;
        return pump(&mut XzDecoder::new_stream(source, stream), target, limit).map(drop);
    }
    let mut builder = MtStreamBuilder::new();
    builder.threads(threads).memlimit_threading(MEMORY).memlimit_stop(MEMORY);
    let mut left = limit;
    loop {
        let mut decoder = XzDecoder::new_stream(source, builder.decoder().map_err(failed)?);
        left -= pump(&mut decoder, target, left)?;
        source = decoder.into_inner();
        if skip_padding(&mut source).map_err(Outcome::Read)? {
            return Ok(());
        }
    }
}

/// Passes over the zeros that may lie between streams and after the last (section 2.2); true at the end.
fn skip_padding(source: &mut impl BufRead) -> std::io::Result<bool> {
    let mut total = 0_usize;
    loop {
        let bytes = source.fill_buf()?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let (end, more) = (bytes.is_empty(), zeros < bytes.len());
        source.consume(zeros);
        total += zeros;
        if end || more {
            return if total.is_multiple_of(4) { Ok(end) } else { Err(ErrorKind::InvalidData.into()) };
        }
    }
}

/// Gives the number of bytes.
fn pump(source: &mut impl Read, target: &mut impl Write, limit: u64) -> Result<u64, Outcome> {
    let mut buf = vec![0; 1 << 17];
    let mut total = 0_u64;
    loop {
        let got = match source.read(&mut buf) {
            Ok(0) => return Ok(total),
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
