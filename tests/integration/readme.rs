//! The README does what it says.

use std::path::Path;

use crate::support::swarm::{SWARM, TestSwarm};

const README: &str = include_str!("../../README.md");

/// The contents of the fenced blocks of one kind, in order.
pub(crate) fn blocks(kind: &str) -> Vec<String> {
    let fence = format!("```{kind}\n");
    let after = README.split(&fence).skip(1);
    after.map(|rest| rest.split_once("```").expect("a block is closed").0.to_owned()).collect()
}

#[test]
fn the_tutorial_works_when_pasted() {
    let swarm = TestSwarm::without_repository();
    let script = blocks("sh").join("\n");
    let programs = Path::new(SWARM).parent().unwrap().to_str().unwrap();
    let path = format!("{programs}:{}", swarm.environment()["PATH"].to_string_lossy());
    let output = swarm.command("sh", swarm.root()).args(["-eux", "-c", &script]).env("PATH", path).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    let told = [
        "done",
        "+Hello, world.",
        "Landed `fix-greeting` on `main`",
        "Hello, world.",
        "refs/swarm/keep/fix-greeting/1",
    ];
    let mut rest = &*stdout;
    for text in told {
        let at = rest.find(text).unwrap_or_else(|| panic!("`{text}` does not come in its turn:\n{stdout}\n{stderr}"));
        rest = &rest[at + text.len()..];
    }
}

#[test]
fn every_verb_that_is_named_exists() {
    let swarm = TestSwarm::without_repository();
    let help = swarm.run_in(swarm.root(), ["--help"]).success();
    let verbs: Vec<&str> = help.lines().filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next()).collect();
    let inline = README.split('`').skip(1).step_by(2).filter_map(|code| code.strip_prefix("swarm "));
    let pasted = blocks("sh").join("\n");
    let pasted = pasted.lines().filter_map(|line| line.strip_prefix("swarm "));
    for command in inline.chain(pasted) {
        let verb = command.split_whitespace().next().unwrap_or_default();
        assert!(verb == "VERB" || verb.starts_with('-') || verbs.contains(&verb), "there is no `swarm {verb}`");
    }
}

#[test]
fn every_file_that_is_linked_is_there() {
    for rest in README.split("](").skip(1) {
        let link = rest.split_once(')').expect("a link is closed").0;
        assert!(link.contains("://") || Path::new(env!("CARGO_MANIFEST_DIR")).join(link).exists(), "{link}");
    }
}
