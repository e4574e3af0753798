//! Budgets and limits: what is counted, what is refused before the start, and what is ended or held on the way.

use serde_json::Value;

use crate::support::scene::{self, await_status};
use crate::support::schema::assert_conforms;
use crate::support::swarm::{SWARM, TestSwarm};

/// Conversations whose answers are 110 tokens each.
pub(crate) const SCRIPT: &str = r#"
usage: {input_tokens: 100, output_tokens: 10}
conversations:
  - name: three
    turns:
      - calls:
          - Write: {file_path: a.txt, content: "a\n"}
      - calls:
          - Write: {file_path: b.txt, content: "b\n"}
      - say: Done.
  - name: hang
    turns:
      - calls:
          - Write: {file_path: a.txt, content: "a\n"}
      - calls:
          - Bash: {command: "sh -c 'tail -f /dev/null'"}
      - calls:
          - Write: {file_path: b.txt, content: "b\n"}
      - say: Done.
"#;

/// Writes an agent that plays the conversations of a script.
pub(crate) fn write_player(swarm: &TestSwarm, script: &str) {
    swarm.write("script.yaml", script);
    let rules = "permission_mode: acceptEdits\npermissions:\n  allow: [\"Bash(sh -c *)\"]\n";
    let head = format!("name: own\ndescription: x\nruntime: replay\nmodel: script.yaml\n{rules}");
    swarm.write(".swarm/agents/own.md", &format!("---\n{head}---\nWork.\n"));
}

/// A repository with this configuration and tickets that play the conversations of their names' beginnings.
fn stage(config: &str, tickets: &[&str]) -> TestSwarm {
    let swarm = TestSwarm::new();
    write_player(&swarm, SCRIPT);
    swarm.write(".swarm/config.yaml", config);
    for ticket in tickets {
        let conversation = ticket.split('-').next().unwrap();
        swarm.write_ticket(ticket, "own", &format!("SCRIPT:{conversation}\nDo the work."));
    }
    swarm
}

/// The row of `swarm budget --by WHAT` with that name.
fn row(swarm: &TestSwarm, by: &str, name: &str) -> Value {
    let view = swarm.json(["budget", "--by", by]);
    let rows = view["rows"].as_array().unwrap();
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name} in {view:#}")).clone()
}

#[test]
fn what_workers_use_is_counted_by_ticket_agent_model_and_day() {
    let swarm = stage("budget: {day: {usd: 10, tokens: 100000}}\n", &["three-a", "three-b"]);
    swarm.run(["spawn", "three-a", "three-b", "--headless", "--wait"]).success();
    let view = swarm.json(["budget"]);
    assert_conforms(&view, "budget");
    let a = row(&swarm, "ticket", "three-a");
    assert_eq!((&a["input_tokens"], &a["output_tokens"], &a["attempts"]), (&300.into(), &30.into(), &1.into()));
    assert_eq!(row(&swarm, "agent", "own")["input_tokens"], 600);
    assert_eq!(row(&swarm, "model", "script.yaml")["output_tokens"], 60);
    let day = view["day"].as_str().unwrap().to_owned();
    assert_eq!(row(&swarm, "day", &day)["attempts"], 2);
    let tokens = view["limits"].as_array().unwrap().iter().find(|limit| limit["what"] == "tokens").unwrap();
    assert_eq!((&tokens["limit"], &tokens["spent"]), (&100_000.0.into(), &660.0.into()), "{view:#}");
    let text = swarm.run(["budget"]).success();
    assert!(text.contains("660") && text.contains("100,000") && text.contains("three-b"), "{text}");
    assert_eq!(swarm.json(["budget", "--since", "2020-01-01"])["total"]["input_tokens"], 600);
    swarm.run(["budget", "--since", "soon"]).expect_code(2).says("is no day");
}

#[test]
fn a_supervisor_that_is_killed_and_resumed_counts_nothing_twice() {
    let swarm = stage("limits: {grace: 300ms}\n", &["hang"]);
    swarm.run(["spawn", "hang", "--headless"]).success();
    swarm.wait_until("two answers", || {
        let spent = swarm.json(["budget"])["total"]["input_tokens"].as_u64();
        spent == Some(200)
    });
    let worker = scene::worker(&swarm, "hang");
    scene::signal(&worker["supervisor_pid"], rustix::process::Signal::KILL);
    await_status(&swarm, "hang", "lost");
    swarm.run(["resume", "hang"]).success();
    swarm.run(["wait", "hang", "--for", "review", "--timeout", "60s"]).success();
    let worker = scene::worker(&swarm, "hang");
    let spent = row(&swarm, "ticket", "hang");
    assert_eq!(spent["input_tokens"], worker["input_tokens"], "{spent:#}\n{worker:#}");
    assert_eq!(spent["output_tokens"].as_u64().unwrap() * 10, spent["input_tokens"].as_u64().unwrap());
    assert!(spent["input_tokens"].as_u64().unwrap() >= 400, "{spent:#}");
}

/// Statistics are of attempts, and the ledger is of agents: two ways to the same sums.
#[track_caller]
fn assert_stats_agree(swarm: &TestSwarm) {
    let (stats, spent) = (swarm.json(["stats"])["total"].take(), swarm.json(["budget"])["total"].take());
    for name in ["input_tokens", "output_tokens", "cost_usd"] {
        let (said, kept) = (stats[name].as_f64(), spent[name].as_f64());
        let is_equal = said.zip(kept).is_some_and(|(said, kept)| (said - kept).abs() < 1e-9);
        assert!(is_equal, "{name}: {stats:#}\n{spent:#}");
    }
}

#[test]
fn statistics_and_the_ledger_agree_on_what_was_used_whatever_happened_to_the_worker() {
    let swarm = stage("limits: {grace: 300ms}\n", &["three", "hang-lost", "hang-stopped"]);
    swarm.run(["spawn", "three", "--headless", "--wait"]).success();
    assert_stats_agree(&swarm);
    // A second attempt at the same ticket.
    swarm.run(["restart", "three"]).success();
    assert_ne!(swarm.run(["wait", "three", "--timeout", "60s"]).code, 6);
    assert_eq!(row(&swarm, "ticket", "three")["attempts"], 2);
    assert_stats_agree(&swarm);
    for ticket in ["hang-lost", "hang-stopped"] {
        swarm.run(["spawn", ticket, "--headless"]).success();
        swarm.wait_until("two answers", || {
            let view = swarm.json(["budget", "--by", "ticket"]);
            view["rows"].as_array().unwrap().iter().any(|row| row["name"] == ticket && row["input_tokens"] == 200)
        });
    }
    let pid = scene::worker(&swarm, "hang-lost")["supervisor_pid"].clone();
    scene::signal(&pid, rustix::process::Signal::KILL);
    await_status(&swarm, "hang-lost", "lost");
    swarm.run(["stop", "hang-stopped"]).success();
    for ticket in ["hang-lost", "hang-stopped"] {
        swarm.run(["resume", ticket]).success();
        swarm.run(["wait", ticket, "--for", "review", "--timeout", "60s"]).success();
    }
    assert_stats_agree(&swarm);
}

#[test]
fn a_day_budget_ends_the_agent_keeps_its_work_and_lets_nothing_start() {
    let swarm = stage("budget: {day: {tokens: 220}}\n", &["hang", "three"]);
    swarm.run(["spawn", "hang", "--headless"]).success();
    let ended = swarm.run(["wait", "hang", "--timeout", "60s", "--json"]).expect_code(7).json();
    assert_conforms(&ended, "wait");
    let worker = &ended["workers"][0];
    assert_eq!(worker["status"], "stopped");
    assert!(worker["limit_reached"].as_str().unwrap().contains("today's budget of 220 tokens"), "{worker:#}");
    assert_eq!(std::fs::read_to_string(swarm.worktree("hang").join("a.txt")).unwrap(), "a\n");
    let refused = swarm.run(["spawn", "three", "--headless"]).expect_code(7);
    refused.says("today's budget of 220 tokens was reached (220 spent)");
    refused.says("--config budget.day.tokens=N");
    swarm.run(["spawn", "three", "--headless", "--dry-run"]).expect_code(7).says("budget");
    swarm.run(["resume", "hang"]).expect_code(7).says("budget.day.tokens");
    swarm.run(["restart", "hang"]).expect_code(7).says("budget.day.tokens");
    assert!(!swarm.worktree("three").exists(), "a refusal has no effect");
    let once = ["spawn", "three", "--headless", "--wait", "--config", "budget.day.tokens=100000"];
    swarm.run(once).success();
}

#[test]
fn a_coordinator_goes_on_with_a_ticket_whose_budget_is_raised_in_its_file() {
    let swarm = stage("limits: {grace: 300ms}\n", &[]);
    let ticket = |tokens: u64| {
        let text = format!("---\nagent: own\nbudget: {{tokens: {tokens}}}\n---\nSCRIPT:hang\nDo the work.\n");
        swarm.write(".swarm/tickets/hang.md", &text);
    };
    ticket(220);
    swarm.run(["spawn", "hang", "--headless"]).success();
    swarm.run(["wait", "hang", "--timeout", "60s"]).expect_code(7);
    swarm.run(["queue", "retry", "hang"]).success();
    swarm.run(["up", "--headless"]).success();
    let why = || swarm.json(["queue", "list"])["tickets"][0]["why"].as_str().unwrap_or_default().to_owned();
    swarm.wait_until("the hold", || why().starts_with("is not started: "));
    ticket(100_000);
    swarm.wait_until("two more answers", || row(&swarm, "ticket", "hang")["input_tokens"].as_u64() >= Some(400));
    assert_eq!(scene::worker(&swarm, "hang")["status"], "working");
    swarm.run(["down"]).success();
    swarm.run(["stop", "hang"]).success();
}

#[test]
fn an_agent_can_be_held_at_its_budget_and_goes_on_when_that_is_raised() {
    let swarm = stage("budget: {run: {tokens: 300}, on_reached: pause}\n", &["three"]);
    swarm.run(["spawn", "three"]).success();
    let held = swarm.run(["wait", "three", "--timeout", "60s", "--json"]).expect_code(7).json();
    let worker = &held["workers"][0];
    assert_eq!(worker["status"], "paused", "{worker:#}");
    assert!(worker["reason"].as_str().unwrap().contains("this run's budget of 300 tokens"), "{worker:#}");
    swarm.run(["resume", "three"]).expect_code(7).says("budget.run.tokens");
    assert_eq!(scene::worker(&swarm, "three")["status"], "paused");
    swarm.run(["resume", "three", "--config", "budget.run.tokens=9000"]).success();
    swarm.run(["wait", "three", "--for", "review", "--timeout", "60s"]).success();
    assert_eq!(scene::worker(&swarm, "three")["limit_reached"], Value::Null);
}

#[test]
fn an_agent_that_runs_far_over_its_budget_in_one_turn_is_stopped_even_so() {
    let swarm = stage("budget: {ticket: {tokens: 110}, on_reached: pause}\n", &["hang"]);
    swarm.run(["spawn", "hang"]).success();
    swarm.run(["wait", "hang", "--timeout", "60s"]).expect_code(7).says("reached a limit");
    await_status(&swarm, "hang", "stopped");
}

#[test]
fn a_tickets_budget_counts_all_its_attempts_and_can_be_raised_in_its_file() {
    let swarm = stage("", &["hang"]);
    let ticket = swarm.read(".swarm/tickets/hang.md");
    let with = |budget: &str| ticket.replacen("---\n", &format!("---\nbudget: {budget}\n"), 1);
    swarm.write(".swarm/tickets/hang.md", &with("{tokens: 150}"));
    swarm.run(["spawn", "hang", "--headless", "--wait"]).expect_code(7).says("reached a limit");
    swarm.run(["spawn", "hang", "--headless"]).expect_code(7).says("the ticket's budget of 150 tokens");
    swarm.run(["restart", "hang"]).expect_code(7).says("in the ticket's file");
    swarm.write(".swarm/tickets/hang.md", &with("{tokens: 400}"));
    swarm.run(["restart", "hang"]).success();
    // The second attempt gets what the first one left.
    let ended = swarm.run(["wait", "hang", "--timeout", "60s", "--json"]).expect_code(7).json();
    let reached = ended["workers"][0]["limit_reached"].as_str().unwrap();
    assert!(reached.contains("of 400 tokens was reached (440 spent)"), "{reached}");
    assert_eq!(row(&swarm, "ticket", "hang")["attempts"], 2);
}

#[test]
fn an_agent_that_tells_nothing_is_held_by_its_time() {
    let swarm = stage("limits: {grace: 300ms}\n", &[]);
    swarm.write_shell_agent("slow", "echo half > half.txt; exec tail -f /dev/null");
    swarm.write(".swarm/tickets/slow.md", "---\nagent: slow\nbudget: {time: 1s}\n---\nWork.\n");
    swarm.run(["spawn", "slow", "--headless", "--wait"]).expect_code(7).says("reached a limit");
    assert!(row(&swarm, "ticket", "slow")["time_ms"].as_u64().unwrap() >= 1_000);
    assert!(swarm.worktree("slow").join("half.txt").exists());
    // Where only money is limited, a person is told that nothing will hold it.
    swarm.write(".swarm/config.yaml", "budget: {day: {usd: 5}}\nlimits: {grace: 300ms}\n");
    swarm.write(".swarm/tickets/blind.md", "---\nagent: slow\n---\nWork.\n");
    let told = swarm.run(["spawn", "blind", "--headless"]).expect_code(0);
    told.says("only a budget of time holds it");
    swarm.run(["stop", "blind"]).success();
}

#[test]
fn an_agent_starts_no_workers_unless_a_person_allows_it() {
    let swarm = stage("", &["three"]);
    let script = format!("\"{SWARM}\" spawn three --headless $FLAGS > said.txt 2>&1; echo $? > code.txt");
    swarm.write_shell_agent("greedy", &script);
    swarm.write_ticket("greedy", "greedy", "Start more.");
    let file = |name: &str| std::fs::read_to_string(swarm.worktree("greedy").join(name)).unwrap();
    swarm.run(["spawn", "greedy", "--headless", "--wait"]).success();
    assert_eq!(file("code.txt"), "7\n", "{}", file("said.txt"));
    assert!(file("said.txt").contains("limits.spawn_depth"), "{}", file("said.txt"));
    // What it sets itself raises nothing.
    let script = script.replace("$FLAGS", "--config limits.spawn_depth=9");
    swarm.write_shell_agent("greedy", &script);
    swarm.run(["restart", "greedy"]).success();
    swarm.run(["wait", "greedy", "--timeout", "60s"]).success();
    assert_eq!(file("code.txt"), "7\n", "{}", file("said.txt"));
    swarm.write(".swarm/config.yaml", "limits: {spawn_depth: 2}\n");
    swarm.write_shell_agent("greedy", &script.replace("--config limits.spawn_depth=9", ""));
    swarm.run(["restart", "greedy"]).success();
    swarm.run(["wait", "greedy", "--timeout", "60s"]).success();
    assert_eq!(file("code.txt"), "0\n", "{}", file("said.txt"));
    assert_eq!(scene::worker(&swarm, "three")["ticket"], "three");
}

/// What a reviewer plays that never comes to its verdict.
const HANGS: &str = r#"
usage: {input_tokens: 100, output_tokens: 10}
conversations:
  - name: three
    turns:
      - calls:
          - Bash: {command: "sh -c 'tail -f /dev/null'"}
      - say: Never said.
"#;

#[test]
fn what_a_reviewer_used_that_ran_out_of_time_is_counted() {
    let swarm = stage("review: {timeout: 4s}\n", &["three"]);
    swarm.write("hangs.yaml", HANGS);
    let rules = "permission_mode: acceptEdits\npermissions:\n  allow: [\"Bash(sh -c *)\"]\n";
    let head = format!("name: slow\ndescription: x\nruntime: replay\nmodel: hangs.yaml\n{rules}");
    swarm.write(".swarm/agents/slow.md", &format!("---\n{head}---\nReview.\n"));
    swarm.run(["spawn", "three", "--headless", "--wait"]).success();
    swarm.run(["review", "three", "--ask", "slow"]).says("slow");
    let row = row(&swarm, "agent", "slow");
    let tokens = row["input_tokens"].as_u64().unwrap();
    assert!(tokens > 0 && tokens.is_multiple_of(100), "{row:#}");
}

#[test]
fn a_spawn_says_what_a_budget_of_money_means_for_a_model_without_a_price() {
    let swarm = TestSwarm::new();
    let provider = "providers: {far: {kind: openai, url: \"http://192.0.2.1/v1\"}}\n";
    swarm.write(".swarm/config.yaml", provider);
    swarm
        .write(".swarm/agents/own.md", "---\nname: own\ndescription: x\nruntime: ollama\nmodel: far/new\n---\nWork.\n");
    swarm.write(".swarm/tickets/plain.md", "---\nagent: own\n---\nWork.\n");
    swarm.write(".swarm/tickets/held.md", "---\nagent: own\nbudget: {usd: 1}\n---\nWork.\n");
    let plan =
        |ticket: &str| swarm.json(["spawn", ticket, "--headless", "--dry-run"])["spawned"][0]["warnings"].to_string();
    assert!(plan("held").contains("the price of `far/new` is not known, so it is not asked"), "{}", plan("held"));
    assert!(!plan("plain").contains("price"), "{}", plan("plain"));
    swarm.write(".swarm/config.yaml", &format!("{provider}budget: {{day: {{usd: 5}}}}\n"));
    assert!(plan("plain").contains("budgets of money do not count it"), "{}", plan("plain"));
}
