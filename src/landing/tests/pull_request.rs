//! Landing through a forge, cut off where its worker is released.

use super::support::Yard;
use crate::git::crash;
use crate::git::fixture::with_line;
use crate::landing::{Forge, ForgeKind, PullOptions};
use crate::model::ticket::TicketState;
use crate::model::worker::Phase;

#[test]
fn a_release_killed_after_its_branch_went_is_finished_by_the_next_call() {
    let yard = Yard::new();
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    let remote = yard.git.worktrees.join("remote.git");
    let git = |args: &[&str]| yard.git.git(&yard.git.root, args);
    git(&["init", "-q", "--bare", remote.to_str().unwrap()]);
    git(&["remote", "add", "origin", remote.to_str().unwrap()]);
    // The remote's target has it already, so that no forge is asked.
    git(&["push", "-q", "origin", "swarm/fix:main"]);
    let forge = Forge { kind: ForgeKind::Gh, folder: yard.git.root.clone(), environment: Vec::new() };
    let describe = &|_: &_| Err("nobody asks".to_owned());
    let options = PullOptions { remote: "origin", forge: &forge, describe, stop: &|_| Ok(()) };
    crash::arm("removed");
    yard.landing().offer(&worker, &options).ok();
    assert!(crash::revive());
    assert_eq!(git(&["branch", "--list", "swarm/fix"]), "");
    assert!(matches!(yard.store.worker(&worker).unwrap().unwrap().phase, Phase::Ended { .. }));
    yard.landing().offer(&worker, &options).unwrap();
    let Phase::Released { keep, .. } = yard.store.worker(&worker).unwrap().unwrap().phase else { panic!() };
    assert_eq!((keep, yard.state(&worker)), (yard.keep_refs(), TicketState::Landed));
    yard.repository.sweep_scratch().unwrap();
    yard.assert_tidy();
}
