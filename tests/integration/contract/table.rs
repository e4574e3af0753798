//! The table of runtimes in the README, made from what the contract tests.

use std::path::Path;

use super::runtimes::Resume;
use super::{Runtime, TESTED};

/// Set to write the table instead of comparing it.
const BLESS: &str = "SWARM_BLESS";
/// Around the table in the README.
const MARKS: [&str; 2] = ["<!-- runtimes: made by tests/integration/contract -->\n", "<!-- end of runtimes -->\n"];
/// Presets that no test starts: label, and how far they were seen to work.
const NOT_STARTED: [(&str, &str); 2] = [
    ("`command`, preset `gemini`", "run by hand: Gemini CLI 0.61.0; tests read what it printed"),
    ("`command`, preset `aider`", "from the documentation of 0.86.2"),
];

/// A row.
fn row(runtime: &Runtime, tested: &[&str]) -> String {
    let mark = |is_so: bool| if is_so { "yes" } else { "-" };
    let has = |scenario: &str| tested.contains(&scenario);
    let log = match runtime.ends {
        [] => "-",
        ends if ends.iter().any(|end| end.ends_with(" 3")) => "with exit codes",
        _ => "yes",
    };
    let denied = runtime.ends.iter().any(|end| end.ends_with("denied"));
    let resume = match runtime.resume {
        Resume::Conversation => "its conversation",
        Resume::Anew => "starts anew",
    };
    let cells = [
        runtime.label,
        log,
        mark(denied),
        mark(has("a_question_in_a_terminal")),
        mark(has("turns_in_a_terminal")),
        mark(runtime.usage),
        mark(runtime.cost),
        resume,
        runtime.verified,
    ];
    format!("| {} |\n", cells.join(" | "))
}

/// The whole table.
fn table() -> String {
    let head = [
        "Runtime",
        "Tool log",
        "Refused calls",
        "Asks you",
        "Turns in a terminal",
        "Tokens",
        "Cost",
        "Resumes",
        "Verified",
    ];
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for (runtime, tested) in TESTED {
        text.push_str(&row(runtime, tested));
    }
    for (label, verified) in NOT_STARTED {
        let log = if label.contains("aider") { "-" } else { "yes" };
        let resume = if label.contains("aider") { "starts anew" } else { "its conversation" };
        let told = if label.contains("aider") { "-" } else { "yes" };
        text.push_str(&format!("| {label} | {log} | {told} | - | - | {told} | - | {resume} | {verified} |\n"));
    }
    text
}

#[test]
fn the_readme_says_of_each_runtime_what_is_tested() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let [begin, end] = MARKS;
    let from = readme.find(begin).expect("the README has a place for the table") + begin.len();
    let to = from + readme[from..].find(end).expect("the table in the README ends");
    if std::env::var_os(BLESS).is_some() {
        let text = format!("{}{}{}", &readme[..from], table(), &readme[to..]);
        let mut file = std::fs::File::create(&path).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        return;
    }
    assert_eq!(readme[from..to], table(), "run this test with {BLESS}=1 to write the table");
}

#[cfg(feature = "real-agents")]
#[test]
fn presets_are_tested_with_the_version_they_name() {
    for (runtime, _) in TESTED {
        let Some((_, preset)) = runtime.label.split_once("preset `") else { continue };
        let file = format!("templates/presets/{}.yaml", preset.trim_end_matches('`'));
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        let version = runtime.verified.rsplit(' ').next().unwrap();
        assert!(text.contains(&format!("verified: {{by: run, version: {version}}}")), "{preset} {version}");
        let installed = super::runtimes::binary(preset.trim_end_matches('`'));
        assert!(installed.display().to_string().contains(version), "{} {version}", installed.display());
    }
}
