//! Whether a model could be asked right now, without asking it anything.

use std::path::Path;
use std::time::Duration;

use super::prices::Tariff;
use super::reference::{self, Reference};
use super::replay::Replay;
use super::served::Served;
use super::target::Target;
use super::{ChatError, Trouble};
use crate::config::Environment;
use crate::model::providers::{ModelSettings, ProviderKind};

/// How long a server may take to say what it has.
const LIMIT: Duration = Duration::from_secs(5);

/// What was found out about one model.
#[derive(Debug)]
pub(crate) struct Probe {
    /// `provider/model`.
    pub(crate) model: String,
    /// Whether the server answers; false also for one that was not asked because a key is missing.
    pub(crate) is_reachable: bool,
    /// Whether it has the model; `None` when it does not say.
    pub(crate) has_model: Option<bool>,
    /// Whether the model can call tools; `None` when nobody says.
    pub(crate) has_tools: Option<bool>,
    /// Tokens that fit into a request with its answer.
    pub(crate) context_window: Option<u64>,
    /// What it costs, as a person reads it; `free` for a local model.
    pub(crate) price: String,
    /// What keeps it from working, with a hint for a person.
    pub(crate) problem: Option<ChatError>,
    /// The exact command that mends the problem, if one does.
    pub(crate) command: Option<String>,
}

/// Finds out about every model that `reference` names, in its order; of a recording, whether it can be played. Takes
/// at most a few seconds for each.
///
/// # Errors
/// [`Trouble::BadRequest`] when nothing has that name.
pub(crate) async fn probe(
    reference: &str,
    settings: &ModelSettings,
    environment: &Environment,
) -> Result<Vec<Probe>, ChatError> {
    let names = match reference::resolve(reference, settings)? {
        Reference::Models(names) => names,
        Reference::Replay(file) => return Ok(vec![probe_file(&file)]),
    };
    let mut probes = Vec::new();
    for name in names {
        probes.push(probe_one(&Served::new(name, settings, environment), environment).await);
    }
    Ok(probes)
}

/// The models behind a reference that a budget of money keeps from being asked, because nobody knows their price; in their
/// order, and whether those are all of them. Connects nowhere.
pub(crate) fn unpriced(reference: &str, settings: &ModelSettings, environment: &Environment) -> (Vec<String>, bool) {
    let Ok(Reference::Models(names)) = reference::resolve(reference, settings) else { return (Vec::new(), false) };
    let count = names.len();
    let served = names.into_iter().map(|name| Served::new(name, settings, environment));
    let unknown: Vec<_> =
        served.filter(|served| served.tariff == Tariff::Unknown).map(|served| served.target.name.to_string()).collect();
    let is_all = unknown.len() == count;
    (unknown, is_all)
}

/// Finds out about a script or a recording.
fn probe_file(file: &Path) -> Probe {
    let opened = Replay::open(file, Path::new("/"));
    Probe {
        model: format!("replay:{}", file.display()),
        is_reachable: opened.is_ok(),
        has_model: Some(opened.is_ok()),
        has_tools: Some(true),
        context_window: None,
        price: "free".to_owned(),
        problem: opened.err(),
        command: None,
    }
}

/// Finds out about one model.
async fn probe_one(served: &Served, environment: &Environment) -> Probe {
    let target = &served.target;
    let mut probe = Probe {
        model: target.name.to_string(),
        is_reachable: false,
        has_model: None,
        has_tools: None,
        context_window: None,
        price: served.tariff.to_string(),
        problem: None,
        command: None,
    };
    let asked = match served.check_key() {
        Ok(()) => served.ask(LIMIT).await,
        Err(fault) => Err(fault),
    };
    let fault = match asked {
        Ok(abilities) => {
            probe.is_reachable = true;
            probe.has_model = abilities.present;
            probe.has_tools = abilities.tools;
            probe.context_window = served.window_of(&abilities);
            if abilities.present == Some(false) {
                let others = abilities.others.iter().take(8).map(|other| format!("`{other}`")).collect::<Vec<_>>();
                let message = format!("the server does not have it; it has {}", others.join(", "));
                Some(target.fault(Trouble::ModelMissing, message))
            } else if abilities.tools == Some(false) {
                Some(target.fault(Trouble::NoTools, "the model cannot call tools"))
            } else {
                None
            }
        }
        // A server that has no such question answers all the same.
        Err(fault) if fault.trouble == Trouble::BadRequest && target.kind != ProviderKind::Ollama => {
            probe.is_reachable = true;
            None
        }
        Err(fault) => {
            probe.is_reachable = !matches!(fault.trouble, Trouble::Refused | Trouble::TimedOut | Trouble::Cut)
                && (fault.trouble != Trouble::Unauthorized || target.has_key || target.key_env.is_none());
            probe.has_model = (fault.trouble == Trouble::ModelMissing).then_some(false);
            Some(install_first(fault, target, environment))
        }
    };
    if let Some(fault) = fault {
        probe.command.clone_from(&fault.command);
        probe.problem = Some(fault.of(probe.model.clone()));
    }
    probe
}

/// Where Ollama is not even installed, starting it is no help.
fn install_first(fault: super::fault::Fault, target: &Target, environment: &Environment) -> super::fault::Fault {
    let is_ours = fault.trouble == Trouble::Refused && target.kind == ProviderKind::Ollama && target.is_here;
    let has_program = || which::which_in("ollama", environment.get("PATH"), ".").is_ok();
    if is_ours && !has_program() {
        return fault.fix("Install Ollama from https://ollama.com/download, then start it with", "ollama serve");
    }
    fault
}

#[cfg(test)]
mod tests;
