//! The report in the XML that CI systems read as JUnit's: a run is a suite, a ticket a test case.
//!
//! The shape is the common core of the dialects (Jenkins, GitLab, GitHub actions that publish reports): `testsuites` with
//! counts, `testcase` with `classname`, `name`, `file` and `time`, and in it `failure` for what failed, `error` for what
//! was begun and not finished, `skipped` for what was never begun. XML 1.0 has no way to write most control characters,
//! not even as entities (section 2.2), so those are shown as escapes.

use std::fmt::Write as _;

use super::report::{Case, Reason, Report, Verdict};
use crate::cli::output::visible;

/// The document.
pub(super) fn document(report: &Report) -> String {
    let broken = usize::from(report.broken.is_some());
    let counts = format!(
        r#"tests="{}" failures="{}" errors="{}" skipped="{}" time="{:.3}" timestamp="{}""#,
        report.cases.len() + broken,
        report.count(|verdict| matches!(verdict, Verdict::Failed(_))),
        report.count(|verdict| matches!(verdict, Verdict::Unfinished(_))) + broken,
        report.count(|verdict| matches!(verdict, Verdict::NotStarted(_))),
        report.took().as_secs_f64(),
        report.began_at,
    );
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"swarm\" {counts}>\n  \
         <testsuite name=\"swarm run\" {counts}>\n    <properties>\n"
    );
    for (name, value) in [("run", &report.run), ("exit_code", &report.exit_code.to_string()), ("outcome", &report.why)]
    {
        property(&mut xml, "      ", name, value);
    }
    xml.push_str("    </properties>\n");
    for case in &report.cases {
        test_case(&mut xml, case);
    }
    if let Some(text) = &report.broken {
        let text = escaped(text);
        push(&mut xml, format_args!("    <testcase classname=\"swarm\" name=\"run\" time=\"0\">\n"));
        push(&mut xml, format_args!("      <error message=\"{text}\" type=\"error\"></error>\n    </testcase>\n"));
    }
    xml.push_str("  </testsuite>\n</testsuites>\n");
    xml
}

/// One ticket.
fn test_case(xml: &mut String, case: &Case) {
    let class = case.agent.as_deref().map_or("swarm".to_owned(), |agent| format!("swarm.{agent}"));
    let file = case.file.as_deref().map(|file| format!(" file=\"{}\"", escaped(file))).unwrap_or_default();
    // Readers want a number; what was never begun took none.
    let time = case.took.unwrap_or_default().as_secs_f64();
    push(
        xml,
        format_args!(
            "    <testcase classname=\"{}\" name=\"{}\"{file} time=\"{time:.3}\">\n      <properties>\n",
            escaped(&class),
            escaped(&case.ticket)
        ),
    );
    let attempts = case.attempts.to_string();
    let cost = case.cost_usd.map(|cost| format!("{cost:.4}"));
    let properties = [
        ("title", Some(case.title.as_str())),
        ("state", Some(case.state.as_str())),
        ("attempts", Some(attempts.as_str())),
        ("worker", case.worker.as_deref()),
        ("branch", case.branch.as_deref()),
        ("cost_usd", cost.as_deref()),
    ];
    for (name, value) in properties {
        if let Some(value) = value {
            property(xml, "        ", name, value);
        }
    }
    xml.push_str("      </properties>\n");
    match &case.verdict {
        Verdict::Made => {}
        Verdict::Failed(reason) => told(xml, "failure", &case.state, reason),
        Verdict::Unfinished(reason) => told(xml, "error", &case.state, reason),
        Verdict::NotStarted(why) => push(xml, format_args!("      <skipped message=\"{}\"/>\n", escaped(why))),
    }
    xml.push_str("    </testcase>\n");
}

/// Why a ticket did not reach its end, with evidence.
fn told(xml: &mut String, element: &str, state: &str, reason: &Reason) {
    let (why, text) = (escaped(&reason.why), body(&format!("{}\n\n{}", reason.why, reason.evidence)));
    push(xml, format_args!("      <{element} message=\"{why}\" type=\"{}\">{text}</{element}>\n", escaped(state)));
}

/// One property.
fn property(xml: &mut String, indent: &str, name: &str, value: &str) {
    push(xml, format_args!("{indent}<property name=\"{name}\" value=\"{}\"/>\n", escaped(value)));
}

/// Text for an attribute: line breaks and tabs, which readers of XML make spaces of, as entities.
fn escaped(text: &str) -> String {
    body(text).replace('\n', "&#10;").replace('\t', "&#9;")
}

/// Text between tags: nothing of it is markup, and every character may be there.
fn body(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in visible(&without_styles(text), false).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&apos;"),
            '\u{fffe}' | '\u{ffff}' => safe.extend(c.escape_default()),
            c => safe.push(c),
        }
    }
    safe
}

/// The text without the sequences by which programs colour it (SGR of ECMA-48), and with plain line ends.
pub(super) fn without_styles(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    let mut parts = text.split("\x1b[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !matches!(c, '0'..='9' | ';' | ':')).unwrap_or(part.len());
        match part[end..].strip_prefix('m') {
            Some(rest) => plain.push_str(rest),
            None => {
                plain.push_str("\x1b[");
                plain.push_str(part);
            }
        }
    }
    plain
}

/// Appends a piece.
fn push(xml: &mut String, what: std::fmt::Arguments<'_>) {
    xml.write_fmt(what).expect("a string takes all text");
}

#[cfg(test)]
mod tests {
    use roxmltree::Document;

    use super::super::report::tests::report;
    use super::*;

    /// The one element of a case.
    fn child<'a>(document: &'a Document<'a>, ticket: &str, element: &str) -> Option<roxmltree::Node<'a, 'a>> {
        let cases = document.descendants().filter(|node| node.has_tag_name("testcase"));
        let case = cases.into_iter().find(|node| node.attribute("name") == Some(ticket)).unwrap();
        case.children().find(|node| node.has_tag_name(element))
    }

    #[test]
    fn every_text_survives_as_well_formed_xml() {
        let xml = document(&report());
        let document = Document::parse(&xml).unwrap();
        let suite = document.descendants().find(|node| node.has_tag_name("testsuite")).unwrap();
        let counts = ["tests", "failures", "errors", "skipped"].map(|name| suite.attribute(name).unwrap());
        assert_eq!((counts, suite.attribute("time")), (["4", "1", "1", "1"], Some("75.000")));
        let failure = child(&document, "bad", "failure").unwrap();
        let message = "its agent ended with | exit code 3,\nand \\u{1b}[2J said: no";
        assert_eq!(failure.attribute("message"), Some(message));
        let evidence = "red \\u{1b}]0;title\\u{7}\\u{0}\\u{fffe}]]> 100%\n::error::no\nend";
        assert_eq!(failure.text(), Some(&*format!("{message}\n\n{evidence}")));
        assert_eq!(child(&document, "late", "error").unwrap().attribute("message"), Some("the time was over"));
        let skipped = child(&document, "later", "skipped").unwrap();
        assert_eq!(skipped.attribute("message"), Some("waits for `bad`, which failed"));
        assert_eq!((child(&document, "good", "failure"), child(&document, "good", "skipped")), (None, None));
        let titles: Vec<_> = document.descendants().filter(|node| node.attribute("name") == Some("title")).collect();
        assert_eq!(titles[0].attribute("value"), Some("The \"good\" & <more>"));
    }

    #[test]
    fn a_run_that_never_began_is_an_error() {
        let report = Report { cases: Vec::new(), broken: Some("no <agent>".to_owned()), ..report() };
        let xml = document(&report);
        let document = Document::parse(&xml).unwrap();
        assert_eq!(child(&document, "run", "error").unwrap().attribute("message"), Some("no <agent>"));
    }

    #[test]
    fn only_styles_are_taken_out_of_a_text() {
        let text = "a\x1b[1;31mb\x1b[mc\x1b[2Jd\x1b[";
        assert_eq!(without_styles(text), "abc\x1b[2Jd\x1b[");
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_document(text in proptest::string::string_regex("(?s).{0,60}").unwrap()) {
            let mut report = report();
            report.cases[1].ticket = text.clone();
            report.cases[1].verdict = Verdict::Failed(Reason { why: text.clone(), evidence: text });
            let xml = document(&report);
            proptest::prop_assert!(Document::parse(&xml).is_ok(), "{}", xml);
        }
    }
}
