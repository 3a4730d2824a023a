//! Writes a directory as ext4 and says how long that takes beside `mke2fs -d` and a plain copy of the bytes.
//!
//! `cargo run --release -p kiln-formats --example ext4_bench -- DIRECTORY [FOLDER FOR IMAGES]`
//!
//! The directory's contents are first gathered in one file, as a build has them in its unpacked archives.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)] // a measurement

use kiln_formats::ext4::{Options, minimum_size, write};
use kiln_formats::tree::{Content, Entry, Kind, Meta, Timestamp, Tree};
use std::collections::{BTreeMap, HashMap};
use std::fs::{File, Metadata};
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;

fn main() {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let source = arguments.next().expect("usage: ext4_bench DIRECTORY [FOLDER FOR IMAGES]");
    let folder = arguments.next().unwrap_or_else(std::env::temp_dir);
    let pool = folder.join("ext4-bench.pool");
    let tree = gather(&source, &pool);
    let bytes = std::fs::metadata(&pool).unwrap().len();
    let size = (minimum_size(&tree).unwrap() * 5 / 4).next_multiple_of(4096);
    println!("{} entries, {} MB of content, file system of {} MB", tree.len(), bytes >> 20, size >> 20);

    let image = folder.join("ext4-bench.image");
    let copy = best(&image, || {
        std::fs::copy(&pool, &image).unwrap();
    });
    let ours = best(&image, || {
        let options = Options::new(size, [1; 16], [2; 16], Timestamp { secs: 1_700_000_000, nanos: 0 });
        write(&tree, &options, &mut File::create(&image).unwrap()).unwrap();
    });
    let clean = Command::new("e2fsck").arg("-fn").arg(&image).output().is_ok_and(|out| out.status.success());
    let theirs = best(&image, || {
        let kib = format!("{}k", size / 1024);
        let mut command = Command::new("mke2fs");
        command.args(["-q", "-F", "-t", "ext4", "-d"]).arg(&source).arg(&image).arg(kib);
        assert!(command.status().expect("mke2fs is in the Debian package e2fsprogs").success());
    });
    let ratio = |time: Duration| time.as_secs_f64() / ours.as_secs_f64();
    println!(
        "kiln        {:7.3} s   1.00   e2fsck {}",
        ours.as_secs_f64(),
        if clean { "clean" } else { "NOT CLEAN" }
    );
    println!("mke2fs -d   {:7.3} s   {:.2}", theirs.as_secs_f64(), ratio(theirs));
    println!("cp          {:7.3} s   {:.2}", copy.as_secs_f64(), ratio(copy));
    std::fs::remove_file(&pool).unwrap();
    std::fs::remove_file(&image).unwrap();
}

/// The best of some rounds, each into a new file.
fn best(image: &Path, mut run: impl FnMut()) -> Duration {
    (0..ROUNDS)
        .map(|_| {
            let _ = std::fs::remove_file(image);
            let start = Instant::now();
            run();
            start.elapsed()
        })
        .min()
        .unwrap()
}

/// The directory as a tree over one file that holds all contents.
fn gather(source: &Path, pool: &Path) -> Tree {
    let mut out = BufWriter::new(File::options().create(true).truncate(true).write(true).open(pool).unwrap());
    let (mut entries, mut offset) = (BTreeMap::new(), 0);
    let mut links: HashMap<u64, Box<[u8]>> = HashMap::new();
    let mut todo = vec![source.to_owned()];
    while let Some(place) = todo.pop() {
        let found = std::fs::symlink_metadata(&place).unwrap();
        let path: Box<[u8]> = place.strip_prefix(source).unwrap().as_os_str().as_bytes().into();
        let kind = if found.is_dir() {
            todo.extend(std::fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()));
            Some((Kind::Directory, 0))
        } else if found.nlink() > 1 && links.contains_key(&found.ino()) {
            Some((Kind::HardLink(links[&found.ino()].clone()), 0))
        } else {
            links.insert(found.ino(), path.clone());
            kind(&place, &found, &mut out)
        };
        if let Some((kind, len)) = kind {
            entries.insert(path, (meta(&found), kind, offset, len));
            offset += len;
        }
    }
    out.flush().unwrap();
    let pool: Arc<File> = Arc::new(File::open(pool).unwrap());
    let mut tree = Tree::new();
    for (path, (meta, kind, offset, len)) in entries {
        let kind = match kind {
            Kind::File(_) => Kind::File(Content::Extern { source: Arc::<File>::clone(&pool), offset, len }),
            other => other,
        };
        tree.insert(&path, Entry { meta, kind });
    }
    tree
}

fn kind(place: &Path, found: &Metadata, out: &mut impl Write) -> Option<(Kind, u64)> {
    let kind = found.file_type();
    if kind.is_file() {
        let len = std::io::copy(&mut File::open(place).ok()?, out).unwrap();
        return Some((Kind::File(Content::bytes([])), len));
    }
    if kind.is_symlink() {
        return Some((Kind::Symlink(std::fs::read_link(place).unwrap().as_os_str().as_bytes().into()), 0));
    }
    if kind.is_fifo() {
        return Some((Kind::Fifo, 0));
    }
    // Device nodes and sockets weigh nothing; one kind stands for all.
    Some((Kind::Socket, 0))
}

fn meta(found: &Metadata) -> Meta {
    let nanos = u32::try_from(found.mtime_nsec()).unwrap_or(0);
    let mtime = Timestamp { secs: found.mtime(), nanos };
    let mode = u16::try_from(found.mode() & 0o7777).unwrap_or(0);
    Meta { mode, uid: found.uid(), gid: found.gid(), mtime, xattrs: BTreeMap::new() }
}
