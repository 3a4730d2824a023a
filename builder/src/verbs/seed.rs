//! `kiln seed`.

use super::FileArg;
use super::site::{Site, size};
use crate::boot::helper;
use crate::cluster::Node;
use crate::diag::Ui;
use crate::digest::Sha256;
use crate::execute::inputs;
use crate::execute::output::Output;
use crate::execute::seeds::{self, Seeding};
use crate::render::{self, Fetched, Stock, Target};
use anyhow::{Context as _, bail};
use kiln_formats::tree::Timestamp;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// 1980-01-01T00:00:00Z, the first time that FAT knows: what a seed carries when nothing gives it a time.
const FIRST: i64 = 315_532_800;

/// What a seed is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum For {
    /// An image that Kiln built.
    Kiln,
    /// A stock cloud image of Debian or Ubuntu.
    Stock,
}

/// Arguments of `kiln seed`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kiln seed\n  kiln seed -o seeds --for stock k3s1\n\n\
    For each node DIR/<node>/seed/ gets meta-data, user-data and network-config, and two volumes with all of them,\n\
    cidata.img (vfat) and cidata.iso. Give a stock image its seed in one of two ways:\n  \
    attach a volume:    qemu-system-x86_64 ... -cdrom seeds/k3s1/seed/cidata.iso\n  \
    or serve the folder: (cd seeds/k3s1/seed && python3 -m http.server)\n                       \
    and boot with ds=nocloud;s=http://HOST:8000/ (on the kernel's command line, or as SMBIOS serial number;\n                       \
    quote the `;` for GRUB)\n\n\
    Seeds hold secrets: files with any are readable by you alone, and so must be the way to whom you serve them.")]
pub struct Args {
    /// Which cluster file; the embedded example when there is none.
    #[command(flatten)]
    file: FileArg,
    /// Where the seeds go: `DIR/<node>/seed/user-data` and so on.
    #[arg(short, long, value_name = "DIR", default_value = "dist", value_hint = clap::ValueHint::DirPath)]
    output: PathBuf,
    /// What the seed is for.
    #[arg(long = "for", value_name = "IMAGE", value_enum, default_value_t = For::Kiln)]
    target: For,
    /// Let this server, the first one, begin the cluster anew although it is known to exist: its datastore is empty, and all
    /// that the cluster holds is gone.
    #[arg(long, value_name = "NODE")]
    found: Option<String>,
    /// Nodes to make seeds for; all when left out.
    #[arg(value_name = "NODE")]
    nodes: Vec<String>,
}

/// Writes seeds. Needs no lock, no packages and no network.
pub fn run(args: &Args, ui: &Ui) -> anyhow::Result<()> {
    let mut site = Site::open(&args.file, ui)?;
    site.found(args.found.as_deref())?;
    let nodes = site.nodes(&args.nodes)?;
    let vault = site.vault(ui)?;
    let time = Timestamp { secs: time(&site)?, nanos: 0 };
    // Whatever is wrong with any of them is said before one is written.
    let mut made = Vec::new();
    for node in nodes {
        let seed = match args.target {
            For::Kiln => render::seed(&site.cluster, node, &vault),
            For::Stock => {
                for what in render::left_out(&site.cluster, node) {
                    ui.warn(format!("node {}: a stock image is not told {what}", node.name));
                }
                let artefacts = artefacts(&site, node)?;
                let stock = Stock { helper: Sha256::of(helper::AMD64), artefacts: &artefacts };
                render::stock_seed((&site.cluster, node), &vault, &stock)
            }
        };
        made.push((node, seed.with_context(|| format!("node {} has no seed", node.name))?));
    }
    site.say_founding(&made.iter().map(|(node, _)| *node).collect::<Vec<_>>(), &vault, ui);
    let output = Output::open(&args.output, &site.node_names())?;
    if made.iter().any(|(_, seed)| seed.is_private())
        && let Some(warning) = output.open_to_all()?
    {
        ui.warn(warning);
    }
    let mut files = BTreeMap::new();
    for (node, seed) in &made {
        let target = match args.target {
            For::Kiln => Target::Kiln,
            For::Stock => Target::Stock,
        };
        let seeding = Seeding { cluster: &site.cluster, node, seed, target, vault: &*vault, time };
        let written = seeds::write(&seeding, &output)
            .with_context(|| format!("node {}: no seed was written", node.name))?;
        let bytes = written.values().map(|file| file.size).sum();
        ui.detail(format!("{}: {} files", node.name, written.len()));
        if !ui.json() {
            let folder = output.folder().join(&node.name).join("seed");
            ui.result(format!("seed  {}  {}", folder.display(), size(bytes)))?;
        }
        files.extend(written);
    }
    seeds::note(&files, &site.cluster, &output)?;
    if ui.json() {
        ui.print_json(&files)?;
    }
    Ok(())
}

/// What a stock image fetches by itself: only a lock knows the digests.
fn artefacts(site: &Site, node: &Node) -> anyhow::Result<Vec<Fetched>> {
    let wanted = render::artefacts(&site.cluster, node)?;
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let Some(lock) = site.read_lock()? else {
        bail!(
            "node {}: {} names the digests of what a stock image fetches ({}), and is not there yet: `kiln lock` writes it",
            node.name,
            site.lock_path.display(),
            wanted.iter().map(|artefact| artefact.name.as_str()).collect::<Vec<_>>().join(", ")
        );
    };
    let locked = inputs::artefacts((&site.cluster, node), &lock)?;
    let fetched = locked.into_iter().map(|artefact| Fetched {
        url: artefact.locked.url,
        sha256: artefact.locked.sha256,
        path: artefact.path,
        mode: artefact.mode,
        member: artefact.member,
    });
    Ok(fetched.collect())
}

/// The time that a seed carries: `SOURCE_DATE_EPOCH`, the lock's, or the first that there is.
fn time(site: &Site) -> anyhow::Result<i64> {
    if let Some(date) = super::build::source_date_epoch()? {
        return Ok(date);
    }
    match site.read_lock() {
        Ok(Some(lock)) => Ok(lock.source_date),
        Ok(None) => Ok(FIRST),
        Err(error) => bail!("{error:#}: the seed takes its date from there; mend or remove the lock"),
    }
}
