//! Extended attributes of an inode, in the form that getxattr(2) gives.

use super::super::acl;
use super::super::format::{get16, get32, index};
use super::super::xattr::{
    ACL_ACCESS, ACL_DEFAULT, ENTRY_SIZE, HEADER_SIZE, MAGIC, PREFIXES, block_checksum, stored_checksum,
};
use super::inodes::Found;
use super::{FileSystem, ReadError};
use std::collections::BTreeMap;

/// Attributes by full name.
pub(super) type Xattrs = BTreeMap<Box<[u8]>, Box<[u8]>>;

impl FileSystem {
    /// The attributes in the inode and in the block outside.
    pub(super) fn xattrs(&self, found: &Found) -> Result<Xattrs, ReadError> {
        let mut out = Xattrs::new();
        if get32(&found.rest, 0) == MAGIC {
            take(&found.rest[4..], 0, &mut out).ok_or_else(|| corrupt(found))??;
        }
        let block = found.inode.xattr_block;
        if block != 0 {
            let bytes = self.read_block(block, "block of attributes")?;
            let fits = !self.verify || block_checksum(&bytes, block, self.seed()) == stored_checksum(&bytes);
            if get32(&bytes, 0) != MAGIC || !fits {
                return Err(ReadError::Corrupt { what: "block of attributes", at: block });
            }
            take(&bytes, HEADER_SIZE, &mut out).ok_or_else(|| corrupt(found))??;
        }
        Ok(out)
    }
}

fn corrupt(found: &Found) -> ReadError {
    ReadError::Corrupt { what: "attributes of inode", at: u64::from(found.number) }
}

/// Entries from `first` on; `None` when they make no sense. Values together are no longer than the area, as
/// they may not overlap.
fn take(area: &[u8], first: usize, out: &mut Xattrs) -> Option<Result<(), ReadError>> {
    let (mut at, mut room) = (first, area.len());
    // Four zero bytes end the list; so does the end of the area.
    while at + 4 <= area.len() && get32(area, at) != 0 {
        let name_len = usize::from(area[at]);
        let prefix = PREFIXES.iter().find(|(index, _)| *index == area[at + 1])?;
        if get32(area, at + 4) != 0 {
            return Some(Err(ReadError::Unsupported("attributes in inodes of their own (ea_inode)")));
        }
        let name = area.get(at + ENTRY_SIZE..at + ENTRY_SIZE + name_len)?;
        let len = index(u64::from(get32(area, at + 8)));
        room = room.checked_sub(len)?;
        let value_at = usize::from(get16(area, at + 2));
        let value = area.get(value_at..value_at.checked_add(len)?)?;
        let value = match area[at + 1] {
            ACL_ACCESS | ACL_DEFAULT => acl::from_disk(value)?,
            _ => value.to_vec(),
        };
        out.insert([prefix.1, name].concat().into(), value.into());
        at += ENTRY_SIZE + name_len.next_multiple_of(4);
    }
    Some(Ok(()))
}
