//! `swarm init`.

use std::fs;

use super::with_shell_agent;
use crate::support::swarm::TestSwarm;

#[test]
fn it_writes_configuration_and_a_sample_ticket_and_nothing_else() {
    let swarm = TestSwarm::new();
    swarm.write_shell_agent("script", "true");
    let head = swarm.git(["rev-parse", "HEAD"]).success();
    let output = swarm.run(["init", "--agent", "script"]).expect_code(0);
    insta::assert_snapshot!(swarm.redact(&output.transcript()));
    assert_eq!(swarm.git(["rev-parse", "HEAD"]).success(), head, "nothing is committed");
    assert_eq!(swarm.read("README.md"), "# A project\n");
    let untracked = swarm.git(["status", "--porcelain", "-uall"]).success();
    assert_eq!(untracked, "?? .swarm/agents/script.md\n?? .swarm/config.yaml\n?? .swarm/tickets/example.md\n");
    assert!(swarm.read(".swarm/config.yaml").contains("\nagent: \"script\"\n"));
}

#[test]
fn a_second_run_changes_nothing_and_succeeds() {
    let swarm = TestSwarm::new();
    swarm.run(["init"]).success();
    let first = swarm.read(".swarm/config.yaml");
    swarm.write(".swarm/config.yaml", &format!("{first}# mine\n"));
    let view = swarm.json(["init"]);
    assert_eq!(view["written"].as_array().unwrap().len(), 0);
    assert_eq!(view["kept"].as_array().unwrap().len(), 2);
    assert_eq!(swarm.read(".swarm/config.yaml"), format!("{first}# mine\n"));
}

#[test]
fn from_a_subfolder_of_a_linked_worktree_it_writes_into_the_main_worktree() {
    let swarm = with_shell_agent();
    swarm.git(["worktree", "add", "--quiet", "../linked"]).success();
    let folder = swarm.root().join("linked/deep/er");
    fs::create_dir_all(&folder).unwrap();
    swarm.run_in(&folder, ["init"]).success();
    assert!(swarm.repository().join(".swarm/tickets/example.md").exists());
    assert!(!swarm.root().join("linked/.swarm").exists());
}

#[test]
fn a_project_with_tickets_gets_no_sample() {
    let swarm = with_shell_agent();
    swarm.write_ticket("real", "script", "Work.");
    let view = swarm.json(["init"]);
    assert_eq!(view["written"].as_array().unwrap().len(), 0);
    assert!(!swarm.repository().join(".swarm/tickets/example.md").exists());
}

#[test]
fn a_bare_repository_is_told_what_to_do_instead() {
    let swarm = TestSwarm::new();
    swarm.git(["clone", "--quiet", "--bare", ".", "../bare.git"]).success();
    let output = swarm.run_in(&swarm.root().join("bare.git"), ["init"]).expect_code(2);
    assert!(output.stderr.contains("the repository is bare"), "{}", output.stderr);
    assert!(output.stderr.contains("hint:"), "{}", output.stderr);
}

#[test]
fn an_agent_that_is_not_defined_is_refused_before_anything_is_written() {
    let swarm = TestSwarm::new();
    let output = swarm.run(["init", "--agent", "nobody"]).expect_code(2);
    assert!(output.stderr.contains("known agents"), "{}", output.stderr);
    assert!(!swarm.repository().join(".swarm").exists());
}

#[test]
fn an_agent_that_a_kept_configuration_contradicts_is_told() {
    let swarm = with_shell_agent();
    swarm.write_shell_agent("other", "true");
    let output = swarm.run(["init", "--agent", "other"]).expect_code(0);
    assert!(output.stdout.contains("the default agent stays `script`"), "{}", output.stdout);
}

#[test]
fn a_machine_without_tmux_identity_and_agent_is_told_all_three() {
    let mut swarm = TestSwarm::new();
    let programs = swarm.root().join("bin");
    fs::create_dir(&programs).unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let git = std::env::split_paths(&path).map(|folder| folder.join("git")).find(|git| git.exists()).unwrap();
    std::os::unix::fs::symlink(git, programs.join("git")).unwrap();
    swarm.git(["config", "--unset", "user.name"]).success();
    swarm.git(["config", "--unset", "user.email"]).success();
    swarm.git(["config", "user.useConfigOnly", "true"]).success();
    swarm.set_env("PATH", programs);
    let output = swarm.run(["init"]).expect_code(0);
    insta::assert_snapshot!(swarm.redact(&output.stdout));
    let said = &output.stderr;
    let instead = said.find("swarm agents check").unwrap_or_else(|| panic!("{said}"));
    assert!(said.contains("--agent NAME") && said.contains("agent: NAME"), "{said}");
    assert!(instead < said.find("swarm spawn fix-parser").unwrap(), "what to do first is said first: {said}");
}
