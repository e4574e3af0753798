//! Landing and the overlap radar (design section 10).
//!
//! - Fifty ready branches with an instant gate, by `swarm merge`, against a shell loop of `git merge --no-ff` over the
//!   same branches. The loop tests nothing, keeps nothing and writes nothing down.
//! - The radar over one hundred branches on two thousand files: from cold, and after one of them changed. The floor is
//!   one `git merge-tree --stdin` over the same pairs.
//! - How often the gates run when one branch in twenty, and one in five, makes them fail: in batches against one by one.
//!
//! Run it with `cargo bench --bench landing --features bench-internals`; a name (`landing`, `radar`, `gates`) as
//! argument runs that part.

#![expect(clippy::print_stdout, reason = "a bench answers on standard output")]

mod support;

use std::path::Path;

use swarm::bench_internals::ReadyWork;

use support::{SWARM, Scene, clock, median, print_bar};

/// Branches that land.
const READY: usize = 50;
/// Branches that the radar sees.
const LIVE: usize = 100;
/// How often landing and its floor take turns.
const REPEATS: usize = 3;

fn main() {
    let only: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    for (name, part) in [("landing", landing as fn()), ("radar", radar), ("gates", gates)] {
        if only.is_empty() || only.iter().any(|wanted| wanted == name) {
            part();
        }
    }
}

/// Names of so many branches.
fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("w{number:03}")).collect()
}

/// A worktree with one commit on `swarm/NAME` for each name: an own file, and a line in one of so many files. From
/// `clashing` on, they all change the same line.
fn make_branches(scene: &Scene, files: usize, clashing: usize, names: &[String]) {
    let worktrees = scene.root().join("project-worktrees");
    for (number, name) in names.iter().enumerate() {
        let path = worktrees.join(name);
        let branch = format!("swarm/{name}");
        scene.write(&format!(".swarm/tickets/{name}.md"), "---\nagent: sleeper\n---\nWait.\n");
        scene.git(["worktree", "add", "--quiet", "-b", &branch, path.to_str().expect("plain names")]);
        let file = if number < clashing { number % files } else { files - 1 };
        let shared = format!("src/part{}/file{file}.txt", file % 40);
        let edit = format!("echo own > own-{name}.txt && sed -i '1s/^/{name} /' {shared}");
        let script = format!("{edit} && git add -A && git commit --quiet -m '{name}'");
        let mut command = scene.command("sh");
        command.args(["-c", &script]).current_dir(&path);
        assert!(command.status().expect("sh starts").success());
    }
}

/// Fifty branches.
fn landing() {
    let times: Vec<(f64, f64)> = (0..REPEATS).map(|_| land_once()).collect();
    let (ours, floor): (Vec<f64>, Vec<f64>) = times.iter().copied().unzip();
    let ratios: Vec<f64> = times.iter().map(|(ours, floor)| ours / floor).collect();
    let name = format!("land {READY} ready branches");
    print_bar(&name, [median(&ours), median(&floor)], ("ratio", median(&ratios)), 1.5);
}

/// One landing and its floor.
fn land_once() -> (f64, f64) {
    let scene = Scene::new(200, 2_000);
    let names = names(READY);
    make_branches(&scene, 200, READY, &names);
    scene.run("cp", ["-a", "../project", "../floor"]);
    let loop_script = "for b in \"$@\"; do git merge --quiet --no-ff -m \"Merge $b\" \"swarm/$b\" || exit 1; done";
    let mut floor_loop = scene.command("sh");
    floor_loop.args(["-c", loop_script, "sh"]).args(&names).current_dir(scene.root().join("floor"));
    let floor = clock(|| assert!(floor_loop.status().expect("sh starts").success()));
    scene.write(".swarm/config.yaml", "gates:\n  - {name: instant, run: 'true'}\n");
    scene.run(SWARM, ["trust", "--yes"]);
    let common_dir = scene.repository.join(".git");
    ReadyWork::make(&common_dir, &scene.root().join("project-worktrees"), &names).approve();
    let ours = clock(|| drop(scene.run(SWARM, ["merge", "--json"])));
    (ours, floor)
}

/// One hundred branches.
fn radar() {
    let scene = Scene::new(2_000, 2_000);
    let names = names(LIVE);
    make_branches(&scene, 2_000, 95, &names);
    let _work = ReadyWork::make(&scene.repository.join(".git"), &scene.root().join("project-worktrees"), &names);
    let pairs: String = (0..LIVE)
        .flat_map(|one| (0..one).map(move |other| format!("swarm/w{one:03} swarm/w{other:03}\n")))
        .chain((0..LIVE).map(|one| format!("main swarm/w{one:03}\n")))
        .collect();
    scene.write("../pairs", &pairs);
    let script = "GIT_OBJECT_DIRECTORY=../scratch GIT_ALTERNATE_OBJECT_DIRECTORIES=.git/objects \
        git merge-tree --write-tree --stdin < ../pairs > ../merged";
    std::fs::create_dir(scene.root().join("scratch")).expect("the folder is fresh");
    let floor = clock(|| drop(scene.run("sh", ["-c", script])));
    let conflicts = || clock(|| drop(scene.run(SWARM, ["conflicts", "--json"])));
    let cold = conflicts();
    print_bar(&format!("radar, {LIVE} branches, cold"), [cold, floor], ("seconds", cold / 1e3), 10.0);
    let unchanged = conflicts();
    let changed = scene.root().join("project-worktrees/w042");
    commit(&scene, &changed);
    let after = conflicts();
    print_bar("  after one of them changed", [after, floor], ("seconds", after / 1e3), 1.0);
    println!("  when nothing changed {unchanged:8.2} ms");
}

/// One more commit in a worktree.
fn commit(scene: &Scene, worktree: &Path) {
    let mut command = scene.command("git");
    command.args(["commit", "--quiet", "--allow-empty", "-m", "one more"]).current_dir(worktree);
    assert!(command.status().expect("git starts").success());
}

/// Gate runs in batches against one by one.
fn gates() {
    for red in [20, 5] {
        let runs = |batch: usize| {
            let scene = Scene::new(60, 200);
            let names = names(60);
            make_branches(&scene, 60, 60, &names);
            let spoil = names.iter().enumerate().filter(|(number, _)| number % red == red / 2);
            let test: Vec<_> = spoil.map(|(_, name)| format!("! test -e own-{name}.txt")).collect();
            let work = ReadyWork::make(&scene.repository, &scene.root().join("project-worktrees"), &names);
            work.approve();
            work.land(&test.join(" && "), batch)
        };
        let (single, batched) = (runs(1), runs(8));
        let saved = 100.0 * (1.0 - f64::from(batched) / f64::from(single));
        let percent = 100 / red;
        print!("gates, 60 branches, {percent:2} % red    one by one {single:3} runs    ");
        println!("in batches {batched:3}    saved {saved:4.0} %");
    }
}
