//! What happens to the work when an agent ends: leftovers, hooks, checks, and a worktree in an odd state.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::scene::{assert_no_processes, await_file, await_status, scene, worker};
use crate::support::swarm::TestSwarm;

/// Writes a hook of the repository.
fn write_hook(swarm: &TestSwarm, name: &str, script: &str) {
    let path = swarm.repository().join(".git/hooks").join(name);
    swarm.write_at(&path, &format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Writes the ticket `T-1` with checks.
fn write_checks(swarm: &TestSwarm, checks: &[&str]) {
    let checks = serde_json::to_string(checks).unwrap();
    swarm.write(".swarm/tickets/T-1.md", &format!("---\nagent: shell\nchecks: {checks}\n---\nWork.\n"));
}

/// The files of the worker's branch.
fn committed(swarm: &TestSwarm) -> String {
    swarm.git(["ls-tree", "-r", "--name-only", "swarm/T-1"]).success()
}

#[test]
fn leftovers_are_committed_as_the_person_and_nothing_else_is() {
    let swarm = scene("echo changed >> README.md; mkdir -p a; echo new > 'a/with space'; echo no > ignored.log");
    swarm.write(".gitignore", "*.log\n.env\n");
    swarm.git(["add", ".gitignore"]).success();
    swarm.git(["commit", "--quiet", "-m", "Ignore"]).success();
    swarm.write(".env", "secret\n");
    swarm.write(".swarm/config.yaml", "copy: [.env]\nsetup:\n  - run: echo made > by-set-up\n");
    swarm.run(["spawn", "T-1", "--yes", "--wait"]).success();
    assert!(swarm.worktree("T-1").join(".env").exists() && swarm.worktree("T-1").join("by-set-up").exists());
    assert_eq!(committed(&swarm), ".gitignore\nREADME.md\na/with space\n");
    let author = swarm.git(["log", "-1", "--format=%an <%ae> %cn", "swarm/T-1"]).success();
    assert_eq!(author, "Test Person <person@example.com> Test Person\n");
}

#[test]
fn a_commit_hook_that_refuses_fails_the_attempt_and_the_work_is_kept() {
    let swarm = scene("echo done > made.txt");
    write_hook(&swarm, "pre-commit", "echo the hook says no >&2; exit 1");
    swarm.run(["spawn", "T-1"]).success();
    let failed = await_status(&swarm, "T-1", "failed");
    assert_eq!(failed["reason"], "a commit hook refused its changes");
    assert!(swarm.worktree("T-1").join("made.txt").exists());
    assert_eq!(committed(&swarm), "README.md\n", "it was not bypassed");
    let saved = swarm.git(["ls-tree", "--name-only", "refs/swarm/wip/T-1"]).success();
    assert!(saved.contains("made.txt"), "{saved}");
}

#[test]
fn a_commit_hook_that_hangs_is_ended_and_a_person_asked() {
    let swarm = scene("echo done > made.txt");
    swarm.write(".swarm/config.yaml", "limits: {commit_timeout: 1s}\n");
    write_hook(&swarm, "pre-commit", "echo formatting; sleep 1000 & sleep 1000");
    swarm.run(["spawn", "T-1"]).success();
    let waiting = await_status(&swarm, "T-1", "waiting");
    assert!(
        waiting["reason"].as_str().unwrap().contains("took too long; the last its hooks said: formatting"),
        "{waiting:#}"
    );
    swarm.run(["wait", "T-1", "--timeout", "5s"]).expect_code(4);
    swarm.wait_until("the hook to be gone", || {
        !swarm.processes().iter().any(|(_, command)| command.contains("sleep 1000"))
    });
    write_hook(&swarm, "pre-commit", "true");
    swarm.run(["resume", "T-1"]).success();
    swarm.run(["wait", "T-1", "--timeout", "20s"]).success();
    assert_eq!(committed(&swarm), "README.md\nmade.txt\n");
}

#[test]
fn too_many_leftovers_wait_with_the_list_and_go_on_when_cleaned() {
    let swarm = scene("for n in 1 2 3 4 5; do echo $n > many-$n; done");
    swarm.write(".swarm/config.yaml", "limits: {leftover_files: 4}\n");
    swarm.run(["spawn", "T-1"]).success();
    let waiting = await_status(&swarm, "T-1", "waiting");
    let reason = waiting["reason"].as_str().unwrap();
    assert!(
        reason.contains("5 uncommitted files (")
            && !reason.contains("0.0 MB")
            && reason.contains("many-1")
            && reason.contains("swarm resume"),
        "{reason}"
    );
    assert_eq!(waiting["ticket_state"], "running");
    swarm.run(["resume", "T-1"]).success();
    await_status(&swarm, "T-1", "waiting");
    for number in 2..=5 {
        fs::remove_file(swarm.worktree("T-1").join(format!("many-{number}"))).unwrap();
    }
    swarm.run(["resume", "T-1"]).success();
    swarm.run(["wait", "T-1", "--timeout", "20s"]).success();
    assert_eq!(committed(&swarm), "README.md\nmany-1\n");
}

#[test]
fn failing_checks_fail_the_attempt_with_their_output_and_the_work_is_kept() {
    let swarm = scene("echo done > made.txt");
    write_checks(&swarm, &["true", "echo the check says no; exit 9", "touch never"]);
    swarm.run(["spawn", "T-1"]).success();
    let failed = await_status(&swarm, "T-1", "failed");
    assert_eq!(failed["reason"], "its checks fail");
    let checks = failed["checks"].as_array().unwrap();
    assert_eq!(checks.len(), 2, "{failed:#}");
    assert_eq!((&checks[1]["exit_code"], &checks[1]["output_tail"]), (&9.into(), &"the check says no\n".into()));
    assert_eq!(committed(&swarm), "README.md\nmade.txt\n");
}

#[test]
fn a_check_that_hangs_is_ended_by_its_limit_with_all_it_started() {
    let swarm = scene("echo done > made.txt");
    swarm.write(".swarm/config.yaml", "limits: {check_timeout: 1s}\n");
    write_checks(&swarm, &["echo compiling; (setsid sleep 1000 &); sleep 1000 & sleep 1000"]);
    swarm.run(["spawn", "T-1"]).success();
    let failed = await_status(&swarm, "T-1", "failed");
    let check = &failed["checks"][0];
    assert_eq!((&check["exit_code"], &check["timed_out"]), (&serde_json::Value::Null, &true.into()));
    assert_eq!(check["output_tail"], "compiling\n");
    // A person sees it wherever the checks are told.
    for verb in ["why", "review", "logs"] {
        let told = swarm.run([verb, "T-1"]).success();
        assert!(told.contains("ran out of time after 1s"), "{verb}: {told}");
        assert!(told.contains("    compiling\n"), "{verb}: {told}");
    }
    assert_no_processes(&swarm);
}

#[test]
fn a_stop_during_the_checks_is_a_stop_at_once() {
    let swarm = scene("echo done > made.txt");
    write_checks(&swarm, &["touch checking; sleep 1000", "sleep 1000"]);
    swarm.run(["spawn", "T-1"]).success();
    await_file(&swarm, "T-1", "checking");
    swarm.run(["stop", "T-1"]).success();
    let stopped = worker(&swarm, "T-1");
    assert_eq!((&stopped["status"], &stopped["ticket_state"]), (&"stopped".into(), &"failed".into()));
    assert_no_processes(&swarm);
}

#[test]
fn checks_see_what_the_agent_saw() {
    let swarm = scene("echo \"$SWARM_TICKET $SWARM_PORT\" > made.txt");
    write_checks(&swarm, &[r#"[ "$(cat made.txt)" = "$SWARM_TICKET $SWARM_PORT" ] && [ "$PWD" = "$SWARM_WORKTREE" ]"#]);
    swarm.run(["spawn", "T-1", "--wait"]).success();
    assert_eq!(worker(&swarm, "T-1")["ticket_state"], "review");
}

#[test]
fn another_branch_in_the_worktree_waits_for_a_person() {
    let swarm = scene("echo done > made.txt; git checkout --quiet -b other");
    swarm.run(["spawn", "T-1"]).success();
    let waiting = await_status(&swarm, "T-1", "waiting");
    assert!(waiting["reason"].as_str().unwrap().contains("not on its branch `swarm/T-1`"), "{waiting:#}");
    swarm.git_in(&swarm.worktree("T-1"), ["checkout", "--quiet", "swarm/T-1"]).success();
    swarm.run(["resume", "T-1"]).success();
    swarm.run(["wait", "T-1", "--timeout", "20s"]).success();
    assert_eq!(committed(&swarm), "README.md\nmade.txt\n");
}

#[test]
fn an_unfinished_merge_waits_for_a_person() {
    let swarm = scene("git merge --quiet other; true");
    swarm.git(["checkout", "--quiet", "-b", "other"]).success();
    swarm.write("README.md", "# Theirs\n");
    swarm.git(["commit", "--quiet", "-am", "Theirs"]).success();
    swarm.git(["checkout", "--quiet", "main"]).success();
    swarm.write("README.md", "# Ours\n");
    swarm.git(["commit", "--quiet", "-am", "Ours"]).success();
    swarm.run(["spawn", "T-1"]).success();
    let waiting = await_status(&swarm, "T-1", "waiting");
    assert!(waiting["reason"].as_str().unwrap().contains("a merge is unfinished"), "{waiting:#}");
    swarm.run(["stop", "T-1"]).success();
    assert_eq!(worker(&swarm, "T-1")["status"], "stopped");
}

#[test]
fn a_deleted_worktree_waits_for_a_person_and_never_touches_the_main_one() {
    let swarm = scene("echo work > kept.txt; git add kept.txt; git commit --quiet -m Work; rm -rf \"$PWD\"");
    swarm.write("README.md", "# Dirty\n");
    swarm.run(["spawn", "T-1"]).success();
    let waiting = await_status(&swarm, "T-1", "waiting");
    assert!(waiting["reason"].as_str().unwrap().contains("T-1"), "{waiting:#}");
    swarm.run(["stop", "T-1"]).success();
    for verb in ["resume", "restart", "spawn"] {
        let output = swarm.run([verb, "T-1"]).expect_code(1);
        assert!(output.stderr.contains("is gone"), "{verb}: {}", output.transcript());
    }
    assert_eq!(committed(&swarm), "README.md\nkept.txt\n", "the commit is there");
    assert_eq!(swarm.git(["status", "--porcelain", "-uno"]).success(), " M README.md\n");
    assert_eq!(swarm.git(["log", "--format=%s", "main"]).success(), "Start\n");
}

#[test]
fn a_branch_deleted_meanwhile_waits_for_a_person() {
    let swarm = scene("echo done > made.txt; git update-ref -d refs/heads/swarm/T-1");
    swarm.run(["spawn", "T-1"]).success();
    let waiting = await_status(&swarm, "T-1", "waiting");
    assert!(waiting["reason"].as_str().unwrap().contains("swarm/T-1"), "{waiting:#}");
    assert!(swarm.worktree("T-1").join("made.txt").exists());
    swarm.run(["stop", "T-1"]).success();
}

#[test]
fn a_repository_inside_the_worktree_is_not_swallowed() {
    let swarm = scene("git init --quiet inner; echo x > inner/file; echo done > made.txt");
    swarm.run(["spawn", "T-1"]).success();
    swarm.wait_until("an end", || {
        worker(&swarm, "T-1")["status"] != "working" && worker(&swarm, "T-1")["status"] != "starting"
    });
    let end = worker(&swarm, "T-1");
    let files = committed(&swarm);
    assert!(swarm.worktree("T-1").join("inner/file").exists());
    let entries = swarm.git(["ls-tree", "swarm/T-1"]).success();
    assert!(!entries.contains("160000"), "no link to a commit that nobody has: {entries}\n{end:#}\n{files}");
}
