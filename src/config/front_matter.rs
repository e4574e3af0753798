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

/// Lines as one text.
fn body_of(lines: &[&str]) -> String {
    lines.join("\n").trim_end().to_owned()
}
