use super::support::{TestRepo, git_in, read, write};
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
