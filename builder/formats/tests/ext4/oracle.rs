//! Outside tools, images in temporary folders, and trees as comparable lists.

use kiln_formats::ext4::read::FileSystem;
use kiln_formats::ext4::{Options, Summary, minimum_size, write};
use kiln_formats::tree::{Content, Entry, Kind, Meta, Timestamp, Tree};
use std::fs::File;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;

pub(crate) const CREATED: Timestamp = Timestamp { secs: 1_700_000_000, nanos: 0 };

pub(crate) fn options(size: u64) -> Options {
    Options {
        label: "root-a".to_owned(),
        ..Options::new(size, *b"0123456789abcdef", *b"fedcba9876543210", CREATED)
    }
}

/// Runs a tool and returns exit code and both outputs.
pub(crate) fn tool(package: &str, command: &mut Command) -> (i32, String) {
    let program = command.get_program().to_string_lossy().into_owned();
    // An ordinary user's search path has no folder for system tools, though all may read them.
    let path = std::env::var("PATH").unwrap_or_default();
    match command.env("PATH", format!("{path}:/usr/sbin:/sbin")).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!("{program} is not installed; it is in the Debian package {package}")
        }
        Err(error) => panic!("{program}: {error}"),
        Ok(out) => {
            let text = [out.stdout, out.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            (out.status.code().unwrap_or(-1), text.concat())
        }
    }
}

/// A written file system.
pub(crate) struct Image {
    _folder: TempDir,
    pub(crate) path: PathBuf,
    pub(crate) summary: Summary,
}

impl Image {
    pub(crate) fn with(tree: &Tree, options: &Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let mut file = File::create_new(&path).unwrap();
        let summary = write(tree, options, &mut file).unwrap();
        assert_eq!(file.metadata().unwrap().len(), options.size);
        Self { _folder: folder, path, summary }
    }

    pub(crate) fn new(tree: &Tree, spare: u64) -> Self {
        Self::with(tree, &options(minimum_size(tree).unwrap() + spare))
    }

    /// `e2fsck -fn` must find nothing.
    pub(crate) fn check(&self) {
        let (code, text) = tool("e2fsprogs", Command::new("e2fsck").arg("-fn").arg(&self.path));
        assert_eq!(code, 0, "{text}");
        // e2fsck offers optimisations without counting them as errors.
        assert!(!text.contains("? no"), "{text}");
    }

    pub(crate) fn debugfs(&self, request: &str) -> String {
        tool("e2fsprogs", Command::new("debugfs").args(["-R", request]).arg(&self.path)).1
    }

    pub(crate) fn open(&self) -> FileSystem {
        FileSystem::open(Arc::new(File::open(&self.path).unwrap())).unwrap()
    }

    /// e2fsck and our reader: the same tree comes back.
    pub(crate) fn prove(&self, tree: &Tree) {
        self.check();
        assert_same(&self.open().tree().unwrap(), tree);
    }
}

/// Fails with the first entry that differs, lost+found apart.
pub(crate) fn assert_same(left: &Tree, right: &Tree) {
    let (left, right) = (lines(left), lines(right));
    for (one, other) in left.iter().zip(&right) {
        assert_eq!(one, other);
    }
    assert_eq!(left.len(), right.len());
}

/// Path, metadata and kind of every entry, contents as their length and a sum, hard links resolved to
/// the first name of their group.
fn lines(tree: &Tree) -> Vec<(String, Meta, String)> {
    let target = |path: &[u8]| match tree.get(path).map(|entry| &entry.kind) {
        Some(Kind::HardLink(target)) => target.clone(),
        _ => path.into(),
    };
    let mut first = std::collections::HashMap::new();
    for (path, _) in tree.iter() {
        first.entry(target(path)).or_insert_with(|| path.to_vec());
    }
    let skip = |path: &[u8]| path == b"lost+found";
    tree.iter()
        .filter(|(path, _)| !skip(path))
        .map(|(path, _)| {
            let file = tree.get(&target(path)).unwrap();
            let kind = match &file.kind {
                Kind::File(content) => format!("file {} {:x}", content.len(), sum(content)),
                Kind::Directory => "directory".to_owned(),
                other => format!("{other:?}"),
            };
            let first = &first[&target(path)];
            (
                path.escape_ascii().to_string(),
                file.meta.clone(),
                format!("{kind} as {}", first.escape_ascii()),
            )
        })
        .collect()
}

/// A sum over a content, read in steps.
fn sum(content: &Content) -> u64 {
    let mut buf = vec![0; 1 << 20];
    let (mut at, mut sum) = (0, 0u64);
    while at < content.len() {
        let now = usize::try_from((content.len() - at).min(1 << 20)).unwrap();
        content.read_exact_at(&mut buf[..now], at).unwrap();
        sum = sum.rotate_left(5) ^ u64::from(crc32c::crc32c(&buf[..now]));
        at += now as u64;
    }
    sum
}

/// A tree with a root directory.
pub(crate) fn rooted() -> Tree {
    let mut tree = Tree::new();
    tree.insert("", Entry::directory());
    tree
}

/// Bytes that do not repeat within a block, so that swapped blocks show.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(2_654_435_761) >> 11).to_le_bytes()[0]).collect()
}
