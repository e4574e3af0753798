//! `swarm doctor --mend`: each inconsistent state is made for real, named, told how it would be mended, and mended.

use std::os::unix::net::UnixListener;
use std::time::{Duration, SystemTime};

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::Value;

use super::with_shell_agent;
use crate::support::scene::{assert_no_processes, await_status, process_state, signal, worker};
use crate::support::swarm::{SWARM, TestSwarm};

/// A worker that has ended with a commit on its branch.
fn ended() -> TestSwarm {
    let swarm = with_shell_agent();
    swarm.write_shell_agent("makes", "echo made > made.txt");
    swarm.write_ticket("work", "makes", "Work.");
    swarm.run(["spawn", "work", "--headless", "--wait"]).success();
    assert_no_processes(&swarm);
    swarm
}

/// A worker whose supervisor was killed, and whose agent runs on; the worker as it was before.
fn lost() -> (TestSwarm, Value) {
    let swarm = with_shell_agent();
    swarm.write(".swarm/config.yaml", "agent: script\nlimits: {grace: 300ms}\n");
    swarm.write_shell_agent("long", "echo half > half.txt; trap '' HUP; touch up; while :; do sleep 0.05; done");
    swarm.write_ticket("work", "long", "Work.");
    swarm.run(["spawn", "work", "--headless"]).success();
    swarm.wait_until("the agent to work", || swarm.worktree("work").join("up").exists());
    let before = worker(&swarm, "work");
    signal(&before["supervisor_pid"], Signal::KILL);
    await_status(&swarm, "work", "lost");
    (swarm, before)
}

/// The store's database.
fn database(swarm: &TestSwarm) -> Connection {
    Connection::open(swarm.repository().join(".git/swarm/swarm.db")).unwrap()
}

/// The one finding whose text contains `says`.
#[track_caller]
fn finding(view: &Value, says: &str) -> Value {
    let findings = view["findings"].as_array().unwrap();
    let found: Vec<_> = findings.iter().filter(|one| one["text"].as_str().unwrap().contains(says)).collect();
    assert_eq!(found.len(), 1, "{says}: {view:#}");
    found[0].clone()
}

/// What the doctor says with these arguments, whatever its exit code.
fn doctor(swarm: &TestSwarm, args: &[&str]) -> Value {
    swarm.run(["doctor", "--json"].iter().chain(args)).json()
}

/// Checks that a state is told, that it stays as it is until `--yes`, and that it is gone afterwards. What was done.
#[track_caller]
fn mended(swarm: &TestSwarm, says: &str) -> String {
    for args in [&[][..], &["--mend"]] {
        let told = finding(&doctor(swarm, args), says);
        assert!(told["mend"].is_string() && told["mended"].is_null(), "{told:#}");
    }
    let done = finding(&doctor(swarm, &["--mend", "--yes"]), says)["mended"].as_str().unwrap().to_owned();
    let after = doctor(swarm, &[]);
    assert!(!after.to_string().contains(says), "{after:#}");
    let sql = "SELECT count(*) FROM events WHERE kind = 'swarm' AND data LIKE '%\"mended\"%'";
    let facts: i64 = database(swarm).query_row(sql, [], |row| row.get(0)).unwrap();
    assert!(facts > 0, "it is in the event stream");
    done
}

#[test]
fn nothing_is_done_without_yes_and_a_person_reads_what_would_be() {
    let (swarm, _) = lost();
    let output = swarm.run(["doctor"]).expect_code(1);
    assert!(output.stderr.contains("can be mended: swarm doctor --mend says how"), "{}", output.transcript());
    let output = swarm.run(["doctor", "--mend"]).expect_code(1);
    assert!(output.stdout.contains("mending: ends what its agent left running"), "{}", output.transcript());
    assert!(output.stderr.contains("nothing was changed; swarm doctor --mend --yes"), "{}", output.transcript());
    assert_eq!(worker(&swarm, "work")["status"], "lost");
    let output = swarm.run(["doctor", "--mend", "--yes"]).success();
    assert!(output.contains("mended: "), "{output}");
    assert!(swarm.run(["doctor", "--mend"]).stderr.contains("there is nothing to mend"));
}

#[test]
fn a_lost_worker_is_ended_with_its_processes_and_its_work_stays() {
    let (swarm, before) = lost();
    let view = doctor(&swarm, &[]);
    assert!(finding(&view, "`work` has no supervisor, but its processes run")["mend"].is_string());
    mended(&swarm, "`work` is lost");
    assert_no_processes(&swarm);
    assert_eq!(process_state(&before["pid"]), 'Z');
    let after = worker(&swarm, "work");
    assert_eq!((&after["status"], &after["ticket_state"]), (&"stopped".into(), &"failed".into()));
    assert!(swarm.worktree("work").join("half.txt").exists());
    swarm.run(["resume", "work"]).success();
    await_status(&swarm, "work", "working");
    swarm.run(["stop", "work"]).success();
}

#[test]
fn a_recorded_pid_that_something_else_has_by_now_is_not_touched() {
    let (swarm, _) = lost();
    let mut innocent = swarm.command("sleep", swarm.root()).arg("1000").env_clear().spawn().unwrap();
    let path = swarm.worker_dir("work").join("live.json");
    let mut live: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    live["agent"]["pid"] = innocent.id().into();
    swarm.write_at(&path, &live.to_string());
    swarm.run(["doctor", "--mend", "--yes"]).success();
    assert_eq!(worker(&swarm, "work")["status"], "stopped");
    assert!(innocent.try_wait().unwrap().is_none(), "it has the pid, and not the start time, of the agent");
    innocent.kill().unwrap();
    innocent.wait().unwrap();
}

#[test]
fn an_orphan_of_an_ended_worker_is_found_by_its_marker_and_ended() {
    let swarm = ended();
    let marker = std::fs::canonicalize(swarm.worker_dir("work")).unwrap();
    let mut orphan = swarm.command("sleep", swarm.root());
    let mut orphan = orphan.arg("1000").env("SWARM_WORKER_DIR", &marker).spawn().unwrap();
    let done = mended(&swarm, "`work` has no supervisor, but its processes run");
    assert_eq!(done, "Ended 1 process");
    assert!(!orphan.wait().unwrap().success());
}

#[test]
fn a_spawn_that_was_cut_off_is_taken_back() {
    let swarm = with_shell_agent();
    swarm.write(".swarm/config.yaml", "agent: script\nsetup: [{run: \"touch begun; sleep 1000\"}]\n");
    swarm.write_ticket("work", "script", "Work.");
    let mut spawner = swarm.command(SWARM, &swarm.repository()).args(["spawn", "work", "--yes"]).spawn().unwrap();
    swarm.wait_until("the set-up", || swarm.worktree("work").join("begun").exists());
    spawner.kill().unwrap();
    spawner.wait().unwrap();
    mended(&swarm, "the spawn of `work` was interrupted");
    assert!(!swarm.worktree("work").exists());
    assert_no_processes(&swarm);
}

#[test]
fn a_worktree_that_vanished_is_made_anew_and_what_was_not_committed_is_kept() {
    let (swarm, _) = lost();
    swarm.run(["stop", "work"]).success();
    let before = swarm.git(["rev-parse", "swarm/work"]).success();
    swarm.git(["update-ref", "refs/swarm/wip/work", &snapshot_of(&swarm)]).success();
    std::fs::remove_dir_all(swarm.worktree("work")).unwrap();
    let done = mended(&swarm, "the worktree of `work` is not usable");
    assert!(done.contains("what was not committed is in refs/swarm/keep/work/"), "{done}");
    let keep = done.rsplit(' ').next().unwrap();
    assert_eq!(swarm.git(["show", &format!("{keep}:half.txt")]).success(), "half\n");
    assert_eq!(swarm.git(["rev-parse", "swarm/work"]).success(), before);
    assert_eq!(swarm.git_in(&swarm.worktree("work"), ["branch", "--show-current"]).success(), "swarm/work\n");
}

#[test]
fn a_worktree_that_was_emptied_is_made_anew() {
    let swarm = ended();
    std::fs::remove_dir_all(swarm.worktree("work")).unwrap();
    std::fs::create_dir(swarm.worktree("work")).unwrap();
    mended(&swarm, "the worktree of `work` is not usable");
    assert_eq!(std::fs::read_to_string(swarm.worktree("work").join("made.txt")).unwrap(), "made\n");
}

/// A commit with all files of the worktree of `work`, made without touching its index.
fn snapshot_of(swarm: &TestSwarm) -> String {
    let worktree = swarm.worktree("work");
    swarm.git_in(&worktree, ["add", "half.txt"]).success();
    let tree = swarm.git_in(&worktree, ["write-tree"]).success();
    swarm.git_in(&worktree, ["commit-tree", tree.trim(), "-p", "HEAD", "-m", "snapshot"]).success().trim().to_owned()
}

#[test]
fn snapshots_of_nobody_are_moved_to_a_keep_ref() {
    let swarm = ended();
    let commit = swarm.git(["rev-parse", "swarm/work"]).success();
    swarm.git(["update-ref", "refs/swarm/wip/ghost", commit.trim()]).success();
    let done = mended(&swarm, "the snapshot refs/swarm/wip/ghost belongs to no worker");
    assert!(done.contains("refs/swarm/keep/ghost/1"), "{done}");
    assert_eq!(swarm.git(["show", "refs/swarm/keep/ghost/1:made.txt"]).success(), "made\n");
    swarm.git(["rev-parse", "--verify", "--quiet", "refs/swarm/wip/ghost"]).expect_code(1);
}

#[test]
fn a_registration_of_ours_goes_and_foreign_worktrees_and_branches_stay() {
    let swarm = ended();
    std::fs::remove_dir_all(swarm.worktree("work")).unwrap();
    swarm.run(["rm", "work", "--yes"]).success();
    swarm.git(["worktree", "add", "--quiet", "-b", "swarm/mine", "../mine"]).success();
    swarm.git(["worktree", "add", "--quiet", "-b", "gone", "../gone"]).success();
    std::fs::remove_dir_all(swarm.root().join("gone")).unwrap();
    mended(&swarm, "work.missing, which is gone");
    let after = doctor(&swarm, &["--mend", "--yes"]);
    let foreign = finding(&after, "/gone, which is gone");
    assert_eq!((&foreign["mend"], &foreign["hint"]), (&Value::Null, &"git worktree prune".into()));
    finding(&after, "1 worktree not ours, left as they are");
    finding(&after, "`swarm/mine` was made by no worker");
    let listed = swarm.git(["worktree", "list"]).success();
    assert!(listed.contains("/mine") && listed.contains("/gone") && !listed.contains("work.missing"), "{listed}");
    swarm.git(["rev-parse", "--verify", "--quiet", "swarm/mine"]).success();
}

#[test]
fn a_gates_worktree_of_a_dead_process_is_removed() {
    let swarm = ended();
    let path = swarm.root().join("project-worktrees/+gate-0123");
    swarm.git(["worktree", "add", "--quiet", "--detach", path.to_str().unwrap()]).success();
    swarm.write(".git/swarm/scratch/0123.path", path.to_str().unwrap());
    mended(&swarm, "a gate that died left its worktree");
    assert!(!path.exists());
}

#[test]
fn what_a_dead_removal_had_begun_to_delete_is_deleted() {
    let swarm = ended();
    let path = swarm.root().join("project-worktrees/+gone-0123");
    std::fs::create_dir_all(path.join("1/deep")).unwrap();
    swarm.write(".git/swarm/scratch/0123.path", path.to_str().unwrap());
    mended(&swarm, "a removal that died left files to delete");
    assert!(!path.exists());
}

#[test]
fn a_session_of_a_released_worker_is_ended() {
    let swarm = ended();
    swarm.run(["rm", "work", "--yes"]).success();
    swarm.tmux(["new-session", "-d", "-s", "left", "sleep 1000"]).success();
    let id = swarm.tmux(["display-message", "-p", "-t", "=left:", "#{session_id}"]).success();
    let socket = swarm.environment()["SWARM_TMUX_SOCKET"].to_str().unwrap().to_owned();
    let session = serde_json::json!({"socket": socket, "id": id.trim(), "name": "left"});
    let sql = "UPDATE workers SET document = json_set(document, '$.attempt.tmux', json(?1))";
    assert_eq!(database(&swarm).execute(sql, [session.to_string()]).unwrap(), 1);
    mended(&swarm, "the session `left` of a released worker is left");
    assert_ne!(swarm.tmux(["has-session", "-t", "=left"]).code, 0);
}

#[test]
fn dead_sockets_and_hand_over_files_are_removed_and_those_in_use_stay() {
    let swarm = ended();
    let folder = swarm.runtime_folder();
    drop(UnixListener::bind(folder.join("0123.sock")).unwrap());
    let _living = UnixListener::bind(folder.join("4567.sock")).unwrap();
    let old = std::fs::File::create(folder.join("0123-1.json")).unwrap();
    old.set_modified(SystemTime::now() - Duration::from_secs(600)).unwrap();
    mended(&swarm, "0123.sock");
    assert!(!folder.join("0123.sock").exists() && !folder.join("0123-1.json").exists());
    assert!(folder.join("4567.sock").exists());
}

#[test]
fn ports_of_a_worker_that_is_gone_are_freed() {
    let swarm = ended();
    database(&swarm).execute("INSERT INTO ports VALUES(50000, 10, 'ghost')", []).unwrap();
    mended(&swarm, "ports are taken for `ghost`");
    let left: i64 = database(&swarm).query_row("SELECT count(*) FROM ports", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 1, "those of the worker that is there");
}

#[test]
fn a_ticket_that_nobody_works_on_can_be_spawned_again() {
    let swarm = with_shell_agent();
    swarm.write_ticket("work", "script", "Work.");
    let log = swarm.worker_dir("work").join("tool_calls.jsonl");
    std::fs::create_dir_all(log.parent().unwrap()).unwrap();
    assert!(swarm.command("mkfifo", swarm.root()).arg(&log).status().unwrap().success());
    let mut spawner = swarm.command(SWARM, &swarm.repository()).args(["spawn", "work"]).spawn().unwrap();
    swarm.wait_until("the claim", || swarm.json(["status"])["tickets"]["running"] == 1);
    spawner.kill().unwrap();
    spawner.wait().unwrap();
    std::fs::remove_file(&log).unwrap();
    mended(&swarm, "ticket `work` is running in the queue, and no worker is at it");
    assert_eq!(swarm.json(["ticket", "show", "work"])["tickets"][0]["state"], "failed");
    swarm.run(["spawn", "work", "--headless", "--wait"]).success();
}

#[test]
fn a_worker_without_ticket_is_released_with_its_work_kept() {
    let swarm = ended();
    database(&swarm).execute("DELETE FROM tickets", []).unwrap();
    let done = mended(&swarm, "the queue knows no ticket `work`");
    assert!(done.contains("refs/swarm/keep/work/1"), "{done}");
    assert_eq!(swarm.git(["show", "refs/swarm/keep/work/1:made.txt"]).success(), "made\n");
    assert!(!swarm.worktree("work").exists());
}

/// A worker whose work landed, and that could not be released then: in its worktree was a repository with work of its own.
fn landed_and_left() -> TestSwarm {
    let swarm = ended();
    let inner = swarm.worktree("work").join("inner");
    swarm.git(["init", "-q", inner.to_str().unwrap()]).success();
    swarm.write_at(&inner.join("only-here.txt"), "x\n");
    swarm.run(["review", "work", "--approve"]).success();
    swarm.run(["merge"]).expect_code(0).says("was not released");
    std::fs::remove_dir_all(inner).unwrap();
    swarm
}

#[test]
fn a_worker_whose_work_landed_is_released_by_the_doctor_or_by_the_next_merge() {
    for by_doctor in [true, false] {
        let swarm = landed_and_left();
        // Another one of the same ticket, whose work did not land.
        let sql = "INSERT INTO workers(id, ticket, phase, document) SELECT 'work+2', ticket, phase, \
                   json_set(document, '$.id', 'work+2', '$.place.branch', 'other', '$.place.worktree', '/other') \
                   FROM workers";
        assert_eq!(database(&swarm).execute(sql, []).unwrap(), 1);
        if by_doctor {
            let done = mended(&swarm, "the work of `work` landed, and it was not released");
            assert!(done.contains("refs/swarm/keep/work/1"), "{done}");
        } else {
            swarm.run(["merge"]).expect_code(0);
        }
        assert!(!swarm.worktree("work").exists());
        let sql = "SELECT id FROM workers WHERE phase = 'released'";
        let released: String = database(&swarm).query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(released, "work");
        swarm.git(["rev-parse", "--verify", "--quiet", "refs/swarm/keep/work+2/1"]).expect_code(1);
    }
}

#[test]
fn an_old_lock_of_git_is_told_and_left() {
    let swarm = ended();
    let lock = swarm.repository().join(".git/worktrees/work/index.lock");
    let old = std::fs::File::create(&lock).unwrap();
    old.set_modified(SystemTime::now() - Duration::from_secs(3_600)).unwrap();
    let told = finding(&doctor(&swarm, &["--mend", "--yes"]), "index.lock is 1h old");
    assert_eq!((&told["level"], &told["mend"]), (&"warning".into(), &Value::Null));
    assert!(lock.exists());
}
