//! What `lock`, `plan` and `build` share: the cluster, its lock, the cache and the mirrors.

use super::{FileArg, founding};
use crate::archive::resolve;
use crate::cache::Cache;
use crate::cluster::{Architecture, Cluster, FILE_NAME, Firmware, Location, Mirror, Node};
use crate::diag::{Progress, Ui};
use crate::execute::artefacts::{self, Locked, Origin};
use crate::execute::inputs;
use crate::execute::locking::{self, Base, HOST_KEYRINGS, LockRequest, RootRequest};
use crate::execute::ssh_keys::{self, PUBLISHERS};
use crate::execute::vault::Keeper;
use crate::fetch;
use crate::fetch::artefacts::{Places, VARIABLE};
use crate::fetch::mirrors::{Mirrors, Sources};
use crate::lock::Lock;
use crate::plan::upgrade;
use crate::render::{self, Vault};
use crate::secrets::{Identities, Place, Secrets};
use anyhow::{Context as _, anyhow, bail};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Name of the lock, beside the cluster file.
pub(super) const LOCK_NAME: &str = "kiln.lock";
/// The host's apt configuration.
const APT: &str = "/etc/apt";

/// A cluster and where its things are.
#[derive(Debug)]
pub struct Site {
    /// The cluster.
    pub cluster: Cluster,
    /// Its lock's path.
    pub lock_path: PathBuf,
    /// The server that is to begin the cluster anew.
    found: bool,
    /// Mirrors that stand still are taken.
    allow_expired: bool,
    folder: PathBuf,
    /// Where keys of users are published.
    sources: BTreeSet<String>,
}

impl Site {
    /// The cluster that `file` means.
    pub fn open(file: &FileArg, ui: &Ui) -> anyhow::Result<Self> {
        let loaded = file.load(ui)?;
        let path = file.file.as_deref().unwrap_or(Path::new(FILE_NAME));
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let sources = loaded.cluster.key_sources();
        let mut site = Self {
            cluster: loaded.cluster,
            lock_path: folder.join(LOCK_NAME),
            found: false,
            allow_expired: false,
            folder,
            sources,
        };
        if !site.sources.is_empty()
            && let Ok(Some(lock)) = site.read_lock()
        {
            site.take_keys(&lock);
        }
        Ok(site)
    }

    /// `--found NODE`: the cluster begins anew, and the first server's seed says so.
    pub fn found(&mut self, node: Option<&str>) -> anyhow::Result<()> {
        let Some(node) = node else { return Ok(()) };
        self.nodes(&[node.to_owned()])?;
        match founding::founder(&self.cluster) {
            Some(first) if first.name == node => self.found = true,
            Some(first) => bail!(
                "{node} can't begin the cluster: the first server of the cluster file is {0}, so `--found {0}`",
                first.name
            ),
            None => bail!(
                "{node} can't begin a cluster: no server of this cluster file keeps a datastore of its own"
            ),
        }
        Ok(())
    }

    /// `--allow-expired`: releases of mirrors that stand still are taken.
    pub fn allow_expired(&mut self, allowed: bool) {
        self.allow_expired = allowed;
    }

    /// What these nodes' seeds say about the beginning of the cluster, in words for who builds them.
    pub fn say_founding(&self, nodes: &[&Node], vault: &Arc<dyn Vault>, ui: &Ui) {
        let first =
            founding::founder(&self.cluster).filter(|first| nodes.iter().any(|node| node.name == first.name));
        let Some(first) = first else { return };
        // Without secrets there is no seed either, and that is said elsewhere.
        match vault.public("founding", &first.name).map(|word| word.is_some_and(|word| word == "true")) {
            Ok(true) => ui.say(founding::has_the_word(&self.cluster, first)),
            Ok(false) => ui.say(founding::lacks_the_word(first)),
            Err(_) => {}
        }
        let then = vault.public("founded_servers", &first.name).ok().flatten();
        let then = then.and_then(|text| text.parse().ok()).unwrap_or(0);
        if let Some(turns) = founding::turns(&self.cluster, then) {
            ui.say(turns);
        }
    }

    /// Puts the keys of a lock in the place of where they are published.
    pub fn take_keys(&mut self, lock: &Lock) {
        self.cluster.take_keys(&lock.ssh_keys);
    }

    /// The nodes of these names, in the order of the cluster file; all when there are none.
    pub fn nodes(&self, names: &[String]) -> anyhow::Result<Vec<&Node>> {
        Ok(self.cluster.select(names)?)
    }

    /// The names of all nodes: those whose folders a build may write to.
    pub fn node_names(&self) -> Vec<&str> {
        self.cluster.nodes.iter().map(|node| node.name.as_str()).collect()
    }

    /// The lock beside the cluster file; none when there is none.
    pub fn read_lock(&self) -> anyhow::Result<Option<Lock>> {
        Ok(Lock::read(&self.lock_path)?)
    }

    /// Resolves the packages and artefacts of all nodes anew; releases older than those of `previous` are refused.
    pub fn make_lock(&self, cache: &Cache, previous: Option<&Lock>, ui: &Ui) -> anyhow::Result<Lock> {
        // What a template gets wrong must not cost the package lists first.
        let mut wanted = Vec::new();
        for node in &self.cluster.nodes {
            wanted.extend(render::artefacts(&self.cluster, node)?);
        }
        let charts = inputs::charts(&self.cluster);
        if let Some(previous) = previous {
            upgrade::steps(&previous.charts, &charts)?;
        }
        let mut faults = self.cluster.nodes.iter().flat_map(refusals).collect::<Vec<_>>();
        if let Some(last) = faults.pop() {
            faults.iter().for_each(|error| ui.error(error));
            return Err(last);
        }
        let ssh_keys = ssh_keys::fetch(&self.sources, &PUBLISHERS, (cache, &Drawing::new(ui, "SSH keys")))?;
        let mut lock = Lock { charts, ssh_keys, ..self.lock_packages(cache, previous, ui)? };
        if wanted.is_empty() {
            return Ok(lock);
        }
        let places = self.artefact_places()?;
        let request = artefacts::Request { wanted: &wanted, places: &places, previous };
        for locked in artefacts::lock(&request, cache, &Drawing::new(ui, "artefacts"))? {
            let Locked { artefact, origin } = locked;
            let name = format!("{} ({})", artefact.name, artefact.architecture);
            match origin {
                Origin::Sums(place) => ui.detail(format!("{name}: its digest is from {place}")),
                Origin::Before => ui.detail(format!("{name}: its digest is that of the lock before")),
                Origin::Folder(place) => ui.say(format!("{name}: locked as it is in {place}")),
                Origin::FirstUse(place) => ui.say(format!(
                    "{name}: nothing is published to check it by; locked as it came from {place}, trusted on first use"
                )),
            }
            lock.artefacts.push(artefact);
        }
        Ok(lock)
    }

    fn lock_packages(&self, cache: &Cache, previous: Option<&Lock>, ui: &Ui) -> anyhow::Result<Lock> {
        let roots: BTreeSet<(String, Vec<String>)> = self
            .cluster
            .nodes
            .iter()
            .map(|node| (node.architecture.as_str().to_owned(), inputs::request(&self.cluster, node)))
            .collect();
        let roots: Vec<RootRequest> = roots
            .into_iter()
            .map(|(architecture, names)| RootRequest {
                architecture,
                names,
                exclude: vec![],
                base: Base::Essential,
            })
            .collect();
        let components: &[&str] = match self.cluster.base.firmware {
            Firmware::None => &["main"],
            Firmware::Auto | Firmware::Packages(_) => &["main", "non-free-firmware"],
        };
        let host: Vec<&Path> = HOST_KEYRINGS.iter().map(Path::new).collect();
        let mirrors = self.mirrors()?;
        let request = LockRequest {
            allow_expired: self.allow_expired,
            suite: self.cluster.base.suite.as_str(),
            components,
            roots: &roots,
            mirrors: &mirrors,
            keyring: self.cluster.base.keyring.as_deref(),
            previous,
            host_keyrings: &host,
        };
        let drawing = Drawing::new(ui, "package lists");
        // The one place that asks what time it is: a release that has expired must not be locked. Nothing that
        // is built depends on it.
        #[expect(
            clippy::disallowed_methods,
            reason = "compared with the dates of releases, and nothing else"
        )]
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let locked = locking::lock(&request, cache, &drawing, now);
        drop(drawing);
        let mut failed = match locked {
            Err(locking::Error::Roots(failed)) => failed,
            other => return Ok(other?),
        };
        let named = |(at, error): (usize, resolve::Error)| {
            let of = |node: &&Node| inputs::request(&self.cluster, node) == roots[at].names;
            let names: Vec<&str> =
                self.cluster.nodes.iter().filter(of).map(|node| node.name.as_str()).collect();
            let word = if names.len() == 1 { "node" } else { "nodes" };
            anyhow!("{word} {}: {error}", names.join(", "))
        };
        let last = failed.pop().map(named);
        failed.into_iter().map(named).for_each(|error| ui.error(&error));
        Err(last.unwrap_or_else(|| anyhow!("no root could be locked")))
    }

    /// What gives out the secrets that the cluster file refers to.
    pub fn vault(&self, ui: &Ui) -> anyhow::Result<Arc<dyn Vault>> {
        let identities = Identities::find(|name| std::env::var_os(name))?;
        let place = Place::of(&self.cluster.secrets, &self.folder);
        let (id, name) = (self.cluster.id, &self.cluster.name);
        let own = match Secrets::open(&place, &identities) {
            Ok(secrets) => {
                secrets.check_cluster(id, name, &place)?;
                if let Some(warning) = secrets.check_validity()? {
                    ui.warn(warning);
                }
                Ok(secrets)
            }
            // A cluster that asks for none needs none.
            Err(error) => Err(error.to_string()),
        };
        Ok(Arc::new(Keeper::new(own, identities).with_founding(self.found)))
    }

    /// Where artefacts come from before they are asked for where they are published.
    pub fn artefact_places(&self) -> anyhow::Result<Places> {
        let environment = std::env::var(VARIABLE).ok();
        Ok(Places::gather(environment.as_deref(), &self.cluster.artefacts)?)
    }

    /// Where packages come from: what the user names, the host's apt sources, the public mirrors.
    pub fn mirrors(&self) -> anyhow::Result<Mirrors> {
        let environment = std::env::var("KILN_MIRROR").ok();
        let named: io::Result<Vec<String>> = self.cluster.base.mirrors.iter().map(named).collect();
        let named = named.context("cannot tell the current folder")?;
        let sources = Sources {
            environment: environment.as_deref(),
            named: &named,
            base: &self.folder,
            apt: Some(Path::new(APT)),
            public: true,
        };
        Ok(Mirrors::gather(sources)?)
    }
}

/// What no image can be for a node.
fn refusals(node: &Node) -> Vec<anyhow::Error> {
    let architecture = (node.architecture != Architecture::Amd64).then(|| {
        anyhow!(
            "node {}: this version of kiln builds amd64 images only, not {}",
            node.name,
            node.architecture
        )
    });
    architecture.into_iter().chain(render::check_user_data(node).err().map(Into::into)).collect()
}

/// A mirror of the cluster file as `KILN_MIRROR` would have it. Its folder counts from the cluster file's already.
fn named(mirror: &Mirror) -> io::Result<String> {
    let place = match &mirror.location {
        Location::Url(url) => url.clone(),
        Location::Folder(folder) => std::path::absolute(folder)?.display().to_string(),
    };
    Ok(mirror.archive.as_ref().map_or(place.clone(), |archive| format!("{archive}={place}")))
}

/// The cache that the environment names.
pub fn cache() -> anyhow::Result<Cache> {
    let root = Cache::place(|name| std::env::var_os(name).map(PathBuf::from))?;
    Ok(Cache::open(&root)?)
}

/// A download on the screen.
pub struct Drawing<'a> {
    ui: &'a Ui,
    what: &'static str,
    bar: Mutex<Option<Progress<'a>>>,
}

impl<'a> Drawing<'a> {
    /// Draws downloads of `what`.
    pub fn new(ui: &'a Ui, what: &'static str) -> Self {
        Self { ui, what, bar: Mutex::new(None) }
    }
}

impl fetch::Progress for Drawing<'_> {
    fn begin(&self, files: usize, bytes: u64) {
        let files_word = if files == 1 { "file" } else { "files" };
        self.ui.say(format!("fetching {}: {files} {files_word}, {}", self.what, size(bytes)));
        *self.bar.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.ui.progress(self.what, bytes));
    }
    fn advance(&self, bytes: u64) {
        if let Some(bar) = self.bar.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            bar.advance(bytes);
        }
    }
    fn message(&self, text: &str) {
        self.ui.detail(text);
    }
}

/// Bytes for people: `431.2 MiB`.
#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let mut unit = 0;
    let mut value = bytes as f64;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::named;
    use crate::cluster::{Location, Mirror};
    use std::path::PathBuf;

    #[test]
    fn a_folder_is_named_from_the_root_on() {
        let here = std::env::current_dir().unwrap();
        let folder = Location::Folder(PathBuf::from("sub/mirror"));
        let mirror = Mirror { archive: Some("debian".to_owned()), location: folder };
        assert_eq!(named(&mirror).unwrap(), format!("debian={}/sub/mirror", here.display()));
    }
}
