use serde_json::{Value, json};

use super::{exit_code_in, exit_code_of, output_bytes, take};
use crate::agent::claude::session::Session;
use crate::agent::event::{AgentEvent, HookCall};
use crate::model::Time;
use crate::model::tool_call::ToolOutcome;

fn feed(session: &mut Session, event: &str, payload: Value) -> Vec<AgentEvent> {
    let call = HookCall { at: Time::from_millis(1), event: event.to_owned(), payload };
    take(&call, None, session).0
}

fn outcomes(events: &[AgentEvent]) -> Vec<ToolOutcome> {
    let end = |event: &AgentEvent| match event {
        AgentEvent::ToolEnded(end) => Some(end.outcome),
        _ => None,
    };
    events.iter().filter_map(end).collect()
}

#[test]
fn unknown_hooks_and_odd_payloads_tell_nothing_and_are_consented_to() {
    let odd =
        [Value::Null, json!([]), json!("x"), json!({"tool_name": 3, "tool_use_id": {}}), json!({"tool_name": "X"})];
    let events = ["PreToolUse", "PostToolUse", "PostToolUseFailure", "PermissionDenied", "SubagentStart", "New", ""];
    for payload in odd {
        for event in events {
            let mut session = Session::new(false, String::new());
            let call = HookCall { at: Time::from_millis(1), event: event.to_owned(), payload: payload.clone() };
            let (events, reply) = take(&call, None, &mut session);
            assert_eq!((events.len(), reply.stdout.as_str()), (0, ""), "{event} {payload}");
        }
    }
}

#[test]
fn unknown_fields_do_no_harm() {
    let mut session = Session::default();
    let events = feed(
        &mut session,
        "PreToolUse",
        json!({"session_id": "s", "tool_name": "New", "tool_input": [1], "tool_use_id": "t", "later": {"a": 1}}),
    );
    assert!(matches!(events.last().unwrap(), AgentEvent::ToolStarted(start) if start.tool == "New"));
}

#[test]
fn an_end_without_a_start_brings_its_own() {
    let mut session = Session::default();
    let payload = json!({"tool_name": "Bash", "tool_input": {"command": "ls"}, "tool_use_id": "t",
        "error": "Exit code 2\nno", "duration_ms": 5});
    let events = feed(&mut session, "PostToolUseFailure", payload.clone());
    assert!(matches!(&events[1], AgentEvent::ToolStarted(start) if start.call_id == "t"), "{events:?}");
    assert!(matches!(&events[2], AgentEvent::ToolEnded(end) if end.exit_code == Some(2) && end.duration_ms == Some(5)));
    assert_eq!(feed(&mut session, "PostToolUseFailure", payload), []);
}

#[test]
fn an_interrupted_failure_is_an_interrupt() {
    let mut session = Session::default();
    let payload = json!({"tool_name": "Bash", "tool_use_id": "t", "error": "x", "is_interrupt": true});
    assert_eq!(outcomes(&feed(&mut session, "PostToolUseFailure", payload)), [ToolOutcome::Interrupted]);
    let payload =
        json!({"tool_name": "Bash", "tool_use_id": "u", "tool_response": {"stdout": "", "interrupted": true}});
    assert_eq!(outcomes(&feed(&mut session, "PostToolUse", payload)), [ToolOutcome::Interrupted]);
}

#[test]
fn a_call_the_program_refuses_is_denied() {
    let mut session = Session::default();
    let payload = json!({"tool_name": "Bash", "tool_use_id": "t", "reason": "not now"});
    let events = feed(&mut session, "PermissionDenied", payload);
    assert_eq!(outcomes(&events), [ToolOutcome::Denied]);
    assert_eq!(session.denied().len(), 1);
}

#[test]
fn a_stop_closes_what_the_turn_left_open_but_not_the_work_of_a_sub_agent() {
    let mut session = Session::default();
    let tool = |id: &str, agent: Value| json!({"tool_name": "Bash", "tool_use_id": id, "agent_id": agent});
    feed(&mut session, "SubagentStart", json!({"agent_id": "a"}));
    feed(&mut session, "PreToolUse", tool("1", Value::Null));
    feed(&mut session, "PreToolUse", tool("2", json!("a")));
    let busy = json!({"background_tasks": [{"id": "a", "type": "subagent", "status": "running"}]});
    // A tool that ran has told its end, and after an interrupt there is no stop: a rule refused it.
    assert_eq!(outcomes(&feed(&mut session, "Stop", busy)), [ToolOutcome::Denied]);
    assert_eq!(outcomes(&feed(&mut session, "UserPromptSubmit", json!({"prompt": "x"}))), []);
    assert_eq!(outcomes(&feed(&mut session, "SubagentStop", json!({"agent_id": "a"}))), [ToolOutcome::Interrupted]);
}

#[test]
fn timers_and_running_tasks_are_background_and_ended_ones_are_not() {
    let ended = |payload: Value| {
        let mut session = Session::default();
        feed(&mut session, "SubagentStart", json!({"agent_id": "a"}));
        match feed(&mut session, "Stop", payload).pop() {
            Some(AgentEvent::TurnEnded { finished, background, .. }) => (finished, background),
            other => panic!("{other:?}"),
        }
    };
    let task = |status: &str| json!({"id": "x", "status": status});
    assert_eq!(ended(json!({"background_tasks": [task("completed"), task("killed")]})), (true, 0));
    assert_eq!(ended(json!({"background_tasks": [task("running"), task("pending")]})), (false, 2));
    assert_eq!(ended(json!({"background_tasks": [], "session_crons": [{}]})), (false, 1));
    assert_eq!(ended(json!({})), (false, 1), "a version that tells no tasks has told its sub-agents");
}

#[test]
fn the_idle_bell_ends_a_turn_whose_stop_was_lost() {
    let mut session = Session::default();
    feed(&mut session, "UserPromptSubmit", json!({"prompt": "x"}));
    feed(&mut session, "PreToolUse", json!({"tool_name": "Bash", "tool_use_id": "1"}));
    let events = feed(&mut session, "Notification", json!({"notification_type": "idle_prompt", "message": "m"}));
    assert_eq!(outcomes(&events), [ToolOutcome::Interrupted]);
    assert!(matches!(events.last(), Some(AgentEvent::TurnEnded { finished: false, .. })));
    assert_eq!(feed(&mut session, "Notification", json!({"notification_type": "idle_prompt"})), []);
}

#[test]
fn a_bell_for_permission_waits_when_the_question_itself_was_not_heard() {
    let mut session = Session::default();
    feed(&mut session, "UserPromptSubmit", json!({"prompt": "x"}));
    let bell = json!({"notification_type": "permission_prompt", "message": "Claude needs your permission"});
    let what = "permission".to_owned();
    assert_eq!(feed(&mut session, "Notification", bell.clone()), [AgentEvent::Waiting { what }]);
    assert_eq!(feed(&mut session, "Notification", bell), []);
    let other = json!({"notification_type": "auth_success"});
    assert_eq!(feed(&mut session, "Notification", other), []);
}

#[test]
fn a_cleared_session_is_not_the_end() {
    let mut session = Session::default();
    assert_eq!(feed(&mut session, "SessionEnd", json!({"reason": "clear"})), []);
    let end = AgentEvent::SessionEnded { reason: "prompt_input_exit".to_owned() };
    assert_eq!(feed(&mut session, "SessionEnd", json!({"reason": "prompt_input_exit"})), [end]);
}

#[test]
fn sizes_and_exit_codes_are_read_where_they_are_known() {
    assert_eq!(output_bytes(&json!({"stdout": "abc", "stderr": "d"})), 4);
    assert_eq!(output_bytes(&json!("abc")), 3);
    assert_eq!(output_bytes(&Value::Null), 0);
    assert_eq!(output_bytes(&json!({"a": 1})), 7);
    let code = |tool: &str, response: Value| exit_code_of(tool, &response, ToolOutcome::Ok);
    assert_eq!(code("Bash", json!({"stdout": ""})), Some(0));
    assert_eq!(code("Bash", json!({"stdout": "", "returnCodeInterpretation": "No matches found"})), None);
    assert_eq!(code("Bash", json!({"stdout": "", "backgroundTaskId": "b1"})), None);
    assert_eq!(code("Read", json!({"stdout": ""})), None);
    assert_eq!(exit_code_in("Exit code 137"), Some(137));
    assert_eq!(exit_code_in("Error: Exit code 3\noops"), Some(3));
    assert_eq!(exit_code_in("Exit code x"), None);
    assert_eq!(exit_code_in(""), None);
}
