//! `stats`: figures from the history.

mod places;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use places::Places;

use super::Control;
use crate::coordinator::failure::Failure;
use crate::coordinator::history::{self, AttemptHistory, RunHistory, Span, TicketHistory};
use crate::coordinator::views::{Percentiles, StatsBy, StatsRow, StatsRuns, StatsView, VIEW_VERSION};
use crate::model::Time;
use crate::model::ticket::TicketState;
use crate::store::HistoryKind;

impl Control {
    /// Figures of everything that happened at `since` or later.
    pub(crate) fn stats(&self, since: Option<Time>, by: Option<StatsBy>) -> Result<StatsView, Failure> {
        let store = self.project.store()?;
        history::catch_up(store)?;
        let from = since.unwrap_or(Time::from_millis(i64::MIN));
        let tickets = store.history(HistoryKind::Ticket, Time::from_millis(i64::MIN))?;
        let tickets = tickets.iter().map(|row| history::parse(&row.document)).collect::<Result<Vec<_>, _>>()?;
        let runs = store.history(HistoryKind::Run, from)?;
        let runs = runs.iter().map(|row| history::parse(&row.document)).collect::<Result<Vec<_>, _>>()?;
        let known = Known { from, to: Time::now(), tickets, runs };
        Ok(StatsView { since, known_from: store.history_from()?, ..known.view(by) })
    }
}

/// What figures are drawn from.
struct Known {
    /// The beginning of the window.
    from: Time,
    /// Its end: now.
    to: Time,
    /// All tickets.
    tickets: Vec<TicketHistory>,
    /// Runs that were alive in the window.
    runs: Vec<RunHistory>,
}

/// Tickets and attempts of one row.
#[derive(Default)]
struct Group<'a> {
    /// Tickets that ended in the window.
    ended: Vec<(&'a TicketHistory, Time)>,
    /// Attempts that were under way in the window.
    attempts: Vec<&'a AttemptHistory>,
    /// When tickets were free to be taken and not taken; known of all together only.
    queued: Vec<Span>,
}

impl Known {
    /// The view; its window and the beginning of the history are the caller's to say.
    fn view(&self, by: Option<StatsBy>) -> StatsView {
        let mut total = Group::default();
        let mut groups: BTreeMap<Option<String>, Group<'_>> = BTreeMap::new();
        for ticket in &self.tickets {
            total.queued.extend(ticket.queued_spans());
            let ended = ticket.ended_at().filter(|at| *at >= self.from).map(|at| (ticket, at));
            total.ended.extend(ended);
            for name in ended.into_iter().flat_map(|_| by.map(|by| ticket_names(by, ticket)).unwrap_or_default()) {
                groups.entry(name).or_default().ended.extend(ended);
            }
            for attempt in ticket.attempts.iter().filter(|attempt| self.is_in_window(attempt)) {
                total.attempts.push(attempt);
                for name in by.map(|by| self.attempt_names(by, ticket, attempt)).unwrap_or_default() {
                    groups.entry(name).or_default().attempts.push(attempt);
                }
            }
        }
        StatsView {
            version: VIEW_VERSION,
            at: self.to,
            since: None,
            known_from: None,
            by,
            total: self.row(None, &total),
            groups: groups.iter().map(|(name, group)| self.row(name.clone(), group)).collect(),
            runs: self.runs(),
        }
    }

    /// Whether an attempt was under way in the window.
    fn is_in_window(&self, attempt: &AttemptHistory) -> bool {
        attempt.spans.iter().any(|span| span.to.is_none_or(|to| to >= self.from))
    }

    /// The groups that an attempt belongs to.
    fn attempt_names(&self, by: StatsBy, ticket: &TicketHistory, attempt: &AttemptHistory) -> Vec<Option<String>> {
        match by {
            StatsBy::Agent => vec![attempt.agent.as_ref().map(ToString::to_string)],
            StatsBy::Model => vec![attempt.model.clone()],
            StatsBy::Label => labels(ticket),
            StatsBy::Day => vec![attempt.spans.last().map(|span| day(span.to.unwrap_or(self.to)))],
        }
    }

    /// The figures of a group.
    fn row(&self, name: Option<String>, group: &Group<'_>) -> StatsRow {
        let count = |state| group.ended.iter().filter(|(ticket, _)| ticket.state == state).count();
        let (landed, done) = (count(TicketState::Landed), count(TicketState::Done));
        let (failed, cancelled) = (count(TicketState::Dead), count(TicketState::Cancelled));
        let well = |ticket: &TicketHistory| matches!(ticket.state, TicketState::Landed | TicketState::Done);
        let completion = group.ended.iter().filter(|(ticket, _)| well(ticket));
        let completion = completion.filter_map(|(ticket, at)| Some(millis(ticket.published_at?.age_at(*at))));
        // Who was never free to be taken did not wait.
        let waiting =
            group.ended.iter().filter(|(ticket, _)| ticket.published_at.is_some() && !ticket.attempts.is_empty());
        let over = group.attempts.iter().filter(|attempt| attempt.spans.iter().all(|span| span.to.is_some()));
        let is_failure = |attempt: &&&AttemptHistory| attempt.is_failure() == Some(true);
        let spans: Vec<Span> = group.attempts.iter().flat_map(|attempt| attempt.spans.iter().copied()).collect();
        let places = self.places(&spans, &group.queued);
        let costs: Vec<f64> = group.attempts.iter().filter_map(|attempt| attempt.used?.cost_usd).collect();
        let cost = (!costs.is_empty()).then(|| costs.iter().sum::<f64>());
        let unknown = group.attempts.len() - costs.len();
        StatsRow {
            name,
            ended: group.ended.len(),
            landed,
            done,
            failed,
            cancelled,
            success_rate: ratio((landed + done) as f64, (landed + done + failed) as f64),
            attempts: group.attempts.len(),
            attempts_failed: group.attempts.iter().filter(is_failure).count(),
            completion: percentiles(completion.collect()),
            waiting: percentiles(waiting.map(|(ticket, _)| ticket.queued_ms).collect()),
            working: percentiles(over.map(|attempt| millis(self.busy(&attempt.spans))).collect()),
            throughput_per_hour: ratio((landed + done) as f64, self.union(&spans).as_secs_f64() / 3_600.0),
            utilisation: places.utilisation(),
            utilisation_while_queued: places.utilisation_while_queued(),
            input_tokens: sum(group, |attempt| attempt.used?.input_tokens),
            output_tokens: sum(group, |attempt| attempt.used?.output_tokens),
            cost_usd: cost,
            cost_unknown_attempts: unknown,
            cost_per_landed_usd: cost.filter(|_| unknown == 0).and_then(|cost| ratio(cost, landed as f64)),
        }
    }

    /// How long spans last together, whole ones: an attempt is not shorter because the window begins within it.
    fn busy(&self, spans: &[Span]) -> Duration {
        spans.iter().map(|span| span.from.age_at(span.to.unwrap_or(self.to))).sum()
    }

    /// How long at least one of some spans was, within the window.
    fn union(&self, spans: &[Span]) -> Duration {
        let mut spans: Vec<_> =
            spans.iter().map(|span| (span.from.max(self.from), span.to.unwrap_or(self.to))).collect();
        spans.sort();
        let mut reached = self.from;
        let mut sum = Duration::ZERO;
        for (from, to) in spans {
            sum += from.max(reached).age_at(to);
            reached = reached.max(to);
        }
        sum
    }

    /// The places of workers that runs had.
    fn places(&self, busy: &[Span], queued: &[Span]) -> Places {
        let mut places = Places::default();
        for run in &self.runs {
            let (from, to) = self.bounds(run);
            run.places(from, to).for_each(|(from, to, count)| places.there(from, to, count));
        }
        let within = |span: &Span| (span.from.max(self.from), span.to.unwrap_or(self.to));
        busy.iter().map(within).for_each(|(from, to)| places.busy(from, to));
        queued.iter().map(within).for_each(|(from, to)| places.wanted(from, to));
        places
    }

    /// The part of a run that lies in the window. One that has not said that it ended ended when it was last heard of.
    fn bounds(&self, run: &RunHistory) -> (Time, Time) {
        (run.began_at.max(self.from), run.seen_at.min(self.to))
    }

    /// The runs.
    fn runs(&self) -> StatsRuns {
        let bounds = self.runs.iter().map(|run| self.bounds(run));
        let spans: Vec<Span> = bounds.map(|(from, to)| Span { from, to: Some(to) }).collect();
        let most = |run: &RunHistory| run.scaled.iter().map(|(_, count)| *count).max().max(Some(run.max_workers));
        let max_workers = self.runs.iter().filter_map(most).max();
        StatsRuns { count: self.runs.len(), wall_ms: millis(self.union(&spans)), max_workers }
    }
}

/// The groups that a ticket which ended belongs to.
fn ticket_names(by: StatsBy, ticket: &TicketHistory) -> Vec<Option<String>> {
    let last = ticket.attempts.last();
    match by {
        StatsBy::Agent => vec![last.and_then(|attempt| attempt.agent.as_ref()).map(ToString::to_string)],
        StatsBy::Model => vec![last.and_then(|attempt| attempt.model.clone())],
        StatsBy::Label => labels(ticket),
        StatsBy::Day => vec![ticket.ended_at().map(day)],
    }
}

/// A ticket's labels, as names of groups.
fn labels(ticket: &TicketHistory) -> Vec<Option<String>> {
    if ticket.labels.is_empty() { vec![None] } else { ticket.labels.iter().cloned().map(Some).collect() }
}

/// The day of a moment, in UTC.
fn day(at: Time) -> String {
    at.to_string().get(..10).unwrap_or_default().to_owned()
}

/// The sum over the attempts where a figure is known; `None` where it is known of none.
fn sum(group: &Group<'_>, figure: impl Fn(&AttemptHistory) -> Option<u64>) -> Option<u64> {
    group.attempts.iter().filter_map(|attempt| figure(attempt)).reduce(u64::saturating_add)
}

/// One by the other, where there is another.
fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

/// Percentiles by nearest rank.
fn percentiles(mut values: Vec<u64>) -> Percentiles {
    values.sort_unstable();
    let rank = |percent: usize| values.get((values.len() * percent).div_ceil(100).saturating_sub(1)).copied();
    Percentiles { count: values.len(), p50_ms: rank(50), p95_ms: rank(95) }
}

/// A duration in milliseconds.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
