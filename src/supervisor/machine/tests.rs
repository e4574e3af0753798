use super::messages::CONFIRM_WITHIN;
use super::turns::IN_TURN;
use super::*;
use crate::agent::{AgentEvent, Denial, Ending, ToolEnd, ToolStart};
use crate::model::CommitId;
use crate::model::tool_call::ToolOutcome;

const NOW: Time = Time::from_millis(1_000);

fn head() -> CommitId {
    "0123456789012345678901234567890123456789".parse().unwrap()
}

fn running(mode: Mode) -> Machine {
    let mut machine = Machine::new(mode, NOW);
    machine.handle(Input::Started { pid: 7 }, NOW);
    if mode == Mode::Conversation {
        machine.handle(turn_started(), NOW);
    }
    machine
}

fn turn_started() -> Input {
    Input::Agent(AgentEvent::TurnStarted { prompt: "do it".to_owned(), is_message: true })
}

fn turn_ended() -> Input {
    Input::Agent(AgentEvent::TurnEnded { finished: true, background: 0, last_message: None })
}

fn ended_well() -> Input {
    Input::Exited(Ending::Finished { denied: Vec::new() })
}

fn send(text: &str) -> Input {
    Input::Send { text: text.to_owned(), returned_at: None }
}

#[test]
fn a_process_that_ends_well_is_finished_and_left() {
    let mut machine = running(Mode::OneShot);
    assert!(machine.handle(ended_well(), NOW).contains(&Effect::BeginFinish));
    let effects = machine.handle(Input::Finish(FinishReport::Work(head())), NOW);
    let outcome = Outcome::Finished { commit: head() };
    assert_eq!(effects, [Effect::CloseTools, Effect::Conclude(outcome), Effect::Exit]);
    assert_eq!(machine.verdict().0, Status::Done);
}

#[test]
fn a_finished_conversation_stays_and_new_input_reopens_its_ticket() {
    let mut machine = running(Mode::Conversation);
    assert!(machine.handle(turn_ended(), NOW).contains(&Effect::BeginFinish));
    let effects = machine.handle(Input::Finish(FinishReport::Work(head())), NOW);
    assert_eq!(effects, [Effect::Conclude(Outcome::Finished { commit: head() })]);
    assert!(!machine.is_attempting());
    assert!(machine.handle(turn_started(), NOW).contains(&Effect::Reopen));
    assert!(machine.is_attempting());
}

#[test]
fn a_turn_with_background_tasks_is_not_finished() {
    let mut machine = running(Mode::Conversation);
    let ended = AgentEvent::TurnEnded { finished: false, background: 2, last_message: None };
    assert_eq!(machine.handle(Input::Agent(ended), NOW), [Effect::Snapshot]);
    let behind = (Status::Working, "its turn ended, and 2 background tasks run");
    assert_eq!((machine.verdict().0, machine.verdict().1), behind);
    // A sub-agent among them does not take the turn back: the agent listens.
    machine.handle(tool_started(Some("sub")), NOW);
    assert_eq!(machine.verdict().1, "runs Bash");
    machine.handle(tool_ended(), NOW);
    assert_eq!((machine.verdict().0, machine.verdict().1), behind);
    assert_eq!(machine.handle(send("hello"), NOW), [Effect::Submit("hello".to_owned())]);
}

/// A tool call of the conversation itself, or of a sub-agent.
fn tool_started(agent_id: Option<&str>) -> Input {
    Input::Agent(AgentEvent::ToolStarted(ToolStart {
        at: NOW,
        call_id: "call".to_owned(),
        tool: "Bash".to_owned(),
        input: serde_json::Value::Null,
        agent_id: agent_id.map(str::to_owned),
        parent_call_id: None,
    }))
}

fn tool_ended() -> Input {
    Input::Agent(AgentEvent::ToolEnded(ToolEnd {
        at: NOW,
        call_id: "call".to_owned(),
        outcome: ToolOutcome::Ok,
        error: None,
        exit_code: None,
        duration_ms: None,
        output_bytes: 0,
        usage: None,
        start: None,
    }))
}

#[test]
fn a_message_that_waited_goes_to_an_agent_whose_background_tasks_run() {
    let mut machine = running(Mode::Conversation);
    machine.handle(send("hello"), NOW);
    let ended = AgentEvent::TurnEnded { finished: false, background: 1, last_message: None };
    assert!(machine.handle(Input::Agent(ended), NOW).contains(&Effect::Submit("hello".to_owned())));
}

#[test]
fn a_tool_that_ends_beside_a_question_does_not_answer_it() {
    let mut machine = running(Mode::Conversation);
    machine.handle(Input::Agent(AgentEvent::Waiting { what: "permission for Bash".to_owned() }), NOW);
    machine.handle(tool_started(None), NOW);
    machine.handle(tool_ended(), NOW);
    assert_eq!((machine.verdict().0, machine.verdict().1), (Status::Waiting, "permission for Bash"));
    machine.handle(Input::Agent(AgentEvent::WaitingOver), NOW);
    assert_eq!(machine.verdict().0, Status::Working);
}

/// What a screen rule says.
fn shows(status: Status, what: &str, is_news: bool) -> Input {
    Input::Screen(Some(Finding { status, what: what.to_owned(), is_news }))
}

#[test]
fn the_screen_neither_rewords_nor_closes_a_question_that_a_hook_told() {
    let mut machine = running(Mode::Conversation);
    machine.handle(Input::Agent(AgentEvent::Waiting { what: "permission for Bash ls".to_owned() }), NOW);
    machine.handle(shows(Status::Waiting, "asks for permission", false), NOW);
    assert_eq!(machine.verdict().1, "permission for Bash ls");
    machine.handle(Input::Screen(None), NOW);
    assert_eq!(machine.verdict().0, Status::Waiting);
    assert_eq!(machine.send_waits_for(), Some("a person to answer what it asks"));
}

#[test]
fn a_question_that_only_the_screen_shows_is_over_when_it_is_gone() {
    for gone in [Input::Screen(None), shows(Status::Idle, "an empty input line", false)] {
        let mut machine = running(Mode::Conversation);
        machine.handle(shows(Status::Waiting, "asks whether it may trust the folder", false), NOW);
        assert_eq!(machine.verdict().0, Status::Waiting);
        machine.handle(gone, NOW);
        assert_eq!(machine.verdict().0, Status::Working);
    }
}

#[test]
fn what_only_the_screen_tells_is_the_reason_until_it_is_gone() {
    let mut machine = running(Mode::Conversation);
    let retries = || shows(Status::Working, "its provider is overloaded", true);
    let logged = Effect::Log(Event::ProviderRetry { reason: "its provider is overloaded".to_owned() });
    assert_eq!(machine.handle(retries(), NOW), [logged]);
    assert_eq!(machine.handle(retries(), NOW), []);
    assert_eq!((machine.verdict().0, machine.verdict().1), (Status::Working, "its provider is overloaded"));
    machine.handle(shows(Status::Working, "a turn is running", false), NOW);
    assert_eq!((machine.verdict().0, machine.verdict().1), (Status::Working, IN_TURN));
}

#[test]
fn evidence_names_where_it_comes_from() {
    let mut machine = running(Mode::Conversation);
    machine.hear(EvidenceSource::StatusFile);
    machine.handle(Input::Agent(AgentEvent::TurnEnded { finished: false, background: 0, last_message: None }), NOW);
    assert_eq!((machine.verdict().0, machine.verdict().1), (Status::Idle, "its turn was interrupted"));
    let told = machine.evidence().into_iter().find(|evidence| evidence.source == EvidenceSource::StatusFile);
    assert_eq!(told.unwrap().says, "its turn was interrupted");
}

#[test]
fn a_message_waits_for_the_turn_and_several_become_one() {
    let mut machine = running(Mode::Conversation);
    assert_eq!(machine.handle(send("one"), NOW), []);
    assert_eq!(machine.handle(send("two"), NOW), []);
    assert!(machine.handle(turn_ended(), NOW).contains(&Effect::Submit("one\n\ntwo".to_owned())));
}

#[test]
fn nothing_is_typed_into_a_dialog_or_over_a_draft() {
    let mut machine = running(Mode::Conversation);
    machine.handle(Input::Agent(AgentEvent::Waiting { what: "permission for Bash".to_owned() }), NOW);
    assert_eq!(machine.verdict().0, Status::Waiting);
    assert_eq!(machine.handle(send("hello"), NOW), []);
    machine.handle(Input::Agent(AgentEvent::WaitingOver), NOW);

    let mut machine = running(Mode::Conversation);
    machine.handle(Input::Agent(AgentEvent::TurnEnded { finished: false, background: 0, last_message: None }), NOW);
    machine.handle(Input::Typed { submitted: false }, NOW);
    assert_eq!(machine.handle(send("hello"), NOW), []);
    machine.handle(Input::Typed { submitted: true }, NOW);
    assert_eq!(machine.handle(Input::Tick, NOW), [Effect::Submit("hello".to_owned())]);
}

#[test]
fn a_message_that_is_not_taken_is_typed_again_once_and_then_a_person_is_asked() {
    let mut machine = running(Mode::Conversation);
    machine.handle(Input::Agent(AgentEvent::TurnEnded { finished: false, background: 0, last_message: None }), NOW);
    assert_eq!(machine.handle(send("hello"), NOW), [Effect::Submit("hello".to_owned())]);
    let later = NOW.after(CONFIRM_WITHIN);
    assert_eq!(machine.handle(Input::Tick, later), [Effect::Submit("hello".to_owned())]);
    assert!(machine.is_confirming());
    machine.handle(Input::Tick, later.after(CONFIRM_WITHIN));
    assert_eq!((machine.verdict().0, machine.is_confirming()), (Status::Waiting, false));
}

#[test]
fn a_pause_holds_at_the_boundary_and_resume_finishes() {
    let mut machine = running(Mode::Conversation);
    assert_eq!(machine.handle(Input::Pause { now: false }, NOW), []);
    assert_eq!(machine.verdict().0, Status::Working);
    machine.handle(turn_ended(), NOW);
    assert_eq!(machine.verdict().0, Status::Paused);
    assert_eq!(machine.handle(Input::Resume, NOW), [Effect::BeginFinish]);
}

#[test]
fn a_pause_at_once_stops_the_processes() {
    let mut machine = running(Mode::OneShot);
    assert_eq!(machine.handle(Input::Pause { now: true }, NOW), [Effect::Freeze]);
    assert!(machine.is_frozen());
    assert_eq!(machine.handle(Input::Resume, NOW), [Effect::Thaw]);
}

#[test]
fn second_stop_keeps_the_first_outcome() {
    let mut machine = running(Mode::OneShot);
    assert_eq!(machine.handle(Input::Stop { reason: "first".to_owned() }, NOW), [Effect::EndAgent]);
    machine.handle(Input::Stop { reason: "second".to_owned() }, NOW);
    let effects = machine.handle(ended_well(), NOW);
    assert!(effects.contains(&Effect::Conclude(Outcome::Stopped { reason: "first".to_owned() })), "{effects:?}");
}

#[test]
fn stopping_a_finished_conversation_keeps_it_finished() {
    let mut machine = running(Mode::Conversation);
    machine.handle(turn_ended(), NOW);
    machine.handle(Input::Finish(FinishReport::Work(head())), NOW);
    machine.handle(Input::Stop { reason: "done with it".to_owned() }, NOW);
    machine.handle(ended_well(), NOW);
    assert_eq!(machine.verdict().0, Status::Done);
}

#[test]
fn failing_checks_go_back_twice_and_then_fail_the_attempt() {
    let failed = || Input::Finish(FinishReport::ChecksFailed("fix it".to_owned()));
    let mut machine = running(Mode::Conversation);
    for _ in 0..RETURNS {
        machine.handle(turn_ended(), NOW);
        assert_eq!(machine.handle(failed(), NOW), [Effect::Submit("fix it".to_owned())]);
        machine.handle(turn_started(), NOW);
    }
    machine.handle(turn_ended(), NOW);
    assert_eq!(machine.handle(failed(), NOW), [Effect::EndAgent]);
    machine.handle(ended_well(), NOW);
    assert_eq!(machine.verdict().0, Status::Failed);
}

#[test]
fn a_failing_check_of_a_program_fails_at_once() {
    let mut machine = running(Mode::OneShot);
    machine.handle(ended_well(), NOW);
    machine.handle(Input::Finish(FinishReport::ChecksFailed("fix it".to_owned())), NOW);
    machine.handle(Input::AgentGone, NOW);
    assert_eq!(machine.verdict().0, Status::Failed);
}

#[test]
fn print_mode_goes_on_in_its_conversation() {
    let mut machine = running(Mode::Resumable);
    machine.handle(send("and this"), NOW);
    let effects = machine.handle(ended_well(), NOW);
    assert!(effects.contains(&Effect::Relaunch("and this".to_owned().into())), "{effects:?}");
}

#[test]
fn a_conversation_that_a_person_ends_is_stopped_not_done() {
    let mut machine = running(Mode::Conversation);
    machine.handle(ended_well(), NOW);
    machine.handle(Input::AgentGone, NOW);
    assert_eq!(machine.verdict().0, Status::Stopped);
}

#[test]
fn what_needs_a_person_waits_until_resume() {
    let mut machine = running(Mode::OneShot);
    machine.handle(ended_well(), NOW);
    machine.handle(Input::Finish(FinishReport::NeedsPerson("300 files".to_owned())), NOW);
    assert_eq!(machine.verdict().0, Status::Waiting);
    assert_eq!(machine.handle(Input::Resume, NOW), [Effect::BeginFinish]);
}

#[test]
fn finishing_that_was_hindered_is_tried_again_after_longer_and_longer_waits() {
    let mut machine = running(Mode::OneShot);
    assert!(machine.handle(ended_well(), NOW).ends_with(&[Effect::BeginFinish]));
    let hindered = || Input::Finish(FinishReport::Hindered("no space left on device".to_owned()));
    for wait in [2, 4, 8] {
        machine.handle(hindered(), NOW);
        assert_eq!(
            (machine.verdict().0, machine.verdict().1),
            (Status::Waiting, "no space left on device; it is tried again")
        );
        for _ in 1..wait {
            assert_eq!(machine.handle(Input::Tick, NOW), []);
        }
        assert_eq!(machine.handle(Input::Tick, NOW), [Effect::BeginFinish]);
    }
    machine.handle(hindered(), NOW);
    assert_eq!(machine.handle(Input::Resume, NOW), [Effect::BeginFinish], "a person need not wait");
    machine.handle(Input::Finish(FinishReport::NeedsPerson("300 files".to_owned())), NOW);
    assert!((0..200).all(|_| machine.handle(Input::Tick, NOW).is_empty()));
}

fn turn_failed(machine: &mut Machine) {
    machine.handle(Input::Agent(AgentEvent::Failed { reason: "API Error: 529".to_owned() }), NOW);
    let ended = AgentEvent::TurnEnded { finished: false, background: 0, last_message: None };
    machine.handle(Input::Agent(ended), NOW);
}

#[test]
fn a_failed_turn_waits_for_a_person_and_resume_goes_on() {
    let mut machine = running(Mode::Conversation);
    turn_failed(&mut machine);
    assert_eq!(machine.verdict().0, Status::Waiting);
    assert_eq!(machine.handle(Input::Resume, NOW), [Effect::Submit(AFTER_FAILURE.to_owned())]);
}

#[test]
fn a_turn_that_begins_during_the_checks_makes_them_run_again_after_it() {
    let mut machine = running(Mode::Conversation);
    assert!(machine.handle(turn_ended(), NOW).contains(&Effect::BeginFinish));
    assert_eq!(machine.send_waits_for(), Some("leftovers and checks to be done"));
    machine.handle(turn_started(), NOW);
    // The turn ends before the first checks do: they are not run side by side.
    assert!(!machine.handle(turn_ended(), NOW).contains(&Effect::BeginFinish));
    assert_eq!(machine.handle(Input::Finish(FinishReport::Work(head())), NOW), [Effect::BeginFinish]);
    let effects = machine.handle(Input::Finish(FinishReport::Work(head())), NOW);
    assert_eq!(effects, [Effect::Conclude(Outcome::Finished { commit: head() })]);
}

#[test]
fn checks_that_end_in_a_turn_say_nothing() {
    let mut machine = running(Mode::Conversation);
    machine.handle(turn_ended(), NOW);
    machine.handle(turn_started(), NOW);
    assert_eq!(machine.handle(Input::Finish(FinishReport::NoChanges), NOW), []);
    assert!(machine.handle(turn_ended(), NOW).contains(&Effect::BeginFinish));
}

#[test]
fn what_rules_leave_to_a_person_blocks_the_end_until_resume() {
    let mut machine = running(Mode::Resumable);
    let denial = Denial { tool: "Bash".to_owned(), what: "git push".to_owned(), by_ask_rule: true };
    machine.handle(Input::Exited(Ending::Finished { denied: vec![denial] }), NOW);
    let (status, reason, _) = machine.verdict();
    assert_eq!((status, reason), (Status::Waiting, "a person has to decide about: Bash git push"));
    assert_eq!(machine.send_waits_for(), None);
    assert!(machine.handle(Input::Resume, NOW).contains(&Effect::BeginFinish));
}

#[test]
fn keys_that_answer_a_dialog_are_no_draft() {
    let mut machine = running(Mode::Conversation);
    machine.handle(Input::Agent(AgentEvent::Waiting { what: "permission".to_owned() }), NOW);
    machine.handle(Input::Typed { submitted: false }, NOW);
    machine.handle(Input::Agent(AgentEvent::WaitingOver), NOW);
    machine.handle(turn_ended(), NOW);
    machine.handle(Input::Finish(FinishReport::NoChanges), NOW);
    assert_eq!(machine.send_waits_for(), None);
}

#[test]
fn a_message_that_nobody_took_is_told_at_the_end() {
    let mut machine = running(Mode::OneShot);
    machine.handle(send("and the docs"), NOW);
    machine.handle(Input::Stop { reason: "a person stopped it".to_owned() }, NOW);
    let effects = machine.handle(Input::AgentGone, NOW);
    assert!(
        effects.iter().any(|effect| matches!(effect, Effect::Log(Event::Warning { text }) if text.contains("docs")))
    );
}

#[test]
fn what_was_taken_and_not_delivered_is_pending_until_the_agent_has_it() {
    let mut machine = running(Mode::Conversation);
    machine.take_over_messages(vec!["from before".to_owned()]);
    machine.handle(send("and this"), NOW);
    assert_eq!(machine.pending_messages(), ["from before", "and this"]);
    let typed = "from before\n\nand this".to_owned();
    assert!(machine.handle(turn_ended(), NOW).contains(&Effect::Submit(typed.clone())));
    assert_eq!(machine.pending_messages(), ["from before", "and this"]);
    machine.handle(Input::Agent(AgentEvent::TurnStarted { prompt: typed, is_message: true }), NOW);
    assert!(machine.pending_messages().is_empty());
}

#[test]
fn a_message_taken_while_checks_run_starts_the_agent_again() {
    let mut machine = running(Mode::OneShot);
    machine.handle(ended_well(), NOW);
    machine.handle(send("one more thing"), NOW);
    let effects = machine.handle(Input::Finish(FinishReport::Work(head())), NOW);
    assert!(effects.contains(&Effect::Relaunch("one more thing".to_owned().into())), "{effects:?}");
}

#[test]
fn a_lease_that_is_gone_ends_an_attempt_and_nothing_that_is_finished() {
    let gone = || Input::LeaseLost { why: "its ticket was cancelled".to_owned() };
    let mut machine = running(Mode::Conversation);
    machine.handle(turn_ended(), NOW);
    machine.handle(Input::Finish(FinishReport::Work(head())), NOW);
    assert_eq!(machine.handle(gone(), NOW), []);
    machine.handle(turn_started(), NOW);
    assert_eq!(machine.handle(gone(), NOW), [Effect::EndAgent]);
    let effects = machine.handle(Input::AgentGone, NOW);
    let outcome = Outcome::Stopped { reason: "its ticket was cancelled".to_owned() };
    assert!(effects.contains(&Effect::Conclude(outcome)), "{effects:?}");
}
