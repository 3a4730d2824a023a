//! crc32c as ext4 uses it (the kernel's ext4 pages, checksums.rst): no inversion at either end, and a seed
//! that says which file system, inode or block the bytes belong to.

/// A running checksum: the bits so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checksum(pub(super) u32);

impl Checksum {
    /// Where sums without a seed start (superblock, and the seed itself).
    pub(super) const START: Self = Self(!0);

    /// The sum with `bytes` taken in.
    #[must_use]
    pub(super) fn with(self, bytes: &[u8]) -> Self {
        // The crate inverts at both ends, as iSCSI does; ext4 at neither.
        Self(!crc32c::crc32c_append(!self.0, bytes))
    }

    /// The seed of everything that belongs to one inode: directory blocks, extent blocks, the inode itself.
    #[must_use]
    pub(super) fn of_inode(self, number: u32, generation: u32) -> Self {
        self.with(&number.to_le_bytes()).with(&generation.to_le_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::Checksum;

    #[test]
    fn the_check_value_of_crc32c_without_its_last_inversion() {
        assert_eq!(Checksum::START.with(b"123456789").0, !0xE306_9283);
        assert_eq!(Checksum::START.with(b"1234").with(b"56789").0, !0xE306_9283);
    }
}
