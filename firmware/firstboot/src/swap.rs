//! Swap areas: the header that swapon(2) looks for, written once. The format is one page (Linux,
//! include/linux/swap.h, `union swap_header`), so that no program has to be carried for it.

use crate::block::Block;
use kiln_formats::io::{ReadAt, WriteAt};
use std::io;
use std::path::Path;
use uuid::Uuid;

/// A page as every kernel that Kiln boots has it (bytes).
const PAGE: usize = 4096;
/// Where `info` begins: what is before it is left to boot loaders.
const INFO: usize = 1024;
/// Offsets in `info` of its fields; all numbers have the byte order of the machine.
const VERSION: usize = INFO;
const LAST_PAGE: usize = INFO + 4;
const UUID: usize = INFO + 12;
const LABEL: usize = INFO + 28;
/// Bytes of a label.
const LABEL_BYTES: usize = 16;
/// The last bytes of the page.
const MAGIC: &[u8; 10] = b"SWAPSPACE2";
/// Pages of the least area that is of use: mkswap(8) wants ten.
const LEAST_PAGES: u64 = 10;

/// Makes `device`, of `size` bytes, a swap area with this UUID, unless it is one. True when it was made.
pub(crate) fn make(device: &Path, size: u64, (uuid, label): (Uuid, &str)) -> io::Result<bool> {
    let mut page = vec![0; PAGE];
    Block::open(device, size)?.read_exact_at(&mut page, 0)?;
    // The magic is the last that a power cut would leave unwritten, and the UUID is near the first.
    if page.ends_with(MAGIC) && page[UUID..UUID + 16] == *uuid.as_bytes() {
        return Ok(false);
    }
    Block::claim(device, size)?.write_all_at(&header(size, uuid, label)?, 0)?;
    Ok(true)
}

/// The first page of an area of `size` bytes.
fn header(size: u64, uuid: Uuid, label: &str) -> io::Result<Vec<u8>> {
    let pages = size / PAGE as u64;
    if pages < LEAST_PAGES {
        return Err(io::Error::other(format!("{size} bytes are too few for a swap area")));
    }
    // The kernel counts pages in 32 bits.
    let last = u32::try_from(pages - 1).unwrap_or(u32::MAX);
    let mut page = vec![0; PAGE];
    page[VERSION..VERSION + 4].copy_from_slice(&1_u32.to_ne_bytes());
    page[LAST_PAGE..LAST_PAGE + 4].copy_from_slice(&last.to_ne_bytes());
    page[UUID..UUID + 16].copy_from_slice(uuid.as_bytes());
    let label = &label.as_bytes()[..label.len().min(LABEL_BYTES)];
    page[LABEL..LABEL + label.len()].copy_from_slice(label);
    page[PAGE - MAGIC.len()..].copy_from_slice(MAGIC);
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::{PAGE, header, make};
    use std::fs;
    use std::process::Command;
    use uuid::Uuid;

    const ID: Uuid = Uuid::from_u128(0x0123_4567_89ab_4cde_8f01_2345_6789_abcd);
    const SIZE: u64 = (3 << 20) + 512;

    /// The same first page as mkswap(8) writes.
    #[test]
    fn it_is_what_mkswap_makes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("theirs");
        fs::File::create(&path).unwrap().set_len(SIZE).unwrap();
        let mut mkswap = Command::new("/usr/sbin/mkswap");
        let output =
            mkswap.args(["-q", "-p", "4096", "-L", "swap", "-U", &ID.to_string()]).arg(&path).output();
        assert!(output.unwrap().status.success());
        assert_eq!(fs::read(&path).unwrap()[..PAGE], header(SIZE, ID, "swap").unwrap());
    }

    #[test]
    fn it_is_made_once_and_again_when_it_was_cut_short() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ours");
        let written = |bytes: &[u8]| {
            let mut disk = bytes.to_vec();
            disk.resize(usize::try_from(SIZE).unwrap(), 0);
            fs::write(&path, disk).unwrap();
            make(&path, SIZE, (ID, "swap")).unwrap()
        };
        let whole = header(SIZE, ID, "swap").unwrap();
        assert!(written(&[]));
        assert_eq!(fs::read(&path).unwrap()[..PAGE], whole);
        assert!(!make(&path, SIZE, (ID, "swap")).unwrap());
        // A page that ends in its middle, another area, and one whose bad pages somebody has listed since.
        assert!(written(&whole[..2048]));
        assert!(written(&header(SIZE, Uuid::from_u128(1), "swap").unwrap()));
        let mut listed = whole.clone();
        listed[1024 + 8] = 1;
        assert!(!written(&listed));
    }

    #[test]
    fn an_area_of_nothing_is_refused() {
        assert!(header(9 * 4096, ID, "swap").is_err());
        assert!(header(10 * 4096, ID, "a label that is too long").is_ok());
    }
}
