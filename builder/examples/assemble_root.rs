//! Assembles the packages of a folder and writes the root to another, for looking at. Needs root.
//!
//! `cargo run -p kiln --example assemble_root -- FOLDER SCRATCH TARGET [--seal]`

#![allow(clippy::expect_used, clippy::panic, reason = "test code: a failure should stop it")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::time::Instant;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, scratch, target, rest @ ..] = &arguments[..] else {
        panic!("usage: assemble_root FOLDER SCRATCH TARGET [--seal]");
    };
    let start = Instant::now();
    let packages = support::packages(Path::new(folder), Path::new(scratch));
    eprintln!("unpacked and indexed {} packages: {:?}", packages.len(), start.elapsed());
    let start = Instant::now();
    let mut tree =
        kiln::rootfs::assemble(&packages, &support::options()).unwrap_or_else(|error| panic!("{error}"));
    eprintln!("assembled {} entries: {:?}", tree.len(), start.elapsed());
    if rest.iter().any(|word| word == "--seal") {
        let start = Instant::now();
        tree = kiln::rootfs::seal(tree);
        eprintln!("sealed: {:?}", start.elapsed());
    }
    support::write_folder(&tree, Path::new(target));
}
