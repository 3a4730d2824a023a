//! The search: follows what leaves no choice, chooses where there is one, and jumps back to the choice that a
//! contradiction rests on.

use super::{Error, Goal, MOST_CHOICES, Relations, relations};
use crate::archive::relation::{Atom, parse};
use crate::archive::universe::{Id, Universe};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

/// The choices (by their depth, from 1) that a finding rests on.
pub(super) type Levels = BTreeSet<usize>;

/// A chosen package, with the package that it was chosen for.
#[derive(Clone)]
pub(super) struct Pick {
    pub(super) id: Id,
    pub(super) owner: Option<Id>,
    pub(super) levels: Levels,
}

/// A dependency that is not answered yet: of which package (none: of the request), and which one of it.
pub(super) type Open = (Option<Id>, usize);

#[derive(Clone, Default)]
pub(super) struct State<'a> {
    pub(super) chosen: BTreeMap<&'a str, Pick>,
    /// Conflicts of the chosen packages by the name they are with.
    against: HashMap<&'a str, Vec<(Atom<'a>, Id)>>,
    open: Vec<Open>,
}

/// Why a candidate cannot be chosen.
pub(super) enum Obstacle {
    Excluded,
    OtherVersion(Id),
    /// It and a chosen package do not go together; the one that says so, first.
    Conflict(Id, Id),
}

pub(super) struct Contradiction {
    pub(super) levels: Levels,
    pub(super) what: String,
    pub(super) chain: String,
}

struct Choice<'a> {
    before: State<'a>,
    open: Open,
    candidates: std::vec::IntoIter<Id>,
    /// What the choice itself rests on, and what its failed candidates rested on.
    levels: Levels,
}

pub(super) struct Solver<'u, 'a> {
    pub(super) universe: &'u Universe<'a>,
    pub(super) goals: &'u [Goal],
    exclude: &'u [String],
    older: bool,
    exact: HashMap<&'a str, Id>,
    read: HashMap<Id, Rc<Relations<'a>>>,
}

impl<'u, 'a> Solver<'u, 'a> {
    pub(super) fn new(
        universe: &'u Universe<'a>,
        goals: &'u [Goal],
        exclude: &'u [String],
        older: bool,
    ) -> Self {
        let pinned = goals.iter().filter(|goal| goal.exact).flat_map(|goal| &goal.ids);
        let exact = pinned.map(|id| (universe.package(*id).name, *id)).collect();
        Self { universe, goals, exclude, older, exact, read: HashMap::new() }
    }

    pub(super) fn solve(mut self) -> Result<State<'a>, Error> {
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

    pub(super) fn relations(&mut self, id: Id) -> Result<Rc<Relations<'a>>, Error> {
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
    pub(super) fn possible(&mut self, (owner, at): Open) -> Result<Vec<Id>, Error> {
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

    pub(super) fn obstacle(&mut self, state: &State<'a>, id: Id) -> Result<Option<Obstacle>, Error> {
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
}
