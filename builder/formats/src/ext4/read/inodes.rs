//! From an inode's number to its fields.

use super::super::format::{feature, get16, index};
use super::super::group;
use super::super::inode::{self, Inode, extra_size};
use super::super::layout::has_super;
use super::{FileSystem, ReadError};

/// An inode and what follows its fixed fields.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) number: u32,
    pub(super) inode: Inode,
    pub(super) rest: Vec<u8>,
}

impl FileSystem {
    /// Inode `number`.
    pub(super) fn inode(&self, number: u32) -> Result<Found, ReadError> {
        let corrupt = ReadError::Corrupt { what: "inode", at: u64::from(number) };
        if number == 0 || number > self.stored.inodes {
            return Err(corrupt);
        }
        let per_group = self.stored.inodes_per_group;
        let (group, at) = ((number - 1) / per_group, (number - 1) % per_group);
        let table = self.inode_table(group)?;
        let size = usize::from(self.stored.inode_size);
        let mut bytes = vec![0; size];
        // Block numbers are below 2^48 and blocks at most 2^16 bytes.
        self.read_at(&mut bytes, table * self.block_size + u64::from(at) * size as u64)?;
        let inode = Inode::decode(&bytes);
        if self.verify {
            let sum = inode::checksum(&bytes, self.seed().of_inode(number, inode.generation));
            let high = if extra_size(&bytes) >= 4 { get16(&bytes, 0x82) } else { 0 };
            let stored = u32::from(high) << 16 | u32::from(get16(&bytes, 0x7C));
            let mask = if extra_size(&bytes) >= 4 { u32::MAX } else { 0xFFFF };
            if sum & mask != stored {
                return Err(corrupt);
            }
        }
        let rest = bytes.split_off(128 + extra_size(&bytes));
        Ok(Found { number, inode, rest })
    }

    /// The first block of a group's inode table.
    fn inode_table(&self, number: u32) -> Result<u64, ReadError> {
        let stored = &self.stored;
        let size = u64::from(stored.descriptor_size);
        let per_block = self.block_size / size;
        let (block, at) = (u64::from(number) / per_block, u64::from(number) % per_block);
        let first = u64::from(stored.first_data_block);
        let place = if stored.incompat & feature::META_BG != 0 && block >= u64::from(stored.first_meta_bg) {
            // Each block of descriptors lies in the first of the groups that it describes
            // (blockgroup.rst, "Meta Block Groups"), behind a superblock copy where there is one.
            let group = block * per_block;
            let sparse = stored.ro_compat & feature::SPARSE_SUPER != 0;
            let copy = !sparse || u32::try_from(group).is_ok_and(has_super);
            first + group * u64::from(stored.blocks_per_group) + u64::from(copy)
        } else {
            first + 1 + block
        };
        let corrupt = ReadError::Corrupt { what: "group descriptor", at: u64::from(number) };
        if place >= stored.blocks {
            return Err(corrupt);
        }
        let mut bytes = vec![0; index(size)];
        self.read_at(&mut bytes, place * self.block_size + at * size)?;
        let fits = group::checksum(&bytes, number, self.seed()) == group::stored_checksum(&bytes);
        let table = group::inode_table(&bytes);
        if (self.verify && !fits) || table == 0 || table >= stored.blocks {
            return Err(corrupt);
        }
        Ok(table)
    }
}
