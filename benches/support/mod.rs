//! What the benches of whole processes share: a repository in surroundings of its own, a clock around a process, and one
//! way to print a bar.

#![expect(clippy::print_stdout, reason = "figures on standard output are what a bench is for")]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use tempfile::TempDir;

/// The program that is measured, of the same profile as the bench.
pub(crate) const SWARM: &str = env!("CARGO_BIN_EXE_swarm");

/// A repository with its own home, runtime folder and tmux server. Everything ends and goes when dropped.
pub(crate) struct Scene {
    /// Holds everything.
    folder: TempDir,
    /// Where commands run; the main worktree.
    pub repository: PathBuf,
}

impl Scene {
    /// A repository of `files` files of about `bytes` bytes each, with an agent `sleeper` that does nothing for an hour.
    pub(crate) fn new(files: usize, bytes: usize) -> Self {
        let folder = tempfile::Builder::new().prefix("swb").tempdir().expect("a temp folder");
        for name in ["home", "config", "run", "tmp", "project"] {
            fs::create_dir(folder.path().join(name)).expect("the folder is fresh");
        }
        restrict(&folder.path().join("run"));
        let scene = Self { repository: folder.path().join("project"), folder };
        scene.git(["init", "--quiet", "-b", "main"]);
        scene.git(["config", "user.name", "Bench"]);
        scene.git(["config", "user.email", "bench@example.com"]);
        for number in 0..files {
            scene.write(&format!("src/part{}/file{number}.txt", number % 40), &text(number, bytes));
        }
        let agent = "---\nname: sleeper\ndescription: Waits\nruntime: command\ncommand: [\"sleep\", \"3600\"]\n---\n";
        scene.write(".swarm/agents/sleeper.md", agent);
        scene.git(["add", "--all"]);
        scene.git(["commit", "--quiet", "-m", "Start"]);
        // As a clone of a real repository has its objects: in a pack.
        scene.git(["repack", "-adq"]);
        scene
    }

    /// The folder around the repository.
    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file of the repository.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.repository.join(path);
        fs::create_dir_all(path.parent().expect("it has one")).expect("the bench may write");
        File::create(&path).and_then(|mut file| file.write_all(text.as_bytes())).expect("the bench may write");
    }

    /// Name of the tmux server of this scene.
    pub(crate) fn tmux_server(&self) -> &OsStr {
        self.root().file_name().expect("it has a name")
    }

    /// A program in the repository with this scene's environment and nothing else.
    pub(crate) fn command(&self, program: &str) -> Command {
        #[expect(clippy::disallowed_methods, reason = "a bench is outside the program's own door")]
        let mut command = Command::new(program);
        let path = std::env::var_os("PATH").expect("PATH is set");
        command.current_dir(&self.repository).env_clear().env("PATH", path).env("TERM", "xterm-256color");
        command.env("LANG", "C.UTF-8").env("GIT_CONFIG_NOSYSTEM", "1").env("SWARM_TMUX_SOCKET", self.tmux_server());
        let places = [("HOME", "home"), ("XDG_CONFIG_HOME", "config"), ("XDG_RUNTIME_DIR", "run"), ("TMPDIR", "tmp")];
        for (name, place) in places.into_iter().chain([("TMUX_TMPDIR", "run")]) {
            command.env(name, self.root().join(place));
        }
        command.stdin(Stdio::null());
        command
    }

    /// Runs a program to its end and demands success.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, program: &str, args: impl IntoIterator<Item = S>) -> Output {
        let mut command = self.command(program);
        command.args(args);
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Runs git.
    pub(crate) fn git<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) {
        self.run("git", args);
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let mut stop = self.command(SWARM);
        stop.args(["stop", "--all"]).output().ok();
        let mut kill = self.command("tmux");
        kill.arg("-L").arg(self.tmux_server()).arg("kill-server").output().ok();
    }
}

/// Closes a folder to other users, as a runtime folder must be.
fn restrict(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).expect("the folder is ours");
}

/// Words that compress about as well as source code does.
fn text(seed: usize, bytes: usize) -> String {
    let mut state = seed as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let word = (state >> 33) % 5_000;
        text.push_str(&format!("name{word}{}", if word.is_multiple_of(9) { "\n" } else { " " }));
    }
    text
}

/// Milliseconds that `work` takes.
pub(crate) fn clock(work: impl FnOnce()) -> f64 {
    let started = Instant::now();
    work();
    started.elapsed().as_secs_f64() * 1e3
}

/// The middle value.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Prints one bar: `figure` is what `ours` and `floor` make together and may be at most `bar`.
pub(crate) fn print_bar(name: &str, [ours, floor]: [f64; 2], (what, figure): (&str, f64), bar: f64) {
    let word = if figure <= bar { "met" } else { "MISSED" };
    println!("{name:<40} {ours:8.2} ms  floor {floor:8.2} ms  {what} {figure:6.2}  bar {bar:6.2}  {word}");
}
