//! `--json` of every verb that answers without a finished worker, against the checked-in schemas.

use super::with_shell_agent;
use crate::support::schema::assert_conforms;

#[test]
fn answers_are_what_their_schemas_say() {
    let swarm = with_shell_agent();
    swarm.write(".swarm/tickets/broken.md", "---\nx: 1\n---\n");
    let calls: [(&[&str], &str); 17] = [
        (&["init"], "init"),
        (&["ticket", "new", "work", "-p", "Work."], "tickets"),
        (&["ticket", "list"], "tickets"),
        (&["ticket", "show", "work"], "tickets"),
        (&["agents", "list"], "agents"),
        (&["agents", "show", "script"], "agents"),
        (&["agents", "check", "script"], "agents"),
        (&["trust"], "trust"),
        (&["trust", "--list"], "trust"),
        (&["trust", "--revoke"], "trust"),
        (&["status"], "status"),
        (&["spawn", "work", "--headless", "--dry-run"], "spawn"),
        (&["spawn", "work", "--headless"], "spawn"),
        (&["wait", "work", "--for", "done", "--timeout", "50s"], "wait"),
        (&["status", "work"], "status"),
        (&["why", "work"], "why"),
        (&["doctor"], "doctor"),
    ];
    for (args, schema) in calls {
        let answer = swarm.json(args);
        assert_conforms(&answer, schema);
    }
    let events = swarm.run(["logs", "work", "--json"]).success();
    assert!(events.lines().count() > 2, "{events}");
    for line in events.lines() {
        assert_conforms(&serde_json::from_str(line).unwrap(), "event");
    }
}

#[test]
fn what_has_no_answer_in_json_says_so_and_does_nothing() {
    let swarm = with_shell_agent();
    let calls: [&[&str]; 5] =
        [&["demo"], &["man"], &["completions", "bash"], &["attach", "work"], &["logs", "work", "--terminal"]];
    for args in calls {
        let refused = swarm.run(args.iter().chain(&["--json"])).expect_code(2);
        assert_eq!(refused.stdout, "", "{args:?}");
        assert!(refused.stderr.contains("has no answer in JSON\nhint: "), "{args:?}: {}", refused.stderr);
    }
}
