//! Which `claude` is installed, and whether it is new enough.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::agent::Probe;
use crate::agent::launch::{find_program, variable};
use crate::model::agent::Agent;
use crate::process::{Invocation, run};

/// Names another program than `claude`, for tests and special set-ups.
const OVERRIDE: &str = "SWARM_CLAUDE";
/// The oldest version whose hooks, flags and events were measured; the newest one was 2.1.329.
const MINIMUM: [u32; 3] = [2, 1, 197];
/// How to get the program.
pub(super) const INSTALL_HINT: &str = "install it with `npm install -g @anthropic-ai/claude-code`";

/// The program's name in an environment.
pub(super) fn program(env: &[(String, String)]) -> &str {
    variable(env, OVERRIDE).unwrap_or("claude")
}

/// Where the program is.
pub(super) fn locate(env: &[(String, String)], cwd: &Path) -> Option<PathBuf> {
    find_program(OsStr::new(program(env)), env, cwd)
}

/// Finds the program and asks it for its version.
pub(in crate::agent) fn probe(agent: &Agent, env: &[(String, String)], cwd: &Path) -> Probe {
    let program = program(env).to_owned();
    let path = locate(env, cwd);
    let mut probe = Probe { program, path, version: None, model: None, problem: None, doubt: None, hint: None };
    let Some(path) = &probe.path else {
        probe.problem = Some(format!("no program `{}` was found", probe.program));
        probe.hint = Some(INSTALL_HINT.to_owned());
        return probe;
    };
    let mut call = Invocation::new(path, cwd).args(["--version"]);
    call.env = Some(env.iter().map(|(name, value)| (name.into(), value.into())).collect());
    call.timeout = Some(Duration::from_secs(10));
    match run(&call) {
        Ok(finished) if finished.status.success() => judge(&mut probe, finished.text().trim()),
        Ok(finished) => {
            let said = String::from_utf8_lossy(&finished.stderr);
            let said = said.lines().find(|line| !line.trim().is_empty());
            let said = said.map(|line| format!(": {}", line.trim())).unwrap_or_default();
            probe.problem = Some(format!("`claude --version` exited with code {}{said}", finished.code()));
            probe.hint = Some(INSTALL_HINT.to_owned());
        }
        Err(error) => {
            probe.problem = Some(format!("{error}"));
            probe.hint = Some(INSTALL_HINT.to_owned());
        }
    }
    if agent.provider.is_none() {
        look_for_login(&mut probe, env);
    }
    probe
}

/// Notes when nothing shows that somebody is logged in. Only where logins are files: macOS keeps them in its keychain.
fn look_for_login(probe: &mut Probe, env: &[(String, String)]) {
    let has_key = super::arguments::CREDENTIALS.iter().any(|name| variable(env, name).is_some());
    let folder = super::folder::Folder::of_person(env);
    let has_file = folder.is_some_and(|folder| folder.root().join(".credentials.json").exists());
    if cfg!(target_os = "linux") && probe.problem.is_none() && !has_key && !has_file {
        probe.doubt = Some("nobody seems to be logged in".to_owned());
        probe.hint = Some("log in with `claude auth login`".to_owned());
    }
}

/// Reads what `--version` printed: `2.1.329 (Claude Code)`.
fn judge(probe: &mut Probe, said: &str) {
    let word = said.split_whitespace().next().unwrap_or("");
    probe.version = Some(word.to_owned());
    match parse(word) {
        Some(version) if version >= MINIMUM => {}
        Some(_) => {
            let [major, minor, patch] = MINIMUM;
            probe.problem = Some(format!("its version {word} is older than {major}.{minor}.{patch}"));
            probe.hint = Some("update it with `npm install -g @anthropic-ai/claude-code@latest`".to_owned());
        }
        None => {
            probe.version = None;
            probe.problem = Some(format!("`{}` does not look like Claude Code", probe.program));
            probe.hint = Some(INSTALL_HINT.to_owned());
        }
    }
}

/// The three numbers of a version.
fn parse(word: &str) -> Option<[u32; 3]> {
    let mut numbers = word.split(['.', '-', '+']).map(|number| number.parse().ok());
    Some([numbers.next()??, numbers.next()??, numbers.next()??])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claude() -> Agent {
        crate::agent::testing::agent(crate::model::agent::RuntimeKind::Claude)
    }

    fn judged(said: &str) -> Probe {
        let mut probe = Probe {
            program: "claude".to_owned(),
            path: None,
            version: None,
            model: None,
            problem: None,
            doubt: None,
            hint: None,
        };
        judge(&mut probe, said);
        probe
    }

    #[test]
    fn measured_versions_are_fit_and_older_ones_are_not() {
        assert_eq!(judged("2.1.329 (Claude Code)").problem, None);
        assert_eq!(judged("2.1.329 (Claude Code)").version.as_deref(), Some("2.1.329"));
        assert_eq!(judged("2.1.197 (Claude Code)").problem, None);
        assert_eq!(judged("3.0.0-beta.1").problem, None);
        assert_eq!(judged("2.1.99 (Claude Code)").problem.unwrap(), "its version 2.1.99 is older than 2.1.197");
        assert!(judged("hello").problem.unwrap().contains("does not look like"));
    }

    #[test]
    fn a_missing_program_is_named_with_the_way_to_get_it() {
        let folder = tempfile::tempdir().unwrap();
        let env = [("PATH".to_owned(), folder.path().display().to_string())];
        let probe = probe(&claude(), &env, folder.path());
        assert_eq!(probe.problem.unwrap(), "no program `claude` was found");
        assert!(probe.hint.unwrap().contains("npm install -g @anthropic-ai/claude-code"));
    }

    #[test]
    fn the_override_names_the_program_and_a_broken_one_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let probe_of = |program: &str| probe(&claude(), &[(OVERRIDE.to_owned(), program.to_owned())], folder.path());
        assert_eq!(probe_of("/bin/false").problem.unwrap(), "`claude --version` exited with code 1");
        assert_eq!(probe_of("/bin/echo").problem.unwrap(), "`/bin/echo` does not look like Claude Code");
    }
}
