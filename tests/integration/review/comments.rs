//! Comments by file and line from being made to being resolved.

use std::fs;

use super::{comment, in_review};
use crate::support::schema::assert_conforms;

#[test]
fn comments_are_checked_kept_and_sent_as_one_message_with_the_lines_they_are_about() {
    let swarm = in_review("", "", "Write.");
    let comments = ["--comment", "work.txt:8", "say it in words", "--comment", "./work.txt:2-3", "why?"];
    let noted = swarm.run(["review", "fix"].into_iter().chain(comments));
    noted.says("Noted #1, #2");
    noted.success();
    swarm.run(["review", "fix", "--comment", "shared.txt:-2", "- keep this"]).success();
    swarm.run(["review", "fix", "--comment", "work.txt", "needs a heading"]).success();
    assert_eq!(comment(&swarm, 1)["state"], "open");
    assert_eq!(comment(&swarm, 2)["quote"], serde_json::json!(["line 2", "line 3"]));
    swarm.run(["review", "fix"]).says("Open comments");
    swarm.run(["review", "fix", "--reject", "-m", "Almost"]).success();
    let prompt = fs::read_to_string(swarm.worker_dir("fix").join("prompt.md")).unwrap();
    for said in [
        "Almost",
        "1. `work.txt:8`: say it in words\n   > line 8\n",
        "2. `work.txt:2-3`: why?\n   > line 2\n   > line 3\n",
        "3. `shared.txt:-2`: - keep this\n   > second\n",
        "4. `work.txt`: needs a heading\n",
    ] {
        assert!(prompt.contains(said), "{said} is not in\n{prompt}");
    }
    for id in 1..=4 {
        assert_eq!(comment(&swarm, id)["state"], "sent");
    }
    swarm.run(["wait", "fix", "--timeout", "60s"]).success();
    swarm.run(["review", "fix", "--reject"]).expect_code(2).says("needs a reason");
}

#[test]
fn a_place_that_is_not_there_is_refused_with_what_there_is() {
    let swarm = in_review("", "", "Write.");
    let refused = |place: &str, said: &str| {
        swarm
            .run(["review", "fix", "--comment", "work.txt:1", "good", "--comment", place, "x"])
            .expect_code(2)
            .says(said);
    };
    refused("work.txt:11", "it has lines 1 to 10");
    refused("work.txt:9-12", "has no lines 9-12");
    refused("works.txt:1", "the work changes shared.txt, work.txt");
    refused("shared.txt:-4", "it has lines 1 to 3");
    refused("work.txt:0", "is not FILE:LINE");
    refused("work.txt:5-2", "is not FILE:LINE");
    refused(":3", "is not FILE:LINE");
    swarm.run(["review", "fix", "--comment", "work.txt:1", " "]).expect_code(2).says("is empty");
    assert_eq!(
        swarm.json(["review", "fix"])["comments"],
        serde_json::json!([]),
        "one bad place keeps all from being noted"
    );
}

#[test]
fn the_next_review_shows_what_became_of_each_place_and_what_changed_since() {
    let swarm = in_review("", "", "Write.");
    let at = |place: &'static str| ["--comment", place, "look"];
    let all = [at("work.txt:1"), at("work.txt:8"), at("work.txt:4"), at("shared.txt:1"), at("shared.txt:-2")].concat();
    swarm.run(["review", "fix", "--reject"].into_iter().chain(all)).success();
    swarm.run(["wait", "fix", "--timeout", "60s"]).success();
    let review = swarm.json(["review", "fix"]);
    assert_conforms(&review, "review");
    let now: Vec<_> = review["comments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| (c["now"]["fate"].clone(), c["now"]["first_line"].clone()))
        .collect();
    let expected = serde_json::json!([["moved", 3], ["changed", 9], ["gone", null], ["same", 1], ["removed", null]]);
    assert_eq!(serde_json::json!(now), expected);
    assert_eq!(review["comments"][1]["now"]["code"], serde_json::json!(["line eight"]));
    assert_eq!(review["since"]["is_rewritten"], false);
    assert_eq!(review["since"]["commits"].as_array().unwrap().len(), 1);
    assert!(review["since"]["text"].as_str().unwrap().contains("+line eight"), "{review:#}");
    let shown = swarm.run(["review", "fix", "--since"]);
    for said in [
        "moved, now work.txt:3",
        "changed since, now work.txt:9:",
        "| line eight",
        "these lines are gone",
        "Since it was rejected",
    ] {
        shown.says(said);
    }
    assert!(shown.success().lines().all(|line| line.chars().count() <= 80), "80 columns are enough");
}

#[test]
fn commits_written_anew_are_compared_one_by_one() {
    let swarm = in_review("", "", "Write.");
    let worktree = swarm.worktree("fix");
    swarm.run(["review", "fix", "--approve"]).success();
    swarm.run(["review", "fix", "--comment", "work.txt:10", "the end"]).success();
    swarm.write("other.txt", "landed meanwhile\n");
    swarm.git(["add", "other.txt"]).success();
    swarm.git(["commit", "--quiet", "-m", "Meanwhile"]).success();
    swarm.git_in(&worktree, ["rebase", "--quiet", "main"]).success();
    swarm.write_at(&worktree.join("work.txt"), "new\nline 9\nline 10\n");
    swarm.git_in(&worktree, ["commit", "--quiet", "--all", "--amend", "-m", "Work, otherwise"]).success();
    let review = swarm.json(["review", "fix"]);
    assert_eq!(review["since"]["is_rewritten"], true);
    let text = review["since"]["text"].as_str().unwrap();
    assert!(text.contains("Work, otherwise") && text.contains("++new"), "{text}");
    assert!(!text.contains("other.txt"), "what came from the target is no change of the work:\n{text}");
    assert_eq!(comment(&swarm, 1)["now"]["fate"], "moved");
    assert_eq!(comment(&swarm, 1)["now"]["first_line"], 3);
    // The judged commit is gone for good.
    swarm.git(["update-ref", "-d", "refs/swarm/wip/fix"]).expect_code(0);
    swarm.git(["reflog", "expire", "--expire=now", "--all"]).success();
    swarm.git(["-c", "gc.worktreePruneExpire=never", "prune", "--expire=now"]).success();
    let review = swarm.json(["review", "fix"]);
    assert_eq!((&review["since"]["is_lost"], &review["comments"][0]["now"]["fate"]), (&true.into(), &"moved".into()));
}

#[test]
fn comments_move_between_their_states_only_as_they_may() {
    let swarm = in_review("", "", "Write.");
    for text in ["uno", "due", "tre"] {
        swarm.run(["review", "fix", "--comment", "work.txt:1", text]).success();
    }
    swarm.run(["review", "fix", "--drop", "#1"]).says("Dropped #1");
    swarm.run(["review", "fix", "--resolve", "2"]).success();
    swarm.run(["review", "fix", "--resolve", "1"]).expect_code(2).says("comment #1 is dropped");
    swarm.run(["review", "fix", "--accept", "2"]).expect_code(2).says("comment #2 is resolved");
    swarm.run(["review", "fix", "--resolve", "9"]).expect_code(5).says("no comment #9");
    swarm.run(["review", "fix", "--resolve", "x"]).expect_code(2).says("the number of a comment");
    swarm.run(["review", "fix", "--reject"]).success();
    let prompt = fs::read_to_string(swarm.worker_dir("fix").join("prompt.md")).unwrap();
    assert!(prompt.contains("tre\n") && !prompt.contains("uno") && !prompt.contains("due"), "{prompt}");
    swarm.run(["wait", "fix", "--timeout", "60s"]).success();
    swarm.run(["review", "fix", "--reopen", "3"]).success();
    assert_eq!(comment(&swarm, 3)["state"], "open");
    swarm.run(["review", "fix", "--approve"]).says("#3 stays unsent");
}

#[test]
fn a_checklist_is_ticked_by_number_for_one_commit_and_can_be_required() {
    let config = "review: {require_checklist: true}\n";
    let swarm = in_review(config, "checklist: [Errors name their place]\n", "Write.\n\n- [ ] docs say it\n- [x] begun");
    let items = swarm.json(["review", "fix"])["checklist"].clone();
    assert_eq!((&items[0]["text"], &items[1]["text"]), (&"Errors name their place".into(), &"docs say it".into()));
    assert!(items[2].is_null());
    swarm.run(["review", "fix", "--check", "3"]).expect_code(5).says("it has items 1 to 2");
    swarm.run(["review", "fix", "--check", "1"]).says("Ticked 1");
    swarm.run(["review", "fix", "--approve"]).expect_code(4).says("2. docs say it");
    let worktree = swarm.worktree("fix");
    swarm.run(["review", "fix", "--check", "2"]).success();
    swarm.git_in(&worktree, ["commit", "--quiet", "--allow-empty", "-m", "One more"]).success();
    swarm.run(["review", "fix", "--approve"]).expect_code(4).says("1. Errors name their place");
    swarm.run(["review", "fix"]).says("before the newest commits");
    swarm.run(["review", "fix", "--check", "1", "2", "--uncheck", "2"]).success();
    swarm.run(["review", "fix", "--approve"]).expect_code(4).says("2. docs say it");
    swarm.run(["review", "fix", "--check", "2", "--approve"]).success();
}
