//! Who shows a difference: the person's pager as git would choose it, or nobody.

use std::io::{IsTerminal, Write};
use std::process::Stdio;

use crate::cli::Context;
use crate::coordinator::{Control, Failure};
use crate::process;

/// Pagers that show a text as it is. Any other one makes something of git's own colours, and gets them.
const PLAIN_PAGERS: [&str; 7] = ["less", "more", "most", "lv", "moar", "ov", "pg"];
/// Exit codes of a shell that could not start a program.
const NOT_STARTED: [i32; 2] = [126, 127];

/// Who shows text to the person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Viewer {
    /// Nobody: it goes to standard output.
    Nobody,
    /// A pager that shows text as it is.
    Pager(String),
    /// A program that reads git's coloured differences, such as delta.
    Filter(String),
}

impl Viewer {
    /// The viewer of this call.
    pub(super) fn of(control: &Control, context: &Context) -> Result<Self, Failure> {
        if !std::io::stdout().is_terminal() || context.output.json {
            return Ok(Self::Nobody);
        }
        let variable = |name: &str| context.environment.get(name).map(str::to_owned);
        let own = variable("SWARM_PAGER").or_else(|| variable("GIT_PAGER"));
        let configured = if own.is_some() { None } else { control.pager_setting()? };
        Ok(Self::from_command(&own.or(configured).or_else(|| variable("PAGER")).unwrap_or_else(|| "less".to_owned())))
    }

    /// The viewer that a command line is; leading settings of variables are no part of the program's name.
    fn from_command(command: &str) -> Self {
        let program = command.split_whitespace().find(|word| !word.contains('=')).unwrap_or_default();
        let name = program.rsplit('/').next().unwrap_or(program);
        match name {
            "" | "cat" => Self::Nobody,
            name if PLAIN_PAGERS.contains(&name) => Self::Pager(command.to_owned()),
            _ => Self::Filter(command.to_owned()),
        }
    }

    /// Shows a text. One that the pager never got to see, because it could not be started, is printed.
    pub(super) fn show(&self, text: &str, context: &Context) -> Result<(), Failure> {
        let (Self::Pager(command) | Self::Filter(command)) = self else {
            return context.output.print(text);
        };
        if text.is_empty() {
            return Ok(());
        }
        let rows = crate::terminal::terminal_size().map_or(24, |size| usize::from(size.rows));
        if matches!(self, Self::Pager(_)) && text.lines().count() < rows {
            return context.output.print(text);
        }
        // Also what a pager shows: what it lets through is not ours to know.
        let text = &context.output.visible(text);
        let mut shell = process::command("sh");
        shell.args(["-c", command]).stdin(Stdio::piped());
        // As git has it: quit when it fits, keep colours, leave the text on the screen.
        for (name, value) in [("LESS", "FRX"), ("LV", "-c")] {
            if context.environment.get(name).is_none() {
                shell.env(name, value);
            }
        }
        let Ok(mut child) = process::spawn(&mut shell) else {
            return context.output.print(text);
        };
        if let Some(mut stdin) = child.stdin.take() {
            // A pager that a person quits early closes the pipe.
            stdin.write_all(text.as_bytes()).ok();
        }
        let status = child.wait();
        process::forget(child.id());
        match status.ok().and_then(|status| status.code()) {
            Some(code) if NOT_STARTED.contains(&code) => context.output.print(text),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Viewer;

    #[test]
    fn pagers_that_read_differences_are_told_from_those_that_show_text() {
        let viewer = |command: &str| Viewer::from_command(command);
        let pager = |command: &str| Viewer::Pager(command.to_owned());
        let filter = |command: &str| Viewer::Filter(command.to_owned());
        for command in ["less", "LESS=FR /usr/bin/less -S", "more"] {
            assert_eq!(viewer(command), pager(command));
        }
        for command in ["delta", "/opt/bin/delta --dark", "diff-so-fancy | less -RFX", "bat"] {
            assert_eq!(viewer(command), filter(command));
        }
        assert_eq!((viewer(""), viewer("cat")), (Viewer::Nobody, Viewer::Nobody));
    }
}
