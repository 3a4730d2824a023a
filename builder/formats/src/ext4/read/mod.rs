//! Reading.

/// Why bytes cannot be read as ext4.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The source failed.
    #[error("cannot read byte {offset}")]
    Source {
        /// Bytes from the start of the file system.
        offset: u64,
        /// The error of the source.
        source: std::io::Error,
    },
    /// A structure makes no sense, or its checksum does not fit.
    #[error("the {what} at {at} is damaged")]
    Corrupt {
        /// The structure.
        what: &'static str,
        /// Its inode, block or byte.
        at: u64,
    },
    /// A feature that this reader does not know.
    #[error("not supported: {0}")]
    Unsupported(&'static str),
}
