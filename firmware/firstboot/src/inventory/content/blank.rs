//! Whether a disk on which nobody knows a signature is blank: a volume that is encrypted as a whole (VeraCrypt, plain
//! dm-crypt, LUKS with its header elsewhere) has none, and neither has a disk of which the beginning was wiped. Blank are
//! zeros and, from flash that was trimmed, 0xff.

use kiln_contract::partition::TYPE_UNFINISHED;
use kiln_formats::io::ReadAt;
use std::io;
use std::time::{Duration, Instant};

/// Every signature that libblkid knows lies within this of the start (bytes): the second header of LUKS2 may be 4 MiB
/// in. What lies at the end (GPT, mdraid, ZFS, firmware RAIDs) is within [`TAIL`].
const HEAD: u64 = (4 << 20) + (64 << 10);
/// See [`HEAD`].
const TAIL: u64 = 1 << 20;
/// What is looked at of a partition: less than what is wiped of one.
const EDGE: u64 = 1 << 20;
/// Bytes a read, at most.
const CHUNK: u64 = 1 << 20;
/// What is judged as one: the smallest piece that is ever written.
const PIECE: usize = 512;
/// Looks into the middle of a disk: a volume that fills a hundredth of it is missed once in 170 times.
const SAMPLES: u64 = 512;
/// Bytes of each.
const SAMPLE: u64 = 64 << 10;
/// As long as is spent on them; a disk that spins does about a hundred in a second.
const PATIENCE: Duration = Duration::from_secs(3);
const MIB: u64 = 1 << 20;
/// Where file systems keep second copies of what describes them, from their own start: ext4 with small blocks, btrfs, ext4
/// (groups 1, 3, 5), NTFS' table of files, btrfs again.
const COPIES: [u64; 7] = [8 * MIB, 64 * MIB, 128 * MIB, 384 * MIB, 640 * MIB, 3 << 30, 256 << 30];
/// Where a file system begins on a disk: at its start, or in the first partition.
const STARTS: [u64; 2] = [0, MIB];

/// Reads all that blkid is going to look at. Gives the place of the first thing that is not blank.
pub(super) fn ends(disk: &impl ReadAt, size: u64) -> io::Result<Option<u64>> {
    let head = scan(disk, (0, size.min(HEAD)), size)?;
    let tail = scan(disk, (size.saturating_sub(TAIL), size), size)?;
    Ok(head.or(tail))
}

/// As [`ends`], of less: [`EDGE`] at each end.
pub(super) fn edges(disk: &impl ReadAt, size: u64) -> io::Result<Option<u64>> {
    let head = scan(disk, (0, size.min(EDGE)), size)?;
    Ok(head.or(scan(disk, (size.saturating_sub(EDGE), size), size)?))
}

/// Looks into the middle of a disk for as long as that is sensible. Gives the place of the first thing that is not blank.
pub(super) fn middle(disk: &impl ReadAt, size: u64) -> io::Result<Option<u64>> {
    let start = Instant::now();
    for (from, to) in places(size) {
        if start.elapsed() > PATIENCE {
            break;
        }
        if let Some(at) = scan(disk, (from, to), size)? {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// What of the middle is looked at, in that order: where something is known to lie, then places that are spread evenly
/// however many of them there is time for. A small disk is read as a whole.
fn places(size: u64) -> Vec<(u64, u64)> {
    let (low, high) = (HEAD.min(size), size.saturating_sub(TAIL).max(HEAD.min(size)));
    let span = high - low;
    if span <= SAMPLES * SAMPLE {
        return vec![(low, high)];
    }
    let copies = STARTS.iter().flat_map(|start| COPIES.map(|copy| (start + copy, start + copy + SAMPLE)));
    // XFS divides what it has into four; its own start may be a MiB in, and its end as much before that of the disk.
    let quarters = (1..4).map(|part| (size / 4 * part).saturating_sub(SAMPLE)).map(|at| (at, at + MIB));
    // Multiples of the golden ratio: however many are taken, no gap between them is much larger than the others.
    let spread = (1..=SAMPLES).map(|number| {
        let part = u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let at = u64::try_from((part * u128::from(span - SAMPLE)) >> 64).unwrap_or(0);
        let at = low + at / PIECE as u64 * PIECE as u64;
        (at, at + SAMPLE)
    });
    let within = |(from, to): (u64, u64)| (from.max(low), to.min(high));
    copies.chain(quarters).chain(spread).map(within).filter(|(from, to)| from < to).collect()
}

/// The place of the first piece between these two that is not blank.
fn scan(disk: &impl ReadAt, (from, to): (u64, u64), size: u64) -> io::Result<Option<u64>> {
    let mut buffer = vec![0; usize::try_from((to - from).min(CHUNK)).unwrap_or(PIECE)];
    let mut found = None;
    let mut at = from;
    while at < to {
        let step = usize::try_from(to - at).unwrap_or(buffer.len()).min(buffer.len());
        disk.read_exact_at(&mut buffer[..step], at)
            .map_err(|error| io::Error::new(error.kind(), format!("{error} at byte {at}")))?;
        if found.is_none() {
            let pieces = (at..).step_by(PIECE).zip(buffer[..step].chunks(PIECE));
            let mut written =
                pieces.filter(|(at, piece)| !is_blank(piece) && !is_cut_table(piece, size - at));
            found = written.next().map(|(at, _)| at);
        }
        at += step as u64;
    }
    Ok(found)
}

fn is_blank(piece: &[u8]) -> bool {
    [[0; PIECE], [0xff; PIECE]].iter().any(|blank| blank.starts_with(piece))
}

/// True for what a cut leaves of the first table that Kiln writes to a blank disk, `before_end` bytes before its end: the
/// array of the backup copy, with one entry, that of a partition on which nothing is yet.
fn is_cut_table(piece: &[u8], before_end: u64) -> bool {
    const ENTRY: usize = 128;
    // The array has 16 KiB; a sector behind it is the header's.
    let is_place = [512, 4096].contains(&before_end.saturating_sub(16 << 10));
    is_place
        && piece.len() > ENTRY
        && piece[..16] == TYPE_UNFINISHED.to_bytes_le()
        && piece[ENTRY..].iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::{HEAD, SAMPLE, TAIL, ends, middle, places};
    use kiln_formats::io::ReadAt;
    use proptest::prelude::proptest;
    use std::io;

    /// A disk of zeros, of which a part is something else.
    #[derive(Debug)]
    struct Disk {
        size: u64,
        part: (u64, u64),
        byte: fn(u64) -> u8,
    }

    impl ReadAt for Disk {
        fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
            assert!(offset + buf.len() as u64 <= self.size);
            for (at, byte) in (offset..).zip(buf) {
                *byte = if (self.part.0..self.part.1).contains(&at) { (self.byte)(at) } else { 0 };
            }
            Ok(())
        }
        fn size(&self) -> io::Result<u64> {
            Ok(self.size)
        }
    }

    /// What an encrypted volume looks like.
    fn noise(at: u64) -> u8 {
        (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40).to_le_bytes()[0]
    }

    const GIB: u64 = 1 << 30;

    #[test]
    fn zeros_and_ones_are_blank() {
        let bytes: [fn(u64) -> u8; 3] = [|_| 0, |_| 0xff, |at| if at / 512 % 3 == 0 { 0xff } else { 0 }];
        for byte in bytes {
            let disk = Disk { size: 20 << 20, part: (0, 20 << 20), byte };
            assert_eq!((ends(&disk, disk.size).unwrap(), middle(&disk, disk.size).unwrap()), (None, None));
        }
        // Bits of both within one piece are somebody's.
        let disk =
            Disk { size: 20 << 20, part: (0, 20 << 20), byte: |at| if at % 2 == 0 { 0xff } else { 0 } };
        assert_eq!(ends(&disk, disk.size).unwrap(), Some(0));
    }

    #[test]
    fn what_has_no_signature_is_found_wherever_it_is() {
        let size = 2000 * GIB;
        for part in [(0, size), (HEAD - 512, HEAD), (size - TAIL, size - TAIL + 512), (size - 512, size)] {
            assert_eq!(ends(&Disk { size, part, byte: noise }, size).unwrap(), Some(part.0), "{part:?}");
        }
        // The first gigabytes zeroed; a volume in the last twentieth; second copies of ext4's, btrfs' and XFS'
        // superblocks alone.
        for part in [
            (500 * GIB, size - 2 * TAIL),
            (1900 * GIB, size - 2 * TAIL),
            (128 << 20, (128 << 20) + 1024),
            ((1 << 20) + (128 << 20), (1 << 20) + (128 << 20) + 1024),
            (256 * GIB, 256 * GIB + 4096),
            (size / 4, size / 4 + 512),
            (size / 2 + (512 << 10), size / 2 + (512 << 10) + 512),
        ] {
            let disk = Disk { size, part, byte: noise };
            assert_eq!(ends(&disk, size).unwrap(), None, "{part:?}");
            assert!(middle(&disk, size).unwrap().is_some(), "{part:?}");
        }
        // A small disk is read as a whole.
        let part = ((17 << 20) + 512, (17 << 20) + 1024);
        assert_eq!(middle(&Disk { size: 32 << 20, part, byte: noise }, 32 << 20).unwrap(), Some(part.0));
    }

    proptest! {
        /// Within the disk, whatever its size; and no hundredth of it is left out.
        #[test]
        fn places_are_within_and_everywhere(size in 0_u64..1 << 45) {
            let all = places(size);
            assert!(all.len() < 600 && all.iter().all(|(from, to)| from <= to && *to <= size));
            let span = size.saturating_sub(HEAD + TAIL);
            for part in 0..100 {
                let (from, to) = (HEAD + span / 100 * part, HEAD + span / 100 * (part + 1));
                let is_seen = |(one, other): &(u64, u64)| *one < to && from < *other;
                assert!(span < 100 * SAMPLE || all.iter().any(is_seen), "{part}");
            }
        }
    }
}
