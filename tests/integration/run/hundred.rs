//! A backlog of a hundred tickets, of which some fail, some fail once, some need each other and some conflict, with agents
//! of varied duration, and an engine that is killed twice: what lands, what is named, and what the statistics say of it.

use std::collections::BTreeMap;

use rustix::process::Signal;
use serde_json::Value;

use super::scenery::{Beside, QUICK, starts, states};
use crate::support::scene::{assert_no_processes, signal};
use crate::support::swarm::TestSwarm;

/// Workers at once.
const WORKERS: &str = "8";

/// Waits for 100 to 400 ms, as if for a model, and does what the ticket's name says.
const SCRIPT: &str = r#"
echo "$SWARM_TICKET" >> "$SWARM_REPO/../started.log"
number=${SWARM_TICKET##*-}
sleep "0.$((1$number % 4 + 1))"
case $SWARM_TICKET in
    bad-*) echo "it broke" >&2; exit 3 ;;
    flaky-*)
        [ "$(grep -c "^$SWARM_TICKET$" "$SWARM_REPO/../started.log")" -gt 1 ] || exit 3
        echo "$SWARM_TICKET" > "$SWARM_TICKET.txt" ;;
    twin-*)
        pair=${SWARM_TICKET%?}
        # Neither is finished before the other has begun.
        until [ "$(grep "^$pair" "$SWARM_REPO/../started.log" | sort -u | wc -l)" -gt 1 ]; do sleep 0.05; done
        if grep -q '<<<<<<<' "$pair.txt" 2>/dev/null; then
            sed -i '/^[<=>]\{7\}/d' "$pair.txt"
            git add "$pair.txt"
            git -c core.editor=true commit --quiet --no-edit
        else
            echo "$SWARM_TICKET" >> "$pair.txt"
        fi ;;
    *) echo "$SWARM_TICKET" > "$SWARM_TICKET.txt" ;;
esac
"#;

/// The tickets with what each needs: eight that conflict in pairs, four that fail, eight that need one of those by one or
/// two steps, four that fail once, and 76 others, of which two in three need an earlier one.
fn backlog() -> BTreeMap<String, Vec<String>> {
    let mut tickets = BTreeMap::new();
    for pair in 0..4 {
        for half in ["1", "2"] {
            tickets.insert(format!("twin-{pair}{half}"), Vec::new());
        }
        tickets.insert(format!("bad-{pair}"), Vec::new());
        tickets.insert(format!("after-{pair}"), vec![format!("bad-{pair}")]);
        tickets.insert(format!("last-{pair}"), vec![format!("after-{pair}"), "work-00".to_owned()]);
        tickets.insert(format!("flaky-{pair}"), Vec::new());
    }
    for number in 0..76_usize {
        let needs = match number % 3 {
            0 => Vec::new(),
            _ => number.checked_sub(20).map(|need| format!("work-{need:02}")).into_iter().collect(),
        };
        tickets.insert(format!("work-{number:02}"), needs);
    }
    tickets
}

/// Writes the backlog.
fn repository() -> TestSwarm {
    let swarm = TestSwarm::new();
    swarm.write_shell_agent("shell", SCRIPT);
    swarm.write(".swarm/config.yaml", QUICK);
    for (id, needs) in backlog() {
        super::scenery::ticket(&swarm, &id, &needs.iter().map(String::as_str).collect::<Vec<_>>());
    }
    swarm
}

/// Whether a ticket can land.
fn can_land(id: &str) -> bool {
    !["bad-", "after-", "last-"].iter().any(|kind| id.starts_with(kind))
}

/// How many tickets have landed.
fn landed(swarm: &TestSwarm) -> usize {
    landings(swarm).len()
}

/// The tickets whose work is on the target, one for each landing.
fn landings(swarm: &TestSwarm) -> Vec<String> {
    let log = swarm.git(["log", "--first-parent", "--format=%(trailers:key=Swarm-Ticket,valueonly)"]).success();
    log.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn a_hundred_tickets_and_two_killed_engines_land_what_can_land_once_and_name_the_rest() {
    let swarm = repository();
    let args = ["run", "--all", "--merge", "--headless", "--max-workers", WORKERS];
    for (name, until) in [("first", 15), ("second", 45)] {
        let mut run = Beside::start(&swarm, name, &args);
        swarm.wait_until(&format!("{until} landed tickets"), || landed(&swarm) >= until);
        signal(&run.pid(), Signal::KILL);
        run.end(&swarm);
    }
    let view = swarm.run(args.into_iter().chain(["--json"])).expect_code(3).json();
    assert_states(&swarm);
    assert_work(&swarm);
    assert_left(&view);
    assert_starts(&swarm);
    assert_statistics(&swarm);
    assert_no_processes(&swarm);
}

/// Every ticket is where it belongs.
fn assert_states(swarm: &TestSwarm) {
    let expected = backlog().into_keys().map(|id| {
        let state = match id.split('-').next().unwrap() {
            "bad" => "dead",
            "after" | "last" => "blocked",
            _ => "landed",
        };
        (id, state.to_owned())
    });
    assert_eq!(states(swarm), expected.collect());
}

/// The target has the work of each ticket that can land, once.
fn assert_work(swarm: &TestSwarm) {
    let mut landings = landings(swarm);
    landings.sort_unstable();
    let expected: Vec<_> = backlog().into_keys().filter(|id| can_land(id)).collect();
    assert_eq!(landings, expected);
    for id in expected {
        let pair = id.strip_prefix("twin-").map(|name| format!("twin-{}", &name[..1]));
        let text = swarm.read(&format!("{}.txt", pair.as_ref().unwrap_or(&id)));
        assert_eq!(text.lines().filter(|line| **line == id).count(), 1, "`{id}` in\n{text}");
        assert_eq!(text.lines().count(), if pair.is_some() { 2 } else { 1 }, "{text}");
    }
    let worktrees = swarm.git(["worktree", "list"]).success();
    assert_eq!(worktrees.lines().count(), 1 + 4, "only those of the failed ones are left:\n{worktrees}");
}

/// The last run names what did not make it, and why.
fn assert_left(view: &Value) {
    assert_eq!((&view["outcome"], view["exit_code"].as_u64()), (&"partial".into(), Some(3)), "{view:#}");
    let left = view["tickets"].as_array().unwrap().iter().filter(|ticket| ticket["made"] == false);
    let left: BTreeMap<_, _> =
        left.map(|ticket| (ticket["ticket"].as_str().unwrap(), ticket["why"].as_str().unwrap())).collect();
    assert_eq!(left.len(), 12, "{left:#?}");
    for number in 0..4 {
        let why = |kind: &str| left[format!("{kind}-{number}").as_str()];
        let failed = "failed, after 2 attempts: its command exited with code 3";
        assert!(why("bad").starts_with(failed), "{left:#?}");
        assert!(why("after").starts_with(&format!("needs `bad-{number}`, which {failed}")), "{left:#?}");
        assert!(why("last").starts_with(&format!("needs `after-{number}`, which needs `bad-{number}`")), "{left:#?}");
    }
}

/// No agent was started more often than its ticket needed.
fn assert_starts(swarm: &TestSwarm) {
    let starts = starts(swarm);
    let count = |id: &str| starts.get(id).copied().unwrap_or_default();
    for id in backlog().keys().filter(|id| !id.starts_with("twin-")) {
        let expected = match id.split('-').next().unwrap() {
            "bad" | "flaky" => 2,
            "after" | "last" => 0,
            _ => 1,
        };
        assert_eq!(count(id), expected, "`{id}` in {starts:?}");
    }
    for pair in 0..4 {
        assert_eq!(count(&format!("twin-{pair}1")) + count(&format!("twin-{pair}2")), 3, "{starts:?}");
    }
}

/// `stats` counts what happened, and its utilisation is that of the events.
fn assert_statistics(swarm: &TestSwarm) {
    let stats = swarm.json(["stats"]);
    let total = &stats["total"];
    let counts = ["ended", "landed", "failed"].map(|name| total[name].as_u64().unwrap());
    assert_eq!(counts, [92, 88, 4], "{stats:#}");
    let said = total["utilisation"].as_f64().unwrap();
    let known = utilisation(swarm);
    assert!((said - known).abs() < 0.05, "it says {said}, and the events say {known}");
    let while_queued = total["utilisation_while_queued"].as_f64().unwrap();
    assert!(while_queued > said && while_queued <= 1.0, "{while_queued} and {said}");
    swarm.run(["stats"]).says("while tickets waited");
}

/// Time that tickets were running as a part of the time of all places, while any of the engines was heard of.
fn utilisation(swarm: &TestSwarm) -> f64 {
    let text = swarm.run(["events", "--json"]).success();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let at = |event: &Value| event["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond();
    let runs: Vec<(i64, i64)> = events
        .iter()
        .filter(|event| event["event"] == "run_began")
        .map(|began| (at(began), events.iter().filter(|event| event["run"] == began["run"]).map(at).max().unwrap()))
        .collect();
    assert_eq!(runs.len(), 3, "{runs:?}");
    let mut moments: Vec<(i64, i64)> = events.iter().map(|event| (at(event), change_of_running(event))).collect();
    moments.sort_unstable();
    let (mut running, mut busy, mut there) = (0, 0, 0);
    for pair in moments.windows(2) {
        running += pair[0].1;
        let (from, to) = (pair[0].0, pair[1].0);
        if runs.iter().any(|(began, heard)| *began <= from && to <= *heard) {
            busy += running * (to - from);
            there += WORKERS.parse::<i64>().unwrap() * (to - from);
        }
    }
    busy as f64 / there as f64
}

/// By how much an event changes the number of running tickets.
fn change_of_running(event: &Value) -> i64 {
    match event["event"] == "moved" {
        true => i64::from(event["to"] == "running") - i64::from(event["from"] == "running"),
        false => 0,
    }
}
