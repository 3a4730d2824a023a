//! Directory records and path tables.

use super::SECTOR;

/// A number in both orders of bytes (ECMA-119 §7.2.3, §7.3.3).
pub(super) fn both16(value: u16) -> [u8; 4] {
    let mut bytes = [0; 4];
    bytes[..2].copy_from_slice(&value.to_le_bytes());
    bytes[2..].copy_from_slice(&value.to_be_bytes());
    bytes
}

pub(super) fn both32(value: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&value.to_le_bytes());
    bytes[4..].copy_from_slice(&value.to_be_bytes());
    bytes
}

/// What a directory record says (ECMA-119 §9.1).
pub(super) struct Record<'a> {
    /// Name; a byte 0 for the directory itself, a byte 1 for the one above (§7.6.2).
    pub(super) identifier: &'a [u8],
    /// First sector and bytes.
    pub(super) extent: (u32, u32),
    pub(super) date: [u8; 7],
    pub(super) directory: bool,
}

impl Record<'_> {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let length = record_length(self.identifier);
        let mut bytes = vec![u8::try_from(length).unwrap_or(u8::MAX), 0];
        bytes.extend(both32(self.extent.0));
        bytes.extend(both32(self.extent.1));
        bytes.extend(self.date);
        // File flags (§9.1.6): bit 1 is Directory.
        bytes.extend([if self.directory { 2 } else { 0 }, 0, 0]);
        bytes.extend(both16(1));
        bytes.push(u8::try_from(self.identifier.len()).unwrap_or(u8::MAX));
        bytes.extend(self.identifier);
        bytes.resize(length, 0);
        bytes
    }
}

/// Records have an even length (ECMA-119 §9.1.12).
pub(super) fn record_length(identifier: &[u8]) -> usize {
    (33 + identifier.len()).next_multiple_of(2)
}

/// Where records of these lengths begin, and the length of it all: none crosses the end of a sector, and a directory fills
/// its sectors (ECMA-119 §6.8.1.1).
pub(super) fn place(lengths: impl IntoIterator<Item = usize>) -> (Vec<usize>, usize) {
    let mut at = 0_usize;
    let mut starts = Vec::new();
    for length in lengths {
        if at / SECTOR != (at + length - 1) / SECTOR {
            at = at.next_multiple_of(SECTOR);
        }
        starts.push(at);
        at += length;
    }
    (starts, at.next_multiple_of(SECTOR))
}

/// A record of a path table (ECMA-119 §9.4), in one of the two orders of bytes.
pub(super) fn path_record((identifier, sector, parent): (&[u8], u32, u16), big: bool) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(identifier.len()).unwrap_or(u8::MAX), 0];
    bytes.extend(if big { sector.to_be_bytes() } else { sector.to_le_bytes() });
    bytes.extend(if big { parent.to_be_bytes() } else { parent.to_le_bytes() });
    bytes.extend(identifier);
    bytes.resize((8 + identifier.len()).next_multiple_of(2), 0);
    bytes
}
