//! The live file of a worker: small, replaced whole, read by every `status`.

use std::path::Path;

use super::StoreError;
use crate::files::{self, Access};
use crate::model::worker::Live;

/// Reads a live file; `None` when there is none yet.
///
/// # Errors
/// [`StoreError::Document`] when it is not ours or damaged; it is never partly written.
pub(crate) fn read_live(path: &Path) -> Result<Option<Live>, StoreError> {
    let Some(bytes) = files::read_if_exists(path)? else { return Ok(None) };
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|source| unreadable(path, source))
}

/// Replaces a live file; a reader sees the old or the new one.
pub(crate) fn write_live(path: &Path, live: &Live) -> Result<(), StoreError> {
    let bytes = serde_json::to_vec(live).map_err(|source| unreadable(path, source))?;
    Ok(files::write_atomically(path, &bytes, Access::Private)?)
}

/// The error of a live file that is not one.
fn unreadable(path: &Path, source: serde_json::Error) -> StoreError {
    StoreError::Document { what: "live file", name: path.display().to_string(), source }
}
