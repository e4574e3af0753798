//! Going by the topology as it is now, and remembering what it decided about tickets.

use std::collections::BTreeMap;

use super::world::World;
use super::{Engine, News};
use crate::coordinator::control::InForce;
use crate::coordinator::failure::Failure;
use crate::coordinator::views::TopologySource;
use crate::model::TicketId;
use crate::model::event::{SwarmEvent, SwarmRecord};

/// What one coordinator knows of the topology.
pub(super) struct Arrangement {
    /// The one it goes by.
    in_force: InForce,
    /// Who owns each ticket, as it is kept; `None` before that was looked at.
    owners: Option<BTreeMap<TicketId, String>>,
}

impl Arrangement {
    /// One that has decided nothing yet.
    pub(super) fn new(in_force: InForce) -> Self {
        Self { in_force, owners: None }
    }
}

impl Engine<'_> {
    /// Takes another topology over where somebody chose one, here or on the board of the server. What the configuration
    /// says of it is heard as the rest of it is.
    pub(super) fn reread_topology(&mut self) -> Result<(), Failure> {
        let record = match self.nodes.topology() {
            Some(record) => record,
            None => self.control.project().store()?.topology()?,
        };
        let now = self.changed.as_ref().unwrap_or(self.control).topology_by(record)?;
        if now == self.arrangement.in_force {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.arrangement.in_force, now.clone());
        self.rules.topology = now.chosen.topology.clone();
        let (from, to) = (before.title(), now.title());
        self.face.tell(&News::Said(&format!("the topology changed from {from} to {to}")));
        // Who sets or resets one notes that.
        let is_set = [before.source, now.source].contains(&TopologySource::Set);
        if is_set || !self.leads {
            return Ok(());
        }
        self.note(SwarmRecord::now(&self.record.id, SwarmEvent::TopologyChanged { from, to }))
    }

    /// Keeps who owns each ticket, so that it stays so.
    pub(super) fn keep_owners(&mut self, world: &World) -> Result<(), Failure> {
        // In a hierarchy of nodes the board keeps them.
        if world.owners.is_empty() || world.nodes.assignments.is_some() {
            return Ok(());
        }
        let store = self.control.project().store()?;
        let kept = match self.arrangement.owners.take() {
            Some(kept) => kept,
            None => store.owners()?,
        };
        if kept != world.owners {
            store.set_owners(&world.owners)?;
        }
        self.arrangement.owners = Some(world.owners.clone());
        Ok(())
    }
}
