use kiln_formats::ext4::{Options, minimum_size, write};
use kiln_formats::tree::{Entry, Kind, Timestamp, Tree};
use std::fs::File;
use std::process::Command;

#[test]
fn basic() {
    let mut tree = Tree::new();
    tree.insert("", Entry::directory());
    tree.insert("etc", Entry::directory());
    tree.insert("etc/hostname", Entry::file(b"kiln\n".as_slice()));
    tree.insert("etc/empty", Entry::file(b"".as_slice()));
    tree.insert("etc/link", Entry::symlink("hostname"));
    tree.insert("etc/long", Entry::symlink(&"x".repeat(60)));
    tree.insert("big", Entry::directory());
    for n in 0..50_000 {
        tree.insert(&format!("big/name-{n}"), Entry::new(Kind::Fifo, 0o600));
    }
    let mut acl = Entry::directory();
    for n in 0..30 {
        acl.meta.xattrs.insert(format!("user.a{n}").into_bytes().into(), vec![7u8; n].into());
    }
    tree.insert("acl", acl);
    let size = minimum_size(&tree).unwrap();
    for size in [size, size + (40 << 20), 3 << 30] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let mut file = File::create_new(&path).unwrap();
        let options = Options::new(size, *b"0123456789abcdef", *b"fedcba9876543210", Timestamp { secs: 1_700_000_000, nanos: 0 });
        println!("{:?}", write(&tree, &options, &mut file).unwrap());
        let out = Command::new("e2fsck").arg("-fn").arg(&path).output().unwrap();
        println!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        std::fs::copy(&path, "/tmp/ext4-a.img").unwrap();
        assert!(out.status.success());
    }
}
