//! Where runs are played: a repository on a small file system of its own, in a mount and process namespace of its own, with
//! a clock, pids and a boot id that the test decides.
//!
//! The namespace takes root, or the right to make user namespaces. Where there is neither, runs are played in the open and
//! it is said which faults cannot fall there.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::{FileExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::super::blow::{freeze, send, signal};
use crate::support::swarm::TestSwarm;

/// Says to the test that it is in its namespace.
const INSIDE: &str = "SWARM_CHAOS_NAMESPACE";
/// Bytes of the file system with repository, state and worktrees: several times what a play takes.
const DISK: &str = "size=160m";
/// The first process of the namespace: a shell that also takes leave of the processes that nobody waits for.
const INIT: &str = "\"$@\"; exit $?";

/// Where the test has to be played.
#[derive(Debug)]
pub(super) enum Stage {
    /// It was played, in a namespace of its own.
    Played,
    /// Here: this is the namespace.
    Namespace,
    /// Here, where everybody is; why.
    Open(String),
}

/// Runs the test `name` of this program in a namespace of its own and tells what it says, where that is possible and it does
/// not run there already.
#[expect(clippy::disallowed_methods, reason = "the door in `process` is not visible to integration tests")]
pub(super) fn enter_namespace(name: &str, tell: impl Fn(&str)) -> Stage {
    if std::env::var_os(INSIDE).is_some() {
        return Stage::Namespace;
    }
    let unshare = |argv: &[&OsStr]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(argv).stdin(Stdio::null());
        command
    };
    // Where namespaces can be made, mounting may be forbidden all the same.
    let tried = unshare(&["mount", "-t", "tmpfs", "chaos", "/mnt"].map(OsStr::new)).output().unwrap();
    if !tried.status.success() {
        return Stage::Open(String::from_utf8_lossy(&tried.stderr).trim().to_owned());
    }
    let program = std::env::current_exe().unwrap();
    let mut command = unshare(&["sh", "-c", INIT, "sh"].map(OsStr::new));
    command.arg(program).args([name, "--exact", "--nocapture", "--test-threads=1"]);
    command.env(INSIDE, "1").env_remove("NEXTEST");
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        tell(&line.unwrap());
    }
    let status = child.wait().unwrap();
    assert!(status.success(), "{name} failed in its namespace ({status})");
    Stage::Played
}

/// A repository that any machine may befall.
#[derive(Debug)]
pub(super) struct Place {
    /// The repository and its surroundings.
    pub(super) swarm: TestSwarm,
    /// Whether disk, clock, pids and boot id are the test's own.
    pub(super) has_machine: bool,
    /// How often the machine was started again.
    boots: u32,
}

impl Place {
    /// An empty repository, on an empty disk of its own where the test has a machine.
    pub(super) fn new(has_machine: bool) -> Self {
        let mut swarm = TestSwarm::without_repository();
        let root = swarm.root().to_owned();
        swarm.set_env("CHAOS", root.as_os_str());
        fs::create_dir(root.join("disk")).unwrap();
        let place = Self { swarm, has_machine, boots: 0 };
        if has_machine {
            place.take_machine();
        }
        for name in ["project", "project-worktrees"] {
            fs::create_dir(root.join("disk").join(name)).unwrap();
            symlink(root.join("disk").join(name), root.join(name)).unwrap();
        }
        place.swarm.git(["init", "--quiet", "-b", "main"]).success();
        place.swarm.git(["config", "user.name", "Test Person"]).success();
        place.swarm.git(["config", "user.email", "person@example.com"]).success();
        // A machine in trouble is no time for a big clean-up in the background.
        place.swarm.git(["config", "gc.auto", "0"]).success();
        place
    }

    /// Gives the machine a small disk, and a clock and pids that the test decides.
    fn take_machine(&self) {
        let (swarm, root) = (&self.swarm, self.swarm.root());
        swarm.write_at(&root.join("clock"), "\0\0\0\0\0\0\0\0");
        let clock = format!("-DCLOCK_FILE=\"{}\"", root.join("clock").display());
        for (source, to, flags) in [
            (include_str!("clock.c"), "clock.so", &["-shared", "-fPIC", &clock][..]),
            (include_str!("at_pid.c"), "at_pid", &[]),
        ] {
            let file = root.join(format!("{to}.c"));
            swarm.write_at(&file, source);
            let mut command = swarm.command("cc", root);
            let status = command.args(["-O1", "-Wall", "-Werror", "-o", to]).args(flags).arg(&file).status().unwrap();
            assert!(status.success(), "{command:?}");
        }
        self.call(&["mount", "-t", "tmpfs", "-o", DISK, "chaos", "disk"]);
        // Every program gets the clock, whatever environment it is given. What may not be read of these files is not needed.
        swarm.command("cp", root).args(["-a", "/etc", "etc"]).stderr(Stdio::null()).status().unwrap();
        swarm.write_at(&root.join("etc/ld.so.preload"), &root.join("clock.so").display().to_string());
        self.call(&["mount", "--bind", "etc", "/etc"]);
    }

    /// Runs a program of the machine, which has to succeed.
    fn call(&self, argv: &[&str]) {
        let mut command = self.swarm.command(argv[0], self.swarm.root());
        let output = command.args(&argv[1..]).output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The folder on the small disk.
    fn disk(&self) -> PathBuf {
        self.swarm.root().join("disk")
    }

    /// Sets the clock that many seconds off the real one, for everything that runs on the test's own machine.
    pub(super) fn set_clock(&self, off: i64) {
        if !self.has_machine {
            return;
        }
        let file = File::options().write(true).open(self.swarm.root().join("clock")).unwrap();
        file.write_all_at(&(off * 1_000_000_000).to_ne_bytes(), 0).unwrap();
    }

    /// Takes up all that is left of the disk.
    pub(super) fn fill_disk(&self) {
        let mut ballast = File::create(self.disk().join("ballast")).unwrap();
        let mut piece = vec![1; 1 << 20];
        while !piece.is_empty() {
            match ballast.write(&piece) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => piece.truncate(piece.len() / 16),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Gives that back.
    pub(super) fn free_disk(&self) {
        fs::remove_file(self.disk().join("ballast")).unwrap();
    }

    /// Stops everything; what was stopped.
    pub(super) fn freeze(&self) -> Vec<u32> {
        freeze(|| self.swarm.processes().into_iter().map(|(pid, _)| pid).collect()).into_iter().collect()
    }

    /// Kills everything; how many there were.
    pub(super) fn kill_everything(&self) -> usize {
        self.freeze().into_iter().filter(|pid| signal(*pid, Signal::KILL)).count()
    }

    /// Waits until nothing of ours runs.
    pub(super) fn await_silence(&self) {
        self.swarm.wait_until("everything to be gone", || self.swarm.processes().is_empty());
    }

    /// Cuts the power: everything stops at once, what is on the disk then is what is left, and the machine starts again
    /// with nothing running and nothing in its runtime folder. `reap` takes leave of the test's own children.
    pub(super) fn cut_power(&mut self, reap: impl FnOnce()) {
        let all = self.freeze();
        self.call(&["cp", "-a", "disk", "after"]);
        let log = self.swarm.root().join("work.log");
        let work = fs::read_to_string(&log).unwrap();
        send(all, Signal::KILL);
        reap();
        self.await_silence();
        // Who is stopped and loses their parent or terminal is continued, and writes on until it is killed in turn.
        self.swarm.write_at(&log, &work);
        for name in ["project", "project-worktrees"] {
            fs::remove_dir_all(self.disk().join(name)).unwrap();
            self.call(&["cp", "-a", &format!("after/{name}"), "disk/"]);
        }
        for folder in ["after", "run"] {
            fs::remove_dir_all(self.swarm.root().join(folder)).unwrap();
        }
        self.call(&["mkdir", "-m", "700", "run"]);
        self.boots += 1;
        let boot = self.swarm.root().join("boot");
        self.swarm.write_at(&boot, &format!("00000000-0000-4000-8000-{:012}\n", self.boots));
        if self.boots == 1 {
            self.call(&["mount", "--bind", "boot", "/proc/sys/kernel/random/boot_id"]);
        }
    }

    /// Starts a program that has nothing to do with all this under a pid that was another's a moment ago.
    pub(super) fn reuse(&self, pid: u32) -> Bystander {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let mut command = self.swarm.command(self.swarm.root().join("at_pid"), std::path::Path::new("/"));
            command.env_clear().env("PATH", &self.swarm.environment()["PATH"]);
            command.args([&pid.to_string(), "sleep", "100000"]);
            // It keeps its streams for as long as it lives.
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            match command.status().unwrap().code() {
                Some(0) => return Bystander(pid),
                // Whoever has to take leave of the old one has not done so yet.
                Some(1) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
                code => panic!("pid {pid} cannot be had ({code:?}); it takes CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN"),
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.kill_everything();
        if !self.has_machine {
            return;
        }
        self.call(&["umount", "--lazy", "/etc"]);
        if self.boots > 0 {
            self.call(&["umount", "/proc/sys/kernel/random/boot_id"]);
        }
        self.call(&["umount", "--lazy", "disk"]);
    }
}

/// A process that nobody of ours may touch.
#[derive(Debug)]
pub(super) struct Bystander(u32);

impl Bystander {
    /// Whether it lives, undisturbed.
    pub(super) fn is_well(&self) -> bool {
        let shown = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        shown.contains("(sleep) S")
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        signal(self.0, Signal::KILL);
    }
}
