//! Short commands as whole processes, against an empty process (`true`) in turns with them: `--version`, `status` of a
//! small project, one hook call of an agent, and `status` of 100 and of 620 living workers.
//!
//! The bars are those of design section 10. That `status` starts no process for a worker is shown by running it with a
//! `PATH` in which there is no program at all. Run it with `cargo bench --bench status --features bench-internals`.

mod support;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use support::{SWARM, Scene, clock, median, print_bar};
use swarm::bench_internals::ManyWorkers;

/// How often each command runs.
const ROUNDS: usize = 151;
/// What an agent's program writes to a hook before a tool call.
const PAYLOAD: &str = r#"{"session_id":"9b7c1f0e-7f5d-4f2e-9a53-6a1d5d0c2f11","transcript_path":"/tmp/t.jsonl",
"cwd":"/tmp","hook_event_name":"PreToolUse","tool_name":"Bash","tool_input":{"command":"cargo test --quiet"},
"tool_use_id":"toolu_01A"}"#;

fn main() {
    let scene = scene_with_worker();
    let agent = agent_environment(&scene);
    let mut times: [Vec<f64>; 4] = Default::default();
    for _ in 0..ROUNDS {
        times[0].push(clock(|| drop(scene.run("true", [""; 0]))));
        times[1].push(clock(|| drop(scene.run(SWARM, ["--version"]))));
        times[2].push(clock(|| drop(scene.run(SWARM, ["status"]))));
        times[3].push(clock(|| hook(&scene, &agent)));
    }
    let [empty, version, status, hook] = times.map(|times| median(&times));
    for (name, ours, bar) in [("--version", version, 2.0), ("status, 1 worker", status, 4.0), ("hook", hook, 6.0)] {
        print_bar(&format!("swarm {name}"), [ours, empty], ("above", ours - empty), bar);
    }
    many(&scene, 100, 20.0);
    many(&scene_with_worker(), 620, 60.0);
}

/// A small repository with one worker.
fn scene_with_worker() -> Scene {
    let scene = Scene::new(200, 2_000);
    scene.write(".swarm/tickets/w.md", "---\nagent: sleeper\n---\nWait.\n");
    scene.run(SWARM, ["spawn", "w"]);
    scene
}

/// Measures `status` of many workers; the bar is for the whole process.
fn many(scene: &Scene, count: usize, bar: f64) {
    let common_dir = scene.repository.join(".git");
    let _alive = ManyWorkers::copy(&common_dir, "w", count);
    let mut shown = scene.command(SWARM);
    shown.args(["status", "--json"]).env("PATH", "/nonexistent");
    let output = shown.output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let view: serde_json::Value = serde_json::from_str(&text).expect("it answers without any program in its PATH");
    let workers = view["workers"].as_array().expect("it lists workers");
    assert_eq!(workers.len(), count);
    assert!(workers.iter().all(|worker| worker["status"] == "working"), "all of them live:\n{text}");
    let mut times: [Vec<f64>; 2] = Default::default();
    for _ in 0..ROUNDS {
        times[0].push(clock(|| drop(scene.run("true", [""; 0]))));
        times[1].push(clock(|| drop(scene.run(SWARM, ["status"]))));
    }
    let [empty, status] = times.map(|times| median(&times));
    print_bar(&format!("swarm status, {count} workers"), [status, empty], ("whole", status), bar);
}

/// The environment of the worker's agent, from the process itself.
fn agent_environment(scene: &Scene) -> Vec<(String, String)> {
    let output = scene.run(SWARM, ["status", "w", "--json"]);
    let view: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a document");
    let pid = view["workers"][0]["pid"].as_u64().expect("its agent runs");
    let bytes = std::fs::read(Path::new("/proc").join(pid.to_string()).join("environ")).expect("it is ours");
    let text = String::from_utf8(bytes).expect("it is text");
    let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// One hook call, as an agent's program makes it.
fn hook(scene: &Scene, environment: &[(String, String)]) {
    let mut command: Command = scene.command(SWARM);
    command.args(["hook", "PreToolUse"]).env_clear().envs(environment.iter().cloned());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    child.stdin.take().expect("it is piped").write_all(PAYLOAD.as_bytes()).expect("it reads");
    assert!(child.wait().expect("it ends").success());
}
