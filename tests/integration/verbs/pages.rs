//! `swarm completions` and `swarm man`.

use std::path::Path;

use crate::support::swarm::TestSwarm;

/// Set to write the checked-in files anew.
const BLESS: &str = "SWARM_BLESS";

#[test]
fn the_checked_in_scripts_are_what_the_verb_prints() {
    let swarm = TestSwarm::without_repository();
    let shells = [("bash", "bash"), ("zsh", "zsh"), ("fish", "fish"), ("elvish", "elvish"), ("powershell", "ps1")];
    for (shell, extension) in shells {
        let script = swarm.run_in(swarm.root(), ["completions", shell]).success();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("completions/swarm.{extension}"));
        if std::env::var_os(BLESS).is_some() {
            swarm.write_at(&path, &script);
        }
        let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(checked_in, script, "run the tests with {BLESS}=1 to write {}", path.display());
    }
    swarm.run_in(swarm.root(), ["completions", "tcsh"]).expect_code(2).says("bash");
}

#[test]
fn ids_of_tickets_and_agents_complete() {
    let mut swarm = super::with_shell_agent();
    swarm.write_ticket("fix-parser", "script", "Fix it.");
    swarm.write_ticket("other", "script", "Other.");
    swarm.set_env("COMPLETE", "fish");
    let candidates = |words: &[&str]| swarm.run(["--", "swarm"].iter().chain(words)).success();
    let tickets = candidates(&["spawn", "fi"]);
    assert!(tickets.starts_with("fix-parser") && !tickets.contains("other"), "{tickets}");
    assert!(candidates(&["spawn", "--agent", "scr"]).starts_with("script"));
    assert!(candidates(&["ag"]).contains("agents"));
    assert!(!candidates(&[""]).contains("supervise"), "hidden verbs stay hidden");
}

#[test]
fn manual_pages_are_printed_and_written() {
    let swarm = TestSwarm::without_repository();
    let run = |args: &[&str]| swarm.run_in(swarm.root(), args);
    assert!(run(&["man"]).success().contains(".TH swarm 1"));
    let spawn = run(&["man", "spawn"]).success();
    assert!(spawn.contains("swarm\\-spawn") && spawn.contains("headless"), "{spawn}");
    assert_eq!(run(&["man", "ticket new"]).success(), run(&["man", "ticket-new"]).success());
    assert_eq!(run(&["man", "st"]).success(), run(&["man", "status"]).success());
    run(&["man", "supervise"]).expect_code(5).says("supervise");
    run(&["man", "--out", "pages"]).success();
    let mut names: Vec<_> =
        std::fs::read_dir(swarm.root().join("pages")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert!(names.len() > 25 && names[0] == "swarm-agents-check.1", "{names:?}");
}
