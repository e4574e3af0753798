//! Landing through a forge: a local bare remote, and stand-ins for `gh` and `glab` that answer from files.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::schema::assert_conforms;
use crate::support::swarm::{Output, SWARM, TestSwarm};

/// Stands in for both programs: writes down its arguments, takes its answers from the folder `forge`, and fails where a
/// file `fail.SUBCOMMAND` says with which code and words, and kills its caller after an opening where there is `kill.create`. What `create` opens is in `list` and `view` from then on.
const FORGE: &str = r#"#!/bin/sh
printf '%s' "${0##*/}" >> "$FORGE/calls"
for word; do printf ' [%s]' "$word" >> "$FORGE/calls"; done
echo >> "$FORGE/calls"
if [ -e "$FORGE/fail.$2" ]; then
  read -r code words < "$FORGE/fail.$2"
  echo "$words" >&2
  exit "$code"
fi
case "$1 $2" in
  *' list') cat "$FORGE/list.json" 2>/dev/null || echo '[]' ;;
  *' view') cat "$FORGE/view.json" ;;
  *' create')
    cat > "$FORGE/body"
    cp "$FORGE/opened.json" "$FORGE/view.json"
    { echo '['; cat "$FORGE/opened.json"; echo ']'; } > "$FORGE/list.json"
    if [ -e "$FORGE/kill.create" ]; then rm "$FORGE/kill.create"; kill -9 $PPID; exit 1; fi
    echo 'https://forge.example/team/project/pull/7' ;;
  'auth status') ;;
  *) echo "no such call" >&2; exit 64 ;;
esac
"#;

/// A worker `alpha` with approved work, a bare remote `origin`, and a forge.
struct Team {
    swarm: TestSwarm,
    forge: PathBuf,
    remote: PathBuf,
    program: &'static str,
}

impl Team {
    fn new(program: &'static str) -> Self {
        Self::with_ticket(program, "Write `three`, please.")
    }

    fn with_ticket(program: &'static str, body: &str) -> Self {
        let mut swarm = TestSwarm::new();
        let (forge, bin) = (swarm.root().join("forge"), swarm.root().join("bin"));
        // `auto` tells GitLab by the address.
        let remote = swarm.root().join(if program == "glab" { "gitlab.git" } else { "remote.git" });
        for folder in [&forge, &bin] {
            fs::create_dir(folder).unwrap();
        }
        swarm.write_at(&bin.join(program), FORGE);
        fs::set_permissions(bin.join(program), Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", bin.display(), swarm.environment()["PATH"].to_string_lossy());
        swarm.set_env("PATH", path);
        swarm.set_env("FORGE", forge.clone());
        swarm.git(["init", "--quiet", "--bare", "-b", "main", remote.to_str().unwrap()]).success();
        swarm.git(["remote", "add", "origin", remote.to_str().unwrap()]).success();
        swarm.write("code.txt", "1\n2\n3\n4\n5\n");
        swarm.git(["add", "code.txt"]).success();
        swarm.git(["commit", "--quiet", "-m", "Add code"]).success();
        swarm.git(["push", "--quiet", "origin", "main"]).success();
        let script = "set -e; sed -i 's/3/three/' code.txt; git commit -qam 'Spell three'; echo new > new.txt; \
                      git add new.txt; git commit -qm 'Add a file'";
        swarm.write_shell_agent("writer", script);
        swarm.write(".git/info/exclude", ".swarm/\n");
        let ticket = format!("---\ntitle: Spell it \"out\"\nagent: writer\nchecks: [\"true\"]\n---\n{body}\n");
        swarm.write(".swarm/tickets/alpha.md", &ticket);
        swarm.run(["spawn", "alpha", "--headless"]).success();
        swarm.run(["wait", "alpha", "--timeout", "60s"]).success();
        swarm.run(["review", "alpha", "--approve", "-m", "Well spelt."]).success();
        let team = Self { swarm, forge, remote, program };
        team.answer("opened.json", &team.pull("open", &team.head("swarm/alpha"), &[]));
        team
    }

    /// What the forge shows of the pull request, in the JSON of its program.
    fn pull(&self, state: &str, head: &str, checks: &[(&str, &str)]) -> Value {
        if self.program == "glab" {
            let state = if state == "open" { "opened" } else { state };
            let pipeline = checks.first().map(|(_, status)| json!({"id": 12, "status": status}));
            return json!({"iid": 7, "web_url": "https://forge.example/team/project/-/merge_requests/7", "state": state,
                "target_branch": "main", "source_branch": "swarm/alpha", "sha": head, "source_project_id": 1,
                "target_project_id": 1, "merge_commit_sha": null, "head_pipeline": pipeline});
        }
        let check = |(name, conclusion): &(&str, &str)| {
            let status = if conclusion.is_empty() { "IN_PROGRESS" } else { "COMPLETED" };
            json!({"__typename": "CheckRun", "name": name, "status": status, "conclusion": conclusion})
        };
        json!({"number": 7, "url": "https://forge.example/team/project/pull/7", "state": state.to_uppercase(),
            "baseRefName": "main", "headRefOid": head, "isCrossRepository": false,
            "statusCheckRollup": checks.iter().map(check).collect::<Vec<_>>()})
    }

    fn answer(&self, file: &str, value: &Value) {
        self.swarm.write_at(&self.forge.join(file), &value.to_string());
    }

    /// Lets the forge show the pull request like this from now on.
    fn shows(&self, state: &str, checks: &[(&str, &str)]) {
        let pull = self.pull(state, &self.head("swarm/alpha"), checks);
        self.answer("view.json", &pull);
        self.answer("list.json", &json!([pull]));
    }

    /// The calls of the forge's program so far.
    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.forge.join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn count(&self, part: &str) -> usize {
        self.calls().iter().filter(|call| call.contains(part)).count()
    }

    fn head(&self, revision: &str) -> String {
        self.swarm.git(["rev-parse", revision]).success().trim().to_owned()
    }

    /// Where the remote has a branch; empty where it has none.
    fn on_remote(&self, branch: &str) -> String {
        let reference = format!("refs/heads/{branch}");
        let text = self.swarm.git_in(&self.remote, ["for-each-ref", "--format=%(objectname)", &reference]).success();
        text.trim().to_owned()
    }

    fn merge(&self) -> Output {
        self.swarm.run(["merge", "--pr"])
    }

    /// Squashes the branch into the remote's `main` after other work, as a forge would.
    fn squash_on_remote(&self, and_then: &str) {
        let clone = self.swarm.root().join("clone");
        let at = |args: &[&str]| self.swarm.git_in(&clone, args).success();
        self.swarm.git(["clone", "--quiet", self.remote.to_str().unwrap(), clone.to_str().unwrap()]).success();
        for (key, value) in [("user.name", "Forge"), ("user.email", "forge@example.com")] {
            at(&["config", key, value]);
        }
        self.swarm.write_at(&clone.join("other.txt"), "somebody else's\n");
        at(&["add", "."]);
        at(&["commit", "-qm", "Other work"]);
        at(&["merge", "-q", "--squash", "origin/swarm/alpha"]);
        at(&["commit", "-qm", "Spell it out (#7)"]);
        self.swarm.write_at(&clone.join("code.txt"), and_then);
        at(&["commit", "-qam", "On top"]);
        at(&["push", "-q", "origin", "main"]);
    }

    fn state(&self) -> Value {
        self.swarm.json(["status", "--all", "alpha"])["workers"][0]["ticket_state"].clone()
    }

    /// Nothing was pushed or opened.
    fn assert_untouched(&self) {
        assert_eq!((self.on_remote("swarm/alpha").as_str(), self.count(" [create]")), ("", 0));
        assert_eq!(self.state(), "approved");
    }
}

#[test]
fn approved_work_is_pushed_and_offered_once_and_released_when_the_target_has_it() {
    let team = Team::new("gh");
    let opened = team.swarm.run(["merge", "--pr", "--json"]).expect_code(0).json();
    assert_conforms(&opened, "merge");
    let pull = &opened["pull_requests"][0];
    assert_eq!((&pull["worker"], &pull["number"], &pull["action"]), (&"alpha".into(), &7.into(), &"opened".into()));
    assert_eq!(team.on_remote("swarm/alpha"), team.head("swarm/alpha"));
    let create = team.calls().into_iter().find(|call| call.contains("[create]")).unwrap();
    let expected =
        "gh [pr] [create] [--base] [main] [--head] [swarm/alpha] [--title] [Spell it \"out\"] [--body-file] [-]";
    assert_eq!(create, expected);
    let body = fs::read_to_string(team.forge.join("body")).unwrap();
    for part in [
        "Write `three`, please.",
        "was approved by Test Person <person@example.com>: Well spelt.",
        "check `true` passed",
        "Add a file",
        "Swarm-Ticket: alpha",
    ] {
        assert!(body.contains(part), "{part}: {body}");
    }
    team.shows("open", &[("build", "SUCCESS"), ("test", "")]);
    let again = team.merge().expect_code(0);
    assert_eq!(
        again.stdout,
        "`alpha` waits in pull request https://forge.example/team/project/pull/7 (1 checks passed, 1 pending)\n"
    );
    assert_eq!(team.count(" [create]"), 1);
    team.swarm
        .run(["why", "alpha"])
        .says("pull request https://forge.example/team/project/pull/7 is open, 1 checks pending");
    let worker = team.swarm.json(["status", "alpha"]);
    assert_conforms(&worker, "status");
    assert_eq!(worker["workers"][0]["pull_request"]["checks_pending"], 1);
    team.swarm.run(["status"]).says("pull request https://forge");
    // What the forge says is not enough.
    team.shows("merged", &[]);
    team.merge().expect_code(4).says("is not proven to have the work");
    assert!(team.swarm.worktree("alpha").exists());
    // A squash on top of other work, and the same line changed again since.
    team.squash_on_remote("1\n2\nthree again\n4\n5\n");
    let landed = team.swarm.run(["merge", "--pr", "--json"]).expect_code(0).json();
    assert_conforms(&landed, "merge");
    assert_eq!((&landed["landed"][0]["worker"], &landed["landed"][0]["check"]), (&"alpha".into(), &"squashed".into()));
    assert_eq!(team.state(), "landed");
    assert!(!team.swarm.worktree("alpha").exists());
    assert_eq!(team.head("main"), team.on_remote("main"));
    assert_eq!(team.swarm.read("code.txt"), "1\n2\nthree again\n4\n5\n");
    let kept = team.swarm.json(["recover", "list"]);
    assert_eq!(kept["kept"][0]["reason"], "landed as a pull request");
    assert!(team.swarm.run(["merge", "--pr"]).expect_code(0).stdout.contains("Nothing to land"));
    team.swarm.run(["logs", "alpha"]).says("landed on origin/main");
}

#[test]
fn a_merge_request_is_opened_followed_and_landed_with_glab() {
    let team = Team::new("glab");
    team.merge()
        .expect_code(0)
        .says("is offered as pull request https://forge.example/team/project/-/merge_requests/7");
    let create = team.calls().into_iter().find(|call| call.contains("[create]")).unwrap();
    let expected = "glab [mr] [create] [--source-branch] [swarm/alpha] [--target-branch] [main] [--title] [Spell it \"out\"] [--description]";
    assert!(create.starts_with(expected), "{create}");
    assert!(fs::read_to_string(team.forge.join("calls")).unwrap().contains("[--yes]"));
    team.shows("open", &[("", "failed")]);
    team.merge().expect_code(4).says("checks failed: pipeline 12");
    team.squash_on_remote("1\n2\nthree\n4\nfive\n");
    team.merge().expect_code(0).says("Landed `alpha` on `main`");
    assert_eq!(team.state(), "landed");
}

#[test]
fn what_is_missing_is_told_before_anything_is_pushed() {
    let team = Team::new("gh");
    team.swarm
        .run(["merge", "--pr", "--config", "landing.remote=upstream"])
        .expect_code(5)
        .says("there is no remote `upstream`");
    team.swarm.run(["merge", "--pr", "--config", "landing.forge=glab"]).expect_code(1).says("`glab` is not installed");
    team.swarm.write_at(&team.forge.join("fail.list"), "4 To get started with GitHub CLI, please run: gh auth login\n");
    let stranger = team.merge().expect_code(4);
    assert!(
        stranger.stderr.contains("not logged in") && stranger.stderr.contains("hint: log in: gh auth login"),
        "{}",
        stranger.stderr
    );
    team.swarm.write_at(&team.forge.join("fail.list"), "1 could not resolve host\n");
    team.merge().expect_code(1).says("could not resolve host");
    team.assert_untouched();
    team.swarm.run(["merge", "--wait"]).expect_code(2).says("--pr");
}

#[test]
fn unapproved_and_changed_work_is_not_offered() {
    let team = Team::new("gh");
    let worktree = team.swarm.worktree("alpha");
    team.swarm.write_at(&worktree.join("more.txt"), "after the approval\n");
    team.swarm.git_in(&worktree, ["add", "."]).success();
    team.swarm.git_in(&worktree, ["commit", "-qm", "More"]).success();
    team.swarm.run(["merge", "--pr", "alpha"]).expect_code(4).says("needs a new review");
    assert_eq!((team.on_remote("swarm/alpha").as_str(), team.count(" [create]")), ("", 0));
}

#[test]
fn a_remote_that_refuses_is_heard_and_nothing_is_opened() {
    let team = Team::new("gh");
    let hook = team.remote.join("hooks/pre-receive");
    team.swarm.write_at(&hook, "#!/bin/sh\necho 'branches need a prefix' >&2\nexit 1\n");
    fs::set_permissions(&hook, Permissions::from_mode(0o755)).unwrap();
    team.merge()
        .expect_code(1)
        .says("`origin` refused `swarm/alpha`: [remote rejected] (pre-receive hook declined): branches need a prefix");
    team.assert_untouched();
    fs::remove_file(hook).unwrap();
    team.merge().expect_code(0).says("is offered");
}

#[test]
fn a_push_runs_where_a_persons_would() {
    let team = Team::new("gh");
    team.swarm.git(["remote", "set-url", "origin", "../remote.git"]).success();
    team.swarm
        .write("hooks/pre-push", "#!/bin/sh\ntest -e code.txt && test -e go || { echo 'no go here' >&2; exit 1; }\n");
    fs::set_permissions(team.swarm.repository().join("hooks/pre-push"), Permissions::from_mode(0o755)).unwrap();
    team.swarm.git(["config", "core.hooksPath", "hooks"]).success();
    team.merge().expect_code(1).says("`origin` refused `swarm/alpha`: no go here");
    team.assert_untouched();
    team.swarm.write("go", "");
    team.merge().expect_code(0).says("is offered");
    assert_eq!(team.on_remote("swarm/alpha"), team.head("swarm/alpha"));
}

#[test]
fn a_text_that_is_too_long_for_an_argument_is_offered_so_far_as_it_goes() {
    let team = Team::with_ticket("glab", &"A sentence of the ticket.\n".repeat(8_000));
    team.merge().expect_code(0).says("is offered");
    assert!(team.calls().iter().any(|call| call.contains("The rest did not fit")), "{:?}", team.calls().last());
}

#[test]
fn commits_that_somebody_else_pushed_are_never_overwritten() {
    let team = Team::new("gh");
    team.swarm.git(["push", "-q", "origin", "main:refs/heads/swarm/other"]).success();
    let clone = team.swarm.root().join("theirs");
    team.swarm.git(["clone", "--quiet", team.remote.to_str().unwrap(), clone.to_str().unwrap()]).success();
    let at = |args: &[&str]| team.swarm.git_in(&clone, args).success();
    at(&["config", "user.name", "Colleague"]);
    at(&["config", "user.email", "colleague@example.com"]);
    at(&["checkout", "-q", "-b", "swarm/alpha"]);
    at(&["commit", "-q", "--allow-empty", "-m", "Mine"]);
    at(&["push", "-q", "origin", "swarm/alpha"]);
    let theirs = team.on_remote("swarm/alpha");
    team.merge().expect_code(4).says("has commits that somebody else pushed");
    assert_eq!((team.on_remote("swarm/alpha"), team.count(" [create]")), (theirs, 0));
}

#[test]
fn own_commits_are_replaced_after_a_rebase_and_a_colleague_s_on_top_of_them_are_not() {
    let team = Team::new("gh");
    team.merge().expect_code(0).says("is offered");
    let worktree = team.swarm.worktree("alpha");
    let amend = || {
        team.swarm.git_in(&worktree, ["commit", "-q", "--amend", "-m", "Add a file, told better"]).success();
        team.swarm.run(["review", "alpha", "--approve"]).success();
    };
    amend();
    team.shows("open", &[]);
    let pushed = team.merge();
    assert_eq!(pushed.code, 0, "{}", pushed.transcript());
    assert_eq!(team.on_remote("swarm/alpha"), team.head("swarm/alpha"));
    assert_eq!(team.count(" [create]"), 1);
    // Somebody pushes to the same branch.
    let clone = team.swarm.root().join("theirs");
    team.swarm
        .git(["clone", "-q", "-b", "swarm/alpha", team.remote.to_str().unwrap(), clone.to_str().unwrap()])
        .success();
    let at = |args: &[&str]| team.swarm.git_in(&clone, args).success();
    at(&["config", "user.name", "Colleague"]);
    at(&["config", "user.email", "colleague@example.com"]);
    at(&["commit", "-q", "--allow-empty", "-m", "Mine"]);
    at(&["push", "-q", "origin", "swarm/alpha"]);
    let theirs = team.on_remote("swarm/alpha");
    team.merge().expect_code(4).says("somebody else pushed");
    assert_eq!(team.on_remote("swarm/alpha"), theirs);
}

#[test]
fn a_call_that_failed_half_way_is_taken_up_again() {
    let team = Team::new("gh");
    team.swarm.write_at(&team.forge.join("fail.create"), "1 HTTP 502\n");
    team.merge().expect_code(1).says("`gh pr create` failed with exit code 1: HTTP 502");
    assert_eq!((team.on_remote("swarm/alpha"), team.state()), (team.head("swarm/alpha"), "approved".into()));
    fs::remove_file(team.forge.join("fail.create")).unwrap();
    // Opened, and the answer was lost: it is found again and not opened twice.
    team.swarm.write_at(&team.forge.join("fail.view"), "1 HTTP 502\n");
    team.merge().expect_code(1).says("gh pr view");
    fs::remove_file(team.forge.join("fail.view")).unwrap();
    team.merge().expect_code(0).says("has found its open pull request");
    assert_eq!(team.count(" [create]"), 2, "{:?}", team.calls());
}

#[test]
fn a_closed_pull_request_is_not_opened_anew() {
    let team = Team::new("gh");
    team.merge().expect_code(0).says("is offered");
    team.shows("closed", &[]);
    team.merge().expect_code(4).says("was closed without being merged; reopen it");
    assert_eq!(team.count(" [create]"), 1);
}

#[test]
fn waiting_ends_with_the_time_with_failed_checks_and_with_the_merge() {
    let team = Team::new("gh");
    let wait = |more: &[&str]| {
        let args = ["merge", "--pr", "--wait", "--config", "landing.poll=50ms"];
        team.swarm.run(args.iter().chain(more))
    };
    wait(&["--timeout", "300ms"]).expect_code(6).says("is open, no checks when the time was over");
    team.shows("open", &[("build", "SUCCESS"), ("test", "FAILURE")]);
    wait(&[]).expect_code(4).says("checks failed: test");
    team.shows("open", &[("build", "")]);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| wait(&["--timeout", "60s"]));
        team.swarm.wait_until("the forge is asked", || team.count(" [view]") > 6);
        team.squash_on_remote("1\n2\nthree\n4\nfive\n");
        waiting.join().unwrap().expect_code(0).says("Landed `alpha`");
    });
    assert_eq!(team.state(), "landed");
}

#[test]
fn the_configured_mode_makes_merge_open_pull_requests() {
    let team = Team::new("gh");
    team.swarm.run(["merge", "--config", "landing.mode=pr"]).expect_code(0).says("is offered as pull request");
    assert_eq!(team.state(), "approved");
}

#[test]
fn a_local_target_with_commits_of_its_own_stays_where_it_is() {
    let team = Team::new("gh");
    team.merge().expect_code(0).says("is offered");
    team.swarm.write("local.txt", "not pushed\n");
    team.swarm.git(["add", "local.txt"]).success();
    team.swarm.git(["commit", "-qm", "Local work"]).success();
    let local = team.head("main");
    team.squash_on_remote("1\n2\nthree\n4\nfive\n");
    let landed = team.merge().expect_code(0);
    landed.says("`main` has commits that `origin/main` has not");
    assert_eq!((team.head("main"), team.state()), (local, "landed".into()));
}

#[test]
fn a_kill_after_the_push_or_after_the_opening_opens_no_second_pull_request() {
    // The remote has the commit, and nothing of that is written down.
    let team = Team::new("gh");
    let hook = team.remote.join("hooks/post-receive");
    let pid_file = team.forge.join("merge.pid");
    let script = format!("#!/bin/sh\nrm \"$0\"\nkill -9 \"$(cat '{}')\"\n", pid_file.display());
    team.swarm.write_at(&hook, &script);
    fs::set_permissions(&hook, Permissions::from_mode(0o755)).unwrap();
    let mut merge = team.swarm.command("sh", &team.swarm.repository());
    merge.args(["-c", "echo $$ > \"$0\"; exec \"$1\" merge --pr", pid_file.to_str().unwrap(), SWARM]);
    let ended = merge.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert_eq!(ended.signal(), Some(9));
    team.swarm.wait_until("the push to end", || team.on_remote("swarm/alpha") == team.head("swarm/alpha"));
    assert_eq!(team.count("[create]"), 0);
    team.merge().expect_code(0).says("is offered as pull request");
    team.merge().expect_code(0).says("waits in pull request");
    assert_eq!(team.count("[create]"), 1);
    // The pull request is open, and nobody knows its number.
    let team = Team::new("gh");
    team.answer("kill.create", &Value::Null);
    assert_eq!(team.merge().code, 128 + 9);
    assert_eq!(team.count("[create]"), 1);
    team.merge().expect_code(0).says("has found its open pull request");
    team.merge().expect_code(0).says("waits in pull request");
    assert_eq!(team.count("[create]"), 1);
}

#[test]
fn a_worker_that_could_not_be_released_when_it_landed_is_by_a_later_call() {
    let team = Team::new("gh");
    // Landed by hand, so that there is no pull request to look at again.
    team.swarm.git(["push", "-q", "origin", "swarm/alpha:main"]).success();
    let inner = team.swarm.worktree("alpha").join("inner");
    team.swarm.git(["init", "-q", inner.to_str().unwrap()]).success();
    team.swarm.write_at(&inner.join("only-here.txt"), "x\n");
    team.merge().expect_code(0).says("it was not released");
    assert_eq!(team.state(), "landed");
    fs::remove_dir_all(inner).unwrap();
    team.merge().expect_code(0);
    assert!(!team.swarm.worktree("alpha").exists());
    assert_eq!(team.swarm.git(["branch", "--list", "swarm/*"]).success(), "");
}
