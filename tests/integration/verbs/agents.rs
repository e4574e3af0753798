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
