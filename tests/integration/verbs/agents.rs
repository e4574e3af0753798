//! `swarm agents list|show|check`.

use super::with_shell_agent;
use crate::support::swarm::TestSwarm;

#[test]
fn the_table_shows_where_each_agent_comes_from_and_warns_of_broken_files() {
    let swarm = with_shell_agent();
    swarm.write(".swarm/agents/broken.md", "---\nruntime: perl\n---\nWork.\n");
    let reviewer = "---\nname: local-reviewer\ndescription: Looks\nmodel: opus\n---\nLook.\n";
    swarm.write(".claude/agents/local-reviewer.md", reviewer);
    swarm.write_at(
        &swarm.user_config().join("agents/mine.md"),
        "---\nname: mine\ndescription: Of the user\n---\nWork.\n",
    );
    let output = swarm.run(["agents", "list"]).expect_code(0);
    insta::assert_snapshot!(swarm.redact(&output.transcript()));
}

#[test]
fn one_agent_is_shown_with_its_prompt() {
    let swarm = with_shell_agent();
    let output = swarm.run(["agents", "show", "script"]).expect_code(0);
    insta::assert_snapshot!(swarm.redact(&output.transcript()));
    let output = swarm.run(["agents", "show", "nobody"]).expect_code(5);
    assert!(output.stderr.contains("known agents"), "{}", output.stderr);
}

#[test]
fn an_agent_whose_program_is_missing_is_not_ready() {
    let swarm = with_shell_agent();
    let missing = "---\nname: missing\ndescription: x\nruntime: command\ncommand: [\"no-such-program\"]\n---\nWork.\n";
    swarm.write(".swarm/agents/missing.md", missing);
    swarm.run(["agents", "check", "script"]).expect_code(0).says("yes");
    let output = swarm.run(["agents", "check", "missing"]).expect_code(1);
    assert!(output.stderr.contains("agent `missing` cannot run"), "{}", output.stderr);
    let both = swarm.run(["agents", "check", "missing", "script", "--json"]).expect_code(3);
    let ready: Vec<_> =
        both.json()["agents"].as_array().unwrap().iter().map(|agent| agent["check"]["ready"].clone()).collect();
    assert_eq!(ready, [false, true]);
    swarm.run(["agents", "check", "nobody"]).expect_code(5).says("nobody");
    let help = swarm.run(["agents", "check", "--help"]).success();
    assert!(help.contains("3 when some cannot, 1 when none can") && help.contains("default agent"), "{help}");
}

#[test]
fn without_names_only_the_default_agent_decides() {
    let swarm = with_shell_agent();
    let missing = "---\nname: missing\ndescription: x\nruntime: command\ncommand: [\"no-such-program\"]\n---\nWork.\n";
    swarm.write(".swarm/agents/missing.md", missing);
    swarm.run(["agents", "check"]).expect_code(0).says("missing");
    swarm.run(["agents", "check", "--config", "agent=missing"]).expect_code(1).says("missing");
}

#[test]
fn built_in_agents_are_there_in_any_repository() {
    let view = TestSwarm::new().json(["agents", "list"]);
    let agents = view["agents"].as_array().unwrap();
    let built_in: Vec<_> =
        agents.iter().filter(|agent| agent["origin"] == "built_in").map(|agent| &agent["name"]).collect();
    let expected =
        ["code-reviewer", "conflict-resolver", "documentation-writer", "planner", "test-writer", "ticket-worker"];
    assert_eq!(built_in, expected);
    let default: Vec<_> =
        agents.iter().filter(|agent| agent["is_default"] == true).map(|agent| &agent["name"]).collect();
    assert_eq!(default, ["ticket-worker"]);
}

/// A program of that name that says a version, alone in the `PATH` beside git.
fn with_program(name: &str) -> TestSwarm {
    let mut swarm = TestSwarm::new();
    let folder = swarm.root().join("programs");
    swarm.write_at(&folder.join(name), "#!/bin/sh\necho 'x 1.2.3'\n");
    std::fs::set_permissions(folder.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for tool in ["git", "sh"] {
        let path = std::env::var_os("PATH").unwrap();
        let found = std::env::split_paths(&path).map(|place| place.join(tool)).find(|tool| tool.exists()).unwrap();
        std::os::unix::fs::symlink(found, folder.join(tool)).unwrap();
    }
    swarm.set_env("PATH", folder);
    swarm
}

#[test]
fn an_agent_with_a_preset_says_how_it_was_verified_and_what_is_missing() {
    let swarm = with_program("codex");
    swarm.write(".swarm/agents/one.md", "---\ndescription: One\npreset: codex\n---\nWork.\n");
    swarm.write(".swarm/agents/two.md", "---\ndescription: Two\nruntime: acp\npreset: opencode\n---\nWork.\n");
    let list = swarm.run(["agents", "list"]).success();
    assert!(list.contains("run against 0.169.0") && list.contains("acp opencode"), "{list}");
    let checked = swarm.run(["agents", "check", "one", "two"]).expect_code(1);
    checked.says("nobody seems to be logged in");
    checked.says("log in with `codex login`");
    checked.says("no program `opencode` was found");
    checked.says("install it with `npm install -g opencode-ai`");
    swarm.write_at(&swarm.root().join("home/.codex/auth.json"), "{}");
    swarm.run(["agents", "check", "one"]).expect_code(0).says("1.2.3");
}

#[test]
fn an_unknown_preset_and_a_useless_one_are_explained() {
    let swarm = TestSwarm::new();
    swarm.write(".swarm/agents/odd.md", "---\ndescription: x\npreset: codecs\n---\nWork.\n");
    swarm.write(".swarm/agents/both.md", "---\ndescription: x\nruntime: claude\npreset: codex\n---\nWork.\n");
    swarm.write(".swarm/agents/mute.md", "---\ndescription: x\nruntime: acp\npreset: aider\n---\nWork.\n");
    let warned = swarm.run(["agents", "list"]).expect_code(0).stderr;
    assert!(warned.contains("there is no preset `codecs`") && warned.contains("codex"), "{warned}");
    assert!(warned.contains("the runtime `claude` has no use for it"), "{warned}");
    assert!(warned.contains("`aider` is no agent of the Agent Client Protocol"), "{warned}");
}

#[test]
fn a_preset_of_the_project_replaces_the_built_in_one() {
    let swarm = TestSwarm::new();
    let preset = "title: Ours\nprogram: no-such-program\ninstall: make ours\n\
        verified: {by: documentation, version: '9'}\nheadless: {start: ['{prompt_file}']}\n";
    swarm.write(".swarm/presets/codex.yaml", preset);
    swarm.write(".swarm/agents/one.md", "---\ndescription: One\npreset: codex\n---\nWork.\n");
    swarm.run(["agents", "list"]).expect_code(0).says("from the documentation of 9");
    swarm.run(["agents", "check", "one"]).expect_code(1).says("install it with `make ours`");
}

#[test]
fn the_model_of_an_agent_is_looked_for_with_the_command_that_fetches_it() {
    use crate::support::model_server::ModelServer;
    let server = ModelServer::of("{models: [{name: good}, {name: mute, tools: false}], conversations: []}");
    let mut swarm = TestSwarm::new();
    swarm.set_env("OLLAMA_HOST", server.url());
    for model in ["good", "mute", "gone"] {
        let text = format!("---\ndescription: x\nruntime: ollama\nmodel: {model}\n---\nWork.\n");
        swarm.write(&format!(".swarm/agents/{model}.md"), &text);
    }
    swarm.run(["agents", "check", "good"]).expect_code(0).says("ollama/good");
    swarm.run(["agents", "check", "mute"]).expect_code(1).says("cannot call tools");
    swarm.run(["agents", "check", "gone"]).expect_code(1).says("ollama pull gone");
    swarm.set_env("OLLAMA_HOST", "127.0.0.1:9");
    swarm.run(["agents", "check", "good"]).expect_code(1).says("ollama serve");
}

#[test]
fn where_claude_cannot_run_init_proposes_what_could() {
    let swarm = with_program("codex");
    swarm.write_at(&swarm.root().join("home/.codex/auth.json"), "{}");
    swarm.run(["init"]).expect_code(0).says("claude cannot run here, but Codex could");
    assert!(swarm.read(".swarm/agents/found-worker.md").contains("\npreset: codex\n"));
    assert!(swarm.read(".swarm/config.yaml").contains("\nagent: ticket-worker\n"), "a person decides");
    swarm.run(["agents", "check", "found-worker"]).expect_code(0).says("yes");
}

#[test]
fn where_an_ollama_answers_init_proposes_its_first_model_that_calls_tools() {
    use crate::support::model_server::ModelServer;
    let server = ModelServer::of("{models: [{name: mute, tools: false}, {name: good}], conversations: []}");
    let mut swarm = with_program("codex");
    swarm.set_env("OLLAMA_HOST", server.url());
    swarm.run(["init"]).expect_code(0).says("Ollama with good could");
    assert!(swarm.read(".swarm/agents/found-worker.md").contains("runtime: ollama\nmodel: \"ollama/good\"\n"));
}
