//! Topologies: each is seen in who may message and assign whom, in who takes what, and in its drawing, and can be changed
//! while workers run.

#[cfg(feature = "real-agents")]
mod nodes;
mod ring;

use serde_json::Value;

use crate::support::schema::assert_conforms;
use crate::support::swarm::{SWARM, TestSwarm};

/// An agent that runs whatever is left for it in `FOLDER/do.WORKER`, tells what came of it in `FOLDER/done.WORKER`, and ends
/// when `FOLDER/wait.WORKER` is gone.
const SCRIPT: &str = r#"
touch "$FOLDER/begun.$SWARM_WORKER"
while [ -e "$FOLDER/wait.$SWARM_WORKER" ]; do
  if [ -e "$FOLDER/do.$SWARM_WORKER" ]; then
    sh "$FOLDER/do.$SWARM_WORKER" > "$FOLDER/out" 2>&1
    echo "code $?" >> "$FOLDER/out"
    rm "$FOLDER/do.$SWARM_WORKER"
    mv "$FOLDER/out" "$FOLDER/done.$SWARM_WORKER"
  fi
  sleep 0.05
done
echo "$SWARM_WORKER" >> "$SWARM_WORKER.txt"
"#;

/// A repository whose agent is that one; `config` is more of its configuration.
fn repository(config: &str) -> TestSwarm {
    let swarm = TestSwarm::new();
    let limits = "limits: {grace: 500ms, messages: 99, mailbox: 50, spawn_depth: 2}\nmax_workers: 9\n";
    swarm.write(".swarm/config.yaml", &format!("{limits}{config}"));
    std::fs::create_dir(folder(&swarm)).unwrap();
    swarm.write_shell_agent("shell", &SCRIPT.replace("$FOLDER", folder(&swarm).to_str().unwrap()));
    swarm
}

/// Where agents and tests leave things for each other.
fn folder(swarm: &TestSwarm) -> std::path::PathBuf {
    swarm.root().join("talk")
}

/// Writes a ticket whose agent waits; `more` is more of its front matter.
fn waiting_ticket(swarm: &TestSwarm, id: &str, more: &str) {
    swarm.write(&format!(".swarm/tickets/{id}.md"), &format!("---\nagent: shell\n{more}\n---\nDo {id}.\n"));
    swarm.write_at(&folder(swarm).join(format!("wait.{id}")), "");
}

/// Lets agents end.
fn let_go(swarm: &TestSwarm, ids: &[&str]) {
    for id in ids {
        std::fs::remove_file(folder(swarm).join(format!("wait.{id}"))).unwrap();
    }
}

/// Waits until the agents of tickets have begun.
fn await_begun(swarm: &TestSwarm, ids: &[&str]) {
    for id in ids {
        swarm.wait_until("its agent to begin", || folder(swarm).join(format!("begun.{id}")).exists());
    }
}

/// Lets a worker's agent run `swarm` with these arguments; its exit code and what it said.
fn agent_runs(swarm: &TestSwarm, worker: &str, args: &str) -> (i32, String) {
    let done = folder(swarm).join(format!("done.{worker}"));
    let draft = folder(swarm).join("draft");
    swarm.write_at(&draft, &format!("'{SWARM}' {args}\n"));
    std::fs::rename(draft, folder(swarm).join(format!("do.{worker}"))).unwrap();
    swarm.wait_until("the agent to have run it", || done.exists());
    let said = std::fs::read_to_string(&done).unwrap();
    std::fs::remove_file(done).unwrap();
    let code = said.lines().last().unwrap().strip_prefix("code ").unwrap().parse().unwrap();
    (code, said)
}

/// The tickets that run.
fn running(swarm: &TestSwarm) -> Vec<String> {
    let list = swarm.json(["queue", "list", "--all"]);
    let entries = list["tickets"].as_array().unwrap().iter().filter(|entry| entry["state"] == "running");
    let mut ids: Vec<_> = entries.map(|entry| entry["ticket"].as_str().unwrap().to_owned()).collect();
    ids.sort_unstable();
    ids
}

/// The topology as it is shown.
fn shown(swarm: &TestSwarm) -> Value {
    let view = swarm.json(["topology", "show"]);
    assert_conforms(&view, "topology");
    view
}

#[test]
fn who_may_message_and_assign_whom_follows_the_topology_and_changes_while_workers_run() {
    let swarm = repository("topologies: {near: {kind: mesh, connection_strategy: nearest}}\n");
    waiting_ticket(&swarm, "a", "labels: [ui]\nscope: [\"src/a/**\"]");
    waiting_ticket(&swarm, "b", "labels: [core]\nscope: [\"src/a/**\"]");
    waiting_ticket(&swarm, "c", "labels: [ui]\nscope: [\"src/c/**\"]");
    waiting_ticket(&swarm, "d", "");
    swarm.run(["spawn", "a", "b", "c"]).success();
    await_begun(&swarm, &["a", "b", "c"]);
    // To `b`, to `c`, and whether `a` may queue a ticket.
    let may = || ["send b hello", "send c hello", "queue add d"].map(|args| agent_runs(&swarm, "a", args).0);
    assert_eq!(
        (shown(&swarm)["topology"]["kind"].clone(), shown(&swarm)["source"].clone()),
        ("mesh".into(), "default".into())
    );
    assert_eq!(may(), [0, 0, 0]);
    swarm.run(["topology", "set", "star"]).says("Changed the topology from mesh to star");
    assert_eq!(may(), [1, 1, 1]);
    let (_, said) = agent_runs(&swarm, "a", "send b hello");
    assert!(said.contains("worker `a` may not message `b`: the topology is star, in which only people"), "{said}");
    assert!(said.contains("hint: swarm bus publish coordination"), "{said}");
    let (_, said) = agent_runs(&swarm, "a", "spawn d");
    assert!(said.contains("worker `a` may not assign work to others: the topology is star"), "{said}");
    assert_eq!(agent_runs(&swarm, "a", "bus publish general hello").0, 0, "channels are for everybody");
    swarm.run(["send", "b", "from a person"]).success();
    swarm.run(["topology", "set", "near"]).says("from star to near (mesh)");
    assert_eq!(may(), [0, 1, 0]);
    swarm.run(["topology", "set", "hierarchical", "levels.supervisor=2", "levels.worker=8"]).success();
    assert_eq!(may(), [1, 0, 1]);
    let (code, said) = agent_runs(&swarm, "a", "topology set mesh");
    assert!(code == 1 && said.contains("worker `a` may not change the topology of all"), "{said}");
    swarm.run(["topology", "reset"]).says("from hierarchical to mesh");
    assert_eq!(may(), [0, 0, 0]);
    let events = swarm.run(["events"]).success();
    assert!(events.contains("the topology changed from star to near (mesh)"), "{events}");
    let_go(&swarm, &["a", "b", "c"]);
}

#[test]
fn an_agent_that_may_not_assign_cannot_begin_the_work_of_others_anew_either() {
    let swarm = repository("topology: star\n");
    for id in ["a", "b", "c"] {
        waiting_ticket(&swarm, id, "");
    }
    swarm.run(["spawn", "a", "b", "c"]).success();
    await_begun(&swarm, &["a", "b", "c"]);
    let_go(&swarm, &["c"]);
    let state = |id: &str| {
        let list = swarm.json(["queue", "list", "--all"]);
        let entries = list["tickets"].as_array().unwrap();
        let entry = entries.iter().find(|entry| entry["ticket"] == id).unwrap();
        (entry["state"].as_str().unwrap().to_owned(), entry["attempts"].as_u64().unwrap())
    };
    swarm.wait_until("the work to be finished", || state("c").0 == "review");
    let before = (state("b"), state("c"));
    for args in ["restart b", "resume b", "resume c", "queue retry c"] {
        let (code, said) = agent_runs(&swarm, "a", args);
        let refusal = "worker `a` may not assign work to others: the topology is star";
        assert!(code == 1 && said.contains(refusal), "{args}: {said}");
    }
    let (code, said) = agent_runs(&swarm, "a", "review c --reject -m 'Do it again.'");
    assert!(code == 1 && said.contains("worker `a` may not message `c`: the topology is star"), "{said}");
    assert_eq!((state("b"), state("c")), before);
    // A person may, and so may an agent where everybody is equal.
    swarm.run(["restart", "b"]).success();
    let restarted = state("b");
    assert_eq!(restarted.1, before.0.1 + 1);
    swarm.run(["topology", "set", "mesh"]).success();
    assert_eq!(agent_runs(&swarm, "a", "restart b").0, 0);
    assert_eq!(state("b").1, restarted.1 + 1);
    swarm.write_at(&folder(&swarm).join("wait.c"), "");
    assert_eq!(agent_runs(&swarm, "a", "review c --reject -m 'Do it again.'").0, 0);
    swarm.wait_until("it to be worked on again", || state("c").0 == "running");
    let_go(&swarm, &["a", "b", "c"]);
}

#[test]
fn supervisors_own_parts_of_the_tickets_until_the_topology_is_another_one() {
    let config = "topology: {kind: hierarchical, levels: {supervisor: 2, worker: 2}, parent_child_ratio: 1}\n";
    let swarm = repository(config);
    for (id, label) in [("a1", "ui"), ("a2", "ui"), ("b1", "core"), ("a3", "ui")] {
        waiting_ticket(&swarm, id, &format!("labels: [{label}]"));
    }
    swarm.run(["queue", "add", "a1", "a2", "b1", "a3"]).success();
    swarm.run(["up", "--headless"]).success();
    await_begun(&swarm, &["a1", "b1"]);
    swarm.wait_until("the others to be held", || {
        let why = swarm.run(["why", "a2"]);
        why.stdout.contains("waits for `supervisor-1`, which has 1 worker and may have 1")
    });
    assert_eq!(running(&swarm), ["a1", "b1"]);
    let view = shown(&swarm);
    let member = |id: &str| view["members"].as_array().unwrap().iter().find(|member| member["id"] == id).unwrap();
    assert_eq!((&member("a1")["parent"], &member("b1")["parent"]), (&"supervisor-1".into(), &"supervisor-2".into()));
    assert_eq!(member("supervisor-1")["tickets"], serde_json::json!(["a2", "a3"]));
    assert_eq!((&member("a1")["role"], &member("supervisor-1")["role"]), (&"worker".into(), &"supervisor".into()));
    // Another supervisor that has room takes nothing of the first one's.
    let_go(&swarm, &["b1"]);
    swarm.run(["wait", "b1", "--for", "review", "--timeout", "60s"]).expect_code(0);
    assert_eq!(running(&swarm), ["a1"]);
    let_go(&swarm, &["a1"]);
    await_begun(&swarm, &["a2"]);
    assert_eq!(running(&swarm), ["a2"]);
    // In a mesh nobody owns anything: the coordinator that runs goes by that at once.
    swarm.run(["topology", "set", "mesh"]).success();
    await_begun(&swarm, &["a3"]);
    assert_eq!(running(&swarm), ["a2", "a3"]);
    let_go(&swarm, &["a2", "a3"]);
    swarm.run(["wait", "a2", "a3", "--for", "review", "--timeout", "60s"]).expect_code(0);
    swarm.run(["down"]).success();
}

#[test]
fn a_star_bounds_all_workers() {
    let swarm = repository("topology: star\n");
    for id in ["a", "b", "c"] {
        waiting_ticket(&swarm, id, "");
    }
    swarm.run(["topology", "set", "star", "max_workers=2"]).success();
    swarm.run(["queue", "add", "a", "b", "c"]).success();
    swarm.run(["up", "--headless"]).success();
    await_begun(&swarm, &["a", "b"]);
    swarm.wait_until("the third to be held", || {
        swarm.run(["why", "c"]).stdout.contains("waits for a place: 2 of 2 workers run")
    });
    swarm.run(["topology", "reset"]).success();
    await_begun(&swarm, &["c"]);
    let_go(&swarm, &["a", "b", "c"]);
    swarm.run(["wait", "a", "b", "c", "--for", "review", "--timeout", "60s"]).expect_code(0);
    swarm.run(["down"]).success();
}

#[test]
fn topologies_are_listed_drawn_and_checked() {
    let swarm = repository("topology: calm\ntopologies: {calm: {kind: star, max_workers: 2}}\n");
    let list = swarm.json(["topology", "list"]);
    assert_conforms(&list, "topologies");
    let in_force = list["topologies"].as_array().unwrap().iter().find(|known| known["is_in_force"] == true).unwrap();
    assert_eq!((&in_force["name"], &in_force["topology"]["max_workers"]), (&"calm".into(), &2.into()));
    swarm.run(["topology", "list"]).says("parent_child_ratio=4");
    swarm
        .run(["topology", "show"])
        .says("calm: star (coordinator_count=1 max_workers=2 failover_coordinator=true), by the configuration");
    swarm.run(["topology", "show", "hierarchical"]).says("supervisor-3 (supervisor)");
    waiting_ticket(&swarm, "a", "");
    waiting_ticket(&swarm, "b", "");
    swarm.run(["spawn", "a", "b"]).success();
    swarm.run(["topology", "show"]).says("├─ a (worker) ");
    let mermaid = swarm.run(["topology", "show", "mesh", "--format", "mermaid"]).success();
    assert!(mermaid.starts_with("flowchart TD\n  n0[\"") && mermaid.contains("n0 --> n1"), "{mermaid}");
    assert!(mermaid.contains("n1 -.- n2"), "workers of a mesh talk: {mermaid}");
    let star = swarm.run(["topology", "show", "--format", "dot"]).success();
    assert!(star.starts_with("digraph swarm {\n") && star.ends_with("}\n"), "{star}");
    assert!(star.contains("n0 -> n2;") && !star.contains("dashed"), "workers of a star do not: {star}");
    swarm.run(["topology", "set", "ring", "agents=shell,nosuch"]).expect_code(2).says("there is no agent `nosuch`");
    swarm.run(["topology", "set", "cube"]).expect_code(2).says("there is no topology `cube`; there are star");
    swarm.run(["topology", "set", "calm", "max_workers=3"]).expect_code(2).says("takes no others");
    let refused = swarm.run(["topology", "set", "hierarchical", "levels.worker=99"]).expect_code(2);
    refused.says("`levels.worker`: 3 supervisors with 4 workers each have 12 workers at most");
    refused.says("hint: swarm topology list");
    let plan = swarm.json(["topology", "set", "mesh", "--dry-run"]);
    assert_conforms(&plan, "topology_changed");
    assert_eq!((&plan["changed"], &shown(&swarm)["topology"]["kind"]), (&true.into(), &"star".into()));
    let_go(&swarm, &["a", "b"]);
    swarm.run(["wait", "a", "b", "--for", "review", "--timeout", "60s"]).expect_code(0);
    swarm.write(".swarm/config.yaml", "topology: {kind: star, max_workers: 0}\n");
    swarm.run(["topology", "show"]).expect_code(2).says("`topology.max_workers`: at least one worker is needed");
    swarm.write(".swarm/config.yaml", "topologies: {mesh: {kind: star}}\n");
    swarm.run(["topology", "show"]).expect_code(2).says("a kind is no name");
}
