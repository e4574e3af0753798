//! The event stream: one order of everything, followed live.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::support::schema::assert_conforms;
use crate::support::swarm::{SWARM, TestSwarm};

/// A repository with an agent that commits a file.
fn scene() -> TestSwarm {
    let swarm = TestSwarm::new();
    swarm.write_shell_agent("writer", "echo hello > \"$SWARM_WORKER.txt\"");
    swarm.write(".swarm/config.yaml", "agent: writer\n");
    for ticket in ["one", "two", "three"] {
        swarm.write_ticket(ticket, "writer", "Write.");
    }
    swarm
}

/// The events that a run of `swarm events --json` prints.
fn events(swarm: &TestSwarm, args: &[&str]) -> Vec<Value> {
    let output = swarm.run(["events", "--json"].iter().chain(args)).success();
    output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// `swarm events --follow` in the background.
fn follow(swarm: &TestSwarm, args: &[&str]) -> Child {
    let mut command = swarm.command(SWARM, &swarm.repository());
    command.args(["events", "--follow"]).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn what_is_followed_is_what_is_listed_afterwards() {
    let swarm = scene();
    let mut follower = follow(&swarm, &["--json", "--since", "0"]);
    swarm.run(["spawn", "one", "two", "three"]).success();
    swarm.run(["wait", "one", "two", "three", "--timeout", "50s"]).success();
    swarm.run(["review", "one", "--approve"]).success();
    swarm.run(["merge", "one"]).success();
    swarm.wait_until("the supervisors to end", || {
        swarm.json(["status"])["workers"].as_array().unwrap().iter().all(|worker| worker["supervisor_pid"].is_null())
    });
    let listed = events(&swarm, &[]);
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let followed: Vec<Value> =
        listed.iter().map(|_| serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap()).collect();
    assert_eq!(followed, listed);
    // Nobody reads on: the follower ends by itself, quietly, although nothing happens any more.
    drop(lines);
    let mut status = None;
    swarm.wait_until("the follower to end", || {
        status = follower.try_wait().unwrap();
        status.is_some()
    });
    let mut told = String::new();
    follower.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!((status.unwrap().code(), told.as_str()), (Some(0), ""));

    listed.iter().for_each(|event| assert_conforms(event, "events"));
    let seqs: Vec<_> = listed.iter().map(|event| event["seq"].as_i64().unwrap()).collect();
    assert_eq!(seqs, (1..=seqs.len() as i64).collect::<Vec<_>>());
    let of_one = events(&swarm, &["--ticket", "one"]);
    let moves: Vec<_> = of_one.iter().filter(|event| event["event"] == "moved").map(|event| &event["to"]).collect();
    assert_eq!(moves, ["queued", "running", "review", "approved", "landing", "landed"]);
    let started = of_one.iter().find(|event| event["event"] == "agent_started").unwrap();
    assert_eq!(
        (&started["kind"], &started["agent"], &started["worker"], &started["model"]),
        (&"worker".into(), &"writer".into(), &"one".into(), &Value::Null)
    );
}

#[test]
fn a_part_of_the_stream_is_named_by_number_age_ticket_and_kind() {
    let swarm = scene();
    swarm.run(["spawn", "one", "two"]).success();
    swarm.run(["wait", "one", "two", "--timeout", "50s"]).success();
    let all = events(&swarm, &[]);
    let rest = events(&swarm, &["--since", "3"]);
    assert_eq!(rest[0]["seq"], 4);
    assert!(events(&swarm, &["--since", "1h"]).len() >= all.len());
    assert_eq!(events(&swarm, &["--since", "2999-01-01"]), [Value::Null; 0]);
    let queue = events(&swarm, &["--kind", "queue", "--ticket", "two"]);
    assert!(!queue.is_empty() && queue.iter().all(|event| event["kind"] == "queue" && event["ticket"] == "two"));
    swarm.run(["events", "--since", "999999"]).expect_code(2).says("there is no event 999999 yet");
    swarm.run(["events", "--since", "soon"]).expect_code(2).says("neither a moment");
    let text = swarm.run(["events", "--ticket", "one"]).success();
    let lines: Vec<_> = text.lines().collect();
    assert!(regex::Regex::new(r"^\d{4}-\d\d-\d\d$").unwrap().is_match(lines[0]), "{text}");
    assert!(regex::Regex::new(r"^\d\d:\d\d:\d\d one            queued$").unwrap().is_match(lines[1]), "{text}");
    assert!(text.contains("queued -> running") && text.contains("running -> review"), "{text}");
}

#[test]
fn events_that_were_deleted_meanwhile_are_named() {
    let swarm = scene();
    swarm.run(["spawn", "one"]).success();
    swarm.run(["wait", "one", "--timeout", "50s"]).success();
    let database = rusqlite::Connection::open(swarm.repository().join(".git/swarm/swarm.db")).unwrap();
    database.execute("DELETE FROM events WHERE seq <= 4", []).unwrap();
    let rest = events(&swarm, &["--since", "2"]);
    assert_conforms(&rest[0], "events");
    assert_eq!((&rest[0]["event"], &rest[0]["first"], &rest[0]["last"]), (&"pruned".into(), &3.into(), &4.into()));
    assert_eq!(rest[1]["seq"], 5);
    swarm.run(["events", "--since", "2"]).says("events 3 to 4 are not kept any more");
    assert_eq!(events(&swarm, &[])[0]["seq"], 5);
}

#[test]
fn figures_come_from_what_happened() {
    let swarm = scene();
    swarm.run(["stats"]).says("Nothing has happened here yet");
    swarm.write_shell_agent("failing", "exit 3");
    swarm.write(".swarm/tickets/bad.md", "---\nagent: failing\nmax_attempts: 1\nlabels: [bug]\n---\nFail.\n");
    swarm.run(["spawn", "one", "two", "bad"]).success();
    swarm.run(["wait", "one", "--timeout", "50s"]).success();
    swarm.run(["wait", "two", "--timeout", "50s"]).success();
    swarm.run(["wait", "bad", "--timeout", "50s"]).expect_code(1);
    swarm.run(["review", "one", "--approve"]).success();
    swarm.run(["merge", "one"]).success();
    let stats = swarm.json(["stats", "--by", "agent"]);
    assert_conforms(&stats, "stats");
    let total = &stats["total"];
    assert_eq!((&total["ended"], &total["landed"], &total["failed"]), (&2.into(), &1.into(), &1.into()), "{total:#}");
    assert_eq!((&total["attempts"], &total["attempts_failed"]), (&3.into(), &1.into()));
    // A script does not say what it costs, and nobody ran a coordinator.
    assert_eq!(
        (&total["cost_usd"], &total["input_tokens"], &total["utilisation"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert!(total["completion"]["p50_ms"].as_u64().unwrap() > 0);
    let names: Vec<_> = stats["groups"].as_array().unwrap().iter().map(|row| &row["name"]).collect();
    assert_eq!(names, ["failing", "writer"]);
    let by_label = swarm.json(["stats", "--by", "label", "--since", "1h"]);
    let rows: Vec<_> = by_label["groups"].as_array().unwrap().iter().map(|row| (&row["name"], &row["ended"])).collect();
    assert_eq!(rows, [(&Value::Null, &1.into()), (&"bug".into(), &1.into())]);
    let text = swarm.run(["stats", "--chart", "--by", "agent"]).success();
    assert!(text.contains("2 ended: 1 landed, 1 failed (50% went well)") && text.contains("█ 1 well"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}
