//! From finished work to a moved target, by the real program: review, merge, return to the agent, release, recovery.

use std::fs::File;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::scene::{process_state, signal};
use crate::support::schema::assert_conforms;
use crate::support::swarm::{SWARM, TestSwarm};

/// An agent that writes the ticket's id into a file of its own and commits, and merges its target when it conflicts.
const WRITER: &str = r#"
set -e
if git merge --no-edit "$SWARM_TARGET_BRANCH" >/dev/null 2>&1; then :; else
  git checkout --ours shared.txt && git add shared.txt && git commit -q --no-edit
fi
echo "$SWARM_TICKET" >> shared.txt
echo "$SWARM_ATTEMPT" > "$SWARM_TICKET.txt"
git add -A && git commit -q -m "Work of $SWARM_TICKET, attempt $SWARM_ATTEMPT"
"#;

/// A repository with finished work of these tickets.
fn finished(tickets: &[&str]) -> TestSwarm {
    finished_by(WRITER, tickets)
}

/// The same with another agent.
fn finished_by(agent: &str, tickets: &[&str]) -> TestSwarm {
    let swarm = TestSwarm::new();
    swarm.write("shared.txt", "start\n");
    swarm.git(["add", "."]).success();
    swarm.git(["commit", "--quiet", "-m", "Add a shared file"]).success();
    swarm.write_shell_agent("writer", agent);
    swarm.write(".git/info/exclude", ".swarm/\n");
    for ticket in tickets {
        swarm.write_ticket(ticket, "writer", "Write.");
        swarm.run(["spawn", ticket]).success();
    }
    swarm.run(["wait", "--timeout", "60s"]).success();
    swarm
}

/// The state of a ticket.
fn state(swarm: &TestSwarm, worker: &str) -> Value {
    swarm.json(["status", "--all", worker])["workers"][0]["ticket_state"].clone()
}

#[test]
fn approved_work_lands_and_its_worker_is_released() {
    let swarm = finished(&["alpha"]);
    let review = swarm.json(["review", "alpha"]);
    assert_conforms(&review, "review");
    assert_eq!(review["commits"][0]["subject"], "Work of alpha, attempt 1");
    swarm.run(["review", "alpha", "--approve"]).success();
    let plan = swarm.json(["merge", "--dry-run"]);
    assert_eq!((plan["dry_run"].as_bool(), plan["landed"][0]["worker"].as_str()), (Some(true), Some("alpha")));
    assert_eq!(state(&swarm, "alpha"), "approved");
    let merged = swarm.json(["merge"]);
    assert_conforms(&merged, "merge");
    let commit = merged["landed"][0]["commit"].as_str().unwrap();
    assert_eq!(swarm.git(["rev-parse", "main"]).success().trim(), commit);
    assert_eq!(swarm.read("alpha.txt"), "1\n");
    assert!(swarm.git(["status", "--porcelain"]).success().is_empty());
    assert!(!swarm.worktree("alpha").exists());
    assert_eq!(swarm.git(["branch", "--list", "swarm/*"]).success(), "");
    let kept = swarm.json(["recover", "list"]);
    assert_conforms(&kept, "recover");
    assert_eq!(kept["kept"][0]["worker"], "alpha");
    swarm.git(["notes", "--ref=swarm", "show", "main"]).says("\"ticket\":\"alpha\"");
    swarm.run(["logs", "alpha"]).says("landed on main");
}

#[test]
fn an_approval_of_an_older_commit_is_shown_as_void() {
    let swarm = finished(&["alpha"]);
    swarm.run(["review", "alpha", "--approve"]).success();
    swarm.run(["review", "alpha"]).success().lines().for_each(|line| assert!(!line.contains("void"), "{line}"));
    swarm.write_at(&swarm.worktree("alpha").join("more.txt"), "by hand");
    swarm.git_in(&swarm.worktree("alpha"), ["add", "-A"]).success();
    swarm.git_in(&swarm.worktree("alpha"), ["commit", "-q", "-m", "By hand"]).success();
    swarm.run(["merge", "alpha"]).expect_code(4).says("it needs a new review");
    swarm.run(["review", "alpha"]).says(", void by now");
    swarm.run(["review", "alpha", "--approve"]).success();
    let review = swarm.json(["review", "alpha"]);
    assert_conforms(&review, "review");
    let voids: Vec<_> = review["verdicts"].as_array().unwrap().iter().map(|verdict| &verdict["void"]).collect();
    assert_eq!(voids, [true, false]);
    let head = swarm.git(["rev-parse", "--short=8", "swarm/alpha"]).success();
    assert_eq!(review["worker"]["reason"], format!("finished at {}", head.trim()));
    assert_eq!(review["worker"]["commits"], 2);
    swarm.run(["merge", "alpha"]).success();
    let shown = swarm.json(["status", "--all", "alpha"])["workers"][0].clone();
    assert_eq!((&shown["reason"], &shown["commits"]), (&review["worker"]["reason"], &2.into()));
}

#[test]
fn unapproved_work_waits_for_a_person() {
    let swarm = finished(&["alpha"]);
    let before = swarm.git(["rev-parse", "main"]).success();
    swarm.run(["merge", "alpha"]).expect_code(4).says("not approved");
    assert_eq!(swarm.git(["rev-parse", "main"]).success(), before);
    let nothing = swarm.run(["merge"]);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (0, "Nothing to land\n"));
}

#[test]
fn a_conflict_goes_back_to_its_agent_with_evidence_and_lands_after_that() {
    let swarm = finished(&["alpha", "beta"]);
    swarm.run(["review", "alpha", "--approve"]).success();
    swarm.run(["review", "beta", "--approve"]).success();
    let merged = swarm.run(["merge", "--json"]).expect_code(3);
    assert_conforms(&merged.json(), "merge");
    assert_eq!(merged.json()["landed"][0]["worker"], "alpha");
    assert_eq!(merged.json()["returned"][0]["files"][0]["path"], "shared.txt");
    swarm.run(["wait", "beta", "--timeout", "60s"]).success();
    let prompt = std::fs::read_to_string(swarm.worker_dir("beta").join("prompt.md")).unwrap();
    assert!(prompt.contains("shared.txt") && prompt.contains("ticket `alpha`"), "{prompt}");
    swarm.run(["review", "beta", "--approve"]).success();
    swarm.run(["merge"]).success();
    assert_eq!(swarm.read("shared.txt"), "start\nbeta\nbeta\n");
    assert_eq!((state(&swarm, "alpha"), state(&swarm, "beta")), ("landed".into(), "landed".into()));
}

#[test]
fn returned_work_without_a_new_commit_fails_instead_of_looping() {
    let swarm = finished(&["alpha"]);
    swarm.write_shell_agent("writer", "exit 0");
    swarm.run(["review", "alpha", "--reject", "-m", "Do more"]).success();
    swarm.run(["wait", "alpha", "--timeout", "60s"]).expect_code(1).says("without a new commit");
}

#[test]
fn a_rejection_reaches_the_agent_as_one_message_with_all_comments() {
    let swarm = finished(&["alpha"]);
    swarm.run(["review", "alpha", "--comment", "alpha.txt:1", "first remark"]).success();
    swarm.run(["review", "alpha", "--reject", "-m", "overall", "--comment", "shared.txt:2", "second"]).success();
    swarm.run(["wait", "alpha", "--timeout", "60s"]).success();
    let prompt = std::fs::read_to_string(swarm.worker_dir("alpha").join("prompt.md")).unwrap();
    for said in ["overall", "`alpha.txt:1`: first remark", "`shared.txt:2`: second"] {
        assert!(prompt.contains(said), "{said} in\n{prompt}");
    }
    assert_eq!(state(&swarm, "alpha"), "review");
    swarm.run(["review", "alpha", "--reject"]).expect_code(2).says("needs a reason");
}

#[test]
fn a_new_commit_voids_the_approval() {
    let swarm = finished(&["alpha"]);
    swarm.run(["review", "alpha", "--approve"]).success();
    let worktree = swarm.worktree("alpha");
    swarm.git_in(&worktree, ["commit", "--quiet", "--allow-empty", "-m", "One more"]).success();
    swarm.run(["merge", "alpha"]).expect_code(4).says("needs a new review");
    assert_eq!(state(&swarm, "alpha"), "review");
}

#[test]
fn a_gate_runs_on_exactly_the_merged_tree_and_only_when_trusted() {
    let swarm = finished(&["alpha"]);
    swarm.write(".swarm/config.yaml", "gates:\n  - name: both\n    run: test -f alpha.txt && test -f late.txt\n");
    swarm.run(["review", "alpha", "--approve"]).success();
    swarm.run(["merge"]).expect_code(4).says("not trusted");
    assert_eq!(state(&swarm, "alpha"), "approved");
    swarm.run(["merge", "--yes", "--json"]).expect_code(1).says("\"returned\"");
    swarm.run(["wait", "alpha", "--timeout", "60s"]).success();
    swarm.write("late.txt", "on the target only\n");
    swarm.git(["add", "late.txt"]).success();
    swarm.git(["commit", "--quiet", "-m", "Late"]).success();
    swarm.run(["review", "alpha", "--approve"]).success();
    let merged = swarm.json(["merge"]);
    assert_eq!(
        (merged["landed"][0]["gates"][0]["name"].as_str(), merged["landed"][0]["gates"][0]["passed"].as_bool()),
        (Some("both"), Some(true))
    );
}

#[test]
fn a_gate_out_of_time_shows_its_last_words_to_the_person_and_to_the_agent() {
    let swarm = finished(&["alpha"]);
    let gate = "gates:\n  - {name: slow, run: echo still linking; sleep 1000, timeout: 1s}\n";
    swarm.write(".swarm/config.yaml", gate);
    swarm.run(["review", "alpha", "--approve"]).success();
    let output = swarm.run(["merge", "--yes"]).expect_code(1);
    assert!(output.stderr.contains("gate `slow` ran out of time"), "{}", output.transcript());
    assert!(output.stderr.contains("wrote at its end:\n    still linking\n"), "{}", output.transcript());
    swarm.run(["wait", "alpha", "--timeout", "60s"]).success();
    let prompt = std::fs::read_to_string(swarm.worker_dir("alpha").join("prompt.md")).unwrap();
    assert!(prompt.contains("not finished within 1s") && prompt.contains("    still linking\n"), "{prompt}");
    swarm.run(["review", "alpha", "--approve"]).success();
    let merged = swarm.run(["merge", "--json"]).expect_code(1).json();
    assert_conforms(&merged, "merge");
    let gate = &merged["returned"][0]["gates"][0];
    assert_eq!((&gate["passed"], &gate["output_tail"]), (&false.into(), &"still linking\n".into()), "{merged:#}");
}

#[test]
fn a_dirty_checkout_in_the_way_is_left_alone_and_the_work_waits() {
    let swarm = finished(&["alpha"]);
    swarm.run(["review", "alpha", "--approve"]).success();
    swarm.write("shared.txt", "a person's edit\n");
    let before = swarm.git(["rev-parse", "main"]).success();
    swarm.run(["merge"]).expect_code(4).says("shared.txt");
    assert_eq!(
        (swarm.read("shared.txt").as_str(), swarm.git(["rev-parse", "main"]).success()),
        ("a person's edit\n", before)
    );
    swarm.git(["checkout", "--", "shared.txt"]).success();
    swarm.write("unrelated.txt", "stays\n");
    swarm.run(["merge"]).success();
    assert_eq!(swarm.read("unrelated.txt"), "stays\n");
}

#[test]
fn each_strategy_leaves_the_history_it_promises() {
    for (strategy, parents, subject) in [
        ("merge", 2, "Merge alpha: "),
        ("squash", 1, ""),
        ("rebase", 1, "Work of alpha, attempt 1"),
        ("fast-forward", 1, "Work of alpha, attempt 1"),
    ] {
        let swarm = finished(&["alpha"]);
        swarm.run(["review", "alpha", "--approve"]).success();
        swarm.run(["merge", "--strategy", strategy]).success();
        let line = swarm.git(["log", "-1", "--format=%p|%s", "main"]).success();
        let (found, said) = line.trim().split_once('|').unwrap();
        assert_eq!(found.split(' ').count(), parents, "{strategy}");
        assert!(said.starts_with(subject), "{strategy}: {said}");
        assert_eq!(swarm.read("alpha.txt"), "1\n", "{strategy}");
    }
}

#[test]
fn rm_keeps_everything_first_and_recover_brings_it_back() {
    let swarm = finished(&["alpha"]);
    swarm.write_at(&swarm.worktree("alpha").join("draft.txt"), "not committed\n");
    swarm.run(["rm", "alpha"]).expect_code(4).says("--yes");
    assert!(swarm.worktree("alpha").exists());
    let removed = swarm.run(["rm", "alpha", "--yes", "--json"]);
    assert_conforms(&removed.json(), "actions");
    assert!(!swarm.worktree("alpha").exists());
    assert_eq!(state(&swarm, "alpha"), "cancelled");
    swarm.run(["recover", "show", "alpha"]).says("draft.txt");
    let place = swarm.root().join("back");
    let restored = swarm.json(["recover", "restore", "alpha", "--worktree", place.to_str().unwrap()]);
    assert_eq!(restored["branch"], "recovered/alpha");
    assert_eq!(std::fs::read_to_string(place.join("draft.txt")).unwrap(), "not committed\n");
    assert_eq!(std::fs::read_to_string(place.join("alpha.txt")).unwrap(), "1\n");
    swarm.run(["recover", "show", "nobody"]).expect_code(5);
    swarm.run(["spawn", "alpha"]).success();
    swarm.run(["wait", "alpha", "--timeout", "60s"]).success();
}

#[test]
fn auto_approval_lands_what_passed_its_checks() {
    let swarm = finished(&["alpha"]);
    swarm.run(["merge", "--config", "landing.approval=auto"]).success();
    assert_eq!(state(&swarm, "alpha"), "landed");
}

#[test]
fn the_diff_includes_what_is_not_committed_and_leaves_the_worktree_alone() {
    let swarm = finished(&["alpha"]);
    let worktree = swarm.worktree("alpha");
    swarm.write_at(&worktree.join("draft.txt"), "not committed\n");
    let diff = swarm.json(["diff", "alpha"]);
    assert_conforms(&diff, "diff");
    assert!(diff["text"].as_str().unwrap().contains("draft.txt") && diff["dirty"] == true, "{diff:#}");
    assert_eq!(swarm.git_in(&worktree, ["status", "--porcelain"]).success(), "?? draft.txt\n");
    swarm.run(["diff", "alpha", "--stat"]).says("3 files changed");
}

#[test]
fn conflicts_are_seen_while_agents_still_work() {
    let swarm = TestSwarm::new();
    // Both wait after writing, so nothing is committed; the snapshot before the wait has it.
    let script =
        "echo \"$SWARM_TICKET\" > shared.txt; touch \"$SWARM_TICKET.txt\"; until [ -e ../go ]; do sleep 0.05; done";
    swarm.write_shell_agent("writer", script);
    swarm.write(".swarm/config.yaml", "limits: {snapshot_every: 1s}\n");
    for ticket in ["alpha", "beta"] {
        swarm.write_ticket(ticket, "writer", "Write.");
        swarm.run(["spawn", ticket]).success();
    }
    let mut view = Value::Null;
    swarm.wait_until("the conflict", || {
        view = swarm.json(["conflicts"]);
        view["pairs"].as_array().unwrap().iter().any(|pair| pair["verdict"] == "conflict")
    });
    assert_conforms(&view, "conflicts");
    assert_eq!((&view["target"], view["pairs"].as_array().unwrap().len()), (&Value::from("main"), 3));
    let pair = &view["pairs"][2];
    assert_eq!(
        (&pair["a"], &pair["b"], &pair["files"][0]["path"]),
        (&"alpha".into(), &"beta".into(), &"shared.txt".into())
    );
    assert_eq!(
        (&pair["files"][0]["kind"], &pair["files"][0]["hunks"][0]["a"][0]),
        (&"add_add".into(), &"alpha".into())
    );
    let text = swarm.run(["conflicts"]).success();
    for expected in
        ["WORKER", "CONFLICT", "`alpha` and `beta` conflict in 1 file", "shared.txt  add/add", "3 pairs, 1 conflict"]
    {
        assert!(text.contains(expected), "`{expected}` in\n{text}");
    }
    swarm.write("../project-worktrees/go", "");
}

/// Names of the sessions on the test's tmux server.
fn sessions(swarm: &TestSwarm) -> String {
    swarm.tmux(["list-sessions", "-F", "#{session_name}"]).stdout
}

/// A search path with git and the shell's programs on it, and no tmux.
fn without_tmux(swarm: &TestSwarm) -> String {
    let bin = swarm.root().join("bin");
    std::fs::create_dir(&bin).unwrap();
    for name in ["git", "sh"] {
        std::os::unix::fs::symlink(which::which(name).unwrap(), bin.join(name)).unwrap();
    }
    bin.display().to_string()
}

#[test]
fn what_landed_before_is_a_success_that_says_so() {
    let swarm = finished(&["alpha"]);
    let verdict = swarm.json(["review", "alpha", "--approve"]);
    assert_conforms(&verdict, "actions");
    assert_eq!(verdict["done"][0]["action"], "approved");
    let commit = swarm.json(["merge"])["landed"][0]["commit"].as_str().unwrap().to_owned();
    for args in [&["merge", "alpha"][..], &["merge", "alpha", "--dry-run"]] {
        let again = swarm.run(args).expect_code(0);
        assert_eq!(again.stdout, format!("`alpha` landed already as {}\n", &commit[..8]));
        assert_eq!(again.stderr, "");
    }
    let view = swarm.json(["merge", "alpha"]);
    assert_conforms(&view, "merge");
    assert_eq!(view["settled"][0]["commit"], commit.as_str());
}

#[test]
fn a_ticket_that_is_done_without_changes_has_nothing_to_land() {
    let swarm = TestSwarm::new();
    swarm.write_shell_agent("idle", "true");
    swarm.write_ticket("alpha", "idle", "Do nothing.");
    swarm.run(["spawn", "alpha", "--wait"]).success();
    swarm.wait_until("the ticket to be done", || state(&swarm, "alpha") == "done");
    swarm.run(["merge", "alpha"]).expect_code(0).says("nothing to land");
}

#[test]
fn a_missing_target_is_told_as_that_alone() {
    let swarm = finished(&["alpha"]);
    swarm.run(["review", "alpha", "--approve"]).success();
    swarm.git(["branch", "-m", "main", "trunk"]).success();
    let merged = swarm.run(["merge", "alpha"]).expect_code(1);
    assert!(merged.stderr.contains("`main`") && !merged.transcript().contains("Nothing to land"), "{merged:?}");
}

#[test]
fn sessions_go_with_their_worktrees_and_doctor_names_those_that_stayed() {
    let mut swarm = finished(&["alpha", "beta", "gamma"]);
    assert_eq!(sessions(&swarm).lines().count(), 3, "{}", sessions(&swarm));
    swarm.run(["review", "alpha", "--approve"]).success();
    swarm.run(["merge"]).success();
    assert!(!sessions(&swarm).contains("alpha"), "{}", sessions(&swarm));
    swarm.run(["rm", "beta", "--yes"]).success();
    assert!(sessions(&swarm).contains("gamma") && !sessions(&swarm).contains("beta"), "{}", sessions(&swarm));
    // Without tmux in the way of `rm` the session stays, as when a release is cut off.
    let path = swarm.environment()["PATH"].clone();
    swarm.set_env("PATH", without_tmux(&swarm));
    swarm.run(["rm", "gamma", "--yes"]).success();
    swarm.set_env("PATH", path);
    let doctor = swarm.run(["doctor", "--json"]).json();
    let finding =
        doctor["findings"].as_array().unwrap().iter().find(|finding| finding["subject"] == "sessions").unwrap();
    assert!(finding["text"].as_str().unwrap().contains("gamma"), "{finding}");
    assert!(finding["hint"].as_str().unwrap().starts_with("tmux -L "), "{finding}");
    swarm.run(["rm", "gamma", "--yes"]).success();
    assert_eq!(sessions(&swarm), "");
}

#[test]
fn a_restore_onto_a_branch_that_is_there_names_the_flag() {
    let swarm = finished(&["alpha"]);
    swarm.run(["rm", "alpha", "--yes"]).success();
    swarm.run(["recover", "restore", "alpha"]).success();
    let again = swarm.run(["recover", "restore", "alpha"]).expect_code(1);
    assert!(again.stderr.contains("hint: name another one: swarm recover restore alpha --branch NAME"), "{again:?}");
    swarm.run(["recover", "restore", "alpha", "--branch", "other"]).success();
}

#[test]
fn a_released_worker_is_offered_what_works() {
    let swarm = finished(&["alpha"]);
    swarm.run(["pause", "alpha"]).expect_code(1).says("swarm restart alpha");
    swarm.run(["rm", "alpha", "--yes"]).success();
    for verb in ["resume", "pause"] {
        let refused = swarm.run([verb, "alpha"]).expect_code(1);
        assert!(refused.stderr.contains("swarm recover restore alpha"), "{refused:?}");
        assert!(!refused.stderr.contains("swarm send") && !refused.stderr.contains("swarm resume"), "{refused:?}");
    }
}

#[test]
fn every_verdict_in_json_is_an_answer_about_actions() {
    let swarm = finished(&["alpha"]);
    let calls: [(&[&str], &str); 3] = [
        (&["review", "alpha", "--comment", "alpha.txt:1", "More."], "commented"),
        (&["review", "alpha", "--reject", "-m", "Again."], "rejected"),
        (&["review", "alpha", "--approve"], "approved"),
    ];
    for (args, action) in calls {
        let answer = swarm.json(args);
        assert_conforms(&answer, "actions");
        assert_eq!((&answer["done"][0]["worker"], &answer["done"][0]["action"]), (&"alpha".into(), &action.into()));
        swarm.run(["wait", "alpha", "--for", "done", "--timeout", "60s"]).success();
    }
}

/// An agent whose file names, texts, commits and output are meant for the terminal of whoever looks.
const EVIL: &str = r#"
name=$(printf 'e\033]0;x\007.txt')
printf '%s\033[2J\r\302\2332J\n' "$SWARM_TICKET" > "$name"
git add -A && git commit -q -m "$(printf 'Evil \033[2J\007\033]0;t\007 of %s\r over' "$SWARM_TICKET")"
printf 'raw \033]0;t\007\n'
printf 'check\033]0;t\007\033[2J' > .git-said 2>/dev/null; git config user.name >/dev/null
"#;

/// Fails when a text does more to a terminal than choose colours.
#[track_caller]
fn assert_harmless(text: &str, of: &str) {
    let mut plain = String::new();
    let mut parts = text.split("\x1b[");
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_digit() && c != ';');
        let rest = end.map_or("", |end| &part[end..]);
        assert!(rest.starts_with('m'), "{of}: {text:?}");
        plain.push_str(&rest[1..]);
    }
    assert!(!plain.contains(|c: char| c.is_control() && c != '\n' && c != '\t'), "{of}: {text:?}");
}

#[test]
fn no_control_character_of_an_agent_reaches_a_terminal() {
    let swarm = TestSwarm::new();
    swarm.write_shell_agent("evil", EVIL);
    swarm.write(".git/info/exclude", ".swarm/\n.git-said\n");
    let checks = "---\nagent: evil\nchecks: [\"cat .git-said; true\"]\n---\nBe evil.\n";
    for ticket in ["alpha", "beta"] {
        swarm.write(&format!(".swarm/tickets/{ticket}.md"), checks);
        swarm.run(["spawn", ticket]).success();
    }
    swarm.run(["wait", "--timeout", "60s"]).success();
    let look = |args: &[&str]| {
        for color in ["never", "always"] {
            let output = swarm.run(args.iter().chain(&["--color", color]));
            assert_harmless(&output.stdout, &args.join(" "));
            assert_harmless(&output.stderr, &args.join(" "));
        }
        let document = swarm.run(args.iter().chain(&["--json"])).stdout;
        assert_harmless(&document, &args.join(" "));
        assert!(serde_json::Deserializer::from_str(&document).into_iter::<Value>().all(|value| value.is_ok()));
    };
    look(&["review", "alpha"]);
    assert!(swarm.run(["review", "alpha"]).success().contains("Evil "));
    look(&["status"]);
    look(&["why", "alpha"]);
    look(&["logs", "alpha"]);
    look(&["logs", "alpha", "--terminal"]);
    look(&["conflicts"]);
    assert!(swarm.run(["conflicts"]).success().contains(r"e\u{1b}]0;x\u{7}.txt"), "a path is shown as it is");
    for ticket in ["alpha", "beta"] {
        swarm.run(["review", ticket, "--approve"]).success();
    }
    look(&["merge", "--dry-run"]);
    look(&["merge"]);
    look(&["logs", "beta"]);
    look(&["recover", "list"]);
    // To a program a patch goes to the byte, to a person it does not.
    assert!(swarm.run(["diff", "beta"]).success().contains('\x1b'));
    let shown = swarm.run_in_terminal(["diff", "beta"], "").stdout.replace('\r', "");
    assert_harmless(&shown, "diff in a terminal");
}

#[test]
fn an_interrupted_landing_that_cannot_be_finished_is_told_as_that_and_as_landed_when_it_was() {
    let swarm = finished(&["alpha"]);
    swarm.run(["review", "alpha", "--approve"]).success();
    let database = Connection::open(swarm.repository().join(".git/swarm/swarm.db")).unwrap();
    let deny = "CREATE TRIGGER deny BEFORE DELETE ON landing_intents BEGIN SELECT RAISE(ABORT, 'not now'); END";
    database.execute_batch(deny).unwrap();
    swarm.run(["merge"]).expect_code(1).says("not now");
    // Nobody names it: what is open is open.
    let merged = swarm.run(["merge"]).expect_code(1);
    merged.says("not now");
    assert!(!merged.transcript().contains("finished a landing"), "{}", merged.transcript());
    database.execute_batch("DROP TRIGGER deny").unwrap();
    let merged = swarm.json(["merge"]);
    assert_conforms(&merged, "merge");
    assert_eq!(merged["landed"][0]["worker"], "alpha");
    assert_eq!(swarm.run(["merge"]).expect_code(0).stdout, "Nothing to land\n");
}

#[test]
fn work_that_went_its_own_way_while_others_landed_is_not_given_back_to_its_agent() {
    let agent = "echo $SWARM_TICKET >> \"$SWARM_REPO/../started\"; echo done > $SWARM_TICKET.txt";
    let swarm = finished_by(agent, &["alpha", "beta"]);
    // Once the first is red and has nobody's attention any more, the user cancels it.
    let gate = swarm.root().join("gate.sh");
    let repository = swarm.repository();
    let cancel = format!("'{SWARM}' -C '{}' queue cancel alpha", repository.display());
    swarm.write_at(&gate, &format!("case $SWARM_TICKET in alpha) exit 1 ;; *) {cancel} ;; esac\n"));
    let config =
        format!("gates: [{{name: test, run: 'sh {}'}}]\nlanding: {{batch: 1, speculate: false}}\n", gate.display());
    swarm.write(".swarm/config.yaml", &config);
    for ticket in ["alpha", "beta"] {
        swarm.run(["review", ticket, "--approve"]).success();
    }
    let merged = swarm.run(["merge", "alpha", "beta", "--yes", "--json"]).expect_code(0).json();
    assert_conforms(&merged, "merge");
    assert_eq!((&merged["landed"][0]["worker"], &merged["returned"]), (&"beta".into(), &Value::Array(Vec::new())));
    let settled = &merged["settled"][0];
    assert_eq!(settled["worker"], "alpha");
    assert!(settled["why"].as_str().unwrap().starts_with("went its own way, its ticket is cancelled now"), "{settled}");
    assert_eq!(state(&swarm, "alpha"), "cancelled");
    let started = std::fs::read_to_string(swarm.root().join("started")).unwrap();
    assert_eq!(started.lines().filter(|line| *line == "alpha").count(), 1, "{started}");
}

/// A lock as a git that was killed leaves it.
fn leave_lock(swarm: &TestSwarm, name: &str) -> String {
    let lock = swarm.repository().join(".git").join(name);
    swarm.write_at(&lock, "");
    lock.display().to_string()
}

#[test]
fn a_lock_that_a_killed_git_left_on_the_target_is_named_with_what_to_do() {
    let swarm = finished(&["alpha"]);
    swarm.run(["review", "alpha", "--approve"]).success();
    let before = swarm.git(["rev-parse", "main"]).success();
    let lock = leave_lock(&swarm, "refs/heads/main.lock");
    let refused = swarm.run(["merge"]).expect_code(1);
    refused.says(&format!("`refs/heads/main` cannot be changed while `{lock}` is there"));
    refused.says(&format!("rm {lock}"));
    assert_eq!(swarm.git(["rev-parse", "main"]).success(), before);
    assert_eq!(swarm.git(["status", "--porcelain", "--untracked-files=no"]).success(), "");
    assert_eq!(state(&swarm, "alpha"), "approved");
    std::fs::remove_file(&lock).unwrap();
    swarm.run(["merge"]).success();
    assert_eq!(state(&swarm, "alpha"), "landed");
}

#[test]
fn a_lock_on_the_target_that_is_older_than_any_git_that_runs_goes() {
    for name in ["refs/heads/main.lock", "HEAD.lock"] {
        let swarm = finished(&["alpha"]);
        swarm.run(["review", "alpha", "--approve"]).success();
        let lock = leave_lock(&swarm, name);
        let held = File::open(&lock).unwrap();
        held.set_modified(SystemTime::now() - Duration::from_secs(90)).unwrap();
        // Somebody has it open.
        swarm.run(["merge"]).expect_code(1).says(&format!("rm {lock}"));
        drop(held);
        swarm.run(["merge"]).success();
        assert_eq!(state(&swarm, "alpha"), "landed");
    }
}

#[test]
fn work_lands_beside_a_lock_on_packed_references_and_its_worker_waits_for_it() {
    let swarm = finished(&["alpha"]);
    swarm.run(["review", "alpha", "--approve"]).success();
    swarm.git(["pack-refs", "--all"]).success();
    let lock = leave_lock(&swarm, "packed-refs.lock");
    let landed = swarm.run(["merge"]).expect_code(0);
    landed.says("was not released");
    landed.says(&lock);
    assert_eq!(state(&swarm, "alpha"), "landed");
    std::fs::remove_file(&lock).unwrap();
    swarm.run(["rm", "alpha", "--yes"]).success();
    swarm.git(["rev-parse", "--verify", "--quiet", "swarm/alpha"]).expect_code(1);
    assert!(!swarm.worktree("alpha").exists());
}

#[test]
fn a_landing_killed_while_it_speculates_leaves_nothing_and_goes_on() {
    let own_file = "echo done > \"$SWARM_TICKET.txt\"; git add -A; git commit -qm \"Work of $SWARM_TICKET\"";
    let swarm = finished_by(own_file, &["alpha", "beta"]);
    for ticket in ["alpha", "beta"] {
        swarm.run(["review", ticket, "--approve"]).success();
    }
    // Each run of the gate says so, and goes on until it is let go.
    let (ran, go) = (swarm.root().join("ran"), swarm.root().join("go"));
    let script =
        "echo $SWARM_WORKER >> 'RAN'; i=0; until [ -e 'GO' ] || [ $i -ge 600 ]; do sleep 0.1; i=$((i+1)); done";
    let script = script.replace("RAN", ran.to_str().unwrap()).replace("GO", go.to_str().unwrap());
    let gate = swarm.root().join("slow-gate.sh");
    swarm.write_at(&gate, &script);
    let config = format!("gates: [{{name: slow, run: 'sh {}'}}]\nlanding: {{batch: 1}}\n", gate.display());
    swarm.write(".swarm/config.yaml", &config);
    swarm.run(["trust", "--yes"]).success();
    let before = swarm.git(["rev-parse", "main"]).success();
    let mut merge = swarm.command(SWARM, &swarm.repository());
    merge.args(["merge"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut merge = merge.spawn().unwrap();
    // On one core there is no speculation.
    let expected = if std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) { 2 } else { 1 };
    let runs = || std::fs::read_to_string(&ran).unwrap_or_default().lines().count();
    swarm.wait_until("the gates of both to run", || runs() == expected);
    merge.kill().unwrap();
    merge.wait().unwrap();
    assert_eq!(swarm.git(["rev-parse", "main"]).success(), before);
    // The next landing ends what the dead one left running before it begins, and has the same gates to run.
    swarm.write_at(&go, "");
    std::fs::remove_file(&ran).unwrap();
    swarm.run(["merge"]).success();
    assert!(runs() >= 2, "no gate of a killed landing counts");
    assert_eq!((state(&swarm, "alpha"), state(&swarm, "beta")), ("landed".into(), "landed".into()));
    swarm.wait_until("no gate to run", || swarm.processes().iter().all(|(_, shown)| !shown.contains("slow-gate.sh")));
    let left = std::fs::read_dir(swarm.worktree("alpha").parent().unwrap()).map_or(0, |entries| entries.count());
    assert_eq!(left, 0, "no scratch worktree is left");
    assert_eq!(swarm.git(["worktree", "list"]).success().lines().count(), 1);
}

#[test]
fn a_merge_that_is_asked_to_end_takes_its_gate_with_it() {
    let swarm = finished(&["alpha"]);
    swarm.run(["review", "alpha", "--approve"]).success();
    let pid_file = swarm.root().join("gate.pid");
    let run = format!("echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000", pid_file.display());
    swarm.write(".swarm/config.yaml", &format!("gates: [{{name: slow, run: \"{run}\"}}]\n"));
    let mut merge = swarm.command(SWARM, &swarm.repository());
    merge.args(["merge", "--yes"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut merge = merge.spawn().unwrap();
    swarm.wait_until("the gate to run", || pid_file.exists());
    let gate: Value = std::fs::read_to_string(&pid_file).unwrap().trim().parse::<u32>().unwrap().into();
    signal(&merge.id().into(), Signal::TERM);
    let mut code = None;
    swarm.wait_until("the merge to end", || {
        code = merge.try_wait().unwrap();
        code.is_some()
    });
    assert_eq!(code.unwrap().code(), Some(143));
    assert_eq!(process_state(&gate), 'Z', "the gate runs on");
    assert_eq!(state(&swarm, "alpha"), "approved");
    swarm.write(".swarm/config.yaml", "gates: [{name: slow, run: \"true\"}]\n");
    swarm.run(["merge", "--yes"]).success();
    assert_eq!(state(&swarm, "alpha"), "landed");
}
