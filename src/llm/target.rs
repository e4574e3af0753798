//! Who is asked, and the words for what goes wrong there: each with the command that fixes it where there is one.

use std::time::Duration;

use serde_json::Value;

use super::Trouble;
use super::fault::Fault;
use super::reference::ModelName;
use crate::model::duration_text;
use crate::model::providers::ProviderKind;

/// The model and where it is.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Its name.
    pub(super) name: ModelName,
    /// How its provider is spoken to.
    pub(super) kind: ProviderKind,
    /// The provider's address without a last `/`; holds no secret.
    pub(super) url: String,
    /// The variable that holds the key.
    pub(super) key_env: Option<String>,
    /// Whether there is a key.
    pub(super) has_key: bool,
    /// Whether the address is on this machine.
    pub(super) is_here: bool,
}

/// An error as a provider tells it, in whatever shape.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// For a person; may be empty.
    pub(super) message: String,
    /// Words for programs, such as `overloaded_error` or `model_not_found`; may be empty.
    pub(super) code: String,
    /// Where to sign in, as Ollama says it.
    pub(super) sign_in: bool,
}

impl Told {
    /// Finds the error in a JSON document: `{"error": "text"}`, `{"error": {"message", "type", "code"}}` or
    /// `{"message"}`. `None` when it holds none.
    pub(super) fn read(document: &Value) -> Option<Self> {
        let error = document.get("error").filter(|error| !error.is_null());
        let sign_in = document.get("signin_url").is_some();
        let word = |value: Option<&Value>| match value {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        };
        match error? {
            Value::String(message) => Some(Self { message: message.clone(), code: String::new(), sign_in }),
            error @ Value::Object(_) => {
                let codes = [word(error.get("type")), word(error.get("code"))];
                Some(Self { message: word(error.get("message")), code: codes.join(" "), sign_in })
            }
            other => Some(Self { message: other.to_string(), code: String::new(), sign_in }),
        }
    }

    /// Reads the body of a refusal; what is no JSON is taken as text.
    pub(super) fn read_body(body: &str) -> Self {
        let document: Option<Value> = serde_json::from_str(body).ok();
        if let Some(told) = document.as_ref().and_then(Self::read) {
            return told;
        }
        let detail = document.as_ref().and_then(|document| {
            ["message", "detail"].iter().find_map(|key| document.get(key)?.as_str().map(str::to_owned))
        });
        let looks_like_page = body.trim_start().starts_with('<');
        let message = detail.unwrap_or_else(|| if looks_like_page { String::new() } else { body.trim().to_owned() });
        Self { message, ..Self::default() }
    }

    /// Whether message or code speak of one of these, in lower case.
    fn speaks_of(&self, words: &[&str]) -> bool {
        let (message, code) = (self.message.to_lowercase(), self.code.to_lowercase());
        words.iter().any(|word| message.contains(word) || code.contains(word))
    }
}

/// Words with which providers say that a conversation is too long.
const TOO_LONG: &[&str] = &[
    "context_length_exceeded",
    "exceed_context_size",
    "request_too_large",
    "prompt is too long",
    "input is too long",
    "maximum context length",
    "context length of only",
    "exceeds the available context size",
    "exceed context limit",
    "context window",
    "context overflow",
];

/// Words with which they say that money is the matter.
const NO_MONEY: &[&str] =
    &["insufficient_quota", "billing_error", "credit balance", "insufficient credits", "insufficient balance"];

/// Words with which they say that a model cannot call tools.
const NO_TOOLS: &[&str] = &[
    "does not support tools",
    "tool use is not supported",
    "support tool use",
    "tools are not supported",
    "does not support function calling",
];

/// Characters of a provider's words that an error repeats.
const SHOWN: usize = 400;

/// One line of at most [`SHOWN`] characters.
pub(super) fn excerpt(text: &str) -> String {
    let mut line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(SHOWN) {
        line.truncate(end);
        line.push('…');
    }
    line
}

impl Target {
    /// A refusal by status code.
    pub(super) fn refused(&self, status: u16, retry_after: Option<Duration>, body: &str) -> Fault {
        let told = Told::read_body(body);
        let trouble = self.sort(status, retry_after, &told);
        let said = excerpt(&told.message);
        let message = if said.is_empty() { format!("the server answered with status {status}") } else { said };
        if (300..400).contains(&status) {
            let message = format!("{} answers with a redirection (status {status})", self.url);
            return self.fault(Trouble::BadRequest, message);
        }
        if status == 404 && trouble == Trouble::BadRequest {
            let message = format!("nothing answers at this path of {} (status 404)", self.url);
            return self.fault(trouble, message).hint(format!("Check {}.", self.url_setting()));
        }
        self.with_advice(Fault::new(trouble, message), &told)
    }

    /// An error that was told in the middle of a stream.
    pub(super) fn told(&self, told: &Told) -> Fault {
        let status = match told.code.split_whitespace().find_map(|code| code.parse::<u16>().ok()) {
            Some(status) => status,
            None if told.speaks_of(&["overloaded", "server busy", "unavailable"]) => 503,
            None if told.speaks_of(&["rate_limit", "rate limit", "too many requests"]) => 429,
            None if told.speaks_of(&["authentication_error", "permission_error", "unauthorized"]) => 401,
            None if told.speaks_of(&["invalid_request_error"]) => 400,
            None => 500,
        };
        let said = excerpt(&told.message);
        let message = if said.is_empty() { "the server broke off with an error".to_owned() } else { said };
        self.with_advice(Fault::new(self.sort(status, None, told), message), told)
    }

    /// What a refusal means for us.
    fn sort(&self, status: u16, retry_after: Option<Duration>, told: &Told) -> Trouble {
        match status {
            _ if told.speaks_of(NO_MONEY) => Trouble::Budget,
            400 | 422 | 500 if told.speaks_of(NO_TOOLS) => Trouble::NoTools,
            400 | 422 | 500 if told.speaks_of(TOO_LONG) => Trouble::TooLong,
            413 => Trouble::TooLong,
            401 | 403 => Trouble::Unauthorized,
            402 => Trouble::Budget,
            400 | 404 if told.speaks_of(&["model_not_found", "not_found_error"]) => Trouble::ModelMissing,
            404 if told.speaks_of(&["model"]) => Trouble::ModelMissing,
            408 => Trouble::TimedOut,
            429 => Trouble::RateLimited { retry_after },
            503 | 529 => Trouble::Overloaded { retry_after },
            500.. => Trouble::ServerError,
            _ => Trouble::BadRequest,
        }
    }

    /// A fault of this target with the advice that goes with it.
    pub(super) fn fault(&self, trouble: Trouble, message: impl Into<String>) -> Fault {
        self.with_advice(Fault::new(trouble, message), &Told::default())
    }

    /// The key is missing before anybody was asked.
    pub(super) fn no_key(&self, variable: &str) -> Fault {
        Fault::new(Trouble::Unauthorized, format!("the variable `{variable}` is not set"))
            .fix("Set the key with", format!("export {variable}=..."))
    }

    /// What a piece of an answer is called that nobody can read.
    pub(super) fn malformed(&self, what: &str, payload: &str) -> Fault {
        Fault::new(Trouble::Malformed, format!("{what}: `{}`", excerpt(payload)))
    }

    /// The answer ended in the middle.
    pub(super) fn cut(&self) -> Fault {
        Fault::new(Trouble::Cut, "the answer ended in the middle")
    }

    /// Something did not come in time; `setting` is the time-out that ran out.
    pub(super) fn timed_out(&self, what: &str, limit: Duration, setting: &str) -> Fault {
        let limit = duration_text(limit);
        Fault::new(Trouble::TimedOut, format!("{what} within {limit}")).hint(format!(
            "If it needs longer, raise `providers.{}.timeouts.{setting}` in the configuration.",
            self.name.provider
        ))
    }

    /// The setting of the address, in words.
    fn url_setting(&self) -> String {
        format!("`providers.{}.url` in the configuration, which is {}", self.name.provider, self.url)
    }

    /// Adds what a person can do.
    fn with_advice(&self, fault: Fault, told: &Told) -> Fault {
        let is_ollama = self.kind == ProviderKind::Ollama;
        let model = &self.name.model;
        match fault.trouble {
            Trouble::Refused => self.start_it(fault),
            Trouble::ModelMissing if is_ollama => fault.fix("Get the model with", format!("ollama pull {model}")),
            Trouble::ModelMissing if self.is_lm_studio() => fault.fix("Get the model with", format!("lms get {model}")),
            Trouble::ModelMissing => {
                fault.hint(format!("Name a model that {} serves; this one is called `{model}`.", self.url))
            }
            Trouble::NoTools if is_ollama => {
                fault.fix("Use a model that can call tools, such as the one of", "ollama pull qwen3-coder")
            }
            Trouble::NoTools => fault.hint("Use a model that can call tools."),
            Trouble::Unauthorized if told.sign_in || is_ollama && self.key_env.is_none() => {
                fault.fix("Sign in with", "ollama signin")
            }
            Trouble::Unauthorized => self.set_key(fault),
            Trouble::TooLong if is_ollama => fault.hint(format!(
                "Raise `providers.{}.context_window` in the configuration, if the machine has the memory.",
                self.name.provider
            )),
            Trouble::Budget => fault.hint(format!("Top up the account at {}, or name another model.", self.url)),
            Trouble::ServerError if told.speaks_of(&["requires more system memory", "out of memory"]) => {
                fault.hint(format!(
                    "Use a smaller model, or lower `providers.{}.context_window` in the configuration.",
                    self.name.provider
                ))
            }
            Trouble::BadRequest if told.speaks_of(&["does not support thinking"]) => {
                fault.hint(format!("Set `providers.{}.thinking` to null in the configuration.", self.name.provider))
            }
            Trouble::BadRequest => fault.hint(format!("Check {}.", self.url_setting())),
            _ => fault,
        }
    }

    /// Advice where nobody listens.
    fn start_it(&self, fault: Fault) -> Fault {
        if !self.is_here {
            return fault.hint(format!("Check the network, and {}.", self.url_setting()));
        }
        match self.kind {
            ProviderKind::Ollama => fault.fix("Start Ollama with", "ollama serve"),
            _ if self.is_lm_studio() => fault.fix("Start LM Studio's server with", "lms server start"),
            _ => fault.hint(format!("Start the server, or correct {}.", self.url_setting())),
        }
    }

    /// Advice where a key is missing or not accepted.
    fn set_key(&self, fault: Fault) -> Fault {
        match &self.key_env {
            Some(variable) if self.has_key => {
                let what = format!("The key in `{variable}` is not accepted; set another with");
                fault.fix(&what, format!("export {variable}=..."))
            }
            Some(variable) => fault.fix("Set the key with", format!("export {variable}=...")),
            None => fault.hint(format!(
                "Name the variable that holds the key as `providers.{}.key_env` in the configuration.",
                self.name.provider
            )),
        }
    }

    /// Whether this is the usual address of LM Studio.
    fn is_lm_studio(&self) -> bool {
        self.is_here && self.url.contains(":1234")
    }
}
