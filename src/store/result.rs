//! What a finished attempt came to, in a few words of its agent: for the review, and for tickets that depend on it.

use std::path::Path;

use super::StoreError;
use crate::files::{self, Access};
use crate::model::cut;

/// Bytes of a result that are kept: an answer, not a transcript.
pub(crate) const RESULT_KEPT: usize = 64 * 1024;

/// The result; `None` where the attempt left none, or none was kept.
pub(crate) fn read_result(path: &Path) -> Result<Option<String>, StoreError> {
    let bytes = files::read_if_exists(path)?.unwrap_or_default();
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()).filter(|text| !text.is_empty()))
}

/// Replaces the result by a text, without what would steer a terminal, and not longer than is kept.
pub(crate) fn write_result(path: &Path, text: &str) -> Result<(), StoreError> {
    let plain: String = text.trim().chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
    let kept = cut(&plain, RESULT_KEPT);
    Ok(files::write_atomically(path, kept.as_bytes(), Access::Private)?)
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
        write_result(&path, &"ü".repeat(RESULT_KEPT)).unwrap();
        assert_eq!(read_result(&path).unwrap().unwrap().len(), RESULT_KEPT);
        write_result(&path, " \n").unwrap();
        assert_eq!(read_result(&path).unwrap(), None);
    }
}
