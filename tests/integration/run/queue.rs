//! The queue as a person sees and mends it, and what `spawn` queues.

use super::scenery::{Beside, QUICK, await_state, hold_back, let_go, repository, starts, states, ticket};
use crate::support::scene::{assert_no_processes, await_status};

#[test]
fn what_is_added_waits_with_what_it_needs_and_is_listed_in_its_turn() {
    let swarm = repository();
    swarm.run(["queue", "list"]).expect_code(0).says("The queue is empty");
    ticket(&swarm, "top", &["base"]);
    ticket(&swarm, "base", &[]);
    let added = swarm.run(["queue", "add", "top"]).expect_code(0);
    added.says("`top`: Queued; it waits for `base`");
    added.says("`base`: Queued, because `top` needs it");
    let queue = swarm.json(["queue", "list"]);
    assert!(queue["leader"].is_null());
    assert_eq!(queue["tickets"][0]["why"], "waits for `base`");
    swarm.run(["queue", "list"]).says("nobody starts it: swarm run, or swarm up");
    swarm.run(["queue", "add", "top"]).expect_code(0).says("`top`: It is blocked already");
    assert!(starts(&swarm).is_empty());
}

#[test]
fn a_dead_ticket_is_listed_with_its_reason_and_tried_again_by_hand() {
    let swarm = repository();
    ticket(&swarm, "bad", &[]);
    swarm.run(["queue", "dead"]).expect_code(0).says("No ticket has failed");
    swarm.run(["run", "bad"]).expect_code(1);
    swarm.run(["queue", "dead"]).expect_code(0).says("its command exited with code 3");
    swarm.write_shell_agent("shell", "echo better > bad.txt");
    swarm.run(["queue", "retry", "bad"]).expect_code(0).says("Queued again; it is queued");
    swarm.run(["run", "bad", "--merge"]).expect_code(0);
    assert_eq!(swarm.read("bad.txt"), "better\n");
    swarm.run(["queue", "retry", "bad"]).expect_code(1).says("ticket `bad` is landed");
    swarm.run(["queue", "retry", "nobody"]).expect_code(5);
}

#[test]
fn a_cancelled_ticket_is_stopped_and_its_work_is_kept() {
    let swarm = repository();
    ticket(&swarm, "a", &[]);
    hold_back(&swarm, "wait-a");
    swarm.run(["spawn", "a"]).success();
    await_status(&swarm, "a", "working");
    swarm.run(["queue", "cancel", "a"]).expect_code(0).says("Cancelled; worker `a` was stopped, its work is kept");
    assert_eq!(states(&swarm)["a"], "cancelled");
    assert_no_processes(&swarm);
    assert!(swarm.worktree("a").exists());
    swarm.run(["run", "--all"]).expect_code(1).says("`a` was cancelled");
    let_go(&swarm, "wait-a");
    swarm.run(["run", "a"]).expect_code(0);
}

#[test]
fn a_ticket_that_is_cancelled_while_its_worker_is_being_started_does_not_run() {
    let swarm = repository();
    let setup =
        "setup: [{run: 'touch \"$SWARM_REPO/../setup\"; while [ -e \"$SWARM_REPO/../wait\" ]; do sleep 0.05; done'}]\n";
    swarm.write(".swarm/config.yaml", &format!("{QUICK}{setup}"));
    ticket(&swarm, "a", &[]);
    hold_back(&swarm, "wait");
    let mut spawn = Beside::start(&swarm, "spawn", &["spawn", "a", "--headless", "--yes"]);
    swarm.wait_until("the set-up to run", || swarm.root().join("setup").exists());
    swarm.run(["queue", "cancel", "a"]).expect_code(0).says("worker `a` is being started, and is taken back");
    let_go(&swarm, "wait");
    assert_eq!(spawn.end(&swarm), 4, "{}", spawn.says(&swarm));
    assert!(spawn.says(&swarm).contains("ticket `a` is `cancelled` and cannot be started"), "{}", spawn.says(&swarm));
    assert!(starts(&swarm).is_empty());
    assert_eq!(states(&swarm)["a"], "cancelled");
}

#[test]
fn a_spawn_queues_what_finds_no_room_or_has_to_wait() {
    let swarm = repository();
    for (id, needs) in [("a", &[][..]), ("b", &[]), ("c", &["a"])] {
        ticket(&swarm, id, needs);
    }
    hold_back(&swarm, "wait");
    let one = "--config=max_workers=1";
    let output = swarm.run(["spawn", "a", "b", "c", "--queue", one]).expect_code(0);
    output.says("Spawned `a`");
    output.says("Queued `b`: 1 of 1 workers run");
    output.says("Queued `c`: ticket `c` waits for `a`");
    assert_eq!((states(&swarm)["b"].as_str(), states(&swarm)["c"].as_str()), ("queued", "blocked"));
    swarm.run(["spawn", "b", one]).expect_code(7);
    let_go(&swarm, "wait");
    await_state(&swarm, "a", "review");
    swarm.run(["run", "--all", "--merge"]).expect_code(0);
}
