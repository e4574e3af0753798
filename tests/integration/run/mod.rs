//! `swarm run`, `swarm up` and `swarm queue` with scripted agents: what lands, what is named, and what happens when the
//! engine is killed, doubled, interrupted or out of time.

mod background;
mod hundred;
mod landing;
mod queue;
mod scale;
mod scenery;

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::scene::{assert_no_processes, await_status, signal, worker};
use crate::support::swarm::TestSwarm;
use scenery::{Beside, QUICK, await_state, hold_back, let_go, repository, starts, states, ticket};

/// A backlog of twelve: a chain, a fan, two that conflict, one that fails and one that needs it.
fn backlog() -> TestSwarm {
    let swarm = repository();
    for (id, needs) in [
        ("a1", &[][..]),
        ("a2", &["a1"]),
        ("a3", &["a2"]),
        ("b1", &[]),
        ("b2", &["b1"]),
        ("b3", &["b1"]),
        ("b4", &["b2", "b3"]),
        ("c1", &[]),
        ("twin1", &[]),
        ("twin2", &[]),
        ("bad", &[]),
        ("after-bad", &["bad"]),
    ] {
        ticket(&swarm, id, needs);
    }
    swarm
}

/// Every ticket of the backlog is where it belongs, the target has their work once, and nothing is left over.
#[track_caller]
fn assert_backlog_is_done(swarm: &TestSwarm) {
    let states = states(swarm);
    let not_landed: Vec<_> = states.iter().filter(|(_, state)| *state != "landed").collect();
    let expected = [("after-bad", "blocked"), ("bad", "dead")].map(|(id, state)| (id.to_owned(), state.to_owned()));
    assert!(not_landed.into_iter().eq(expected.iter().map(|(id, state)| (id, state))), "{states:?}");
    assert_eq!(states.len(), 12);
    let log = swarm.git(["log", "--first-parent", "--format=%(trailers:key=Swarm-Ticket,valueonly)"]).success();
    let mut landed: Vec<_> = log.lines().filter(|line| !line.is_empty()).collect();
    landed.sort_unstable();
    assert_eq!(landed, ["a1", "a2", "a3", "b1", "b2", "b3", "b4", "c1", "twin1", "twin2"]);
    assert_eq!(swarm.read("shared.txt"), "both\n");
    assert_eq!(swarm.git(["worktree", "list"]).success().lines().count(), 2, "only that of `bad` is left");
    assert_no_processes(swarm);
}

#[test]
fn a_backlog_lands_what_can_land_and_names_what_cannot() {
    let swarm = backlog();
    let output = swarm.run(["run", "--all", "--merge", "--json"]).expect_code(3);
    let view = output.json();
    assert_backlog_is_done(&swarm);
    assert_eq!((&view["outcome"], &view["made"], &view["exit_code"]), (&"partial".into(), &10.into(), &3.into()));
    let left: Vec<_> = view["tickets"].as_array().unwrap().iter().filter(|ticket| ticket["made"] == false).collect();
    let why = |id: &str| left.iter().find(|ticket| ticket["ticket"] == id).unwrap()["why"].as_str().unwrap().to_owned();
    assert!(why("bad").starts_with("failed, after 2 attempts: its command exited with code 3"), "{}", why("bad"));
    assert!(why("after-bad").starts_with("needs `bad`, which failed"), "{}", why("after-bad"));
    output.says("Landed `b4`");
    let starts = starts(&swarm);
    output.says("went back to its agent");
    assert_eq!(starts["twin1"] + starts["twin2"], 3);
    assert_eq!((starts["a3"], starts["bad"], starts.get("after-bad")), (1, 2, None));
    // What made it needs no second run, and what did not is said again.
    let again = swarm.run(["run", "--all", "--merge"]).expect_code(3);
    again.says("`after-bad` needs `bad`");
    swarm.run(["run", "a1", "--merge"]).expect_code(0);
    assert_eq!(starts, scenery::starts(&swarm));
}

#[test]
fn what_a_named_ticket_needs_comes_along_and_the_rest_stays() {
    let swarm = repository();
    for (id, needs) in [("base", &[][..]), ("top", &["base"]), ("else", &[])] {
        ticket(&swarm, id, needs);
    }
    swarm.run(["run", "top", "--merge"]).expect_code(0).says("`base` comes along: `top` needs it");
    let states = states(&swarm);
    assert_eq!(
        states.into_iter().collect::<Vec<_>>(),
        [("base".to_owned(), "landed".to_owned()), ("top".to_owned(), "landed".to_owned())]
    );
}

#[test]
fn without_landing_a_run_ends_at_review_and_what_needs_the_landing_needs_a_person() {
    let swarm = repository();
    ticket(&swarm, "a", &[]);
    ticket(&swarm, "b", &["a"]);
    swarm.run(["run", "a"]).expect_code(0).says("1 ready for review");
    let output = swarm.run(["run", "--all"]).expect_code(4);
    output.says("`b` waits for `a`, which is in review and has to land");
    swarm.write(".swarm/config.yaml", &QUICK.replace("auto", "person"));
    swarm.run(["run", "--all", "--merge"]).expect_code(4).says("`a` waits for a verdict: swarm review a");
    swarm.run(["review", "a", "--approve"]).success();
    swarm.run(["run", "--all", "--merge"]).expect_code(4).says("Landed `a`");
    assert_eq!(states(&swarm)["b"], "review");
}

#[test]
fn a_circle_is_named_before_anything_happens() {
    let swarm = repository();
    ticket(&swarm, "a", &["b"]);
    ticket(&swarm, "b", &["c"]);
    ticket(&swarm, "c", &["a"]);
    swarm.run(["run", "--all"]).expect_code(2).says("the dependencies form a cycle: a -> b -> c -> a");
    assert!(states(&swarm).is_empty());
    swarm.run(["run"]).expect_code(2).says("name tickets, or say --all");
}

#[test]
fn gates_that_nobody_trusts_end_a_run_before_it_begins() {
    let swarm = repository();
    ticket(&swarm, "a", &[]);
    swarm.write(".swarm/config.yaml", &format!("{QUICK}gates: [{{name: g, run: 'true'}}]\n"));
    swarm.run(["run", "a", "--merge"]).expect_code(4).says("swarm trust");
    assert!(states(&swarm).is_empty() && starts(&swarm).is_empty());
    swarm.run(["run", "a", "--merge", "--yes"]).expect_code(0);
}

#[test]
fn an_agent_that_cannot_run_is_told_and_keeps_nothing_else_from_running() {
    let swarm = repository();
    swarm.write(".swarm/agents/gone.md", "---\nruntime: command\ncommand: [no-such-program-anywhere]\n---\nWork.\n");
    swarm.write_ticket("a", "gone", "Work.");
    ticket(&swarm, "b", &[]);
    let output = swarm.run(["run", "--all"]).expect_code(4);
    output.says("`a` could not be started");
    output.says("1 ready for review");
    assert_eq!(states(&swarm)["a"], "queued");
}

#[test]
fn a_start_that_fails_after_its_claim_is_tried_three_times_and_told() {
    let swarm = repository();
    // Slower than one look, so that the coordinator sees the ticket run meanwhile.
    let setup = "setup: [{run: 'echo x >> \"$SWARM_REPO/../setups.log\"; sleep 1.3; exit 1'}]\n";
    swarm.write(".swarm/config.yaml", &format!("{QUICK}{setup}"));
    ticket(&swarm, "a", &[]);
    let output = swarm.run(["run", "--all", "--headless", "--yes", "--timeout", "60s"]).expect_code(4);
    output.says("`a` could not be started: set-up command");
    let setups = fs::read_to_string(swarm.root().join("setups.log")).unwrap();
    assert_eq!(setups.lines().count(), 3);
    assert_eq!(states(&swarm)["a"], "queued");
    assert!(starts(&swarm).is_empty());
}

/// Takes the lock under which places are given, and waits until a `swarm` waits for it.
fn hold_places(swarm: &TestSwarm, until_waited_for: impl FnOnce()) -> fs::File {
    use std::os::unix::fs::MetadataExt;
    let places = fs::File::create(swarm.repository().join(".git/swarm/locks/spawn.lock")).unwrap();
    places.lock().unwrap();
    until_waited_for();
    let inode = format!(":{} ", places.metadata().unwrap().ino());
    swarm.wait_until("somebody to wait for a place", || {
        let locks = fs::read_to_string("/proc/locks").unwrap();
        locks.lines().any(|line| line.contains("->") && line.contains(&inode))
    });
    places
}

#[test]
fn what_is_cancelled_between_the_decision_and_the_claim_does_not_run() {
    let swarm = repository();
    ticket(&swarm, "a", &[]);
    swarm.run(["queue", "add", "a"]).expect_code(0);
    fs::create_dir_all(swarm.repository().join(".git/swarm/locks")).unwrap();
    let mut run = None;
    let places = hold_places(&swarm, || run = Some(Beside::start(&swarm, "run", &["run", "--all", "--headless"])));
    swarm.run(["queue", "cancel", "a"]).expect_code(0);
    drop(places);
    let mut run = run.unwrap();
    assert_eq!(run.end(&swarm), 1, "{}", run.says(&swarm));
    assert!(run.says(&swarm).contains("`a` was cancelled"), "{}", run.says(&swarm));
    assert!(starts(&swarm).is_empty());
    assert_eq!(states(&swarm)["a"], "cancelled");
}

#[test]
fn a_lost_worker_whose_ticket_is_cancelled_before_it_is_continued_stays_ended() {
    let swarm = repository();
    ticket(&swarm, "a", &[]);
    hold_back(&swarm, "wait-a");
    swarm.run(["spawn", "a", "--headless"]).success();
    let before = await_status(&swarm, "a", "working");
    signal(&before["supervisor_pid"], Signal::KILL);
    await_status(&swarm, "a", "lost");
    let mut run = None;
    let places = hold_places(&swarm, || run = Some(Beside::start(&swarm, "run", &["run", "--all", "--headless"])));
    swarm.run(["queue", "cancel", "a"]).expect_code(0);
    drop(places);
    let mut run = run.unwrap();
    assert_eq!(run.end(&swarm), 1, "{}", run.says(&swarm));
    assert_eq!((starts(&swarm)["a"], states(&swarm)["a"].as_str()), (1, "cancelled"));
    let_go(&swarm, "wait-a");
}

/// A ticket whose agent a person stopped, and a way to its database.
fn stopped() -> (TestSwarm, rusqlite::Connection) {
    let swarm = repository();
    ticket(&swarm, "a", &[]);
    hold_back(&swarm, "wait-a");
    swarm.run(["spawn", "a", "--headless"]).success();
    await_status(&swarm, "a", "working");
    swarm.run(["stop", "a"]).success();
    let_go(&swarm, "wait-a");
    let database = rusqlite::Connection::open(swarm.repository().join(".git/swarm/swarm.db")).unwrap();
    (swarm, database)
}

#[test]
fn a_start_that_cannot_be_written_down_leaves_no_ticket_running() {
    let (swarm, database) = stopped();
    let broken = "CREATE TRIGGER broken BEFORE INSERT ON workers BEGIN SELECT RAISE(ABORT, 'broken'); END";
    database.execute(broken, []).unwrap();
    swarm.run(["resume", "a"]).expect_code(1);
    database.execute("DROP TRIGGER broken", []).unwrap();
    assert_eq!(states(&swarm)["a"], "failed");
    swarm.run(["queue", "dead"]).says("it could not be started again");
}

#[test]
fn a_ticket_whose_claim_was_left_behind_is_started_again_in_its_worktree() {
    let (swarm, database) = stopped();
    // What a command leaves that is killed between its claim and the worker's row.
    let claimed = "UPDATE tickets SET state = 'running', fence = fence + 1, error = NULL";
    assert_eq!(database.execute(claimed, []).unwrap(), 1);
    assert_eq!(worker(&swarm, "a")["status"], "stopped");
    swarm.run(["run", "--all", "--headless", "--timeout", "60s"]).expect_code(0);
    let queue = swarm.json(["queue", "list"]);
    assert_eq!((&queue["tickets"][0]["state"], &queue["tickets"][0]["attempts"]), (&"review".into(), &1.into()));
    assert_eq!(starts(&swarm)["a"], 2);
}

#[test]
fn a_worker_whose_branch_is_gone_keeps_no_other_one_from_landing() {
    let swarm = repository();
    for id in ["a", "b", "c"] {
        ticket(&swarm, id, &[]);
    }
    swarm.run(["run", "a", "b", "--headless"]).expect_code(0);
    swarm.git(["update-ref", "-d", "refs/heads/swarm/a"]).success();
    let output = swarm.run(["run", "a", "b", "--merge", "--headless"]).expect_code(4);
    output.says("Landed `b`");
    output.says("`a` could not land: the branch `swarm/a` of worker `a` is gone");
    assert_eq!((states(&swarm)["a"].as_str(), states(&swarm)["b"].as_str()), ("review", "landed"));
    swarm.run(["run", "c", "--headless"]).expect_code(0);
    let output = swarm.run(["merge"]).expect_code(3);
    output.says("the branch `swarm/a` of worker `a` is gone");
    assert_eq!(states(&swarm)["c"], "landed");
}

#[test]
fn no_more_workers_run_at_once_than_may() {
    let swarm = repository();
    for id in ["a", "b", "c", "d"] {
        ticket(&swarm, id, &[]);
    }
    hold_back(&swarm, "wait");
    let mut run = Beside::start(&swarm, "run", &["run", "--all", "--max-workers", "2"]);
    swarm.wait_until("two to run and two to be held", || {
        let status = swarm.json(["status"]);
        status["tickets"]["running"] == 2 && status["holds"].as_array().unwrap().len() == 2
    });
    let status = swarm.json(["status"]);
    assert_eq!(status["holds"][0]["why"], "waits for a place: 2 of 2 workers run");
    assert!(status["coordinator"]["leader"].as_str().unwrap().starts_with("process "), "{status:#}");
    swarm.run(["status"]).says("waits for a place: 2 of 2 workers run");
    let_go(&swarm, "wait");
    assert_eq!(run.end(&swarm), 0, "{}", run.says(&swarm));
    let status = swarm.json(["status"]);
    assert!(status["coordinator"].is_null() && status["holds"] == serde_json::json!([]), "{status:#}");
}

#[test]
fn two_engines_start_nothing_twice_and_the_second_stands_by() {
    let swarm = backlog();
    let mut one = Beside::start(&swarm, "one", &["run", "--all", "--merge"]);
    let mut other = Beside::start(&swarm, "other", &["run", "--all", "--merge"]);
    assert_eq!((one.end(&swarm), other.end(&swarm)), (3, 3), "{}\n{}", one.says(&swarm), other.says(&swarm));
    assert_backlog_is_done(&swarm);
    let both = format!("{}{}", one.says(&swarm), other.says(&swarm));
    assert_eq!(both.matches("leads; this one stands by").count(), 1, "{both}");
    let starts = starts(&swarm);
    let twins = starts["twin1"] + starts["twin2"];
    assert_eq!((starts["bad"], twins), (2, 3), "{starts:?}");
    assert!(starts.iter().all(|(id, count)| id.starts_with("twin") || id == "bad" || *count == 1), "{starts:?}");
}

#[test]
fn a_killed_engine_is_followed_by_the_one_that_stood_by() {
    let swarm = backlog();
    hold_back(&swarm, "wait");
    let mut first = Beside::start(&swarm, "first", &["run", "--all", "--merge"]);
    first.await_words(&swarm, "Started");
    let mut second = Beside::start(&swarm, "second", &["run", "--all", "--merge"]);
    second.await_words(&swarm, "leads; this one stands by");
    signal(&first.pid(), Signal::KILL);
    first.end(&swarm);
    let killed = std::time::Instant::now();
    second.await_words(&swarm, "took over from process");
    assert!(killed.elapsed() < Duration::from_secs(10), "it took {:?}", killed.elapsed());
    let_go(&swarm, "wait");
    assert_eq!(second.end(&swarm), 3, "{}", second.says(&swarm));
    assert_backlog_is_done(&swarm);
    let starts = starts(&swarm);
    assert!(starts.iter().all(|(id, count)| id.starts_with("twin") || id == "bad" || *count == 1), "{starts:?}");
}

#[test]
fn a_killed_run_is_gone_on_with_by_the_next() {
    let swarm = backlog();
    for round in 0..3u64 {
        let mut run = Beside::start(&swarm, "run", &["run", "--all", "--merge"]);
        swarm.wait_until("some work", || {
            run.begun.elapsed() > Duration::from_millis(400 + 700 * round) || run.child.try_wait().unwrap().is_some()
        });
        signal(&run.pid(), Signal::KILL);
        run.end(&swarm);
    }
    let output = swarm.run(["run", "--all", "--merge"]);
    assert!(matches!(output.code, 1 | 3), "{}", output.transcript());
    assert_backlog_is_done(&swarm);
}

#[test]
fn an_engine_that_slept_through_its_lease_stops_acting() {
    let swarm = repository();
    for id in ["a", "b", "c"] {
        ticket(&swarm, id, &[]);
    }
    hold_back(&swarm, "wait-a");
    let mut first = Beside::start(&swarm, "first", &["run", "--all", "--max-workers", "1"]);
    await_state(&swarm, "a", "running");
    // Not in the middle of a start, where it may be holding the database.
    await_status(&swarm, "a", "working");
    signal(&first.pid(), Signal::STOP);
    let mut second = Beside::start(&swarm, "second", &["run", "--all", "--max-workers", "1"]);
    second.await_words(&swarm, "took over from process");
    signal(&first.pid(), Signal::CONT);
    first.await_words(&swarm, "leads; this one stands by");
    let_go(&swarm, "wait-a");
    assert_eq!((first.end(&swarm), second.end(&swarm)), (0, 0), "{}\n{}", first.says(&swarm), second.says(&swarm));
    assert!(starts(&swarm).values().all(|count| *count == 1));
}

#[test]
fn a_lease_that_cannot_be_written_down_is_held_all_the_same() {
    let swarm = repository();
    ticket(&swarm, "a", &[]);
    swarm.run(["queue", "add", "a"]).success();
    let database = rusqlite::Connection::open(swarm.repository().join(".git/swarm/swarm.db")).unwrap();
    let broken = "CREATE TRIGGER broken BEFORE INSERT ON events WHEN NEW.data LIKE '%lease_taken%'
                  BEGIN SELECT RAISE(ABORT, 'broken'); END";
    database.execute(broken, []).unwrap();
    let output = swarm.run(["run", "a", "--headless", "--timeout", "60s"]).expect_code(0);
    output.says("could not look or act, and tries again");
    assert_eq!(states(&swarm)["a"], "review");
}

#[test]
fn the_time_limit_ends_the_agents_keeps_their_work_and_leaves_their_tickets_queued() {
    let swarm = repository();
    ticket(&swarm, "a", &[]);
    ticket(&swarm, "b", &["a"]);
    ticket(&swarm, "quick", &[]);
    hold_back(&swarm, "wait-a");
    let output = swarm.run(["run", "--all", "--timeout", "3s"]).expect_code(6);
    output.says("the run's time was over after 3s");
    output.says("1 ready for review, 2 tickets left");
    assert_eq!(states(&swarm)["a"], "queued");
    assert_no_processes(&swarm);
    assert!(swarm.worktree("a").exists(), "its work is kept");
    let_go(&swarm, "wait-a");
    swarm.run(["run", "--all", "--merge"]).expect_code(0);
    assert_eq!((states(&swarm)["a"].as_str(), starts(&swarm)["a"]), ("landed", 2));
}

#[test]
fn a_set_up_that_goes_on_when_the_time_is_over_is_ended_and_its_start_is_taken_back() {
    let swarm = repository();
    let setup = "setup: [{run: 'touch \"$SWARM_REPO/../setup\"; sleep 1000'}]\n";
    swarm.write(".swarm/config.yaml", &format!("{QUICK}{setup}"));
    ticket(&swarm, "a", &[]);
    let output = swarm.run(["run", "--all", "--headless", "--yes", "--timeout", "1s"]).expect_code(6);
    output.says("the rest is queued and its work is kept");
    assert!(swarm.root().join("setup").exists());
    assert_eq!(states(&swarm)["a"], "queued");
    assert_no_processes(&swarm);
    assert!(!swarm.worktree("a").exists());
}

#[test]
fn an_engine_that_ends_leads_until_it_has_ended() {
    let swarm = repository();
    // Longer than a lease lasts.
    let setup = "setup: [{run: 'sleep 7'}]\nmax_workers: 1\n";
    swarm.write(".swarm/config.yaml", &format!("{QUICK}{setup}"));
    ticket(&swarm, "a", &[]);
    let mut first = Beside::start(&swarm, "first", &["run", "--all", "--headless", "--yes", "--timeout", "1s"]);
    await_state(&swarm, "a", "running");
    let mut second = Beside::start(&swarm, "second", &["run", "--all", "--headless", "--yes"]);
    assert_eq!(first.end(&swarm), 6, "{}", first.says(&swarm));
    assert_eq!(second.end(&swarm), 0, "{}", second.says(&swarm));
    let output = swarm.run(["events", "--json"]).success();
    let events: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let is_lead = |event: &(usize, &Value)| event.1["event"] == "lease_taken";
    let leads: Vec<_> = events.iter().enumerate().filter(is_lead).map(|(place, _)| place).collect();
    let queued = events.iter().position(|event| event["from"] == "failed" && event["to"] == "queued");
    assert_eq!(leads.len(), 2, "{output}");
    assert!(queued.is_some_and(|queued| queued < leads[1]), "the first one stopped and queued it again: {output}");
}

#[test]
fn an_interrupted_run_leaves_its_workers_running() {
    let swarm = repository();
    ticket(&swarm, "a", &[]);
    ticket(&swarm, "b", &["a"]);
    for (how, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        hold_back(&swarm, "wait-a");
        let mut run = Beside::start(&swarm, "run", &["run", "--all", "--merge"]);
        await_state(&swarm, "a", "running");
        await_status(&swarm, "a", "working");
        run.await_words(&swarm, "up to 3 workers");
        signal(&run.pid(), how);
        assert_eq!(run.end(&swarm), code, "{}", run.says(&swarm));
        assert!(run.says(&swarm).contains("its workers run on: swarm status shows them, swarm stop --all ends them"));
        assert_eq!(worker(&swarm, "a")["status"], "working");
        let_go(&swarm, "wait-a");
        if code == 130 {
            hold_back(&swarm, "wait-a");
        }
    }
    swarm.run(["run", "--all", "--merge"]).expect_code(0);
    assert_eq!(starts(&swarm)["a"], 1, "nobody began it again");
}

#[test]
fn a_lost_worker_goes_on_without_using_up_an_attempt() {
    let swarm = repository();
    ticket(&swarm, "a", &[]);
    hold_back(&swarm, "wait-a");
    let mut run = Beside::start(&swarm, "run", &["run", "--all"]);
    await_state(&swarm, "a", "running");
    let before = await_status(&swarm, "a", "working");
    signal(&before["supervisor_pid"], Signal::KILL);
    let killed = std::time::Instant::now();
    swarm.wait_until("it to go on", || starts(&swarm)["a"] == 2);
    assert!(killed.elapsed() < Duration::from_secs(10), "it took {:?}", killed.elapsed());
    let_go(&swarm, "wait-a");
    assert_eq!(run.end(&swarm), 0, "{}", run.says(&swarm));
    assert!(run.says(&swarm).contains("Resumed `a`"), "{}", run.says(&swarm));
    let queue = swarm.json(["queue", "list"]);
    assert_eq!((&queue["tickets"][0]["attempts"], &queue["tickets"][0]["state"]), (&1.into(), &"review".into()));
    assert_eq!(fs::read_to_string(swarm.worktree("a").join("a.txt")).unwrap(), "a\n");
}

#[test]
fn a_lost_worker_whose_attempt_is_over_begins_the_next_one() {
    let swarm = repository();
    ticket(&swarm, "a", &[]);
    hold_back(&swarm, "wait-a");
    swarm.run(["spawn", "a"]).success();
    let before = await_status(&swarm, "a", "working");
    signal(&before["supervisor_pid"], Signal::KILL);
    await_status(&swarm, "a", "lost");
    // The queue ended the attempt and queued the ticket, and no supervisor lived to write down how the worker ended.
    swarm.run(["queue", "cancel", "a"]).success();
    swarm.run(["queue", "retry", "a"]).success();
    assert_eq!((states(&swarm)["a"].as_str(), worker(&swarm, "a")["status"].as_str()), ("queued", Some("lost")));
    let_go(&swarm, "wait-a");
    swarm.run(["run", "a", "--merge"]).expect_code(0);
    assert_eq!((states(&swarm)["a"].as_str(), starts(&swarm)["a"]), ("landed", 2));
    assert_no_processes(&swarm);
}

#[test]
fn lost_workers_wait_for_a_person_where_the_settings_say_so() {
    let swarm = repository();
    swarm.write(".swarm/config.yaml", &format!("{}\n", QUICK.replace("run: {", "run: {restart: never, ")));
    ticket(&swarm, "a", &[]);
    hold_back(&swarm, "wait-a");
    swarm.run(["spawn", "a"]).success();
    let before = await_status(&swarm, "a", "working");
    signal(&before["supervisor_pid"], Signal::KILL);
    swarm.run(["run", "a"]).expect_code(4).says("`a` lost its supervisor: swarm resume a");
    let_go(&swarm, "wait-a");
}

#[test]
fn what_a_person_stopped_stays_stopped_until_it_is_named() {
    let swarm = repository();
    ticket(&swarm, "a", &[]);
    hold_back(&swarm, "wait-a");
    let mut run = Beside::start(&swarm, "run", &["run", "--all"]);
    await_state(&swarm, "a", "running");
    await_status(&swarm, "a", "working");
    swarm.run(["stop", "a"]).success();
    assert_eq!(run.end(&swarm), 4, "{}", run.says(&swarm));
    assert!(run.says(&swarm).contains("`a` was stopped"), "{}", run.says(&swarm));
    let_go(&swarm, "wait-a");
    swarm.run(["run", "--all"]).expect_code(4).says("`a` was stopped");
    swarm.run(["run", "a"]).expect_code(0);
    assert_eq!(starts(&swarm)["a"], 2);
}

#[test]
fn an_attempt_that_took_too_long_is_a_limit() {
    let swarm = repository();
    swarm.write(".swarm/tickets/slow.md", "---\nagent: shell\ntimeout: 1s\n---\nWork.\n");
    hold_back(&swarm, "wait-slow");
    swarm.run(["run", "slow"]).expect_code(7).says("with a higher one, swarm run slow goes on");
    let_go(&swarm, "wait-slow");
}

#[test]
fn a_dirty_target_is_waited_for_and_told() {
    let swarm = repository();
    swarm.write("a.txt", "mine, and not committed\n");
    ticket(&swarm, "a", &[]);
    swarm.run(["run", "a", "--merge"]).expect_code(4).says("`a` waits to land");
    assert_eq!(swarm.read("a.txt"), "mine, and not committed\n");
    fs::remove_file(swarm.repository().join("a.txt")).unwrap();
    swarm.run(["run", "a", "--merge"]).expect_code(0);
    assert_eq!(swarm.read("a.txt"), "a\n");
}
