//! The preservation law: nothing is removed before its work is in a reference under `refs/swarm/keep/`.
//!
//! [`Repository::keep`] saves a worker's branch head, its uncommitted and untracked files, and what an unfinished
//! merge or rebase holds, in one commit, and gives the [`KeptWork`] without which nothing can be removed. When
//! anything of that cannot be saved, it fails, and so does the removal.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::pristine::By;
use super::snapshot::{Extent, Taken, Unsaved, UnsavedReason};
use super::state::{Entry, EntryKind};
use super::worktree::Linked;
use super::{GitError, Repository, commit_id};
use crate::files::read_if_exists;
use crate::model::{BranchName, CommitId, Time, WorkerId};

/// Where kept work lies.
const KEEP: &str = "refs/swarm/keep/";
/// What the message of a keep commit starts with.
const SUBJECT: &str = "Kept work of ";
/// Times a number for a new keep ref is chosen while others take it.
const TRIES: usize = 8;

/// Proof that a worker's work is in a keep ref. Only [`Repository::keep`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptWork {
    /// Whose work it is.
    worker: WorkerId,
    /// The full name of the reference.
    keep_ref: String,
    /// What it points to.
    pub(super) commit: CommitId,
    /// The worker's branch.
    branch: BranchName,
    /// The branch's head when it was saved; `None` when there was no such branch.
    branch_head: Option<CommitId>,
    /// Whether it holds files that the commit it is restored from has not.
    has_uncommitted: bool,
    /// Whether its files are those of the last snapshot.
    from_snapshot: bool,
    /// The worktree whose files are in it, and the tree they make.
    pub(super) worktree: Option<KeptWorktree>,
}

/// The worktree a [`KeptWork`] covers, as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeptWorktree {
    /// Its folder, with links resolved.
    pub(super) path: PathBuf,
    /// Id of the tree of all its files that are not ignored, in hex.
    pub(super) tree: String,
    /// Its head.
    pub(super) head: Option<CommitId>,
    /// What is not in the tree because it is safe elsewhere.
    pub(super) unsaved: Vec<Unsaved>,
}

impl KeptWork {
    /// Whose work it is.
    pub(crate) fn worker(&self) -> &WorkerId {
        &self.worker
    }

    /// The full name of the reference.
    pub(crate) fn keep_ref(&self) -> &str {
        &self.keep_ref
    }

    /// The commit it points to.
    #[cfg(test)]
    pub(crate) fn commit(&self) -> &CommitId {
        &self.commit
    }

    /// The branch that is covered.
    pub(crate) fn branch(&self) -> &BranchName {
        &self.branch
    }

    /// Whether it holds files that the commit it is restored from has not.
    pub(crate) fn has_uncommitted(&self) -> bool {
        self.has_uncommitted
    }

    /// Whether the worktree was not there, so that its files could not be looked at.
    pub(crate) fn is_worktree_missing(&self) -> bool {
        self.worktree.is_none()
    }

    /// Whether its files are those of the last snapshot, because the worktree was not there.
    pub(crate) fn is_from_snapshot(&self) -> bool {
        self.from_snapshot
    }

    /// Its head when it was saved; `None` when there was no such branch.
    pub(crate) fn branch_head(&self) -> Option<&CommitId> {
        self.branch_head.as_ref()
    }
}

/// What the message of a keep commit says in JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct KeepNote {
    /// Version of this object.
    schema: u32,
    /// The worker.
    worker: WorkerId,
    /// Why it was kept.
    reason: String,
    /// The worker's branch.
    branch: BranchName,
    /// The branch's head; absent when the branch was gone.
    branch_head: Option<CommitId>,
    /// The worktree's head, where there was one.
    head: Option<CommitId>,
    /// When.
    at: Time,
    /// Files that were not committed.
    uncommitted_files: usize,
    /// An unfinished operation.
    operation: Option<String>,
    /// Whether the files come from the last snapshot, because the worktree was gone.
    from_snapshot: bool,
    /// Further commits that are kept as parents: an index of its own, an autostash, the other side of a merge.
    also: Vec<CommitId>,
    /// How many of the uncommitted files git did not track; absent in notes of earlier versions.
    #[serde(default)]
    untracked_files: usize,
    /// What the further commits are, in the order of `also`; absent in notes of earlier versions.
    #[serde(default)]
    also_kinds: Vec<LooseEnd>,
    /// The last snapshot at that time; absent when there was none, and in notes of earlier versions.
    #[serde(default)]
    snapshot: Option<CommitId>,
}

/// What a worktree held besides its files, kept as a commit of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LooseEnd {
    /// What was staged, where that was neither the head's files nor those on the disk.
    Index,
    /// Changes that git had put aside to put back after an unfinished operation.
    Autostash,
    /// The other side of an unfinished merge, or the commit that was being picked or reverted.
    OtherSide,
    /// Where the branch was before an unfinished rebase.
    BeforeRebase,
}

impl LooseEnd {
    /// It in a few words.
    pub(crate) fn as_clause(self) -> &'static str {
        match self {
            Self::Index => "staged changes",
            Self::Autostash => "an autostash",
            Self::OtherSide => "the other side of an unfinished operation",
            Self::BeforeRebase => "the branch before its rebase",
        }
    }
}

/// A keep ref, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeepEntry {
    /// The full name of the reference.
    pub(crate) reference: String,
    /// The worker whose work it is.
    pub(crate) worker: WorkerId,
    /// What it points to: a commit whose tree is the kept state and whose first parent is what was checked out.
    pub(crate) commit: CommitId,
    /// When it was kept.
    pub(crate) at: Time,
    /// Why.
    pub(crate) reason: String,
    /// The worker's branch.
    pub(crate) branch: BranchName,
    /// The commit that a restored branch starts from.
    pub(crate) head: CommitId,
    /// Where the branch was, when the worktree had another commit checked out that does not come after it.
    pub(crate) beside: Option<CommitId>,
    /// Whether there is work in it that no commit of the branch has.
    pub(crate) has_uncommitted: bool,
    /// Files that were not committed.
    pub(crate) files: usize,
    /// How many of them git did not track.
    pub(crate) untracked: usize,
    /// Whether the files are those of the last snapshot, because the worktree was gone.
    pub(crate) from_snapshot: bool,
    /// What else was there, each as a commit of its own.
    pub(crate) also: Vec<(Option<LooseEnd>, CommitId)>,
    /// All commits that are kept, in the order of the keep commit's parents.
    pub(crate) parents: Vec<CommitId>,
    /// The operation that was unfinished: `merge`, `rebase`, `cherry-pick` or `revert`.
    pub(crate) operation: Option<String>,
}

/// What is to be kept, gathered.
struct Gathered {
    /// Id of the tree in hex.
    tree: String,
    /// All parents, the one to restore from first.
    parents: Vec<CommitId>,
    /// What the message says.
    note: KeepNote,
    /// The worktree, where there is one.
    worktree: Option<KeptWorktree>,
}

impl Repository {
    /// Saves the work of a worker: the head of `branch`, and everything in `worktree` that is not committed and
    /// not ignored, whatever state it is in. A worktree that is gone leaves the branch and the last snapshot; where
    /// nothing of those is newer than what was saved last, with the worktree's files, that is the answer.
    /// Saving the same state again gives the same reference.
    ///
    /// # Errors
    /// When anything could not be saved: then nothing may be removed. [`GitError::Refused`] for a nested
    /// repository or submodule with work that is nowhere else.
    pub(crate) fn keep(
        &self,
        worker: &WorkerId,
        worktree: Option<&Path>,
        branch: &BranchName,
        reason: &str,
    ) -> Result<KeptWork, GitError> {
        let lock = self.lock_snapshot(worker)?;
        let note = KeepNote {
            schema: 1,
            worker: worker.clone(),
            reason: reason.to_owned(),
            branch: branch.clone(),
            branch_head: self.branch_head(branch)?,
            head: None,
            at: Time::now(),
            uncommitted_files: 0,
            operation: None,
            from_snapshot: false,
            also: Vec::new(),
            untracked_files: 0,
            also_kinds: Vec::new(),
            snapshot: self.ref_commit(&Self::wip_ref(worker))?,
        };
        let gathered = match worktree.filter(|path| !is_gone(path)) {
            Some(path) => self.gather_worktree(&self.linked(path)?, note)?,
            None => match self.kept_before(&note)? {
                Some(kept) => return Ok(kept),
                None => self.gather_refs(note)?,
            },
        };
        let branch_head = gathered.note.branch_head.clone();
        let (keep_ref, commit) = self.save(worker, &gathered)?;
        drop(lock);
        let first = gathered.parents.first().map(|first| self.commit_facts(first)).transpose()?;
        Ok(KeptWork {
            worker: worker.clone(),
            keep_ref,
            commit,
            branch: branch.clone(),
            branch_head,
            has_uncommitted: first.is_none_or(|first| first.tree != gathered.tree),
            from_snapshot: gathered.note.from_snapshot,
            worktree: gathered.worktree,
        })
    }

    /// Gathers branch and worktree.
    fn gather_worktree(&self, linked: &Linked, mut note: KeepNote) -> Result<Gathered, GitError> {
        let taken = match self.pristine(linked, By::Content)? {
            Some((state, tree)) => Taken { tree, state, unsaved: Vec::new() },
            None => {
                self.take(linked, &note.worker, Extent { made_paths: &[], most_bytes: u64::MAX, anew: true }, None)?
            }
        };
        self.check_unsaved(linked, &taken.unsaved)?;
        note.head = taken.state.head.clone();
        note.operation = taken.state.operation.map(|operation| operation.as_str().to_owned());
        note.uncommitted_files = taken.state.entries.len();
        let is_untracked = |entry: &&Entry| entry.kind == EntryKind::Untracked;
        note.untracked_files = taken.state.entries.iter().filter(is_untracked).count();
        let loose_ends = self.loose_ends(linked, &taken)?;
        (note.also_kinds, note.also) = loose_ends.into_iter().unzip();
        // The files are to be seen beside the commit that they were changed from; in the middle of a rebase that is
        // one the person does not know.
        let mut parents: Vec<_> = match note.operation {
            None => note.head.iter().chain(&note.branch_head).cloned().collect(),
            Some(_) => note.branch_head.iter().chain(&note.head).cloned().collect(),
        };
        if note.head.is_none() {
            // Its branch was deleted under it: the log of its head and the last snapshot know where it was.
            let wip = self.ref_commit(&Self::wip_ref(&note.worker))?;
            let logged = match (self.last_logged_head(linked)?, &wip) {
                (None, Some(wip)) => self.own_commit_below(wip)?,
                (logged, _) => logged,
            };
            parents.extend(logged.into_iter().chain(wip));
        }
        parents.extend(note.also.iter().cloned());
        let worktree = KeptWorktree {
            path: linked.path().to_owned(),
            tree: taken.tree.clone(),
            head: taken.state.head,
            unsaved: taken.unsaved,
        };
        Ok(Gathered { tree: taken.tree, parents, note, worktree: Some(worktree) })
    }

    /// What was saved last of a worker whose worktree is gone, where nothing that is left of it came after that: its
    /// removal was cut off.
    fn kept_before(&self, now: &KeepNote) -> Result<Option<KeptWork>, GitError> {
        let Some(number) = self.keep_numbers(&now.worker)?.into_iter().max() else { return Ok(None) };
        let keep_ref = format!("{KEEP}{}/{number}", now.worker);
        let Some(commit) = self.ref_commit(&keep_ref)? else { return Ok(None) };
        let call = self.git(self.home(), ["log", "--max-count=1", "--no-notes", "--format=%B", commit.as_str(), "--"]);
        let Some(note) = parse_note(&call.reading().text()?) else { return Ok(None) };
        // Without a head there were no files. Branch and snapshot may have been deleted since, but not moved.
        let is_same = |now: &Option<CommitId>, then: &Option<CommitId>| now.is_none() || now == then;
        let holds_all = note.head.is_some()
            && (&note.worker, &note.branch) == (&now.worker, &now.branch)
            && is_same(&now.branch_head, &note.branch_head)
            && is_same(&now.snapshot, &note.snapshot);
        if !holds_all {
            return Ok(None);
        }
        let facts = self.commit_facts(&commit)?;
        let first = facts.parents.first().map(|first| self.commit_facts(first)).transpose()?;
        Ok(Some(KeptWork {
            worker: note.worker,
            keep_ref,
            commit,
            branch: note.branch,
            branch_head: now.branch_head.clone(),
            has_uncommitted: first.is_none_or(|first| first.tree != facts.tree),
            from_snapshot: false,
            worktree: None,
        }))
    }

    /// Gathers what the references know of a worker whose worktree is gone.
    fn gather_refs(&self, mut note: KeepNote) -> Result<Gathered, GitError> {
        let wip = self.ref_commit(&Self::wip_ref(&note.worker))?;
        let facts = wip.as_ref().map(|wip| self.commit_facts(wip)).transpose()?;
        let head = note.branch_head.clone();
        // A snapshot of an older head says nothing about files that were committed or changed since.
        let current = facts.as_ref().is_some_and(|facts| head.is_none() || facts.parents.first() == head.as_ref());
        let head_tree = head.as_ref().map(|head| self.commit_facts(head)).transpose()?.map(|facts| facts.tree);
        let wip_tree = facts.map(|facts| facts.tree);
        note.from_snapshot = current;
        note.uncommitted_files = usize::from(current && wip_tree != head_tree);
        let tree = if current { wip_tree } else { head_tree };
        let nothing = || GitError::Refused {
            what: format!("keeping the work of `{}`", note.worker),
            why: format!("its worktree, its branch `{}` and its snapshots are all gone", note.branch),
            hint: "look for its commits: git fsck --lost-found".to_owned(),
        };
        let tree = tree.ok_or_else(nothing)?;
        let head = match (head, &wip) {
            (None, Some(wip)) => self.own_commit_below(wip)?,
            (head, _) => head,
        };
        let parents = head.into_iter().chain(wip).collect();
        Ok(Gathered { tree, parents, note, worktree: None })
    }

    /// The commit that a snapshot was taken on: the first below it that is not a snapshot itself.
    fn own_commit_below(&self, wip: &CommitId) -> Result<Option<CommitId>, GitError> {
        let args = ["log", "--first-parent", "--max-count=1", "--format=%H", "--invert-grep"];
        let call = self.git(self.home(), args).args(["--grep=^Snapshot of `", wip.as_str(), "--"]);
        let text = call.reading().text()?;
        if text.trim().is_empty() { Ok(None) } else { commit_id(&text).map(Some) }
    }

    /// Refuses when something that is not in the tree is nowhere else either.
    fn check_unsaved(&self, linked: &Linked, unsaved: &[Unsaved]) -> Result<(), GitError> {
        let refuse = |path: &Path, why: &str| GitError::Refused {
            what: format!("keeping `{}`", linked.path().display()),
            why: format!("`{}` {why}", path.display()),
            hint: "push its commits, or move it out of the worktree".to_owned(),
        };
        for Unsaved { path, why } in unsaved {
            match why {
                UnsavedReason::Unreadable | UnsavedReason::TooLarge => return Err(refuse(path, "cannot be read")),
                UnsavedReason::DirtySubmodule => return Err(refuse(path, "is a submodule with uncommitted work")),
                UnsavedReason::NestedRepository if !self.is_nested_safe(&linked.path().join(path))? => {
                    return Err(refuse(path, "is a repository of its own with work that is nowhere else"));
                }
                UnsavedReason::NestedRepository => {}
            }
        }
        // A linked worktree has its submodules' repositories in its own git folder: they go with it.
        if linked.git_dir().join("modules").is_dir() {
            for path in self.submodules(linked)? {
                if !self.is_nested_safe(&linked.path().join(&path))? {
                    return Err(refuse(&path, "is a submodule with commits that are nowhere else"));
                }
            }
        }
        Ok(())
    }

    /// Whether everything in a nested repository is also in a remote of it.
    fn is_nested_safe(&self, path: &Path) -> Result<bool, GitError> {
        if !path.join(".git").exists() {
            return Ok(true);
        }
        let flags = ["status", "--porcelain", "-z", "--untracked-files=all", "--ignore-submodules=none"];
        let status = self.git(path, flags).reading().output()?;
        let only_here = ["rev-list", "--max-count=1", "--all", "HEAD", "--not", "--remotes"];
        let commits = self.git(path, only_here).reading().run()?;
        // `HEAD` of a repository without commits is an error there: it has nothing to lose but its files.
        Ok(status.stdout.is_empty() && (commits.code() != 0 || commits.stdout.is_empty()))
    }

    /// Paths of the submodules that a worktree's index has.
    fn submodules(&self, linked: &Linked) -> Result<Vec<PathBuf>, GitError> {
        let out = self.git(linked.path(), ["ls-files", "-z", "--stage"]).reading().output()?.stdout;
        let gitlinks = super::program::split_nul(&out).filter(|line| line.starts_with(b"160000 "));
        Ok(gitlinks
            .filter_map(|line| {
                let tab = line.iter().position(|byte| *byte == b'\t')?;
                Some(super::program::path_of(&line[tab + 1..]))
            })
            .collect())
    }

    /// Commits for what a worktree holds besides its files: an index that differs from both head and files, the
    /// other sides of unfinished operations, autostashes.
    fn loose_ends(&self, linked: &Linked, taken: &Taken) -> Result<Vec<(LooseEnd, CommitId)>, GitError> {
        let mut found = Vec::new();
        let head = &taken.state.head;
        let head_tree = head.as_ref().map(|head| self.commit_facts(head)).transpose()?.map(|facts| facts.tree);
        // An index that differs from its head makes entries.
        let index_tree = if taken.state.entries.is_empty() { None } else { self.index_tree(linked)? };
        if let Some(index_tree) = index_tree
            && index_tree != taken.tree
            && Some(&index_tree) != head_tree.as_ref()
        {
            let parents: Vec<_> = head.iter().cloned().collect();
            found.push((LooseEnd::Index, self.own_commit(&index_tree, &parents, "Index of kept work\n")?));
        }
        let marks = [
            ("MERGE_HEAD", LooseEnd::OtherSide),
            ("CHERRY_PICK_HEAD", LooseEnd::OtherSide),
            ("REVERT_HEAD", LooseEnd::OtherSide),
            ("MERGE_AUTOSTASH", LooseEnd::Autostash),
            ("rebase-merge/autostash", LooseEnd::Autostash),
            ("rebase-apply/autostash", LooseEnd::Autostash),
            ("rebase-merge/orig-head", LooseEnd::BeforeRebase),
            ("rebase-apply/orig-head", LooseEnd::BeforeRebase),
        ];
        for (mark, kind) in marks {
            let text = read_if_exists(&linked.git_dir().join(mark))?.unwrap_or_default();
            for line in String::from_utf8_lossy(&text).lines() {
                if let Ok(commit) = commit_id(line)
                    && self.has_commit(&commit)?
                {
                    found.push((kind, commit));
                }
            }
        }
        Ok(found)
    }

    /// The tree of a worktree's own index, read from a copy; `None` while it holds conflicts.
    fn index_tree(&self, linked: &Linked) -> Result<Option<String>, GitError> {
        let Some(bytes) = read_if_exists(&linked.index())? else {
            return Ok(None);
        };
        let copy = tempfile::NamedTempFile::new_in(self.state_dir());
        let copy = copy.map_err(crate::files::FileError::on("write in", &self.state_dir()))?;
        crate::files::write_atomically(copy.path(), &bytes, crate::files::Access::Private)?;
        let done = self.git(linked.path(), ["write-tree"]).env("GIT_INDEX_FILE", copy.path()).run()?;
        Ok((done.code() == 0).then(|| done.text().trim().to_owned()))
    }

    /// The last commit that the log of a worktree's head names.
    fn last_logged_head(&self, linked: &Linked) -> Result<Option<CommitId>, GitError> {
        let text = read_if_exists(&linked.git_dir().join("logs/HEAD"))?.unwrap_or_default();
        for line in String::from_utf8_lossy(&text).lines().rev() {
            if let Some(Ok(commit)) = line.split(' ').nth(1).map(commit_id)
                && self.has_commit(&commit)?
            {
                return Ok(Some(commit));
            }
        }
        Ok(None)
    }

    /// Makes the keep commit and its reference, or finds the one that holds the same.
    fn save(&self, worker: &WorkerId, gathered: &Gathered) -> Result<(String, CommitId), GitError> {
        let mut parents: Vec<CommitId> = Vec::new();
        for parent in &gathered.parents {
            if !parents.contains(parent) {
                parents.push(parent.clone());
            }
        }
        let json = serde_json::to_string(&gathered.note).expect("a note is plain data");
        let message = format!("{SUBJECT}`{worker}`\n\n{json}\n");
        for _ in 0..TRIES {
            let last = self.keep_numbers(worker)?.into_iter().max();
            if let Some(number) = last {
                let name = format!("{KEEP}{worker}/{number}");
                if let Some(commit) = self.ref_commit(&name)? {
                    let facts = self.commit_facts(&commit)?;
                    if facts.tree == gathered.tree && facts.parents == parents {
                        return Ok((name, commit));
                    }
                }
            }
            let commit = self.own_commit(&gathered.tree, &parents, &message)?;
            let name = format!("{KEEP}{worker}/{}", last.unwrap_or(0) + 1);
            match self.move_ref(&name, None, &commit) {
                Ok(()) => return Ok((name, commit)),
                // Somebody took the number.
                Err(_) if self.ref_commit(&name)?.is_some() => {}
                Err(error) => return Err(error),
            }
        }
        Err(GitError::Refused {
            what: format!("keeping the work of `{worker}`"),
            why: "other processes keep taking the next free name".to_owned(),
            hint: "try again".to_owned(),
        })
    }

    /// The numbers of a worker's keep refs.
    fn keep_numbers(&self, worker: &WorkerId) -> Result<Vec<u64>, GitError> {
        let prefix = format!("{KEEP}{worker}/");
        let names = self.references(&prefix)?;
        Ok(names.iter().filter_map(|name| name.strip_prefix(&prefix)?.parse().ok()).collect())
    }

    /// All kept work, newest first.
    pub(crate) fn kept(&self) -> Result<Vec<KeepEntry>, GitError> {
        self.kept_below(KEEP)
    }

    /// The kept work of one worker, newest first.
    pub(crate) fn kept_of(&self, worker: &WorkerId) -> Result<Vec<KeepEntry>, GitError> {
        // Nearly always nothing, which is found without a process.
        if self.keep_numbers(worker)?.is_empty() {
            return Ok(Vec::new());
        }
        let mut kept = self.kept_below(&format!("{KEEP}{worker}/"))?;
        kept.retain(|entry| entry.worker == *worker);
        Ok(kept)
    }

    /// The kept work whose references begin with `prefix`, which ends in `/`.
    fn kept_below(&self, prefix: &str) -> Result<Vec<KeepEntry>, GitError> {
        let format = "--format=%(refname)%00%(objectname)%00%(tree)%00%(parent)%00%(contents)%00";
        let out = self.git(self.home(), ["for-each-ref", format, prefix]).reading().output()?.text();
        let mut fields = out.split('\0');
        let mut all = Vec::new();
        while let (Some(name), Some(id), Some(tree), Some(parents), Some(message)) =
            (fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
        {
            // Somebody else's commit under this prefix is passed over, never touched.
            if let Some(note) = parse_note(message) {
                let commit = commit_id(id)?;
                let parents = parents.split_whitespace().map(commit_id).collect::<Result<Vec<_>, _>>()?;
                let head = parents.first().cloned();
                let head_tree = head.as_ref().map(|head| self.commit_facts(head)).transpose()?.map(|facts| facts.tree);
                let head = head.unwrap_or_else(|| commit.clone());
                let kinds = note.also_kinds.iter().copied().map(Some).chain(std::iter::repeat(None));
                let also = kinds.zip(note.also).collect();
                let beside = match note.branch_head {
                    Some(branch) if branch != head && !self.is_ancestor(&branch, &head)? => Some(branch),
                    _ => None,
                };
                all.push(KeepEntry {
                    reference: name.trim_start().to_owned(),
                    worker: note.worker,
                    head,
                    beside,
                    commit,
                    at: note.at,
                    reason: note.reason,
                    branch: note.branch,
                    has_uncommitted: head_tree.as_deref() != Some(tree),
                    files: note.uncommitted_files,
                    untracked: note.untracked_files,
                    from_snapshot: note.from_snapshot,
                    also,
                    parents,
                    operation: note.operation,
                });
            }
        }
        all.sort_by(|one, other| (other.at, &other.reference).cmp(&(one.at, &one.reference)));
        Ok(all)
    }
}

/// Whether a worktree's folder is gone, or only an empty one is left.
pub(crate) fn is_gone(path: &Path) -> bool {
    match std::fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Reads the JSON of a keep commit's message.
fn parse_note(message: &str) -> Option<KeepNote> {
    let json = message.strip_prefix(SUBJECT)?.split_once("\n\n")?.1;
    serde_json::from_str(json.trim()).ok()
}
