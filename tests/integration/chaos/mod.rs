//! Landing under blows: forty branches of mixed overlap land while the real `swarm merge` is killed at random moments,
//! alone, with everything it started, with only its gate, by Ctrl-C, or by a power cut (everything stopped, its files
//! copied, and work goes on from the copy). A person commits on the target meanwhile and has work of their own in
//! the checkout. After every blow the history must be that of some valid order and no branch may be missing; at
//! the end everything has landed exactly once and nothing is left lying around.
//!
//! A round is a blow and what is checked after it; ten rounds and what then still has to land are a play, and every play
//! begins with forty branches. The normal run plays a slice; `tests/all --long` plays 200 rounds. Every play has a seed;
//! which blows fall and in which order branches land follows from it, the very instant is up to the machine. A failure
//! says how to repeat its play.

mod blow;
mod checks;
/// With the agents: what takes long is not part of a plain `cargo test`.
#[cfg(feature = "real-agents")]
mod figures;
#[cfg(feature = "real-agents")]
mod nodes;
#[cfg(feature = "real-agents")]
mod runs;
mod scenery;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use blow::{Blow, strike};
use checks::Ledger;
use scenery::{Dice, Scenery};

use crate::support::swarm::SWARM;

/// Rounds of a play.
const ROUNDS: u64 = 10;
/// Plays with the same forty branches; then others are made.
const PLAYS_OF_A_SCENERY: u64 = 5;
/// Rounds of the slice at most, and how long it goes on beginning new plays.
const SLICE: (u64, Duration) = (2 * ROUNDS, Duration::from_secs(30));
/// Seed of the first play.
const FIRST_SEED: u64 = 1;
/// Runs after the last round in which everything must have landed: work goes back to its agent at most three times.
const LAST_RUNS: u32 = 12;

/// What happened, for the summary.
#[derive(Debug, Default)]
struct Figures {
    plays: u64,
    rounds: u64,
    blows: BTreeMap<&'static str, u64>,
    missed: u64,
    locks: usize,
    landed: usize,
    gates: usize,
    returned: usize,
    resumed: usize,
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var_os(name)?;
    Some(text.to_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{name} is not a number")))
}

#[test]
fn forty_branches_land_exactly_once_whatever_is_killed_whenever() {
    let (most, time) = match number("SWARM_CHAOS_ROUNDS") {
        Some(rounds) => (rounds, Duration::MAX),
        None => SLICE,
    };
    let first = number("SWARM_CHAOS_SEED").unwrap_or(FIRST_SEED);
    let (started, mut figures) = (Instant::now(), Figures::default());
    let mut scenery: Option<Scenery> = None;
    for seed in first..first + most.div_ceil(ROUNDS) {
        let needed = seed / PLAYS_OF_A_SCENERY;
        let scenery = match scenery.take().filter(|scenery| scenery.seed == needed) {
            Some(same) => scenery.insert(same),
            None => scenery.insert(Scenery::build(needed)),
        };
        let played = catch_unwind(AssertUnwindSafe(|| play(scenery, seed, &mut figures)));
        if let Err(failure) = played {
            eprintln!("the play with seed {seed} failed after {figures:?}");
            eprintln!(
                "repeat it: SWARM_CHAOS_SEED={seed} SWARM_CHAOS_ROUNDS={ROUNDS} cargo nextest run -E 'test(chaos)'"
            );
            resume_unwind(failure);
        }
        figures.plays += 1;
        println!("seed {seed}: {} rounds after {:.0?}", figures.rounds, started.elapsed());
        if started.elapsed() > time {
            break;
        }
    }
    println!("{figures:#?} in {:.0?} from seed {first} on", started.elapsed());
}

/// One play: rounds, then runs until everything has landed, with checks after each.
fn play(scenery: &Scenery, seed: u64, figures: &mut Figures) {
    scenery.restore();
    let mut dice = Dice::new(seed);
    let mut ledger = Ledger::open(scenery);
    for _ in 0..ROUNDS {
        let blow = Blow::pick(&mut dice);
        let merge = start_merge(scenery, &mut dice);
        let moment = dice.below(scenery.usual.as_micros().try_into().unwrap()) / 4;
        let moment = Duration::from_micros(moment);
        if dice.below(4) == 0 {
            std::thread::sleep(moment / 2);
            scenery.person_commits();
            std::thread::sleep(moment / 2);
        } else {
            std::thread::sleep(moment);
        }
        match strike(scenery, merge, blow) {
            true => *figures.blows.entry(blow.name()).or_default() += 1,
            false => figures.missed += 1,
        }
        ledger.check_so_far(scenery);
        figures.rounds += 1;
        // Not always: what a killed run left behind may still be running when the next one begins.
        if dice.below(3) == 0 {
            look_after(scenery, &mut ledger, figures);
        }
    }
    for run in 0.. {
        look_after(scenery, &mut ledger, figures);
        let (code, said) = scenery.merge_to_end();
        assert!([0, 1, 3, 4].contains(&code), "{said}");
        ledger.check_so_far(scenery);
        figures.locks += usize::from(scenery.person_removes_lock(&said));
        // One that says it could not finish something is followed by another, as a person would do.
        if code == 0 && ledger.has_all(scenery) {
            break;
        }
        assert!(run < LAST_RUNS, "not everything lands\n{code}: {said}\n{}", scenery.describe());
    }
    ledger.check_end(scenery);
    figures.landed += scenery.tickets.len();
    figures.gates += ledger.gate_runs(scenery);
}

/// Starts a landing of all that is approved, or of some of it.
fn start_merge(scenery: &Scenery, dice: &mut Dice) -> Child {
    let mut command = scenery.swarm.command(SWARM, &scenery.swarm.repository());
    command.args(["merge", "--json"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if dice.below(4) == 0 {
        let mut some: Vec<_> = scenery.tickets.iter().filter(|_| dice.below(2) == 0).collect();
        dice.shuffle(&mut some);
        command.args(some);
    }
    command.spawn().unwrap()
}

/// Does what a person or a coordinator does: waits for agents that have work back, continues lost ones, resolves what
/// still conflicts, approves what is in review.
fn look_after(scenery: &Scenery, ledger: &mut Ledger, figures: &mut Figures) {
    let mut status = Value::Null;
    scenery.swarm.wait_until("the agents to end", || {
        status = scenery.swarm.json(["status", "--all"]);
        let workers = status["workers"].as_array().unwrap();
        let is_open = |worker: &Value| matches!(worker["ticket_state"].as_str(), Some("running" | "queued" | "lost"));
        let is_lost = |worker: &&Value| worker["status"] == "lost" && is_open(worker);
        for lost in workers.iter().filter(is_lost) {
            // It may have ended between the two looks; then there is nothing to resume.
            let resumed = scenery.swarm.run(["resume", lost["id"].as_str().unwrap()]);
            figures.resumed += usize::from(resumed.code == 0);
        }
        !workers.iter().any(is_open)
    });
    for worker in status["workers"].as_array().unwrap().iter().filter(|worker| worker["ticket_state"] == "review") {
        let id = worker["id"].as_str().unwrap();
        scenery.person_resolves(id);
        ledger.note_approval(scenery, id);
        scenery.swarm.run(["review", id, "--approve"]).success();
        figures.returned += 1;
    }
}
