//! What an image's header says.

use super::{COMPRESSION_BIT, MAGIC, ZSTD};
use crate::io::ReadAt;
use std::io;

/// How compressed clusters are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Raw deflate, the default of the format.
    Zlib,
    /// zstd.
    Zstd,
    /// Unknown.
    Other(u8),
}

/// Facts of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// Bytes of the guest's disk.
    pub virtual_size: u64,
    /// Bytes a cluster.
    pub cluster_size: u64,
    /// The image of which this one holds the changes.
    pub backing_file: Option<String>,
    /// What compressed clusters would be.
    pub compression: Compression,
    /// True when data is encrypted.
    pub encrypted: bool,
    /// Number of internal snapshots.
    pub snapshots: u32,
}

/// Why bytes are not such an image.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No `QFI\xfb`.
    #[error("not a qcow2 image: no QFI\\xfb at its start")]
    NotAnImage,
    /// A field cannot be.
    #[error("the qcow2 header is impossible: {0}")]
    Header(&'static str),
    /// The source could not be read.
    #[error("reading the qcow2 header: {0}")]
    Io(#[from] io::Error),
}

/// Reads the header of an image (qcow2.rst, Header).
///
/// # Errors
/// See [`ReadError`].
pub fn read_header(source: &dyn ReadAt) -> Result<Header, ReadError> {
    // Versions 2 and 3 have 72 and at least 104 bytes; what a short file lacks counts as zero.
    let mut bytes = [0; 112];
    let len = usize::try_from(source.size()?).unwrap_or(bytes.len()).min(bytes.len());
    source.read_exact_at(&mut bytes[..len], 0)?;
    if !bytes.starts_with(MAGIC) {
        return Err(ReadError::NotAnImage);
    }
    let u32_at = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) << 32 | u64::from(u32_at(at + 4));
    let version = u32_at(4);
    if !matches!(version, 2 | 3) || len < 72 || version == 3 && len < 104 {
        return Err(ReadError::Header("its version is neither 2 nor 3, or it is cut short"));
    }
    let bits = u32_at(20);
    if !(9..=21).contains(&bits) {
        return Err(ReadError::Header("its clusters are not 512 bytes to 2 MiB"));
    }
    let (backing, backing_len) = (u64_at(8), u32_at(16));
    let backing_file = match backing {
        0 => None,
        _ if backing_len > 1023 => return Err(ReadError::Header("its backing file's name is too long")),
        offset => {
            let mut name = vec![0; usize::try_from(backing_len).unwrap_or_default()];
            source.read_exact_at(&mut name, offset)?;
            Some(String::from_utf8_lossy(&name).into_owned())
        }
    };
    let chosen = version == 3 && u64_at(72) & COMPRESSION_BIT != 0 && u32_at(100) > 104;
    let compression = match bytes[104] {
        0 => Compression::Zlib,
        _ if !chosen => Compression::Zlib,
        ZSTD => Compression::Zstd,
        other => Compression::Other(other),
    };
    Ok(Header {
        version,
        virtual_size: u64_at(24),
        cluster_size: 1 << bits,
        backing_file,
        compression,
        encrypted: u32_at(32) != 0,
        snapshots: u32_at(60),
    })
}
