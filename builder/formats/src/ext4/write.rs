//! Writing: everything is placed first, then bytes go out in the order in which they lie.

use super::error::Error;
use super::format::{BLOCK_BYTES, MAX_BLOCKS};
use super::inventory::Inventory;
use super::options::{Options, Summary};
use super::place::{Packing, Places};
use super::sink::Sink;
use crate::io::WriteAt;
use crate::tree::{Timestamp, Tree};

/// Bytes of the smallest file system that takes `tree` with default journal and inodes, whatever the seed.
///
/// # Errors
/// What is wrong with the tree, as for [`write`].
pub fn minimum_size(tree: &Tree) -> Result<u64, Error> {
    let inventory = Inventory::new(tree, Timestamp::default())?;
    let options = Options::new(0, [0; 16], [0; 16], Timestamp::default());
    smallest(&inventory, Packing::Worst, &options)
}

/// The size at which placing succeeds, from `options.size` upwards.
fn smallest(inventory: &Inventory<'_>, packing: Packing, options: &Options) -> Result<u64, Error> {
    let mut blocks = options.size / BLOCK_BYTES;
    while blocks <= MAX_BLOCKS {
        match Places::new(inventory, blocks, packing, options) {
            Ok(_) => return Ok(blocks * BLOCK_BYTES),
            Err(short) => blocks += short.0,
        }
    }
    Err(Error::BadSize { given: blocks * BLOCK_BYTES })
}

/// Writes `tree` as a file system of `options.size` bytes from offset 0 of `target`, whose bytes there must
/// read as zeros. Parts that are zero are not written, but the target reaches its full size.
///
/// The root directory (0755) and lost+found (0700) are made where the tree has none. Times of access and
/// change are the modification time.
///
/// # Errors
/// Everything in the tree that ext4 cannot hold is refused before the first byte; after that only reading a
/// file's content and writing the target can fail.
pub fn write<W: WriteAt + ?Sized>(tree: &Tree, options: &Options, target: &mut W) -> Result<Summary, Error> {
    options.check()?;
    let mut inventory = Inventory::new(tree, options.created)?;
    inventory.arrange(options.hash_words())?;
    if let Some(given) = options.inodes.map(u64::from).filter(|given| *given < inventory.inodes()) {
        return Err(Error::TooFewInodes { needed: inventory.inodes(), given });
    }
    let Ok(places) = Places::new(&inventory, options.size / BLOCK_BYTES, Packing::Arranged, options) else {
        let needed = smallest(&inventory, Packing::Arranged, options)?;
        return Err(Error::TooSmall { needed, given: options.size });
    };
    let mut sink = Sink::new(target);
    sink.extend_to(options.size)?;
    let writer = Writer { inventory: &inventory, places: &places, options };
    let summary = writer.write_metadata(&mut sink)?;
    writer.write_inodes(&mut sink)?;
    writer.write_contents(&mut sink)?;
    sink.flush()?;
    Ok(summary)
}

/// Everything that is known before the first byte goes out.
pub(super) struct Writer<'a, 't> {
    pub(super) inventory: &'a Inventory<'t>,
    pub(super) places: &'a Places,
    pub(super) options: &'a Options,
}
