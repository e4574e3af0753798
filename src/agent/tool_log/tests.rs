use std::io::Write;
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::ToolLog;
use crate::agent::event::{AgentEvent, HookCall, ToolEnd, ToolStart};
use crate::agent::late_events;
use crate::agent::redact::Redactor;
use crate::files::open_log;
use crate::model::Time;
use crate::model::agent::RuntimeKind;
use crate::model::tool_call::{ToolBody, ToolOrigin, ToolOutcome, ToolRecord};

fn at(millis: i64) -> Time {
    Time::from_millis(millis)
}

fn origin(attempt: u32, session: &str) -> ToolOrigin {
    ToolOrigin {
        run: crate::model::RunId::random(),
        ticket: "fix".parse().unwrap(),
        worker: "fix".parse().unwrap(),
        attempt,
        agent: "ticket-worker".parse().unwrap(),
        runtime: RuntimeKind::Claude,
        session_id: session.to_owned(),
    }
}

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("tool_calls.jsonl")
    }

    fn open(&self, attempt: u32, session: &str) -> ToolLog {
        self.open_late(attempt, session, &[])
    }

    fn open_late(&self, attempt: u32, session: &str, late: &[AgentEvent]) -> ToolLog {
        let redactor = Redactor::new(&[]).unwrap();
        ToolLog::open(&self.path(), origin(attempt, session), redactor, late, at(90_000)).unwrap()
    }

    fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path()).unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

fn start(id: &str, millis: i64) -> ToolStart {
    ToolStart {
        at: at(millis),
        call_id: id.to_owned(),
        tool: "Bash".to_owned(),
        input: json!({"command": "ls"}),
        agent_id: None,
        parent_call_id: None,
    }
}

fn end(id: &str, outcome: ToolOutcome, millis: i64) -> ToolEnd {
    ToolEnd::bare(id.to_owned(), outcome, at(millis))
}

#[test]
fn records_have_exactly_the_contracted_fields() {
    let place = Place::new();
    let mut log = place.open(1, "s1");
    assert!(place.path().exists(), "the file is there before the first call");
    let mut first = start("t1", 1_000);
    first.input = json!({"command": "TOKEN=abc ls", "content": "x".repeat(5000)});
    log.start(&first).unwrap();
    let mut last = end("t1", ToolOutcome::Error, 1_500);
    last.error = Some("PASSWORD=hunter2 wrong".to_owned());
    last.exit_code = Some(3);
    last.output_bytes = 7;
    log.end(&last).unwrap();
    let mut nested = start("t2", 2_000);
    (nested.agent_id, nested.parent_call_id) = (Some("a".to_owned()), Some("t0".to_owned()));
    log.start(&nested).unwrap();
    let lines = place.lines();
    let keys = |line: &Value| line.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let common =
        ["schema", "seq", "event", "at", "run", "ticket", "worker", "attempt", "agent", "runtime", "session_id"];
    let sorted = |more: &[&str]| {
        let mut all: Vec<String> = common.iter().chain(more).map(ToString::to_string).collect();
        all.sort();
        all
    };
    let of = |line: &Value| {
        let mut keys = keys(line);
        keys.sort();
        keys
    };
    assert_eq!(of(&lines[0]), sorted(&["call_id", "tool", "input", "redacted", "truncated"]));
    assert_eq!(
        of(&lines[1]),
        sorted(&["call_id", "tool", "outcome", "error", "exit_code", "duration_ms", "output_bytes"])
    );
    assert_eq!(of(&lines[2]), sorted(&["call_id", "tool", "input", "agent_id", "parent_call_id"]));
    assert_eq!(lines[0]["at"], json!("1970-01-01T00:00:01.000Z"));
    assert_eq!(lines[0]["redacted"], json!(["command"]));
    assert_eq!(lines[0]["truncated"]["content"]["bytes"], json!(5000));
    assert_eq!(lines[0]["runtime"], json!("claude"));
    assert_eq!(lines[1]["error"], json!("PASSWORD=[redacted] wrong"));
    assert_eq!((&lines[1]["outcome"], &lines[1]["duration_ms"]), (&json!("error"), &json!(500)));
    assert_eq!((&lines[0]["schema"], &lines[1]["seq"], &lines[1]["event"]), (&json!(1), &json!(2), &json!("end")));
    assert_eq!(log.counts(), (2, 1));
}

#[test]
fn repeated_starts_and_ends_are_one() {
    let place = Place::new();
    let mut log = place.open(1, "s1");
    assert!(log.start(&start("t", 1)).unwrap());
    assert!(!log.start(&start("t", 2)).unwrap());
    assert!(log.end(&end("t", ToolOutcome::Ok, 3)).unwrap());
    assert!(!log.end(&end("t", ToolOutcome::Error, 4)).unwrap());
    assert!(!log.start(&start("t", 5)).unwrap());
    assert_eq!(place.lines().len(), 2);
}

#[test]
fn an_end_without_a_start_needs_to_know_the_call() {
    let place = Place::new();
    let mut log = place.open(1, "s1");
    assert!(!log.end(&end("t", ToolOutcome::Ok, 3)).unwrap());
    let mut known = end("t", ToolOutcome::Ok, 3);
    known.start = Some(Box::new(start("t", 3)));
    assert!(log.end(&known).unwrap());
    assert_eq!(place.lines().len(), 2);
}

#[test]
fn a_new_supervisor_goes_on_counting_and_closes_what_its_forerunner_left() {
    let place = Place::new();
    let mut log = place.open(1, "s1");
    log.start(&start("t1", 1_000)).unwrap();
    log.start(&start("t2", 2_000)).unwrap();
    log.end(&end("t1", ToolOutcome::Error, 3_000)).unwrap();
    drop(log);
    let mut log = place.open(1, "s1");
    let lines = place.lines();
    assert_eq!(lines.len(), 4);
    assert_eq!((&lines[3]["call_id"], &lines[3]["outcome"]), (&json!("t2"), &json!("lost")));
    assert_eq!((&lines[3]["seq"], &lines[3]["duration_ms"]), (&json!(4), &json!(88_000)));
    assert_eq!(log.counts(), (2, 1));
    assert!(!log.start(&start("t1", 4_000)).unwrap(), "an old call is known");
    assert!(log.start(&start("t3", 5_000)).unwrap());
    assert_eq!(place.lines()[4]["seq"], json!(5));
    drop(log);
    assert_eq!(place.open(2, "s2").counts(), (0, 0), "counts are those of the attempt");
}

#[test]
fn equal_ids_of_two_conversations_are_two_calls() {
    let place = Place::new();
    let mut log = place.open(1, "s1");
    log.start(&start("t", 1)).unwrap();
    log.end(&end("t", ToolOutcome::Ok, 2)).unwrap();
    log.take(&AgentEvent::SessionStarted { id: "s2".to_owned(), transcript: None }).unwrap();
    assert!(log.take(&AgentEvent::ToolStarted(start("t", 3))).unwrap());
    assert!(!log.take(&AgentEvent::WaitingOver).unwrap());
    assert_eq!(place.lines()[2]["session_id"], json!("s2"));
}

#[test]
fn a_torn_last_line_costs_that_record_only() {
    let place = Place::new();
    let mut log = place.open(1, "s1");
    log.start(&start("t1", 1)).unwrap();
    drop(log);
    open_log(&place.path()).unwrap().write_all(b"{\"schema\":1,\"seq\":2,\"ev").unwrap();
    drop(place.open(1, "s1"));
    let text = std::fs::read_to_string(place.path()).unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
    let lines = place.lines();
    assert_eq!((lines.len(), &lines[1]["outcome"], &lines[1]["seq"]), (2, &json!("lost"), &json!(2)));
}

#[test]
fn hooks_that_found_no_supervisor_are_folded_in_before_the_rest_is_lost() {
    let place = Place::new();
    let mut log = place.open(1, "s1");
    log.start(&start("t1", 1_000)).unwrap();
    log.start(&start("t2", 1_000)).unwrap();
    drop(log);
    let call = |event: &str, id: &str, millis| {
        let payload = json!({"session_id": "s1", "tool_name": "Bash", "tool_input": {}, "tool_use_id": id});
        HookCall { at: at(millis), event: event.to_owned(), payload }
    };
    let calls = [call("PostToolUse", "t1", 2_000), call("PreToolUse", "t3", 3_000), call("PostToolUse", "t3", 4_000)];
    let late = late_events(RuntimeKind::Claude, &calls, None);
    place.open_late(1, "s1", &late);
    // Folding in twice is folding in once.
    place.open_late(1, "s1", &late);
    let ends: Vec<(Value, Value)> = place
        .lines()
        .into_iter()
        .filter(|line| line["event"] == "end")
        .map(|line| (line["call_id"].clone(), line["outcome"].clone()))
        .collect();
    let expected = [("t1", "ok"), ("t3", "ok"), ("t2", "lost")];
    assert_eq!(ends, expected.map(|(id, outcome)| (json!(id), json!(outcome))));
}

#[test]
fn a_log_that_cannot_be_written_says_so() {
    let place = Place::new();
    std::fs::create_dir(place.path()).unwrap();
    let redactor = Redactor::new(&[]).unwrap();
    assert!(ToolLog::open(&place.path(), origin(1, "s"), redactor, &[], at(0)).is_err());
}

#[derive(Debug, Clone)]
enum Step {
    Start(u8),
    End(u8, bool),
    Session(u8),
    Close,
    Reopen,
    Tear,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6_u8).prop_map(Step::Start),
        4 => (0..6_u8, any::<bool>()).prop_map(|(id, knows)| Step::End(id, knows)),
        1 => (0..2_u8).prop_map(Step::Session),
        1 => Just(Step::Close),
        1 => Just(Step::Reopen),
        1 => Just(Step::Tear),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn every_start_has_one_end_whatever_happens(steps in prop::collection::vec(step(), 0..40)) {
        let place = Place::new();
        let mut log = place.open(1, "0");
        for (index, step) in steps.into_iter().enumerate() {
            let millis = i64::try_from(index).unwrap();
            match step {
                Step::Start(id) => drop(log.start(&start(&id.to_string(), millis)).unwrap()),
                Step::End(id, knows) => {
                    let mut end = end(&id.to_string(), ToolOutcome::Ok, millis);
                    end.start = knows.then(|| Box::new(start("other", millis)));
                    log.end(&end).unwrap();
                }
                Step::Session(id) => {
                    log.take(&AgentEvent::SessionStarted { id: id.to_string(), transcript: None }).unwrap();
                }
                Step::Close => drop(log.close_open(ToolOutcome::Interrupted, at(millis)).unwrap()),
                Step::Reopen => log = place.open(1, "0"),
                Step::Tear => {
                    open_log(&place.path()).unwrap().write_all(b"{\"torn\":").unwrap();
                    log = place.open(1, "0");
                }
            }
        }
        drop(log);
        drop(place.open(1, "0"));
        let text = std::fs::read_to_string(place.path()).unwrap();
        let records: Vec<ToolRecord> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        for (index, record) in records.iter().enumerate() {
            prop_assert_eq!(record.seq, index as u64 + 1);
            let same = |other: &&ToolRecord| {
                other.call_id == record.call_id && other.origin.session_id == record.origin.session_id
            };
            let all: Vec<_> = records.iter().filter(same).collect();
            prop_assert_eq!(all.len(), 2);
            let is_pair = matches!((&all[0].body, &all[1].body), (ToolBody::Start { .. }, ToolBody::End { .. }));
            prop_assert!(is_pair);
        }
    }
}
