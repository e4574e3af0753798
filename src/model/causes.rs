//! An error as text, with everything that led to it.

use std::error::Error;

/// The texts of an error and its causes, the outermost first; never empty. Some errors of libraries say their cause
/// themselves; it is not said again.
pub(crate) fn causes(error: &dyn Error) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !texts.last().is_some_and(|last| last.ends_with(&text)) {
            texts.push(text);
        }
        cause = error.source();
    }
    texts
}

/// An error with its causes in one line.
pub(crate) fn error_text(error: &dyn Error) -> String {
    causes(error).join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error with a cause.
    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Outer {
        text: &'static str,
        #[source]
        cause: Option<Box<Outer>>,
    }

    #[test]
    fn a_cause_is_said_once() {
        let chain = |texts: &[&'static str]| {
            let wrap = |cause: Option<Box<Outer>>, text: &&'static str| Some(Box::new(Outer { text, cause }));
            error_text(&*texts.iter().rev().fold(None, wrap).unwrap())
        };
        assert_eq!(chain(&["no server", "IO error: refused", "refused"]), "no server: IO error: refused");
        assert_eq!(chain(&["no server", "refused", "IO error"]), "no server: refused: IO error");
        assert_eq!(chain(&["alone"]), "alone");
    }
}
