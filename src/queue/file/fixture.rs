//! State folders as earlier formats wrote them, read for ever.
//!
//! `tests/fixtures/state-v1` to `state-v4` were written once by [`write_state`] and are never written again: a program
//! that cannot read one has broken the format. A new format gets a folder of its own beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::FileQueue;
use crate::model::agent::RuntimeKind;
use crate::model::budget::Budget;
use crate::model::event::{Event, EventRecord};
use crate::model::message::Message;
use crate::model::settings::{Durability, PortSettings};
use crate::model::ticket::{DependencyKind, Ticket, TicketState as S};
use crate::model::tool_call::{TOOL_LOG_SCHEMA, ToolBody, ToolOrigin, ToolOutcome, ToolRecord};
use crate::model::worker::{
    Attempt, Changes, CheckResult, Evidence, EvidenceSource, Figures, Live, Outcome, Phase, Place, ProcessIdentity,
    Status, TmuxSession, Worker,
};
use crate::model::{CommitId, Time, WorkerId};
use crate::queue::contract::{LONG, claim_only, id, needs, publish, request, ticket};
use crate::queue::{ClaimRequest, Completion, Queue, Settlement};
use crate::store::{
    CommentState, JsonLog, LandingIntent, Lines, NewComment, Posted, Review, ReviewVerdict, Side, StatePaths, Store,
    read_live, read_log, touch_live, write_live,
};

/// Asks [`a_fixture_is_written_on_request`] for a folder to write to.
const REQUEST: &str = "SWARM_TEST_WRITE_STATE_TO";

/// The commit every record of the fixture names.
fn commit() -> CommitId {
    "0123456789abcdef0123456789abcdef01234567".parse().unwrap()
}

/// The moment most records of the fixture name.
fn moment() -> Time {
    Time::from_millis(1_763_719_200_123)
}

/// A worker with every field filled.
fn worker(name: &str, phase: Phase) -> Worker {
    Worker {
        id: name.parse().unwrap(),
        ticket: name.split('+').next().unwrap().parse().unwrap(),
        title: "Fix the parser".to_owned(),
        agent: "ticket-worker".parse().unwrap(),
        runtime: RuntimeKind::Claude,
        place: Place {
            worktree: PathBuf::from("/srv/project-worktrees").join(name),
            branch: format!("swarm/{name}").parse().unwrap(),
            base: commit(),
            target: "main".parse().unwrap(),
            first_port: 41_000,
            port_count: 10,
            made_branch: true,
            made_paths: vec!["node_modules".into()],
            stacked_on: None,
        },
        attempt: Attempt {
            number: 1,
            fence: 1,
            run: serde_json::from_str("\"2d3f1c84-5d0f-4a31-9a0e-7f6a3c7f0b11\"").unwrap(),
            session_id: Some("0b7c9a52-64a4-4c6e-9d0c-0a8f4f3e5d21".to_owned()),
            started_at: moment(),
            headless: false,
            tmux: Some(TmuxSession {
                socket: "swarm".to_owned(),
                id: "$3".to_owned(),
                name: "project-a1b2c3-running".to_owned(),
            }),
        },
        phase,
        created_at: moment(),
    }
}

/// A process that is long gone.
fn process() -> ProcessIdentity {
    ProcessIdentity { pid: 4_242, start_ticks: 99, boot_id: "0d1e2f30-0000-4000-8000-000000000001".to_owned() }
}

/// The tickets of the fixture, one in every state that the program writes.
const STATES: [(&str, S); 12] = [
    ("queued", S::Queued),
    ("blocked", S::Blocked),
    ("running", S::Running),
    ("review", S::Review),
    ("approved", S::Approved),
    ("landing", S::Landing),
    ("landed", S::Landed),
    ("done", S::Done),
    ("failed", S::Failed),
    ("dead", S::Dead),
    ("lost", S::Lost),
    ("cancelled", S::Cancelled),
];

/// Brings one ticket to its state.
fn write_ticket(queue: &dyn Queue, name: &str, state: S) {
    let depends_on = if state == S::Blocked { vec![needs("running", DependencyKind::Success)] } else { Vec::new() };
    let max_attempts = if state == S::Dead { 1 } else { 3 };
    let content = Ticket {
        depends_on,
        max_attempts,
        capabilities: vec!["rust".to_owned()],
        timeout: Some(Duration::from_secs(1_800)),
        budget: Budget { usd: Some(2.0), tokens: Some(500_000), time: None },
        ..ticket(name)
    };
    publish(queue, content).unwrap();
    if matches!(state, S::Queued | S::Blocked) {
        return;
    }
    let lease = if state == S::Lost { Duration::ZERO } else { LONG };
    let only = Some(vec![id(name)]);
    let wanted = ClaimRequest { only, lease, capabilities: vec!["rust".to_owned()], ..request() };
    let fence = queue.claim(&wanted).unwrap()[0].fence;
    let settlements: &[Settlement] = match state {
        S::Approved => &[Settlement::Approve],
        S::Landing => &[Settlement::Approve, Settlement::BeginLanding],
        S::Landed => &[Settlement::Approve, Settlement::BeginLanding, Settlement::Landed],
        _ => &[],
    };
    let reached = match state {
        S::Running => Ok(S::Running),
        S::Done => queue.complete(&id(name), fence, Completion::Done),
        S::Failed | S::Dead => queue.fail(&id(name), fence, "exit code 1", Some(moment().after(400 * 24 * LONG))),
        S::Lost => queue.expire(Time::now().after(Duration::from_secs(60))).map(|_| S::Lost),
        S::Cancelled => queue.cancel(&id(name)),
        _ => queue.complete(&id(name), fence, Completion::Review),
    };
    let reached =
        settlements.iter().fold(reached.unwrap(), |_, settlement| queue.settle(&id(name), fence, *settlement).unwrap());
    assert_eq!(reached, state);
}

/// Writes a state folder under `common_dir` with something of everything.
fn write_state(common_dir: &Path) {
    let paths = StatePaths::new(common_dir);
    let store = Arc::new(Store::open(&paths, Durability::Normal).unwrap());
    let queue = FileQueue::new(Arc::clone(&store), "fixture");
    for (name, state) in STATES {
        write_ticket(&queue, name, state);
    }
    store.set_meta("project", "project").unwrap();
    let outcome = Outcome::Finished { commit: commit() };
    store.put_worker(&worker("running", Phase::Supervised { supervisor: process(), since: moment() })).unwrap();
    store.put_worker(&worker("review", Phase::Ended { outcome: outcome.clone(), at: moment() })).unwrap();
    let keep = "refs/swarm/keep/landed/1".to_owned();
    store
        .put_worker(&worker("landed+2", Phase::Released { outcome, keep, at: moment(), ended_at: Some(moment()) }))
        .unwrap();
    store.take_ports(&"running".parse().unwrap(), PortSettings::default(), &[]).unwrap();
    store.put_review(&review()).unwrap();
    store.add_comments(&[comment()]).unwrap();
    store.put_intents(&[intent()]).unwrap();
    store.append_event(&event()).unwrap();

    let running: WorkerId = "running".parse().unwrap();
    write_live(&paths.live(&running), &live()).unwrap();
    JsonLog::open(&paths.events(&running)).unwrap().append(&event()).unwrap();
    let mut tools = JsonLog::open(&paths.tool_calls(&running)).unwrap();
    for record in tool_records() {
        tools.append(&record).unwrap();
    }
}

/// The one review of the fixture.
fn review() -> Review {
    Review {
        ticket: id("review"),
        worker: "review".parse().unwrap(),
        commit: commit(),
        verdict: ReviewVerdict::Rejected,
        by: "Ann <ann@example.org>".to_owned(),
        text: "Almost.".to_owned(),
        at: moment(),
    }
}

/// The one comment of the fixture; format 1 had it within the review.
fn comment() -> NewComment {
    NewComment {
        ticket: id("review"),
        worker: "review".parse().unwrap(),
        commit: commit(),
        file: "src/a b.rs".to_owned(),
        side: Side::New,
        lines: Some(Lines { first: 3, last: 3 }),
        quote: Vec::new(),
        text: "why?".to_owned(),
        by: review().by,
        severity: None,
        state: CommentState::Sent,
        at: moment(),
    }
}

/// The one open intent of the fixture.
fn intent() -> LandingIntent {
    LandingIntent {
        ticket: id("landing"),
        worker: "landing".parse().unwrap(),
        fence: 1,
        work: commit(),
        target: "main".parse().unwrap(),
        from: commit(),
        to: commit(),
        at: moment(),
        evidence: None,
    }
}

/// The one fact of the fixture.
fn event() -> EventRecord {
    EventRecord {
        schema: 1,
        at: moment(),
        run: None,
        ticket: id("running"),
        worker: Some("running".parse().unwrap()),
        event: Event::AgentStarted { pid: 4_242, attempt: 1, resumed: false, agent: None, model: None },
    }
}

/// The live file of the fixture.
fn live() -> Live {
    Live {
        heartbeat_at: moment(),
        attempt: 1,
        agent: Some(process()),
        status: Status::Waiting,
        reason: "permission for Bash".to_owned(),
        since: moment(),
        evidence: vec![Evidence { source: EvidenceSource::Hook, says: "asked".to_owned(), at: moment() }],
        figures: Figures {
            tool_calls: Some(2),
            tool_errors: Some(1),
            input_tokens: Some(3),
            output_tokens: Some(4),
            cost_usd: Some(0.5),
        },
        changes: Some(Changes { commits: 1, files_changed: 2, insertions: 3, deletions: 4, dirty: true, at: moment() }),
        resources: None,
        sign: None,
        checks: vec![CheckResult {
            timed_out: false,
            run: "cargo test".to_owned(),
            passed: false,
            exit_code: Some(101),
            duration_ms: 9,
            output_tail: "no".to_owned(),
        }],
        held_at: None,
        outside_scope: Vec::new(),
    }
}

/// The tool log of the fixture.
fn tool_records() -> [ToolRecord; 2] {
    let origin = ToolOrigin {
        run: worker("running", Phase::Supervised { supervisor: process(), since: moment() }).attempt.run,
        ticket: id("running"),
        worker: "running".parse().unwrap(),
        attempt: 1,
        agent: "ticket-worker".parse().unwrap(),
        runtime: RuntimeKind::Claude,
        session_id: "0b7c9a52-64a4-4c6e-9d0c-0a8f4f3e5d21".to_owned(),
    };
    let record = |seq, body| ToolRecord {
        schema: TOOL_LOG_SCHEMA,
        seq,
        at: moment(),
        origin: origin.clone(),
        agent_id: None,
        parent_call_id: None,
        call_id: "toolu_1".to_owned(),
        tool: "Bash".to_owned(),
        body,
    };
    let input = serde_json::json!({"command": "cargo test"});
    let end = ToolBody::End {
        outcome: ToolOutcome::Error,
        error: Some("exit code 101".to_owned()),
        exit_code: Some(101),
        duration_ms: 12,
        output_bytes: 34,
        usage: None,
    };
    let start = ToolBody::Start { input, redacted: vec!["env.TOKEN".to_owned()], truncated: Default::default() };
    [record(1, start), record(2, end)]
}

/// Copies a folder and what is in it.
fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Checks that everything [`write_state`] wrote is there, and that work can go on with it.
fn check_state(common_dir: &Path) {
    let paths = StatePaths::new(common_dir);
    let store = Arc::new(Store::open(&paths, Durability::Normal).unwrap());
    let queue = FileQueue::new(Arc::clone(&store), "fixture");
    for (name, state) in STATES {
        let entry = queue.ticket(&id(name)).unwrap().unwrap();
        assert_eq!(entry.state, state, "{name}");
        assert_eq!(entry.ticket.budget, Budget { usd: Some(2.0), tokens: Some(500_000), time: None });
        assert_eq!(entry.ticket.timeout, Some(Duration::from_secs(1_800)));
    }
    assert_eq!(queue.snapshot().unwrap().len(), STATES.len());
    assert_eq!(queue.events_since(0, usize::MAX).unwrap().len(), 37);
    assert!(queue.ticket(&id("failed")).unwrap().unwrap().retry_at.is_some());
    assert_eq!(store.meta("project").unwrap().as_deref(), Some("project"));

    let ids: Vec<String> = store.workers().unwrap().into_iter().map(|worker| worker.id.into()).collect();
    assert_eq!(ids, ["running", "review", "landed+2"]);
    let supervised = worker("running", Phase::Supervised { supervisor: process(), since: moment() });
    assert_eq!(store.worker(&supervised.id).unwrap().unwrap(), supervised);
    assert_eq!(store.reviews(&"review".parse().unwrap()).unwrap(), [review()]);
    let comments = store.comments(&"review".parse().unwrap()).unwrap();
    assert_eq!(comments.into_iter().map(|comment| comment.content).collect::<Vec<_>>(), [comment()]);
    let intents: Vec<LandingIntent> = store.intents().unwrap().into_iter().map(|(_, intent)| intent).collect();
    assert_eq!(intents, [intent()]);
    let events: Vec<EventRecord> = store.events_since(0, 99).unwrap().into_iter().map(|(_, event)| event).collect();
    assert_eq!(events, [event()]);
    assert_eq!(store.take_ports(&"new".parse().unwrap(), PortSettings::default(), &[]).unwrap(), 41_010);
    // Copying it is no heartbeat.
    touch_live(&paths.live(&supervised.id), live().heartbeat_at).unwrap();
    assert_eq!(read_live(&paths.live(&supervised.id)).unwrap(), Some(live()));
    assert_eq!(read_log::<EventRecord>(&paths.events(&supervised.id)).unwrap().records, [event()]);
    assert_eq!(read_log::<ToolRecord>(&paths.tool_calls(&supervised.id)).unwrap().records, tool_records());

    // The running ticket ends, and the one that waited for it follows.
    queue.settle(&id("landing"), 1, Settlement::Landed).unwrap();
    queue.complete(&id("running"), 1, Completion::Done).unwrap();
    let able = ClaimRequest { capabilities: vec!["rust".to_owned()], only: Some(vec![id("blocked")]), ..request() };
    assert_eq!(queue.claim(&able).unwrap().len(), 1);
    publish(&queue, ticket("fresh")).unwrap();
    claim_only(&queue, "fresh");
}

#[test]
fn a_state_of_format_1_is_read() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/state-v1");
    let folder = tempfile::tempdir().unwrap();
    copy_folder(&fixture, StatePaths::new(folder.path()).root());
    check_state(folder.path());
}

#[test]
fn a_state_of_format_2_is_read() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/state-v2");
    let folder = tempfile::tempdir().unwrap();
    copy_folder(&fixture, StatePaths::new(folder.path()).root());
    check_state(folder.path());
}

#[test]
fn a_state_of_format_3_is_read() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/state-v3");
    let folder = tempfile::tempdir().unwrap();
    copy_folder(&fixture, StatePaths::new(folder.path()).root());
    check_state(folder.path());
}

#[test]
fn a_state_of_format_4_is_read_with_its_mail() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/state-v4");
    let folder = tempfile::tempdir().unwrap();
    copy_folder(&fixture, StatePaths::new(folder.path()).root());
    check_state(folder.path());
    let store = Store::open(&StatePaths::new(folder.path()), Durability::Normal).unwrap();
    let (worker, other): (WorkerId, WorkerId) = ("running".parse().unwrap(), "review".parse().unwrap());
    let [letter] = &store.waiting_mail(&worker).unwrap()[..] else { panic!("one was waiting, one was delivered") };
    assert_eq!((letter.id.as_str(), letter.text.as_str()), ("m1", "Hello"));
    let delivered = Message { id: "m2".to_owned(), ..letter.clone() };
    assert_eq!(store.post(&worker, &delivered, 9).unwrap(), Posted::Settled);
    assert_eq!(store.post(&other, letter, 9).unwrap(), Posted::Taken, "it is another's");
}

#[test]
fn a_state_written_now_is_read() {
    let folder = tempfile::tempdir().unwrap();
    write_state(folder.path());
    check_state(folder.path());
}

/// Writes the state of the present format to a new folder when asked by environment; otherwise it has nothing to do.
#[test]
fn a_fixture_is_written_on_request() {
    #[expect(clippy::disallowed_methods, reason = "the request of a person who adds a format")]
    let Ok(target) = std::env::var(REQUEST) else { return };
    let folder = tempfile::tempdir().unwrap();
    write_state(folder.path());
    let paths = StatePaths::new(folder.path());
    fs::remove_dir_all(paths.lock("x").parent().unwrap()).unwrap();
    assert!(!Path::new(&target).exists(), "a fixture is never replaced");
    copy_folder(paths.root(), Path::new(&target));
}
