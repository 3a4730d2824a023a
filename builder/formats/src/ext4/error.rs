//! What can go wrong while writing.

/// Why a tree cannot be written as ext4.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tree does not fit.
    #[error("the tree needs a file system of {needed} bytes, and {given} were given")]
    TooSmall {
        /// Bytes that would do.
        needed: u64,
        /// Bytes asked for.
        given: u64,
    },
    /// The size is no multiple of 4096, or above 16 TiB.
    #[error("a file system of {given} bytes: the size must be a multiple of 4096 and at most 16 TiB")]
    BadSize {
        /// Bytes asked for.
        given: u64,
    },
    /// The label has more than 16 bytes or a zero byte.
    #[error("the label {label:?} is longer than 16 bytes or holds a zero byte")]
    BadLabel {
        /// The label asked for.
        label: String,
    },
    /// The number of inodes asked for is below what the tree needs.
    #[error("the tree needs {needed} inodes, and {given} were given")]
    TooFewInodes {
        /// Inodes that the tree needs, reserved ones included.
        needed: u64,
        /// Inodes asked for.
        given: u64,
    },
    /// More inodes than the format can count in whole groups.
    #[error("{given} inodes are more than ext4 can count")]
    TooManyInodes {
        /// Inodes asked for.
        given: u32,
    },
    /// A journal of this size cannot be.
    #[error("a journal of {given} blocks: it must have at least 1024 and at most 1048576")]
    BadJournal {
        /// Blocks asked for.
        given: u32,
    },
    /// A name has more than 255 bytes.
    #[error("{path}: the last name has more than 255 bytes")]
    NameTooLong {
        /// The entry.
        path: String,
    },
    /// A name is empty, `.`, `..`, or holds a zero byte.
    #[error("{path}: an empty name, `.`, `..` or a zero byte cannot be written")]
    InvalidName {
        /// The entry.
        path: String,
    },
    /// The directory that holds the entry is not in the tree.
    #[error("{path}: its parent directory is not in the tree")]
    MissingParent {
        /// The entry.
        path: String,
    },
    /// What should hold the entry (or be the root, or lost+found) is not a directory.
    #[error("{path}: must be a directory")]
    NotADirectory {
        /// The entry that is something else.
        path: String,
    },
    /// A hard link to nothing, to a directory or to another hard link.
    #[error("{path}: a hard link to {target}, which is no file of the tree")]
    DanglingHardLink {
        /// The link.
        path: String,
        /// Where it points.
        target: String,
    },
    /// More names than a link count can hold.
    #[error("{path}: {links} hard links; ext4 counts to 65000")]
    TooManyLinks {
        /// The file.
        path: String,
        /// Names it has.
        links: u32,
    },
    /// A symbolic link of a length that ext4 cannot hold (1 to 4095 bytes, none of them zero).
    #[error("{path}: a symbolic link target must have 1 to 4095 bytes, none of them zero; this has {len}")]
    BadSymlink {
        /// The link.
        path: String,
        /// Bytes of the target.
        len: usize,
    },
    /// A device number above Linux' 12 bit major and 20 bit minor.
    #[error("{path}: device {major}:{minor} is beyond 4095:1048575")]
    BadDevice {
        /// The device node.
        path: String,
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A time outside 1901-12-13 to 2446-05-10, or nanoseconds of a second and more.
    #[error("{path}: time {secs}.{nanos:09} is outside what ext4 holds (1901 to 2446)")]
    BadTime {
        /// The entry.
        path: String,
        /// Its seconds.
        secs: i64,
        /// Its nanoseconds.
        nanos: u32,
    },
    /// Mode bits other than permissions, setuid, setgid and sticky.
    #[error("{path}: mode {mode:o} has bits beyond 7777")]
    BadMode {
        /// The entry.
        path: String,
        /// Its mode.
        mode: u16,
    },
    /// A file of 16 TiB or more.
    #[error("{path}: a file of {len} bytes; ext4 ends at 16 TiB")]
    FileTooLarge {
        /// The file.
        path: String,
        /// Its size in bytes.
        len: u64,
    },
    /// More names than a two-level index reaches.
    #[error("{path}: {names} names are more than a directory with a two-level index can hold")]
    DirectoryTooLarge {
        /// The directory.
        path: String,
        /// Names in it.
        names: usize,
    },
    /// More entries than ext4 has inode numbers.
    #[error("{entries} entries are more than ext4 has inodes")]
    TooManyEntries {
        /// Entries of the tree.
        entries: usize,
    },
    /// An extended attribute cannot be written.
    #[error("{path}: extended attribute {name}: {fault}")]
    Xattr {
        /// The entry.
        path: String,
        /// Full name of the attribute.
        name: String,
        /// What is wrong with it.
        fault: XattrFault,
    },
    /// The content of a file could not be read.
    #[error("{path}: cannot read its content")]
    Content {
        /// The file.
        path: String,
        /// The error of its source.
        source: std::io::Error,
    },
    /// The target could not be written.
    #[error("cannot write the file system at byte {offset}")]
    Target {
        /// Bytes from the start of the file system.
        offset: u64,
        /// The error of the target.
        source: std::io::Error,
    },
    /// What should get another UUID is no image that this module can patch.
    #[error("cannot give it another UUID")]
    Patch(#[from] super::read::ReadError),
}

/// What is wrong with an extended attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum XattrFault {
    /// No name space that ext4 knows (`user.`, `trusted.`, `security.`, `system.`).
    #[error("its name space is unknown to ext4")]
    NameSpace,
    /// The name after the prefix is empty or has more than 255 bytes.
    #[error("its name must have 1 to 255 bytes after the prefix")]
    Name,
    /// All attributes of an entry share the inode's rest and one block of 4096 bytes.
    #[error("it does not fit into the inode and one block with the others")]
    Space,
    /// Not the version 2 form of a POSIX ACL.
    #[error("it is no POSIX ACL in the kernel's version 2 form")]
    Acl,
}

/// A path as shown to people.
pub(super) fn shown(path: &[u8]) -> String {
    match path {
        [] => "/".to_owned(),
        path => String::from_utf8_lossy(path).into_owned(),
    }
}
