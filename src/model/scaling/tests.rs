//! Properties of deciding, and of dividing.

use proptest::prelude::*;

use super::*;

/// A moment by its seconds.
fn at(seconds: u64) -> Time {
    Time::from_millis(i64::try_from(seconds * 1_000).unwrap())
}

/// A policy on the depth of the queue: up above 4, down below 1, steps of one, three periods of ten seconds, a minute's rest.
fn depth() -> ScalingPolicy {
    ScalingPolicy {
        up: Some(4.0),
        down: Some(1.0),
        cooldown: Duration::from_secs(60),
        period: Duration::from_secs(10),
        max_workers: Some(6),
        ..ScalingPolicy::new(Metric::QueueDepth, ScaleScope::Node)
    }
}

/// What one decision came to.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Act {
    at: Time,
    from: usize,
    to: usize,
    metric: Metric,
}

/// Plays values, one a period for every policy, from a number on.
fn play(policies: &[ScalingPolicy], start: usize, periods: &[Vec<Option<f64>>]) -> (Vec<Act>, usize) {
    let mut samples: Vec<Vec<Sample>> = policies.iter().map(|_| Vec::new()).collect();
    let bounds = bounds(policies, start).unwrap();
    let (mut current, mut last_action_at, mut acts) = (start.clamp(bounds.0, bounds.1), None, Vec::new());
    for (period, values) in periods.iter().enumerate() {
        let (from, now) = (at(period as u64 * 10), at(period as u64 * 10 + 10));
        for (known, value) in samples.iter_mut().zip(values) {
            known.extend(value.map(|value| Sample { from, value }));
        }
        let watched: Vec<_> =
            policies.iter().zip(&samples).map(|(policy, samples)| Watched { policy, samples }).collect();
        let standing = Standing { current, bounds, last_action_at };
        let decision = decide(&watched, &standing, now);
        assert_eq!(decision, decide(&watched, &standing, now), "the same is decided about the same");
        if let ScaleDecision::Change { to, metric, .. } = decision {
            assert_ne!(to, current);
            acts.push(Act { at: now, from: current, to, metric });
            (current, last_action_at) = (to, Some(now));
        }
    }
    (acts, current)
}

/// The same with one policy.
fn play_one(policy: &ScalingPolicy, start: usize, values: &[f64]) -> (Vec<Act>, usize) {
    let values: Vec<_> = values.iter().map(|value| vec![Some(*value)]).collect();
    play(std::slice::from_ref(policy), start, &values)
}

/// Lets policies decide about work that stays as it is: the number after each of many periods.
fn play_work(policies: &[ScalingPolicy], start: usize, work: usize) -> Vec<usize> {
    let bounds = bounds(policies, start).unwrap();
    let mut samples: Vec<Vec<Sample>> = policies.iter().map(|_| Vec::new()).collect();
    let (mut current, mut last_action_at) = (start.clamp(bounds.0, bounds.1), None);
    let numbers = (0..400).map(|period| {
        for (policy, known) in policies.iter().zip(&mut samples) {
            let value = match policy.metric {
                Metric::QueueDepth => work.saturating_sub(current) as f64,
                Metric::AgentUtilization => work.min(current) as f64 / current as f64,
                Metric::ErrorRate => 0.0,
            };
            known.push(Sample { from: at(period * 10), value });
        }
        let watched: Vec<_> =
            policies.iter().zip(&samples).map(|(policy, samples)| Watched { policy, samples }).collect();
        let now = at(period * 10 + 10);
        if let ScaleDecision::Change { to, .. } = decide(&watched, &Standing { current, bounds, last_action_at }, now) {
            (current, last_action_at) = (to, Some(now));
        }
        current
    });
    numbers.collect()
}

/// The numbers of a policy: its steps, cooldown in seconds, periods, least number, and how many more the most is.
type Numbers = (usize, usize, u64, usize, usize, usize);

/// A policy on a metric with these thresholds and numbers.
fn policy_of(metric: Metric, (up, down): (f64, f64), numbers: Numbers) -> ScalingPolicy {
    let (increment, decrement, cooldown, evaluation_periods, min_workers, more) = numbers;
    let policy = ScalingPolicy {
        up: Some(up),
        down: Some(down),
        increment,
        decrement,
        cooldown: Duration::from_secs(cooldown),
        evaluation_periods,
        period: Duration::from_secs(10),
        min_workers,
        max_workers: Some(min_workers + more),
        ..ScalingPolicy::new(metric, ScaleScope::Node)
    };
    assert_eq!(policy.fault(), None);
    policy
}

/// Any policy on the part of places that are taken which asks for more and for fewer.
fn by_utilization() -> impl Strategy<Value = ScalingPolicy> {
    let numbers = (1..6usize, 1..6usize, 0..30u64, 1..4usize, 1..4usize, 0..20usize);
    (0.02..0.999f64, 0.01..0.999f64, numbers)
        .prop_map(|(up, part, numbers)| policy_of(Metric::AgentUtilization, (up, up * part), numbers))
}

/// Any policy that is valid.
fn policies() -> impl Strategy<Value = ScalingPolicy> {
    let metric = prop_oneof![Just(Metric::QueueDepth), Just(Metric::AgentUtilization), Just(Metric::ErrorRate)];
    let numbers = (1..4usize, 1..4usize, 0..120u64, 1..5usize, 1..5usize, 0..6usize);
    (metric, 0.1..0.4f64, 0.5..0.9f64, numbers).prop_map(|(metric, low, high, numbers)| {
        let thresholds = if metric == Metric::ErrorRate { (low, high) } else { (high, low) };
        policy_of(metric, thresholds, numbers)
    })
}

proptest! {
    #[test]
    fn bounds_are_never_left_and_no_two_changes_are_closer_than_the_cooldown(
        policy in policies(),
        start in 0..12usize,
        values in prop::collection::vec(0.0..1.0f64, 0..80),
    ) {
        let (acts, _) = play_one(&policy, start, &values);
        let (low, high) = bounds([&policy], start).unwrap();
        for act in &acts {
            prop_assert!((low..=high).contains(&act.from) && (low..=high).contains(&act.to), "{act:?}");
            prop_assert!(act.to <= act.from + policy.increment && act.from <= act.to + policy.decrement, "{act:?}");
        }
        for pair in acts.windows(2) {
            prop_assert!(pair[0].at.age_at(pair[1].at) >= policy.cooldown, "{pair:?}");
        }
    }

    #[test]
    fn it_turns_round_only_when_the_metric_was_beyond_the_other_threshold_in_all_periods_since(
        policy in policies(),
        start in 1..8usize,
        values in prop::collection::vec(0.0..1.0f64, 0..120),
    ) {
        let (acts, _) = play_one(&policy, start, &values);
        for pair in acts.windows(2) {
            let wanted = if pair[1].to > pair[1].from { Direction::Up } else { Direction::Down };
            let end = usize::try_from(pair[1].at.as_millis() / 10_000).unwrap();
            let begun = usize::try_from(pair[0].at.as_millis() / 10_000).unwrap();
            prop_assert!(end - begun >= policy.evaluation_periods, "the evidence is newer than the change before: {pair:?}");
            let evidence = &values[end - policy.evaluation_periods..end];
            prop_assert!(evidence.iter().all(|value| policy.asks(*value) == Some(wanted)), "{pair:?} by {evidence:?}");
        }
    }

    #[test]
    fn a_metric_that_stays_moves_the_number_one_way_and_then_nowhere(
        policies in prop::collection::vec(policies(), 1..4),
        start in 1..8usize,
        values in prop::collection::vec(0.0..1.0f64, 3),
    ) {
        let periods: Vec<_> = (0..400).map(|_| values.iter().copied().map(Some).collect()).collect();
        let mut seen = std::collections::BTreeSet::new();
        let policies: Vec<_> = policies.into_iter().filter(|policy| seen.insert(policy.metric)).collect();
        let (acts, end) = play(&policies, start, &periods);
        // The error rate that is known first may ask for fewer before the others are known; it is never overruled.
        let up = acts.iter().filter(|act| act.to > act.from).count();
        prop_assert!(up == 0 || up == acts.len() || acts.iter().any(|act| act.metric == Metric::ErrorRate), "{acts:?}");
        prop_assert!(up == 0 || up == acts.len() || up < acts.len() && acts[up..].iter().all(|act| act.to < act.from), "{acts:?}");
        let (_, later) = play(&policies, end, &periods);
        prop_assert_eq!(end, later, "where it ended it stays");
    }

    #[test]
    fn work_that_stays_as_it_is_comes_to_a_number_that_has_room_for_more_where_there_may_be_some(
        policy in by_utilization(),
        beside in prop::option::of((0.1..6.0f64, 0.01..0.999f64, 1..6usize, 1..6usize)),
        start in 1..24usize,
        work in 0..24usize,
    ) {
        let depth = beside.map(|(up, part, increment, decrement)| {
            let (up, down) = (Some(up), Some(up * part));
            ScalingPolicy { metric: Metric::QueueDepth, up, down, increment, decrement, ..policy.clone() }
        });
        let policies: Vec<_> = [policy.clone()].into_iter().chain(depth).collect();
        let numbers = play_work(&policies, start, work);
        let end = numbers[numbers.len() - 1];
        prop_assert!(numbers[numbers.len() - 100..].iter().all(|number| *number == end), "{numbers:?}");
        let asks = policy.asks(work.min(end) as f64 / end as f64);
        prop_assert!(asks != Some(Direction::Up) || Some(end) == policy.max_workers, "{end} for {work}: {policy:?}");
    }

    #[test]
    fn shares_use_every_worker_and_no_node_gets_more_than_it_may(
        capacities in prop::collection::vec(0..9usize, 0..8),
        workers in 0..60usize,
    ) {
        let capacities: BTreeMap<NodeName, usize> =
            capacities.iter().enumerate().map(|(n, capacity)| (format!("n{n}").parse().unwrap(), *capacity)).collect();
        let divided = shares(workers, &capacities);
        let all: usize = capacities.values().sum();
        prop_assert_eq!(divided.values().sum::<usize>(), workers.min(all));
        for (name, share) in &divided {
            let exact = workers.min(all) as f64 * capacities[name] as f64 / all.max(1) as f64;
            prop_assert!(*share <= capacities[name] && (*share as f64 - exact).abs() < 1.0, "{divided:?}");
        }
    }
}

#[test]
fn a_backlog_lets_more_work_and_its_end_fewer_step_by_step() {
    let long: Vec<_> = [(9.0, 30), (2.0, 30), (0.0, 60)]
        .into_iter()
        .flat_map(|(value, count)| std::iter::repeat_n(value, count))
        .collect();
    let (acts, end) = play_one(&depth(), 3, &long);
    let told: Vec<_> = acts.iter().map(|act| (act.at.as_millis() / 1_000, act.to)).collect();
    assert_eq!(told, [(30, 4), (90, 5), (150, 6), (630, 5), (690, 4), (750, 3), (810, 2), (870, 1)]);
    assert_eq!(end, 1);
}

#[test]
fn one_good_period_among_bad_ones_starts_the_count_anew() {
    assert!(play_one(&depth(), 3, &[9.0, 9.0, 4.0, 9.0, 9.0]).0.is_empty());
    assert_eq!(play_one(&depth(), 3, &[9.0, 9.0, 4.0, 9.0, 9.0, 9.0]).1, 4);
}

#[test]
fn errors_come_first_and_few_of_them_are_no_need() {
    let errors = ScalingPolicy { up: Some(0.1), down: Some(0.5), decrement: 2, metric: Metric::ErrorRate, ..depth() };
    let both = [depth(), errors.clone()];
    let same = |depth: f64, rate: Option<f64>| (0..20).map(|_| vec![Some(depth), rate]).collect::<Vec<_>>();
    assert_eq!(play(&both, 5, &same(9.0, Some(0.9))).1, 1, "many fail, so fewer run, however many wait");
    assert_eq!(play(&both, 3, &same(9.0, Some(0.2))).1, 6, "what waits is heard");
    assert_eq!(play(&both, 3, &same(9.0, None)).1, 6, "nothing ended, so nothing failed");
    assert_eq!(play(&both, 3, &same(2.0, Some(0.0))).0, [], "nobody needs more");
    let alone: Vec<_> = std::iter::repeat_n(0.9, 4).chain(std::iter::repeat_n(0.0, 40)).collect();
    let (acts, end) = play_one(&errors, 6, &alone);
    assert_eq!((acts[0].to, end), (4, 6), "alone it lets them come back");
}

#[test]
fn errors_of_before_the_last_change_silence_nobody_and_later_ones_do() {
    let both = [depth(), ScalingPolicy { up: None, down: Some(0.5), metric: Metric::ErrorRate, ..depth() }];
    let told = |later: &dyn Fn(usize) -> Option<f64>| {
        let rate = |period: usize| if period < 3 { Some(0.9) } else { later(period) };
        let periods: Vec<_> = (0..33).map(|period| vec![Some(50.0), rate(period)]).collect();
        let acts = play(&both, 5, &periods).0;
        acts.iter().map(|act| (act.at.as_millis() / 1_000, act.to, act.metric)).collect::<Vec<_>>()
    };
    let (depth, errors) = (Metric::QueueDepth, Metric::ErrorRate);
    // Nothing ends any more, so nothing is known of errors with four workers.
    assert_eq!(told(&|_| None), [(30, 4, errors), (90, 5, depth), (150, 6, depth)]);
    let now_and_then = told(&|period| (period % 3 == 2).then_some(0.9));
    assert_eq!(now_and_then, [(30, 4, errors), (120, 3, errors), (210, 2, errors), (300, 1, errors)]);
    assert_eq!(told(&|period| (period == 5).then_some(0.9)), [(30, 4, errors)], "the newest are still bad");
}

#[test]
fn utilization_does_not_go_down_to_where_it_would_go_up_again() {
    let policy = ScalingPolicy {
        metric: Metric::AgentUtilization,
        up: Some(0.9),
        down: Some(0.7),
        cooldown: Duration::ZERO,
        max_workers: Some(9),
        ..depth()
    };
    let end = |policies: &[ScalingPolicy], start, work| play_work(policies, start, work)[399];
    let one = std::slice::from_ref(&policy);
    assert_eq!((end(one, 2, 2), end(one, 9, 2)), (3, 3), "two of two ask for a third place, which stays");
    let coarse = ScalingPolicy { decrement: 5, ..policy.clone() };
    assert_eq!(end(&[coarse], 9, 2), 3, "a step goes as far as it may");
    assert_eq!(end(one, 9, 0), 1);
    // Nor by another policy, which sees that nothing waits.
    let waits = ScalingPolicy { down: Some(1.0), up: None, cooldown: Duration::ZERO, ..depth() };
    assert_eq!(end(&[waits, policy.clone()], 6, 2), 3);
    let samples = [(0, 2.0 / 3.0), (10, 2.0 / 3.0), (20, 2.0 / 3.0)];
    let samples = samples.map(|(from, value)| Sample { from: at(from), value });
    let standing = Standing { current: 3, bounds: (1, 9), last_action_at: None };
    let ScaleDecision::Hold(why) = decide(&[Watched { policy: &policy, samples: &samples }], &standing, at(30)) else {
        panic!("it goes down");
    };
    assert_eq!(why, "agent_utilization is 67 %, below 70 %, and with fewer workers the same work would ask for more");
}

#[test]
fn more_is_heard_before_fewer() {
    let busy = ScalingPolicy { metric: Metric::AgentUtilization, up: Some(0.8), down: Some(0.2), ..depth() };
    let periods: Vec<_> = (0..40).map(|_| vec![Some(0.0), Some(1.0)]).collect();
    assert_eq!(play(&[depth(), busy], 3, &periods).1, 6);
}

#[test]
fn what_a_person_set_and_what_policies_made_of_it_are_told_apart() {
    let action = |to, metric| ScalingAction { at: at(1), from: 3, to, metric, value: None, why: String::new() };
    let mut state = ScalingState::default();
    assert_eq!(state.workers(&[], 3), None, "without policies nothing changes");
    assert_eq!(state.workers(&[depth()], 9), Some(6), "bounds hold at once");
    state.act(action(5, None));
    assert_eq!((state.workers(&[], 3), state.workers(&[depth()], 3)), (Some(5), Some(5)));
    state.act(action(6, Some(Metric::QueueDepth)));
    assert_eq!((state.workers(&[], 3), state.workers(&[depth()], 3)), (None, Some(6)));
    let paused = ScalingPolicy { is_active: false, ..depth() };
    assert_eq!(state.workers(&[paused], 3), Some(6), "a pause leaves the number");
    let kept: ScalingState = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
    assert_eq!(kept, state);
}

#[test]
fn what_is_set_by_command_goes_before_what_is_configured() {
    let configured = [depth(), ScalingPolicy { scope: ScaleScope::Swarm, ..depth() }];
    let mut state = ScalingState::default();
    assert_eq!(state.policies(&configured, ScaleScope::Node), configured[..1]);
    let other = ScalingPolicy { up: Some(7.0), ..depth() };
    state.changes.insert(Metric::QueueDepth, Some(other.clone()));
    assert_eq!(state.policies(&configured, ScaleScope::Node), [other]);
    state.changes.insert(Metric::QueueDepth, None);
    assert!(state.policies(&configured, ScaleScope::Node).is_empty());
}

#[test]
fn a_policy_that_could_flap_or_never_speak_is_refused() {
    let rate = ScalingPolicy { metric: Metric::ErrorRate, up: Some(0.1), down: Some(0.5), ..depth() };
    let faults = [
        (ScalingPolicy { up: None, down: None, ..depth() }, "metric"),
        (ScalingPolicy { down: Some(4.0), ..depth() }, "down"),
        (ScalingPolicy { down: Some(0.0), ..depth() }, "down"),
        (ScalingPolicy { up: Some(f64::NAN), ..depth() }, "up"),
        (ScalingPolicy { up: Some(0.6), ..rate.clone() }, "up"),
        (ScalingPolicy { down: Some(1.0), ..rate.clone() }, "down"),
        (ScalingPolicy { metric: Metric::AgentUtilization, up: Some(1.0), down: None, ..depth() }, "up"),
        (ScalingPolicy { min_workers: 7, ..depth() }, "max_workers"),
        (ScalingPolicy { evaluation_periods: 0, ..depth() }, "evaluation_periods"),
        (ScalingPolicy { period: Duration::ZERO, ..depth() }, "period"),
    ];
    for (policy, key) in faults {
        assert_eq!(policy.fault().map(|(key, _)| key), Some(key), "{policy:?}");
    }
    assert_eq!((depth().fault(), rate.fault()), (None, None));
    assert_eq!(rate.to_string(), "+1 below 10 %, -1 above 50 %; 3 x 10s, then 1m of rest");
}
