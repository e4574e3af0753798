//! `swarm spawn` until the agent runs, against the same two things done by hand: `git worktree add` and
//! `tmux new-session -d`. Both take turns in one repository; who begins changes with every round.
//!
//! The bars (design section 10): 1.25 of the floor on a repository of 200 files, 0.6 on one of 2,000 files and 80 MB.
//! Run it with `cargo bench --bench spawn`.

mod support;

use std::ffi::OsStr;
use std::time::{Duration, Instant};

use support::{SWARM, Scene, clock, median, print_bar};

/// Nothing this bench waits for takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    measure("spawn, 200 files", &Scene::new(200, 5_000), 31, 1.25);
    measure("spawn, 2,000 files, 80 MB", &Scene::new(2_000, 40_000), 15, 0.6);
}

/// Measures one repository and prints its bar.
fn measure(name: &str, scene: &Scene, rounds: usize, bar: f64) {
    // The server runs before the clock does, for both.
    tmux(scene, ["-f", "/dev/null", "new-session", "-d", "-s", "first", "sleep 3600"]);
    let (mut floor, mut ours) = (Vec::new(), Vec::new());
    // The first round warms caches and does not count.
    for round in 0..=rounds {
        scene.write(&format!(".swarm/tickets/t{round}.md"), "---\nagent: sleeper\n---\nWait.\n");
        let mut by_hand = || floor.push(by_hand(scene, round));
        let mut by_swarm = || ours.push(by_swarm(scene, round));
        if round % 2 == 0 {
            by_hand();
            by_swarm();
        } else {
            by_swarm();
            by_hand();
        }
    }
    let (ours, floor) = (median(&ours[1..]), median(&floor[1..]));
    print_bar(name, [ours, floor], ("ratio", ours / floor), bar);
}

/// A worktree and a session by hand.
fn by_hand(scene: &Scene, round: usize) -> f64 {
    settle(scene);
    let folder = scene.root().join(format!("by-hand-{round}"));
    let (path, branch) = (folder.to_str().expect("it is ASCII"), format!("by-hand-{round}"));
    let time = clock(|| {
        scene.git(["worktree", "add", "--quiet", "-b", &branch, path]);
        tmux(scene, ["new-session", "-d", "-s", &branch, "-c", path, "sleep", "3600"]);
    });
    tmux(scene, ["kill-session", "-t", &format!("={branch}")]);
    scene.git(["worktree", "remove", "--force", path]);
    scene.git(["branch", "--quiet", "-D", &branch]);
    time
}

/// A worker.
fn by_swarm(scene: &Scene, round: usize) -> f64 {
    settle(scene);
    let id = format!("t{round}");
    let time = clock(|| {
        scene.run(SWARM, ["spawn", &id, "--quiet"]);
    });
    let folder = scene.root().join("project-worktrees").join(&id);
    scene.run(SWARM, ["stop", &id]);
    let deadline = Instant::now() + PATIENCE;
    while is_supervised(scene, &id) {
        assert!(Instant::now() < deadline, "worker `{id}` did not end");
        std::thread::sleep(Duration::from_millis(5));
    }
    scene.git(["worktree", "remove", "--force", folder.to_str().expect("it is ASCII")]);
    scene.git(["branch", "--quiet", "-D", &format!("swarm/{id}")]);
    time
}

/// Lets the disk finish what an earlier measurement left to it.
fn settle(scene: &Scene) {
    scene.run("sync", [""; 0]);
}

/// Whether a worker's supervisor lives.
fn is_supervised(scene: &Scene, id: &str) -> bool {
    let output = scene.run(SWARM, ["status", id, "--json"]);
    let view: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a document");
    !view["workers"][0]["supervisor_pid"].is_null()
}

/// Runs tmux on the scene's server.
fn tmux<S: AsRef<OsStr>>(scene: &Scene, args: impl IntoIterator<Item = S>) {
    let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
    scene.run("tmux", ["-L".into(), scene.tmux_server().to_owned()].into_iter().chain(args));
}
