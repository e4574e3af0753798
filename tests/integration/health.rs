//! What workers use, limits on it, and workers that do not go on.

use rustix::process::Signal;
use serde_json::Value;

use crate::support::scene::{assert_no_processes, await_file, await_status, scene, signal, worker};
use crate::support::swarm::{SWARM, TestSwarm};

/// A scene with a section `health` of the settings, and with snapshots every second.
fn limited(health: &str, script: &str) -> TestSwarm {
    let swarm = scene(script);
    let limits = "limits: {grace: 300ms, snapshot_every: 1s}";
    swarm.write(".swarm/config.yaml", &format!("{limits}\nhealth: {health}\n"));
    swarm
}

/// Waits until a worker was stopped, and gives its reason. What it had done is still there.
#[track_caller]
fn stopped_because(swarm: &TestSwarm) -> String {
    let stopped = await_status(swarm, "T-1", "stopped");
    assert!(swarm.worktree("T-1").join("work.txt").exists(), "the work is kept");
    assert_no_processes(swarm);
    stopped["reason"].as_str().unwrap().to_owned()
}

#[test]
fn status_and_why_show_what_a_worker_uses() {
    let swarm = limited("{}", "setsid sleep 1000 & echo 1 > work.txt; touch up; sleep 1000");
    swarm.run(["spawn", "T-1"]).success();
    let mut seen = Value::Null;
    swarm.wait_until("the resources", || {
        seen = worker(&swarm, "T-1");
        seen["resources"]["process_count"] == 3 && seen["resources"]["disk_bytes"].is_u64()
    });
    let resources = &seen["resources"];
    assert!(resources["memory_bytes"].as_u64().unwrap() > 100_000, "{resources}");
    assert!(resources["cpu_ms"].is_u64() && seen["quiet_seconds"].is_u64(), "{seen:#}");
    let why = swarm.run(["why", "T-1"]).success();
    assert!(why.contains("3 processes") && why.contains("the last sign of progress"), "{why}");
    swarm.run(["stop", "T-1"]).success();
}

#[test]
fn too_many_processes_stop_the_agent_and_its_work_is_kept() {
    let fork = "i=0; while [ $i -lt 6 ]; do setsid sleep 1000 & i=$((i+1)); done";
    let swarm = limited("{max_processes: 4}", &format!("echo 1 > work.txt; {fork}; sleep 1000"));
    swarm.run(["spawn", "T-1"]).success();
    let reason = stopped_because(&swarm);
    assert!(reason.contains("processes, and `health.max_processes` is 4; raise it"), "{reason}");
    swarm.run(["wait", "T-1"]).expect_code(7);
}

#[test]
fn too_much_memory_stops_the_agent() {
    // `tail` holds the one line without an end.
    let swarm =
        limited("{max_memory: 60MB}", "echo 1 > work.txt; { head -c 150000000 /dev/zero; sleep 1000; } | tail -n 1");
    swarm.run(["spawn", "T-1"]).success();
    let reason = stopped_because(&swarm);
    assert!(reason.contains("of memory, and `health.max_memory` is 60.0 MB"), "{reason}");
}

#[test]
fn too_much_processor_time_stops_the_agent() {
    let swarm = limited("{max_cpu: 500ms}", "echo 1 > work.txt; while :; do :; done");
    swarm.run(["spawn", "T-1"]).success();
    let reason = stopped_because(&swarm);
    assert!(reason.contains("of processor time, and `health.max_cpu` is 500ms"), "{reason}");
}

#[test]
fn a_worktree_that_fills_the_disk_with_ignored_files_stops_the_agent() {
    let swarm = limited(
        "{max_disk: 5MB}",
        "echo 1 > work.txt; echo big > .gitignore; head -c 20000000 /dev/zero > big; sleep 1000",
    );
    swarm.run(["spawn", "T-1"]).success();
    let reason = stopped_because(&swarm);
    assert!(reason.contains("on the disk, and `health.max_disk` is 5.0 MB"), "{reason}");
}

#[test]
fn silence_is_told_with_its_age_and_proves_nothing() {
    let swarm = limited("{stuck_after: 2s}", "touch up; until [ -e go ]; do sleep 1000 & wait; done");
    swarm.run(["spawn", "T-1"]).success();
    await_file(&swarm, "T-1", "up");
    let mut seen = Value::Null;
    swarm.wait_until("the silence to be told", || {
        seen = worker(&swarm, "T-1");
        seen["reason"].as_str().unwrap().starts_with("no sign of progress for ")
    });
    assert_eq!(seen["status"], "working", "{seen:#}");
    assert!(seen["quiet_seconds"].as_u64().unwrap() >= 2, "{seen:#}");
    assert!(swarm.run(["status"]).success().contains("no sign of progress for"));
    let told = || {
        let database = rusqlite::Connection::open(swarm.repository().join(".git/swarm/swarm.db")).unwrap();
        let sql = "SELECT count(*) FROM events WHERE kind = 'swarm' AND ticket = 'T-1' AND data LIKE '%\"stuck\"%'";
        database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    swarm.wait_until("the event", || told() == 1);
    swarm.write_at(&swarm.worktree("T-1").join("progress.txt"), "made");
    swarm.wait_until("the change to count", || {
        !worker(&swarm, "T-1")["reason"].as_str().unwrap().starts_with("no sign of progress")
    });
    swarm.run(["stop", "T-1"]).success();
}

#[test]
fn a_worker_that_uses_the_processor_is_not_stuck() {
    let swarm = limited("{stuck_after: 7s}", "touch up; while :; do :; done");
    swarm.run(["spawn", "T-1"]).success();
    await_file(&swarm, "T-1", "up");
    swarm.wait_until("it to have worked for longer than that", || {
        worker(&swarm, "T-1")["resources"]["cpu_ms"].as_u64().is_some_and(|cpu| cpu > 9_000)
    });
    let seen = worker(&swarm, "T-1");
    assert!(!seen["reason"].as_str().unwrap().contains("no sign of progress"), "{seen:#}");
    swarm.run(["stop", "T-1"]).success();
}

/// How often the agent was started.
fn starts(swarm: &TestSwarm) -> usize {
    let log = std::fs::read_to_string(swarm.root().join("project-worktrees/starts")).unwrap_or_default();
    log.lines().count()
}

/// A scene whose agent notes that it was started and then shows nothing; its ticket has one attempt.
fn silent(health: &str, run: &str) -> TestSwarm {
    let swarm = limited(health, "echo start >> ../starts; echo 1 > work.txt; exec sleep 1000");
    let config = swarm.read(".swarm/config.yaml");
    swarm.write(".swarm/config.yaml", &format!("{config}run: {run}\n"));
    swarm.write(".swarm/tickets/T-1.md", "---\nid: T-1\ntitle: Work\nagent: shell\nmax_attempts: 1\n---\nWork.\n");
    swarm
}

/// How many facts of this kind the event stream has about the ticket.
fn facts(swarm: &TestSwarm, kind: &str) -> i64 {
    let database = rusqlite::Connection::open(swarm.repository().join(".git/swarm/swarm.db")).unwrap();
    let sql =
        "SELECT count(*) FROM events WHERE kind = 'swarm' AND ticket = 'T-1' AND json_extract(data, '$.event') = ?1";
    database.query_row(sql, [kind], |row| row.get(0)).unwrap()
}

#[test]
fn a_coordinator_reminds_a_stuck_worker_starts_it_again_and_then_lets_it_fail() {
    let swarm = silent("{stuck_after: 1s, restarts: 1}", "{}");
    let output = swarm.run(["run", "T-1", "--headless"]);
    assert_ne!(output.code, 0, "{}", output.transcript());
    let failed = worker(&swarm, "T-1");
    assert_eq!(failed["status"], "failed", "{failed:#}");
    let reason = failed["reason"].as_str().unwrap();
    assert!(reason.starts_with("it showed no sign of progress for "), "{reason}");
    assert!(reason.ends_with("after it had been started again once"), "{reason}");
    assert_eq!((starts(&swarm), facts(&swarm, "nudged"), facts(&swarm, "limit_reached")), (2, 2, 1));
    assert!(facts(&swarm, "stuck") >= 2);
    assert!(swarm.worktree("T-1").join("work.txt").exists());
    assert_no_processes(&swarm);
}

#[test]
fn a_restart_that_a_dead_coordinator_owes_is_made_by_the_next() {
    let swarm = silent("{}", "{}");
    swarm.run(["spawn", "T-1", "--headless"]).success();
    swarm.wait_until("the start", || starts(&swarm) == 1);
    swarm.run(["stop", "T-1"]).success();
    let database = rusqlite::Connection::open(swarm.repository().join(".git/swarm/swarm.db")).unwrap();
    // Of an attempt before the one that a person stopped.
    let owed = r#"{"nudges":1,"restarts":1,"restart_owed":0}"#;
    database.execute("INSERT INTO care VALUES('T-1', ?1)", [owed]).unwrap();
    swarm.run(["run", "--all", "--headless"]).expect_code(1);
    assert_eq!(starts(&swarm), 1);
    let owed = r#"{"nudges":1,"restarts":1,"restart_owed":1}"#;
    database.execute("UPDATE care SET document = ?1", [owed]).unwrap();
    let mut run = swarm.command(SWARM, &swarm.repository()).args(["run", "--all", "--headless"]).spawn().unwrap();
    swarm.wait_until("the second start", || starts(&swarm) == 2);
    let care: String = database.query_row("SELECT document FROM care", [], |row| row.get(0)).unwrap();
    assert!(care.contains("\"restarts\":1"), "the count goes on: {care}");
    run.kill().unwrap();
    run.wait().unwrap();
    swarm.run(["stop", "T-1"]).success();
}

#[test]
fn a_worker_that_is_lost_again_and_again_is_given_up() {
    let swarm = silent("{crash_loop: {count: 3, within: 10m}}", "{}");
    let mut run = swarm.command(SWARM, &swarm.repository()).args(["run", "T-1", "--headless"]).spawn().unwrap();
    let mut killed = Value::Null;
    for count in 1..=3 {
        let mut supervisor = Value::Null;
        swarm.wait_until(&format!("start {count}"), || {
            supervisor = swarm.json(["status"])["workers"][0]["supervisor_pid"].clone();
            starts(&swarm) == count && supervisor.is_u64() && supervisor != killed
        });
        signal(&supervisor, Signal::KILL);
        killed = supervisor;
    }
    assert!(!run.wait().unwrap().success());
    let failed = worker(&swarm, "T-1");
    assert_eq!((&failed["status"], &failed["ticket_state"]), (&"failed".into(), &"dead".into()), "{failed:#}");
    let reason = failed["reason"].as_str().unwrap();
    assert!(reason.contains("ended badly 3 times within 10m; the last time: its supervisor was lost"), "{reason}");
    assert_eq!(starts(&swarm), 3);
    assert_no_processes(&swarm);
    // Nobody starts it again by itself, and a person can.
    assert_ne!(swarm.run(["run", "--all", "--headless"]).code, 0);
    assert_eq!(starts(&swarm), 3);
    let half_written = swarm.worker_dir("T-1").join(format!(".swarm-{killed}-x"));
    swarm.write_at(&half_written, "");
    swarm.run(["resume", "T-1"]).success();
    swarm.wait_until("the fourth start", || starts(&swarm) == 4);
    assert!(!half_written.exists(), "what a dead supervisor was writing is gone");
    swarm.run(["stop", "T-1"]).success();
}

#[test]
fn a_worker_that_goes_on_finds_no_lock_of_the_git_that_was_killed_with_it() {
    let swarm = limited(
        "{}",
        "set -e; echo 1 >> work.txt; git add work.txt; lock=$(git rev-parse --git-path index.lock); \
         if [ $SWARM_ATTEMPT = 1 ]; then touch $lock up; exec sleep 1000; fi; git commit -q -m Work",
    );
    swarm.run(["spawn", "T-1", "--headless"]).success();
    await_file(&swarm, "T-1", "up");
    signal(&worker(&swarm, "T-1")["supervisor_pid"], Signal::KILL);
    await_status(&swarm, "T-1", "lost");
    swarm.run(["resume", "T-1"]).success();
    await_status(&swarm, "T-1", "done");
    assert_eq!(swarm.git(["show", "swarm/T-1:work.txt"]).success(), "1\n1\n");
}

#[test]
fn a_worker_that_was_killed_behind_the_end_of_its_ticket_is_not_lost_for_ever() {
    let swarm = limited("{}", "touch up; until [ -e go ]; do sleep 0.01; done; exit 3");
    swarm.write(".swarm/tickets/T-1.md", "---\nid: T-1\ntitle: Work\nagent: shell\nmax_attempts: 1\n---\nWork.\n");
    swarm.run(["spawn", "T-1", "--headless"]).success();
    await_file(&swarm, "T-1", "up");
    let database = rusqlite::Connection::open(swarm.repository().join(".git/swarm/swarm.db")).unwrap();
    let row = "SELECT phase, document FROM workers";
    let (phase, document): (String, String) =
        database.query_row(row, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    swarm.write_at(&swarm.worktree("T-1").join("go"), "");
    await_status(&swarm, "T-1", "failed");
    assert_no_processes(&swarm);
    // As a supervisor leaves it that is killed when it has told the queue.
    database.execute("UPDATE workers SET phase = ?1, document = ?2", [&phase, &document]).unwrap();
    let lost = worker(&swarm, "T-1");
    assert_eq!((&lost["status"], &lost["ticket_state"]), (&"lost".into(), &"dead".into()), "{lost:#}");
    swarm.run(["run", "T-1", "--headless"]).expect_code(1);
    let failed = worker(&swarm, "T-1");
    assert_eq!((&failed["status"], &failed["ticket_state"]), (&"failed".into(), &"dead".into()), "{failed:#}");
    assert_eq!(failed["reason"], "its command exited with code 3");
}

#[test]
fn a_coordinator_ends_what_nobody_supervises_even_where_it_starts_nothing_again() {
    let swarm = silent("{}", "{restart: never}");
    swarm.run(["spawn", "T-1", "--headless"]).success();
    swarm.wait_until("the start", || starts(&swarm) == 1);
    signal(&worker(&swarm, "T-1")["supervisor_pid"], Signal::KILL);
    await_status(&swarm, "T-1", "lost");
    let output = swarm.run(["run", "--all", "--headless"]);
    assert_ne!(output.code, 0, "{}", output.transcript());
    assert_no_processes(&swarm);
    assert_eq!((starts(&swarm), worker(&swarm, "T-1")["status"].clone()), (1, "lost".into()));
}
