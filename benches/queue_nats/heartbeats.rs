//! What it costs to hear of 620 workers that they are there.
//!
//! Workers of ours renew their leases in the queue, here one after the other by one process. Workers of other programs
//! send heartbeats, which a gateway in a process of its own handles; that each has an answer shows when that is done.

use std::io::BufRead;
use std::path::Path;
use std::time::Instant;

use async_nats::Client;
use futures_util::StreamExt;
use serde_json::{Value, json};
use swarm::bench_internals::QueueBench;

use crate::process::{Server, Talker, again, open, print_bar, processor_seconds};

/// Workers, each with a lease.
const WORKERS: usize = 620;
/// How often each is heard of.
const ROUNDS: usize = 3;
/// How often a worker says that it is there, in seconds (requirements section 10).
const EVERY: f64 = 5.0;
/// Handling of one heartbeat (requirements section 11).
const BAR: f64 = 10.0;

/// Measures both engines, and heartbeats of other programs.
pub(crate) fn compare() {
    println!("{WORKERS} workers, {ROUNDS} rounds of one heartbeat each:");
    let folder = tempfile::tempdir().expect("a temp folder");
    renew("lease renewals, file engine", &open(None, folder.path(), ""));
    let server = Server::start();
    let folder = tempfile::tempdir().expect("a temp folder");
    renew("lease renewals, NATS engine", &open(Some(&server.url), folder.path(), "workers"));
    drop(server);
    foreign();
}

/// Renews all leases of one engine.
fn renew(name: &str, queue: &QueueBench) {
    publish(queue);
    let claims = queue.claim_up_to(WORKERS);
    assert_eq!(claims.len(), WORKERS);
    let (used, started) = (processor_seconds(), Instant::now());
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        for (ticket, fence) in &claims {
            let started = Instant::now();
            queue.renew(ticket, *fence);
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
    }
    print_bar(name, &times, BAR);
    print_round(started.elapsed().as_secs_f64(), processor_seconds() - used);
}

/// Publishes a ticket for each worker.
fn publish(queue: &QueueBench) {
    for number in 0..WORKERS {
        queue.publish(&format!("t{number}"));
    }
}

/// Prints what all rounds together took, as seconds of one.
fn print_round(wall: f64, processor: f64) {
    let rounds = ROUNDS as f64;
    let share = processor / rounds / EVERY * 100.0;
    let (wall, processor) = (wall / rounds, processor / rounds);
    println!("    a round {wall:.3} s, {processor:.3} s of one core ({share:.1} % of it, every {EVERY} s)");
}

/// Measures heartbeats of other programs.
fn foreign() {
    let (server, folder) = (Server::start(), tempfile::tempdir().expect("a temp folder"));
    publish(&open(Some(&server.url), folder.path(), "publisher"));
    let mut gateway = Talker::start(again("gateway", Some(&server.url), folder.path(), "gateway"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut used = || -> f64 { gateway.ask().parse().expect("seconds") };
    runtime.block_on(async {
        let client = async_nats::connect(&server.url).await.expect("the server answers");
        let leases = claim_all(&client).await;
        let (before, started) = (used(), Instant::now());
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            for (number, lease) in leases.iter().enumerate() {
                let started = Instant::now();
                let subject = format!("swarm.bench.heartbeat.w{number}");
                let answer = client.request(subject, lease.clone().into()).await.expect("the gateway answers");
                times.push(started.elapsed().as_secs_f64() * 1e3);
                check(&answer.payload);
            }
        }
        print_bar("heartbeats at a gateway, one by one", &times, BAR);
        print_round(started.elapsed().as_secs_f64(), used() - before);
        let (before, started) = (used(), Instant::now());
        for _ in 0..ROUNDS {
            all_at_once(&client, &leases).await;
        }
        println!("  heartbeats at a gateway, {WORKERS} at once");
        print_round(started.elapsed().as_secs_f64(), used() - before);
    });
}

/// Claims a ticket for each worker; what each says from then on.
async fn claim_all(client: &Client) -> Vec<String> {
    let mut leases = Vec::new();
    for number in 0..WORKERS {
        let ask = json!({"worker": format!("w{number}"), "lease": "10m"}).to_string();
        let answer = client.request("swarm.bench.tasks.claimed", ask.into()).await.expect("the gateway answers");
        let grant = check(&answer.payload);
        leases.push(json!({"task_id": grant["task"]["task_id"], "fence": grant["fence"], "lease": "10m"}).to_string());
    }
    leases
}

/// Sends a heartbeat of each worker and waits until all are handled.
async fn all_at_once(client: &Client, leases: &[String]) {
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.expect("the server answers");
    for (number, lease) in leases.iter().enumerate() {
        let subject = format!("swarm.bench.heartbeat.w{number}");
        client.publish_with_reply(subject, inbox.clone(), lease.clone().into()).await.expect("the server answers");
    }
    for _ in leases {
        check(&answers.next().await.expect("the gateway answers").payload);
    }
}

/// The answer of a gateway that granted what it was asked for.
fn check(answer: &[u8]) -> Value {
    let answer: Value = serde_json::from_slice(answer).expect("answers are JSON");
    assert!(!answer["lease_until"].is_null(), "{answer}");
    answer
}

/// Answers other programs, and says for each line of its input what it used so far, until that ends.
pub(crate) fn serve(url: Option<&str>, folder: &Path, name: &str) {
    let queue = open(url, folder, name);
    let _gateway = queue.gateway();
    println!("ready");
    for _ in std::io::stdin().lock().lines() {
        println!("{}", processor_seconds());
    }
}
