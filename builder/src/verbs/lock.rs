//! `kiln lock`.

use super::FileArg;
use super::site::{Site, cache, size};
use crate::diag::Ui;
use crate::lock::{Lock, Root};
use anyhow::bail;
use serde::Serialize;
use std::collections::BTreeMap;

/// Arguments of `kiln lock`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kiln lock\n  kiln lock --check")]
pub struct Args {
    /// Which cluster file; the embedded example when there is none.
    #[command(flatten)]
    pub file: FileArg,
    /// Write nothing; say what would change and end with status 1 when something would.
    #[arg(long)]
    pub check: bool,
}

/// A package that a new lock has otherwise.
#[derive(Debug, Serialize)]
struct Change {
    architecture: String,
    package: String,
    before: Option<String>,
    after: Option<String>,
}

/// Resolves packages and writes the lock, or says how it would differ.
pub fn run(args: &Args, ui: &Ui) -> anyhow::Result<()> {
    let site = Site::open(&args.file, ui)?;
    let cache = cache()?;
    let before = site.read_lock().or_else(|error| if args.check { Err(error) } else { Ok(None) })?;
    let after = site.make_lock(&cache, ui)?;
    let changes = changes(before.as_ref(), &after);
    if ui.json() {
        ui.print_json(&changes)?;
    } else {
        print(&site, before.as_ref(), &after, &changes, ui)?;
    }
    if args.check {
        match (&before, changes.is_empty()) {
            (None, _) => bail!("{} is not there yet: `kiln lock` writes it", site.lock_path.display()),
            (Some(_), false) => {
                bail!("{} is out of date: `kiln lock` brings it up to date", site.lock_path.display())
            }
            (Some(_), true) => return Ok(()),
        }
    }
    // What did not change keeps its date: a lock anew must not make every image anew.
    if before.is_some() && changes.is_empty() {
        return Ok(());
    }
    Ok(after.write(&site.lock_path)?)
}

fn changes(before: Option<&Lock>, after: &Lock) -> Vec<Change> {
    let mut changes = Vec::new();
    let before_roots: &[Root] = before.map_or(&[], |lock| &lock.roots);
    let set = |roots: &[Root]| {
        let mut set = BTreeMap::new();
        for root in roots {
            for package in &root.packages {
                // Packages with one version in two sets are one line.
                set.insert((root.architecture.clone(), package.name.clone()), package.version.clone());
            }
        }
        set
    };
    let (old, new) = (set(before_roots), set(&after.roots));
    let keys: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).cloned().collect();
    for key in keys {
        let (before, after) = (old.get(&key).cloned(), new.get(&key).cloned());
        if before != after {
            let (architecture, package) = key;
            changes.push(Change { architecture, package, before, after });
        }
    }
    let requests = |roots: &[Root]| {
        roots.iter().map(|r| (r.architecture.clone(), r.request.clone())).collect::<Vec<_>>()
    };
    if changes.is_empty() && before.is_some() && requests(before_roots) != requests(&after.roots) {
        let architecture = after.roots.first().map(|root| root.architecture.clone()).unwrap_or_default();
        changes.push(Change {
            architecture,
            package: "(what is asked for)".into(),
            before: None,
            after: None,
        });
    }
    changes
}

fn print(
    site: &Site,
    before: Option<&Lock>,
    after: &Lock,
    changes: &[Change],
    ui: &Ui,
) -> anyhow::Result<()> {
    for root in &after.roots {
        let bytes = root.packages.iter().map(|package| package.size).sum();
        let (count, bytes) = (root.packages.len(), size(bytes));
        ui.result(format!("{}: {count} packages, {bytes} to fetch from an empty cache", root.architecture))?;
    }
    if before.is_some() && changes.is_empty() {
        return Ok(ui.result(format!("{} is up to date", site.lock_path.display()))?);
    }
    for change in changes.iter().filter(|_| before.is_some()) {
        let text = match (&change.before, &change.after) {
            (Some(before), Some(after)) => format!("  {} {before} → {after}", change.package),
            (None, Some(after)) => format!("+ {} {after}", change.package),
            (Some(before), None) => format!("- {} {before}", change.package),
            (None, None) => format!("  {}", change.package),
        };
        ui.result(text)?;
    }
    Ok(())
}
