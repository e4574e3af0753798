//! What the topology has against starting a ticket now.

use super::{Candidate, Draft, no_place};
use crate::model::coordination::Hold;
use crate::model::counted;
use crate::model::topology::Topology;

/// In a hierarchy a ticket is its supervisor's, which has as many workers at once as it may. What goes on has its place
/// already.
pub(super) fn subordinate(draft: &Draft<'_>, candidate: &Candidate<'_>) -> Option<Hold> {
    let Topology::Hierarchical(own) = &draft.rules.topology else { return None };
    let owner = draft.world.owners.get(&candidate.entry.ticket.id).filter(|_| candidate.resumes.is_none())?;
    let count = draft.placed.keys().filter(|id| draft.world.owners.get(*id) == Some(owner)).count();
    let (most, has) = (own.parent_child_ratio, counted(count, "worker"));
    (count >= most).then(|| no_place(candidate, format!("waits for `{owner}`, which has {has} and may have {most}")))
}
