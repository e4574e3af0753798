//! The settings of who serves models, and under which names.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::serde_duration;

/// Everything that opens a model by its name; what `llm` gets of the settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelSettings {
    /// The provider of a model that is named without one.
    pub(crate) default_provider: String,
    /// Who serves models, by the name before the slash.
    pub(crate) providers: BTreeMap<String, Provider>,
    /// Names for models in order of preference, each `provider/model`.
    pub(crate) models: BTreeMap<String, Vec<String>>,
    /// Prices that go before those we know, by `provider/model`; a `*` at the end stands for whatever follows.
    pub(crate) prices: BTreeMap<String, Price>,
}

impl ModelSettings {
    /// Names of the environment variables that hold keys. Whoever starts a process that asks a model passes these on,
    /// and keeps them from what that process starts.
    pub(crate) fn key_variables(&self) -> Vec<&str> {
        self.providers.values().filter_map(|provider| provider.key_env.as_deref()).collect()
    }
}

/// How a provider is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProviderKind {
    /// Ollama's own interface, `/api/chat`.
    Ollama,
    /// Chat completions as OpenAI has them: LM Studio, llama.cpp, vLLM, OpenRouter and most others.
    Openai,
    /// Messages as Anthropic has them.
    Anthropic,
}

/// Somebody who serves models.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Provider {
    /// How to speak to it. Checked to be there in every provider of the resolved settings.
    pub(crate) kind: Option<ProviderKind>,
    /// Its address; `None`, in the built-in ones only, is what the variable of its own programs says (`OLLAMA_HOST`,
    /// `ANTHROPIC_BASE_URL`, `OPENAI_BASE_URL`), else its usual address.
    pub(crate) url: Option<String>,
    /// Name of the environment variable that holds the key. Keys themselves are never in files.
    pub(crate) key_env: Option<String>,
    /// Whether its models cost nothing; `None` is whether the address is on this machine.
    pub(crate) local: Option<bool>,
    /// Tokens of one request with its answer. Ollama reserves that much for each request; of the others it says how
    /// much their models take where they do not tell themselves.
    pub(crate) context_window: Option<u64>,
    /// Tokens of one answer at most; `None` is what the model can.
    pub(crate) max_output: Option<u64>,
    /// How long Ollama keeps the model loaded after an answer, such as `30m`, or `-1` for ever.
    pub(crate) keep_alive: Option<String>,
    /// How much a model thinks before it answers; `None` is up to the model.
    pub(crate) thinking: Option<Thinking>,
    /// How long it may take.
    pub(crate) timeouts: Timeouts,
}

/// How much a model thinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Thinking {
    /// Not at all.
    Off,
    /// A little.
    Low,
    /// As usual.
    Medium,
    /// A lot.
    High,
}

impl Thinking {
    /// The word most interfaces have for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// How long a provider may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Timeouts {
    /// Until the connection stands.
    #[serde(with = "serde_duration")]
    pub(crate) connect: Duration,
    /// From the request to the first byte of the answer; a local model may be loaded meanwhile.
    #[serde(with = "serde_duration")]
    pub(crate) first_byte: Duration,
    /// Between two pieces of an answer. Some servers keep a tool call back until it is complete.
    #[serde(with = "serde_duration")]
    pub(crate) idle: Duration,
    /// For the whole answer.
    #[serde(with = "serde_duration")]
    pub(crate) total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        const MINUTE: u64 = 60;
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(10 * MINUTE),
            idle: Duration::from_secs(10 * MINUTE),
            total: Duration::from_secs(120 * MINUTE),
        }
    }
}

/// US dollars for a million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Price {
    /// Of input.
    pub(crate) input: f64,
    /// Of output, thoughts included.
    pub(crate) output: f64,
    /// Of input that was cached before; `None` is as other input.
    #[serde(default)]
    pub(crate) cached_input: Option<f64>,
    /// Of input that is put into the cache; `None` is as other input.
    #[serde(default)]
    pub(crate) cache_write: Option<f64>,
}

/// Name of the built-in provider that models without one belong to.
pub(crate) const OLLAMA: &str = "ollama";

/// The providers that need no configuration.
pub(crate) fn built_in_providers() -> BTreeMap<String, Provider> {
    let ollama = Provider {
        kind: Some(ProviderKind::Ollama),
        context_window: Some(65_536),
        keep_alive: Some("30m".to_owned()),
        ..Provider::default()
    };
    let keyed =
        |kind, key_env: &str| Provider { kind: Some(kind), key_env: Some(key_env.to_owned()), ..Provider::default() };
    [
        (OLLAMA, ollama),
        ("anthropic", keyed(ProviderKind::Anthropic, "ANTHROPIC_API_KEY")),
        ("openai", keyed(ProviderKind::Openai, "OPENAI_API_KEY")),
    ]
    .into_iter()
    .map(|(name, provider)| (name.to_owned(), provider))
    .collect()
}

/// Reads the providers that are written and puts the built-in ones below them, key by key.
pub(super) fn with_built_ins<'de, D: Deserializer<'de>>(reader: D) -> Result<BTreeMap<String, Provider>, D::Error> {
    let mut providers: BTreeMap<String, Provider> = BTreeMap::deserialize(reader)?;
    for (name, built_in) in built_in_providers() {
        let written = providers.entry(name).or_default();
        // Somebody who speaks to another kind of server under a built-in name gets nothing of the built-in.
        if written.kind.is_none_or(|kind| Some(kind) == built_in.kind) {
            written.kind = built_in.kind;
            written.key_env = written.key_env.take().or(built_in.key_env);
            written.context_window = written.context_window.or(built_in.context_window);
            written.keep_alive = written.keep_alive.take().or(built_in.keep_alive);
        }
    }
    Ok(providers)
}
