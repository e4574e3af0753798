use serde_json::json;

use super::*;
use crate::config::{CommandValues, expand_command, render_system_prompt};
use crate::model::agent::{PermissionMode, PromptDelivery, RuntimeKind};

/// A book with these files of the repository.
fn book(claude: &[(&str, &str)], project: &[(&str, &str)]) -> AgentBook {
    let folder = tempfile::tempdir().unwrap();
    let own =
        |files: &[(&str, &str)]| files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
    let sources = AgentSources {
        user_folder: Some(folder.path().to_owned()),
        presets: Vec::new(),
        claude_project: own(claude),
        project: own(project),
    };
    load_agents(&sources).unwrap()
}

/// The agent of a name.
fn get<'a>(book: &'a AgentBook, name: &str) -> Result<&'a Agent, ConfigError> {
    book.get(&name.parse().unwrap())
}

#[test]
fn every_built_in_agent_is_usable() {
    let book = book(&[], &[]);
    assert_eq!(book.problems().len(), 0, "{:?}", book.problems());
    let names: Vec<_> = book.all().map(|agent| agent.name.as_str()).collect();
    let expected =
        ["code-reviewer", "conflict-resolver", "documentation-writer", "planner", "test-writer", "ticket-worker"];
    assert_eq!(names, expected);
    for agent in book.all() {
        // A built-in agent is found by its file, which is read later.
        assert_eq!(get(&book, agent.name.as_str()).unwrap().name, agent.name);
        let context = json!({
            "worker": "fix", "ticket": "fix", "title": "T", "branch": "swarm/fix", "base": "main", "target": "main",
            "worktree": "/w", "repo": "/r", "checks": ["make"], "scope": ["src"], "labels": [], "port": 41000,
            "ports": 10,
        });
        let prompt = render_system_prompt(agent, context).unwrap();
        assert!(prompt.contains("fix") && !agent.description.is_empty(), "{}", agent.name);
        assert!(!agent.permissions.allow.is_empty() && !agent.tools.is_empty(), "{}", agent.name);
        assert_ne!(agent.permission_mode, PermissionMode::Bypass, "{}", agent.name);
    }
}

#[test]
fn an_agent_of_ours_is_read_whole() {
    let text = "---
name: shell-worker
description: Runs a script
runtime: command
command: [sh, work.sh, \"{prompt_file}\", \"--w={worktree}\", \"{{ticket}}\"]
prompt: stdin
tools: [Read]
permission_mode: plan
permissions: {allow: [\"Bash(x)\"], ask: [], deny: [a]}
isolated: true
mcp_servers: {s: {command: x, args: [1]}}
capabilities: [rust]
env: {PORT: 010, V: 1.10}
color: red
maxTurns: 3
disallowedTools: Write
---
Hello {{ worker }}
";
    let book = book(&[], &[(".swarm/agents/other-name.md", text)]);
    let agent = get(&book, "shell-worker").unwrap();
    assert_eq!((agent.runtime, agent.prompt), (RuntimeKind::Command, PromptDelivery::Stdin));
    assert_eq!(agent.permissions.deny, ["a", "Write"]);
    assert_eq!(agent.mcp_servers["s"], json!({"command": "x", "args": [1]}));
    assert_eq!((agent.env["PORT"].as_str(), agent.env["V"].as_str()), ("010", "1.10"));
    assert_eq!(agent.system_prompt, "Hello {{ worker }}");
    let values = CommandValues {
        prompt_file: "/p {repo}".as_ref(),
        worktree: "/w".as_ref(),
        repo: "/r".as_ref(),
        ticket: "t".as_ref(),
        worker: "t+2".as_ref(),
        branch: "swarm/t+2".as_ref(),
    };
    assert_eq!(expand_command(agent, &values), ["sh", "work.sh", "/p {repo}", "--w=/w", "{ticket}"]);
}

#[test]
fn claude_codes_own_format_is_read() {
    let text = "---
name: reviewer
description: Reviews: when asked
tools: Read, Bash(git log, -p), mcp__x__y
disallowedTools: [Write]
model: inherit
permissionMode: plan
mcpServers: [github]
maxTurns: 5
something-new: {a: [1]}
---
Use {{ braces }} {% freely %}.
";
    let book = book(&[(".claude/agents/reviewer.md", text)], &[]);
    let agent = get(&book, "reviewer").unwrap();
    assert_eq!(agent.description, "Reviews: when asked");
    assert_eq!(agent.tools, ["Read", "Bash(git log, -p)", "mcp__x__y"]);
    assert_eq!(agent.permissions.deny, ["Write"]);
    assert_eq!((agent.model.as_deref(), agent.permission_mode), (None, PermissionMode::Plan));
    assert_eq!(agent.origin, AgentOrigin::ClaudeProject);
    assert_eq!(render_system_prompt(agent, json!({})).unwrap(), "Use {{ braces }} {% freely %}.");
}

#[test]
fn later_places_win_and_a_broken_file_hides_only_its_own_name() {
    let folder = tempfile::tempdir().unwrap();
    let user = "---\nname: planner\ndescription: user\n---\nx";
    crate::files::write_new(&folder.path().join("agents/planner.md"), user.as_bytes()).unwrap();
    crate::files::write_new(&folder.path().join("agents/bad.md"), b"\xff").unwrap();
    crate::files::write_new(&folder.path().join("agents/README.md"), b"notes").unwrap();
    let file = |path: &str, text: &str| (PathBuf::from(path), text.to_owned());
    let sources = AgentSources {
        user_folder: Some(folder.path().to_owned()),
        presets: Vec::new(),
        claude_project: vec![
            file(".claude/agents/planner.md", "---\ndescription: claude\n---\nx"),
            file(".claude/agents/test-writer.md", "---\ndescription: claude\n---\nx"),
        ],
        project: vec![
            file(".swarm/agents/test-writer.md", "---\ndescription: project\n---\nx"),
            file(".swarm/agents/ticket-worker.md", "---\nruntime: robot\n---\nx"),
        ],
    };
    let book = load_agents(&sources).unwrap();
    assert_eq!(get(&book, "planner").unwrap().description, "claude");
    assert_eq!(get(&book, "test-writer").unwrap().description, "project");
    assert_eq!(get(&book, "code-reviewer").unwrap().origin, AgentOrigin::BuiltIn);
    let error = get(&book, "ticket-worker").unwrap_err().to_string();
    let expected = ".swarm/agents/ticket-worker.md:2:10: `runtime`: unknown value `robot`; valid values: claude, command, acp, ollama, replay";
    assert_eq!(error, expected);
    assert!(get(&book, "bad").unwrap_err().to_string().ends_with("bad.md: not UTF-8 text"));
    assert_eq!(book.problems().len(), 2);
}

#[test]
fn an_unknown_agent_is_answered_with_the_known_ones() {
    let error = get(&book(&[], &[]), "ticket-wroker").unwrap_err();
    assert!(
        error.to_string().starts_with("there is no agent `ticket-wroker`; known agents: code-reviewer, "),
        "{error}"
    );
    assert_eq!(error.hint(), Some("did you mean `ticket-worker`?"));
}

#[test]
fn broken_agents_are_explained() {
    let faults = [
        "no front matter",
        "---\nname: a b\n---\n",
        "---\ntool: [Read]\n---\n",
        "---\nruntime: command\n---\n",
        "---\nruntime: command\ncommand: []\n---\n",
        "---\nruntime: command\ncommand: sh work.sh\n---\n",
        "---\nruntime: command\ncommand: [sh, \"{promt_file}\"]\n---\n",
        "---\nruntime: command\ncommand: [sh, \"{x}\"]\n---\n",
        "---\ncommand: [sh]\n---\n",
        "---\npermission_mode: yolo\n---\n",
        "---\npermissions: {alow: [a]}\n---\n",
        "---\nenv: {TMUX: x}\n---\n",
        "---\nenv: {SWARM_WORKER: x}\n---\n",
        "---\ntools: {Read: true}\n---\n",
        "---\npermissionMode: bypassPermissions\n---\n",
        "---\nprompt: pipe\n---\n",
        "---\ndescription: d\n---\n\nFine.\nNot {{ fine\n",
    ];
    let mut report = String::new();
    for text in faults {
        let book = book(&[], &[(".swarm/agents/mine.md", text)]);
        let error = get(&book, "mine").expect_err(text);
        let extra = [error.snippet().map(str::to_owned), error.hint().map(|hint| format!("hint: {hint}"))];
        let extra: Vec<_> = extra.into_iter().flatten().collect();
        report.push_str(&format!("{error}\n{}\n\n", extra.join("\n")));
    }
    insta::assert_snapshot!(report);
}

#[test]
fn two_files_of_one_place_cannot_share_a_name() {
    let text = "---\nname: twin\n---\n";
    let book = book(&[], &[(".swarm/agents/a.md", text), (".swarm/agents/b.md", text)]);
    let error = get(&book, "twin").unwrap_err().to_string();
    assert_eq!(error, ".swarm/agents/b.md: `twin` is already defined in `.swarm/agents/a.md`");
}
