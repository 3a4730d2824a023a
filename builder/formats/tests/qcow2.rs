//! qcow2 images, judged by qemu-img, and the walk over the data of sparse files.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod tools;

use kiln_formats::io::WriteAt;
use kiln_formats::qcow2::{self, Compression, Options, ReadError, WriteError};
use kiln_formats::sparse::{self, data_extents, is_zero};
use proptest::prelude::{any, prop, proptest};
use std::fs::File;
use std::path::Path;
use tools::Tool;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A sparse file with patterns at these places, and what they hold.
fn raw(path: &Path, size: u64, pieces: &[(u64, usize)]) -> File {
    let mut file = File::options().create(true).truncate(true).read(true).write(true).open(path).unwrap();
    file.set_len(size).unwrap();
    for (offset, len) in pieces {
        // Partly compressible: every second KiB is noise.
        let mut state = (*offset | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let bytes: Vec<u8> = (0..*len)
            .map(|at| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                if at / 1024 % 2 == 0 { u8::try_from(state >> 56).unwrap() | 1 } else { 0x55 }
            })
            .collect();
        WriteAt::write_all_at(&mut file, &bytes, *offset).unwrap();
    }
    file
}

fn qemu_img(args: &[&str], paths: &[&Path]) -> String {
    Tool::new("qemu-img", "qemu-utils").args(args).args(paths).run()
}

#[test]
fn qemu_img_finds_the_same_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (raw_path, path) = (dir.path().join("raw"), dir.path().join("qcow2"));
    for (size, pieces) in [
        (0, &[][..]),
        (512, &[(0, 512)]),
        (64 * KIB, &[]),
        (64 * KIB + 512, &[(64 * KIB, 512)]),
        (20 * MIB, &[(0, 512), (5 * MIB - 3, 70_000), (20 * MIB - 1, 1)]),
        (3 * GIB, &[(512 * MIB - 1, 2), (GIB, 9_000_000), (3 * GIB - 4096, 4096)]),
        (100 * MIB, &[(0, 40_000_000), (50_000_000, 10), (50_000_100, 100)]),
        (5000 * GIB, &[(0, 70_000), (4999 * GIB, 70_000)]),
    ] {
        let source = raw(&raw_path, size, pieces);
        for zstd_level in [None, Some(3)] {
            let _ = std::fs::remove_file(&path);
            let mut file = File::create(&path).unwrap();
            let end = qcow2::write(&source, Options { zstd_level }, &mut file).unwrap();
            assert_eq!(end, file.metadata().unwrap().len());
            let report = qemu_img(&["check", "-f", "qcow2"], &[&path]);
            assert!(report.contains("No errors were found"), "{report}");
            let report = qemu_img(&["compare", "-f", "raw", "-F", "qcow2"], &[&raw_path, &path]);
            assert!(report.contains("identical"), "{size}: {report}");
            let info = qemu_img(&["info", "-f", "qcow2"], &[&path]);
            assert!(info.contains("compat: 1.1") && info.contains(&format!("({size} bytes)")), "{info}");
            let kind = if zstd_level.is_some() { "compression type: zstd" } else { "compression type: zlib" };
            assert!(info.contains(kind), "{info}");
            let data: u64 = pieces.iter().map(|(_, len)| *len as u64 + 2 * 64 * KIB).sum();
            assert!(end < data + 4 * MIB, "{size}: {end} bytes for {data} of data");
            if zstd_level.is_some() && data > 10 * MIB {
                assert!(end < data * 6 / 10, "{end} bytes for {data} of data");
            }
            let mut again = Vec::new();
            qcow2::write(&source, Options { zstd_level }, &mut again).unwrap();
            assert!(again == std::fs::read(&path).unwrap(), "the same disk makes the same bytes");
            let header = qcow2::read_header(&again).unwrap();
            assert_eq!((header.version, header.virtual_size, header.cluster_size), (3, size, 65_536));
        }
    }
}

/// Frozen: other bytes mean that images made from an old lock are no longer reproduced. Change the number only
/// with a line in the change log. (Compressed clusters follow the zstd library's version.)
#[test]
fn bytes_are_frozen() {
    let dir = tempfile::tempdir().unwrap();
    let source = raw(&dir.path().join("raw"), 600 * MIB, &[(5 * MIB, 300_000), (600 * MIB - 1, 1)]);
    let mut bytes = Vec::new();
    qcow2::write(&source, Options::default(), &mut bytes).unwrap();
    assert_eq!(crc32fast::hash(&bytes), 3_063_121_785);
}

/// Holes or zeros: the bytes of the image are the same.
#[test]
fn zeros_are_holes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("raw");
    let sparse = raw(&path, 8 * MIB, &[(MIB, 100)]);
    let full = std::fs::read(&path).unwrap();
    let (mut one, mut two) = (Vec::new(), Vec::new());
    qcow2::write(&sparse, Options::default(), &mut one).unwrap();
    qcow2::write(&full, Options::default(), &mut two).unwrap();
    assert!(one == two);
}

/// A file of more clusters than one block of counts holds (2 GiB of data, written where it is not kept).
#[test]
fn counts_of_many_clusters() {
    #[derive(Debug)]
    struct Ones(u64);
    impl kiln_formats::io::ReadAt for Ones {
        fn read_exact_at(&self, buf: &mut [u8], _: u64) -> std::io::Result<()> {
            buf.fill(1);
            Ok(())
        }
        fn size(&self) -> std::io::Result<u64> {
            Ok(self.0)
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qcow2");
    // Compressed to a few bytes a cluster: many references to one cluster of the file.
    let options = Options { zstd_level: Some(1) };
    qcow2::write(&Ones(GIB), options, &mut File::create(&path).unwrap()).unwrap();
    assert!(qemu_img(&["check"], &[&path]).contains("No errors were found"));
    // Header and L1 are two clusters; with L2 tables and counts this ends just before, at and after a block.
    for data in [32_759, 32_760, 32_761] {
        let mut sink = Heads::default();
        qcow2::write(&Ones(data * 64 * KIB), Options::default(), &mut sink).unwrap();
        sink.save(&path);
        let report = qemu_img(&["check"], &[&path]);
        assert!(report.contains("No errors were found"), "{data}: {report}");
    }
}

/// Keeps tables, and of data only its size: what `qemu-img check` looks at.
#[derive(Default)]
struct Heads {
    writes: Vec<(u64, Vec<u8>)>,
    size: u64,
}

impl WriteAt for Heads {
    fn write_all_at(&mut self, buf: &[u8], offset: u64) -> std::io::Result<()> {
        self.size = self.size.max(offset + buf.len() as u64);
        if buf.first() != Some(&1) {
            self.writes.push((offset, buf.to_vec()));
        }
        Ok(())
    }
}

impl Heads {
    fn save(&self, path: &Path) {
        let mut file = File::create(path).unwrap();
        file.set_len(self.size).unwrap();
        for (offset, bytes) in &self.writes {
            WriteAt::write_all_at(&mut file, bytes, *offset).unwrap();
        }
    }
}

#[test]
fn impossible_disks_are_refused() {
    let odd = qcow2::write(&vec![0; 513], Options::default(), &mut Vec::new()).unwrap_err();
    assert!(matches!(odd, WriteError::Size { size: 513, .. }));
}

#[test]
fn headers_of_qemu_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let (base, top) = (dir.path().join("base"), dir.path().join("top"));
    qemu_img(
        &["create", "-q", "-f", "qcow2", "-o", "compression_type=zstd,cluster_size=4k"],
        &[&base, Path::new("1G")],
    );
    qemu_img(&["create", "-q", "-f", "qcow2", "-o", "compat=0.10", "-F", "qcow2", "-b"], &[&base, &top]);
    let header = qcow2::read_header(&File::open(&base).unwrap()).unwrap();
    assert_eq!((header.version, header.virtual_size, header.cluster_size), (3, GIB, 4096));
    assert_eq!((header.compression, header.backing_file), (Compression::Zstd, None));
    let header = qcow2::read_header(&File::open(&top).unwrap()).unwrap();
    assert_eq!((header.version, header.compression), (2, Compression::Zlib));
    assert_eq!(header.backing_file.as_deref(), base.to_str());
    assert!(matches!(qcow2::read_header(&b"MZ".to_vec()), Err(ReadError::NotAnImage)));
    assert!(matches!(qcow2::read_header(&b"QFI\xfb\0\0\0\x03".to_vec()), Err(ReadError::Header(_))));
}

#[test]
fn extents_are_where_data_is() {
    let dir = tempfile::tempdir().unwrap();
    let source = raw(&dir.path().join("raw"), 100 * MIB, &[(0, 10), (40 * MIB, 5000), (100 * MIB - 1, 1)]);
    let extents: Vec<_> = data_extents(&source).unwrap().map(Result::unwrap).collect();
    for at in [0, 40 * MIB, 40 * MIB + 4999, 100 * MIB - 1] {
        assert!(extents.iter().any(|extent| extent.contains(&at)), "{at}: {extents:?}");
    }
    assert!(extents.windows(2).all(|pair| pair[0].end <= pair[1].start), "{extents:?}");
    assert_eq!(extents.last().unwrap().end, 100 * MIB);
    let held: u64 = extents.iter().map(|extent| extent.end - extent.start).sum();
    assert!(held < MIB, "{extents:?}");
    let empty = raw(&dir.path().join("empty"), 10 * MIB, &[]);
    assert_eq!(data_extents(&empty).unwrap().count(), 0);
    let memory = vec![0; 100];
    assert_eq!(data_extents(&memory).unwrap().map(Result::unwrap).collect::<Vec<_>>(), vec![0..100]);
    assert!(is_zero(&[]) && is_zero(&[0; 5000]) && !is_zero(&[&[0; 4999][..], &[1]].concat()));
}

/// In the kernel between files, by hand from and into memory; holes stay holes.
#[test]
fn sparse_copies_are_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let pieces = [(3, 10), (2 * MIB + 5, 300_000), (40 * MIB - 1, 1)];
    let source = raw(&dir.path().join("raw"), 40 * MIB, &pieces);
    let whole = std::fs::read(dir.path().join("raw")).unwrap();
    let path = dir.path().join("copy");
    let mut file = raw(&path, 42 * MIB, &[]);
    let copied = sparse::copy(&source, &mut file, 2 * MIB).unwrap();
    assert!((300_011..MIB).contains(&copied), "{copied}");
    assert!(std::fs::read(&path).unwrap()[2 << 20..] == whole);
    let blocks = std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap());
    assert!(blocks * 512 < MIB, "{blocks}");
    let mut memory = vec![0; 7];
    assert_eq!(sparse::copy(&whole, &mut memory, 7).unwrap(), 40 * MIB);
    assert!(memory[7..] == whole);
}

proptest! {
    #![proptest_config(tools::cases(500))]

    #[test]
    fn header_reader_survives_anything(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if bytes.len() > 24 {
            bytes[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
            bytes[20..23].fill(0);
        }
        let _ = qcow2::read_header(&bytes);
    }
}
