//! Markdown with a YAML part between two lines of dashes at its top.

use std::path::Path;
use std::sync::Arc;

use super::error::{Position, Problem};
use super::yaml::{Node, Source};

/// A markdown file in its parts.
#[derive(Debug)]
pub(super) struct FrontMatter {
    /// The whole file, for errors.
    pub(super) source: Arc<Source>,
    /// The YAML part; `None` when there is none.
    pub(super) head: Option<Node>,
    /// The rest with line ends as `\n`, without empty lines before and white space after it.
    pub(super) body: String,
    /// The line of the file on which `body` begins, from 1.
    pub(super) body_line: usize,
}

/// Takes a file apart. The YAML part begins on the first line that is not empty, if that is `---`, and ends
/// on the next line that is exactly `---`; later such lines belong to the body.
///
/// # Errors
/// When the YAML part has no end, or is not valid YAML.
pub(super) fn split(path: &Path, text: &str) -> Result<FrontMatter, Problem> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.iter().position(|line| !line.trim().is_empty()).unwrap_or(lines.len());
    if lines.get(first).is_none_or(|line| line.trim_end() != "---") {
        let source = Source::part(path, text.clone(), String::new());
        return Ok(FrontMatter { source, head: None, body: body_of(&lines[first..]), body_line: first + 1 });
    }
    let Some(length) = lines[first + 1..].iter().position(|line| line.trim_end() == "---") else {
        let position = Position { line: first + 1, column: 1 };
        let problem = Problem::in_file(path.display().to_string(), "the part that begins here has no end");
        return Err(problem.at(position, &text).with_hint("end it with a line `---`"));
    };
    let end = first + 1 + length;
    let yaml = format!("{}{}\n", "\n".repeat(first + 1), lines[first + 1..end].join("\n"));
    let source = Source::part(path, text.clone(), yaml);
    let head = source.parse()?;
    let rest = &lines[end + 1..];
    let empty = rest.iter().take_while(|line| line.trim().is_empty()).count();
    Ok(FrontMatter { source, head: Some(head), body: body_of(&rest[empty..]), body_line: end + 2 + empty })
}

/// Like [`split`], for files that other programs read less strictly: if the YAML part is not valid, each line
/// `key: text` of it counts as it stands, whatever YAML makes of a `: ` or `#` in the text. Descriptions of
/// Claude Code's agents are often written so.
pub(super) fn split_leniently(path: &Path, text: &str) -> Result<FrontMatter, Problem> {
    let strict = split(path, text);
    let Err(problem) = strict else {
        return strict;
    };
    let quoted = quote_values(text);
    match split(path, &quoted) {
        Ok(parts) => Ok(parts),
        // The person wrote the other text; its fault is the one to show.
        Err(_) => Err(problem),
    }
}

/// Puts the values of the top-level keys of the YAML part in quotes where they are plain text.
fn quote_values(text: &str) -> String {
    let mut fences = 0;
    let mut quoted = String::new();
    for line in text.lines() {
        fences += usize::from(line.trim_end() == "---");
        match line.split_once(": ") {
            Some((key, value)) if fences == 1 && is_plain(key, value.trim()) => {
                quoted.push_str(&format!("{key}: {}", serde_json::Value::from(value.trim())));
            }
            _ => quoted.push_str(line),
        }
        quoted.push('\n');
    }
    quoted
}

/// Whether a line is a key with a text that YAML would read as a plain one, if it could.
fn is_plain(key: &str, value: &str) -> bool {
    let is_key = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    is_key && !value.starts_with(['"', '\'', '[', '{', '|', '>', '&', '*', '!', '#']) && !value.is_empty()
}

/// Lines as one text.
fn body_of(lines: &[&str]) -> String {
    lines.join("\n").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_with_colons_is_read_as_it_stands() {
        let text =
            "---\nname: r\ndescription: Use when: asked # \"always\"\\n\\nExample: x\ntools: [a]\n---\nBody: x\n---\n";
        let parts = split_leniently(Path::new("a.md"), text).unwrap();
        let head = parts.head.unwrap();
        let description = head.get("description").and_then(Node::text).unwrap();
        assert_eq!(description, "Use when: asked # \"always\"\\n\\nExample: x");
        assert!(head.get("tools").unwrap().item(0).is_some());
        assert_eq!(parts.body, "Body: x\n---");
    }

    #[test]
    fn what_cannot_be_read_leniently_either_shows_its_own_fault() {
        let error = split_leniently(Path::new("a.md"), "---\na: b: c\nd: [\n---\n").unwrap_err();
        assert_eq!(error.position, Some(Position { line: 2, column: 5 }));
        assert_eq!(error.snippet.as_deref().unwrap().lines().nth(1), Some("2 | a: b: c"));
    }
}
