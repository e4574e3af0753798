//! Claude Code as a reviewer, in print mode and without a supervisor.

use serde_json::json;

use super::{Stage, writes};
use crate::support::model_server::{ModelServer, Script};

#[test]
fn the_built_in_reviewer_reads_gives_a_verdict_and_changes_nothing() {
    let verdict = "```json\n{\"verdict\": \"reject\", \"summary\": \"No test.\", \"comments\": \
                   [{\"file\": \"a.txt\", \"line\": 1, \"text\": \"Say more.\"}]}\n```";
    let review = Script::new()
        .call("Read", json!({"file_path": "{cwd}/a.txt"}))
        .call("Write", json!({"file_path": "{cwd}/b.txt", "content": "x\n"}))
        .say(&format!("I read it.\n\n{verdict}"));
    let stage = Stage::with(ModelServer::builder().script("work", writes("a.txt")).script("review", review));
    stage.swarm.write(".swarm/templates/review_request.md", "SCRIPT:review\nReview {{ commit }} of {{ ticket }}.\n");
    stage.swarm.run(["spawn", "work", "--headless"]).success();
    stage.reach("review");
    let asked = stage.swarm.run(["review", "work", "--ask", "code-reviewer"]);
    assert!(asked.stdout.contains("code-reviewer asks for changes: No test."), "{}", asked.transcript());
    let view = stage.swarm.json(["review", "work"]);
    let reviewer = &view["reviewers"][0];
    assert_eq!((&reviewer["verdict"], &reviewer["tries"]), (&json!("reject"), &json!(1)), "{reviewer:#}");
    assert!(reviewer["input_tokens"].as_u64().unwrap() > 0 && reviewer["cost_usd"].is_number(), "{reviewer:#}");
    let comment = &view["comments"][0];
    assert_eq!((&comment["state"], &comment["first_line"]), (&json!("proposed"), &json!(1)), "{comment:#}");
    let worktree = stage.swarm.worktree("work");
    assert_eq!(stage.swarm.git_in(&worktree, ["status", "--porcelain"]).success(), "");
}
