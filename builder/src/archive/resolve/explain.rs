//! Contradictions in words: which dependency, why nothing answers it, and who asked.

use super::Error;
use super::solver::{Contradiction, Levels, Obstacle, Open, Solver, State};
use crate::archive::relation::Atom;
use crate::archive::universe::Id;
use std::collections::BTreeSet;

impl<'a> Solver<'_, 'a> {
    pub(super) fn contradiction(
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
