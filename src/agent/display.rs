//! Tool calls and messages as short lines for people.

use std::path::Path;

use serde_json::Value;

/// Longest subject of a call that is shown, in characters.
const SUBJECT_LIMIT: usize = 160;

/// What a call is about, in one line: the command, the path, the question.
pub(super) fn subject(input: &Value) -> String {
    let text = |field: &str| input.get(field).and_then(Value::as_str).filter(|text| !text.trim().is_empty());
    let named = ["command", "file_path", "notebook_path", "pattern", "url", "query", "description", "skill", "path"];
    let subject = named.into_iter().find_map(text).map(ToOwned::to_owned);
    let subject = subject.unwrap_or_else(|| match input {
        Value::Object(fields) if fields.is_empty() => String::new(),
        Value::Null => String::new(),
        other => other.to_string(),
    });
    one_line(&subject, SUBJECT_LIMIT)
}

/// A call that begins: `-> Bash cargo test`. Paths in `worktree` are shown from there.
pub(super) fn call(tool: &str, input: &Value, worktree: &Path, is_nested: bool) -> String {
    let subject = subject(input);
    let root = format!("{}/", worktree.display());
    let subject = subject.strip_prefix(&root).unwrap_or(&subject);
    let indent = if is_nested { "  " } else { "" };
    format!("{indent}-> {} {subject}", plain(tool)).trim_end().to_owned()
}

/// A failure of a call, under its line.
pub(super) fn failure(word: &str, error: &str, is_nested: bool) -> String {
    let indent = if is_nested { "  " } else { "" };
    format!("{indent}   {word}: {}", one_line(error, SUBJECT_LIMIT))
}

/// The lines of a message.
pub(super) fn message(text: &str, is_nested: bool) -> Vec<String> {
    let indent = if is_nested { "  " } else { "" };
    text.trim_end().lines().map(|line| format!("{indent}{}", plain(line))).collect()
}

/// A text on one line of bounded length.
pub(super) fn one_line(text: &str, limit: usize) -> String {
    let text = text.trim();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = plain(lines.next().unwrap_or(""));
    let is_cut = lines.next().is_some() || first.chars().count() > limit;
    let shown: String = first.chars().take(limit).collect();
    if is_cut { format!("{shown} ...") } else { shown }
}

/// A text that cannot steer a terminal: what a model or a tool wrote is not to be trusted with escape codes.
pub(super) fn plain(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control() || *letter == '\t').collect()
}

/// Output of a program without the codes by which it colours and steers a terminal; line ends and tabs stay, and of
/// what was overwritten by a carriage return the last state stays.
pub(super) fn without_codes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\x1b' => skip_code(&mut letters),
            '\r' if letters.peek() == Some(&'\n') => {}
            '\r' => plain.truncate(plain.rfind('\n').map_or(0, |at| at + 1)),
            '\n' | '\t' => plain.push(letter),
            letter if letter.is_control() => {}
            letter => plain.push(letter),
        }
    }
    plain
}

/// Passes over what follows an escape character (ECMA-48, sections 5.4 and 5.6).
fn skip_code(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match letters.next() {
        Some('[') => while letters.next().is_some_and(|letter| !('@'..='~').contains(&letter)) {},
        Some(']' | 'P' | '_' | '^' | 'X') => {
            while let Some(letter) = letters.next() {
                if letter == '\x07' || (letter == '\x1b' && letters.next_if_eq(&'\\').is_some()) {
                    return;
                }
            }
        }
        Some('(' | ')' | '#') => drop(letters.next()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_call_is_one_short_line() {
        let root = Path::new("/w");
        assert_eq!(call("Bash", &json!({"command": "cargo test\nls"}), root, false), "-> Bash cargo test ...");
        assert_eq!(call("Edit", &json!({"file_path": "/w/src/a.rs"}), root, true), "  -> Edit src/a.rs");
        assert_eq!(call("Read", &json!({"file_path": "/etc/x"}), root, false), "-> Read /etc/x");
        assert_eq!(call("TaskList", &json!({}), root, false), "-> TaskList");
        let long = call("Bash", &json!({"command": "x".repeat(999)}), root, false);
        assert!(long.len() < 200 && long.ends_with(" ..."));
    }

    #[test]
    fn output_loses_its_codes_and_what_was_overwritten() {
        assert_eq!(without_codes("\x1b[1;31mred\x1b[0m\r\n\x1b]0;title\x07a\tb"), "red\na\tb");
        assert_eq!(without_codes("x\n 10%\r100%\ndone\x1b(B\x08"), "x\n100%\ndone");
        assert_eq!(without_codes("cut \x1b["), "cut ");
    }

    #[test]
    fn escape_codes_of_a_model_reach_no_terminal() {
        assert_eq!(message("a\x1b[2Jb\r\n\tc\n", false), ["a[2Jb", "\tc"]);
        assert_eq!(call("B\x07", &json!({"command": "\x1b]0;x\x07"}), Path::new("/w"), false), "-> B ]0;x");
    }
}
