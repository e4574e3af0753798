use std::fs;
use std::path::Path;

use super::support::{TestRepo, branch, git_in, isolated, write};
use crate::git::{GitError, Repository};

#[test]
fn a_repository_is_found_from_subfolders_and_linked_worktrees() {
    let test = TestRepo::new();
    let place = test.add("one");
    for (start, current) in [
        (test.root.clone(), &test.root),
        (test.root.join("src"), &test.root),
        (place.clone(), &place),
        (place.join("src"), &place),
    ] {
        let found = Repository::discover_with(&start, isolated(test.folder.path())).unwrap();
        assert_eq!(found.common_dir(), test.root.join(".git"), "{}", start.display());
        assert_eq!(found.main_worktree(), Some(test.root.as_path()));
        assert_eq!(found.current_worktree(), Some(current.as_path()));
        assert_eq!(found.name(), "repö x");
    }
}

#[test]
fn no_repository_is_told_apart_from_a_broken_one() {
    let folder = tempfile::tempdir().unwrap();
    let error = Repository::discover(folder.path()).unwrap_err();
    assert!(matches!(error, GitError::NotARepository { .. }), "{error:?}");
    assert!(error.hint().is_some());
    let error = Repository::discover(&folder.path().join("gone")).unwrap_err();
    assert!(matches!(error, GitError::NotARepository { .. }), "{error:?}");
}

#[test]
fn bare_repositories_with_worktrees_work() {
    let test = TestRepo::new();
    for (bare, link) in [("hub/.bare", true), ("hub.git", false)] {
        let bare = test.folder.path().canonicalize().unwrap().join(bare);
        fs::create_dir_all(bare.parent().unwrap()).unwrap();
        git_in(test.folder.path(), &["clone", "-q", "--bare", test.root.to_str().unwrap(), bare.to_str().unwrap()]);
        let hub = bare.parent().unwrap();
        if link {
            write(&hub.join(".git"), "gitdir: ./.bare\n");
        }
        let start = if link { hub } else { &bare };
        let repo = Repository::discover_with(start, isolated(test.folder.path())).unwrap();
        assert_eq!((repo.main_worktree(), repo.current_worktree()), (None, None));
        assert_eq!(repo.name(), "hub");
        let mut plan = test.plan("in-bare");
        plan.path = hub.join("trees").join(if link { "one" } else { "two" });
        let added = repo.add_worktree(&plan).unwrap();
        assert_eq!(git_in(&added.path, &["status", "--porcelain"]), "");
        let inside = Repository::discover_with(&added.path, isolated(test.folder.path())).unwrap();
        assert_eq!(inside.main_worktree(), None);
        assert_eq!(inside.common_dir(), bare);
        assert_eq!(repo.default_target().unwrap(), branch("main"));
    }
}

#[test]
fn an_unborn_head_has_a_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    git_in(folder.path(), &["init", "-q", "-b", "trunk"]);
    let repo = Repository::discover_with(folder.path(), isolated(folder.path())).unwrap();
    let error = repo.default_target().unwrap_err();
    assert!(matches!(error, GitError::Unborn), "{error:?}");
    assert!(error.hint().unwrap().contains("commit"));
    assert_eq!(repo.resolve("HEAD").unwrap(), None);
}

#[test]
fn revisions_files_and_folders_are_read() {
    let test = TestRepo::new();
    test.git(&["switch", "-q", "--detach"]);
    let head = test.git(&["rev-parse", "HEAD"]);
    for spec in ["HEAD", "main", "refs/heads/main", &head, &head[..10], "main^{commit}"] {
        assert_eq!(test.repo.resolve(spec).unwrap().unwrap().as_str(), head, "{spec}");
    }
    for spec in ["nope", "", "-x", "HEAD~5", "a b", "main:README.md"] {
        assert_eq!(test.repo.resolve(spec).unwrap(), None, "{spec}");
    }
    assert_eq!(test.show("main", "src/main.rs").as_deref(), Some("fn main() {}\n"));
    assert_eq!(test.show("main", "src"), None);
    assert_eq!(test.show("main", "nope"), None);
    assert_eq!(test.repo.list_at("main", Path::new("src")).unwrap(), [Path::new("src/main.rs")]);
    assert_eq!(test.repo.list_at("main", Path::new("")).unwrap().len(), 3);
    assert_eq!(test.repo.list_at("main", Path::new("nope")).unwrap(), Vec::<&Path>::new());
    assert_eq!(test.repo.default_target().unwrap(), branch("main"));
    assert_eq!(test.repo.identity().unwrap().name, "Ann");
    assert!(test.repo.check_program().is_ok());
}

#[test]
fn a_missing_identity_is_an_error_with_a_hint() {
    let test = TestRepo::new();
    test.git(&["config", "--unset", "user.email"]);
    test.git(&["config", "user.useConfigOnly", "true"]);
    let error = test.repo.identity().unwrap_err();
    assert!(matches!(error, GitError::NoIdentity { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("user.email"));
}

#[test]
fn sha256_and_reftable_go_through_the_program() {
    for format in ["--object-format=sha256", "--ref-format=reftable"] {
        let test = TestRepo::with_init(&[format]);
        assert_eq!(test.repo.main_worktree(), Some(test.root.as_path()), "{format}");
        let sub = Repository::discover_with(&test.root.join("src"), isolated(test.folder.path())).unwrap();
        assert_eq!(sub.current_worktree(), Some(test.root.as_path()));
        assert_eq!(test.repo.default_target().unwrap(), branch("main"));
        assert_eq!(test.show("main", "src/main.rs").as_deref(), Some("fn main() {}\n"));
        assert_eq!(test.repo.list_at("main", Path::new("src")).unwrap(), [Path::new("src/main.rs")]);
        assert_eq!(test.repo.resolve("nope").unwrap(), None);
        let place = test.add("one");
        let inside = Repository::discover_with(&place, isolated(test.folder.path())).unwrap();
        assert_eq!(inside.common_dir(), test.repo.common_dir());
        assert_eq!(inside.main_worktree(), Some(test.root.as_path()));
        assert_eq!(test.repo.worktree_of_branch(&branch("swarm/one")).unwrap().as_deref(), Some(place.as_path()));
        write(&place.join("new.txt"), "new\n");
        write(&place.join("README.md"), "changed\n");
        let snapshot = test.snapshot("one");
        assert!(snapshot.fresh && snapshot.dirty);
        assert!(!test.snapshot("one").fresh);
        let changes = test.repo.changes(&test.head(), &snapshot).unwrap();
        assert_eq!((changes.files_changed, changes.insertions, changes.deletions, changes.commits), (2, 2, 1, 0));
        let kept = test.keep("one").unwrap();
        assert_eq!(test.show(kept.keep_ref(), "new.txt").as_deref(), Some("new\n"));
        test.repo.remove_worktree(&place, &kept).unwrap();
        test.repo.delete_branch(&branch("swarm/one"), &kept).unwrap();
        assert!(!place.exists());
        assert_eq!(test.repo.branch_head(&branch("swarm/one")).unwrap(), None);
        assert_eq!(test.repo.kept().unwrap().len(), 1);
    }
}

#[test]
fn a_submodule_is_its_own_repository() {
    let test = TestRepo::new();
    let other = TestRepo::new();
    let url = other.root.to_str().unwrap();
    test.git(&["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", url, "lib"]);
    let inside = Repository::discover_with(&test.root.join("lib/src"), isolated(test.folder.path())).unwrap();
    assert_eq!(inside.current_worktree(), Some(test.root.join("lib").as_path()));
    assert_eq!(inside.main_worktree(), Some(test.root.join("lib").as_path()));
    assert_eq!(inside.name(), "lib");
}

#[test]
fn a_failed_command_is_told_by_its_last_line() {
    let test = TestRepo::new();
    let failed = test.repo.git(&test.root, ["rev-parse", "--verify", "nope"]).output().unwrap_err();
    let GitError::Failed { command, code, message } = failed else { panic!("{failed:?}") };
    assert_eq!((command.as_str(), code, message.as_str()), ("git rev-parse", 128, "fatal: Needed a single revision"));
}
