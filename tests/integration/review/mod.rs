//! Reviews by the real program: comments and their lives, reviewers, checklists, the editor, how differences look.

mod comments;
mod editor;
mod looks;
mod reviewers;

use serde_json::Value;

use crate::support::swarm::TestSwarm;

/// An agent that writes ten numbered lines, and on a later attempt puts two lines before them, changes the eighth and
/// removes the fourth.
const WRITER: &str = r#"
set -e
if test -f work.txt; then
  sed -i -e '1i zero\nzero and a half' -e 's/^line 8$/line eight/' -e '/^line 4$/d' work.txt
else
  for n in 1 2 3 4 5 6 7 8 9 10; do echo "line $n"; done > work.txt
  sed -i -e '/^second$/d' shared.txt
fi
git add -A && git commit -q -m "Work, attempt $SWARM_ATTEMPT"
"#;

/// A repository whose ticket `fix` is in review, with this configuration and these lines in the ticket's head.
fn in_review(config: &str, head: &str, body: &str) -> TestSwarm {
    let swarm = prepared(config, head, body);
    swarm.run(["spawn", "fix", "--headless"]).success();
    swarm.run(["wait", "fix", "--timeout", "60s"]).success();
    swarm
}

/// The same before the worker is spawned.
fn prepared(config: &str, head: &str, body: &str) -> TestSwarm {
    let swarm = TestSwarm::new();
    swarm.write("shared.txt", "first\nsecond\nthird\n");
    swarm.git(["add", "."]).success();
    swarm.git(["commit", "--quiet", "-m", "Add a shared file"]).success();
    swarm.write(".git/info/exclude", ".swarm/\n");
    swarm.write_shell_agent("writer", WRITER);
    swarm.write(".swarm/config.yaml", config);
    swarm.write(".swarm/tickets/fix.md", &format!("---\nagent: writer\n{head}---\n{body}\n"));
    swarm
}

/// What `review --json` shows of one comment.
fn comment(swarm: &TestSwarm, id: u64) -> Value {
    let review = swarm.json(["review", "fix"]);
    let comments = review["comments"].as_array().unwrap().clone();
    comments.into_iter().find(|comment| comment["id"] == id).unwrap_or_else(|| panic!("no #{id} in {review:#}"))
}
