//! How differences reach people and programs.

use super::in_review;

#[test]
fn what_a_program_reads_is_a_patch_that_git_applies_whatever_the_person_configured() {
    let swarm = in_review("", "", "Write.");
    let worktree = swarm.worktree("fix");
    for (name, value) in [
        ("diff.noprefix", "true"),
        ("diff.external", "false"),
        ("color.ui", "always"),
        ("diff.context", "0"),
        ("diff.suppressBlankEmpty", "true"),
        ("core.pager", "false"),
        ("diff.renames", "copies"),
    ] {
        swarm.git(["config", name, value]).success();
    }
    std::fs::rename(worktree.join("shared.txt"), worktree.join("a b.txt")).unwrap();
    swarm.write_at(&worktree.join("binary"), "a\0b");
    swarm.write_at(&worktree.join("no end"), "x");
    swarm.git_in(&worktree, ["add", "--all"]).success();
    swarm.git_in(&worktree, ["commit", "--quiet", "-m", "More"]).success();
    let patch = swarm.run(["diff", "fix"]).success();
    assert!(!patch.contains('\x1b'), "{patch}");
    let file = swarm.root().join("fix.patch");
    swarm.write_at(&file, &patch);
    swarm.git(["apply", "--index", file.to_str().unwrap()]).success();
    let ours = swarm.git(["write-tree"]).success();
    assert_eq!(ours.trim(), swarm.git_in(&worktree, ["rev-parse", "HEAD^{tree}"]).success().trim());
}

#[test]
fn a_person_sees_words_and_syntax_or_what_their_own_program_makes_of_gits_colours() {
    let mut swarm = in_review("", "", "Write.");
    let worktree = swarm.worktree("fix");
    swarm.write_at(&worktree.join("a.rs"), "fn main() {} // remark\n");
    swarm.set_env("PAGER", "cat");
    let shown = swarm.run_in_terminal(["diff", "fix"], "").success();
    assert!(shown.contains("\x1b[35mfn\x1b[0m") && shown.contains("\x1b[90m// remark\x1b[0m"), "{shown:?}");
    // `less` gets the same; what fits the screen stays on it.
    swarm.set_env("PAGER", "sh -c 'cat >&2' less");
    swarm.set_env("NO_COLOR", "1");
    let plain = swarm.run_in_terminal(["diff", "fix"], "").success();
    assert!(plain.contains("+fn main() {} // remark") && !plain.contains("\x1b[35m"), "{plain:?}");
    swarm.set_env("NO_COLOR", "");
    swarm.git(["config", "core.pager", "sed -e s/^/DELTA:/"]).success();
    let filtered = swarm.run_in_terminal(["diff", "fix"], "").success();
    assert!(filtered.contains("DELTA:") && filtered.contains("\x1b[32m+\x1b[m\x1b[32mfn main"), "{filtered:?}");
    swarm.git(["config", "pager.diff", "no-such-program --really"]).success();
    let printed = swarm.run_in_terminal(["diff", "fix"], "").success();
    assert!(printed.contains("fn main"), "a pager that cannot be started hides nothing: {printed:?}");
}
