//! Copies of a clone's folder, and clones that were moved, by the real program: the workers of the one are none of the
//! other's.

use std::path::{Path, PathBuf};

use crate::support::scene::{await_file, await_status, process_state, scene, worker};
use crate::support::swarm::TestSwarm;

/// A script that waits for a file in its worktree.
const WAITS: &str = "echo begun > begun.txt; until test -e go; do sleep 0.1; done";

/// Copies the repository as a person does.
fn copy(swarm: &TestSwarm, name: &str) -> PathBuf {
    let (original, copy) = (swarm.repository(), swarm.root().join(name));
    let mut cp = swarm.command("cp", swarm.root());
    cp.args(["-rT".as_ref(), original.as_path(), &copy]).stderr(std::process::Stdio::null());
    // What is written meanwhile may be there for a moment only.
    swarm.wait_until("a copy", || cp.status().unwrap().success());
    copy
}

fn state(clone: &Path) -> PathBuf {
    clone.join(".git/swarm")
}

#[test]
fn a_copy_of_a_clone_leaves_the_workers_of_the_original_alone() {
    let swarm = scene(WAITS);
    swarm.run(["spawn", "T-1"]).success();
    await_file(&swarm, "T-1", "begun.txt");
    let agent = worker(&swarm, "T-1")["pid"].clone();
    let copy = copy(&swarm, "copy");
    for verb in [
        &["status"] as &[&str],
        &["stop", "T-1"],
        &["resume", "T-1"],
        &["rm", "T-1", "--yes"],
        &["run", "--all"],
        &["clean", "--apply", "--yes"],
        &["queue", "list"],
        &["budget"],
        &["why", "T-1"],
    ] {
        let said = swarm.run_in(&copy, verb).expect_code(4);
        said.says(&format!(
            "the state in `{}` is a copy of that in `{}`",
            state(&copy).display(),
            state(&swarm.repository()).display()
        ));
        said.says("delete the copied folders `swarm` and `worktrees`");
    }
    let said = swarm.run_in(&copy, ["doctor"]).expect_code(1).stdout;
    assert_eq!(said.matches("is a copy of that in").count(), 1, "{said}");
    assert_ne!(process_state(&agent), 'Z');
    assert_eq!(worker(&swarm, "T-1")["status"], "working");
    // The copy begins afresh once its state is gone.
    std::fs::remove_dir_all(state(&copy)).unwrap();
    std::fs::remove_dir_all(copy.join(".git/worktrees")).unwrap();
    assert_eq!(swarm.run_in(&copy, ["status", "--json"]).expect_code(0).json()["workers"], serde_json::json!([]));
    swarm.write_at(&copy.join(".swarm/tickets/T-2.md"), "---\nagent: shell\n---\nWork.\n");
    swarm.run_in(&copy, ["spawn", "T-2"]).success();
    swarm.run_in(&copy, ["stop", "T-2"]).success();
    assert_ne!(process_state(&agent), 'Z');
    swarm.write_at(&swarm.worktree("T-1").join("go"), "");
    await_status(&swarm, "T-1", "done");
}

#[test]
fn a_worker_whose_worktree_is_another_repositorys_is_not_started() {
    let swarm = scene("echo try >> tries.txt; exit 3");
    let tries = || std::fs::read_to_string(swarm.worktree("T-1").join("tries.txt")).unwrap();
    swarm.run(["spawn", "T-1", "--headless"]).success();
    await_status(&swarm, "T-1", "failed");
    let (folder, elsewhere) = (swarm.repository(), swarm.root().join("moved"));
    std::fs::rename(&folder, &elsewhere).unwrap();
    // The links between a repository and its worktrees are paths.
    let said = swarm.run_in(&elsewhere, ["resume", "T-1"]).expect_code(1);
    said.says("is not a linked worktree of this repository");
    said.says(&format!("git worktree repair {}", swarm.worktree("T-1").display()));
    assert_eq!(tries(), "try\n");
    swarm.git_in(&elsewhere, ["worktree".as_ref(), "repair".as_ref(), swarm.worktree("T-1").as_os_str()]).success();
    swarm.run_in(&elsewhere, ["resume", "T-1"]).success();
    swarm.wait_until("a second try", || tries() == "try\ntry\n");
    swarm.run_in(&elsewhere, ["wait", "T-1", "--timeout", "60s"]).expect_code(1);
}
