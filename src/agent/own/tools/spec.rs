//! The loop's own tools as the model gets to know them.

use serde_json::{Value, json};

use crate::llm::ToolSpec;

/// All of them.
pub(super) fn own() -> Vec<ToolSpec> {
    let text = |description: &str| json!({"type": "string", "description": description});
    let number = |description: &str| json!({"type": "integer", "minimum": 0, "description": description});
    let flag = |description: &str| json!({"type": "boolean", "description": description});
    let path = || text("Path of the file, from the working folder on or absolute.");
    vec![
        spec(
            "Read",
            "Reads a text file. Lines come with their numbers and a tab, which are not part of the file.",
            &json!({
                "file_path": path(),
                "offset": number("First line to read, from 1."),
                "limit": number("How many lines; 2000 where left out."),
            }),
            &["file_path"],
        ),
        spec(
            "Write",
            "Writes a whole file, and replaces one that is there. Folders are made. Prefer Edit for a change to a file.",
            &json!({"file_path": path(), "content": text("The whole content.")}),
            &["file_path", "content"],
        ),
        spec(
            "Edit",
            "Replaces one exact piece of a file. `old_string` must be in the file exactly once, with the same white \
             space, unless `replace_all` is set. Read the file first.",
            &json!({
                "file_path": path(),
                "old_string": text("The exact text to replace, without line numbers."),
                "new_string": text("What stands there afterwards."),
                "replace_all": flag("Replace every place."),
            }),
            &["file_path", "old_string", "new_string"],
        ),
        spec(
            "Bash",
            "Runs a shell command in the working folder, without input and without a terminal. Each call is a shell of \
             its own. Long output is cut in the middle. For a server or another program that does not end, set \
             `run_in_background` and read it with BashOutput.",
            &json!({
                "command": text("The command."),
                "timeout": number("Milliseconds it may take."),
                "run_in_background": flag("Return at once and let it run."),
                "description": text("What it does, in a few words."),
            }),
            &["command"],
        ),
        spec(
            "BashOutput",
            "Shows what a shell in the background wrote since the last look, and whether it still runs.",
            &json!({"bash_id": text("Its id, as Bash told it.")}),
            &["bash_id"],
        ),
        spec(
            "KillShell",
            "Ends a shell in the background and everything in it.",
            &json!({"shell_id": text("Its id, as Bash told it.")}),
            &["shell_id"],
        ),
        spec(
            "Glob",
            "Lists files whose path matches a pattern such as `src/**/*.rs`. Files that git ignores are left out.",
            &json!({"pattern": text("The pattern."), "path": text("Folder to look in; the working folder where left out.")}),
            &["pattern"],
        ),
        spec(
            "Grep",
            "Searches the content of files for a regular expression. Files that git ignores and binary files are left \
             out.",
            &json!({
                "pattern": text("A regular expression, in the syntax of ripgrep."),
                "path": text("File or folder to look in; the working folder where left out."),
                "glob": text("Only files whose path matches this pattern, such as `*.rs`."),
                "output_mode": {
                    "type": "string",
                    "enum": ["files_with_matches", "content", "count"],
                    "description": "Paths of files (default), lines with their numbers, or the number of lines in each file.",
                },
                "-i": flag("Ignore case."),
                "-A": number("Lines to show after each match."),
                "-B": number("Lines to show before each match."),
                "-C": number("Lines to show around each match."),
                "head_limit": number("Most lines or files to show."),
                "multiline": flag("Let the expression match over several lines."),
            }),
            &["pattern"],
        ),
        spec(
            "TodoWrite",
            "Keeps the list of what is to do in a longer task. Give the whole list each time; have exactly one thing in \
             progress.",
            &json!({"todos": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "content": text("What is to do."),
                        "status": {"type": "string", "enum": ["pending", "in_progress", "completed"]},
                    },
                    "required": ["content", "status"],
                },
            }}),
            &["todos"],
        ),
    ]
}

/// One tool.
fn spec(name: &str, description: &str, properties: &Value, required: &[&str]) -> ToolSpec {
    let parameters = json!({"type": "object", "properties": properties, "required": required});
    ToolSpec { name: name.to_owned(), description: description.to_owned(), parameters }
}
