//! What gates see, how they end, and what is remembered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::support::{Yard, gate, gates, options, releasing};
use crate::git::fixture::with_line;
use crate::landing::{ApprovedGates, LandOptions, LandingError, Outcome, PrepareScratch, ReturnReason};
use crate::model::settings::Gate;
use crate::model::ticket::TicketState;

#[test]
fn a_gate_sees_exactly_the_merged_tree() {
    let yard = Yard::new();
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    // A change of the target after the branch began, and dirt in the person's checkout.
    yard.git.write("b", "changed on main\n");
    yard.git.commit("main moves");
    yard.git.write("c", "dirty\n");
    yard.git.write("untracked", "x\n");
    let script = "cat b; grep -q fixed a && ! grep -q dirty c && test ! -e untracked && git status --porcelain && \
                  git rev-parse HEAD HEAD^{tree}; echo $SWARM_COMMIT $SWARM_TICKET $SWARM_GATE; cat; pwd";
    let landed = yard.landed(&worker, &LandOptions { gates: gates(&[("look", script)]), ..options() });
    let lines: Vec<_> = landed.gates[0].output_tail.lines().collect();
    let facts = format!("{} fix look", landed.commit);
    assert_eq!(lines[..4], ["changed on main", landed.commit.as_str(), landed.tree.as_str(), facts.as_str()]);
    assert!(!lines[4].contains(".git/"), "{lines:?}");
    assert!(!std::path::Path::new(lines[4]).exists());
}

#[test]
fn a_red_gate_returns_with_the_end_of_its_output() {
    let yard = Yard::new();
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    let before = yard.head();
    let script = "seq 1 20000; echo 'assertion failed: x'; exit 3";
    let all = gates(&[("fine", "true"), ("test", script), ("never", "touch /nonexistent")]);
    let returned = yard.returned(&worker, &LandOptions { gates: all, ..releasing() });
    assert_eq!(returned.reason, ReturnReason::GateFailed);
    assert_eq!(returned.why, "gate `test` failed with exit code 3");
    assert!(returned.evidence.contains("assertion failed: x") && returned.evidence.contains("20000"));
    assert!(returned.evidence.len() < 20_000);
    let names: Vec<_> = returned.gates.iter().map(|gate| (gate.name.as_str(), gate.passed)).collect();
    assert_eq!(names, [("fine", true), ("test", false)]);
    assert_eq!((yard.head(), yard.state(&worker)), (before, TicketState::Approved));
    yard.assert_tidy();
}

#[test]
fn a_flaky_gate_is_tried_again_and_says_so() {
    let yard = Yard::new();
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    let once = yard.git.worktrees.join("once");
    let script = format!("test -e '{0}' && exit 0; touch '{0}'; exit 1", once.display());
    let flaky = Gate { retry: 2, ..gate("flaky", &script) };
    let flaky = ApprovedGates::check(&[flaky], |_| true).unwrap();
    let landed = yard.landed(&worker, &LandOptions { gates: flaky, ..options() });
    assert_eq!((landed.gates[0].passed, landed.gates[0].tries), (true, 2));
}

#[test]
fn a_gate_out_of_time_is_red_and_leaves_nothing_running() {
    let yard = Yard::new();
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    let pid_file = yard.git.worktrees.join("pid");
    let script = format!("setsid sleep 300 & echo $! > '{}'; echo started; sleep 300", pid_file.display());
    let slow = Gate { timeout: Some(Duration::from_millis(400)), ..gate("slow", &script) };
    let slow = ApprovedGates::check(&[slow], |_| true).unwrap();
    let returned = yard.returned(&worker, &LandOptions { gates: slow, ..options() });
    assert_eq!(returned.why, "gate `slow` ran out of time");
    assert_eq!((returned.gates[0].exit_code, returned.gates[0].passed), (None, false));
    assert_eq!(returned.gates[0].output_tail, "started\n");
    assert!(returned.evidence.contains("The end of its output:\n\nstarted\n"), "{}", returned.evidence);
    let pid: u32 = yard.read(&pid_file).trim().parse().unwrap();
    assert_eq!(crate::process::identify(pid).unwrap(), None);
}

#[test]
fn a_landing_that_is_to_end_ends_its_gate_and_leaves_the_work_as_it_is() {
    let yard = Yard::new();
    let workers = ["one", "two"].map(|name| yard.approved(name, &[(name, "new\n")]));
    let pid_file = yard.git.worktrees.join("pid");
    let script = format!("setsid sleep 300 & echo $! > '{0}.new'; mv '{0}.new' '{0}'; sleep 300", pid_file.display());
    let options = LandOptions { gates: gates(&[("slow", &script)]), ..options() };
    let (ends, begun) = (options.ends.clone(), pid_file.clone());
    let asker = std::thread::spawn(move || {
        while !begun.exists() {
            std::thread::yield_now();
        }
        ends.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    let before = yard.head();
    let reports = yard.land_all(&workers, &options);
    asker.join().unwrap();
    assert!(reports.iter().all(|report| matches!(report.outcome, Err(LandingError::Ended))), "{reports:?}");
    assert_eq!(yard.head(), before);
    workers.iter().for_each(|worker| assert_eq!(yard.state(worker), TicketState::Approved));
    let pid: u32 = yard.read(&pid_file).trim().parse().unwrap();
    assert_eq!(crate::process::identify(pid).unwrap(), None);
    // What was cut off is no memory of a failure.
    yard.land_all(&workers, &LandOptions { gates: gates(&[("slow", "true")]), ..super::support::options() });
    workers.iter().for_each(|worker| assert_eq!(yard.state(worker), TicketState::Landed));
}

#[test]
fn what_a_passed_gate_left_running_is_ended() {
    let yard = Yard::new();
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    let pid_file = yard.git.worktrees.join("pid");
    let script = format!("setsid sleep 300 >/dev/null 2>&1 & echo $! > '{}'", pid_file.display());
    let started = Instant::now();
    yard.landed(&worker, &LandOptions { gates: gates(&[("test", &script)]), ..options() });
    assert!(started.elapsed() < Duration::from_secs(60));
    let pid: u32 = yard.read(&pid_file).trim().parse().unwrap();
    assert_eq!(crate::process::identify(pid).unwrap(), None);
}

#[test]
fn what_a_gate_writes_or_commits_reaches_neither_the_next_gate_nor_the_target() {
    let yard = Yard::new();
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed")), (".gitignore", "build\n")]);
    let writes = "echo junk > junk; echo changed > b; mkdir -p build; echo x > build/out; git add -A; \
                  git -c user.name=g -c user.email=g@x commit -qm gate; echo more > c";
    let looks = "test ! -e junk && grep -q 'b 1' b && grep -q 'c 1' c && test -e build/out && \
                 test \"$(git rev-parse HEAD)\" = $SWARM_COMMIT && test -z \"$(git status --porcelain)\"";
    let landed =
        yard.landed(&worker, &LandOptions { gates: gates(&[("writes", writes), ("looks", looks)]), ..options() });
    assert_eq!(yard.head(), landed.commit);
    assert_eq!(yard.git.git(&yard.git.root, &["rev-parse", "main^{tree}"]), landed.tree);
    yard.assert_tidy();
}

#[test]
fn a_pass_is_remembered_for_the_same_tree_and_definition_only() {
    let yard = Yard::new();
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    yard.git.write("a", "mine\n");
    let count = yard.git.worktrees.join("count");
    let script = format!("echo run >> '{}'", count.display());
    let land = |run: &str, env: &[(&str, &str)]| {
        let settings_env: BTreeMap<_, _> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        yard.waiting(&worker, &LandOptions { gates: gates(&[("test", run)]), settings_env, ..options() });
    };
    let runs = || yard.read(&count).lines().count();
    land(&script, &[]);
    land(&script, &[]);
    assert_eq!(runs(), 1);
    land(&format!("{script} # changed"), &[]);
    land(&script, &[("MODE", "strict")]);
    assert_eq!(runs(), 3);
    yard.git.git(&yard.git.root, &["checkout", "-q", "a"]);
    let landed = yard.landed(&worker, &LandOptions { gates: gates(&[("test", &script)]), ..options() });
    assert!(landed.gates[0].cached);
    assert_eq!(runs(), 3);
    assert!(yard.told.take().contains(&"passed test cached".to_owned()));
}

#[test]
fn a_failure_is_never_remembered() {
    let yard = Yard::new();
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    let tool = yard.git.worktrees.join("tool");
    let script = format!("test -e '{}'", tool.display());
    let with = || LandOptions { gates: gates(&[("test", &script)]), ..options() };
    yard.returned(&worker, &with());
    crate::git::fixture::put(&tool, "installed");
    yard.landed(&worker, &with());
}

#[test]
fn gates_that_nobody_trusted_are_named() {
    let both = [gate("good", "true"), gate("bad", "rm -rf /")];
    let error = ApprovedGates::check(&both, |gate| gate.name == "good").unwrap_err();
    assert_eq!(error.to_string(), "these gates are not trusted: bad");
}

#[test]
fn preparation_puts_things_beside_the_tree() {
    let yard = Yard::new();
    let worker = yard.approved("fix", &[(".gitignore", "deps\n")]);
    let prepare: PrepareScratch = Arc::new(|path: &std::path::Path| {
        crate::git::fixture::put(&path.join("deps/lib"), "x");
        Ok(())
    });
    let prepared = LandOptions { gates: gates(&[("test", "cat deps/lib")]), prepare: Some(prepare), ..options() };
    assert_eq!(yard.landed(&worker, &prepared).gates[0].output_tail, "x");
}

#[test]
fn a_gate_that_moves_the_target_to_its_own_commit_is_found_out() {
    let yard = Yard::new();
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    let script = "echo $SWARM_COMMIT; git update-ref refs/heads/main $(git -c user.name=g -c user.email=g@x commit-tree \
                  -p $SWARM_COMMIT -m gate $SWARM_COMMIT^{tree})";
    let landed = yard.landed(&worker, &LandOptions { gates: gates(&[("moves", script)]), ..options() });
    assert_eq!(landed.commit.as_str(), landed.gates[0].output_tail.trim());
    assert_ne!(landed.commit, yard.head());
    let [warning] = &landed.warnings[..] else { panic!("{:?}", landed.warnings) };
    assert!(warning.contains("moved by somebody else") && warning.contains(yard.head().short()), "{warning}");
    let note = yard.git.git(&yard.git.root, &["notes", "--ref=swarm", "show", landed.commit.as_str()]);
    assert!(note.contains("\"fix\""), "{note}");
}

#[test]
fn a_gate_that_merges_the_work_itself_is_found_out() {
    let yard = Yard::new();
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    let script = "git update-ref refs/heads/main $(git -c user.name=g -c user.email=g@x commit-tree \
                  -p $SWARM_TARGET_COMMIT -p $SWARM_BRANCH -m gate $SWARM_COMMIT^{tree}) $SWARM_TARGET_COMMIT || true";
    let landed = yard.landed(&worker, &LandOptions { gates: gates(&[("merges", script)]), ..options() });
    assert_eq!(landed.commit, landed.work);
    assert_ne!(landed.commit, yard.head());
    assert!(landed.warnings.iter().any(|warning| warning.contains("had this work already")), "{:?}", landed.warnings);
}

#[test]
fn the_next_batch_has_the_worktree_of_the_last_one_only_where_that_is_as_new() {
    let yard = Yard::new();
    yard.git.write(".gitignore", "built\n");
    yard.git.commit("ignore what is built");
    let places = yard.git.worktrees.join("places");
    let run = |names: [&str; 2], leave: &str| {
        let workers = names.map(|name| yard.approved(name, &[(name, "x\n")]));
        let script = format!(
            "test ! -e built && test -z \"$(git status --porcelain --ignored)\" && git diff --quiet HEAD && \
             test $(git rev-parse HEAD) = $SWARM_COMMIT && pwd >> '{}' && {leave}",
            places.display()
        );
        let options = LandOptions { gates: gates(&[("look", &script)]), batch: 1, ..releasing() };
        for report in yard.land_all(&workers, &options) {
            assert!(matches!(report.outcome, Ok(Outcome::Landed(_))), "{leave}: {report:?}");
        }
        let text = yard.read(&places);
        std::fs::remove_file(&places).unwrap();
        yard.assert_tidy();
        let places: Vec<_> = text.lines().map(str::to_owned).collect();
        places[0] == places[1]
    };
    assert!(run(["n1", "n2"], "true"));
    for (number, leave) in [
        "touch built",
        "touch new",
        "echo x >> a",
        "mkdir empty",
        "git commit -qm x --allow-empty",
        "chmod 600 a",
        "git bisect start",
    ]
    .into_iter()
    .enumerate()
    {
        let names = [format!("l{number}a"), format!("l{number}b")];
        assert!(!run([&names[0], &names[1]], leave), "{leave}");
    }
}
