//! The command line: arguments, printing and exit codes.

use std::process::ExitCode;

/// Runs the program with the process's own arguments.
pub fn run() -> ExitCode {
    ExitCode::SUCCESS
}
