//! The programs that speak with a forge: `gh` for GitHub and `glab` for GitLab, as data.
//!
//! Flags and JSON are those of their manuals (gh-pr-list(1), gh-pr-create(1), gh-pr-view(1), gh help exit-codes;
//! glab-mr-list(1), glab-mr-create(1), glab-mr-view(1), and GitLab's REST API for what `glab` passes on). Neither ever
//! asks: prompts are off, standard input is empty, and a time limit holds.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{BranchName, CommitId, cut};
use crate::process::{self, Finished, Invocation, ProcessError};

/// Time one call may take.
const LIMIT: Duration = Duration::from_secs(120);
/// Bytes of a description that `glab` gets, which takes it as an argument only: Linux allows 128 KiB for one (execve(2)).
const MOST_DESCRIPTION: usize = 120_000;
/// What `gh` is asked for about a pull request.
const GH_FIELDS: &str = "number,url,state,baseRefName,headRefOid,isCrossRepository,statusCheckRollup";

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ForgeKind {
    /// GitHub's.
    Gh,
    /// GitLab's.
    Glab,
}

/// A forge as one repository reaches it.
#[derive(Debug, Clone)]
pub(crate) struct Forge {
    /// Which program.
    pub(crate) kind: ForgeKind,
    /// A folder of the repository: the program finds the forge by its remotes.
    pub(crate) folder: PathBuf,
    /// The person's whole environment, with their login.
    pub(crate) environment: Vec<(OsString, OsString)>,
}

/// Why a forge could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForgeError {
    /// The program is not installed.
    #[error("`{0}` is not installed")]
    Missing(&'static str),
    /// Nobody is logged in.
    #[error("`{program}` is not logged in: {says}")]
    NotLoggedIn {
        /// The program.
        program: &'static str,
        /// Its last words.
        says: String,
    },
    /// A call failed.
    #[error("`{command}` failed with exit code {code}: {says}")]
    Failed {
        /// Program and subcommand.
        command: String,
        /// Its exit code.
        code: i32,
        /// Its last words.
        says: String,
    },
    /// An answer was not understood.
    #[error("`{command}` gave an answer that is not understood")]
    Answer {
        /// Program and subcommand.
        command: String,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// It could not be run.
    #[error("the forge's program could not be run")]
    Process(#[from] ProcessError),
}

impl ForgeError {
    /// What a person can do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Missing("gh") => {
                Some("install GitHub's program (https://cli.github.com), or set landing.forge".into())
            }
            Self::Missing(_) => {
                Some("install GitLab's program (https://docs.gitlab.com/cli), or set landing.forge".into())
            }
            Self::NotLoggedIn { program, .. } => Some(format!("log in: {program} auth login")),
            Self::Failed { .. } | Self::Answer { .. } | Self::Process(_) => None,
        }
    }
}

/// Where a pull request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PullState {
    /// Waits to be merged.
    Open,
    /// Was merged, says the forge.
    Merged,
    /// Was closed without.
    Closed,
}

/// How the checks of a pull request are doing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Checks {
    /// How many passed, or do not count.
    pub(crate) passed: usize,
    /// How many have not ended.
    pub(crate) pending: usize,
    /// Names of those that failed.
    pub(crate) failed: Vec<String>,
}

impl Checks {
    /// They in a clause.
    pub(crate) fn clause(&self) -> String {
        let Self { passed, pending, failed } = self;
        match (failed.as_slice(), pending, passed) {
            ([], 0, 0) => "no checks".to_owned(),
            ([], 0, passed) => format!("{passed} checks passed"),
            ([], pending, _) => format!("{pending} checks pending, {passed} passed"),
            (failed, ..) => format!("checks failed: {}", failed.join(", ")),
        }
    }
}

/// A pull request as its forge shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pull {
    /// Its number.
    pub(crate) number: u64,
    /// Its address.
    pub(crate) url: String,
    /// Where it is.
    pub(crate) state: PullState,
    /// The branch it is to be merged into.
    pub(crate) target: String,
    /// The last commit of its branch that the forge knows of.
    pub(crate) head: Option<String>,
    /// Its checks.
    pub(crate) checks: Checks,
}

/// A pull request in the JSON of `gh`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GhPull {
    number: u64,
    url: String,
    /// `OPEN`, `CLOSED` or `MERGED`.
    state: String,
    base_ref_name: String,
    head_ref_oid: Option<String>,
    #[serde(default)]
    is_cross_repository: bool,
    #[serde(default)]
    status_check_rollup: Option<Vec<GhCheck>>,
}

/// One check: a `CheckRun` with status and conclusion, or a `StatusContext` with a state.
#[derive(Debug, Deserialize)]
struct GhCheck {
    name: Option<String>,
    context: Option<String>,
    status: Option<String>,
    conclusion: Option<String>,
    state: Option<String>,
}

/// A merge request in the JSON of `glab`, which is that of GitLab's API.
#[derive(Debug, Deserialize)]
struct GlabPull {
    iid: u64,
    web_url: String,
    /// `opened`, `closed`, `locked` or `merged`.
    state: String,
    target_branch: String,
    sha: Option<String>,
    source_project_id: Option<i64>,
    target_project_id: Option<i64>,
    #[serde(default)]
    head_pipeline: Option<GlabPipeline>,
}

/// The pipeline of a merge request.
#[derive(Debug, Deserialize)]
struct GlabPipeline {
    id: Option<i64>,
    status: String,
}

impl Forge {
    /// The program's name.
    pub(crate) fn program(&self) -> &'static str {
        match self.kind {
            ForgeKind::Gh => "gh",
            ForgeKind::Glab => "glab",
        }
    }

    /// The pull requests of a branch of this repository, of every state, newest first.
    pub(crate) fn find(&self, branch: &BranchName) -> Result<Vec<Pull>, ForgeError> {
        let branch = branch.as_str();
        match self.kind {
            ForgeKind::Gh => {
                let args = ["pr", "list", "--head", branch, "--state", "all", "--limit", "30", "--json", GH_FIELDS];
                let pulls: Vec<GhPull> = self.json(&args)?;
                // A branch of that name in somebody's fork is another one.
                Ok(pulls.into_iter().filter(|pull| !pull.is_cross_repository).map(Pull::from).collect())
            }
            ForgeKind::Glab => {
                let args = ["mr", "list", "--source-branch", branch, "--all", "--output", "json"];
                let pulls: Vec<GlabPull> = self.json(&args)?;
                let own = |pull: &GlabPull| pull.source_project_id == pull.target_project_id;
                Ok(pulls.into_iter().filter(own).map(Pull::from).collect())
            }
        }
    }

    /// One pull request with its checks.
    pub(crate) fn view(&self, number: u64) -> Result<Pull, ForgeError> {
        let number = number.to_string();
        match self.kind {
            ForgeKind::Gh => Ok(self.json::<GhPull>(&["pr", "view", number.as_str(), "--json", GH_FIELDS])?.into()),
            ForgeKind::Glab => Ok(self.json::<GlabPull>(&["mr", "view", number.as_str(), "--output", "json"])?.into()),
        }
    }

    /// Opens a pull request of a branch that was pushed; answers its number, as the end of the address that is printed.
    pub(crate) fn create(
        &self,
        branch: &BranchName,
        target: &BranchName,
        title: &str,
        body: &str,
    ) -> Result<Option<u64>, ForgeError> {
        let (branch, target) = (branch.as_str(), target.as_str());
        let done = match self.kind {
            ForgeKind::Gh => {
                let args = ["pr", "create", "--base", target, "--head", branch, "--title", title, "--body-file", "-"];
                self.call(&args, body)?
            }
            ForgeKind::Glab => {
                let args = ["mr", "create", "--source-branch", branch, "--target-branch", target, "--title", title];
                let body = if body.len() <= MOST_DESCRIPTION { body.to_owned() } else { shortened(body) };
                let rest = ["--description", body.as_str(), "--yes"];
                self.call(&[args.as_slice(), &rest].concat(), "")?
            }
        };
        let text = done.text();
        let addresses = text.split_whitespace().filter(|word| word.starts_with("http"));
        Ok(addresses.filter_map(|url| url.trim_end_matches('/').rsplit('/').next()?.parse().ok()).next_back())
    }

    /// Runs a call and reads its JSON.
    pub(super) fn json<T: for<'de> Deserialize<'de>>(&self, args: &[&str]) -> Result<T, ForgeError> {
        let done = self.call(args, "")?;
        let wrap = |source| ForgeError::Answer { command: self.command(args), source };
        serde_json::from_slice(&done.stdout).map_err(wrap)
    }

    /// Runs a call that must end well.
    fn call(&self, args: &[&str], input: &str) -> Result<Finished, ForgeError> {
        let done = self.run(args, input)?;
        if done.code() == 0 {
            return Ok(done);
        }
        let says = last_words(&done);
        let program = self.program();
        // `gh` says so by its exit code; `glab` has none for it.
        let is_stranger = match self.kind {
            ForgeKind::Gh => done.code() == 4,
            ForgeKind::Glab => self.run(&["auth", "status"], "")?.code() != 0,
        };
        if is_stranger {
            return Err(ForgeError::NotLoggedIn { program, says });
        }
        Err(ForgeError::Failed { command: self.command(args), code: done.code(), says })
    }

    /// Runs a call to its end.
    fn run(&self, args: &[&str], input: &str) -> Result<Finished, ForgeError> {
        let mut call = Invocation::new(self.program(), &self.folder).args(args.iter().copied());
        call.env = Some(self.environment.clone());
        call.unset = ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"].map(OsString::from).into();
        let fixed = [("GH_PROMPT_DISABLED", "1"), ("NO_PROMPT", "1"), ("NO_COLOR", "1"), ("GIT_TERMINAL_PROMPT", "0")];
        call.set = fixed.map(|(name, value)| (name.into(), value.into())).into();
        call.stdin = input.as_bytes().to_vec();
        call.timeout = Some(LIMIT);
        match process::run(&call) {
            Err(ProcessError::Start { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Err(ForgeError::Missing(self.program()))
            }
            done => Ok(done?),
        }
    }

    /// A call for messages: program and subcommand.
    fn command(&self, args: &[&str]) -> String {
        format!("{} {}", self.program(), args[..2].join(" "))
    }
}

/// A description that is too long for an argument, so far as it goes.
fn shortened(body: &str) -> String {
    format!("{}\n\n(The rest did not fit; the ticket has it.)", cut(body, MOST_DESCRIPTION))
}

impl From<GhPull> for Pull {
    fn from(pull: GhPull) -> Self {
        let mut checks = Checks::default();
        for check in pull.status_check_rollup.unwrap_or_default() {
            let name = check.name.or(check.context).unwrap_or_default();
            let word = match (&check.conclusion, &check.state) {
                (Some(conclusion), _) if !conclusion.is_empty() => conclusion.as_str(),
                (_, Some(state)) => state.as_str(),
                _ => check.status.as_deref().unwrap_or_default(),
            };
            match word {
                "SUCCESS" | "NEUTRAL" | "SKIPPED" => checks.passed += 1,
                "FAILURE" | "ERROR" | "CANCELLED" | "TIMED_OUT" | "ACTION_REQUIRED" | "STARTUP_FAILURE" | "STALE" => {
                    checks.failed.push(name);
                }
                _ => checks.pending += 1,
            }
        }
        let state = match pull.state.as_str() {
            "MERGED" => PullState::Merged,
            "CLOSED" => PullState::Closed,
            _ => PullState::Open,
        };
        let (number, url, target, head) = (pull.number, pull.url, pull.base_ref_name, pull.head_ref_oid);
        Self { number, url, state, target, head, checks }
    }
}

impl From<GlabPull> for Pull {
    fn from(pull: GlabPull) -> Self {
        let mut checks = Checks::default();
        if let Some(pipeline) = pull.head_pipeline {
            match pipeline.status.as_str() {
                "success" | "skipped" => checks.passed += 1,
                "failed" | "canceled" => {
                    let id = pipeline.id.map(|id| format!(" {id}")).unwrap_or_default();
                    checks.failed.push(format!("pipeline{id}"));
                }
                _ => checks.pending += 1,
            }
        }
        let state = match pull.state.as_str() {
            "merged" => PullState::Merged,
            "closed" => PullState::Closed,
            _ => PullState::Open,
        };
        Self { number: pull.iid, url: pull.web_url, state, target: pull.target_branch, head: pull.sha, checks }
    }
}

impl Pull {
    /// Whether the forge knows this commit as its last.
    pub(crate) fn is_at(&self, commit: &CommitId) -> bool {
        self.head.as_deref() == Some(commit.as_str())
    }
}

/// The last line that a call wrote.
fn last_words(done: &Finished) -> String {
    let stream = if done.stderr.is_empty() { &done.stdout } else { &done.stderr };
    let text = String::from_utf8_lossy(stream);
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_of_github_are_told_apart() {
        let text = r#"{"number": 3, "url": "u", "state": "OPEN", "baseRefName": "main", "headRefOid": "abc",
            "isCrossRepository": false, "statusCheckRollup": [
            {"__typename": "CheckRun", "name": "build", "status": "COMPLETED", "conclusion": "SUCCESS"},
            {"__typename": "CheckRun", "name": "docs", "status": "COMPLETED", "conclusion": "SKIPPED"},
            {"__typename": "CheckRun", "name": "test", "status": "IN_PROGRESS", "conclusion": ""},
            {"__typename": "CheckRun", "name": "lint", "status": "COMPLETED", "conclusion": "TIMED_OUT"},
            {"__typename": "StatusContext", "context": "ci/old", "state": "ERROR"},
            {"__typename": "StatusContext", "context": "ci/new", "state": "PENDING"}]}"#;
        let pull = Pull::from(serde_json::from_str::<GhPull>(text).unwrap());
        let failed = vec!["lint".to_owned(), "ci/old".to_owned()];
        assert_eq!(pull.checks, Checks { passed: 2, pending: 2, failed });
        assert_eq!((pull.state, pull.number, pull.target.as_str()), (PullState::Open, 3, "main"));
        let none = r#"{"number": 3, "url": "u", "state": "MERGED", "baseRefName": "main", "headRefOid": null,
            "statusCheckRollup": null}"#;
        let pull = Pull::from(serde_json::from_str::<GhPull>(none).unwrap());
        assert_eq!((pull.state, pull.checks.clause().as_str()), (PullState::Merged, "no checks"));
    }

    #[test]
    fn merge_requests_of_gitlab_are_read() {
        let pull = |state: &str, pipeline: &str| {
            let text = format!(
                r#"{{"iid": 5, "web_url": "w", "state": "{state}", "target_branch": "main", "sha": "abc",
                "source_project_id": 1, "target_project_id": 1, "head_pipeline": {pipeline}}}"#
            );
            Pull::from(serde_json::from_str::<GlabPull>(&text).unwrap())
        };
        assert_eq!(pull("opened", "null").checks, Checks::default());
        assert_eq!(pull("opened", r#"{"id": 9, "status": "running"}"#).checks.pending, 1);
        assert_eq!(pull("opened", r#"{"id": 9, "status": "failed"}"#).checks.failed, ["pipeline 9"]);
        assert_eq!(pull("merged", r#"{"id": 9, "status": "success"}"#).state, PullState::Merged);
        assert_eq!(pull("closed", "null").state, PullState::Closed);
    }

    #[test]
    fn checks_are_told_with_the_worst_first() {
        let checks = |passed, pending, failed: &[&str]| Checks {
            passed,
            pending,
            failed: failed.iter().map(|name| (*name).to_owned()).collect(),
        };
        assert_eq!(checks(0, 0, &[]).clause(), "no checks");
        assert_eq!(checks(2, 0, &[]).clause(), "2 checks passed");
        assert_eq!(checks(2, 1, &[]).clause(), "1 checks pending, 2 passed");
        assert_eq!(checks(2, 1, &["a", "b"]).clause(), "checks failed: a, b");
    }
}
