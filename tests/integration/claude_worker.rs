//! Workers whose agent is the real Claude Code CLI, against a scripted model on loopback, in real tmux.

use serde_json::{Value, json};

use crate::support::claude::ClaudeHome;
use crate::support::model_server::{ModelServer, Script};
use crate::support::swarm::TestSwarm;

/// A repository whose agents reach only the scripted model.
pub(crate) fn claude_swarm(server: &ModelServer) -> TestSwarm {
    let mut swarm = TestSwarm::new();
    let folder = swarm.root().join("agent");
    std::fs::create_dir(&folder).unwrap();
    let home = ClaudeHome::prepare(&folder, server, &[&swarm.repository()]);
    for (name, value) in home.environment() {
        if name == "PATH" {
            let path = format!("{value}:{}", std::env::var("PATH").unwrap());
            swarm.set_env("PATH", path);
        } else if name != "HOME" && name != "TMPDIR" {
            swarm.set_env(name, value.as_str());
        }
    }
    swarm
}

#[test]
fn an_interactive_worker_writes_commits_and_goes_to_review() {
    let server = ModelServer::builder()
        .script(
            "parser",
            Script::new()
                .call("Write", json!({"file_path": "{cwd}/parser.txt", "content": "parsed\n"}))
                .call("Bash", json!({"command": "git add parser.txt && git commit -q -m 'Add the parser'", "description": "Commit"}))
                .say("Added the parser."),
        )
        .start();
    let swarm = claude_swarm(&server);
    swarm.write(".swarm/tickets/parser.md", "---\ntitle: Parser\n---\nSCRIPT:parser write the parser\n");
    swarm.run(["spawn", "parser"]).success();
    let output = swarm.run(["wait", "--timeout", "60s"]);
    assert_eq!(
        output.code,
        0,
        "{}\n{}\n{}",
        output.transcript(),
        swarm.run(["why", "parser"]).stdout,
        swarm.run(["logs", "parser", "--terminal"]).stdout
    );
    let status = swarm.run(["status", "--json"]).json();
    let worker = &status["workers"][0];
    assert_eq!(worker["status"], "done", "{worker:#}");
    assert_eq!(worker["ticket_state"], "review");
    assert_eq!(worker["tool_calls"], 2, "{worker:#}");
    assert_eq!(worker["commits"], 1);
    let _: &Value = worker;
}
