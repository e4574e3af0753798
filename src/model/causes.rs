//! An error as text, with everything that led to it.

use std::error::Error;

/// The texts of an error and its causes, the outermost first; never empty.
pub(crate) fn causes(error: &dyn Error) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        texts.push(error.to_string());
        cause = error.source();
    }
    texts
}

/// An error with its causes in one line.
pub(crate) fn error_text(error: &dyn Error) -> String {
    causes(error).join(": ")
}
