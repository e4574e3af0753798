//! What people call a model.

use std::path::PathBuf;

use super::fault::Fault;
use super::{ChatError, Trouble};
use crate::model::providers::ModelSettings;

/// Whom a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reference {
    /// Models in order of preference; more than one for the name of a list.
    Models(Vec<ModelName>),
    /// A recorded conversation.
    Replay(PathBuf),
}

/// One model of one provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ModelName {
    /// Who serves it; a key of the configured providers.
    pub(super) provider: String,
    /// The model as the provider calls it; may hold slashes.
    pub(super) model: String,
}

impl std::fmt::Display for ModelName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.provider, self.model)
    }
}

/// Finds out whom a name stands for: `replay:FILE`, the name of a list in `models`, `provider/model`, or the model of
/// the default provider.
///
/// # Errors
/// [`Trouble::BadRequest`] for an empty name and for a provider that is not configured. A model with a slash in its
/// own name needs its provider before it, because otherwise a slip in a provider's name would become a model.
pub(super) fn resolve(reference: &str, settings: &ModelSettings) -> Result<Reference, ChatError> {
    let text = reference.trim();
    if let Some(file) = text.strip_prefix("replay:") {
        return match file {
            "" => Err(wrong("the name of the recording is missing").hint("write `replay:FILE`").of(text)),
            file => Ok(Reference::Replay(PathBuf::from(file))),
        };
    }
    if let Some(list) = settings.models.get(text) {
        return list.iter().map(|name| one(name, settings)).collect::<Result<_, _>>().map(Reference::Models);
    }
    one(text, settings).map(|name| Reference::Models(vec![name]))
}

/// One model by name.
fn one(text: &str, settings: &ModelSettings) -> Result<ModelName, ChatError> {
    let (provider, model) = match text.split_once('/') {
        Some((provider, model)) => (provider, model.trim()),
        None => (settings.default_provider.as_str(), text),
    };
    if model.is_empty() {
        return Err(wrong("no model is named").hint("write provider/model, such as `ollama/qwen3-coder`").of(text));
    }
    if !settings.providers.contains_key(provider) {
        let known: Vec<_> = settings.providers.keys().map(String::as_str).collect();
        let message = format!("no provider is called `{provider}`; providers: {}", known.join(", "));
        let hint = format!(
            "Add it to `providers` in the configuration; a model of Ollama with a slash in its name is `ollama/{text}`."
        );
        return Err(wrong(&message).hint(hint).of(text));
    }
    Ok(ModelName { provider: provider.to_owned(), model: model.to_owned() })
}

/// A name nobody can be asked under.
fn wrong(message: &str) -> Fault {
    Fault::new(Trouble::BadRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::settings::Settings;

    /// The default settings with one list.
    fn settings() -> ModelSettings {
        let mut settings = Settings::default().for_models();
        let list = vec!["ollama/qwen3-coder".to_owned(), "anthropic/claude-x".to_owned()];
        settings.models.insert("local-first".to_owned(), list);
        settings
    }

    /// The names a reference stands for.
    fn names(reference: &str) -> Vec<String> {
        match resolve(reference, &settings()).unwrap() {
            Reference::Models(models) => models.iter().map(ToString::to_string).collect(),
            Reference::Replay(file) => vec![format!("file {}", file.display())],
        }
    }

    #[test]
    fn a_reference_is_a_list_a_model_or_a_recording() {
        assert_eq!(names("local-first"), ["ollama/qwen3-coder", "anthropic/claude-x"]);
        assert_eq!(names(" qwen3:8b "), ["ollama/qwen3:8b"]);
        assert_eq!(names("ollama/hf.co/some/Model-GGUF:Q4"), ["ollama/hf.co/some/Model-GGUF:Q4"]);
        assert_eq!(names("replay:runs/a.jsonl"), ["file runs/a.jsonl"]);
    }

    #[test]
    fn a_slip_in_a_providers_name_is_told() {
        let error = resolve("antropic/claude-x", &settings()).unwrap_err();
        let expected =
            "antropic/claude-x: no provider is called `antropic`; providers: anthropic, ollama, openai".to_owned();
        assert_eq!(error.to_string(), expected);
        for empty in ["", "ollama/", "replay:"] {
            assert_eq!(resolve(empty, &settings()).unwrap_err().trouble, Trouble::BadRequest, "{empty}");
        }
    }
}
