//! Debian binary packages, deb(5): an `ar` archive of `debian-binary`, `control.tar` and `data.tar`.
//!
//! [`read`] decompresses once and streams the file system archive to a file; [`index`] reads only the
//! headers of that file and gives a tree whose contents stay where they are. Keep the file, and the next run
//! pays for the headers alone.

mod ar;
mod decompress;
mod index;

pub use index::index;

use ar::Member;
use decompress::Compression;
use std::collections::BTreeMap;
use std::io::{Read, Write};

/// Bounds on what a package may unpack to, as hostile packages grow without end otherwise, and on what it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the unpacked `control.tar`.
    pub control: u64,
    /// Bytes of the unpacked `data.tar`.
    pub data: u64,
    /// Threads that decompress `data.tar` where it was packed in blocks; large packages are.
    pub threads: u32,
}

impl Default for Limits {
    /// 64 MiB of control members and 16 GiB of files: several times the largest package of Debian. One thread.
    fn default() -> Self {
        Self { control: 64 << 20, data: 16 << 30, threads: 1 }
    }
}

/// A member of `control.tar`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlFile {
    /// Permission bits as packed; dpkg keeps them under `/var/lib/dpkg/info`.
    pub mode: u16,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// The control archive: every regular file of it by name (`control`, `postinst`, `md5sums`, `templates` …).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Control {
    /// Members by name, without `./`.
    pub files: BTreeMap<String, ControlFile>,
}

impl Control {
    /// The bytes of a member.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(|file| file.bytes.as_slice())
    }
    /// The text of a member; bytes that are not UTF-8 are replaced.
    pub fn text(&self, name: &str) -> Option<std::borrow::Cow<'_, str>> {
        self.get(name).map(String::from_utf8_lossy)
    }
}

/// Why bytes are not a Debian package that can be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The first bytes are not an `ar` archive with `debian-binary` in front.
    #[error("not a Debian package: {0}")]
    NotADeb(&'static str),
    /// The `debian-binary` member names a major version other than 2.
    #[error("Debian package format {0:?} is not known (2.0 is)")]
    Version(String),
    /// The file ends before the size that a member's header gives.
    #[error("the package is cut short inside {member}: {missing} of {size} bytes are missing")]
    Truncated {
        /// Member of the `ar` archive.
        member: String,
        /// Bytes that are not there.
        missing: u64,
        /// Bytes that the header promises.
        size: u64,
    },
    /// A member is not where deb(5) puts it.
    #[error("the package has no {wanted}: found {found:?}")]
    Missing {
        /// The member that should be there.
        wanted: &'static str,
        /// What is there instead.
        found: String,
    },
    /// A compression that is not read.
    #[error("{0} is packed in a way that is not read (xz, zst and none are); repack it with `dpkg-deb -Zxz`")]
    Compression(String),
    /// A compressed stream does not decompress.
    #[error("{member} does not decompress: {source}")]
    Corrupt {
        /// Member of the `ar` archive.
        member: String,
        /// What the decoder says.
        source: std::io::Error,
    },
    /// A member unpacks to more than the limit.
    #[error("{member} unpacks to more than {limit} bytes")]
    TooLarge {
        /// Member of the `ar` archive.
        member: String,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The tar archive inside is not well-formed.
    #[error("bad archive inside the package: {0}")]
    Tar(std::io::Error),
    /// An entry of the tar archive that has no place in a file tree.
    #[error("bad entry {path:?} inside the package: {reason}")]
    Entry {
        /// The path as written.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The source could not be read.
    #[error("the package cannot be read: {0}")]
    Read(std::io::Error),
    /// The unpacked archive could not be written.
    #[error("the unpacked files cannot be written: {0}")]
    Write(std::io::Error),
}

/// Reads a package from its first byte: returns the control archive and streams the unpacked `data.tar` to
/// `unpacked`, for [`index`]. Memory stays at the decoder's own, at most 256 MiB, and the control archive.
///
/// # Errors
/// Every [`Error`] but `Entry` for files; `unpacked` then holds a part and must be thrown away.
pub fn read(source: &mut impl Read, unpacked: &mut impl Write, limits: &Limits) -> Result<Control, Error> {
    ar::magic(source)?;
    let mut version = Member::next(source)?;
    if version.name != "debian-binary" {
        return Err(Error::NotADeb("its first member is not debian-binary"));
    }
    let text = decompress::to_vec(&mut version, Compression::None, 64)?;
    if !text.starts_with(b"2.") {
        return Err(Error::Version(String::from_utf8_lossy(&text).trim_end().to_owned()));
    }
    version.skip_rest()?;

    let mut member = Member::find(source, "control.tar")?;
    let compression = Compression::of(&member.name)?;
    let archive = decompress::to_vec(&mut member, compression, limits.control)?;
    member.skip_rest()?;
    let control = Control { files: index::control_files(&archive)? };

    let mut member = Member::find(source, "data.tar")?;
    let compression = Compression::of(&member.name)?;
    decompress::copy(&mut member, compression, unpacked, (limits.data, limits.threads))?;
    member.skip_rest()?;
    Ok(control)
}

/// Reads only the control archive; what follows it is not touched.
///
/// # Errors
/// As [`read`].
pub fn read_control(source: &mut impl Read, limits: &Limits) -> Result<Control, Error> {
    ar::magic(source)?;
    let mut member = Member::find(source, "control.tar")?;
    let compression = Compression::of(&member.name)?;
    let archive = decompress::to_vec(&mut member, compression, limits.control)?;
    Ok(Control { files: index::control_files(&archive)? })
}

#[cfg(test)]
mod tests;
