//! The kernel as judge, where we are root: a loop mount compared entry by entry, changes, growth.

use crate::bytes::small;
use crate::oracle::{Image, options, pattern, rooted, tool};
use kiln_formats::ext4::Options;
use kiln_formats::tree::{Content, Entry, Kind, Timestamp, Tree};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Aloud: the test harness keeps what the print macros say to itself.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// True when this process has a capability (a bit of `CapEff`; a container's root may lack some).
fn is_able(capability: u64) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(effective.trim(), 16).unwrap() & 1 << capability != 0
}

/// True when a loop mount is possible; says aloud when not.
fn may_mount() -> bool {
    const CAP_SYS_ADMIN: u64 = 21;
    let able = is_able(CAP_SYS_ADMIN) && Path::new("/dev/loop-control").exists();
    if !able {
        say("SKIPPED: not root, so nothing is mounted; e2fsck and debugfs have judged the same images");
    }
    able
}

/// True when a mounted file system may be grown; says aloud when not.
fn may_resize() -> bool {
    const CAP_SYS_RESOURCE: u64 = 24;
    let able = is_able(CAP_SYS_RESOURCE);
    if !able {
        say("SKIPPED: no CAP_SYS_RESOURCE, so nothing grows while mounted; resize2fs grows it offline");
    }
    able
}

struct Mount(PathBuf);

impl Mount {
    fn new(image: &Image, mode: &str) -> Self {
        let path = image.path.with_extension("mount");
        std::fs::create_dir_all(&path).unwrap();
        let options = format!("loop,{mode}");
        let (code, text) = tool(
            "mount",
            Command::new("mount").args(["-t", "ext4", "-o", &options]).arg(&image.path).arg(&path),
        );
        assert_eq!(code, 0, "{text}");
        Self(path)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let (code, text) = tool("mount", Command::new("umount").arg(&self.0));
        assert_eq!(code, 0, "{text}");
    }
}

/// Attributes by path as getfattr tells them, values in hex.
fn xattrs(root: &Path) -> BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, String>> {
    let out = Command::new("getfattr")
        .args(["-R", "-P", "-h", "-d", "-m", "-", "-e", "hex", "."])
        .current_dir(root)
        .output();
    let out = out.expect("getfattr is not installed; it is in the Debian package attr").stdout;
    let mut all = BTreeMap::new();
    let mut path = Vec::new();
    for line in out.split(|byte| *byte == b'\n') {
        if let Some(name) = line.strip_prefix(b"# file: ") {
            path = name.strip_prefix(b"./").unwrap_or(if name == b"." { b"" } else { name }).to_vec();
        } else if let Some(at) = line.iter().position(|byte| *byte == b'=') {
            let value = String::from_utf8_lossy(&line[at + 1..]).trim_start_matches("0x").to_owned();
            let of: &mut BTreeMap<_, _> = all.entry(path.clone()).or_default();
            of.insert(line[..at].to_vec(), value);
        }
    }
    all
}

fn compare(root: &Path, tree: &Tree) {
    let theirs = xattrs(root);
    for (path, entry) in tree.iter() {
        let place = root.join(OsStr::from_bytes(path));
        let shown = path.escape_ascii().to_string();
        let found = std::fs::symlink_metadata(&place).unwrap_or_else(|error| panic!("{shown}: {error}"));
        let (entry, linked) = match &entry.kind {
            Kind::HardLink(target) => (tree.get(target).unwrap(), Some(target)),
            _ => (entry, None),
        };
        if let Some(target) = linked {
            let target = std::fs::symlink_metadata(root.join(OsStr::from_bytes(target))).unwrap();
            assert_eq!(found.ino(), target.ino(), "{shown}");
        }
        let meta = &entry.meta;
        assert_eq!(found.mode() & 0o7777, u32::from(meta.mode), "{shown}");
        assert_eq!((found.uid(), found.gid()), (meta.uid, meta.gid), "{shown}");
        assert_eq!(
            (found.mtime(), found.mtime_nsec()),
            (meta.mtime.secs, i64::from(meta.mtime.nanos)),
            "{shown}"
        );
        let kind = found.file_type();
        let device = |major: u32, minor: u32| {
            let (major, minor) = (u64::from(major), u64::from(minor));
            (minor & 0xFF) | (major & 0xFFF) << 8 | (minor & !0xFF) << 12
        };
        match &entry.kind {
            Kind::Directory => assert!(kind.is_dir(), "{shown}"),
            Kind::File(content) => {
                assert!(kind.is_file() && found.len() == content.len(), "{shown}");
                assert!(std::fs::read(&place).unwrap() == content.read().unwrap(), "{shown}");
            }
            Kind::Symlink(target) => {
                assert_eq!(std::fs::read_link(&place).unwrap().as_os_str().as_bytes(), &**target, "{shown}");
            }
            Kind::CharDevice { major, minor } => {
                assert!(kind.is_char_device() && found.rdev() == device(*major, *minor), "{shown}");
            }
            Kind::BlockDevice { major, minor } => {
                assert!(kind.is_block_device() && found.rdev() == device(*major, *minor), "{shown}");
            }
            Kind::Fifo => assert!(kind.is_fifo(), "{shown}"),
            Kind::Socket => assert!(kind.is_socket(), "{shown}"),
            Kind::HardLink(_) => panic!("{shown}: a link to a link"),
        }
        let hex = |value: &[u8]| value.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let ours: BTreeMap<Vec<u8>, String> =
            meta.xattrs.iter().map(|(name, value)| (name.to_vec(), hex(value))).collect();
        assert_eq!(theirs.get(path).cloned().unwrap_or_default(), ours, "{shown}");
    }
    let (_, count) = tool("findutils", Command::new("find").arg(root).args(["-printf", "x"]));
    let lost = usize::from(!tree.contains("lost+found"));
    assert_eq!(count.len(), tree.len() + lost);
}

/// A POSIX ACL in the kernel's form: user 1000 and group 4 beside owner, group, mask and others.
fn acl() -> Box<[u8]> {
    let mut out = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in
        [(1u16, 7u16, !0u32), (2, 5, 1000), (4, 5, !0), (8, 4, 4), (16, 5, !0), (32, 0, !0)]
    {
        out.extend([&tag.to_le_bytes()[..], &perm.to_le_bytes(), &id.to_le_bytes()].concat());
    }
    out.into()
}

fn everything() -> Tree {
    let mut tree = small();
    let mut entry = Entry::new(Kind::Directory, 0o750);
    entry.meta.xattrs.insert(b"system.posix_acl_access".as_slice().into(), acl());
    entry.meta.xattrs.insert(b"system.posix_acl_default".as_slice().into(), acl());
    tree.insert("journal", entry);
    for (at, len) in [0usize, 20, 60, 70, 2000, 4000].into_iter().enumerate() {
        let mut entry = Entry::file(pattern(at * 5000));
        entry.meta.mode = 0o7755;
        entry.meta.mtime = Timestamp { secs: [-5, 0, 1 << 31, 1 << 32, 1 << 33, 9][at], nanos: 123_456_789 };
        (entry.meta.uid, entry.meta.gid) = (70_000 + u32::try_from(at).unwrap(), 4);
        entry.meta.xattrs.insert(b"user.v".as_slice().into(), pattern(len).into());
        entry.meta.xattrs.insert(b"trusted.w".as_slice().into(), pattern(at + 1).into());
        tree.insert(&format!("with-{len}"), entry);
    }
    for len in [1, 59, 60, 4095] {
        tree.insert(&format!("link-{len}"), Entry::symlink(&"l".repeat(len)));
    }
    for (major, minor) in [(8, 255), (8, 256), (4095, 1_048_575)] {
        tree.insert(&format!("block-{major}-{minor}"), Entry::new(Kind::BlockDevice { major, minor }, 0o660));
    }
    tree.insert("socket", Entry::new(Kind::Socket, 0o600));
    tree.insert([0xFFu8; 255].as_slice(), Entry::file(b"no text".as_slice()));
    tree.insert("big", Entry::directory());
    for n in 0..50_000 {
        tree.insert(&format!("big/name-{n}"), Entry::new(Kind::Fifo, 0o600));
    }
    tree.insert("wide", Entry::directory());
    for n in 0..9_000 {
        tree.insert(&format!("wide/{n:05}{}", "\u{e9}".repeat(125)), Entry::new(Kind::Socket, 0o600));
    }
    tree
}

#[test]
fn the_kernel_sees_the_tree_that_was_asked_for() {
    let tree = everything();
    let image = Image::with(&tree, &Options { inodes: Some(100_000), ..options(512 << 20) });
    image.prove(&tree);
    if !may_mount() {
        return;
    }
    {
        let mount = Mount::new(&image, "ro");
        compare(&mount.0, &tree);
        let (_, text) = tool("acl", Command::new("getfacl").args(["-p", "-n"]).arg(mount.0.join("journal")));
        for line in
            ["user:1000:r-x", "group:4:r--", "mask::r-x", "default:user:1000:r-x", "default:other::---"]
        {
            assert!(text.contains(line), "{line} not in {text}");
        }
    }
    image.check();
    {
        let mount = Mount::new(&image, "rw");
        for directory in ["big", "wide", "etc", "journal", "many"] {
            for n in 0..1500 {
                std::fs::write(mount.0.join(directory).join(format!("new-{n}")), pattern(n)).unwrap();
            }
        }
        for n in 0..20_000 {
            std::fs::remove_file(mount.0.join(format!("big/name-{n}"))).unwrap();
        }
        for name in ["with-2000", "data", "link-60", "with-4000", "etc/name"] {
            std::fs::remove_file(mount.0.join(name)).unwrap();
        }
        std::fs::write(mount.0.join("big/large"), pattern(30 << 20)).unwrap();
    }
    image.check();
    let read = image.open().tree().unwrap();
    let Kind::File(content) = &read.get("big/large").unwrap().kind else { panic!("no file") };
    assert!(content.read().unwrap() == pattern(30 << 20));
    assert_eq!(read.below("many").count(), 1900);
}

#[test]
fn a_file_in_very_many_pieces() {
    if !may_mount() {
        return;
    }
    let image = Image::with(&rooted(), &options(256 << 20));
    let len = 12_000usize * 8192;
    {
        // Every other block: no two extents can be joined, and the tree gets two levels.
        let mount = Mount::new(&image, "rw");
        let file = std::fs::File::create(mount.0.join("pieces")).unwrap();
        for at in 0..12_000u64 {
            std::os::unix::fs::FileExt::write_all_at(&file, &pattern(4096), at * 8192).unwrap();
        }
        file.set_len(len as u64).unwrap();
    }
    image.check();
    assert!(
        image.debugfs("dump_extents -n pieces").contains(" 1/ 1")
            || image.debugfs("dump_extents -n pieces").contains(" 1/ 2")
    );
    let read = image.open().read_file("pieces", len as u64).unwrap().unwrap();
    let mut wanted = [pattern(4096), vec![0; 4096]].concat();
    wanted = wanted.repeat(12_000);
    assert!(read == wanted);
    // And written again from there.
    let tree = image.open().tree().unwrap();
    assert!(matches!(&tree.get("pieces").unwrap().kind, Kind::File(Content::Extern { .. })));
    Image::new(&tree, 0).prove(&tree);
}

#[test]
fn grown_offline() {
    let tree = small();
    for (from, to) in [(64u64 << 20, 4u64 << 30), (200 << 20, 40 << 30), (3 << 30, 100 << 30)] {
        let image = Image::with(&tree, &options(from));
        std::fs::File::options().write(true).open(&image.path).unwrap().set_len(to).unwrap();
        let (code, text) = tool("e2fsprogs", Command::new("resize2fs").arg(&image.path));
        assert_eq!(code, 0, "{text}");
        image.prove(&tree);
        assert_eq!(image.open().facts().size, to);
    }
}

#[test]
fn grown_online() {
    if !may_mount() || !may_resize() {
        return;
    }
    let tree = small();
    // 16 MiB to 40 GiB is more than the reserved descriptor blocks allow for: meta_bg.
    for (from, to) in [(64u64 << 20, 3u64 << 30), (16 << 20, 40 << 30), (1 << 30, 1 << 40)] {
        let image = Image::with(&tree, &options(from));
        {
            let mount = Mount::new(&image, "rw");
            std::fs::File::options().write(true).open(&image.path).unwrap().set_len(to).unwrap();
            let (_, device) =
                tool("mount", Command::new("findmnt").args(["-n", "-o", "SOURCE"]).arg(&mount.0));
            tool("mount", Command::new("losetup").args(["-c", device.trim()]));
            let (code, text) = tool("e2fsprogs", Command::new("resize2fs").arg(device.trim()));
            assert_eq!(code, 0, "{text}");
            compare(&mount.0, &tree);
        }
        image.prove(&tree);
        assert_eq!(image.open().facts().size, to);
    }
}
