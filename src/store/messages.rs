//! Messages on their way to a worker's agent: whoever sent one was told that it will arrive, so it outlives the
//! supervisor that took it.

use std::path::Path;

use super::StoreError;
use crate::files::{self, Access};

/// The messages that have not reached the agent, oldest first; none when there is no file.
///
/// # Errors
/// [`StoreError::Document`] when the file is not ours or damaged; it is never partly written.
pub(crate) fn read_messages(path: &Path) -> Result<Vec<String>, StoreError> {
    let Some(bytes) = files::read_if_exists(path)? else { return Ok(Vec::new()) };
    serde_json::from_slice(&bytes).map_err(|source| unreadable(path, source))
}

/// Replaces the messages; no file is left where there are none.
pub(crate) fn write_messages(path: &Path, messages: &[String]) -> Result<(), StoreError> {
    if messages.is_empty() {
        return Ok(files::remove_if_exists(path)?);
    }
    let bytes = serde_json::to_vec(messages).map_err(|source| unreadable(path, source))?;
    Ok(files::write_atomically(path, &bytes, Access::Private)?)
}

/// The error of a file that does not hold messages.
fn unreadable(path: &Path, source: serde_json::Error) -> StoreError {
    StoreError::Document { what: "list of messages", name: path.display().to_string(), source }
}
