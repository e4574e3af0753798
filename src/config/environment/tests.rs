use std::os::unix::ffi::OsStringExt;

use super::*;
use crate::config::{AgentSources, load_agents};

/// The names an agent of a runtime gets from these variables.
fn names(runtime: RuntimeKind, variables: &[&str], settings: &Settings) -> Vec<String> {
    let environment: Environment = variables.iter().map(|name| (*name, "1")).collect();
    let pairs = agent_environment(&environment, settings, &agent(runtime), &[]);
    pairs.into_iter().map(|(name, _)| name).collect()
}

/// A built-in agent with another runtime.
fn agent(runtime: RuntimeKind) -> Agent {
    let book = load_agents(&AgentSources::default()).unwrap();
    let agent = book.all().next().unwrap().clone();
    Agent { runtime, ..agent }
}

#[test]
fn an_agent_gets_what_it_needs_and_nothing_else() {
    let settings = Settings { pass_env: vec!["MY_TOOL".to_owned()], ..Settings::default() };
    let variables = [
        "PATH",
        "HOME",
        "LC_ALL",
        "XDG_CACHE_HOME",
        "SSH_AUTH_SOCK",
        "CARGO_HOME",
        "https_proxy",
        "MY_TOOL",
        "GIT_AUTHOR_NAME",
        "GITHUB_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "DATABASE_URL",
        "ANTHROPIC_API_KEY",
        "SWARM_WORKER",
        "TERM",
        "DISABLE_AUTOUPDATER",
        "PATHOLOGY",
    ];
    let common =
        ["CARGO_HOME", "GIT_AUTHOR_NAME", "HOME", "LC_ALL", "MY_TOOL", "PATH", "SSH_AUTH_SOCK", "XDG_CACHE_HOME"];
    let command = names(RuntimeKind::Command, &variables, &settings);
    assert_eq!(command, [&common[..], &["https_proxy"]].concat());
    let claude = names(RuntimeKind::Claude, &variables, &settings);
    let added: Vec<_> = claude.iter().filter(|name| !command.contains(name)).collect();
    assert_eq!(added, ["ANTHROPIC_API_KEY", "DISABLE_AUTOUPDATER"]);
}

#[test]
fn nothing_of_an_outer_session_gets_through() {
    let variables = [
        "CLAUDECODE",
        "CLAUDE_CODE_SESSION_ID",
        "CLAUDE_CODE_CHILD_SESSION",
        "CLAUDE_CODE_ENTRYPOINT",
        "CLAUDE_PID",
        "CLAUDE_CODE_MESSAGING_SOCKET",
        "CLAUDE_CODE_MESSAGING_TOKEN",
        "CLAUDE_PROJECT_DIR",
        "TMUX",
        "TMUX_PANE",
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_PREFIX",
        "GIT_OBJECT_DIRECTORY",
    ];
    let mut settings = Settings::default();
    assert!(names(RuntimeKind::Claude, &variables, &settings).is_empty());
    settings.pass_env = variables.iter().map(|name| (*name).to_owned()).collect();
    assert!(names(RuntimeKind::Claude, &variables, &settings).is_empty());
    for name in variables {
        assert!(refuse_variable(name, "").is_some(), "{name}");
    }
}

#[test]
fn the_persons_knobs_for_claude_pass() {
    let variables = [
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS",
        "CLAUDE_CODE_MAX_RETRIES",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "CLAUDE_CODE_USE_BEDROCK",
        "CLAUDE_CONFIG_DIR",
        "DISABLE_TELEMETRY",
        "ENABLE_TOOL_SEARCH",
        "IS_SANDBOX",
    ];
    assert_eq!(names(RuntimeKind::Claude, &variables, &Settings::default()), variables);
    assert!(names(RuntimeKind::Command, &variables, &Settings::default()).is_empty());
}

#[test]
fn cloud_credentials_pass_only_for_the_cloud_that_is_chosen() {
    let mut settings = Settings::default();
    let variables = ["AWS_PROFILE", "GOOGLE_APPLICATION_CREDENTIALS"];
    assert!(names(RuntimeKind::Claude, &variables, &settings).is_empty());
    settings.env.insert("CLAUDE_CODE_USE_BEDROCK".to_owned(), "1".to_owned());
    assert_eq!(names(RuntimeKind::Claude, &variables, &settings), ["AWS_PROFILE", "CLAUDE_CODE_USE_BEDROCK"]);
    settings.env.insert("CLAUDE_CODE_USE_BEDROCK".to_owned(), "0".to_owned());
    assert_eq!(names(RuntimeKind::Claude, &variables, &settings), ["CLAUDE_CODE_USE_BEDROCK"]);
}

#[test]
fn later_sources_win() {
    let mut settings = Settings::default();
    let mut agent = agent(RuntimeKind::Command);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    settings.env.extend([pair("PATH", "settings"), pair("LANG", "settings"), pair("TZ", "settings")]);
    agent.env.extend([pair("LANG", "agent"), pair("TZ", "agent")]);
    let environment: Environment = [("PATH", "p"), ("LANG", "p"), ("TZ", "p"), ("HOME", "p")].into_iter().collect();
    let pairs = agent_environment(&environment, &settings, &agent, &[pair("TZ", "extra"), pair("SWARM_PORT", "1")]);
    let expected = [
        pair("HOME", "p"),
        pair("LANG", "agent"),
        pair("PATH", "settings"),
        pair("SWARM_PORT", "1"),
        pair("TZ", "extra"),
    ];
    assert_eq!(pairs, expected);
}

#[test]
fn values_that_are_not_text_are_left_out_and_named_where_they_matter() {
    let odd = OsString::from_vec(vec![b'/', 0xff]);
    let environment: Environment =
        [(OsString::from("PATH"), odd.clone()), (OsString::from("LANG"), OsString::from("C"))]
            .into_iter()
            .chain([(OsString::from_vec(vec![0xfe]), odd)])
            .collect();
    let pairs = agent_environment(&environment, &Settings::default(), &agent(RuntimeKind::Command), &[]);
    assert_eq!(pairs, [("LANG".to_owned(), "C".to_owned())]);
    assert_eq!(environment.get("PATH"), None);
    assert_eq!(environment.text("PATH").unwrap_err().to_string(), "PATH: not UTF-8 text");
}

#[test]
fn the_own_environment_is_read() {
    assert!(environment().get("PATH").is_some());
}
