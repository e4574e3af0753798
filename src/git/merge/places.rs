//! Where and how two sides of a conflict differ, with what both began from, for who has to resolve it.

use super::{ConflictFile, ConflictKind, Forecast, parse};
use crate::git::{GitError, Repository};
use crate::model::CommitId;

/// Most lines of one version that are told.
const MOST_LINES: usize = 40;
/// Most places of one file.
const MOST_PLACES: usize = 10;

/// One place of a conflict in three versions.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Place {
    /// Its line in the merged file, from 1, not counting the markers.
    pub(crate) line: usize,
    /// The lines of the target.
    pub(crate) target: Vec<String>,
    /// The lines both began from.
    pub(crate) base: Vec<String>,
    /// The lines of the branch.
    pub(crate) branch: Vec<String>,
}

impl Repository {
    /// The places in which merging `branch` into `target` conflicts, by file; no places for files that do not merge by
    /// lines, and none at all where the merge itself fits.
    pub(crate) fn conflict_places(
        &self,
        target: &CommitId,
        branch: &CommitId,
    ) -> Result<Vec<(ConflictFile, Vec<Place>)>, GitError> {
        let rehearsal = self.rehearsal()?;
        let repository = rehearsal.repository();
        let call = repository.git(repository.home(), ["merge-tree", "--write-tree", "-z", "--messages", "--stdin"]);
        let call = call.env("GIT_ATTR_SOURCE", target.as_str()).config("merge.conflictStyle=zdiff3");
        let done = call.stdin(format!("{target} {branch}\n").into_bytes()).run()?;
        let Some(Forecast::Conflict { tree, files, .. }) = parse::parse_forecast(&done.stdout) else {
            return Ok(Vec::new());
        };
        let with_places = files.into_iter().map(|file| {
            if !matches!(file.kind, ConflictKind::Content | ConflictKind::AddAdd) {
                return Ok((file, Vec::new()));
            }
            let blob = format!("{tree}:{}", file.path);
            let done = repository.git(repository.home(), ["cat-file", "blob", &blob]).reading().run()?;
            let text = if done.code() == 0 { done.text() } else { String::new() };
            Ok((file, places_of(&text)))
        });
        with_places.collect()
    }
}

/// Which version a line of a conflict belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Outside,
    Target,
    Base,
    Branch,
}

/// The conflicts that a merged file with `diff3` markers holds (git-merge(1), "HOW CONFLICTS ARE PRESENTED").
fn places_of(text: &str) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    let (mut side, mut line) = (Side::Outside, 1);
    for text in text.lines() {
        let next = match side {
            Side::Outside if text.starts_with("<<<<<<< ") => Side::Target,
            Side::Target if text.starts_with("||||||| ") => Side::Base,
            Side::Target | Side::Base if text == "=======" => Side::Branch,
            Side::Branch if text.starts_with(">>>>>>> ") => Side::Outside,
            _ => {
                let versions = places.last_mut();
                match (side, versions) {
                    (Side::Target, Some(place)) => place.target.push(text.to_owned()),
                    (Side::Base, Some(place)) => place.base.push(text.to_owned()),
                    (Side::Branch, Some(place)) => place.branch.push(text.to_owned()),
                    _ => line += 1,
                }
                continue;
            }
        };
        if next == Side::Target {
            places.push(Place { line, ..Place::default() });
        }
        side = next;
    }
    places.truncate(MOST_PLACES);
    for place in &mut places {
        for lines in [&mut place.target, &mut place.base, &mut place.branch] {
            lines.truncate(MOST_LINES);
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::fixture::{Fixture, with_line};

    #[test]
    fn a_conflict_is_told_in_three_versions() {
        let fixture = Fixture::new();
        let branch = fixture.branch("x", &[("a", &with_line("a", 5, "X")), ("b", "gone")]);
        fixture.write("a", &with_line("a", 5, "M"));
        std::fs::remove_file(fixture.root.join("b")).unwrap();
        let target = fixture.commit("M");
        let places = fixture.open().conflict_places(&target, &branch).unwrap();
        assert_eq!(places.len(), 2);
        let words = |text: &str| vec![text.to_owned()];
        let expected = Place { line: 5, target: words("M"), base: words("a 5"), branch: words("X") };
        assert_eq!((places[0].0.path.as_str(), &places[0].1), ("a", &vec![expected]));
        assert_eq!((places[1].0.kind, places[1].1.len()), (ConflictKind::ModifyDelete, 0));
        assert_eq!(fixture.open().conflict_places(&target, &target).unwrap(), Vec::new());
    }
}
