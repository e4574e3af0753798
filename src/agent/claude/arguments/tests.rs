use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};

use super::{HOOKS, PROMPT_LIMIT, prepare};
use crate::agent::AgentError;
use crate::agent::launch::{Launch, Mode};
use crate::agent::policy::{Policy, policy_file};
use crate::agent::testing::{Place, agent};
use crate::model::agent::{Agent, PermissionMode, RuntimeKind};

fn claude() -> Agent {
    agent(RuntimeKind::Claude)
}

fn launch(place: &Place, agent: &Agent, prompt: &str, mode: Mode) -> Launch {
    prepare(&place.plan(agent, prompt, mode)).unwrap().launch
}

fn words(launch: &Launch) -> Vec<&str> {
    launch.argv.iter().map(|word| word.to_str().unwrap()).collect()
}

/// The words after a flag, up to the next one.
fn after<'a>(launch: &'a Launch, flag: &str) -> Vec<&'a str> {
    let words = words(launch);
    let at = words.iter().position(|word| *word == flag).unwrap_or_else(|| panic!("no {flag} in {words:?}"));
    words[at + 1..].iter().take_while(|word| !word.starts_with("--")).copied().collect()
}

fn variable<'a>(launch: &'a Launch, name: &str) -> Option<&'a str> {
    launch.env.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.to_str())
}

fn read(path: &std::path::Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_terminal_launch_has_the_prompt_last_and_no_shell_around_it() {
    let place = Place::new();
    let prompt = "Fix it.\n\"quotes\" `ticks` $HOME -- --flag";
    let launch = launch(&place, &claude(), prompt, Mode::Interactive);
    let words = words(&launch);
    assert_eq!(words[0], "/bin/true");
    assert_eq!(words[words.len() - 2..], ["--", prompt]);
    assert_eq!(after(&launch, "-n")[0], "fix");
    assert_eq!(after(&launch, "--permission-mode"), ["acceptEdits"]);
    assert_eq!(after(&launch, "--session-id"), [launch.session_id.as_deref().unwrap()]);
    assert!(!words.contains(&"-p") && !launch.raw_output && !launch.is_resumed);
    assert_eq!(variable(&launch, "CLAUDE_CODE_DISABLE_ALTERNATE_SCREEN"), Some("1"));
    assert_eq!(variable(&launch, "CLAUDE_CODE_DISABLE_TERMINAL_TITLE"), None);
    assert_eq!(variable(&launch, "CLAUDE_CONFIG_DIR"), None);
}

/// What 2.1.197 takes as names of hooks and of permission modes; it stops at any other.
const OLDEST_HOOKS: [&str; 30] = [
    "PreToolUse",
    "PostToolUse",
    "PostToolUseFailure",
    "PostToolBatch",
    "Notification",
    "UserPromptSubmit",
    "UserPromptExpansion",
    "SessionStart",
    "SessionEnd",
    "Stop",
    "StopFailure",
    "SubagentStart",
    "SubagentStop",
    "PreCompact",
    "PostCompact",
    "PermissionRequest",
    "PermissionDenied",
    "Setup",
    "TeammateIdle",
    "TaskCreated",
    "TaskCompleted",
    "Elicitation",
    "ElicitationResult",
    "ConfigChange",
    "WorktreeCreate",
    "WorktreeRemove",
    "InstructionsLoaded",
    "CwdChanged",
    "FileChanged",
    "MessageDisplay",
];
const OLDEST_MODES: [&str; 6] = ["acceptEdits", "auto", "bypassPermissions", "default", "dontAsk", "plan"];

#[test]
fn the_oldest_version_knows_every_word_it_is_given() {
    assert!(HOOKS.iter().all(|hook| OLDEST_HOOKS.contains(hook)));
    let place = Place::new();
    for permission_mode in [PermissionMode::Default, PermissionMode::AcceptEdits, PermissionMode::Plan] {
        let agent = Agent { permission_mode, ..claude() };
        let launch = launch(&place, &agent, "Fix it.", Mode::Interactive);
        assert!(OLDEST_MODES.contains(&after(&launch, "--permission-mode")[0]));
    }
}

#[test]
fn a_print_launch_reads_its_prompt_from_the_file() {
    let place = Place::new();
    let launch = launch(&place, &claude(), "Fix it.", Mode::Print);
    let words = words(&launch);
    assert_eq!(words[..4], ["/bin/sh", "-c", "exec \"$@\" <\"$SWARM_PROMPT_FILE\"", "sh"]);
    assert_eq!(words[4], "/bin/true");
    let print = words.iter().position(|word| *word == "-p").unwrap();
    assert_eq!(words[print..print + 4], ["-p", "--output-format", "stream-json", "--verbose"]);
    assert!(!words.contains(&"Fix it.") && !words.contains(&"--"));
    assert!(launch.raw_output);
    assert_eq!(variable(&launch, "SWARM_PROMPT_FILE"), place.prompt_file().to_str());
    assert_eq!(variable(&launch, "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS"), Some("1"));
    let error = prepare(&place.plan(&claude(), " \n", Mode::Print)).unwrap_err();
    assert!(matches!(error, AgentError::EmptyPrompt));
}

#[test]
fn the_hook_file_is_private_and_calls_this_program_by_a_quoted_path() {
    let place = Place::new();
    let launch = launch(&place, &claude(), "x", Mode::Interactive);
    let path = place.worker_dir().join("claude-settings.json");
    assert_eq!(after(&launch, "--settings"), [path.to_str().unwrap()]);
    for file in &launch.files {
        assert!(file.starts_with(place.worker_dir()));
        assert_eq!(std::fs::metadata(file).unwrap().mode() & 0o777, 0o600, "{}", file.display());
    }
    let settings = read(&path);
    assert_eq!(settings["hooks"].as_object().unwrap().len(), HOOKS.len());
    let command = settings["hooks"]["Stop"][0]["hooks"][0]["command"].as_str().unwrap();
    let exe = place.plan(&claude(), "", Mode::Interactive).swarm_exe.display().to_string();
    assert_eq!(command, format!("'{}' hook Stop", exe.replace('\'', r"'\''")));
    assert!(settings.get("permissions").is_none());
}

#[test]
fn rules_and_tools_become_flags_that_end_where_the_next_begins() {
    let place = Place::new();
    let mut agent = claude();
    agent.model = Some("sonnet".to_owned());
    agent.tools = ["Read", "Bash(git log*)", "Bash", "mcp__db__query"].map(str::to_owned).to_vec();
    agent.permissions.allow = vec!["Bash(cargo test*)".to_owned()];
    agent.permissions.ask = vec!["Bash(git push*)".to_owned()];
    agent.permissions.deny = vec!["Read(.env)".to_owned(), "WebFetch".to_owned()];
    agent.mcp_servers.insert("db".to_owned(), json!({"command": "db-server"}));
    let launch = launch(&place, &agent, "x", Mode::Interactive);
    assert_eq!(after(&launch, "--model"), ["sonnet"]);
    assert_eq!(after(&launch, "--tools"), ["Read,Bash"]);
    assert_eq!(after(&launch, "--allowedTools"), ["Bash(cargo test*)", "Bash(git log*)", "mcp__db__query"]);
    assert_eq!(after(&launch, "--disallowedTools"), ["Read(.env)", "WebFetch"]);
    assert_eq!(words(&launch)[launch.argv.len() - 2], "--");
    let settings = read(&place.worker_dir().join("claude-settings.json"));
    assert_eq!(settings["permissions"], json!({"ask": ["Bash(git push*)"]}));
    let servers = read(&place.worker_dir().join("claude-mcp.json"));
    assert_eq!(servers, json!({"mcpServers": {"db": {"command": "db-server"}}}));
    assert!(words(&launch).contains(&"--strict-mcp-config"));
}

#[test]
fn modes_have_the_words_every_version_knows() {
    let place = Place::new();
    let mode = |mode: PermissionMode| {
        let mut agent = claude();
        agent.permission_mode = mode;
        after(&launch(&place, &agent, "x", Mode::Interactive), "--permission-mode")[0].to_owned()
    };
    assert_eq!(mode(PermissionMode::Default), "default");
    assert_eq!(mode(PermissionMode::Plan), "plan");
}

#[test]
fn bypass_as_root_is_refused_before_the_start() {
    let mut place = Place::new();
    let mut agent = claude();
    agent.permission_mode = PermissionMode::Bypass;
    let prepared = prepare(&place.plan(&agent, "x", Mode::Interactive));
    if rustix::process::geteuid().is_root() {
        assert!(matches!(prepared.unwrap_err(), AgentError::BypassAsRoot));
    } else {
        prepared.unwrap();
    }
    place.env.push(("IS_SANDBOX".to_owned(), "1".to_owned()));
    let launch = launch(&place, &agent, "x", Mode::Interactive);
    assert_eq!(after(&launch, "--permission-mode"), ["bypassPermissions"]);
    let settings = read(&place.worker_dir().join("claude-settings.json"));
    assert_eq!(settings["skipDangerousModePermissionPrompt"], json!(true));
}

#[test]
fn a_prompt_too_long_for_an_argument_is_given_by_its_file() {
    let place = Place::new();
    let last = |prompt: &str| words(&launch(&place, &claude(), prompt, Mode::Interactive)).last().unwrap().to_string();
    assert_eq!(last(&"x".repeat(PROMPT_LIMIT)).len(), PROMPT_LIMIT);
    let long = "word\n".repeat(PROMPT_LIMIT / 5 + 1);
    let message = last(&long);
    let named: String = message
        .split("@\"")
        .skip(1)
        .map(|name| std::fs::read_to_string(name.split('"').next().unwrap()).unwrap())
        .collect();
    assert_eq!(named, long);
    assert!(message.len() < 10_000);
    assert_eq!(last("a\0b").matches("@\"").count(), 1);
    // Print mode reads it from the file anyway.
    let long = "x".repeat(PROMPT_LIMIT * 10);
    assert!(launch(&place, &claude(), &long, Mode::Print).argv.iter().all(|word| word.len() < 1000));
}

#[test]
fn a_prompt_that_looks_like_a_command_reaches_the_model() {
    let place = Place::new();
    for prompt in ["/etc/hosts is wrong", "!important fix", "\n/x"] {
        let launch = launch(&place, &claude(), prompt, Mode::Interactive);
        assert_eq!(*words(&launch).last().unwrap(), format!("Your ticket:\n\n{prompt}"));
    }
    for prompt in ["# Heading", "-x", "@me"] {
        assert_eq!(*words(&launch(&place, &claude(), prompt, Mode::Interactive)).last().unwrap(), prompt);
    }
}

#[test]
fn a_system_prompt_goes_by_argument_or_by_file() {
    let mut place = Place::new();
    place.system_prompt = "Be brief.".to_owned();
    let short = launch(&place, &claude(), "x", Mode::Print);
    assert_eq!(after(&short, "--append-system-prompt"), ["Be brief."]);
    place.system_prompt = "x".repeat(PROMPT_LIMIT + 1);
    let long = launch(&place, &claude(), "x", Mode::Print);
    let file = after(&long, "--append-system-prompt-file")[0];
    assert_eq!(std::fs::read_to_string(file).unwrap(), place.system_prompt);
}

#[test]
fn a_conversation_is_resumed_only_when_it_was_ever_written() {
    let mut place = Place::new();
    place.resume = Some("11111111-2222-4333-8444-555555555555".to_owned());
    let fresh = launch(&place, &claude(), "go on", Mode::Interactive);
    assert!(!fresh.is_resumed);
    assert_eq!(after(&fresh, "--session-id"), ["11111111-2222-4333-8444-555555555555"]);
    let project = place.home().join(".claude/projects/-some-where");
    std::fs::create_dir_all(&project).unwrap();
    let file = project.join("11111111-2222-4333-8444-555555555555.jsonl");
    crate::files::write_new(&file, b"").unwrap();
    assert!(!launch(&place, &claude(), "go on", Mode::Interactive).is_resumed, "cut off");
    crate::files::write_atomically(&file, b"{}\n", crate::files::Access::Private).unwrap();
    let resumed = launch(&place, &claude(), "go on", Mode::Interactive);
    assert!(resumed.is_resumed);
    assert_eq!(after(&resumed, "--resume"), ["11111111-2222-4333-8444-555555555555"]);
    assert!(!words(&resumed).contains(&"--session-id"));
}

#[test]
fn an_isolated_agent_gets_its_own_folder_with_the_first_questions_answered() {
    let mut place = Place::new();
    let mut agent = claude();
    agent.isolated = true;
    let error = prepare(&place.plan(&agent, "x", Mode::Interactive)).unwrap_err();
    assert!(matches!(error, AgentError::NoCredentials));
    let key = "sk-test-0123456789abcdefghij";
    place.env.push(("ANTHROPIC_API_KEY".to_owned(), key.to_owned()));
    let first = launch(&place, &agent, "x", Mode::Interactive);
    let folder = place.worker_dir().join("claude");
    assert_eq!(variable(&first, "CLAUDE_CONFIG_DIR"), folder.to_str());
    assert!(first.warnings.is_empty());
    let path = folder.join(".claude.json");
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let mut state = read(&path);
    assert_eq!(state["hasCompletedOnboarding"], json!(true));
    assert_eq!(state["customApiKeyResponses"]["approved"], json!([&key[key.len() - 20..]]));
    for trusted in [place.repo(), place.worktree()] {
        assert_eq!(state["projects"][trusted.to_str().unwrap()]["hasTrustDialogAccepted"], json!(true));
    }
    // What the program wrote meanwhile stays, and odd content is no trouble.
    state["numStartups"] = json!(3);
    state["projects"] = json!([1]);
    crate::files::write_atomically(&path, state.to_string().as_bytes(), crate::files::Access::Private).unwrap();
    launch(&place, &agent, "x", Mode::Interactive);
    let state = read(&path);
    assert_eq!(state["numStartups"], json!(3));
    assert_eq!(state["projects"][place.repo().to_str().unwrap()]["hasTrustDialogAccepted"], json!(true));
}

#[test]
fn questions_of_the_persons_own_login_are_foretold() {
    let mut place = Place::new();
    place.env.push(("ANTHROPIC_API_KEY".to_owned(), "k".repeat(30)));
    let warnings = launch(&place, &claude(), "x", Mode::Interactive).warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("does not trust"));
    assert!(launch(&place, &claude(), "x", Mode::Print).warnings.is_empty());
    let state = json!({"projects": {place.repo().to_str().unwrap(): {"hasTrustDialogAccepted": true}},
        "customApiKeyResponses": {"approved": ["k".repeat(20)]}});
    let path = place.home().join(".claude.json");
    crate::files::write_atomically(&path, state.to_string().as_bytes(), crate::files::Access::Private).unwrap();
    assert_eq!(launch(&place, &claude(), "x", Mode::Interactive).warnings, Vec::<String>::new());
}

#[test]
fn the_policy_lies_beside_for_hooks_without_a_supervisor() {
    let place = Place::new();
    let prepared = prepare(&place.plan(&claude(), "x", Mode::Print)).unwrap();
    let policy: Policy = serde_json::from_slice(&std::fs::read(policy_file(place.worker_dir())).unwrap()).unwrap();
    assert_eq!(policy, prepared.policy);
    assert!(policy.is_headless);
    assert_eq!(policy.worktree, place.worktree());
    assert!(policy.protected.contains(&place.repo().join(".swarm")));
}

#[test]
fn a_missing_program_is_refused_with_the_way_to_get_it() {
    let mut place = Place::new();
    place.env = vec![("PATH".to_owned(), place.worktree().display().to_string())];
    let error = prepare(&place.plan(&claude(), "x", Mode::Print)).unwrap_err();
    assert_eq!(error.to_string(), "no program `claude` was found");
    assert!(error.hint().unwrap().contains("npm install -g @anthropic-ai/claude-code"));
}
