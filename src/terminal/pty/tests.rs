use std::collections::BTreeMap;
use std::time::Instant;

use super::*;
use crate::process::{Invocation, run};

fn command(argv: &[&str]) -> PtyCommand {
    PtyCommand {
        argv: argv.iter().map(OsString::from).collect(),
        env: vec![("PATH".into(), "/usr/bin:/bin".into()), ("SHELL".into(), "/bin/sh".into())],
        cwd: "/".into(),
        size: Size { columns: 80, rows: 24 },
        raw: false,
        stdin: None,
    }
}

fn sh(script: &str) -> PtyCommand {
    command(&["sh", "-c", script])
}

const LONG: Duration = Duration::from_secs(20);

/// Everything it writes until it and its terminal have ended.
async fn finish(pty: &Pty) -> (String, ExitInfo) {
    let mut output = Vec::new();
    let drained = pty.drain(LONG, |bytes| output.extend_from_slice(bytes)).await.unwrap();
    assert_eq!(drained, Drained::End);
    (String::from_utf8(output).unwrap(), pty.wait().await.unwrap())
}

/// Reads until the text has come.
async fn until(pty: &Pty, text: &str) -> String {
    let mut output = String::new();
    let mut buffer = [0; 4096];
    let read = async {
        while !output.contains(text) {
            let count = pty.read(&mut buffer).await.unwrap();
            assert!(count > 0, "ended with {output:?}");
            output.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    };
    tokio::time::timeout(LONG, read).await.unwrap();
    output
}

#[tokio::test]
async fn exit_codes_and_signals_come_back() {
    let coded = Pty::spawn(&sh("printf hello; exit 7")).unwrap();
    assert_eq!(finish(&coded).await, ("hello".into(), ExitInfo { code: Some(7), signal: None }));
    let killed = Pty::spawn(&sh("kill -TERM $$")).unwrap();
    assert_eq!(finish(&killed).await.1, ExitInfo { code: None, signal: Some(15) });
    assert_eq!(killed.wait().await.unwrap().signal, Some(15));
}

#[tokio::test]
async fn the_environment_is_exactly_what_was_given() {
    let mut command = command(&["env", "-0"]);
    command.env.push(("ODD".into(), "a\nb=c '\"`$HOME ü".into()));
    let (output, _) = finish(&Pty::spawn(&PtyCommand { raw: true, ..command }).unwrap()).await;
    let found: BTreeMap<&str, &str> = output.split_terminator('\0').filter_map(|pair| pair.split_once('=')).collect();
    let expected = [("PATH", "/usr/bin:/bin"), ("SHELL", "/bin/sh"), ("ODD", "a\nb=c '\"`$HOME ü")];
    assert_eq!(found, BTreeMap::from(expected));
}

#[tokio::test]
async fn arguments_arrive_as_they_are() {
    let odd = ["a b", "", "`id`", "$HOME", "line\nline", "q'\"", ";", "-n", "ü"];
    let argv: Vec<&str> = ["printf", "[%s]"].into_iter().chain(odd).collect();
    let (output, _) = finish(&Pty::spawn(&PtyCommand { raw: true, ..command(&argv) }).unwrap()).await;
    assert_eq!(output, odd.map(|word| format!("[{word}]")).concat());
}

#[tokio::test]
async fn the_program_leads_a_session_with_this_terminal_and_this_folder() {
    let folder = tempfile::tempdir().unwrap();
    let cwd = folder.path().canonicalize().unwrap();
    let script = "test -t 0 && test -t 1 && test -t 2 && : >/dev/tty && pwd && cut -d' ' -f5,6 /proc/$$/stat; ls /proc/self/fd | wc -l";
    let pty = Pty::spawn(&PtyCommand { cwd: cwd.clone(), ..sh(script) }).unwrap();
    let pid = pty.child_pid();
    let (output, exit) = finish(&pty).await;
    // `ls` itself opens the fourth descriptor.
    assert_eq!(output, format!("{}\r\n{pid} {pid}\r\n4\r\n", cwd.display()));
    assert_eq!(exit.code, Some(0));
}

#[tokio::test]
async fn ten_megabytes_come_through_whole_with_bounded_reads() {
    let raw = PtyCommand { raw: true, ..sh("yes 0123456789abcde | head -c 10000000; exit 3") };
    let pty = Pty::spawn(&raw).unwrap();
    let (mut total, mut buffer) = (0, [0; 4096]);
    loop {
        match pty.read(&mut buffer).await.unwrap() {
            0 => break,
            count => total += count,
        }
    }
    assert_eq!((total, pty.wait().await.unwrap().code), (10_000_000, Some(3)));
}

#[tokio::test]
async fn a_raw_terminal_changes_no_byte() {
    let raw = PtyCommand { raw: true, ..sh(r"printf '{}\n'; head -c 5 | od -An -tx1; stty -a") };
    let pty = Pty::spawn(&raw).unwrap();
    until(&pty, "{}\n").await;
    pty.write_all(b"a\r\n\x03\x04").await.unwrap();
    let (output, _) = finish(&pty).await;
    assert!(output.starts_with(" 61 0d 0a 03 04\n"), "{output:?}");
    assert!(output.contains("-echo ") && output.contains("-opost"), "{output}");
    let cooked = Pty::spawn(&sh("printf 'x\\n'")).unwrap();
    assert_eq!(finish(&cooked).await.0, "x\r\n");
}

#[tokio::test]
async fn a_resize_is_seen_by_the_program() {
    let pty = Pty::spawn(&sh("trap 'stty size; exit' WINCH; stty size; while :; do sleep 0.05; done")).unwrap();
    until(&pty, "24 80\r\n").await;
    pty.resize(Size { columns: 132, rows: 43 }).unwrap();
    until(&pty, "43 132\r\n").await;
    assert_eq!(pty.wait().await.unwrap().code, Some(0));
}

#[tokio::test]
async fn writing_waits_for_a_program_that_does_not_read_and_holds_nothing_else() {
    let pty = Pty::spawn(&PtyCommand { raw: true, ..sh("echo ready; exec sleep 300") }).unwrap();
    until(&pty, "ready").await;
    let much = vec![b'x'; 1 << 20];
    let stuck = tokio::time::timeout(Duration::from_millis(200), pty.write_all(&much)).await;
    assert!(stuck.is_err());
    rustix::process::kill_process(pty.child.pid, Signal::KILL).unwrap();
    assert_eq!(pty.wait().await.unwrap().signal, Some(9));
}

#[tokio::test]
async fn reading_and_writing_go_on_at_once() {
    let pty = Pty::spawn(&PtyCommand { raw: true, ..command(&["cat"]) }).unwrap();
    let sent: Vec<u8> = (0..2_000_000_u32).map(|at| b'a' + (at % 23) as u8).collect();
    let mut back = Vec::new();
    let mut buffer = [0; 8192];
    let write = pty.write_all(&sent);
    tokio::pin!(write);
    let mut written = false;
    while back.len() < sent.len() {
        tokio::select! {
            result = &mut write, if !written => { result.unwrap(); written = true; }
            count = pty.read(&mut buffer) => back.extend_from_slice(&buffer[..count.unwrap()]),
        }
    }
    assert!(back == sent);
    rustix::process::kill_process(pty.child.pid, Signal::KILL).unwrap();
    pty.wait().await.unwrap();
}

#[tokio::test]
async fn the_end_of_the_program_is_seen_while_a_left_over_holds_the_terminal() {
    let pty = Pty::spawn(&sh(
        "setsid sh -c 'trap \"\" HUP; echo $$; exec sleep 300' & read pid <&- ; sleep 0.3; echo done; exit 5",
    ))
    .unwrap();
    let started = Instant::now();
    assert_eq!(pty.wait().await.unwrap().code, Some(5));
    let mut output = Vec::new();
    let drained = pty.drain(Duration::from_millis(300), |bytes| output.extend_from_slice(bytes)).await.unwrap();
    let output = String::from_utf8(output).unwrap();
    assert_eq!(drained, Drained::Held, "{output}");
    assert!(output.contains("done") && started.elapsed() < LONG);
    let pid = output.lines().find_map(|line| line.trim().parse().ok()).and_then(Pid::from_raw).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    assert_eq!(pty.drain(LONG, |_| {}).await.unwrap(), Drained::End);
}

#[tokio::test]
async fn a_program_that_ignores_the_hangup_lives_on_and_one_that_does_not_ends() {
    let stubborn = Pty::spawn(&sh("trap '' HUP; echo ready; exec sleep 300")).unwrap();
    let meek = Pty::spawn(&sh("echo ready; exec sleep 300")).unwrap();
    until(&stubborn, "ready").await;
    until(&meek, "ready").await;
    let pids = (stubborn.child.pid, meek.child.pid);
    let meek_end = pidfd_open(pids.1, PidfdFlags::empty()).unwrap();
    drop((stubborn, meek));
    let meek_end = watch(meek_end, Interest::READABLE).unwrap();
    tokio::time::timeout(LONG, meek_end.readable()).await.unwrap().unwrap().retain_ready();
    // Dropping may have collected it already.
    waitpid(Some(pids.1), WaitOptions::empty()).ok();
    assert_eq!(waitpid(Some(pids.0), WaitOptions::NOHANG).unwrap().map(|_| ()), None);
    rustix::process::kill_process(pids.0, Signal::KILL).unwrap();
    waitpid(Some(pids.0), WaitOptions::empty()).unwrap();
}

#[tokio::test]
async fn a_stopped_program_is_told_once() {
    let pty = Pty::spawn(&sh("echo ready; exec sleep 300")).unwrap();
    until(&pty, "ready").await;
    assert!(!pty.take_stop());
    rustix::process::kill_process(pty.child.pid, Signal::STOP).unwrap();
    let deadline = Instant::now() + LONG;
    while !pty.take_stop() {
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    assert!(!pty.take_stop());
    rustix::process::kill_process(pty.child.pid, Signal::KILL).unwrap();
    assert_eq!(pty.wait().await.unwrap().signal, Some(9));
}

#[tokio::test]
async fn standard_input_can_come_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("it's a \"prompt\" $(id)");
    crate::files::write_new(&file, b"from the file").unwrap();
    let command = PtyCommand { stdin: Some(file), ..sh("cat; test -t 1 && echo \" $0 $1\"; exit 4") };
    let mut command = PtyCommand { raw: true, ..command };
    command.argv.extend(["zero".into(), "one;".into()]);
    let (output, exit) = finish(&Pty::spawn(&command).unwrap()).await;
    assert_eq!((output.as_str(), exit.code), ("from the file zero one;\n", Some(4)));
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let script = |name: &str, text: &str| {
        let path = folder.path().join(name);
        crate::files::write_new(&path, text.as_bytes()).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let failure = |command: &PtyCommand| crate::model::error_text(&Pty::spawn(command).unwrap_err());

    assert!(failure(&command(&["no-such-program"])).contains("no executable `no-such-program` found"));
    assert!(failure(&command(&["/etc/passwd"])).contains("/etc/passwd"));
    assert!(failure(&command(&["/etc"])).contains("no executable"));
    assert!(failure(&command(&[])).contains("no program named"));
    assert!(
        failure(&PtyCommand { cwd: "/no/such/folder".into(), ..sh("pwd") })
            .contains("`/no/such/folder` is not a folder")
    );
    let bad = script("bad", "#! /no/such/interpreter -x\n");
    assert!(
        failure(&command(&[&bad])).contains("names the interpreter `/no/such/interpreter`"),
        "{}",
        failure(&command(&[&bad]))
    );
    let empty = PtyCommand { env: Vec::new(), ..sh("true") };
    assert!(failure(&empty).contains("no executable `sh`"));
    assert!(failure(&command(&["true", &"x".repeat(200_000)])).contains("argument 1 takes 200001 bytes"));
    assert!(failure(&command(&["true", "a\0b"])).contains("argument 1 holds a zero byte"));
    let most = vec!["x".repeat(120_000); 100];
    let argv: Vec<&str> = ["true"].into_iter().chain(most.iter().map(String::as_str)).collect();
    assert!(failure(&command(&argv)).contains("over the limit"));

    let good = script("good", "#!/bin/sh\necho fine\n");
    assert_eq!(finish(&Pty::spawn(&command(&[&good])).unwrap()).await.0, "fine\r\n");
    let relative = PtyCommand { cwd: folder.path().into(), ..command(&["./good"]) };
    assert_eq!(finish(&Pty::spawn(&relative).unwrap()).await.0, "fine\r\n");
}

#[test]
fn concurrent_starts_leak_no_descriptor_into_other_children() {
    let leaks =
        |output: &str| output.lines().filter(|line| line.contains("/dev/ptmx") || line.contains("/dev/pts/")).count();
    let opener = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for _ in 0..40 {
                let pty = Pty::spawn(&command(&["ls", "-l", "/proc/self/fd"])).unwrap();
                let (output, _) = finish(&pty).await;
                assert_eq!((leaks(&output), output.contains("/dev/ptmx")), (3, false), "{output}");
            }
        });
    };
    let runner = || {
        for _ in 0..40 {
            let output = run(&Invocation::new("ls", "/").args(["-l", "/proc/self/fd"])).unwrap().text();
            assert_eq!(leaks(&output), 0, "{output}");
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(opener);
            scope.spawn(runner);
        }
    });
}

/// Seen about once in 25,000 programs that write and end while the master is being read.
#[test]
fn what_was_written_just_before_the_end_is_not_lost() {
    let read = |answers: &[rustix::io::Result<usize>]| {
        let mut answers = answers.iter().copied();
        unless_hung_up(|| answers.next().unwrap()).map_err(|error| error.kind())
    };
    assert_eq!(read(&[Err(Errno::IO), Ok(20)]), Ok(20));
    assert_eq!(read(&[Err(Errno::IO), Err(Errno::IO)]), Ok(0));
    assert_eq!(read(&[Err(Errno::AGAIN)]), Err(io::ErrorKind::WouldBlock));
    assert_eq!(read(&[Err(Errno::IO), Err(Errno::INTR)]), Err(io::ErrorKind::Interrupted));
}

#[tokio::test]
async fn ended_terminals_leave_no_descriptor_and_no_zombie() {
    let open_terminals = || {
        let entries = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let links = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        links.filter(|link| link.to_string_lossy().starts_with("/dev/pt")).count()
    };
    for _ in 0..200 {
        let pty = Pty::spawn(&command(&["true"])).unwrap();
        finish(&pty).await;
        let pid = pty.child.pid;
        drop(pty);
        assert!(waitpid(Some(pid), WaitOptions::NOHANG).is_err());
    }
    // Other tests have some open at the same time.
    assert!(open_terminals() < 100);
}
