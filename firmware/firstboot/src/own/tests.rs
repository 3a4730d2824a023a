//! Tables of disks of many sizes.

use super::{Own, finished, plan};
use crate::disks::tests::{disk, handoff};
use crate::failure::Failure;
use kiln_contract::handoff::Handoff;
use kiln_contract::partition as types;
use kiln_contract::partition::STATE_MIN;
use kiln_contract::policy::Swap;
use kiln_formats::gpt::{self, Found, Table};
use kiln_formats::io::ReadAt;
use std::io;
use uuid::Uuid;

/// The table of an image, at the start of a larger disk of zeros.
#[derive(Debug)]
struct Larger {
    bytes: Vec<u8>,
    size: u64,
}

impl ReadAt for Larger {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        for (at, byte) in buf.iter_mut().enumerate() {
            *byte = self.bytes.get(start + at).copied().unwrap_or(0);
        }
        Ok(())
    }
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }
}

fn image(handoff: &Handoff, sector: u32) -> Vec<u8> {
    let ours = &handoff.partitions;
    let entries = [
        (types::TYPE_ESP, ours.esp, types::LABEL_ESP),
        (types::TYPE_CIDATA, ours.cidata, types::LABEL_CIDATA),
        (types::TYPE_ROOT, ours.root_a, types::LABEL_ROOT_A),
    ];
    disk(sector, &entries)
}

fn found(handoff: &Handoff, size: u64, sector: u32) -> Found {
    gpt::read(&Larger { bytes: image(handoff, sector), size }, sector).unwrap()
}

/// What the disk says once the table is on it.
fn written(table: &Table) -> Found {
    let mut sparse = Sparse::default();
    gpt::write(table, &mut sparse).unwrap();
    sparse.size = table.disk_size;
    gpt::read(&sparse, table.sector_size).unwrap()
}

/// A disk of any size that remembers what was written.
#[derive(Debug, Default)]
struct Sparse {
    writes: Vec<(u64, Vec<u8>)>,
    size: u64,
}

impl kiln_formats::io::WriteAt for Sparse {
    fn write_all_at(&mut self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.writes.push((offset, buf.to_vec()));
        Ok(())
    }
}

impl ReadAt for Sparse {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        buf.fill(0);
        for (start, bytes) in &self.writes {
            for (at, byte) in (*start..).zip(bytes) {
                let place = at.checked_sub(offset).and_then(|at| usize::try_from(at).ok());
                if let Some(target) = place.and_then(|place| buf.get_mut(place)) {
                    *target = *byte;
                }
            }
        }
        Ok(())
    }
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }
}

#[test]
fn a_far_larger_disk_is_taken_to_its_end_and_then_left_alone() {
    let handoff = handoff(1);
    for sector in [512, 4096] {
        for size in [4 << 30, (500 << 30) + 4096, 20_000_000_000_000 / 4096 * 4096] {
            let own = plan(&found(&handoff, size, sector), size, &handoff).unwrap();
            assert!(own.format_state && !own.changes.is_empty());
            let state = own.table.partition(own.state).unwrap();
            assert!(size - state.offset(sector) - state.size(sector) < 3 << 20, "{size} {sector}");
            assert!(state.size(sector) >= STATE_MIN);
            let root_b = own.table.partition(4).unwrap();
            assert_eq!(root_b.size(sector), own.table.partition(3).unwrap().size(sector));

            // Cut before the state was formatted: the same again, without a change to the table.
            let again = plan(&written(&own.table), size, &handoff).unwrap();
            assert_eq!((again.changes.len(), again.format_state), (0, true));
            let done = plan(&written(&finished(&own)), size, &handoff).unwrap();
            assert_eq!(done, Own { table: finished(&own), changes: Vec::new(), format_state: false, ..own });
        }
    }
}

#[test]
fn a_disk_that_grew_later_gives_its_room_to_the_state() {
    let handoff = handoff(1);
    let own = plan(&found(&handoff, 8 << 30, 512), 8 << 30, &handoff).unwrap();
    let mut before = Sparse::default();
    gpt::write(&finished(&own), &mut before).unwrap();
    before.size = 16 << 30;
    let own = plan(&gpt::read(&before, 512).unwrap(), 16 << 30, &handoff).unwrap();
    assert!(!own.format_state);
    assert_eq!(own.changes.len(), 2, "{:?}", own.changes);
    assert!(own.table.partition(5).unwrap().size(512) > 13 << 30);
}

#[test]
fn a_disk_that_is_too_small_is_refused_with_what_it_needs() {
    let handoff = handoff(1);
    let size = 1 << 30;
    let Err(Failure::NoRoom { needed, .. }) = plan(&found(&handoff, size, 512), size, &handoff) else {
        panic!("a disk of 1 GiB was taken");
    };
    assert!(plan(&found(&handoff, needed, 512), needed, &handoff).is_ok(), "{needed} is said to be enough");
}

#[test]
fn swap_lies_before_the_state() {
    let mut handoff = handoff(1);
    handoff.disks.system.swap =
        Some(Swap { bytes: 1 << 30, partition: Uuid::from_u128(77), filesystem: Uuid::from_u128(78) });
    let own = plan(&found(&handoff, 8 << 30, 512), 8 << 30, &handoff).unwrap();
    let swap = own.table.partition(own.swap.unwrap()).unwrap();
    assert_eq!((swap.size(512), swap.guid), (1 << 30, Uuid::from_u128(77)));
    assert!(swap.last_lba < own.table.partition(own.state).unwrap().first_lba);
    // One that is larger than any disk is a disk that is too small, not an overflow.
    handoff.disks.system.swap =
        Some(Swap { bytes: u64::MAX - 1, partition: Uuid::from_u128(77), filesystem: Uuid::from_u128(78) });
    assert!(matches!(plan(&found(&handoff, 8 << 30, 512), 8 << 30, &handoff), Err(Failure::NoRoom { .. })));
}

/// Power fails after each single write of the new table: what is found then leads to the same table.
#[test]
fn every_cut_of_the_write_leads_to_the_same_table() {
    let handoff = handoff(1);
    let size = 8 << 30;
    let own = plan(&found(&handoff, size, 512), size, &handoff).unwrap();
    let mut full = Sparse { writes: vec![(0, image(&handoff, 512))], size };
    let old = full.writes.len();
    gpt::write(&own.table, &mut full).unwrap();
    for cut in old..=full.writes.len() {
        // The last write may also have reached the disk in half.
        for half in [false, true] {
            let mut writes = full.writes[..cut].to_vec();
            if half && cut > old {
                let last = writes.last_mut().unwrap();
                last.1.truncate(last.1.len() / 2);
            }
            let found = gpt::read(&Sparse { writes, size }, 512).unwrap();
            let again = plan(&found, size, &handoff).unwrap();
            assert_eq!(again.table, own.table, "cut after {cut}, half {half}");
        }
    }
}
