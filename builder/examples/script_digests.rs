//! Prints the maintainer scripts of a folder of .deb files that no kind and no line of the table covers, as
//! lines for `builder/src/rootfs/scripts.txt`, each after the text to read before adding it.
//!
//! `cargo run -p kiln --example script_digests -- FOLDER [--all]`

use kiln::rootfs::{Unpacked, residues};
use kiln_formats::deb::{Limits, read_control};
use kiln_formats::tree::Tree;
use std::fs::File;
use std::io::BufReader;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: script_digests FOLDER [--all]")?;
    let all = arguments.next().is_some();
    let mut packages = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "deb") {
            continue;
        }
        let control = read_control(&mut BufReader::new(File::open(&path)?), &Limits::default())?;
        let text = control.text("control").unwrap_or_default().into_owned();
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
                .unwrap_or_default()
                .to_owned()
        };
        packages.push(Unpacked {
            name: field("Package"),
            version: field("Version"),
            architecture: field("Architecture"),
            control,
            tree: Tree::new(),
        });
    }
    for residue in residues(&packages).iter().filter(|residue| all || !residue.covered) {
        let release =
            residue.package.strip_prefix("linux-image-").filter(|rest| rest.starts_with(char::is_numeric));
        let name = if release.is_some() { "linux-image-@RELEASE@" } else { &residue.package };
        for line in residue.text.lines() {
            println!("#   {line}");
        }
        println!("{name} {} {}", residue.script, residue.digest);
    }
    Ok(())
}
