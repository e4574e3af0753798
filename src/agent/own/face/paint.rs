//! Calls, results and messages as lines for people.

use std::path::Path;

use crate::agent::display::{call as call_line, one_line, plain, subject};
use crate::agent::own::tools::{Call, Input, Output, Todo, TodoStatus, read_todos};
use crate::model::counted;
use crate::model::tool_call::ToolOutcome;

/// Lines of a shell's output, of a change or of a written file that are shown.
const LINES: usize = 8;
/// Longest line, in characters.
const WIDTH: usize = 160;

/// Colours and weights of text (ECMA-48, section 8.3.117), or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::agent::own) struct Style {
    /// Whether there are any.
    pub(in crate::agent::own) is_coloured: bool,
}

/// A way to paint.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ink {
    /// Of less weight.
    Dim,
    /// What a person said.
    Person,
    /// A tool.
    Tool,
    /// Good, or added.
    Green,
    /// Bad, or removed.
    Red,
    /// To be noticed.
    Yellow,
}

impl Style {
    /// A text in an ink.
    pub(super) fn paint(self, ink: Ink, text: &str) -> String {
        if !self.is_coloured || text.is_empty() {
            return text.to_owned();
        }
        format!("{}{text}\x1b[0m", self.begin(ink))
    }

    /// The code that begins an ink.
    pub(super) fn begin(self, ink: Ink) -> &'static str {
        if !self.is_coloured {
            return "";
        }
        match ink {
            Ink::Dim => "\x1b[2m",
            Ink::Person => "\x1b[1m",
            Ink::Tool => "\x1b[36m",
            Ink::Green => "\x1b[32m",
            Ink::Red => "\x1b[31m",
            Ink::Yellow => "\x1b[33m",
        }
    }

    /// The code that ends every ink.
    pub(super) fn end(self) -> &'static str {
        if self.is_coloured { "\x1b[0m" } else { "" }
    }

    /// A call that begins.
    pub(super) fn call(self, call: &Call, worktree: &Path) -> Vec<String> {
        // The list is shown when it is taken.
        let shown = if call.tool == "TodoWrite" { &serde_json::Value::Null } else { &call.input };
        let mut lines = vec![self.paint(Ink::Tool, &call_line(&call.tool, shown, worktree, false))];
        let input = Input::new(&call.input);
        match call.tool.as_str() {
            "Edit" => {
                lines.extend(self.some(input.optional_text("old_string").unwrap_or(""), "   - ", Ink::Red, LINES));
                lines.extend(self.some(input.optional_text("new_string").unwrap_or(""), "   + ", Ink::Green, LINES));
            }
            "Bash" => {
                let more = input.optional_text("command").unwrap_or("").lines().skip(1).collect::<Vec<_>>().join("\n");
                lines.extend(self.some(&more, "      ", Ink::Tool, LINES));
            }
            _ => {}
        }
        lines
    }

    /// A call that ended.
    pub(super) fn result(self, call: &Call, output: &Output) -> Vec<String> {
        let count = output.text.lines().count();
        match (output.outcome, call.tool.as_str()) {
            (ToolOutcome::Ok, "TodoWrite") => self.todos(&read_todos(&Input::new(&call.input)).unwrap_or_default()),
            (ToolOutcome::Ok, "Read" | "Glob" | "Grep") if count > 1 => {
                vec![self.paint(Ink::Dim, &format!("   {count} lines"))]
            }
            (ToolOutcome::Ok, _) => self.last(&output.text, Ink::Dim),
            (ToolOutcome::Denied, _) => {
                vec![self.paint(Ink::Red, &format!("   denied: {}", one_line(&output.text, WIDTH)))]
            }
            (ToolOutcome::Error, "Bash" | "BashOutput") => self.last(&output.text, Ink::Red),
            (outcome, _) => {
                let word = if outcome == ToolOutcome::Interrupted { "interrupted" } else { "error" };
                vec![self.paint(Ink::Red, &format!("   {word}: {}", one_line(&output.text, WIDTH)))]
            }
        }
    }

    /// A list of what is to do.
    pub(super) fn todos(self, todos: &[Todo]) -> Vec<String> {
        let line = |todo: &Todo| {
            let content = one_line(&todo.content, WIDTH);
            match todo.status {
                TodoStatus::Pending => format!("   [ ] {content}"),
                TodoStatus::InProgress => self.paint(Ink::Yellow, &format!("   [>] {content}")),
                TodoStatus::Completed => self.paint(Ink::Dim, &format!("   [x] {content}")),
            }
        };
        todos.iter().map(line).collect()
    }

    /// What a question asks.
    pub(super) fn question(self, call: &Call) -> String {
        let what = format!("{} {}", plain(&call.tool), subject(&call.input));
        self.paint(Ink::Yellow, &format!("Allow {}? [y] yes  [a] always  [n] no", what.trim_end()))
    }

    /// The first lines of a text, each behind a mark.
    fn some(self, text: &str, mark: &str, ink: Ink, limit: usize) -> Vec<String> {
        let mut lines: Vec<String> =
            text.lines().take(limit).map(|line| self.paint(ink, &format!("{mark}{}", cut(line)))).collect();
        let more = text.lines().count().saturating_sub(limit);
        if more > 0 {
            lines.push(self.paint(Ink::Dim, &format!("     ... {} more", counted(more, "line"))));
        }
        lines
    }

    /// The last lines of a text.
    fn last(self, text: &str, ink: Ink) -> Vec<String> {
        let all: Vec<&str> = text.trim_end().lines().collect();
        let skipped = all.len().saturating_sub(LINES);
        let mut lines = Vec::new();
        if skipped > 0 {
            lines.push(self.paint(Ink::Dim, &format!("   ... {} before", counted(skipped, "line"))));
        }
        lines.extend(all[skipped..].iter().map(|line| self.paint(ink, &format!("   {}", cut(line)))));
        lines
    }
}

/// A line that cannot steer a terminal, of bounded length.
fn cut(line: &str) -> String {
    let line = plain(line);
    let shown: String = line.chars().take(WIDTH).collect();
    if shown.len() < line.len() { format!("{shown} ...") } else { shown }
}

/// Names with their values, below each other.
pub(super) fn figures(pairs: &[(&str, String)]) -> Vec<String> {
    pairs.iter().map(|(name, value)| format!("   {name:<12} {value}")).collect()
}
