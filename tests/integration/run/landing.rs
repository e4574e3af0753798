//! Landings that were left in the middle, and what the next run makes of them.

use rustix::process::Signal;

use super::scenery::{Beside, QUICK, await_state, hold_back, let_go, repository, states, ticket};
use crate::support::scene::{assert_no_processes, signal};
use crate::support::swarm::TestSwarm;

/// Two tickets whose work is in the target and whose process was killed before it had released their workers: `b`'s intent
/// is open, `a`'s is closed.
fn left_behind() -> (TestSwarm, rusqlite::Connection) {
    let swarm = repository();
    ticket(&swarm, "a", &[]);
    ticket(&swarm, "b", &[]);
    swarm.run(["run", "--all", "--headless"]).expect_code(0);
    assert_no_processes(&swarm);
    let head = |branch: &str| swarm.git(["rev-parse", branch]).success().trim().to_owned();
    swarm.git(["merge", "--no-ff", "--quiet", "-m", "a", "swarm/a"]).success();
    let from = head("HEAD");
    swarm.git(["merge", "--no-ff", "--quiet", "-m", "b", "swarm/b"]).success();
    let database = rusqlite::Connection::open(swarm.repository().join(".git/swarm/swarm.db")).unwrap();
    let fence = "SELECT fence FROM tickets WHERE id = 'b'";
    let fence: i64 = database.query_row(fence, [], |row| row.get(0)).unwrap();
    let intent = serde_json::json!({
        "ticket": "b", "worker": "b", "fence": fence, "work": head("swarm/b"), "target": head_name(&swarm), "from": from,
        "to": head("HEAD"), "at": "2026-11-21T10:00:00.000Z",
    });
    database.execute("INSERT INTO landing_intents(document) VALUES(?1)", [intent.to_string()]).unwrap();
    assert_eq!(database.execute("UPDATE tickets SET state = 'landed'", []).unwrap(), 2);
    (swarm, database)
}

fn head_name(swarm: &TestSwarm) -> String {
    swarm.git(["symbolic-ref", "--short", "HEAD"]).success().trim().to_owned()
}

#[test]
fn a_run_finishes_the_landings_of_its_tickets_that_were_left_in_the_middle() {
    let (swarm, database) = left_behind();
    swarm.run(["run", "a", "b"]).expect_code(0);
    assert!(swarm.worktree("a").exists(), "it does not land");
    swarm.run(["run", "a", "b", "--merge"]).expect_code(0);
    for id in ["a", "b"] {
        assert!(!swarm.worktree(id).exists(), "{id}");
        assert_eq!(swarm.read(&format!("{id}.txt")), format!("{id}\n"));
    }
    let open = database.query_row("SELECT count(*) FROM landing_intents", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(open, 0);
    assert_eq!(swarm.git(["branch", "--list", "swarm/*"]).success(), "");
}

#[test]
fn a_coordinator_in_the_background_finishes_what_another_one_left() {
    let (swarm, _) = left_behind();
    swarm.run(["up", "--merge", "--headless"]).success();
    swarm.wait_until("both to be released", || ["a", "b"].iter().all(|id| !swarm.worktree(id).exists()));
    swarm.run(["down"]).success();
}

#[test]
fn a_run_that_does_not_land_ends_when_a_landing_was_interrupted() {
    let swarm = repository();
    ticket(&swarm, "a", &[]);
    swarm.run(["run", "a", "--headless"]).expect_code(0);
    let (begun, wait) = (swarm.root().join("gate-begun"), swarm.root().join("wait-gate"));
    let run = format!("touch {}; while [ -e {} ]; do sleep 0.05; done", begun.display(), wait.display());
    swarm.write(".swarm/config.yaml", &format!("{QUICK}gates: [{{name: g, run: '{run}'}}]\n"));
    hold_back(&swarm, "wait-gate");
    let mut merge = Beside::start(&swarm, "merge", &["merge", "a", "--yes"]);
    swarm.wait_until("the gate to run", || begun.exists());
    // Beside one that lands, a run waits for it.
    let mut run = Beside::start(&swarm, "run", &["run", "a"]);
    run.await_words(&swarm, "1 ticket, up to");
    signal(&merge.pid(), Signal::KILL);
    merge.end(&swarm);
    assert_eq!(states(&swarm)["a"], "landing");
    assert_eq!(run.end(&swarm), 4, "{}", run.says(&swarm));
    assert!(run.says(&swarm).contains("`a` was interrupted while it landed: swarm merge"), "{}", run.says(&swarm));
    let_go(&swarm, "wait-gate");
    swarm.run(["merge", "--yes"]).expect_code(0);
    await_state(&swarm, "a", "landed");
}
