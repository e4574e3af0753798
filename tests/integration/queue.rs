//! Beyond a single landing: conflicts that go back, to whom and with what; the person's merge tool; what `log` tells.

use std::process::Stdio;

use serde_json::Value;

use crate::support::schema::assert_conforms;
use crate::support::swarm::TestSwarm;

/// An agent that puts its ticket into a shared file, and concludes a merge or rebase that has begun.
const WRITER: &str = r#"
set -e
git_dir=$(git rev-parse --git-dir)
if [ -e "$git_dir/MERGE_HEAD" ] || [ -d "$git_dir/rebase-merge" ]; then
  cp shared.txt "$SWARM_HOME_FOLDER/seen.txt"
  printf 'start\nalpha\nbeta\n' > shared.txt
  git add -A
  if [ -e "$git_dir/MERGE_HEAD" ]; then git commit -q --no-edit; else GIT_EDITOR=true git rebase --continue; fi
  exit 0
fi
echo "$SWARM_TICKET" >> shared.txt
git add -A && git commit -q -m "Work of $SWARM_TICKET"
"#;

/// Two tickets whose approved work conflicts in `shared.txt`; `landing` is that part of the configuration.
fn conflicting(landing: &str) -> TestSwarm {
    let swarm = TestSwarm::new();
    swarm.write("shared.txt", "start\n");
    swarm.git(["add", "."]).success();
    swarm.git(["commit", "--quiet", "-m", "Add a shared file"]).success();
    let script = WRITER.replace("$SWARM_HOME_FOLDER", swarm.root().to_str().unwrap());
    swarm.write_shell_agent("writer", &script);
    swarm.write_shell_agent("helper", &script);
    swarm.write(".git/info/exclude", ".swarm/\n");
    swarm.write(".swarm/config.yaml", &format!("landing: {{{landing}}}\n"));
    for ticket in ["alpha", "beta"] {
        swarm.write_ticket(ticket, "writer", &format!("# Add {ticket}\n\nWrite."));
        swarm.run(["spawn", ticket]).success();
    }
    swarm.run(["wait", "--timeout", "60s"]).success();
    for ticket in ["alpha", "beta"] {
        swarm.run(["review", ticket, "--approve"]).success();
    }
    swarm
}

fn worker(swarm: &TestSwarm, id: &str) -> Value {
    swarm.json(["status", "--all", id])["workers"][0].clone()
}

/// The prompt that `beta` got last.
fn prompt(swarm: &TestSwarm) -> String {
    std::fs::read_to_string(swarm.worker_dir("beta").join("prompt.md")).unwrap()
}

/// Approves and lands what `beta` has now.
fn land_beta(swarm: &TestSwarm) {
    swarm.run(["review", "beta", "--approve"]).success();
    swarm.run(["merge"]).success();
    assert_eq!(swarm.read("shared.txt"), "start\nalpha\nbeta\n");
    assert_eq!(worker(swarm, "beta")["ticket_state"], "landed");
}

#[test]
fn a_conflict_is_begun_in_the_worktree_and_told_with_both_sides_and_who_landed_the_other() {
    for (how, words) in [("merge", "Merging `main` into your branch has begun"), ("rebase", "Rebasing your branch")] {
        let swarm = conflicting(&format!("on_conflict: {how}"));
        let before = swarm.git(["rev-parse", "swarm/beta"]).success();
        let merged = swarm.run(["merge", "--json"]).expect_code(3).json();
        assert_eq!(
            (&merged["landed"][0]["worker"], &merged["returned"][0]["worker"]),
            (&"alpha".into(), &"beta".into())
        );
        swarm.run(["wait", "beta", "--timeout", "60s"]).success();
        let prompt = prompt(&swarm);
        let place = "`shared.txt`, about line 2\n\n- before both:\n      (nothing)\n- `main`:\n      alpha\n- `swarm/beta`:\n      beta\n";
        for said in [words, "`shared.txt` (content)", place, "Merge alpha: Add alpha", "ticket `alpha`: Add alpha"] {
            assert!(prompt.contains(said), "{how}: `{said}` in\n{prompt}");
        }
        let seen = std::fs::read_to_string(swarm.root().join("seen.txt")).unwrap();
        assert!(seen.contains("<<<<<<< ") && seen.contains("alpha") && seen.contains("beta"), "{seen}");
        // The branch as it was is kept, whatever became of it.
        let kept = swarm.json(["recover", "list"]);
        let beta = kept["kept"].as_array().unwrap().iter().find(|entry| entry["worker"] == "beta").unwrap().clone();
        let keep = beta["reference"].as_str().or(beta["ref"].as_str()).unwrap().to_owned();
        swarm.git(["merge-base", "--is-ancestor", before.trim(), &keep]).success();
        land_beta(&swarm);
    }
}

#[test]
fn nobody_starts_an_agent_in_the_middle_of_a_merge_that_is_begun_for_it() {
    let swarm = conflicting("on_conflict: merge");
    // Merging in a worktree waits until it is let go.
    let root = swarm.root().to_str().unwrap().to_owned();
    let driver = "[ ! -f .git ] || { touch $HERE/begun; read go < $HERE/go; }\ngit merge-file \"$1\" \"$2\" \"$3\"\n";
    swarm.write_at(&swarm.root().join("driver.sh"), &driver.replace("$HERE", &root));
    swarm.git(["config", "merge.waits.driver", &format!("sh {root}/driver.sh %A %O %B")]).success();
    swarm.write(".git/info/attributes", "shared.txt merge=waits\n");
    assert!(swarm.command("mkfifo", swarm.root()).arg("go").status().unwrap().success());
    let prompts = || prompt(&swarm);
    let first = prompts();
    let mut merge = swarm.command(env!("CARGO_BIN_EXE_swarm"), &swarm.repository());
    let mut merge = merge.arg("merge").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    swarm.wait_until("the merge begins", || swarm.root().join("begun").exists());
    swarm.run(["send", "beta", "something else"]).expect_code(1).says("another command");
    assert_eq!(prompts(), first);
    swarm.write_at(&swarm.root().join("go"), "\n");
    assert_eq!(merge.wait().unwrap().code(), Some(3));
    swarm.run(["wait", "beta", "--timeout", "60s"]).success();
    assert!(prompts().contains("Merging `main` into your branch has begun"), "{}", prompts());
    land_beta(&swarm);
}

#[test]
fn work_that_is_not_committed_is_not_merged_over() {
    let swarm = conflicting("tries: 3");
    let file = swarm.worktree("beta").join("shared.txt");
    swarm.write_at(&file, "start\nbeta\nan edit that nobody committed\n");
    swarm.write_shell_agent("writer", "sleep 600");
    swarm.run(["merge"]).expect_code(3);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "start\nbeta\nan edit that nobody committed\n");
    let prompt = prompt(&swarm);
    assert!(prompt.contains("was not begun for you: `shared.txt` in its worktree is not committed"), "{prompt}");
    swarm.run(["resolve", "beta"]).expect_code(4).says("works in that worktree");
    swarm.run(["stop", "beta"]).success();
    swarm.run(["resolve", "beta"]).expect_code(4).says("`shared.txt` in its worktree is not committed");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "start\nbeta\nan edit that nobody committed\n");
}

#[test]
fn after_its_tries_the_conflict_goes_to_the_resolver_in_the_same_worktree() {
    let swarm = conflicting("tries: 0, resolver: helper");
    swarm.run(["merge"]).expect_code(3);
    let taken = worker(&swarm, "beta");
    assert_eq!((&taken["agent"], taken["worktree"].as_str()), (&"helper".into(), swarm.worktree("beta").to_str()));
    swarm.run(["wait", "beta", "--timeout", "60s"]).success();
    let prompt = prompt(&swarm);
    assert!(prompt.contains("You take over") && prompt.contains("    # Add beta"), "{prompt}");
    land_beta(&swarm);
}

#[test]
fn then_a_person_resolves_it_with_their_own_tool() {
    let swarm = conflicting("tries: 0, resolver: null");
    let merged = swarm.run(["merge", "--json"]).expect_code(3).json();
    let why = merged["waiting"][0]["why"].as_str().unwrap();
    assert!(why.contains("a person has to look: swarm resolve beta"), "{why}");
    assert_eq!(worker(&swarm, "beta")["ticket_state"], "review");
    swarm.git(["config", "merge.tool", "ours"]).success();
    swarm.git(["config", "mergetool.ours.trustExitCode", "true"]).success();
    // A tool that gives up leaves the merge open, and says so.
    swarm.git(["config", "mergetool.ours.cmd", "exit 1"]).success();
    let open = swarm.run(["resolve", "beta", "--json"]).expect_code(4);
    assert_conforms(&open.json(), "resolve");
    assert_eq!((&open.json()["operation"], &open.json()["left"][0]), (&"merge".into(), &"shared.txt".into()));
    open.says("still in conflict: `shared.txt`");
    swarm.git(["config", "mergetool.ours.cmd", "printf 'start\\nalpha\\nbeta\\n' > \"$MERGED\""]).success();
    let done = swarm.run(["resolve", "beta", "--json"]).expect_code(0).json();
    assert_conforms(&done, "resolve");
    assert_eq!((&done["operation"], &done["ticket_state"]), (&Value::Null, &"review".into()));
    swarm.run(["resolve", "beta"]).says("Nothing is in conflict");
    land_beta(&swarm);
}

#[test]
fn without_a_merge_tool_the_editor_opens_and_what_has_no_markers_left_is_resolved() {
    let mut swarm = conflicting("tries: 0, resolver: null");
    swarm.run(["merge"]).expect_code(3);
    swarm.set_env("EDITOR", "true");
    swarm.run(["resolve", "beta"]).expect_code(4).says("still in conflict: `shared.txt`");
    swarm.set_env("EDITOR", "sed -i -e '/^<<<<<<< /d' -e '/^=======/d' -e '/^>>>>>>> /d'");
    let text = swarm.run(["resolve", "beta"]).success();
    assert!(text.contains("Nothing is in conflict in `beta` at ") && text.contains("review"), "{text}");
    assert_eq!(swarm.git_in(&swarm.worktree("beta"), ["status", "--porcelain"]).success(), "");
    swarm.run(["review", "beta", "--approve"]).success();
    swarm.run(["merge"]).success();
    let landed = swarm.read("shared.txt");
    assert!(landed.contains("alpha") && landed.contains("beta"), "{landed}");
    swarm.run(["resolve", "nobody"]).expect_code(5);
    swarm.run(["resolve", "beta"]).expect_code(1).says("swarm recover restore beta");
}

#[test]
fn a_merge_that_was_begun_is_given_up_and_what_was_edited_in_it_is_kept() {
    let mut swarm = conflicting("tries: 0, resolver: null");
    swarm.set_env("EDITOR", "true");
    swarm.run(["merge"]).expect_code(3);
    swarm.run(["resolve", "beta"]).expect_code(4).says("still in conflict");
    let before = swarm.git(["rev-parse", "swarm/beta"]).success();
    let file = swarm.worktree("beta").join("shared.txt");
    swarm.write_at(&file, "start\nhalf resolved\n");
    let given_up = swarm.run(["resolve", "beta", "--abort", "--json"]).expect_code(0).json();
    assert_conforms(&given_up, "resolve");
    assert_eq!((&given_up["operation"], &given_up["left"]), (&Value::Null, &serde_json::json!([])));
    assert_eq!(swarm.git_in(&swarm.worktree("beta"), ["status", "--porcelain"]).success(), "");
    assert_eq!(swarm.git(["rev-parse", "swarm/beta"]).success(), before);
    let keep = format!("{}:shared.txt", given_up["keep"].as_str().unwrap());
    assert_eq!(swarm.git(["show", &keep]).success(), "start\nhalf resolved\n");
    swarm.run(["resolve", "beta", "--abort"]).expect_code(0).says("Nothing is begun in `beta`");
}

#[test]
fn a_dependency_is_proposed_between_two_tickets_that_overlap() {
    let swarm = conflicting("batch: 8");
    let view = swarm.json(["conflicts"]);
    assert_conforms(&view, "conflicts");
    let proposal = &view["proposals"][0];
    assert_eq!((&proposal["ticket"], &proposal["depends_on"]), (&"beta".into(), &"alpha".into()));
    swarm.run(["conflicts"]).says("`beta` could wait for `alpha`, in .swarm/tickets/beta.md:\n    depends_on: [alpha]");
}

#[test]
fn the_log_of_a_ticket_shows_what_its_landing_rested_on() {
    let swarm = conflicting("batch: 8");
    let gate = "gates:\n  - {name: look, run: echo all is well}\n";
    swarm.write(".swarm/config.yaml", gate);
    let open = swarm.json(["log", "alpha"]);
    assert_conforms(&open, "log");
    assert_eq!((open["landings"].as_array().unwrap().len(), &open["state"]), (0, &"approved".into()));
    swarm.run(["merge", "alpha", "--yes"]).success();
    let view = swarm.json(["log", "alpha"]);
    assert_conforms(&view, "log");
    let landing = &view["landings"][0];
    let tree = swarm.git(["rev-parse", "main^{tree}"]).success();
    assert_eq!((landing["tree"].as_str(), &landing["strategy"]), (Some(tree.trim()), &"merge".into()));
    assert_eq!(
        (&landing["gates"][0]["output_tail"], &landing["gates"][0]["exit_code"]),
        (&"all is well\n".into(), &0.into())
    );
    assert!(landing["approvals"][0]["by"].as_str().unwrap().contains("Test Person"), "{landing:#}");
    let text = swarm.run(["log", "alpha"]).success();
    for said in [
        "Landed as ",
        "gate      look passed",
        "all is well",
        "approved  by Test Person",
        tree.trim(),
        "landed on main",
    ] {
        assert!(text.contains(said), "`{said}` in\n{text}");
    }
    swarm.run(["log", "nothing"]).expect_code(5);
    // The notes alone are enough, as in a clone that fetched them.
    std::fs::remove_dir_all(swarm.repository().join(".git/swarm")).unwrap();
    let view = swarm.json(["log", "alpha"]);
    assert_eq!((&view["state"], &view["landings"][0]["tree"]), (&Value::Null, &tree.trim().into()));
}

/// Two conversations that write the same file, wait for the file `go` beside the worktrees, and end.
const OVERLAPPING: &str = r#"
conversations:
  - name: left
    turns:
      - calls:
          - Write: {file_path: shared.txt, content: "of the left\n"}
      - calls:
          - Bash: {command: "sh -c 'until [ -e ../go ]; do sleep 0.05; done'"}
      - say: Wrote it.
      - say: Noted.
  - name: right
    turns:
      - calls:
          - Write: {file_path: shared.txt, content: "of the right\n"}
      - calls:
          - Bash: {command: "sh -c 'until [ -e ../go ]; do sleep 0.05; done'"}
      - say: Wrote it.
      - say: Noted.
"#;

#[test]
fn agents_are_told_once_at_a_turn_boundary_whose_work_conflicts_with_theirs() {
    let swarm = TestSwarm::new();
    swarm.write("script.yaml", OVERLAPPING);
    swarm.write(".swarm/config.yaml", "limits: {snapshot_every: 1s}\n");
    let agent = "---\nname: own\ndescription: Our own loop\nruntime: replay\nmodel: script.yaml\n\
        permission_mode: acceptEdits\npermissions:\n  allow: [\"Bash(sh -c *)\"]\n---\nWork.\n";
    swarm.write(".swarm/agents/own.md", agent);
    swarm.write(".swarm/tickets/left.md", "---\nagent: own\ntitle: The left side\n---\nSCRIPT:left\n");
    swarm.write(".swarm/tickets/right.md", "---\nagent: own\ntell_overlaps: false\n---\nSCRIPT:right\n");
    for ticket in ["left", "right"] {
        swarm.run(["spawn", ticket]).success();
    }
    let messages = |worker: &str| {
        let log = std::fs::read_to_string(swarm.worker_dir(worker).join("events.jsonl")).unwrap_or_default();
        (log.matches("\"message_queued\"").count(), log.matches("\"message_sent\"").count())
    };
    swarm.wait_until("the left one to have a notice", || messages("left").0 == 1);
    let waiting = std::fs::read_to_string(swarm.worker_dir("left").join("messages.json"));
    let waiting = waiting.unwrap_or_else(|error| {
        panic!("{error}: {:?}", std::fs::read_dir(swarm.worker_dir("left")).unwrap().collect::<Vec<_>>())
    });
    for said in ["worker `right`, ticket `right`", "`shared.txt` (add_add), about line 1: `of the right`"] {
        assert!(waiting.contains(said), "`{said}` in\n{waiting}");
    }
    // Looking again is no news; the other one opted out.
    swarm.run(["radar"]).success();
    assert_eq!((messages("left"), messages("right")), ((1, 0), (0, 0)));
    swarm.write("../project-worktrees/go", "");
    swarm.run(["wait", "left", "right", "--for", "review", "--timeout", "60s"]).success();
    assert_eq!((messages("left"), messages("right")), ((1, 1), (0, 0)));
}
