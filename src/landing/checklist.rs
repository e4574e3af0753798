//! A ticket's checklist: what a person ticks, at which commit.

use super::{Landing, LandingError};
use crate::model::worker::Worker;
use crate::model::{CommitId, Time};
use crate::store::Tick;

/// One item with its tick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChecklistItem {
    /// What it says.
    pub(crate) text: String,
    /// Its tick, at whatever commit.
    pub(crate) tick: Option<Tick>,
}

impl ChecklistItem {
    /// Whether it is ticked at `commit`; a tick holds no longer than an approval would.
    pub(crate) fn is_ticked_at(&self, commit: &CommitId) -> bool {
        self.tick.as_ref().is_some_and(|tick| tick.commit == *commit)
    }
}

impl Landing<'_> {
    /// The checklist of a worker's ticket, as it was published.
    pub(crate) fn checklist(&self, worker: &Worker) -> Result<Vec<ChecklistItem>, LandingError> {
        let items = self.ticket_of(worker)?.ticket.checklist();
        let ticks = if items.is_empty() { Vec::new() } else { self.store.ticks(&worker.id)? };
        let find = |text: &str| ticks.iter().find(|tick| tick.item == text).cloned();
        Ok(items.into_iter().map(|text| ChecklistItem { tick: find(&text), text }).collect())
    }

    /// Ticks items by their numbers from 1, or takes ticks back.
    ///
    /// # Errors
    /// [`LandingError::NoItem`] for a number the list has not; nothing is changed then.
    pub(crate) fn tick(
        &self,
        worker: &Worker,
        numbers: &[usize],
        is_done: bool,
        by: &str,
        commit: &CommitId,
    ) -> Result<(), LandingError> {
        let items = self.checklist(worker)?;
        let find = |number: &usize| {
            let item = number.checked_sub(1).and_then(|index| items.get(index));
            item.map(|item| item.text.clone()).ok_or_else(|| LandingError::NoItem {
                ticket: worker.ticket.clone(),
                number: *number,
                count: items.len(),
            })
        };
        let chosen = numbers.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        if !is_done {
            return Ok(self.store.remove_ticks(&worker.id, &chosen)?);
        }
        let at = Time::now();
        let ticks: Vec<_> =
            chosen.into_iter().map(|item| Tick { item, commit: commit.clone(), by: by.to_owned(), at }).collect();
        Ok(self.store.put_ticks(&worker.id, &ticks)?)
    }

    /// Fails unless every item is ticked at `commit`.
    ///
    /// # Errors
    /// [`LandingError::Unticked`] with those that are not.
    pub(crate) fn require_checklist(&self, worker: &Worker, commit: &CommitId) -> Result<(), LandingError> {
        let items = self.checklist(worker)?;
        let open = items.iter().zip(1..).filter(|(item, _)| !item.is_ticked_at(commit));
        let items: Vec<String> = open.map(|(item, number)| format!("{number}. {}", item.text)).collect();
        if items.is_empty() {
            return Ok(());
        }
        Err(LandingError::Unticked { ticket: worker.ticket.clone(), commit: commit.clone(), items })
    }
}
