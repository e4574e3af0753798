//! How commits relate, and what a worktree holds that git does not track.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use git2::Oid;

use super::{GitError, Repository, commit_id};
use crate::model::CommitId;
use crate::model::worker::Place;

/// Longest line of commits that is walked without a process.
const STRAIGHT: usize = 200;

/// One commit, as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct CommitInfo {
    /// Its id.
    pub(crate) id: CommitId,
    /// First line of its message.
    pub(crate) subject: String,
    /// Author's name.
    pub(crate) author: String,
    /// The ticket that its `Swarm-Ticket` trailer names.
    pub(crate) ticket: Option<String>,
}

impl Repository {
    /// The commits that `head` has and `base` has not, oldest first.
    pub(crate) fn commits_between(&self, base: &CommitId, head: &CommitId) -> Result<Vec<CommitInfo>, GitError> {
        if let Some(commits) = self.libgit().and_then(|repo| straight_line(&repo, base, head)) {
            return Ok(commits);
        }
        self.commits_by_program(base, head)
    }

    /// The same by a process.
    fn commits_by_program(&self, base: &CommitId, head: &CommitId) -> Result<Vec<CommitInfo>, GitError> {
        const FORMAT: &str = "--format=%H%x1f%s%x1f%an%x1f%(trailers:key=Swarm-Ticket,valueonly,separator=%x20)%x00";
        let range = format!("{base}..{head}");
        let call = self.git(self.home(), ["log", "--reverse", "--topo-order", FORMAT, range.as_str(), "--"]);
        let text = call.reading().text()?;
        let mut commits = Vec::new();
        for entry in text.split('\0').map(str::trim_start).filter(|entry| !entry.is_empty()) {
            let mut fields = entry.split('\x1f').map(str::to_owned);
            let mut next = || fields.next().unwrap_or_default();
            let id = commit_id(&next())?;
            let (subject, author, ticket) = (next(), next(), next());
            let ticket = Some(ticket.trim().to_owned()).filter(|ticket| !ticket.is_empty());
            commits.push(CommitInfo { id, subject, author, ticket });
        }
        Ok(commits)
    }

    /// The ids of the commits that `head` has and `base` has not and that touch any of `paths`; merges count where they
    /// brought a change of them in.
    pub(crate) fn commits_touching(
        &self,
        base: &CommitId,
        head: &CommitId,
        paths: &[&str],
    ) -> Result<Vec<CommitId>, GitError> {
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        let range = format!("{base}..{head}");
        let call = self.git(self.home(), ["log", "--format=%H", "--full-history", "-m", "--first-parent"]);
        let call = call.args([range.as_str(), "--"]).args(paths.iter().copied()).env("GIT_LITERAL_PATHSPECS", "1");
        let text = call.reading().text()?;
        let straight = text.lines().map(commit_id).collect::<Result<Vec<_>, _>>()?;
        let call = self.git(self.home(), ["log", "--format=%H", range.as_str(), "--"]);
        let text = call.args(paths.iter().copied()).env("GIT_LITERAL_PATHSPECS", "1").reading().text()?;
        let all = text.lines().map(commit_id).collect::<Result<Vec<_>, _>>()?;
        Ok(straight.into_iter().chain(all).collect())
    }

    /// A commit that the history of the checked out branch begins with; `None` where there is no commit yet. It walks the
    /// whole history.
    pub(crate) fn first_commit(&self) -> Result<Option<CommitId>, GitError> {
        let done = self.git(self.home(), ["rev-list", "--max-parents=0", "HEAD"]).reading().run()?;
        if done.code() == 0 { done.text().lines().last().map(commit_id).transpose() } else { Ok(None) }
    }

    /// Whether a commit is in the history of the checked out branch.
    pub(crate) fn begins_with(&self, first: &str) -> Result<bool, GitError> {
        match (self.resolve(first)?, self.resolve("HEAD")?) {
            (Some(first), Some(head)) => self.is_ancestor(&first, &head),
            _ => Ok(false),
        }
    }

    /// How many commits [`Repository::commits_between`] would name.
    pub(crate) fn count_between(&self, base: &CommitId, head: &CommitId) -> Result<usize, GitError> {
        let count = |repo: &git2::Repository| {
            let mut walk = repo.revwalk()?;
            walk.push(Oid::from_str(head.as_str())?)?;
            walk.hide(Oid::from_str(base.as_str())?)?;
            Ok::<_, git2::Error>(walk.filter(Result::is_ok).count())
        };
        match self.walker().and_then(|repo| count(&repo).ok()) {
            Some(count) => Ok(count),
            None => Ok(self.commits_between(base, head)?.len()),
        }
    }

    /// Where the work of a worker begins: where its branch last met its target, so that what it merged from there does
    /// not count as its own. The base it started from, once it has landed or where the two never met.
    ///
    /// A branch that started from a dependency's has what it has of that one behind it, until it has the dependency from
    /// the target.
    pub(crate) fn own_base(&self, place: &Place, head: &CommitId) -> Result<CommitId, GitError> {
        let target = self.branch_head(&place.target)?;
        let met = target.map(|target| self.merge_base(&target, head)).transpose()?.flatten();
        if place.stacked_on.is_some()
            && let Some(start) = self.stack_start(place, met.as_ref(), head)?
        {
            return Ok(start);
        }
        Ok(met.filter(|met| met != head).unwrap_or_else(|| place.base.clone()))
    }

    /// Where the own work begins of a branch that started from a dependency's and stands on it; `None` when it stands on
    /// the target by now, or was moved away. `met` is where it last met its target.
    fn stack_start(
        &self,
        place: &Place,
        met: Option<&CommitId>,
        head: &CommitId,
    ) -> Result<Option<CommitId>, GitError> {
        let Some(stacked) = &place.stacked_on else { return Ok(None) };
        let base = &place.base;
        if !self.is_ancestor(base, head)? || !met.map_or(Ok(true), |met| self.is_ancestor(met, base))? {
            return Ok(None);
        }
        // The dependency may have gone on, and may have been merged in again.
        let dependency = self.branch_head(&stacked.branch)?;
        let later = dependency.map(|dependency| self.merge_base(&dependency, head)).transpose()?.flatten();
        Ok(Some(match later {
            Some(later) if later != *head && self.is_ancestor(base, &later)? => later,
            _ => base.clone(),
        }))
    }

    /// Where the own work begins of a branch that stands on commits of a dependency which `onto` has not, or has as
    /// others: only what comes after it may be brought to `onto`. `None` where the whole branch may.
    pub(crate) fn stack_base(
        &self,
        place: &Place,
        onto: &CommitId,
        head: &CommitId,
    ) -> Result<Option<CommitId>, GitError> {
        if place.stacked_on.is_none() {
            return Ok(None);
        }
        let met = self.merge_base(onto, head)?;
        match self.stack_start(place, met.as_ref(), head)? {
            Some(start) if !self.is_ancestor(&start, onto)? => Ok(Some(start)),
            _ => Ok(None),
        }
    }

    /// The best common ancestor of two commits; `None` when their histories never met.
    pub(crate) fn merge_base(&self, one: &CommitId, other: &CommitId) -> Result<Option<CommitId>, GitError> {
        if let Some(repo) = self.walker() {
            let ids = || Ok((Oid::from_str(one.as_str())?, Oid::from_str(other.as_str())?));
            let (one, other) = ids().map_err(GitError::libgit("find the common ancestor"))?;
            return match repo.merge_base(one, other) {
                Ok(base) => commit_id(&base.to_string()).map(Some),
                Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(None),
                Err(error) => Err(GitError::libgit("find the common ancestor")(error)),
            };
        }
        let done = self.git(self.home(), ["merge-base", one.as_str(), other.as_str()]).reading().run()?;
        if done.code() == 0 { commit_id(&done.text()).map(Some) } else { Ok(None) }
    }

    /// What lies in a worktree untracked and not ignored, whole folders as one entry; from its root, sorted.
    pub(crate) fn untracked(&self, worktree: &Path) -> Result<Vec<PathBuf>, GitError> {
        self.list_untracked(worktree, &["--directory"])
    }

    /// The same file by file.
    pub(crate) fn untracked_files(&self, worktree: &Path) -> Result<Vec<PathBuf>, GitError> {
        self.list_untracked(worktree, &[])
    }

    /// What git lists with more arguments.
    fn list_untracked(&self, worktree: &Path, more: &[&str]) -> Result<Vec<PathBuf>, GitError> {
        let linked = self.linked(worktree)?;
        let args = ["ls-files", "-z", "--others", "--exclude-standard"];
        let listed = self.git(linked.path(), args).args(more).reading().output()?;
        let parts = listed.stdout.split(|byte| *byte == 0).filter(|part| !part.is_empty());
        let mut paths: Vec<_> = parts.map(|part| PathBuf::from(std::ffi::OsStr::from_bytes(part))).collect();
        paths.sort();
        Ok(paths)
    }
}

/// The commits from behind `base` up to `head`, oldest first, where they are a short line without merges and all text
/// in them is UTF-8; `None` elsewhere.
fn straight_line(repo: &git2::Repository, base: &CommitId, head: &CommitId) -> Option<Vec<CommitInfo>> {
    let base = Oid::from_str(base.as_str()).ok()?;
    let mut at = Oid::from_str(head.as_str()).ok()?;
    let mut commits = Vec::new();
    while at != base {
        let commit = repo.find_commit(at).ok()?;
        if commits.len() == STRAIGHT || commit.message_encoding().ok().flatten().is_some() {
            return None;
        }
        let message = commit.message().ok()?;
        let ticket = match message.to_ascii_lowercase().contains("swarm-ticket") {
            true => ticket_of(message)?,
            false => None,
        };
        let (subject, author) = (commit.summary().ok()??.to_owned(), commit.author().name().ok()?.to_owned());
        commits.push(CommitInfo { id: at.to_string().parse().ok()?, subject, author, ticket });
        // A commit whose parents are not just one ends the line.
        let mut parents = commit.parent_ids();
        at = parents.next().filter(|_| parents.next().is_none())?;
    }
    commits.reverse();
    Some(commits)
}

/// The values of `Swarm-Ticket` trailers of a message; `None` when its trailers cannot be read.
fn ticket_of(message: &str) -> Option<Option<String>> {
    let trailers = git2::message_trailers_strs(message).ok()?;
    let own = trailers.iter().filter(|(key, _)| key.eq_ignore_ascii_case("Swarm-Ticket"));
    let values: Vec<_> = own.map(|(_, value)| value.trim()).collect();
    Some(Some(values.join(" ")).filter(|ticket| !ticket.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::fixture::{Fixture, put};

    #[test]
    fn a_straight_line_is_told_as_the_program_tells_it() {
        let fixture = Fixture::new();
        let path = fixture.worktree("x");
        let messages = [
            "plain",
            "two lines\nof a subject\n\nbody\n\nSwarm-Ticket: one\nSwarm-Ticket: two",
            "named in the body\n\nSwarm-Ticket: not a trailer\nbecause of this line\nand this one\nand that",
            "  spaces   inside  ",
            "folded\n\nOther: x\nswarm-ticket:  three",
        ];
        for (number, message) in messages.iter().enumerate() {
            put(&path.join("b"), &number.to_string());
            fixture.commit_in(&path, message);
        }
        let (base, head) = (fixture.head("main"), fixture.head("x"));
        let repository = fixture.open();
        let line = straight_line(&repository.libgit().unwrap(), &base, &head).unwrap();
        assert_eq!(line, repository.commits_by_program(&base, &head).unwrap());
        assert_eq!(line.len(), messages.len());
        // Merges are told by git.
        fixture.write("c", "c\n");
        fixture.commit("main moves");
        fixture.git(&path, &["merge", "-q", "--no-edit", "main"]);
        assert_eq!(straight_line(&repository.libgit().unwrap(), &base, &fixture.head("x")), None);
    }
}
