//! Landing through a forge, cut off where its worker is released.

use super::support::Yard;
use crate::git::crash;
use crate::git::fixture::with_line;
use crate::landing::{Forge, ForgeKind, LandingError, Offered, PullOptions};
use crate::model::ticket::TicketState;
use crate::model::worker::Phase;
use crate::model::{TicketId, WorkerId};
use crate::queue::Queue;

/// A worker whose approved work the target of the remote has already, so that no forge is asked.
fn merged(yard: &Yard) -> WorkerId {
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    let remote = yard.git.worktrees.join("remote.git");
    let git = |args: &[&str]| yard.git.git(&yard.git.root, args);
    git(&["init", "-q", "--bare", remote.to_str().unwrap()]);
    git(&["remote", "add", "origin", remote.to_str().unwrap()]);
    git(&["push", "-q", "origin", "swarm/fix:main"]);
    worker
}

/// Looks at its pull request.
fn offer(yard: &Yard, worker: &WorkerId) -> Result<Offered, LandingError> {
    let forge = Forge { kind: ForgeKind::Gh, folder: yard.git.root.clone(), environment: Vec::new() };
    let describe = &|_: &_| Err("nobody asks".to_owned());
    yard.landing().offer(worker, &PullOptions { remote: "origin", forge: &forge, describe, stop: &|_| Ok(()) })
}

#[test]
fn a_release_killed_after_its_branch_went_is_finished_by_the_next_call() {
    let yard = Yard::new();
    let worker = merged(&yard);
    crash::arm("removed");
    offer(&yard, &worker).ok();
    assert!(crash::revive());
    assert_eq!(yard.git.git(&yard.git.root, &["branch", "--list", "swarm/fix"]), "");
    assert!(matches!(yard.store.worker(&worker).unwrap().unwrap().phase, Phase::Ended { .. }));
    offer(&yard, &worker).unwrap();
    let Phase::Released { keep, .. } = yard.store.worker(&worker).unwrap().unwrap().phase else { panic!() };
    assert_eq!((keep, yard.state(&worker)), (yard.keep_refs(), TicketState::Landed));
    yard.repository.sweep_scratch().unwrap();
    yard.assert_tidy();
}

#[test]
fn a_node_killed_as_it_wrote_a_merge_down_is_followed_by_one_that_finds_it_merged() {
    let yard = Yard::new();
    let worker = merged(&yard);
    crash::arm("pull landing begun");
    offer(&yard, &worker).ok();
    assert!(crash::revive());
    assert_eq!(yard.state(&worker), TicketState::Landing);
    let ticket: TicketId = "fix".parse().unwrap();
    let fence = yard.queue.ticket(&ticket).unwrap().unwrap().fence;
    yard.landing().take_pull_from_gone(&ticket, fence + 1).unwrap();
    assert_eq!(yard.state(&worker), TicketState::Landing, "somebody else's lease");
    // Two may take it over at once.
    for _ in 0..2 {
        yard.landing().take_pull_from_gone(&ticket, fence).unwrap();
        assert_eq!(yard.state(&worker), TicketState::Approved);
    }
    offer(&yard, &worker).unwrap();
    assert_eq!(yard.state(&worker), TicketState::Landed);
    yard.landing().take_pull_from_gone(&ticket, fence).unwrap();
    assert_eq!(yard.state(&worker), TicketState::Landed, "it came to its end after all");
}
