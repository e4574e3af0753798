//! Mailboxes on a server, and how what is in them comes to the machine of their worker.
//!
//! A letter is copied into the store of that machine and stays on the server, too, until the store says that it left the
//! mailbox there. So at no moment is it nowhere; it is delivered while the server is away; senders, who see the server alone,
//! count what the agent has not got yet; and where the work goes on at another machine, that one finds it. A machine that is
//! ended for good between giving a letter to its agent and saying so to the server leaves it to be delivered again there.
//!
//! A copy whose letter is gone from the server was delivered by another machine, and leaves the mailbox here.
//!
//! **How many**: senders stop at the limit, and so does the copying; what waits beyond it comes as others leave. A program
//! that publishes by itself asks nobody, and a sender may have another limit. So far more than a limit is kept on the server,
//! where nobody who was told that a letter was taken loses it, and whatever came after that is thrown away.

use std::collections::BTreeSet;

use super::NatsBus;
use super::read::{PART, Reader};
use crate::model::message::{Address, Message};
use crate::model::{Time, WorkerId, error_text};
use crate::queue::bus::{BusError, Start, payload};
use crate::store::{Fate, Posted};

/// Letters that are kept on the server for one worker in any case.
pub(super) const KEPT: usize = 1_000;

/// What was found in a mailbox on the server.
#[derive(Default)]
struct Found {
    /// The letters that stay there, by id.
    kept: BTreeSet<String>,
    /// Whether the mailbox on this machine had no room for one of them.
    is_full: bool,
    /// The numbers of those that left the mailbox on this machine, or are in none.
    settled: Vec<u64>,
    /// Those of others that are too many.
    excess: Vec<u64>,
}

impl NatsBus {
    /// Brings the mailbox of a worker of this machine up to date with the one on the server, and that one with it.
    /// At most `limit` are copied, and `most` stay on the server, with those.
    pub(super) fn fetch_mail(&self, worker: &WorkerId, limit: usize, most: usize) -> Result<(), BusError> {
        // Before the server is asked: what comes meanwhile is not taken for gone.
        let copied = self.store.waiting_mail(worker)?;
        let subjects = vec![self.names.of(&Address::Mail(worker.clone()))];
        let mut reader = Reader::begin(&self.link, &self.names, Start::Beginning, subjects, PART)?;
        let (mut found, mut end) = (Found::default(), 0);
        while let Some(part) = reader.part()? {
            for letter in &part {
                self.take_in(worker, letter, (limit, most), &mut found)?;
                end = letter.seq.unwrap_or(end);
            }
            self.delete(&std::mem::take(&mut found.settled))?;
            if !found.excess.is_empty() {
                let count = found.excess.len();
                tracing::warn!(worker = worker.as_str(), count, "more messages than may wait were thrown away");
                self.delete(&found.excess)?;
                // What is left of a flood is for the next look: nobody waits for it.
                break;
            }
        }
        let end = if reader.is_over() { reader.last() } else { end };
        self.drop_gone(worker, &copied, &found, (end, reader.made()))
    }

    /// Copies a letter into the mailbox here, where there is room, and notes what becomes of it on the server.
    fn take_in(
        &self,
        worker: &WorkerId,
        letter: &Message,
        (limit, most): (usize, usize),
        found: &mut Found,
    ) -> Result<(), BusError> {
        // It would be in the way of all others.
        if let Err(error) = payload(letter) {
            let (error, seq) = (error_text(&error), letter.seq);
            tracing::warn!(error, seq, "a message of another program was thrown away");
            found.settled.extend(seq);
            return Ok(());
        }
        // Said twice is said once.
        if found.kept.contains(&letter.id) {
            found.settled.extend(letter.seq);
            return Ok(());
        }
        // None goes before one that came earlier.
        let room = if found.is_full { 0 } else { limit };
        match self.store.post(worker, letter, room)? {
            Posted::Settled => found.settled.extend(letter.seq),
            Posted::Full if letter.is_expired(Time::now()) => found.settled.extend(letter.seq),
            Posted::Full if found.kept.len() >= most => found.excess.extend(letter.seq),
            posted => {
                found.is_full |= posted == Posted::Full;
                found.kept.insert(letter.id.clone());
            }
        }
        Ok(())
    }

    /// Takes out of the mailbox here what was copied before from among the letters up to the number `end`, and is not among
    /// those any more. One with a greater number is of another stream than the one that was `made` then.
    fn drop_gone(
        &self,
        worker: &WorkerId,
        copied: &[Message],
        found: &Found,
        (end, made): (u64, Time),
    ) -> Result<(), BusError> {
        for letter in copied {
            // One from before the stream was made is of another one.
            let is_of_this = letter.seq.is_some_and(|seq| seq <= end) && letter.at >= made;
            if is_of_this && !found.kept.contains(&letter.id) {
                self.store.settle_mail(worker, &letter.id, Fate::Withdrawn)?;
            }
        }
        Ok(())
    }
}
