//! `swarm why` of a ticket that no worker works on: where it is, and what it waits for.

use std::process::Stdio;

use crate::support::schema::assert_conforms;
use crate::support::swarm::{SWARM, TestSwarm};

fn write(swarm: &TestSwarm, id: &str, front: &str) {
    swarm.write(&format!(".swarm/tickets/{id}.md"), &format!("---\nagent: shell\n{front}---\n# Do {id}\n\nWork.\n"));
}

fn scene(script: &str) -> TestSwarm {
    let swarm = TestSwarm::new();
    swarm.write_shell_agent("shell", script);
    swarm.write(".git/info/exclude", ".swarm/\n");
    swarm
}

#[test]
fn a_ticket_without_a_worker_says_where_it_is_and_what_to_do() {
    let swarm = scene("true");
    write(&swarm, "base", "");
    write(&swarm, "next", "depends_on: [base]\n");
    let view = swarm.json(["why", "base"]);
    assert_conforms(&view, "why");
    assert_eq!((&view["worker"], &view["ticket"]["state"]), (&serde_json::Value::Null, &"open".into()));
    assert_eq!(view["ticket"]["hold"], serde_json::Value::Null);
    swarm.run(["why", "base"]).says("swarm run base or swarm spawn base starts it");
    let next = swarm.json(["why", "next"]);
    assert_eq!((&next["ticket"]["state"], &next["ticket"]["hold"]["kind"]), (&"open".into(), &"dependency".into()));
    swarm.run(["why", "next"]).says("a coordinator would say that it waits for `base`, which is queued");
    swarm.run(["queue", "add", "next"]).success();
    swarm.run(["why", "next"]).says("`next` is blocked: it waits for `base`, which is queued");
    swarm.run(["why", "base"]).says("no coordinator runs that would start it: swarm run base, or swarm up");
    swarm.run(["queue", "cancel", "base"]).success();
    swarm.run(["why", "base"]).says("it was cancelled");
    write(&swarm, "ring", "depends_on: [rang]\n");
    write(&swarm, "rang", "depends_on: [ring]\n");
    swarm.run(["why", "ring"]).says("the dependencies form a cycle");
    let refused = swarm.run(["why", "nobody"]).expect_code(5);
    refused.says("there is no worker and no ticket `nobody`");
}

#[test]
fn what_holds_a_ticket_is_what_the_engine_says() {
    let swarm = scene("echo $$ > pid; sleep 1000");
    swarm.write(".swarm/config.yaml", "max_workers: 2\nrun: {max_per_agent: {shell: 1}}\n");
    write(&swarm, "busy", "scope: [src]\n");
    write(&swarm, "same", "scope: [\"src/**\"]\n");
    write(&swarm, "other", "scope: [docs]\n");
    swarm.run(["spawn", "busy", "--headless"]).success();
    swarm.run(["why", "same"]).says("busy");
    assert_eq!(swarm.json(["why", "same"])["ticket"]["hold"]["kind"], "place");
    swarm.run(["why", "other"]).says("waits for a place: ");
    swarm.run(["stop", "busy"]).success();
    assert_eq!(swarm.json(["why", "other"])["ticket"]["hold"], serde_json::Value::Null);
}

#[test]
fn a_used_up_budget_is_told_of_a_ticket_that_nobody_started() {
    let swarm = scene("sleep 1000");
    swarm.write(".swarm/config.yaml", "budget: {day: {time: 1s}}\n");
    write(&swarm, "spends", "");
    write(&swarm, "other", "");
    swarm.run(["spawn", "spends", "--headless", "--wait"]).expect_code(7);
    let view = swarm.json(["why", "other"]);
    assert_eq!(view["ticket"]["hold"]["kind"], "limit", "{view:#}");
    swarm.run(["why", "other"]).says("a coordinator would say that it is not started: ");
}

#[test]
fn a_dead_ticket_and_one_that_waits_for_its_next_attempt_say_so() {
    let swarm = scene("exit 3");
    swarm.write(".swarm/config.yaml", "run: {backoff: {first: 10m}}\n");
    write(&swarm, "dies", "max_attempts: 1\n");
    write(&swarm, "fails", "max_attempts: 3\n");
    swarm.run(["spawn", "dies", "fails", "--headless", "--wait"]).says("dies");
    swarm.run(["why", "dies"]).says("failed, after 1 attempt: ");
    swarm.run(["why", "fails"]).says("waits before attempt 2, because it failed: ");
    swarm.run(["rm", "dies", "--yes"]).success();
}

#[test]
fn a_coordinator_of_other_tickets_is_not_about_to_act_on_this_one() {
    let swarm = scene("while [ -e \"$SWARM_REPO/../wait\" ]; do sleep 0.05; done");
    swarm.write_at(&swarm.root().join("wait"), "");
    write(&swarm, "mine", "");
    write(&swarm, "other", "");
    swarm.run(["queue", "add", "mine"]).success();
    let mut run = swarm.command(SWARM, &swarm.repository());
    let mut run = run.args(["run", "other", "--headless"]).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    swarm.wait_until("the other one to run", || swarm.json(["status"])["tickets"]["running"] == 1);
    swarm.run(["why", "mine"]).says("no coordinator runs that would start it: swarm run mine, or swarm up");
    std::fs::remove_file(swarm.root().join("wait")).unwrap();
    assert!(run.wait().unwrap().success());
}
