use serde_json::json;

use super::conversation::{Conversation, Entry};
use super::report::{Conclusion, Report, ToolReport};
use super::*;
use crate::agent::event::Exit;
use crate::agent::testing::{Place, agent};
use crate::model::agent::RuntimeKind;
use crate::model::tool_call::ToolOutcome;

const AT: Time = Time::from_millis(1_000);

fn definition(model: &str) -> Agent {
    Agent { model: Some(model.to_owned()), ..agent(RuntimeKind::Ollama) }
}

fn tell(own: &mut Own, report: &Report) -> Vec<AgentEvent> {
    // Through text, as it travels.
    let call = serde_json::to_string(&report.call("s1", AT)).unwrap();
    own.hook(&serde_json::from_str(&call).unwrap()).0
}

fn exit(code: i32) -> ExitInfo {
    ExitInfo { exit: Exit::Code(code), last_lines: Vec::new() }
}

fn ended(call: &str, outcome: ToolOutcome, by_ask_rule: bool) -> Report {
    let (call_id, error, exit_code) = (call.to_owned(), None, None);
    Report::ToolEnded(ToolReport { call_id, outcome, error, exit_code, duration_ms: 1, output_bytes: 2, by_ask_rule })
}

fn started(call: &str) -> Report {
    Report::ToolStarted { call_id: call.to_owned(), tool: "Bash".to_owned(), input: json!({"command": "git push"}) }
}

#[test]
fn the_plan_is_private_and_the_conversation_goes_on_only_where_there_is_one() {
    let mut place = Place::new();
    place.resume = Some("old".to_owned());
    let definition = definition("qwen3-coder");
    let mut own = Own::default();
    let launch = own.launch(&place.plan(&definition, "Do it.", Mode::Print)).unwrap();
    assert!(!launch.is_resumed);
    place.resume = launch.session_id;
    assert_ne!(place.resume.as_deref(), Some("old"));
    let plan = LoopPlan::load(&launch.files[0]).unwrap();
    assert_eq!((plan.prompt.as_str(), plan.is_print, plan.model.as_str()), ("Do it.", true, "qwen3-coder"));
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&launch.files[0]).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    let (mut conversation, _) = Conversation::open(&plan.conversation).unwrap();
    assert!(!own.launch(&place.plan(&definition, "Go on.", Mode::Interactive)).unwrap().is_resumed, "cut off");
    conversation.add(&Entry::User { text: "Do it.".to_owned(), by_loop: false }, Time::now()).unwrap();
    let launch = own.launch(&place.plan(&definition, "Go on.", Mode::Interactive)).unwrap();
    assert!(launch.is_resumed);
    assert!(matches!(own.launch(&place.plan(&definition, " ", Mode::Print)), Err(AgentError::EmptyPrompt)));
}

#[test]
fn a_recording_is_looked_for_in_the_main_worktree() {
    let place = Place::new();
    let model = |runtime, model: &str| {
        let definition = Agent { model: Some(model.to_owned()), ..agent(runtime) };
        LoopPlan::new(&place.plan(&definition, "x", Mode::Print), "s").unwrap().model
    };
    let file = place.repo().join("a.jsonl");
    let wanted = format!("replay:{}", file.display());
    assert_eq!(model(RuntimeKind::Replay, "a.jsonl"), wanted);
    assert_eq!(model(RuntimeKind::Ollama, "replay:a.jsonl"), wanted);
    assert_eq!(model(RuntimeKind::Replay, &wanted), wanted);
    assert_eq!(model(RuntimeKind::Ollama, "anthropic/x"), "anthropic/x");
}

#[test]
fn a_call_is_told_once_and_closed_with_its_turn() {
    let mut own = Own::default();
    assert_eq!(tell(&mut own, &started("a")).len(), 1);
    assert_eq!(tell(&mut own, &started("a")), []);
    assert_eq!(tell(&mut own, &ended("a", ToolOutcome::Ok, false)).len(), 1);
    assert_eq!(tell(&mut own, &ended("a", ToolOutcome::Ok, false)), []);
    tell(&mut own, &started("b"));
    let events = tell(&mut own, &Report::TurnEnded { finished: true, last_message: None });
    assert!(matches!(&events[0], AgentEvent::ToolEnded(end) if end.outcome == ToolOutcome::Interrupted));
    assert!(matches!(events[1], AgentEvent::TurnEnded { finished: true, .. }));
    assert_eq!(own.exited(&exit(0), AT), (Vec::new(), Ending::Finished { denied: Vec::new() }));
}

#[test]
fn the_conclusion_says_how_it_ended_and_the_exit_code_where_it_says_nothing() {
    let ending = |conclusion: Option<Conclusion>, code| {
        let mut own = Own { is_print: true, ..Own::default() };
        if let Some(conclusion) = conclusion {
            tell(&mut own, &Report::Concluded(conclusion));
        }
        own.exited(&exit(code), AT).1
    };
    let reason = || "why".to_owned();
    assert!(matches!(ending(None, 0), Ending::Finished { .. }));
    assert!(matches!(ending(None, 143), Ending::Interrupted { .. }));
    assert!(matches!(ending(None, 70), Ending::Failed { is_transient: false, .. }));
    let failed = Conclusion::FailedForNow(reason());
    let code = i32::from(failed.exit_code());
    assert!(matches!(ending(Some(failed), code), Ending::Failed { is_transient: true, .. }));
    assert_eq!(ending(Some(Conclusion::Limit(reason())), 7), Ending::Limit { reason: reason() });
    assert_eq!(ending(Some(Conclusion::NeedsPerson(reason())), 4), Ending::NeedsPerson { reason: reason() });
}

#[test]
fn a_call_that_waits_for_a_person_is_in_the_ending() {
    let mut own = Own { is_print: true, ..Own::default() };
    tell(&mut own, &started("a"));
    tell(&mut own, &ended("a", ToolOutcome::Denied, true));
    tell(&mut own, &Report::Concluded(Conclusion::NeedsPerson("why".to_owned())));
    let Ending::Finished { denied } = own.exited(&exit(4), AT).1 else { panic!("it is left to a person") };
    assert_eq!((denied[0].what.as_str(), denied[0].by_ask_rule), ("git push", true));
}

#[test]
fn a_message_waits_until_the_loop_listens_and_asks_nothing() {
    let mut own = Own::default();
    assert!(matches!(own.submit("x"), Err(AgentError::NotReady)));
    tell(&mut own, &Report::SessionStarted { conversation: "/c".into() });
    assert_eq!(own.submit("/exit\n").unwrap().bytes, b"\x15\x1b[200~/exit\x1b[201~\r");
    tell(&mut own, &Report::Waiting { what: "permission".to_owned() });
    assert!(matches!(own.submit("x"), Err(AgentError::AsksPerson)));
    assert_eq!(tell(&mut own, &Report::WaitingOver), [AgentEvent::WaitingOver]);
    assert!(own.submit("x").is_ok());
}
