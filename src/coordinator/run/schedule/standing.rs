//! Where each ticket stands, by its own look and by those it needs.

use std::collections::BTreeMap;

use super::{Judged, Standing};
use crate::coordinator::run::world::World;
use crate::model::TicketId;
use crate::model::coordination::{Hold, HoldKind};
use crate::model::ticket::TicketState as S;
use crate::queue::QueueTicket;

/// What was judged of every entry, and where each stands: worked out once a look, however many need the same ticket.
pub(super) struct Standings<'a> {
    pub(super) world: &'a World,
    pub(super) entries: &'a BTreeMap<&'a TicketId, &'a QueueTicket>,
    pub(super) judged: &'a BTreeMap<&'a TicketId, Judged<'a>>,
    /// Those that are known; `None` while it is being worked out. The queue refuses circles, and one that is there all the
    /// same ends there.
    pub(super) known: BTreeMap<TicketId, Option<Standing>>,
}

impl<'a> Standings<'a> {
    /// Where a ticket stands, by its own look and by those it needs.
    pub(super) fn of(&mut self, id: &TicketId) -> Standing {
        if let Some(known) = self.known.get(id) {
            return known.clone().unwrap_or(Standing::Moving);
        }
        self.known.insert(id.clone(), None);
        let (entries, judged) = (self.entries, self.judged);
        let standing = match judged.get(id) {
            Some(Judged::Made) => Standing::Made,
            Some(Judged::Held(hold)) => Standing::Held(hold.clone()),
            Some(Judged::Failed(why)) => Standing::Failed(why.clone()),
            Some(Judged::Blocked) => {
                let waits_for = entries.get(id).map(|entry| entry.waits_for.as_slice()).unwrap_or_default();
                self.worst(id, waits_for.iter().map(|dependency| &dependency.ticket))
            }
            Some(Judged::Behind(need)) => self.worst(id, std::iter::once(*need)),
            _ => Standing::Moving,
        };
        self.known.insert(id.clone(), Some(standing.clone()));
        standing
    }

    /// Where a ticket stands that waits for others: where the worst of them stands.
    fn worst(&mut self, id: &TicketId, needs: impl Iterator<Item = &'a TicketId>) -> Standing {
        let mut worst = Standing::Moving;
        for need in needs {
            let now = self.needed(id, need);
            if rank(&now) > rank(&worst) {
                worst = now;
            }
        }
        worst
    }

    /// Where a ticket stands for the sake of one that it needs.
    fn needed(&mut self, id: &TicketId, need: &TicketId) -> Standing {
        let held = |kind, why| Standing::Held(Hold { ticket: id.clone(), kind, why, until: None });
        let Some(needed) = self.entries.get(need) else {
            return held(HoldKind::Person, format!("waits for `{need}`, and there is no such ticket"));
        };
        let state = needed.state;
        match self.of(need) {
            Standing::Made => {
                held(HoldKind::Person, format!("waits for `{need}`, which is in {state} and has to land"))
            }
            Standing::Held(hold) => held(hold.kind, format!("waits for `{need}`, which {}", hold.why)),
            Standing::Failed(why) => Standing::Failed(format!("needs `{need}`, which {why}")),
            Standing::Moving if !self.world.is_chosen(need) && !state.is_begun() => {
                held(HoldKind::Person, format!("waits for `{need}`, which is {state} and not part of this run"))
            }
            Standing::Moving => Standing::Moving,
        }
    }
}

/// How bad a standing of a dependency is.
fn rank(standing: &Standing) -> u8 {
    match standing {
        Standing::Made | Standing::Moving => 0,
        Standing::Held(_) => 1,
        Standing::Failed(_) => 2,
    }
}

/// The holds of chosen tickets that move: for a place, for time, for another ticket.
pub(super) fn passing_holds(standings: &mut Standings<'_>) -> Vec<Hold> {
    let (world, entries, judged) = (standings.world, standings.entries, standings.judged);
    let mut holds = Vec::new();
    for entry in world.tickets.iter().filter(|entry| world.is_chosen(&entry.ticket.id)) {
        let id = &entry.ticket.id;
        match judged.get(id) {
            Some(Judged::Passing(hold)) => holds.push(hold.clone()),
            Some(Judged::Blocked) if standings.of(id) == Standing::Moving => {
                let Some(need) = entry.waits_for.first().map(|dependency| &dependency.ticket) else { continue };
                let state = entries.get(need).map_or(S::Open, |needed| needed.state);
                let why = format!("waits for `{need}`, which is {state}");
                holds.push(Hold { ticket: id.clone(), kind: HoldKind::Dependency, why, until: None });
            }
            Some(Judged::Behind(need)) if standings.of(id) == Standing::Moving => {
                let state = entries.get(need).map_or(S::Open, |needed| needed.state);
                let why = format!("lands after `{need}`, from whose branch it started and which is {state}");
                holds.push(Hold { ticket: id.clone(), kind: HoldKind::Dependency, why, until: None });
            }
            _ => {}
        }
    }
    holds
}
