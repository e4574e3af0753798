//! A coordinator at work: what it makes of its places, and what eight workers do where one does.
//!
//! - Throughput: tickets an hour of `swarm run --merge` with eight workers against one, with agents that wait as if for a
//!   model, two to four seconds each. The bar is six times.
//! - A backlog of a hundred tickets with dependencies, agents that fail, fail once or conflict, and a coordinator that is
//!   killed twice and followed by the next. The bar is that 85 % of the places that there was work for are taken while
//!   tickets wait, as `swarm stats` tells it.
//!
//! Run it with `cargo bench --bench backlog`; a name (`throughput`, `backlog`) as argument runs that part.

#![expect(clippy::print_stdout, reason = "figures on standard output are what a bench is for")]

#[expect(dead_code, reason = "this bench is about rates, and does not print times")]
mod support;

use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{SWARM, Scene, clock};

/// Workers at once.
const WORKERS: usize = 8;
/// Least throughput of so many workers against one.
const THROUGHPUT_BAR: f64 = 6.0;
/// Least part of the places that is taken while tickets wait.
const UTILISATION_BAR: f64 = 0.85;
/// Nothing this bench waits for takes longer.
const PATIENCE: Duration = Duration::from_secs(300);
/// Waits for two to four seconds by the number at the end of the ticket's name, then does what the name says.
const SCRIPT: &str = r#"
echo "$SWARM_TICKET" >> "$SWARM_REPO/../started.log"
number=${SWARM_TICKET##*-}
case $((1$number % 5)) in 0) sleep 2 ;; 1) sleep 2.5 ;; 2) sleep 3 ;; 3) sleep 3.5 ;; 4) sleep 4 ;; esac
case $SWARM_TICKET in
    bad-*) exit 3 ;;
    flaky-*)
        [ "$(grep -c "^$SWARM_TICKET$" "$SWARM_REPO/../started.log")" -gt 1 ] || exit 3
        echo "$SWARM_TICKET" > "$SWARM_TICKET.txt" ;;
    twin-*)
        pair=${SWARM_TICKET%?}
        if grep -q '<<<<<<<' "$pair.txt" 2>/dev/null; then
            sed -i '/^[<=>]\{7\}/d' "$pair.txt"
            git add "$pair.txt"
            git -c core.editor=true commit --quiet --no-edit
        else
            echo "$SWARM_TICKET" >> "$pair.txt"
        fi ;;
    *) echo "$SWARM_TICKET" > "$SWARM_TICKET.txt" ;;
esac
"#;

fn main() {
    let only: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    for (name, part) in [("throughput", throughput as fn()), ("backlog", backlog)] {
        if only.is_empty() || only.iter().any(|wanted| wanted == name) {
            part();
        }
    }
}

/// A repository with the agent and these tickets, each with what it needs.
fn scene(tickets: &BTreeMap<String, Vec<String>>) -> Scene {
    let scene = Scene::new(200, 2_000);
    let command = serde_json::json!(["sh", "-c", SCRIPT]);
    let text = format!("---\nname: waiter\ndescription: Waits\nruntime: command\ncommand: {command}\n---\n");
    scene.write(".swarm/agents/waiter.md", &text);
    let settings = "run: {backoff: {first: 1s, max: 2s}}\nlanding: {approval: auto}\n";
    scene.write(".swarm/config.yaml", settings);
    for (id, needs) in tickets {
        let text = format!("---\nagent: waiter\ndepends_on: [{}]\n---\nDo {id}.\n", needs.join(", "));
        scene.write(&format!(".swarm/tickets/{id}.md"), &text);
    }
    scene
}

/// The arguments of a run of all tickets.
fn run_all(workers: usize) -> Vec<String> {
    let workers = workers.to_string();
    ["run", "--all", "--merge", "--headless", "--max-workers", &workers].map(str::to_owned).to_vec()
}

/// Tickets an hour with eight workers against one. Both get the same mixture of durations, and as many tickets as keep
/// them busy about as long.
fn throughput() {
    let rate = |workers: usize, count: usize| {
        let scene = scene(&(0..count).map(|number| (format!("work-{number:02}"), Vec::new())).collect());
        let time = clock(|| drop(scene.run(SWARM, run_all(workers))));
        assert_eq!(landed(&scene), count);
        let rate = count as f64 / time * 3_600_000.0;
        println!("{count} tickets, {workers} at once: {:.1} s, {rate:.0} tickets an hour", time / 1e3);
        rate
    };
    let (one, all) = (rate(1, 15), rate(WORKERS, 80));
    bar(&format!("throughput, {WORKERS} workers against 1"), all / one, THROUGHPUT_BAR);
}

/// A hundred tickets and a coordinator that is killed twice.
fn backlog() {
    let tickets = tickets();
    let scene = scene(&tickets);
    let began = Instant::now();
    for (number, until) in [(1, 20), (2, 55)] {
        let mut run = scene.command(SWARM);
        run.args(run_all(WORKERS)).stdout(Stdio::null()).stderr(Stdio::null());
        let mut run = run.spawn().expect("it starts");
        await_landed(&scene, &mut run, until);
        run.kill().expect("it runs");
        run.wait().expect("it was killed");
        println!("coordinator {number} killed after {until} landings, {:.1} s", began.elapsed().as_secs_f64());
    }
    let mut last = scene.command(SWARM);
    let output = last.args(run_all(WORKERS)).arg("--json").output().expect("it starts");
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    let view: Value = serde_json::from_slice(&output.stdout).expect("a document");
    let left = view["tickets"].as_array().expect("a list").iter().filter(|ticket| ticket["made"] == false).count();
    println!(
        "{} tickets, {} landed, {left} named with a reason, {:.1} s",
        tickets.len(),
        landed(&scene),
        began.elapsed().as_secs_f64()
    );
    assert_eq!((landed(&scene), left), (88, 12));
    let output = scene.run(SWARM, ["stats", "--json"]);
    let stats: Value = serde_json::from_slice(&output.stdout).expect("a document");
    print!("{}", String::from_utf8_lossy(&scene.run(SWARM, ["stats"]).stdout));
    let part = stats["total"]["utilisation_while_queued"].as_f64().expect("tickets waited");
    bar("places taken while tickets waited", part, UTILISATION_BAR);
}

/// Eight that conflict in pairs, four that fail, eight that need one of those, four that fail once, and 76 others, of
/// which two in three need an earlier one.
fn tickets() -> BTreeMap<String, Vec<String>> {
    let mut tickets = BTreeMap::new();
    for pair in 0..4 {
        for half in ["1", "2"] {
            tickets.insert(format!("twin-{pair}{half}"), Vec::new());
        }
        tickets.insert(format!("bad-{pair}"), Vec::new());
        tickets.insert(format!("after-{pair}"), vec![format!("bad-{pair}")]);
        tickets.insert(format!("last-{pair}"), vec![format!("after-{pair}"), "work-00".to_owned()]);
        tickets.insert(format!("flaky-{pair}"), Vec::new());
    }
    for number in 0..76_usize {
        let needs = match number % 3 {
            0 => Vec::new(),
            _ => number.checked_sub(20).map(|need| format!("work-{need:02}")).into_iter().collect(),
        };
        tickets.insert(format!("work-{number:02}"), needs);
    }
    tickets
}

/// How many tickets have landed.
fn landed(scene: &Scene) -> usize {
    let output = scene.run("git", ["log", "--first-parent", "--format=%(trailers:key=Swarm-Ticket,valueonly)"]);
    String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.is_empty()).count()
}

/// Waits until so many tickets have landed.
fn await_landed(scene: &Scene, run: &mut Child, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    while landed(scene) < count {
        assert!(Instant::now() < deadline && run.try_wait().expect("it is ours").is_none(), "it landed too little");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Prints one figure with its bar.
fn bar(name: &str, figure: f64, bar: f64) {
    let word = if figure >= bar { "met" } else { "MISSED" };
    println!("{name:<48} {figure:.2}  bar {bar:.2}  {word}");
}
