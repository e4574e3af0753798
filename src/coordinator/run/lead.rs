//! Standing in the role: who leads and who stands by, what changes with it, and what one who stands by believes.

use std::collections::BTreeMap;

use super::lease::Leading;
use super::{Engine, News};
use crate::coordinator::failure::{Failure, FailureKind};
use crate::model::TicketId;
use crate::model::coordination::{COORDINATOR, Hold};
use crate::model::event::{SwarmEvent, SwarmRecord};
use crate::queue::Leader;

impl Engine<'_> {
    /// Refuses to wait for landings of a coordinator that goes on without an end and lands nothing.
    pub(super) fn check_leader(&self) -> Result<(), Failure> {
        if self.request.is_endless || !self.request.lands {
            return Ok(());
        }
        let project = self.control.project();
        let Some(leader) = project.queue()?.leader(COORDINATOR)? else { return Ok(()) };
        match project.store()?.run_of(&leader.holder)? {
            Some(run) if run.tickets.is_none() && !run.lands => {
                let text = format!("{} coordinates in the background and lands nothing", leader.holder);
                Err(Failure::new(FailureKind::NeedsPerson, text)
                    .hint("swarm down, then swarm up --merge; or leave --merge out, and swarm merge afterwards"))
            }
            _ => Ok(()),
        }
    }

    /// Hears where it stands in the role, and says what changed about it.
    pub(super) fn hear_lead(&mut self, leading: Leading) -> Result<(), Failure> {
        let fact = |leader: &Leader, make: fn(String, String, u64) -> SwarmEvent| {
            let role = COORDINATOR.to_owned();
            SwarmRecord::now(&self.record.id, make(role, leader.holder.clone(), leader.fence))
        };
        match leading {
            Leading::Leads => {}
            Leading::Began(leader) => {
                self.note(fact(&leader, |role, holder, fence| SwarmEvent::LeaseTaken { role, holder, fence }))?;
                if let Some(other) = self.other.take() {
                    self.face.tell(&News::Said(&format!("took over from {other}")));
                }
                self.leads = true;
                self.held = None;
                for (worker, count) in self.control.reap_orphans()? {
                    self.face.tell(&News::Said(&format!("ended {count} that `{worker}` had left running")));
                }
            }
            Leading::Lost(leader) => {
                self.note(fact(&leader, |role, holder, fence| SwarmEvent::LeaseLost { role, holder, fence }))?;
                self.leads = false;
            }
            Leading::StandsBy(leader) => {
                if self.other.as_ref() != Some(&leader.holder) {
                    self.face.tell(&News::Said(&format!("{} leads; this one stands by", leader.holder)));
                    self.other = Some(leader.holder);
                }
            }
        }
        Ok(())
    }

    /// What the leader says holds tickets for somebody; nothing where this one leads.
    pub(super) fn told_by_leader(&self) -> Result<BTreeMap<TicketId, Hold>, Failure> {
        if self.leads {
            return Ok(BTreeMap::new());
        }
        let holds = self.control.project().store()?.holds()?.into_iter().filter(|hold| !hold.kind.passes());
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
        if let Some(Leader { holder, fence, .. }) = self.lease.release()? {
            let role = COORDINATOR.to_owned();
            self.note(SwarmRecord::now(&self.record.id, SwarmEvent::LeaseLost { role, holder, fence }))?;
        }
        Ok(())
    }
}
