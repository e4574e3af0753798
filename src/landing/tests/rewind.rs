//! Bringing a worker back: everything kept first, and no place between two states for good.

use super::support::{Yard, id};
use crate::files::FileLock;
use crate::git::fixture::{put, with_line};
use crate::git::{RewindTo, StateOf, crash};
use crate::landing::{LandingError, RewindPlan};
use crate::model::WorkerId;

/// A worker with one saved state and work after it.
fn with_state(yard: &Yard) -> (WorkerId, RewindPlan) {
    let worker = yard.worker("fix", &[("a", &with_line("a", 3, "fixed"))]);
    let worktree = yard.worktree("fix");
    put(&worktree.join("b"), "state\n");
    let snapshot = yard.repository.snapshot(&worktree, &worker, &[], false).unwrap();
    yard.repository.record_state(&worker, &snapshot, StateOf::Calls { first: 2, last: 2 }, 10).unwrap();
    let to = RewindTo { head: snapshot.head.unwrap(), files: snapshot.commit };
    yard.more_work(&worker, "c", "later\n");
    put(&worktree.join("draft"), "not committed\n");
    (worker, RewindPlan { call: 1, last_record: 4, to, states: 10 })
}

#[test]
fn going_back_keeps_the_present_and_is_told() {
    let yard = Yard::new();
    let (worker, plan) = with_state(&yard);
    let later = yard.git.head("swarm/fix");
    let rewound = yard.landing().rewind(&worker, &plan, false).unwrap();
    assert_eq!((yard.git.head("swarm/fix"), &rewound.from), (plan.to.head.clone(), &later));
    assert_eq!(yard.git.git(&yard.worktree("fix"), &["status", "--porcelain"]), " M b");
    let entry = yard.landing().kept_of(&worker).unwrap().remove(0);
    assert_eq!((entry.reference, entry.head, entry.files), (rewound.keep.clone(), later, 1));
    assert_eq!(entry.reason, "before going back to call #1");
    assert_eq!(yard.git.git(&yard.git.root, &["show", &format!("{}:draft", rewound.keep)]), "not committed");
    assert!(yard.read(&yard.paths.events(&worker)).contains("\"rewound\""));
    let states = yard.repository.call_states(&worker).unwrap();
    assert!(matches!(states.states.last().unwrap().of, StateOf::Rewind { after: 4 }));
}

#[test]
fn a_supervisor_that_begins_meanwhile_is_not_worked_against() {
    let yard = Yard::new();
    let (worker, plan) = with_state(&yard);
    let lock = FileLock::wait(&yard.paths.supervisor_lock(&worker)).unwrap();
    let error = yard.landing().rewind(&worker, &plan, false).unwrap_err();
    assert!(matches!(error, LandingError::IsSupervised(_)) && yard.keep_refs().is_empty(), "{error}");
    // One that is known to be at rest stays.
    yard.landing().rewind(&worker, &plan, true).unwrap();
    drop(lock);
}

#[test]
fn killed_anywhere_the_next_call_ends_it() {
    let points = ["kept", "files rewound", "operation ended", "branch rewound", "index rewound", "rewound"];
    for point in points {
        let yard = Yard::new();
        let (worker, plan) = with_state(&yard);
        let later = yard.git.head("swarm/fix");
        crash::arm(point);
        assert!(yard.landing().rewind(&worker, &plan, false).is_err() && crash::revive(), "{point}");
        let kept = yard.landing().kept_of(&worker).unwrap();
        assert!(kept.iter().any(|entry| entry.head == later && entry.has_uncommitted), "{point}");
        yard.landing().rewind(&worker, &plan, false).unwrap();
        assert_eq!(yard.git.head("swarm/fix"), plan.to.head, "{point}");
        assert_eq!(yard.git.git(&yard.worktree("fix"), &["status", "--porcelain"]), " M b", "{point}");
    }
}

#[test]
fn releasing_a_worker_takes_its_states_along() {
    let yard = Yard::new();
    let (worker, _) = with_state(&yard);
    assert_ne!(yard.git.git(&yard.git.root, &["for-each-ref", "refs/swarm/calls"]), "");
    yard.landing().release(&worker, "removed by a person").unwrap();
    assert_eq!(yard.git.git(&yard.git.root, &["for-each-ref", "refs/swarm/calls"]), "");
    assert!(yard.repository.call_states(&id("fix")).unwrap().states.is_empty());
}
