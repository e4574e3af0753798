//! Whether two texts say the same, but for what differs between any two runs of the same thing.

use std::sync::LazyLock;

use regex::Regex;

/// What stands for the working folder in texts that are compared or stored.
pub(super) const CWD: &str = "{cwd}";

/// Lines of each side that a difference shows.
const SHOWN_LINES: usize = 6;

/// Characters of a line that a difference shows.
const SHOWN_WIDTH: usize = 160;

/// What differs between two runs, and what stands for it: moments, durations, process numbers, ports, temporary files,
/// commit ids. In this order: each rule sees what those before it left.
const VOLATILE: [(&str, &str); 9] = [
    (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?([.,]\d+)?( ?(Z|[+-]\d\d:?\d\d))?", "{time}"),
    (
        r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun),? (\d{1,2} )?[A-Z][a-z]{2} ( ?\d{1,2} )?(\d\d:\d\d:\d\d )?\d{4}( \d\d:\d\d:\d\d)?( [+-]\d{4})?",
        "{time}",
    ),
    (r"\b(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) {1,2}\d{1,2} ( ?\d{4}|\d\d:\d\d(:\d\d)?)", "{time}"),
    (r"\b\d{1,2}:\d\d:\d\d([.,]\d+)?\b", "{time}"),
    (r"\b(\d+([.,]\d+)? ?(ns|µs|us|ms|s|sec|secs|seconds?|m|min|minutes?|h|hours?)\b ?)+", "{duration} "),
    (r"\b(?i:(pid|process))( |=|: ?)\d+", "$1 {pid}"),
    (r"(127\.0\.0\.1|localhost|\[::1\]):\d+", "$1:{port}"),
    (r"/tmp/[A-Za-z0-9._-]+", "{tmp}"),
    (r"\b[0-9a-f]{7,64}\b", "{hex}"),
];

/// The rules, compiled once.
static RULES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let compile = |(pattern, with)| (Regex::new(pattern).expect("the patterns are constants"), with);
    VOLATILE.into_iter().map(compile).collect()
});

/// A text with everything replaced that differs between runs. Space at the ends of lines does not count.
pub(super) fn normal(text: &str, cwd: &str) -> String {
    let mut text = with_placeholder(text, cwd, CWD);
    for (pattern, with) in RULES.iter() {
        text = pattern.replace_all(&text, *with).into_owned();
    }
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim_end().to_owned()
}

/// Replaces a folder by a placeholder wherever its path stands whole or begins a path.
pub(super) fn with_placeholder(text: &str, folder: &str, placeholder: &str) -> String {
    // The root folder, or none, is in every path.
    if folder.trim_matches('/').is_empty() {
        return text.to_owned();
    }
    let mut replaced = String::with_capacity(text.len());
    let mut copied = 0;
    for (at, _) in text.match_indices(folder) {
        let end = at + folder.len();
        let is_longer = text[end..].chars().next().is_some_and(|c| c.is_alphanumeric() || matches!(c, '-' | '_'));
        let is_inner =
            text[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'));
        if !is_longer && !is_inner {
            replaced.push_str(&text[copied..at]);
            replaced.push_str(placeholder);
            copied = end;
        }
    }
    replaced.push_str(&text[copied..]);
    replaced
}

/// The lines in which two texts differ, a few of each side, each line with an indentation of two.
pub(super) fn difference(recorded: &str, now: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (recorded.lines().collect(), now.lines().collect());
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[same..], &new[same..]);
    let tail = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    let side = |name: &str, lines: &[&str]| {
        let mut text = format!("  {name}, from line {}:\n", same + 1);
        if lines.is_empty() {
            text.push_str("    (nothing)\n");
        }
        for line in lines.iter().take(SHOWN_LINES) {
            let cut = if line.chars().count() > SHOWN_WIDTH { "…" } else { "" };
            text.push_str(&format!("    {}{cut}\n", line.chars().take(SHOWN_WIDTH).collect::<String>()));
        }
        if lines.len() > SHOWN_LINES {
            text.push_str(&format!("    … {}\n", crate::model::counted(lines.len() - SHOWN_LINES, "more line")));
        }
        text
    };
    let text = side("recorded", &old[..old.len() - tail]) + &side("now", &new[..new.len() - tail]);
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_between_runs_is_the_same() {
        for (one, other) in [
            ("Finished in 0.53s", "Finished in 12.1s"),
            ("took 1m 3s and 5 ms", "took 2h 4m and 900 ms"),
            ("[main 1a2b3c4] Add", "[main 99fe210] Add"),
            ("commit 3fa9c1d2e4b5a6978877665544332211ffeeddcc", "commit 0000000000000000000000000000000000000000"),
            ("at 2026-11-21T10:00:00.123Z end", "at 2027-01-02T11:12:13Z end"),
            ("Date:   Sat Nov 21 10:00:00 2026 +0100", "Date:   Fri Jan 2 09:10:11 2027 +0000"),
            ("-rw-r--r-- 1 a a 6 Nov 21 10:00 x", "-rw-r--r-- 1 a a 6 Jan  2  2027 x"),
            ("/work/one/src/a.rs:3: error", "/elsewhere/src/a.rs:3: error"),
            ("listening on 127.0.0.1:4711", "listening on 127.0.0.1:60001"),
            ("made /tmp/tmp.aB3dE", "made /tmp/tmp.Zz9xY"),
            ("pid 42 ended", "pid 4711 ended"),
            ("line \nend\n\n", "line\nend"),
        ] {
            assert_eq!(normal(one, "/work/one"), normal(other, "/elsewhere"), "{one}");
        }
    }

    #[test]
    fn content_is_not_volatile() {
        for (one, other) in [
            ("3 tests passed", "4 tests passed"),
            ("exit code 1", "exit code 2"),
            ("a.rs:10:5", "a.rs:11:5"),
            ("bolt 40", "bolt 35"),
            ("/work/one/a", "/work/one-more/a"),
            ("version 1.2.3", "version 1.2.4"),
            ("a\nb", "b\na"),
            ("  indented", "indented"),
            ("10 files", "20 files"),
        ] {
            assert_ne!(normal(one, "/work/one"), normal(other, "/work/one"), "{one}");
        }
    }

    #[test]
    fn only_whole_paths_are_replaced() {
        let replaced = |text: &str| with_placeholder(text, "/a/b", CWD);
        assert_eq!(replaced("/a/b /a/b/c '/a/b' /a/b."), "{cwd} {cwd}/c '{cwd}' {cwd}.");
        assert_eq!(replaced("/a/bc /a/b-2 /x/a/b ../a/b"), "/a/bc /a/b-2 /x/a/b ../a/b");
        assert_eq!(with_placeholder("/a", "/", CWD), "/a");
    }

    #[test]
    fn a_difference_shows_both_sides_and_no_more() {
        let many: String = (0..50).map(|line| format!("line {line}\n")).collect();
        let text = difference(&format!("same\nold\n{many}end"), "same\nnew\nend");
        assert_eq!(text.lines().count(), 1 + SHOWN_LINES + 1 + 2, "{text}");
        assert!(
            text.starts_with("  recorded, from line 2:\n    old\n") && text.ends_with("now, from line 2:\n    new")
        );
        assert!(difference("a", "a\nb").contains("recorded, from line 2:\n    (nothing)"));
    }
}
