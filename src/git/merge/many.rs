//! Forecasts of many pairs in one process of the git program, and the places where they do not fit.

use super::{ConflictFile, ConflictKind, Forecast, Rehearsal, parse};
use crate::git::{GitError, Repository, program};
use crate::model::CommitId;

/// What begins, divides and ends a conflict in a file, as git writes it by default (git-merge(1), "HOW CONFLICTS
/// ARE PRESENTED"); our calls pin the style and the file of a person's own marker size still begins with these.
const MARKERS: [&str; 3] = ["<<<<<<< ", "=======", ">>>>>>> "];
/// Most lines of one side that a hunk holds.
const MOST_LINES: usize = 20;
/// Most hunks of one file.
const MOST_HUNKS: usize = 20;

/// One place in a file where two sides changed the same lines.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub(crate) struct Hunk {
    /// Where it is in the merged file, a line number from 1, not counting the markers.
    pub(crate) line: usize,
    /// The lines of the first side, at most twenty.
    #[serde(rename = "a")]
    pub(crate) ours: Vec<String>,
    /// The lines of the second side, at most twenty.
    #[serde(rename = "b")]
    pub(crate) theirs: Vec<String>,
}

impl Repository {
    /// What merging each pair would give, in the order of the pairs, the first of a pair on the target's side.
    /// Exactly what merging them one by one gives, at a fraction of the cost: one process serves all.
    ///
    /// # Errors
    /// When git cannot judge a pair for another reason than unrelated histories: then nothing is known of any.
    pub(crate) fn forecast_many(
        &self,
        pairs: &[(CommitId, CommitId)],
        attributes: &CommitId,
    ) -> Result<Vec<Forecast>, GitError> {
        self.forecast_by(pairs, attributes.as_str(), &[])
    }

    /// The same by git's own three-way merge alone, whatever attributes and merge drivers there are.
    pub(crate) fn forecast_plainly(&self, pairs: &[(CommitId, CommitId)]) -> Result<Vec<Forecast>, GitError> {
        let nothing = self.git(self.home(), ["hash-object", "-t", "tree", "--stdin"]).reading().text()?;
        self.forecast_by(pairs, &nothing, &["core.attributesFile=/dev/null"])
    }

    /// Feeds the pairs to `git merge-tree`, with the attributes of a tree.
    fn forecast_by(
        &self,
        pairs: &[(CommitId, CommitId)],
        attributes: &str,
        settings: &[&str],
    ) -> Result<Vec<Forecast>, GitError> {
        let mut forecasts: Vec<Forecast> = Vec::with_capacity(pairs.len());
        while forecasts.len() < pairs.len() {
            let left = &pairs[forecasts.len()..];
            let lines: String = left.iter().map(|(ours, theirs)| format!("{ours} {theirs}\n")).collect();
            let call = self.git(self.home(), ["merge-tree", "--write-tree", "-z", "--messages", "--stdin"]);
            let call = call.env("GIT_ATTR_SOURCE", attributes).config("merge.conflictStyle=merge");
            let call = settings.iter().fold(call, |call, setting| call.config(*setting));
            let command = call.name();
            let done = call.stdin(lines.into_bytes()).run()?;
            forecasts.extend(parse::parse_forecasts(&done.stdout));
            // The process ends at the first pair it cannot merge; the pairs after it want another one.
            if let Some((ours, theirs)) = pairs.get(forecasts.len()) {
                if self.have_common_ancestor(ours, theirs)? {
                    return Err(program::failed(command, &done));
                }
                forecasts.push(Forecast::Unrelated);
            }
        }
        Ok(forecasts)
    }
}

impl Rehearsal {
    /// The places in which a file of a forecast made here does not fit; empty for kinds that have none, such as
    /// deleted or binary files.
    pub(crate) fn hunks(&self, tree: &str, file: &ConflictFile) -> Result<Vec<Hunk>, GitError> {
        if !matches!(file.kind, ConflictKind::Content | ConflictKind::AddAdd) {
            return Ok(Vec::new());
        }
        let repository = self.repository();
        let call = repository.git(repository.home(), ["cat-file", "blob", &format!("{tree}:{}", file.path)]).reading();
        let done = call.run()?;
        // A file that was renamed on one side is in the tree under its new name.
        if done.code() != 0 {
            return Ok(Vec::new());
        }
        Ok(hunks_of(&String::from_utf8_lossy(&done.stdout)))
    }
}

/// The conflicts that a merged file with markers holds.
fn hunks_of(text: &str) -> Vec<Hunk> {
    let [begin, divide, end] = MARKERS;
    let mut hunks: Vec<Hunk> = Vec::new();
    // 0 outside, 1 in the first side, 2 in the second.
    let (mut side, mut line) = (0, 1);
    for text in text.lines() {
        match (side, hunks.last_mut()) {
            (0, _) if text.starts_with(begin) => {
                hunks.push(Hunk { line, ours: Vec::new(), theirs: Vec::new() });
                side = 1;
            }
            (1, Some(_)) if text == divide => side = 2,
            (2, Some(_)) if text.starts_with(end) => side = 0,
            (1, Some(hunk)) => hunk.ours.push(text.to_owned()),
            (2, Some(hunk)) => hunk.theirs.push(text.to_owned()),
            _ => line += 1,
        }
    }
    hunks.truncate(MOST_HUNKS);
    for hunk in &mut hunks {
        hunk.ours.truncate(MOST_LINES);
        hunk.theirs.truncate(MOST_LINES);
    }
    hunks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::fixture::{Fixture, put, with_line};

    #[test]
    fn hunks_are_told_by_line_and_side() {
        let text = "one\n<<<<<<< a\nX\n=======\nY\nZ\n>>>>>>> b\ntwo\n<<<<<<< a\n=======\nW\n>>>>>>> b\n";
        let hunk = |line, ours: &[&str], theirs: &[&str]| Hunk {
            line,
            ours: ours.iter().map(|text| (*text).to_owned()).collect(),
            theirs: theirs.iter().map(|text| (*text).to_owned()).collect(),
        };
        assert_eq!(hunks_of(text), [hunk(2, &["X"], &["Y", "Z"]), hunk(3, &[], &["W"])]);
        assert!(hunks_of("no conflict\n=======\nat all\n").is_empty());
    }

    #[test]
    fn many_pairs_are_judged_as_one_by_one_and_unrelated_ones_stop_nothing() {
        let fixture = Fixture::new();
        let names = ["x", "y", "z"];
        let commits = names.map(|name| {
            let tree = fixture.worktree(name);
            put(&tree.join("a"), &with_line("a", 5, name));
            put(&tree.join(name), "own\n");
            fixture.commit_in(&tree, name)
        });
        let [x, y, z] = commits;
        let repository = fixture.open();
        let tree = repository.tree_of(&x).unwrap();
        let identity = ["-c", "user.name=A", "-c", "user.email=a@example.com"];
        let orphan = identity.into_iter().chain(["commit-tree", "-m", "alone", &tree]).collect::<Vec<_>>();
        let orphan: CommitId = fixture.git(&fixture.root, &orphan).trim().parse().unwrap();
        let base = repository.resolve("HEAD").unwrap().unwrap();
        let pairs = [(&x, &y), (&x, &orphan), (&base, &x), (&orphan, &z), (&y, &z)];
        let pairs = pairs.map(|(ours, theirs)| (ours.clone(), theirs.clone()));
        let rehearsal = repository.rehearsal().unwrap();
        let many = rehearsal.repository().forecast_many(&pairs, &base).unwrap();
        let single: Vec<_> = pairs.iter().map(|(ours, theirs)| repository.merge_pair(ours, theirs).unwrap()).collect();
        assert_eq!(many, single);
        let Forecast::Conflict { tree, files, .. } = &many[0] else { panic!("{many:?}") };
        let hunks = rehearsal.hunks(tree, &files[0]).unwrap();
        assert_eq!((hunks.len(), &hunks[0].ours, &hunks[0].theirs), (1, &vec!["x".to_owned()], &vec!["y".to_owned()]));
    }

    #[test]
    fn a_commit_that_is_not_there_is_an_error() {
        let fixture = Fixture::new();
        let repository = fixture.open();
        let head = repository.resolve("HEAD").unwrap().unwrap();
        let missing: CommitId = "0000000000000000000000000000000000000001".parse().unwrap();
        assert!(repository.forecast_many(&[(head.clone(), missing)], &head).is_err());
    }
}
