use super::cache::{compare, strings};
use super::{CACHE, HWCAPS, run};
use crate::rootfs::oracle;
use kiln_formats::tree::{Entry, Kind, Timestamp, Tree};
use std::cmp::Ordering;

const TIME: Timestamp = Timestamp { secs: 7, nanos: 0 };

/// A shared object with a dynamic segment at 176, its strings at 224.
fn library(soname: &str, machine: u8) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([3, 0, machine, 0]);
    file.resize(64, 0);
    file[32] = 64;
    file[56] = 2;
    let words = [1 | 5 << 32, 0, 0x1000, 0, 4096, 4096, 4096, 2 | 4 << 32, 176, 0x10b0, 0, 48, 48, 8];
    words.into_iter().for_each(|word: u64| file.extend(word.to_le_bytes()));
    [5, 0x10e0, 14, 1, 0, 0].into_iter().for_each(|word: u64| file.extend(word.to_le_bytes()));
    file.push(0);
    file.extend(soname.as_bytes());
    file.push(0);
    file
}

fn tree(files: &[(&str, Entry)]) -> Tree {
    let mut tree = Tree::new();
    let mut ldconfig = library("", 62);
    ldconfig.extend(b"ldconfig (Test) stable release version 2.41\0");
    let more = [("usr/sbin/ldconfig", Entry::file(ldconfig)), ("lib", Entry::symlink("usr/lib"))];
    for (path, entry) in more.iter().chain(files) {
        tree.make_parents(path, &Entry::directory());
        tree.insert(path, entry.clone());
    }
    tree
}

fn cache(tree: &Tree) -> Vec<u8> {
    let Kind::File(content) = &tree.get(CACHE).unwrap().kind else { panic!("no file") };
    content.read().unwrap()
}

/// Soname and path of each line, with its capability bits.
fn lines(cache: &[u8]) -> Vec<(String, String, u64)> {
    let number = |at: usize| u32::from_le_bytes(cache[at..at + 4].try_into().unwrap()) as usize;
    let text = |at: usize| {
        let end = cache[at..].iter().position(|byte| *byte == 0).unwrap();
        String::from_utf8(cache[at..at + end].to_vec()).unwrap()
    };
    (0..number(20))
        .map(|line| 48 + 24 * line)
        .map(|at| {
            let hwcap = u64::from_le_bytes(cache[at + 16..at + 24].try_into().unwrap());
            (text(number(at + 4)), text(number(at + 8)), hwcap)
        })
        .collect()
}

#[test]
fn libraries_are_found_sorted_and_linked() {
    let mut tree = tree(&[
        ("etc/ld.so.conf", Entry::file(*b"include /etc/ld.so.conf.d/*.conf\n")),
        ("etc/ld.so.conf.d/a.conf", Entry::file(*b"# first\n/opt/lib/\n/absent\n")),
        ("etc/ld.so.conf.d/b.conf~", Entry::file(*b"/usr/share\n")),
        ("opt/lib/liba.so.2", Entry::file(library("liba.so.2", 62))),
        ("usr/lib/liba.so.2.0", Entry::file(library("liba.so.2", 62))),
        ("usr/lib/liba.so.10", Entry::file(library("liba.so.10", 62))),
        ("usr/lib/liba.so", Entry::symlink("liba.so.10")),
        ("usr/lib/libarm.so.1", Entry::file(library("libarm.so.1", 183))),
        ("usr/lib/libtext.so", Entry::file(*b"GROUP ( libtext.so.1 )")),
        ("usr/lib/glibc-hwcaps/x86-64-v3/liba.so.10.1", Entry::file(library("liba.so.10", 62))),
        ("usr/share/libno.so", Entry::file(library("libno.so", 62))),
    ]);
    run(&mut tree, TIME).unwrap();
    let cache = cache(&tree);
    let line = |name: &str, path: &str, hwcap| (name.to_owned(), path.to_owned(), hwcap);
    assert_eq!(
        lines(&cache),
        [
            line("liba.so.10", "/lib/glibc-hwcaps/x86-64-v3/liba.so.10.1", 1 << 62),
            line("liba.so.10", "/lib/liba.so.10", 0),
            line("liba.so.2", "/opt/lib/liba.so.2", 0),
            line("liba.so.2", "/lib/liba.so.2", 0),
            line("liba.so", "/lib/liba.so", 0),
        ]
    );
    assert!(cache.ends_with(b"ldconfig (Test) stable release version 2.41"));
    let link = tree.get("usr/lib/liba.so.2").unwrap();
    assert!(matches!(&link.kind, Kind::Symlink(target) if **target == *b"liba.so.2.0"), "{link:?}");
    let mut again = tree.clone();
    run(&mut again, TIME).unwrap();
    assert_eq!((self::cache(&again), again.len()), (cache, tree.len()));
}

#[test]
fn names_compare_as_glibc_does() {
    assert_eq!(compare(b"liba.so.10", b"liba.so.9"), Ordering::Greater);
    assert_eq!(compare(b"liba.so.1", b"liba.so"), Ordering::Greater);
    assert_eq!(compare(b"liba1.so", b"liba-1.so"), Ordering::Greater);
    assert_eq!(compare(b"liba.so.1", b"liba.so.1"), Ordering::Equal);
}

#[test]
fn strings_share_their_ends() {
    let names = [b"/lib/b".as_slice(), b"b", b"ab"].into_iter().collect();
    let (table, offsets) = strings(&names, 100);
    assert_eq!(table, b"ab\0/lib/b\0");
    assert_eq!(offsets.into_values().collect::<Vec<_>>(), [103, 100, 108]);
}

#[test]
fn damaged_libraries_are_passed_over() {
    let whole = library("liba.so.1", 62);
    for at in 16..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        run(&mut tree(&[("usr/lib/liba.so.1", Entry::file(bytes))]), TIME).unwrap();
        run(&mut tree(&[("usr/lib/liba.so.1", Entry::file(whole[..at].to_vec()))]), TIME).unwrap();
    }
}

/// Takes away the links that ldconfig could have made and compares those that are made again.
#[test]
#[ignore = "needs a Debian root"]
fn same_links_as_in_debian() {
    let wanted = oracle::load(&oracle::root());
    let mut tree = wanted.clone();
    let numbered = |path: &[u8]| path.starts_with(b"usr/lib/") && path.windows(4).any(|part| part == b".so.");
    for (path, entry) in wanted.iter().filter(|(path, _)| numbered(path)) {
        let beside = matches!(&entry.kind, Kind::Symlink(target) if !target.contains(&b'/'));
        if beside && !path.windows(HWCAPS.len()).any(|part| part == HWCAPS.as_bytes()) {
            tree.remove(path);
        }
    }
    let (before, after) = (tree.len(), run(&mut tree, TIME).map(|()| tree.len()).unwrap());
    println!("{} links were taken away, {} made", wanted.len() - before, after - before);
    assert!(after > before);
    for (path, entry) in tree.iter() {
        if let Kind::Symlink(target) = &entry.kind {
            let Kind::Symlink(old) = &wanted.get(path).unwrap().kind else { panic!("{path:?} was no link") };
            assert_eq!(target, old, "{}", String::from_utf8_lossy(path));
        }
    }
}

/// Compares with the ldconfig that ran in the root.
#[test]
#[ignore = "needs a Debian root"]
fn same_as_debians_ldconfig() {
    let root = oracle::root();
    let mut tree = oracle::load(&root);
    let entries = tree.len();
    tree.remove(CACHE).unwrap();
    let start = std::time::Instant::now();
    run(&mut tree, TIME).unwrap();
    println!("{} bytes in {:?}", cache(&tree).len(), start.elapsed());
    assert_eq!(tree.len(), entries, "links were made");
    oracle::same_file(&tree, &root, CACHE);
}
