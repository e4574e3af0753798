//! What `swarm` relies on in the pinned Claude Code CLI, run alone against the scripted model: when a new version of the
//! CLI breaks these, it is the CLI that changed.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::claude::{ClaudeHome, claude_binary};
use crate::support::model_server::{Fault, INPUT_TOKENS, ModelServer, OUTPUT_TOKENS, Script};

/// One run of `claude -p` in a folder of its own.
struct Run {
    /// The agent's working directory.
    folder: TempDir,
    /// How it ended.
    output: Output,
    /// The events it printed.
    events: Vec<Value>,
}

impl Run {
    /// Runs one prompt in print mode, with flags as the runtime passes them.
    fn new(server: &ModelServer, prompt: &str) -> Self {
        let (home, folder) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let claude = ClaudeHome::prepare(home.path(), server, &[folder.path()]);
        let output = print_mode(&claude, folder.path(), prompt);
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        let events = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(!claude.config_dir().join("sessions").read_dir().is_ok_and(|files| files.count() > 0));
        Self { folder, output, events }
    }

    /// The last event, which says how the run ended.
    fn result(&self) -> &Value {
        self.events.last().unwrap()
    }
}

/// Starts `claude -p` with nothing inherited and waits for its end.
#[expect(clippy::disallowed_methods, reason = "the door in `process` is not visible to integration tests")]
fn print_mode(claude: &ClaudeHome, folder: &Path, prompt: &str) -> Output {
    let mut command = Command::new(claude_binary());
    command.args(["-p", prompt, "--output-format", "stream-json", "--verbose", "--permission-mode", "acceptEdits"]);
    command.current_dir(folder).stdin(Stdio::null()).env_clear();
    command.envs(claude.environment().iter().map(|(name, value)| (name, value)));
    command.output().unwrap()
}

#[test]
fn scripted_tools_change_real_files() {
    let script = Script::new()
        .call("Write", json!({"file_path": "{cwd}/a.txt", "content": "one\ntwo\n"}))
        .call("Edit", json!({"file_path": "{cwd}/a.txt", "old_string": "two", "new_string": "three"}))
        .call("Bash", json!({"command": "cat a.txt", "description": "Show the file"}))
        .call("Bash", json!({"command": "sh -c 'exit 3'", "description": "Not allowed"}))
        .say("All done.");
    let server = ModelServer::builder().script("work", script).start();
    let run = Run::new(&server, "Please SCRIPT:work");
    assert_eq!(run.output.status.code(), Some(0));
    assert_eq!(std::fs::read_to_string(run.folder.path().join("a.txt")).unwrap(), "one\nthree\n");
    assert_eq!(run.result()["result"], "All done.");
    assert_eq!(run.result()["permission_denials"][0]["tool_input"]["command"], "sh -c 'exit 3'");
    let usage = &run.result()["usage"];
    assert_eq!(
        (&usage["input_tokens"], &usage["output_tokens"]),
        (&json!(5 * INPUT_TOKENS), &json!(5 * OUTPUT_TOKENS))
    );
    let last = server.requests().pop().unwrap();
    let results = last.tool_results();
    assert!(results[2].0.starts_with("one\nthree") && !results[2].1 && results[3].1, "{results:?}");
    assert_eq!(run.result()["session_id"], last.session_id());
    assert!(last.mentions("Please SCRIPT:work") && last.system_text().contains("Claude Code"));
}

#[test]
fn api_error_is_a_result_that_calls_itself_a_success() {
    let script = Script::new().failing(Fault::Status(529));
    let server = ModelServer::builder().script("overloaded", script).start();
    let run = Run::new(&server, "SCRIPT:overloaded");
    assert_eq!(run.output.status.code(), Some(1));
    let result = run.result();
    assert_eq!(
        (&result["subtype"], &result["is_error"], &result["terminal_reason"], &result["api_error_status"]),
        (&json!("success"), &json!(true), &json!("api_error"), &json!(529))
    );
    assert_eq!(server.requests().len(), 2, "the request and one retry");
}

#[test]
fn cut_stream_is_retried() {
    let script = Script::new().say("Second time.").failing_at_first(Fault::Cut, 1);
    let server = ModelServer::builder().script("cut", script).start();
    let run = Run::new(&server, "SCRIPT:cut");
    assert_eq!((run.output.status.code(), &run.result()["result"]), (Some(0), &json!("Second time.")));
    assert!(run.events.iter().any(|event| event["subtype"] == "api_retry"));
}
