//! What agents do to their processes, and what is done to ours.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::scene::{
    SHORT_GRACE, assert_no_processes, await_file, await_status, process_state, processes, scene, signal, worker,
};
use crate::support::swarm::{SWARM, TestSwarm};

/// Runs until it is ended, and says so at once.
const STAYS: &str = "touch up; while :; do sleep 0.05; done";

/// Waits for the file `go`, then writes one file and ends well.
const WAITS_FOR_GO: &str = "touch up; until [ -e go ]; do sleep 0.02; done; rm -f go up; echo done > made.txt";

/// Lets an agent that runs [`WAITS_FOR_GO`] end.
fn go(swarm: &TestSwarm) {
    swarm.write_at(&swarm.worktree("T-1").join("go"), "");
}

#[test]
fn an_agent_that_ignores_sigterm_is_killed_after_the_grace() {
    let swarm = scene("trap '' TERM INT HUP; touch up; while :; do sleep 0.05; done");
    swarm.write(".swarm/config.yaml", SHORT_GRACE);
    swarm.run(["spawn", "T-1"]).success();
    await_file(&swarm, "T-1", "up");
    swarm.run(["stop", "T-1"]).success();
    let worker = worker(&swarm, "T-1");
    assert_eq!((&worker["status"], &worker["reason"]), (&"stopped".into(), &"a person stopped it".into()));
    assert_no_processes(&swarm);
}

#[test]
fn what_forks_and_leaves_the_session_is_ended_too() {
    let swarm = scene(
        "setsid sh -c 'trap \"\" TERM HUP; sleep 1000 & touch away; wait' & (setsid setsid sleep 1000 &) ; sleep 1000",
    );
    swarm.write(".swarm/config.yaml", SHORT_GRACE);
    swarm.run(["spawn", "T-1"]).success();
    await_file(&swarm, "T-1", "away");
    swarm.run(["stop", "T-1"]).success();
    assert_no_processes(&swarm);
}

#[test]
fn a_server_left_running_after_the_exit_is_ended() {
    for headless in [&[][..], &["--headless"]] {
        let swarm = scene("setsid sleep 1000 & nohup sleep 1000 >/dev/null 2>&1 & echo done > made.txt");
        swarm.run(["spawn", "T-1"].iter().chain(headless)).success();
        swarm.run(["wait", "T-1", "--timeout", "30s"]).success();
        assert_eq!(worker(&swarm, "T-1")["status"], "done");
        assert_no_processes(&swarm);
    }
}

/// The most memory a process ever held, in kilobytes.
fn peak_kilobytes(pid: &Value) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_flood_of_output_costs_no_memory_and_holds_nobody_up() {
    // 100 MB of an agent that lost its mind: lines, one endless line, a title that never ends, bytes that are no text.
    let swarm = scene(
        "yes 0123456789012345678901234567890 | head -c 50M; head -c 36M /dev/zero | tr '\\0' x; touch half; \
         printf '\\033]0;'; head -c 10M /dev/zero | tr '\\0' y; printf '\\033\\\\'; head -c 4M /dev/urandom; printf '\\033c'; \
         touch up; sleep 1000",
    );
    swarm.run(["spawn", "T-1"]).success();
    await_file(&swarm, "T-1", "half");
    let began = Instant::now();
    let shown = worker(&swarm, "T-1");
    assert_eq!(shown["status"], "working");
    assert!(began.elapsed() < Duration::from_secs(2), "status took {:?}", began.elapsed());
    await_file(&swarm, "T-1", "up");
    let peak = peak_kilobytes(&shown["supervisor_pid"]);
    assert!(peak < 60_000, "{peak} kB");
    swarm.run(["stop", "T-1"]).success();
}

#[test]
fn what_came_last_of_a_flood_is_in_the_recording() {
    let swarm = scene("head -c 4M /dev/zero | tr '\\0' x; touch up; sleep 1000");
    swarm.run(["spawn", "T-1"]).success();
    await_file(&swarm, "T-1", "up");
    swarm.run(["stop", "T-1"]).success();
    let shown = swarm.run(["logs", "T-1", "--terminal"]).success();
    let end = &shown[shown.len().saturating_sub(200)..];
    assert!(end.trim_end().ends_with("xxxx"), "{end}");
}

#[test]
fn output_without_a_newline_is_shown() {
    let swarm = scene("printf 'no newline'; echo done > made.txt");
    swarm.run(["spawn", "T-1", "--wait"]).success();
    assert!(swarm.run(["logs", "T-1", "--terminal"]).success().contains("no newline"));
}

#[test]
fn an_agent_that_stops_itself_is_continued() {
    let swarm = scene("kill -STOP $$; kill -TSTP $$; (kill -STOP $$; true); echo done > made.txt");
    swarm.run(["spawn", "T-1"]).success();
    swarm.run(["wait", "T-1", "--timeout", "20s"]).success();
    assert_eq!(worker(&swarm, "T-1")["status"], "done");
}

#[test]
fn an_end_by_signal_or_code_is_a_failure_that_names_it() {
    for (script, says, code) in [
        ("kill -KILL $$", "SIGKILL", Value::Null),
        ("kill -SEGV $$", "SIGSEGV", Value::Null),
        ("echo the reason; exit 7", "code 7", 7.into()),
    ] {
        let swarm = scene(script);
        swarm.run(["spawn", "T-1"]).success();
        swarm.run(["wait", "T-1", "--timeout", "20s"]).expect_code(1);
        let worker = worker(&swarm, "T-1");
        assert_eq!(worker["status"], "failed", "{worker:#}");
        assert_eq!(worker["ticket_state"], "failed");
        assert!(worker["reason"].as_str().unwrap().contains(says), "{} / {code}", worker["reason"]);
    }
}

#[test]
fn an_end_without_changes_is_done_and_says_so() {
    let swarm = scene("true");
    swarm.run(["spawn", "T-1"]).success();
    swarm.run(["wait", "T-1", "--timeout", "20s"]).success();
    let worker = worker(&swarm, "T-1");
    assert_eq!(
        (&worker["status"], &worker["reason"], &worker["ticket_state"]),
        (&"done".into(), &"no changes".into(), &"done".into())
    );
}

/// Records every start of the agent, then stays, deaf to hang-ups, with a helper in a session of its own.
const COUNTS_STARTS: &str =
    "echo start >> ../starts; trap '' HUP; setsid sleep 1000 & touch up; while :; do sleep 0.05; done";

/// How often the agent was started.
fn starts(swarm: &TestSwarm) -> usize {
    fs::read_to_string(swarm.root().join("project-worktrees/starts")).unwrap().lines().count()
}

#[test]
fn a_killed_supervisor_is_lost_and_what_it_leaves_is_named_and_ended() {
    let swarm = scene(COUNTS_STARTS);
    swarm.write(".swarm/config.yaml", SHORT_GRACE);
    swarm.run(["spawn", "T-1"]).success();
    await_file(&swarm, "T-1", "up");
    let agent = worker(&swarm, "T-1")["pid"].clone();
    signal(&worker(&swarm, "T-1")["supervisor_pid"], Signal::KILL);
    let killed = Instant::now();
    let lost = await_status(&swarm, "T-1", "lost");
    assert!(killed.elapsed() < Duration::from_secs(5));
    assert_eq!(
        (&lost["ticket_state"], &lost["pid"], &lost["supervisor_pid"]),
        (&"lost".into(), &Value::Null, &Value::Null)
    );
    // The table names what is left too, and nothing else has to be asked.
    let reason = lost["reason"].as_str().unwrap();
    assert!(reason.contains(&agent.to_string()) && reason.contains("that it started run on"), "{reason}");
    assert!(swarm.run(["status"]).success().contains("that it started run on"));
    let why = swarm.run(["why", "T-1"]).success();
    assert!(why.contains(&agent.to_string()) && why.contains("left behind"), "{why}");
    swarm.run(["spawn", "T-1"]).expect_code(4);
    let told = swarm.run(["stop", "T-1"]).success();
    assert!(told.contains("processes it had left behind were ended"), "{told}");
    assert_no_processes(&swarm);
    assert_eq!(worker(&swarm, "T-1")["status"], "stopped");
    swarm.run(["restart", "T-1"]).success();
    await_status(&swarm, "T-1", "working");
    assert_eq!(worker(&swarm, "T-1")["attempt"], 2);
    swarm.wait_until("the second start", || starts(&swarm) == 2);
    swarm.run(["stop", "T-1"]).success();
}

#[test]
fn resume_after_a_kill_ends_the_old_agent_before_the_new_one_starts() {
    let swarm = scene(COUNTS_STARTS);
    swarm.write(".swarm/config.yaml", SHORT_GRACE);
    swarm.run(["spawn", "T-1"]).success();
    await_file(&swarm, "T-1", "up");
    let before = worker(&swarm, "T-1");
    signal(&before["supervisor_pid"], Signal::KILL);
    // Two at once: one wins, and nothing runs twice.
    let codes: Vec<i32> = std::thread::scope(|scope| {
        let resume = || scope.spawn(|| swarm.run(["resume", "T-1"]).code);
        [resume(), resume()].map(|thread| thread.join().unwrap()).into()
    });
    assert!(codes.contains(&0), "{codes:?}");
    let after = await_status(&swarm, "T-1", "working");
    assert_ne!(after["pid"], before["pid"]);
    assert_eq!(process_state(&before["pid"]), 'Z', "the old agent is gone");
    swarm.wait_until("the second start", || starts(&swarm) >= 2);
    assert_eq!(starts(&swarm), 2);
    // A child that a supervisor has just forked still bears its name.
    let supervisors = || processes(&swarm).iter().filter(|shown| shown.contains(" supervise ")).count();
    swarm.wait_until("one supervisor", || supervisors() == 1);
    swarm.run(["stop", "T-1"]).success();
    assert_no_processes(&swarm);
}

#[test]
fn after_the_death_of_everything_the_work_is_there_and_goes_on() {
    let swarm = scene(&format!("[ -e kept ] || echo precious > kept; {WAITS_FOR_GO}"));
    swarm.run(["spawn", "T-1"]).success();
    await_file(&swarm, "T-1", "up");
    for (pid, _) in swarm.processes() {
        signal(&pid.into(), Signal::KILL);
    }
    let lost = await_status(&swarm, "T-1", "lost");
    assert_eq!(lost["ticket_state"], "lost");
    assert_eq!(swarm.run(["resume", "T-1"]).code, 0);
    go(&swarm);
    swarm.run(["wait", "T-1", "--timeout", "30s"]).success();
    let files = swarm.git(["ls-tree", "--name-only", "swarm/T-1"]).success();
    assert_eq!(files, "README.md\nkept\nmade.txt\n");
}

#[test]
fn a_second_supervisor_of_a_worker_never_starts() {
    let mut swarm = scene(WAITS_FOR_GO);
    let copy = swarm.root().join("handover.json");
    let bin = swarm.root().join("bin");
    let script = format!(
        "#!/bin/sh\nfor word do case $word in */run/swarm/*.json) cp \"$word\" {};; esac; done\nexec {} \"$@\"\n",
        copy.display(),
        which::which("tmux").unwrap().display()
    );
    swarm.write_at(&bin.join("tmux"), &script);
    fs::set_permissions(bin.join("tmux"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = swarm.environment()["PATH"].clone().into_string().unwrap();
    swarm.set_env("PATH", format!("{}:{path}", bin.display()));
    swarm.run(["spawn", "T-1"]).success();
    await_file(&swarm, "T-1", "up");
    let before = worker(&swarm, "T-1");
    let second = copy.with_extension("second");
    fs::copy(&copy, &second).unwrap();
    swarm.run(["supervise", second.to_str().unwrap()]).expect_code(1);
    let after = worker(&swarm, "T-1");
    assert_eq!((&after["pid"], &after["supervisor_pid"]), (&before["pid"], &before["supervisor_pid"]));
    go(&swarm);
    swarm.run(["wait", "T-1", "--timeout", "30s"]).success();
    swarm.wait_until("the first to be gone", || processes(&swarm).is_empty());
    let ended = worker(&swarm, "T-1");
    swarm.run(["supervise", copy.to_str().unwrap()]).expect_code(1);
    assert_eq!(worker(&swarm, "T-1")["status"], ended["status"]);
    assert_no_processes(&swarm);
}

#[test]
fn the_end_of_pane_session_or_server_ends_no_worker() {
    for how in ["kill-pane", "kill-session", "kill-server"] {
        let swarm = scene(WAITS_FOR_GO);
        swarm.run(["spawn", "T-1"]).success();
        await_file(&swarm, "T-1", "up");
        let before = worker(&swarm, "T-1");
        let session = format!("={}:", before["tmux_session"].as_str().unwrap());
        let target = if how == "kill-server" { vec![how] } else { vec![how, "-t", &session] };
        swarm.tmux(target).success();
        swarm.wait_until("the pane to be gone", || swarm.tmux(["list-sessions"]).code != 0);
        let after = worker(&swarm, "T-1");
        assert_eq!((&after["status"], &after["pid"]), (&"working".into(), &before["pid"]), "{how}: {after:#}");
        go(&swarm);
        swarm.run(["wait", "T-1", "--timeout", "30s"]).success();
        assert_eq!(worker(&swarm, "T-1")["ticket_state"], "review", "{how}");
        assert_no_processes(&swarm);
    }
}

#[test]
fn stop_of_all_ends_all_and_a_second_stop_says_so() {
    let swarm = scene(STAYS);
    swarm.write_ticket("T-2", "shell", "Work.");
    swarm.run(["spawn", "T-1", "T-2"]).success();
    await_file(&swarm, "T-1", "up");
    await_file(&swarm, "T-2", "up");
    swarm.run(["stop", "--all"]).success();
    for id in ["T-1", "T-2"] {
        assert_eq!(worker(&swarm, id)["status"], "stopped");
        let told = swarm.run(["stop", id]).success();
        assert!(told.contains("It had ended already"), "{told}");
    }
    swarm.run(["stop", "--all"]).success();
    assert_no_processes(&swarm);
}

#[test]
fn two_stops_at_once_both_succeed() {
    let swarm = scene(STAYS);
    swarm.run(["spawn", "T-1"]).success();
    await_file(&swarm, "T-1", "up");
    std::thread::scope(|scope| {
        let stop = || scope.spawn(|| swarm.run(["stop", "T-1"]));
        for thread in [stop(), stop()] {
            thread.join().unwrap().success();
        }
    });
    assert_eq!(worker(&swarm, "T-1")["status"], "stopped");
}

#[test]
fn pause_holds_at_the_boundary_and_resume_goes_on() {
    let swarm = scene(WAITS_FOR_GO);
    swarm.run(["spawn", "T-1"]).success();
    await_file(&swarm, "T-1", "up");
    swarm.run(["pause", "T-1"]).success();
    assert_eq!(worker(&swarm, "T-1")["status"], "working", "the boundary is not there yet");
    go(&swarm);
    let held = await_status(&swarm, "T-1", "paused");
    assert_eq!(held["ticket_state"], "running");
    swarm.run(["resume", "T-1"]).success();
    swarm.run(["wait", "T-1", "--timeout", "30s"]).success();
    assert_eq!(worker(&swarm, "T-1")["ticket_state"], "review");
}

#[test]
fn pause_now_stops_the_processes_and_resume_continues_them() {
    let swarm = scene(WAITS_FOR_GO);
    swarm.run(["spawn", "T-1"]).success();
    await_file(&swarm, "T-1", "up");
    swarm.run(["pause", "T-1", "--now"]).success();
    let paused = worker(&swarm, "T-1");
    assert_eq!(paused["status"], "paused");
    swarm.wait_until("the agent to be stopped", || process_state(&paused["pid"]) == 'T');
    go(&swarm);
    swarm.run(["resume", "T-1"]).success();
    swarm.run(["wait", "T-1", "--timeout", "30s"]).success();
    assert_eq!(worker(&swarm, "T-1")["ticket_state"], "review");
}

#[test]
fn a_worker_at_rest_writes_its_heartbeat_and_nothing_between() {
    let swarm = scene(STAYS);
    swarm.run(["spawn", "T-1"]).success();
    await_file(&swarm, "T-1", "up");
    let live = swarm.worker_dir("T-1").join("live.json");
    let (mut last, mut at) = (fs::read(&live).unwrap(), Instant::now());
    swarm.wait_until("a heartbeat after seconds without a write", || {
        let now = fs::read(&live).unwrap();
        let is_rested = now != last && at.elapsed() > Duration::from_secs(3);
        if now != last {
            (last, at) = (now, Instant::now());
        }
        is_rested
    });
}

#[test]
fn a_paused_agent_can_be_stopped() {
    let swarm = scene(STAYS);
    swarm.run(["spawn", "T-1"]).success();
    await_file(&swarm, "T-1", "up");
    swarm.run(["pause", "T-1", "--now"]).success();
    swarm.run(["stop", "T-1"]).success();
    assert_eq!(worker(&swarm, "T-1")["status"], "stopped");
    assert_no_processes(&swarm);
}

#[test]
fn the_wall_time_limit_stops_and_keeps_the_work() {
    let swarm = scene("echo work > made.txt; while :; do sleep 0.05; done");
    swarm.write(".swarm/tickets/T-1.md", "---\nagent: shell\ntimeout: 1s\n---\nWork.\n");
    swarm.run(["spawn", "T-1"]).success();
    let stopped = await_status(&swarm, "T-1", "stopped");
    assert_eq!(stopped["reason"], "the wall time limit of 1s was reached");
    assert!(swarm.worktree("T-1").join("made.txt").exists());
    let saved = swarm.git(["ls-tree", "--name-only", "refs/swarm/wip/T-1"]).success();
    assert!(saved.contains("made.txt"), "{saved}");
    assert_no_processes(&swarm);
}

#[test]
fn a_process_that_got_a_dead_agents_pid_is_never_touched() {
    let swarm = scene(STAYS);
    swarm.run(["spawn", "T-1"]).success();
    await_file(&swarm, "T-1", "up");
    let before = worker(&swarm, "T-1");
    signal(&before["supervisor_pid"], Signal::KILL);
    await_status(&swarm, "T-1", "lost");
    swarm.run(["stop", "T-1"]).success();
    let mut bystander = swarm.command("sleep", swarm.root()).arg("1000").spawn().unwrap();
    // As if the pids had been given out again.
    let live = swarm.worker_dir("T-1").join("live.json");
    let text = fs::read_to_string(&live).unwrap();
    swarm.write_at(&live, &text.replace(&format!("\"pid\":{}", before["pid"]), &format!("\"pid\":{}", bystander.id())));
    for args in [&["stop", "T-1"][..], &["restart", "T-1"], &["stop", "T-1"]] {
        swarm.run(args).success();
    }
    assert!(bystander.try_wait().unwrap().is_none(), "it lives");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[test]
fn a_full_disk_under_the_log_ends_no_supervisor() {
    let swarm = scene(STAYS);
    // Both the log and, without a terminal, stderr lead to where nothing can be written.
    let folder = swarm.worker_dir("T-1");
    fs::create_dir_all(&folder).unwrap();
    std::os::unix::fs::symlink("/dev/full", folder.join("supervisor.log")).unwrap();
    swarm.run(["spawn", "T-1", "--headless"]).success();
    await_file(&swarm, "T-1", "up");
    // Every heartbeat fails from now on, and each failure is to be logged.
    let live = folder.join("live.json");
    fs::remove_file(&live).ok();
    fs::create_dir_all(live.join("in the way")).unwrap();
    let pid = worker(&swarm, "T-1")["supervisor_pid"].clone();
    let since = Instant::now();
    // The heartbeat is written every five seconds.
    swarm.wait_until("a heartbeat is due", || since.elapsed() > Duration::from_secs(7));
    assert_eq!(worker(&swarm, "T-1")["supervisor_pid"], pid);
    assert!(pid.is_u64(), "{pid}");
    swarm.run(["stop", "T-1"]).success();
}

#[test]
fn a_queued_message_outlives_the_supervisor_that_took_it() {
    let script = "if grep -q PLEASE \"$SWARM_PROMPT_FILE\"; then echo heard > heard.txt; exit 0; fi; ";
    let swarm = scene(&format!("{script}{WAITS_FOR_GO}"));
    swarm.run(["spawn", "T-1", "--headless"]).success();
    await_file(&swarm, "T-1", "up");
    swarm.run(["send", "T-1", "PLEASE"]).success().contains("Queued").then_some(()).unwrap();
    signal(&worker(&swarm, "T-1")["supervisor_pid"], Signal::KILL);
    await_status(&swarm, "T-1", "lost");
    fs::remove_file(swarm.worktree("T-1").join("up")).unwrap();
    swarm.run(["resume", "T-1"]).success();
    await_file(&swarm, "T-1", "up");
    go(&swarm);
    await_status(&swarm, "T-1", "done");
    let made = swarm.git_in(&swarm.worktree("T-1"), ["show", "HEAD:heard.txt"]).success();
    assert_eq!(made.trim(), "heard");
    let log = swarm.run(["logs", "T-1"]).success();
    assert!(log.contains("message queued (6 bytes)"), "{log}");
    assert!(!swarm.worker_dir("T-1").join("messages.json").exists());
}

#[test]
fn removing_a_worker_without_its_worktree_claims_no_more_than_is_kept() {
    let swarm = scene("git commit -q --allow-empty -m made; echo draft > draft.txt; touch up; sleep 1000");
    swarm.run(["spawn", "T-1", "--headless"]).success();
    await_file(&swarm, "T-1", "up");
    swarm.run(["stop", "T-1"]).success();
    swarm.git(["update-ref", "-d", "refs/swarm/wip/T-1"]).success();
    fs::rename(swarm.worktree("T-1"), swarm.root().join("moved")).unwrap();
    let said = swarm.run(["rm", "T-1", "--yes"]).success();
    assert!(said.contains("its worktree is missing, so only its commits were kept"), "{said}");
    assert!(said.contains("git worktree repair"), "{said}");
    let status = swarm.git_in(&swarm.root().join("moved"), ["status", "--porcelain"]).success();
    assert!(status.contains("draft.txt"), "{status}");
}

#[test]
fn restoring_only_a_branch_says_what_stays_behind() {
    let swarm = scene("git commit -q --allow-empty -m made; echo draft > draft.txt; touch up; sleep 1000");
    swarm.run(["spawn", "T-1", "--headless"]).success();
    await_file(&swarm, "T-1", "up");
    swarm.run(["rm", "T-1", "--yes"]).success();
    let restored = swarm.run(["recover", "restore", "T-1"]).expect_code(0);
    assert!(restored.stderr.contains("uncommitted work is not in a branch"), "{}", restored.stderr);
    assert!(restored.stderr.contains("--worktree PATH"), "{}", restored.stderr);
    let view = swarm.json(["recover", "restore", "T-1", "--branch", "again"]);
    assert_eq!(view["left_uncommitted"], true);
}

#[test]
fn stop_ends_a_supervisor_that_hangs_and_says_what_it_waits_for() {
    let swarm = scene("trap '' HUP; touch up; while :; do sleep 0.05; done");
    swarm.write(".swarm/config.yaml", SHORT_GRACE);
    // A tmux server lets its stopped children go on at once.
    swarm.run(["spawn", "T-1", "--headless"]).success();
    await_file(&swarm, "T-1", "up");
    let supervisor = worker(&swarm, "T-1")["supervisor_pid"].clone();
    signal(&supervisor, Signal::STOP);
    let stopped = swarm.run(["stop", "T-1"]).expect_code(0);
    let told = format!("waiting for the supervisor of `T-1` (process {supervisor})");
    assert!(stopped.stderr.contains(&told), "{}", stopped.stderr);
    assert!(stopped.stderr.contains("does not answer"), "{}", stopped.stderr);
    assert_eq!(worker(&swarm, "T-1")["status"], "stopped");
    assert_no_processes(&swarm);
}

#[test]
fn a_message_to_a_supervisor_that_hangs_fails_with_its_pid_and_what_to_do() {
    let swarm = scene(STAYS);
    swarm.run(["spawn", "T-1", "--headless"]).success();
    await_file(&swarm, "T-1", "up");
    let supervisor = worker(&swarm, "T-1")["supervisor_pid"].clone();
    signal(&supervisor, Signal::STOP);
    let sent = swarm.run(["send", "T-1", "hello"]).expect_code(6);
    sent.says(&format!("waiting for the supervisor of `T-1` (process {supervisor})"));
    sent.says("did not answer within 30s");
    sent.says(&format!("kill -CONT {supervisor}"));
    sent.says("swarm stop T-1");
    signal(&supervisor, Signal::CONT);
    swarm.run(["stop", "T-1"]).success();
}

#[test]
fn an_agent_cannot_end_its_own_worker_and_others_it_can() {
    let script = format!(
        "until [ -e go ]; do sleep 0.02; done; for verb in 'rm --yes' stop restart; do \
         {SWARM} $verb \"$SWARM_WORKER\" >> ../said 2>&1; echo \"code $?\" >> ../said; done; \
         {SWARM} stop T-2 >> ../said 2>&1; echo \"other $?\" >> ../said; echo done > made.txt; rm go"
    );
    let swarm = scene(&script);
    swarm.write_shell_agent("other", STAYS);
    swarm.write_ticket("T-2", "other", "Work.");
    swarm.run(["spawn", "T-1", "T-2"]).success();
    await_file(&swarm, "T-2", "up");
    go(&swarm);
    await_status(&swarm, "T-1", "done");
    let said = fs::read_to_string(swarm.root().join("project-worktrees/said")).unwrap();
    assert_eq!(said.matches("code 1\n").count(), 3, "{said}");
    assert_eq!(said.matches("this command runs inside worker `T-1`").count(), 3, "{said}");
    assert!(said.contains("hint:") && said.contains("other 0"), "{said}");
    assert_eq!(worker(&swarm, "T-2")["status"], "stopped");
    swarm.run(["rm", "T-1", "--yes"]).success();
}

#[test]
fn a_worker_that_an_agent_spawned_outlives_that_agents_worker() {
    // The outer one without tmux, so that what its agent starts, a tmux server too, becomes its supervisor's child.
    for mode in ["", "--headless"] {
        let mut swarm = TestSwarm::new();
        let repository = swarm.repository();
        // Agents do not get the variable that names this test's tmux server.
        let socket = swarm.root().join("run/tm").display().to_string();
        swarm.set_env("SWARM_TMUX_SOCKET", &socket);
        let config = format!("limits: {{grace: 300ms, spawn_depth: 2}}\ntmux: {{socket: '{socket}'}}\n");
        swarm.write(".swarm/config.yaml", &config);
        let spawn = format!("{SWARM} -C '{}' spawn T-2 {mode}", repository.display());
        swarm.write_shell_agent("outer", &format!("{spawn} && touch up; sleep 1000 & {STAYS}"));
        swarm.write_shell_agent("inner", STAYS);
        swarm.write_ticket("T-1", "outer", "Work.");
        swarm.write_ticket("T-2", "inner", "Work.");
        swarm.run(["spawn", "T-1", "--headless"]).success();
        await_file(&swarm, "T-1", "up");
        await_file(&swarm, "T-2", "up");
        let inner = await_status(&swarm, "T-2", "working");
        // Neither a pause nor the end of the outer one reaches it.
        swarm.run(["pause", "T-1", "--now"]).success();
        assert!(!matches!(process_state(&inner["pid"]), 'T' | 'Z'), "{mode}");
        assert!(!matches!(process_state(&inner["supervisor_pid"]), 'T' | 'Z'), "{mode}");
        swarm.run(["stop", "T-1"]).success();
        await_status(&swarm, "T-1", "stopped");
        let left = await_status(&swarm, "T-2", "working");
        assert_eq!((&left["pid"], &left["supervisor_pid"]), (&inner["pid"], &inner["supervisor_pid"]), "{mode}");
        let of_outer = || processes(&swarm).into_iter().filter(|line| line.contains("sleep 1000")).count();
        swarm.wait_until("the outer agent's own processes to be gone", || of_outer() == 0);
        swarm.run(["stop", "T-2"]).success();
        assert_no_processes(&swarm);
    }
}
