//! Rings: the branch of a ticket passes several agents in order.

use rustix::process::{Pid, Signal, kill_process};

use super::shown;
use crate::support::swarm::TestSwarm;

/// An agent that notes that it is its turn and what it was told, waits until it may end, commits, and leaves a result.
const SCRIPT: &str = r#"
me=$SWARM_AGENT_NAME
echo "$me" >> "$FOLDER/turns.$SWARM_TICKET"
cp "$SWARM_PROMPT_FILE" "$FOLDER/prompt.$me"
while [ -e "$FOLDER/wait.$me" ]; do sleep 0.05; done
echo "$me" >> "$SWARM_TICKET.txt"
git add --all
git commit --quiet -m "$SWARM_TICKET by $me"
echo "I am $me" > "$SWARM_RESULT_FILE"
"#;

/// A repository whose agents `one`, `two` and `three` are that one, with a ticket that names nobody.
fn repository(config: &str) -> TestSwarm {
    let swarm = TestSwarm::new();
    swarm.write_at(&swarm.root().join("home/.gitconfig"), "[user]\nname = Person\nemail = person@example.com\n");
    swarm.write(".swarm/config.yaml", &format!("agent: one\nlimits: {{grace: 500ms}}\n{config}"));
    std::fs::create_dir(folder(&swarm)).unwrap();
    let script = SCRIPT.replace("$FOLDER", folder(&swarm).to_str().unwrap());
    for agent in ["one", "two", "three"] {
        swarm.write_shell_agent(agent, &script);
    }
    swarm.write(".swarm/tickets/t.md", "---\ntitle: Go round\n---\nDo it.\n");
    swarm
}

fn folder(swarm: &TestSwarm) -> std::path::PathBuf {
    swarm.root().join("ring")
}

/// A file that an agent left, empty where there is none.
fn found(swarm: &TestSwarm, name: &str) -> String {
    std::fs::read_to_string(folder(swarm).join(name)).unwrap_or_default()
}

/// Whose turn it was on a ticket, in order.
fn turns(swarm: &TestSwarm, ticket: &str) -> Vec<String> {
    found(swarm, &format!("turns.{ticket}")).lines().map(str::to_owned).collect()
}

/// Keeps an agent from ending its turn.
fn hold_back(swarm: &TestSwarm, agent: &str) {
    swarm.write_at(&folder(swarm).join(format!("wait.{agent}")), "");
}

/// Lets it end.
fn let_go(swarm: &TestSwarm, agent: &str) {
    std::fs::remove_file(folder(swarm).join(format!("wait.{agent}"))).unwrap();
}

/// Waits until an agent has begun its turn on `t`.
fn await_turn(swarm: &TestSwarm, agent: &str) {
    swarm.wait_until("its turn", || turns(swarm, "t").last().is_some_and(|last| last == agent));
}

/// The state of a ticket, and how often it was attempted.
fn state(swarm: &TestSwarm, ticket: &str) -> (String, u64) {
    let list = swarm.json(["queue", "list", "--all"]);
    let entry = list["tickets"].as_array().unwrap().iter().find(|entry| entry["ticket"] == ticket).cloned().unwrap();
    (entry["state"].as_str().unwrap().to_owned(), entry["attempts"].as_u64().unwrap())
}

/// Kills the coordinator in the background, and waits until it is gone.
fn kill_coordinator(swarm: &TestSwarm) {
    let pid = swarm.json(["status"])["coordinator"]["pid"].as_i64().unwrap();
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
    swarm.wait_until("it to be gone", || swarm.json(["status"])["coordinator"]["state"] == "killed");
}

#[test]
fn the_branch_of_a_ticket_passes_the_agents_of_a_ring_in_order() {
    let swarm = repository("landing: {approval: auto}\ntopology: {kind: ring, agents: [one, two, three]}\n");
    swarm.write(".swarm/tickets/alone.md", "---\nagent: three\n---\nDo it alone.\n");
    hold_back(&swarm, "two");
    swarm.run(["up", "--headless", "--merge"]).success();
    swarm.run(["queue", "add", "t"]).success();
    await_turn(&swarm, "two");
    let view = shown(&swarm);
    assert_eq!(view["tokens"][0]["holder"], "two");
    swarm.run(["topology", "show"]).says("t: with two, 2 of 3");
    let why = swarm.run(["why", "t"]).success();
    assert!(why.contains("it goes round a ring, and `two` has its token, 2 of 3"), "{why}");
    let mermaid = swarm.run(["topology", "show", "--format", "mermaid"]).success();
    assert!(mermaid.contains("n1 ==> n2") && mermaid.contains("n2 --> n4"), "{mermaid}");
    // Another topology holds from now on; the ticket ends its round.
    swarm.run(["topology", "set", "mesh"]).success();
    let_go(&swarm, "two");
    swarm.wait_until("it to land", || state(&swarm, "t").0 == "landed");
    assert_eq!((turns(&swarm, "t"), state(&swarm, "t").1), (vec!["one".into(), "two".into(), "three".into()], 1));
    let log = swarm.git(["log", "--reverse", "--no-merges", "--format=%s", "main"]).success();
    let by: Vec<_> = log.lines().filter(|line| line.starts_with("t by ")).collect();
    assert_eq!(by, ["t by one", "t by two", "t by three"]);
    let prompt = found(&swarm, "prompt.two");
    assert!(prompt.contains("It is the turn of `two`, which is you: number 2 of 3."), "{prompt}");
    assert!(prompt.contains("`one` was at it before you") && prompt.contains("I am one"), "{prompt}");
    assert!(found(&swarm, "prompt.three").contains("I am two") && !found(&swarm, "prompt.one").contains("before you"));
    let events = swarm.run(["events"]).success();
    for said in ["its token is with one, 1 of 3", "passed from one to two, 2 of 3", "passed from two to three, 3 of 3"]
    {
        assert!(events.contains(said), "{said}: {events}");
    }
    // In a mesh a ticket is its agent's alone, and in a ring so is one that names somebody.
    swarm.run(["topology", "set", "ring", "agents=one,two"]).success();
    swarm.run(["queue", "add", "alone"]).success();
    swarm.wait_until("it to land", || state(&swarm, "alone").0 == "landed");
    assert_eq!(turns(&swarm, "alone"), ["three"]);
    swarm.run(["down"]).success();
}

#[test]
fn an_agent_that_changes_nothing_ends_its_turn_and_not_the_round() {
    let swarm = repository("landing: {approval: auto}\ntopology: {kind: ring, agents: [one, two, three]}\n");
    let plans = SCRIPT.replace("$FOLDER", folder(&swarm).to_str().unwrap());
    let plans =
        plans.replace("echo \"$me\" >> \"$SWARM_TICKET.txt\"\ngit add --all\n", "").replace("git commit", "true");
    swarm.write_shell_agent("one", &plans);
    swarm.run(["up", "--headless", "--merge"]).success();
    swarm.run(["queue", "add", "t"]).success();
    swarm.wait_until("it to land", || state(&swarm, "t").0 == "landed");
    assert_eq!(turns(&swarm, "t"), ["one", "two", "three"]);
    assert_eq!(swarm.git(["show", "main:t.txt"]).success(), "two\nthree\n");
    assert!(found(&swarm, "prompt.two").contains("I am one"));
    // Where nobody changes anything, there is nothing to land in the end.
    for agent in ["two", "three"] {
        swarm.write_shell_agent(agent, &plans);
    }
    swarm.write(".swarm/tickets/u.md", "---\ntitle: Nothing to do\n---\nLook.\n");
    swarm.run(["queue", "add", "u"]).success();
    swarm.wait_until("the round to end", || state(&swarm, "u").0 == "done");
    assert_eq!(turns(&swarm, "u"), ["one", "two", "three"]);
    swarm.run(["down"]).success();
}

#[test]
fn a_coordinator_that_is_killed_between_two_turns_skips_nobody_and_repeats_nobody() {
    let swarm = repository("topology: {kind: ring, agents: [one, two, three]}\n");
    hold_back(&swarm, "one");
    hold_back(&swarm, "two");
    swarm.run(["up", "--headless"]).success();
    swarm.run(["queue", "add", "t"]).success();
    await_turn(&swarm, "one");
    // Killed while the first is at it: the token is passed by the next one.
    kill_coordinator(&swarm);
    let_go(&swarm, "one");
    swarm.wait_until("the first turn to end", || state(&swarm, "t").0 == "review");
    assert_eq!(turns(&swarm, "t"), ["one"]);
    swarm.run(["up", "--headless"]).success();
    // Killed when the token was passed, before or after the second was started.
    swarm.wait_until("the token to pass", || swarm.run(["events"]).stdout.contains("passed from one to two"));
    kill_coordinator(&swarm);
    swarm.run(["up", "--headless"]).success();
    await_turn(&swarm, "two");
    let_go(&swarm, "two");
    swarm.run(["wait", "t", "--timeout", "60s"]).expect_code(0);
    assert_eq!(turns(&swarm, "t"), ["one", "two", "three"]);
    assert_eq!(state(&swarm, "t"), ("review".to_owned(), 1));
    assert_eq!(swarm.git(["show", "swarm/t:t.txt"]).success().trim(), "one\ntwo\nthree");
    swarm.run(["down"]).success();
}

#[test]
fn an_agent_that_cannot_begin_is_passed_over_or_waited_for() {
    let sick = "---\nname: sick\ndescription: Cannot run\nruntime: command\ncommand: [no-such-program-at-all]\n---\n";
    let ring = "topology: {kind: ring, agents: [one, sick, nobody, three], token_timeout_ms: 1500";
    let swarm = repository(&format!("{ring}}}\n"));
    swarm.write(".swarm/agents/sick.md", sick);
    let ran = swarm.run(["run", "t"]).expect_code(0);
    assert_eq!(turns(&swarm, "t"), ["one", "three"]);
    let said = ran.transcript();
    assert!(said.contains("`t` passes over sick to nobody: could not be started: agent `sick` cannot run"), "{said}");
    assert!(said.contains("`t` passes over nobody to three: there is no agent `nobody`"), "{said}");
    let events = swarm.run(["events"]).success();
    assert!(events.contains("sick was passed over"), "{events}");
    assert_eq!(state(&swarm, "t"), ("review".to_owned(), 1));

    let swarm = repository(&format!("{ring}, skip_unhealthy: false}}\n"));
    swarm.write(".swarm/agents/sick.md", sick);
    swarm.write_shell_agent("nobody", "true");
    swarm.run(["up", "--headless"]).success();
    swarm.run(["queue", "add", "t"]).success();
    swarm.wait_until("it to be held", || {
        swarm.run(["why", "t"]).stdout.contains("to mend `sick`, which has not taken its token within 1500 ms")
    });
    assert_eq!(turns(&swarm, "t"), ["one"]);
    swarm.write(".swarm/agents/sick.md", &swarm.read(".swarm/agents/two.md").replace("name: two", "name: sick"));
    swarm.wait_until("the round to end", || turns(&swarm, "t") == ["one", "sick", "three"]);
    swarm.run(["wait", "t", "--timeout", "60s"]).expect_code(0);
    swarm.run(["down"]).success();

    // The first of a ring has no more time than the others, whatever else is waited for.
    let patient = "run: {backoff: {first: 5m, max: 5m}}\n";
    let ring = "topology: {kind: ring, agents: [sick, three], token_timeout_ms: 1500}\n";
    let swarm = repository(&format!("{patient}{ring}"));
    swarm.write(".swarm/agents/sick.md", sick);
    swarm.run(["up", "--headless"]).success();
    swarm.run(["queue", "add", "t"]).success();
    swarm.wait_until("the round to end", || state(&swarm, "t").0 == "review");
    assert_eq!(turns(&swarm, "t"), ["three"]);
    swarm.run(["down"]).success();
}
