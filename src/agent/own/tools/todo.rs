//! TodoWrite: the list by which the model keeps track of its work, and people see how far it is.

use serde_json::Value;

use super::input::Input;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::agent::own) struct Todo {
    /// What.
    pub(in crate::agent::own) content: String,
    /// How far it is.
    pub(in crate::agent::own) status: TodoStatus,
}

/// How far a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::agent::own) enum TodoStatus {
    /// Not begun.
    Pending,
    /// Begun.
    InProgress,
    /// Done.
    Completed,
}

/// The list of a call.
pub(in crate::agent::own) fn read_todos(input: &Input<'_>) -> Result<Vec<Todo>, String> {
    let wrong =
        || "`todos` must be a list of {content, status}; status is pending, in_progress or completed".to_owned();
    let parsed: Value;
    let list = match input.field("todos") {
        // A list within quotes is meant as a list.
        Some(Value::String(text)) => {
            parsed = serde_json::from_str(text).map_err(|_| wrong())?;
            &parsed
        }
        Some(list) => list,
        None => return Err(wrong()),
    };
    list.as_array().ok_or_else(wrong)?.iter().map(|item| read_todo(item).ok_or_else(wrong)).collect()
}

/// One item.
fn read_todo(item: &Value) -> Option<Todo> {
    if let Value::String(content) = item {
        return Some(Todo { content: content.clone(), status: TodoStatus::Pending });
    }
    let content = item.get("content").or_else(|| item.get("task"))?.as_str()?.to_owned();
    let status = match item.get("status").and_then(Value::as_str).unwrap_or("pending") {
        "completed" | "done" => TodoStatus::Completed,
        "in_progress" => TodoStatus::InProgress,
        _ => TodoStatus::Pending,
    };
    Some(Todo { content, status })
}
