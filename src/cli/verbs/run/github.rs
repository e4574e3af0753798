//! What GitHub Actions shows of a run: annotations on the tickets' files, and a summary of the step.
//!
//! A line of output that begins with `::` is a command to the runner. What agents and programs print gets into our
//! output, so commands are switched off with a word that nobody can guess while it does (`::stop-commands::`, "Workflow
//! commands for GitHub Actions"), and on again for the annotations.

use std::fmt::Write as _;

use super::report::{Report, Verdict};
use crate::cli::output::{one_line, visible};
use crate::model::duration_text;

/// A summary may have 1 MiB; rows beyond this are counted instead.
const SUMMARY_BYTES: usize = 900_000;

/// The word that switches commands on again.
pub(super) struct Silence(String);

impl Silence {
    /// Begins to take no line for a command; the line that says so comes with it.
    pub(super) fn begin() -> (Self, String) {
        let word = uuid::Uuid::new_v4().to_string();
        let line = format!("::stop-commands::{word}");
        (Self(word), line)
    }

    /// The line that ends it.
    pub(super) fn end(self) -> String {
        format!("::{}::", self.0)
    }
}

/// A command for each ticket that did not reach its end, and one for the run where it never began.
pub(super) fn annotations(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    for case in &report.cases {
        let Some(why) = case.verdict.why() else { continue };
        let level = match case.verdict {
            Verdict::Failed(_) | Verdict::Unfinished(_) => "error",
            Verdict::NotStarted(_) | Verdict::Made => "warning",
        };
        let file = case.file.as_deref().map(|file| format!("file={},line=1,", property(file))).unwrap_or_default();
        let title = property(&format!("{} {}", case.ticket, case.verdict.word()));
        lines.push(format!("::{level} {file}title={title}::{}", data(&format!("{}: {why}", case.title))));
    }
    lines.extend(report.broken.as_ref().map(|text| format!("::error title=swarm run::{}", data(text))));
    lines
}

/// Text after `::`, escaped as the runner unescapes it (`%`, CR and LF).
fn data(text: &str) -> String {
    visible(text, false).replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Text of a property: also `:` and `,` mean something there.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// The summary in Markdown.
pub(super) fn summary(report: &Report) -> String {
    let mut text = format!("### swarm run: {}\n\n", markdown(&report.why));
    if let Some(broken) = &report.broken {
        push(&mut text, format_args!("{}\n\n", markdown(broken)));
    }
    if !report.cases.is_empty() {
        text.push_str("| Ticket | | Title | Time | Attempts | Cost | Why |\n|---|---|---|---|---|---|---|\n");
    }
    // What went wrong first: who reads this looks for it.
    let mut cases: Vec<_> = report.cases.iter().collect();
    cases.sort_by_key(|case| case.verdict == Verdict::Made);
    for (number, case) in cases.iter().enumerate() {
        let row = format!(
            "| {} | {} | {} | {} | {} | {} | {} |\n",
            markdown(&case.ticket),
            case.verdict.word(),
            markdown(&case.title),
            case.took.map_or("-".to_owned(), duration_text),
            case.attempts,
            case.cost_usd.map_or("-".to_owned(), |cost| format!("${cost:.2}")),
            case.verdict.why().map(markdown).unwrap_or_default(),
        );
        if text.len() + row.len() > SUMMARY_BYTES {
            push(&mut text, format_args!("\nand {} more\n", cases.len() - number));
            break;
        }
        text.push_str(&row);
    }
    push(
        &mut text,
        format_args!(
            "\n{} in {}, exit code {}\n\n",
            markdown(&report.why),
            duration_text(report.took()),
            report.exit_code
        ),
    );
    text
}

/// Text of others in a cell of a table: nothing of it is markup.
fn markdown(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in one_line(text).chars() {
        match c {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '|' | '\\' | '*' | '_' | '[' | ']' | '#' | '~' | '!' | '@' => {
                push(&mut safe, format_args!("&#{};", u32::from(c)));
            }
            c => safe.push(c),
        }
    }
    safe
}

/// Appends a piece.
fn push(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a string takes all text");
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::report;
    use super::*;

    #[test]
    fn annotations_are_one_line_each_whatever_the_tickets_say() {
        let mut report = report();
        report.cases[1].file = Some("a:b,c%.md".to_owned());
        let lines = annotations(&report);
        assert_eq!(lines.len(), 3, "the one that made it has none");
        assert_eq!(
            lines[0],
            "::error file=a%3Ab%2Cc%25.md,line=1,title=bad failed::The \"bad\" & <more>: its agent ended with | exit code 3,%0Aand \\u{1b}[2J said: no"
        );
        assert_eq!(
            lines[2],
            "::warning title=later not started::The \"later\" & <more>: waits for `bad`, which failed"
        );
        assert!(lines.iter().all(|line| line.lines().count() == 1));
    }

    #[test]
    fn the_summary_is_a_table_that_no_ticket_can_break() {
        let text = summary(&report());
        let rows: Vec<_> = text.lines().filter(|line| line.starts_with("| ")).collect();
        assert_eq!(rows.len(), 1 + 4);
        assert!(rows.iter().all(|row| row.matches('|').count() == 8), "{text}");
        assert!(
            rows[1].starts_with("| bad | failed | The \"bad\" &amp; &lt;more&gt; | 1s | 1 | - | its agent"),
            "{text}"
        );
        assert!(rows[4].starts_with("| good | made it |"), "what went well comes last");
    }

    #[test]
    fn commands_are_off_until_the_word_comes() {
        let ((one, begin), (other, _)) = (Silence::begin(), Silence::begin());
        let end = one.end();
        assert_eq!(begin, format!("::stop-commands{}", end.trim_end_matches("::")));
        assert_ne!(end, other.end());
    }
}
