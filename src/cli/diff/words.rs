//! Which words of a line changed.

use std::ops::Range;

use similar::{Algorithm, DiffOp, capture_diff_slices};

/// Longest line whose words are compared, in bytes.
const LONGEST: usize = 1_000;
/// Part of a line's letters that must be the same for two lines to be versions of one another, in per cent.
const ALIKE: usize = 50;

/// What differs in a line.
pub(super) type Changed = Vec<Range<usize>>;

/// Finds which removed and added lines of one block are versions of one another, in order, and what changed in them.
/// Lines without a partner get nothing: they are new as a whole.
pub(super) fn compare_block(removed: &[&str], added: &[&str]) -> (Vec<Changed>, Vec<Changed>) {
    let mut old = vec![Changed::new(); removed.len()];
    let mut new = vec![Changed::new(); added.len()];
    let mut next = 0;
    for (at, line) in removed.iter().enumerate() {
        // Only a few are looked at, so that a long block costs no more than its lines.
        let near = added.iter().enumerate().skip(next).take(4);
        let found = near.filter_map(|(to, other)| compare(line, other).map(|pair| (to, pair))).next();
        if let Some((to, (before, after))) = found {
            (old[at], new[to]) = (before, after);
            next = to + 1;
        }
    }
    (old, new)
}

/// What changed between two lines; `None` when they are not alike.
fn compare(old: &str, new: &str) -> Option<(Changed, Changed)> {
    if old.len() > LONGEST || new.len() > LONGEST {
        return None;
    }
    let (before, after) = (words(old), words(new));
    let ops = capture_diff_slices(Algorithm::Myers, &before, &after);
    let letters = |words: &[&str]| words.iter().map(|word| word.trim().len()).sum::<usize>();
    let same: usize = ops
        .iter()
        .map(|op| {
            if let DiffOp::Equal { old_index, len, .. } = op {
                letters(&before[*old_index..old_index + len])
            } else {
                0
            }
        })
        .sum();
    let all = letters(&before).max(letters(&after));
    if same * 100 < all * ALIKE || all == 0 {
        return None;
    }
    let (mut removed, mut added) = (Changed::new(), Changed::new());
    for op in ops.iter().filter(|op| !matches!(op, DiffOp::Equal { .. })) {
        put(&mut removed, &before, op.old_range());
        put(&mut added, &after, op.new_range());
    }
    Some((removed, added))
}

/// Adds words as a range of bytes, joined with the one before where only white space is between.
fn put(changed: &mut Changed, words: &[&str], range: Range<usize>) {
    if range.is_empty() {
        return;
    }
    let start: usize = words[..range.start].iter().map(|word| word.len()).sum();
    let end = start + words[range].iter().map(|word| word.len()).sum::<usize>();
    changed.push(start..end);
}

/// A line in words, runs of white space and single other characters.
fn words(line: &str) -> Vec<&str> {
    let kind = |c: char| {
        if c.is_alphanumeric() || c == '_' {
            1
        } else if c.is_whitespace() {
            2
        } else {
            0
        }
    };
    let mut words = Vec::new();
    let mut start = 0;
    let mut last = None;
    for (at, letter) in line.char_indices() {
        let now = kind(letter);
        if last.is_some_and(|last| last != now || now == 0) {
            words.push(&line[start..at]);
            start = at;
        }
        last = Some(now);
    }
    if start < line.len() {
        words.push(&line[start..]);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The changed words of a line.
    fn of<'l>(line: &'l str, changed: &Changed) -> Vec<&'l str> {
        changed.iter().map(|range| &line[range.clone()]).collect()
    }

    #[test]
    fn only_the_words_that_differ_are_marked() {
        let (old, new) = ("let x = compute(first, 1);", "let x = compute(second_one, 1);");
        let (before, after) = compare_block(&[old], &[new]);
        assert_eq!((of(old, &before[0]), of(new, &after[0])), (vec!["first"], vec!["second_one"]));
    }

    #[test]
    fn lines_find_their_versions_and_others_stay_whole() {
        let (old, new) = (["    a(one, two);", "gone entirely"], ["// brand new remark", "    a(one, three);"]);
        let (before, after) = compare_block(&old, &new);
        assert_eq!(of(old[0], &before[0]), ["two"]);
        assert_eq!((before[1].len(), after[0].len()), (0, 0));
        assert_eq!(of(new[1], &after[1]), ["three"]);
        assert_eq!(compare_block(&["", "ä"], &["", "ü"]).0, [vec![], vec![]] as [Changed; 2]);
    }
}
