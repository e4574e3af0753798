//! `swarm ticket new|list|show`.

use super::with_shell_agent;

#[test]
fn a_text_on_standard_input_becomes_a_ticket_with_its_heading_as_title() {
    let swarm = with_shell_agent();
    let args =
        ["ticket", "new", "fix-parser", "--priority", "8", "--depends-on", "lexer", "--check", "cargo test -p x"];
    let output = swarm.run_with_input(args, "# Fix the parser: \"now\"\n\nIt drops `;`.\n").expect_code(0);
    insta::assert_snapshot!(swarm.redact(&output.transcript()));
    insta::assert_snapshot!(swarm.read(".swarm/tickets/fix-parser.md"));
}

#[test]
fn a_text_with_front_matter_keeps_it_and_flags_win() {
    let swarm = with_shell_agent();
    let text = "---\nscope: [\"src/**\"]\npriority: 2\n---\nDo it.\n";
    swarm.run_with_input(["ticket", "new", "a", "--priority", "9", "--title", "A  title"], text).success();
    let view = swarm.json(["ticket", "show", "a"]);
    let ticket = &view["tickets"][0];
    assert_eq!((ticket["priority"].as_u64(), ticket["title"].as_str()), (Some(9), Some("A title")));
    assert_eq!(ticket["scope"][0], "src/**");
    assert_eq!(ticket["agent"], "script", "the configured default is filled in");
    assert_eq!((ticket["target"].as_str(), ticket["state"].as_str()), (Some("main"), Some("open")));
}

#[test]
fn without_a_text_there_is_a_skeleton_that_says_so_and_holds_the_flags() {
    let swarm = with_shell_agent();
    for (id, input) in [("null", None), ("empty", Some("")), ("blank", Some(" \n"))] {
        let args = ["ticket", "new", id, "--title", "It's: \"odd\" # x", "--agent", "script", "--check", "make"];
        let output = match input {
            None => swarm.run(args),
            Some(input) => swarm.run_with_input(args, input),
        };
        let output = output.expect_code(0);
        assert!(output.stderr.contains("It has no text yet"), "{}", output.stderr);
    }
    insta::assert_snapshot!(swarm.read(".swarm/tickets/null.md"));
    let output = swarm.run(["spawn", "null"]).expect_code(2);
    assert!(output.stderr.contains("the ticket has no text"), "{}", output.stderr);
}

#[test]
fn the_file_of_a_text_is_found_from_the_folder_of_the_call() {
    let swarm = with_shell_agent();
    let notes = swarm.root().join("project/notes");
    swarm.write("notes/body.md", "From the folder of -C.");
    swarm.write_at(&swarm.root().join("body.md"), "From the folder of the process.");
    let elsewhere = swarm.root().to_owned();
    let folder = notes.to_str().unwrap();
    swarm.run_in(&elsewhere, ["-C", folder, "ticket", "new", "one", "-f", "body.md"]).success();
    assert!(swarm.read(".swarm/tickets/one.md").contains("From the folder of -C."));
    swarm.run_in(&elsewhere, ["-C", folder, "spawn", "two", "-f", "body.md", "--wait"]).success();
    assert!(swarm.read(".swarm/tickets/two.md").contains("From the folder of -C."));
    let missing = swarm.run_in(&elsewhere, ["-C", folder, "ticket", "new", "x", "-f", "gone.md"]).expect_code(5);
    assert!(missing.stderr.contains("could not read `gone.md`"), "{}", missing.stderr);
}

#[test]
fn an_id_that_is_taken_is_refused_also_in_another_case() {
    let swarm = with_shell_agent();
    swarm.run(["ticket", "new", "Fix", "-p", "One."]).success();
    let before = swarm.read(".swarm/tickets/Fix.md");
    for id in ["Fix", "fix"] {
        let output = swarm.run(["ticket", "new", id, "-p", "Two."]).expect_code(1);
        assert!(output.stderr.contains("ticket `Fix` exists already"), "{}", output.stderr);
        assert!(output.stderr.contains("hint: swarm ticket show Fix"), "{}", output.stderr);
    }
    assert_eq!(swarm.read(".swarm/tickets/Fix.md"), before);
    assert_eq!(swarm.json(["ticket", "list"])["tickets"].as_array().unwrap().len(), 1);
}

#[test]
fn ids_that_differ_only_in_case_are_warned_about() {
    let swarm = with_shell_agent();
    for id in ["Cc", "cc", "other"] {
        swarm.write(&format!(".swarm/tickets/{id}.md"), "Do it.\n");
    }
    let warning = "tickets `Cc` and `cc` differ only in case, and some file systems take them for one";
    let list = swarm.run(["ticket", "list"]).expect_code(0);
    assert!(list.stderr.contains(&format!("warning: {warning}")), "{}", list.stderr);
    assert_eq!(swarm.json(["ticket", "list"])["warnings"], serde_json::json!([warning]));
    swarm.run(["ticket", "new", "OTHER", "-p", "Two."]).expect_code(1).says("ticket `other` exists already");
}

#[test]
fn bad_ids_agents_and_texts_are_usage_errors_and_write_nothing() {
    let swarm = with_shell_agent();
    let calls: [&[&str]; 6] = [
        &["../up", "-p", "x"],
        &["a/b", "-p", "x"],
        &["ok", "-p", "x", "--agent", "nobody"],
        &["ok", "-p", ""],
        &["ok", "-p", "x", "--title", "  "],
        &["ok", "-p", "x", "--depends-on", "OK"],
    ];
    for args in calls {
        let output = swarm.run(["ticket", "new"].iter().chain(args)).expect_code(2);
        assert!(output.stderr.starts_with("error: "), "{args:?}: {}", output.stderr);
        assert!(!swarm.repository().join(".swarm/tickets").exists(), "{args:?}");
    }
    swarm.run(["ticket", "new", "ok", "-f", "nowhere.md"]).expect_code(5).says("nowhere.md");
}

#[test]
fn quotes_backticks_and_a_long_text_arrive_as_they_are() {
    let swarm = with_shell_agent();
    let text = format!("Say \"it's\" `$(rm -rf /)` \\n {}\nend {{{{ worker }}}}", "long ".repeat(40_000));
    swarm.run_with_input(["ticket", "new", "odd"], &text).success();
    let view = swarm.json(["ticket", "show", "odd"]);
    assert_eq!(view["tickets"][0]["body"], text);
}

#[test]
fn a_broken_file_hides_no_other_ticket() {
    let swarm = with_shell_agent();
    swarm.write_ticket("good", "script", "# Good work\n\nDo it.");
    swarm.write(".swarm/tickets/broken.md", "---\npriorty: 5\n---\nText.\n");
    std::fs::copy("/bin/sh", swarm.repository().join(".swarm/tickets/binary.md")).unwrap();
    let output = swarm.run(["ticket", "list"]).expect_code(0);
    insta::assert_snapshot!(swarm.redact(&output.transcript()));
    let view = swarm.json(["ticket", "list"]);
    let problems: Vec<_> =
        view["tickets"].as_array().unwrap().iter().map(|ticket| !ticket["problem"].is_null()).collect();
    assert_eq!(problems, [true, true, false]);
    swarm.run(["ticket", "show", "broken"]).expect_code(2).says("priorty");
}

#[test]
fn show_is_the_ticket_as_it_would_be_run() {
    let swarm = with_shell_agent();
    swarm.write(
        ".swarm/tickets/full.md",
        "---\ntitle: Everything\nagent: script\npriority: 7\ndepends_on: [a, {ticket: b, kind: completion}]\n\
         scope: [\"src/**\"]\nchecks: [\"make test\"]\nbase: main\ntimeout: 90m\nbudget: {usd: 2.5, tokens: 500}\n\
         labels: [bug]\ncapabilities: [rust]\n---\nThe text.\n\nMore.\n",
    );
    let output = swarm.run(["ticket", "show", "full"]).expect_code(0);
    insta::assert_snapshot!(swarm.redact(&output.transcript()));
    let by_path = swarm.run(["ticket", "show", ".swarm/tickets/full.md"]).expect_code(0);
    assert_eq!(by_path.stdout, output.stdout);
    swarm.run(["ticket", "show", "nope"]).expect_code(5).says("swarm ticket new nope");
}

#[test]
fn a_ticket_that_only_the_queue_knows_is_listed() {
    let swarm = with_shell_agent();
    swarm.write_at(&swarm.root().join("elsewhere.md"), "---\nagent: script\n---\n# From elsewhere\n");
    swarm.run(["spawn", "../elsewhere.md", "--headless"]).success();
    swarm.run(["wait", "elsewhere", "--timeout", "60s"]).success();
    let view = swarm.json(["ticket", "list"]);
    let ticket = &view["tickets"][0];
    assert_eq!((ticket["id"].as_str(), ticket["state"].as_str()), (Some("elsewhere"), Some("done")));
    assert!(ticket["path"].is_null());
    swarm.run(["ticket", "new", "elsewhere", "-p", "x"]).expect_code(1).says("exists already");
}
