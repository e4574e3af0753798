//! Kept work, cleaning up, and going back, by the real program.

use serde_json::Value;

use crate::support::schema::assert_conforms;
use crate::support::swarm::TestSwarm;

/// Four calls that change something, one that does not, and a commit in between.
const SCRIPT: &str = r#"
conversations:
  - name: steps
    turns:
      - calls:
          - Write: {file_path: notes.txt, content: "first\n"}
      - calls:
          - Read: {file_path: notes.txt}
      - calls:
          - Bash: {command: "git add notes.txt && git commit -q -m 'Add notes'"}
      - calls:
          - Write: {file_path: notes.txt, content: "second\n"}
      - calls:
          - Bash: {command: "git commit -q -a -m 'Change notes'"}
      - say: Done.
"#;

/// A worker `work` that has played the script and is in review.
fn played() -> TestSwarm {
    let swarm = TestSwarm::new();
    swarm.write("script.yaml", SCRIPT);
    swarm.write_ticket("work", "own", "SCRIPT:steps\nDo the work.");
    let head = "name: own\ndescription: Our own loop\nruntime: replay\nmodel: script.yaml\npermission_mode: acceptEdits\n\
                permissions:\n  allow: [\"Bash(git *)\"]\n";
    swarm.write(".swarm/agents/own.md", &format!("---\n{head}---\nWork.\n"));
    swarm.write(".git/info/exclude", ".swarm/\nscript.yaml\n");
    swarm.run(["spawn", "work", "--headless"]).success();
    swarm.run(["wait", "work", "--timeout", "60s"]).success();
    swarm
}

/// Numbers of the calls by tool, in order, as a person reads them.
fn numbers(swarm: &TestSwarm) -> Vec<(String, String)> {
    let text = swarm.run(["logs", "work", "--tools"]).success();
    let starts = text.lines().filter(|line| line.contains(" -> "));
    let words = starts.map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    words.map(|words| (words[1].clone(), words[3].clone())).collect()
}

fn notes(swarm: &TestSwarm) -> String {
    std::fs::read_to_string(swarm.worktree("work").join("notes.txt")).unwrap_or_default()
}

fn log(swarm: &TestSwarm) -> String {
    swarm.git(["log", "--format=%s", "swarm/work"]).success()
}

#[test]
fn rewind_goes_back_to_each_call_and_forward_again_with_everything_kept() {
    let swarm = played();
    let calls = numbers(&swarm);
    let tools: Vec<_> = calls.iter().map(|(_, tool)| tool.as_str()).collect();
    assert_eq!(tools, ["Write", "Read", "Bash", "Write", "Bash"]);
    let back = |number: &str| swarm.json(["rewind", "work", "--to", number]);
    let plan = swarm.run(["rewind", "work", "--to", &calls[0].0, "--dry-run"]).success();
    assert!(
        plan.starts_with("Would bring `work` back to the state after call #") && plan.contains("2 commits would leave"),
        "{plan}"
    );
    assert_eq!((notes(&swarm).as_str(), log(&swarm).as_str()), ("second\n", "Change notes\nAdd notes\nStart\n"));
    let view = back(&calls[0].0);
    assert_conforms(&view, "rewind");
    assert_eq!((view["left"].as_array().unwrap().len(), &view["left"][1]["subject"]), (2, &"Change notes".into()));
    assert_eq!((notes(&swarm).as_str(), log(&swarm).as_str()), ("first\n", "Start\n"));
    let status = swarm.git_in(&swarm.worktree("work"), ["status", "--porcelain"]).success();
    assert_eq!(status, "?? notes.txt\n");
    // A call that only read has the state of the one before it.
    back(&calls[3].0);
    assert_eq!((notes(&swarm).as_str(), log(&swarm).as_str()), ("second\n", "Add notes\nStart\n"));
    back(&calls[1].0);
    assert_eq!((notes(&swarm).as_str(), log(&swarm).as_str()), ("first\n", "Start\n"));
    back(&calls[4].0);
    assert_eq!((notes(&swarm).as_str(), log(&swarm).as_str()), ("second\n", "Change notes\nAdd notes\nStart\n"));
    let kept = swarm.json(["recover", "list"]);
    assert_conforms(&kept, "recover");
    assert!(kept["kept"].as_array().unwrap().len() >= 3, "{kept:#}");
    assert!(kept["kept"][0]["reason"].as_str().unwrap().starts_with("before going back to call #"), "{kept:#}");
    swarm.run(["rewind", "work", "--to", "999"]).expect_code(5).says("has no tool call `999`");
    swarm.run(["logs", "work"]).says("rewound to the state after call #");
    // What was approved is not what is there any more.
    swarm.run(["review", "work", "--approve"]).success();
    back(&calls[2].0);
    swarm.run(["merge", "work"]).expect_code(4).says("needs a new review");
}

#[test]
fn rewind_waits_for_nobody_and_refuses_while_a_turn_runs() {
    let swarm = TestSwarm::new();
    swarm.write_shell_agent("sleeper", "echo x > x; until [ -e ../go ]; do sleep 0.05; done");
    swarm.write_ticket("work", "sleeper", "Wait.");
    swarm.run(["spawn", "work", "--headless"]).success();
    let refused = swarm.run(["rewind", "work", "--to", "1"]).expect_code(4);
    assert!(refused.stderr.contains("swarm pause work --now"), "{}", refused.transcript());
    swarm.run(["stop", "work"]).success();
    swarm.run(["rewind", "work", "--to", "1"]).expect_code(5).says("no tool call of `work` is recorded");
}

#[test]
fn kept_work_tells_what_it_holds_and_how_large_it_is() {
    let swarm = played();
    let worktree = swarm.worktree("work");
    swarm.write_at(&worktree.join("draft.txt"), &"not committed\n".repeat(2000));
    swarm.write_at(&worktree.join("notes.txt"), "staged\n");
    swarm.git_in(&worktree, ["add", "notes.txt"]).success();
    swarm.write_at(&worktree.join("notes.txt"), "on the disk\n");
    swarm.run(["rm", "work", "--yes"]).success();
    let view = swarm.json(["recover", "list"]);
    assert_conforms(&view, "recover");
    let kept = &view["kept"][0];
    let holds: Vec<_> = kept["holds"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(holds, ["branch", "uncommitted", "untracked", "index"]);
    assert_eq!((&kept["uncommitted_files"], &kept["untracked_files"]), (&2.into(), &1.into()));
    assert!(kept["bytes"].as_u64().unwrap() > 0 && kept["reason"] == "removed by a person", "{kept:#}");
    let staged = kept["also"][0]["commit"].as_str().unwrap();
    assert_eq!(swarm.git(["show", &format!("{staged}:notes.txt")]).success(), "staged\n");
    swarm.run(["recover", "list"]).says("untracked");
    swarm.run(["recover", "show", "work"]).says(&format!("staged changes: git show {staged}"));
    swarm.run(["recover", "diff", "work"]).says("+on the disk");
    let all = swarm.json(["recover", "diff", "work"]);
    assert_conforms(&all, "diff");
    let text = swarm.run(["recover", "diff", "work", "--uncommitted"]).success();
    assert!(text.contains("-second") && text.contains("draft.txt"), "{text}");
    swarm.run(["recover", "diff", "work", "--stat"]).says("2 files changed");
    swarm.run(["recover", "diff", "nobody"]).expect_code(5).says("nothing is kept of `nobody`");
}

#[test]
fn clean_proposes_and_removes_only_when_told() {
    let swarm = played();
    assert_eq!(swarm.run(["clean"]).success(), "Nothing can go\nStays\n  worker    work: its ticket is review\n");
    // Taken over by hand, as one commit.
    swarm.git(["merge", "-q", "--squash", "swarm/work"]).success();
    swarm.git(["commit", "-qm", "Notes by hand"]).success();
    let worktree = swarm.worktree("work");
    swarm.write_at(&worktree.join("draft.txt"), "not committed\n");
    swarm.run(["clean", "--apply"]).says("1 files in its worktree are not committed");
    assert!(worktree.exists());
    std::fs::remove_file(worktree.join("draft.txt")).unwrap();
    let plan = swarm.json(["clean"]);
    assert_conforms(&plan, "clean");
    let goes = &plan["goes"][0];
    assert_eq!(
        (&goes["kind"], &goes["check"], &plan["dry_run"]),
        (&"worker".into(), &"same_tree".into(), &true.into())
    );
    assert!(goes["bytes"].as_u64().unwrap() > 0 && worktree.exists());
    swarm.run(["clean", "--yes", "--dry-run"]).says("Can go");
    assert!(worktree.exists());
    let done = swarm.json(["clean", "--apply"]);
    assert_conforms(&done, "clean");
    assert!(
        !worktree.exists() && done["goes"][0]["text"].as_str().unwrap().contains("refs/swarm/keep/work/"),
        "{done:#}"
    );
    assert_eq!(swarm.json(["status", "--all", "work"])["workers"][0]["ticket_state"], "landed");
    assert_eq!(swarm.json(["clean"])["goes"], Value::Array(Vec::new()));
    // What was kept by that is young: not even a short time in the configuration lets it go without a word.
    assert_eq!(
        swarm.json(["recover", "list"])["kept"][0]["reason"].as_str().unwrap().split(':').next(),
        Some("cleaned")
    );
    swarm.write(".swarm/config.yaml", "recover: {keep_days: 0}\n");
    swarm.run(["clean"]).expect_code(2).says("recover.keep_days");
}
