//! Verbs that prepare and explain: what they write, print and exit with.

mod agents;
mod answers;
mod doctor;
mod init;
mod mend;
mod pages;
mod ticket;
mod trust;

use crate::support::swarm::TestSwarm;

#[test]
fn outside_of_a_repository_is_a_usage_error_with_the_way_out() {
    let swarm = TestSwarm::without_repository();
    let output = swarm.run_in(swarm.root(), ["status"]).expect_code(2);
    insta::assert_snapshot!(swarm.redact(&output.transcript()));
}

/// A repository whose default agent is a script, so that nothing depends on what is installed.
fn with_shell_agent() -> TestSwarm {
    let swarm = TestSwarm::new();
    swarm.write_shell_agent("script", "true");
    swarm.write(".swarm/config.yaml", "agent: script\n");
    swarm
}
