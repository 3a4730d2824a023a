//! What can go wrong while reading.

/// Why bytes cannot be read as ext4.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The source failed, or ended too early.
    #[error("cannot read at byte {offset} of the file system")]
    Source {
        /// Bytes from the start of the file system.
        offset: u64,
        /// The error of the source.
        source: std::io::Error,
    },
    /// There is no ext superblock.
    #[error("this is no ext4 file system")]
    NotExt4,
    /// The source is shorter than the file system.
    #[error("the file system has {size} bytes, and only {given} are there")]
    CutOff {
        /// Bytes of the file system.
        size: u64,
        /// Bytes of the source.
        given: u64,
    },
    /// A structure makes no sense, or its checksum does not fit.
    #[error("damaged: {what} {at}")]
    Corrupt {
        /// The structure, and what it is numbered by.
        what: &'static str,
        /// Its inode, block, group or byte.
        at: u64,
    },
    /// A feature that this reader does not know.
    #[error("not supported: {0}")]
    Unsupported(&'static str),
    /// A file with more bytes than the caller wants.
    #[error("a file of {len} bytes, and at most {limit} are wanted")]
    TooLarge {
        /// Bytes of the file.
        len: u64,
        /// What the caller takes.
        limit: u64,
    },
}
