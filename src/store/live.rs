//! The live file of a worker: small, replaced whole, read by every `status`.
//!
//! A heartbeat that says nothing new only sets when the file was changed: to make a file and throw the old one away costs
//! the file system more than all else that hundreds of supervisors at rest do.

use std::path::Path;

use super::StoreError;
use crate::files::{self, Access};
use crate::model::Time;
use crate::model::worker::Live;

/// Reads a live file; `None` when there is none yet.
///
/// # Errors
/// [`StoreError::Document`] when it is not ours or damaged; it is never partly written.
pub(crate) fn read_live(path: &Path) -> Result<Option<Live>, StoreError> {
    let Some((bytes, changed)) = files::read_with_change(path)? else { return Ok(None) };
    let mut live: Live = serde_json::from_slice(&bytes).map_err(|source| unreadable(path, source))?;
    live.beat_again(Time::from(changed));
    Ok(Some(live))
}

/// Says that what a live file says still holds.
pub(crate) fn touch_live(path: &Path, at: Time) -> Result<(), StoreError> {
    Ok(files::touch(path, at.into())?)
}

/// Replaces a live file; a reader sees the old or the new one.
pub(crate) fn write_live(path: &Path, live: &Live) -> Result<(), StoreError> {
    let bytes = serde_json::to_vec(live).map_err(|source| unreadable(path, source))?;
    files::write_atomically(path, &bytes, Access::Private)?;
    // The file system has a clock of its own, and may keep it less exactly.
    touch_live(path, live.heartbeat_at)
}

/// The error of a live file that is not one.
fn unreadable(path: &Path, source: serde_json::Error) -> StoreError {
    StoreError::Document { what: "live file", name: path.display().to_string(), source }
}
