//! All packages that one architecture can choose from, by name and by what they provide.

use super::index::{MultiArch, Package, Priority};
use super::relation::{Atom, parse};
use super::version::Version;
use std::cmp::Reverse;
use std::collections::HashMap;

/// A package of a [`Universe`].
pub(super) type Id = usize;

/// What packages provide: the package and the version that it provides, if it gives one.
type Provided<'a> = Vec<(Id, Option<Version<'a>>)>;

/// The packages of several suites, for one architecture.
#[derive(Debug, Default)]
pub struct Universe<'a> {
    architecture: &'a str,
    suites: Vec<&'a str>,
    packages: Vec<(Package<'a>, usize)>,
    /// Versions of a name, the newest first; of equal ones the one of the earlier suite.
    by_name: HashMap<&'a str, Vec<Id>>,
    provided: HashMap<&'a str, Provided<'a>>,
}

impl<'a> Universe<'a> {
    /// Joins indices of suites, given by name; packages of other architectures are left out. Where two
    /// suites have the same version, the earlier suite's counts.
    pub fn new(architecture: &'a str, suites: Vec<(&'a str, Vec<Package<'a>>)>) -> Self {
        let mut universe = Self { architecture, ..Self::default() };
        for (suite, packages) in suites {
            let at = universe.suites.len();
            universe.suites.push(suite);
            let fits = |package: &Package<'a>| [architecture, "all"].contains(&package.architecture);
            universe.packages.extend(packages.into_iter().filter(fits).map(|package| (package, at)));
        }
        for (id, (package, _)) in universe.packages.iter().enumerate() {
            universe.by_name.entry(package.name).or_default().push(id);
            // A package whose Provides do not parse provides nothing; that is told when it is chosen.
            for atom in parse(package.provides).unwrap_or_default().iter().flat_map(|clause| &clause.0) {
                let version = atom.version.map(|(_, version)| version);
                if atom.qualifier.is_none_or(|qualifier| qualifier == architecture) {
                    universe.provided.entry(atom.name).or_default().push((id, version));
                }
            }
        }
        let packages = &universe.packages;
        for ids in universe.by_name.values_mut().filter(|ids| ids.len() > 1) {
            ids.sort_by_key(|id| (Reverse(packages[*id].0.version), packages[*id].1));
            ids.dedup_by_key(|id| packages[*id].0.version);
        }
        let by_name = &universe.by_name;
        for providers in universe.provided.values_mut() {
            providers.retain(|(id, _)| by_name[packages[*id].0.name].contains(id));
            providers.sort_by_key(|(id, _)| {
                let package = &packages[*id].0;
                (package.priority, package.name, Reverse(package.version))
            });
        }
        universe
    }

    /// Debian's name of the architecture.
    pub fn architecture(&self) -> &'a str {
        self.architecture
    }

    /// The suites' names.
    pub fn suites(&self) -> &[&'a str] {
        &self.suites
    }

    /// Number of packages, every version counted.
    pub fn len(&self) -> usize {
        self.packages.len()
    }

    /// True when there is no package.
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty()
    }

    /// The names of the packages that say `Essential: yes` in their newest version, sorted: what every other
    /// package may use without depending on it.
    pub fn essential(&self) -> Vec<&'a str> {
        self.newest_that(|package| package.essential)
    }

    /// The names of the packages of priority `required` (newest version), sorted.
    pub fn required(&self) -> Vec<&'a str> {
        self.newest_that(|package| package.priority == Priority::Required)
    }

    /// The newest version of a package.
    pub fn newest(&self, name: &str) -> Option<&Package<'a>> {
        self.versions(name).first().map(|id| self.package(*id))
    }

    fn newest_that(&self, holds: impl Fn(&Package<'a>) -> bool) -> Vec<&'a str> {
        let newest =
            self.by_name.iter().filter(|(_, ids)| ids.first().is_some_and(|id| holds(self.package(*id))));
        let mut names: Vec<_> = newest.map(|(name, _)| *name).collect();
        names.sort_unstable();
        names
    }

    pub(super) fn package(&self, id: Id) -> &Package<'a> {
        &self.packages[id].0
    }

    /// Which of the suites that were given a package is from.
    pub(super) fn suite_of(&self, id: Id) -> usize {
        self.packages[id].1
    }

    pub(super) fn versions(&self, name: &str) -> &[Id] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    pub(super) fn providers(&self, name: &str) -> &[(Id, Option<Version<'a>>)] {
        self.provided.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether a package is what an atom names, by its own name or by what it provides.
    pub(super) fn satisfies(&self, id: Id, atom: &Atom<'_>) -> bool {
        let package = self.package(id);
        if !self.qualified(package, atom) {
            return false;
        }
        if package.name == atom.name && atom.admits(package.version) {
            return true;
        }
        // Policy §7.5: only a versioned Provides answers a versioned relationship.
        let answers = |version: Option<Version<'_>>| match version {
            Some(version) => atom.admits(version),
            None => atom.version.is_none(),
        };
        self.providers(atom.name).iter().any(|(provider, version)| *provider == id && answers(*version))
    }

    /// All packages that an atom names: real ones, newest first, then those that provide it.
    pub(super) fn matches(&self, atom: &Atom<'_>) -> Vec<Id> {
        let real = self.versions(atom.name).iter().copied();
        let provide = self.providers(atom.name).iter().map(|(id, _)| *id);
        let mut ids = Vec::new();
        for id in real.chain(provide) {
            if !ids.contains(&id) && self.satisfies(id, atom) {
                ids.push(id);
            }
        }
        ids
    }

    /// Names like `name`, the nearest first, at most three.
    pub fn near(&self, name: &str) -> Vec<&'a str> {
        let reach = (name.len() / 3).clamp(1, 4);
        let distance = |known: &str| strsim::damerau_levenshtein(name, known);
        let close = self.by_name.keys().filter(|known| known.len().abs_diff(name.len()) <= reach);
        let mut near: Vec<_> =
            close.map(|known| (distance(known), *known)).filter(|(distance, _)| *distance <= reach).collect();
        near.sort_unstable();
        near.truncate(3);
        near.into_iter().map(|(_, known)| known).collect()
    }

    /// With one architecture, `name:any` wants a package that is `Multi-Arch: allowed`, and the other
    /// qualifiers want this architecture.
    fn qualified(&self, package: &Package<'_>, atom: &Atom<'_>) -> bool {
        match atom.qualifier {
            None | Some("native") => true,
            Some("any") => package.multi_arch == MultiArch::Allowed,
            Some(architecture) => architecture == self.architecture,
        }
    }
}
