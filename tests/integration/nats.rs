//! A queue on a real NATS server: every verb works as on the file, a server that is away loses nothing, and projects on one
//! server do not meet.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::nats::{NatsCluster, NatsServer};
use crate::support::schema::assert_conforms;
use crate::support::swarm::{SWARM, TestSwarm};

/// An agent that waits until it may go on, and writes one file.
const SCRIPT: &str = r#"
echo "$SWARM_TICKET" >> "$SWARM_REPO/../started.log"
while [ -e "$SWARM_REPO/../wait" ]; do sleep 0.05; done
echo "$SWARM_TICKET" > "$SWARM_TICKET.txt"
"#;

/// A repository whose queue is where `queue` says, with these tickets.
fn repository(queue: &str, tickets: &[&str]) -> TestSwarm {
    let swarm = TestSwarm::new();
    configure(&swarm, queue);
    swarm.write_shell_agent("shell", SCRIPT);
    for id in tickets {
        swarm.write_ticket(id, "shell", &format!("Do {id}."));
    }
    swarm
}

/// Says where the queue is.
fn configure(swarm: &TestSwarm, queue: &str) {
    let text = format!("queue: {queue}\nlanding: {{approval: auto}}\nlimits: {{grace: 500ms}}\n");
    swarm.write(".swarm/config.yaml", &text);
}

/// The state of a ticket as `queue list` has it.
fn state(swarm: &TestSwarm, id: &str) -> Value {
    let view = swarm.json(["queue", "list", "--all"]);
    assert_conforms(&view, "queue");
    let entry = view["tickets"].as_array().unwrap().iter().find(|entry| entry["ticket"] == id).cloned();
    entry.map_or(Value::Null, |entry| entry["state"].clone())
}

#[test]
fn every_verb_works_on_a_server() {
    let swarm = repository("file", &["one", "two", "three"]);
    let server = NatsServer::start(&swarm);
    configure(&swarm, server.url());
    swarm.run(["ticket", "new", "four", "--agent", "shell", "-p", "Do four."]).success();
    swarm.run(["run", "one", "--merge"]).success();
    assert_eq!(state(&swarm, "one"), "landed");
    swarm.run(["spawn", "two"]).success();
    swarm.run(["wait", "two", "--timeout", "60s"]).success();
    swarm.run(["merge"]).success();
    assert_eq!((state(&swarm, "two"), swarm.read("two.txt")), ("landed".into(), "two\n".to_owned()));
    swarm.run(["queue", "add", "three", "four"]).success();
    swarm.run(["queue", "cancel", "three"]).success();
    swarm.run(["queue", "retry", "three"]).success();
    swarm.run(["why", "four"]).success();
    swarm.run(["up", "--merge", "--headless"]).success();
    swarm.wait_until("the backlog to land", || state(&swarm, "three") == "landed" && state(&swarm, "four") == "landed");
    swarm.run(["down"]).success();
    swarm.run(["doctor"]).says("), kept by 1 server\n");
    configure(&swarm, &format!("{{url: \"{}\", replicas: 3}}", server.url()));
    swarm.run(["doctor"]).says("is kept by 1 server, and `queue.replicas` is 3");
    configure(&swarm, server.url());
    let status = swarm.json(["status", "--all"]);
    assert_conforms(&status, "status");
    assert_eq!((&status["queue"]["engine"], &status["queue"]["problem"]), (&"nats".into(), &Value::Null));
    assert_eq!(status["queue"]["address"], server.url());
    assert_eq!(status["tickets"]["landed"], 4);
    assert_eq!(swarm.json(["stats"])["total"]["landed"], 4);
    let events = swarm.run(["events", "--ticket", "one", "--json"]).success();
    assert!(events.contains(r#""to":"landed""#), "{events}");
    // Another machine's clone has the same queue, and knows it from the server alone.
    let clone = swarm.root().join("clone/project");
    swarm.git(["clone", "--quiet", ".", clone.to_str().unwrap()]).success();
    swarm.write_at(&clone.join(".swarm/config.yaml"), &swarm.read(".swarm/config.yaml"));
    let seen = swarm.run_in(&clone, ["status", "--json"]).expect_code(0).json();
    assert_eq!((&seen["tickets"]["landed"], &seen["workers"]), (&4.into(), &Value::Array(Vec::new())));
}

#[test]
fn without_its_server_nothing_is_begun_and_status_says_how_old_it_is() {
    let swarm = repository("file", &["one", "two"]);
    let server = NatsServer::start(&swarm);
    let url = server.url().to_owned();
    configure(&swarm, &url);
    swarm.run(["queue", "add", "one"]).success();
    drop(server);
    let refused = swarm.run(["spawn", "one"]).expect_code(1);
    refused.says(&format!("no NATS server answered at `{url}`"));
    refused.says("hint: is it running? nats-server -js -p ");
    assert!(!swarm.worktree("one").exists());
    assert_eq!(swarm.git(["branch", "--list", "swarm/*"]).success(), "");
    swarm.run(["run", "--all"]).expect_code(1).says("no NATS server answered");
    swarm.run(["status"]).says("The queue is shown as it was ");
    let status = swarm.json(["status"]);
    assert_eq!((&status["tickets"]["queued"], &status["tickets"]["open"]), (&1.into(), &1.into()));
    assert!(status["queue"]["problem"].as_str().unwrap().contains("no NATS server answered"), "{status}");
    assert!(status["queue"]["as_of"].is_string() && status["workers"].as_array().unwrap().is_empty());
    let why = swarm.json(["why", "one"]);
    assert_conforms(&why, "why");
    assert_eq!((&why["ticket"]["state"], why["queue"]["as_of"].is_string()), (&"queued".into(), true));
    let told = swarm.run(["why", "one"]).expect_code(0);
    told.says("The queue is shown as it was ");
    told.says("no coordinator runs that would start it");
    configure(&swarm, "file");
    swarm.run(["queue", "add", "two"]).expect_code(2).says("are in the queue `project` at");
}

#[test]
fn a_coordinator_can_be_ended_while_its_server_is_away() {
    let swarm = repository("file", &[]);
    let server = NatsServer::start(&swarm);
    configure(&swarm, server.url());
    swarm.run(["up", "--headless"]).success();
    drop(server);
    swarm.run(["down"]).expect_code(0).says("The coordinator in the background ended; 0 workers run on");
    swarm.run(["down"]).expect_code(0).says("does not run");
}

#[test]
fn auto_takes_a_server_where_there_is_one_and_the_file_with_a_warning_where_not() {
    let mut swarm = repository("auto", &["one"]);
    let server = NatsServer::start(&swarm);
    swarm.set_env("NATS_URL", server.url());
    let port = server.port();
    swarm.run(["run", "one", "--merge"]).success();
    assert_eq!(swarm.json(["status"])["queue"]["engine"], "nats");
    drop(server);
    // Everything there is over, so that nobody can be at work on it.
    swarm.write_ticket("two", "shell", "Do two.");
    swarm.run(["run", "two", "--merge"]).expect_code(0).says("warning: tickets are queued in this repository, because");
    assert_eq!((state(&swarm, "one"), state(&swarm, "two")), ("landed".into(), "landed".into()));
    let events = swarm.run(["events", "--kind", "swarm", "--json"]).success();
    assert!(events.contains(r#""event":"queue_fell_back""#), "{events}");
    // What is in the file stays there when the server is back.
    let _server = NatsServer::start_at(&swarm, &port);
    swarm.write_ticket("three", "shell", "Do three.");
    let again = swarm.run(["spawn", "three"]).expect_code(0);
    assert!(!again.stderr.contains("warning"), "{}", again.stderr);
    assert_eq!(swarm.json(["status"])["queue"]["engine"], "file");
}

#[test]
fn auto_does_not_leave_a_server_where_a_ticket_is_open() {
    let mut swarm = repository("auto", &["one"]);
    let server = NatsServer::start(&swarm);
    swarm.set_env("NATS_URL", server.url());
    swarm.run(["queue", "add", "one"]).success();
    drop(server);
    swarm.run(["spawn", "one"]).expect_code(1).says("no NATS server answered");
    assert_eq!(swarm.json(["status"])["tickets"]["queued"], 1);
}

#[test]
fn a_run_goes_on_when_its_server_is_restarted() {
    let swarm = repository("file", &["one", "two", "three", "four"]);
    let server = NatsServer::start(&swarm);
    let port = server.port();
    configure(&swarm, server.url());
    swarm.write_at(&swarm.root().join("wait"), "");
    let mut command = swarm.command(SWARM, &swarm.repository());
    command.args(["run", "--all", "--merge", "--headless"]).stdin(Stdio::null());
    let mut run = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let started = || std::fs::read_to_string(swarm.root().join("started.log")).unwrap_or_default().lines().count();
    swarm.wait_until("three workers", || started() == 3);
    drop(server);
    // Their agents end while there is no server to tell it to.
    std::fs::remove_file(swarm.root().join("wait")).unwrap();
    let told = "its end is told to the queue as soon as that answers";
    let events = |id: &str| std::fs::read_to_string(swarm.worker_dir(id).join("events.jsonl")).unwrap_or_default();
    swarm.wait_until("a worker to wait for the queue", || {
        ["one", "two", "three", "four"].iter().any(|id| events(id).contains(told))
    });
    let _server = NatsServer::start_at(&swarm, &port);
    let mut ended = None;
    swarm.wait_until("the run to end", || {
        ended = run.try_wait().unwrap();
        ended.is_some()
    });
    assert!(ended.unwrap().success(), "{ended:?}");
    for id in ["one", "two", "three", "four"] {
        assert_eq!((state(&swarm, id), swarm.read(&format!("{id}.txt"))), ("landed".into(), format!("{id}\n")));
    }
    assert_eq!(started(), 4, "no agent was started twice");
}

#[test]
fn a_coordinator_gives_a_log_that_is_too_long_a_new_beginning() {
    let swarm = repository("file", &["one", "two", "three"]);
    let server = NatsServer::start(&swarm);
    let beginning = || {
        let subject = "$JS.API.STREAM.MSG.GET.KV_swarm_project_nodes";
        server.ask(subject, &json!({"last_by_subj": "$KV.swarm_project_nodes.log.beginning"}))["message"].clone()
    };
    configure(&swarm, server.url());
    swarm.run(["queue", "add", "one", "two", "three"]).success();
    swarm.run(["run", "one", "--merge"]).success();
    assert_eq!(beginning(), Value::Null, "it is short by far");
    configure(&swarm, &format!("{{url: \"{}\", keep_log: 3}}", server.url()));
    swarm.run(["run", "two", "--merge"]).success();
    assert_ne!(beginning(), Value::Null);
    swarm.run(["run", "three", "--merge"]).success();
    assert_eq!(state(&swarm, "three"), "landed");
    let state = &server.ask("$JS.API.STREAM.INFO.SWARM_project", &json!({}))["state"];
    assert!(state["messages"].as_u64().unwrap() > 3, "nothing goes before that has stood for a while: {state}");
}

#[test]
fn a_cluster_of_three_servers_can_lose_any_one_of_them() {
    let swarm = repository("file", &["t0", "t1", "t2", "one", "two"]);
    let mut cluster = NatsCluster::start(&swarm);
    configure(&swarm, &format!("{{url: \"{}\", replicas: 3}}", cluster.url()));
    // The servers agree first on who leads.
    swarm.wait_until("the queue", || swarm.run(["queue", "add", "one"]).code == 0);
    swarm.run(["up", "--merge", "--headless"]).success();
    // Whichever leads in a stream is among them.
    for lost in 0..3 {
        let id = format!("t{lost}");
        swarm.wait_until("all servers to have everything", || cluster.is_whole());
        cluster.kill(lost);
        swarm.wait_until("the queue without one server", || swarm.run(["queue", "add", &id]).code == 0);
        swarm.wait_until("a ticket to land without it", || {
            let list = swarm.run(["queue", "list", "--all", "--json"]);
            let list = if list.code == 0 { list.json() } else { Value::Null };
            let mut tickets = list["tickets"].as_array().into_iter().flatten();
            tickets.any(|entry| entry["ticket"] == *id && entry["state"] == "landed")
        });
        cluster.restart(&swarm, lost);
    }
    swarm.run(["down"]).success();
    assert_eq!((swarm.read("t0.txt"), swarm.read("one.txt")), ("t0\n".to_owned(), "one\n".to_owned()));
    let started = std::fs::read_to_string(swarm.root().join("started.log")).unwrap();
    assert_eq!(started.lines().count(), 4, "no ticket was worked on twice:\n{started}");
    configure(&swarm, &format!("{{url: \"{}\", replicas: 6}}", cluster.url()));
    swarm.run(["queue", "add", "two"]).expect_code(2).says("from 1 to 5 servers keep it");
}

#[test]
fn a_cluster_that_lost_its_majority_goes_on_where_it_was_when_that_is_back() {
    let swarm = repository("file", &["one", "two"]);
    let mut cluster = NatsCluster::start(&swarm);
    configure(&swarm, &format!("{{url: \"{}\", replicas: 3}}", cluster.url()));
    swarm.write_at(&swarm.root().join("wait"), "");
    swarm.wait_until("the queue", || swarm.run(["queue", "add", "one"]).code == 0);
    swarm.run(["up", "--merge", "--headless"]).success();
    swarm.wait_until("its agent to begin", || swarm.root().join("started.log").exists());
    swarm.wait_until("all servers to have everything", || cluster.is_whole());
    for lost in [0, 1] {
        cluster.kill(lost);
    }
    let hint = "hint: more than half of its servers have to run";
    swarm.run(["queue", "add", "two"]).expect_code(1).says(hint);
    // It ends while nobody can be told.
    std::fs::remove_file(swarm.root().join("wait")).unwrap();
    swarm.wait_until("its work", || swarm.worktree("one").join("one.txt").exists());
    for lost in [0, 1] {
        cluster.restart(&swarm, lost);
    }
    swarm.wait_until("the queue again", || swarm.run(["queue", "add", "two"]).code == 0);
    for id in ["one", "two"] {
        swarm.wait_until("it to land", || state(&swarm, id) == "landed");
    }
    swarm.run(["down"]).success();
    let started = std::fs::read_to_string(swarm.root().join("started.log")).unwrap();
    assert_eq!(started.lines().count(), 2, "no ticket was worked on twice:\n{started}");
}

#[test]
fn two_repositories_of_one_name_do_not_meet() {
    let swarm = repository("file", &["one"]);
    let server = NatsServer::start(&swarm);
    configure(&swarm, server.url());
    swarm.run(["queue", "add", "one"]).success();
    let other = repository(server.url(), &["one", "other"]);
    other.write("README.md", "# Another project\n");
    other.git(["commit", "--quiet", "--amend", "-am", "Another start"]).success();
    let refused = other.run(["queue", "add", "other"]).expect_code(1);
    refused.says("the project `project` on the NATS server at");
    refused.says("`queue.project` in .swarm/config.yaml");
    configure(&other, &format!("{{url: \"{}\", project: \"an.other project\"}}", server.url()));
    other.run(["queue", "add", "other"]).success();
    assert_eq!((state(&other, "other"), state(&other, "one")), ("queued".into(), Value::Null));
    assert_eq!((state(&swarm, "one"), state(&swarm, "other")), ("queued".into(), Value::Null));
}

#[test]
fn a_backlog_moves_to_a_server_and_back_wholly_or_not_at_all() {
    let swarm = repository("file", &["one", "two", "three"]);
    let server = NatsServer::start(&swarm);
    swarm.run(["run", "one", "--merge"]).success();
    swarm.write_ticket("after", "shell", "Do after.");
    swarm.write(".swarm/tickets/after.md", "---\nagent: shell\ndepends_on: [two]\n---\nDo after.\n");
    swarm.run(["queue", "add", "three", "after"]).success();
    let before = swarm.json(["queue", "list", "--all"])["tickets"].clone();
    let to = ["queue", "migrate", "--to", server.url()];
    let plan = swarm.json(to.into_iter().chain(["--dry-run"]));
    assert_conforms(&plan, "queue_migrate");
    assert_eq!((&plan["moved"], plan["tickets"].as_array().unwrap().len()), (&false.into(), 4));
    assert_eq!(swarm.json(["status"])["queue"]["engine"], "file");
    configure(&swarm, server.url());
    swarm.run(["queue", "add", "three"]).expect_code(2).says("are in its own store, not at `");
    swarm.run(to).expect_code(0).says("Moved 4 tickets from this repository to nats://127.0.0.1:");
    let list = || swarm.json(["queue", "list", "--all"])["tickets"].clone();
    assert_eq!((list(), &swarm.json(["status"])["queue"]["engine"]), (before.clone(), &"nats".into()));
    let clone = swarm.root().join("clone/project");
    swarm.git(["clone", "--quiet", ".", clone.to_str().unwrap()]).success();
    swarm.write_at(&clone.join(".swarm/config.yaml"), &swarm.read(".swarm/config.yaml"));
    let seen = swarm.run_in(&clone, ["queue", "list", "--all", "--json"]).expect_code(0).json();
    assert_eq!(seen["tickets"], before);
    swarm.run(to).expect_code(2);
    // Not while an agent works by the queue as it is.
    swarm.write_at(&swarm.root().join("wait"), "");
    swarm.run(["spawn", "three"]).success();
    swarm.run(["queue", "migrate", "--to", "file"]).expect_code(1).says("worker `three` runs by the queue as it is");
    std::fs::remove_file(swarm.root().join("wait")).unwrap();
    swarm.run(["wait", "three", "--timeout", "60s"]).success();
    swarm
        .wait_until("its supervisor to end", || swarm.run(["queue", "migrate", "--to", "file", "--dry-run"]).code == 0);
    swarm.run(["queue", "migrate", "--to", "file"]).expect_code(0).says("hint: set `queue: file`");
    configure(&swarm, "file");
    swarm.run(["run", "--all", "--merge"]).success();
    for id in ["one", "two", "three", "after"] {
        assert_eq!(state(&swarm, id), "landed", "{id}");
    }
    swarm.run_in(&clone, ["queue", "add", "one"]).expect_code(1);
}
