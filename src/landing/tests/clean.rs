//! What can go, what stays and why, and that being cut off loses nothing.

use std::time::Duration;

use super::support::{Yard, id, releasing};
use crate::files::FileLock;
use crate::git::fixture::{put, with_line};
use crate::git::{Check, crash};
use crate::landing::{CleanPolicy, LandingError, Thing};
use crate::model::worker::{Outcome as WorkerOutcome, Phase};
use crate::model::{Time, WorkerId};
use crate::queue::Settlement;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The usual policy, so many days from now.
fn in_days(days: u32) -> CleanPolicy {
    CleanPolicy {
        keep: DAY * 30,
        logs: DAY * 90,
        insists: false,
        unlanded: false,
        remote: "origin".to_owned(),
        now: Time::now().after(DAY * days),
    }
}

/// What can go, by kind and subject, with the check.
fn goes(yard: &Yard, policy: &CleanPolicy) -> Vec<(String, Option<Check>)> {
    let proposal = yard.landing().propose(policy).unwrap();
    let name = |thing: &Thing| format!("{} {}", thing.kind(), thing.subject());
    proposal.goes.iter().map(|goes| (name(&goes.thing), goes.check)).collect()
}

/// Why a thing stays.
fn why_not(yard: &Yard, policy: &CleanPolicy, subject: &str) -> String {
    let proposal = yard.landing().propose(policy).unwrap();
    assert!(!proposal.goes.iter().any(|goes| goes.thing.subject() == subject), "{:?}", proposal.goes);
    let stays = proposal.stays.into_iter().find(|stays| stays.thing.subject() == subject);
    stays.unwrap_or_else(|| panic!("nothing is said about {subject}")).why
}

/// Ends a worker's ticket.
fn cancel(yard: &Yard, worker: &WorkerId) {
    use crate::queue::Queue;
    yard.queue.cancel(&worker.as_str().parse().unwrap()).unwrap();
}

/// A worker whose ticket is over and whose work the target has as a squash, with other work on top of it.
fn squashed(yard: &Yard, name: &str) -> WorkerId {
    let worker = yard.worker(name, &[("a", &with_line("a", 3, name))]);
    let root = &yard.git.root;
    yard.git.write("e", &format!("{name} goes on\n"));
    yard.git.commit("other");
    yard.git.git(root, &["merge", "-q", "--squash", &format!("swarm/{name}")]);
    yard.git.commit("squashed by hand");
    yard.git.write("a", &with_line("a", 3, "and again"));
    yard.git.commit("on top");
    cancel(yard, &worker);
    worker
}

#[test]
fn a_worker_whose_work_the_target_has_can_go_and_its_work_is_kept_all_the_same() {
    let yard = Yard::new();
    let worker = squashed(&yard, "fix");
    let work = yard.git.head("swarm/fix");
    let policy = in_days(0);
    assert_eq!(goes(&yard, &policy), [("worker fix".to_owned(), Some(Check::EachCommit))]);
    // A proposal changes nothing.
    assert!(yard.worktree("fix").exists() && yard.keep_refs().is_empty());
    let done = yard.landing().clean(&Thing::Worker(worker.clone()), &policy).unwrap().unwrap();
    assert!(done.contains("refs/swarm/keep/fix/1"), "{done}");
    assert!(!yard.worktree("fix").exists() && !yard.git.succeeds(&yard.git.root, &["rev-parse", "swarm/fix"]));
    assert!(yard.git.git(&yard.git.root, &["log", "--format=%H", "refs/swarm/keep/fix/1"]).contains(work.as_str()));
    assert!(goes(&yard, &policy).is_empty());
}

#[test]
fn what_is_not_proven_landed_stays_and_says_why() {
    let yard = Yard::new();
    let policy = in_days(400);
    let review = yard.worker("review", &[("a", "x\n")]);
    assert_eq!(why_not(&yard, &policy, "review"), "its ticket is review");
    cancel(&yard, &review);
    assert!(why_not(&yard, &policy, "review").contains("none of the six checks holds"));
    squashed(&yard, "dirty");
    put(&yard.worktree("dirty").join("draft"), "not committed\n");
    assert_eq!(why_not(&yard, &policy, "dirty"), "1 files in its worktree are not committed");
    squashed(&yard, "running");
    let lock = FileLock::wait(&yard.paths.supervisor_lock(&id("running"))).unwrap();
    assert_eq!(why_not(&yard, &policy, "running"), "its supervisor runs");
    drop(lock);
    squashed(&yard, "aside");
    let aside = yard.worktree("aside");
    yard.git.git(&aside, &["checkout", "-q", "--detach"]);
    put(&aside.join("b"), "on no branch\n");
    yard.git.commit_in(&aside, "on no branch");
    assert!(why_not(&yard, &policy, "aside").contains("its worktree is at"));
    // Asked again right before it would go.
    let thing = Thing::Worker(id("dirty"));
    assert!(yard.landing().clean(&thing, &policy).unwrap().unwrap_err().contains("not committed"));
    assert!(yard.worktree("dirty").join("draft").exists() && yard.keep_refs().is_empty());
}

#[test]
fn finished_work_that_somebody_merged_by_hand_has_landed() {
    let yard = Yard::new();
    for (name, state) in [("one", "review"), ("two", "approved")] {
        let files = [(name, "work\n")];
        let worker = if state == "review" { yard.worker(name, &files) } else { yard.approved(name, &files) };
        assert_eq!(why_not(&yard, &in_days(0), name), format!("its ticket is {state}"));
        yard.git.git(&yard.git.root, &["merge", "-q", "--no-ff", "-m", "by hand", &format!("swarm/{name}")]);
        crash::arm("ticket settled");
        assert!(yard.landing().clean(&Thing::Worker(worker.clone()), &in_days(0)).is_err() && crash::revive());
        yard.landing().clean(&Thing::Worker(worker.clone()), &in_days(0)).unwrap().unwrap();
        assert_eq!(yard.state(&worker), crate::model::ticket::TicketState::Landed);
    }
}

#[test]
fn what_is_committed_after_it_was_judged_has_not_landed() {
    let yard = std::rc::Rc::new(Yard::new());
    let worker = yard.worker("fix", &[("a", &with_line("a", 3, "fixed"))]);
    yard.git.git(&yard.git.root, &["merge", "-q", "--no-ff", "--no-edit", "swarm/fix"]);
    let theirs = std::rc::Rc::clone(&yard);
    crash::meanwhile("judged again", move || {
        let place = theirs.worktree("fix");
        put(&place.join("late"), "after it was merged\n");
        theirs.git.git(&place, &["add", "late"]);
        theirs.git.git(&place, &["commit", "-qm", "late"]);
    });
    let why = yard.landing().clean(&Thing::Worker(worker.clone()), &in_days(0)).unwrap().unwrap_err();
    assert_eq!(why, "it changed meanwhile");
    assert_eq!(yard.state(&worker), crate::model::ticket::TicketState::Review);
    assert!(yard.worktree("fix").join("late").exists());
}

#[test]
fn a_worker_without_commits_is_not_taken_for_landed_while_it_has_files() {
    let yard = Yard::new();
    let worker = yard.worker("idle", &[]);
    yard.git.git(&yard.worktree("idle"), &["reset", "-q", "--hard", "main"]);
    cancel(&yard, &worker);
    put(&yard.worktree("idle").join("notes"), "all its work\n");
    assert_eq!(why_not(&yard, &in_days(400), "idle"), "1 files in its worktree are not committed");
}

#[test]
fn branches_and_worktrees_of_others_are_never_looked_at() {
    let yard = Yard::new();
    yard.git.branch("swarm/foreign", &[]);
    yard.git.branch("feature/agent", &[]);
    yard.git.git(&yard.git.root, &["update-ref", "refs/swarm/keep/odd", "main"]);
    yard.git.git(&yard.git.root, &["update-ref", "refs/other/keep/x/1", "main"]);
    let proposal = yard.landing().propose(&CleanPolicy { unlanded: true, insists: true, ..in_days(4000) }).unwrap();
    assert!(proposal.goes.is_empty() && proposal.stays.is_empty(), "{proposal:?}");
    let error = yard.repository.forget_swarm_ref("refs/heads/feature/agent", &yard.head()).unwrap_err();
    assert!(error.to_string().contains("not one of ours"), "{error}");
}

#[test]
fn kept_work_goes_after_its_time_when_the_target_has_it_and_not_before() {
    let yard = Yard::new();
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    yard.landed(&worker, &releasing());
    assert!(goes(&yard, &in_days(29)).is_empty());
    let expected = [("kept refs/swarm/keep/fix/1".to_owned(), Some(Check::Ancestor))];
    assert_eq!(goes(&yard, &in_days(31)), expected);
    // A shorter time needs a person who insists.
    let short = CleanPolicy { keep: DAY * 5, ..in_days(6) };
    assert!(why_not(&yard, &short, "refs/swarm/keep/fix/1").contains("--yes"));
    assert_eq!(goes(&yard, &CleanPolicy { insists: true, ..short }), expected);
    let kept = yard.repository.kept().unwrap().remove(0);
    let thing = Thing::Kept { reference: kept.reference, commit: kept.commit, worker: worker.clone() };
    let done = yard.landing().clean(&thing, &in_days(31)).unwrap().unwrap();
    assert!(done.contains("until git cleans up"), "{done}");
    assert_eq!(yard.keep_refs(), "");
    assert!(yard.read(&yard.paths.events(&worker)).contains("kept_removed"));
    assert!(yard.landing().clean(&thing, &in_days(31)).unwrap().is_err());
}

#[test]
fn kept_work_that_is_nowhere_else_stays_until_somebody_says_so() {
    let yard = Yard::new();
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    put(&yard.worktree("fix").join("draft"), "never committed\n");
    yard.landed(&worker, &releasing());
    // The branch landed, the draft did not.
    let name = "refs/swarm/keep/fix/1";
    assert!(why_not(&yard, &in_days(400), name).contains("--unlanded"));
    let unlanded = CleanPolicy { unlanded: true, ..in_days(400) };
    assert!(goes(&yard, &unlanded).contains(&(format!("kept {name}"), None)));
    // Once the draft is in the target too, it needs nobody's word.
    yard.git.write("draft", "never committed\n");
    yard.git.commit("the draft by hand");
    assert_eq!(goes(&yard, &in_days(31)).len(), 1);
}

#[test]
fn logs_go_long_after_their_worker_and_only_when_nothing_of_it_is_kept() {
    let yard = Yard::new();
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    yard.landed(&worker, &releasing());
    let logs = Thing::Logs(worker.clone());
    assert!(why_not(&yard, &in_days(91), "fix").contains("still kept"));
    let kept = yard.repository.kept().unwrap().remove(0);
    yard.repository.forget_swarm_ref(&kept.reference, &kept.commit).unwrap();
    assert!(goes(&yard, &in_days(89)).is_empty());
    assert_eq!(goes(&yard, &in_days(91)), [("logs fix".to_owned(), None)]);
    let lock = FileLock::wait(&yard.paths.spawn_lock(&worker)).unwrap();
    assert!(yard.landing().clean(&logs, &in_days(91)).unwrap().unwrap_err().contains("spawned"));
    drop(lock);
    yard.landing().clean(&logs, &in_days(91)).unwrap().unwrap();
    assert!(!yard.paths.worker_dir(&worker).exists());
}

#[test]
fn leftovers_of_dead_processes_go() {
    let yard = Yard::new();
    let commit = yard.head();
    crash::arm("scratch registered");
    assert!(yard.repository.scratch_worktree(&commit, &yard.git.worktrees).is_err());
    assert!(crash::revive());
    let living = yard.repository.scratch_worktree(&commit, &yard.git.worktrees);
    // Making one sweeps the dead ones, so a dead one is made beside a living one.
    let living = living.unwrap();
    crash::arm("scratch recorded");
    assert!(yard.repository.scratch_worktree(&commit, &yard.git.worktrees).is_err());
    assert!(crash::revive());
    let proposal = yard.landing().propose(&in_days(0)).unwrap();
    assert_eq!(proposal.goes.len(), 1, "{proposal:?}");
    let thing = proposal.goes[0].thing.clone();
    assert!(matches!(&thing, Thing::Scratch(path) if path != living.path()), "{thing:?}");
    yard.landing().clean(&thing, &in_days(0)).unwrap().unwrap();
    assert!(living.path().exists() && yard.landing().propose(&in_days(0)).unwrap().goes.is_empty());
}

#[test]
fn snapshots_of_workers_that_are_gone_go_and_those_of_living_ones_stay() {
    let yard = Yard::new();
    let worker = yard.worker("fix", &[("a", &with_line("a", 3, "fixed"))]);
    yard.repository.snapshot(&yard.worktree("fix"), &worker, &[], false).unwrap();
    let landed = yard.head();
    yard.git.git(&yard.git.root, &["update-ref", "refs/swarm/wip/gone", landed.as_str()]);
    yard.git.git(&yard.git.root, &["update-ref", "refs/swarm/wip/lost", "swarm/fix"]);
    // What other nodes had begun and these went on with.
    for (ticket, commit) in [("gone", landed.as_str()), ("lost", "swarm/fix"), ("fix", landed.as_str())] {
        yard.git.git(&yard.git.root, &["update-ref", &format!("refs/swarm/inherited/{ticket}"), commit]);
    }
    let policy = in_days(4000);
    for kind in ["wip", "inherited"] {
        let name = format!("snapshots refs/swarm/{kind}/gone");
        assert!(goes(&yard, &policy).iter().any(|(going, _)| *going == name));
        assert!(why_not(&yard, &policy, &format!("refs/swarm/{kind}/lost")).contains("--unlanded"));
        assert!(!goes(&yard, &policy).iter().any(|(going, _)| going.contains(&format!("{kind}/fix"))));
    }
}

#[test]
fn a_clean_that_is_cut_off_anywhere_is_finished_by_the_next_one() {
    for point in ["judged again", "kept", "worktree removed", "removed"] {
        let yard = Yard::new();
        let worker = squashed(&yard, "fix");
        let work = yard.git.head("swarm/fix");
        let policy = in_days(0);
        crash::arm(point);
        let cut = yard.landing().clean(&Thing::Worker(worker.clone()), &policy);
        assert!(cut.is_err() && crash::revive(), "{point}");
        // Whether cleaned again or removed by a person, the work is there afterwards.
        let again = yard.landing().clean(&Thing::Worker(worker.clone()), &policy).unwrap();
        if again.is_err() {
            yard.landing().release(&worker, "removed by a person").unwrap();
        }
        let kept = yard.landing().kept_of(&worker).unwrap();
        assert!(kept.iter().any(|entry| entry.head == work), "{point}: {kept:?}");
        assert!(!yard.worktree("fix").exists(), "{point}");
        let phase = yard.store.worker(&worker).unwrap().unwrap().phase;
        assert!(matches!(phase, Phase::Released { .. }), "{point}: {phase:?}");
    }
    for point in ["judged again", "removal told"] {
        let yard = Yard::new();
        let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
        yard.landed(&worker, &releasing());
        let kept = yard.repository.kept().unwrap().remove(0);
        let thing = Thing::Kept { reference: kept.reference, commit: kept.commit, worker };
        crash::arm(point);
        assert!(yard.landing().clean(&thing, &in_days(31)).is_err() && crash::revive(), "{point}");
        assert!(!yard.keep_refs().is_empty(), "{point}");
        yard.landing().clean(&thing, &in_days(31)).unwrap().unwrap();
        assert_eq!(yard.keep_refs(), "", "{point}");
    }
}

#[test]
fn a_worker_that_goes_on_meanwhile_is_left_alone() {
    let yard = Yard::new();
    let worker = squashed(&yard, "fix");
    let (paths, id) = (yard.paths.clone(), worker.clone());
    let held = std::rc::Rc::new(std::cell::RefCell::new(None));
    let slot = held.clone();
    crash::meanwhile("judged again", move || {
        *slot.borrow_mut() = Some(FileLock::wait(&paths.supervisor_lock(&id)).unwrap());
    });
    let error = yard.landing().clean(&Thing::Worker(worker.clone()), &in_days(0)).unwrap_err();
    assert!(matches!(error, LandingError::IsSupervised(_)), "{error}");
    assert!(yard.worktree("fix").exists());
    drop(held);
    let outcome = yard.store.worker(&worker).unwrap().unwrap().phase;
    assert!(matches!(outcome, Phase::Ended { outcome: WorkerOutcome::Finished { .. }, .. }));
}

#[test]
fn what_only_the_remote_s_target_has_counts_as_landed() {
    use crate::queue::Queue;
    let yard = Yard::new();
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    let fence = yard.queue.ticket(&"fix".parse().unwrap()).unwrap().unwrap().fence;
    for settlement in [Settlement::BeginLanding, Settlement::Landed] {
        yard.queue.settle(&"fix".parse().unwrap(), fence, settlement).unwrap();
    }
    assert!(why_not(&yard, &in_days(0), "fix").contains("six checks"));
    yard.git.git(&yard.git.root, &["update-ref", "refs/remotes/origin/main", "swarm/fix"]);
    assert_eq!(goes(&yard, &in_days(0)), [(format!("worker {worker}"), Some(Check::Ancestor))]);
}
