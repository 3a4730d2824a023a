//! Another volume id for a volume that is already written, so that one boot partition serves many nodes.

use crate::io::{ReadAt, WriteAt};

/// Bytes of a boot sector that are looked at.
const HEAD: usize = 90;

/// Why a volume did not get another id.
#[derive(Debug, thiserror::Error)]
pub enum VolumeIdError {
    /// Not a boot sector of FAT16 or FAT32.
    #[error("the boot sector is not that of a FAT16 or FAT32 volume")]
    NotFat,
    /// The volume can't be read or written.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// Gives the volume at offset 0 of `target`, whose bytes `source` reads, another `BS_VolID`.
///
/// fatgen103, "Boot Sector and BPB": `BS_VolID` is at byte 39 on FAT16 and at 67 on FAT32, where
/// `BPB_BkBootSec` (byte 50) tells the sector of the copy.
///
/// # Errors
/// See [`VolumeIdError`].
pub fn set_volume_id<W: WriteAt + ?Sized>(
    source: &dyn ReadAt,
    target: &mut W,
    volume_id: u32,
) -> Result<(), VolumeIdError> {
    let mut head = [0; HEAD];
    source.read_exact_at(&mut head, 0)?;
    let word = |at: usize| u64::from(u16::from_le_bytes([head[at], head[at + 1]]));
    let bytes = volume_id.to_le_bytes();
    // BS_FilSysType is no proof of the width, but ours is always written; BPB_FATSz16 decides as the
    // specification says.
    match (&head[82..87], &head[54..59]) {
        (b"FAT32", _) if word(22) == 0 => {
            target.write_all_at(&bytes, 67)?;
            let copy = word(50) * word(11);
            if copy != 0 {
                target.write_all_at(&bytes, copy + 67)?;
            }
            Ok(())
        }
        (_, b"FAT16") if word(22) != 0 => Ok(target.write_all_at(&bytes, 39)?),
        _ => Err(VolumeIdError::NotFat),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Options, read, write};
    use super::set_volume_id;
    use crate::io::ReadAt;
    use crate::tree::{Entry, Timestamp, Tree};
    use std::sync::Arc;

    #[test]
    fn only_the_id_changes() {
        for size in [8 << 20, 64 << 20] {
            let mut tree = Tree::new();
            tree.insert("", Entry::directory());
            tree.insert("a", Entry::file(*b"text"));
            let of = |volume_id| {
                let options = Options {
                    size,
                    sector_size: 512,
                    sectors_per_cluster: None,
                    volume_id,
                    label: "X",
                    created: Timestamp::default(),
                };
                let mut volume = Vec::new();
                write(&tree, &options, &mut volume).unwrap();
                volume.resize(usize::try_from(size).unwrap(), 0);
                volume
            };
            let mut copy = of(1);
            set_volume_id(&copy.clone(), &mut copy, 0x1234_5678).unwrap();
            assert!(copy == of(0x1234_5678), "{size} bytes");
            let copy: Arc<dyn ReadAt> = Arc::new(copy);
            assert_eq!(read(&copy).unwrap().volume_id, 0x1234_5678);
        }
        assert!(set_volume_id(&vec![0; 512], &mut Vec::new(), 1).is_err());
    }
}
