use proptest::prelude::*;

use super::*;

/// Reads a ticket called `fix`.
fn read(text: &str) -> Result<Ticket, ConfigError> {
    parse_ticket(Path::new(".swarm/tickets/fix.md"), text)
}

#[test]
fn every_key_of_the_format_is_read() {
    let text = "---
id: fix
title: Fix the parser
agent: ticket-worker
priority: 8
depends_on: [lexer, 12, {ticket: docs, kind: completion}, {ticket: survey, kind: data}]
start_from: target
capabilities: [rust]
scope: [\"src/parser/**\"]
checks: [\"cargo test -p parser\"]
base: HEAD~2
target: release/1.0
timeout: 30m
max_attempts: 3
budget: {usd: 2, tokens: 500000}
labels: [bug]
tell_overlaps: false
checklist:
  - Errors name   their place
  - 'no: panics'
reviewers: [code-reviewer]
---

The body is the prompt.
---
A line of dashes belongs to it.
";
    let ticket = read(text).unwrap();
    let dependency = |ticket: &str, kind| Dependency { ticket: ticket.parse().unwrap(), kind };
    let expected = Ticket {
        id: "fix".parse().unwrap(),
        title: "Fix the parser".to_owned(),
        agent: Some("ticket-worker".parse().unwrap()),
        priority: 8,
        depends_on: vec![
            dependency("lexer", DependencyKind::Success),
            dependency("12", DependencyKind::Success),
            dependency("docs", DependencyKind::Completion),
            dependency("survey", DependencyKind::Data),
        ],
        start_from: Some(StartFrom::Target),
        capabilities: vec!["rust".to_owned()],
        scope: vec!["src/parser/**".to_owned()],
        checks: vec!["cargo test -p parser".to_owned()],
        checklist: vec!["Errors name their place".to_owned(), "no: panics".to_owned()],
        reviewers: Some(vec!["code-reviewer".parse().unwrap()]),
        base: Some("HEAD~2".to_owned()),
        target: Some("release/1.0".to_owned()),
        timeout: Some(Duration::from_secs(1_800)),
        max_attempts: 3,
        budget: Budget { usd: Some(2.0), tokens: Some(500_000), time: None },
        labels: vec!["bug".to_owned()],
        tell_overlaps: Some(false),
        body: "The body is the prompt.\n---\nA line of dashes belongs to it.".to_owned(),
    };
    assert_eq!(ticket, expected);
    assert_eq!(read(&ticket_text(&ticket)).unwrap(), ticket);
}

#[test]
fn windows_line_ends_a_byte_order_mark_and_empty_lines_before_change_nothing() {
    let plain = read("---\ntitle: T\n---\nOne\n\n  two\n").unwrap();
    assert_eq!(plain.body, "One\n\n  two");
    assert_eq!(read("\u{feff}---\r\ntitle: T\r\n---\r\nOne\r\n\r\n  two\r\n").unwrap(), plain);
    assert_eq!(read("\n\n---  \ntitle: T\n--- \n\n\nOne\n\n  two").unwrap(), plain);
}

#[test]
fn a_title_comes_from_the_heading_or_the_first_line() {
    for (text, title) in [
        ("Do it\n\n# Later heading\n", "Later heading"),
        ("\n\nDo it  now\nand that\n", "Do it now"),
        ("## Fix `x` ##\n\nbody", "Fix `x`"),
        ("#hashtag is no heading\n", "#hashtag is no heading"),
        ("---\npriority: 1\n---\n# From the body\n", "From the body"),
        ("tab\tand \u{1b}[31mcolour\n", "tab and [31mcolour"),
    ] {
        assert_eq!(read(text).unwrap().title, title, "{text:?}");
    }
    let long = read(&"word ".repeat(100)).unwrap().title;
    assert!(long.chars().count() <= DERIVED_TITLE && long.ends_with('…'), "{long}");
}

#[test]
fn broken_tickets_are_explained() {
    let faults = [
        "",
        "---\ntitle: T\n---\n\n  \n",
        "---\ntitle: T\n\nbody without an end of the front matter\n",
        "---\ntitle: T\npriorty: 3\n---\nx",
        "---\npriority: 11\n---\nx",
        "---\npriority: high\n---\nx",
        "---\nid: other\n---\nx",
        "---\nid: a/b\n---\nx",
        "---\ntitle: \"\"\n---\nx",
        "---\ntitle: \"a\\e[31m\"\n---\nx",
        "---\ndepends_on: lexer\n---\nx",
        "---\ndepends_on:\n  - lexer\n  - {ticket: docs, kind: landed}\n---\nx",
        "---\ndepends_on: [{tickt: docs}]\n---\nx",
        "---\ndepends_on: [\"a b\"]\n---\nx",
        "---\ndepends_on: [FIX]\n---\nx",
        "---\ndepends_on: [a, b, a]\n---\nx",
        "---\nstart_from: lexer\n---\nx",
        "---\nstart_from: dependency\ndepends_on: [{ticket: docs, kind: data}]\n---\nx",
        "---\nstart_from: dependency\ndepends_on: [lexer]\nbase: v1\n---\nx",
        "---\nchecks: cargo test\n---\nx",
        "---\nchecks: [\"\"]\n---\nx",
        "---\nscope: [\"src/{a\"]\n---\nx",
        "---\nbudget: {usd: -1}\n---\nx",
        "---\nbudget: {euro: 1}\n---\nx",
        "---\nbudget: {usd: .nan}\n---\nx",
        "---\nmax_attempts: 0\n---\nx",
        "---\ntimeout: 30\n---\nx",
        "---\nbase: --force\n---\nx",
        "---\ntarget: a..b\n---\nx",
        "---\n- a\n---\nx",
        "---\r\ntitle: T\r\nagent: Ein Agent\r\n---\r\nx",
    ];
    let mut report = String::new();
    for text in faults {
        match read(text) {
            Err(error) => {
                let extra = [error.snippet().map(str::to_owned), error.hint().map(|hint| format!("hint: {hint}"))];
                let extra: Vec<_> = extra.into_iter().flatten().collect();
                report.push_str(&format!("{error}\n{}\n\n", extra.join("\n")));
            }
            Ok(_) => panic!("accepted: {text}"),
        }
    }
    insta::assert_snapshot!(report);
}

#[test]
fn a_file_name_that_is_no_id_is_refused() {
    let error = parse_ticket(Path::new("tickets/my ticket.md"), "x").unwrap_err();
    let expected =
        "tickets/my ticket.md: `my ticket` is not a ticket id: only letters, digits, `.`, `_` and `-` are allowed";
    assert_eq!(error.to_string(), expected);
    assert!(parse_ticket(Path::new("v1.2.md"), "x").unwrap().id.as_str() == "v1.2");
}

/// Texts that YAML likes to misread.
fn awkward() -> impl Strategy<Value = String> {
    let words =
        ["no", "1.10", "null", "~", "a: b", "# x", "- x", "{a}", "'", "\"", "\\", "a #b", "ü日", "0x1", "!t", "*a"];
    prop_oneof![
        proptest::sample::select(words.to_vec()).prop_map(str::to_owned),
        "[ -~]{0,12}[!-~]".prop_map(|text| text.trim().to_owned()),
    ]
}

proptest! {
    #[test]
    fn a_written_ticket_reads_as_the_same(
        title in awkward(),
        words in proptest::collection::vec(awkward(), 0..3),
        body in "[a-z#-][ -~\\n-]{0,40}[a-z-]",
        numbers in (1_u8..=10, 1_u32..5, proptest::option::of(1_u64..10_000_000), proptest::option::of(0.01_f64..1e6)),
    ) {
        let (priority, max_attempts, millis, usd) = numbers;
        let ticket = Ticket {
            id: "fix".parse().unwrap(),
            title: one_line(&title),
            agent: Some("no".parse().unwrap()),
            priority,
            depends_on: vec![Dependency { ticket: "1.0".parse().unwrap(), kind: DependencyKind::Completion }],
            start_from: millis.map(|_| StartFrom::Target),
            capabilities: words.clone(),
            scope: vec!["a,b".to_owned()],
            checks: words.iter().map(|word| format!("{word}\n{word}")).collect(),
            checklist: words.iter().map(|word| one_line(word)).collect(),
            reviewers: millis.map(|_| Vec::new()),
            base: Some("1e3".to_owned()),
            target: Some("true".to_owned()),
            timeout: millis.map(Duration::from_millis),
            max_attempts,
            budget: Budget { usd, tokens: millis, time: millis.map(Duration::from_millis) },
            labels: words,
            tell_overlaps: max_attempts.checked_sub(2).map(|left| left > 0),
            body,
        };
        let text = ticket_text(&ticket);
        prop_assert_eq!(read(&text).unwrap(), ticket, "{}", text);
    }

    #[test]
    fn any_text_is_a_ticket_or_an_error(text in "(---\n)?[a-z:\\- \\n\\t{}\"#é\\r]{0,40}(\n---\n)?[a-z\\n]{0,9}") {
        // Only the absence of a panic counts.
        drop(read(&text));
    }
}
