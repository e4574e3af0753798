//! `swarm trust`.

use super::with_shell_agent;
use crate::support::swarm::TestSwarm;

/// A repository that wants to run commands.
fn with_commands() -> TestSwarm {
    let swarm = with_shell_agent();
    let text =
        "agent: script\nsetup:\n  - run: npm ci\ngates:\n  - name: tests\n    run: |\n      make\n      make test\n";
    swarm.write(".swarm/config.yaml", text);
    swarm
}

#[test]
fn without_a_terminal_the_list_is_shown_and_a_person_is_needed() {
    let swarm = with_commands();
    let output = swarm.run(["trust"]).expect_code(4);
    insta::assert_snapshot!(swarm.redact(&output.transcript()));
    let output = swarm.run_with_input(["trust", "--json"], "y\n").expect_code(4);
    assert_eq!(output.json()["commands"][0]["trusted"], false, "a piped yes is no person");
}

#[test]
fn yes_trusts_and_revoke_takes_it_back() {
    let swarm = with_commands();
    let output = swarm.run(["trust", "--yes"]).expect_code(0);
    insta::assert_snapshot!(swarm.redact(&output.transcript()));
    swarm.run(["trust"]).expect_code(0).says("npm ci");
    let revoked = swarm.json(["trust", "--revoke"]);
    assert_eq!(revoked["commands"].as_array().unwrap().len(), 2);
    swarm.run(["trust"]).expect_code(4).says("npm ci");
}

#[test]
fn a_changed_command_needs_trust_again_and_the_old_one_is_listed() {
    let swarm = with_commands();
    swarm.run(["trust", "--yes"]).success();
    swarm.write(".swarm/config.yaml", "setup:\n  - run: npm ci --force\n");
    swarm.run(["trust"]).expect_code(4).says("npm ci --force");
    let view = swarm.json(["trust", "--list"]);
    let trusted: Vec<_> =
        view["commands"].as_array().unwrap().iter().map(|command| command["trusted"].clone()).collect();
    assert_eq!(trusted, [false, true, true]);
}

#[test]
fn a_person_on_a_terminal_is_asked_once() {
    let swarm = with_commands();
    let declined = swarm.run_in_terminal(["trust", "--color", "never"], "\n").expect_code(4);
    assert!(declined.stdout.contains("Trust all of them? [y/N]"), "{}", declined.stdout);
    let accepted = swarm.run_in_terminal(["trust", "--color", "never"], "y\n").expect_code(0);
    assert_eq!(accepted.stdout.matches("Trust all of them?").count(), 1, "{}", accepted.stdout);
    swarm.run(["trust"]).expect_code(0).says("trusted");
}

#[test]
fn a_repository_without_commands_needs_no_trust() {
    let swarm = with_shell_agent();
    let output = swarm.run(["trust"]).expect_code(0);
    assert_eq!((output.stdout.as_str(), output.stderr.contains("no set-up commands or gates")), ("", true));
}
