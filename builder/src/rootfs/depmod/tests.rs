use super::elf;
use super::index::Index;
use super::{Error, MODULES, analyse, run, write};
use crate::rootfs::oracle;
use kiln_formats::tree::{Entry, Kind, Timestamp, Tree};
use proptest::prelude::{ProptestConfig, Strategy, any, prop, proptest};
use std::io::Write;

const RELEASE: &str = "6.12.1-test";
const TIME: Timestamp = Timestamp { secs: 1_700_000_000, nanos: 0 };

/// A relocatable object with what depmod reads.
fn module(exports: &[&str], needs: &[&str], info: &[&str]) -> Vec<u8> {
    let mut strings = vec![0];
    let mut symbols = vec![0; 24];
    let mut symbol = |name: String, section: u16| {
        symbols.extend(u32::try_from(strings.len()).unwrap().to_le_bytes());
        symbols.extend([0x10, 0]);
        symbols.extend(section.to_le_bytes());
        symbols.extend([0; 16]);
        strings.extend(name.as_bytes());
        strings.push(0);
    };
    exports.iter().for_each(|name| symbol(format!("__crc_{name}"), 1));
    needs.iter().for_each(|name| symbol((*name).to_owned(), 0));
    let mut version = vec![0; 8];
    version.extend(b"module_layout");
    version.resize(64, 0);
    let info = info.iter().flat_map(|line| [line.as_bytes(), &[0]].concat()).collect::<Vec<_>>();
    let names = b"\0.modinfo\0.symtab\0.strtab\0__versions\0.shstrtab\0".to_vec();
    let parts = [(1, info), (10, symbols), (18, strings), (26, version), (37, names)];
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(64, 0);
    let mut headers = vec![0; 64];
    for (name, part) in &parts {
        let mut header = u32::to_le_bytes(*name).to_vec();
        header.resize(24, 0);
        header.extend((file.len() as u64).to_le_bytes());
        header.extend((part.len() as u64).to_le_bytes());
        header.resize(64, 0);
        headers.extend(header);
        file.extend(part);
    }
    let table = (file.len() as u64).to_le_bytes();
    file[40..48].copy_from_slice(&table);
    file[58..64].copy_from_slice(&[64, 0, 6, 0, 5, 0]);
    file.extend(headers);
    file
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn tree(files: &[(&str, Vec<u8>)]) -> Tree {
    let mut tree = Tree::new();
    for (name, bytes) in files {
        let path = format!("{MODULES}/{RELEASE}/{name}");
        tree.make_parents(&path, &Entry::directory());
        tree.insert(&path, Entry::file(bytes.clone()));
    }
    tree
}

fn bytes(tree: &Tree, name: &str) -> Vec<u8> {
    let entry = tree.get(&format!("{MODULES}/{RELEASE}/{name}")).unwrap();
    assert_eq!((entry.meta.mode, entry.meta.mtime), (0o644, TIME), "{name}");
    let Kind::File(content) = &entry.kind else { panic!("{name} is no file") };
    content.read().unwrap()
}

fn text(tree: &Tree, name: &str) -> String {
    String::from_utf8(bytes(tree, name)).unwrap()
}

#[test]
fn indices_say_what_modules_say() {
    let bus = module(
        &["bus_add", "bus_del"],
        &["printk"],
        &["license=GPL", "alias=char-major-10-200", "alias=devname:bus/0"],
    );
    let card = module(
        &["card"],
        &["bus_add", "printk"],
        &["alias=pci:v*d[0-9]-*", "softdep=pre: bus", "weakdep=late"],
    );
    let late = module(&[], &["card"], &[]);
    let mut tree = tree(&[
        ("kernel/a/late-one.ko.xz", xz(&late)),
        ("kernel/b/card.ko", card),
        ("kernel/c/bus.ko.zst", zstd::encode_all(bus.as_slice(), 1).unwrap()),
        ("modules.order", b"kernel/c/bus.ko\nkernel/b/card.ko\n".to_vec()),
        ("modules.builtin", b"kernel/d/ext-4.ko\n".to_vec()),
        ("modules.builtin.modinfo", b"ext_4.license=GPL\0ext_4.alias=fs-ext4\0".to_vec()),
    ]);
    run(&mut tree, TIME).unwrap();
    assert_eq!(
        text(&tree, "modules.dep"),
        "kernel/c/bus.ko.zst:\nkernel/b/card.ko: kernel/c/bus.ko.zst\n\
         kernel/a/late-one.ko.xz: kernel/b/card.ko kernel/c/bus.ko.zst\n"
    );
    assert!(
        text(&tree, "modules.alias")
            .ends_with("\nalias char-major-10-200 bus\nalias devname:bus/0 bus\nalias pci:v*d[0-9]-* card\n")
    );
    assert!(text(&tree, "modules.softdep").ends_with("\nsoftdep card pre: bus\n"));
    assert!(text(&tree, "modules.weakdep").ends_with("\nweakdep card late\n"));
    assert!(text(&tree, "modules.devname").ends_with("\nbus bus/0 c10:200\n"));
    let mut symbols: Vec<_> = text(&tree, "modules.symbols").lines().skip(1).map(str::to_owned).collect();
    symbols.sort();
    assert_eq!(symbols, ["alias symbol:bus_add bus", "alias symbol:bus_del bus", "alias symbol:card card"]);
    // A trie of one first byte keeps that byte out of the prefix: its root has children and nothing else.
    for name in ["builtin", "builtin.alias", "symbols"] {
        let index = bytes(&tree, &format!("modules.{name}.bin"));
        assert_eq!(index[..12], [0xb0, 0x07, 0xf4, 0x57, 0, 2, 0, 1, 0x20, 0, 0, 12], "{name}");
    }
    assert!(bytes(&tree, "modules.builtin.alias.bin").ends_with(b"s_ext4\0\0\0\0\x01\0\0\0\0ext_4\0"));
}

#[test]
fn index_bytes_follow_the_format() {
    let mut index = Index::default();
    index.insert("ab", "x", 2).unwrap();
    index.insert("ad", "y", 1).unwrap();
    index.insert("ab", "w", 1).unwrap();
    let mut wanted = vec![0xb0, 0x07, 0xf4, 0x57, 0, 2, 0, 1, 0x20, 0, 0, 12];
    wanted.extend([b'a', b'a', 0x20, 0, 0, 18]);
    wanted.extend([b'b', b'd', 0x40, 0, 0, 32, 0, 0, 0, 0, 0x40, 0, 0, 48]);
    wanted.extend(b"\0\0\0\x02\0\0\0\x01w\0\0\0\0\x02x\0");
    wanted.extend(b"\0\0\0\x01\0\0\0\x01y\0");
    assert_eq!(index.bytes().unwrap(), wanted);
    assert!(index.insert("\u{e9}", "", 0).is_err());
    assert!(index.insert(&"a".repeat(4096), "", 0).is_err());
}

#[test]
fn the_deepest_trie_fits_the_stack_of_a_thread() {
    let mut index = Index::default();
    (1..=4095).for_each(|len| index.insert(&"a".repeat(len), "", 0).unwrap());
    assert_eq!(index.bytes().unwrap().len(), 12 + 6 + 4095 * (6 + 4 + 5) - 6);
}

#[test]
fn updates_come_before_what_the_kernel_ships() {
    let mut tree = tree(&[
        ("kernel/card.ko", module(&[], &[], &["alias=old"])),
        ("updates/dkms/card.ko", module(&[], &[], &["alias=new"])),
        ("build/card.ko", module(&[], &[], &["alias=none"])),
    ]);
    run(&mut tree, TIME).unwrap();
    assert_eq!(text(&tree, "modules.dep"), "updates/dkms/card.ko:\n");
    tree.insert("etc/depmod.d/a.conf", Entry::file(*b"# ours\nsearch built-in updates\n"));
    run(&mut tree, TIME).unwrap();
    assert_eq!(text(&tree, "modules.dep"), "kernel/card.ko:\n");
    tree.insert("etc/depmod.d/b.conf", Entry::file(*b"override card * updates/dkms\n"));
    run(&mut tree, TIME).unwrap();
    assert_eq!(text(&tree, "modules.dep"), "updates/dkms/card.ko:\n");
    tree.insert("etc/depmod.d/a.conf", Entry::file(*b"\nexternal * /srv\n"));
    let error = run(&mut tree, TIME).unwrap_err();
    assert!(matches!(error, Error::Config { line: 2, .. }), "{error}");
}

#[test]
fn damage_is_named() {
    let whole = module(&["a"], &[], &[]);
    let mut packed = xz(&whole);
    packed.truncate(packed.len() / 2);
    for (name, bytes) in
        [("a/cut.ko", whole[..200].to_vec()), ("a/text.ko", b"hello".to_vec()), ("a/cut.ko.xz", packed)]
    {
        let error = run(&mut tree(&[(name, bytes)]), TIME).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
    let circle = [("a.ko", module(&["a"], &["b"], &[])), ("b.ko", module(&["b"], &["a"], &[]))];
    let error = run(&mut tree(&circle), TIME).unwrap_err();
    assert!(matches!(&error, Error::Cycle { modules, .. } if modules == &["a", "b"]), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = elf::read(&bytes);
    }

    #[test]
    fn damaged_modules_are_read_or_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        len in any::<prop::sample::Index>().prop_map(|at| at.index(900)),
    ) {
        let mut file = module(&["one", "two"], &["three"], &["alias=x", "depends="]);
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        let _ = elf::read(&file);
        file.truncate(len);
        let _ = elf::read(&file);
    }
}

/// Compares with the depmod that ran in the root.
#[test]
#[ignore = "needs a Debian root"]
fn same_as_debians_depmod() {
    let root = oracle::root();
    let mut tree = oracle::load(&root);
    let made: Vec<_> = tree
        .below(MODULES)
        .map(|(path, _)| String::from_utf8(path.to_vec()).unwrap())
        .filter(|path| !path.contains("/kernel/") && path.contains("/modules."))
        .filter(|path| !path.ends_with("order") && !path.ends_with("builtin") && !path.ends_with("modinfo"))
        .collect();
    assert!(made.len() >= 11, "depmod has not run in this root: {made:?}");
    made.iter().for_each(|path| drop(tree.remove(path)));
    let start = std::time::Instant::now();
    let facts = analyse(&tree, 2).unwrap();
    let read = start.elapsed();
    write(&mut tree, &facts, TIME).unwrap();
    println!(
        "{} modules read in {read:?}, indices written in {:?}",
        facts.modules.len(),
        start.elapsed() - read
    );
    made.iter().for_each(|path| oracle::same_file(&tree, &root, path));
}
