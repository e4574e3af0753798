//! The verdict on merges that really happened: for each merge commit of a history, what we say of its parents is what
//! `git merge` says of them, the tree where it fits and the files where it does not.
//!
//! `tests/tools/past-merges REPOSITORY` runs it over any repository; without one it runs over the history that this
//! source lies in, and over a generated one.

use std::path::{Path, PathBuf};

use super::Forecast;
use crate::git::Repository;
use crate::git::fixture::{Fixture, put, with_line};
use crate::model::CommitId;
use crate::process::{Finished, Invocation, run};

/// Names a repository to judge.
const REPOSITORY: &str = "SWARM_PAST_MERGES";
/// How many of its newest merges; all of a named one where it is not set.
const COUNT: &str = "SWARM_PAST_MERGES_COUNT";

/// A copy of a history in which merges can be tried.
struct Past {
    _folder: tempfile::TempDir,
    worktree: PathBuf,
    home: PathBuf,
}

impl Past {
    /// A clone that shares the objects of `source`; `None` when git finds no repository there.
    fn of(source: &Path) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let (worktree, home) = (folder.path().join("clone"), folder.path().join("home"));
        std::fs::create_dir(&home).unwrap();
        let past = Self { _folder: folder, worktree, home };
        let clone = ["clone", "-q", "--shared", "--no-checkout", source.to_str()?, past.worktree.to_str()?];
        let done = past.git_in(&past.home, &clone);
        (done.code() == 0).then_some(past)
    }

    /// Runs git without anybody's configuration.
    fn git_in(&self, cwd: &Path, args: &[&str]) -> Finished {
        let mut call = Invocation::new("git", cwd).args(args.iter().copied());
        call.set = self.env();
        run(&call).unwrap()
    }

    fn env(&self) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
        let home = self.home.as_os_str();
        let pairs = [("HOME", home), ("XDG_CONFIG_HOME", home), ("GIT_CONFIG_NOSYSTEM", "1".as_ref())];
        let people = ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"];
        let people = people.map(|name| (name, "judge@example.org".as_ref()));
        pairs.into_iter().chain(people).map(|(name, value)| (name.into(), value.to_owned())).collect()
    }

    fn git(&self, args: &[&str]) -> Finished {
        self.git_in(&self.worktree, args)
    }

    /// The parents of merges of two, newest first.
    fn merges(&self, count: Option<usize>) -> Vec<(CommitId, CommitId)> {
        let mut args = vec!["rev-list".to_owned(), "--all".to_owned(), "--min-parents=2".to_owned()];
        args.extend(["--max-parents=2".to_owned(), "--parents".to_owned()]);
        args.extend(count.map(|count| format!("--max-count={count}")));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let text = self.git(&args).text();
        let parents = |line: &str| {
            let mut ids = line.split(' ').skip(1).map(|id| id.parse().unwrap());
            (ids.next().unwrap(), ids.next().unwrap())
        };
        text.lines().map(parents).collect()
    }

    /// What `git merge` makes of two commits in a checkout: the tree, or the files in conflict; `None` when it refuses.
    fn really(&self, ours: &CommitId, theirs: &CommitId) -> Option<Result<String, Vec<String>>> {
        let reset = |commit: &str| {
            assert_eq!(self.git(&["reset", "-q", "--hard"]).code(), 0);
            assert_eq!(self.git(&["clean", "-q", "-ffdx"]).code(), 0);
            assert_eq!(self.git(&["checkout", "-q", "-f", "--detach", commit]).code(), 0, "{commit}");
        };
        reset(ours.as_str());
        let done = self.git(&["merge", "-q", "--no-ff", "--no-commit", theirs.as_str()]);
        if done.code() == 0 {
            return Some(Ok(self.git(&["write-tree"]).text().trim().to_owned()));
        }
        let listed = self.git(&["ls-files", "--unmerged", "-z"]).text();
        let mut files: Vec<_> =
            listed.split('\0').filter_map(|line| Some(line.split_once('\t')?.1.to_owned())).collect();
        files.dedup();
        (!files.is_empty()).then_some(Err(files))
    }

    /// Judges merges; answers how many fit and how many conflicted.
    fn judge(&self, merges: &[(CommitId, CommitId)]) -> (usize, usize) {
        let repository = Repository::discover_with(&self.worktree, self.env()).unwrap().for_one_landing();
        let rehearsal = repository.rehearsal().unwrap();
        let mut counts = (0, 0);
        for (ours, theirs) in merges {
            let said = rehearsal.repository().merge_pair(ours, theirs).unwrap();
            let by_git = self.really(ours, theirs);
            let case = format!("{ours} {theirs}");
            if let Some(tree) = repository.merge_apart(ours, theirs) {
                assert_eq!(by_git.as_ref(), Some(&Ok(tree)), "{case}: merged without git");
            }
            match (said, by_git) {
                (Forecast::Clean { tree }, Some(Ok(merged))) => {
                    assert_eq!(tree, merged, "{case}");
                    counts.0 += 1;
                }
                (Forecast::Conflict { files, .. }, Some(Err(unmerged))) => {
                    for file in &unmerged {
                        assert!(files.iter().any(|known| known.path == *file), "{case}: {file} in {files:?}");
                    }
                    counts.1 += 1;
                }
                (Forecast::Unrelated, None) => {}
                (said, by_git) => panic!("{case}: we say {said:?}, git merge {by_git:?}"),
            }
        }
        counts
    }
}

/// Writes a file that is no text.
fn write_bytes(path: &Path, bytes: &[u8]) {
    crate::files::write_atomically(path, bytes, crate::files::Access::Shared).unwrap();
}

#[test]
fn past_merges_are_judged_as_git_merged_them() {
    let environment = crate::config::environment();
    let named = environment.get(REPOSITORY).map(PathBuf::from);
    let count = environment.get(COUNT).map(|count| count.parse().expect("a number"));
    // Of a source without its history, such as one from a package registry, nothing can be judged here.
    let source = named.clone().unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).to_owned());
    let Some(past) = Past::of(&source) else {
        assert!(named.is_none(), "`{}` is no repository that can be cloned", source.display());
        return;
    };
    let merges = past.merges(count.or(if named.is_some() { None } else { Some(25) }));
    let (clean, conflicted) = past.judge(&merges);
    assert!(named.is_none() || clean + conflicted > 0, "`{}` has no merge of two commits", source.display());
}

#[test]
fn conflicts_of_every_kind_are_judged_as_git_judges_them() {
    let fixture = Fixture::new();
    for n in 0..4 {
        fixture.write(&format!("dir/f{n}"), &format!("file {n}\n").repeat(9));
    }
    write_bytes(&fixture.root.join("bin"), b"\0one\0");
    fixture.commit("more");
    type Edit = (&'static str, &'static dyn Fn(&Fixture, &Path));
    let edits: [Edit; 12] = [
        ("line-x", &|_, at| put(&at.join("a"), &with_line("a", 5, "X"))),
        ("line-y", &|_, at| put(&at.join("a"), &with_line("a", 5, "Y"))),
        ("far", &|_, at| put(&at.join("a"), &with_line("a", 18, "Z"))),
        ("rename", &|git, at| drop(git.git(at, &["mv", "a", "renamed"]))),
        ("rename-else", &|git, at| drop(git.git(at, &["mv", "a", "else"]))),
        ("delete", &|git, at| drop(git.git(at, &["rm", "-q", "a"]))),
        ("folder", &|git, at| drop(git.git(at, &["mv", "dir", "moved"]))),
        ("folder-else", &|git, at| drop(git.git(at, &["mv", "dir", "away"]))),
        ("into-folder", &|_, at| put(&at.join("dir/new"), "new\n")),
        ("binary-x", &|_, at| write_bytes(&at.join("bin"), b"\0x\0")),
        ("binary-y", &|_, at| write_bytes(&at.join("bin"), b"\0y\0")),
        ("mode", &|git, at| drop(git.git(at, &["update-index", "--chmod=+x", "a"]))),
    ];
    let mut heads = Vec::new();
    for (name, edit) in edits {
        let at = fixture.worktree(name);
        edit(&fixture, &at);
        // The mode is in the index alone.
        if name == "mode" {
            fixture.git(&at, &["commit", "-q", "-m", name]);
        } else {
            fixture.commit_in(&at, name);
        }
        heads.push(fixture.head(name));
    }
    let past = Past::of(&fixture.root).unwrap();
    let pairs: Vec<_> = heads
        .iter()
        .flat_map(|ours| {
            heads.iter().filter(move |theirs| *theirs != ours).map(move |theirs| (ours.clone(), theirs.clone()))
        })
        .collect();
    let (clean, conflicted) = past.judge(&pairs);
    assert!(clean > 40 && conflicted > 15, "{clean} fit and {conflicted} conflicted of {}", pairs.len());
}
