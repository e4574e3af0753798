//! What each runtime can do, and how its real program is brought to a scripted model.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::claude::ClaudeHome;
use crate::support::model_server::ModelServer;
use crate::support::swarm::TestSwarm;

/// How a runtime goes on after its process was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resume {
    /// In its conversation.
    Conversation,
    /// It starts anew in the same worktree.
    Anew,
}

/// One runtime, or one preset of one.
#[derive(Debug)]
pub(super) struct Runtime {
    /// As the README has it.
    pub(super) label: &'static str,
    /// The lines of the agent definition that choose it; `{program}` is its binary.
    head: &'static str,
    /// The name of its binary among the agents that are installed for tests.
    program: Option<&'static str>,
    /// Sets the stage up, so that its program reaches the scripted model and nothing else.
    pub(super) prepare: fn(&mut TestSwarm, &ModelServer),
    /// Whether a model takes part.
    pub(super) has_model: bool,
    /// The call that writes a file of the worktree.
    pub(super) write: fn(&str) -> (&'static str, Value),
    /// The call that runs a command.
    pub(super) shell: fn(&str) -> (&'static str, Value),
    /// How the calls of the whole job end in the tool log; empty where it keeps none.
    pub(super) ends: &'static [&'static str],
    /// Whether it says what it used.
    pub(super) usage: bool,
    /// Whether it says what that costs.
    pub(super) cost: bool,
    /// Whether that is nothing.
    pub(super) is_free: bool,
    /// How it goes on.
    pub(super) resume: Resume,
    /// Who may not be left when it was killed, by a part of the command line.
    pub(super) processes: &'static [&'static str],
    /// The key that consents to a question in its terminal.
    pub(super) consent: &'static str,
    /// How far it was seen to work.
    pub(super) verified: &'static str,
}

/// The rules of all agents here.
const RULES: &str = "permission_mode: acceptEdits\npermissions:\n  allow: [\"Bash(sh -c *)\"]\n  \
    ask: [\"Bash(git push*)\", \"Bash(touch *)\"]\n  deny: [\"Bash(rm *)\"]\n";

impl Runtime {
    /// The agent definition.
    pub(super) fn agent(&self) -> String {
        let program = self.program.map(binary).unwrap_or_default();
        let head = self.head.replace("{program}", &program.display().to_string());
        format!("---\nname: subject\ndescription: Does what the script says\n{head}{RULES}---\nYou work carefully.\n")
    }
}

/// A call of a tool that writes as Claude Code's does.
fn write_file(name: &str) -> (&'static str, Value) {
    ("Write", json!({"file_path": format!("{{tree}}/{name}"), "content": "content\n"}))
}

/// A call of a shell tool that is called `Bash`.
fn bash(command: &str) -> (&'static str, Value) {
    ("Bash", json!({"command": command, "description": "Run a command"}))
}

/// A call of OpenCode's tool for files.
fn opencode_write(name: &str) -> (&'static str, Value) {
    ("write", json!({"filePath": format!("{{tree}}/{name}"), "content": "content\n"}))
}

/// A call of OpenCode's shell.
fn opencode_bash(command: &str) -> (&'static str, Value) {
    ("bash", json!({"command": command, "description": "Run a command"}))
}

/// A call of Codex' shell; it has no tool for files with a model that it does not know.
fn codex_shell(command: &str) -> (&'static str, Value) {
    ("exec_command", json!({"cmd": command, "login": false}))
}

/// A file by way of Codex' shell.
fn codex_write(name: &str) -> (&'static str, Value) {
    codex_shell(&format!("echo content > {name}"))
}

/// Claude Code.
pub(super) const CLAUDE: Runtime = Runtime {
    label: "`claude`",
    head: "runtime: claude\n",
    program: None,
    prepare: |swarm, server| {
        let folder = swarm.root().join("agent");
        std::fs::create_dir(&folder).unwrap();
        let home = ClaudeHome::prepare(&folder, server, &[&swarm.repository()]);
        for (name, value) in home.environment().iter().filter(|(name, _)| name != "HOME" && name != "TMPDIR") {
            swarm.set_env(name, value.as_str());
        }
    },
    has_model: true,
    write: write_file,
    shell: bash,
    ends: &["Write ok", "Bash error 3", "Bash denied"],
    usage: true,
    cost: true,
    is_free: false,
    resume: Resume::Conversation,
    processes: &["claude"],
    consent: "1",
    verified: "run: Claude Code 2.1.329",
};

/// Claude Code with a model from somebody else than Anthropic.
pub(super) const CLAUDE_ELSEWHERE: Runtime = Runtime {
    label: "`claude` with a `provider`",
    head: "runtime: claude\nprovider: here\nmodel: claude-named-model\n",
    program: None,
    prepare: |swarm, server| {
        (CLAUDE.prepare)(swarm, server);
        // Whoever asks there gets no answer.
        swarm.set_env("ANTHROPIC_BASE_URL", "http://127.0.0.1:9");
        swarm.write(
            ".swarm/config.yaml",
            &format!("providers: {{here: {{kind: ollama, url: \"{}\"}}}}\n", server.url()),
        );
    },
    is_free: true,
    ..CLAUDE
};

/// Our own loop.
pub(super) const OLLAMA: Runtime = Runtime {
    label: "`ollama` (own loop)",
    head: "runtime: ollama\nmodel: test-model\n",
    program: None,
    prepare: |swarm, server| swarm.set_env("OLLAMA_HOST", server.url()),
    has_model: true,
    write: write_file,
    shell: bash,
    ends: &["Write ok", "Bash error 3", "Bash denied"],
    usage: true,
    cost: true,
    is_free: true,
    resume: Resume::Conversation,
    processes: &["swarm loop"],
    consent: "y",
    verified: "run: swarm itself",
};

/// OpenCode by the Agent Client Protocol.
pub(super) const ACP: Runtime = Runtime {
    label: "`acp` (OpenCode)",
    head: "runtime: acp\npreset: opencode\ncommand: [\"{program}\"]\n",
    program: Some("opencode"),
    prepare: prepare_opencode,
    has_model: true,
    write: opencode_write,
    shell: opencode_bash,
    ends: &["Edit ok", "Bash error 3", "Bash denied"],
    usage: true,
    cost: false,
    is_free: false,
    resume: Resume::Conversation,
    processes: &["swarm acp", "opencode acp"],
    consent: "y",
    verified: "run: OpenCode 1.18.33",
};

/// Codex.
pub(super) const CODEX: Runtime = Runtime {
    label: "`command`, preset `codex`",
    head: "preset: codex\ncommand: [\"{program}\"]\n",
    program: Some("codex"),
    prepare: prepare_codex,
    has_model: true,
    write: codex_write,
    shell: codex_shell,
    ends: &["Bash ok 0", "Bash error 3", "Bash denied"],
    usage: true,
    cost: false,
    is_free: false,
    resume: Resume::Conversation,
    processes: &["codex exec"],
    consent: "y",
    verified: "run: Codex 0.169.0",
};

/// OpenCode in print mode.
pub(super) const OPENCODE: Runtime = Runtime {
    label: "`command`, preset `opencode`",
    head: "preset: opencode\ncommand: [\"{program}\"]\n",
    program: Some("opencode"),
    prepare: prepare_opencode,
    has_model: true,
    write: opencode_write,
    shell: opencode_bash,
    ends: &["write ok", "bash error 3", "bash denied"],
    usage: true,
    cost: true,
    is_free: true,
    resume: Resume::Conversation,
    processes: &["opencode run"],
    consent: "",
    verified: "run: OpenCode 1.18.33",
};

/// Any program.
pub(super) const COMMAND: Runtime = Runtime {
    label: "`command`, a program of yours",
    head: "runtime: command\ncommand: [\"sh\", \"-c\", \"rm ~/hang 2>/dev/null; hung=$?; echo content > a.txt; \
        test $hung != 0 || exec tail -f /dev/null\"]\n",
    program: None,
    prepare: |_, _| {},
    has_model: false,
    write: write_file,
    shell: bash,
    ends: &[],
    usage: false,
    cost: false,
    is_free: false,
    resume: Resume::Anew,
    processes: &["tail -f"],
    consent: "",
    verified: "run",
};

/// A home with a configuration of OpenCode that knows the scripted model only, and nothing that fetches anything.
fn prepare_opencode(swarm: &mut TestSwarm, server: &ModelServer) {
    let provider = json!({
        "npm": "@ai-sdk/openai-compatible",
        "name": "scripted",
        "options": {"baseURL": format!("{}/v1", server.url()), "apiKey": "test-key"},
        "models": {"test-model": {"name": "test-model"}},
    });
    let config = json!({
        "provider": {"scripted": provider}, "model": "scripted/test-model", "small_model": "scripted/test-model",
        "autoupdate": false, "share": "disabled",
    });
    swarm.write_at(&swarm.user_config().parent().unwrap().join("opencode/opencode.json"), &config.to_string());
    for name in ["OPENCODE_DISABLE_MODELS_FETCH", "OPENCODE_DISABLE_AUTOUPDATE", "OPENCODE_DISABLE_LSP_DOWNLOAD"] {
        swarm.set_env(name, "1");
    }
}

/// A home with a configuration of Codex for the scripted model, a rule that forbids, and trust in the worktree.
fn prepare_codex(swarm: &mut TestSwarm, server: &ModelServer) {
    let home = swarm.root().join("home/.codex");
    let trusted = [swarm.repository(), swarm.worktree("work")];
    let trusted =
        trusted.map(|path| format!("[projects.\"{}\"]\ntrust_level = \"trusted\"\n", path.display())).concat();
    let config = format!(
        "model = \"test-model\"\nmodel_provider = \"scripted\"\ncheck_for_update_on_startup = false\n\
         [analytics]\nenabled = false\n[model_providers.scripted]\nname = \"scripted\"\n\
         base_url = \"{}/v1\"\nwire_api = \"responses\"\nrequest_max_retries = 0\nstream_max_retries = 0\n{trusted}",
        server.url()
    );
    swarm.write_at(&home.join("config.toml"), &config);
    let rule = "prefix_rule(pattern=[\"rm\"], decision=\"forbidden\", justification=\"a test forbids it\")\n";
    swarm.write_at(&home.join("rules/default.rules"), rule);
}

/// The binary of a pinned agent program.
///
/// # Panics
/// When it is not installed, with the command that installs it.
#[expect(clippy::disallowed_methods, reason = "the door in `process` is not visible to integration tests")]
pub(super) fn binary(name: &str) -> PathBuf {
    let installer = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/install-agents");
    let output = Command::new(installer).arg("--print-path").output().expect("`tests/tools/install-agents` can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let path = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(PathBuf::from);
    let path = path.unwrap_or_else(|| panic!("`{name}` is not installed for tests: {text}"));
    assert!(path.is_file(), "`{name}` is not at `{}`: run `tests/tools/install-agents`", path.display());
    path
}
