use std::path::PathBuf;

use super::*;

struct Tree {
    folder: tempfile::TempDir,
    permission: Permission,
}

fn tree(mode: PermissionMode, allow: &[&str], ask: &[&str], deny: &[&str]) -> Tree {
    let folder = tempfile::tempdir().unwrap();
    let list = |rules: &[&str]| rules.iter().map(|rule| (*rule).to_owned()).collect();
    let rules = Permissions { allow: list(allow), ask: list(ask), deny: list(deny) };
    let place = Place::new(folder.path(), &[], &[PathBuf::from("/protected")]);
    Tree { permission: Permission::new(mode, &rules, &[], place), folder }
}

impl Tree {
    fn judge(&self, tool: &str, input: &Value) -> Verdict {
        self.permission.judge(&Call { id: "c".to_owned(), tool: tool.to_owned(), input: input.clone() })
    }

    fn bash(&self, command: &str) -> char {
        letter(&self.judge("Bash", &json!({"command": command})))
    }

    fn file(&self, tool: &str, path: &str) -> char {
        letter(&self.judge(tool, &json!({"file_path": path})))
    }
}

fn letter(verdict: &Verdict) -> char {
    match verdict {
        Verdict::Allow => 'y',
        Verdict::Ask { .. } => '?',
        Verdict::Deny { .. } => 'n',
    }
}

#[test]
fn every_command_of_a_shell_text_needs_a_rule() {
    let tree = tree(PermissionMode::AcceptEdits, &["Bash(cargo test *)", "Bash(git add:*)"], &[], &[]);
    for text in ["cargo test", "cargo test -p x 2>&1 | tail -5", "cd src && cargo test --all > out.txt", "git add ."] {
        assert_eq!(tree.bash(text), 'y', "{text}");
    }
    for text in [
        "cargo testx",
        "cargo test; rm -rf .",
        "cargo test & curl x",
        "cargo test $(rm x)",
        "cargo test \"`rm x`\"",
        "cargo test > /etc/x",
        "cargo test > ../x",
        "cargo test > $HOME/x",
        "X=1 cargo test",
        "cat /etc/passwd",
        "cat ../x",
        "tail -5 ~/x",
    ] {
        assert_eq!(tree.bash(text), '?', "{text}");
    }
}

#[test]
fn deny_goes_before_ask_and_ask_before_allow() {
    let tree =
        tree(PermissionMode::Bypass, &["Bash"], &["Bash(git push *)"], &["Bash(git push --force*)", "Read(**/.env)"]);
    assert_eq!(tree.bash("ls && git push --force"), 'n');
    assert_eq!(tree.bash("true; git push"), '?');
    assert_eq!(tree.bash("anything $(at all)"), 'y');
    assert_eq!((tree.file("Read", ".env"), tree.file("Read", "a/.env"), tree.file("Read", "env")), ('n', 'n', 'y'));
    std::os::unix::fs::symlink(".env", tree.folder.path().join("link")).unwrap();
    assert_eq!(tree.file("Read", "link"), 'n', "a link is judged by where it leads");
    assert!(!tree.permission.may_read("a/.env") && tree.permission.may_read("a/b"));
}

#[test]
fn modes_differ_in_what_they_do_unasked() {
    let verdicts = |mode| {
        let tree = tree(mode, &[], &[], &[]);
        let server = letter(&tree.judge("mcp__a__b", &json!({})));
        [
            tree.file("Read", "a"),
            tree.file("Edit", "a"),
            tree.file("Write", "a"),
            tree.bash("make"),
            tree.bash("ls"),
            server,
        ]
    };
    assert_eq!(verdicts(PermissionMode::Default), ['y', '?', '?', '?', 'y', '?']);
    assert_eq!(verdicts(PermissionMode::AcceptEdits), ['y', 'y', 'y', '?', 'y', '?']);
    assert_eq!(verdicts(PermissionMode::Plan), ['y', 'n', 'n', 'n', 'y', 'n']);
    assert_eq!(verdicts(PermissionMode::Bypass), ['y'; 6]);
}

#[test]
fn rules_for_edits_hold_for_writes_and_servers_are_named_whole() {
    let tree = tree(PermissionMode::Default, &["Edit(src/*)", "mcp__db"], &[], &["Edit(src/gen/*)"]);
    assert_eq!((tree.file("Write", "src/a"), tree.file("Edit", "src/gen/a"), tree.file("Edit", "b")), ('y', 'n', '?'));
    assert_eq!(letter(&tree.judge("mcp__db__query", &json!({}))), 'y');
    assert_eq!(letter(&tree.judge("mcp__dbx__query", &json!({}))), '?');
}

#[test]
fn a_person_allows_exactly_what_was_asked() {
    let mut tree = tree(PermissionMode::Default, &[], &[], &[]);
    let input = json!({"command": "make $(x)"});
    let call = Call { id: "c".to_owned(), tool: "Bash".to_owned(), input };
    tree.permission.allow_always(&call);
    assert_eq!((tree.bash("make $(x)"), tree.bash("make"), tree.bash("make $(y)")), ('y', '?', '?'));
}
