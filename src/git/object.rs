//! Commits and references that `swarm` itself makes, and facts about commits.

use git2::{Oid, Signature};

use super::repository::is_absence;
use super::{GitError, Repository, commit_id};
use crate::files::read_if_exists;
use crate::model::CommitId;

/// Who signs the commits that only `swarm` refers to.
const NAME: &str = "swarm";
/// The address that goes with it; it cannot be delivered to.
const EMAIL: &str = "swarm@localhost";

/// What a commit consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommitFacts {
    /// Id of its tree in hex.
    pub(crate) tree: String,
    /// Its parents in order.
    pub(crate) parents: Vec<CommitId>,
}

impl Repository {
    /// Tree and parents of a commit.
    pub(crate) fn commit_facts(&self, commit: &CommitId) -> Result<CommitFacts, GitError> {
        if let Some(repo) = self.libgit() {
            let attempt = || GitError::libgit("read a commit");
            let id = Oid::from_str(commit.as_str()).map_err(attempt())?;
            let found = repo.find_commit(id).map_err(attempt())?;
            let parents = found.parent_ids().map(|id| commit_id(&id.to_string())).collect::<Result<_, _>>()?;
            return Ok(CommitFacts { tree: found.tree_id().to_string(), parents });
        }
        let call = self.git(self.home(), ["show", "--no-patch", "--no-notes", "--format=%T %P", commit.as_str()]);
        let text = call.reading().text()?;
        let mut words = text.split_whitespace();
        let tree = words.next().unwrap_or_default().to_owned();
        Ok(CommitFacts { tree, parents: words.map(commit_id).collect::<Result<_, _>>()? })
    }

    /// Whether the object store has this commit.
    pub(crate) fn has_commit(&self, commit: &CommitId) -> Result<bool, GitError> {
        Ok(self.resolve(&format!("{commit}^{{commit}}"))?.is_some())
    }

    /// Whether it has this commit with all that belongs to it. Of what was being fetched when its process was killed there
    /// may be a commit and nothing else.
    pub(crate) fn has_whole(&self, commit: &CommitId) -> Result<bool, GitError> {
        if !self.has_commit(commit)? {
            return Ok(false);
        }
        let args = ["rev-list", "--quiet", "--objects", commit.as_str(), "--not", "--all"];
        Ok(self.git(self.home(), args).reading().run()?.code() == 0)
    }

    /// Makes a commit in the name of `swarm`, which no branch gets.
    pub(super) fn own_commit(&self, tree: &str, parents: &[CommitId], message: &str) -> Result<CommitId, GitError> {
        if let Some(repo) = self.libgit() {
            let make = || {
                let parents = parents.iter().map(|id| repo.find_commit(Oid::from_str(id.as_str())?));
                let parents = parents.collect::<Result<Vec<_>, git2::Error>>()?;
                let who = Signature::now(NAME, EMAIL)?;
                let tree = repo.find_tree(Oid::from_str(tree)?)?;
                repo.commit(None, &who, &who, message, &tree, &parents.iter().collect::<Vec<_>>())
            };
            return commit_id(&make().map_err(GitError::libgit("make a commit"))?.to_string());
        }
        let mut call = self.git(self.home(), ["commit-tree", "--no-gpg-sign", "-F", "-", tree]);
        for parent in parents {
            call = call.args(["-p", parent.as_str()]);
        }
        for who in ["AUTHOR", "COMMITTER"] {
            call = call.env(format!("GIT_{who}_NAME"), NAME).env(format!("GIT_{who}_EMAIL"), EMAIL);
        }
        commit_id(&call.stdin(message.as_bytes().to_vec()).text()?)
    }

    /// Moves a reference of `swarm` from `old` (`None`: it must not exist) to `new`.
    ///
    /// # Errors
    /// When it is elsewhere by now.
    pub(super) fn move_ref(&self, name: &str, old: Option<&CommitId>, new: &CommitId) -> Result<(), GitError> {
        self.drop_dead_reference_lock(name, &[])?;
        if let Some(repo) = self.libgit() {
            let set = || {
                let id = Oid::from_str(new.as_str())?;
                match old {
                    Some(old) => repo.reference_matching(name, id, true, Oid::from_str(old.as_str())?, "swarm"),
                    None => repo.reference(name, id, false, "swarm"),
                }
            };
            return set().map(drop).map_err(GitError::libgit("move a reference"));
        }
        let nothing = "0".repeat(new.as_str().len());
        let old = old.map_or(nothing.as_str(), CommitId::as_str);
        self.git(self.home(), ["update-ref", name, new.as_str(), old]).output().map(drop)
    }

    /// Deletes a reference that is still at `old`; no error when it is gone already.
    pub(super) fn delete_ref(&self, name: &str, old: &CommitId) -> Result<(), GitError> {
        self.drop_dead_reference_lock(name, &[])?;
        if let Some(repo) = self.libgit() {
            match repo.find_reference(name) {
                // The library demands itself that the reference is still what was found. Of a person's hook on
                // references it knows nothing; and where all packed ones are written anew, a process of its own is not
                // killed with this one and leaves no lock on them.
                Ok(mut found) => {
                    let is_at_old = found.target().is_some_and(|target| target.to_string() == old.as_str());
                    let is_simple = is_at_old && !self.is_packed(name)? && !self.has_hook("reference-transaction");
                    if is_simple && found.delete().is_ok() {
                        return Ok(());
                    }
                }
                Err(error) if is_absence(&error) => return Ok(()),
                Err(error) => return Err(GitError::libgit("read a reference")(error)),
            }
        }
        let deleted = self.git(self.home(), ["update-ref", "-d", name, old.as_str()]).output();
        deleted.map(drop).map_err(|error| self.locked(name, error))
    }

    /// Whether a reference is, or once was, in the file of packed ones.
    fn is_packed(&self, name: &str) -> Result<bool, GitError> {
        let packed = read_if_exists(&self.common_dir().join("packed-refs"))?.unwrap_or_default();
        let line_end = format!(" {name}");
        Ok(packed.split(|byte| *byte == b'\n').any(|line| line.ends_with(line_end.as_bytes())))
    }

    /// What a call that could not change a reference failed for: a lock of git's, where one is there.
    pub(super) fn locked(&self, reference: &str, error: GitError) -> GitError {
        let locks =
            [&format!("{reference}.lock"), "HEAD.lock", "packed-refs.lock"].map(|lock| self.common_dir().join(lock));
        match locks.into_iter().find(|lock| lock.symlink_metadata().is_ok()) {
            Some(lock) => GitError::Locked { reference: reference.to_owned(), lock },
            None => error,
        }
    }
}
