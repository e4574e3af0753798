use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::Claude;
use crate::agent::event::{AgentEvent, Ending, Exit, ExitInfo, HookCall};
use crate::agent::launch::{Confirm, Mode};
use crate::agent::redact::Redactor;
use crate::agent::testing::{Place, agent};
use crate::agent::tool_log::ToolLog;
use crate::agent::{AgentError, Runtime};
use crate::model::Time;
use crate::model::agent::RuntimeKind;
use crate::model::tool_call::{ToolBody, ToolOrigin, ToolOutcome, ToolRecord};

/// Payloads and stream lines as the program sent them, scrubbed of the machine they were recorded on.
pub(super) fn sample(name: &str) -> &'static str {
    match name {
        "hooks-terminal" => include_str!("samples/hooks-terminal.jsonl"),
        "hooks-background-shell" => include_str!("samples/hooks-background-shell.jsonl"),
        "hooks-print" => include_str!("samples/hooks-print.jsonl"),
        "hooks-permission" => include_str!("samples/hooks-permission.jsonl"),
        "hooks-sub-agent" => include_str!("samples/hooks-sub-agent.jsonl"),
        "hooks-denied" => include_str!("samples/hooks-denied.jsonl"),
        "hooks-stop-failure" => include_str!("samples/hooks-stop-failure.jsonl"),
        "stream-400" => include_str!("samples/stream-400.jsonl"),
        "stream-401" => include_str!("samples/stream-401.jsonl"),
        "stream-529" => include_str!("samples/stream-529.jsonl"),
        "stream-bg" => include_str!("samples/stream-bg.jsonl"),
        "stream-cut" => include_str!("samples/stream-cut.jsonl"),
        "stream-cut1" => include_str!("samples/stream-cut1.jsonl"),
        "stream-hook-deny" => include_str!("samples/stream-hook-deny-json.jsonl"),
        "stream-hup-tool" => include_str!("samples/stream-hup-tool.jsonl"),
        "stream-int-tool" => include_str!("samples/stream-int-tool.jsonl"),
        "stream-kill-tool" => include_str!("samples/stream-kill-tool.jsonl"),
        "stream-ok" => include_str!("samples/stream-ok.jsonl"),
        "stream-denied" => include_str!("samples/stream-pty-denied.jsonl"),
        "stream-term-api" => include_str!("samples/stream-term-api.jsonl"),
        "stream-term-tool" => include_str!("samples/stream-term-tool.jsonl"),
        other => panic!("no sample `{other}`"),
    }
}

/// The hook calls of a sample, a hundred milliseconds apart.
pub(super) fn calls(name: &str) -> Vec<HookCall> {
    let payloads = sample(name).lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let call = |(index, payload): (usize, Value)| HookCall {
        at: at(100 * i64::try_from(index).unwrap()),
        event: payload["hook_event_name"].as_str().unwrap().to_owned(),
        payload,
    };
    payloads.enumerate().map(call).collect()
}

fn at(millis: i64) -> Time {
    Time::from_millis(1_000_000 + millis)
}

/// A runtime that was launched in `mode`.
fn launched(mode: Mode) -> (Place, Claude) {
    let place = Place::new();
    let agent = agent(RuntimeKind::Claude);
    let mut runtime = Claude::default();
    runtime.launch(&place.plan(&agent, "go", mode)).unwrap();
    // The samples come from another worktree; what they write is not judged here.
    runtime.policy = None;
    (place, runtime)
}

fn exit(code: i32) -> ExitInfo {
    ExitInfo { exit: Exit::Code(code), last_lines: Vec::new() }
}

/// Feeds a whole stream and ends it.
fn run_print(stream: &str, exit: &ExitInfo) -> (Vec<AgentEvent>, Ending) {
    let (_place, mut runtime) = launched(Mode::Print);
    let mut events = runtime.output(stream.as_bytes(), at(0));
    let (rest, ending) = runtime.exited(exit, at(9_000));
    events.extend(rest);
    (events, ending)
}

fn hook_events(runtime: &mut Claude, calls: &[HookCall]) -> Vec<AgentEvent> {
    calls.iter().flat_map(|call| runtime.hook(call).0).collect()
}

fn turn_ends(events: &[AgentEvent]) -> Vec<(bool, usize)> {
    let end = |event: &AgentEvent| match event {
        AgentEvent::TurnEnded { finished, background, .. } => Some((*finished, *background)),
        _ => None,
    };
    events.iter().filter_map(end).collect()
}

fn outcomes(events: &[AgentEvent]) -> Vec<ToolOutcome> {
    let end = |event: &AgentEvent| match event {
        AgentEvent::ToolEnded(end) => Some(end.outcome),
        _ => None,
    };
    events.iter().filter_map(end).collect()
}

fn shown(events: &[AgentEvent]) -> Vec<&str> {
    let mut lines = Vec::new();
    for event in events {
        if let AgentEvent::Display(line) = event {
            lines.push(line.as_str());
        }
    }
    lines
}

fn interrupted(reason: &str) -> Ending {
    Ending::Interrupted { reason: reason.to_owned() }
}

fn failed(reason: &str, is_transient: bool) -> Ending {
    Ending::Failed { reason: reason.to_owned(), is_transient, exit_code: Some(1) }
}

#[test]
fn a_print_run_that_went_well_is_finished_with_its_calls_and_figures() {
    let (events, ending) = run_print(sample("stream-ok"), &exit(0));
    assert_eq!(ending, Ending::Finished { denied: Vec::new() });
    assert_eq!(outcomes(&events), [ToolOutcome::Ok, ToolOutcome::Ok, ToolOutcome::Ok, ToolOutcome::Error]);
    // The end of a turn is no finish in print mode.
    assert_eq!(turn_ends(&events), [(false, 0)]);
    let usage = events.iter().rev().find_map(|event| match event {
        AgentEvent::Usage(usage) => Some(*usage),
        _ => None,
    });
    let usage = usage.unwrap();
    assert_eq!((usage.input_tokens, usage.output_tokens), (500, 50));
    assert!((usage.cost_usd.unwrap() - 0.002_25).abs() < 1e-9);
}

#[test]
fn a_print_run_reads_like_a_story() {
    let (events, _) = run_print(&sample("stream-ok").replace("/w/fix/", "/elsewhere/"), &exit(0));
    let expected = [
        "-> Write /elsewhere/a.txt",
        "-> Edit /elsewhere/a.txt",
        "-> Bash printf hello; ls",
        "-> Bash sh -c 'echo oops >&2; exit 3'",
        "   error: Exit code 3 ...",
        "All done.",
    ];
    assert_eq!(shown(&events), expected);
}

#[test]
fn a_denied_call_is_denied_once_and_the_run_still_finishes() {
    let (events, ending) = run_print(sample("stream-denied"), &exit(0));
    assert_eq!(outcomes(&events), [ToolOutcome::Ok, ToolOutcome::Ok, ToolOutcome::Ok, ToolOutcome::Denied]);
    let Ending::Finished { denied } = ending else { panic!("{ending:?}") };
    assert_eq!(denied.len(), 1);
    assert_eq!((denied[0].tool.as_str(), denied[0].by_ask_rule), ("Bash", false));
    let (events, _) = run_print(sample("stream-hook-deny"), &exit(0));
    assert_eq!(outcomes(&events), [ToolOutcome::Denied]);
}

#[test]
fn provider_errors_are_failures_and_say_whether_waiting_helps() {
    let ending = |name: &str| run_print(sample(name), &exit(1)).1;
    assert_eq!(ending("stream-400"), failed("API Error: 400 scripted fault", false));
    assert_eq!(ending("stream-401"), failed("Failed to authenticate. API Error: 401 scripted fault", false));
    assert!(
        matches!(ending("stream-529"), Ending::Failed { is_transient: true, reason, .. } if reason.contains("529"))
    );
    assert!(matches!(ending("stream-cut"), Ending::Failed { is_transient: true, .. }));
    let (events, _) = run_print(sample("stream-529"), &exit(1));
    let retry = AgentEvent::Retry { reason: "the provider answered 529 (overloaded), retry 1 of 1".to_owned() };
    assert!(events.contains(&retry), "{events:?}");
}

#[test]
fn an_error_that_was_retried_well_is_no_failure() {
    let (events, ending) = run_print(sample("stream-cut1"), &exit(0));
    assert_eq!(ending, Ending::Finished { denied: Vec::new() });
    let retry = AgentEvent::Retry { reason: "the connection to the provider was lost, retry 1 of 1".to_owned() };
    assert!(events.contains(&retry), "{events:?}");
}

#[test]
fn exit_code_0_is_no_finish_after_an_interrupt() {
    let (events, ending) = run_print(sample("stream-int-tool"), &exit(0));
    assert_eq!(ending, interrupted("claude was interrupted in the middle of a turn"));
    assert_eq!(outcomes(&events), [ToolOutcome::Interrupted]);
    // While it waits for the provider some versions say nothing at all.
    let (_, ending) = run_print(sample("stream-term-api"), &exit(0));
    assert_eq!(ending, interrupted("claude was interrupted before it had finished"));
}

#[test]
fn signals_are_interruptions_and_close_what_was_open() {
    let by = |name: &str, exit: &ExitInfo| run_print(sample(name), exit);
    assert_eq!(by("stream-term-tool", &exit(143)).1, interrupted("claude was ended by SIGTERM"));
    assert_eq!(by("stream-term-api", &exit(143)).1, interrupted("claude was ended by SIGTERM"));
    assert_eq!(by("stream-hup-tool", &exit(129)).1, interrupted("claude was ended by SIGHUP"));
    let killed = ExitInfo { exit: Exit::Signal(9), last_lines: Vec::new() };
    let (events, ending) = by("stream-kill-tool", &killed);
    assert_eq!(ending, interrupted("claude was ended by SIGKILL"));
    assert_eq!(outcomes(&events), [ToolOutcome::Interrupted]);
    let crashed = ExitInfo { exit: Exit::Signal(11), last_lines: Vec::new() };
    let (_, ending) = by("stream-ok", &crashed);
    assert!(matches!(ending, Ending::Failed { reason, .. } if reason == "claude crashed with SIGSEGV"));
}

#[test]
fn the_first_result_is_not_the_end() {
    let stream = sample("stream-bg");
    let (events, ending) = run_print(stream, &exit(0));
    assert_eq!(turn_ends(&events), [(false, 0), (false, 0)]);
    assert_eq!(ending, Ending::Finished { denied: Vec::new() });
    // Ended in the second turn: the first result says nothing about it.
    let second = stream.match_indices("\"subtype\":\"init\"").nth(1).unwrap().0;
    let cut = &stream[..second + stream[second..].find('\n').unwrap() + 1];
    let (_, ending) = run_print(cut, &exit(0));
    assert_eq!(ending, interrupted("claude was interrupted before it had finished"));
    assert_eq!(run_print(cut, &exit(143)).1, interrupted("claude was ended by SIGTERM"));
}

#[test]
fn limits_and_other_results_have_their_own_endings() {
    let result = |fields: Value, code: i32| {
        let mut event = json!({"type": "result", "is_error": true});
        event.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        run_print(&format!("{event}\n"), &exit(code)).1
    };
    let turns = json!({"subtype": "error_max_turns", "terminal_reason": "max_turns",
        "errors": ["Reached maximum number of turns (3)"]});
    assert_eq!(result(turns, 1), Ending::Limit { reason: "Reached maximum number of turns (3)".to_owned() });
    let budget = json!({"subtype": "error_max_budget_usd", "terminal_reason": "budget_exhausted", "errors": ["x"]});
    assert!(matches!(result(budget, 1), Ending::Limit { reason } if reason.contains("budget")));
    let unknown = json!({"subtype": "error_during_execution",
        "errors": ["No conversation found with session ID: 1"]});
    assert_eq!(result(unknown, 1), failed("No conversation found with session ID: 1", false));
    let long = json!({"subtype": "success", "terminal_reason": "prompt_too_long", "result": "Prompt is too long"});
    assert_eq!(result(long, 1), failed("Prompt is too long", false));
    let stopped = json!({"subtype": "success", "is_error": false, "terminal_reason": "hook_stopped"});
    assert_eq!(result(stopped, 0), interrupted("a hook stopped claude"));
    let deferred = json!({"subtype": "success", "is_error": false, "terminal_reason": "tool_deferred"});
    assert!(matches!(result(deferred, 0), Ending::NeedsPerson { .. }));
    // An older version names no terminal reason.
    assert_eq!(result(json!({"subtype": "success", "is_error": false}), 0), Ending::Finished { denied: Vec::new() });
    // An error that comes with exit code 0 is an error all the same.
    let odd = json!({"subtype": "success", "terminal_reason": "api_error", "result": "no", "api_error_status": 404});
    assert!(matches!(result(odd, 0), Ending::Failed { is_transient: false, .. }));
    // 2.1.197 calls the turn completed that an overloaded provider ended.
    let old = json!({"subtype": "success", "is_error": true, "terminal_reason": "completed", "result": "529",
        "api_error_status": 529});
    assert_eq!(result(old, 1), failed("529", true));
    let late = json!({"subtype": "success", "is_error": false, "result": "done"});
    assert_eq!(result(late, 1), failed("claude exited with code 1", false));
}

#[test]
fn a_start_that_failed_says_what_the_program_said() {
    let (events, ending) = run_print("Error: Session ID x is already in use.\r\n", &exit(1));
    assert_eq!(ending, failed("claude exited with code 1: Error: Session ID x is already in use.", false));
    assert_eq!(shown(&events), ["Error: Session ID x is already in use."]);
    let (_, ending) = run_print("", &exit(1));
    assert_eq!(ending, failed("claude exited with code 1", false));
}

#[test]
fn torn_chunks_carriage_returns_and_foreign_lines_change_nothing() {
    let whole = run_print(sample("stream-ok"), &exit(0));
    let stream = format!("{}\x1b[?25h", sample("stream-ok").replace('\n', "\r\n"));
    for size in [1, 2, 7, 100] {
        let (_place, mut runtime) = launched(Mode::Print);
        let mut events = Vec::new();
        for chunk in stream.as_bytes().chunks(size) {
            events.extend(runtime.output(chunk, at(0)));
        }
        let (rest, ending) = runtime.exited(&exit(0), at(9_000));
        events.extend(rest);
        assert_eq!((ending, shown(&events)), (whole.1.clone(), shown(&whole.0)), "{size}");
        assert_eq!(outcomes(&events), outcomes(&whole.0));
    }
    let (events, ending) = run_print(&format!("warning: \u{e9}\n{{\"a\":1}}\n{}", sample("stream-ok")), &exit(0));
    assert_eq!(ending, whole.1);
    assert_eq!(shown(&events)[..2], ["warning: \u{e9}", "{\"a\":1}"]);
}

#[test]
fn a_last_line_without_an_end_counts() {
    let stream = sample("stream-ok").trim_end();
    assert_eq!(run_print(stream, &exit(0)).1, Ending::Finished { denied: Vec::new() });
}

#[test]
fn hooks_in_a_terminal_tell_a_whole_turn() {
    let (_place, mut runtime) = launched(Mode::Interactive);
    let events = hook_events(&mut runtime, &calls("hooks-terminal"));
    assert!(matches!(&events[0], AgentEvent::SessionStarted { id, transcript: Some(_) } if id.starts_with("d1726ad5")));
    let started = AgentEvent::TurnStarted { prompt: "SCRIPT:work please".to_owned(), is_message: true };
    assert_eq!(events[1], started);
    assert_eq!(outcomes(&events), [ToolOutcome::Ok, ToolOutcome::Ok, ToolOutcome::Ok, ToolOutcome::Error]);
    let ends: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            AgentEvent::ToolEnded(end) => Some((end.exit_code, end.duration_ms, end.output_bytes)),
            _ => None,
        })
        .collect();
    assert_eq!(ends[2..], [(Some(0), Some(43), 10), (Some(3), Some(55), 16)]);
    let end = AgentEvent::TurnEnded { finished: true, background: 0, last_message: Some("All done.".to_owned()) };
    assert!(events.contains(&end));
    assert_eq!(events.last().unwrap(), &AgentEvent::SessionEnded { reason: "other".to_owned() });
    assert_eq!(runtime.exited(&exit(0), at(5_000)).1, Ending::Finished { denied: Vec::new() });
}

#[test]
fn a_terminal_that_closes_early_is_no_finish() {
    let ending_after = |count: usize, code: i32| {
        let (_place, mut runtime) = launched(Mode::Interactive);
        hook_events(&mut runtime, &calls("hooks-terminal")[..count]);
        runtime.exited(&exit(code), at(5_000)).1
    };
    assert_eq!(ending_after(0, 0), interrupted("claude was closed before it began"));
    assert_eq!(ending_after(4, 0), interrupted("claude was closed in the middle of a turn"));
    assert_eq!(ending_after(11, 143), interrupted("claude was ended by SIGTERM"));
    let (_place, mut runtime) = launched(Mode::Interactive);
    let gate = ExitInfo { exit: Exit::Code(1), last_lines: vec!["Unable to connect".to_owned(), String::new()] };
    assert_eq!(runtime.exited(&gate, at(0)).1, failed("claude exited with code 1: Unable to connect", false));
}

#[test]
fn a_turn_with_background_work_is_not_finished() {
    let (_place, mut runtime) = launched(Mode::Interactive);
    let stops = calls("hooks-background-shell");
    let events = hook_events(&mut runtime, &[stops[0].clone(), notification(&["be6jrglnd"]), stops[1].clone()]);
    assert_eq!(turn_ends(&events), [(false, 1), (true, 0)]);
    assert!(events.iter().any(|event| matches!(event, AgentEvent::TurnStarted { is_message: false, .. })));
}

/// The message that the program writes to itself when these tasks ended.
fn notification(tasks: &[&str]) -> HookCall {
    let told: String = tasks.iter().map(|task| format!("<task-id>{task}</task-id>\n")).collect();
    let payload = json!({"session_id": "s", "prompt": format!("<task-notification>\n{told}</task-notification>")});
    HookCall { at: at(1_000), event: "UserPromptSubmit".to_owned(), payload }
}

#[test]
fn a_turn_is_not_the_last_while_the_end_of_a_task_is_not_reported() {
    let stop = |running: &[&str]| {
        let tasks: Vec<_> = running.iter().map(|id| json!({"id": id, "status": "running"})).collect();
        let payload = json!({"session_id": "s", "background_tasks": tasks});
        HookCall { at: at(2_000), event: "Stop".to_owned(), payload }
    };
    let (_place, mut runtime) = launched(Mode::Interactive);
    // Both end while the first one's report is answered: the second report begins one more turn.
    let fed = [stop(&["one", "two"]), notification(&["one"]), stop(&[])];
    assert_eq!(turn_ends(&hook_events(&mut runtime, &fed)), [(false, 2)]);
    assert_eq!(turn_ends(&hook_events(&mut runtime, &[notification(&["two"]), stop(&[])])), [(true, 0)]);
    // Without the report, the end is told when nothing came for a while.
    assert_eq!(turn_ends(&hook_events(&mut runtime, &[notification(&[]), stop(&["three"]), stop(&[])])), [(false, 1)]);
    assert_eq!(turn_ends(&runtime.poll(at(60_000))), [(true, 0)]);
    assert_eq!(turn_ends(&hook_events(&mut runtime, &[notification(&[]), stop(&[])])), [(true, 0)]);
}

#[test]
fn what_the_program_notes_about_a_sub_agent_tells_its_parent() {
    let (place, mut runtime) = launched(Mode::Interactive);
    let transcript = place.home().join("conversation.jsonl");
    let note = |agent: &str, call: &str| {
        let path = place.home().join(format!("conversation/subagents/agent-{agent}.meta.json"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = json!({"toolUseId": call}).to_string();
        crate::files::write_atomically(&path, text.as_bytes(), crate::files::Access::Private).unwrap();
    };
    note("b", "call-2");
    note("a", "call-1");
    let call = |event: &str, more: serde_json::Value| {
        let mut payload = json!({"session_id": "s", "transcript_path": transcript});
        payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        HookCall { at: at(0), event: event.to_owned(), payload }
    };
    let launch = |id: &str| call("PreToolUse", json!({"tool_name": "Agent", "tool_input": {}, "tool_use_id": id}));
    let work = |agent: &str, id: &str| {
        call("PreToolUse", json!({"tool_name": "Bash", "tool_input": {}, "tool_use_id": id, "agent_id": agent}))
    };
    // The second one starts last, when only one call is left that nothing is known of: a guess would be wrong.
    let fed = [launch("call-1"), launch("call-2"), work("a", "x"), work("b", "y"), work("../../b", "z")];
    let parents: Vec<_> = hook_events(&mut runtime, &fed)
        .iter()
        .filter_map(|event| match event {
            AgentEvent::ToolStarted(start) => Some((start.call_id.clone(), start.parent_call_id.clone())),
            _ => None,
        })
        .skip(2)
        .collect();
    let pair = |call: &str, parent: Option<&str>| (call.to_owned(), parent.map(ToOwned::to_owned));
    assert_eq!(parents, [pair("x", Some("call-1")), pair("y", Some("call-2")), pair("z", None)]);
}

#[test]
fn calls_of_a_sub_agent_name_it_and_the_call_that_started_it() {
    let (_place, mut runtime) = launched(Mode::Interactive);
    let events = hook_events(&mut runtime, &calls("hooks-sub-agent"));
    let nested = events.iter().find_map(|event| match event {
        AgentEvent::ToolStarted(start) if start.agent_id.is_some() => Some(start),
        _ => None,
    });
    let nested = nested.unwrap();
    assert_eq!(nested.agent_id.as_deref(), Some("a82b696290474a033"));
    assert_eq!(nested.parent_call_id.as_deref(), Some("toolu_00000000000000000044"));
    assert_eq!(outcomes(&events), [ToolOutcome::Ok, ToolOutcome::Ok]);
    assert_eq!(turn_ends(&events), [(false, 1), (true, 0)]);
    let injected = |event: &&AgentEvent| matches!(event, AgentEvent::TurnStarted { is_message: false, .. });
    assert_eq!(events.iter().filter(injected).count(), 1);
}

#[test]
fn a_question_waits_until_it_is_answered_or_passed_over() {
    let (_place, mut runtime) = launched(Mode::Interactive);
    let events = hook_events(&mut runtime, &calls("hooks-permission"));
    let what = "permission for Bash touch zz && git init -q sub".to_owned();
    let waiting: Vec<_> =
        events.iter().filter(|event| matches!(event, AgentEvent::Waiting { .. } | AgentEvent::WaitingOver)).collect();
    assert_eq!(waiting, [&AgentEvent::Waiting { what }, &AgentEvent::WaitingOver]);
    // No hook says that the person refused: the next message does.
    assert_eq!(outcomes(&events), [ToolOutcome::Denied]);
    assert_eq!(turn_ends(&events), [(true, 0)]);
}

#[test]
fn consent_to_a_question_is_seen_when_the_tool_returns() {
    let (_place, mut runtime) = launched(Mode::Interactive);
    let mut calls = calls("hooks-permission")[..4].to_vec();
    let mut after = calls[2].clone();
    after.event = "PostToolUse".to_owned();
    after.payload["tool_response"] = json!({"stdout": "", "stderr": ""});
    calls.push(after);
    let events = hook_events(&mut runtime, &calls);
    assert_eq!(outcomes(&events), [ToolOutcome::Ok]);
    assert_eq!(events.last(), Some(&AgentEvent::WaitingOver));
}

#[test]
fn nothing_waits_in_print_mode() {
    let (_place, mut runtime) = launched(Mode::Print);
    let events = hook_events(&mut runtime, &calls("hooks-permission"));
    assert!(!events.iter().any(|event| matches!(event, AgentEvent::Waiting { .. })));
}

#[test]
fn a_question_tool_waits_for_a_person() {
    let (_place, mut runtime) = launched(Mode::Interactive);
    let input = json!({"questions": [{"question": "Which colour?"}, {"question": "Which size?"}]});
    let payload = json!({"session_id": "s", "tool_name": "AskUserQuestion", "tool_input": input, "tool_use_id": "t"});
    let call = |event: &str| HookCall { at: at(0), event: event.to_owned(), payload: payload.clone() };
    let events = hook_events(&mut runtime, &[call("PreToolUse"), call("PermissionRequest"), call("PostToolUse")]);
    let waiting: Vec<_> =
        events.iter().filter(|event| matches!(event, AgentEvent::Waiting { .. } | AgentEvent::WaitingOver)).collect();
    let what = "an answer to: Which colour?".to_owned();
    assert_eq!(waiting, [&AgentEvent::Waiting { what }, &AgentEvent::WaitingOver]);
}

#[test]
fn a_failed_turn_says_why_and_is_no_finish() {
    for (index, reason) in
        ["Failed to authenticate. API", "API Error: Request rejected", "API Error: 529"].into_iter().rev().enumerate()
    {
        let (_place, mut runtime) = launched(Mode::Interactive);
        let mut all = calls("hooks-stop-failure");
        all.reverse();
        let events = hook_events(&mut runtime, &all[index..=index]);
        let failed = events.iter().find_map(|event| match event {
            AgentEvent::Failed { reason } => Some(reason.as_str()),
            _ => None,
        });
        assert!(failed.unwrap().starts_with(reason), "{failed:?}");
        assert_eq!(turn_ends(&events), [(false, 0)]);
        assert!(matches!(runtime.exited(&exit(0), at(1)).1, Ending::Failed { .. }));
    }
}

#[test]
fn a_write_outside_the_worktree_is_refused_and_logged_as_denied() {
    let place = Place::new();
    let agent = agent(RuntimeKind::Claude);
    let mut runtime = Claude::default();
    runtime.launch(&place.plan(&agent, "go", Mode::Print)).unwrap();
    let mut replies = Vec::new();
    let mut events = Vec::new();
    for call in calls("hooks-denied") {
        let (more, reply) = runtime.hook(&call);
        events.extend(more);
        replies.push(reply.stdout);
    }
    assert_eq!(outcomes(&events), [ToolOutcome::Denied]);
    assert_eq!(replies.iter().filter(|reply| reply.contains("\"deny\"")).count(), 1);
    assert_eq!(runtime.session.denied().len(), 1);
}

#[test]
fn hooks_and_stream_of_one_run_count_each_call_once() {
    let (_place, mut runtime) = launched(Mode::Print);
    let id = "21299f4c-7232-4ba3-94ab-aded53f3ae59";
    let mut calls = calls("hooks-print");
    // Both samples are of the same script; make them of the same run.
    let text = sample("stream-ok");
    let ids = |needle: &str, text: &str| -> Vec<String> {
        let mut found: Vec<String> = text.match_indices(needle).map(|(at, _)| text[at..at + 26].to_owned()).collect();
        found.dedup();
        found
    };
    let stream_ids: Vec<String> = {
        let mut seen = Vec::new();
        for id in ids("toolu_", text) {
            if !seen.contains(&id) {
                seen.push(id);
            }
        }
        seen
    };
    let mut hook_ids: Vec<String> = Vec::new();
    for call in &calls {
        if let Some(id) = call.text("tool_use_id")
            && !hook_ids.contains(&id.to_owned())
        {
            hook_ids.push(id.to_owned());
        }
    }
    for call in &mut calls {
        call.payload["session_id"] = json!(id);
        if let Some(index) = call.text("tool_use_id").and_then(|id| hook_ids.iter().position(|known| known == id)) {
            call.payload["tool_use_id"] = json!(stream_ids[index]);
        }
    }
    let mut events = Vec::new();
    let mut lines = text.lines();
    for call in &calls {
        events.extend(lines.next().into_iter().flat_map(|line| runtime.output(format!("{line}\n").as_bytes(), at(0))));
        events.extend(runtime.hook(call).0);
    }
    for line in lines {
        events.extend(runtime.output(format!("{line}\n").as_bytes(), at(0)));
    }
    events.extend(runtime.exited(&exit(0), at(1)).0);
    let starts = events.iter().filter(|event| matches!(event, AgentEvent::ToolStarted(_))).count();
    assert_eq!((starts, outcomes(&events).len()), (4, 4));
}

#[test]
fn a_message_during_a_turn_is_queued_and_holds_back_the_end() {
    let (_place, mut runtime) = launched(Mode::Interactive);
    let call = |event: &str, millis, extra: Value| {
        let mut payload = json!({"session_id": "s", "background_tasks": []});
        payload.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        HookCall { at: at(millis), event: event.to_owned(), payload }
    };
    let prompt = |text: &str, millis| call("UserPromptSubmit", millis, json!({"prompt": text}));
    let tool = |event: &str, id: &str, millis| {
        call(event, millis, json!({"tool_name": "Bash", "tool_input": {}, "tool_use_id": id, "tool_response": {}}))
    };
    // Queued while a tool runs: the call goes on, and its result takes the message along.
    let first = [prompt("a", 0), tool("PreToolUse", "1", 1), prompt("b", 2), tool("PostToolUse", "1", 3)];
    let events = hook_events(&mut runtime, &first);
    assert_eq!(outcomes(&events), [ToolOutcome::Ok]);
    let taken = |event: &&AgentEvent| matches!(event, AgentEvent::TurnStarted { is_message: true, .. });
    assert_eq!(events.iter().filter(taken).count(), 2);
    assert_eq!(turn_ends(&hook_events(&mut runtime, &[call("Stop", 4, json!({}))])), [(true, 0)]);
    // Queued and not taken along: the next turn begins without a word.
    let events = hook_events(&mut runtime, &[prompt("c", 5), prompt("d", 6), call("Stop", 7, json!({}))]);
    assert_eq!(turn_ends(&events), []);
    assert_eq!(turn_ends(&hook_events(&mut runtime, &[call("Stop", 9, json!({}))])), [(true, 0)]);
    // Nothing confirms it: told after a while all the same.
    hook_events(&mut runtime, &[prompt("e", 10), prompt("f", 11), call("Stop", 12, json!({}))]);
    assert_eq!(turn_ends(&runtime.poll(at(5_000))), []);
    assert_eq!(turn_ends(&runtime.poll(at(11_000))), [(true, 0)]);
}

#[test]
fn the_status_file_tells_what_no_hook_tells() {
    let (place, mut runtime) = launched(Mode::Interactive);
    let folder = place.home().join(".claude/sessions");
    std::fs::create_dir_all(&folder).unwrap();
    runtime.started(77);
    let say = |status: &str, millis| {
        let text = json!({"status": status, "waitingFor": "input needed", "statusUpdatedAt": at(millis).as_millis()});
        crate::files::write_atomically(
            &folder.join("77.json"),
            text.to_string().as_bytes(),
            crate::files::Access::Private,
        )
        .unwrap();
    };
    say("idle", 0);
    assert_eq!(runtime.poll(at(9_000)), [], "idle at the start is no end");
    hook_events(&mut runtime, &calls("hooks-permission")[..4]);
    say("busy", 200);
    assert_eq!(runtime.poll(at(250)), [], "older than the question");
    say("busy", 400);
    assert_eq!(runtime.poll(at(500)), [AgentEvent::WaitingOver]);
    say("waiting", 600);
    assert_eq!(runtime.poll(at(700)), [], "it may still change");
    assert_eq!(runtime.poll(at(2_000)), [AgentEvent::Waiting { what: "input needed".to_owned() }]);
    assert_eq!(runtime.poll(at(3_000)), []);
    assert!(matches!(runtime.submit("x").unwrap_err(), AgentError::AsksPerson));
    say("idle", 4_000);
    let events = runtime.poll(at(5_500));
    assert_eq!(outcomes(&events), [ToolOutcome::Interrupted]);
    assert_eq!(turn_ends(&events), [(false, 0)]);
    assert!(events.contains(&AgentEvent::WaitingOver));
    assert_eq!(runtime.poll(at(9_000)), []);
}

#[test]
fn a_refusal_is_seen_in_the_status_file() {
    let (place, mut runtime) = launched(Mode::Interactive);
    runtime.started(77);
    hook_events(&mut runtime, &calls("hooks-permission")[..4]);
    let text = json!({"status": "idle", "statusUpdatedAt": at(1_000).as_millis()}).to_string();
    let path = place.home().join(".claude/sessions/77.json");
    crate::files::write_atomically(&path, text.as_bytes(), crate::files::Access::Private).unwrap();
    assert_eq!(outcomes(&runtime.poll(at(3_000))), [ToolOutcome::Denied]);
}

#[test]
fn another_conversation_closes_the_calls_of_the_old_one() {
    let (_place, mut runtime) = launched(Mode::Interactive);
    hook_events(&mut runtime, &calls("hooks-terminal")[..3]);
    let payload = json!({"session_id": "other", "source": "clear"});
    let events = runtime.hook(&HookCall { at: at(900), event: "SessionStart".to_owned(), payload }).0;
    assert!(matches!(&events[0], AgentEvent::ToolEnded(end) if end.outcome == ToolOutcome::Interrupted));
    assert!(matches!(&events[1], AgentEvent::SessionStarted { id, .. } if id == "other"));
}

#[test]
fn a_message_is_a_paste_that_cannot_be_a_key_or_a_command() {
    let (_place, mut runtime) = launched(Mode::Interactive);
    assert!(matches!(runtime.submit("x").unwrap_err(), AgentError::NotReady));
    hook_events(&mut runtime, &calls("hooks-terminal")[..1]);
    let typed = |text: &str| {
        let submission = runtime.submit(text).unwrap();
        assert_eq!(submission.confirm, Confirm::TurnStarted);
        String::from_utf8(submission.bytes).unwrap()
    };
    assert_eq!(typed("a\r\nb\tc\n\n"), "\x1b[200~a\rb\tc\x1b[201~\r");
    assert_eq!(typed("x\x1b[201~\x03rm"), "\x1b[200~xrm\x1b[201~\r");
    assert_eq!(typed("/etc is wrong"), "\x1b[200~Message:\r/etc is wrong\x1b[201~\r");
    assert_eq!(typed("\x03/clear"), "\x1b[200~Message:\r/clear\x1b[201~\r");
    assert_eq!(typed("!ls"), "\x1b[200~Message:\r!ls\x1b[201~\r");
    let (_place, print) = launched(Mode::Print);
    assert!(matches!(print.submit("x").unwrap_err(), AgentError::CannotReceive { .. }));
}

#[test]
fn the_input_line_is_emptied_first_where_it_may_hold_a_text() {
    let (place, mut runtime) = launched(Mode::Interactive);
    runtime.started(77);
    let hooks = calls("hooks-terminal");
    hook_events(&mut runtime, &hooks[..2]);
    let keys = |runtime: &Claude| String::from_utf8(runtime.submit("x").unwrap().keys).unwrap();
    let clear = format!("\x05{}", "\x15".repeat(50));
    assert_eq!(keys(&runtime), "", "its first message was taken");
    assert_eq!(keys(&runtime), clear, "the one before was not taken");
    hook_events(&mut runtime, &hooks[1..2]);
    let text = json!({"status": "idle", "statusUpdatedAt": at(60_000).as_millis()}).to_string();
    let path = place.home().join(".claude/sessions/77.json");
    crate::files::write_atomically(&path, text.as_bytes(), crate::files::Access::Private).unwrap();
    assert_eq!(turn_ends(&runtime.poll(at(70_000))), [(false, 0)]);
    assert_eq!(keys(&runtime), clear, "an interrupt puts the message back");
}

/// Everything the samples hold, as hook calls and stream lines.
fn everything() -> Vec<Fed> {
    let hooks = ["hooks-terminal", "hooks-permission", "hooks-sub-agent", "hooks-denied", "hooks-stop-failure"];
    let streams = ["stream-ok", "stream-denied", "stream-bg", "stream-int-tool", "stream-kill-tool"];
    let hooks = hooks.into_iter().flat_map(calls).map(|call| Fed::Hook(Box::new(call)));
    let lines = streams.into_iter().flat_map(|name| sample(name).lines()).map(|line| Fed::Line(format!("{line}\n")));
    hooks.chain(lines).collect()
}

#[derive(Debug, Clone)]
enum Fed {
    Hook(Box<HookCall>),
    Line(String),
}

fn records(path: &Path) -> Vec<ToolRecord> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn any_order_loss_and_repetition_gives_one_end_per_start(
        picks in prop::collection::vec(any::<prop::sample::Index>(), 0..80),
        is_print in any::<bool>(),
        is_cut in any::<bool>(),
    ) {
        let all = everything();
        let (place, mut runtime) = launched(if is_print { Mode::Print } else { Mode::Interactive });
        let path = place.worker_dir().join("tool_calls.jsonl");
        let origin = ToolOrigin {
            run: crate::model::RunId::random(),
            ticket: "fix".parse().unwrap(),
            worker: "fix".parse().unwrap(),
            attempt: 1,
            agent: "a".parse().unwrap(),
            runtime: RuntimeKind::Claude,
            session_id: String::new(),
        };
        let mut log = ToolLog::open(&path, origin, Redactor::new(&[]).unwrap(), &[], at(0)).unwrap();
        for pick in picks {
            let events = match pick.get(&all) {
                Fed::Hook(call) => runtime.hook(call).0,
                Fed::Line(line) if is_cut => runtime.output(&line.as_bytes()[..line.len() / 2], at(0)),
                Fed::Line(line) => runtime.output(line.as_bytes(), at(0)),
            };
            for event in events {
                log.take(&event).unwrap();
            }
            for event in runtime.poll(at(60_000)) {
                log.take(&event).unwrap();
            }
        }
        for event in runtime.exited(&exit(0), at(99_000)).0 {
            log.take(&event).unwrap();
        }
        prop_assert_eq!(log.close_open(ToolOutcome::Lost, at(99_000)).unwrap(), 0, "exited() ends every call");
        let records = records(&path);
        for (index, record) in records.iter().enumerate() {
            prop_assert_eq!(record.seq, index as u64 + 1);
            let same = |other: &&ToolRecord| {
                other.call_id == record.call_id && other.origin.session_id == record.origin.session_id
            };
            let starts = records.iter().filter(same).filter(|other| matches!(other.body, ToolBody::Start { .. }));
            let ends = records.iter().filter(same).filter(|other| matches!(other.body, ToolBody::End { .. }));
            prop_assert_eq!((starts.count(), ends.count()), (1, 1));
        }
    }
}
