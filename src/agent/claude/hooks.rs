//! Hook calls -> what they tell, and what the hook answers.

use std::path::PathBuf;

use serde_json::Value;

use super::display;
use super::session::{Ask, Running, Session};
use crate::agent::event::{AgentEvent, HookCall, HookReply, ToolEnd, ToolStart};
use crate::agent::patience;
use crate::agent::policy::{Policy, decide};
use crate::model::tool_call::ToolOutcome;

/// Longest question that is told, in characters.
const QUESTION_LIMIT: usize = 160;

/// Takes one call.
pub(super) fn take(call: &HookCall, policy: Option<&Policy>, session: &mut Session) -> (Vec<AgentEvent>, HookReply) {
    let mut events = Vec::new();
    let mut reply = HookReply::default();
    if let Some(id) = call.text("session_id") {
        session.identify(id, call.text("transcript_path").map(PathBuf::from), call.at, &mut events);
    }
    match call.event.as_str() {
        "UserPromptSubmit" => session.take_message(call.text("prompt").unwrap_or(""), call.at, &mut events),
        "PreToolUse" => reply = before_tool(call, policy, session, &mut events),
        "PostToolUse" => after_tool(call, session, &mut events),
        "PostToolUseFailure" => after_failure(call, session, &mut events),
        "PermissionRequest" => permission_request(call, session, &mut events),
        "PermissionDenied" => permission_denied(call, session, &mut events),
        "Notification" => notification(call, session, &mut events),
        "SubagentStart" => {
            if let Some(id) = call.text("agent_id") {
                session.start_sub_agent(id);
            }
        }
        "SubagentStop" => stop_sub_agent(call, session, &mut events),
        // A sub-agent's stop is its own event; one that comes under this name must not end the turn.
        "Stop" if call.text("agent_id").is_some() => stop_sub_agent(call, session, &mut events),
        "Stop" => {
            let running = running(call, session);
            session.end_turn(running, call.text("last_assistant_message"), call.at, &mut events);
        }
        "StopFailure" => {
            let reason = failure_reason(call);
            let word = call.text("error").filter(|word| *word != "unknown");
            let asked = patience::asked(None, word, &reason, call.at);
            events.extend(asked.or_else(|| patience::said(&reason, call.at).filter(|_| word.is_none())));
            session.fail_turn(&reason, call.at, &mut events);
        }
        "SessionEnd" => end_session(call, session, &mut events),
        _ => {}
    }
    (events, reply)
}

/// What a tool that is itself a question waits for; `None` for any other tool.
fn question(tool: &str, input: &Value) -> Option<String> {
    match tool {
        "AskUserQuestion" => {
            let asked = input.pointer("/questions/0/question").and_then(Value::as_str);
            let asked = asked.map(|asked| format!("an answer to: {}", display::one_line(asked, QUESTION_LIMIT)));
            Some(asked.unwrap_or_else(|| "an answer to its question".to_owned()))
        }
        "ExitPlanMode" => Some("a decision on its plan".to_owned()),
        _ => None,
    }
}

/// The call a hook speaks of, as far as it says.
fn start_of(call: &HookCall) -> Option<ToolStart> {
    Some(ToolStart {
        at: call.at,
        call_id: call.text("tool_use_id")?.to_owned(),
        tool: call.text("tool_name")?.to_owned(),
        input: call.payload.get("tool_input").cloned().unwrap_or(Value::Null),
        agent_id: call.text("agent_id").map(ToOwned::to_owned),
        parent_call_id: None,
    })
}

/// An end of the call a hook speaks of.
fn end_of(call: &HookCall, outcome: ToolOutcome) -> Option<ToolEnd> {
    let mut end = ToolEnd::bare(call.text("tool_use_id")?.to_owned(), outcome, call.at);
    end.duration_ms = call.payload.get("duration_ms").and_then(Value::as_u64);
    end.start = start_of(call).map(Box::new);
    Some(end)
}

/// A tool is about to be used: judged first.
fn before_tool(
    call: &HookCall,
    policy: Option<&Policy>,
    session: &mut Session,
    events: &mut Vec<AgentEvent>,
) -> HookReply {
    let start = start_of(call);
    let deny = policy.and_then(|policy| decide(call, policy));
    if let Some(start) = start.clone() {
        session.start_call(start, events);
    }
    if let Some(deny) = deny {
        if let Some(mut end) = end_of(call, ToolOutcome::Denied) {
            end.error = Some(deny.reason.clone());
            session.end_call(end, deny.by_ask_rule, events);
        }
        return deny.reply();
    }
    if let Some(start) = start
        && let Some(what) = question(&start.tool, &start.input)
    {
        let ask = Ask { tool: &start.tool, input: &start.input, agent_id: start.agent_id.as_deref(), what };
        session.ask(&ask, call.at, events);
    }
    HookReply::default()
}

/// A tool did what it should.
fn after_tool(call: &HookCall, session: &mut Session, events: &mut Vec<AgentEvent>) {
    let Some(mut end) = end_of(call, ToolOutcome::Ok) else { return };
    let response = call.payload.get("tool_response").unwrap_or(&Value::Null);
    if response.get("interrupted").and_then(Value::as_bool) == Some(true) {
        end.outcome = ToolOutcome::Interrupted;
    }
    end.output_bytes = output_bytes(response);
    end.exit_code = exit_code_of(call.text("tool_name").unwrap_or(""), response, end.outcome);
    let named = |field: &str| response.get(field).and_then(Value::as_str);
    if let Some(agent) = named("agentId") {
        session.name_parent(agent, &end.call_id);
        if named("status") == Some("async_launched") {
            session.start_task(agent);
        }
    }
    if let Some(task) = named("backgroundTaskId") {
        session.start_task(task);
    }
    session.end_call(end, false, events);
}

/// A tool failed.
fn after_failure(call: &HookCall, session: &mut Session, events: &mut Vec<AgentEvent>) {
    let is_interrupt = call.payload.get("is_interrupt").and_then(Value::as_bool) == Some(true);
    let outcome = if is_interrupt { ToolOutcome::Interrupted } else { ToolOutcome::Error };
    let Some(mut end) = end_of(call, outcome) else { return };
    let error = call.text("error").unwrap_or("");
    end.output_bytes = error.len() as u64;
    end.exit_code = exit_code_in(error);
    end.error = Some(error.to_owned()).filter(|error| !error.is_empty());
    session.end_call(end, false, events);
}

/// A person is to be asked.
fn permission_request(call: &HookCall, session: &mut Session, events: &mut Vec<AgentEvent>) {
    let tool = call.text("tool_name").unwrap_or("a tool");
    let input = call.payload.get("tool_input").unwrap_or(&Value::Null);
    let permission = || format!("permission for {tool} {}", display::subject(input)).trim_end().to_owned();
    let what = question(tool, input).unwrap_or_else(permission);
    session.ask(&Ask { tool, input, agent_id: call.text("agent_id"), what }, call.at, events);
}

/// The program refused a call by itself.
fn permission_denied(call: &HookCall, session: &mut Session, events: &mut Vec<AgentEvent>) {
    let Some(mut end) = end_of(call, ToolOutcome::Denied) else { return };
    end.error = call.text("reason").or_else(|| call.text("message")).map(ToOwned::to_owned);
    session.end_call(end, false, events);
}

/// The program would ring a bell.
fn notification(call: &HookCall, session: &mut Session, events: &mut Vec<AgentEvent>) {
    let message = call.text("message").unwrap_or("an answer");
    match call.text("notification_type") {
        Some("permission_prompt") => session.notice("permission", call.at, events),
        Some("elicitation_dialog") => session.notice(message, call.at, events),
        // Sent a minute after the program began to listen, also when no Stop said so.
        Some("idle_prompt") => session.note_idle(call.at, events),
        _ => {}
    }
}

/// A sub-agent ended.
fn stop_sub_agent(call: &HookCall, session: &mut Session, events: &mut Vec<AgentEvent>) {
    if let Some(id) = call.text("agent_id") {
        let by_itself = call.text("last_assistant_message").is_some();
        session.stop_sub_agent(id, by_itself, call.at, events);
    }
}

/// Things that will wake the conversation again after its turn ended: tasks that run and timers that are set.
fn running(call: &HookCall, session: &Session) -> Running {
    let list = |field: &str| call.payload.get(field).and_then(Value::as_array);
    let is_over = |task: &&Value| {
        let status = task.get("status").and_then(Value::as_str).unwrap_or("running");
        matches!(status, "completed" | "failed" | "killed" | "stopped" | "cancelled")
    };
    let timers = list("session_crons").map_or(0, Vec::len);
    // A version that does not tell its tasks has told its sub-agents.
    let Some(tasks) = list("background_tasks") else {
        return Running { count: session.sub_agent_count() + timers, ..Running::default() };
    };
    let tasks: Vec<&Value> = tasks.iter().filter(|task| !is_over(task)).collect();
    let name = |task: &&Value| task.get("id").and_then(Value::as_str).map(ToOwned::to_owned);
    Running { count: tasks.len() + timers, tasks: tasks.iter().filter_map(name).collect() }
}

/// Why a turn failed.
fn failure_reason(call: &HookCall) -> String {
    let kind = call.text("error").unwrap_or("unknown").replace('_', " ");
    match call.text("last_assistant_message") {
        Some(message) => display::one_line(message, 300),
        None => format!("the turn failed: {kind}"),
    }
}

/// The conversation ended; `clear` and `resume` go on with another one.
fn end_session(call: &HookCall, session: &mut Session, events: &mut Vec<AgentEvent>) {
    session.close_calls(ToolOutcome::Interrupted, call.at, events, |_| true);
    let reason = call.text("reason").unwrap_or("other");
    if !matches!(reason, "clear" | "resume") {
        events.push(AgentEvent::SessionEnded { reason: reason.to_owned() });
    }
}

/// Size of what a tool returned.
pub(super) fn output_bytes(response: &Value) -> u64 {
    let length = |field: &str| response.get(field).and_then(Value::as_str).map(str::len);
    let bytes = match response {
        Value::Null => 0,
        Value::String(text) => text.len(),
        _ => match (length("stdout"), length("stderr")) {
            (None, None) => response.to_string().len(),
            (out, err) => out.unwrap_or(0) + err.unwrap_or(0),
        },
    };
    bytes as u64
}

/// Exit code of a shell command that the program calls a success. It does so too for codes that mean something else
/// than failure (a search that found nothing), and then explains them; those are not known.
pub(super) fn exit_code_of(tool: &str, response: &Value, outcome: ToolOutcome) -> Option<i32> {
    let is_plain = |field: &str| response.get(field).is_none_or(|value| value.is_null() || value == "");
    let is_known = tool == "Bash"
        && outcome == ToolOutcome::Ok
        && response.get("stdout").is_some()
        && is_plain("returnCodeInterpretation")
        && is_plain("backgroundTaskId");
    is_known.then_some(0)
}

/// The exit code in an error text: `Exit code 3`, then the output.
pub(super) fn exit_code_in(error: &str) -> Option<i32> {
    let error = error.strip_prefix("Error: ").unwrap_or(error);
    error.strip_prefix("Exit code ")?.lines().next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests;
