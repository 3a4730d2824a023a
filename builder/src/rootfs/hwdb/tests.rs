use super::{DATABASE, TOOL, database, lines::Lines, run};
use crate::rootfs::oracle;
use kiln_formats::tree::{Entry, Kind, Timestamp, Tree};
use std::fs;
use std::path::Path;
use std::process::Command;

const TIME: Timestamp = Timestamp { secs: 3, nanos: 0 };
const ETC: &str = "etc/udev/hwdb.d";
const USR: &str = "usr/lib/udev/hwdb.d";

fn put(tree: &mut Tree, path: &str, entry: Entry) {
    tree.make_parents(path, &Entry::directory());
    tree.insert(path, entry);
}

fn tree(files: &[(&str, &str)]) -> Tree {
    let mut tree = Tree::new();
    put(&mut tree, TOOL, Entry::file(*b""));
    for (path, text) in files {
        put(&mut tree, path, Entry::file(text.as_bytes()));
    }
    tree
}

fn made(tree: &mut Tree) -> Vec<u8> {
    run(tree, TIME).unwrap();
    let entry = tree.get(DATABASE).expect("there is a database");
    assert_eq!((entry.meta.mode, entry.meta.mtime), (0o444, TIME));
    let Kind::File(content) = &entry.kind else { panic!("no file") };
    content.read().unwrap()
}

fn number(bytes: &[u8], at: usize, len: usize) -> usize {
    bytes[at..at + len].iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}

fn string(bytes: &[u8], at: usize) -> &str {
    let offset = number(bytes, at, 8);
    std::str::from_utf8(bytes[offset..].split(|byte| *byte == 0).next().unwrap()).unwrap()
}

/// `key=value file:line:priority` of what stands under exactly this pattern; nothing stands for itself alone.
fn lookup(bytes: &[u8], pattern: &str) -> Vec<String> {
    let mut node = number(bytes, 56, 8);
    let mut rest = pattern;
    loop {
        let Some(after) = rest.strip_prefix(string(bytes, node)) else { return Vec::new() };
        let (children, values) = (number(bytes, node + 8, 1), number(bytes, node + 16, 8));
        let first = node + 24;
        let Some(byte) = after.bytes().next() else {
            let place = |at| {
                format!(
                    "{}:{}:{}",
                    string(bytes, at + 16),
                    number(bytes, at + 24, 4),
                    number(bytes, at + 28, 2)
                )
            };
            let value = |at| format!("{}={} {}", string(bytes, at), string(bytes, at + 8), place(at));
            return (0..values).map(|at| value(first + children * 16 + at * 32)).collect();
        };
        let found = (0..children).map(|at| first + at * 16).find(|at| bytes[*at] == byte);
        let Some(child) = found else { return Vec::new() };
        node = number(bytes, child + 8, 8);
        rest = &after[1..];
    }
}

#[test]
fn patterns_are_found() {
    let text =
        "# note\n\nusb:v1D6B*\nusb:v1D6Bp0001*\n A=1\n# between\n B=two words # why\n\nusb:v1D\n C=3\n";
    let bytes = made(&mut tree(&[(&format!("{USR}/20-a.hwdb"), text)]));
    let from = "/usr/lib/udev/hwdb.d/20-a.hwdb";
    let both = [format!(" A=1 {from}:5:1"), format!(" B=two words {from}:7:1")];
    assert_eq!(lookup(&bytes, "usb:v1D6B*"), both);
    assert_eq!(lookup(&bytes, "usb:v1D6Bp0001*"), both);
    assert_eq!(lookup(&bytes, "usb:v1D"), [format!(" C=3 {from}:10:1")]);
    for absent in ["", "usb", "usb:v1D6B", "usb:v1D6Bp0001*x", "pci:"] {
        assert_eq!(lookup(&bytes, absent), [""; 0], "{absent}");
    }
}

/// Worked out by hand from the format: one node below the root.
#[test]
fn smallest_database() {
    let bytes = made(&mut tree(&[(&format!("{USR}/a.hwdb"), "ab\n K=b\n")]));
    let file = b"/usr/lib/udev/hwdb.d/a.hwdb\0";
    let mut want = b"KSLPHHRH".to_vec();
    let (nodes, strings) = (24 + 32 + 24 + 16, 1 + 2 + 3 + file.len());
    // The value "b" is the same string as the prefix "b".
    for word in [257, 80 + nodes + strings, 80, 24, 16, 32, 80 + 56, nodes, strings] {
        want.extend((word as u64).to_le_bytes());
    }
    let start = 80 + nodes as u64;
    for word in [start + 1, 0, 1, start + 3, start + 1, start + 6, 2 | 1 << 32] {
        want.extend(word.to_le_bytes());
    }
    for word in [start, 1, 0, u64::from(b'a'), 80] {
        want.extend(word.to_le_bytes());
    }
    want.extend(b"\0b\0 K\0");
    want.extend(file);
    assert_eq!(bytes, want);
}

#[test]
fn later_files_win_and_etc_hides_usr() {
    let mut tree = tree(&[
        (&format!("{USR}/10-a.hwdb"), "x\n A=hidden\n"),
        (&format!("{ETC}/10-a.hwdb"), "x\n A=1\n B=1\n"),
        (&format!("{USR}/30-c.hwdb"), "x\n A=3\n"),
        (&format!("{USR}/30-c.txt"), "x\n A=4\n"),
        (&format!("{USR}/below/40.hwdb"), "x\n A=5\n"),
    ]);
    // Masked, yet it has a number.
    put(&mut tree, &format!("{ETC}/20-b.hwdb"), Entry::symlink("/dev/null"));
    put(&mut tree, &format!("{USR}/20-b.hwdb"), Entry::file(*b"x\n A=2\n"));
    put(&mut tree, &format!("{USR}/50-link.hwdb"), Entry::symlink("30-c.txt"));
    let bytes = made(&mut tree);
    let want = [" A=4 /usr/lib/udev/hwdb.d/50-link.hwdb:2:4", " B=1 /etc/udev/hwdb.d/10-a.hwdb:3:1"];
    assert_eq!(lookup(&bytes, "x"), want);
}

#[test]
fn bad_lines_are_passed_over() {
    let text = " LOST=no record\nno-properties\n\na\n NOVALUE\n =nokey\n  \tK = v \nrecord-ends\n L=lost\n\nb\n E=\n";
    let bytes = made(&mut tree(&[(&format!("{USR}/a.hwdb"), text)]));
    let from = "/usr/lib/udev/hwdb.d/a.hwdb";
    assert_eq!(lookup(&bytes, "a"), [format!("\tK = v {from}:7:1")]);
    assert_eq!(lookup(&bytes, "b"), [format!(" E= {from}:12:1")]);
    assert_eq!(lookup(&bytes, "no-properties"), [""; 0]);
    assert_eq!(lookup(&bytes, "record-ends"), [""; 0]);
}

#[test]
fn line_ends() {
    let lines: Vec<_> = Lines(b"a\nb\r\nc\n\r\0d\0\ne\r\r\n\n\0f").collect();
    assert_eq!(lines, [&b"a"[..], b"b", b"c", b"d", b"", b"e", b"", b"", b"f"]);
    let (longest, longer) = ("x".repeat((1 << 20) - 1), "x".repeat(1 << 20));
    let long = format!("a\n{longest}\nb\n{longer}\nc");
    assert_eq!(Lines(long.as_bytes()).map(<[u8]>::len).collect::<Vec<_>>(), [1, (1 << 20) - 1, 1]);
}

#[test]
fn nothing_to_do() {
    let mut without_udev = tree(&[(&format!("{USR}/a.hwdb"), "x\n A=1\n")]);
    without_udev.remove(TOOL);
    run(&mut without_udev, TIME).unwrap();
    assert!(!without_udev.contains(DATABASE));
    let mut without_texts = tree(&[(DATABASE, "old")]);
    run(&mut without_texts, TIME).unwrap();
    assert!(!without_texts.contains(DATABASE));
}

/// Compares with what `systemd-hwdb update --usr` made in the root.
#[test]
#[ignore = "needs a Debian root"]
fn same_as_systemd_hwdb() {
    let root = oracle::root();
    let mut tree = oracle::load(&root);
    tree.remove(DATABASE).expect("the root has udev");
    let start = std::time::Instant::now();
    run(&mut tree, TIME).unwrap();
    println!("made in {:?}", start.elapsed());
    oracle::same_file(&tree, &root, DATABASE);
}

/// Lets the root's `systemd-hwdb` read texts full of mistakes and many random ones.
#[test]
#[ignore = "needs a Debian root"]
fn same_as_systemd_hwdb_with_odd_texts() {
    let root = oracle::root();
    let place = std::env::temp_dir().join(format!("kiln-hwdb-{}", std::process::id()));
    for round in 0..60_u64 {
        for folder in [ETC, USR] {
            fs::create_dir_all(place.join(folder)).unwrap();
        }
        let mut random = round + 1;
        for (name, folder) in [("10-a", USR), ("20-b", ETC), ("10-a", ETC), ("30-c", USR), ("15-d", USR)] {
            fs::write(place.join(folder).join(format!("{name}.hwdb")), odd(&mut random)).unwrap();
        }
        std::os::unix::fs::symlink("/dev/null", place.join(ETC).join("12-mask.hwdb")).unwrap();
        std::os::unix::fs::symlink("absent", place.join(USR).join("13-dangling.hwdb")).unwrap();
        std::os::unix::fs::symlink("30-c.hwdb", place.join(USR).join("40-link.hwdb")).unwrap();
        fs::create_dir(place.join(USR).join("14-folder.hwdb")).unwrap();
        let mut long = b"long1\n A=1\n\nlong2\n A=".to_vec();
        long.resize(long.len() + (1 << 20) - 3 - usize::from(round % 2 == 0), b'x');
        long.extend(b"\n B=2\n");
        fs::write(place.join(USR).join("50-long.hwdb"), long).unwrap();
        systemd_hwdb(&root, &place);
        let got = database(&oracle::load(&place), format!("{}/", place.display()).as_bytes()).unwrap();
        let want = fs::read(place.join(DATABASE)).unwrap();
        assert!(got.unwrap() == want, "round {round} differs; see {}", place.display());
        fs::remove_dir_all(&place).unwrap();
    }
}

/// Runs the root's program with the root's libraries, which needs no right to change the root.
fn systemd_hwdb(root: &Path, place: &Path) {
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    let output = Command::new(libraries.join("ld-linux-x86-64.so.2"))
        .arg("--library-path")
        .arg(format!("{0}:{0}/systemd", libraries.display()))
        .arg(root.join(TOOL))
        .args(["update", "--usr", "--root"])
        .arg(place)
        .output()
        .expect("the root is one for amd64, and so is this machine");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Pieces that mean something, thrown together.
fn odd(random: &mut u64) -> Vec<u8> {
    const PIECES: [&[u8]; 26] = [
        b"\n",
        b"\n",
        b"\n",
        b"\n ",
        b"\n ",
        b"\n ",
        b"\n\n",
        b"\r\n",
        b"\r",
        b"\0",
        b"\n\0",
        b" ",
        b"\t",
        b"\x0b",
        b"=",
        b"=",
        b"=a",
        b"#",
        b"\n#",
        b"a",
        b"b",
        b"ab",
        b"usb:v",
        b"*",
        b"KEY",
        b"\xff\xc3",
    ];
    let mut next = || {
        // Knuth's MMIX generator; its high bits are the good ones.
        *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(*random >> 33).unwrap()
    };
    (0..next() % 3000).flat_map(|_| PIECES[next() % PIECES.len()]).copied().collect()
}
