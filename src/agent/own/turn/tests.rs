use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::agent::own::report::ToolReport;
use crate::agent::own::tools::Place;
use crate::llm::Message;
use crate::model::agent::{PermissionMode, Permissions};

fn engine_with(is_print: bool, max_turns: u32) -> Engine {
    let tools = ["Read", "Write", "Bash"].map(ToOwned::to_owned).to_vec();
    let rules = Rules { is_print, max_turns, tools };
    let place = Place::new(std::path::Path::new("/nowhere"), &[], &[]);
    let permissions = Permissions { ask: vec!["Bash(git push*)".to_owned()], ..Permissions::default() };
    let permission = Permission::new(PermissionMode::AcceptEdits, &permissions, &[], place);
    Engine::new(rules, permission, Context::new(100), Some(100_000))
}

fn engine() -> Engine {
    engine_with(false, 50)
}

fn call(id: &str, tool: &str, input: Value) -> Block {
    Block::ToolCall { id: id.to_owned(), name: tool.to_owned(), input }
}

fn read(id: &str) -> Block {
    call(id, "Read", json!({"file_path": id}))
}

fn push(id: &str) -> Block {
    call(id, "Bash", json!({"command": "git push"}))
}

fn say(text: &str) -> Block {
    Block::Text { text: text.to_owned() }
}

fn answered(blocks: Vec<Block>) -> Input {
    let usage = Usage { input_tokens: 10, output_tokens: 5, cost_usd: Some(0.5), measured: true, ..Usage::default() };
    Input::Answered(Answer { blocks, stop: StopReason::End, usage, model: "m".to_owned() })
}

fn done(text: &str) -> Input {
    Input::Done { output: Output::ok(text), duration: Duration::from_millis(3) }
}

fn message(text: &str) -> Input {
    Input::Message(text.to_owned())
}

fn trouble(trouble: Trouble) -> Input {
    let (model, message, hint) = ("m".to_owned(), "no".to_owned(), Some("Do x.".to_owned()));
    Input::Failed(ChatError { model, trouble, message, hint, source: None })
}

/// The effects in short: what is told, asked and done.
fn short(effects: &[Effect]) -> Vec<String> {
    effects.iter().filter_map(word).collect()
}

fn word(effect: &Effect) -> Option<String> {
    let outcome = |end: &ToolReport| format!("end {} {:?}", end.call_id, end.outcome).to_lowercase();
    Some(match effect {
        Effect::Record(Entry::User { by_loop: true, .. }) => "nudge".to_owned(),
        Effect::Record(Entry::User { text, .. }) => format!("user {text}"),
        Effect::Record(Entry::Tool { result }) => format!("result {}", result.call_id),
        Effect::Report(Report::TurnStarted { prompt, .. }) => format!("took {prompt}"),
        Effect::Report(Report::TurnEnded { finished, .. }) => format!("ended {finished}"),
        Effect::Report(Report::TurnFailed { .. }) => "failed".to_owned(),
        Effect::Report(Report::ToolStarted { call_id, .. }) => format!("start {call_id}"),
        Effect::Report(Report::ToolEnded(end)) => outcome(end),
        Effect::Report(Report::Waiting { .. }) => "waits".to_owned(),
        Effect::Report(Report::WaitingOver) => "waits no more".to_owned(),
        Effect::Ask => "ask".to_owned(),
        Effect::CancelAsk => "cancel ask".to_owned(),
        Effect::Run(call) => format!("run {}", call.id),
        Effect::CancelRun => "cancel run".to_owned(),
        _ => return None,
    })
}

fn conclusion(effects: &[Effect]) -> Option<&Conclusion> {
    effects.iter().find_map(|effect| match effect {
        Effect::TurnOver(conclusion) => Some(conclusion),
        _ => None,
    })
}

#[test]
fn calls_are_made_in_order_and_an_answer_without_calls_ends_the_turn() {
    let mut engine = engine();
    assert_eq!(short(&engine.handle(message("do"))), ["took do", "user do", "ask"]);
    assert_eq!(short(&engine.handle(answered(vec![read("a"), read("b")]))), ["start a", "run a"]);
    assert_eq!(short(&engine.handle(done("x"))), ["result a", "end a ok", "start b", "run b"]);
    assert_eq!(short(&engine.handle(done("y"))), ["result b", "end b ok", "ask"]);
    let effects = engine.handle(answered(vec![say("Done.")]));
    assert_eq!((short(&effects), conclusion(&effects)), (vec!["ended true".to_owned()], Some(&Conclusion::Done)));
    let (used, _) = engine.figures();
    assert_eq!((used.input_tokens, used.output_tokens, used.cost_usd), (20, 10, Some(1.0)));
    assert!(!engine.is_busy());
}

#[test]
fn what_a_small_model_does_wrong_is_told_to_it() {
    let mut engine = engine();
    engine.handle(message("do"));
    let calls = vec![
        call("a", "Fly", json!({})),
        call("b", "read", json!("{\"file_path\": \"x\"}")),
        call("c", "Bash", json!("ls")),
    ];
    let effects = engine.handle(answered(calls));
    assert_eq!(short(&effects), ["start a", "result a", "end a error", "start b", "run b"]);
    assert_eq!(short(&engine.handle(done("x"))), ["result b", "end b ok", "start c", "result c", "end c error", "ask"]);
    let text = "I look.\n<tool_call>{\"name\": \"Read\", \"arguments\": {\"file_path\": \"x\"}}</tool_call>";
    let effects = engine.handle(answered(vec![say(text)]));
    assert_eq!(short(&effects), ["start text-4", "run text-4"]);
    let Some(Message::Assistant { blocks }) = engine.context().all().last() else { panic!("the answer is there") };
    assert_eq!(blocks[0], say("I look."));
}

#[test]
fn an_id_that_comes_again_is_made_another() {
    let mut engine = engine();
    engine.handle(message("do"));
    engine.handle(answered(vec![read("a"), read("a"), read("")]));
    assert_eq!(short(&engine.handle(done("x")))[2..], ["start a-2", "run a-2"]);
    assert_eq!(short(&engine.handle(done("x")))[2..], ["start call-2", "run call-2"]);
}

#[test]
fn answers_with_nothing_are_bounded() {
    let mut engine = engine();
    engine.handle(message("do"));
    for _ in 0..NUDGES {
        assert_eq!(short(&engine.handle(answered(vec![say(" ")]))), ["nudge", "ask"]);
    }
    let effects = engine.handle(answered(vec![]));
    assert!(matches!(conclusion(&effects), Some(Conclusion::Failed(_))), "{effects:?}");
}

#[test]
fn a_model_that_goes_round_in_circles_is_told_and_then_stopped() {
    let mut engine = engine();
    engine.handle(message("do"));
    let mut last = Vec::new();
    for round in 1..=8 {
        engine.handle(answered(vec![call(&format!("c{round}"), "Read", json!({"file_path": "x"})), read("never")]));
        last = engine.handle(done("same"));
        let is_told = last.iter().any(
            |effect| matches!(effect, Effect::Record(Entry::Tool { result }) if result.text.contains("the same call")),
        );
        assert_eq!(is_told, (3..8).contains(&round), "round {round}");
        if round < 8 {
            engine.handle(done(&format!("other {round}")));
        }
    }
    assert!(matches!(conclusion(&last), Some(Conclusion::Failed(_))), "{last:?}");
    assert_eq!(engine.context().open_calls(), []);
}

#[test]
fn a_message_during_a_turn_goes_in_with_the_next_request() {
    let mut engine = engine();
    engine.handle(message("do"));
    assert_eq!(short(&engine.handle(message("and this"))), ["took and this"]);
    engine.handle(answered(vec![read("a")]));
    engine.handle(message("and that"));
    assert_eq!(short(&engine.handle(done("x"))), ["result a", "end a ok", "user and this\n\nand that", "ask"]);
    engine.handle(message("last"));
    assert_eq!(short(&engine.handle(answered(vec![say("Done.")]))), ["user last", "ask"]);
    assert_eq!(short(&engine.handle(answered(vec![say("Done.")]))), ["ended true"]);
}

#[test]
fn an_interrupt_ends_the_turn_wherever_it_is() {
    let mut engine = engine();
    assert_eq!(short(&engine.handle(Input::Interrupt)), [] as [&str; 0]);
    engine.handle(message("do"));
    assert_eq!(short(&engine.handle(Input::Interrupt)), ["cancel ask", "ended false"]);
    assert_eq!(short(&engine.handle(answered(vec![read("late")]))), [] as [&str; 0]);
    engine.handle(message("do"));
    engine.handle(answered(vec![read("a"), read("b")]));
    assert_eq!(short(&engine.handle(Input::Interrupt)), ["cancel run"]);
    let stopped = Input::Done { output: Output::interrupted("stopped"), duration: Duration::ZERO };
    assert_eq!(short(&engine.handle(stopped)), ["result a", "end a interrupted", "result b", "ended false"]);
    engine.handle(message("do"));
    engine.handle(answered(vec![push("p")]));
    let ends = ["waits no more", "result p", "end p interrupted", "ended false"];
    assert_eq!(short(&engine.handle(Input::Interrupt)), ends);
}

#[test]
fn a_person_decides_what_rules_leave_to_them() {
    let mut engine = engine();
    engine.handle(message("do"));
    assert_eq!(short(&engine.handle(answered(vec![push("p")]))), ["start p", "waits"]);
    assert_eq!(short(&engine.handle(Input::Decided(Choice::Yes))), ["waits no more", "run p"]);
    engine.handle(done("pushed"));
    engine.handle(answered(vec![push("q")]));
    let ends = ["waits no more", "result q", "end q denied", "ask"];
    assert_eq!(short(&engine.handle(Input::Decided(Choice::No))), ends);
}

#[test]
fn without_a_person_the_call_is_refused_and_left_to_one() {
    let mut engine = engine_with(true, 50);
    engine.handle(message("do"));
    assert_eq!(short(&engine.handle(answered(vec![push("p")]))), ["start p", "result p", "end p denied", "ask"]);
    let effects = engine.handle(answered(vec![say("Done.")]));
    let Some(Conclusion::NeedsPerson(reason)) = conclusion(&effects) else { panic!("{effects:?}") };
    assert!(reason.contains("Bash git push"), "{reason}");
}

#[test]
fn a_turn_has_so_many_answers_and_no_more() {
    let mut engine = engine_with(true, 2);
    engine.handle(message("do"));
    engine.handle(answered(vec![read("a")]));
    engine.handle(done("x"));
    engine.handle(answered(vec![read("b")]));
    let effects = engine.handle(done("y"));
    assert!(matches!(conclusion(&effects), Some(Conclusion::Limit(_))), "{effects:?}");
}

#[test]
fn errors_of_a_model_are_sorted_by_what_can_be_done() {
    let ending = |kind| {
        let mut engine = engine();
        engine.handle(message("do"));
        let effects = engine.handle(trouble(kind));
        conclusion(&effects).cloned()
    };
    assert_eq!(ending(Trouble::Refused), Some(Conclusion::FailedForNow("m: no; Do x.".to_owned())));
    assert!(matches!(ending(Trouble::ModelMissing), Some(Conclusion::Failed(_))));
    assert!(matches!(ending(Trouble::Budget), Some(Conclusion::Limit(_))));
    assert_eq!(ending(Trouble::TooLong), None, "it is asked again with less");
}

#[test]
fn a_conversation_that_the_model_finds_too_long_is_shortened_until_it_takes_it() {
    let mut engine = engine();
    engine.handle(message("do"));
    for at in 0..20 {
        engine.handle(answered(vec![read(&format!("c{at}"))]));
        engine.handle(done(&format!("{at}{}", "x".repeat(5_000))));
    }
    let before = engine.context().tokens();
    let effects = engine.handle(trouble(Trouble::TooLong));
    assert!(short(&effects).contains(&"ask".to_owned()), "{effects:?}");
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Report(Report::Noted { .. }))));
    assert!(engine.context().tokens() < before * 3 / 4);
    let ended = (0..SHRINKS).any(|_| conclusion(&engine.handle(trouble(Trouble::TooLong))).is_some());
    assert!(ended, "it is not tried for ever");
}

/// The entries of effects, as a conversation file would hold them.
fn entries(effects: Vec<Effect>) -> Vec<Entry> {
    effects
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Record(entry) => Some(entry),
            _ => None,
        })
        .collect()
}

#[test]
fn a_conversation_cut_at_any_entry_goes_on_and_makes_no_call_again() {
    let mut first = engine();
    let mut file = entries(first.handle(message("do")));
    for at in 0..3 {
        let (a, b) = (format!("a{at}"), format!("b{at}"));
        file.extend(entries(first.handle(answered(vec![read(&a), read(&b)]))));
        file.extend(entries(first.handle(done("x"))));
        file.extend(entries(first.handle(done("y"))));
    }
    for cut in 0..=file.len() {
        let mut engine = engine();
        let restored = engine.restore(&file[..cut]);
        assert!(restored.iter().all(|effect| matches!(effect, Effect::Record(Entry::Tool { .. }))), "{restored:?}");
        assert_eq!(engine.context().open_calls(), [], "cut at {cut}");
        assert!(short(&engine.handle(message("go on"))).ends_with(&["user go on".to_owned(), "ask".to_owned()]));
        let again = engine.handle(answered(vec![read("a0")]));
        let is_known = file[..cut].iter().any(|entry| matches!(entry, Entry::Assistant { .. }));
        let id = if is_known { "a0-2" } else { "a0" };
        assert_eq!(short(&again), [format!("start {id}"), format!("run {id}")], "cut at {cut}");
    }
}

/// Any input at all.
fn any_input() -> impl Strategy<Value = u8> {
    0_u8..12
}

fn input(number: u8, at: usize) -> Input {
    match number {
        0 | 1 => message("m"),
        2 => answered(vec![say("text")]),
        3 => answered(vec![read(&format!("r{at}")), push(&format!("p{at}")), read("same")]),
        4 => answered(vec![call("", "None", json!(null)), push("p")]),
        5 => answered(vec![]),
        6 => trouble(Trouble::Cut),
        7 => trouble(Trouble::TooLong),
        8 => Input::Decided(Choice::Yes),
        9 => Input::Decided(Choice::No),
        10 => Input::Interrupt,
        _ => done(&format!("done {at}")),
    }
}

proptest! {
    #[test]
    fn every_start_gets_one_end_whatever_comes(is_print in any::<bool>(), inputs in proptest::collection::vec(any_input(), 0..80)) {
        let mut engine = engine_with(is_print, 20);
        let (mut started, mut ended) = (Vec::new(), Vec::new());
        for (at, number) in inputs.into_iter().enumerate() {
            let effects = engine.handle(input(number, at));
            let mut is_asking = false;
            for effect in &effects {
                match effect {
                    Effect::Report(Report::ToolStarted { call_id, .. }) => started.push(call_id.clone()),
                    Effect::Report(Report::ToolEnded(end)) => ended.push(end.call_id.clone()),
                    Effect::Ask => is_asking = true,
                    _ => {}
                }
            }
            if is_asking || conclusion(&effects).is_some() {
                prop_assert_eq!(&started, &ended);
                prop_assert_eq!(engine.context().open_calls(), []);
            }
            prop_assert_eq!(conclusion(&effects).is_some() && !is_asking, !engine.is_busy() && conclusion(&effects).is_some());
        }
        // The first one may begin another turn, with what was queued.
        for _ in 0..2 {
            engine.handle(Input::Interrupt);
            engine.handle(done("late"));
        }
        prop_assert!(!engine.is_busy());
    }
}
