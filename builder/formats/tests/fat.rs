//! The FAT writer, judged by fsck.vfat, mtools and the kernel, and the reader, judged by what was written.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod tools;

use kiln_formats::fat::{self, Options, ReadError, Width, WriteError};
use kiln_formats::io::ReadAt;
use kiln_formats::tree::{Content, Entry, Kind, Timestamp, Tree};
use proptest::prelude::{Just, Strategy, any, prop, proptest};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tools::{Tool, differences, is_root, say_skipped};

const MIB: u64 = 1 << 20;
/// 2023-11-14T22:13:20Z, even as FAT's seconds are.
const TIME: i64 = 1_700_000_000;

fn options(size: u64, sector_size: u32) -> Options<'static> {
    let created = Timestamp { secs: TIME, nanos: 0 };
    Options {
        size,
        sector_size,
        sectors_per_cluster: None,
        volume_id: 0x1234_abcd,
        label: "KILN ESP",
        created,
    }
}

fn add(tree: &mut Tree, path: &str, mut entry: Entry) {
    entry.meta.mtime = Timestamp { secs: TIME + 86_400 * i64::try_from(path.len()).unwrap(), nanos: 0 };
    tree.make_parents(path, &Entry::directory());
    tree.insert(path, entry);
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect()
}

/// Entries whose times FAT's first one replaces: those that [`add`] made as parents.
fn with_fat_times(tree: &Tree) -> Tree {
    let mut tree = tree.clone();
    for (path, entry) in tree.iter_mut() {
        let first = if path.is_empty() { 0 } else { 315_532_800 };
        entry.meta.mtime.secs = entry.meta.mtime.secs.max(first) & !1;
    }
    tree
}

/// The boundary table: sizes around a cluster, names of every kind, directories of more than one cluster.
fn sample() -> Tree {
    let mut tree = Tree::new();
    tree.insert("", Entry::directory());
    for (path, len) in [
        ("EFI/BOOT/BOOTX64.EFI", 100_000),
        ("EFI/Linux/kiln-6.12.0+3.efi", 3_000_001),
        ("loader/loader.conf", 17),
        ("sizes/0", 0),
        ("sizes/1", 1),
        ("sizes/511", 511),
        ("sizes/512", 512),
        ("sizes/513", 513),
        ("sizes/4095", 4095),
        ("sizes/4096", 4096),
        ("sizes/4097", 4097),
        ("names/grüße ☃.txt", 3),
        ("names/\u{1f600}", 4),
        (".hidden", 1),
        ("names/a.b.c.d", 2),
        ("names/ leading", 2),
        ("names/+,;=[]", 2),
        ("names/LONGNA~1.TXT", 5),
        ("names/longname one.txt", 6),
        ("names/longname two.txt", 7),
        ("names/exactly13char", 1),
        ("names/exactly 26 characters long", 1),
        ("deep/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/end", 9),
    ] {
        add(&mut tree, path, Entry::file(pattern(len)));
    }
    add(&mut tree, "empty dir", Entry::directory());
    add(&mut tree, &format!("names/{}", "n".repeat(255)), Entry::file(*b"255"));
    add(&mut tree, &format!("names/{}", "ü".repeat(255)), Entry::file(*b"255 units"));
    add(&mut tree, &format!("names/{}x", "\u{1f600}".repeat(127)), Entry::file(*b"surrogates"));
    for at in 0..1500 {
        add(
            &mut tree,
            &format!("many/file with a long name {at}"),
            Entry::file(format!("{at}").into_bytes()),
        );
    }
    tree
}

fn volume(tree: &Tree, options: &Options<'_>, path: &Path) -> fat::Geometry {
    let mut file = File::options().create(true).truncate(true).read(true).write(true).open(path).unwrap();
    file.set_len(options.size).unwrap();
    fat::write(tree, options, &mut file).unwrap()
}

fn read(path: &Path) -> fat::Volume {
    let source: Arc<dyn ReadAt> = Arc::new(File::open(path).unwrap());
    fat::read(&source).unwrap()
}

fn fsck(path: &Path) {
    let report = Tool::new("fsck.vfat", "dosfstools").args(["-n", "-v"]).args([path]).run();
    for word in ["differ", "Dirty", "wrong", "Free cluster summary", "Orphaned", "Bad", "different"] {
        assert!(!report.contains(word), "{report}");
    }
}

struct Image {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

fn image() -> Image {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("volume");
    Image { _dir: dir, path }
}

/// Frozen: other bytes mean that images made from an old lock are no longer reproduced. Change the number only
/// with a line in the change log.
#[test]
fn bytes_are_frozen() {
    let hashes = [(34 * MIB, 512), (32 * MIB, 4096)].map(|(size, sector_size)| {
        let mut bytes = Vec::new();
        fat::write(&sample(), &options(size, sector_size), &mut bytes).unwrap();
        crc32fast::hash(&bytes)
    });
    assert_eq!(hashes, [2_086_517_691, 1_317_739_494]);
}

/// Each kind of volume that images have: checked by fsck.vfat, read back, and the same bytes twice.
#[test]
fn volumes_of_all_kinds_are_clean_and_read_back() {
    for (size, sector_size, clusters, width) in [
        (34 * MIB, 512, None, Width::Fat32),
        (40 * MIB, 512, None, Width::Fat32),
        (512 * MIB, 512, None, Width::Fat32),
        (512 * MIB, 4096, None, Width::Fat32),
        (9000 * MIB, 512, None, Width::Fat32),
        (16 * MIB, 512, None, Width::Fat16),
        (32 * MIB, 512, Some(1), Width::Fat16),
        (64 * MIB, 4096, None, Width::Fat16),
        (255 * MIB, 4096, None, Width::Fat16),
        (255 * MIB, 512, Some(8), Width::Fat16),
        (34 * MIB + 777, 512, None, Width::Fat32),
    ] {
        let (first, second) = (image(), image());
        let mut options = options(size, sector_size);
        options.sectors_per_cluster = clusters;
        // A volume without a label has neither the entry nor the name in its boot sector.
        options.label = if size == 40 * MIB || size == 64 * MIB { "" } else { options.label };
        let geometry = volume(&sample(), &options, &first.path);
        assert_eq!(geometry.width, width, "{size} {sector_size}");
        fsck(&first.path);
        let found = read(&first.path);
        assert_eq!(
            (found.geometry, found.volume_id, found.label.as_str()),
            (geometry, 0x1234_abcd, options.label)
        );
        assert_eq!(differences(&with_fat_times(&sample()), &found.tree), Vec::<String>::new());
        volume(&sample(), &options, &second.path);
        if size < 100 * MIB {
            assert!(fs::read(&first.path).unwrap() == fs::read(&second.path).unwrap());
        }
        let blocks = fs::metadata(&first.path).unwrap().blocks() * 512;
        let content: u64 = sample()
            .iter()
            .map(|(_, entry)| if let Kind::File(content) = &entry.kind { content.len().max(1) } else { 1 })
            .map(|len| len.next_multiple_of(u64::from(geometry.cluster_size().max(4096))))
            .sum();
        assert!(blocks < content + 3 * MIB, "{size}: {blocks} bytes on disk for {content} of content");
    }
}

/// mtools sees the label, the names, the short names and the contents.
#[test]
fn mtools_agrees() {
    let image = image();
    volume(&sample(), &options(64 * MIB, 512), &image.path);
    let mtools =
        |name: &str| Tool::new(name, "mtools").env("MTOOLS_SKIP_CHECK", "0").args(["-i"]).args([&image.path]);
    assert!(mtools("mlabel").args(["-s", "::"]).run().contains("KILN ESP"));
    let info = mtools("minfo").args(["::"]).run();
    assert!(info.contains("serial number: 1234ABCD") || info.contains("serial number=1234ABCD"), "{info}");
    let listing = mtools("mdir").args(["-a", "::/names"]).run();
    for wanted in ["LONGNA~1 TXT", "LONGNA~2 TXT", "LONGNA~3 TXT", "longname two.txt", "EXACTL~1", " leading"]
    {
        assert!(listing.contains(wanted), "{wanted}\n{listing}");
    }
    let times = mtools("mdir").args(["-a", "::/loader"]).run();
    assert!(times.contains("2023-12-02  22:13"), "{times}");
    assert_eq!(mtools("mtype").args(["::/loader/loader.conf"]).output(b""), pattern(17));
    assert_eq!(mtools("mtype").args(["::/EFI/Linux/kiln-6.12.0+3.efi"]).output(b"").len(), 3_000_001);
    let all = mtools("mdir").args(["-/", "-b", "-a", "::"]).run();
    assert_eq!(all.lines().filter(|line| line.contains("/many/file with")).count(), 1500);
}

/// The kernel mounts it and finds each entry with its size, time and bytes.
#[test]
fn linux_mounts_it() {
    if !is_root() {
        return say_skipped("linux_mounts_it: a loop mount wants root");
    }
    for (size, sector_size) in [(64 * MIB, 512), (64 * MIB, 4096), (300 * MIB, 4096)] {
        let image = image();
        volume(&sample(), &options(size, sector_size), &image.path);
        let point = tempfile::tempdir().unwrap();
        let device = tools::Loop::attach(&image.path, sector_size);
        let Some(device) = device else { return say_skipped("linux_mounts_it: no loop devices here") };
        let mount = Tool::new("mount", "mount")
            .args(["-t", "vfat", "-o", "ro,utf8=1,tz=UTC,umask=022", &device.name])
            .args([point.path()])
            .try_run(b"");
        if !mount.status.success() {
            let why = String::from_utf8_lossy(&mount.stderr).into_owned();
            assert!(why.contains("unknown filesystem type") || why.contains("permission denied"), "{why}");
            return say_skipped(&format!("linux_mounts_it: {why}"));
        }
        let checked = std::panic::catch_unwind(|| compare(&sample(), point.path()));
        Tool::new("umount", "mount").args([point.path()]).run();
        checked.unwrap();
    }
}

fn compare(tree: &Tree, root: &Path) {
    for (path, entry) in with_fat_times(tree).iter() {
        let name = std::str::from_utf8(path).unwrap();
        let meta = fs::symlink_metadata(root.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        if !path.is_empty() {
            assert_eq!(meta.mtime(), entry.meta.mtime.secs, "{name}");
        }
        match &entry.kind {
            Kind::File(content) => {
                assert!(fs::read(root.join(name)).unwrap() == content.read().unwrap(), "{name}");
            }
            _ => assert!(meta.is_dir(), "{name}"),
        }
    }
    let mut found = 0;
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            found += 1;
            if entry.file_type().unwrap().is_dir() {
                pending.push(entry.path());
            }
        }
    }
    assert_eq!(found, tree.len() - 1);
}

/// What mtools writes on a volume of ours, we read: fragments, deleted entries, NT's lower-case bits.
#[test]
fn reads_what_mtools_changes() {
    let image = image();
    let mut tree = Tree::new();
    for name in ["a", "b", "c", "d"] {
        add(&mut tree, name, Entry::file(pattern(3000)));
    }
    volume(&tree, &options(34 * MIB, 512), &image.path);
    let host = tempfile::tempdir().unwrap();
    fs::write(host.path().join("large.bin"), pattern(200_000)).unwrap();
    let run = |name: &str, args: &[&str]| {
        Tool::new(name, "mtools").args(["-i"]).args([&image.path]).args(args).dir(host.path()).run()
    };
    run("mdel", &["::/b"]);
    run("mcopy", &["large.bin", "::/large.bin"]);
    run("mmd", &["::/lower"]);
    run("mcopy", &["large.bin", "::/lower/A long name.bin"]);
    let found = read(&image.path).tree;
    let paths: Vec<_> = found.iter().map(|(path, _)| String::from_utf8_lossy(path).into_owned()).collect();
    assert_eq!(paths, ["", "a", "c", "d", "large.bin", "lower", "lower/A long name.bin"]);
    for name in ["large.bin", "lower/A long name.bin"] {
        let Kind::File(content) = &found.get(name).unwrap().kind else { panic!("{name}") };
        assert!(content.read().unwrap() == pattern(200_000), "{name}");
        let mut middle = vec![0; 5000];
        content.read_exact_at(&mut middle, 1234).unwrap();
        assert!(middle == pattern(200_000)[1234..6234], "{name}");
        assert!(content.read_exact_at(&mut middle, 199_999).is_err());
    }
}

/// Files up to the last cluster fit; one cluster more is refused with the numbers.
#[test]
fn a_volume_can_be_filled() {
    let image = image();
    let mut tree = Tree::new();
    let empty = volume(&tree, &options(34 * MIB, 512), &image.path);
    let room = u64::from(empty.clusters - 1) * u64::from(empty.cluster_size());
    add(&mut tree, "FILL", Entry::file(pattern(usize::try_from(room).unwrap())));
    volume(&tree, &options(34 * MIB, 512), &image.path);
    fsck(&image.path);
    assert_eq!(read(&image.path).used, empty.clusters);
    add(&mut tree, "MORE", Entry::file(*b"x"));
    let error = fat::write(&tree, &options(34 * MIB, 512), &mut Vec::new()).unwrap_err();
    match error {
        WriteError::Full { needed, clusters, .. } => assert_eq!(needed, u64::from(clusters) + 1),
        other => panic!("{other}"),
    }
}

#[test]
fn what_fat_cannot_hold_is_refused() {
    let refuse = |paths: &[&[u8]], entry: Entry| {
        let mut tree = Tree::new();
        for path in paths {
            tree.insert(*path, entry.clone());
        }
        fat::write(&tree, &options(34 * MIB, 512), &mut Vec::new()).unwrap_err()
    };
    let file = || Entry::file(*b"x");
    assert_eq!(
        refuse(&[b"link"], Entry::symlink("x")).to_string(),
        "link is a symbolic link; FAT holds directories and regular files"
    );
    assert!(matches!(refuse(&[b"d/f"], file()), WriteError::NoParent { .. }));
    for path in [&b"a:b"[..], b"dot.", b"space ", b"\xff", &[b'x'; 256], b"c\x01"] {
        assert!(matches!(refuse(&[path], file()), WriteError::BadName { .. }), "{path:?}");
    }
    assert!(refuse(&[b"Name", b"nAME"], file()).to_string().contains("upper and lower case"));
    assert!(matches!(refuse(&["É".as_bytes(), "é".as_bytes()], file()), WriteError::BadName { .. }));
    let empty: Arc<dyn ReadAt> = Arc::new(Vec::new());
    let large = Content::Extern { source: empty, offset: 0, len: 1 << 32 };
    assert!(matches!(refuse(&[b"l"], Entry::new(Kind::File(large), 0)), WriteError::TooLarge { .. }));

    let plan = |change: &dyn Fn(&mut Options<'static>)| {
        let mut options = options(34 * MIB, 512);
        change(&mut options);
        fat::write(&Tree::new(), &options, &mut Vec::new()).map_err(|error| error.to_string())
    };
    assert!(plan(&|options| options.label = "lower").unwrap_err().contains("capital letters"));
    assert!(plan(&|options| options.label = "TWELVE CHARS").unwrap_err().contains("at most 11"));
    assert!(plan(&|options| options.sector_size = 520).unwrap_err().contains("a sector of 520"));
    assert!(plan(&|options| options.sectors_per_cluster = Some(3)).unwrap_err().contains("a cluster of 3"));
    assert!(plan(&|options| options.size = 1 << 50).unwrap_err().contains("too large"));
    for (sector_size, least) in [(512, 2 * MIB), (4096, 16 * MIB)] {
        let set = |size: u64| plan(&move |options| (options.size, options.sector_size) = (size, sector_size));
        let error = set(MIB).unwrap_err();
        let minimum: u64 = error.rsplit(' ').next().unwrap().parse().unwrap();
        assert!((least..least + least / 8).contains(&minimum), "{error}");
        assert!(set(minimum).is_ok() && set(minimum - 1).is_err(), "{error}");
    }
}

/// Every size from the smallest on has a volume, or says why not; never a count of clusters off its kind.
#[test]
fn sizes_around_the_boundaries() {
    for sector_size in [512_u64, 4096] {
        for clusters in [4085, 65_525] {
            for delta in (0..400).map(|delta| delta - 100) {
                let sectors = u64::try_from(clusters + delta).unwrap();
                let sector = u32::try_from(sector_size).unwrap();
                let mut options = options(sectors * sector_size, sector);
                for fixed in [None, Some(1)] {
                    options.sectors_per_cluster = fixed;
                    if let Ok(geometry) = fat::write(&Tree::new(), &options, &mut Vec::new()) {
                        let range = match geometry.width {
                            Width::Fat16 => 4085..65_525,
                            Width::Fat32 => 65_525..0x0fff_fff6,
                        };
                        assert!(range.contains(&geometry.clusters), "{geometry:?}");
                    }
                }
            }
        }
    }
}

fn small() -> Vec<u8> {
    let mut tree = Tree::new();
    tree.insert("", Entry::directory());
    add(&mut tree, "dir/sub/a long file name.txt", Entry::file(pattern(5000)));
    add(&mut tree, "dir/SHORT.TXT", Entry::file(pattern(600)));
    let mut bytes = Vec::new();
    let size = 3 * MIB;
    fat::write(&tree, &options(size, 512), &mut bytes).unwrap();
    bytes.resize(usize::try_from(size).unwrap(), 0);
    bytes
}

fn read_all(bytes: Vec<u8>) -> Result<fat::Volume, ReadError> {
    read_source(Arc::new(bytes))
}

fn read_source(source: Arc<dyn ReadAt>) -> Result<fat::Volume, ReadError> {
    let volume = fat::read(&source)?;
    for (_, entry) in volume.tree.iter() {
        if let Kind::File(content) = &entry.kind {
            assert_eq!(content.read().unwrap().len() as u64, content.len());
        }
    }
    Ok(volume)
}

#[test]
fn loops_and_crossed_chains_are_found() {
    let bytes = small();
    let clean = read_all(bytes.clone()).unwrap();
    let table = usize::try_from(clean.geometry.reserved * 512).unwrap();
    let root = table + usize::try_from(2 * clean.geometry.table_sectors * 512).unwrap();
    let what = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = bytes.clone();
        edit(&mut bytes);
        read_all(bytes).unwrap_err().to_string()
    };
    // FAT16: entry n at 2n. Clusters: 2 dir, 3 dir/sub, then the files.
    let set = |bytes: &mut Vec<u8>, cluster: usize, next: u16| {
        bytes[table + 2 * cluster..table + 2 * cluster + 2].copy_from_slice(&next.to_le_bytes());
    };
    assert!(what(&|bytes| set(bytes, 2, 2)).contains("runs into itself"));
    assert!(what(&|bytes| set(bytes, 2, 3)).contains("runs into"));
    assert!(what(&|bytes| set(bytes, 2, 0)).contains("does not exist, is free or bad"));
    assert!(what(&|bytes| set(bytes, 2, 0xfff7)).contains("does not exist, is free or bad"));
    assert!(what(&|bytes| set(bytes, 4, 0xffff)).contains("shorter than its size"));
    assert!(what(&|bytes| bytes[510] = 0).contains("55 AA"));
    assert!(what(&|bytes| bytes.truncate(2 << 20)).contains("larger than what it lies on"));
    assert!(what(&|bytes| bytes.copy_within(root + 32..root + 96, root + 96)).contains("runs into"));
}

/// The beginning of a volume with some bytes changed; zeros up to its size.
#[derive(Debug)]
struct Patched {
    start: Arc<Vec<u8>>,
    edits: Vec<(usize, u8)>,
    size: u64,
}

impl ReadAt for Patched {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
        let eof = std::io::ErrorKind::UnexpectedEof;
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.size) {
            return Err(eof.into());
        }
        buf.fill(0);
        let first = usize::try_from(offset).unwrap();
        let there = self.start.get(first..).unwrap_or_default();
        let len = there.len().min(buf.len());
        buf[..len].copy_from_slice(&there[..len]);
        for (at, byte) in &self.edits {
            if let Some(place) = at.checked_sub(first).and_then(|at| buf.get_mut(at)) {
                *place = *byte;
            }
        }
        Ok(())
    }
    fn size(&self) -> std::io::Result<u64> {
        Ok(self.size)
    }
}

/// A FAT32 volume with changes in its boot sector, table and root directory.
fn patched() -> impl Strategy<Value = Patched> {
    let size = 34 * MIB;
    let mut bytes = Vec::new();
    let mut tree = Tree::new();
    add(&mut tree, "dir/sub/a long file name.txt", Entry::file(pattern(5000)));
    add(&mut tree, "dir/SHORT.TXT", Entry::file(pattern(600)));
    let geometry = fat::write(&tree, &options(size, 512), &mut bytes).unwrap();
    let start = Arc::new(bytes);
    let clean = Patched { start: Arc::clone(&start), edits: Vec::new(), size };
    assert_eq!(read_source(Arc::new(clean)).unwrap().tree.len(), 5);
    let table = usize::try_from(geometry.reserved * 512).unwrap();
    let root = table + usize::try_from(geometry.table_sectors * 1024).unwrap();
    let place =
        proptest::prop_oneof![0_usize..64, table..table + 80, root..root + 96, root + 512..root + 1800];
    let edits = prop::collection::vec((place, any::<u8>()), 1..12);
    edits.prop_map(move |edits| Patched { start: Arc::clone(&start), edits, size })
}

/// A volume with changes in its boot sector, tables and directories.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let bytes = small();
    let volume = read_all(bytes.clone()).unwrap();
    let geometry = volume.geometry;
    let table = usize::try_from(geometry.reserved * 512).unwrap();
    let root = table + usize::try_from(geometry.table_sectors * 1024).unwrap();
    let place =
        proptest::prop_oneof![0_usize..64, table..table + 64, root..root + 128, root + 16_384..root + 17_500];
    let edits = prop::collection::vec((place, any::<u8>()), 1..16);
    (Just(bytes), edits).prop_map(|(mut bytes, edits)| {
        for (at, byte) in edits {
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #![proptest_config(tools::cases(1500))]

    #[test]
    fn reader_survives_mutated_volumes(bytes in mutated()) {
        let _ = read_all(bytes);
    }

    #[test]
    fn reader_survives_patched_fat32_volumes(patched in patched()) {
        let _ = read_source(Arc::new(patched));
    }

    #[test]
    fn reader_survives_random_bytes(mut bytes in prop::collection::vec(any::<u8>(), 512..4096), start in any::<bool>()) {
        if start {
            bytes[..512].copy_from_slice(&small()[..512]);
            bytes[32..36].fill(0);
        }
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        let _ = read_all(bytes);
    }
}

proptest! {
    #![proptest_config(tools::cases(40))]

    /// Any names that the writer accepts come back as they were, and fsck.vfat agrees.
    #[test]
    fn any_tree_comes_back(names in prop::collection::btree_set("[ -~ü☃]{1,40}", 1..60), nested in any::<u64>()) {
        let mut tree = Tree::new();
        tree.insert("", Entry::directory());
        tree.insert("d", Entry::directory());
        for (at, name) in names.iter().filter(|name| !name.contains('/')).enumerate() {
            let path = if nested >> (at % 64) & 1 == 1 { format!("d/{name}") } else { name.clone() };
            let before = tree.clone();
            add(&mut tree, &path, Entry::file(pattern(at * 100)));
            if fat::write(&tree, &options(4 * MIB, 512), &mut Vec::new()).is_err() {
                tree = before;
            }
        }
        let image = image();
        volume(&tree, &options(4 * MIB, 512), &image.path);
        fsck(&image.path);
        assert_eq!(differences(&with_fat_times(&tree), &read(&image.path).tree), Vec::<String>::new());
    }
}
