//! Which packages a request needs: a closed, conflict-free set, chosen the way apt chooses without
//! Recommends.
//!
//! Dependencies with one possible answer are followed first; then the oldest open one is answered by its
//! first alternative that does not conflict. When that ends in a contradiction, the latest choice that the
//! contradiction rests on takes its next alternative (conflict-directed backjumping). The order of everything
//! is fixed by the request and the indices, so the same input gives the same set.

use super::relation::{Atom, Clause, NotARelation, Operator, parse};
use super::universe::{Id, Universe};
use super::version::Version;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

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

/// The choices (by their depth, from 1) that a finding rests on.
type Levels = BTreeSet<usize>;

/// A chosen package, with the package that it was chosen for.
#[derive(Clone)]
struct Pick {
    id: Id,
    owner: Option<Id>,
    levels: Levels,
}

/// A dependency that is not answered yet: of which package (none: of the request), and which one of it.
type Open = (Option<Id>, usize);

#[derive(Clone, Default)]
struct State<'a> {
    chosen: BTreeMap<&'a str, Pick>,
    /// Conflicts of the chosen packages by the name they are with.
    against: HashMap<&'a str, Vec<(Atom<'a>, Id)>>,
    open: Vec<Open>,
}

/// Why a candidate cannot be chosen.
enum Obstacle {
    Excluded,
    OtherVersion(Id),
    /// It and a chosen package do not go together; the one that says so, first.
    Conflict(Id, Id),
}

struct Contradiction {
    levels: Levels,
    what: String,
    chain: String,
}

struct Choice<'a> {
    before: State<'a>,
    open: Open,
    candidates: std::vec::IntoIter<Id>,
    /// What the choice itself rests on, and what its failed candidates rested on.
    levels: Levels,
}

struct Solver<'u, 'a> {
    universe: &'u Universe<'a>,
    goals: &'u [Goal],
    exclude: &'u [String],
    older: bool,
    exact: HashMap<&'a str, Id>,
    read: HashMap<Id, Rc<Relations<'a>>>,
}

impl<'u, 'a> Solver<'u, 'a> {
    fn new(universe: &'u Universe<'a>, goals: &'u [Goal], exclude: &'u [String], older: bool) -> Self {
        let pinned = goals.iter().filter(|goal| goal.exact).flat_map(|goal| &goal.ids);
        let exact = pinned.map(|id| (universe.package(*id).name, *id)).collect();
        Self { universe, goals, exclude, older, exact, read: HashMap::new() }
    }

    fn solve(mut self) -> Result<State<'a>, Error> {
        let mut state =
            State { open: (0..self.goals.len()).map(|at| (None, at)).collect(), ..State::default() };
        let mut stack: Vec<Choice<'a>> = Vec::new();
        let (mut first, mut choices) = (None, 0);
        loop {
            let mut wrong = match self.propagate(&mut state)? {
                Ok(None) => return Ok(state),
                Ok(Some((at, candidates, levels))) => {
                    let open = state.open[at];
                    stack.push(Choice {
                        before: state.clone(),
                        open,
                        candidates: candidates.into_iter(),
                        levels,
                    });
                    Levels::from([stack.len()])
                }
                Err(contradiction) => {
                    let levels = contradiction.levels.clone();
                    first.get_or_insert(contradiction);
                    levels
                }
            };
            // Take the next candidate of the latest choice that is to blame.
            loop {
                let Some(&level) = wrong.last() else {
                    let Some(Contradiction { what, chain, .. }) = first else { return Ok(state) };
                    return Err(Error::Unsatisfiable { what, chain, others: choices > 0 });
                };
                stack.truncate(level);
                let Some(choice) = stack.last_mut() else {
                    wrong.clear();
                    continue;
                };
                wrong.remove(&level);
                choice.levels.append(&mut wrong);
                let mut levels = choice.levels.clone();
                let Some(candidate) = choice.candidates.next() else {
                    wrong = levels;
                    continue;
                };
                choices += 1;
                if choices > MOST_CHOICES {
                    let first = first.map_or_else(String::new, |first| first.what);
                    return Err(Error::TooTangled { first });
                }
                levels.insert(level);
                state = choice.before.clone();
                let owner = choice.open.0;
                self.choose(&mut state, Pick { id: candidate, owner, levels })?;
                break;
            }
        }
    }

    /// Follows what leaves no choice. Gives the first open dependency that does (its place, its candidates,
    /// what these rest on), or none when all is answered, or a contradiction.
    #[expect(clippy::type_complexity, reason = "read in one place")]
    fn propagate(
        &mut self,
        state: &mut State<'a>,
    ) -> Result<Result<Option<(usize, Vec<Id>, Levels)>, Contradiction>, Error> {
        loop {
            let (mut at, mut moved, mut choice) = (0, false, None);
            while at < state.open.len() {
                let open = state.open[at];
                if self.answered(state, open)? {
                    state.open.remove(at);
                    continue;
                }
                let (candidates, levels) = self.candidates(state, open)?;
                match candidates[..] {
                    [] => return Ok(Err(self.contradiction(state, open, levels)?)),
                    [id] => {
                        state.open.remove(at);
                        self.choose(state, Pick { id, owner: open.0, levels })?;
                        moved = true;
                    }
                    _ => {
                        choice = choice.or(Some((at, candidates, levels)));
                        at += 1;
                    }
                }
            }
            if !moved {
                return Ok(Ok(choice));
            }
        }
    }

    fn choose(&mut self, state: &mut State<'a>, pick: Pick) -> Result<(), Error> {
        let id = pick.id;
        let relations = self.relations(id)?;
        for atom in &relations.against {
            state.against.entry(atom.name).or_default().push((*atom, id));
        }
        state.open.extend((0..relations.depends.len()).map(|at| (Some(id), at)));
        state.chosen.insert(self.universe.package(id).name, pick);
        Ok(())
    }

    fn relations(&mut self, id: Id) -> Result<Rc<Relations<'a>>, Error> {
        if let Some(relations) = self.read.get(&id) {
            return Ok(Rc::clone(relations));
        }
        let relations = Rc::new(relations(self.universe, id)?);
        self.read.insert(id, Rc::clone(&relations));
        Ok(relations)
    }

    fn answered(&mut self, state: &State<'a>, (owner, at): Open) -> Result<bool, Error> {
        let is_chosen = |id: Id| self.universe.package(id).name;
        let Some(owner) = owner else {
            let ids = self.goals[at].ids.iter();
            return Ok(ids
                .into_iter()
                .any(|id| state.chosen.get(is_chosen(*id)).is_some_and(|pick| pick.id == *id)));
        };
        let relations = self.relations(owner)?;
        let universe = self.universe;
        Ok(relations.depends[at].0.iter().any(|atom| {
            let providers = universe.providers(atom.name).iter().map(|(id, _)| universe.package(*id).name);
            let mut names = std::iter::once(atom.name).chain(providers);
            names.any(|name| state.chosen.get(name).is_some_and(|pick| universe.satisfies(pick.id, atom)))
        }))
    }

    /// What can answer an open dependency, best first, and the choices that this rests on.
    fn candidates(&mut self, state: &State<'a>, open: Open) -> Result<(Vec<Id>, Levels), Error> {
        let owner = open.0.and_then(|owner| state.chosen.get(self.universe.package(owner).name));
        let mut levels = owner.map(|pick| pick.levels.clone()).unwrap_or_default();
        let mut candidates = Vec::new();
        for id in self.possible(open)? {
            match self.obstacle(state, id)? {
                None => candidates.push(id),
                Some(Obstacle::Excluded) => {}
                Some(Obstacle::OtherVersion(other) | Obstacle::Conflict(other, _)) if other != id => {
                    levels.extend(self.levels_of(state, other));
                }
                Some(Obstacle::Conflict(_, other) | Obstacle::OtherVersion(other)) => {
                    levels.extend(self.levels_of(state, other));
                }
            }
        }
        Ok((candidates, levels))
    }

    fn levels_of(&self, state: &State<'a>, id: Id) -> Levels {
        state.chosen.get(self.universe.package(id).name).map(|pick| pick.levels.clone()).unwrap_or_default()
    }

    /// What could answer an open dependency if nothing else were chosen.
    fn possible(&mut self, (owner, at): Open) -> Result<Vec<Id>, Error> {
        let mut ids: Vec<Id> = Vec::new();
        match owner {
            None => ids.extend(&self.goals[at].ids),
            Some(owner) => {
                for atom in &self.relations(owner)?.depends[at].0 {
                    let more = self.universe.matches(atom);
                    ids.extend(more.into_iter().filter(|id| !ids.contains(id)).collect::<Vec<_>>());
                }
            }
        }
        ids.retain(|id| {
            let name = self.universe.package(*id).name;
            match self.exact.get(name) {
                Some(exact) => id == exact,
                None => self.older || self.universe.versions(name).first() == Some(id),
            }
        });
        Ok(ids)
    }

    fn obstacle(&mut self, state: &State<'a>, id: Id) -> Result<Option<Obstacle>, Error> {
        let universe = self.universe;
        let package = universe.package(id);
        if self.exclude.iter().any(|name| name == package.name) {
            return Ok(Some(Obstacle::Excluded));
        }
        if let Some(pick) = state.chosen.get(package.name) {
            return Ok(Some(Obstacle::OtherVersion(pick.id)));
        }
        let provided = parse(package.provides).unwrap_or_default();
        let names = provided.iter().flat_map(|clause| &clause.0).map(|atom| atom.name);
        for name in std::iter::once(package.name).chain(names) {
            let against = state.against.get(name).into_iter().flatten();
            if let Some((_, owner)) = against.into_iter().find(|(atom, _)| universe.satisfies(id, atom)) {
                return Ok(Some(Obstacle::Conflict(*owner, id)));
            }
        }
        for atom in &self.relations(id)?.against {
            let providers = universe.providers(atom.name).iter().map(|(id, _)| universe.package(*id).name);
            for name in std::iter::once(atom.name).chain(providers) {
                match state.chosen.get(name) {
                    Some(pick) if universe.satisfies(pick.id, atom) => {
                        return Ok(Some(Obstacle::Conflict(id, pick.id)));
                    }
                    _ => {}
                }
            }
        }
        Ok(None)
    }

    fn contradiction(
        &mut self,
        state: &State<'a>,
        open: Open,
        levels: Levels,
    ) -> Result<Contradiction, Error> {
        let mut reasons = Vec::new();
        for id in self.possible(open)? {
            let reason = match self.obstacle(state, id)? {
                Some(Obstacle::Conflict(a, b)) => {
                    let other = if a == id { b } else { a };
                    format!("{} conflicts with {} ({})", self.show(a), self.show(b), self.chain(state, other))
                }
                Some(Obstacle::OtherVersion(other)) => {
                    format!("{} is already chosen ({})", self.show(other), self.chain(state, other))
                }
                Some(Obstacle::Excluded) => {
                    format!("{} is excluded by the request", self.universe.package(id).name)
                }
                None => continue,
            };
            reasons.push(reason);
        }
        let Some(owner) = open.0 else {
            let named = self.goals[open.1].ids.first().map_or("", |id| self.universe.package(*id).name);
            let chain = format!("{named} was requested");
            return Ok(Contradiction { levels, what: reasons.join(" and "), chain });
        };
        let clause = self.relations(owner)?.depends[open.1].clone();
        if reasons.is_empty() {
            reasons.extend(clause.0.iter().map(|atom| self.absent(atom)));
        }
        let what = format!("{} depends on {clause}, but {}", self.show(owner), reasons.join(" and "));
        let chain = self.chain(state, owner);
        Ok(Contradiction { levels, what, chain })
    }

    /// Why no package answers an atom, whatever is chosen.
    fn absent(&self, atom: &Atom<'_>) -> String {
        let has = |id: &Id| {
            let suite = self.universe.suites().get(self.universe.suite_of(*id)).copied().unwrap_or_default();
            format!("{suite} has {}", self.show(*id))
        };
        let versions: Vec<_> = self.universe.versions(atom.name).iter().map(has).collect();
        if !versions.is_empty() {
            return versions.join(" and ");
        }
        let providers: Vec<_> =
            self.universe.providers(atom.name).iter().map(|(id, _)| self.show(*id)).collect();
        match providers.is_empty() {
            true => format!("there is no package {}", atom.name),
            false => format!("{} is provided by {} without that version", atom.name, providers.join(", ")),
        }
    }

    fn show(&self, id: Id) -> String {
        let package = self.universe.package(id);
        format!("{} {}", package.name, package.version)
    }

    /// `a is wanted by b, which is wanted by c, which was requested`.
    fn chain(&self, state: &State<'a>, id: Id) -> String {
        let mut text = self.universe.package(id).name.to_owned();
        let mut at = id;
        let mut seen = BTreeSet::new();
        while let Some(owner) = state.chosen.get(self.universe.package(at).name).and_then(|pick| pick.owner) {
            if !seen.insert(owner) {
                break;
            }
            text += &format!(" is wanted by {}, which", self.universe.package(owner).name);
            at = owner;
        }
        text + " was requested"
    }
}
