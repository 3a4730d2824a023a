//! `kiln lock`.

mod scripts;

use super::FileArg;
use super::site::{Site, cache, size};
use crate::diag::Ui;
use crate::digest::Sha256;
use crate::lock::{Change, Lock};
use anyhow::bail;
use std::collections::BTreeMap;

/// Arguments of `kiln lock`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kiln lock\n  kiln lock --check\n  KILN_MIRROR=/srv/snapshot/debian kiln lock --allow-expired"
)]
pub struct Args {
    /// Which cluster file; the embedded example when there is none.
    #[command(flatten)]
    pub file: FileArg,
    /// Write nothing; say what would change and end with status 1 when something would.
    #[arg(long)]
    pub check: bool,
    /// Take releases that have expired, or are older than those of the lock, where no mirror has newer ones: for a mirror that
    /// stands still, such as a snapshot. It is written into the lock, and said at each use of it.
    #[arg(long)]
    pub allow_expired: bool,
}

/// Resolves packages and artefacts and writes the lock, or says how it would differ.
pub fn run(args: &Args, ui: &Ui) -> anyhow::Result<()> {
    let mut site = Site::open(&args.file, ui)?;
    site.allow_expired(args.allow_expired);
    let cache = cache()?;
    let before = site.read_lock()?;
    let after = site.make_lock(&cache, before.as_ref(), ui)?;
    let changes = before.as_ref().map(|before| before.changes(&after)).unwrap_or_default();
    // Another request can lead to the same packages, and a build looks at both; a mirror may move again, or stand still.
    let mut refused = scripts::refused((&site, &after), &cache, ui)?;
    let same = before.as_ref().is_some_and(|before| {
        let expired = |lock: &Lock| lock.stands_still().is_some();
        changes.is_empty() && requests(before) == requests(&after) && expired(before) == expired(&after)
    });
    if let Some(warning) = after.stands_still() {
        ui.warn(warning);
    }
    if ui.json() {
        ui.print_json(&changes)?;
    } else {
        print(&site, &after, (before.is_some(), same, &changes), ui)?;
    }
    if args.check {
        match (&before, same) {
            (None, _) => bail!("{} is not there yet: `kiln lock` writes it", site.lock_path.display()),
            (Some(_), false) => {
                bail!("{} is out of date: `kiln lock` brings it up to date", site.lock_path.display())
            }
            (Some(_), true) => {}
        }
    } else if !same {
        // What did not change keeps its date: a lock anew must not make every image anew.
        after.write(&site.lock_path)?;
    }
    // The lock is good for all other nodes. What was refused is the last word; of several the last one.
    let last = refused.pop();
    refused.iter().for_each(|error| ui.error(error));
    last.map_or(Ok(()), Err)
}

fn requests(lock: &Lock) -> Vec<(&String, &Vec<String>)> {
    lock.roots.iter().map(|root| (&root.architecture, &root.request)).collect()
}

fn print(
    site: &Site,
    after: &Lock,
    (existed, same, changes): (bool, bool, &[Change]),
    ui: &Ui,
) -> anyhow::Result<()> {
    for root in &after.roots {
        let bytes = root.packages.iter().map(|package| package.size).sum();
        let (count, bytes) = (root.packages.len(), size(bytes));
        ui.result(format!("{}: {count} packages, {bytes} to fetch from an empty cache", root.architecture))?;
    }
    if !after.artefacts.is_empty() {
        // Two members of one archive are one file.
        let files: BTreeMap<Sha256, u64> = after.artefacts.iter().map(|it| (it.sha256, it.size)).collect();
        let (count, bytes) = (after.artefacts.len(), size(files.values().sum()));
        let word = if count == 1 { "artefact" } else { "artefacts" };
        ui.result(format!("{count} {word}, {bytes} to fetch from an empty cache"))?;
    }
    for change in changes {
        ui.result(format!("  {change}"))?;
    }
    let state = match (existed, same) {
        (_, true) => "is up to date",
        (true, false) => "changes",
        (false, false) => "is new",
    };
    Ok(ui.result(format!("{} {state}", site.lock_path.display()))?)
}
