use std::os::unix::fs::symlink;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Policy, decide, reply_by_policy, rule};
use crate::agent::HookCall;
use crate::model::Time;

struct Tree {
    folder: tempfile::TempDir,
    policy: Policy,
}

impl Tree {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["tree/src", "repo/.swarm/agents", "repo/.git", "extra", "outside"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        let policy = Policy {
            worktree: root.join("tree"),
            writable: vec![root.join("extra"), root.join("repo")],
            protected: vec![root.join("repo/.swarm"), root.join("repo/.git")],
            ask: vec!["Bash(git push*)".to_owned()],
            is_headless: true,
        };
        Self { folder, policy }
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().canonicalize().unwrap().join(name).display().to_string()
    }

    fn denies(&self, tool: &str, field: &str, path: &str) -> Option<String> {
        decide(&call(tool, &json!({field: path}), Some(&self.at("tree"))), &self.policy).map(|deny| deny.reason)
    }

    fn denies_write(&self, path: &str) -> Option<String> {
        self.denies("Write", "file_path", path)
    }
}

fn call(tool: &str, input: &Value, cwd: Option<&str>) -> HookCall {
    let payload = json!({"tool_name": tool, "tool_input": input, "tool_use_id": "t1", "cwd": cwd});
    HookCall { at: Time::from_millis(0), event: "PreToolUse".to_owned(), payload }
}

#[test]
fn writes_in_the_worktree_and_in_declared_folders_pass() {
    let tree = Tree::new();
    for path in ["tree/a.txt", "tree/new/deep/b.rs", "tree/src/../c", "extra/x", "repo/README.md"] {
        assert_eq!(tree.denies_write(&tree.at(path)), None, "{path}");
    }
    for path in ["a.txt", "./src/a", "src/../b", ".gitignore", ".github/workflows/ci.yml"] {
        assert_eq!(tree.denies_write(path), None, "{path}");
    }
}

#[test]
fn writes_elsewhere_are_refused_with_a_sentence_that_helps() {
    let tree = Tree::new();
    let reason = tree.denies_write(&tree.at("outside/x")).unwrap();
    assert!(reason.contains("is outside your worktree") && reason.contains(&tree.at("tree")), "{reason}");
    for path in ["../outside/x", "src/../../outside/x", "/etc/passwd", "/", "~/x", "~", "../tree2/x"] {
        assert!(tree.denies_write(path).is_some(), "{path}");
    }
    // A sibling whose name begins with the worktree's name is not in it.
    assert!(tree.denies_write(&tree.at("tree2/x")).is_some());
}

#[test]
fn every_tool_that_writes_is_judged_and_others_are_not() {
    let tree = Tree::new();
    assert!(tree.denies("Edit", "file_path", "/etc/x").is_some());
    assert!(tree.denies("MultiEdit", "file_path", "/etc/x").is_some());
    assert!(tree.denies("NotebookEdit", "notebook_path", "/etc/x").is_some());
    assert_eq!(tree.denies("Read", "file_path", "/etc/x"), None);
    let mut after = call("Write", &json!({"file_path": "/etc/x"}), None);
    after.event = "PostToolUse".to_owned();
    assert_eq!(decide(&after, &tree.policy), None);
}

#[test]
fn links_are_followed_as_far_as_they_lead() {
    let tree = Tree::new();
    let link = |to: &str, name: &str| symlink(to, tree.at(name)).unwrap();
    link(&tree.at("outside"), "tree/away");
    link("../outside/new.txt", "tree/file");
    link(&tree.at("tree"), "extra/home");
    link("loop-b", "tree/loop-a");
    link("loop-a", "tree/loop-b");
    link("src", "tree/inner");
    for path in ["away/x", "file", "inner/../../outside/x", "loop-a/x"] {
        assert!(tree.denies_write(path).is_some(), "{path}");
    }
    // `..` counts from where the link leads: `away/..` is the folder around `outside`.
    assert!(tree.denies_write("away/../x").is_some());
    for path in ["inner/x", "inner/new/y"] {
        assert_eq!(tree.denies_write(path), None, "{path}");
    }
    assert_eq!(tree.denies_write(&tree.at("extra/home/x")), None);
}

#[test]
fn a_worktree_named_through_a_link_is_the_same_worktree() {
    let mut tree = Tree::new();
    symlink(tree.at("tree"), tree.at("alias")).unwrap();
    tree.policy.worktree = tree.at("alias").into();
    assert_eq!(tree.denies_write(&tree.at("tree/x")), None);
    assert_eq!(tree.denies_write(&tree.at("alias/x")), None);
}

#[test]
fn git_data_and_the_files_that_steer_the_run_are_never_written() {
    let tree = Tree::new();
    for path in [".git", ".git/hooks/pre-commit", ".GIT/config", "sub/.git/config"] {
        assert!(tree.denies_write(path).unwrap().contains("git's own data"), "{path}");
    }
    for path in ["repo/.swarm/config.yaml", "repo/.swarm/agents/a.md", "repo/.git/config", "extra/../repo/.swarm/x"] {
        assert!(tree.denies_write(&tree.at(path)).unwrap().contains("steers this run"), "{path}");
    }
}

#[test]
fn relative_paths_count_from_the_folder_of_the_call() {
    let tree = Tree::new();
    let cwd = tree.at("outside");
    assert!(decide(&call("Write", &json!({"file_path": "x"}), Some(&cwd)), &tree.policy).is_some());
    assert!(decide(&call("Write", &json!({"file_path": "x"}), None), &tree.policy).is_none());
}

#[test]
fn ask_rules_are_refused_only_where_nobody_can_be_asked() {
    let mut tree = Tree::new();
    let push = |command: &str| call("Bash", &json!({"command": command}), None);
    for command in ["git push", "git push origin main", "cd x && git push -f", "true; git push", "(git push)"] {
        let deny = decide(&push(command), &tree.policy).unwrap();
        assert!(deny.by_ask_rule && deny.reason.contains("`Bash(git push*)`"), "{command}");
    }
    assert_eq!(decide(&push("git status"), &tree.policy), None);
    tree.policy.is_headless = false;
    assert_eq!(decide(&push("git push"), &tree.policy), None);
}

#[test]
fn the_reply_is_the_json_the_program_understands() {
    let tree = Tree::new();
    let reply = reply_by_policy(&call("Write", &json!({"file_path": "/etc/x"}), None), &tree.policy);
    let reply: Value = serde_json::from_str(&reply.stdout).unwrap();
    let output = &reply["hookSpecificOutput"];
    assert_eq!((&output["hookEventName"], &output["permissionDecision"]), (&json!("PreToolUse"), &json!("deny")));
    assert!(output["permissionDecisionReason"].as_str().unwrap().starts_with("`/etc/x` is outside"));
    assert_eq!(reply_by_policy(&call("Bash", &json!({"command": "ls"}), None), &tree.policy).stdout, "");
}

#[test]
fn odd_calls_are_left_to_the_agent() {
    let tree = Tree::new();
    for input in [json!(null), json!({}), json!({"file_path": 3}), json!([1]), json!("x")] {
        assert_eq!(decide(&call("Write", &input, None), &tree.policy), None);
    }
    let odd = HookCall { at: Time::from_millis(0), event: "PreToolUse".to_owned(), payload: Value::Null };
    assert_eq!(decide(&odd, &tree.policy), None);
}

#[test]
fn rules_follow_the_syntax_of_the_program() {
    let bash = |rule: &str, command: &str| rule::covers(rule, "Bash", &json!({"command": command}));
    assert!(bash("Bash", "ls") && bash("Bash(*)", "ls") && bash("Bash()", "ls"));
    assert!(bash("Bash(npm run test:*)", "npm run test --all") && bash("Bash(npm run build)", "npm run build"));
    assert!(!bash("Bash(npm run build)", "npm run build2") && !bash("Bash(git push*)", "gitpush"));
    assert!(bash("Bash(rm * -rf*)", "rm x -rf /") && !bash("Bash(* --force)", "git push"));
    let read = |rule: &str, path: &str| rule::covers(rule, "Read", &json!({"file_path": path}));
    assert!(read("Read(.env)", "/w/.env") && read("Read(./secrets/*)", "/w/secrets/a"));
    assert!(read("Read(//etc/*)", "/etc/passwd") && !read("Read(.env)", "/w/.environment"));
    assert!(!read("Write(.env)", "/w/.env") && !read("Read(", "/w/x"));
    assert!(rule::covers("mcp__db", "mcp__db__query", &json!({})));
    assert!(!rule::covers("mcp__db", "mcp__dbx__query", &json!({})));
}

proptest! {
    #[test]
    fn a_path_that_passes_is_below_a_root(parts in prop::collection::vec("\\.\\.|\\.|[a-c]|away|inner", 0..8)) {
        let tree = Tree::new();
        symlink(tree.at("outside"), tree.at("tree/away")).unwrap();
        symlink("src", tree.at("tree/inner")).unwrap();
        let path = parts.join("/");
        if !path.is_empty() && tree.denies_write(&path).is_none() {
            let real = super::path::resolve(&Path::new(&tree.at("tree")).join(&path));
            prop_assert!(!real.starts_with(tree.at("outside")));
            prop_assert!(["tree", "extra", "repo"].iter().any(|root| real.starts_with(tree.at(root))));
        }
    }
}
