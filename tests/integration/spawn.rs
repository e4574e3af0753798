//! The spawn transaction: whatever fails or dies in the middle, nothing is left and the ticket can be spawned again.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::scene::processes;
use crate::support::swarm::{Output, SWARM, TestSwarm};

/// An agent that writes one file and ends well.
const WORKS: &str = "echo done > made.txt";

/// A repository with an agent `shell` and a ticket `T-1` for it.
fn prepared() -> TestSwarm {
    let swarm = TestSwarm::new();
    swarm.write_shell_agent("shell", WORKS);
    swarm.write_ticket("T-1", "shell", "Work.");
    swarm
}

/// Puts a program before the real one of that name. In `script`, `$real` is the real one, and `sprung` succeeds once,
/// for the first caller that asks.
fn wrap(swarm: &mut TestSwarm, program: &str, script: &str) {
    let folder = swarm.root().join("bin");
    let real = which::which(program).unwrap();
    let trap = swarm.root().join("trap");
    let text = format!(
        "#!/bin/sh\nreal={}\nsprung() {{ rmdir {} 2>/dev/null; }}\n{script}\nexec \"$real\" \"$@\"\n",
        real.display(),
        trap.display()
    );
    swarm.write_at(&folder.join(program), &text);
    fs::set_permissions(folder.join(program), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(trap).unwrap();
    let path = swarm.environment()["PATH"].clone().into_string().unwrap();
    swarm.set_env("PATH", format!("{}:{path}", folder.display()));
}

/// The document of `status --all`.
fn status(swarm: &TestSwarm) -> Value {
    swarm.json(["status", "--all"])
}

/// The one worker of `status --all`.
fn worker(swarm: &TestSwarm) -> Value {
    let status = status(swarm);
    assert_eq!(status["workers"].as_array().unwrap().len(), 1, "{status:#}");
    status["workers"][0].clone()
}

/// Nothing of a spawn of `T-1` is left, and its ticket is as if nobody had tried.
#[track_caller]
fn assert_nothing_is_left(swarm: &TestSwarm) {
    assert!(!swarm.worktree("T-1").exists(), "worktree");
    assert_eq!(swarm.git(["branch", "--list", "swarm/*"]).success(), "", "branch");
    assert_eq!(swarm.git(["worktree", "list"]).success().lines().count(), 1, "registration");
    assert_eq!(sessions(swarm), "", "session");
    let left: Vec<_> = fs::read_dir(swarm.runtime_folder()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "tmux.conf" || name == "tmux.known"), "runtime folder: {left:?}");
    assert_eq!(processes(swarm), [""; 0], "processes");
    let status = status(swarm);
    assert_eq!(status["workers"], serde_json::json!([]), "worker");
    for state in ["queued", "running", "lost", "failed"] {
        assert_eq!(status["tickets"][state], 0, "ticket: {:#}", status["tickets"]);
    }
}

/// The sessions of the test's tmux server.
fn sessions(swarm: &TestSwarm) -> String {
    swarm.tmux(["list-sessions", "-F", "#{session_name}"]).stdout
}

/// Spawns `T-1` and sees it through.
#[track_caller]
fn assert_spawns(swarm: &TestSwarm, more: &[&str]) {
    swarm.run(["spawn", "T-1"].iter().chain(more)).success();
    swarm.run(["wait", "T-1", "--timeout", "30s"]).success();
    let worker = worker(swarm);
    assert_eq!((&worker["status"], &worker["ticket_state"]), (&"done".into(), &"review".into()), "{worker:#}");
    assert_eq!(worker["attempt"], 1, "an undone spawn is no attempt");
}

#[track_caller]
fn assert_killed(output: Output) {
    assert_eq!(output.code, 128 + 9, "{}", output.transcript());
}

/// Kills the spawner at one call of a program and checks that `stop` undoes what it left, and `spawn` too.
fn killed_at(program: &str, script: &str, step: &str) {
    for undo in ["stop", "spawn"] {
        let mut swarm = prepared();
        wrap(&mut swarm, program, script);
        assert_killed(swarm.run(["spawn", "T-1"]));
        let worker = worker(&swarm);
        assert_eq!(worker["status"], "lost", "{worker:#}");
        assert_eq!(worker["reason"], format!("the spawn ended while {step}"));
        swarm.run(["resume", "T-1"]).expect_code(1);
        if undo == "stop" {
            let told = swarm.run(["stop", "T-1"]).success();
            assert!(told.contains("Undid its interrupted spawn"), "{told}");
            assert_nothing_is_left(&swarm);
        }
        assert_spawns(&swarm, &[]);
    }
}

#[test]
fn a_spawner_killed_between_the_claim_and_the_worker_is_told_and_undone() {
    let swarm = prepared();
    // It stops where it opens the tool log, with its claim and before its worker is written down.
    let log = swarm.worker_dir("T-1").join("tool_calls.jsonl");
    fs::create_dir_all(log.parent().unwrap()).unwrap();
    assert!(swarm.command("mkfifo", swarm.root()).arg(&log).status().unwrap().success());
    let mut spawner = swarm.command(SWARM, &swarm.repository()).args(["spawn", "T-1"]).spawn().unwrap();
    swarm.wait_until("the claim", || status(&swarm)["tickets"]["running"] == 1);
    let no_worker = "in the queue, and no worker is at it";
    assert!(!swarm.run(["doctor"]).stdout.contains(no_worker), "a spawn under way is no fault");
    spawner.kill().unwrap();
    assert!(!spawner.wait().unwrap().success());
    assert_eq!(status(&swarm)["workers"], serde_json::json!([]));
    let told = swarm.run(["doctor"]).expect_code(1).stdout;
    assert!(told.contains("ticket `T-1` is running in the queue, and no worker is at it"), "{told}");
    assert!(told.contains("swarm spawn T-1"), "{told}");
    // Long after: nobody has told the queue that the lease is over.
    let database = rusqlite::Connection::open(swarm.repository().join(".git/swarm/swarm.db")).unwrap();
    database.execute("UPDATE tickets SET lease_until = 1", []).unwrap();
    let told = swarm.run(["doctor"]).expect_code(1).stdout;
    assert!(told.contains("ticket `T-1` is lost in the queue, and no worker is at it"), "{told}");
    assert_eq!(status(&swarm)["tickets"]["running"], 0);
    fs::remove_file(&log).unwrap();
    assert_spawns(&swarm, &[]);
    assert_eq!(status(&swarm)["tickets"]["running"], 0);
    assert!(!swarm.run(["doctor"]).stdout.contains(no_worker));
}

#[test]
fn a_spawner_killed_before_the_worktree_is_undone() {
    killed_at(
        "git",
        r#"case " $* " in *" worktree add "*) sprung && kill -9 $PPID && exit 1;; esac"#,
        "making the worktree",
    );
}

#[test]
fn a_spawner_killed_after_the_worktree_was_registered_is_undone() {
    killed_at(
        "git",
        r#"case " $* " in *" worktree add "*) sprung && "$real" "$@" && kill -9 $PPID && exit 1;; esac"#,
        "making the worktree",
    );
}

#[test]
fn a_spawner_killed_before_the_session_is_undone() {
    killed_at(
        "tmux",
        r#"case " $* " in *" new-session "*) sprung && kill -9 $PPID && exit 1;; esac"#,
        "starting the session",
    );
}

#[test]
fn a_spawner_killed_by_its_set_up_is_undone_with_what_the_set_up_started() {
    for undo in ["stop", "spawn"] {
        let swarm = prepared();
        let trap = swarm.root().join("trap");
        fs::create_dir(&trap).unwrap();
        let setup = format!(
            "echo x > half; rmdir {} && {{ setsid sleep 500 & kill -9 $PPID; sleep 500; }}; true",
            trap.display()
        );
        swarm.write(".swarm/config.yaml", &format!("setup:\n  - run: {}\n", serde_json::to_string(&setup).unwrap()));
        assert_killed(swarm.run(["spawn", "T-1", "--yes"]));
        let reason = worker(&swarm)["reason"].as_str().unwrap().to_owned();
        assert!(reason.starts_with("the spawn ended while setting up the worktree; process"), "{reason}");
        if undo == "stop" {
            swarm.run(["stop", "T-1"]).success();
            assert_nothing_is_left(&swarm);
            let kept = swarm.git(["for-each-ref", "refs/swarm/keep"]).success();
            assert!(kept.contains("T-1"), "what the set-up wrote is kept: {kept}");
        }
        assert_spawns(&swarm, &["--yes"]);
        let files = swarm.git(["ls-tree", "--name-only", "swarm/T-1"]).success();
        assert_eq!(files, "README.md\nmade.txt\n", "files of the set-up are never committed");
    }
}

#[test]
fn a_spawner_killed_once_the_supervisor_runs_changes_nothing() {
    let mut swarm = prepared();
    let seen = swarm.root().join("supervised");
    // Returns when the supervisor holds its lock, as the spawner's own wait would.
    let lock = swarm.worker_dir("T-1").join("live.json");
    let script = format!(
        r#"case " $* " in *" new-session "*) sprung && {{ "$real" "$@"; while ! [ -e {} ]; do sleep 0.01; done; touch {}; kill -9 $PPID; exit 1; }};; esac"#,
        lock.display(),
        seen.display()
    );
    wrap(&mut swarm, "tmux", &script);
    swarm.write_shell_agent("shell", "until [ -e go ]; do sleep 0.05; done; rm go; echo done > made.txt");
    assert_killed(swarm.run(["spawn", "T-1"]));
    assert!(seen.exists());
    let worker = worker(&swarm);
    assert_eq!(worker["status"], "working", "{worker:#}");
    assert_eq!(format!("{}\n", worker["tmux_session"].as_str().unwrap()), sessions(&swarm));
    swarm.run(["spawn", "T-1"]).expect_code(1);
    swarm.write_at(&swarm.worktree("T-1").join("go"), "");
    swarm.run(["wait", "T-1", "--timeout", "30s"]).success();
}

/// Spawns `T-1` in vain, checks that nothing is left, and then in earnest.
#[track_caller]
fn fails_cleanly(swarm: &TestSwarm, code: i32, says: &str, mend: impl FnOnce(), more: &[&str]) {
    let output = swarm.run(["spawn", "T-1"].iter().chain(more)).expect_code(code);
    assert!(output.stderr.contains(says), "{}", output.transcript());
    assert!(output.stdout.is_empty(), "{}", output.transcript());
    let main = swarm.git(["status", "--porcelain", "--untracked-files=all"]).success();
    assert!(!main.contains("made.txt"), "it never falls back to the main worktree: {main}");
    mend();
    assert_nothing_is_left(swarm);
    assert_spawns(swarm, more);
}

#[test]
fn a_folder_in_the_way_is_refused_and_left_alone() {
    let swarm = prepared();
    let taken = swarm.worktree("T-1");
    swarm.write_at(&taken.join("precious"), "x");
    fails_cleanly(
        &swarm,
        1,
        "T-1",
        || {
            assert_eq!(fs::read_to_string(taken.join("precious")).unwrap(), "x");
            fs::remove_dir_all(&taken).unwrap();
        },
        &[],
    );
}

#[test]
fn somebody_elses_worktree_in_the_way_is_refused_and_left_alone() {
    let swarm = prepared();
    let taken = swarm.worktree("T-1");
    swarm.git(["worktree", "add", "--quiet", "-b", "mine", taken.to_str().unwrap()]).success();
    swarm.write_at(&taken.join("precious"), "x");
    fails_cleanly(
        &swarm,
        1,
        "T-1",
        || {
            assert_eq!(fs::read_to_string(taken.join("precious")).unwrap(), "x");
            swarm.git(["worktree", "remove", "--force", taken.to_str().unwrap()]).success();
        },
        &[],
    );
}

#[test]
fn a_branch_checked_out_elsewhere_is_refused_and_left_alone() {
    let swarm = prepared();
    let other = swarm.root().join("elsewhere");
    swarm.git(["worktree", "add", "--quiet", "-b", "swarm/T-1", other.to_str().unwrap()]).success();
    swarm.write_at(&other.join("precious"), "x");
    fails_cleanly(
        &swarm,
        1,
        "elsewhere",
        || {
            assert_eq!(fs::read_to_string(other.join("precious")).unwrap(), "x");
            assert_eq!(
                swarm.git(["branch", "--list", "--format=%(refname:short)", "swarm/*"]).success(),
                "swarm/T-1\n"
            );
            swarm.git(["worktree", "remove", "--force", other.to_str().unwrap()]).success();
            swarm.git(["branch", "-D", "swarm/T-1"]).success();
        },
        &[],
    );
}

/// Writes a configuration whose set-up is this command.
fn write_setup(swarm: &TestSwarm, run: &str, more: &str) {
    swarm.write(".swarm/config.yaml", &format!("setup:\n  - run: {}\n{more}", serde_json::to_string(run).unwrap()));
}

#[test]
fn a_failing_set_up_is_told_with_its_output_and_undone() {
    let swarm = prepared();
    write_setup(&swarm, "echo the reason; exit 3", "");
    let says = "set-up command `echo the reason; exit 3` failed with exit code 3\nthe reason";
    fails_cleanly(&swarm, 1, says, || write_setup(&swarm, "true", ""), &["--yes"]);
}

#[test]
fn a_set_up_that_hangs_is_ended_and_undone() {
    let swarm = prepared();
    write_setup(&swarm, "echo fetching; sleep 500 & sleep 500", "limits: {setup_timeout: 1s}\n");
    fails_cleanly(&swarm, 1, "took longer than 1s\nfetching", || write_setup(&swarm, "true", ""), &["--yes"]);
}

#[test]
fn an_untrusted_set_up_needs_a_person_before_any_effect() {
    let swarm = prepared();
    write_setup(&swarm, "touch ../effect", "");
    let output = swarm.run(["spawn", "T-1"]).expect_code(4);
    assert!(
        output.stderr.contains("touch ../effect") && output.stderr.contains("swarm trust"),
        "{}",
        output.transcript()
    );
    assert!(!swarm.root().join("project-worktrees").exists());
    assert_eq!(status(&swarm)["workers"], serde_json::json!([]));
    swarm.run(["spawn", "T-1", "--yes"]).success();
    assert!(swarm.root().join("project-worktrees/effect").exists());
}

#[test]
fn a_failing_tmux_is_undone() {
    let mut swarm = prepared();
    wrap(
        &mut swarm,
        "tmux",
        r#"case " $* " in *" new-session "*) [ -e "$0.mended" ] || { echo no luck >&2; exit 1; };; esac"#,
    );
    let mended = swarm.root().join("bin/tmux.mended");
    fails_cleanly(&swarm, 1, "no luck", || swarm.write_at(&mended, ""), &[]);
}

#[test]
fn a_supervisor_that_dies_before_its_agent_runs_is_noticed_and_undone() {
    let mut swarm = prepared();
    let script = r#"case " $* " in *" new-session "*) if sprung; then
        for word do shift; [ "$word" = supervise ] && word=no-such-verb; set -- "$@" "$word"; done
    fi;; esac"#;
    wrap(&mut swarm, "tmux", script);
    fails_cleanly(&swarm, 1, "the supervisor ended before its agent ran", || {}, &[]);
}

#[test]
fn a_tmux_server_that_dies_under_the_spawn_is_noticed_and_undone() {
    let mut swarm = prepared();
    let script = r#"case " $* " in *" new-session "*) if sprung; then
        for word do shift; [ "$word" = supervise ] && word=no-such-verb; set -- "$@" "$word"; done
        "$real" "$@"; kill -9 $("$real" -L "$SWARM_TMUX_SOCKET" display-message -p '#{pid}'); exit 0
    fi;; esac"#;
    wrap(&mut swarm, "tmux", script);
    let output = swarm.run(["spawn", "T-1"]).expect_code(1);
    assert!(!output.stderr.is_empty());
    assert_nothing_is_left(&swarm);
    assert_spawns(&swarm, &[]);
}

#[test]
fn a_missing_agent_program_is_told_before_any_effect() {
    let swarm = prepared();
    swarm.write(
        ".swarm/agents/shell.md",
        "---\nname: shell\ndescription: A script\nruntime: command\ncommand: [no-such-program]\nprompt: file\n---\nWork.\n",
    );
    let output = swarm.run(["spawn", "T-1"]).expect_code(1);
    assert!(output.stderr.contains("no-such-program"), "{}", output.transcript());
    assert_eq!(status(&swarm)["workers"], serde_json::json!([]));
    assert!(!swarm.root().join("project-worktrees").exists());
}

#[test]
fn an_agent_program_that_vanishes_meanwhile_is_undone() {
    let swarm = prepared();
    let program = swarm.root().join("agent.sh");
    let write = || {
        swarm.write_at(&program, "#!/bin/sh\necho done > made.txt\n");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    };
    write();
    swarm.write(
        ".swarm/agents/shell.md",
        &format!(
            "---\nname: shell\ndescription: A script\nruntime: command\ncommand: [{}]\nprompt: file\n---\nWork.\n",
            program.display()
        ),
    );
    for more in [&["--yes"][..], &["--yes", "--headless"]] {
        write_setup(&swarm, &format!("rm {}", program.display()), "");
        write();
        let output = swarm.run(["spawn", "T-1"].iter().chain(more)).expect_code(1);
        assert!(output.stderr.contains("agent.sh"), "{}", output.transcript());
        assert_nothing_is_left(&swarm);
    }
    write();
    write_setup(&swarm, "true", "");
    assert_spawns(&swarm, &["--yes"]);
}

#[test]
fn an_agent_that_cannot_start_leaves_the_record_of_an_earlier_life() {
    let swarm = prepared();
    assert_spawns(&swarm, &[]);
    swarm.run(["rm", "T-1", "--yes"]).success();
    let before = worker(&swarm);
    assert!(before["keep"].is_string(), "{before:#}");
    let program = swarm.root().join("agent.sh");
    swarm.write_at(&program, "#!/bin/sh\n");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let agent = format!("---\ndescription: A script\nruntime: command\ncommand: [{}]\n---\nWork.\n", program.display());
    swarm.write(".swarm/agents/gone.md", &agent);
    write_setup(&swarm, &format!("rm {}", program.display()), "");
    let output = swarm.run(["spawn", "T-1", "--agent", "gone", "--yes"]).expect_code(1);
    assert!(output.stderr.contains("agent.sh"), "{}", output.transcript());
    let after = worker(&swarm);
    assert_eq!((&after["keep"], &after["attempt"]), (&before["keep"], &before["attempt"]), "{after:#}");
    write_setup(&swarm, "true", "");
    swarm.run(["spawn", "T-1", "--yes"]).success();
    assert_eq!(worker(&swarm)["attempt"], 2, "recordings are named by it");
}

#[test]
fn a_spawn_undone_after_an_earlier_life_leaves_that_life_as_it_was() {
    let swarm = prepared();
    assert_spawns(&swarm, &[]);
    let again = swarm.root().join("trap");
    fs::create_dir(&again).unwrap();
    let folder = swarm.worktree("T-1");
    fs::rename(&folder, swarm.root().join("away")).unwrap();
    let before = worker(&swarm);
    let output = swarm.run(["spawn", "T-1"]).expect_code(1);
    assert!(output.stderr.contains("is gone"), "{}", output.transcript());
    let after = worker(&swarm);
    assert_eq!((&after["status"], &after["ticket_state"]), (&before["status"], &before["ticket_state"]));
}

#[test]
fn a_runtime_folder_that_cannot_be_used_leaves_nothing() {
    let swarm = prepared();
    let folder = swarm.runtime_folder();
    fs::remove_dir_all(&folder).ok();
    swarm.write_at(&folder, "in the way");
    let failed = swarm.run(["spawn", "T-1", "--headless"]).expect_code(1);
    failed.says("could not use the runtime folder");
    fs::remove_file(&folder).unwrap();
    assert_eq!(status(&swarm)["workers"].as_array().unwrap().len(), 0);
    swarm.run(["spawn", "T-1", "--headless", "--wait"]).success();
    assert_eq!(worker(&swarm)["status"], "done");
}

#[test]
fn a_branch_that_was_there_is_told_when_a_worker_takes_it_over() {
    let swarm = prepared();
    swarm.git(["branch", "swarm/T-1"]).success();
    let head = swarm.git(["rev-parse", "swarm/T-1"]).success();
    let planned = swarm.json(["spawn", "T-1", "--dry-run"]);
    let spawned = swarm.run(["spawn", "T-1", "--json"]).expect_code(0).json();
    let warning = "branch `swarm/T-1` was there already; `T-1` goes on with it, and swarm rm will leave it there";
    for view in [planned, spawned] {
        assert_eq!(view["spawned"][0]["warnings"], serde_json::json!([warning]));
    }
    swarm.run(["wait", "T-1"]).success();
    swarm.run(["rm", "T-1", "--yes"]).success();
    assert_ne!(swarm.git(["rev-parse", "swarm/T-1"]).success(), head, "with the work that came to it");
    swarm.run(["spawn", "T-1"]).expect_code(0).says("was there already");
    swarm.run(["wait", "T-1"]).success();
}
