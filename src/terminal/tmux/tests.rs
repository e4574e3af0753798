use std::io::{Read, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::super::pty::Drained;
use super::super::{Pty, PtyCommand, Screen};
use super::*;

/// A server of a test's own; ended when the test ends.
struct Server {
    tmux: Tmux,
    folder: tempfile::TempDir,
}

impl Server {
    fn new() -> Self {
        Self::with_config("")
    }

    fn with_config(config: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tmux.conf");
        // Keys of a test come faster than a person's; none is a paste.
        let config = format!("set -g assume-paste-time 0\n{config}");
        crate::files::write_new(&path, config.as_bytes()).unwrap();
        let socket = format!("swarm-unit-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let env = [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/"), ("SECRET_TOKEN", "hunter2"), ("LANG", "C")];
        let mut env: Vec<(OsString, OsString)> = env.map(|(name, value)| (name.into(), value.into())).into();
        env.push(("TMUX_TMPDIR".into(), folder.path().into()));
        Self { tmux: Tmux::new(socket, Some(path), env), folder }
    }

    fn start(&self, name: &str, argv: &[&str]) -> TmuxSession {
        self.tmux.new_session(&self.plan(name, argv)).unwrap()
    }

    fn plan(&self, name: &str, argv: &[&str]) -> NewTmuxSession {
        let argv = argv.iter().map(OsString::from).collect();
        NewTmuxSession { name: name.to_owned(), cwd: self.folder.path().to_owned(), argv, size: Size::UNSEEN }
    }

    fn raw(&self, args: &[&str]) -> String {
        let answer = self.tmux.call(Path::new("/"), args.iter().map(OsString::from).collect()).unwrap();
        assert!(answer.status.success(), "{args:?}: {}", String::from_utf8_lossy(&answer.stderr));
        answer.text()
    }

    fn names(&self) -> Vec<String> {
        self.tmux.list().unwrap().into_iter().map(|pane| pane.session.name).collect()
    }

    /// The pane once its program has ended.
    fn ended(&self, session: &TmuxSession) -> TmuxPane {
        wait_for(|| {
            self.tmux
                .list()
                .unwrap()
                .into_iter()
                .find(|pane| pane.session == *session && pane.is_dead && pane.exit_code.is_some())
        })
    }

    /// What a file in the folder holds once it is there whole.
    fn written(&self, name: &str, end: &str) -> String {
        let path = self.folder.path().join(name);
        wait_for(|| std::fs::read_to_string(&path).ok().filter(|text| text.ends_with(end)))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tmux.call(Path::new("/"), vec!["kill-server".into()]).ok();
    }
}

fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long");
        std::thread::yield_now();
    }
}

const SLEEP: &[&str] = &["sleep", "300"];

#[test]
fn a_session_is_made_listed_and_ended() {
    let server = Server::new();
    assert!(server.tmux.available().unwrap() >= OLDEST);
    assert!(server.names().is_empty());
    let session = server.start("repo-abc123-w1", SLEEP);
    assert_eq!((session.id.as_str(), session.name.as_str()), ("$0", "repo-abc123-w1"));
    let panes = server.tmux.list().unwrap();
    assert_eq!((panes.len(), panes[0].is_dead, panes[0].clients), (1, false, 0));
    assert!(server.tmux.has_session(&session).unwrap());
    assert_eq!(server.tmux.find(&session.name).unwrap().as_ref(), Some(&session));
    assert!(server.tmux.kill_session(&session).unwrap());
    assert!(!server.tmux.has_session(&session).unwrap());
    assert!(!server.tmux.kill_session(&session).unwrap());
}

#[test]
fn arguments_and_folder_arrive_as_they_are() {
    let server = Server::new();
    let folder = server.folder.path().join("a b;#(touch hacked) #{pid} %H ü");
    std::fs::create_dir(&folder).unwrap();
    let odd = [
        "a b",
        "",
        "`id`",
        "$HOME",
        "#{pid}",
        "line\nline",
        "q'\"",
        ";",
        "x;",
        "x\\;",
        "\\;",
        ";;",
        "-t",
        "{",
        "ü",
        "~",
    ];
    let script = "pwd >out; printf '[%s]' \"$@\" >>out; echo end >>out";
    let argv: Vec<&str> = ["sh", "-c", script, "sh"].into_iter().chain(odd).collect();
    let plan = NewTmuxSession { cwd: folder.clone(), ..server.plan("r-1-w", &argv) };
    let session = server.tmux.new_session(&plan).unwrap();
    server.ended(&session);
    let text = std::fs::read_to_string(folder.join("out")).unwrap();
    let canonical = folder.canonicalize().unwrap();
    assert_eq!(text, format!("{}\n{}end\n", canonical.display(), odd.map(|word| format!("[{word}]")).concat()));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
}

#[test]
fn a_lone_program_is_no_shell_command() {
    let server = Server::new();
    let path = server.folder.path().join("a prog; $(touch hacked)");
    crate::files::write_new(&path, b"#!/bin/sh\necho $# >ran\n").unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let session = server.start("r-1-w", &[path.to_str().unwrap()]);
    server.ended(&session);
    assert_eq!(server.written("ran", "\n"), "0\n");
    assert!(!server.folder.path().join("hacked").exists());
}

#[test]
fn the_pane_sees_no_secret_of_the_caller() {
    let server = Server::new();
    server.start("r-1-w", &["sh", "-c", "env >env; tmux show-environment -g >>env; echo end >>env; sleep 300"]);
    let text = server.written("env", "end\n");
    assert!(text.contains("PATH=") && !text.contains("SECRET_TOKEN") && !text.contains("hunter2"), "{text}");
}

#[test]
fn a_program_that_ends_at_once_leaves_its_code() {
    let server = Server::new();
    let session = server.start("r-1-w", &["sh", "-c", "exit 3"]);
    assert_eq!(server.ended(&session).exit_code, Some(3));
    let killed = server.start("r-1-k", &["sh", "-c", "kill -9 $$"]);
    let is_killed = |pane: &TmuxPane| pane.session == killed && pane.is_killed;
    wait_for(|| server.tmux.list().unwrap().into_iter().find(is_killed));
}

#[test]
fn the_screen_of_an_ended_program_can_be_read() {
    let server = Server::new();
    let session = server.start("r-1-w", &["sh", "-c", "echo last words; until [ -e go ]; do sleep 0.02; done"]);
    // tmux itself drops, now and then, what a program wrote in its last instant.
    wait_for(|| server.tmux.capture(&session).unwrap().contains("last words").then_some(()));
    crate::files::write_new(&server.folder.path().join("go"), b"").unwrap();
    server.ended(&session);
    let screen = server.tmux.capture(&session).unwrap();
    assert!(screen.starts_with("last words\n"), "{screen}");
}

#[test]
fn names_that_are_prefixes_of_each_other_are_never_confused() {
    let server = Server::new();
    let long = server.start("r-1-w12", SLEEP);
    let gone = TmuxSession { id: "$7".to_owned(), name: "r-1-w1".to_owned(), ..long.clone() };
    assert!(!server.tmux.has_session(&gone).unwrap());
    assert!(!server.tmux.kill_session(&gone).unwrap());
    assert!(matches!(server.tmux.capture(&gone), Err(TmuxError::Gone(_))));
    let short = server.start("r-1-w1", SLEEP);
    assert!(server.tmux.kill_session(&short).unwrap());
    assert_eq!(server.names(), ["r-1-w12"]);
}

#[test]
fn an_id_that_names_another_session_now_is_left_alone() {
    let server = Server::new();
    let old = server.start("r-1-old", SLEEP);
    server.raw(&["kill-server"]);
    let new = server.start("r-1-new", SLEEP);
    assert_eq!(old.id, new.id);
    assert!(!server.tmux.has_session(&old).unwrap());
    assert!(!server.tmux.kill_session(&old).unwrap());
    assert!(matches!(server.tmux.capture(&old), Err(TmuxError::Gone(_))));
    assert!(server.tmux.has_session(&new).unwrap());
}

#[test]
fn a_taken_name_is_told_with_its_session() {
    let server = Server::new();
    let first = server.start("r-1-w", SLEEP);
    let error = server.tmux.new_session(&server.plan("r-1-w", SLEEP)).unwrap_err();
    assert!(matches!(error, TmuxError::Exists(session) if session == first));
    assert_eq!(server.names().len(), 1);
}

#[test]
fn a_killed_server_is_no_sessions_and_a_new_one_starts_at_once() {
    let server = Server::new();
    for round in 0..10 {
        let session = server.start("r-1-w", SLEEP);
        if round % 2 == 0 {
            server.raw(&["kill-server"]);
        } else {
            assert!(server.tmux.kill_session(&session).unwrap());
        }
    }
    assert!(!server.tmux.has_session(&server.start("r-1-last", &["true"])).unwrap() || !server.names().is_empty());
    server.raw(&["kill-server"]);
    wait_for(|| server.tmux.list().ok().filter(Vec::is_empty));
}

#[test]
fn a_persons_own_settings_do_not_matter() {
    let config = "set -g base-index 1\nset -g pane-base-index 1\nset -g renumber-windows on\nset -g destroy-unattached on\n\
        set -g default-command 'false'\nset -g default-shell /bin/false\n";
    let server = Server::with_config(config);
    let session = server.start("r-1-w", &["sh", "-c", "exit 4"]);
    assert_eq!(server.ended(&session).exit_code, Some(4));
    assert!(server.tmux.capture(&session).unwrap().contains("dead"));
    server.raw(&["split-window", "-t", &target(&session), "sleep", "300"]);
    assert_eq!(server.names(), ["r-1-w"]);
    assert!(server.ended(&session).is_dead);
    assert!(server.tmux.kill_session(&session).unwrap());
}

#[test]
fn two_servers_do_not_see_each_other() {
    let (one, two) = (Server::new(), Server::new());
    let session = one.start("r-1-w", SLEEP);
    let other = two.start("r-1-w", SLEEP);
    assert!(one.tmux.kill_session(&session).unwrap());
    assert!(two.tmux.has_session(&other).unwrap() && one.names().is_empty());
}

#[test]
fn a_socket_can_be_a_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("my socket").to_str().unwrap().to_owned();
    let server = Server { tmux: Tmux::new(path, None, [("PATH".into(), "/usr/bin:/bin".into())]), folder };
    let session = server.start("r-1-w", SLEEP);
    assert!(server.tmux.has_session(&session).unwrap());
    let argv = server.tmux.attach_command(&session, true);
    assert!(argv.contains(&"-S".into()) && argv.contains(&"-r".into()) && argv.contains(&"=$0".into()), "{argv:?}");
}

#[test]
fn many_sessions_are_one_listing() {
    let server = Server::new();
    let made: Vec<TmuxSession> = (0..12).map(|at| server.start(&format!("r-1-w{at}"), SLEEP)).collect();
    let listed: Vec<TmuxSession> = server.tmux.list().unwrap().into_iter().map(|pane| pane.session).collect();
    assert_eq!(listed, made);
}

#[test]
fn what_cannot_start_is_told_before_a_session_is_made() {
    let server = Server::new();
    assert!(matches!(server.tmux.new_session(&server.plan("r-1-w", &["no-such-program"])), Err(TmuxError::Program(_))));
    let plan = NewTmuxSession { cwd: "/no/such".into(), ..server.plan("r-1-w", SLEEP) };
    assert!(matches!(server.tmux.new_session(&plan), Err(TmuxError::Program(ProgramError::Folder(_)))));
    let none = Tmux::new("swarm-unit-none", None, [("PATH".into(), server.folder.path().into())]);
    assert!(matches!(none.available(), Err(TmuxError::Missing(_))));
    assert!(server.names().is_empty());
}

#[test]
fn a_server_that_cannot_be_asked_is_not_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    // Takes calls and hangs up, until the test has closed its end.
    let answering = std::thread::spawn(move || listener.incoming().any(|client| said_end(client.unwrap())));
    let tmux = Tmux::new(path.to_str().unwrap(), None, [("PATH".into(), "/usr/bin:/bin".into())]);
    assert!(matches!(tmux.list(), Err(TmuxError::Refused { .. })));
    UnixStream::connect(&path).unwrap().write_all(b"end").unwrap();
    assert!(answering.join().unwrap());
}

/// Whether a client says `end` at once.
fn said_end(mut client: UnixStream) -> bool {
    client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut said = [0; 3];
    client.read_exact(&mut said).is_ok() && &said == b"end"
}

#[test]
fn the_way_to_attach_depends_on_where_the_person_sits() {
    let server = Server::new();
    let session = TmuxSession { socket: "s".to_owned(), id: "$3".to_owned(), name: "r-1-w".to_owned() };
    let outside = server.tmux.attach_plan(&session, false, None);
    assert_eq!((outside.len(), outside[0].argv[0].to_str()), (1, Some("tmux")));
    assert_eq!(server.tmux.attach_plan(&session, false, Some("")), outside);
    let nested = server.tmux.attach_plan(&session, true, Some("/tmp/tmux-0/default,1,0"));
    assert_eq!((nested[0].argv[1].to_str(), nested[1].unset), (Some("display-popup"), &["TMUX", "TMUX_PANE"][..]));
    let own = format!("{},1,0", server.tmux.socket_path().display());
    let same = server.tmux.attach_plan(&session, false, Some(&own));
    assert!(same[0].argv.contains(&"switch-client".into()) && same[0].argv.contains(&"=$3".into()));
}

#[test]
fn sessions_made_at_once_on_a_server_that_does_not_run_yet_all_come_up() {
    let server = Server::new();
    std::thread::scope(|scope| {
        for at in 0..6 {
            let server = &server;
            scope.spawn(move || server.start(&format!("r-1-w{at}"), SLEEP));
        }
    });
    assert_eq!(server.names().len(), 6);
}

/// A client of a server in a terminal of ours.
struct Client {
    pty: Pty,
    screen: Screen,
}

impl Client {
    fn attach(server: &Server, session: &TmuxSession) -> Self {
        let mut env = server.tmux.env.clone();
        env.push(("TERM".into(), "xterm-256color".into()));
        let (argv, size) = (server.tmux.attach_command(session, false), Size { columns: 90, rows: 20 });
        let command = PtyCommand { argv, env, cwd: "/".into(), size, raw: false, stdin: None };
        Self { pty: Pty::spawn(&command).unwrap(), screen: Screen::new(size) }
    }

    async fn sees(&mut self, text: &str) {
        let mut buffer = [0; 4096];
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while !self.screen.last_lines(20).iter().any(|line| line.contains(text)) {
            let read = tokio::time::timeout_at(deadline, self.pty.read(&mut buffer)).await;
            let count = read.unwrap_or_else(|_| panic!("{:#?}", self.screen.last_lines(20))).unwrap();
            assert!(count > 0);
            let replies = self.screen.feed(&buffer[..count]);
            self.pty.write_all(&replies).await.unwrap();
        }
    }

    async fn detach(self) {
        self.pty.write_all(b"\x02d").await.unwrap();
        let drained = self.pty.drain(Duration::from_secs(20), |_| {}).await.unwrap();
        assert_eq!(drained, Drained::End);
        assert_eq!(self.pty.wait().await.unwrap().code, Some(0));
    }
}

#[tokio::test]
async fn an_attached_client_shows_the_pane_and_leaves_it_running() {
    let server = Server::new();
    let session = server.start("r-1-w", &["sh", "-c", "echo hello from the pane; sleep 300"]);
    let mut client = Client::attach(&server, &session);
    client.sees("hello from the pane").await;
    assert_eq!(server.tmux.list().unwrap()[0].clients, 1);
    client.detach().await;
    assert!(server.tmux.has_session(&session).unwrap());
}

#[tokio::test]
async fn from_inside_another_tmux_every_way_to_attach_shows_the_session() {
    let (inner, outer) = (Server::new(), Server::new());
    let session = inner.start("r-1-w", &["sh", "-c", "echo hello from inside; sleep 300"]);
    for (way, step) in inner.tmux.attach_plan(&session, false, Some("/elsewhere,1,0")).into_iter().enumerate() {
        let mut argv =
            ["sh", "-c", r#"until tmux list-clients | grep -q .; do sleep 0.05; done; exec "$@""#, "sh", "env"]
                .map(OsString::from)
                .to_vec();
        argv.extend(step.unset.iter().flat_map(|name| ["-u".into(), OsString::from(name)]));
        argv.push(OsString::from(format!("TMUX_TMPDIR={}", inner.folder.path().display())));
        argv.extend(step.argv);
        let plan = NewTmuxSession { argv, ..outer.plan(&format!("outer-{way}"), &[]) };
        let shell = outer.tmux.new_session(&plan).unwrap();
        let mut client = Client::attach(&outer, &shell);
        client.sees("hello from inside").await;
        assert!(outer.tmux.kill_session(&shell).unwrap());
        wait_for(|| (inner.tmux.list().unwrap()[0].clients == 0).then_some(()));
    }
    assert!(inner.tmux.has_session(&session).unwrap());
}

#[tokio::test]
async fn on_the_same_server_the_persons_client_switches() {
    let server = Server::new();
    let target = server.start("r-1-target", &["sh", "-c", "echo the other session; sleep 300"]);
    let outer = format!("{},1,0", server.tmux.socket_path().display());
    let step = server.tmux.attach_plan(&target, false, Some(&outer)).swap_remove(0);
    let script = r#"until tmux list-clients | grep -q .; do sleep 0.05; done; "$@"; sleep 300"#;
    let mut argv = ["sh", "-c", script, "sh"].map(OsString::from).to_vec();
    argv.extend(step.argv);
    let home = server.tmux.new_session(&NewTmuxSession { argv, ..server.plan("r-1-home", &[]) }).unwrap();
    let mut client = Client::attach(&server, &home);
    client.sees("the other session").await;
    client.detach().await;
    assert!(server.tmux.has_session(&home).unwrap() && server.tmux.has_session(&target).unwrap());
}
