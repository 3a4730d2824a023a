//! From names to digests: the suites' indices, the packages that a request needs, and their files.

mod folder;
mod keys;

use crate::archive::index::{self, BadStanza, Package};
use crate::archive::release::{Expected, Listed, Release, show_date};
use crate::archive::resolve::{self, Request};
use crate::archive::universe::Universe;
use crate::cache::{self, Cache};
use crate::digest::Sha256;
use crate::fetch::Progress;
use crate::fetch::download::{self, Fetcher, Wanted};
use crate::fetch::http::Patience;
use crate::fetch::mirrors::{LOCAL, Mirrors};
use crate::lock::{self, Lock, Root, Suite};
use liblzma::read::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The most bytes of an `InRelease` file that are read (trixie's has 140 kB).
const MOST_RELEASE: u64 = 2 << 20;

/// The most bytes that an index may decompress to (trixie's has 53 MB).
const MOST_INDEX: u64 = 128 << 20;

/// Memory that decompressing an index may take: xz's largest preset wants 65 MiB.
const MEMORY: u64 = 80 << 20;

/// Which packages a root has beside what its request names and needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Base {
    /// None.
    Nothing,
    /// Those that are `Essential: yes`.
    #[default]
    Essential,
    /// Those, and those of priority `required`.
    Required,
}

/// A package set that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RootRequest {
    /// Debian's name of the architecture.
    pub architecture: String,
    /// `name` or `name=version`.
    pub names: Vec<String>,
    /// Names that must not be chosen.
    pub exclude: Vec<String>,
    /// What comes with every such root.
    pub base: Base,
}

/// What a lock is made from.
#[derive(Debug, Clone, Copy)]
pub struct LockRequest<'a> {
    /// `trixie`; its `-updates` and `-security` come with it.
    pub suite: &'a str,
    /// `main`, and whatever else of `contrib`, `non-free-firmware`, `non-free` is wanted.
    pub components: &'a [&'a str],
    /// The package sets.
    pub roots: &'a [RootRequest],
    /// Where archives are.
    pub mirrors: &'a Mirrors,
    /// The keyring that the cluster file names; every key of it is trusted.
    pub keyring: Option<&'a Path>,
    /// The lock that there is: a mirror with an older release than it was made from is passed over.
    pub previous: Option<&'a Lock>,
    /// Releases that have expired, or are older than those of the lock that there is, are taken where no mirror has others.
    pub allow_expired: bool,
    /// Keyrings of the host, of which the pinned Debian keys are trusted ([`HOST_KEYRINGS`]).
    pub host_keyrings: &'a [&'a Path],
}

/// Where Debian's package `debian-archive-keyring` puts its keyring.
pub const HOST_KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.pgp", "/usr/share/keyrings/debian-archive-keyring.gpg"];

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be had.
    #[error(transparent)]
    Download(#[from] download::Error),
    /// The cache.
    #[error(transparent)]
    Cache(#[from] cache::Error),
    /// A request has no answer.
    #[error(transparent)]
    Resolve(#[from] resolve::Error),
    /// Roots whose requests have no answer, by their places in the request: all of them.
    #[error("{}", .0.iter().map(|(_, error)| error.to_string()).collect::<Vec<_>>().join("; "))]
    Roots(Vec<(usize, resolve::Error)>),
    /// A keyring that was named, or the archive's own, is not usable.
    #[error("keyring {place}: {reason}")]
    Keyring {
        /// Path or address.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// An index is not what its release says, or does not parse.
    #[error("{index} of {suite}: {reason}")]
    Index {
        /// Suite.
        suite: String,
        /// Path below the suite.
        index: String,
        /// What is wrong.
        reason: String,
    },
    /// The suite has no packages for an architecture.
    #[error("suite {suite} has no {component} packages for {architecture}")]
    NoIndex {
        /// Suite.
        suite: String,
        /// Component.
        component: String,
        /// Architecture.
        architecture: String,
    },
    /// A package of a local folder cannot be read.
    #[error("{}: {reason}", path.display())]
    LocalPackage {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// A suite whose release was taken, or a folder of packages that stands for one.
struct Opened {
    suite: Suite,
    date: i64,
    release: Option<Release>,
}

/// The text of an index, and which of the suites it is of.
struct Text {
    suite: usize,
    architecture: String,
    label: String,
    text: String,
}

/// Makes a lock without artefacts: asks the mirrors for the newest releases and chooses packages. `now` is seconds since the
/// epoch, and is only compared with the releases' dates.
pub fn lock(
    request: &LockRequest<'_>,
    cache: &Cache,
    progress: &dyn Progress,
    now: i64,
) -> Result<Lock, Error> {
    let fetcher = Fetcher::new(cache, progress, Patience::default());
    let (mut suites, mut texts) = (Vec::new(), Vec::new());
    for (at, folder) in request.mirrors.folders.iter().enumerate() {
        let index = folder::index(folder, cache)?;
        let name = if at == 0 { LOCAL.to_owned() } else { format!("{LOCAL}-{}", at + 1) };
        let in_release = Sha256::of(index.text.as_bytes());
        let suite =
            Suite { archive: LOCAL.to_owned(), name, date: show_date(index.date), in_release, expired: None };
        let label = folder.display().to_string();
        texts.push(Text { suite: suites.len(), architecture: String::new(), label, text: index.text });
        suites.push(Opened { suite, date: index.date, release: None });
    }
    if !request.mirrors.folders_only {
        let keyring = keys::keyring(request, &fetcher)?;
        let names = [
            ("debian", request.suite.to_owned()),
            ("debian", format!("{}-updates", request.suite)),
            ("debian-security", format!("{}-security", request.suite)),
        ];
        for (archive, name) in names {
            let expected = Expected { suite: &name, keyring: &keyring, now, expired: false };
            let opened = open_suite(request, &fetcher, cache, (archive, expected))?;
            suites.push(opened);
        }
        texts.extend(index_texts(request, &fetcher, cache, &suites)?);
    }
    let mut universes: BTreeMap<&str, Universe<'_>> = BTreeMap::new();
    for RootRequest { architecture, .. } in request.roots {
        if !universes.contains_key(architecture.as_str()) {
            universes.insert(architecture, universe(architecture, &suites, &texts)?);
        }
    }
    let (mut roots, mut failed) = (Vec::new(), Vec::new());
    for (at, root) in request.roots.iter().enumerate() {
        let Some(universe) = universes.get(root.architecture.as_str()) else { continue };
        match resolve_root(root, universe, &suites) {
            Ok(root) => roots.push(root),
            Err(Error::Resolve(error)) => failed.push((at, error)),
            Err(error) => return Err(error),
        }
    }
    if !failed.is_empty() {
        return Err(Error::Roots(failed));
    }
    drop(universes);
    let source_date = suites.iter().map(|opened| opened.date).max().unwrap_or(0);
    let suites = suites.into_iter().map(|opened| opened.suite).collect();
    Ok(Lock {
        version: lock::VERSION,
        source_date,
        suites,
        roots,
        artefacts: Vec::new(),
        charts: BTreeMap::new(),
        ssh_keys: BTreeMap::new(),
    })
}

/// Fetches every package of a lock that is not in the cache yet and gives the files by digest. With all of
/// them there, no mirror is asked for anything.
pub fn fetch_packages(
    lock: &Lock,
    mirrors: &Mirrors,
    cache: &Cache,
    progress: &dyn Progress,
) -> Result<BTreeMap<Sha256, PathBuf>, Error> {
    let date_of = |archive: &str| {
        let of_archive = lock.suites.iter().filter(|suite| suite.archive == archive);
        let dates = of_archive.filter_map(|suite| suite.date.parse::<jiff::Timestamp>().ok());
        dates.map(|date| date.as_second()).max().unwrap_or(lock.source_date)
    };
    let mut wanted: BTreeMap<Sha256, Wanted> = BTreeMap::new();
    for package in lock.roots.iter().flat_map(|root| &root.packages) {
        wanted.entry(package.sha256).or_insert_with(|| Wanted {
            name: format!("{} {} ({})", package.name, package.version, package.architecture),
            from: mirrors.package_locations(&package.archive, &package.file, date_of(&package.archive)),
            size: Some(package.size),
            sha256: package.sha256,
        });
    }
    let list: Vec<Wanted> = wanted.into_values().collect();
    let paths = Fetcher::new(cache, progress, Patience::default()).files(&list)?;
    Ok(list.iter().map(|file| file.sha256).zip(paths).collect())
}

fn open_suite(
    request: &LockRequest<'_>,
    fetcher: &Fetcher<'_>,
    cache: &Cache,
    (archive, expected): (&str, Expected<'_>),
) -> Result<Opened, Error> {
    let from = request.mirrors.locations(archive, &format!("dists/{}/InRelease", expected.suite));
    let before = request.previous.into_iter().flat_map(|lock| &lock.suites);
    let before = before.filter(|suite| suite.archive == archive && suite.name == expected.suite);
    let before = before.filter_map(|suite| suite.date.parse::<jiff::Timestamp>().ok()).max();
    let name = format!("the release file of {}", expected.suite);
    let take = |bytes: Vec<u8>, expected: Expected<'_>| {
        let release = Release::open(&bytes, expected).map_err(|fault| fault.to_string())?;
        // Without Valid-Until only this tells a mirror that stands still, or is made to, from a quiet suite.
        if let Some(before) = before.filter(|before| before.as_second() > release.date && !expected.expired) {
            let date = show_date(release.date);
            return Err(format!(
                "it is of {date}, and the lock was made from the one of {before}; the mirror is stale; where it is meant to \
                 stand still, `kiln lock --allow-expired` takes it"
            ));
        }
        Ok((release, bytes))
    };
    let mut opened = fetcher.fresh(&name, (&from, MOST_RELEASE), |bytes, _| take(bytes, expected));
    if matches!(opened, Err(download::Error::Nowhere { .. })) && request.allow_expired {
        let expected = Expected { expired: true, ..expected };
        opened = fetcher.fresh(&name, (&from, MOST_RELEASE), |bytes, _| take(bytes, expected));
    }
    let (release, bytes) = opened?;
    cache.insert(&bytes)?;
    let suite = Suite {
        archive: archive.to_owned(),
        name: expected.suite.to_owned(),
        date: show_date(release.date),
        in_release: Sha256::of(&bytes),
        expired: release.valid_until.filter(|until| *until < expected.now).map(show_date),
    };
    Ok(Opened { suite, date: release.date, release: Some(release) })
}

/// An index to be read: its suite, what the release says of the compressed file and of its content.
struct Listing<'a> {
    suite: usize,
    architecture: &'a str,
    path: String,
    content: Option<Listed>,
}

fn index_texts(
    request: &LockRequest<'_>,
    fetcher: &Fetcher<'_>,
    cache: &Cache,
    suites: &[Opened],
) -> Result<Vec<Text>, Error> {
    let architectures: BTreeSet<&str> = request.roots.iter().map(|root| root.architecture.as_str()).collect();
    let (mut listings, mut wanted) = (Vec::new(), Vec::new());
    for (at, opened) in suites.iter().enumerate() {
        let Some(release) = &opened.release else { continue };
        let Suite { archive, name, .. } = &opened.suite;
        for (component, architecture) in request
            .components
            .iter()
            .flat_map(|component| architectures.iter().map(move |arch| (*component, *arch)))
        {
            let plain = format!("{component}/binary-{architecture}/Packages");
            let path = format!("{plain}.xz");
            let Some(listed) = release.files.get(&path) else {
                let (suite, component) = (name.clone(), component.to_owned());
                return Err(Error::NoIndex { suite, component, architecture: architecture.to_owned() });
            };
            let folder = format!("dists/{name}/{component}/binary-{architecture}");
            // By digest first: a mirror that is being updated then still has the one that was signed.
            let mut from =
                request.mirrors.locations(archive, &format!("{folder}/by-hash/SHA256/{}", listed.sha256));
            from.extend(request.mirrors.locations(archive, &format!("dists/{name}/{path}")));
            let label = format!("{path} of {name}");
            wanted.push(Wanted { name: label, from, size: Some(listed.size), sha256: listed.sha256 });
            listings.push(Listing {
                suite: at,
                architecture,
                path,
                content: release.files.get(&plain).copied(),
            });
        }
    }
    let files = fetcher.files(&wanted)?;
    let mut texts = Vec::new();
    std::thread::scope(|scope| {
        let read = |listing: Listing<'_>, file: PathBuf| -> Result<Text, Error> {
            let suite = &suites[listing.suite].suite.name;
            let fault =
                |reason: String| Error::Index { suite: suite.clone(), index: listing.path.clone(), reason };
            let text = read_index(&file, listing.content, cache)?;
            let text = text.map_err(fault)?;
            let label = format!("{} of {suite}", listing.path);
            Ok(Text { suite: listing.suite, architecture: listing.architecture.to_owned(), label, text })
        };
        let running: Vec<_> = listings
            .into_iter()
            .zip(files)
            .map(|(listing, file)| scope.spawn(move || read(listing, file)))
            .collect();
        for reader in running {
            let ended = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            texts.push(ended?);
        }
        Ok(texts)
    })
}

/// The text of a compressed index whose digest was checked when it was fetched; kept decompressed, because
/// that takes longer than all else that a lock does.
fn read_index(file: &Path, content: Option<Listed>, cache: &Cache) -> Result<Result<String, String>, Error> {
    if let Some(kept) = content.and_then(|content| cache.index(&content.sha256, content.size)) {
        return Ok(String::from_utf8(kept).map_err(|fault| fault.to_string()));
    }
    let most = content.map_or(MOST_INDEX, |content| content.size.min(MOST_INDEX));
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).map_err(|fault| cache::Error::io("read", file, fault))?;
    let read = unxz(opened).and_then(|index| index.take(most.saturating_add(1)).read_to_end(&mut bytes));
    if let Err(fault) = read {
        return Ok(Err(format!("it does not decompress: {fault}")));
    }
    if bytes.len() as u64 > most {
        return Ok(Err(format!("it decompresses to more than {most} bytes")));
    }
    if let Some(content) = content {
        let got = Sha256::of(&bytes);
        if got != content.sha256 {
            return Ok(Err(format!("decompressed it has SHA-256 {got}, and {} was signed", content.sha256)));
        }
        cache.store_index(&content.sha256, &bytes)?;
    }
    // Indices are UTF-8 (Policy §5.1); what is not is in descriptions, which nobody here reads.
    Ok(Ok(String::from_utf8(bytes)
        .unwrap_or_else(|fault| String::from_utf8_lossy(fault.as_bytes()).into_owned())))
}

/// The content of a file that is packed with xz.
fn unxz<R: std::io::Read>(packed: R) -> std::io::Result<impl std::io::Read> {
    let stream = Stream::new_stream_decoder(MEMORY, CONCATENATED)?;
    Ok(XzDecoder::new_stream(packed, stream))
}

fn universe<'t>(
    architecture: &'t str,
    suites: &'t [Opened],
    texts: &'t [Text],
) -> Result<Universe<'t>, Error> {
    let mut parsed: Vec<(&str, Vec<Package<'_>>)> =
        suites.iter().map(|opened| (opened.suite.name.as_str(), Vec::new())).collect();
    let fits = |text: &&Text| text.architecture.is_empty() || text.architecture == architecture;
    for text in texts.iter().filter(fits) {
        let packages = index::parse(&text.text).map_err(|fault: BadStanza| Error::Index {
            suite: suites[text.suite].suite.name.clone(),
            index: text.label.clone(),
            reason: fault.to_string(),
        })?;
        parsed[text.suite].1.extend(packages);
    }
    Ok(Universe::new(architecture, parsed))
}

fn resolve_root(root: &RootRequest, universe: &Universe<'_>, suites: &[Opened]) -> Result<Root, Error> {
    let mut names: Vec<String> = root.names.clone();
    names.sort();
    names.dedup();
    let asked = names.clone();
    let base = match root.base {
        Base::Nothing => Vec::new(),
        Base::Essential => universe.essential(),
        Base::Required => [universe.essential(), universe.required()].concat(),
    };
    let base: BTreeSet<&str> =
        base.into_iter().filter(|name| !root.exclude.iter().any(|not| not == name)).collect();
    let named = |name: &str| asked.iter().any(|asked| asked.split('=').next() == Some(name));
    names.extend(base.iter().filter(|name| !named(name)).map(|name| (*name).to_owned()));
    let chosen = resolve::resolve(universe, Request { names: &names, exclude: &root.exclude })?;
    let mut packages = Vec::new();
    for choice in chosen {
        let package = choice.package(universe);
        let mut wanted_by = choice.wanted_by;
        if base.contains(package.name) && !named(package.name) {
            wanted_by.iter_mut().filter(|by| *by == "requested").for_each(|by| "base".clone_into(by));
        }
        let bad_digest = |fault: crate::digest::NotADigest| Error::Index {
            suite: suites[choice.suite].suite.name.clone(),
            index: package.name.to_owned(),
            reason: fault.to_string(),
        };
        packages.push(lock::Package {
            name: package.name.to_owned(),
            version: package.version.to_string(),
            architecture: package.architecture.to_owned(),
            archive: suites[choice.suite].suite.archive.clone(),
            file: package.file.to_owned(),
            size: package.size,
            installed_kib: package.installed_kib,
            sha256: package.sha256.parse().map_err(bad_digest)?,
            wanted_by,
        });
    }
    Ok(Root { architecture: root.architecture.clone(), request: asked, packages })
}

#[cfg(test)]
mod tests;
