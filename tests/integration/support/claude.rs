//! The real Claude Code CLI in surroundings of its own: nothing of the person who runs the tests is read or written, and
//! no byte leaves the machine.
//!
//! `tests/tools/install-claude` pins the version and puts the binary into a cache; a test that needs it and does not find
//! it fails with that command.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value, json};

use super::model_server::ModelServer;

/// Overrides where the binary is.
const BINARY_VARIABLE: &str = "SWARM_TEST_CLAUDE";

/// The API key of all tests; the CLI remembers approval by a key's last 20 characters.
const API_KEY: &str = "test-key-aaaaaaaaaaaaaaaaaaaa";

/// A home, a configuration and an environment for agents under test.
#[derive(Debug)]
pub(crate) struct ClaudeHome {
    /// The whole environment of `swarm`, or of `claude` itself; nothing else may be inherited.
    environment: Vec<(String, String)>,
    /// `CLAUDE_CONFIG_DIR`: the agent's own files, such as `sessions/<pid>.json`.
    #[cfg(feature = "real-agents")]
    config_dir: PathBuf,
}

impl ClaudeHome {
    /// Makes the folders in `parent` (an empty folder of the test) and seeds the configuration, so that no first-run dialog
    /// comes up in `trusted`. Trust goes by a repository's top folder and covers its linked worktrees wherever they are; a
    /// folder above a repository does not count (measured with 2.1.329).
    pub(crate) fn prepare(parent: &Path, server: &ModelServer, trusted: &[&Path]) -> Self {
        let binary = claude_binary();
        // Agents compare resolved paths, and the temp folder of some systems is behind a link.
        let parent = parent.canonicalize().expect("the test's folder exists");
        let folder = |name: &str| {
            let path = parent.join(name);
            fs::create_dir_all(&path).expect("the test may write in its folder");
            path
        };
        let (home, config_dir, temp, programs) = (folder("home"), folder("claude"), folder("tmp"), folder("bin"));
        std::os::unix::fs::symlink(binary, programs.join("claude")).expect("the folder is fresh");
        write_json(&config_dir.join(".claude.json"), &seed(trusted));
        let environment = environment(&home, &config_dir, &temp, &programs, &server.url());
        Self {
            environment,
            #[cfg(feature = "real-agents")]
            config_dir,
        }
    }

    /// The environment to run with after `env_clear`. `claude` is found in its `PATH`.
    pub(crate) fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// The CLI's configuration folder.
    #[cfg(feature = "real-agents")]
    pub(crate) fn config_dir(&self) -> &Path {
        &self.config_dir
    }
}

/// The pinned CLI.
///
/// # Panics
/// If it is not installed, with the command that installs it.
pub(crate) fn claude_binary() -> PathBuf {
    let binary = std::env::var_os(BINARY_VARIABLE).map_or_else(cached_binary, PathBuf::from);
    assert!(
        binary.is_file(),
        "the Claude Code CLI is not at `{}`: run `tests/tools/install-claude`, or set {BINARY_VARIABLE}",
        binary.display()
    );
    binary
}

/// Where the installer puts the binary. Asking it keeps version and platform in one place.
#[expect(clippy::disallowed_methods, reason = "the door in `process` is not visible to integration tests")]
fn cached_binary() -> PathBuf {
    let installer = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/install-claude");
    let output = Command::new(installer).arg("--print-path").output().expect("`tests/tools/install-claude` can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end())
}

/// The least that keeps the CLI from asking about a theme, the key, and the folder.
fn seed(trusted: &[&Path]) -> Value {
    let approved = &API_KEY[API_KEY.len() - 20..];
    let projects = trusted.iter().map(|path| {
        let path = path.canonicalize().expect("a trusted folder exists");
        (path.display().to_string(), json!({"hasTrustDialogAccepted": true}))
    });
    json!({
        "hasCompletedOnboarding": true,
        "customApiKeyResponses": {"approved": [approved], "rejected": []},
        "projects": projects.collect::<Map<_, _>>(),
    })
}

/// Writes a file that nobody reads yet.
fn write_json(path: &Path, value: &Value) {
    let mut file = File::create(path).expect("the test may write in its folder");
    file.write_all(value.to_string().as_bytes()).expect("the test may write in its folder");
}

/// All variables: places, a terminal, the scripted model, and what keeps the CLI off the network and quick to give up.
fn environment(home: &Path, config_dir: &Path, temp: &Path, programs: &Path, url: &str) -> Vec<(String, String)> {
    let inherited = std::env::var_os("PATH").expect("PATH is set");
    let path = format!("{}:{}", programs.display(), inherited.to_string_lossy());
    let fixed = [
        ("TERM", "xterm-256color"),
        ("LANG", "C.UTF-8"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("ANTHROPIC_BASE_URL", url),
        ("ANTHROPIC_API_KEY", API_KEY),
        ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
        ("CLAUDE_CODE_MAX_RETRIES", "1"),
        ("DISABLE_AUTOUPDATER", "1"),
        ("DISABLE_TELEMETRY", "1"),
        ("DISABLE_ERROR_REPORTING", "1"),
    ];
    let places = [("HOME", home), ("CLAUDE_CONFIG_DIR", config_dir), ("TMPDIR", temp), ("CLAUDE_CODE_TMPDIR", temp)];
    let places = places.map(|(name, path)| (name.to_owned(), path.display().to_string()));
    let fixed = fixed.map(|(name, value)| (name.to_owned(), value.to_owned()));
    [("PATH".to_owned(), path)].into_iter().chain(places).chain(fixed).collect()
}
