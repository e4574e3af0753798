use super::support::{TestRepo, git_in, read, write};
use crate::files::FileLock;
use crate::git::{Packed, Repository, TAKEN, crash};
use crate::model::CommitId;

#[test]
fn a_bundle_takes_work_to_another_clone_and_nothing_that_is_there_already() {
    let test = TestRepo::new();
    let base: CommitId = git_in(&test.root, &["rev-parse", "HEAD"]).parse().unwrap();
    git_in(test.folder.path(), &["clone", "-q", &test.root.to_string_lossy(), "other"]);
    git_in(&test.root, &["branch", "empty"]);
    for name in ["one", "two"] {
        git_in(&test.root, &["checkout", "-q", "-b", name, base.as_str()]);
        write(&test.root.join("work.txt"), name);
        git_in(&test.root, &["add", "-A"]);
        git_in(&test.root, &["commit", "-qm", name]);
    }
    git_in(&test.root, &["update-ref", "refs/swarm/wip/two", "two"]);
    let path = test.folder.path().join("branches.bundle");
    let name = |name: &str| format!("refs/{name}");
    let wanted = [name("heads/one"), name("heads/empty"), name("swarm/wip/two")];
    assert_eq!(test.repo.bundle(&path, &wanted, std::slice::from_ref(&base)).unwrap(), 2, "one has no work");
    let other = test.folder.path().join("other");
    let bundle = path.to_string_lossy().into_owned();
    let heads = git_in(&other, &["bundle", "list-heads", &bundle]);
    assert_eq!(heads.lines().count(), 2, "{heads}");
    git_in(&other, &["fetch", "-q", &bundle, "refs/heads/*:refs/heads/*", "refs/swarm/*:refs/swarm/*"]);
    git_in(&other, &["checkout", "-q", "refs/swarm/wip/two"]);
    assert_eq!(read(&other.join("work.txt")), "two");
    let none = test.folder.path().join("none.bundle");
    assert_eq!(test.repo.bundle(&none, &[name("heads/empty")], &[base]).unwrap(), 0);
    assert!(!none.exists());
}

#[test]
fn a_bundle_that_builds_on_commits_that_are_not_here_is_not_taken_over() {
    let test = TestRepo::new();
    let commit = |text: &str| -> CommitId {
        write(&test.root.join("work.txt"), text);
        git_in(&test.root, &["add", "-A"]);
        git_in(&test.root, &["commit", "-qm", text]);
        git_in(&test.root, &["rev-parse", "HEAD"]).parse().unwrap()
    };
    let base: CommitId = git_in(&test.root, &["rev-parse", "HEAD"]).parse().unwrap();
    git_in(test.folder.path(), &["clone", "-q", &test.root.to_string_lossy(), "other"]);
    let (first, second) = (commit("first"), commit("second"));
    let pack =
        |of: &CommitId, without: &CommitId, most| test.repo.bundle_of(of, std::slice::from_ref(without), most).unwrap();
    let bundle = |of: &CommitId, without: &CommitId| match pack(of, without, u64::MAX) {
        Packed::Bundle(bytes) => bytes,
        other => panic!("{other:?}"),
    };
    assert_eq!(pack(&first, &second, 0), Packed::Nothing, "there is nothing that the other has not");
    let (one, two) = (bundle(&first, &base), bundle(&second, &first));
    let bytes = two.len() as u64;
    assert_eq!(pack(&second, &first, bytes), Packed::Bundle(two.clone()));
    assert_eq!(pack(&second, &first, bytes - 1), Packed::TooLarge { bytes });
    assert_eq!(test.repo.references("refs/swarm/").unwrap(), Vec::<String>::new());
    let other = Repository::discover(&test.folder.path().join("other")).unwrap();
    let take = |bundle: &[u8], commit: &CommitId| other.take_bundle(bundle, commit, "refs/swarm/in");
    assert_eq!(take(&two, &second).unwrap(), std::slice::from_ref(&first));
    assert!(!other.has_commit(&second).unwrap() && other.references("refs/swarm/").unwrap().is_empty());
    assert_eq!(take(&one, &first).unwrap(), []);
    // A file that was cut off, and one that holds something else than it says.
    assert!(take(&two[..two.len() - 30], &second).is_err());
    assert!(take(&two, &first).is_err());
    assert_eq!(other.ref_commit("refs/swarm/in").unwrap(), Some(first.clone()));
    assert_eq!(take(&two, &second).unwrap(), []);
    assert_eq!(other.ref_commit("refs/swarm/in").unwrap(), Some(second.clone()));
    // Whatever it is called in there.
    let path = test.folder.path().join("old.bundle");
    let name = format!("refs/swarm/tips/{second}");
    test.repo.set_swarm_ref(&name, &second).unwrap();
    test.repo.bundle(&path, &[name], std::slice::from_ref(&first)).unwrap();
    assert_eq!(other.take_bundle(&std::fs::read(&path).unwrap(), &second, "refs/swarm/old").unwrap(), []);
    assert_eq!(other.ref_commit("refs/swarm/old").unwrap(), Some(second));
}

#[test]
fn a_bundle_is_taken_over_what_a_killed_fetch_left_where_that_is_whole() {
    let test = TestRepo::new();
    let base: CommitId = git_in(&test.root, &["rev-parse", "HEAD"]).parse().unwrap();
    for name in ["other", "third"] {
        git_in(test.folder.path(), &["clone", "-q", &test.root.to_string_lossy(), name]);
    }
    let commit = |text: &str| -> CommitId {
        write(&test.root.join("work.txt"), text);
        git_in(&test.root, &["add", "-A"]);
        git_in(&test.root, &["commit", "-qm", text]);
        git_in(&test.root, &["rev-parse", "HEAD"]).parse().unwrap()
    };
    let (first, second) = (commit("first"), commit("second"));
    let bundle = |of: &CommitId, without: &CommitId| {
        let packed = test.repo.bundle_of(of, std::slice::from_ref(without), u64::MAX).unwrap();
        let Packed::Bundle(bytes) = packed else { panic!("{packed:?}") };
        bytes
    };
    let (one, two) = (bundle(&first, &base), bundle(&second, &first));
    // All of it is there, and no reference leads to it.
    let other = Repository::discover(&test.folder.path().join("other")).unwrap();
    other.take_bundle(&one, &first, "refs/swarm/in").unwrap();
    other.forget_swarm_ref("refs/swarm/in", &first).unwrap();
    other.forget_swarm_ref(&format!("{TAKEN}{base}"), &base).unwrap();
    assert!(other.has_whole(&first).unwrap());
    assert_eq!(other.take_bundle(&two, &second, "refs/swarm/in").unwrap(), []);
    assert_eq!(other.ref_commit("refs/swarm/in").unwrap(), Some(second.clone()));
    // Of it there is the commit alone.
    let third = test.folder.path().join("third");
    write(&test.folder.path().join("commit"), &git_in(&test.root, &["cat-file", "commit", first.as_str()]));
    let put = ["hash-object", "-t", "commit", "-w", "--literally", "../commit"];
    let put = git_in(&third, &put).parse::<CommitId>().unwrap();
    let third = Repository::discover(&third).unwrap();
    assert!(third.has_commit(&put).unwrap() && !third.has_whole(&put).unwrap());
}

#[test]
fn what_a_killed_process_left_of_a_bundle_goes_with_the_next_and_when_a_coordinator_begins() {
    let test = TestRepo::new();
    let base: CommitId = git_in(&test.root, &["rev-parse", "HEAD"]).parse().unwrap();
    write(&test.root.join("work.txt"), "work");
    git_in(&test.root, &["add", "-A"]);
    git_in(&test.root, &["commit", "-qm", "work"]);
    let commit: CommitId = git_in(&test.root, &["rev-parse", "HEAD"]).parse().unwrap();
    let swarm = test.root.join(".git/swarm");
    let lock = test.root.join(".git/refs/swarm/packing").join(format!("{base}.lock"));
    let other = test.root.join(".git/refs/swarm/inherited/one.lock");
    let left =
        || swarm.join("packing").exists() || lock.exists() || !test.repo.references("refs/swarm/").unwrap().is_empty();
    let die = || {
        crash::arm("bundle written");
        test.repo.bundle_of(&commit, std::slice::from_ref(&base), u64::MAX).unwrap_err();
        assert!(crash::revive() && left());
        write(&lock, "");
        write(&other, "");
    };
    die();
    test.repo.sweep_packing().unwrap();
    assert!(!left() && !other.exists());
    die();
    let packed = test.repo.bundle_of(&commit, std::slice::from_ref(&base), u64::MAX).unwrap();
    assert!(matches!(packed, Packed::Bundle(_)) && !swarm.join("packing").exists());
    // One who packs is left alone.
    let _alone = FileLock::wait(&swarm.join("packing.lock")).unwrap();
    write(&swarm.join("packing/bundle"), "half");
    test.repo.sweep_packing().unwrap();
    assert!(swarm.join("packing/bundle").exists() && !lock.exists());
}
