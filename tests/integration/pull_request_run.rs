//! Runs that land through a forge: `run --merge` with `landing.mode: pr`, stacked work included.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::support::scene::worker;
use crate::support::swarm::{Output, TestSwarm};

/// Stands in for `gh`: a pull request for each branch, whose head is what the remote has, without checks.
const GH: &str = r#"#!/bin/sh
echo "$2 $*" >> "$FORGE/calls"
show() {
  head=$(git --git-dir "$REMOTE" rev-parse "refs/heads/$(cat "$FORGE/$1.branch")")
  printf '{"number": %s, "url": "https://forge.example/t/p/pull/%s", "state": "OPEN", "baseRefName": "main", ' "$1" "$1"
  printf '"headRefOid": "%s", "isCrossRepository": false, "statusCheckRollup": []}' "$head"
}
case "$1 $2" in
  'pr list')
    for known in "$FORGE"/*.branch; do
      if [ -e "$known" ] && [ "$(cat "$known")" = "$4" ]; then
        number=${known##*/}; echo "[$(show "${number%.branch}")]"; exit 0
      fi
    done
    echo '[]' ;;
  'pr view') show "$3" ;;
  'pr create')
    cat > /dev/null
    number=$(($(ls "$FORGE" | grep -c branch) + 1))
    printf '%s' "$6" > "$FORGE/$number.branch"
    echo "https://forge.example/t/p/pull/$number" ;;
  *) echo "no such call: $*" >&2; exit 64 ;;
esac
"#;

/// Gives a repository a forge that calls of `gh` reach, and the path of a remote; both places.
pub(crate) fn with_forge(swarm: &mut TestSwarm) -> (PathBuf, PathBuf) {
    let [forge, bin, remote] = ["forge", "bin", "remote.git"].map(|name| swarm.root().join(name));
    for folder in [&forge, &bin] {
        fs::create_dir(folder).unwrap();
    }
    swarm.write_at(&bin.join("gh"), GH);
    fs::set_permissions(bin.join("gh"), Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), swarm.environment()["PATH"].to_string_lossy());
    swarm.set_env("PATH", path);
    swarm.set_env("FORGE", forge.clone());
    swarm.set_env("REMOTE", remote.clone());
    (forge, remote)
}

/// A repository with a bare remote, a forge, and tickets `lower` and, on top of it, `upper`.
struct Team {
    swarm: TestSwarm,
    forge: PathBuf,
    remote: PathBuf,
}

impl Team {
    fn new(approval: &str) -> Self {
        let mut swarm = TestSwarm::new();
        let (forge, remote) = with_forge(&mut swarm);
        swarm.git(["init", "--quiet", "--bare", "-b", "main", remote.to_str().unwrap()]).success();
        swarm.git(["remote", "add", "origin", remote.to_str().unwrap()]).success();
        swarm.git(["push", "--quiet", "origin", "main"]).success();
        swarm.write(".git/info/exclude", ".swarm/\n");
        swarm.write_shell_agent("shell", "ls > seen-by-$SWARM_TICKET; echo $SWARM_TICKET > $SWARM_TICKET");
        let config = format!(
            "run: {{start_from: dependency}}\nlanding: {{mode: pr, forge: gh, approval: {approval}, poll: 1s}}\n"
        );
        swarm.write(".swarm/config.yaml", &config);
        swarm.write(".swarm/tickets/lower.md", "---\nagent: shell\n---\nWork.\n");
        swarm.write(".swarm/tickets/upper.md", "---\nagent: shell\ndepends_on: [lower]\n---\nWork on.\n");
        Self { swarm, forge, remote }
    }

    fn run(&self) -> Output {
        self.swarm.run(["run", "--all", "--merge", "--headless", "--timeout", "90s"])
    }

    fn state(&self, ticket: &str) -> String {
        worker(&self.swarm, ticket)["ticket_state"].as_str().unwrap().to_owned()
    }

    /// Calls of the forge that begin with this word.
    fn count(&self, word: &str) -> usize {
        let calls = fs::read_to_string(self.forge.join("calls")).unwrap_or_default();
        calls.lines().filter(|call| call.starts_with(word)).count()
    }

    /// Merges a branch into the remote's `main`, as somebody would in the forge.
    fn merge_there(&self, ticket: &str, squashes: bool) {
        let clone = self.swarm.root().join(format!("clone-{ticket}"));
        self.swarm.git(["clone", "--quiet", self.remote.to_str().unwrap(), clone.to_str().unwrap()]).success();
        let at = |args: &[&str]| self.swarm.git_in(&clone, args).success();
        at(&["config", "user.name", "Forge"]);
        at(&["config", "user.email", "forge@example.com"]);
        let branch = format!("origin/swarm/{ticket}");
        if squashes {
            at(&["merge", "-q", "--squash", &branch]);
            at(&["commit", "-qm", &format!("Squashed {ticket}")]);
        } else {
            at(&["merge", "-q", "--no-ff", "-m", &format!("Merged {ticket}"), &branch]);
        }
        at(&["push", "-q", "origin", "main"]);
    }
}

#[test]
fn a_run_offers_work_waits_for_nobody_and_goes_on_when_the_forge_merged_it() {
    for squashes in [false, true] {
        let team = Team::new("auto");
        let first = team.run().expect_code(4);
        first.says("waits in pull request https://forge.example/t/p/pull/1");
        assert_eq!((team.state("lower").as_str(), team.state("upper").as_str()), ("approved", "review"));
        assert_eq!(team.count("create"), 1, "`upper` stands on `lower`, which is not merged");
        assert!(team.count("list") < 12, "the forge is not asked without a pause: {}", team.count("list"));
        let status = team.swarm.json(["status", "lower"]);
        assert_eq!(status["workers"][0]["pull_request"]["number"], 1);
        team.merge_there("lower", squashes);
        team.run().expect_code(4).says("waits in pull request https://forge.example/t/p/pull/2");
        assert_eq!((team.state("lower").as_str(), team.state("upper").as_str()), ("landed", "approved"));
        // What the second one offers is its own work only, however the first one was merged.
        let range = format!("{}..swarm/upper", team.swarm.git(["rev-parse", "main"]).success().trim());
        let own = team.swarm.git(["diff", "--name-only", &range.replace("..", "...")]).success();
        assert_eq!(own, "seen-by-upper\nupper\n", "squashed: {squashes}");
        let subjects = team.swarm.git(["log", "--format=%s", &range]).success();
        assert!(!subjects.contains("lower"), "{subjects}");
        team.merge_there("upper", squashes);
        team.run().success();
        assert_eq!(team.state("upper"), "landed");
        assert!(team.swarm.read("seen-by-upper").contains("lower\n"));
        assert_eq!(team.count("create"), 2);
    }
}

#[test]
fn what_a_person_has_to_approve_is_not_offered_by_a_run() {
    let team = Team::new("person");
    team.run().expect_code(4).says("waits for a verdict: swarm review lower");
    assert_eq!(team.count("create"), 0);
    team.swarm.run(["review", "lower", "--approve"]).success();
    team.run().expect_code(4).says("waits in pull request https://forge.example/t/p/pull/1");
    assert_eq!(team.count("create"), 1);
}
