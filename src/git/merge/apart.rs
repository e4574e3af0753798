//! Merges of work that touches nothing the other side touched, without a process.
//!
//! Where every path that the work changes is on the target's side as it was in their common ancestor, merging is
//! putting the work's files there: no content is merged, so no merge driver and no attribute has a say. What else
//! `git merge` looks at are renames. Work that only adds and changes files renames nothing; and a folder that the
//! other side renamed is one that is gone there, which is looked for. Anything else is git's own to judge.

use git2::build::TreeUpdateBuilder;
use git2::{Delta, DiffOptions, FileMode, Oid, Repository as Libgit, Tree};

use crate::git::Repository;
use crate::model::CommitId;

/// Most paths that are looked at; beyond, a process costs less than the looks.
const MOST_PATHS: usize = 500;

impl Repository {
    /// The tree of a merge that is plain to see; `None` where git has to judge, or where there is a conflict.
    pub(super) fn merge_apart(&self, ours: &CommitId, theirs: &CommitId) -> Option<String> {
        let repo = self.in_process()?;
        let (ours, theirs) = (Oid::from_str(ours.as_str()).ok()?, Oid::from_str(theirs.as_str()).ok()?);
        // What the library cannot do, git does, or says why not.
        let bases = self.walker()?.merge_bases(ours, theirs).ok()?;
        merge(&repo, &bases, ours, theirs).ok().flatten().map(|tree| tree.to_string())
    }
}

/// The merged tree, written to the repository.
fn merge(repo: &Libgit, bases: &[Oid], ours: Oid, theirs: Oid) -> Result<Option<Oid>, git2::Error> {
    // Several common ancestors are merged first; that is git's.
    let [base] = *bases else { return Ok(None) };
    let tree_of = |commit| repo.find_commit(commit)?.tree();
    let (base, ours, theirs) = (tree_of(base)?, tree_of(ours)?, tree_of(theirs)?);
    let mut options = DiffOptions::new();
    options.ignore_submodules(false).include_typechange(true).skip_binary_check(true);
    let diff = repo.diff_tree_to_tree(Some(&base), Some(&theirs), Some(&mut options))?;
    match diff.deltas().len() {
        0 => return Ok(Some(ours.id())),
        count if count > MOST_PATHS => return Ok(None),
        _ => {}
    }
    let mut update = TreeUpdateBuilder::new();
    for delta in diff.deltas() {
        let file = delta.new_file();
        let path = file.path_bytes().and_then(|path| std::str::from_utf8(path).ok());
        let is_simple = matches!(delta.status(), Delta::Added | Delta::Modified);
        let Some(path) = path.filter(|_| is_simple && is_known(file.mode())) else { return Ok(None) };
        if !is_untouched(repo, &base, &ours, path)? {
            return Ok(None);
        }
        update.upsert(path, file.id(), file.mode());
    }
    update.create_updated(repo, &ours).map(Some)
}

/// Whether a mode is one that git itself writes.
fn is_known(mode: FileMode) -> bool {
    matches!(mode, FileMode::Blob | FileMode::BlobExecutable | FileMode::Link | FileMode::Commit)
}

/// Whether a path is on our side what it was, and so are the folders that lead to it.
fn is_untouched(repo: &Libgit, base: &Tree<'_>, ours: &Tree<'_>, path: &str) -> Result<bool, git2::Error> {
    let (mut base, mut ours) = (Some(base.clone()), ours.clone());
    let mut parts = path.split('/').peekable();
    while let Some(part) = parts.next() {
        let find = |tree: &Tree<'_>| tree.get_name(part).map(|entry| (entry.id(), entry.filemode_raw()));
        let (before, now) = (base.as_ref().and_then(find), find(&ours));
        if before == now {
            // The whole folder, or the file, is as it was, or is nowhere yet.
            return Ok(true);
        }
        let is_folder = |found: Option<(Oid, i32)>| found.is_none_or(|(_, mode)| mode == i32::from(FileMode::Tree));
        // A file of one side in the way of a folder, a file that changed, or a folder that is gone, perhaps to
        // another name.
        let Some((next, _)) = now.filter(|_| parts.peek().is_some() && is_folder(before) && is_folder(now)) else {
            return Ok(false);
        };
        base = before.map(|(id, _)| repo.find_tree(id)).transpose()?;
        ours = repo.find_tree(next)?;
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use proptest::strategy::ValueTree;

    use super::*;
    use crate::git::Forecast;
    use crate::git::fixture::{Fixture, put, with_line};

    /// Files by path: content, and whether they can be run.
    type Files = BTreeMap<String, (u8, bool)>;

    /// One change of a side.
    #[derive(Debug, Clone)]
    enum Change {
        Write(usize, u8),
        Mode(usize),
        Remove(usize),
        RemoveFolder(usize),
        Rename(usize, usize),
        RenameFolder(usize, usize),
    }

    /// Paths that meet in every way: folders in folders, and files where others have folders.
    const PATHS: [&str; 12] =
        ["a", "b", "d/x", "d/y", "d/z", "d/e/x", "d/e/y", "f/x", "f/g/x", "new/x", "slot", "slot/x"];
    const FOLDERS: [&str; 6] = ["d", "d/e", "f", "f/g", "moved", "moved/deep"];

    fn change() -> impl Strategy<Value = Change> {
        let (path, folder) = (0..PATHS.len(), 0..FOLDERS.len());
        prop_oneof![
            4 => (path.clone(), any::<u8>()).prop_map(|(path, text)| Change::Write(path, text)),
            1 => path.clone().prop_map(Change::Mode),
            1 => path.clone().prop_map(Change::Remove),
            1 => folder.clone().prop_map(Change::RemoveFolder),
            1 => (path.clone(), path).prop_map(|(from, to)| Change::Rename(from, to)),
            2 => (folder.clone(), folder).prop_map(|(from, to)| Change::RenameFolder(from, to)),
        ]
    }

    /// Puts a file where it can be: what is a folder there, or a file in the way of its folders, goes.
    fn place(files: &mut Files, path: &str, file: (u8, bool)) {
        files.retain(|other, _| !other.starts_with(&format!("{path}/")) && !path.starts_with(&format!("{other}/")));
        files.insert(path.to_owned(), file);
    }

    fn changed(mut files: Files, changes: &[Change]) -> Files {
        for change in changes {
            match *change {
                Change::Write(path, text) => place(&mut files, PATHS[path], (text, false)),
                Change::Mode(path) => {
                    files.entry(PATHS[path].to_owned()).and_modify(|(_, mode)| *mode = !*mode);
                }
                Change::Remove(path) => drop(files.remove(PATHS[path])),
                Change::RemoveFolder(folder) => {
                    files.retain(|path, _| !path.starts_with(&format!("{}/", FOLDERS[folder])));
                }
                Change::Rename(from, to) => {
                    if let Some(file) = files.remove(PATHS[from]) {
                        place(&mut files, PATHS[to], file);
                    }
                }
                Change::RenameFolder(from, to) => {
                    let (from, to) = (format!("{}/", FOLDERS[from]), FOLDERS[to]);
                    let moved: Vec<_> =
                        files.keys().filter_map(|path| path.strip_prefix(&from)).map(str::to_owned).collect();
                    for rest in moved {
                        let file = files.remove(&format!("{from}{rest}")).unwrap();
                        place(&mut files, &format!("{to}/{rest}"), file);
                    }
                }
            }
        }
        files
    }

    /// A commit of files; what they hold is long enough to be known again after a rename.
    fn commit(repo: &Libgit, files: &Files, parent: Option<Oid>) -> Oid {
        let empty = repo.find_tree(repo.treebuilder(None).unwrap().write().unwrap()).unwrap();
        let mut update = TreeUpdateBuilder::new();
        for (path, (text, can_run)) in files {
            let lines: String = (0..30).map(|line| format!("{path} {line}\n")).collect();
            let blob = repo.blob(format!("{lines}{text}\n").as_bytes()).unwrap();
            update.upsert(path.as_str(), blob, if *can_run { FileMode::BlobExecutable } else { FileMode::Blob });
        }
        let tree = repo.find_tree(update.create_updated(repo, &empty).unwrap()).unwrap();
        let who = git2::Signature::new("A", "a@example.org", &git2::Time::new(1, 0)).unwrap();
        let parents: Vec<_> = parent.iter().map(|id| repo.find_commit(*id).unwrap()).collect();
        repo.commit(None, &who, &who, "m", &tree, &parents.iter().collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn what_is_merged_without_git_is_what_git_makes_of_it() {
        let fixture = Fixture::new();
        let repository = fixture.open().for_one_landing();
        let repo = repository.libgit().unwrap();
        let base: Files = PATHS
            .iter()
            .filter(|path| !path.starts_with("new") && **path != "slot/x")
            .map(|path| ((*path).to_owned(), (0, false)))
            .collect();
        let start = commit(&repo, &base, None);
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let sides = (proptest::collection::vec(change(), 0..4), proptest::collection::vec(change(), 0..4));
        let id = |oid: Oid| oid.to_string().parse::<CommitId>().unwrap();
        let pairs: Vec<_> = (0..400)
            .map(|_| {
                let (ours, theirs) = sides.new_tree(&mut runner).unwrap().current();
                let side = |changes: &[Change]| id(commit(&repo, &changed(base.clone(), changes), Some(start)));
                (side(&ours), side(&theirs))
            })
            .collect();
        let by_git = repository.forecast_many(&pairs, &id(start)).unwrap();
        let mut count = 0;
        for ((ours, theirs), by_git) in pairs.iter().zip(by_git) {
            if let Some(tree) = repository.merge_apart(ours, theirs) {
                assert_eq!(by_git, Forecast::Clean { tree }, "{ours} {theirs}");
                count += 1;
            }
        }
        assert!(count > 60, "only {count} of {}", pairs.len());
    }

    #[test]
    fn what_only_git_can_judge_is_left_to_git() {
        let fixture = Fixture::new();
        let work = fixture.branch("x", &[("a", &with_line("a", 2, "X")), ("deep/er/new", "n\n")]);
        fixture.write("a", &with_line("a", 18, "main"));
        let target = fixture.commit("main moves");
        let repository = fixture.open().for_one_landing();
        assert_eq!(repository.merge_apart(&target, &work), None, "both changed a file");
        let base = fixture.head("main~1");
        assert!(repository.merge_apart(&base, &work).is_some());
        // Outside a landing, and where objects must not go to the repository.
        assert_eq!(fixture.open().merge_apart(&base, &work), None);
        assert_eq!(repository.rehearsal().unwrap().repository().merge_apart(&base, &work), None);
        put(&fixture.worktrees.join("x/b"), "b\n");
        fixture.git(&fixture.root, &["replace", work.as_str(), base.as_str()]);
        assert_eq!(fixture.open().for_one_landing().merge_apart(&base, &work), None, "replaced commits");
        fixture.git(&fixture.root, &["replace", "-d", work.as_str()]);
        fixture.git(&fixture.root, &["config", "core.sharedRepository", "group"]);
        assert_eq!(fixture.open().for_one_landing().merge_apart(&base, &work), None, "modes of objects");
    }
}
