//! How differences look.

use std::time::Instant;

use unicode_width::UnicodeWidthStr;

use super::*;

/// A patch of one file.
fn patch(name: &str, hunk: &str) -> String {
    format!("diff --git a/{name} b/{name}\nindex 1..2 100644\n--- a/{name}\n+++ b/{name}\n{hunk}")
}

/// A rendered text without its colours.
fn bare(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("\x1b[") {
        out.push_str(&rest[..at]);
        let end = rest[at..].find('m').unwrap();
        rest = &rest[at + end + 1..];
    }
    out + rest
}

#[test]
fn code_is_coloured_and_changed_words_are_marked() {
    let text = patch("a.rs", "@@ -1,3 +1,3 @@ fn x()\n let a = 1;\n-call(one, \"t\");\n+call(two, \"t\");\n // end\n");
    let shown = render_patch(&text, None);
    assert_eq!(bare(&shown), text, "nothing but colours is added");
    assert!(shown.contains("\x1b[35mlet\x1b[0m"), "{shown:?}");
    assert!(shown.contains("\x1b[7;31mone\x1b[0m") && shown.contains("\x1b[7;32mtwo\x1b[0m"), "{shown:?}");
    assert!(shown.contains("\x1b[33m\"t\"\x1b[0m") && shown.contains("\x1b[90m// end\x1b[0m"), "{shown:?}");
    assert!(shown.contains("\x1b[36m@@ -1,3 +1,3 @@\x1b[0m fn x()"), "{shown:?}");
}

#[test]
fn no_line_is_wider_than_the_terminal_and_nothing_of_it_is_lost() {
    let long = format!("{}\t日本{}", "a ".repeat(60), "z".repeat(100));
    let text = patch("x", &format!("@@ -1 +1 @@\n-{long}\n+{long}!\n"));
    let shown = bare(&render_patch(&text, Some(80)));
    assert!(shown.lines().all(|line| line.width() <= 80), "{shown}");
    let joined: String = shown.lines().skip(5).filter(|line| !line.starts_with('+')).map(|line| &line[1..]).collect();
    assert!(joined.starts_with(&"a ".repeat(60)) && joined.contains("日本"), "{joined}");
}

#[test]
fn control_characters_of_the_work_cannot_move_the_cursor() {
    let text = patch("x", "@@ -0,0 +1,2 @@\n+a\x1b[2Jb\r\n+c\u{9b}d\u{202e}\n\\ No newline at end of file\n");
    let shown = bare(&render_patch(&text, Some(80)));
    assert!(shown.contains("+a^[[2Jb^M\n+c\u{fffd}d\u{fffd}\n\\ No newline at end of file\n"), "{shown:?}");
}

#[test]
fn binary_files_renames_and_modes_keep_their_header() {
    let text = "diff --git a/x.png b/x.png\nindex 1..2 100644\nBinary files a/x.png and b/x.png differ\n\
                diff --git a/a b/c\nsimilarity index 100%\nrename from a\nrename to c\n";
    assert_eq!(bare(&render_patch(text, Some(80))), text);
}

#[test]
fn two_thousand_lines_take_a_moment() {
    let lines: String = (0..1000).map(|n| format!("-    let value_{n} = compute(\"text {n}\", {n}); // why\n+    let value_{n} = compute_all(\"text {n}\", {n}); // why not\n")).collect();
    let text = patch("a.rs", &format!("@@ -1,1000 +1,1000 @@\n{lines}"));
    let begun = Instant::now();
    assert!(render_patch(&text, Some(120)).len() > text.len());
    // A debug build on a busy machine; a release build takes a twentieth of it.
    assert!(begun.elapsed().as_millis() < 3000, "{:?}", begun.elapsed());
}
