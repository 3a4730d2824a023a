//! Volume descriptors.

use super::directory::{both16, both32};
use super::{SECTOR, time};
use crate::tree::Timestamp;

/// Which tree of directories a descriptor leads to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// The standard's own.
    Primary,
    /// Joliet.
    Joliet,
}

/// What a volume descriptor says beside what is the same on every disc.
pub(super) struct Descriptor<'a> {
    pub(super) view: View,
    pub(super) label: &'a str,
    /// Sectors of the volume.
    pub(super) sectors: u32,
    /// Bytes of a path table, the sectors of the one with the low byte first and of the other.
    pub(super) table: (u32, u32, u32),
    /// The root directory's record.
    pub(super) root: &'a [u8],
    pub(super) created: Timestamp,
}

impl Descriptor<'_> {
    /// A primary descriptor (ECMA-119 §8.4), or a supplementary one (§8.5).
    pub(super) fn bytes(&self) -> Vec<u8> {
        let joliet = self.view == View::Joliet;
        let text = |text: &str, length: usize| {
            let mut bytes: Vec<u8> = match joliet {
                true => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
                false => text.as_bytes().to_vec(),
            };
            let space: &[u8] = if joliet { &[0, b' '] } else { b" " };
            while bytes.len() + space.len() <= length {
                bytes.extend(space);
            }
            // An odd field of UCS-2 ends with half a character.
            bytes.resize(length, 0);
            bytes
        };
        let mut bytes = vec![if joliet { 2 } else { 1 }];
        bytes.extend(b"CD001\x01\0");
        bytes.extend(text("", 32));
        bytes.extend(text(self.label, 32));
        bytes.extend([0; 8]);
        bytes.extend(both32(self.sectors));
        let mut escapes = [0; 32];
        if joliet {
            // UCS-2 level 3 (Joliet Specification, SVD Escape Sequences).
            escapes[..3].copy_from_slice(b"%/E");
        }
        bytes.extend(escapes);
        bytes.extend(both16(1));
        bytes.extend(both16(1));
        bytes.extend(both16(2048));
        let (size, low, high) = self.table;
        bytes.extend(both32(size));
        bytes.extend(low.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(high.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.root);
        for length in [128, 128, 128, 128, 37, 37, 37] {
            bytes.extend(text("", length));
        }
        bytes.extend(time::long(self.created));
        bytes.extend(time::long(self.created));
        bytes.extend(time::NONE);
        bytes.extend(time::NONE);
        // Version of the file structure (§8.4.31).
        bytes.push(1);
        bytes.resize(SECTOR, 0);
        bytes
    }
}

/// The descriptor behind the last one (ECMA-119 §8.3).
pub(super) fn terminator() -> Vec<u8> {
    let mut bytes = b"\xffCD001\x01".to_vec();
    bytes.resize(SECTOR, 0);
    bytes
}
