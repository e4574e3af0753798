//! Figures of histories that are written by hand.

use super::*;
use crate::model::RunId;
use crate::model::worker::Figures;

/// A moment, in seconds after some beginning.
fn at(seconds: i64) -> Time {
    Time::from_millis(1_763_719_200_000 + seconds * 1_000)
}

/// An attempt that ran from one second to another.
fn attempt(
    number: u32,
    agent: &str,
    from: i64,
    to: Option<i64>,
    outcome: Option<&str>,
    cost: Option<f64>,
) -> AttemptHistory {
    let used = Figures { cost_usd: cost, input_tokens: cost.map(|_| 100), ..Figures::default() };
    AttemptHistory {
        number,
        worker: None,
        agent: Some(agent.parse().unwrap()),
        model: None,
        spans: vec![Span { from: at(from), to: to.map(at) }],
        outcome: outcome.map(str::to_owned),
        used: Some(used),
    }
}

/// A ticket that was published at 0 and ended at `since`, where its state is an end.
fn ticket(id: &str, state: TicketState, since: i64, labels: &[&str], attempts: Vec<AttemptHistory>) -> TicketHistory {
    TicketHistory {
        ticket: id.parse().unwrap(),
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        published_at: Some(at(0)),
        state,
        since: at(since),
        queued_ms: 5_000,
        queued: Vec::new(),
        attempts,
    }
}

/// Two agents, one run of 100 s with two workers.
fn known() -> Known {
    let tickets = vec![
        ticket("a", TicketState::Landed, 60, &["bug"], vec![attempt(1, "x", 0, Some(50), Some("finished"), Some(1.0))]),
        ticket(
            "b",
            TicketState::Dead,
            80,
            &["bug", "ui"],
            vec![
                attempt(1, "x", 0, Some(40), Some("failed"), Some(0.5)),
                attempt(2, "y", 50, Some(80), Some("failed"), Some(0.5)),
            ],
        ),
        ticket("c", TicketState::Landed, 100, &[], vec![attempt(1, "y", 60, Some(100), Some("finished"), None)]),
        ticket("d", TicketState::Running, 90, &[], vec![attempt(1, "y", 90, None, None, None)]),
        ticket("e", TicketState::Cancelled, 90, &[], Vec::new()),
    ];
    let run = RunHistory {
        run: RunId::random(),
        began_at: at(0),
        seen_at: at(100),
        exit_code: Some(3),
        max_workers: 2,
        scaled: Vec::new(),
    };
    Known { from: at(0), to: at(110), tickets, runs: vec![run] }
}

#[test]
fn figures_are_those_of_the_tickets_that_ended_and_the_attempts_under_way() {
    let total = known().view(None).total;
    assert_eq!((total.ended, total.landed, total.failed, total.cancelled), (4, 2, 1, 1));
    assert_eq!(total.success_rate, Some(2.0 / 3.0), "who was cancelled did not fail");
    assert_eq!((total.attempts, total.attempts_failed), (5, 2));
    assert_eq!(total.completion, Percentiles { count: 2, p50_ms: Some(60_000), p95_ms: Some(100_000) });
    assert_eq!(total.working, Percentiles { count: 4, p50_ms: Some(40_000), p95_ms: Some(50_000) });
    assert_eq!(total.waiting.count, 3, "nobody waited for the one that was never begun");
    // Somebody worked all the 110 s.
    assert_eq!(total.throughput_per_hour, Some(2.0 * 3_600.0 / 110.0));
    assert_eq!(total.utilisation, Some((50.0 + 40.0 + 30.0 + 40.0 + 10.0) / 200.0));
}

#[test]
fn what_is_not_known_is_not_nothing() {
    let view = known().view(Some(StatsBy::Agent));
    let total = &view.total;
    assert_eq!((total.cost_usd, total.cost_unknown_attempts, total.cost_per_landed_usd), (Some(2.0), 2, None));
    assert_eq!((total.input_tokens, total.output_tokens), (Some(300), None));
    let x = &view.groups[1];
    assert_eq!((x.name.as_deref(), x.landed, x.cost_usd, x.cost_per_landed_usd), (Some("x"), 1, Some(1.5), Some(1.5)));
    let nothing = Known { tickets: Vec::new(), runs: Vec::new(), ..known() }.view(None);
    assert_eq!(nothing.total.success_rate.or(nothing.total.utilisation).or(nothing.total.throughput_per_hour), None);
    assert_eq!((nothing.total.completion.p50_ms, nothing.runs.max_workers), (None, None));
}

#[test]
fn a_ticket_counts_for_its_last_agent_each_of_its_labels_and_the_day_of_its_end() {
    let names = |by| -> Vec<(Option<String>, usize, usize)> {
        known().view(Some(by)).groups.into_iter().map(|row| (row.name, row.ended, row.attempts)).collect()
    };
    let some = |name: &str| Some(name.to_owned());
    assert_eq!(names(StatsBy::Agent), [(None, 1, 0), (some("x"), 1, 2), (some("y"), 2, 3)]);
    assert_eq!(names(StatsBy::Label), [(None, 2, 2), (some("bug"), 2, 3), (some("ui"), 1, 2)]);
    assert_eq!(names(StatsBy::Model), [(None, 4, 5)]);
    assert_eq!(names(StatsBy::Day), [(some("2025-11-21"), 4, 5)]);
}

#[test]
fn a_window_leaves_out_what_was_over_before_it() {
    let total = Known { from: at(85), ..known() }.view(None).total;
    assert_eq!((total.ended, total.landed, total.attempts), (2, 1, 2));
    // One works from 85 to 100, another from 90 to 110; the run goes to 100.
    assert_eq!(total.utilisation, Some((15.0 + 10.0) / 30.0));
    assert_eq!(total.throughput_per_hour, Some(3_600.0 / 25.0));
    assert_eq!(total.working.p50_ms, Some(40_000), "an attempt is not shorter because the window begins within it");
}

#[test]
fn percentiles_are_by_nearest_rank() {
    let of = |values: Vec<u64>| percentiles(values);
    assert_eq!(of((1..=100).rev().collect()), Percentiles { count: 100, p50_ms: Some(50), p95_ms: Some(95) });
    assert_eq!(of(vec![7]), Percentiles { count: 1, p50_ms: Some(7), p95_ms: Some(7) });
    assert_eq!(of(vec![3, 1]), Percentiles { count: 2, p50_ms: Some(1), p95_ms: Some(3) });
    assert_eq!(of(Vec::new()), Percentiles::default());
}
