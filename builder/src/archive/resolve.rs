//! Which packages a request needs: a closed, conflict-free set, chosen the way apt chooses without
//! Recommends.
//!
//! Dependencies with one possible answer are followed first; then the oldest open one is answered by its
//! first alternative that does not conflict. When that ends in a contradiction, the latest choice that the
//! contradiction rests on takes its next alternative (conflict-directed backjumping). The order of everything
//! is fixed by the request and the indices, so the same input gives the same set.

mod explain;
mod solver;

use super::relation::{Atom, Clause, NotARelation, Operator, parse};
use super::universe::{Id, Universe};
use super::version::Version;
use solver::Solver;
use std::collections::{BTreeSet, HashMap};

/// More choices than any real request takes; a bound against indices made to keep the resolver busy.
const MOST_CHOICES: usize = 20_000;

/// What is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request<'r> {
    /// `name` or `name=version`.
    pub names: &'r [String],
    /// Names that must not be chosen.
    pub exclude: &'r [String],
}

/// A package of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    id: Id,
    /// Which of the universe's suites it is from, counted from 0.
    pub suite: usize,
    /// `requested`, then packages of the answer that depend on it, sorted; at most three in all.
    pub wanted_by: Vec<String>,
}

impl Chosen {
    /// The package.
    pub fn package<'u, 'a>(&self, universe: &'u Universe<'a>) -> &'u super::index::Package<'a> {
        universe.package(self.id)
    }
}

/// A name that no package has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What was asked for.
    pub name: String,
    /// Names like it.
    pub near: Vec<String>,
    /// Versions that exist, when a version was asked for.
    pub versions: Vec<String>,
    /// Packages that provide it, when there are several.
    pub providers: Vec<String>,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, near, versions, providers } = self;
        match (providers.is_empty(), versions.is_empty(), near.is_empty()) {
            (false, ..) => {
                write!(f, "{name} is a virtual package; name one that provides it: {}", providers.join(", "))
            }
            (_, false, _) => write!(f, "{name} is not there; there is {}", versions.join(", ")),
            (_, _, false) => write!(f, "there is no package {name}; near it are {}", near.join(", ")),
            (..) => write!(f, "there is no package {name}"),
        }
    }
}

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Names that no package has: all of them.
    #[error("{}, in {suites} ({architecture})", missing.iter().map(Missing::to_string).collect::<Vec<_>>().join("; "))]
    Missing {
        /// The names.
        missing: Vec<Missing>,
        /// Suites that were searched.
        suites: String,
        /// Architecture.
        architecture: String,
    },
    /// What was asked for is no name.
    #[error("{text:?} is no package name, nor `name=version`")]
    BadName {
        /// As it was given.
        text: String,
    },
    /// A dependency that nothing answers, with the chain from the request to it.
    #[error("{what}; {chain}{}", if *others { " (and every other choice fails, too)" } else { "" })]
    Unsatisfiable {
        /// `a 1 depends on b (>= 2), but trixie has b 1.4`.
        what: String,
        /// `a is wanted by c, which was requested`.
        chain: String,
        /// Whether other alternatives were tried.
        others: bool,
    },
    /// A package whose relationships do not parse.
    #[error("package {package}, {field}: {fault}")]
    BadRelation {
        /// Name and version.
        package: String,
        /// `Depends` and its like.
        field: &'static str,
        /// What is wrong.
        fault: NotARelation,
    },
    /// The bound on choices was hit.
    #[error(
        "the dependencies are too tangled: no answer after {MOST_CHOICES} choices; the first contradiction was: {first}"
    )]
    TooTangled {
        /// The first contradiction.
        first: String,
    },
}

/// The set of packages that `request` needs, sorted by name.
pub fn resolve(universe: &Universe<'_>, request: Request<'_>) -> Result<Vec<Chosen>, Error> {
    let goals = goals(universe, request)?;
    let newest = Solver::new(universe, &goals, request.exclude, false).solve();
    let state = match newest {
        // apt looks at the newest version of each package alone; older ones are better than no answer.
        Err(Error::Unsatisfiable { what, chain, others }) => {
            Solver::new(universe, &goals, request.exclude, true)
                .solve()
                .map_err(|_| Error::Unsatisfiable { what, chain, others })?
        }
        other => other?,
    };
    let picks: Vec<Id> = state.chosen.values().map(|pick| pick.id).collect();
    let mut wanted: HashMap<Id, BTreeSet<&str>> = HashMap::new();
    for owner in &picks {
        for clause in &relations(universe, *owner)?.depends {
            let answers = |id: &&Id| clause.0.iter().any(|atom| universe.satisfies(**id, atom));
            for id in picks.iter().filter(|id| *id != owner).filter(answers) {
                wanted.entry(*id).or_default().insert(universe.package(*owner).name);
            }
        }
    }
    let chosen = picks.iter().map(|id| {
        let requested = goals.iter().any(|goal| goal.ids.contains(id)).then_some("requested");
        let owners = wanted.remove(id).unwrap_or_default();
        let wanted_by = requested.into_iter().chain(owners).take(3).map(str::to_owned).collect();
        Chosen { id: *id, suite: universe.suite_of(*id), wanted_by }
    });
    Ok(chosen.collect())
}

/// One name of the request: the packages that answer it, the newest first.
struct Goal {
    ids: Vec<Id>,
    /// `name=version` leaves no other version to anyone.
    exact: bool,
}

fn goals(universe: &Universe<'_>, request: Request<'_>) -> Result<Vec<Goal>, Error> {
    let (mut goals, mut missing) = (Vec::new(), Vec::new());
    for text in request.names {
        let bad = || Error::BadName { text: text.clone() };
        let (name, version) = match text.split_once('=') {
            Some((name, version)) => (name, Some(Version::parse(version).ok_or_else(bad)?)),
            None => (text.as_str(), None),
        };
        if !super::relation::is_name(name) {
            return Err(bad());
        }
        let atom = Atom { name, qualifier: None, version: version.map(|version| (Operator::Equal, version)) };
        let real = universe.versions(name);
        let mut ids: Vec<Id> = real.iter().copied().filter(|id| universe.satisfies(*id, &atom)).collect();
        let mut providers: Vec<&str> = Vec::new();
        if real.is_empty() {
            let all = universe.providers(name).iter();
            providers = all.map(|(id, _)| universe.package(*id).name).collect();
            providers.sort_unstable();
            providers.dedup();
            if let [only] = providers[..] {
                ids = universe.versions(only).to_vec();
            }
        }
        if ids.is_empty() {
            let listed = |id: &Id| format!("{} {}", name, universe.package(*id).version);
            missing.push(Missing {
                name: text.clone(),
                near: universe.near(name).into_iter().map(str::to_owned).collect(),
                versions: real.iter().map(listed).collect(),
                providers: providers.into_iter().map(str::to_owned).collect(),
            });
        }
        goals.push(Goal { ids, exact: version.is_some() });
    }
    if missing.is_empty() {
        return Ok(goals);
    }
    let (suites, architecture) = (universe.suites().join(", "), universe.architecture().to_owned());
    Err(Error::Missing { missing, suites, architecture })
}

/// The relationships of a package that matter, read.
struct Relations<'a> {
    depends: Vec<Clause<'a>>,
    against: Vec<Atom<'a>>,
}

fn relations<'a>(universe: &Universe<'a>, id: Id) -> Result<Relations<'a>, Error> {
    let package = universe.package(id);
    let read = |field, text| {
        let named = format!("{} {}", package.name, package.version);
        parse(text).map_err(|fault| Error::BadRelation { package: named, field, fault })
    };
    let mut depends = read("Pre-Depends", package.pre_depends)?;
    depends.extend(read("Depends", package.depends)?);
    let mut against = read("Conflicts", package.conflicts)?;
    against.extend(read("Breaks", package.breaks)?);
    read("Provides", package.provides)?;
    Ok(Relations { depends, against: against.into_iter().flat_map(|clause| clause.0).collect() })
}

#[cfg(test)]
mod tests;
