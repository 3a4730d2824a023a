//! From addresses to digests.

use super::{Error, label, sums};
use crate::cache::Cache;
use crate::digest::{Hashing, Sha256};
use crate::fetch::Progress;
use crate::fetch::artefacts::{Places, copies};
use crate::fetch::download::{self, Fetcher, Tried, Wanted};
use crate::fetch::http::Patience;
use crate::fetch::mirrors::Location;
use crate::lock::{self, Lock, Url};
use crate::render;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// The most bytes of a file of digests that are read.
const MOST_SUMS: u64 = 4 << 20;

/// What artefacts are locked from.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What the nodes of the cluster want.
    pub wanted: &'a [render::Artefact],
    /// Where copies are.
    pub places: &'a Places,
    /// The lock that there is.
    pub previous: Option<&'a Lock>,
}

/// A locked artefact, and whose word its digest is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locked {
    /// The artefact.
    pub artefact: lock::Artefact,
    /// Where its digest comes from.
    pub origin: Origin,
}

/// Whose word a digest is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file of digests at this place.
    Sums(String),
    /// A file of a folder that the user has named, and no digests there.
    Folder(String),
    /// Nobody's: it was fetched from this place, and what came is trusted from now on.
    FirstUse(String),
    /// The same, when the lock that there is was made.
    Before,
}

/// Locks what is wanted, each file once, sorted by name, architecture and address. A file of digests is looked for at
/// each place in turn, and a folder that has the artefact and no digests is taken by its word; then digests are asked for
/// where they are published. What nobody publishes digests of is fetched, unless the previous lock has it.
pub fn lock(request: &Request<'_>, cache: &Cache, progress: &dyn Progress) -> Result<Vec<Locked>, Error> {
    let fetcher = Fetcher::new(cache, progress, Patience::default());
    let mut locked: BTreeMap<(&str, &str, &str), Locked> = BTreeMap::new();
    for wanted in request.wanted {
        let key = (wanted.name.as_str(), wanted.architecture, wanted.url.as_str());
        if let Entry::Vacant(place) = locked.entry(key) {
            place.insert(Locking { wanted, request, cache, fetcher: &fetcher }.lock()?);
        }
    }
    Ok(locked.into_values().collect())
}

struct Locking<'a> {
    wanted: &'a render::Artefact,
    request: &'a Request<'a>,
    cache: &'a Cache,
    fetcher: &'a Fetcher<'a>,
}

/// A digest, and bytes where they have been counted on the way.
struct Found {
    sha256: Sha256,
    size: Option<u64>,
    origin: Origin,
}

impl Locking<'_> {
    fn name(&self) -> String {
        label(&self.wanted.name, self.wanted.architecture)
    }

    fn address<'u>(&self, text: &'u str) -> Result<Url<'u>, Error> {
        Url::parse(text).map_err(|reason| Error::Address { name: self.wanted.name.clone(), reason })
    }

    fn lock(&self) -> Result<Locked, Error> {
        let url = self.address(&self.wanted.url)?;
        let Found { sha256, size, origin } = match &self.wanted.sums {
            Some(sums) => self.by_sums(url, self.address(sums)?)?,
            None => self.by_itself(url)?,
        };
        let size = match size {
            Some(size) => size,
            None => self.size(url, sha256)?,
        };
        let (name, architecture) = (self.wanted.name.clone(), self.wanted.architecture.to_owned());
        let artefact = lock::Artefact { name, architecture, url: self.wanted.url.clone(), size, sha256 };
        Ok(Locked { artefact, origin })
    }

    fn by_sums(&self, url: Url<'_>, sums: Url<'_>) -> Result<Found, Error> {
        let mut tried: Vec<Tried> = Vec::new();
        for place in self.request.places.iter() {
            match self.published(url, &copies(place, sums))? {
                Ok(found) => return Ok(found),
                Err(more) => tried.extend(more),
            }
            // Digests that do not name the file are no word for it.
            let digests = files(place, sums).next().is_some();
            if !digests && let Some(found) = self.in_folder(place, url)? {
                return Ok(found);
            }
        }
        match self.published(url, &[Location::Http(sums.text().to_owned())])? {
            Ok(found) => Ok(found),
            Err(more) => {
                tried.extend(more);
                let name = format!("the digest of {}", self.name());
                Err(download::Error::Nowhere { name, tried }.into())
            }
        }
    }

    /// The digest that the first of these files of digests gives, or what came of asking for them.
    fn published(&self, url: Url<'_>, from: &[Location]) -> Result<Result<Found, Vec<Tried>>, Error> {
        let name = format!("the digest of {}", self.name());
        let file = url.file_name();
        let found = self.fetcher.fresh(&name, (from, MOST_SUMS), |bytes, place| {
            let sha256 = sums::digest(&bytes, &file)?;
            Ok(Found { sha256, size: None, origin: Origin::Sums(place.to_string()) })
        });
        match found {
            Ok(found) => Ok(Ok(found)),
            Err(download::Error::Nowhere { tried, .. }) => Ok(Err(tried)),
            Err(fault) => Err(fault.into()),
        }
    }

    /// The artefact as a folder has it.
    fn in_folder(&self, place: &Location, url: Url<'_>) -> Result<Option<Found>, Error> {
        let Some(file) = files(place, url).next() else { return Ok(None) };
        let (sha256, size) = digest_of(&file)?;
        Ok(Some(Found { sha256, size: Some(size), origin: Origin::Folder(file.display().to_string()) }))
    }

    /// Where nobody publishes a digest.
    fn by_itself(&self, url: Url<'_>) -> Result<Found, Error> {
        for place in self.request.places.iter() {
            if let Some(found) = self.in_folder(place, url)? {
                return Ok(found);
            }
        }
        if let Some(before) = self.before(url) {
            return Ok(Found { sha256: before.sha256, size: Some(before.size), origin: Origin::Before });
        }
        // What comes over plain http is nobody's word at all.
        let secure = |place: &Location| matches!(place, Location::Http(at) if at.starts_with("https://"));
        let mut from = self.request.places.locations(url);
        from.retain(secure);
        let taken = self.fetcher.unpinned(&self.name(), &from)?;
        let origin = Origin::FirstUse(taken.from.to_string());
        Ok(Found { sha256: taken.sha256, size: Some(taken.size), origin })
    }

    fn before(&self, url: Url<'_>) -> Option<&lock::Artefact> {
        let (name, architecture) = (&self.wanted.name, self.wanted.architecture);
        let mut before = self.request.previous?.artefacts.iter();
        before.find(|it| it.name == *name && it.architecture == architecture && it.url == url.text())
    }

    /// Bytes of the file with this digest: of the one in the cache, in the lock before, in a folder; else as a server says,
    /// and where none says it, the file is fetched.
    fn size(&self, url: Url<'_>, sha256: Sha256) -> Result<u64, Error> {
        let length = |path: &Path| {
            let read = |source| Error::Read { path: path.to_owned(), source };
            Ok(std::fs::metadata(path).map_err(read)?.len())
        };
        if let Some(path) = self.cache.get(&sha256, None)? {
            return length(&path);
        }
        if let Some(before) = self.before(url).filter(|before| before.sha256 == sha256) {
            return Ok(before.size);
        }
        for file in self.request.places.iter().flat_map(|place| files(place, url)) {
            match digest_of(&file)? {
                (found, size) if found == sha256 => return Ok(size),
                _ => {}
            }
        }
        let mut from = self.request.places.locations(url);
        from.retain(|place| matches!(place, Location::Http(_)));
        if let Some(size) = self.fetcher.size(&self.name(), &from)? {
            return Ok(size);
        }
        let wanted = Wanted { name: self.name(), from, size: None, sha256 };
        self.fetcher.files(&[wanted])?.first().map_or(Ok(0), |path| length(path))
    }
}

/// The files of a folder that may be that of the address.
fn files(place: &Location, url: Url<'_>) -> impl Iterator<Item = PathBuf> {
    copies(place, url).into_iter().filter_map(|copy| match copy {
        Location::File(file) => Some(file).filter(|file| file.is_file()),
        Location::Http(_) => None,
    })
}

fn digest_of(path: &Path) -> Result<(Sha256, u64), Error> {
    let mut hashing = Hashing::new(io::sink());
    let copied = File::open(path).and_then(|mut file| io::copy(&mut file, &mut hashing));
    copied.map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let (_, sha256, size) = hashing.finish();
    Ok((sha256, size))
}
