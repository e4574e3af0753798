//! Permission rules in Claude Code's syntax: `Bash`, `Bash(git push*)`, `Bash(git push:*)`, `Read(.env)`.

use serde_json::Value;

/// Whether `rule` speaks of this call. A shell command is covered when one of its parts is.
pub(in crate::agent) fn covers(rule: &str, tool: &str, input: &Value) -> bool {
    let rule = rule.trim();
    let Some((name, pattern)) = rule.strip_suffix(')').and_then(|rule| rule.split_once('(')) else {
        return rule == tool || is_server_of(rule, tool);
    };
    if name != tool {
        return false;
    }
    let pattern = pattern.trim();
    if pattern.is_empty() || pattern == "*" {
        return true;
    }
    let text = |field: &str| input.get(field).and_then(Value::as_str);
    if let Some(command) = text("command") {
        return parts(command).any(|part| covers_command(pattern, part)) || covers_command(pattern, command.trim());
    }
    let named = ["file_path", "notebook_path", "path", "url"].into_iter().find_map(text);
    named.is_some_and(|named| path_matches(pattern, named))
}

/// Whether the pattern of a shell rule stands for this one command. A pattern that ends in ` *` also stands for the
/// command without arguments.
pub(in crate::agent) fn covers_command(pattern: &str, command: &str) -> bool {
    let pattern = pattern.strip_suffix(":*").map_or_else(|| pattern.to_owned(), |prefix| format!("{prefix}*"));
    matches(&pattern, command) || pattern.strip_suffix(" *").is_some_and(|bare| matches(bare, command))
}

/// Whether a rule `mcp__server` names the server of a tool `mcp__server__tool`.
fn is_server_of(rule: &str, tool: &str) -> bool {
    rule.starts_with("mcp__") && tool.strip_prefix(rule).is_some_and(|rest| rest.starts_with("__"))
}

/// The commands a shell text consists of, roughly: quotes are not read, so that a part is rather found twice than
/// missed.
fn parts(command: &str) -> impl Iterator<Item = &str> {
    command.split(['\n', ';', '|', '&', '(', ')', '{', '}', '`']).map(str::trim).filter(|part| !part.is_empty())
}

/// Whether a path rule covers `named`: the whole path, or its end from some folder on.
fn path_matches(pattern: &str, named: &str) -> bool {
    let pattern = pattern
        .strip_prefix("//")
        .map_or_else(|| pattern.trim_start_matches("./").to_owned(), |absolute| format!("/{absolute}"));
    let ends = named.match_indices('/').map(|(at, _)| &named[at + 1..]);
    std::iter::once(named).chain(ends).any(|end| matches(&pattern, end) || matches(&pattern, &format!("/{end}")))
}

/// Whether `text` is `pattern`, where `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = pieces.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else { return rest.is_empty() };
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}
