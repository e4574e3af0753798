//! The command line: arguments, printing and exit codes. One file per verb under `verbs`.

mod args;
mod complete;
mod diff;
mod interrupt;
mod output;
#[cfg(test)]
mod schemas;
mod verbs;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use clap_complete::CompleteEnv;

use crate::config;
use crate::coordinator::{Call, Control, Failure, FailureKind};
use args::{Cli, Global};
use output::Output;

/// What every verb gets: the flags, the streams, and the way to the repository.
pub(crate) struct Context {
    /// Flags every verb has.
    global: Global,
    /// The streams.
    output: Output,
    /// This process's environment.
    environment: config::Environment,
}

impl Context {
    /// How this command was called.
    fn call(&self) -> Result<Call, Failure> {
        let here = std::env::current_dir().map_err(|error| Failure::from_error(FailureKind::Failed, &error))?;
        let directory = match &self.global.directory {
            Some(directory) => here.join(directory),
            None => here,
        };
        if !directory.is_dir() {
            let text = format!("there is no folder `{}`", directory.display());
            return Err(Failure::new(FailureKind::Usage, text));
        }
        let program = std::env::current_exe().map_err(|error| Failure::from_error(FailureKind::Internal, &error))?;
        let overrides = self.global.overrides.clone();
        Ok(Call { directory, overrides, environment: self.environment.clone(), program })
    }

    /// The repository around the working folder.
    fn control(&self) -> Result<Control, Failure> {
        let output = self.output.clone();
        Ok(Control::open(self.call()?, self.global.yes)?.with_listener(move |what| output.narrate(what)))
    }
}

/// Runs the program with the process's own arguments.
pub fn run() -> ExitCode {
    // A panic is a fault of ours: the message has been printed, guards have restored the terminal by unwinding.
    match std::panic::catch_unwind(run_verb) {
        Ok(code) => code,
        Err(_) => ExitCode::from(FailureKind::Internal.exit_code()),
    }
}

/// Parses, runs the verb, and turns its result into an exit code.
fn run_verb() -> ExitCode {
    CompleteEnv::with_factory(Cli::command).complete();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let environment = config::environment();
    let no_color = environment.get("NO_COLOR").is_some_and(|value| !value.is_empty());
    let output = Output::decide(&cli.global, no_color);
    let context = Context { global: cli.global, output, environment };
    match verbs::run(cli.verb, &context) {
        Ok(code) => code,
        Err(failure) if output::is_closed_pipe(&failure) => ExitCode::SUCCESS,
        Err(failure) => {
            context.output.failure(&failure);
            ExitCode::from(failure.kind.exit_code())
        }
    }
}

impl Cli {
    /// The arguments of this process.
    fn try_parse() -> Result<Self, clap::Error> {
        let matches = Self::command().try_get_matches()?;
        Self::from_arg_matches(&matches)
    }
}

/// Prints what clap has to say. Help and version are answers, everything else is a usage error.
fn usage(error: &clap::Error) -> ExitCode {
    // A reader that went away is success.
    error.print().ok();
    if error.use_stderr() { ExitCode::from(FailureKind::Usage.exit_code()) } else { ExitCode::SUCCESS }
}
