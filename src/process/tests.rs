use std::time::{Duration, Instant};

use super::*;

fn sh(script: &str) -> Invocation {
    Invocation::new("sh", "/").args(["-c", script])
}

#[test]
fn output_and_code_come_back() {
    let done = run(&sh("cat; echo err >&2; exit 3")).unwrap();
    assert_eq!((done.code(), done.text().as_str(), done.stderr.as_slice()), (3, "", &b"err\n"[..]));
    let mut fed = sh("cat");
    fed.stdin = vec![b'x'; 1_000_000];
    assert_eq!(run(&fed).unwrap().stdout.len(), 1_000_000);
}

#[test]
fn the_tail_of_much_output_is_kept() {
    let mut call = sh("i=0; while [ $i -lt 20000 ]; do echo line-$i; i=$((i+1)); done; echo last >&2");
    call.tail = Some(100);
    let done = run(&call).unwrap();
    assert_eq!(done.stdout.len(), 100);
    assert!(done.text().ends_with("line-19999\nlast\n"), "{}", done.text());
}

#[test]
fn a_background_child_that_holds_the_pipe_does_not_hold_the_call() {
    let started = Instant::now();
    let done = run(&sh("sleep 30 & echo $!")).unwrap();
    assert!(started.elapsed() < Duration::from_secs(10));
    let pid: u32 = done.text().trim().parse().unwrap();
    tree::kill_group_and_descendants(pid);
    rustix::process::kill_process(Pid::from_raw(pid as i32).unwrap(), rustix::process::Signal::KILL).ok();
}

#[test]
fn a_timeout_ends_the_whole_tree_even_what_left_the_group() {
    let mut call = sh("setsid sleep 300 & sleep 300");
    call.timeout = Some(Duration::from_millis(300));
    call.set.push(("SWARM_TEST_TREE".into(), "timeout-tree".into()));
    assert!(matches!(run(&call), Err(ProcessError::TimedOut { .. })));
    let deadline = Instant::now() + Duration::from_secs(5);
    while !find_marked("SWARM_TEST_TREE", "timeout-tree").unwrap().is_empty() {
        assert!(Instant::now() < deadline, "something survived");
        std::thread::yield_now();
    }
}

#[test]
fn what_a_call_out_of_time_had_written_is_kept() {
    let late = |tail| {
        let mut call = sh("echo out; echo err >&2; seq 1 9999; echo last; sleep 300");
        (call.timeout, call.tail) = (Some(Duration::from_secs(1)), tail);
        match run(&call) {
            Err(ProcessError::TimedOut { output, .. }) => output,
            other => panic!("{other:?}"),
        }
    };
    assert!(late(None).ends_with("last\nerr\n"), "both streams");
    assert_eq!(late(Some(10)), "9998\n9999\nlast\n"[5..], "its end");
}

#[test]
fn marked_processes_are_found_and_stopped_even_when_they_ignore_term() {
    let mut cmd = command("sh");
    cmd.args(["-c", "trap '' TERM; sleep 300 & while :; do sleep 1; done"]).env("SWARM_TEST_TREE", "stubborn");
    let mut child = spawn(&mut cmd).unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while find_marked("SWARM_TEST_TREE", "stubborn").unwrap().len() < 2 {
        assert!(Instant::now() < deadline, "not started");
    }
    let count = stop_marked("SWARM_TEST_TREE", "stubborn", Duration::from_millis(100)).unwrap();
    assert!(count >= 2);
    child.wait().unwrap();
    forget(child.id());
    assert!(find_marked("SWARM_TEST_TREE", "stubborn").unwrap().is_empty());
}

#[test]
fn a_process_is_found_while_it_becomes_another_program() {
    let again = "exec sh -c \"$0\" \"$0\"";
    let mut cmd = command("sh");
    cmd.args(["-c", again, again]).env("SWARM_TEST_TREE", "restless");
    let mut child = spawn(&mut cmd).unwrap();
    let looks = (0..500).filter(|_| find_marked("SWARM_TEST_TREE", "restless").unwrap().is_empty());
    assert_eq!(looks.count(), 0, "looks that missed it");
    assert_eq!(stop_marked("SWARM_TEST_TREE", "restless", Duration::from_secs(5)).unwrap(), 1);
    child.wait().unwrap();
    forget(child.id());
}

#[test]
fn a_missing_program_is_named() {
    let error = run(&Invocation::new("no-such-program-here", "/")).unwrap_err();
    assert_eq!(error.to_string(), "could not start `no-such-program-here`");
}

use rustix::process::Pid;

#[test]
fn a_child_that_was_let_go_leaves_the_process_table_when_it_has_ended() {
    let child = spawn(command("sh").args(["-c", "exit 3"])).unwrap();
    let pid = child.id();
    let_go(child);
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::path::Path::new(&format!("/proc/{pid}")).exists() {
        assert!(Instant::now() < deadline, "it is still there");
        collect_ended();
        std::thread::yield_now();
    }
    assert!(!is_waited(pid));
}
