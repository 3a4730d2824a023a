//! Bytes of strangers: errors, never a panic, never without end.

use crate::bytes::small;
use crate::oracle::options;
use kiln_formats::ext4::read::{Checksums, FileSystem};
use kiln_formats::ext4::write;
use kiln_formats::io::ReadAt;
use kiln_formats::tree::Kind;
use proptest::prelude::{ProptestConfig, any, prop, proptest};
use std::sync::{Arc, OnceLock};

/// An image with few changed bytes, without a copy of the whole for every case.
#[derive(Debug)]
struct Changed {
    changes: Vec<(usize, u8)>,
}

fn image() -> &'static Vec<u8> {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let mut image = Vec::new();
        write(&small(), &options(16 << 20), &mut image).unwrap();
        image
    })
}

/// Places that hold something: changes elsewhere prove nothing.
fn filled() -> &'static Vec<usize> {
    static FILLED: OnceLock<Vec<usize>> = OnceLock::new();
    FILLED.get_or_init(|| {
        let pieces = image().chunks(64).enumerate().filter(|(_, piece)| piece.iter().any(|byte| *byte != 0));
        pieces.flat_map(|(at, _)| at * 64..at * 64 + 64).collect()
    })
}

impl ReadAt for Changed {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
        image().read_exact_at(buf, offset)?;
        let offset = usize::try_from(offset).unwrap();
        for (at, byte) in &self.changes {
            if let Some(place) = at.checked_sub(offset).and_then(|at| buf.get_mut(at)) {
                *place = *byte;
            }
        }
        Ok(())
    }
    fn size(&self) -> std::io::Result<u64> {
        Ok(image().len() as u64)
    }
}

/// Opens, walks, reads a bit of every file.
fn read_all(source: Arc<dyn ReadAt>) {
    for checksums in [Checksums::Verify, Checksums::Ignore] {
        let Ok(fs) = FileSystem::open_with(Arc::clone(&source), checksums) else { continue };
        let _ = fs.facts();
        for path in ["etc/hostname", "many/000100", "data/none", "lost+found/.."] {
            let _ = fs.read_file(path, 1 << 20);
        }
        let Ok(tree) = fs.tree() else { continue };
        for (_, entry) in tree.iter() {
            if let Kind::File(content) = &entry.kind {
                let mut buf = [0; 64];
                let len = usize::try_from(content.len().min(64)).unwrap();
                let _ = content.read_exact_at(&mut buf[..len], content.len() - len as u64);
                let _ = content.read_exact_at(&mut buf[..len], 0);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn changed_images(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)) {
        let changes = changes.into_iter().map(|(at, byte)| (filled()[at.index(filled().len())], byte)).collect();
        read_all(Arc::new(Changed { changes }));
    }

    #[test]
    fn changed_superblocks(changes in prop::collection::vec((1024usize..1700, any::<u8>()), 1..4)) {
        read_all(Arc::new(Changed { changes }));
    }

    #[test]
    fn changed_directories_and_trees(changes in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(vec![0u8, 1, 2, 3, 4, 7, 8, 12, 0x7f, 0x80, 0xff])), 1..40)) {
        // Everything behind the journal: directories, blocks of attributes, content.
        let places = filled();
        let from = places.partition_point(|place| *place < 4 << 20);
        let part = &places[from..];
        let changes = changes.into_iter().map(|(at, byte)| (part[at.index(part.len())], byte)).collect();
        read_all(Arc::new(Changed { changes }));
    }

    #[test]
    fn random_bytes_behind_a_superblock(bytes in prop::collection::vec(any::<u8>(), 0..8192)) {
        let mut source = image()[..64 << 10].to_vec();
        let end = 4096 + bytes.len();
        source[4096..end].copy_from_slice(&bytes);
        source.resize(16 << 20, 0xA5);
        read_all(Arc::new(source));
        read_all(Arc::new(bytes));
    }
}
