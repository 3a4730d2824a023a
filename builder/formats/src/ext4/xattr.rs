//! Extended attributes (attributes.rst): first those that fit into the rest of the inode, the others in one
//! block of their own.

use super::acl;
use super::checksum::Checksum;
use super::error::XattrFault;
use super::format::{BLOCK, INODE_SIZE, get32, put16, put32};
use super::inode::FIXED_SIZE;
use std::collections::BTreeMap;

/// `h_magic`, of the block and of the part in the inode.
pub(super) const MAGIC: u32 = 0xEA02_0000;
/// Bytes of an entry before its name.
pub(super) const ENTRY_SIZE: usize = 16;
/// Bytes of the block's header (`struct ext4_xattr_header`).
pub(super) const HEADER_SIZE: usize = 32;
/// Offset of `h_checksum` in the block.
const CHECKSUM_AT: usize = 0x10;
/// `e_name_index` of an access and of a default ACL; their stored name is empty.
pub(super) const ACL_ACCESS: u8 = 2;
pub(super) const ACL_DEFAULT: u8 = 3;
/// Prefixes that are stored as a number (attributes.rst, "Attribute Name Indices"); the first that fits.
pub(super) const PREFIXES: [(u8, &[u8]); 6] = [
    (1, b"user."),
    (ACL_ACCESS, b"system.posix_acl_access"),
    (ACL_DEFAULT, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
    (7, b"system."),
];

/// Attributes of one inode as they lie on disk.
#[derive(Debug, Default)]
pub(super) struct Stored {
    /// What follows the inode's fixed fields; empty, or with its magic number.
    pub(super) inline: Vec<u8>,
    /// The block outside, without its checksum.
    pub(super) block: Option<Box<[u8; BLOCK]>>,
}

/// One attribute, ready to be placed.
struct Attribute<'a> {
    index: u8,
    name: &'a [u8],
    value: Vec<u8>,
}

impl Attribute<'_> {
    fn entry_size(&self) -> usize {
        ENTRY_SIZE + self.name.len().next_multiple_of(4)
    }
    fn size(&self) -> usize {
        self.entry_size() + self.value.len().next_multiple_of(4)
    }
    /// `e_hash` ("Attribute hash"; `ext4_xattr_hash_entry`): of the name, then of the value's words.
    fn hash(&self) -> u32 {
        let name = self.name.iter().fold(0u32, |hash, byte| hash.rotate_left(5) ^ u32::from(*byte));
        self.value.chunks(4).fold(name, |hash, chunk| hash.rotate_left(16) ^ get32(&padded(chunk), 0))
    }
}

fn padded(chunk: &[u8]) -> [u8; 4] {
    let mut word = [0; 4];
    word[..chunk.len()].copy_from_slice(chunk);
    word
}

/// Places all attributes, or names the first one that cannot be.
pub(super) fn store(xattrs: &BTreeMap<Box<[u8]>, Box<[u8]>>) -> Result<Stored, (Box<[u8]>, XattrFault)> {
    let mut stored = Stored::default();
    if xattrs.is_empty() {
        return Ok(stored);
    }
    let mut attributes = Vec::with_capacity(xattrs.len());
    for (name, value) in xattrs {
        attributes.push(attribute(name, value).map_err(|fault| (name.clone(), fault))?);
    }
    // The block's entries must lie in this order (`ext4_xattr_find_entry` stops early in a sorted list).
    attributes.sort_by(|a, b| (a.index, a.name.len(), a.name).cmp(&(b.index, b.name.len(), b.name)));
    // Four bytes for the magic number, four for the end of the list.
    let mut room = INODE_SIZE - FIXED_SIZE - 8;
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for attribute in attributes {
        if attribute.size() <= room {
            room -= attribute.size();
            inside.push(attribute);
        } else {
            outside.push(attribute);
        }
    }
    if !inside.is_empty() {
        stored.inline = vec![0; INODE_SIZE - FIXED_SIZE];
        put32(&mut stored.inline, 0, MAGIC);
        fill(&mut stored.inline[4..], 0, &inside);
    }
    if !outside.is_empty() {
        let mut room = BLOCK - HEADER_SIZE - 4;
        for attribute in &outside {
            room = room
                .checked_sub(attribute.size())
                .ok_or_else(|| (full_name(attribute), XattrFault::Space))?;
        }
        stored.block = Some(block(&outside));
    }
    Ok(stored)
}

fn full_name(attribute: &Attribute<'_>) -> Box<[u8]> {
    let prefix = PREFIXES.iter().find(|(index, _)| *index == attribute.index).map_or(&b""[..], |(_, p)| *p);
    [prefix, attribute.name].concat().into()
}

fn attribute<'a>(name: &'a [u8], value: &[u8]) -> Result<Attribute<'a>, XattrFault> {
    let (index, rest) = PREFIXES
        .iter()
        .find_map(|(index, prefix)| Some((*index, name.strip_prefix(*prefix)?)))
        .ok_or(XattrFault::NameSpace)?;
    match index {
        ACL_ACCESS | ACL_DEFAULT if rest.is_empty() => {
            Ok(Attribute { index, name: rest, value: acl::to_disk(value).ok_or(XattrFault::Acl)? })
        }
        ACL_ACCESS | ACL_DEFAULT => Err(XattrFault::NameSpace),
        _ if rest.is_empty() || rest.len() > 255 || rest.contains(&0) => Err(XattrFault::Name),
        _ => Ok(Attribute { index, name: rest, value: value.to_vec() }),
    }
}

/// The block outside the inode: header, entries from the front, values from the back.
fn block(attributes: &[Attribute<'_>]) -> Box<[u8; BLOCK]> {
    let mut block = Box::new([0; BLOCK]);
    put32(&mut block[..], 0x0, MAGIC);
    put32(&mut block[..], 0x4, 1); // h_refcount
    put32(&mut block[..], 0x8, 1); // h_blocks
    fill(&mut block[..], HEADER_SIZE, attributes);
    let mut at = HEADER_SIZE;
    let mut sum = 0u32;
    for attribute in attributes {
        let hash = attribute.hash();
        put32(&mut block[..], at + 12, hash); // e_hash; in the inode it stays zero
        sum = if hash == 0 { 0 } else { sum.rotate_left(16) ^ hash };
        at += attribute.entry_size();
    }
    // An entry without a hash means that the block cannot be shared (`ext4_xattr_rehash`).
    if attributes.iter().any(|attribute| attribute.hash() == 0) {
        sum = 0;
    }
    put32(&mut block[..], 0xC, sum); // h_hash
    block
}

/// Writes entries from `first` on and values from the end of `area`; value offsets count from its start.
fn fill(area: &mut [u8], first: usize, attributes: &[Attribute<'_>]) {
    let (mut at, mut end) = (first, area.len());
    for attribute in attributes {
        let value_at = end - attribute.value.len().next_multiple_of(4);
        area[at] = u8::try_from(attribute.name.len()).unwrap_or(u8::MAX);
        area[at + 1] = attribute.index;
        if !attribute.value.is_empty() {
            put16(area, at + 2, u16::try_from(value_at).unwrap_or(0));
        }
        put32(area, at + 8, u32::try_from(attribute.value.len()).unwrap_or(0));
        area[at + ENTRY_SIZE..at + ENTRY_SIZE + attribute.name.len()].copy_from_slice(attribute.name);
        area[value_at..value_at + attribute.value.len()].copy_from_slice(&attribute.value);
        at += attribute.entry_size();
        end = value_at;
    }
}

/// The checksum of a block of attributes at block `number`, its own field taken as zero (checksums.rst).
pub(super) fn block_checksum(block: &[u8], number: u64, seed: Checksum) -> u32 {
    let (before, after) = (&block[..CHECKSUM_AT], &block[CHECKSUM_AT + 4..]);
    seed.with(&number.to_le_bytes()).with(before).with(&[0; 4]).with(after).0
}

/// Writes the checksum into a block of attributes that will lie at block `number`.
pub(super) fn seal(block: &mut [u8; BLOCK], number: u64, seed: Checksum) {
    let sum = block_checksum(block, number, seed);
    put32(block, CHECKSUM_AT, sum);
}

/// The checksum that a block of attributes carries.
pub(super) fn stored_checksum(block: &[u8]) -> u32 {
    get32(block, CHECKSUM_AT)
}
