//! Budgets of clones that share a queue: each goes by what all of them spent.

use std::path::Path;

use serde_json::Value;

use crate::budget::{SCRIPT, write_player};
use crate::support::nodes::Nodes;
use crate::support::schema::assert_conforms;

/// One more of these conversations, which waits after 220 tokens.
const HELD: &str = r#"  - name: held
    turns:
      - calls:
          - Write: {file_path: a.txt, content: "a\n"}
      - calls:
          - Bash: {command: "sh -c 'while ! test -e ROOT/go; do sleep 0.05; done'"}
      - say: Done.
"#;

/// Clones of a repository with this configuration, whose agent plays a conversation for each of these tickets, which have
/// more in their heads.
fn stage(config: &str, tickets: &[(&str, &str, &str)]) -> Nodes {
    let nodes = Nodes::new("", config, &[]);
    let swarm = &nodes.swarm;
    write_player(swarm, &format!("{SCRIPT}{}", HELD.replace("ROOT", &swarm.root().display().to_string())));
    for (ticket, plays, more) in tickets {
        let text = format!("---\nagent: own\n{more}---\nSCRIPT:{plays}\nDo the work.\n");
        swarm.write(&format!(".swarm/tickets/{ticket}.md"), &text);
    }
    swarm.git(["add", "--all"]).success();
    swarm.git(["commit", "--quiet", "-m", "Conversations"]).success();
    nodes
}

/// The rows of `swarm budget --by node` in a clone: who, and how many input tokens.
fn by_node(nodes: &Nodes, clone: &Path) -> Vec<(String, u64)> {
    let view = nodes.json(clone, &["budget", "--by", "node"]);
    assert_conforms(&view, "budget");
    let rows = view["rows"].as_array().unwrap().iter();
    let mut rows: Vec<_> =
        rows.map(|row| (row["name"].as_str().unwrap().to_owned(), row["input_tokens"].as_u64().unwrap())).collect();
    rows.sort();
    rows
}

#[test]
fn a_days_budget_is_one_for_all_clones_of_a_queue() {
    let nodes =
        stage("budget: {day: {tokens: 500}}\n", &[("one", "three", ""), ("two", "held", ""), ("three", "three", "")]);
    let swarm = &nodes.swarm;
    let clone = nodes.second();
    swarm.git(["clone", "--quiet", ".", clone.to_str().unwrap()]).success();
    for (place, name) in [(nodes.first(), "a"), (clone.clone(), "b")] {
        let own = format!("{{\"queue\": {{\"url\": \"{}\"}}, \"node\": {{\"name\": \"{name}\"}}}}\n", nodes.url());
        swarm.write_at(&place.join(".git/swarm/config.yaml"), &own);
    }
    swarm.run(["spawn", "one", "--headless", "--wait"]).success();
    // Nobody coordinates: the worker's own supervisor told it, and whoever looks hears it.
    let known = |place: &Path, wanted: &[(&str, u64)]| {
        let wanted: Vec<_> = wanted.iter().map(|(name, tokens)| ((*name).to_owned(), *tokens)).collect();
        swarm.wait_until("what others spent to be known", || by_node(&nodes, place) == wanted);
    };
    known(&clone, &[("a", 300)]);
    swarm.run_in(&clone, ["spawn", "two", "--headless", "--wait"]).expect_code(7);
    known(&nodes.first(), &[("a", 300), ("b", 200)]);
    // The second one was stopped by the sum, and a third is not begun anywhere.
    let status = nodes.json(&clone, &["status", "--all"]);
    let why = status["workers"][0]["limit_reached"].as_str().unwrap().to_owned();
    assert!(why.contains("today's budget of 500 tokens was reached (550 spent)"), "{why}");
    for place in [nodes.first(), clone.clone()] {
        let refused = swarm.run_in(&place, ["spawn", "three", "--headless"]).expect_code(7);
        refused.says("today's budget of 500 tokens was reached (550 spent)");
        refused.says("--config budget.day.tokens=N");
        assert!(!place.join(".git/swarm/workers/three").exists());
    }
    let view = nodes.json(&nodes.first(), &["budget"]);
    let limit = view["limits"].as_array().unwrap().iter().find(|limit| limit["what"] == "tokens").unwrap();
    assert_eq!((&limit["spent"], &limit["is_reached"]), (&550.0.into(), &true.into()), "{view:#}");
    let rows: Vec<_> = view["rows"].as_array().unwrap().iter().map(|row| (&row["name"], &row["attempts"])).collect();
    assert_eq!(rows, [(&"one".into(), &1.into()), (&"two".into(), &1.into())], "{view:#}");
}

#[test]
fn a_ticket_that_used_up_its_budget_on_one_node_is_not_begun_on_another() {
    let nodes = stage("", &[("fix", "held", "budget: {tokens: 200}\n")]);
    let swarm = &nodes.swarm;
    nodes.join_first(&[]);
    nodes.join_second(&[]);
    nodes.drain("b");
    swarm.run(["queue", "add", "fix"]).success();
    let is_stopped = || !nodes.json(&nodes.first(), &["status", "--all"])["workers"][0]["limit_reached"].is_null();
    swarm.wait_until("its agent to be stopped", is_stopped);
    nodes.drain("a");
    swarm.run(["node", "drain", "b", "--undo"]).success();
    swarm.run(["queue", "retry", "fix"]).success();
    let why = || swarm.run_in(&nodes.second(), ["why", "fix", "--json"]).expect_code(0).stdout;
    let said = "the ticket's budget of 200 tokens was reached (220 spent)";
    swarm.wait_until("the other node to leave it", || why().contains(said));
    let begun = nodes.second().join(".git/swarm/workers/fix");
    assert!(!begun.exists(), "nothing was started: {}", why());
    // A person who raises it lets it begin.
    swarm.write_at(&nodes.place("go"), "");
    let raised = "---\nagent: own\nbudget: {tokens: 900}\n---\nSCRIPT:held\nDo the work.\n";
    for place in [nodes.first(), nodes.second()] {
        swarm.write_at(&place.join(".swarm/tickets/fix.md"), raised);
    }
    swarm.wait_until("it to land", || nodes.states(&nodes.first()).get("fix") == Some(&"landed".to_owned()));
    let both = [("a".to_owned(), 200), ("b".to_owned(), 300)];
    swarm.wait_until("the first to know what that cost", || by_node(&nodes, &nodes.first()) == both);
    nodes.down();
}

#[test]
fn while_the_server_is_away_what_is_known_counts_and_is_told_when_it_is_back() {
    let nodes = stage("budget: {day: {tokens: 5000}}\n", &[("one", "three", ""), ("two", "three", "")]);
    let swarm = &nodes.swarm;
    nodes.join_first(&[]);
    nodes.join_second(&[]);
    nodes.drain("b");
    swarm.run(["queue", "add", "one"]).success();
    swarm.wait_until("the other clone to know", || by_node(&nodes, &nodes.second()) == [("a".to_owned(), 300)]);
    let nodes = nodes.without_server(|nodes| {
        let shown = nodes.swarm.run_in(&nodes.second(), ["budget", "--json"]);
        let view: Value = shown.expect_code(0).json();
        assert_eq!(view["total"]["input_tokens"], 300);
        let told = view["warnings"]
            .as_array()
            .unwrap()
            .iter()
            .any(|text| text.as_str().unwrap().contains("of late is missing"));
        assert!(told, "{view:#}");
    });
    let swarm = &nodes.swarm;
    swarm.wait_until("the server to be back", || swarm.run(["queue", "add", "two"]).code == 0);
    let both = [("a".to_owned(), 600)];
    swarm.wait_until("the other clone to know", || by_node(&nodes, &nodes.second()) == both);
    nodes.down();
}
