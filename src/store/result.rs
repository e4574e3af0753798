//! What a finished attempt came to, in a few words of its agent: for the review, and for tickets that depend on it.

use std::path::Path;

use super::StoreError;
use crate::files::{self, Access};
use crate::model::cut;

/// Bytes of a result that are kept: an answer, not a transcript.
const KEPT: usize = 64 * 1024;

/// The result; `None` where the attempt left none, or none was kept.
pub(crate) fn read_result(path: &Path) -> Result<Option<String>, StoreError> {
    let bytes = files::read_if_exists(path)?.unwrap_or_default();
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()).filter(|text| !text.is_empty()))
}

/// Replaces the result by a text, as it is kept.
pub(crate) fn write_result(path: &Path, text: &str) -> Result<(), StoreError> {
    Ok(files::write_atomically(path, as_result(text).as_bytes(), Access::Private)?)
}

/// A text as a result is kept: without what would steer a terminal, and not too long.
pub(crate) fn as_result(text: &str) -> String {
    let plain: String = text.trim().chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
    cut(&plain, KEPT).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_kept_as_plain_text_of_bounded_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result.md");
        assert_eq!(read_result(&path).unwrap(), None);
        write_result(&path, "\n one\r\n\ttwo \u{1b}[31mred\u{7}\0\n").unwrap();
        assert_eq!(read_result(&path).unwrap().as_deref(), Some("one\n\ttwo [31mred"));
        write_result(&path, &"ü".repeat(KEPT)).unwrap();
        assert_eq!(read_result(&path).unwrap().unwrap().len(), KEPT);
        write_result(&path, " \n").unwrap();
        assert_eq!(read_result(&path).unwrap(), None);
    }
}
