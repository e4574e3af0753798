//! The built-in presets against what their programs really printed; each sample is the output of one scripted run.

use serde_json::Value;

use super::*;
use crate::agent::testing::{Place, agent};
use crate::config::{AgentSources, load_agents};
use crate::model::agent::RuntimeKind;
use crate::model::tool_call::ToolOutcome;

/// A built-in preset.
fn preset(name: &str) -> Preset {
    let book = load_agents(&AgentSources::default()).unwrap();
    book.presets().into_iter().find(|preset| preset.name == name).unwrap()
}

/// An agent that uses it, with a program that is there.
fn definition(name: &str) -> Agent {
    Agent { preset: Some(Box::new(preset(name))), command: vec!["/bin/true".to_owned()], ..agent(RuntimeKind::Command) }
}

/// What a launch of the preset makes of a sample, fed in pieces of `piece` bytes.
fn told(name: &str, sample: &str, piece: usize) -> (Vec<AgentEvent>, Ending) {
    let place = Place::new();
    let definition = definition(name);
    let mut runtime = PresetAgent::new(definition.preset.as_ref().unwrap());
    runtime.launch(&place.plan(&definition, "do it", Mode::Print)).unwrap();
    let mut events = Vec::new();
    for bytes in sample.as_bytes().chunks(piece) {
        events.extend(runtime.output(bytes, Time::from_millis(1)));
    }
    let exit = ExitInfo { exit: Exit::Code(0), last_lines: Vec::new() };
    let (last, ending) = runtime.exited(&exit, Time::from_millis(2));
    events.extend(last);
    (events, ending)
}

/// The calls as tool, outcome and exit code.
fn calls(events: &[AgentEvent]) -> Vec<(String, ToolOutcome, Option<i32>)> {
    let tool = |id: &str| {
        events.iter().find_map(|event| match event {
            AgentEvent::ToolStarted(start) if start.call_id == id => Some(start.tool.clone()),
            _ => None,
        })
    };
    let end = |event: &AgentEvent| match event {
        AgentEvent::ToolEnded(end) => Some((tool(&end.call_id).unwrap(), end.outcome, end.exit_code)),
        _ => None,
    };
    events.iter().filter_map(end).collect()
}

/// The last figures.
fn usage(events: &[AgentEvent]) -> (u64, u64) {
    let figures = events.iter().rev().find_map(|event| match event {
        AgentEvent::Usage(usage) => Some((usage.input_tokens, usage.output_tokens)),
        _ => None,
    });
    figures.unwrap()
}

/// The id of the conversation, which is told once.
fn session(events: &[AgentEvent]) -> String {
    let ids: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            AgentEvent::SessionStarted { id, .. } => Some(id.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(ids.len(), 1);
    ids[0].clone()
}

/// The lines that people see.
fn shown<'a>(events: &'a [AgentEvent]) -> Vec<&'a str> {
    let text = |event: &'a AgentEvent| match event {
        AgentEvent::Display(text) => Some(text.as_str()),
        _ => None,
    };
    events.iter().filter_map(text).collect()
}

/// What a call came to.
fn call(tool: &str, outcome: ToolOutcome, exit_code: Option<i32>) -> (String, ToolOutcome, Option<i32>) {
    (tool.to_owned(), outcome, exit_code)
}

#[test]
fn codex_tells_calls_failures_refusals_and_usage() {
    for piece in [1, 7, 100_000] {
        let (events, ending) = told("codex", include_str!("samples/codex.txt"), piece);
        use ToolOutcome::{Denied, Error, Ok};
        let expected = [
            call("Bash", Ok, Some(0)),
            call("Bash", Error, Some(3)),
            call("Edit", Ok, None),
            call("Bash", Ok, Some(0)),
            call("Bash", Denied, None),
        ];
        assert_eq!(calls(&events), expected);
        assert_eq!((session(&events).len(), usage(&events)), (36, (700, 140)));
        assert!(matches!(ending, Ending::Finished { denied } if denied.len() == 1));
        assert!(shown(&events).contains(&"All done"), "{:?}", shown(&events));
    }
}

#[test]
fn opencode_tells_calls_at_their_end_and_usage_by_step() {
    let (events, ending) = told("opencode", include_str!("samples/opencode.txt"), 100);
    use ToolOutcome::{Denied, Error, Ok};
    let expected =
        [call("write", Ok, None), call("bash", Error, Some(3)), call("bash", Denied, None), call("read", Denied, None)];
    assert_eq!(calls(&events), expected);
    assert_eq!(usage(&events), (400, 80));
    assert!(session(&events).starts_with("ses_"));
    // The sample breaks off after a refusal: the program leaves the turn there without a last word.
    assert!(matches!(ending, Ending::Interrupted { .. }), "{ending:?}");
}

#[test]
fn gemini_tells_calls_without_exit_codes_and_usage_of_the_process() {
    use ToolOutcome::{Denied, Error, Ok};
    let (events, ending) = told("gemini", include_str!("samples/gemini.txt"), 100);
    let expected = [call("write_file", Ok, None), call("run_shell_command", Ok, None), call("read_file", Error, None)];
    assert_eq!(calls(&events), expected);
    assert_eq!((session(&events).len(), usage(&events)), (36, (400, 80)));
    assert_eq!(ending, Ending::Finished { denied: Vec::new() });
    let (events, ending) = told("gemini", include_str!("samples/gemini-denied.txt"), 100);
    assert_eq!(calls(&events)[1], call("run_shell_command", Denied, None));
    assert!(matches!(ending, Ending::Finished { denied } if denied.len() == 1));
}

#[test]
fn errors_of_a_provider_fail_the_attempt_with_their_words() {
    let codex = concat!(
        r#"{"type":"thread.started","thread_id":"t"}"#,
        "\n",
        r#"{"type":"turn.started"}"#,
        "\n",
        r#"{"type":"turn.failed","error":{"message":"unexpected status 401 Unauthorized: bad key"}}"#,
        "\n"
    );
    let opencode = concat!(
        r#"{"type":"error","sessionID":"ses_1","error":{"name":"APIError","data":{"message":"too busy","isRetryable":true}}}"#,
        "\n"
    );
    let gemini = concat!(
        r#"{"type":"init","session_id":"s"}"#,
        "\n",
        r#"{"type":"result","status":"error","error":{"type":"unknown","message":"[API Error: bad key]"}}"#,
        "\n"
    );
    for (name, sample, says, transient) in [
        ("codex", codex, "bad key", false),
        ("opencode", opencode, "too busy", true),
        ("gemini", gemini, "bad key", false),
    ] {
        let (events, ending) = told(name, sample, 50);
        let is_told =
            events.iter().any(|event| matches!(event, AgentEvent::Failed { reason } if reason.contains(says)));
        assert!(is_told, "{name}");
        let is_failed = matches!(&ending, Ending::Failed { reason, is_transient, .. }
            if reason.contains(says) && *is_transient == transient);
        assert!(is_failed, "{name}: {ending:?}");
    }
}

#[test]
fn ids_that_begin_anew_with_each_process_are_told_apart() {
    let sample = include_str!("samples/codex.txt");
    let ids = |events: Vec<AgentEvent>| -> Vec<String> {
        let id = |event| match event {
            AgentEvent::ToolStarted(start) => Some(start.call_id),
            _ => None,
        };
        events.into_iter().filter_map(id).collect()
    };
    let (one, two) = (ids(told("codex", sample, 100).0), ids(told("codex", sample, 100).0));
    assert!(one.len() == 5 && one.iter().all(|id| !two.contains(id)), "{one:?} {two:?}");
}

#[test]
fn a_command_line_is_made_from_start_or_resume_model_mode_and_prompt() {
    let mut place = Place::new();
    place.system_prompt = "You are careful.".to_owned();
    let mut definition = definition("codex");
    definition.model = Some("gpt-x".to_owned());
    let argv = |place: &Place, definition: &Agent, mode| -> Vec<String> {
        let launch = PresetAgent::new(definition.preset.as_ref().unwrap())
            .launch(&place.plan(definition, "-- do {session}", mode))
            .unwrap();
        launch.argv.iter().map(|word| word.to_string_lossy().into_owned()).collect()
    };
    let headless = argv(&place, &definition, Mode::Print);
    let tail = ["exec", "--json", "--color", "never", "--skip-git-repo-check", "--sandbox", "workspace-write", "-m"];
    assert_eq!(
        headless[4..].iter().map(String::as_str).collect::<Vec<_>>(),
        [&["/bin/true"], &tail[..], &["gpt-x", "-"]].concat()
    );
    let sent = std::fs::read_to_string(place.worker_dir().join("preset-prompt.md")).unwrap();
    assert_eq!(sent, "You are careful.\n\n-- do {session}");
    let interactive = argv(&place, &definition, Mode::Interactive);
    assert_eq!(interactive.last().unwrap(), "You are careful.\n\n-- do {session}");
    place.resume = Some("th-1".to_owned());
    let resumed = argv(&place, &definition, Mode::Print);
    assert_eq!(resumed[resumed.len() - 3..], ["resume", "th-1", "-"]);
    let sent = std::fs::read_to_string(place.worker_dir().join("preset-prompt.md")).unwrap();
    assert_eq!(sent, "-- do {session}");
}

#[test]
fn without_a_prompt_its_argument_goes_with_its_flag() {
    let place = Place::new();
    for (name, last) in [("opencode", "/bin/true"), ("codex", "workspace-write"), ("gemini", "auto_edit")] {
        let definition = definition(name);
        let launch = PresetAgent::new(definition.preset.as_ref().unwrap())
            .launch(&place.plan(&definition, "", Mode::Interactive))
            .unwrap();
        assert_eq!(launch.argv.last().unwrap().to_str().unwrap(), last, "{name}");
    }
}

#[test]
fn a_terminal_of_codex_ends_its_turns_by_its_hook() {
    let place = Place::new();
    let definition = definition("codex");
    let mut runtime = PresetAgent::new(definition.preset.as_ref().unwrap());
    runtime.launch(&place.plan(&definition, "say hi", Mode::Interactive)).unwrap();
    assert_eq!(turns(&definition.preset.clone().unwrap(), Mode::Interactive), Turns::Conversation);
    assert!(matches!(&runtime.poll(Time::from_millis(1))[..], [AgentEvent::TurnStarted { .. }]));
    assert!(runtime.poll(Time::from_millis(2)).is_empty());
    let notify = |message: &str| {
        let payload: Value = json!({"type": "agent-turn-complete", "thread-id": "t1", "turn-id": "1",
            "input-messages": [message], "last-assistant-message": "Hello there"});
        HookCall { at: Time::from_millis(3), event: "notify".to_owned(), payload }
    };
    let title = runtime.hook(&notify("Generate a concise, single-line task title of at most 36 characters")).0;
    assert_eq!(title, []);
    let ended = AgentEvent::TurnEnded { finished: true, background: 0, last_message: Some("Hello there".to_owned()) };
    let began = AgentEvent::SessionStarted { id: "t1".to_owned(), transcript: None };
    assert_eq!(runtime.hook(&notify("say hi")).0, [began, ended.clone()]);
    // The second turn was typed by a person: nothing told that it began.
    let second = runtime.hook(&notify("and again")).0;
    assert_eq!(second, [AgentEvent::TurnStarted { prompt: String::new(), is_message: false }, ended]);
}

#[test]
fn the_screens_of_the_programs_are_told_apart() {
    use crate::model::worker::Status;
    use crate::terminal::{ScreenRule, matching_rule};
    let rules = |name: &str| -> Vec<ScreenRule> {
        preset(name).screen.into_iter().map(|rule| serde_json::from_value(rule).unwrap()).collect()
    };
    let status = |name: &str, screen: &str| {
        let lines: Vec<String> = screen.lines().map(str::to_owned).collect();
        matching_rule(&rules(name), &lines).map(|rule| rule.status)
    };
    let trust = "  Trust this folder? Codex can read\n› 1. Trust and continue\n  enter continue · esc back";
    assert_eq!(status("codex", trust), Some(Status::Waiting));
    let ask = "  Would you like to run the following command?\n  $ ls\n  Press enter to confirm or esc to cancel";
    assert_eq!(status("codex", ask), Some(Status::Waiting));
    assert_eq!(status("codex", "› Ask Codex to do anything\n  ← for agents · ? for shortcuts"), Some(Status::Idle));
    let ask = "  ┃  △ Permission required\n  ┃    → Edit made.txt\n  ┃   Allow once   Allow always   Reject";
    assert_eq!(status("opencode", ask), Some(Status::Waiting));
    let ask = "│ Apply this change?   │\n│ ● 1. Allow once  │\n│   2. Modify with external editor";
    assert_eq!(status("gemini", ask), Some(Status::Waiting));
    assert_eq!(status("aider", "Run shell command? (Y)es/(N)o [Yes]:"), Some(Status::Waiting));
}

#[test]
fn a_missing_program_is_named_with_the_command_that_installs_it() {
    let folder = tempfile::tempdir().unwrap();
    let env =
        vec![("PATH".to_owned(), folder.path().display().to_string()), ("HOME".to_owned(), "/nowhere".to_owned())];
    let definition = Agent { command: Vec::new(), ..definition("codex") };
    let missing = probe(&definition, definition.preset.as_ref().unwrap(), &env, folder.path());
    assert_eq!(missing.problem.unwrap(), "no program `codex` was found");
    assert_eq!(missing.hint.unwrap(), "install it with `npm install -g @openai/codex`");
    let definition = Agent { command: vec!["/bin/echo".to_owned()], ..definition };
    let strange = probe(&definition, definition.preset.as_ref().unwrap(), &env, folder.path());
    assert_eq!(strange.doubt.unwrap(), "nobody seems to be logged in");
    assert_eq!(strange.hint.unwrap(), "log in with `codex login`");
}
