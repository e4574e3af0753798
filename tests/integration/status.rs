//! What status says when its sources are damaged, and what scripts rely on.

use std::fs;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::scene::{assert_no_processes, await_file, await_status, scene, signal, worker};
use crate::support::swarm::{SWARM, TestSwarm};

/// Runs until it is ended, and says so at once.
const STAYS: &str = "touch up; while :; do sleep 0.05; done";

#[test]
fn a_damaged_live_file_is_unknown_and_never_a_crash() {
    let swarm = scene(STAYS);
    swarm.run(["spawn", "T-1"]).success();
    await_file(&swarm, "T-1", "up");
    let supervisor = worker(&swarm, "T-1")["supervisor_pid"].clone();
    // It would write a good one at the next beat.
    signal(&supervisor, Signal::STOP);
    for text in ["", "{\"heartbeat", "[]", "\u{0}\u{1}"] {
        swarm.write_at(&swarm.worker_dir("T-1").join("live.json"), text);
        let seen = worker(&swarm, "T-1");
        assert_eq!(seen["status"], "unknown", "{seen:#}");
        assert_eq!(seen["ticket_state"], "running");
        swarm.run(["status"]).success();
        swarm.run(["why", "T-1"]).success();
    }
    signal(&supervisor, Signal::CONT);
    await_status(&swarm, "T-1", "working");
    swarm.run(["stop", "T-1"]).success();
}

#[test]
fn state_of_a_newer_version_is_refused_untouched() {
    let swarm = scene("true");
    swarm.run(["spawn", "T-1", "--wait"]).success();
    // A supervisor that is still ending has the database open.
    assert_no_processes(&swarm);
    let path = swarm.repository().join(".git/swarm/swarm.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    connection.close().unwrap();
    let before = fs::read(&path).unwrap();
    for args in [&["status"][..], &["spawn", "T-1"], &["stop", "T-1"], &["wait"]] {
        let output = swarm.run(args).expect_code(1);
        assert!(
            output.stderr.contains("format 99") && output.stderr.contains("hint: update swarm"),
            "{}",
            output.transcript()
        );
    }
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn an_unknown_worker_is_not_found_by_every_verb() {
    let swarm = scene("true");
    for args in [
        &["status", "T-9"][..],
        &["why", "T-9"],
        &["stop", "T-9"],
        &["pause", "T-9"],
        &["resume", "T-9"],
        &["restart", "T-9"],
        &["send", "T-9", "hello"],
        &["logs", "T-9"],
        &["wait", "T-9"],
        &["spawn", "T-9"],
    ] {
        let output = swarm.run(args).expect_code(5);
        assert!(output.stderr.contains("`T-9`") && output.stdout.is_empty(), "{args:?}: {}", output.transcript());
    }
    swarm.run(["stop", "../../etc"]).expect_code(2);
}

/// The keys that scripts may rely on.
const WORKER_KEYS: [&str; 28] = [
    "id",
    "ticket",
    "title",
    "agent",
    "runtime",
    "status",
    "reason",
    "evidence",
    "ticket_state",
    "branch",
    "base",
    "worktree",
    "tmux_session",
    "pid",
    "supervisor_pid",
    "commits",
    "files_changed",
    "insertions",
    "deletions",
    "dirty",
    "changes_at",
    "tool_calls",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "attempt",
    "started_at",
    "heartbeat_at",
];

#[test]
fn every_key_of_status_is_always_there() {
    let swarm = scene(STAYS);
    let empty = swarm.json(["status"]);
    assert_eq!((&empty["version"], &empty["workers"]), (&1.into(), &serde_json::json!([])));
    swarm.write_ticket("T-2", "shell", "Work.");
    swarm.run(["spawn", "T-1", "T-2", "--headless"]).success();
    await_file(&swarm, "T-1", "up");
    swarm.run(["stop", "T-2"]).success();
    fs::remove_file(swarm.worker_dir("T-2").join("live.json")).unwrap();
    let status = swarm.json(["status"]);
    for worker in status["workers"].as_array().unwrap() {
        let missing: Vec<_> =
            WORKER_KEYS.iter().chain(&["ended_at"]).filter(|key| worker.get(**key).is_none()).collect();
        assert!(missing.is_empty(), "{missing:?} in {worker:#}");
        assert_eq!(worker["base"].as_str().unwrap().len(), 40);
    }
    for state in [
        "open",
        "queued",
        "running",
        "review",
        "approved",
        "landing",
        "landed",
        "failed",
        "dead",
        "lost",
        "done",
        "cancelled",
        "blocked",
        "waiting_approval",
    ] {
        let expected = if state == "open" { 1 } else { 0 };
        assert!(status["tickets"][state].is_u64() && empty["tickets"][state] == expected, "{state}");
    }
    swarm.run(["stop", "--all"]).success();
}

#[test]
fn a_reader_that_goes_away_is_success_and_quiet() {
    let swarm = scene("yes | head -c 400000; echo done > made.txt");
    swarm.run(["spawn", "T-1", "--wait"]).success();
    for args in [&["status"][..], &["status", "--json"], &["logs", "T-1", "--terminal"], &["logs", "T-1"], &["--help"]]
    {
        let mut command = swarm.command(SWARM, &swarm.repository());
        let mut child =
            command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{args:?}: {output:?}");
    }
}

#[test]
fn wait_says_by_its_code_what_happened() {
    let swarm = scene("touch up; until [ -e go ]; do sleep 0.02; done; rm -f up go; echo done > made.txt");
    swarm.write_shell_agent("fails", "exit 3");
    swarm.write_ticket("T-2", "fails", "Work.");
    swarm.run(["wait"]).success();
    swarm.run(["spawn", "T-1", "T-2"]).success();
    await_file(&swarm, "T-1", "up");
    await_status(&swarm, "T-2", "failed");
    swarm.run(["wait", "T-1", "--timeout", "100ms"]).expect_code(6);
    swarm.run(["wait", "T-2", "--for", "review"]).expect_code(1);
    swarm.run(["wait", "T-2", "--for", "failed"]).success();
    swarm.run(["wait", "T-1", "T-2", "--any", "--for", "failed"]).success();
    swarm.run(["wait", "T-1", "--for", "no-such-status"]).expect_code(2);
    swarm.write_at(&swarm.worktree("T-1").join("go"), "");
    swarm.run(["wait", "T-1", "--for", "review", "--timeout", "20s"]).success();
    let view = swarm.run(["wait", "T-1", "T-2", "--json"]).json();
    assert_eq!(view["workers"].as_array().unwrap().len(), 2);
}

/// Spawns the ticket `T-1` from `folder` and sees it to review; its worktree's files.
#[track_caller]
fn works_in(swarm: &TestSwarm, folder: &std::path::Path) {
    swarm.run_in(folder, ["spawn", "T-1", "--yes"]).success();
    swarm.run_in(folder, ["wait", "T-1", "--timeout", "20s"]).success();
    let status = swarm.run_in(folder, ["status", "--json"]).expect_code(0).json();
    let worker = &status["workers"][0];
    assert_eq!((&worker["status"], &worker["ticket_state"]), (&"done".into(), &"review".into()), "{worker:#}");
    assert!(std::path::Path::new(worker["worktree"].as_str().unwrap()).join("made.txt").exists());
}

/// An agent that writes one file.
const WORKS: &str = "echo done > made.txt";

#[test]
fn it_works_from_a_subfolder_and_from_inside_a_worktree() {
    let swarm = scene(WORKS);
    let deep = swarm.repository().join("a/b c");
    fs::create_dir_all(&deep).unwrap();
    works_in(&swarm, &deep);
    let inside = swarm.worktree("T-1");
    let status = swarm.run_in(&inside, ["status", "--json"]).expect_code(0).json();
    assert_eq!(status["workers"][0]["id"], "T-1");
    swarm.write_ticket("T-2", "shell", "Work.");
    swarm.run_in(&inside, ["spawn", "T-2", "--wait"]).success();
    assert!(swarm.worktree("T-2").join("made.txt").exists(), "beside the first, not inside it");
}

#[test]
fn it_works_with_a_detached_head() {
    let swarm = scene(WORKS);
    swarm.git(["checkout", "--quiet", "--detach"]).success();
    works_in(&swarm, &swarm.repository());
    assert_eq!(
        swarm.git(["rev-parse", "HEAD", "main"]).success().lines().collect::<std::collections::BTreeSet<_>>().len(),
        1
    );
}

#[test]
fn it_works_with_blanks_and_letters_of_the_world_in_the_path() {
    let swarm = scene(WORKS);
    let other = swarm.root().join("ein Ordner, 'größer' $HOME 🐝");
    fs::rename(swarm.repository(), &other).unwrap();
    works_in(&swarm, &other);
}

#[test]
fn it_works_in_a_bare_repository_with_worktrees() {
    let swarm = scene(WORKS);
    swarm.git(["add", ".swarm"]).success();
    swarm.git(["commit", "--quiet", "-m", "Swarm"]).success();
    let folder = swarm.root().join("layout");
    let bare = folder.join(".bare");
    swarm.git_in(swarm.root(), ["clone", "--quiet", "--bare", "project", bare.to_str().unwrap()]).success();
    swarm.write_at(&folder.join(".git"), "gitdir: ./.bare\n");
    for (name, value) in [("user.name", "Test Person"), ("user.email", "person@example.com")] {
        swarm.git_in(&bare, ["config", name, value]).success();
    }
    swarm.git_in(&folder, ["worktree", "add", "--quiet", "main"]).success();
    works_in(&swarm, &folder.join("main"));
    swarm.run_in(&folder, ["status"]).success();
}

#[test]
fn a_sha256_repository_works_or_is_refused_and_never_broken() {
    let swarm = TestSwarm::without_repository();
    let repository = swarm.repository();
    fs::create_dir(&repository).unwrap();
    swarm.git(["init", "--quiet", "-b", "main", "--object-format=sha256"]).success();
    swarm.git(["config", "user.name", "Test Person"]).success();
    swarm.git(["config", "user.email", "person@example.com"]).success();
    swarm.write_shell_agent("shell", WORKS);
    swarm.write_ticket("T-1", "shell", "Work.");
    swarm.write("README.md", "x\n");
    swarm.git(["add", "README.md"]).success();
    swarm.git(["commit", "--quiet", "-m", "Start"]).success();
    works_in(&swarm, &repository);
    swarm.git(["fsck", "--strict"]).success();
}

#[test]
fn a_repository_without_a_commit_is_told_what_it_lacks() {
    let swarm = TestSwarm::without_repository();
    fs::create_dir(swarm.repository()).unwrap();
    swarm.git(["init", "--quiet", "-b", "main"]).success();
    swarm.write_shell_agent("shell", WORKS);
    swarm.write_ticket("T-1", "shell", "Work.");
    let output = swarm.run(["spawn", "T-1"]);
    assert!([1, 2, 5].contains(&output.code), "{}", output.transcript());
    assert!(output.stderr.contains("commit"), "{}", output.transcript());
    assert!(!output.stderr.contains("panicked"));
    assert_eq!(swarm.json(["status", "--all"])["workers"], serde_json::json!([]));
}

#[test]
fn nothing_ever_asks_without_a_terminal() {
    let swarm = scene(STAYS);
    swarm.run(["spawn", "T-1"]).success();
    swarm.run(["send", "T-1"]).expect_code(2);
    for args in [&["stop", "--all"][..], &["resume", "--all"], &["pause", "--all"], &["wait"], &["status", "--all"]] {
        // That it ends at all is the point.
        drop(swarm.run(args));
    }
}

#[test]
fn figures_of_the_work_are_known_from_the_beginning() {
    let figures = |worker: &Value| {
        Value::from(
            ["commits", "files_changed", "insertions", "deletions", "dirty"].map(|key| worker[key].clone()).to_vec(),
        )
    };
    // The agent is on its way for as long as its set-up is.
    let swarm = scene("git commit -q --allow-empty -m Work; touch up; while :; do sleep 0.05; done");
    swarm.write(
        ".swarm/config.yaml",
        "setup:\n  - run: until [ -e ../go ]; do sleep 0.05; done\nlimits: {snapshot_every: 30m}\n",
    );
    let mut spawner = swarm.command(SWARM, &swarm.repository()).args(["spawn", "T-1", "--yes"]).spawn().unwrap();
    let mut first = Value::Null;
    swarm.wait_until("the worker", || {
        first = swarm.json(["status"])["workers"][0].clone();
        first.is_object()
    });
    assert_eq!(figures(&first), serde_json::json!([0, 0, 0, 0, false]), "{first:#}");
    swarm.write_at(&swarm.root().join("project-worktrees/go"), "");
    assert!(spawner.wait().unwrap().success());
    assert!(worker(&swarm, "T-1")["commits"].is_number());
    await_file(&swarm, "T-1", "up");
    swarm.run(["stop", "T-1"]).success();
    assert_eq!(worker(&swarm, "T-1")["commits"], 1);
    swarm.run(["restart", "T-1"]).success();
    assert!(worker(&swarm, "T-1")["commits"].as_u64().unwrap() >= 1, "an attempt begins with the work of the last");
    swarm.run(["stop", "T-1"]).success();
    // A branch that was there before is looked at when the agent starts, not a snapshot interval later.
    swarm.write_ticket("T-2", "shell", "Work.");
    swarm.git(["branch", "swarm/T-2", "swarm/T-1"]).success();
    swarm.run(["spawn", "T-2", "--yes"]).success();
    swarm.wait_until("its figures", || worker(&swarm, "T-2")["commits"].as_u64() >= Some(2));
    swarm.run(["stop", "--all"]).success();
}

#[test]
fn tickets_that_were_never_spawned_are_counted_as_open() {
    let swarm = scene("true");
    swarm.write_ticket("T-2", "shell", "Work.");
    swarm.write_ticket("T-3", "shell", "Work.");
    assert_eq!(swarm.json(["status"])["tickets"]["open"], 3);
    swarm.run(["status"]).says("3 open");
    swarm.run(["spawn", "T-1", "--headless", "--wait"]).success();
    assert_eq!(swarm.json(["status"])["tickets"]["open"], 2);
}

#[test]
fn a_wait_says_once_what_each_worker_says() {
    let swarm = scene("exit 3");
    swarm.write_ticket("T-2", "shell", "Work.");
    let waited = swarm.run(["spawn", "T-1", "T-2", "--headless", "--wait"]).expect_code(1);
    let last: Vec<_> = waited.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(last, ["error: 2 of 2 workers failed or were stopped"]);
    let waited = swarm.run(["wait", "T-1"]).expect_code(1);
    assert!(waited.stdout.starts_with("`T-1` is failed: ") && waited.stdout.lines().count() == 1, "{waited:?}");
    assert!(waited.stderr.starts_with("error: `T-1` failed or was stopped\n"), "{waited:?}");
}

#[test]
fn a_broken_configuration_keeps_no_agent_running() {
    for options in [&["--headless"][..], &[]] {
        let swarm = scene(STAYS);
        swarm.write_ticket("T-2", "shell", "Work.");
        swarm.write_ticket("T-3", "shell", "Work.");
        swarm.run(["spawn", "T-1", "T-2", "T-3"].iter().chain(options)).success();
        for id in ["T-1", "T-2", "T-3"] {
            await_file(&swarm, id, "up");
        }
        let lost = worker(&swarm, "T-3");
        signal(&lost["supervisor_pid"], rustix::process::Signal::KILL);
        await_status(&swarm, "T-3", "lost");
        swarm.write(".swarm/config.yaml", "max_workers: [\n");
        swarm.run(["stop", "T-1", "T-3"]).success();
        swarm.run(["rm", "T-2", "--yes"]).success();
        swarm.run(["restart", "T-1"]).expect_code(2).says("config.yaml");
        swarm.run(["rm", "--all", "--yes"]).success();
        crate::support::scene::assert_no_processes(&swarm);
    }
}

#[test]
fn a_dependency_that_does_not_exist_is_told_as_that() {
    let swarm = scene("true");
    swarm.write(".swarm/tickets/T-2.md", "---\nagent: shell\ndepends_on: [nosuch]\n---\nWork.\n");
    let refused = swarm.run(["spawn", "T-2", "--headless"]).expect_code(4);
    assert!(refused.stderr.contains("there is no such ticket") && !refused.stderr.contains("open"), "{refused:?}");
    refused.says("swarm ticket new nosuch");
}

#[test]
fn several_words_are_one_message() {
    let swarm = scene("cat \"$SWARM_PROMPT_FILE\" >> said.txt");
    swarm.run(["spawn", "T-1", "--headless", "--wait"]).success();
    swarm.run(["send", "T-1", "two", "words"]).success();
    swarm.wait_until("the message to arrive", || {
        std::fs::read_to_string(swarm.worktree("T-1").join("said.txt")).is_ok_and(|text| text.contains("two words"))
    });
    swarm.run(["wait", "T-1", "--timeout", "50s"]).success();
    swarm.run(["send", "T-1"]).expect_code(2).says("name a worker and the text");
}
