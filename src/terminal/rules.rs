//! Screen rules: data that says what a program's screen means, so that no phrase of any program stands in code.

use serde::{Deserialize, Serialize};

use crate::model::worker::Status;

/// What texts near the bottom of a screen say about the program. A rule is weak evidence: it is asked only after
/// hooks, streams and status files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScreenRule {
    /// Names the rule in evidence.
    pub(crate) id: String,
    /// The status it speaks for.
    pub(crate) status: Status,
    /// What to tell a person, in one clause.
    pub(crate) what: String,
    /// Texts that must all be on the screen; runs of white space count as one blank.
    #[serde(rename = "match")]
    pub(crate) all: Vec<String>,
    /// Texts of which at least one must be there, unless the list is empty.
    #[serde(default)]
    pub(crate) any: Vec<String>,
    /// Texts that must not be there.
    #[serde(default)]
    pub(crate) none: Vec<String>,
    /// Whether nothing but the screen tells this, so that a person is to read it as the reason of the status.
    #[serde(default, rename = "news")]
    pub(crate) is_news: bool,
    /// Whether it says that the provider wants to be left alone.
    #[serde(default, rename = "patience")]
    pub(crate) asks_patience: bool,
    /// How many of the last lines are looked at; trailing blank lines do not count.
    #[serde(default = "default_lines")]
    pub(crate) lines: usize,
}

/// Enough for a dialog with its question and choices.
fn default_lines() -> usize {
    15
}

impl ScreenRule {
    /// Whether the rule holds for a screen's lines, top to bottom. A rule without any text to find holds never.
    pub(crate) fn holds(&self, lines: &[String]) -> bool {
        if self.all.is_empty() && self.any.is_empty() {
            return false;
        }
        let end = lines.iter().rposition(|line| !line.trim().is_empty()).map_or(0, |last| last + 1);
        let shown = squeezed(&lines[end.saturating_sub(self.lines)..end].join("\n"));
        let has = |text: &String| shown.contains(&squeezed(text));
        self.all.iter().all(has) && (self.any.is_empty() || self.any.iter().any(has)) && !self.none.iter().any(has)
    }
}

/// The first rule that holds.
pub(crate) fn matching_rule<'a>(rules: &'a [ScreenRule], lines: &[String]) -> Option<&'a ScreenRule> {
    rules.iter().find(|rule| rule.holds(lines))
}

/// Text with every run of white space as one blank, because programs pad and wrap as they like.
fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Vec<ScreenRule> {
        let rules = serde_json::json!([
            {"id": "permission", "status": "waiting", "what": "permission", "match": ["❯ 1. Yes", "Esc to cancel"],
             "any": ["Do you want to proceed?", "Do you want to create"]},
            {"id": "busy", "status": "working", "what": "a turn runs", "match": ["esc to interrupt"], "lines": 2},
            {"id": "idle", "status": "idle", "what": "at its prompt", "match": ["❯"], "none": ["esc to interrupt"]},
        ]);
        serde_json::from_value(rules).unwrap()
    }

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn sample_screens_are_told_apart() {
        let rules = rules();
        let found = |text: &str| matching_rule(&rules, &lines(text)).map(|rule| rule.id.as_str());
        let dialog = "⏺ Bash(ls)\n\n Do you want  to\n proceed?\n ❯ 1. Yes\n   2. No\n\n Esc to cancel\n\n\n";
        assert_eq!(found(dialog), Some("permission"));
        assert_eq!(found("✻ Whisking… (6s)\n\n❯ \n  ⏸ manual mode on · esc to interrupt\n\n"), Some("busy"));
        assert_eq!(found("✻ Brewed for 1s\n❯ \n"), Some("idle"));
        assert_eq!(found("$ make\n"), None);
        assert_eq!(found(""), None);
    }

    #[test]
    fn text_further_up_than_the_rule_looks_does_not_count() {
        let rules = rules();
        let screen = lines("esc to interrupt\nmore\nand more\n❯");
        assert!(!rules[1].holds(&screen));
        let none: ScreenRule =
            serde_json::from_value(serde_json::json!({"id": "x", "status": "idle", "what": "", "match": []})).unwrap();
        assert!(!none.holds(&screen));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let rule = serde_json::json!({"id": "x", "status": "idle", "what": "", "match": ["a"], "regex": "b"});
        assert!(serde_json::from_value::<ScreenRule>(rule).is_err());
    }
}
