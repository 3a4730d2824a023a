//! The initramfs: the helper as `/init`, the programs that it runs, modules, firmware, and nothing else.

use super::{Error, Options, file, helper, modules, programs};
use kiln_formats::cpio;
use kiln_formats::tree::{Entry, Kind, Tree};
use std::collections::BTreeSet;
use std::io::Write;

/// Level of the compression. On a 29 MB initramfs of 175 modules, one core: level 3 packs to 6.7 MB, 6 to 6.1 MB, 9 to
/// 5.8 MB, 12 to 5.7 MB, and each step costs about 0.3 s more.
const LEVEL: i32 = 6;

/// Packed, with the figures that image.json tells.
#[derive(Debug)]
pub(super) struct Initramfs {
    /// The compressed archive.
    pub(super) packed: Vec<u8>,
    /// Bytes before compression.
    pub(super) unpacked_bytes: u64,
    /// Number of kernel modules.
    pub(super) modules: usize,
    /// Firmware files, as the modules name them.
    pub(super) firmware: Vec<String>,
    /// Paths of the programs, below the root.
    pub(super) programs: Vec<String>,
}

/// Builds and packs it.
pub(super) fn build(root: &Tree, release: &str, options: &Options) -> Result<Initramfs, Error> {
    let selection = modules::select(root, release, options)?;
    let mut tree = skeleton(helper::AMD64);
    let programs = programs::add_all(root, &options.programs, &mut tree)?;
    let mut names = BTreeSet::new();
    let count = selection.modules.len();
    for module in selection.modules {
        names.extend(modules::firmware_of(&module.bytes));
        add(&mut tree, &format!("usr/lib/modules/{release}/{}", module.path), Entry::file(module.bytes));
    }
    for (name, text) in selection.index {
        add(&mut tree, &format!("usr/lib/modules/{release}/{name}"), Entry::file(text.into_bytes()));
    }
    let mut firmware = Vec::new();
    for name in names {
        // The kernel's loader also tries these names (Linux, FW_LOADER_COMPRESS).
        let mut forms = ["", ".zst", ".xz"].iter().map(|suffix| format!("{name}{suffix}"));
        let found = forms.find_map(|form| Some((file(root, &format!("usr/lib/firmware/{form}"))?, form)));
        if let Some((content, form)) = found {
            add(
                &mut tree,
                &format!("usr/lib/firmware/{form}"),
                Entry::new(Kind::File(content.clone()), 0o644),
            );
            firmware.push(name);
        }
    }
    let mut archive = Vec::new();
    let unpacked_bytes = cpio::write(&tree, &mut archive)?;
    Ok(Initramfs {
        packed: compress(&archive, options.threads)?,
        unpacked_bytes,
        modules: count,
        firmware,
        programs,
    })
}

/// What the kernel and the helper expect to be there. Standard streams open on /dev/console before anything is
/// mounted, and Rust's runtime falls back to /dev/null.
fn skeleton(helper: &[u8]) -> Tree {
    let mut tree = Tree::new();
    for directory in ["dev", "proc", "run", "seed", "sys", "sysroot"] {
        add(&mut tree, directory, Entry::directory());
    }
    // As in the root: programs, their loader and the kernel name things by both paths.
    for directory in ["bin", "lib", "lib64", "sbin"] {
        add(&mut tree, &format!("usr/{directory}"), Entry::directory());
        add(&mut tree, directory, Entry::symlink(&format!("usr/{directory}")));
    }
    add(&mut tree, "dev/console", Entry::new(Kind::CharDevice { major: 5, minor: 1 }, 0o600));
    add(&mut tree, "dev/null", Entry::new(Kind::CharDevice { major: 1, minor: 3 }, 0o666));
    let mut init = Entry::file(helper);
    init.meta.mode = 0o755;
    add(&mut tree, "init", init);
    tree
}

pub(super) fn add(tree: &mut Tree, path: &(impl AsRef<[u8]> + ?Sized), entry: Entry) {
    tree.make_parents(path, &Entry::directory());
    tree.insert(path, entry);
}

/// zstd whose bytes do not depend on the number of threads: libzstd cuts jobs alike for any number of workers from
/// one on, and differently for none.
fn compress(archive: &[u8], threads: usize) -> Result<Vec<u8>, Error> {
    let pack = || -> std::io::Result<Vec<u8>> {
        let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL)?;
        encoder.multithread(u32::try_from(threads.max(1)).unwrap_or(1))?;
        encoder.set_pledged_src_size(Some(archive.len() as u64))?;
        encoder.write_all(archive)?;
        encoder.finish()
    };
    pack().map_err(|source| Error::Read { path: "initramfs".to_owned(), source })
}
