//! How deep this process is among workers that start workers.

use super::Environment;
use crate::model::settings::Limits;

/// How deep a process is: 0 for a person's, 1 in a worker that a person started.
const DEPTH: &str = "SWARM_SPAWN_DEPTH";
/// How deep workers may be there, by the settings of whoever started the first of them.
const LIMIT: &str = "SWARM_SPAWN_LIMIT";
/// Names the worker that a process belongs to.
const WORKER: &str = "SWARM_WORKER";

/// How deep a process is, and how deep workers may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpawnDepth {
    /// Of this process.
    pub(crate) here: u32,
    /// Of workers.
    pub(crate) limit: u32,
}

impl SpawnDepth {
    /// The depth of the process with this environment. Inside a worker the limit is never higher than the one the worker
    /// was started with: an agent may not raise it with settings of its own.
    pub(crate) fn of(environment: &Environment, limits: &Limits) -> Self {
        let number = |name| environment.get(name).map(|text| text.parse::<u32>().ok());
        let here = match number(DEPTH) {
            Some(depth) => depth.unwrap_or(u32::MAX),
            None => u32::from(environment.get(WORKER).is_some_and(|worker| !worker.is_empty())),
        };
        let limit = number(LIMIT).flatten().map_or(limits.spawn_depth, |limit| limit.min(limits.spawn_depth));
        Self { here, limit }
    }

    /// Whether workers may be started here.
    pub(crate) fn allows(self) -> bool {
        self.here < self.limit
    }

    /// What the agents of workers that are started here get.
    pub(crate) fn below(self) -> [(String, String); 2] {
        let depth = self.here.saturating_add(1);
        [(DEPTH.to_owned(), depth.to_string()), (LIMIT.to_owned(), self.limit.to_string())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depth(environment: &[(&str, &str)], spawn_depth: u32) -> SpawnDepth {
        let environment: Environment = environment.iter().copied().collect();
        SpawnDepth::of(&environment, &Limits { spawn_depth, ..Limits::default() })
    }

    #[test]
    fn a_person_starts_workers_and_their_agents_do_not() {
        let person = depth(&[], 1);
        assert!(person.allows());
        let below = person.below();
        let below: Vec<_> = below.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert!(!depth(&below, 1).allows());
        // Settings of the agent's own raise nothing, and lower ones count.
        assert!(!depth(&below, 9).allows());
        let two = [("SWARM_SPAWN_DEPTH", "1"), ("SWARM_SPAWN_LIMIT", "2")];
        assert!(depth(&two, 2).allows() && !depth(&two, 1).allows());
    }

    #[test]
    fn what_is_odd_allows_nothing() {
        assert!(!depth(&[("SWARM_WORKER", "fix")], 1).allows());
        assert!(!depth(&[("SWARM_SPAWN_DEPTH", "none")], 5).allows());
        assert!(depth(&[("SWARM_WORKER", "")], 1).allows());
    }
}
