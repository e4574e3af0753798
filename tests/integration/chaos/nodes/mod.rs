//! Several nodes under faults: a backlog is worked off and landed by three clones with coordinators of their own, while
//! their coordinators, supervisors, agents, whole nodes and the broker are killed, nodes are cut off or suspended, and one
//! may never come back. Work has to go on soon after every fault. At the end every ticket has landed exactly once, on every
//! clone, with all of its work, all targets are at one commit, and nothing is left lying around.
//!
//! Each node has folders, a runtime folder and a tmux server of its own, as machines have. Between it and each server is a
//! [`line`] of the test's own, a port through which every byte passes. That does for partitions all that network namespaces
//! would, and more (silence in one direction, bytes that arrive late), without any privilege, so that the same faults fall
//! for everybody who runs the tests. What it cannot show is a machine whose clock differs.
//!
//! A play is a backlog and up to [`FAULTS`] faults; every play has a seed. Where that is odd there is one server, else a
//! cluster of three that keeps everything three times. The normal run plays a slice; `tests/all --long` plays until 500
//! faults have fallen, alone on the machine, and only then the time within which work goes on has a bar. A failure says how
//! to repeat its play.
//!
//! How long it takes is told from the fault on where work was hit: until the last ticket in the hands of a node that was
//! killed or suspended is worked on again, or lands, or waits for nothing but a place on nodes that are busy. Where a coordinator, a server or a line was away, it is told from its
//! return on, until the coordinators that it concerns are heard again: meanwhile agents work on.

mod backlog;
mod broker;
mod checks;
mod fault;
mod field;
mod line;
mod watch;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use super::figures::Recoveries;
use super::number;
use super::scenery::Dice;
use crate::support::swarm::TestSwarm;
use backlog::{Plans, marks};
use fault::{Fault, Struck, strike};
use field::Field;

/// Faults of a play at most.
const FAULTS: u64 = 14;
/// Faults of the slice, and how long it goes on beginning new plays.
const SLICE: (u64, Duration) = (10, Duration::from_secs(60));
/// Seed of the first play.
const FIRST_SEED: u64 = 1;
/// How long it may take until work goes on, on a machine that is busy with other things.
const GOES_ON_WITHIN: Duration = Duration::from_secs(60);
/// The same of 99 among 100 faults, on one that is not.
const MOSTLY_WITHIN: Duration = Duration::from_secs(15);
/// After how long it is told where those are that have not gone on.
const LONG: Duration = Duration::from_secs(12);
/// How long a backlog may take to come to its end when nothing disturbs it any more.
const ENDS_WITHIN: Duration = Duration::from_secs(240);
/// How long the faults of one play go on.
const BEFALLS_FOR: Duration = Duration::from_secs(240);

/// What happened, for the summary.
#[derive(Debug, Default)]
struct Figures {
    plays: u64,
    recoveries: Recoveries,
    landed: usize,
    /// How often agents began.
    begun: usize,
    /// The stories of faults after which it took long until work went on.
    slow: Vec<String>,
}

#[test]
fn a_backlog_of_several_nodes_lands_exactly_once_whatever_dies_whenever() {
    let (most, time) = match number("SWARM_CHAOS_NODE_FAULTS") {
        Some(faults) => (faults, Duration::MAX),
        None => SLICE,
    };
    let first = number("SWARM_CHAOS_SEED").unwrap_or(FIRST_SEED);
    let (started, mut figures) = (Instant::now(), Figures::default());
    for seed in first.. {
        let mut story = Vec::new();
        let left = most - figures.recoveries.faults;
        let played = catch_unwind(AssertUnwindSafe(|| play(seed, left, &mut figures, &mut story)));
        if let Err(failure) = played {
            eprintln!("the play with seed {seed} failed after {}\n{}", story.join("\n"), figures.recoveries.table());
            eprintln!(
                "repeat it: SWARM_CHAOS_SEED={seed} SWARM_CHAOS_NODE_FAULTS={FAULTS} cargo nextest run \
                 --features real-agents -E 'test(chaos::nodes)'"
            );
            resume_unwind(failure);
        }
        figures.plays += 1;
        figures.slow.drain(..).for_each(|story| println!("{story}"));
        println!("seed {seed}: {} faults after {:.0?}", figures.recoveries.faults, started.elapsed());
        if figures.recoveries.faults >= most || started.elapsed() > time {
            break;
        }
    }
    println!("{}", figures.recoveries.table());
    let Figures { plays, recoveries, landed, begun, .. } = figures;
    println!(
        "{} faults in {plays} plays from seed {first} on in {:.0?}; {landed} landed, agents began {begun} times",
        recoveries.faults,
        started.elapsed()
    );
    // Of fewer than a hundred, the slowest alone would decide.
    if recoveries.measured() >= 100 {
        let mostly = recoveries.percentile(99).unwrap_or_default();
        assert!(mostly < MOSTLY_WITHIN, "work goes on within {mostly:?} after 99 of 100 faults");
    }
}

/// One play: a backlog, faults, and its end.
fn play(seed: u64, most: u64, figures: &mut Figures, story: &mut Vec<String>) {
    let mut dice = Dice::new(seed);
    let ground = TestSwarm::new();
    let is_cluster = seed.is_multiple_of(2);
    let settings = if is_cluster { "queue: {replicas: 3}\n" } else { "" };
    let plans = backlog::write(&ground, &mut dice, settings);
    let start = ground.git(["rev-parse", "main"]).success().trim().to_owned();
    let mut field = Field::new(ground, is_cluster);
    let result = catch_unwind(AssertUnwindSafe(|| {
        field.nodes[0].swarm.run(["queue", "add", "--all"]).success();
        befall(&mut field, &mut dice, most, figures, story);
        story.push("left alone".to_owned());
        come_to_the_end(&mut field, &plans);
        checks::check_end(&field, &plans, &start);
    }));
    if let Err(failure) = result {
        story.push(describe(&field));
        story.extend(keep(&field, seed));
        resume_unwind(failure);
    }
    figures.landed += plans.len();
    figures.begun += marks(&field.ground).iter().filter(|mark| mark.words.starts_with("begin")).count();
    for node in &field.nodes {
        node.swarm.run(["down"]).success();
        node.swarm.wait_until("every process to be gone", || node.processes().is_empty());
    }
}

/// The faults of a play.
fn befall(field: &mut Field, dice: &mut Dice, most: u64, figures: &mut Figures, story: &mut Vec<String>) {
    let (began, mut count) = (Instant::now(), 0);
    while count < FAULTS.min(most) && began.elapsed() < BEFALLS_FOR && await_workers(field) {
        pass(field, Duration::from_millis(300 + dice.below(2500)));
        let fault = Fault::pick(dice);
        let is_followed = dice.below(5) == 0;
        let Some(states) = field.well().and_then(watch::states) else { continue };
        let at = began.elapsed();
        let Some(Struck { told, awaited }) = strike(field, fault, dice) else { continue };
        let before = marks(&field.ground).len();
        story.push(format!("{at:>7.2?} {} {told}", fault.name()));
        let mut took = None;
        if !is_followed {
            let (within, mut late) = ((LONG, GOES_ON_WITHIN), None);
            let waited = watch::await_work(field, &awaited, (before, &states), within, &mut late);
            took = waited.unwrap_or_else(|why| panic!("after {} ({awaited:?}): {why}", fault.name()));
            story.extend(late);
        }
        story.push(format!("        {took:.2?}"));
        if let Some(took) = took.filter(|took| *took > MOSTLY_WITHIN) {
            figures.slow.push(format!("work went on {took:.1?} after the last of these:\n{}", story.join("\n")));
        }
        figures.recoveries.note(fault.name(), took);
        checks::check_so_far(field);
        count += 1;
    }
}

/// Lets time go by, and puts right what is due.
fn pass(field: &mut Field, time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        field.tend();
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until an agent does something; false where nothing is left to do, or nothing begins soon.
fn await_workers(field: &mut Field) -> bool {
    let (began, before) = (Instant::now(), marks(&field.ground).len());
    while began.elapsed() < Duration::from_secs(30) {
        field.tend();
        if marks(&field.ground).len() > before && field.well().is_some() {
            return true;
        }
        let states = field.well().and_then(watch::states).unwrap_or_default();
        if !states.is_empty() && states.values().all(|(state, ..)| state == "landed") {
            return false;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    false
}

/// Waits until every ticket has landed, by nodes that nobody disturbs, and then until those that were to stay away are back
/// and level with them. What such a node finished and did not come to hand over is a person's to decide about, and waits
/// for it.
fn come_to_the_end(field: &mut Field, plans: &Plans) {
    field.mend_all();
    let has_landed = |field: &Field, or_waits: &str| {
        let states = field.well().and_then(watch::states).unwrap_or_default();
        let is_there = |(state, _, why): &(String, String, String)| {
            state == "landed" || !or_waits.is_empty() && why.contains(or_waits)
        };
        plans.keys().all(|ticket| states.get(ticket).is_some_and(is_there))
    };
    await_in(field, "not everything lands", |field| has_landed(field, "gone and had not handed it over"));
    field.bring_back_all();
    await_in(field, "not everything lands when all are back", |field| has_landed(field, ""));
    await_in(field, "the targets are not level", checks::are_level);
    await_in(field, "worktrees or branches are left", |field| field.nodes.iter().all(checks::is_tidy));
}

/// Waits for something that has to come.
fn await_in(field: &mut Field, what: &str, holds: impl Fn(&Field) -> bool) {
    let began = Instant::now();
    while !holds(field) {
        assert!(began.elapsed() < ENDS_WITHIN, "{what}");
        checks::check_so_far(field);
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// What to look at when something is wrong.
fn describe(field: &Field) -> String {
    let mut text = String::new();
    let lately: Vec<_> = marks(&field.ground).into_iter().rev().take(60).collect();
    for mark in lately.into_iter().rev() {
        text.push_str(&format!("{:.2} {} {} {} {}\n", mark.at, mark.node, mark.ticket, mark.attempt, mark.words));
    }
    for node in &field.nodes {
        text.push_str(&format!("---- node {}: {:?}\n", node.name, node.trouble));
        if !node.is_well() {
            continue;
        }
        for args in [&["status", "--all"][..], &["queue", "list", "--all"], &["node", "list"]] {
            text.push_str(&node.swarm.run(args).transcript());
        }
        let log = std::fs::read_to_string(node.swarm.repository().join(".git/swarm/coordinator.log"));
        let log = log.unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(60).collect();
        lines.into_iter().rev().for_each(|line| text.push_str(&format!("{line}\n")));
    }
    text
}

/// Keeps everything of a play that failed where SWARM_CHAOS_KEEP says; what is to be said of it.
fn keep(field: &Field, seed: u64) -> Option<String> {
    let folder = std::env::var_os("SWARM_CHAOS_KEEP")?;
    let to = std::path::Path::new(&folder).join(format!("nodes-seed{seed}"));
    std::fs::create_dir_all(&to).unwrap();
    let all = field.nodes.iter().map(|node| (node.name, &node.swarm)).chain([("ground", &field.ground)]);
    for (name, swarm) in all {
        let mut command = swarm.command("cp", swarm.root());
        command.args(["-a", "."]).arg(to.join(name)).status().unwrap();
    }
    Some(format!("kept in {}", to.display()))
}
