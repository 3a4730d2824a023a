//! The disk that was booted: its table reaches to the disk's real end, and has the partitions that the image leaves
//! to the first boot. Pure: a table as it was found in, the table as it must be out.

use crate::failure::Failure;
use kiln_contract::handoff::Handoff;
use kiln_contract::partition::{self as types, STATE_MIN};
use kiln_contract::plan::human;
use kiln_formats::gpt::{Found, Partition, Table};

/// Partitions begin at multiples of this (bytes).
const ALIGNMENT: u64 = 1 << 20;
/// Numbers of the partitions that are made here; the image has 1 to 3.
const ROOT_B: u32 = 4;
const STATE: u32 = 5;
const SWAP: u32 = 6;

/// What becomes of the disk's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Own {
    /// The table as it must be.
    pub(crate) table: Table,
    /// What is going to be changed, in words; empty when the disk is as it must be.
    pub(crate) changes: Vec<String>,
    /// Number of the state partition.
    pub(crate) state: u32,
    /// The state partition is new, or its formatting was cut short.
    pub(crate) format_state: bool,
    /// Number of the swap partition, when one is wanted and there is one.
    pub(crate) swap: Option<u32>,
}

/// What must be done so that the disk of `size` bytes, whose table is `found`, is this node's.
pub(crate) fn plan(found: &Found, size: u64, handoff: &Handoff) -> Result<Own, Failure> {
    let mut table = found.table.clone();
    let mut changes = Vec::new();
    let sector = u64::from(table.sector_size);
    table.disk_size = size - size % sector;
    let last = table.disk_size / sector - 1;
    if found.backup_lba != last {
        changes.push(format!("backup table moves to the end of {}", human(size)));
    } else if found.primary.is_some() || found.backup.is_some() {
        changes.push("the damaged copy of the table is written again".to_owned());
    }
    let ours = &handoff.partitions;
    if !has(&table, ours.state) {
        add_partitions(&mut table, handoff, &mut changes)?;
    }
    let end = last_aligned(&table);
    let grown = table.partitions.iter().all(|other| other.guid == ours.state || other.last_lba < end);
    let Some(state) = table.partitions.iter_mut().find(|partition| partition.guid == ours.state) else {
        return Err(Failure::NoRoom { disk_size: size, needed: size });
    };
    if grown && state.last_lba < end {
        state.last_lba = end;
        changes.push(format!("state grows to {}", human(state.size(table.sector_size))));
    }
    let (number, format_state) = (state.number, state.type_guid == types::TYPE_UNFINISHED);
    let swap = handoff.disks.system.swap.as_ref();
    let swap = swap.and_then(|swap| table.partitions.iter().find(|found| found.guid == swap.partition));
    Ok(Own { state: number, format_state, swap: swap.map(|swap| swap.number), table, changes })
}

/// The table once the state partition is formatted.
pub(crate) fn finished(own: &Own) -> Table {
    let mut table = own.table.clone();
    for partition in table.partitions.iter_mut().filter(|partition| partition.number == own.state) {
        partition.type_guid = types::TYPE_STATE;
    }
    table
}

fn has(table: &Table, guid: uuid::Uuid) -> bool {
    table.partitions.iter().any(|partition| partition.guid == guid)
}

/// Last sector of a partition that ends where the disk does, at a multiple of the alignment.
fn last_aligned(table: &Table) -> u64 {
    let per = ALIGNMENT / u64::from(table.sector_size);
    ((table.last_usable() + 1) / per * per).saturating_sub(1)
}

/// root-b as large as root-a, swap when it is wanted, state in all the rest.
fn add_partitions(table: &mut Table, handoff: &Handoff, changes: &mut Vec<String>) -> Result<(), Failure> {
    let ours = &handoff.partitions;
    // Leftovers with our numbers are parts of a table that nobody finished: the image's own are 1 to 3.
    table.partitions.retain(|partition| partition.number < ROOT_B);
    let root_a = table.partitions.iter().find(|partition| partition.guid == ours.root_a);
    let root_size = root_a.map_or(0, |root| root.size(table.sector_size));
    let swap = handoff.disks.system.swap.as_ref();
    let sector = u64::from(table.sector_size);
    let used = table.partitions.iter().map(|partition| partition.last_lba + 1).max().unwrap_or(0) * sector;
    let sizes = [
        (ROOT_B, types::TYPE_ROOT, ours.root_b, types::LABEL_ROOT_B, Some(root_size)),
        (
            SWAP,
            types::TYPE_SWAP,
            swap.map_or(ours.root_b, |swap| swap.partition),
            types::LABEL_SWAP,
            swap.map(|swap| swap.bytes),
        ),
    ];
    let mut at = used.next_multiple_of(ALIGNMENT);
    for (number, type_guid, guid, name, size) in sizes {
        let Some(size) = size.filter(|size| *size > 0) else { continue };
        let aligned = size.checked_next_multiple_of(ALIGNMENT).unwrap_or(u64::MAX);
        let end = at.saturating_add(aligned);
        table.partitions.push(Partition {
            number,
            type_guid,
            guid,
            name: name.to_owned(),
            first_lba: at / sector,
            last_lba: end / sector - 1,
            attributes: 0,
        });
        changes.push(format!("{name} of {}", human(end - at)));
        at = end;
    }
    let end = (last_aligned(table) + 1) * sector;
    let needed = at.saturating_add(STATE_MIN);
    if end < needed {
        // The table's own end and alignment take up to two more units.
        return Err(Failure::NoRoom {
            disk_size: table.disk_size,
            needed: needed.saturating_add(2 * ALIGNMENT),
        });
    }
    table.partitions.push(Partition {
        number: STATE,
        type_guid: types::TYPE_UNFINISHED,
        guid: ours.state,
        name: types::LABEL_STATE.to_owned(),
        first_lba: at / sector,
        last_lba: end / sector - 1,
        attributes: 0,
    });
    changes.push(format!("state of {}", human(end - at)));
    Ok(())
}

#[cfg(test)]
mod tests;
