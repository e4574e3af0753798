//! What our own agent loop adds between a person and a model, and between a model and a tool; and the memory of its
//! process after 200 turns with 10 MB of tool output.
//!
//! Run it with `cargo bench --bench loop --features bench-internals`.

mod support;

use std::process::Stdio;

use support::{SWARM, Scene, median, print_bar};
use swarm::bench_internals::measure_loop;

/// Turns that are measured.
const ROUNDS: usize = 201;
/// Turns of the process whose memory is looked at, and numbers that each of them prints: 10 MB in all.
const TURNS: usize = 200;
const NUMBERS: usize = 10_000;

fn main() {
    let folder = tempfile::tempdir().expect("a temp folder");
    let times = measure_loop(folder.path(), ROUNDS);
    assert_eq!((times.first_token.len(), times.dispatch.len()), (ROUNDS, ROUNDS));
    let [first, dispatch] = [times.first_token, times.dispatch].map(|times| median(&times));
    print_bar("loop, first token", [first, 0.0], ("added", first), 5.0);
    print_bar("loop, tool dispatch", [dispatch, 0.0], ("added", dispatch), 2.0);
    let memory = memory();
    print_bar("loop, memory in MB", [memory, 0.0], ("peak", memory), 40.0);
}

/// The peak of a loop's memory in megabytes, as its own last command reads it from the process table.
fn memory() -> f64 {
    let scene = Scene::new(10, 100);
    let folder = tempfile::tempdir().expect("a temp folder");
    let file = |name: &str| folder.path().join(name);
    let turn = format!("      - calls:\n          - Bash: {{command: seq 1 {NUMBERS}}}\n");
    let last =
        "      - calls:\n          - Bash: {command: grep VmHWM /proc/$PPID/status > peak}\n      - say: Done.\n";
    let script = format!("conversations:\n  - name: flood\n    for: any\n    turns:\n{}{last}", turn.repeat(TURNS));
    std::fs::write(file("script.yaml"), script).expect("it is writable");
    let plan = serde_json::json!({
        "session": "bench", "conversation": file("c.jsonl"), "is_print": true,
        "model": format!("replay:{}", file("script.yaml").display()), "system_prompt": "", "prompt": "Do it.",
        "worktree": folder.path(), "writable": [], "protected": [], "worker_dir": folder.path(), "tools": [],
        "permission_mode": "bypass", "permissions": {"allow": [], "ask": [], "deny": []}, "mcp_servers": {},
        "models": {"default_provider": "ollama", "providers": {}, "models": {}, "prices": {}}, "max_turns": TURNS + 10,
        "tool_timeout": {"secs": 60, "nanos": 0}, "tool_output": 60_000, "grace": {"secs": 1, "nanos": 0},
    });
    std::fs::write(file("plan.json"), plan.to_string()).expect("it is writable");
    let mut command = scene.command(SWARM);
    command.args(["loop"]).arg(file("plan.json")).stdout(Stdio::null()).stdin(Stdio::null());
    assert!(command.status().expect("it starts").success());
    let peak = std::fs::read_to_string(file("peak")).expect("the last command wrote it");
    let kilobytes: f64 = peak.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("a number");
    kilobytes / 1024.0
}
