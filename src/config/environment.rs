//! The environment this process was started in, and what of it an agent gets.
//!
//! Agents get an allow-list, not everything minus a few names: what a person has in the environment for other
//! programs (tokens, a session's own sockets) stays there unless they name it in `pass_env`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

use super::error::Problem;
use crate::model::agent::{Agent, RuntimeKind};
use crate::model::settings::Settings;

/// A snapshot of the process environment. Names and values need not be UTF-8.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Environment(BTreeMap<OsString, OsString>);

/// Without the values: they hold secrets, and logs print with this.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Takes the snapshot. The only place where the process environment is read.
pub(crate) fn environment() -> Environment {
    Environment(std::env::vars_os().collect())
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl Environment {
    /// The value of a variable; `None` when it is not set or not UTF-8.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(std::ffi::OsStr::new(name)).and_then(|value| value.to_str())
    }

    /// Like [`Environment::get`], with an error for a value that is not UTF-8.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Problem> {
        match self.0.get(std::ffi::OsStr::new(name)) {
            None => Ok(None),
            Some(value) => value.to_str().map(Some).ok_or_else(|| Problem::in_file(name, "not UTF-8 text")),
        }
    }

    /// All variables.
    pub(crate) fn all(&self) -> Vec<(OsString, OsString)> {
        self.0.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// All variables that are UTF-8.
    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?)))
    }
}

/// Names of variables with the reason why agents get them. A name that ends in `*` stands for all that begin so.
struct Group {
    /// The runtimes they are for; none is every runtime.
    runtimes: &'static [RuntimeKind],
    /// A variable that must be set, and not to `0` or nothing, for the group to count.
    needs: Option<&'static str>,
    /// The names.
    names: &'static [&'static str],
}

/// A group for every runtime.
const fn all(names: &'static [&'static str]) -> Group {
    Group { runtimes: &[], needs: None, names }
}

/// A group for Claude Code.
const fn claude(needs: Option<&'static str>, names: &'static [&'static str]) -> Group {
    Group { runtimes: &[RuntimeKind::Claude], needs, names }
}

/// A group for our own agent loop.
const fn own(names: &'static [&'static str]) -> Group {
    Group { runtimes: &[RuntimeKind::Ollama, RuntimeKind::Replay], needs: None, names }
}

/// What agents get of the environment of the process that spawns them.
const ALLOWED: &[Group] = &[
    // Finding programs, files and the person; login shells and git need all of these.
    all(&["PATH", "HOME", "USER", "LOGNAME", "SHELL", "HOSTNAME", "TMPDIR", "XDG_*"]),
    // Language, character set and time of what programs print. TERM is set by whoever makes the terminal.
    all(&["LANG", "LANGUAGE", "LC_*", "TZ", "COLORTERM", "NO_COLOR"]),
    // Fetching over ssh and signing with the person's agent; git's identity, transport and configuration.
    all(&["SSH_AUTH_SOCK", "SSH_AGENT_PID", "GNUPGHOME", "GIT_AUTHOR_*", "GIT_COMMITTER_*", "GIT_SSH", "GIT_SSH_*"]),
    all(&["GIT_SSL_*", "GIT_CONFIG_*", "GIT_EXEC_PATH", "GIT_TEMPLATE_DIR", "EMAIL"]),
    // The way to the network and whom to trust on it; networks that need these work with nothing else.
    all(&["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"]),
    all(&["SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"]),
    all(&["NIX_SSL_CERT_FILE"]),
    // Where tool chains, packages and caches are: without them a build finds nothing or downloads everything anew.
    all(&["CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "RUSTC_WRAPPER", "SCCACHE_DIR", "CCACHE_DIR"]),
    all(&["GOPATH", "GOROOT", "GOBIN", "GOCACHE", "GOMODCACHE", "GOPROXY", "GOFLAGS", "GOTOOLCHAIN"]),
    all(&[
        "NVM_DIR",
        "NVM_BIN",
        "FNM_DIR",
        "FNM_MULTISHELL_PATH",
        "VOLTA_HOME",
        "PNPM_HOME",
        "BUN_INSTALL",
        "DENO_DIR",
    ]),
    all(&["COREPACK_HOME", "NODE_PATH", "NPM_CONFIG_CACHE", "NPM_CONFIG_PREFIX", "NPM_CONFIG_USERCONFIG"]),
    all(&["NPM_CONFIG_REGISTRY", "npm_config_cache", "npm_config_prefix", "npm_config_userconfig"]),
    all(&["npm_config_registry", "YARN_CACHE_FOLDER"]),
    all(&["VIRTUAL_ENV", "PYENV_ROOT", "PYTHONPATH", "PIP_CACHE_DIR", "PIPX_HOME", "POETRY_HOME", "POETRY_CACHE_DIR"]),
    all(&["UV_CACHE_DIR", "UV_TOOL_DIR", "UV_PYTHON_INSTALL_DIR", "CONDA_PREFIX", "CONDA_EXE", "CONDA_DEFAULT_ENV"]),
    all(&["RBENV_ROOT", "GEM_HOME", "GEM_PATH", "BUNDLE_PATH", "BUNDLE_USER_HOME", "COMPOSER_HOME", "MIX_HOME"]),
    all(&["HEX_HOME", "JAVA_HOME", "JDK_HOME", "M2_HOME", "MAVEN_HOME", "GRADLE_HOME", "GRADLE_USER_HOME"]),
    all(&["SDKMAN_DIR", "ANDROID_HOME", "ANDROID_SDK_ROOT", "DOTNET_ROOT", "NUGET_PACKAGES", "FLUTTER_ROOT"]),
    all(&["ASDF_DIR", "ASDF_DATA_DIR", "MISE_DATA_DIR", "MISE_CONFIG_DIR", "HOMEBREW_PREFIX", "HOMEBREW_CELLAR"]),
    all(&["HOMEBREW_REPOSITORY", "DEVELOPER_DIR", "SDKROOT", "NIX_PATH", "NIX_PROFILES", "LOCALE_ARCHIVE"]),
    all(&["OPAMROOT", "GHCUP_INSTALL_BASE_PREFIX", "STACK_ROOT", "CABAL_DIR", "PLAYWRIGHT_BROWSERS_PATH"]),
    // Libraries outside the system's folders, as set up by such tool chains.
    all(&[
        "LD_LIBRARY_PATH",
        "DYLD_FALLBACK_LIBRARY_PATH",
        "LIBRARY_PATH",
        "CPATH",
        "PKG_CONFIG_PATH",
        "CMAKE_PREFIX_PATH",
    ]),
    // Where containers run, for projects that test with them.
    all(&["DOCKER_HOST", "DOCKER_CONFIG", "DOCKER_CONTEXT", "CONTAINER_HOST"]),
    // Makes programs ask no questions and draw no spinners where swarm itself runs unattended.
    all(&["CI"]),
    // Whom Claude Code talks to and as whom: address, key or token, models, headers.
    claude(None, &["ANTHROPIC_*", "CLAUDE_CONFIG_DIR", "CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CODE_API_KEY_HELPER_TTL_MS"]),
    claude(None, &["CLAUDE_CODE_CLIENT_CERT", "CLAUDE_CODE_CLIENT_KEY", "CLAUDE_CODE_CLIENT_KEY_PASSPHRASE"]),
    claude(None, &["CLAUDE_CODE_USE_*", "CLAUDE_CODE_SKIP_*"]),
    // The person's own knobs: what is switched off or on, retries, sizes and times.
    claude(None, &["CLAUDE_CODE_DISABLE_*", "CLAUDE_CODE_ENABLE_*", "CLAUDE_CODE_MAX_*", "CLAUDE_CODE_EFFORT_LEVEL"]),
    claude(None, &["CLAUDE_CODE_SUBAGENT_MODEL", "CLAUDE_CODE_SHELL", "CLAUDE_CODE_TMPDIR", "CLAUDE_BASH_*"]),
    claude(None, &["DISABLE_*", "ENABLE_*", "MAX_THINKING_TOKENS", "MAX_MCP_OUTPUT_TOKENS", "MCP_*"]),
    claude(None, &["BASH_MAX_OUTPUT_LENGTH", "BASH_DEFAULT_TIMEOUT_MS", "BASH_MAX_TIMEOUT_MS", "API_TIMEOUT_MS"]),
    claude(None, &["USE_BUILTIN_RIPGREP"]),
    // Says that the machine is a sandbox; Claude Code lets root skip permissions only then.
    claude(None, &["IS_SANDBOX"]),
    // Credentials of the cloud that serves the model, only where one is chosen.
    claude(Some("CLAUDE_CODE_USE_BEDROCK"), &["AWS_*"]),
    claude(
        Some("CLAUDE_CODE_USE_VERTEX"),
        &["GOOGLE_*", "GCLOUD_*", "CLOUDSDK_*", "CLOUD_ML_REGION", "VERTEX_REGION_*"],
    ),
    claude(Some("CLAUDE_CODE_USE_FOUNDRY"), &["AZURE_*"]),
    // Where the person's own providers listen; the variables with keys are named in the settings.
    own(&["OLLAMA_HOST", "ANTHROPIC_BASE_URL", "OPENAI_BASE_URL"]),
];

/// What no agent gets, whoever names it: variables that tie a program to another session, terminal or
/// repository than its own. An agent that believed them would report to, draw on or write into the wrong one.
const REFUSED: &[&str] = &[
    // Set by Claude Code for what it starts; swarm may itself run inside one.
    "CLAUDECODE",
    "CLAUDE_CODE_SESSION_ID",
    "CLAUDE_CODE_CHILD_SESSION",
    "CLAUDE_CODE_ENTRYPOINT",
    "CLAUDE_CODE_EXECPATH",
    "CLAUDE_CODE_MESSAGING_*",
    "CLAUDE_CODE_SSE_PORT",
    "CLAUDE_CODE_REMOTE*",
    "CLAUDE_PID",
    "CLAUDE_PROJECT_DIR",
    "CLAUDE_ENV_FILE",
    "CLAUDE_PLUGIN_*",
    "CLAUDE_EFFORT",
    // Terminals around swarm.
    "TMUX*",
    "STY",
    "TERM_SESSION_ID",
    "WINDOWID",
    // Where git looks, by git(1), "The Git Repository" and git-rev-parse(1) --local-env-vars. Of those,
    // GIT_CONFIG_COUNT passes: set-ups of machines use it for the person's own configuration.
    "GIT_CONFIG",
    "GIT_CONFIG_PARAMETERS",
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_COMMON_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_GRAFT_FILE",
    "GIT_SHALLOW_FILE",
    "GIT_REPLACE_REF_BASE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INTERNAL_*",
    "GIT_QUARANTINE_PATH",
    "GIT_CEILING_DIRECTORIES",
];

/// Whether a name is in a list with `*` for "whatever follows" or "whatever stands there".
fn is_in(name: &str, list: &[&str]) -> bool {
    list.iter().any(|pattern| match pattern.split_once('*') {
        Some((before, after)) => {
            name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
        }
        None => *pattern == name,
    })
}

/// Why a variable that a person names cannot be set or passed on; `None` when it can.
pub(super) fn refuse_variable(name: &str, value: &str) -> Option<String> {
    let start = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !start || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        Some(format!("`{name}` is not the name of a variable"))
    } else if is_in(name, REFUSED) {
        Some(format!("`{name}` belongs to another session, terminal or repository; agents cannot have it"))
    } else if name.starts_with("SWARM_") {
        Some(format!("`{name}` is set by swarm itself"))
    } else if value.contains('\0') {
        Some("a value cannot contain a NUL character".to_owned())
    } else {
        None
    }
}

/// The complete environment of an agent, by name: the allowed part of `environment`, what `pass_env` adds,
/// `env` of the settings, `env` of the agent, and `extra` (the `SWARM_*` variables of its worker, `TERM`), each
/// over the one before. Variables that are not UTF-8 are left out.
pub(crate) fn agent_environment(
    environment: &Environment,
    settings: &Settings,
    agent: &Agent,
    extra: &[(String, String)],
) -> Vec<(String, String)> {
    let value = |name: &str| {
        let written = agent.env.get(name).or_else(|| settings.env.get(name)).map(String::as_str);
        written.or_else(|| environment.get(name))
    };
    let counts = |group: &Group| {
        (group.runtimes.is_empty() || group.runtimes.contains(&agent.runtime))
            && group.needs.is_none_or(|name| !matches!(value(name), None | Some("" | "0" | "false")))
    };
    let allowed: Vec<&str> =
        ALLOWED.iter().filter(|group| counts(group)).flat_map(|group| group.names).copied().collect();
    let models = settings.for_models();
    let mut keys = if agent.runtime.is_own() { models.key_variables() } else { Vec::new() };
    // What an agent needs of the provider that it names, and nothing else of it.
    let named = agent.provider.as_ref().and_then(|name| settings.providers.get(name));
    keys.extend(named.and_then(|provider| provider.key_env.as_deref()));
    keys.extend(named.is_some().then_some("OLLAMA_HOST"));
    let is_named = |name: &str| keys.contains(&name) || settings.pass_env.iter().any(|named| named == name);
    let of_preset: Vec<&str> = agent.preset.iter().flat_map(|preset| &preset.pass_env).map(String::as_str).collect();
    let passed = |name: &str| is_in(name, &allowed) || is_in(name, &of_preset) || is_named(name);
    let mut result: BTreeMap<&str, &str> =
        environment.pairs().filter(|(name, _)| passed(name) && !is_in(name, REFUSED)).collect();
    result.extend(settings.env.iter().chain(&agent.env).map(|(name, value)| (name.as_str(), value.as_str())));
    result.extend(extra.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    result.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests;
