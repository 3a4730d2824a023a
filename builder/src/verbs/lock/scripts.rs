//! Whether a build will refuse a package for its maintainer scripts: looked at when the cluster is locked, for the packages that
//! the cluster file asks for beside Kiln's own. Those that Kiln itself asks for are known to be covered.

use super::super::site::{Drawing, Site};
use crate::cache::Cache;
use crate::cluster::{Firmware, Node, Overlay};
use crate::diag::Ui;
use crate::execute::{inputs, locking};
use crate::lock::{Lock, Root};
use crate::rootfs::{self, Unpacked, residues};
use anyhow::{Context as _, anyhow};
use kiln_formats::deb::{Limits, read_control};
use kiln_formats::tree::Tree;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// What a build will refuse, an error for each root, which names its nodes.
pub(super) fn refused(
    (site, lock): (&Site, &Lock),
    cache: &Cache,
    ui: &Ui,
) -> anyhow::Result<Vec<anyhow::Error>> {
    let mut refused = Vec::new();
    for root in &lock.roots {
        let nodes: Vec<&Node> = site.cluster.nodes.iter().filter(|node| is_of(site, node, root)).collect();
        let looked_at = Root { packages: Vec::new(), ..root.clone() };
        let known = known(root, &nodes.iter().flat_map(|node| own(site, node)).collect());
        let packages = root.packages.iter().filter(|package| !known.contains(package.name.as_str())).cloned();
        let root = Root { packages: packages.collect(), ..looked_at };
        if root.packages.is_empty() {
            continue;
        }
        let uncovered = uncovered((site, lock), root, cache, ui)?;
        if !uncovered.is_empty() {
            let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
            let word = if names.len() == 1 { "node" } else { "nodes" };
            let error = anyhow!(rootfs::Error::Uncovered(uncovered));
            refused.push(error.context(format!("`kiln build` will refuse {word} {}", names.join(", "))));
        }
    }
    Ok(refused)
}

fn is_of(site: &Site, node: &Node, root: &Root) -> bool {
    node.architecture.as_str() == root.architecture && inputs::request(&site.cluster, node) == root.request
}

/// What Kiln itself asks for: its base, its overlays, and what words of the cluster file bring with them.
fn own(site: &Site, node: &Node) -> BTreeSet<String> {
    let mut names = site.cluster.all_packages(node);
    let foreign = |overlay: &&Overlay| overlay.folder.is_some();
    let theirs = node.overlays.iter().filter(foreign).flat_map(|overlay| &overlay.packages);
    let firmware = match &site.cluster.base.firmware {
        Firmware::Packages(firmware) => firmware.iter().collect(),
        Firmware::Auto | Firmware::None => Vec::new(),
    };
    for name in site.cluster.base.packages.iter().chain(&node.packages).chain(theirs).chain(firmware) {
        names.remove(name);
    }
    names
}

/// Packages that are there for Kiln's own sake: those, those of every Debian, and what they need.
fn known<'a>(root: &'a Root, own: &BTreeSet<String>) -> BTreeSet<&'a str> {
    let mut known: BTreeSet<&str> = BTreeSet::new();
    loop {
        let before = known.len();
        for package in &root.packages {
            let for_it = |by: &String| match by.as_str() {
                "base" => true,
                "requested" => own.contains(&package.name),
                other => known.contains(other),
            };
            if package.wanted_by.iter().any(for_it) {
                known.insert(&package.name);
            }
        }
        if known.len() == before {
            return known;
        }
    }
}

/// Packages of `root` with scripts that nothing covers.
fn uncovered(
    (site, lock): (&Site, &Lock),
    root: Root,
    cache: &Cache,
    ui: &Ui,
) -> anyhow::Result<Vec<(String, String)>> {
    let part = Lock { roots: vec![root.clone()], ..lock.clone() };
    let files = locking::fetch_packages(&part, &site.mirrors()?, cache, &Drawing::new(ui, "packages"))?;
    let mut packages = Vec::new();
    for package in root.packages {
        let Some(path) = files.get(&package.sha256) else { continue };
        let control = read(path).with_context(|| format!("the package {}", package.name))?;
        let (name, version, architecture) = (package.name, package.version, package.architecture);
        packages.push(Unpacked { name, version, architecture, control, tree: Tree::new() });
    }
    let skipped = &site.cluster.base.skip_scripts;
    let found = residues(&packages).into_iter().filter(|it| !it.covered && !skipped.contains(&it.package));
    Ok(found.map(|residue| (residue.package, residue.script.to_owned())).collect())
}

fn read(path: &Path) -> anyhow::Result<kiln_formats::deb::Control> {
    Ok(read_control(&mut BufReader::new(File::open(path)?), &Limits::default())?)
}

#[cfg(test)]
mod tests {
    use super::known;
    use crate::digest::Sha256;
    use crate::lock::{Package, Root};
    use std::collections::BTreeSet;

    #[test]
    fn what_is_there_for_kilns_own_sake() {
        let package = |name: &str, by: &[&str]| Package {
            name: name.to_owned(),
            version: "1".to_owned(),
            architecture: "amd64".to_owned(),
            archive: "debian".to_owned(),
            file: String::new(),
            size: 0,
            installed_kib: 0,
            sha256: Sha256::of(name.as_bytes()),
            wanted_by: by.iter().map(|by| (*by).to_owned()).collect(),
        };
        let packages = vec![
            package("a-part", &["z-own"]),
            package("bash", &["base"]),
            package("libnut", &["nut"]),
            package("nut", &["requested"]),
            package("shared", &["nut", "z-own"]),
            package("z-own", &["requested"]),
        ];
        let root = Root { architecture: "amd64".to_owned(), request: Vec::new(), packages };
        let known: Vec<&str> = known(&root, &BTreeSet::from(["z-own".to_owned()])).into_iter().collect();
        assert_eq!(known, ["a-part", "bash", "shared", "z-own"]);
    }
}
