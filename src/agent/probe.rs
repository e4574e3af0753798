//! Whether an agent's program is there and fit to use.

use std::path::{Path, PathBuf};

use super::{claude, command, own, preset};
use crate::model::agent::{Agent, RuntimeKind};

/// What was found out about an agent's program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Probe {
    /// The program as the definition or the runtime names it.
    pub(crate) program: String,
    /// Where it is.
    pub(crate) path: Option<PathBuf>,
    /// Its version as it says it.
    pub(crate) version: Option<String>,
    /// What stands in the way of using it, as a clause; `None` is fit to use.
    pub(crate) problem: Option<String>,
    /// What may stand in the way, as a clause: a sign that is missing, and no proof. Nothing is refused for it.
    pub(crate) doubt: Option<String>,
    /// What to do about the problem, or the doubt.
    pub(crate) hint: Option<String>,
}

/// Looks for an agent's program in the given environment, and asks it for its version where the runtime depends on
/// one. May start that program once and wait some seconds for it.
pub(crate) fn probe(agent: &Agent, env: &[(String, String)], cwd: &Path) -> Probe {
    match agent.runtime {
        RuntimeKind::Claude => claude::probe(agent, env, cwd),
        RuntimeKind::Command => match &agent.preset {
            Some(preset) => preset::probe(agent, preset, env, cwd),
            None => command::probe(agent, env, cwd),
        },
        RuntimeKind::Acp => own::acp::probe(agent, env, cwd),
        RuntimeKind::Ollama | RuntimeKind::Replay => own::probe(agent),
    }
}
