//! The events of all nodes in one order: that in which the server heard them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Control;
use super::events::{EventFilter, EventKind, Since, about_stream, of_swarm, of_worker, pruned};
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::views::{EventView, Fact, StreamFact};
use crate::model::node_event::{NodeEvent, NodeFact};
use crate::model::{Time, causes};
use crate::queue::{Link, NatsError, QueueError, Start};

/// What a reader waits for a server that does not answer. Who follows asks again instead.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the server is asked whether there is more.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// How often it is seen to meanwhile that somebody still waits.
const PEEK_EVERY: Duration = Duration::from_millis(50);
/// Earlier events that somebody sees who follows without saying from where.
const SHOWN_BEFORE: u64 = 20;

/// A reader of what all nodes told, with its place in it.
pub(crate) struct NodeEventReader {
    /// The connection.
    link: Arc<Link>,
    /// What is wanted.
    filter: EventFilter,
    /// Where it reads on.
    from: Start,
    /// The first number that was asked for and not seen yet, where a lack of some is to be told.
    wants: Option<u64>,
    /// Which stream the numbers are of.
    made: i128,
    /// The number of the last event that was there when it was last looked.
    last: u64,
    /// That up to which everything was read that came.
    seen: u64,
    /// Whether somebody waits for what comes.
    follows: bool,
    /// Whether the server was away when it was asked last.
    is_away: bool,
    /// Lines about the stream itself that are to be told.
    news: Vec<EventView>,
}

impl Control {
    /// A reader of the events of all nodes.
    ///
    /// # Errors
    /// [`FailureKind::Usage`] where the queue is on no server, for kinds that every node has itself, and for a number that no
    /// event has yet.
    pub(crate) fn node_events(&self, since: Since, filter: &EventFilter) -> Result<NodeEventReader, Failure> {
        let usage = |text: String| Failure::new(FailureKind::Usage, text);
        if let Some(kind) = filter.kinds.iter().map(|kind| kind.as_str()).find(|kind| ["queue", "bus"].contains(kind)) {
            let text = format!("events of kind `{kind}` are no node's own");
            return Err(usage(text).hint(format!("swarm events --kind {kind} has those of all")));
        }
        let queue = self.project.queue()?;
        let Some(link) = queue.link().cloned() else {
            let text = "the queue is in this repository, so there are no other nodes".to_owned();
            return Err(usage(text).hint("swarm events has all that happens"));
        };
        let kept = link.events_kept(PATIENCE).map_err(QueueError::from)?;
        let keeps = self.project.settings()?.queue.keep_events;
        let (from, wants) = match since {
            Since::Beginning => (Start::Beginning, None),
            Since::Seq(seq) => match u64::try_from(seq) {
                Ok(seq) if seq <= kept.last => (Start::After(seq), (seq > 0).then_some(seq + 1)),
                _ => {
                    let text = format!("there is no event {seq} yet: the newest is {}", kept.last);
                    return Err(usage(text).hint("--since 0 begins with the first"));
                }
            },
            // Who asks for more than is kept wants to know it.
            Since::Moment(moment) if !keeps.is_zero() && moment.age_at(Time::now()) > keeps => {
                (Start::Beginning, Some(1))
            }
            Since::Moment(moment) => (Start::Moment(moment), None),
            Since::Recent => (Start::After(kept.last.saturating_sub(SHOWN_BEFORE)), None),
            Since::Now => (Start::After(kept.last), Some(kept.last + 1)),
        };
        let seen = if let Start::After(seq) = from { seq } else { 0 };
        let (filter, made, last) = (filter.clone(), kept.made, kept.last);
        let (follows, is_away) = (false, false);
        let mut reader =
            NodeEventReader { link, filter, from, wants, made, last, seen, follows, is_away, news: Vec::new() };
        reader.tell_missing(kept.first);
        Ok(reader)
    }
}

impl NodeEventReader {
    /// The next events, oldest first; empty when there are none for now.
    ///
    /// # Errors
    /// When the server is away. Somebody who waited for more is told that as an event instead.
    pub(crate) fn next_batch(&mut self) -> Result<Vec<EventView>, Failure> {
        loop {
            if !self.news.is_empty() {
                return Ok(std::mem::take(&mut self.news));
            }
            if self.is_away || self.last <= self.seen {
                return Ok(Vec::new());
            }
            match self.read() {
                Ok(events) if events.is_empty() => {}
                Ok(events) => return Ok(events),
                Err(error) if self.follows => self.tell_away(&error),
                Err(error) => return Err(QueueError::from(error).into()),
            }
        }
    }

    /// Waits until there is something to read, `until` passed, or nobody waits any more; whether there is.
    pub(crate) fn wait(&mut self, until: Option<Instant>, is_wanted: impl Fn() -> bool) -> bool {
        self.follows = true;
        loop {
            if self.is_away && !pause(until, &is_wanted) {
                return false;
            }
            match self.look() {
                Ok(()) => self.is_away = false,
                Err(error) if !self.is_away => self.tell_away(&error),
                Err(_) => continue,
            }
            if !self.news.is_empty() || self.last > self.seen {
                return true;
            }
            if !pause(until, &is_wanted) {
                return false;
            }
        }
    }

    /// How long a server that does not answer is waited for.
    fn patience(&self) -> Duration {
        if self.follows { Duration::ZERO } else { PATIENCE }
    }

    /// Looks what the server has. One that lost some, or all, is read from the beginning.
    fn look(&mut self) -> Result<(), NatsError> {
        let kept = self.link.events_kept(self.patience())?;
        if kept.made != self.made || kept.last < self.last {
            (self.from, self.wants, self.seen) = (Start::Beginning, None, 0);
        }
        (self.made, self.last) = (kept.made, kept.last);
        self.tell_missing(kept.first);
        Ok(())
    }

    /// Reads what is next.
    fn read(&mut self) -> Result<Vec<EventView>, NatsError> {
        let part = self.link.events_from(self.from, self.patience())?;
        let mut events = Vec::new();
        for (seq, told) in part.events {
            self.tell_missing(seq);
            events.append(&mut self.news);
            (self.from, self.seen) = (Start::After(seq), seq);
            self.wants = self.wants.map(|_| seq + 1);
            events.extend(Some(view(seq, told)).filter(|event| self.is_wanted(event)));
        }
        if !part.is_more {
            // Where a moment was asked for there may be none; of several servers one may have yet to hear of what is next.
            self.seen = self.seen.max(self.last);
        }
        Ok(events)
    }

    /// Says what is missing before an event, of what was asked for.
    fn tell_missing(&mut self, first: u64) {
        if let Some(wanted) = self.wants.filter(|wanted| *wanted < first) {
            self.news.push(pruned(number(wanted), number(first - 1)));
            self.wants = Some(first);
        }
    }

    /// Says that the server is away.
    fn tell_away(&mut self, error: &NatsError) {
        if !std::mem::replace(&mut self.is_away, true) {
            let fact = StreamFact::Away { reason: causes(error).join(": ") };
            self.news.push(about_stream(number(self.seen), fact));
        }
    }

    /// Whether an event is one of those that were asked for.
    fn is_wanted(&self, event: &EventView) -> bool {
        let kind = match event.fact {
            Fact::Worker(_) => EventKind::Worker,
            Fact::Swarm(_) => EventKind::Swarm,
            _ => return true,
        };
        let EventFilter { ticket, kinds } = &self.filter;
        let its = event.ticket.as_ref().map_or("", |ticket| ticket.as_str());
        let is_about = ticket.as_ref().is_none_or(|ticket| ticket.as_str().eq_ignore_ascii_case(its));
        is_about && (kinds.is_empty() || kinds.contains(&kind))
    }
}

/// Lets a moment pass; false when somebody waits no more, or has waited long enough.
fn pause(until: Option<Instant>, is_wanted: &impl Fn() -> bool) -> bool {
    let again = Instant::now() + ASK_EVERY;
    while Instant::now() < again {
        if !is_wanted() || until.is_some_and(|until| Instant::now() >= until) {
            return false;
        }
        std::thread::sleep(PEEK_EVERY);
    }
    true
}

/// A number as events show it.
fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// An event as it is shown.
fn view(seq: u64, told: Result<NodeEvent, String>) -> EventView {
    let seq = number(seq);
    match told {
        Ok(NodeEvent { node, fact: NodeFact::Worker(record), .. }) => {
            EventView { node: Some(node), ..of_worker(seq, record) }
        }
        Ok(NodeEvent { node, fact: NodeFact::Swarm(record), .. }) => {
            EventView { node: Some(node), ..of_swarm(seq, record) }
        }
        Err(reason) => about_stream(seq, StreamFact::Unreadable { reason }),
    }
}
