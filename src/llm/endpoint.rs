//! What other programs need to know of a provider: where it is and what stands for a login there.

use std::time::Duration;

use serde_json::{Value, json};

use super::prices::Tariff;
use super::reference::ModelName;
use super::served::Served;
use crate::config::Environment;
use crate::model::providers::{ModelSettings, ProviderKind};

/// How long a server may take to list its models.
const LIMIT: Duration = Duration::from_secs(3);
/// Models that are looked at for one that can call tools.
const LOOKED_AT: usize = 12;

/// A provider as another program is told about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Its address without a last `/`.
    pub(crate) url: String,
    /// How it is spoken to.
    pub(crate) kind: ProviderKind,
    /// The variable that holds the key.
    pub(crate) key_env: Option<String>,
    /// Whether its models cost nothing.
    pub(crate) is_free: bool,
}

/// Where the provider of that name is; `None` when none is configured so.
pub(crate) fn endpoint(provider: &str, settings: &ModelSettings, environment: &Environment) -> Option<Endpoint> {
    settings.providers.get(provider)?;
    let served = served(provider, "", settings, environment);
    Some(Endpoint {
        url: served.target.url.clone(),
        kind: served.target.kind,
        key_env: served.target.key_env.clone(),
        is_free: served.tariff == Tariff::Free,
    })
}

/// The models of an Ollama that can call tools, in its order, which is the newest first; none when it does not answer.
pub(crate) async fn tool_models(provider: &str, settings: &ModelSettings, environment: &Environment) -> Vec<String> {
    let asked = served(provider, "", settings, environment);
    let Ok(answer) = asked.http.fetch(&asked.target, "/api/tags", None, LIMIT).await else { return Vec::new() };
    let names = answer["models"].as_array().into_iter().flatten().filter_map(|model| model["name"].as_str());
    let mut found = Vec::new();
    for name in names.take(LOOKED_AT) {
        let body = json!({"model": name});
        let shown = asked.http.fetch(&asked.target, "/api/show", Some(&body), LIMIT).await.unwrap_or_default();
        let abilities = shown["capabilities"].as_array().into_iter().flatten();
        if abilities.filter_map(Value::as_str).any(|ability| ability == "tools") {
            found.push(name.to_owned());
        }
    }
    found
}

/// One of its models.
fn served(provider: &str, model: &str, settings: &ModelSettings, environment: &Environment) -> Served {
    Served::new(ModelName { provider: provider.to_owned(), model: model.to_owned() }, settings, environment)
}
