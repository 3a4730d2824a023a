//! The bytes of directory entries (fatgen103, FAT Directory Structure and Long Directory Entries).

use super::ENTRY;
use super::attribute;
use super::names::{LONG_PART, Name, Short, checksum};
use super::time::to_fat;
use crate::tree::Timestamp;

/// Where the 13 UTF-16 units of a long entry lie.
pub(super) const LONG_AT: [usize; LONG_PART] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
/// Marks the last part of a long name, which comes first.
pub(super) const LAST_LONG: u8 = 0x40;

/// What an entry says beside its name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub(super) attributes: u8,
    pub(super) cluster: u32,
    pub(super) size: u32,
    pub(super) time: Timestamp,
}

/// Bytes that the entries of a name take.
pub(super) fn size(name: &Name) -> usize {
    (name.long.len().div_ceil(LONG_PART) + 1) * ENTRY
}

/// Appends the entries of a name.
pub(super) fn put(name: &Name, facts: &Facts, out: &mut Vec<u8>) {
    let parts = name.long.chunks(LONG_PART);
    for (order, part) in (1_u8..).zip(parts).collect::<Vec<_>>().into_iter().rev() {
        let last = usize::from(order) == name.long.len().div_ceil(LONG_PART);
        let mut entry = [0; ENTRY];
        entry[0] = if last { order | LAST_LONG } else { order };
        entry[11] = attribute::LONG_NAME;
        entry[13] = checksum(&name.short);
        // One zero ends a name that does not fill its last entry; 0xFFFF fills up the rest.
        let units = part.iter().copied().chain([0]).chain(std::iter::repeat(0xffff));
        for (at, unit) in LONG_AT.into_iter().zip(units) {
            entry[at..at + 2].copy_from_slice(&unit.to_le_bytes());
        }
        out.extend(entry);
    }
    out.extend(short(&name.short, facts));
}

/// A short entry: a name's last, `.` and `..`, and the volume label.
pub(super) fn short(name: &Short, facts: &Facts) -> [u8; ENTRY] {
    let (date, time) = to_fat(facts.time);
    let cluster = facts.cluster.to_le_bytes();
    let mut entry = [0; ENTRY];
    entry[..11].copy_from_slice(name);
    entry[11] = facts.attributes;
    entry[14..16].copy_from_slice(&time.to_le_bytes());
    entry[16..18].copy_from_slice(&date.to_le_bytes());
    entry[18..20].copy_from_slice(&date.to_le_bytes());
    entry[20..22].copy_from_slice(&cluster[2..]);
    entry[22..24].copy_from_slice(&time.to_le_bytes());
    entry[24..26].copy_from_slice(&date.to_le_bytes());
    entry[26..28].copy_from_slice(&cluster[..2]);
    entry[28..].copy_from_slice(&facts.size.to_le_bytes());
    entry
}
