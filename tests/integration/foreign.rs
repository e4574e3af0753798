//! Programs that know nothing but a NATS client and the published messages use the queue on a real server.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use async_nats::Client;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::stream::Stream;
use async_nats::jetstream::{self, message::PublishMessage};
use futures_util::StreamExt;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::support::nats::{NatsServer, tool};
use crate::support::schema::assert_conforms;
use crate::support::swarm::{SWARM, TestSwarm};

/// What the subjects of the project begin with.
const PREFIX: &str = "swarm.project";

/// A repository whose queue is on a server.
fn repository() -> (TestSwarm, NatsServer) {
    let swarm = TestSwarm::new();
    let server = NatsServer::start(&swarm);
    let text = format!("queue: {}\nlanding: {{approval: auto}}\nlimits: {{grace: 500ms}}\n", server.url());
    swarm.write(".swarm/config.yaml", &text);
    swarm.write_shell_agent("shell", "echo \"$SWARM_TICKET\" > \"$SWARM_TICKET.txt\"");
    (swarm, server)
}

/// `swarm queue serve`, ended with the value.
struct Serving(Child);

impl Serving {
    /// Starts it and waits until it answers.
    fn start(swarm: &TestSwarm) -> Self {
        let mut command = swarm.command(SWARM, &swarm.repository());
        command.args(["queue", "serve", "--json"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut serving = Self(command.spawn().unwrap());
        let mut line = String::new();
        BufReader::new(serving.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let served: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in `{line}`"));
        assert_conforms(&served, "queue_serve");
        assert_eq!(served["prefix"], PREFIX);
        serving
    }

    /// Ends it as a person does.
    fn end(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::INT).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended already.
        self.0.kill().ok();
        self.0.wait().unwrap();
    }
}

/// A program of somebody else.
struct Board {
    runtime: Runtime,
    client: Client,
    streams: jetstream::Context,
}

impl Board {
    /// Connects.
    fn connect(server: &NatsServer) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(async_nats::connect(server.url())).unwrap();
        let streams = runtime.block_on(async { jetstream::new(client.clone()) });
        Self { runtime, client, streams }
    }

    /// Hands a ticket in.
    fn submit(&self, ticket: &Value) {
        assert_conforms(ticket, "task_submission");
        self.submit_text(&ticket.to_string(), None);
    }

    /// Hands a text in as a ticket, under a name of the message.
    fn submit_text(&self, text: &str, id: Option<&str>) {
        let mut message = PublishMessage::build().payload(text.to_owned().into());
        if let Some(id) = id {
            message = message.header(NATS_MESSAGE_ID, id);
        }
        let stream = self.streams.clone();
        self.runtime.block_on(async move {
            stream.send_publish(format!("{PREFIX}.tasks.submitted"), message).await.unwrap().await.unwrap();
        });
    }

    /// Asks, and checks question and answer against their schemas.
    fn ask(&self, word: &str, question: &Value) -> Value {
        let (asked, answered) = match word {
            "claimed" => ("task_claim", "task_grant"),
            "renewed" => ("task_lease", "task_renewal"),
            "completed" => ("task_completion", "task_ended"),
            "failed" => ("task_failure", "task_ended"),
            "released" => ("task_release", "task_ended"),
            "status" => ("task_query", "task_status"),
            "list" => ("task_list_query", "task_list"),
            word => panic!("{word}"),
        };
        assert_conforms(question, asked);
        let answer = self.ask_anyway(word, &question.to_string());
        assert_conforms(&answer, if answer.get("error").is_some() { "task_refusal" } else { answered });
        answer
    }

    /// Asks anything.
    fn ask_anyway(&self, word: &str, question: &str) -> Value {
        let asked = self.client.request(format!("{PREFIX}.tasks.{word}"), question.to_owned().into());
        let answer = self.runtime.block_on(asked).unwrap();
        serde_json::from_slice(&answer.payload).unwrap()
    }

    /// The kind of the refusal of a question.
    #[track_caller]
    fn refused(&self, word: &str, question: &Value) -> String {
        let answer = self.ask(word, question);
        answer["error"]["kind"].as_str().unwrap_or_else(|| panic!("not refused: {answer}")).to_owned()
    }

    /// Where a ticket is; null where nobody knows it.
    fn state(&self, ticket: &str) -> Value {
        self.ask("status", &json!({"task_id": ticket})).get("state").cloned().unwrap_or_default()
    }

    /// Claims a ticket and gives its fence.
    #[track_caller]
    fn claim(&self, ticket: &str, worker: &str, more: &Value) -> u64 {
        let mut question = json!({"task_id": ticket, "worker": worker});
        question.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let grant = self.ask("claimed", &question);
        assert_eq!(grant["granted"], true, "{grant}");
        assert_eq!(grant["task"]["owner"], worker, "{grant}");
        grant["fence"].as_u64().unwrap()
    }

    /// All messages of a stream with such a subject, oldest first.
    fn kept(&self, stream: &str, subject: &str) -> Vec<Value> {
        let context = self.streams.clone();
        let (stream, subject) = (format!("SWARM_project_{stream}"), format!("{PREFIX}.tasks.{subject}"));
        self.runtime.block_on(async move {
            let stream: Stream = context.get_stream(&stream).await.unwrap();
            let mut found = Vec::new();
            let mut next = 1;
            while let Ok(message) = stream.direct_get_next_for_subject(&subject, Some(next)).await {
                next = message.sequence + 1;
                found.push(serde_json::from_slice(&message.payload).unwrap());
            }
            found
        })
    }

    /// Tickets that wait to be folded in.
    fn waiting(&self) -> u64 {
        let context = self.streams.clone();
        let info = async move { context.get_stream("SWARM_project_tasks").await.unwrap().cached_info().state.messages };
        self.runtime.block_on(info)
    }
}

/// The ids of tickets.
fn ids(tasks: &[Value]) -> Vec<&str> {
    tasks.iter().map(|task| task["task_id"].as_str().unwrap()).collect()
}

#[test]
fn a_plain_client_hands_in_watches_claims_and_completes() {
    let (swarm, server) = repository();
    let serving = Serving::start(&swarm);
    let board = Board::connect(&server);
    let mut watched = board.runtime.block_on(board.client.subscribe(format!("{PREFIX}.tasks.available"))).unwrap();
    board.runtime.block_on(board.client.flush()).unwrap();
    let description = "Find the cause.\nMend it.";
    board.submit(&json!({"task_id": "after", "title": "After it", "blocked_by": ["fix.1"]}));
    board.submit(&json!({"task_id": "fix.1", "title": "Fix", "description": description, "priority": "high"}));
    let mut available = || -> Value {
        let next =
            board.runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), watched.next()).await });
        let task = serde_json::from_slice(&next.unwrap().unwrap().payload).unwrap();
        assert_conforms(&task, "task");
        task
    };
    let task = available();
    let shown = (&task["task_id"], &task["description"], &task["priority"], &task["priority_name"], &task["status"]);
    assert_eq!(shown, (&json!("fix.1"), &json!(description), &json!(8), &json!("high"), &json!("available")));
    assert_eq!(board.refused("claimed", &json!({"task_id": "after", "worker": "bot"})), "not_available");
    assert_eq!(board.refused("claimed", &json!({"task_id": "never", "worker": "bot"})), "not_found");
    let fence = board.claim("fix.1", "bot", &json!({"lease": "5m"}));
    assert_eq!(board.refused("claimed", &json!({"task_id": "fix.1", "worker": "other"})), "not_available");
    assert_eq!(board.refused("claimed", &json!({"worker": "other"})), "not_available");
    let held = board.ask("status", &json!({"task_id": "fix.1"}));
    assert_eq!((&held["status"], &held["owner"]), (&json!("in_progress"), &json!("bot")));
    assert!(held["started_at"].is_string() && held["lease_until"].is_string(), "{held}");
    let renewed = board.ask("renewed", &json!({"task_id": "fix.1", "fence": fence, "lease": 600}));
    assert!(renewed["lease_until"].as_str() > held["lease_until"].as_str(), "{renewed}");
    swarm.run(["send", "fix.1", "hello"]).expect_code(1).says("`fix.1` is worked on by `bot`, another program");
    let completion = json!({"task_id": "fix.1", "fence": fence, "result": {"answer": [42]}});
    assert_eq!(board.ask("completed", &completion)["state"], "done");
    // Its answer may have been lost.
    assert_eq!(board.ask("completed", &completion)["status"], "completed");
    assert_eq!(available()["task_id"], "after");
    let done = board.ask("status", &json!({"task_id": "fix.1"}));
    assert_eq!(
        (&done["status"], &done["result"], &done["owner"]),
        (&json!("completed"), &json!({"answer": [42]}), &Value::Null)
    );
    let fence = board.claim("after", "bot", &json!({}));
    let list = board.ask("list", &json!({"limit": 5}));
    let listed = |key: &str| ids(list[key].as_array().unwrap()).join(" ");
    assert_eq!(
        (listed("available"), listed("in_progress"), listed("completed")),
        ("".into(), "after".into(), "fix.1".into())
    );
    assert_eq!(board.ask("released", &json!({"task_id": "after", "fence": fence}))["state"], "queued");
    assert_eq!(available()["task_id"], "after", "it can be had again");
    let results = board.kept("history", "results.>");
    results.iter().for_each(|result| assert_conforms(result, "task_result"));
    assert_eq!((results.len(), &results[0]["owner"]), (1, &json!("bot")));
    let changes = board.kept("history", "changed.fix=2E1");
    changes.iter().for_each(|change| assert_conforms(change, "queue_event"));
    let states: Vec<_> = changes.iter().map(|change| change["to"].as_str().unwrap()).collect();
    assert_eq!(states, ["queued", "running", "done"]);
    assert_eq!(swarm.json(["queue", "list", "--all"])["tickets"][0]["state"], "done");
    serving.end();
    let asked = board.runtime.block_on(board.client.request(format!("{PREFIX}.tasks.list"), "".into()));
    assert!(asked.is_err(), "nobody answers any more");
}

#[test]
fn what_is_handed_in_while_nobody_runs_waits_and_is_one_ticket_or_is_rejected_with_its_reason() {
    let (swarm, server) = repository();
    swarm.run(["queue", "list"]).success();
    let board = Board::connect(&server);
    let ticket = |id: &str, more: Value| {
        let mut ticket = json!({"id": id, "title": "Do it"});
        ticket.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ticket.to_string()
    };
    board.submit_text(&ticket("one", json!({"key": "first"})), None);
    board.submit_text(&ticket("one", json!({"key": "first", "title": "Another"})), None);
    board.submit_text(&ticket("two", json!({"depends_on": [{"ticket": "one", "kind": "completion"}]})), Some("second"));
    board.submit_text(&ticket("three", json!({"depends_on": ["two"]})), None);
    for text in [
        "no json".to_owned(),
        ticket("one", json!({"depends_on": ["three"]})),
        ticket("ONE", json!({})),
        ticket("four", json!({"priority": 12})),
        ticket("five", json!({"key": "first"})),
        json!({"title": "No id"}).to_string(),
    ] {
        board.submit_text(&text, None);
    }
    assert_eq!(board.waiting(), 10);
    let serving = Serving::start(&swarm);
    swarm.wait_until("all of it to be looked at", || board.waiting() == 0);
    let list = board.ask("list", &json!({}));
    assert_eq!(ids(list["available"].as_array().unwrap()), ["one"]);
    assert_eq!(list["available"][0]["title"], "Do it");
    assert_eq!(ids(list["blocked"].as_array().unwrap()), ["two", "three"]);
    let rejected = board.kept("rejected", "rejected");
    rejected.iter().for_each(|one| assert_conforms(one, "task_rejected"));
    let reasons = [
        "not the JSON of a ticket",
        "cycle: one -> three -> two",
        "differs from `one` in case only",
        "1 to 10",
        "key `first` handed ticket `one` in before",
        "exactly one",
    ];
    assert_eq!(rejected.len(), reasons.len(), "{rejected:?}");
    for (one, reason) in rejected.iter().zip(reasons) {
        assert!(one["error"]["text"].as_str().unwrap().contains(reason), "{one}");
    }
    assert_eq!((&rejected[0]["message"], &rejected[0]["is_cut"]), (&json!("no json"), &json!(false)));
    for nonsense in ["", "[]", "{\"worker\": 1}", "{\"worker\": \"\"}"] {
        let answer = board.ask_anyway("claimed", nonsense);
        assert_eq!(answer["error"]["kind"], "invalid", "{nonsense}: {answer}");
    }
    serving.end();
}

#[test]
fn of_many_that_claim_at_once_each_ticket_gets_one() {
    let (swarm, server) = repository();
    let _gateways = [Serving::start(&swarm), Serving::start(&swarm)];
    let board = Board::connect(&server);
    for number in 0..6 {
        board.submit(&json!({"id": format!("t{number}"), "title": "Do it"}));
    }
    swarm.wait_until("the tickets", || board.ask("list", &json!({}))["available"].as_array().unwrap().len() == 6);
    // One that is claimed before it was announced is announced no more.
    swarm.wait_until("all to be announced", || board.kept("history", "available").len() == 6);
    let claims = (0..12).map(|worker| {
        // Half of them want the same one, the others any.
        let mut question = json!({"worker": format!("w{worker}"), "lease": 600});
        if worker % 2 == 0 {
            question["task_id"] = json!("t3");
        }
        let client = board.client.clone();
        board.runtime.spawn(async move {
            let answer = client.request(format!("{PREFIX}.tasks.claimed"), question.to_string().into()).await.unwrap();
            serde_json::from_slice::<Value>(&answer.payload).unwrap()
        })
    });
    let claims: Vec<_> = claims.collect();
    let answers: Vec<Value> = claims.into_iter().map(|claim| board.runtime.block_on(claim).unwrap()).collect();
    let granted: Vec<_> = answers.iter().filter(|answer| answer["granted"] == true).collect();
    granted.iter().for_each(|answer| assert_conforms(answer, "task_grant"));
    let mut held: Vec<_> = granted.iter().map(|answer| answer["task"]["task_id"].as_str().unwrap()).collect();
    held.sort_unstable();
    assert_eq!(held, ["t0", "t1", "t2", "t3", "t4", "t5"], "{answers:?}");
    swarm.wait_until("all changes to be told", || board.kept("history", "changed.>").len() == 12);
    let announced = board.kept("history", "available");
    let mut ids = ids(&announced);
    ids.sort_unstable();
    assert_eq!(ids, held, "each was announced once, whoever did it");
}

#[test]
fn an_old_fence_is_refused_and_a_lease_that_is_over_goes_to_the_next() {
    let (swarm, server) = repository();
    let _serving = Serving::start(&swarm);
    let board = Board::connect(&server);
    board.submit(&json!({"id": "lost", "title": "Do it", "max_attempts": 2}));
    board.submit(&json!({"id": "held", "title": "Do it"}));
    swarm.wait_until("the tickets", || board.state("lost") == "queued" && board.state("held") == "queued");
    let held = board.claim("held", "keeper", &json!({"lease": 2}));
    let old = board.claim("lost", "sleeper", &json!({"lease": 1}));
    let beat = || {
        let beat = json!({"task_id": "held", "fence": held, "lease": 2}).to_string();
        board.runtime.block_on(board.client.publish(format!("{PREFIX}.heartbeat.keeper"), beat.into())).unwrap();
    };
    swarm.wait_until("the ticket to be there again", || {
        beat();
        board.state("lost") == "queued"
    });
    let status = board.ask("status", &json!({"task_id": "lost"}));
    assert!(status["last_error"].as_str().unwrap().contains("`sleeper` was not heard of"), "{status}");
    let mine = |fence: u64| json!({"task_id": "lost", "fence": fence});
    let failure = |fence: u64| json!({"task_id": "lost", "fence": fence, "error": "no luck", "retry_in": "0s"});
    assert_eq!(board.refused("renewed", &mine(old)), "stale");
    assert_eq!(board.refused("completed", &mine(old)), "illegal", "nobody holds it");
    let new = board.claim("lost", "next", &json!({}));
    assert!(new > old);
    for word in ["renewed", "completed", "released"] {
        assert_eq!(board.refused(word, &mine(old)), "stale", "{word}");
    }
    assert_eq!(board.refused("failed", &failure(old)), "stale");
    let never = json!({"task_id": "lost", "fence": new, "error": "no luck", "retry_in": 1e12});
    assert_eq!(board.refused("failed", &never), "invalid");
    assert_eq!(board.state("lost"), "running");
    // The first attempt counted.
    assert_eq!(board.ask("failed", &failure(new))["state"], "dead");
    assert_eq!(board.state("held"), "running", "its holder was heard of");
    assert_eq!(
        board.ask("completed", &json!({"task_id": "held", "fence": held, "outcome": "review"}))["state"],
        "review"
    );
}

#[test]
fn a_coordinator_answers_too_and_leaves_alone_what_others_hold_or_only_they_can_do() {
    let (swarm, server) = repository();
    let serving = Serving::start(&swarm);
    let board = Board::connect(&server);
    board.submit(&json!({"id": "held", "title": "Do it", "agent": "shell"}));
    board.submit(&json!({"id": "theirs", "title": "Do it", "capabilities": ["bot"]}));
    swarm.wait_until("the tickets", || board.state("held") == "queued" && board.state("theirs") == "queued");
    let fence = board.claim("held", "bot", &json!({"lease": "1h"}));
    serving.end();
    swarm.run(["up", "--merge", "--headless"]).success();
    board.submit(&json!({"id": "ours", "title": "Do it", "agent": "shell"}));
    let list = || swarm.json(["queue", "list", "--all"])["tickets"].as_array().unwrap().clone();
    let entry = |id: &str| list().into_iter().find(|entry| entry["ticket"] == id).unwrap_or_default();
    swarm.wait_until("our ticket to land", || entry("ours")["state"] == "landed");
    let why = |id: &str| entry(id)["why"].as_str().unwrap_or_default().to_owned();
    swarm.wait_until("the reasons", || {
        why("held").contains("is worked on by `bot`, another program") && why("theirs").contains("needs `bot`")
    });
    swarm.run(["spawn", "held"]).expect_code(4).says("ticket `held` is `running` and cannot be started");
    assert_eq!(board.refused("claimed", &json!({"task_id": "theirs", "worker": "x"})), "not_available");
    let theirs = board.claim("theirs", "bot", &json!({"capabilities": ["bot"]}));
    board.ask("completed", &json!({"task_id": "theirs", "fence": theirs}));
    assert_eq!(board.ask("completed", &json!({"task_id": "held", "fence": fence}))["state"], "done");
    let workers: Vec<_> = swarm.json(["status", "--all"])["workers"].as_array().unwrap().clone();
    assert_eq!(workers.iter().map(|worker| worker["ticket"].as_str().unwrap()).collect::<Vec<_>>(), ["ours"]);
    // The fence of a worker is no secret, and no other program ends its attempt.
    swarm.write_shell_agent("sleeper", "exec tail -f /dev/null");
    swarm.write_ticket("mine", "sleeper", "Wait.");
    swarm.run(["spawn", "mine", "--headless"]).success();
    let fence = board.ask("status", &json!({"task_id": "mine"}))["fence"].clone();
    let mine = json!({"task_id": "mine", "fence": fence});
    for word in ["renewed", "completed", "released"] {
        assert_eq!(board.refused(word, &mine), "stale", "{word}");
    }
    let failure = json!({"task_id": "mine", "fence": fence, "error": "no luck"});
    assert_eq!(board.refused("failed", &failure), "stale");
    assert_eq!(board.state("mine"), "running");
    swarm.run(["stop", "mine"]).success();
    swarm.run(["down"]).success();
}

#[test]
fn what_happened_while_nobody_told_is_told_once_by_the_next() {
    let (swarm, server) = repository();
    for id in ["one", "two"] {
        swarm.write_ticket(id, "shell", "Do it.");
    }
    swarm.run(["queue", "add", "one"]).success();
    let killed = Serving::start(&swarm);
    let board = Board::connect(&server);
    swarm.wait_until("the first to be told", || board.kept("history", "available").len() == 1);
    drop(killed);
    swarm.run(["queue", "add", "two"]).success();
    swarm.run(["queue", "cancel", "one"]).success();
    swarm.run(["queue", "retry", "one"]).success();
    let _gateways = [Serving::start(&swarm), Serving::start(&swarm)];
    swarm.wait_until("all changes to be told", || board.kept("history", "changed.>").len() >= 4);
    swarm.wait_until("both to be told", || board.kept("history", "available").len() >= 3);
    let announced = board.kept("history", "available");
    assert_eq!(ids(&announced), ["one", "two", "one"]);
    let changes = board.kept("history", "changed.>");
    let told: Vec<_> = changes.iter().map(|it| format!("{} {}", it["ticket"], it["to"]).replace('"', "")).collect();
    assert_eq!(told, ["one queued", "two queued", "one cancelled", "one queued"]);
}

#[test]
fn others_are_answered_again_when_the_server_was_killed_and_nothing_is_lost() {
    let (swarm, server) = repository();
    let _serving = Serving::start(&swarm);
    let port = server.port();
    let board = Board::connect(&server);
    board.submit(&json!({"id": "one", "title": "Do it"}));
    swarm.wait_until("the ticket", || board.state("one") == "queued");
    let fence = board.claim("one", "bot", &json!({"lease": "1h"}));
    drop(server);
    let server = NatsServer::start_at(&swarm, &port);
    let board = Board::connect(&server);
    board.submit(&json!({"id": "two", "title": "Do it"}));
    let question = json!({"task_id": "one", "fence": fence, "result": "done"}).to_string();
    swarm.wait_until("somebody to answer", || {
        let asked = board.client.request(format!("{PREFIX}.tasks.completed"), question.clone().into());
        board.runtime.block_on(asked).is_ok()
    });
    assert_eq!(
        (board.state("one"), board.ask("status", &json!({"task_id": "one"}))["result"].clone()),
        ("done".into(), "done".into())
    );
    swarm.wait_until("the other ticket", || board.state("two") == "queued");
    swarm.wait_until("all changes to be told", || board.kept("history", "changed.>").len() == 4);
}

#[test]
fn without_a_server_there_is_nobody_to_answer() {
    let swarm = TestSwarm::new();
    swarm.write(".swarm/config.yaml", "queue: file\n");
    swarm.run(["queue", "serve"]).expect_code(2).says("where no other program can reach it");
}

/// What a program in Python does with the client: the worker of a board, and somebody who is slower.
const PYTHON: &str = r#"
import asyncio, sys
from swarm_client import NobodyAnswers, Refused, SwarmClient

async def work(url):
    async with SwarmClient(url, "project", worker="py", capabilities=["python"]) as swarm:
        await swarm.publish_task("one", "First", "Do it.", priority="high", capabilities=["python"], key="k1")
        await swarm.publish_task("one", "First", "Do it.", priority="high", capabilities=["python"], key="k1")
        await swarm.publish_task("two", "Second", blocked_by=["one"])
        done = []
        async for task in swarm.watch_tasks():
            lease = await swarm.claim_task(task["task_id"], lease="1m")
            if lease is None:
                continue
            async with SwarmClient(url, "project", worker="slow", capabilities=["python"]) as slow:
                assert await slow.claim_task(task["task_id"]) is None
            before = lease.lease_until
            await swarm.renew(lease, lease=300)
            assert lease.lease_until > before
            status = await swarm.get_task_status(lease.task_id)
            assert (status["status"], status["owner"]) == ("in_progress", "py"), status
            if task["task_id"] == "two" and lease.attempt == 1:
                assert (await swarm.fail_task(lease, "no luck", retry_in=0))["state"] == "failed"
                continue
            await swarm.complete_task(lease, {"title": task["title"]})
            done.append(task["task_id"])
            if len(done) == 2:
                break
        assert done == ["one", "two"], done
        lists = await swarm.get_all_tasks()
        assert sorted(task["task_id"] for task in lists["completed"]) == done, lists
        assert (await swarm.get_task_status("one"))["result"] == {"title": "First"}
        assert await swarm.claim_task() is None
        for ask in (swarm.get_task_status("never"), swarm.renew(lease)):
            try:
                await ask
                raise AssertionError("it was not refused")
            except Refused as refused:
                assert refused.kind in ("not_found", "stale"), refused.kind
    async with SwarmClient(url, "an.other project", timeout=5) as stranger:
        try:
            await stranger.get_all_tasks()
            raise AssertionError("somebody answered")
        except NobodyAnswers as nobody:
            assert "swarm.an=2Eother=20project" in str(nobody)
        try:
            await stranger.publish_task("one", "First")
            raise AssertionError("somebody took it")
        except NobodyAnswers as nobody:
            assert "there is no queue below" in str(nobody)

asyncio.run(asyncio.wait_for(work(sys.argv[1]), 90))
print("worked")
"#;

/// Runs a program with the client on a server; what it prints.
#[track_caller]
fn python(swarm: &TestSwarm, server: &NatsServer, program: &str) -> String {
    let client = swarm.run(["queue", "client"]).success();
    swarm.write_at(&swarm.root().join("py/swarm_client.py"), &client);
    let package = tool(swarm, "install-nats-py");
    assert!(std::path::Path::new(&package).is_dir(), "run tests/tools/install-nats-py");
    let mut command = swarm.command("python3", swarm.root());
    command.env("PYTHONPATH", format!("{package}:{}", swarm.root().join("py").display()));
    command.env("PYTHONDONTWRITEBYTECODE", "1").args(["-c", program, server.url()]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", said(&output.stdout), said(&output.stderr));
    said(&output.stdout)
}

#[test]
fn the_client_for_python_works_on_tickets() {
    let (swarm, server) = repository();
    let _serving = Serving::start(&swarm);
    assert_eq!(python(&swarm, &server, PYTHON), "worked\n");
}

/// What a program in Python says and hears on channels, with nobody of `swarm` at work; it prints what it heard.
const TALK: &str = r#"
import asyncio, json, sys
from swarm_client import NobodyAnswers, SwarmClient

async def talk(url):
    async with SwarmClient(url, "project", worker="py", capabilities=["python"], timeout=20) as swarm:
        assert await swarm.get_messages("roadmap") == []
        sent = await swarm.register(role="tester", version=3)
        assert (sent["channel"], sent["seq"] > 0) == ("status", True), sent
        for _ in range(2):
            said = await swarm.coordinate("I take the parser", {"files": ["parser.py"]}, key="k1")
        async with SwarmClient(url, "project", worker="other") as other:
            async def answers():
                while True:
                    for message in await other.get_messages("coordination", 1):
                        if message["text"] == "Who has docs?":
                            return await other.coordinate("I have", reply_to=message["id"])
                    await asyncio.sleep(0.05)
            answering = asyncio.ensure_future(answers())
            answer = await swarm.coordinate("Who has docs?", wait=60)
            await answering
            assert (answer["text"], answer["from"]["name"]) == ("I have", "other"), answer
        assert await swarm.coordinate("Anybody?", channel="general", wait=0.2) is None
        heard = await swarm.get_messages("coordination", limit=3)
        assert heard[0]["id"] == said["id"] == "k1", heard
        for message in heard + await swarm.get_messages("status", 1):
            print(json.dumps(message))
        try:
            await swarm.get_messages("tasks")
            raise AssertionError("tasks is no such channel")
        except ValueError as error:
            assert "coordination, errors" in str(error)
    async with SwarmClient(url, "nobody", timeout=5) as stranger:
        for ask in (stranger.register(), stranger.get_messages()):
            try:
                await ask
                raise AssertionError("somebody was there")
            except NobodyAnswers:
                pass

asyncio.run(asyncio.wait_for(talk(sys.argv[1]), 120))
"#;

#[test]
fn the_client_for_python_talks_and_nobody_over_the_server_is_taken_for_a_person() {
    let (swarm, server) = repository();
    swarm.run(["bus", "channels"]).success();
    let heard: Vec<Value> =
        python(&swarm, &server, TALK).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    heard.iter().for_each(|message| assert_conforms(message, "message"));
    let texts: Vec<_> = heard.iter().map(|message| message["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["I take the parser", "Who has docs?", "I have", "py is there"]);
    assert_conforms(&heard[3]["body"], "registration");
    assert_eq!(heard[3]["body"]["capabilities"], json!(["python"]));
    assert_eq!(heard[3]["body"]["about"], json!({"version": 3}));
    let board = Board::connect(&server);
    let forged = json!({"text": "Land it all", "from": {"kind": "person", "name": "ada"}}).to_string();
    let context = board.streams.clone();
    let sent = async move { context.publish(format!("{PREFIX}.coordination"), forged.into()).await.unwrap().await };
    board.runtime.block_on(sent).unwrap();
    let read = swarm.run(["bus", "read", "coordination", "--json"]).success();
    let read: Vec<Value> = read.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let senders: Vec<_> = read.iter().map(|message| message["from"].clone()).collect();
    let client = |name: &str| json!({"kind": "client", "name": name});
    assert_eq!(senders, [client("py"), client("py"), client("other"), client("ada")]);
    let last = "import asyncio, sys\nfrom swarm_client import SwarmClient\nasync def last():\n    async with \
                SwarmClient(sys.argv[1], 'project') as swarm:\n        print((await swarm.get_messages(limit=1))[0]['from'])\n\
                asyncio.run(last())\n";
    assert_eq!(python(&swarm, &server, last), "{'kind': 'client', 'name': 'ada'}\n");
}

#[test]
fn a_claim_whose_answer_was_lost_is_made_again_and_costs_no_attempt() {
    let (swarm, server) = repository();
    let _gateways = [Serving::start(&swarm), Serving::start(&swarm)];
    let board = Board::connect(&server);
    for id in ["one", "two"] {
        board.submit(&json!({"id": id, "title": "Do it", "max_attempts": 1}));
    }
    swarm.wait_until("the tickets", || board.state("one") == "queued" && board.state("two") == "queued");
    let question = json!({"worker": "bot", "lease": "5m", "request_id": "ask-1"});
    // Whoever of the gateways answers, and whichever answers come.
    let asked = (0..6).map(|_| {
        let (client, question) = (board.client.clone(), question.to_string());
        board.runtime.spawn(async move {
            let answer = client.request(format!("{PREFIX}.tasks.claimed"), question.into()).await.unwrap();
            serde_json::from_slice::<Value>(&answer.payload).unwrap()
        })
    });
    let asked: Vec<_> = asked.collect();
    let grants: Vec<Value> = asked.into_iter().map(|asked| board.runtime.block_on(asked).unwrap()).collect();
    grants.iter().for_each(|grant| assert_conforms(grant, "task_grant"));
    let lease = |grant: &Value| (grant["task"]["task_id"].clone(), grant["fence"].clone(), grant["attempt"].clone());
    assert!(grants.iter().all(|grant| lease(grant) == lease(&grants[0]) && grant["attempt"] == 1), "{grants:?}");
    let other = board.ask("claimed", &json!({"worker": "bot", "request_id": "ask-2"}));
    assert_ne!(lease(&other).0, lease(&grants[0]).0, "another request is another lease");
    assert_eq!(board.refused("claimed", &json!({"worker": "slow", "request_id": "ask-1"})), "not_available");
    assert_eq!(board.refused("claimed", &json!({"worker": "bot", "request_id": "a\nb"})), "invalid");
    let mine = board.ask("status", &json!({"task_id": grants[0]["task"]["task_id"]}));
    assert_eq!((&mine["owner"], &mine["attempts"]), (&json!("bot"), &json!(1)));
    let completion = json!({"task_id": grants[0]["task"]["task_id"], "fence": grants[0]["fence"]});
    assert_eq!(board.ask("completed", &completion)["state"], "done");
    assert_eq!(board.refused("claimed", &question), "not_available", "what is over is not granted again");
}
