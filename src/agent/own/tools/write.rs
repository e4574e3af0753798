//! Write: a whole file.

use super::input::Input;
use super::place::Place;
use crate::model::counted;

/// Does the call.
pub(super) fn write(place: &Place, input: &Input<'_>) -> Result<String, String> {
    let (named, content) = (input.text("file_path")?, input.text("content")?);
    let spot = place.to_write(named)?;
    let is_new = spot.open().is_ok_and(|file| file.is_none());
    spot.write(content.as_bytes())?;
    let did = if is_new { "Made" } else { "Replaced" };
    Ok(format!("{did} `{}` ({}).", spot.shown, counted(content.lines().count(), "line")))
}
