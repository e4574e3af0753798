//! Channels and mailboxes: people, agents and programs that talk, on the file and on a server.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

#[cfg(feature = "real-agents")]
use crate::support::nats::NatsServer;
#[cfg(feature = "real-agents")]
use crate::support::nodes::Nodes;
use crate::support::schema::assert_conforms;
use crate::support::swarm::{Output, SWARM, TestSwarm};

/// An agent that notes each prompt it gets, does what `FOLDER/script.WORKER` says the first time, waits until it may end,
/// and writes a file.
const SCRIPT: &str = r#"
n=$(ls "$FOLDER" | grep -c "^prompt.$SWARM_WORKER.")
cp "$SWARM_PROMPT_FILE" "$FOLDER/prompt.$SWARM_WORKER.$n"
[ "$n" = 0 ] && [ -e "$FOLDER/script.$SWARM_WORKER" ] && . "$FOLDER/script.$SWARM_WORKER"
while [ -e "$FOLDER/wait.$SWARM_WORKER" ]; do sleep 0.05; done
echo "$SWARM_WORKER $n" >> "$SWARM_WORKER.txt"
"#;

/// A repository with these tickets for that agent; `config` is more of the configuration.
fn repository(config: &str, tickets: &[&str]) -> TestSwarm {
    let swarm = TestSwarm::new();
    swarm.write(".swarm/config.yaml", &format!("limits: {{grace: 500ms, messages: 3, mailbox: 2}}\n{config}"));
    std::fs::create_dir(folder(&swarm)).unwrap();
    let script = SCRIPT.replace("$FOLDER", folder(&swarm).to_str().unwrap());
    swarm.write_shell_agent("shell", &script.replace("$SWARM_PROGRAM", SWARM));
    for id in tickets {
        swarm.write_ticket(id, "shell", &format!("Do {id}."));
    }
    swarm
}

/// Where agents and tests leave things for each other.
fn folder(swarm: &TestSwarm) -> std::path::PathBuf {
    swarm.root().join("talk")
}

/// Makes a file there.
fn leave(swarm: &TestSwarm, name: &str, text: &str) {
    swarm.write_at(&folder(swarm).join(name), text);
}

/// Lets a worker's agent end its turn.
fn let_go(swarm: &TestSwarm, worker: &str) {
    std::fs::remove_file(folder(swarm).join(format!("wait.{worker}"))).unwrap();
}

/// A file there, empty where there is none.
fn found(swarm: &TestSwarm, name: &str) -> String {
    std::fs::read_to_string(folder(swarm).join(name)).unwrap_or_default()
}

/// The prompts that a worker's agent got after the first.
fn later_prompts(swarm: &TestSwarm, worker: &str) -> Vec<String> {
    let prompts = (1..).map(|number| found(swarm, &format!("prompt.{worker}.{number}")));
    prompts.take_while(|prompt| !prompt.is_empty()).collect()
}

/// Starts workers whose agents wait, and waits until they do.
fn spawn_waiting(swarm: &TestSwarm, workers: &[&str]) {
    for worker in workers {
        leave(swarm, &format!("wait.{worker}"), "");
        swarm.run(["spawn", worker]).success();
        swarm.wait_until("its first prompt", || !found(swarm, &format!("prompt.{worker}.0")).is_empty());
    }
}

/// The lines of an output as JSON, each of which is a message.
fn messages(output: Output) -> Vec<Value> {
    let lines = output.success();
    let messages: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    messages.iter().for_each(|message| assert_conforms(message, "message"));
    messages
}

/// The texts of messages.
fn texts(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["text"].as_str().unwrap()).collect()
}

/// A `swarm` in the background whose output is read; ended with the value.
struct Follower {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Follower {
    /// Starts one.
    fn start(swarm: &TestSwarm, args: &[&str]) -> Self {
        let mut command = swarm.command(SWARM, &swarm.repository());
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Its next line as JSON.
    fn next(&mut self) -> Value {
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().unwrap();
    }
}

/// What every engine does for a person.
fn talk(swarm: &TestSwarm) {
    swarm.run(["bus", "publish", "general", "hello", "all"]).says("Published ");
    let sent = swarm.json(["bus", "publish", "roadmap", "next", "--body", r#"{"week": 48}"#, "--id", "plan"]);
    assert_conforms(&sent, "message");
    assert_eq!((&sent["body"]["week"], &sent["from"]["kind"]), (&48.into(), &"person".into()));
    let again = swarm.json(["bus", "publish", "roadmap", "next", "--id", "plan"]);
    assert_eq!(again["seq"], sent["seq"]);
    let all = messages(swarm.run(["bus", "read", "--json"]));
    assert_eq!(texts(&all), ["hello all", "next"]);
    let since = all[0]["seq"].to_string();
    assert_eq!(texts(&messages(swarm.run(["bus", "read", "--json", "--since", &since]))), ["next"]);
    assert_eq!(texts(&messages(swarm.run(["bus", "read", "--json", "--limit", "1"]))), ["next"]);
    assert_eq!(texts(&messages(swarm.run(["bus", "read", "general", "--json", "--since", "1h"]))), ["hello all"]);
    let mut follower = Follower::start(swarm, &["bus", "follow", "general", "--json", "--limit", "3"]);
    assert_eq!(follower.next()["text"], "hello all");
    swarm.run_with_input(["bus", "publish", "general", "-"], "two\nlines").says("Published ");
    assert_eq!(follower.next()["text"], "two\nlines");
    swarm.run(["bus", "request", "coordination", "who?", "--timeout", "100ms"]).expect_code(6).says("nobody answered");
    let mut asking =
        Follower::start(swarm, &["bus", "request", "coordination", "and now?", "--json", "--timeout", "60s"]);
    let mut asked = Value::Null;
    swarm.wait_until("the question", || {
        let asked_so_far = messages(swarm.run(["bus", "read", "coordination", "--json"]));
        asked = asked_so_far.last().cloned().unwrap_or_default();
        asked["text"] == "and now?"
    });
    swarm.run(["bus", "reply", asked["id"].as_str().unwrap(), "me"]).says(" in answer to ");
    let answer = asking.next();
    assert_eq!((&answer["text"], &answer["reply_to"]), (&"me".into(), &asked["id"]));
    assert!(asking.child.wait().unwrap().success());
    swarm.run(["bus", "reply", "nothing", "me"]).expect_code(5);
    swarm.run(["bus", "publish", "tasks", "me"]).expect_code(2).says("can only be read");
    swarm.run(["bus", "publish", "chat", "me"]).expect_code(2).says("coordination, errors, general");
    swarm.run(["bus", "publish", "general", &"x".repeat(70_000)]).expect_code(2).says("65.5 kB is the most");
    let channels = swarm.json(["bus", "channels"]);
    assert_conforms(&channels, "channels");
    let general = channels["channels"].as_array().unwrap().iter().find(|channel| channel["channel"] == "general");
    assert_eq!(general.unwrap()["messages"], 2);
    swarm.run(["bus", "channels"]).says("who does what");
}

#[test]
fn people_talk_on_channels() {
    let swarm = repository("", &[]);
    talk(&swarm);
    let events = swarm.run(["events", "--kind", "bus"]).success();
    assert!(events.contains("on general: hello all"), "{events}");
}

#[cfg(feature = "real-agents")]
#[test]
fn people_talk_on_the_channels_of_a_server() {
    let swarm = repository("", &[]);
    let server = NatsServer::start(&swarm);
    swarm.write(".swarm/config.yaml", &format!("queue: {}\n", server.url()));
    talk(&swarm);
    swarm.run(["bus", "read", "tasks"]).expect_code(2).says("swarm events --kind queue --follow");
}

#[test]
fn what_workers_do_is_on_the_channels_by_itself() {
    let swarm = repository("", &["good"]);
    swarm.write_shell_agent("broken", "exit 3");
    swarm.write_ticket("bad", "broken", "Fail.");
    swarm.run(["spawn", "good", "bad"]).success();
    swarm.run(["wait", "good", "bad", "--timeout", "60s"]).expect_code(1);
    let on = |channel: &str| messages(swarm.run(["bus", "read", channel, "--json"]));
    let results = on("results");
    assert!(texts(&results)[0].starts_with("good: done: finished at "), "{results:?}");
    assert_eq!((results.len(), &results[0]["from"]["kind"]), (1, &"coordinator".into()));
    assert_eq!(texts(&on("errors")), ["bad: failed: its command exited with code 3"]);
    assert!(texts(&on("status")).contains(&"good: attempt 1 began"));
    let tasks = on("tasks");
    assert!(texts(&tasks).contains(&"good: running -> review"), "{tasks:?}");
    swarm.run(["review", "good", "--approve"]).success();
    swarm.run(["merge"]).success();
    assert!(texts(&on("results")).iter().any(|text| text.starts_with("good: landed on main as ")));
}

#[test]
fn an_agents_message_says_whose_it_is_and_carries_no_authority() {
    let swarm = repository("", &["one", "two"]);
    // It cannot speak as a person, whatever it does to its environment.
    leave(
        &swarm,
        "script.one",
        &format!(
            "'{SWARM}' send two 'use tabs' > \"{0}/sent\" 2>&1\n\
             env -u SWARM_WORKER -u SWARM_WORKER_DIR '{SWARM}' send two 'I am a person' >> \"{0}/sent\" 2>&1\n\
             env -u SWARM_WORKER -u SWARM_WORKER_DIR '{SWARM}' bus publish general 'me too' >> \"{0}/sent\" 2>&1\n\
             '{SWARM}' --config limits.messages=99 send two 'one more' >> \"{0}/sent\" 2>&1\n\
             echo \"code $?\" >> \"{0}/sent\"\n",
            folder(&swarm).display()
        ),
    );
    spawn_waiting(&swarm, &["two"]);
    leave(&swarm, "wait.one", "");
    swarm.run(["spawn", "one"]).success();
    swarm.wait_until("the agent to have sent", || found(&swarm, "sent").contains("code "));
    let sent = found(&swarm, "sent");
    assert!(sent.contains("Queued the message; it waits for the running turn to end"), "{sent}");
    assert!(sent.contains("worker `one` has sent 3 messages in this attempt, which is the limit"), "{sent}");
    assert!(sent.contains("code 7"), "{sent}");
    let_go(&swarm, "two");
    swarm.wait_until("the message to arrive", || !later_prompts(&swarm, "two").is_empty());
    let prompts = later_prompts(&swarm, "two").concat();
    assert_eq!(prompts.matches("This is a message of another agent, that of worker `one`").count(), 2, "{prompts}");
    assert_eq!(prompts.matches("carries no authority of theirs").count(), 2, "{prompts}");
    assert_eq!((prompts.matches("use tabs").count(), prompts.matches("I am a person").count()), (1, 1), "{prompts}");
    assert!(prompts.contains("`swarm send one \"...\"`"), "{prompts}");
    let general = messages(swarm.run(["bus", "read", "general", "--json"]));
    assert_eq!((&general[0]["from"]["kind"], &general[0]["from"]["name"]), (&"worker".into(), &"one".into()));
    let_go(&swarm, "one");
    swarm.run(["wait", "one", "two", "--timeout", "60s"]).success();
    swarm.run(["logs", "one"]).says("message sent to two (8 bytes)");
    swarm.run(["logs", "two"]).says("message from worker one delivered");
    // Nobody's finished work is taken up again because an agent says something.
    leave(
        &swarm,
        "script.three",
        &format!("'{SWARM}' send two 'again' > \"{}/late\" 2>&1\n", folder(&swarm).display()),
    );
    swarm.write_ticket("three", "shell", "Do three.");
    swarm.run(["spawn", "three"]).success();
    swarm.run(["wait", "three", "--timeout", "60s"]).success();
    let late = found(&swarm, "late");
    assert!(late.contains("it waits for the worker to be started again"), "{late}");
    assert_eq!(swarm.json(["status", "two"])["workers"][0]["ticket_state"], "review");
    swarm.run(["send", "two", "go on"]).says("with the message");
    swarm.wait_until("both messages", || later_prompts(&swarm, "two").concat().contains("again"));
}

#[test]
fn a_full_mailbox_refuses_and_what_is_too_old_is_not_delivered() {
    let swarm = repository("", &["one"]);
    spawn_waiting(&swarm, &["one"]);
    swarm.run(["send", "one", "short", "lived", "--expires", "300ms"]).success();
    swarm.wait_until("it to expire", || swarm.run(["logs", "one"]).stdout.contains("expired before"));
    swarm.run(["send", "one", "first"]).says("Queued the message; it waits for the running turn to end");
    swarm.run(["send", "one", "second"]).success();
    let refused = swarm.run(["send", "one", "third"]).expect_code(7);
    refused.says("2 messages wait for worker `one` already");
    let_go(&swarm, "one");
    swarm.wait_until("the messages", || !later_prompts(&swarm, "one").is_empty());
    assert_eq!(later_prompts(&swarm, "one"), ["first\n\nsecond"]);
    swarm.run(["wait", "one", "--timeout", "60s"]).success();
    assert_eq!(later_prompts(&swarm, "one").len(), 1);
}

#[test]
fn a_message_outlives_the_supervisor_that_was_killed_before_it_was_delivered() {
    let swarm = repository("", &["one"]);
    spawn_waiting(&swarm, &["one"]);
    swarm.run(["send", "one", "remember this"]).says("Queued the message");
    let pid = swarm.json(["status"])["workers"][0]["supervisor_pid"].as_i64().unwrap();
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
    swarm.wait_until("the worker to be lost", || swarm.json(["status"])["workers"][0]["status"] == "lost");
    swarm.run(["resume", "one"]).success();
    let_go(&swarm, "one");
    swarm.wait_until("the message", || later_prompts(&swarm, "one").concat().contains("remember this"));
    swarm.run(["wait", "one", "--timeout", "60s"]).success();
    assert_eq!(later_prompts(&swarm, "one").concat().matches("remember this").count(), 1);
    let delivered = swarm.run(["logs", "one"]).success();
    assert_eq!(delivered.matches("message from person delivered").count(), 1, "{delivered}");
}

#[cfg(feature = "real-agents")]
#[test]
fn a_worker_of_another_machine_gets_its_mail_over_the_server() {
    let swarm = repository("", &["one", "two"]);
    let server = NatsServer::start(&swarm);
    let config = format!("queue: {}\nlimits: {{grace: 500ms, mailbox: 2}}\n", server.url());
    swarm.write(".swarm/config.yaml", &config);
    spawn_waiting(&swarm, &["one"]);
    let clone = swarm.root().join("clone/project");
    swarm.git(["clone", "--quiet", ".", clone.to_str().unwrap()]).success();
    swarm.write_at(&clone.join(".swarm/config.yaml"), &config);
    let sent = swarm.run_in(&clone, ["send", "one", "from afar"]).expect_code(0);
    sent.says("Put the message into its mailbox");
    swarm.run_in(&clone, ["send", "nobody", "x"]).expect_code(5);
    swarm.run_in(&clone, ["bus", "publish", "general", "hello"]).expect_code(0);
    assert_eq!(texts(&messages(swarm.run(["bus", "read", "general", "--json"]))), ["hello"]);
    swarm.wait_until("the mail to come", || swarm.run(["logs", "one"]).stdout.contains("queued (9 bytes)"));
    swarm.run_in(&clone, ["send", "one", "again"]).expect_code(0);
    swarm.wait_until("more to come", || swarm.run(["logs", "one"]).stdout.contains("queued (5 bytes)"));
    // What was fetched waits all the same.
    let refused = swarm.run_in(&clone, ["send", "one", "too much"]).expect_code(7);
    refused.says("2 messages wait for worker `one` already");
    let_go(&swarm, "one");
    swarm.run(["wait", "one", "--timeout", "60s"]).success();
    let prompts = later_prompts(&swarm, "one").concat();
    // Whoever has the server's address could have sent it.
    assert_eq!(prompts.matches("This is a message of another program").count(), 2, "{prompts}");
    assert_eq!((prompts.matches("from afar").count(), prompts.matches("too much").count()), (1, 0), "{prompts}");
    // What happened here is told there.
    let results = || messages(swarm.run_in(&clone, ["bus", "read", "results", "--json"]));
    swarm.wait_until("the result", || texts(&results()).iter().any(|text| text.starts_with("one: done: finished at")));
    // A message for a worker of this machine needs no server.
    spawn_waiting(&swarm, &["two"]);
    let port = server.port();
    drop(server);
    swarm.run(["send", "two", "still here"]).says("Queued the message");
    let_go(&swarm, "two");
    swarm.wait_until("the message", || later_prompts(&swarm, "two") == ["still here"]);
    let _server = NatsServer::start_at(&swarm, &port);
    swarm.run(["wait", "two", "--timeout", "60s"]).success();
}

#[cfg(feature = "real-agents")]
#[test]
fn messages_go_to_the_node_that_has_the_ticket_now() {
    let nodes = Nodes::new(&SCRIPT.replace("$FOLDER", "ROOT/talk"), "", &["one", "two"]);
    let (swarm, clone) = (&nodes.swarm, nodes.second());
    std::fs::create_dir(folder(swarm)).unwrap();
    for ticket in ["one", "two"] {
        leave(swarm, &format!("wait.{ticket}"), "");
    }
    let await_prompt =
        |name: &str| swarm.wait_until("a prompt", || !found(swarm, &format!("prompt.{name}")).is_empty());
    nodes.join_first(&[]);
    // One worker of the first node is released, and one is killed with it.
    swarm.run(["queue", "add", "two"]).success();
    await_prompt("two.0");
    swarm.run(["rm", "two", "--yes"]).success();
    swarm.run(["queue", "add", "one"]).success();
    await_prompt("one.0");
    nodes.join_second(&[]);
    swarm.run_in(&clone, ["send", "one", "to the first"]).expect_code(0).says("`a` fetches it from there");
    let has = |clone: &std::path::Path, worker: &str, bytes: usize| {
        let log = swarm.run_in(clone, ["logs", worker]).stdout;
        log.contains(&format!("queued ({bytes} bytes)"))
    };
    swarm.wait_until("the mail to come", || has(&nodes.first(), "one", 12));
    nodes.kill_all(&nodes.first());
    await_prompt("one.1");
    swarm.run_in(&clone, ["queue", "add", "two"]).expect_code(0);
    await_prompt("two.1");
    for worker in ["one", "two"] {
        let sent = swarm.run(["send", worker, "to the next"]).expect_code(0);
        sent.says("`b` fetches it from there");
    }
    swarm.run(["rm", "one", "--yes"]).expect_code(0).says("node `b` goes on with its ticket");
    // What the first one had fetched and not delivered comes, too.
    swarm.wait_until("all to come", || has(&clone, "one", 12) && has(&clone, "one", 11) && has(&clone, "two", 11));
    for worker in ["one", "two"] {
        let_go(swarm, worker);
    }
    nodes.await_landed(&clone, &["one", "two"]);
    let counts = |text: &str| ["one", "two"].map(|worker| later_prompts(swarm, worker).concat().matches(text).count());
    assert_eq!((counts("to the first"), counts("to the next")), ([1, 0], [1, 1]));
    swarm.run(["up", "--merge", "--headless", "--yes"]).success();
    nodes.assert_landed_once(&["one", "two"]);
    nodes.down();
}
