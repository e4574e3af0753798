use crate::agent::launch::{ARGUMENT_LIMIT, Mode};
use crate::agent::testing::{Place, agent};
use crate::agent::{AgentError, AgentEvent, Ending, Exit, ExitInfo, Runtime};
use crate::model::Time;
use crate::model::agent::{PromptDelivery, RuntimeKind};
use crate::process::{Invocation, run};

use super::Command;

fn command_agent(argv: &[&str], prompt: PromptDelivery) -> crate::model::agent::Agent {
    let mut agent = agent(RuntimeKind::Command);
    agent.command = argv.iter().map(ToString::to_string).collect();
    agent.prompt = prompt;
    agent
}

fn words(launch: &crate::agent::Launch) -> Vec<String> {
    launch.argv.iter().map(|word| word.to_string_lossy().into_owned()).collect()
}

fn ending(exit: Exit) -> Ending {
    Command::default().exited(&ExitInfo { exit, last_lines: Vec::new() }, Time::now()).1
}

#[test]
fn placeholders_are_put_in_once_and_other_braces_stay() {
    let place = Place::new();
    let agent = command_agent(
        &["sh", "{prompt_file}", "x{ticket}y", "{worker}/{branch}", "{\"a\":{unknown}}", "{worktree}{repo}"],
        PromptDelivery::File,
    );
    let launch = Command::default().launch(&place.plan(&agent, "go {ticket}", Mode::Print)).unwrap();
    let words = words(&launch);
    assert!(words[0].ends_with("/sh") && words[0].starts_with('/'));
    assert_eq!(words[1], place.prompt_file().display().to_string());
    assert_eq!(words[2..5], ["xfixy", "fix/swarm/fix", "{\"a\":{unknown}}"]);
    assert_eq!(words[5], format!("{}{}", place.worktree().display(), place.repo().display()));
    assert!(!launch.raw_output && launch.session_id.is_none());
    let variable = launch.env.iter().find(|(name, _)| name == "SWARM_PROMPT_FILE").unwrap();
    assert_eq!(variable.1, place.prompt_file());
}

#[test]
fn a_prompt_argument_is_last_and_verbatim() {
    let place = Place::new();
    let agent = command_agent(&["echo"], PromptDelivery::Argument);
    let prompt = "it's `{ticket}`\n\"$HOME\" \\";
    let launch = Command::default().launch(&place.plan(&agent, prompt, Mode::Print)).unwrap();
    assert_eq!(words(&launch)[1..], [prompt]);
}

#[test]
fn a_prompt_that_is_too_long_for_an_argument_names_the_way_out() {
    let place = Place::new();
    let agent = command_agent(&["echo"], PromptDelivery::Argument);
    let launch = |prompt: &str| Command::default().launch(&place.plan(&agent, prompt, Mode::Print));
    assert!(launch(&"x".repeat(ARGUMENT_LIMIT - 1)).is_ok());
    let error = launch(&"x".repeat(ARGUMENT_LIMIT)).unwrap_err();
    assert!(matches!(error, AgentError::ArgumentTooLong { bytes: 131_072, limit: 131_071, .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("`prompt: file`"));
    assert!(matches!(launch("a\0b").unwrap_err(), AgentError::ZeroByte { .. }));
}

#[test]
fn a_prompt_on_standard_input_arrives_whole_and_the_words_stay_whole() {
    let place = Place::new();
    let prompt = "line \"one\"\n'two' `three` $four\n";
    place.write_prompt(prompt);
    let script = "printf '%s|' \"$@\"; cat";
    let agent = command_agent(&["sh", "-c", script, "sh", "a b", "$(c)"], PromptDelivery::Stdin);
    let launch = Command::default().launch(&place.plan(&agent, prompt, Mode::Print)).unwrap();
    let mut call = Invocation::new(&launch.argv[0], place.worktree()).args(launch.argv[1..].to_vec());
    call.env = Some(launch.env.clone());
    assert_eq!(run(&call).unwrap().text(), format!("a b|$(c)|{prompt}"));
}

#[test]
fn a_missing_program_is_refused_before_the_start() {
    let place = Place::new();
    let agent = command_agent(&["no-such-program-here", "x"], PromptDelivery::File);
    let error = Command::default().launch(&place.plan(&agent, "go", Mode::Print)).unwrap_err();
    assert_eq!(error.to_string(), "no program `no-such-program-here` was found");
    assert!(error.hint().unwrap().contains("install `no-such-program-here`"));
    let agent = command_agent(&["./work.sh"], PromptDelivery::File);
    let error = Command::default().launch(&place.plan(&agent, "go", Mode::Print)).unwrap_err();
    assert!(error.hint().unwrap().contains("counts from the worktree"));
    let probe = super::probe(&agent, &place.env, place.worktree());
    assert_eq!(probe.problem.unwrap(), "no program `./work.sh` was found");
}

#[test]
fn exit_codes_and_signals_are_endings() {
    assert_eq!(ending(Exit::Code(0)), Ending::Finished { denied: Vec::new() });
    let failed = |reason: &str, exit_code| Ending::Failed { reason: reason.to_owned(), is_transient: false, exit_code };
    assert_eq!(ending(Exit::Code(3)), failed("its command exited with code 3", Some(3)));
    assert_eq!(ending(Exit::Signal(9)), failed("its command was ended by SIGKILL", None));
    assert_eq!(ending(Exit::Signal(42)), failed("its command was ended by signal 42", None));
}

#[test]
fn a_message_is_typed_to_a_command_that_reads_its_terminal_only() {
    let place = Place::new();
    let mut runtime = Command::default();
    let agent = command_agent(&["cat"], PromptDelivery::File);
    runtime.launch(&place.plan(&agent, "go", Mode::Interactive)).unwrap();
    assert_eq!(runtime.submit("a\nb\n").unwrap().bytes, b"a\rb\r");
    let agent = command_agent(&["cat"], PromptDelivery::Stdin);
    runtime.launch(&place.plan(&agent, "go", Mode::Interactive)).unwrap();
    assert!(matches!(runtime.submit("a").unwrap_err(), AgentError::CannotReceive { .. }));
    assert_eq!(runtime.output(b"x", Time::now()), Vec::<AgentEvent>::new());
}
