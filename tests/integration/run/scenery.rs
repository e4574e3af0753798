//! Backlogs with scripted agents, and runs that a test can end.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::support::swarm::{SWARM, TestSwarm};

/// Settings of tests: quick second attempts, nobody to approve.
pub(super) const QUICK: &str =
    "run: {backoff: {first: 200ms, max: 1s}}\nlanding: {approval: auto}\nlimits: {grace: 500ms}\n";

/// An agent that notes each of its starts beside the repository, waits until it may go on, and writes one file.
///
/// Tickets that begin with `bad` fail; `twin` tickets write the same file, and where they find a merge of it begun they
/// take both sides.
const SCRIPT: &str = r#"
echo "$SWARM_TICKET" >> "$SWARM_REPO/../started.log"
while [ -e "$SWARM_REPO/../wait" ] || [ -e "$SWARM_REPO/../wait-$SWARM_TICKET" ]; do sleep 0.05; done
case $SWARM_TICKET in
    bad*) echo "it broke" >&2; exit 3 ;;
    twin*)
        # Neither is finished before the other has begun.
        until grep -q '^twin1$' "$SWARM_REPO/../started.log" && grep -q '^twin2$' "$SWARM_REPO/../started.log"; do
            sleep 0.05
        done
        if grep -q '<<<<<<<' shared.txt 2>/dev/null; then
            printf 'both\n' > shared.txt
            git add shared.txt
            git -c core.editor=true commit --quiet --no-edit
        else
            echo "$SWARM_TICKET" > shared.txt
        fi ;;
    *) echo "$SWARM_TICKET" > "$SWARM_TICKET.txt" ;;
esac
"#;

/// A repository with the scripted agent and quick settings.
pub(super) fn repository() -> TestSwarm {
    let swarm = TestSwarm::new();
    swarm.write_shell_agent("shell", SCRIPT);
    swarm.write(".swarm/config.yaml", QUICK);
    swarm
}

/// Writes a ticket that needs others.
pub(super) fn ticket(swarm: &TestSwarm, id: &str, needs: &[&str]) {
    let text = format!("---\nagent: shell\ndepends_on: [{}]\n---\nDo {id}.\n", needs.join(", "));
    swarm.write(&format!(".swarm/tickets/{id}.md"), &text);
}

/// Keeps agents from going on, all or one, until [`let_go`].
pub(super) fn hold_back(swarm: &TestSwarm, which: &str) {
    swarm.write_at(&swarm.root().join(which), "");
}

/// Lets agents go on.
pub(super) fn let_go(swarm: &TestSwarm, which: &str) {
    fs::remove_file(swarm.root().join(which)).unwrap();
}

/// How often each ticket's agent was started.
pub(super) fn starts(swarm: &TestSwarm) -> BTreeMap<String, usize> {
    let text = fs::read_to_string(swarm.root().join("started.log")).unwrap_or_default();
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        *counts.entry(line.to_owned()).or_default() += 1;
    }
    counts
}

/// A `swarm` that goes on beside the test; what it says is in a file.
pub(super) struct Beside {
    pub(super) child: Child,
    name: &'static str,
    pub(super) begun: Instant,
}

impl Beside {
    /// Starts it.
    pub(super) fn start(swarm: &TestSwarm, name: &'static str, args: &[&str]) -> Self {
        let file = |stream: &str| fs::File::create(swarm.root().join(format!("{name}.{stream}"))).unwrap();
        let mut command = swarm.command(SWARM, &swarm.repository());
        command.args(args).stdin(Stdio::null()).stdout(file("out")).stderr(file("err"));
        Self { child: command.spawn().unwrap(), name, begun: Instant::now() }
    }

    /// What it has said on both streams.
    pub(super) fn says(&self, swarm: &TestSwarm) -> String {
        let read =
            |stream: &str| fs::read_to_string(swarm.root().join(format!("{}.{stream}", self.name))).unwrap_or_default();
        format!("{}{}", read("out"), read("err"))
    }

    /// Waits until it has said something.
    #[track_caller]
    pub(super) fn await_words(&self, swarm: &TestSwarm, words: &str) {
        swarm.wait_until(&format!("`{words}` in\n{}", self.says(swarm)), || self.says(swarm).contains(words));
    }

    /// Waits for its end; its exit code, 128+n by a signal.
    #[track_caller]
    pub(super) fn end(&mut self, swarm: &TestSwarm) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let mut status = None;
        swarm.wait_until("it to end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let status = status.unwrap();
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
    }

    /// Its pid, for a signal.
    pub(super) fn pid(&self) -> Value {
        Value::from(self.child.id())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The states of all tickets that the queue knows.
pub(super) fn states(swarm: &TestSwarm) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let queue = swarm.json(["queue", "list", "--all"]);
    let tickets = queue["tickets"].as_array().unwrap().iter();
    tickets.map(|entry| (text(&entry["ticket"]), text(&entry["state"]))).collect()
}

/// Waits until a ticket is in a state.
#[track_caller]
pub(super) fn await_state(swarm: &TestSwarm, ticket: &str, state: &str) {
    swarm
        .wait_until(&format!("`{ticket}` to be {state}"), || states(swarm).get(ticket).is_some_and(|now| now == state));
}
