//! Inodes (inodes.rst): 256 bytes, 160 of them fixed fields, the rest for attributes.

use super::checksum::Checksum;
use super::format::{INODE_SIZE, get16, get32, high16, high32, join, low16, low32, put16, put32};
use crate::tree::Timestamp;

/// Bytes of the fixed fields with `i_extra_isize` = 32.
pub(super) const FIXED_SIZE: usize = 128 + EXTRA_SIZE as usize;
/// `i_extra_isize`: up to and with `i_projid`.
const EXTRA_SIZE: u16 = 32;
/// `i_flags`: a directory with a hash tree.
pub(super) const FLAG_INDEX: u32 = 0x1000;
/// `i_flags`: `i_block` holds an extent tree.
pub(super) const FLAG_EXTENTS: u32 = 0x8_0000;
/// `i_flags`: content inside the inode (not written here).
pub(super) const FLAG_INLINE_DATA: u32 = 0x1000_0000;
/// `i_flags`: encrypted content (not written here).
pub(super) const FLAG_ENCRYPT: u32 = 0x800;

/// File types in `i_mode`.
pub(super) mod mode {
    pub(in super::super) const TYPE: u16 = 0xF000;
    pub(in super::super) const FIFO: u16 = 0x1000;
    pub(in super::super) const CHAR: u16 = 0x2000;
    pub(in super::super) const DIRECTORY: u16 = 0x4000;
    pub(in super::super) const BLOCK: u16 = 0x6000;
    pub(in super::super) const REGULAR: u16 = 0x8000;
    pub(in super::super) const SYMLINK: u16 = 0xA000;
    pub(in super::super) const SOCKET: u16 = 0xC000;
}

/// A time as two fields: 32 bits of seconds, and two more of them below 30 bits of nanoseconds
/// (inodes.rst, "Inode Timestamps").
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Time {
    pub(super) seconds: u32,
    pub(super) extra: u32,
}

impl Time {
    /// `None` outside −2³¹ to 2³⁴ − 2³¹ − 1 seconds, or for nanoseconds of a second and more.
    pub(super) fn new(time: Timestamp) -> Option<Self> {
        let epoch = time.secs.checked_add(1 << 31)? >> 32;
        if !(0..4).contains(&epoch) || time.nanos >= 1_000_000_000 {
            return None;
        }
        let seconds = low32(u64::from_ne_bytes(time.secs.to_ne_bytes()));
        Some(Self { seconds, extra: time.nanos << 2 | u32::try_from(epoch).unwrap_or(0) })
    }

    pub(super) fn get(self) -> Timestamp {
        let secs = i64::from(self.seconds.cast_signed()) + (i64::from(self.extra & 3) << 32);
        Timestamp { secs, nanos: (self.extra >> 2).min(999_999_999) }
    }
}

/// The fields of an inode that are used here.
#[derive(Debug, Clone)]
pub(super) struct Inode {
    /// `i_mode`: type and permissions.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Bytes.
    pub(super) size: u64,
    pub(super) links: u16,
    /// `i_blocks`, sectors of 512 bytes, everything counted.
    pub(super) sectors: u64,
    pub(super) flags: u32,
    /// `i_block`: extent tree, symbolic link, device number or old block map.
    pub(super) block: [u8; 60],
    /// `i_file_acl`: block of extended attributes, or 0.
    pub(super) xattr_block: u64,
    pub(super) mtime: Time,
    /// `i_crtime`; access and change time are the modification time.
    pub(super) created: Time,
    /// `i_generation`.
    pub(super) generation: u32,
}

impl Default for Inode {
    fn default() -> Self {
        Self {
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            links: 0,
            sectors: 0,
            flags: 0,
            block: [0; 60],
            xattr_block: 0,
            mtime: Time::default(),
            created: Time::default(),
            generation: 0,
        }
    }
}

impl Inode {
    /// The bytes of inode `number` with its checksum; `xattrs` is what follows the fixed fields.
    pub(super) fn encode(&self, out: &mut [u8; INODE_SIZE], xattrs: &[u8], seed: Checksum) {
        out.fill(0);
        put16(out, 0x0, self.mode);
        put16(out, 0x2, low16(self.uid));
        put32(out, 0x4, low32(self.size));
        for at in [0x8, 0xC, 0x10] {
            put32(out, at, self.mtime.seconds);
        }
        put16(out, 0x18, low16(self.gid));
        put16(out, 0x1A, self.links);
        put32(out, 0x1C, low32(self.sectors));
        put32(out, 0x20, self.flags);
        out[0x28..0x64].copy_from_slice(&self.block);
        put32(out, 0x64, self.generation);
        put32(out, 0x68, low32(self.xattr_block));
        put32(out, 0x6C, high32(self.size));
        put16(out, 0x74, low16(high32(self.sectors)));
        put16(out, 0x76, low16(high32(self.xattr_block)));
        put16(out, 0x78, high16(self.uid));
        put16(out, 0x7A, high16(self.gid));
        put16(out, 0x80, EXTRA_SIZE);
        for at in [0x84, 0x88, 0x8C] {
            put32(out, at, self.mtime.extra);
        }
        put32(out, 0x90, self.created.seconds);
        put32(out, 0x94, self.created.extra);
        out[FIXED_SIZE..FIXED_SIZE + xattrs.len()].copy_from_slice(xattrs);
        let sum = checksum(out, seed);
        put16(out, 0x7C, low16(sum));
        put16(out, 0x82, high16(sum));
    }

    /// The fields in `bytes`, which are at least 128.
    pub(super) fn decode(bytes: &[u8]) -> Self {
        let extra = extra_size(bytes);
        let beyond = |at: usize| if at + 4 <= 128 + extra { get32(bytes, at) } else { 0 };
        let mut block = [0; 60];
        block.copy_from_slice(&bytes[0x28..0x64]);
        Self {
            mode: get16(bytes, 0x0),
            uid: u32::from(get16(bytes, 0x78)) << 16 | u32::from(get16(bytes, 0x2)),
            gid: u32::from(get16(bytes, 0x7A)) << 16 | u32::from(get16(bytes, 0x18)),
            size: join(get32(bytes, 0x6C), get32(bytes, 0x4)),
            links: get16(bytes, 0x1A),
            sectors: join(u32::from(get16(bytes, 0x74)), get32(bytes, 0x1C)),
            flags: get32(bytes, 0x20),
            block,
            xattr_block: join(u32::from(get16(bytes, 0x76)), get32(bytes, 0x68)),
            mtime: Time { seconds: get32(bytes, 0x10), extra: beyond(0x88) },
            created: Time { seconds: beyond(0x90), extra: beyond(0x94) },
            generation: get32(bytes, 0x64),
        }
    }
}

/// `i_extra_isize`, cut to what `bytes` has.
pub(super) fn extra_size(bytes: &[u8]) -> usize {
    match bytes.len().checked_sub(128) {
        Some(room) if room >= 4 => usize::from(get16(bytes, 0x80)).min(room),
        _ => 0,
    }
}

/// The checksum of an inode, its own fields (`l_i_checksum_lo`, `i_checksum_hi`) taken as zero.
pub(super) fn checksum(bytes: &[u8], seed: Checksum) -> u32 {
    let sum = seed.with(&bytes[..0x7C]).with(&[0; 2]).with(&bytes[0x7E..128]);
    if extra_size(bytes) >= 4 {
        sum.with(&bytes[128..0x82]).with(&[0; 2]).with(&bytes[0x84..]).0
    } else {
        sum.with(&bytes[128..]).0
    }
}

/// `i_block` of a device (`ext4_iget`, `old_encode_dev` and `new_encode_dev` of the kernel's `kdev_t.h`):
/// the old form in the first word where both numbers have 8 bits, else the new one in the second.
pub(super) fn encode_device(major: u32, minor: u32) -> Option<[u8; 60]> {
    if major >= 1 << 12 || minor >= 1 << 20 {
        return None;
    }
    let mut block = [0; 60];
    if major < 256 && minor < 256 {
        put32(&mut block, 0, major << 8 | minor);
    } else {
        put32(&mut block, 4, (minor & 0xFF) | major << 8 | (minor & !0xFF) << 12);
    }
    Some(block)
}

/// Major and minor number in `i_block`.
pub(super) fn decode_device(block: &[u8; 60]) -> (u32, u32) {
    match (get32(block, 0), get32(block, 4)) {
        (0, new) => ((new >> 8) & 0xFFF, (new & 0xFF) | (new >> 12) & 0xF_FF00),
        (old, _) => ((old >> 8) & 0xFF, old & 0xFF),
    }
}

#[cfg(test)]
mod tests {
    use super::{Time, Timestamp, decode_device, encode_device};

    #[test]
    fn times_from_1901_to_2446_come_back() {
        let ends =
            [-(1i64 << 31), -1, 0, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 34) - (1 << 31) - 1];
        for secs in ends {
            let time = Timestamp { secs, nanos: 999_999_999 };
            assert_eq!(Time::new(time).unwrap().get(), time);
        }
        for (secs, nanos) in
            [(-(1i64 << 31) - 1, 0), ((1 << 34) - (1 << 31), 0), (0, 1_000_000_000), (i64::MAX, 0)]
        {
            assert_eq!(Time::new(Timestamp { secs, nanos }), None);
        }
    }

    #[test]
    fn device_numbers_come_back() {
        for (major, minor) in
            [(0, 0), (1, 3), (255, 255), (256, 0), (8, 256), (4095, 1_048_575), (259, 70_000)]
        {
            assert_eq!(decode_device(&encode_device(major, minor).unwrap()), (major, minor));
        }
        assert_eq!(encode_device(4096, 0), None);
        assert_eq!(encode_device(0, 1 << 20), None);
    }
}
