//! Runs under faults: a backlog of tickets with scripted agents is worked off and landed by real coordinators while who
//! leads, supervisors, agents and the tmux server are killed, alone or all at once, everything is suspended, the clock
//! jumps, pids are reused, the disk is full, and the power is cut. Meanwhile `swarm status` may say nothing untrue, work has
//! to go on, and no attempt may run twice at once. At the end every ticket has come once to the end that it comes to
//! without faults, nothing that an agent wrote is missing, and nothing is left lying around.
//!
//! A play is a backlog and up to [`FAULTS`] faults; every play has a seed. Which faults fall follows from it; whom they
//! find and at which instant is up to the machine. The normal run plays a slice; `tests/all --long` plays until 1,000
//! faults have fallen. A failure says how to repeat its play.

mod backlog;
mod checks;
mod coordinators;
mod fault;
mod place;
mod watch;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use super::figures::Recoveries;
use super::number;
use super::scenery::Dice;
use backlog::{Ends, work_log};
use coordinators::Coordinators;
use fault::{Fault, Struck, strike};
use place::{Place, Stage};

/// Faults of a play at most.
const FAULTS: u64 = 20;
/// Faults of the slice, and how long it goes on beginning new plays.
const SLICE: (u64, Duration) = (u64::MAX, Duration::from_secs(50));
/// Seed of the first play.
const FIRST_SEED: u64 = 1;
/// How long it may take until work goes on.
const GOES_ON_WITHIN: Duration = Duration::from_secs(60);
/// How long a backlog may take to come to its end when nothing disturbs it any more.
const ENDS_WITHIN: Duration = Duration::from_secs(240);

/// What happened, for the summary.
#[derive(Debug, Default)]
struct Figures {
    plays: u64,
    recoveries: Recoveries,
    /// By exit code, runs that came to their end.
    runs: BTreeMap<i32, usize>,
    landed: usize,
}

#[test]
fn a_backlog_comes_to_its_end_whatever_dies_whenever() {
    let name = concat!(module_path!(), "::a_backlog_comes_to_its_end_whatever_dies_whenever");
    let has_machine = match place::enter_namespace(name.split_once("::").unwrap().1, |line| println!("{line}")) {
        Stage::Played => return,
        Stage::Namespace => true,
        Stage::Open(why) => {
            println!(
                "no namespace can be made here ({why}), so that these faults do not fall: {:?}",
                Fault::of_machine()
            );
            println!("to test them too, run the tests as root, or allow user namespaces");
            false
        }
    };
    let (most, time) = match number("SWARM_CHAOS_FAULTS") {
        Some(faults) => (faults, Duration::MAX),
        None => SLICE,
    };
    let first = number("SWARM_CHAOS_SEED").unwrap_or(FIRST_SEED);
    let (started, mut figures) = (Instant::now(), Figures::default());
    for seed in first.. {
        let mut story = Vec::new();
        let played = catch_unwind(AssertUnwindSafe(|| {
            play(seed, has_machine, most - figures.recoveries.faults, &mut figures, &mut story)
        }));
        if let Err(failure) = played {
            eprintln!("the play with seed {seed} failed after {}\n{}", story.join("\n"), figures.recoveries.table());
            eprintln!(
                "repeat it: SWARM_CHAOS_SEED={seed} SWARM_CHAOS_FAULTS={FAULTS} cargo nextest run -E 'test(chaos::runs)'"
            );
            resume_unwind(failure);
        }
        figures.plays += 1;
        println!("seed {seed}: {} faults after {:.0?}", figures.recoveries.faults, started.elapsed());
        if figures.recoveries.faults >= most || started.elapsed() > time {
            break;
        }
    }
    println!("{}", figures.recoveries.table());
    let Figures { plays, recoveries: Recoveries { faults, .. }, runs, landed } = figures;
    println!(
        "{faults} faults in {plays} plays from seed {first} on in {:.0?}; {landed} landed; runs by exit code: {runs:?}",
        started.elapsed()
    );
}

/// One play: a backlog, faults, and its end.
fn play(seed: u64, has_machine: bool, most: u64, figures: &mut Figures, story: &mut Vec<String>) {
    let mut dice = Dice::new(seed);
    let mut place = Place::new(has_machine);
    let ends = backlog::write(&place, &mut dice);
    let start = place.swarm.git(["rev-parse", "main"]).success().trim().to_owned();
    let mut team = Coordinators::new(&mut dice);
    let result = catch_unwind(AssertUnwindSafe(|| {
        let bystanders = befall(&mut place, &mut team, &ends, &mut dice, most, figures, story);
        story.push("left alone".to_owned());
        come_to_the_end(&place, &mut team, &ends);
        place.set_clock(0);
        checks::check_end(&place, &ends, &start);
        assert!(bystanders.iter().all(|one| one.is_well()), "a process was touched that is none of ours");
    }));
    if let Err(failure) = result {
        story.push(describe(&place, &team));
        story.extend(keep(&place, seed));
        resume_unwind(failure);
    }
    figures.landed += ends.values().filter(|end| **end == "landed").count();
    for (code, count) in std::mem::take(&mut team.ends) {
        *figures.runs.entry(code).or_default() += count;
    }
}

/// The faults of a play; who took over pids.
fn befall(
    place: &mut Place,
    team: &mut Coordinators,
    ends: &Ends,
    dice: &mut Dice,
    most: u64,
    figures: &mut Figures,
    story: &mut Vec<String>,
) -> Vec<place::Bystander> {
    let (mut bystanders, began) = (Vec::new(), Instant::now());
    team.ensure(place).unwrap_or_else(|said| panic!("no coordinator: {said}"));
    for _ in 0..FAULTS.min(most) {
        if !await_workers(place, ends) {
            break;
        }
        std::thread::sleep(Duration::from_millis(dice.below(700)));
        let fault = Fault::pick(dice, place.has_machine);
        let is_followed = dice.below(5) == 0;
        let before = work_log(place).len();
        story.push(format!("{:>7.2?} {}", began.elapsed(), fault.name()));
        let Some(Struck { awaited, bystanders: new }) = strike(place, team, fault, dice) else {
            story.push("        which hit nothing".to_owned());
            continue;
        };
        bystanders.extend(new);
        let struck = Instant::now();
        let started = team.ensure(place);
        let mut took = None;
        if !is_followed {
            started.unwrap_or_else(|said| panic!("no coordinator after {}: {said}", fault.name()));
            let delay = struck.elapsed();
            let waited = watch::await_work(place, &awaited, before, GOES_ON_WITHIN);
            took = waited.unwrap_or_else(|why| panic!("after {} ({awaited:?}): {why}", fault.name()));
            took = took.map(|took| took + delay);
            watch::assert_true(place).unwrap_or_else(|why| panic!("after {}: {why}", fault.name()));
        }
        story.push(format!("        {awaited:?}: {took:.2?}"));
        figures.recoveries.note(fault.name(), took);
        checks::check_work_so_far(place);
        assert!(bystanders.iter().all(|one| one.is_well()), "a process was touched that is none of ours");
    }
    bystanders
}

/// Waits until somebody is at work; false where nothing is left to do, or nothing begins soon.
fn await_workers(place: &Place, ends: &Ends) -> bool {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(15) {
        match watch::Look::at(place) {
            Ok(look) if !look.at_work().is_empty() => {
                look.resume_stopped(place);
                return true;
            }
            _ if checks::is_over(place, ends) == Ok(true) => return false,
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
    false
}

/// Waits until every ticket is where it ends, with coordinators that nobody disturbs.
fn come_to_the_end(place: &Place, team: &mut Coordinators, ends: &Ends) {
    let began = Instant::now();
    loop {
        let is_over = checks::is_over(place, ends).unwrap_or_else(|said| panic!("no list of tickets: {said}"));
        if is_over {
            break;
        }
        if let Ok(look) = watch::Look::at(place) {
            look.resume_stopped(place);
        }
        team.ensure(place).unwrap_or_else(|said| panic!("no coordinator: {said}"));
        assert!(began.elapsed() < ENDS_WITHIN, "not everything ends: {:?}", checks::states(place));
        watch::assert_true(place).unwrap_or_else(|why| panic!("{why}"));
        checks::check_work_so_far(place);
        std::thread::sleep(Duration::from_millis(300));
    }
    team.end(place);
}

/// What to look at when something is wrong.
fn describe(place: &Place, team: &Coordinators) -> String {
    let run = |args: &[&str]| place.swarm.run(args).transcript();
    let lately: Vec<_> =
        work_log(place).into_iter().rev().take(60).map(|(id, words)| format!("{id} {words}")).collect();
    let lately = lately.into_iter().rev().collect::<Vec<_>>().join("\n");
    let mut processes: Vec<_> = place.swarm.processes().into_iter().map(|(pid, it)| format!("{pid} {it}")).collect();
    processes.sort();
    let (status, queue) = (run(&["status", "--all"]), run(&["queue", "list", "--all"]));
    format!("{status}\n{queue}\n{}\n{}\nwork:\n{lately}\n{}", processes.join("\n"), team.said(place), run(&["doctor"]))
}

/// Keeps everything of a play that failed where SWARM_CHAOS_KEEP says; what is to be said of it.
fn keep(place: &Place, seed: u64) -> Option<String> {
    let folder = std::env::var_os("SWARM_CHAOS_KEEP")?;
    let to = std::path::Path::new(&folder).join(format!("seed{seed}"));
    let mut command = place.swarm.command("cp", place.swarm.root());
    command.args(["-a", "."]).arg(&to).status().unwrap();
    Some(format!("kept in {}", to.display()))
}
