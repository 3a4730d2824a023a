//! `kiln plan`.

mod disks;

use super::FileArg;
use super::build::Prepared;
use super::site::{Site, cache, size};
use crate::diag::Ui;
use crate::plan::{Action, Artefact, NodePlan, Plan, RootPlan};
use anyhow::bail;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Largest packages that are listed without `--verbose`.
const SHOWN: usize = 12;

/// Arguments of `kiln plan`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kiln plan\n  kiln plan --verbose\n  kiln plan --json | jq '.nodes[].action'\n\n\
    What a node would do with the disks of a machine that it is meant for:\n  \
    ssh root@rescue /root/kiln-firstboot probe > k3s2.json\n  kiln plan --disks k3s2.json k3s2\n\n\
    `kiln-firstboot` is static and runs on any Linux system; an image has it in /usr/lib/kiln. With --disks the \
    status is 1 when the plan is refused: nothing would be written to any of the disks."
)]
pub struct Args {
    /// Which cluster file; the embedded example when there is none.
    #[command(flatten)]
    pub file: FileArg,
    /// Where `kiln build` writes.
    #[arg(short, long, value_name = "DIR", default_value = "dist", value_hint = clap::ValueHint::DirPath)]
    pub output: PathBuf,
    /// Plan as `kiln build --fresh` would.
    #[arg(long)]
    pub fresh: bool,
    /// Plan what the first boot does with the disks of a recorded machine instead; `-` reads standard input. Needs no
    /// lock and writes nothing.
    #[arg(long, value_name = "RECORD", conflicts_with_all = ["fresh", "output"], value_hint = clap::ValueHint::FilePath)]
    pub disks: Option<PathBuf>,
    /// Nodes to plan for; all when left out.
    #[arg(value_name = "NODE")]
    pub nodes: Vec<String>,
}

/// Prints what a build would do.
pub fn run(args: &Args, ui: &Ui) -> anyhow::Result<()> {
    let site = Site::open(&args.file, ui)?;
    if let Some(record) = &args.disks {
        return disks::run(&site, record, &args.nodes, ui);
    }
    let cache = cache()?;
    let Some(lock) = site.read_lock()? else {
        bail!(
            "{} is not there yet: `kiln lock` writes it, and so does `kiln build`",
            site.lock_path.display()
        );
    };
    if let Some(warning) = lock.stands_still() {
        ui.warn(warning);
    }
    let prepared = Prepared::new((&site, ui), &lock, &args.nodes)?;
    prepared.say_founding(&site, ui);
    let plan = prepared.plan(&cache, &args.output, args.fresh)?;
    if ui.json() {
        return Ok(ui.print_json(&document(&plan, &prepared))?);
    }
    for root in plan.roots.iter() {
        print_root(root, ui)?;
    }
    for node in &plan.nodes {
        ui.result(format!("node {}: {}", node.node.name, why(node)))?;
    }
    Ok(())
}

/// What is done for a node and why, in words.
pub fn why(node: &NodePlan) -> String {
    match &node.action {
        Action::Keep => "keep; the image there is made of the same inputs".to_owned(),
        Action::Build { changed } if changed.is_empty() => "build; there is no image to keep".to_owned(),
        Action::Build { changed } => format!("build; changed: {}", changed.join(", ")),
    }
}

fn print_root(root: &RootPlan, ui: &Ui) -> anyhow::Result<()> {
    let packages = &root.root.packages.packages;
    let installed: u64 = packages.iter().map(|package| package.installed_kib * 1024).sum();
    let what = match (root.needed, root.reuse) {
        (false, _) => "not needed".to_owned(),
        (true, true) => "reuse; the cache has it".to_owned(),
        (true, false) => {
            let all = [(root.download, "packages"), (root.artefacts, "artefacts")];
            let fetch: Vec<String> = (all.iter().filter(|((count, _), _)| *count > 0))
                .map(|((count, bytes), what)| format!("{count} {what}, {}", size(*bytes)))
                .collect();
            match (&fetch[..], root.root.artefacts.is_empty()) {
                ([], true) => "make; all packages are in the cache".to_owned(),
                ([], false) => "make; all packages and artefacts are in the cache".to_owned(),
                _ => format!("make; fetch {}", fetch.join(", and ")),
            }
        }
    };
    ui.result(format!("root {}: {what}", root.root.name))?;
    ui.result(format!("  {} packages, {} installed; the largest:", packages.len(), size(installed)))?;
    let mut sorted: Vec<_> = packages.iter().collect();
    sorted.sort_by(|a, b| b.installed_kib.cmp(&a.installed_kib).then(a.name.cmp(&b.name)));
    let shown = if ui.wish().verbose { sorted.len() } else { SHOWN.min(sorted.len()) };
    for package in &sorted[..shown] {
        let wanted = package.wanted_by.join(", ");
        let installed = size(package.installed_kib * 1024);
        ui.result(format!("  {installed:>11}  {} {} ({wanted})", package.name, package.version))?;
    }
    let rest: u64 = sorted[shown..].iter().map(|package| package.installed_kib * 1024).sum();
    if shown < sorted.len() {
        ui.result(format!("  {:>11}  {} others (--verbose lists them)", size(rest), sorted.len() - shown))?;
    }
    for Artefact { path, locked, .. } in &root.root.artefacts {
        let bytes = size(locked.size);
        ui.result(format!("  {bytes:>11}  {path}, the artefact {} from {}", locked.name, locked.url))?;
    }
    Ok(())
}

fn document(plan: &Plan, prepared: &Prepared<'_>) -> Value {
    let roots: Vec<Value> = plan
        .roots
        .iter()
        .map(|root| {
            let packages: Vec<Value> = (root.root.packages.packages.iter())
                .map(|p| json!({"name": p.name, "version": p.version, "installed_bytes": p.installed_kib * 1024, "wanted_by": p.wanted_by}))
                .collect();
            let artefacts: Vec<Value> = (root.root.artefacts.iter())
                .map(|Artefact { path, locked, .. }| json!({"name": locked.name, "path": path, "url": locked.url, "size": locked.size, "sha256": locked.sha256}))
                .collect();
            json!({
                "name": root.root.name, "key": root.key, "needed": root.needed, "reuse": root.reuse,
                "download": {"files": root.download.0 + root.artefacts.0, "bytes": root.download.1 + root.artefacts.1},
                "inputs": root.root.inputs, "packages": packages, "artefacts": artefacts,
            })
        })
        .collect();
    let nodes: Vec<Value> = plan
        .nodes
        .iter()
        .map(|node| {
            let (action, changed) = match &node.action {
                Action::Keep => ("keep", None),
                Action::Build { changed } => ("build", Some(changed)),
            };
            json!({"name": node.node.name, "root": node.node.root, "action": action, "changed": changed, "inputs": prepared.told(&node.node)})
        })
        .collect();
    json!({"roots": roots, "nodes": nodes})
}
