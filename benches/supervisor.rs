//! What a supervisor costs: at rest with many workers, and while its agent floods the terminal.
//!
//! The bars of workers at rest are those of design section 10: 1 GB and 10 % of a core for 620, and a part of that for
//! fewer; `swarm status` of them within 20 ms up to 100 workers and 60 ms up to 620. Nothing is extrapolated: every
//! worker is a real one, with its supervisor and an agent that does nothing. Of its own the bench watches 20 and then 100
//! for a minute each; `cargo bench --bench supervisor -- --seconds 60 50 200 620` goes up to the full count, in a few
//! minutes, and ends and removes everything. `--tmux` gives each worker a session instead of starting it headless, and
//! counts the tmux server as ours; `--idle` leaves out the floods.

#![expect(clippy::print_stdout, reason = "figures on standard output are what a bench is for")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use support::{SWARM, Scene, clock, median, print_bar};

/// Nothing this bench waits for takes longer.
const PATIENCE: Duration = Duration::from_secs(300);
/// Bytes of a flood that ends.
const FLOOD: u64 = 100_000_000;
/// Most memory of 620 supervisors in MB.
const MEMORY_BAR: f64 = 1e3;
/// Most of one core that 620 supervisors may take, in percent.
const CPU_BAR: f64 = 10.0;
/// How much longer a worker more takes to come to rest.
const SETTLES: Duration = Duration::from_millis(100);
/// How often `swarm status` runs.
const LOOKS: usize = 51;

fn main() {
    let mut seconds = 60;
    let mut counts = Vec::new();
    let (mut place, mut floods) = ("--headless", true);
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        let number = |word: Option<String>| word.and_then(|word| word.parse().ok());
        match word.as_str() {
            "--tmux" => place = "--quiet",
            "--idle" => floods = false,
            "--seconds" => seconds = number(words.next()).expect("a number of seconds"),
            _ => counts.push(number(Some(word)).expect("a number of workers, --seconds and one, --tmux or --idle")),
        }
    }
    if counts.is_empty() {
        counts = vec![20, 100];
    }
    for count in counts {
        idle(usize::try_from(count).expect("a number of workers"), Duration::from_secs(seconds), place);
    }
    for place in ["--headless", "--quiet"].into_iter().filter(|_| floods) {
        flood(place);
        busy(place);
    }
}

/// Watches the supervisors of workers that do nothing, and asks for their status.
fn idle(count: usize, time: Duration, place: &str) {
    let scene = Scene::new(20, 500);
    let ids: Vec<String> = (0..count).map(|number| format!("t{number}")).collect();
    for id in &ids {
        scene.write(&format!(".swarm/tickets/{id}.md"), "---\nagent: sleeper\n---\nWait.\n");
    }
    let started = clock(|| {
        let args = ["spawn", place, "--quiet", "--config", "max_workers=999"];
        drop(scene.run(SWARM, args.into_iter().chain(ids.iter().map(String::as_str))));
    });
    let mut pids = supervisors(&scene);
    assert_eq!(pids.len(), count);
    if place == "--quiet" {
        let output =
            scene.run("tmux", ["-L", scene.tmux_server().to_str().expect("plain"), "list-sessions", "-F", "#{pid}"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        pids.extend(text.lines().next().and_then(|line| line.parse::<u64>().ok()));
    }
    // What a spawn leaves to its supervisor is over then; that of hundreds takes a while.
    std::thread::sleep(Duration::from_secs(3) + SETTLES * u32::try_from(count).expect("a number of workers"));
    let (before, began) = (Figures::of(&pids), Instant::now());
    std::thread::sleep(time);
    let (after, time) = (Figures::of(&pids), began.elapsed().as_secs_f64());
    let per = |figure: f64| figure / count as f64;
    let cpu = (after.cpu - before.cpu) / time * 100.0;
    let name = format!("{count} workers at rest, {time:.0} s");
    let part = count as f64 / 620.0;
    bar(&format!("{name}: CPU"), cpu, "% of a core", CPU_BAR * part);
    bar(&format!("{name}: PSS"), after.pss * 1024.0 / 1e6, "MB", MEMORY_BAR * part);
    let wakes = per((after.switches - before.switches) / time);
    println!(
        "{:<48} {wakes:10.2} a second each; PSS {:.0} kB each, RSS {:.0} kB each",
        format!("{name}: wake-ups"),
        per(after.pss),
        per(after.rss)
    );
    let times: Vec<f64> = (0..LOOKS).map(|_| clock(|| drop(scene.run(SWARM, ["status"])))).collect();
    bar(&format!("{count} workers at rest: swarm status"), median(&times), "ms", if count > 100 { 60.0 } else { 20.0 });
    let stopped = clock(|| drop(scene.run(SWARM, ["stop", "--all"])));
    println!("{:<48} {:.1} s, stopped in {:.1} s", format!("{count} workers started in"), started / 1e3, stopped / 1e3);
    assert!(supervisors(&scene).is_empty(), "all of them ended");
}

/// Measures a flood that ends, against the same flood into a file.
fn flood(place: &str) {
    let scene = Scene::new(20, 500);
    let line = "all work and no play makes the agent a dull one, and its terminal a long one too";
    let words = format!("yes '{line}' | head -c {FLOOD}");
    let floor = clock(|| drop(scene.run("sh", ["-c", &format!("{words} >flood.txt")])));
    fs::remove_file(scene.repository.join("flood.txt")).expect("it was written");
    agent(&scene, &format!("date +%s.%N >began; {words}; date +%s.%N >ended; exec sleep 3600"));
    scene.run(SWARM, ["spawn", "f", place]);
    let pid = supervisors(&scene)[0];
    let worktree = scene.root().join("project-worktrees/f");
    wait_for(&worktree.join("ended"));
    let at = |name: &str| fs::read_to_string(worktree.join(name)).expect("it is there").trim().parse().unwrap_or(0.0);
    let time: f64 = at("ended") - at("began");
    let peak = status_kb(pid, "VmHWM:");
    let cpu = Figures::of(&[pid]).cpu;
    let recorded: u64 = recordings(&scene).iter().map(|file| fs::metadata(file).map_or(0, |data| data.len())).sum();
    println!(
        "flood of 100 MB, spawn {place:<10} {:6.1} MB/s ({time:.1} s; into a file {floor:.0} ms)  peak RSS {peak:.0} kB  \
         supervisor CPU {cpu:.1} s  recorded {:.1} MB",
        FLOOD as f64 / 1e6 / time,
        recorded as f64 / 1e6,
    );
}

/// Measures how fast a worker hears while its agent floods the terminal without end, against one that is at rest.
fn busy(place: &str) {
    let mut times = Vec::new();
    for work in ["exec sleep 3600", "while :; do yes 'all work and no play' | head -c 1000000; done"] {
        let scene = Scene::new(20, 500);
        agent(&scene, &format!("touch began; {work}"));
        scene.run(SWARM, ["spawn", "f", place]);
        wait_for(&scene.root().join("project-worktrees/f/began"));
        std::thread::sleep(Duration::from_secs(3));
        let send: Vec<f64> = (0..20).map(|_| clock(|| drop(scene.run(SWARM, ["send", "f", "hello"])))).collect();
        let worst = send.iter().copied().fold(0.0, f64::max);
        let stop = clock(|| drop(scene.run(SWARM, ["stop", "f"])));
        times.push([median(&send), worst, stop]);
    }
    let [rest, flood] = [times[0], times[1]];
    for (index, what) in ["send, median of 20", "send, slowest of 20", "stop"].into_iter().enumerate() {
        let name = format!("{what}, flood, spawn {place}");
        print_bar(&name, [flood[index], rest[index]], ("above", flood[index] - rest[index]), 1_000.0);
    }
}

/// Writes an agent of a shell script, and a ticket `f` for it.
fn agent(scene: &Scene, script: &str) {
    let command = serde_json::json!(["sh", "-c", script]);
    let text = format!("---\nname: flood\ndescription: Writes\nruntime: command\ncommand: {command}\n---\n");
    scene.write(".swarm/agents/flood.md", &text);
    scene.write(".swarm/tickets/f.md", "---\nagent: flood\n---\nWrite.\n");
}

/// The pids of all supervisors of a scene.
fn supervisors(scene: &Scene) -> Vec<u64> {
    let output = scene.run(SWARM, ["status", "--json"]);
    let view: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a document");
    let workers = view["workers"].as_array().expect("it lists workers");
    workers.iter().filter_map(|worker| worker["supervisor_pid"].as_u64()).collect()
}

/// The recordings of all workers.
fn recordings(scene: &Scene) -> Vec<PathBuf> {
    let folder = scene.repository.join(".git/swarm/workers/f");
    let files = fs::read_dir(folder).expect("the worker has a folder").flatten().map(|entry| entry.path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "cast")).collect()
}

/// Waits for a file.
fn wait_for(file: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while !file.exists() {
        assert!(Instant::now() < deadline, "`{}` did not come", file.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What some processes took and take together.
#[derive(Debug, Default)]
struct Figures {
    /// Seconds on a core.
    cpu: f64,
    /// Memory in kB, shared pages counted in parts.
    pss: f64,
    /// Memory in kB.
    rss: f64,
    /// How often their threads slept and woke.
    switches: f64,
}

impl Figures {
    /// Adds up what `/proc` says about some processes.
    fn of(pids: &[u64]) -> Self {
        let mut sum = Self::default();
        for pid in pids {
            let memory = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("it lives");
            sum.pss += kb(&memory, "Pss:");
            sum.rss += kb(&memory, "Rss:");
            for task in fs::read_dir(format!("/proc/{pid}/task")).expect("it lives").flatten() {
                // A thread may end meanwhile.
                let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
                let nanoseconds = read("schedstat").split(' ').next().and_then(|word| word.parse().ok());
                sum.cpu += nanoseconds.unwrap_or(0.0) / 1e9;
                sum.switches += kb(&read("status"), "voluntary_ctxt_switches:");
            }
        }
        sum
    }
}

/// A figure of a process's status.
fn status_kb(pid: u64, name: &str) -> f64 {
    kb(&fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives"), name)
}

/// The number in a line of a file of `/proc`; nothing where there is no such line.
fn kb(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0.0)
}

/// Prints one figure with its bar.
fn bar(name: &str, figure: f64, unit: &str, bar: f64) {
    let word = if figure <= bar { "met" } else { "MISSED" };
    println!("{name:<48} {figure:10.4} {unit}  bar {bar:.4}  {word}");
}
