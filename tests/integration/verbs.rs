//! Verbs that prepare and explain: what they write, print and exit with.

use crate::support::swarm::TestSwarm;

#[test]
fn outside_of_a_repository_is_a_usage_error_with_the_way_out() {
    let swarm = TestSwarm::without_repository();
    let output = swarm.run_in(swarm.root(), ["status"]).expect_code(2);
    insta::assert_snapshot!(swarm.redact(&output.transcript()), @"");
}
