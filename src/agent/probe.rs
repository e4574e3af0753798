//! Whether an agent's program is there and fit to use, and its model, where `swarm` knows how to ask for that.

use std::path::{Path, PathBuf};

use super::{claude, command, own, preset};
use crate::config::Environment;
use crate::llm;
use crate::model::agent::{Agent, RuntimeKind};
use crate::model::error_text;
use crate::model::providers::ModelSettings;

/// What was found out about an agent's program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Probe {
    /// The program as the definition or the runtime names it.
    pub(crate) program: String,
    /// Where it is.
    pub(crate) path: Option<PathBuf>,
    /// Its version as it says it.
    pub(crate) version: Option<String>,
    /// The model that it would work with, and what that costs, where it was asked for.
    pub(crate) model: Option<String>,
    /// What stands in the way of using it, as a clause; `None` is fit to use.
    pub(crate) problem: Option<String>,
    /// What may stand in the way, as a clause: a sign that is missing, and no proof. Nothing is refused for it.
    pub(crate) doubt: Option<String>,
    /// What to do about the problem, or the doubt.
    pub(crate) hint: Option<String>,
}

/// Looks for an agent's program in the given environment, and asks it for its version where the runtime depends on
/// one. May start that program once and wait some seconds for it. With `models`, those who serve the agent's model are
/// asked, too, whether it is there and can call tools; `cwd` is where recordings are looked for.
pub(crate) fn probe(agent: &Agent, env: &[(String, String)], cwd: &Path, models: Option<&ModelSettings>) -> Probe {
    let mut probe = match agent.runtime {
        RuntimeKind::Claude => claude::probe(agent, env, cwd),
        RuntimeKind::Command => match &agent.preset {
            Some(preset) => preset::probe(agent, preset, env, cwd),
            None => command::probe(agent, env, cwd),
        },
        RuntimeKind::Acp => own::acp::probe(agent, env, cwd),
        RuntimeKind::Ollama | RuntimeKind::Replay => own::probe(agent),
    };
    let reference = match (agent.runtime, &agent.provider, &agent.model) {
        (RuntimeKind::Ollama | RuntimeKind::Replay, ..) => own::model(agent, cwd),
        (RuntimeKind::Claude, Some(provider), Some(model)) => Some(format!("{provider}/{model}")),
        _ => None,
    };
    if let (None, Some(reference), Some(settings)) = (&probe.problem, reference, models) {
        ask_models(&mut probe, &reference, settings, env);
    }
    probe
}

/// Asks about the models that a reference names, and notes what was found out.
fn ask_models(probe: &mut Probe, reference: &str, settings: &ModelSettings, env: &[(String, String)]) {
    let environment: Environment = env.iter().cloned().collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let found = match runtime {
        Ok(runtime) => runtime.block_on(llm::probe(reference, settings, &environment)),
        Err(error) => return probe.problem = Some(error_text(&error)),
    };
    match found {
        Ok(models) => note_models(probe, models),
        Err(error) => {
            probe.problem = Some(error.to_string());
            probe.hint = error.hint;
        }
    }
}

/// An agent can work when one of its models can.
fn note_models(probe: &mut Probe, models: Vec<llm::Probe>) {
    if let Some(fit) = models.iter().find(|model| model.problem.is_none()) {
        probe.model = Some(format!("{} ({})", fit.model, fit.price));
        return;
    }
    if let Some(first) = models.into_iter().next()
        && let Some(error) = first.problem
    {
        probe.problem = Some(error.to_string());
        probe.hint = first.command.map(|command| format!("run `{command}`")).or(error.hint);
    }
}
