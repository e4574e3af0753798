//! `swarm trust`.

use std::io::{BufRead, IsTerminal, Write};

use crate::cli::Context;
use crate::cli::args::TrustArgs;
use crate::cli::output::{self, Style};
use crate::coordinator::views::{TrustView, TrustedView};
use crate::coordinator::{Failure, FailureKind};

/// Runs the verb.
pub(super) fn run(args: &TrustArgs, context: &Context) -> Result<(), Failure> {
    let control = context.control()?;
    if args.list {
        return show(&control.trusted()?, "no commands are trusted, here or elsewhere", context);
    }
    if args.revoke {
        return show(&control.revoke_trust()?, "no command of this repository was trusted", context);
    }
    let mut question = control.trust_question()?;
    if question.is_open() {
        if !context.global.yes && !ask(&question.view(), context)? {
            let mut failure = Failure::new(FailureKind::NeedsPerson, untrusted(&question.view()));
            failure.hints.push("read them, then run swarm trust in a terminal, or swarm trust --yes".to_owned());
            if context.output.json {
                context.output.document(&question.view())?;
            }
            return Err(failure);
        }
        question.accept()?;
    }
    show(&question.view(), "this repository has no set-up commands or gates", context)
}

/// Asks on the terminal whether all commands may run; false without one.
fn ask(view: &TrustView, context: &Context) -> Result<bool, Failure> {
    let (stdin, mut stderr) = (std::io::stdin(), std::io::stderr());
    if !stdin.is_terminal() || !stderr.is_terminal() {
        return Ok(false);
    }
    let failed = |error: std::io::Error| Failure::from_error(FailureKind::Failed, &error);
    let mut text = "Set-up commands and gates of this repository run on this machine as you:\n".to_owned();
    text.push_str(&render(view, context));
    text.push_str("Trust all of them? [y/N] ");
    stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush()).map_err(failed)?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer).map_err(failed)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// The refusal's text.
fn untrusted(view: &TrustView) -> String {
    let open = view.commands.iter().filter(|command| !command.trusted);
    let lines: Vec<_> = open.map(|command| format!("  {:<5}  {}", command.kind, indented(&command.run, 9))).collect();
    format!("commands of this repository are not trusted:\n{}", lines.join("\n"))
}

/// Prints commands, or on standard error that there are none.
fn show(view: &TrustView, none: &str, context: &Context) -> Result<(), Failure> {
    if context.output.json {
        return context.output.document(view);
    }
    if view.commands.is_empty() {
        context.output.narrate(none);
        return Ok(());
    }
    context.output.print(&render(view, context))
}

/// A line a command, those of each repository together.
fn render(view: &TrustView, context: &Context) -> String {
    let mut text = String::new();
    let mut repository = None;
    let several = view.commands.iter().any(|command| command.repository != view.commands[0].repository);
    for TrustedView { kind, run, repository: of, trusted } in &view.commands {
        if several && repository != Some(of) {
            text.push_str(&format!("{}\n", context.output.paint(Style::Bold, &visible(of))));
        }
        repository = Some(of);
        let (style, word) = if *trusted { (Style::Green, "trusted    ") } else { (Style::Yellow, "not trusted") };
        text.push_str(&format!("{}  {kind:<5}  {}\n", context.output.paint(style, word), indented(run, 20)));
    }
    text
}

/// A command that begins in column `column`, with its further lines below the first.
fn indented(run: &str, column: usize) -> String {
    visible(run.trim_end_matches('\n')).replace('\n', &format!("\n{:column$}", ""))
}

/// A repository's text as it is: a person decides by what they see, so nothing in it may move the cursor, colour, hide or
/// reorder what is shown.
fn visible(text: &str) -> String {
    let hides = |c: char| matches!(c, '\t' | '\u{ad}' | '\u{200c}' | '\u{200d}');
    let safe = output::visible(text, false);
    safe.chars().fold(String::new(), |mut shown, c| {
        if hides(c) {
            shown.extend(c.escape_default())
        } else {
            shown.push(c)
        }
        shown
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_command_can_hide_the_rest_of_it() {
        assert_eq!(visible("make test\r\x1b[2Krm -rf ~"), r"make test\r\u{1b}[2Krm -rf ~");
        assert_eq!(visible("a\u{202e}b\u{200b}c\td"), r"a\u{202e}b\u{200b}c\td");
        assert_eq!(indented("one\ntwo\n", 3), "one\n   two");
    }
}
