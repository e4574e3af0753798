use std::fs;
use std::path::Path;

use super::support::{TestRepo, branch, git_in, read, script, write};
use crate::files::FileLock;
use crate::git::GitError;

/// Everything about a worktree that git would compare, and what it has on disk.
fn facts(place: &Path) -> Vec<String> {
    let ask = |args: &[&str]| git_in(place, args);
    vec![
        ask(&["ls-files", "--stage", "-v"]),
        ask(&["status", "--porcelain"]),
        ask(&["diff-files", "--name-only"]),
        ask(&["rev-parse", "HEAD^{tree}"]),
        ask(&["write-tree"]),
    ]
}

/// A tree with every kind of plain file.
fn rich(test: &TestRepo) {
    script(&test.root.join("run.sh"), "echo hi");
    write(&test.root.join("a/b/c/deep.txt"), "deep\n");
    write(&test.root.join("a.txt"), "sorts before a/\n");
    write(&test.root.join("a-b"), "-");
    write(&test.root.join("empty"), "");
    write(&test.root.join("ünï code/na me.txt"), "x\r\ny\n");
    write(&test.root.join(".gitattributes"), "* text=auto\n*.png binary\n");
    std::os::unix::fs::symlink("run.sh", test.root.join("link")).unwrap();
    std::os::unix::fs::symlink("../nowhere", test.root.join("a/dangling")).unwrap();
    for number in 0..100 {
        write(&test.root.join(format!("many/f{number}.txt")), &format!("{number}\n").repeat(number));
    }
    test.git(&["-c", "core.safecrlf=false", "add", "-A"]);
    test.git(&["commit", "-qm", "rich"]);
}

#[test]
fn the_fast_checkout_makes_what_git_makes() {
    let test = TestRepo::new();
    rich(&test);
    let by_git = test.place("by-git");
    test.git(&["worktree", "add", "-q", "-b", "by-git", by_git.to_str().unwrap()]);
    for name in ["fast", "again"] {
        let added = test.repo.add_worktree(&test.plan(name)).unwrap();
        assert!(added.fast);
        is_same(&added.path, &by_git);
        assert_eq!(git_in(&added.path, &["branch", "--show-current"]), format!("swarm/{name}"));
    }
    // Without a folder above it nothing can be written ahead.
    let mut far = test.plan("far");
    far.path = test.folder.path().canonicalize().unwrap().join("not/yet/far");
    let added = test.repo.add_worktree(&far).unwrap();
    assert!(added.fast);
    is_same(&added.path, &by_git);
    assert_eq!(names_in(&test.place("")), ["again", "by-git", "fast"], "nothing is left beside them");
}

/// Names in a folder, sorted.
fn names_in(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// Demands that a worktree is what git made of the same commit.
fn is_same(place: &Path, by_git: &Path) {
    assert_eq!(facts(place), facts(by_git));
    for path in ["run.sh", "a/b/c/deep.txt", "link", "a/dangling", "empty", "ünï code/na me.txt"] {
        let (one, other) = (place.join(path), by_git.join(path));
        let mode = |path: &Path| {
            use std::os::unix::fs::PermissionsExt;
            path.symlink_metadata().unwrap().permissions().mode()
        };
        assert_eq!(mode(&one), mode(&other), "{path}");
        assert_eq!(fs::read_link(&one).ok(), fs::read_link(&other).ok(), "{path}");
        assert_eq!(fs::read(&one).ok(), fs::read(&other).ok(), "{path}");
    }
    // The dates in the index are those of the files: nothing has to be read again.
    assert_eq!(git_in(place, &["diff-files", "--raw"]), "");
    assert_eq!(git_in(place, &["fsck", "--no-dangling"]), "");
}

#[test]
fn files_written_ahead_by_a_dead_process_go() {
    let test = TestRepo::new();
    let plan = test.plan("one");
    let ahead = test.place(".one.swarm-checkout");
    write(&ahead.join("README.md"), "hel");
    let lock = fs::File::open(&ahead).unwrap();
    lock.lock().unwrap();
    // While somebody is at it, it stays, and the files are written in their place.
    let added = test.repo.add_worktree(&plan).unwrap();
    assert!(added.fast);
    assert_eq!(git_in(&added.path, &["diff-files", "--raw"]), "");
    assert_eq!(read(&ahead.join("README.md")), "hel");
    drop(lock);
    test.repo.undo_add_worktree(&plan, &[]).unwrap();
    assert!(!ahead.exists());
    write(&ahead.join("README.md"), "hel");
    let added = test.repo.add_worktree(&plan).unwrap();
    assert!(!ahead.exists());
    assert_eq!(read(&added.path.join("README.md")), "hello\n");
}

#[test]
fn git_that_does_not_name_its_attribute_files_is_fast_too() {
    let test = TestRepo::new();
    let bin = test.folder.path().join("bin");
    script(
        &bin.join("git"),
        "case \"$*\" in *'var -l') \"$REAL_GIT\" \"$@\" | grep -v ^GIT_ATTR_ ;; *) exec \"$REAL_GIT\" \"$@\" ;; esac",
    );
    let real = which::which("git").unwrap();
    let mut env = super::support::isolated(test.folder.path());
    let path = std::env::join_paths([&bin, &"/usr/bin".into(), &"/bin".into()]).unwrap();
    env.extend([("PATH".into(), path), ("REAL_GIT".into(), real.into())]);
    let repo = crate::git::Repository::discover_with(&test.root, env).unwrap();
    let is_fast = |name: &str| repo.add_worktree(&test.plan(name)).unwrap().fast;
    assert!(is_fast("none"));
    // The folder of configuration that git has by `isolated`.
    let own = test.folder.path().join("git/attributes");
    write(&own, "*.png binary\n");
    assert!(is_fast("plain"));
    write(&own, "*.md text eol=crlf\n");
    assert!(!is_fast("line-ends"));
    assert_eq!(read(&test.place("line-ends/README.md")), "hello\r\n");
    fs::remove_file(&own).unwrap();
    test.git(&["config", "core.attributesFile", "/nowhere"]);
    assert!(!is_fast("named"));
}

#[test]
fn what_is_not_plain_goes_through_git() {
    type SetUp = fn(&TestRepo);
    let cases: [(&str, SetUp); 9] = [
        ("eol", |test| write(&test.root.join(".gitattributes"), "*.md text eol=crlf\n")),
        ("ident", |test| write(&test.root.join("src/.gitattributes"), "*.rs ident\n")),
        ("info", |test| write(&test.root.join(".git/info/attributes"), "*.md -text eol=lf\n")),
        ("autocrlf", |test| drop(test.git(&["config", "core.autocrlf", "true"]))),
        ("filemode", |test| drop(test.git(&["config", "core.fileMode", "false"]))),
        ("worktree-config", |test| drop(test.git(&["config", "extensions.worktreeConfig", "true"]))),
        ("hook", |test| script(&test.root.join(".git/hooks/post-checkout"), "true")),
        ("hooks-path", |test| drop(test.git(&["config", "core.hooksPath", ".husky"]))),
        ("promisor", |test| drop(test.git(&["config", "remote.origin.promisor", "true"]))),
    ];
    for (name, set_up) in cases {
        let test = TestRepo::new();
        set_up(&test);
        test.git(&["add", "-A"]);
        test.git(&["commit", "-q", "--allow-empty", "-m", "set up"]);
        let added = test.repo.add_worktree(&test.plan(name)).unwrap();
        assert!(!added.fast, "{name}");
        assert_eq!(git_in(&added.path, &["status", "--porcelain"]), "", "{name}");
    }
}

#[test]
fn line_ends_and_filters_are_applied() {
    let test = TestRepo::new();
    test.git(&["config", "filter.up.smudge", "tr a-z A-Z"]);
    test.git(&["config", "filter.up.clean", "tr A-Z a-z"]);
    write(&test.root.join(".gitattributes"), "*.md text eol=crlf\n*.up filter=up\n");
    write(&test.root.join("x.up"), "loud\n");
    test.git(&["add", "-A"]);
    test.git(&["commit", "-qm", "attributes"]);
    let place = test.add("one");
    assert_eq!(read(&place.join("README.md")), "hello\r\n");
    assert_eq!(read(&place.join("x.up")), "LOUD\n");
    write(&place.join("y.up"), "NEW\n");
    let snapshot = test.snapshot("one");
    assert_eq!(test.show(snapshot.commit.as_str(), "y.up").as_deref(), Some("new\n"));
}

#[test]
fn the_post_checkout_hook_sees_a_new_worktree() {
    let test = TestRepo::new();
    script(&test.root.join(".git/hooks/post-checkout"), "echo \"$1 $2 $3\" > hook-ran; echo oops >&2; exit 3");
    let added = test.repo.add_worktree(&test.plan("one")).unwrap();
    assert_eq!(read(&added.path.join("hook-ran")), format!("{} {} 1\n", "0".repeat(40), test.head()));
    assert_eq!(added.hook_problem.as_deref(), Some("oops"));
}

#[test]
fn thirty_two_worktrees_can_be_made_at_once() {
    let test = TestRepo::new();
    std::thread::scope(|scope| {
        let made: Vec<_> = (0..32)
            .map(|number| {
                let test = &test;
                scope.spawn(move || test.repo.add_worktree(&test.plan(&format!("w{number}"))).map(|added| added.path))
            })
            .collect();
        for thread in made {
            let place = thread.join().unwrap().unwrap();
            assert_eq!(git_in(&place, &["status", "--porcelain"]), "");
        }
    });
    assert_eq!(test.repo.worktrees().unwrap().len(), 33);
}

#[test]
fn a_taken_place_or_branch_is_refused_before_any_effect() {
    let test = TestRepo::new();
    let refused = |name: &str| test.repo.add_worktree(&test.plan(name)).unwrap_err();
    write(&test.place("full/file"), "mine");
    assert!(matches!(refused("full"), GitError::PathTaken { .. }));
    assert_eq!(test.repo.branch_head(&branch("swarm/full")).unwrap(), None);
    write(&test.place("file"), "mine");
    assert!(matches!(refused("file"), GitError::PathTaken { .. }));
    test.git(&["branch", "swarm/there"]);
    assert!(matches!(refused("there"), GitError::BranchExists { .. }));
    assert!(!test.place("there").exists());
    test.add("one");
    assert!(matches!(refused("one"), GitError::PathTaken { .. }));
    let mut plan = test.plan("other");
    plan.use_existing_branch = true;
    assert!(matches!(test.repo.add_worktree(&plan).unwrap_err(), GitError::NoBranch { .. }));
    for used in ["main", "swarm/one"] {
        plan.branch = branch(used);
        let error = test.repo.add_worktree(&plan).unwrap_err();
        assert!(matches!(error, GitError::BranchInUse { .. }), "{error:?}");
    }
    plan.path = test.root.join(".git/inside");
    assert!(matches!(test.repo.add_worktree(&plan).unwrap_err(), GitError::Refused { .. }));
    assert!(!test.place("other").exists());
    assert_eq!(names_in(&test.place("")), ["file", "full", "one"]);
    assert_eq!(git_in(&test.root, &["status", "--porcelain"]), "");
}

#[test]
fn an_existing_branch_gets_its_own_files() {
    let test = TestRepo::new();
    test.git(&["switch", "-q", "-c", "feature"]);
    write(&test.root.join("feature.txt"), "f");
    test.git(&["add", "-A"]);
    test.git(&["commit", "-qm", "feature"]);
    test.git(&["switch", "-q", "main"]);
    let mut plan = test.plan("one");
    plan.branch = branch("feature");
    plan.use_existing_branch = true;
    let added = test.repo.add_worktree(&plan).unwrap();
    assert!(added.path.join("feature.txt").exists());
    test.repo.undo_add_worktree(&plan, &[]).unwrap();
    assert!(!added.path.exists());
    assert!(test.repo.branch_head(&branch("feature")).unwrap().is_some(), "it was there before");
}

#[test]
fn a_failed_checkout_leaves_nothing() {
    let test = TestRepo::new();
    test.git(&["config", "filter.bad.smudge", "false"]);
    test.git(&["config", "filter.bad.required", "true"]);
    write(&test.root.join("src/.gitattributes"), "*.rs filter=bad\n");
    test.git(&["config", "filter.bad.clean", "cat"]);
    test.git(&["add", "-A"]);
    test.git(&["commit", "-qm", "bad filter"]);
    let error = test.repo.add_worktree(&test.plan("one")).unwrap_err();
    assert!(matches!(error, GitError::Failed { .. }), "{error:?}");
    assert!(!test.place("one").exists());
    assert_eq!(test.repo.branch_head(&branch("swarm/one")).unwrap(), None);
    assert_eq!(test.repo.worktrees().unwrap().len(), 1);
}

#[test]
fn a_worktree_whose_git_was_killed_before_it_had_a_head_is_taken_back() {
    let test = TestRepo::new();
    let plan = test.plan("one");
    let path = plan.path.to_str().unwrap();
    test.git(&["worktree", "add", "-q", "--no-checkout", "-b", plan.branch.as_str(), path]);
    let git_dir = test.repo.linked(&plan.path).unwrap().git_dir().to_owned();
    std::fs::rename(git_dir.join("HEAD"), git_dir.join("HEAD.lock")).unwrap();
    write(&plan.path.join("work.txt"), "of a person");
    assert!(test.repo.headless(&plan.path).unwrap().is_none());
    std::fs::remove_file(plan.path.join("work.txt")).unwrap();
    let held = std::fs::File::open(git_dir.join("HEAD.lock")).unwrap();
    assert!(test.repo.headless(&plan.path).unwrap().is_none(), "it is being made");
    drop(held);
    test.repo.undo_add_worktree(&plan, &[]).unwrap();
    assert!(!plan.path.exists() && !git_dir.exists());
    assert_eq!(test.repo.branch_head(&plan.branch).unwrap(), None);
    test.repo.add_worktree(&plan).unwrap();
}

#[test]
fn a_worktree_left_by_a_dead_process_is_taken_back() {
    let test = TestRepo::new();
    let plan = test.plan("one");
    let leave_half = || {
        let path = plan.path.to_str().unwrap();
        test.git(&["worktree", "add", "-q", "--no-checkout", "-b", plan.branch.as_str(), path]);
        write(&plan.path.join("README.md"), "hel");
    };
    leave_half();
    // While somebody holds the checkout lock it is being made and stays.
    let linked = test.repo.linked(&plan.path).unwrap();
    let lock = FileLock::wait(&linked.git_dir().join("swarm-checkout.lock")).unwrap();
    assert!(matches!(test.repo.add_worktree(&plan).unwrap_err(), GitError::PathTaken { .. }));
    assert!(test.repo.undo_add_worktree(&plan, &[]).is_err());
    drop(lock);
    let added = test.repo.add_worktree(&plan).unwrap();
    assert_eq!(git_in(&added.path, &["status", "--porcelain"]), "");
    test.repo.undo_add_worktree(&plan, &[]).unwrap();
    leave_half();
    test.repo.undo_add_worktree(&plan, &[]).unwrap();
    assert!(!plan.path.exists());
    assert_eq!(test.repo.branch_head(&plan.branch).unwrap(), None);
    // Git makes the branch first: a process may die between the two.
    test.git(&["branch", plan.branch.as_str()]);
    test.repo.undo_add_worktree(&plan, &[]).unwrap();
    assert_eq!(test.repo.branch_head(&plan.branch).unwrap(), None);
    test.repo.undo_add_worktree(&plan, &[]).unwrap();
}

#[test]
fn a_worktree_with_work_is_not_taken_back() {
    let test = TestRepo::new();
    let plan = test.plan("one");
    let place = test.add("one");
    write(&place.join("setup/made.txt"), "by set-up");
    let refused = test.repo.undo_add_worktree(&plan, &[]).unwrap_err();
    assert!(matches!(refused, GitError::Refused { .. }), "{refused:?}");
    write(&place.join("README.md"), "work");
    assert!(test.repo.undo_add_worktree(&plan, &["setup".into()]).is_err());
    git_in(&place, &["commit", "-qam", "work"]);
    assert!(test.repo.undo_add_worktree(&plan, &["setup".into()]).is_err());
    assert!(place.join("README.md").exists());
    git_in(&place, &["reset", "-q", "--hard", "HEAD~1"]);
    test.repo.undo_add_worktree(&plan, &["setup".into()]).unwrap();
    assert!(!place.exists());
}

#[test]
fn the_folders_of_a_worktree_may_be_links() {
    let test = TestRepo::new();
    fs::create_dir_all(test.place("real")).unwrap();
    let link = test.folder.path().join("link");
    std::os::unix::fs::symlink(test.place("real"), &link).unwrap();
    let mut plan = test.plan("one");
    plan.path = link.join("one");
    let added = test.repo.add_worktree(&plan).unwrap();
    assert_eq!(added.path, test.place("real/one"));
    test.repo.undo_add_worktree(&plan, &[]).unwrap();
    assert!(!plan.path.exists());
}
