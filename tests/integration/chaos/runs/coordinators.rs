//! The coordinators of a play: two at any time, so that one stands by. Whoever is gone is followed by another.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};

use super::super::scenery::Dice;
use super::place::Place;
use crate::support::swarm::SWARM;

/// Coordinators in the foreground, and whether one is in the background.
#[derive(Debug)]
pub(super) struct Coordinators {
    runs: Vec<Child>,
    /// How many in the foreground there should be.
    count: usize,
    /// Whether there should be one in the background, and whether that one does without tmux.
    up: Option<bool>,
    /// How many were started in the foreground.
    started: usize,
    /// By exit code, how often one in the foreground came to its end by itself.
    pub(super) ends: std::collections::BTreeMap<i32, usize>,
}

impl Coordinators {
    /// None yet; which ones there will be is up to the dice.
    pub(super) fn new(dice: &mut Dice) -> Self {
        let (count, up) = match dice.below(4) {
            0 => (2, None),
            1 => (1, Some(true)),
            _ => (1, Some(false)),
        };
        Self { runs: Vec::new(), count, up, started: 0, ends: std::collections::BTreeMap::new() }
    }

    /// Starts those that are not there; what went wrong with the one in the background, where something did.
    pub(super) fn ensure(&mut self, place: &Place) -> Result<(), String> {
        self.reap();
        while self.runs.len() < self.count {
            self.started += 1;
            let file = File::create(place.swarm.root().join(format!("run.{}", self.started))).unwrap();
            let mut command = place.swarm.command(SWARM, &place.swarm.repository());
            command.args(["run", "--all", "--merge"]).stdin(Stdio::null()).stdout(file.try_clone().unwrap());
            self.runs.push(command.stderr(file).spawn().unwrap());
        }
        let Some(headless) = self.up else { return Ok(()) };
        let args = ["up", "--merge", "--headless"].into_iter().take(if headless { 3 } else { 2 });
        let said = place.swarm.run(args);
        if said.code == 0 { Ok(()) } else { Err(said.transcript()) }
    }

    /// Takes leave of those in the foreground that have ended.
    pub(super) fn reap(&mut self) {
        let ends = &mut self.ends;
        self.runs.retain_mut(|run| {
            let Some(status) = run.try_wait().unwrap() else { return true };
            match status.code() {
                Some(code) => {
                    assert!([0, 1, 3, 4].contains(&code), "a run ended with {code}");
                    *ends.entry(code).or_default() += 1;
                }
                None => assert!(matches!(status.signal(), Some(9 | 15)), "a run ended with {status}"),
            }
            false
        });
    }

    /// Takes leave of those in the foreground that were killed.
    pub(super) fn take_leave_of(&mut self, killed: &[u32]) {
        for run in self.runs.iter_mut().filter(|run| killed.contains(&run.id())) {
            run.wait().unwrap();
        }
        self.reap();
    }

    /// Takes leave of all in the foreground after everything was killed.
    pub(super) fn await_end(&mut self) {
        for run in &mut self.runs {
            run.wait().unwrap();
        }
        self.reap();
    }

    /// The pids of all, with that of the one in the background.
    pub(super) fn pids(&self, place: &Place) -> Vec<u32> {
        let is_background = |(_, shown): &(u32, String)| shown.contains("swarm") && shown.contains(" lead ");
        let lead = place.swarm.processes().into_iter().filter(is_background);
        self.runs.iter().map(Child::id).chain(lead.map(|(pid, _)| pid)).collect()
    }

    /// Ends the one in the background.
    pub(super) fn end(&mut self, place: &Place) {
        if self.up.take().is_some() {
            place.swarm.run(["down"]).success();
        }
        self.await_end();
    }

    /// What the last ones in the foreground said.
    pub(super) fn said(&self, place: &Place) -> String {
        let said = |number: usize| std::fs::read_to_string(place.swarm.root().join(format!("run.{number}"))).ok();
        let log = place.swarm.repository().join(".git/swarm/coordinator.log");
        let last = (self.started.saturating_sub(2)..=self.started).filter_map(said);
        last.chain(std::fs::read_to_string(log).ok()).collect::<Vec<_>>().join("--- next\n")
    }
}
