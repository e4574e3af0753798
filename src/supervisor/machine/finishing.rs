//! The end of an attempt: leftovers and checks, evidence that goes back, and the outcome.

use super::{Effect, FinishReport, Machine, Mode, Parcel, Stage};
use crate::model::Time;
use crate::model::event::Event;
use crate::model::worker::{Outcome, Status};

/// How often an agent gets evidence of a failing check or commit hook back before the attempt fails.
pub(in crate::supervisor) const RETURNS: u32 = 2;

/// The longest wait before finishing is tried again, as a power of two of ticks, which are seconds.
const LONGEST_WAIT: u32 = 6;

impl Machine {
    pub(super) fn begin_finish(&mut self, now: Time) -> Vec<Effect> {
        self.stage = Stage::Finishing;
        self.finish_again_in = None;
        self.say(Status::Working, "finishing: leftovers and checks", now);
        // One at a time: a stale one that still runs is followed by another when it is through.
        if std::mem::replace(&mut self.finish_runs, true) { Vec::new() } else { vec![Effect::BeginFinish] }
    }

    pub(super) fn finish(&mut self, report: FinishReport, now: Time) -> Vec<Effect> {
        self.finish_runs = false;
        let is_stale = std::mem::take(&mut self.finish_is_stale);
        if self.stage != Stage::Finishing {
            return Vec::new();
        }
        if is_stale {
            return self.begin_finish(now);
        }
        self.hindrances = if matches!(report, FinishReport::Hindered(_)) { self.hindrances + 1 } else { 0 };
        let failed = |reason: String| Outcome::Failed { reason, exit_code: None };
        match report {
            FinishReport::Work(commit) => self.finished(Outcome::Finished { commit }, now),
            FinishReport::NoChanges => self.finished(Outcome::NoChanges, now),
            FinishReport::NothingNew => {
                self.stop(failed("the returned work came back without a new commit".to_owned()), now)
            }
            FinishReport::HookRefused(prompt) => self.give_back(prompt, "a commit hook refused its changes", now),
            FinishReport::ChecksFailed(prompt) => self.give_back(prompt, "its checks fail", now),
            FinishReport::NeedsPerson(why) => {
                self.stage = Stage::Blocked;
                self.say(Status::Waiting, why, now);
                Vec::new()
            }
            FinishReport::Hindered(why) => {
                self.stage = Stage::Blocked;
                self.finish_again_in = Some(1 << self.hindrances.min(LONGEST_WAIT));
                self.say(Status::Waiting, format!("{why}; it is tried again"), now);
                Vec::new()
            }
        }
    }

    /// Whether what finishing finds will be thrown away, because the agent went on.
    pub(in crate::supervisor) fn finishes_in_vain(&self) -> bool {
        self.finish_is_stale
    }

    /// Counts a tick where finishing could not be done; whether it is tried again now.
    pub(super) fn is_time_to_finish(&mut self) -> bool {
        if self.stage != Stage::Blocked || self.hold {
            return false;
        }
        let Some(ticks) = &mut self.finish_again_in else { return false };
        *ticks = ticks.saturating_sub(1);
        *ticks == 0
    }

    /// Returns evidence to the agent, or fails the attempt when that was done often enough or cannot help.
    pub(super) fn give_back(&mut self, prompt: String, why: &str, now: Time) -> Vec<Effect> {
        if self.returns >= RETURNS || self.mode == Mode::OneShot {
            return self.stop(Outcome::Failed { reason: why.to_owned(), exit_code: None }, now);
        }
        self.returns += 1;
        self.hand_back(prompt, now)
    }

    /// Gives a prompt to the agent that ended its turn.
    pub(super) fn hand_back(&mut self, prompt: impl Into<Parcel>, now: Time) -> Vec<Effect> {
        let prompt = prompt.into();
        self.stage = Stage::Running;
        if self.agent_runs && self.mode == Mode::Conversation {
            return self.submit(prompt, now);
        }
        self.in_turn = true;
        self.say(Status::Starting, "starting the agent with a new prompt", now);
        vec![Effect::Log(Event::MessageSent { bytes: prompt.text().len() }), Effect::Relaunch(prompt)]
    }

    /// The attempt is complete.
    pub(super) fn finished(&mut self, outcome: Outcome, now: Time) -> Vec<Effect> {
        let (status, reason) = outcome.verdict();
        self.say(status, reason, now);
        if self.agent_runs {
            self.stage = Stage::Finished(outcome.clone());
            let mut effects = vec![Effect::Conclude(outcome)];
            if let Some(parcel) = self.messages.take_waiting_for_more() {
                effects.extend(self.submit(parcel, now));
            }
            return effects;
        }
        // Who sent it was told that it arrives when leftovers and checks are done.
        match self.messages.take_waiting_for_more() {
            Some(parcel) => self.hand_back(parcel, now),
            None => self.end(outcome, now),
        }
    }
}
