//! Bundles of commits that nodes hand to each other through the server, and the size that these may have.

use std::path::Path;

use crate::support::nodes::{Nodes, handed_over};
use crate::support::schema::assert_conforms;

/// A limit that small work is below, and three times as much above.
const LIMIT: &str = "node: {bundle_bytes: 20000}\n";

/// Writes one file, and for the ticket `large` one that nothing makes smaller.
const SCRIPT: &str = r#"
[ "$SWARM_TICKET" = large ] && head -c 60000 /dev/urandom > large.bin
echo "$SWARM_TICKET" > "$SWARM_TICKET.txt"
"#;

/// Raises the limit in the committed configuration of the first node.
fn raise_limit(nodes: &Nodes) {
    let config = nodes.swarm.read(".swarm/config.yaml").replace("20000", "2000000");
    nodes.swarm.write(".swarm/config.yaml", &config);
    nodes.swarm.git(["commit", "--quiet", "-am", "Raise the limit"]).success();
}

/// What holds a ticket, as a clone sees it.
fn hold(nodes: &Nodes, clone: &Path, ticket: &str) -> String {
    let holds = nodes.json(clone, &["status"])["holds"].as_array().cloned().unwrap_or_default();
    let hold = holds.iter().find(|hold| hold["ticket"] == ticket).cloned().unwrap_or_default();
    hold["why"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn work_that_is_too_large_for_the_server_is_held_for_a_person_and_lands_when_the_limit_is_raised() {
    let nodes = Nodes::new(SCRIPT, LIMIT, &["large", "small"]);
    let swarm = &nodes.swarm;
    nodes.join_first(&[]);
    nodes.join_second(&[]);
    nodes.drain("b");
    let before = nodes.head(&nodes.first());
    swarm.run(["queue", "add", "large"]).success();
    swarm.wait_until("the work to be held", || hold(&nodes, &nodes.first(), "large").contains("could not land"));
    let why = hold(&nodes, &nodes.first(), "large");
    assert!(why.contains("and `node.bundle_bytes` lets 20000 through the server of the queue at once"), "{why}");
    assert_eq!(nodes.states(&nodes.second())["large"], "approved");
    assert_eq!((nodes.head(&nodes.first()), nodes.head(&nodes.second())), (before.clone(), before));
    let tips = swarm.git(["for-each-ref", "refs/swarm/tip/", "refs/swarm/tips/", "refs/swarm/carried/"]).success();
    assert_eq!(tips, "", "nothing says that anything landed");
    let refused = swarm.run(["merge", "large"]).expect_code(4);
    refused.says("`node.bundle_bytes` lets 20000 through the server of the queue at once");
    refused.says("hint: in .swarm/config.yaml raise the limit, `node: {bundle_bytes: ");
    refused.says("or let a git remote carry commits, `node: {remote: origin}`");
    // Other work lands past it.
    swarm.run(["queue", "add", "small"]).success();
    nodes.await_landed(&nodes.second(), &["small"]);
    nodes.assert_landed_once(&["small"]);
    assert_eq!(nodes.states(&nodes.second())["large"], "approved");
    raise_limit(&nodes);
    nodes.await_landed(&nodes.second(), &["large"]);
    nodes.assert_landed_once(&["large", "small"]);
    assert_eq!(std::fs::metadata(nodes.second().join("large.bin")).unwrap().len(), 60_000);
    nodes.down();
}

/// Begins something, more of it for the ticket `large`, and goes on only after that, where somebody began before.
const HALF: &str = r#"
echo "$SWARM_TICKET finds $(ls | grep half)" >> "ROOT/started.log"
if [ ! -e "ROOT/began.$SWARM_TICKET" ]; then
    touch "ROOT/began.$SWARM_TICKET"
    echo half > "half.$SWARM_TICKET"
    [ "$SWARM_TICKET" = large ] && head -c 60000 /dev/urandom >> half.large
    while [ -e "ROOT/wait" ]; do sleep 0.05; done
fi
rm -f half.*
echo "$SWARM_TICKET" > "$SWARM_TICKET.txt"
"#;

/// Two workers on a node, of whose work one piece is too large to be handed over, and the other was handed over.
fn with_half_of_two() -> Nodes {
    let nodes = Nodes::new(HALF, LIMIT, &["large", "small"]);
    let swarm = &nodes.swarm;
    swarm.write_at(&nodes.place("wait"), "");
    nodes.join_first(&[]);
    swarm.run(["queue", "add", "--all"]).success();
    for ticket in ["large", "small"] {
        let half = format!("refs/swarm/wip/{ticket}:half.{ticket}");
        swarm.wait_until("a snapshot", || swarm.git(["cat-file", "-e", &half]).code == 0);
    }
    let snapshot = swarm.git(["rev-parse", "refs/swarm/wip/small"]).success();
    swarm.wait_until("the small one to be handed over", || {
        handed_over(&nodes, &nodes.first(), "small") == snapshot.trim()
    });
    let why = || swarm.run(["why", "large"]).stdout;
    swarm.wait_until("the refusal to be told", || why().contains("could not be handed over to other nodes at"));
    assert!(why().contains("`node.bundle_bytes` lets 20000 through the server of the queue at once"), "{}", why());
    nodes
}

#[test]
fn work_that_is_too_large_to_be_handed_over_is_told_and_keeps_no_other_from_it() {
    let nodes = with_half_of_two();
    let swarm = &nodes.swarm;
    assert_ne!(handed_over(&nodes, &nodes.first(), "small"), "");
    let logs = swarm.run(["logs", "large"]).success();
    assert_eq!(logs.matches("could not be handed over to other nodes: ").count(), 1, "{logs}");
    let log = std::fs::read_to_string(nodes.first().join(".git/swarm/coordinator.log")).unwrap();
    assert!(log.contains("what `large` makes cannot be handed over to other nodes: "), "{log}");
    let events = swarm.run(["events", "--json"]).success();
    let event = events.lines().find(|line| line.contains(r#""event":"not_handed_over""#)).unwrap();
    assert_conforms(&serde_json::from_str(event).unwrap(), "events");
    raise_limit(&nodes);
    let is_handed_over = || {
        let now = swarm.git(["rev-parse", "refs/swarm/wip/large"]).success();
        handed_over(&nodes, &nodes.first(), "large") == now.trim()
    };
    swarm.wait_until("the large one to be handed over", is_handed_over);
    assert!(!swarm.run(["why", "large"]).stdout.contains("could not be handed over"));
    std::fs::remove_file(nodes.place("wait")).unwrap();
    nodes.await_landed(&nodes.first(), &["large", "small"]);
    swarm.run(["down"]).success();
}

#[test]
fn what_was_too_large_to_be_handed_over_stays_at_its_node_when_another_one_begins_anew() {
    let nodes = with_half_of_two();
    let swarm = &nodes.swarm;
    let half = swarm.git(["rev-parse", "refs/swarm/wip/large:half.large"]).success();
    nodes.kill_all(&nodes.first());
    nodes.join_second(&[]);
    nodes.await_landed(&nodes.second(), &["large", "small"]);
    let started = std::fs::read_to_string(nodes.place("started.log")).unwrap();
    let mut later: Vec<_> = started.lines().skip(2).collect();
    later.sort_unstable();
    assert_eq!(later, ["large finds ", "small finds half.small"], "{started}");
    swarm.run(["up", "--merge", "--headless", "--yes"]).success();
    nodes.assert_landed_once(&["large", "small"]);
    swarm.wait_until("its worktree to be released", || !swarm.worktree("large").exists());
    let kept = swarm.git(["for-each-ref", "--format=%(refname)", "refs/swarm/keep/"]).success();
    let has_half = |name: &str| swarm.git(["rev-parse", &format!("{name}:half.large")]).stdout == half;
    assert!(kept.lines().any(has_half), "{kept}");
    nodes.down();
}
