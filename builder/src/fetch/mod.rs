//! The network: where archives and artefacts are, and files from there into the cache.

pub mod artefacts;
pub mod download;
pub mod http;
pub mod mirrors;
mod names;
mod proxy;
#[cfg(test)]
pub(crate) mod server;
mod trust;

/// Told how a download goes; the command line draws it.
pub trait Progress: Sync {
    /// `files` files of `bytes` bytes in all are about to be fetched.
    fn begin(&self, files: usize, bytes: u64);
    /// `bytes` more bytes are here.
    fn advance(&self, bytes: u64);
    /// One line that the user may want to know: a mirror that failed, a file that is resumed.
    fn message(&self, text: &str);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: usize, _: u64) {}
    fn advance(&self, _: u64) {}
    fn message(&self, _: &str) {}
}
