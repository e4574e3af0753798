//! Builds what the target would become, as objects: a merge commit, a squashed commit, or the replayed commits.

use std::time::Duration;

use super::{ConflictFile, Forecast};
use crate::git::settled::Person;
use crate::git::{Call, GitError, Repository, commit_id};
use crate::model::CommitId;

/// What building gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Built {
    /// A commit that descends from the target and holds the branch's work.
    New {
        /// The commit; for a rebase that needs none, the branch's own head.
        commit: CommitId,
        /// Object id of its tree.
        tree: String,
    },
    /// The target already has all of the branch's work.
    Nothing,
    /// The branch stands beside the target, and only a fast-forward was asked for.
    Behind,
    /// The work does not fit the target.
    Conflict {
        /// The files; empty when the histories are unrelated.
        files: Vec<ConflictFile>,
        /// What git says, one sentence each; never empty.
        messages: Vec<String>,
        /// The branch's commit that could not be replayed, when it was a rebase.
        commit: Option<CommitId>,
    },
}

/// How new commits are made. Author and committer are the person that git knows, where nothing else is said.
#[derive(Debug, Clone)]
pub(crate) struct Commit<'a> {
    /// The message of the merge or squashed commit; replayed commits keep theirs.
    pub(crate) message: &'a str,
    /// Time one commit may take: signing can run a program of the person's.
    pub(crate) timeout: Duration,
}

/// A commit of the branch that is to be replayed.
#[derive(Debug)]
struct Original {
    /// Its id.
    id: CommitId,
    /// Its parents, in order.
    parents: Vec<String>,
    /// Who wrote it.
    author: Author,
    /// Its message as written.
    message: String,
}

/// Who wrote a commit, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Author {
    /// Name.
    name: String,
    /// Mail address.
    email: String,
    /// Git's raw date: seconds and zone.
    date: String,
}

impl Repository {
    /// Builds the merge commit of `branch` into `target`, with both as parents, never a fast-forward.
    pub(crate) fn build_merge(
        &self,
        target: &CommitId,
        branch: &CommitId,
        commit: &Commit<'_>,
    ) -> Result<Built, GitError> {
        let tree = match self.merged_tree(target, branch)? {
            Ok(tree) => tree,
            Err(answer) => return Ok(answer),
        };
        let commit = self.commit_tree(&tree, &[target, branch], commit.message, None, commit.timeout)?;
        Ok(Built::New { commit, tree })
    }

    /// Builds one commit on `target` with all of the branch's changes. Its author is the author of the branch's
    /// first commit; further authors are named by `Co-authored-by` trailers.
    pub(crate) fn build_squash(
        &self,
        target: &CommitId,
        branch: &CommitId,
        commit: &Commit<'_>,
    ) -> Result<Built, GitError> {
        let tree = match self.merged_tree(target, branch)? {
            Ok(tree) => tree,
            Err(answer) => return Ok(answer),
        };
        if tree == self.tree_of(target)? {
            return Ok(Built::Nothing);
        }
        let authors = self.originals(target, None, branch)?.into_iter().map(|original| original.author);
        let (author, message) = credit(authors.collect(), commit.message);
        let commit = self.commit_tree(&tree, &[target], &message, author.as_ref(), commit.timeout)?;
        Ok(Built::New { commit, tree })
    }

    /// Replays the branch's commits on `target`, each with its author, date and message. Commits that change
    /// nothing there are dropped; a branch that already stands on `target` stays as it is.
    ///
    /// Merge commits are left out as git does it. Where that loses what a merge commit itself changed, it is a
    /// conflict, not a silent loss.
    pub(crate) fn build_rebase(
        &self,
        target: &CommitId,
        branch: &CommitId,
        timeout: Duration,
    ) -> Result<Built, GitError> {
        let originals = self.originals(target, None, branch)?;
        if self.is_straight(target, branch, &originals)? {
            let tree = self.tree_of(branch)?;
            let is_nothing = target == branch;
            return Ok(if is_nothing { Built::Nothing } else { Built::New { commit: branch.clone(), tree } });
        }
        self.replay((target, None), branch, &originals, timeout)
    }

    /// Replays on `target` only the branch's commits since `since`, which it has and `target` has not: the same as
    /// `git rebase --onto target since branch`.
    pub(crate) fn build_replay(
        &self,
        target: &CommitId,
        since: &CommitId,
        branch: &CommitId,
        timeout: Duration,
    ) -> Result<Built, GitError> {
        let originals = self.originals(target, Some(since), branch)?;
        self.replay((target, Some(since)), branch, &originals, timeout)
    }

    /// Replays commits of a branch; what comes of it is compared with a merge, from `since` on where that is given.
    fn replay(
        &self,
        (target, since): (&CommitId, Option<&CommitId>),
        branch: &CommitId,
        originals: &[Original],
        timeout: Duration,
    ) -> Result<Built, GitError> {
        let has_merges = originals.iter().any(|original| original.parents.len() > 1);
        let (mut tip, mut tree) = (target.clone(), self.tree_of(target)?);
        for original in originals.iter().filter(|original| original.parents.len() == 1) {
            let line = format!("{} -- {tip} {}", original.parents[0], original.id);
            let forecast = self.merge_line(&line, &tip)?;
            let next = match conflict_or_tree(forecast, Some(&original.id)) {
                Ok(next) => next,
                Err(conflict) => return Ok(conflict),
            };
            if next != tree {
                tip = self.commit_tree(&next, &[&tip], &original.message, Some(&original.author), timeout)?;
                tree = next;
            }
        }
        if has_merges && let Some(conflict) = self.lost_in_merges((target, since), branch, &tree)? {
            return Ok(conflict);
        }
        Ok(if tip == *target { Built::Nothing } else { Built::New { commit: tip, tree } })
    }

    /// Takes the branch's head as it is, where it descends from `target`.
    pub(crate) fn build_fast_forward(&self, target: &CommitId, branch: &CommitId) -> Result<Built, GitError> {
        if self.is_ancestor(branch, target)? {
            return Ok(Built::Nothing);
        }
        if !self.is_ancestor(target, branch)? {
            return Ok(Built::Behind);
        }
        Ok(Built::New { commit: branch.clone(), tree: self.tree_of(branch)? })
    }

    /// The tree of a merge of `branch` into `target`, or the answer where there is none to commit.
    fn merged_tree(&self, target: &CommitId, branch: &CommitId) -> Result<Result<String, Built>, GitError> {
        if self.is_ancestor(branch, target)? {
            return Ok(Err(Built::Nothing));
        }
        if let Some(tree) = self.merge_apart(target, branch) {
            return Ok(Ok(tree));
        }
        Ok(conflict_or_tree(self.merge_pair(target, branch)?, None))
    }

    /// Whether the branch is a straight line from `target` on.
    fn is_straight(&self, target: &CommitId, branch: &CommitId, originals: &[Original]) -> Result<bool, GitError> {
        let linear = originals.iter().all(|original| original.parents.len() == 1);
        Ok(linear && self.is_ancestor(target, branch)?)
    }

    /// The conflict to report when replaying commits without the merges among them gave another tree than merging.
    fn lost_in_merges(
        &self,
        (target, since): (&CommitId, Option<&CommitId>),
        branch: &CommitId,
        tree: &str,
    ) -> Result<Option<Built>, GitError> {
        let forecast = match since {
            Some(since) => self.merge_line(&format!("{since} -- {target} {branch}"), target)?,
            None => self.merge_pair(target, branch)?,
        };
        let merged = match conflict_or_tree(forecast, None) {
            Ok(merged) => merged,
            Err(conflict) => return Ok(Some(conflict)),
        };
        if merged == tree {
            return Ok(None);
        }
        let message = "the branch contains merge commits with changes of their own, which a rebase would lose";
        Ok(Some(Built::Conflict { files: Vec::new(), messages: vec![message.to_owned()], commit: None }))
    }

    /// Whether `ancestor` is `descendant` or behind it.
    pub(crate) fn is_ancestor(&self, ancestor: &CommitId, descendant: &CommitId) -> Result<bool, GitError> {
        if ancestor == descendant {
            return Ok(true);
        }
        if self.in_process().is_some()
            && let Some(answer) = self.walker().and_then(|repo| descends(&repo, ancestor, descendant).ok())
        {
            return Ok(answer);
        }
        let call = ["merge-base", "--is-ancestor", ancestor.as_str(), descendant.as_str()];
        self.git(self.home(), call).reading().is_true()
    }

    /// Object id of a commit's tree.
    pub(crate) fn tree_of(&self, commit: &CommitId) -> Result<String, GitError> {
        if self.in_process().is_some()
            && let Ok(facts) = self.commit_facts(commit)
        {
            return Ok(facts.tree);
        }
        let tree = format!("{commit}^{{tree}}");
        self.git(self.home(), ["rev-parse", "--verify", tree.as_str()]).reading().text()
    }

    /// The commits of `branch` that `target` lacks, and `since` too where it is given, parents first.
    fn originals(
        &self,
        target: &CommitId,
        since: Option<&CommitId>,
        branch: &CommitId,
    ) -> Result<Vec<Original>, GitError> {
        let format = "--format=tformat:%H%x00%P%x00%an%x00%ae%x00%ad%x00%B";
        let call = self.git(self.home(), ["log", "-z", "--reverse", "--topo-order", "--date=raw", "--encoding=UTF-8"]);
        let call = call.args(["--no-show-signature", "--no-notes", format]);
        let range = format!("{target}..{branch}");
        let call = call.args([range]).args(since.map(|since| format!("^{since}")));
        let text = call.args(["--"]).reading().output()?.text();
        let fields: Vec<_> = text.split('\0').collect();
        let mut originals = Vec::new();
        for record in fields.chunks_exact(6) {
            let author = Author { name: record[2].to_owned(), email: record[3].to_owned(), date: record[4].to_owned() };
            let parents = record[1].split_whitespace().map(str::to_owned).collect();
            originals.push(Original { id: commit_id(record[0])?, parents, author, message: record[5].to_owned() });
        }
        Ok(originals)
    }

    /// Makes a commit object, signed where the person has asked git for that.
    fn commit_tree(
        &self,
        tree: &str,
        parents: &[&CommitId],
        message: &str,
        author: Option<&Author>,
        timeout: Duration,
    ) -> Result<CommitId, GitError> {
        let message = format!("{}\n", message.trim_end());
        if let Some(commit) = self.commit_in_process(tree, parents, &message, author)? {
            return Ok(commit);
        }
        let mut call =
            self.git(self.home(), ["commit-tree", tree]).config("i18n.commitEncoding=UTF-8").timeout(timeout);
        call = call.args(parents.iter().flat_map(|parent| ["-p", parent.as_str()]));
        if self.signs_commits()? {
            call = call.args(["-S"]);
        }
        if let Some(author) = author {
            call = author.apply(call);
        }
        commit_id(&call.args(["-F", "-"]).stdin(message.into_bytes()).text()?)
    }

    /// The same without a process, where nothing is signed and git's own would do nothing else; `None` elsewhere.
    fn commit_in_process(
        &self,
        tree: &str,
        parents: &[&CommitId],
        message: &str,
        author: Option<&Author>,
    ) -> Result<Option<CommitId>, GitError> {
        let Some(repo) = self.in_process() else { return Ok(None) };
        if self.signs_commits()? {
            return Ok(None);
        }
        let Some(people) = self.people()? else { return Ok(None) };
        let own = author.map(|author| Person::of(&author.name, &author.email, &author.date));
        let make = || -> Option<git2::Oid> {
            let author = own.unwrap_or(Some(people.author.now()))?.signature()?;
            let committer = people.committer.now().signature()?;
            let tree = repo.find_tree(git2::Oid::from_str(tree).ok()?).ok()?;
            let parents = parents.iter().map(|id| repo.find_commit(git2::Oid::from_str(id.as_str()).ok()?).ok());
            let parents = parents.collect::<Option<Vec<_>>>()?;
            repo.commit(None, &author, &committer, message, &tree, &parents.iter().collect::<Vec<_>>()).ok()
        };
        // What the library does not do, the program may, or it says better why not.
        make().map(|id| commit_id(&id.to_string())).transpose()
    }
}

/// Whether a commit comes after another one.
fn descends(repo: &git2::Repository, ancestor: &CommitId, descendant: &CommitId) -> Result<bool, git2::Error> {
    let (ancestor, descendant) = (git2::Oid::from_str(ancestor.as_str())?, git2::Oid::from_str(descendant.as_str())?);
    // Both must be there: a commit that is not known is no answer.
    repo.odb()?.read_header(ancestor)?;
    repo.graph_descendant_of(descendant, ancestor)
}

impl Author {
    /// Sets the author of a call. Git refuses an empty name, which old commits can have.
    fn apply(&self, call: Call) -> Call {
        let name = if self.name.trim().is_empty() { "unknown" } else { &self.name };
        let call = call.env("GIT_AUTHOR_NAME", name).env("GIT_AUTHOR_EMAIL", &self.email);
        call.env("GIT_AUTHOR_DATE", format!("@{}", self.date))
    }
}

/// The merged tree, or the conflict that takes its place.
fn conflict_or_tree(forecast: Forecast, commit: Option<&CommitId>) -> Result<String, Built> {
    let commit = commit.cloned();
    match forecast {
        Forecast::Clean { tree } => Ok(tree),
        Forecast::Conflict { files, messages, .. } => Err(Built::Conflict { files, messages, commit }),
        Forecast::Unrelated => {
            let messages = vec!["the branch and the target have no common ancestor".to_owned()];
            Err(Built::Conflict { files: Vec::new(), messages, commit })
        }
    }
}

/// The author of a squashed commit, with the last date, and the message with the other authors credited.
fn credit(authors: Vec<Author>, message: &str) -> (Option<Author>, String) {
    let Some(first) = authors.first() else {
        return (None, message.to_owned());
    };
    let mut others: Vec<String> = Vec::new();
    for author in authors.iter().filter(|author| author.email != first.email) {
        let line = format!("Co-authored-by: {} <{}>", author.name, author.email);
        if !others.contains(&line) && !message.contains(&line) {
            others.push(line);
        }
    }
    let date = authors.last().map_or_else(|| first.date.clone(), |last| last.date.clone());
    let message = message.trim_end();
    let last_is_trailers = message.rsplit("\n\n").next().is_some_and(|last| last != message && is_trailers(last));
    let message = match (others.is_empty(), last_is_trailers) {
        (true, _) => message.to_owned(),
        (false, true) => format!("{message}\n{}", others.join("\n")),
        (false, false) => format!("{message}\n\n{}", others.join("\n")),
    };
    (Some(Author { date, ..first.clone() }), message)
}

/// Whether each line of a paragraph is a trailer (git-interpret-trailers(1)).
fn is_trailers(paragraph: &str) -> bool {
    paragraph.lines().all(|line| {
        let key = line.split_once(": ").map_or("", |(key, _)| key);
        !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn author(name: &str) -> Author {
        Author { name: name.to_owned(), email: format!("{name}@x"), date: "1 +0000".to_owned() }
    }

    #[test]
    fn further_authors_join_the_trailers() {
        let authors = vec![author("a"), author("b"), author("a"), author("b")];
        let (first, message) = credit(authors.clone(), "subject\n\nSwarm-Ticket: x\n");
        assert_eq!(first, Some(author("a")));
        assert_eq!(message, "subject\n\nSwarm-Ticket: x\nCo-authored-by: b <b@x>");
        let (_, message) = credit(authors, "subject: with colon");
        assert_eq!(message, "subject: with colon\n\nCo-authored-by: b <b@x>");
    }

    #[test]
    fn a_single_author_leaves_the_message_alone() {
        assert_eq!(credit(vec![author("a")], "m").1, "m");
        assert_eq!(credit(Vec::new(), "m"), (None, "m".to_owned()));
    }
}
