//! `kiln build`.

use super::site::{self, Drawing, Site, size};
use super::{FileArg, plan as plan_verb};
use crate::cache::{self, Cache, Check, Trimmed};
use crate::cluster::{self, Node};
use crate::diag::Ui;
use crate::execute::document::{self, Digest, File, Manifest, VERSION};
use crate::execute::inputs::{self, Gathered};
use crate::execute::nodes::{self, Building, Form};
use crate::execute::output::{self, MANIFEST, Output};
use crate::execute::{artefacts, locking, roots};
use crate::lock::Lock;
use crate::plan::{self, Action, Inputs, NodeInputs, Plan};
use crate::render::{Seed, Vault};
use anyhow::{Context as _, bail};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// A form of a disk image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum ImageFormat {
    /// Sparse raw image, disk.img.
    Raw,
    /// Compressed with zstd, disk.img.zst.
    Zst,
    /// QEMU copy-on-write, disk.qcow2.
    Qcow2,
}

/// Arguments of `kiln build`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kiln build\n  kiln build -o out k3s1\n  kiln build --format raw,zst,qcow2"
)]
pub struct Args {
    /// Which cluster file; the embedded example when there is none.
    #[command(flatten)]
    pub file: FileArg,
    /// Where the images go: `DIR/<node>/disk.img` and so on.
    #[arg(short, long, value_name = "DIR", default_value = "dist", value_hint = clap::ValueHint::DirPath)]
    pub output: PathBuf,
    /// Forms of each image, separated by commas; `raw` is always written.
    #[arg(long, value_name = "FORMATS", value_enum, value_delimiter = ',', default_value = "raw")]
    pub format: Vec<ImageFormat>,
    /// Reuse nothing but the fetched packages and artefacts.
    #[arg(long)]
    pub fresh: bool,
    /// Threads to work with; the images are the same for any number [default: one a core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// Let this server, the first one, begin the cluster anew although it is known to exist: its datastore is empty, and all
    /// that the cluster holds is gone.
    #[arg(long, value_name = "NODE")]
    pub found: Option<String>,
    /// Nodes to build; all when left out.
    #[arg(value_name = "NODE")]
    pub nodes: Vec<String>,
}

/// What a plan is made of.
pub struct Prepared<'a> {
    nodes: Vec<&'a Node>,
    gathered: Gathered,
    vault: Arc<dyn Vault>,
}

impl<'a> Prepared<'a> {
    /// The inputs of the named nodes, of all when none is named.
    pub fn new((site, ui): (&'a Site, &Ui), lock: &Lock, names: &[String]) -> anyhow::Result<Self> {
        let nodes = site.nodes(names)?;
        let vault = site.vault(ui)?;
        let gathered = inputs::gather((&site.cluster, &nodes), lock, &program()?, &vault)?;
        Ok(Self { nodes, gathered, vault })
    }

    /// Says what the seeds have to say about the beginning of the cluster.
    pub fn say_founding(&self, site: &Site, ui: &Ui) {
        site.say_founding(&self.nodes, &self.vault, ui);
    }

    /// The inputs of a planned node that may be shown to anybody.
    pub fn told(&self, node: &NodeInputs) -> Inputs {
        let at = self.gathered.nodes.iter().position(|it| it.name == node.name);
        let private = at.and_then(|at| self.gathered.seeds.get(at)).is_none_or(Seed::is_private);
        document::told(&node.inputs, (private, &*self.vault))
    }

    /// What a build into `output` would do.
    pub fn plan(&self, cache: &Cache, output: &Path, fresh: bool) -> anyhow::Result<Plan> {
        let names: Vec<&str> = self.nodes.iter().map(|node| node.name.as_str()).collect();
        let mut present = output::images(output, &names);
        for root in &self.gathered.roots {
            let key = plan::key(&root.inputs);
            if roots::cached(cache, &key).is_some() {
                present.roots.insert(key);
            }
            let packages = root.packages.packages.iter().map(|package| (package.sha256, package.size));
            let artefacts = root.artefacts.iter().map(|it| (it.locked.sha256, it.locked.size));
            for (sha256, size) in packages.chain(artefacts) {
                if cache.has(&sha256, size)? {
                    present.files.insert(sha256);
                }
            }
        }
        Ok(plan::plan(self.gathered.roots.clone(), self.gathered.nodes.clone(), &present, fresh))
    }
}

/// The digest of the running program: another one may make other bytes.
fn program() -> anyhow::Result<String> {
    let path = std::env::current_exe().context("cannot find the running program")?;
    let mut hasher = blake3::Hasher::new();
    let read = std::fs::File::open(&path).and_then(|file| hasher.update_reader(file).map(drop));
    read.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Builds images and seeds.
pub fn run(args: &Args, ui: &Ui) -> anyhow::Result<()> {
    let (start, began) = (Instant::now(), cache::now());
    let limit = cache_limit(std::env::var("KILN_CACHE_LIMIT").ok().as_deref())?;
    let mut site = Site::open(&args.file, ui)?;
    site.found(args.found.as_deref())?;
    // A name that is not there must not cost a download first.
    site.nodes(&args.nodes)?;
    let output = Output::open(&args.output, &site.node_names())?;
    let cache = site::cache()?;
    let mut lock = match site.read_lock()? {
        Some(lock) => lock,
        None => {
            ui.say(format!("no {} yet: making it", site.lock_path.display()));
            let lock = site.make_lock(&cache, None, ui)?;
            lock.write(&site.lock_path)?;
            site.take_keys(&lock);
            lock
        }
    };
    if let Some(warning) = lock.stands_still() {
        ui.warn(warning);
    }
    if let Some(date) = source_date_epoch()? {
        lock.source_date = date;
    }
    let mut prepared = Prepared::new((&site, ui), &lock, &args.nodes)?;
    prepared.say_founding(&site, ui);
    if prepared.gathered.seeds.iter().any(Seed::is_private)
        && let Some(warning) = output.open_to_all()?
    {
        ui.warn(warning);
    }
    let forms = forms(&args.format);
    if !forms.is_empty() {
        for node in &mut prepared.gathered.nodes {
            node.inputs.insert("forms".into(), format!("{forms:?}"));
        }
    }
    let plan = prepared.plan(&cache, output.folder(), args.fresh)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let work = Work {
        site: &site,
        lock: &lock,
        prepared: &prepared,
        forms: &forms,
        output: &output,
        threads: args.threads.map_or(cores, usize::from),
        fresh: args.fresh,
        ui,
    };
    let cache = if args.fresh { cache.with_check(Check::Digest) } else { cache };
    let (made, mut failed) = work.roots(&plan, &cache);
    // Before the images are written, so that they have the room.
    let built = plan.roots.iter().any(|root| root.needed);
    let trimmed = if built { cache.trim(limit, began)? } else { Trimmed::default() };
    if trimmed.files > 0 {
        let (removed, kept) = (size(trimmed.removed), size(trimmed.kept));
        ui.detail(format!(
            "cache: removed {removed} that were unused for longest, {kept} of built files stay"
        ));
    }
    let (built, stopped) = work.nodes(&plan, &made);
    // What is whole is of use, whatever became of the rest; of a build that came to nothing there is nothing to tell.
    let nothing = built.is_empty() && (stopped.is_some() || !failed.is_empty());
    let manifest = work.manifest(built);
    let mut json = serde_json::to_vec_pretty(&manifest).context(MANIFEST)?;
    json.push(b'\n');
    let settled = output.settle((!nothing).then_some(&json[..]));
    let settled = settled.map_err(anyhow::Error::from).and_then(|()| Ok(cache.settle()?));
    // One root that can't be had does not stop the nodes of the others.
    if made.is_empty()
        && let Some(last) = failed.pop()
    {
        failed.iter().for_each(|error| ui.error(error));
        return Err(last);
    }
    if let Some(error) = stopped {
        return Err(error);
    }
    settled?;
    for node in
        plan.nodes.iter().filter(|node| node.action == Action::Keep || made.contains_key(&node.node.root))
    {
        let image = output.folder().join(&node.node.name).join("disk.img");
        let word = if node.action == Action::Keep { "up to date" } else { "built" };
        ui.detail(format!("{}: {}", node.node.name, plan_verb::why(node)));
        if !ui.json() {
            let bytes =
                manifest.files.get(&format!("{}/disk.img", node.node.name)).map_or(0, |file| file.size);
            ui.result(format!("{word}  {}  {}", image.display(), size(bytes)))?;
        }
    }
    if ui.json() {
        ui.print_json(&manifest)?;
    }
    // What failed is the last word; of several the last one.
    let last = failed.pop();
    failed.iter().for_each(|error| ui.error(error));
    match last {
        Some(error) => Err(error),
        None => {
            ui.say(format!("done in {:.1} s", start.elapsed().as_secs_f64()));
            Ok(())
        }
    }
}

/// `SOURCE_DATE_EPOCH` (reproducible-builds.org), when it is set.
pub(super) fn source_date_epoch() -> anyhow::Result<Option<i64>> {
    let Ok(text) = std::env::var("SOURCE_DATE_EPOCH") else { return Ok(None) };
    let date = text.parse::<i64>().ok().filter(|date| (0..=0x7fff_ffff).contains(date));
    match date {
        Some(date) => Ok(Some(date)),
        None => bail!("SOURCE_DATE_EPOCH is {text:?}: seconds since 1970 are wanted, up to 2147483647"),
    }
}

/// `KILN_CACHE_LIMIT` in bytes, and what is taken when it is not set.
fn cache_limit(text: Option<&str>) -> anyhow::Result<u64> {
    let Some(text) = text else { return Ok(cache::LIMIT) };
    match cluster::parse_size(text) {
        Ok(limit) => Ok(limit),
        Err(why) => bail!("KILN_CACHE_LIMIT is {text:?}: {why}; a size such as 20GiB is wanted"),
    }
}

fn forms(formats: &[ImageFormat]) -> Vec<Form> {
    let mut forms: Vec<Form> = formats
        .iter()
        .filter_map(|format| match format {
            ImageFormat::Raw => None,
            ImageFormat::Zst => Some(Form::Zstd),
            ImageFormat::Qcow2 => Some(Form::Qcow2),
        })
        .collect();
    forms.sort_unstable();
    forms.dedup();
    forms
}

struct Work<'a> {
    site: &'a Site,
    lock: &'a Lock,
    prepared: &'a Prepared<'a>,
    forms: &'a [Form],
    output: &'a Output,
    threads: usize,
    fresh: bool,
    ui: &'a Ui,
}

impl Work<'_> {
    /// The roots that the plan needs, by index, and what went wrong with the others.
    fn roots(&self, plan: &Plan, cache: &Cache) -> (BTreeMap<usize, roots::Root>, Vec<anyhow::Error>) {
        let (mut made, mut failed) = (BTreeMap::new(), Vec::new());
        for (index, root) in plan.roots.iter().enumerate().filter(|(_, root)| root.needed) {
            if let Some(cached) = root.reuse.then(|| roots::cached(cache, &root.key)).flatten() {
                made.insert(index, cached);
                continue;
            }
            match self.root(plan, index, cache) {
                Ok(root) => drop(made.insert(index, root)),
                Err(error) => {
                    let nodes = plan
                        .nodes
                        .iter()
                        .filter(|node| node.node.root == index && node.action != Action::Keep);
                    let names: Vec<&str> = nodes.map(|node| node.node.name.as_str()).collect();
                    let word = if names.len() == 1 { "node" } else { "nodes" };
                    let were = if names.len() == 1 { "was" } else { "were" };
                    failed.push(error.context(format!("{word} {} {were} not built", names.join(", "))));
                }
            }
        }
        (made, failed)
    }

    /// A root that is not there yet.
    fn root(&self, plan: &Plan, index: usize, cache: &Cache) -> anyhow::Result<roots::Root> {
        let root = &plan.roots[index];
        let drawing = Drawing::new(self.ui, "packages");
        // The packages of this root alone: a build of one node fetches nothing for the others.
        let lock = Lock { roots: vec![root.root.packages.clone()], ..self.lock.clone() };
        locking::fetch_packages(&lock, &self.site.mirrors()?, cache, &drawing)?;
        drop(drawing);
        if !root.root.artefacts.is_empty() {
            let drawing = Drawing::new(self.ui, "artefacts");
            artefacts::fetch(&root.root.artefacts, &self.site.artefact_places()?, cache, &drawing)?;
        }
        let spinner = self.ui.spinner(&format!("root {}", root.root.name));
        let start = Instant::now();
        let step = |text: &str| {
            spinner.message(format!("root {}: {text}", root.root.name));
            self.ui.detail(format!("{:6.2} s  {text}", start.elapsed().as_secs_f64()));
        };
        let making = roots::Making {
            cluster: &self.site.cluster,
            lock: self.lock,
            overlays: &self.prepared.gathered.overlays[index],
            enable: &self.prepared.gathered.enable[index],
            sector_size: self.prepared.gathered.sector_sizes[index],
            programs: &self.prepared.gathered.programs[index],
            threads: self.threads,
            fresh: self.fresh,
            step: &step,
        };
        // Fetching has just looked at every byte of the packages where that was asked for.
        let root = roots::make(root, &making, &cache.clone().with_check(Check::Size))?;
        let facts = &root.facts;
        spinner.finish(format!(
            "{} packages, {} entries, root {}, kernel image {} in {:.1} s",
            plan.roots[index].root.packages.packages.len(),
            facts.entries,
            size(facts.root_bytes),
            size(facts.boot.kernel_image_bytes),
            start.elapsed().as_secs_f64()
        ));
        Ok(root)
    }

    /// Builds the nodes that the plan builds, several at a time: the files that are whole, and why it stopped.
    fn nodes(
        &self,
        plan: &Plan,
        made: &BTreeMap<usize, roots::Root>,
    ) -> (BTreeMap<String, File>, Option<anyhow::Error>) {
        let wanted: Vec<usize> =
            (0..plan.nodes.len()).filter(|at| plan.nodes[*at].action != Action::Keep).collect();
        let spinner = self.ui.spinner(&format!("{} images", wanted.len()));
        let next = AtomicUsize::new(0);
        let (files, failed) = (Mutex::new(BTreeMap::new()), Mutex::new(None));
        let work = || {
            while let Some(at) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                let node = &plan.nodes[*at].node;
                let Some(root) = made.get(&node.root) else { continue };
                let building = Building {
                    cluster: &self.site.cluster,
                    node: self.prepared.nodes[*at],
                    lock: self.lock,
                    packages: &plan.roots[node.root].root.packages.packages,
                    artefacts: &plan.roots[node.root].root.artefacts,
                    root,
                    seed: &self.prepared.gathered.seeds[*at],
                    inputs: &node.inputs,
                    vault: &*self.prepared.vault,
                    forms: self.forms,
                    threads: self.threads,
                };
                match nodes::build(&building, self.output) {
                    Ok(built) => files.lock().unwrap_or_else(PoisonError::into_inner).extend(built),
                    Err(error) => {
                        next.store(wanted.len(), Ordering::Relaxed);
                        *failed.lock().unwrap_or_else(PoisonError::into_inner) =
                            Some((node.name.clone(), error));
                    }
                }
            }
        };
        let threads = self.threads.min(wanted.len());
        std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
        drop(spinner);
        let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        let stopped = failed
            .map(|(node, error)| anyhow::Error::from(error).context(format!("node {node} was not built")));
        (files.into_inner().unwrap_or_else(PoisonError::into_inner), stopped)
    }

    /// `manifest.json` of all that the folder now holds of this cluster.
    fn manifest(&self, built: BTreeMap<String, File>) -> Manifest {
        let cluster = &self.site.cluster;
        let path = self.output.folder().join(MANIFEST);
        let before: Option<Manifest> =
            std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let mut manifest = Manifest {
            version: VERSION,
            kiln: env!("CARGO_PKG_VERSION").to_owned(),
            cluster: cluster.name.clone(),
            cluster_id: cluster.id,
            source_date: self.lock.source_date,
            files: BTreeMap::new(),
        };
        // Nodes that were kept, or not named this time, are still there.
        let rebuilt: Vec<String> =
            built.keys().filter_map(|path| path.split('/').next()).map(|n| format!("{n}/")).collect();
        let before = before.filter(|old| old.cluster_id == cluster.id);
        let plain = before.as_ref().is_some_and(|old| old.version < VERSION);
        for (path, file) in before.into_iter().flat_map(|old| old.files) {
            let of_cluster = cluster.nodes.iter().any(|node| path.starts_with(&format!("{}/", node.name)));
            let replaced = rebuilt.iter().any(|node| path.starts_with(node));
            let Ok(meta) = std::fs::metadata(self.output.folder().join(&path)) else { continue };
            if of_cluster && !replaced {
                let file = if plain { without_guesses(file, meta.mode()) } else { file };
                manifest.files.insert(path, file);
            }
        }
        manifest.files.extend(built);
        manifest
    }
}

/// What version 1 told of a file with secrets goes.
fn without_guesses(file: File, mode: u32) -> File {
    let digest = if mode & 0o077 == 0 { Digest { sha256: None, ..file.digest } } else { file.digest };
    File { digest, ..file }
}

#[cfg(test)]
mod tests {
    use super::{cache, cache_limit};

    #[test]
    fn the_limit_of_the_cache() {
        assert_eq!(cache_limit(None).unwrap(), cache::LIMIT);
        assert_eq!(cache_limit(Some("20GiB")).unwrap(), 20 << 30);
        assert_eq!(
            cache_limit(Some("20")).unwrap_err().to_string(),
            "KILN_CACHE_LIMIT is \"20\": its unit is missing; a size such as 20GiB is wanted"
        );
    }
}
