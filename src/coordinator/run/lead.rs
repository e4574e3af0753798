//! Standing in the role: who leads and who stands by, what changes with it, and what one who stands by believes.

use std::collections::BTreeMap;

use super::lease::Leading;
use super::schedule::HOLD_SETTLES;
use super::world::World;
use super::{Engine, News};
use crate::coordinator::failure::{Failure, FailureKind};
use crate::model::TicketId;
use crate::model::coordination::{Hold, RunRecord};
use crate::model::event::{SwarmEvent, SwarmRecord};
use crate::queue::Leader;

impl Engine<'_> {
    /// Refuses to wait for landings of a coordinator that goes on without an end and lands nothing.
    pub(super) fn check_leader(&self) -> Result<(), Failure> {
        match self.leader_run()?.and_then(|run| self.never_lands(&run)) {
            Some(holder) => {
                let text = format!("{holder} coordinates in the background and lands nothing");
                Err(Failure::new(FailureKind::NeedsPerson, text)
                    .hint("swarm down, then swarm up --merge; or leave --merge out, and swarm merge afterwards"))
            }
            None => Ok(()),
        }
    }

    /// The run of whoever leads.
    fn leader_run(&self) -> Result<Option<RunRecord>, Failure> {
        let project = self.control.project();
        let Some(leader) = project.queue()?.leader(self.lease.role())? else { return Ok(None) };
        Ok(project.store()?.run_of(&leader.holder)?)
    }

    /// Who leads in a run, where it lands nothing and has no end, and this one would land and come to an end.
    fn never_lands(&self, run: &RunRecord) -> Option<String> {
        let waits = self.request.lands && !self.request.is_endless;
        (waits && !run.lands && run.tickets.is_none()).then(|| run.holder.clone())
    }

    /// Adds to a look what whoever stands by knows of the leader. Of one that seems to be gone nothing counts any more.
    pub(super) fn add_leader(&self, world: &mut World) -> Result<(), Failure> {
        // Whether that can be done only the leader knows, and no run waits for it.
        world.unfinished.clear();
        if self.lease.misses_leader() {
            return Ok(());
        }
        world.is_led = true;
        world.told = self.told_by_leader()?;
        if let Some(run) = self.leader_run()? {
            world.never_lands = self.never_lands(&run);
            // One that lands goes on with what was left by a dead one.
            world.nobody_lands &= !run.lands;
        }
        Ok(())
    }

    /// Hears where it stands in the role, and says what changed about it. That it cannot be written down changes nothing
    /// about who leads.
    pub(super) fn hear_lead(&mut self, leading: Leading) -> Result<(), Failure> {
        self.leads = leading.leads();
        let noted = match leading.fact(self.lease.role()) {
            Some(event) => self.note(SwarmRecord::now(&self.record.id, event)),
            None => Ok(()),
        };
        match leading {
            Leading::Began(_) => {
                self.held = None;
                if let Some(other) = self.other.take() {
                    self.face.tell(&News::Said(&format!("took over from {other}")));
                }
                for (worker, count) in self.control.reap_orphans()? {
                    self.face.tell(&News::Said(&format!("ended {count} that `{worker}` had left running")));
                }
            }
            Leading::StandsBy(leader) if self.other.as_ref() != Some(&leader.holder) => {
                self.face.tell(&News::Said(&format!("{} leads; this one stands by", leader.holder)));
                self.other = Some(leader.holder);
            }
            Leading::Leads | Leading::Lost(_) | Leading::StandsBy(_) => {}
        }
        noted
    }

    /// What the leader says holds tickets for somebody. What it said before this one began may have been mended since: that
    /// counts only where the leader does not try again by itself, and has had the time to see what changed.
    fn told_by_leader(&self) -> Result<BTreeMap<TicketId, Hold>, Failure> {
        let is_seen = self.began_at.elapsed() >= HOLD_SETTLES;
        let counts = |hold: &Hold| !self.old_holds.contains(hold) || hold.until.is_none() && is_seen;
        let holds = self.control.project().store()?.holds()?.into_iter();
        let holds = holds.filter(|hold| !hold.kind.passes() && counts(hold));
        Ok(holds.map(|hold| (hold.ticket.clone(), hold)).collect())
    }

    /// Whether it leads at this moment, for an act that only who leads may do.
    pub(super) fn still_leads(&mut self) -> Result<bool, Failure> {
        if self.leads {
            let leading = self.lease.confirm()?;
            self.hear_lead(leading)?;
        }
        Ok(self.leads)
    }

    /// Gives the lead up.
    pub(super) fn release(&mut self) -> Result<(), Failure> {
        self.give_up_assigning()?;
        if let Some(leader) = self.lease.release()?
            && let Some(event) = Leading::Lost(leader).fact(self.lease.role())
        {
            self.note(SwarmRecord::now(&self.record.id, event))?;
        }
        Ok(())
    }
}

impl Leading {
    /// Whether this process leads from now on.
    fn leads(&self) -> bool {
        matches!(self, Self::Leads | Self::Began(_))
    }

    /// What is to be written down, where the role went from one to another.
    pub(super) fn fact(&self, role: &str) -> Option<SwarmEvent> {
        let parts = |leader: &Leader| (role.to_owned(), leader.holder.clone(), leader.fence);
        match self {
            Self::Began(leader) => {
                let (role, holder, fence) = parts(leader);
                Some(SwarmEvent::LeaseTaken { role, holder, fence })
            }
            Self::Lost(leader) => {
                let (role, holder, fence) = parts(leader);
                Some(SwarmEvent::LeaseLost { role, holder, fence })
            }
            Self::Leads | Self::StandsBy(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Time;
    use crate::model::coordination::COORDINATOR;

    #[test]
    fn only_who_took_the_lease_or_kept_it_leads_and_only_a_change_is_written_down() {
        let now = Time::from_millis(0);
        let leader = || Leader { holder: "me".to_owned(), fence: 3, lease_until: now };
        let heard = |leading: Leading| (leading.leads(), leading.fact(COORDINATOR));
        let (role, holder, fence) = (COORDINATOR.to_owned(), "me".to_owned(), 3);
        let taken = SwarmEvent::LeaseTaken { role: role.clone(), holder: holder.clone(), fence };
        assert_eq!(heard(Leading::Began(leader())), (true, Some(taken)));
        assert_eq!(heard(Leading::Leads), (true, None));
        let lost = SwarmEvent::LeaseLost { role, holder, fence };
        assert_eq!(heard(Leading::Lost(leader())), (false, Some(lost)));
        assert_eq!(heard(Leading::StandsBy(leader())), (false, None));
    }
}
