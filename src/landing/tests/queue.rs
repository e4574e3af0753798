//! The queue beyond one batch: what is tested ahead, what is sent back first, and what the person configured.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::support::{Yard, gates, id, releasing};
use crate::git::crash;
use crate::git::fixture::{put, with_line};
use crate::landing::{LandEvent, LandOptions, LandingError, Outcome, Report, ReturnReason};
use crate::model::settings::Strategy;
use crate::model::ticket::TicketState;
use crate::process::{command, find_marked, spawn};

/// Options under which each worker is a batch and the next one is tested at once. Gates carry the yard's name.
fn ahead(yard: &Yard, script: &str) -> LandOptions<'static> {
    let speculate_after = Some(Duration::ZERO);
    let settings_env = [("TEST_YARD".to_owned(), yard.git.root.display().to_string())].into();
    LandOptions { gates: gates(&[("test", script)]), batch: 1, speculate_after, settings_env, ..releasing() }
}

/// A loop that ends when `test` holds, and fails after twenty seconds.
fn until(test: &str) -> String {
    format!("n=0; until {test}; do n=$((n+1)); [ $n -lt 400 ] || exit 9; sleep 0.05; done")
}

/// The processes that gates of this repository left.
fn left_running(yard: &Yard) -> usize {
    find_marked("TEST_YARD", &yard.git.root.display().to_string()).unwrap().len()
}

fn landed(reports: &[Report]) -> Vec<bool> {
    reports.iter().map(|report| matches!(report.outcome, Ok(Outcome::Landed(_)))).collect()
}

/// Makes a hook of the repository.
fn hook(yard: &Yard, name: &str, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = yard.repository.common_dir().join("hooks").join(name);
    put(&path, &format!("#!/bin/sh\n{script}\n"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn the_next_batch_is_tested_beside_the_present_one_and_not_again() {
    let yard = Yard::new();
    let workers = ["one", "two", "three"].map(|name| yard.approved(name, &[(name, "new\n")]));
    let log = yard.git.worktrees.join("log");
    // The first run ends only when another one has begun.
    let both = until(&format!("[ $(wc -l < {0}) -ge 2 ]", log.display()));
    let script = format!("git rev-parse HEAD^{{tree}} >> {}; {both}", log.display());
    let reports = yard.land_all(&workers, &ahead(&yard, &script));
    assert_eq!(landed(&reports), [true; 3], "{reports:?}");
    let trees = std::fs::read_to_string(&log).unwrap();
    assert_eq!(trees.lines().count(), 3, "each tree is tested once:\n{trees}");
    for (number, report) in reports.iter().enumerate() {
        let Ok(Outcome::Landed(landed)) = &report.outcome else { panic!() };
        assert!(trees.contains(&landed.tree), "{} was tested", landed.tree);
        assert_eq!(landed.gates[0].cached, number > 0);
    }
    assert_eq!(left_running(&yard), 0);
    yard.assert_tidy();
}

#[test]
fn a_wrong_guess_is_ended_and_nothing_of_it_is_believed() {
    let yard = Yard::new();
    let bad = yard.approved("bad", &[("bad", "x\n")]);
    let two = yard.approved("two", &[("two", "x\n")]);
    let (guessed, right) = (yard.git.worktrees.join("guessed"), yard.git.worktrees.join("right"));
    // On the guess it hangs, and would pass when it is asked to end.
    let hang = "trap 'exit 0' TERM; sleep 1000 & wait";
    let wait = until(&format!("[ -e {} ]", guessed.display()));
    let script = format!(
        "if [ -e bad ] && [ -e two ]; then touch {}; {hang}; elif [ -e bad ]; then {wait}; exit 1; else touch {}; fi",
        guessed.display(),
        right.display()
    );
    let started = Instant::now();
    let reports = yard.land_all(&[bad, two], &ahead(&yard, &script));
    assert_eq!(landed(&reports), [false, true], "{reports:?}");
    assert!(guessed.exists() && right.exists());
    assert!(started.elapsed() < Duration::from_secs(60));
    assert_eq!(left_running(&yard), 0);
    let remembered: Vec<_> = std::fs::read_dir(yard.paths.root().join("gates")).unwrap().flatten().collect();
    let tree = yard.git.git(&yard.git.root, &["rev-parse", "main^{tree}"]);
    assert_eq!(remembered.len(), 1, "only what landed was remembered as passed");
    assert_eq!(remembered[0].file_name().to_str(), Some(tree.as_str()));
    yard.assert_tidy();
}

#[test]
fn a_guess_that_is_still_running_at_the_end_is_ended_too() {
    let yard = Yard::new();
    let one = yard.approved("one", &[("one", "x\n")]);
    let two = yard.approved("two", &[("two", "x\n")]);
    let begun = yard.git.worktrees.join("begun");
    let wait = until(&format!("[ -e {} ]", begun.display()));
    let script = format!("if [ -e two ]; then touch {}; sleep 1000; else {wait}; fi", begun.display());
    // While the first is tested, somebody commits to the branch of the second: its approval is void.
    let folder = yard.worktree("two");
    let (path, git) = (folder.clone(), yard.git.root.clone());
    crash::meanwhile("gates passed", move || {
        put(&path.join("late"), "x\n");
        for args in [&["add", "-A"][..], &["-c", "user.name=A", "-c", "user.email=a@b", "commit", "-qm", "late"]] {
            let mut call = command("git");
            call.current_dir(&path).args(args);
            assert!(spawn(&mut call).unwrap().wait().unwrap().success(), "{}", git.display());
        }
    });
    let reports = yard.land_all(&[one, two], &ahead(&yard, &script));
    assert_eq!(landed(&reports), [true, false], "{reports:?}");
    assert_eq!(left_running(&yard), 0);
    yard.assert_tidy();
}

#[test]
fn a_landing_that_waits_for_a_right_guess_ends_when_it_is_asked_to() {
    let yard = Yard::new();
    let workers = ["one", "two"].map(|name| yard.approved(name, &[(name, "x\n")]));
    let begun = yard.git.worktrees.join("begun");
    let wait = until(&format!("[ -e {} ]", begun.display()));
    let script = format!("if [ -e two ]; then touch {}; sleep 1000; else {wait}; fi", begun.display());
    let gate_timeout = Duration::from_secs(100);
    let options = LandOptions { gate_timeout, ..ahead(&yard, &script) };
    let mut asked = None;
    let mut events = |event: LandEvent<'_>| {
        if matches!(event, LandEvent::Started(worker) if *worker == workers[1]) {
            asked = Some(Instant::now());
            options.ends.store(true, Ordering::SeqCst);
        }
    };
    let reports = yard.landing().land(&workers, &options, &mut events).unwrap();
    assert!(asked.unwrap().elapsed() < gate_timeout / 2);
    assert!(matches!(reports[0].outcome, Ok(Outcome::Landed(_))), "{reports:?}");
    assert!(matches!(reports[1].outcome, Err(LandingError::Ended)), "{reports:?}");
    assert_eq!((left_running(&yard), yard.state(&workers[1])), (0, TicketState::Approved));
    yard.assert_tidy();
}

#[test]
fn a_landing_killed_beside_a_speculation_is_before_or_after() {
    let points = ["scratch registered", "gates passed", "intent written", "target moved", "advanced", "released"];
    for (point, has_moved) in super::resume::POINTS.into_iter().filter(|(point, _)| points.contains(point)) {
        let yard = Yard::new();
        let workers = ["one", "two"].map(|name| yard.approved(name, &[(name, "new\n")]));
        let (before, options) = (yard.head(), ahead(&yard, "true"));
        crash::arm(point);
        assert!(yard.landing().land(&workers, &options, &mut |_| ()).is_err(), "{point}");
        assert!(crash::revive(), "{point}");
        assert_eq!(yard.head() != before, has_moved, "{point}");
        assert_eq!(left_running(&yard), 0, "{point}");
        yard.resumed(&options);
        let expected = if has_moved { TicketState::Landed } else { TicketState::Approved };
        assert_eq!((yard.state(&workers[0]), yard.state(&workers[1])), (expected, TicketState::Approved), "{point}");
        let left = if has_moved { &workers[1..] } else { &workers[..] };
        assert!(landed(&yard.land_all(left, &options)).into_iter().all(|landed| landed), "{point}");
        yard.assert_tidy();
    }
}

#[test]
fn what_cannot_merge_goes_back_before_any_gate_runs() {
    let yard = Yard::new();
    let fits = ["one", "two"].map(|name| yard.approved(name, &[(name, "new\n")]));
    let conflicts = yard.approved("old", &[("a", &with_line("a", 3, "old"))]);
    yard.git.write("a", &with_line("a", 3, "main"));
    yard.git.commit("main moves");
    let all = [fits[0].clone(), fits[1].clone(), conflicts];
    let options = LandOptions { gates: gates(&[("test", "true")]), batch: 1, ..releasing() };
    let reports = yard.land_all(&all, &options);
    assert_eq!(landed(&reports), [true, true, false]);
    let told = yard.told.borrow();
    let place = |word: &str| told.iter().position(|told| told == word).unwrap();
    assert!(place("ended old") < place("gate test"), "{told:?}");
    yard.assert_tidy();
}

#[test]
fn a_fast_forward_lands_the_very_commits_and_sends_the_rest_back() {
    let yard = Yard::new();
    let one = yard.approved("one", &[("one", "new\n")]);
    let two = yard.approved("two", &[("two", "new\n")]);
    let work = yard.git.head("swarm/one");
    let options = LandOptions { strategy: Strategy::FastForward, ..releasing() };
    let reports = yard.land_all(&[one, two], &options);
    assert_eq!(landed(&reports), [true, false]);
    assert_eq!(yard.head(), work);
    let Ok(Outcome::Returned(returned)) = &reports[1].outcome else { panic!("{reports:?}") };
    assert_eq!((returned.reason, returned.onto.clone()), (ReturnReason::Behind, work));
    assert_eq!(returned.why, "`main` went on since its branch left it, and only a fast-forward may land");
    assert_eq!(yard.state(&id("two")), TicketState::Approved);
    yard.assert_tidy();
}

#[test]
fn hooks_for_messages_see_the_message_of_a_landing_and_may_refuse_it() {
    let yard = Yard::new();
    hook(&yard, "prepare-commit-msg", "echo \"Prepared-For: $2\" >> \"$1\"");
    hook(
        &yard,
        "commit-msg",
        "grep -q forbidden \"$1\" && { echo 'no such word' >&2; exit 1; }; echo 'Checked: yes' >> \"$1\"",
    );
    let one = yard.approved("one", &[("one", "new\n")]);
    yard.landed(&one, &releasing());
    let message = yard.git.git(&yard.git.root, &["log", "-1", "--format=%B", "main"]);
    assert_eq!(message, "Land one\n\nSwarm-Ticket: onePrepared-For: merge\nChecked: yes");
    let two = yard.approved("two", &[("two", "new\n")]);
    let before = yard.head();
    let options = LandOptions { message: &|_, _| Ok("forbidden".to_owned()), ..releasing() };
    let reports = yard.land_all(&[two], &options);
    let error = reports[0].outcome.as_ref().unwrap_err().to_string();
    assert_eq!(error, "could not write the commit message: hook commit-msg refused it: no such word");
    assert_eq!((yard.head(), yard.state(&id("two"))), (before, TicketState::Approved));
    // Replayed commits keep their messages, and no hook is asked.
    yard.landed(&id("two"), &LandOptions { strategy: Strategy::Rebase, ..options });
    yard.assert_tidy();
}

/// A key of its own, made for this test.
fn ssh_key(folder: &Path) -> String {
    let key = folder.join("key");
    std::fs::create_dir_all(folder).unwrap();
    let mut call = command("ssh-keygen");
    call.args(["-q", "-t", "ed25519", "-N", "", "-C", "person@example.org", "-f"]).arg(&key);
    let status = spawn(&mut call).expect("ssh-keygen is needed: apt-get install openssh-client").wait().unwrap();
    assert!(status.success());
    key.display().to_string()
}

#[test]
fn landed_commits_are_signed_with_the_persons_key() {
    let yard = Yard::new();
    let key = ssh_key(&yard.git.worktrees.join("keys"));
    let allowed = yard.git.worktrees.join("keys/allowed");
    let public = std::fs::read_to_string(format!("{key}.pub")).unwrap();
    put(&allowed, &format!("person@example.org {public}"));
    for (name, value) in [
        ("gpg.format", "ssh"),
        ("user.signingKey", key.as_str()),
        ("commit.gpgSign", "true"),
        ("gpg.ssh.allowedSignersFile", allowed.to_str().unwrap()),
    ] {
        yard.git.git(&yard.git.root, &["config", name, value]);
    }
    for (number, strategy) in [Strategy::Merge, Strategy::Squash, Strategy::Rebase].into_iter().enumerate() {
        let name = format!("w{number}");
        let worker = yard.approved(&name, &[(&name, "new\n")]);
        // So that a rebase makes a commit of its own.
        yard.git.write("moved", &name);
        yard.git.commit("main moves");
        yard.landed(&worker, &LandOptions { strategy, ..releasing() });
        yard.git.git(&yard.git.root, &["verify-commit", "main"]);
    }
    // A key that is gone is an error, and nothing lands unsigned.
    std::fs::remove_file(&key).unwrap();
    yard.git.git(&yard.git.root, &["config", "commit.gpgSign", "false"]);
    let worker = yard.approved("last", &[("last", "new\n")]);
    yard.git.git(&yard.git.root, &["config", "commit.gpgSign", "true"]);
    let before = yard.head();
    assert!(yard.land_all(&[worker], &releasing())[0].outcome.is_err());
    assert_eq!((yard.head(), yard.state(&id("last"))), (before, TicketState::Approved));
    yard.assert_tidy();
}

#[test]
fn merge_drivers_and_attributes_decide_forecast_and_landing_alike() {
    let yard = Yard::new();
    // A driver of the person's own: keeps both versions, one after the other.
    let driver = "cat %B >> %A";
    yard.git.git(&yard.git.root, &["config", "merge.both.driver", driver]);
    yard.git.write(".gitattributes", "*.list merge=both\n*.log merge=union\n*.dat -merge\n");
    for file in ["x.list", "x.log", "x.dat"] {
        yard.git.write(file, &with_line("x", 1, "start"));
    }
    yard.git.commit("attributes");
    let change = |line: usize, text: &str| with_line("x", line, text);
    let make = |name: &str, file: &str, line| yard.approved(name, &[(file, &change(line, name))]);
    // The same line: only a driver makes that fit.
    let pairs = [("l", "x.list", 1, 1), ("u", "x.log", 1, 1), ("d", "x.dat", 3, 17)];
    for (name, file, ours, theirs) in pairs {
        make(&format!("{name}1"), file, ours);
        make(&format!("{name}2"), file, theirs);
    }
    let workers = yard.store.workers().unwrap();
    let overlaps = yard.landing().overlaps(&workers).unwrap();
    let conflicts: Vec<_> = overlaps
        .iter()
        .filter(|pair| pair.verdict == crate::landing::OverlapVerdict::Conflict)
        .map(|pair| (pair.a.as_str(), pair.b.as_str()))
        .collect();
    assert_eq!(conflicts, [("d1", "d2")]);
    let ids: Vec<_> = ["l1", "l2", "u1", "u2", "d1", "d2"].map(id).into();
    assert_eq!(landed(&yard.land_all(&ids, &releasing())), [true, true, true, true, true, false]);
    // What git itself makes of the same merges, in a checkout.
    let by_git = yard.git.worktrees.join("by-git");
    let kept = |name: &str| format!("refs/swarm/keep/{name}/1");
    yard.git.git(&yard.git.root, &["worktree", "add", "-q", "--detach", by_git.to_str().unwrap(), "main~5"]);
    for name in ["l1", "l2", "u1", "u2"] {
        let work = yard.git.git(&yard.git.root, &["rev-parse", &kept(name)]);
        let mut work = work.trim().to_owned();
        // A keep ref points to a commit that remembers the branch's head.
        if yard.git.git(&yard.git.root, &["log", "-1", "--format=%s", &work]).starts_with("Kept work of") {
            work.push_str("^1");
        }
        yard.git.git(&by_git, &["merge", "-q", "--no-ff", "-m", name, &work]);
    }
    for file in ["x.list", "x.log"] {
        assert_eq!(yard.read(&by_git.join(file)).trim_end(), yard.on_target(file), "{file}");
    }
    assert!(yard.on_target("x.list").contains("l1") && yard.on_target("x.list").contains("l2"));
}

#[test]
fn known_conflicts_are_those_that_the_radar_saw_and_cost_no_merge() {
    let yard = Yard::new();
    yard.approved("one", &[("a", &with_line("a", 3, "one"))]);
    yard.approved("two", &[("a", &with_line("a", 3, "two"))]);
    yard.approved("three", &[("b", "x\n")]);
    let workers = yard.store.workers().unwrap();
    assert_eq!(yard.landing().known_conflicts(&workers).unwrap(), []);
    yard.landing().overlaps(&workers).unwrap();
    assert_eq!(yard.landing().known_conflicts(&workers).unwrap(), [(id("one"), id("two"))]);
    // What the person changed about merging makes everything unknown.
    yard.git.git(&yard.git.root, &["config", "merge.renames", "false"]);
    assert_eq!(yard.landing().known_conflicts(&workers).unwrap(), []);
}
