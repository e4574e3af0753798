//! What our own agent loop adds between a person and a model, and between a model and a tool; and the memory of its
//! process after 200 turns with 10 MB of tool output.
//!
//! Run it with `cargo bench --bench loop --features bench-internals`.

#![expect(clippy::print_stdout, reason = "a bench answers on standard output")]

use std::io::Write;
use std::process::{Command, Stdio};

use swarm::bench_internals::measure_loop;

/// Turns that are measured.
const ROUNDS: usize = 201;
/// Turns of the process whose memory is looked at.
const TURNS: usize = 200;
/// Numbers that each of them prints: 10 MB in all.
const NUMBERS: usize = 10_400;

fn main() {
    let folder = tempfile::tempdir().expect("a temp folder");
    let times = measure_loop(folder.path(), ROUNDS);
    assert_eq!((times.first_token.len(), times.dispatch.len()), (ROUNDS, ROUNDS));
    print_bar("first token, added by the loop", median(times.first_token), "ms", 5.0);
    print_bar("dispatch of a tool", median(times.dispatch), "ms", 2.0);
    print_bar("memory after 200 turns with 10 MB of output", peak_memory(), "MB", 40.0);
}

/// The middle value.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Prints one bar.
fn print_bar(name: &str, figure: f64, unit: &str, bar: f64) {
    let word = if figure <= bar { "met" } else { "MISSED" };
    println!("{name:<45} {figure:6.2} {unit}  bar {bar:6.2}  {word}");
}

/// The peak of a loop's memory in megabytes, as its own last command reads it from the process table.
fn peak_memory() -> f64 {
    let folder = tempfile::tempdir().expect("a temp folder");
    let file = |name: &str| folder.path().join(name);
    // Each another one: a model that makes the same call again and again is stopped.
    let turn = |at: usize| format!("      - calls:\n          - Bash: {{command: seq {at} {}}}\n", at + NUMBERS);
    let turns: String = (0..TURNS).map(turn).collect();
    let last =
        "      - calls:\n          - Bash: {command: grep VmHWM /proc/$PPID/status > peak}\n      - say: Done.\n";
    let script = format!("conversations:\n  - name: flood\n    for: any\n    turns:\n{turns}{last}");
    write(&file("script.yaml"), &script);
    let plan = serde_json::json!({
        "session": "bench", "conversation": file("c.jsonl"), "is_print": true,
        "model": format!("replay:{}", file("script.yaml").display()), "system_prompt": "", "prompt": "Do it.",
        "worktree": folder.path(), "writable": [], "protected": [], "worker_dir": folder.path(), "tools": [],
        "permission_mode": "bypass", "permissions": {"allow": [], "ask": [], "deny": []}, "mcp_servers": {},
        "models": {"default_provider": "ollama", "providers": {}, "models": {}, "prices": {}}, "max_turns": TURNS + 10,
        "tool_timeout": {"secs": 60, "nanos": 0}, "tool_output": 60_000, "grace": {"secs": 1, "nanos": 0},
    });
    write(&file("plan.json"), &plan.to_string());
    #[expect(clippy::disallowed_methods, reason = "a bench is outside the program's own door")]
    let mut command = Command::new(env!("CARGO_BIN_EXE_swarm"));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", folder.path());
    command.args(["loop"]).arg(file("plan.json")).stdout(Stdio::null()).stdin(Stdio::null());
    assert!(command.status().expect("it starts").success());
    let peak = std::fs::read_to_string(file("peak")).expect("the last command wrote it");
    let kilobytes: f64 = peak.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("a number");
    kilobytes / 1024.0
}

/// Writes a file.
fn write(path: &std::path::Path, text: &str) {
    let mut file = std::fs::File::create(path).expect("it can be made");
    file.write_all(text.as_bytes()).expect("it is writable");
}
