//! Messages: how they reach the agent, and what they do to its ticket.

use serde_json::json;

use super::{Stage, long_text, missing, shell, writes};
use crate::support::model_server::{Fault, ModelServer, Script};

/// A message with everything a shell, a terminal or a format might take for its own.
const AWKWARD: &str =
    "He said \"it's `done`\" $HOME \\n 100% {{x}} <b>\n\n  second 'paragraph'; ünï → 漢字\n  third\n!fourth\n/fifth #6";

#[test]
fn messages_to_a_busy_agent_arrive_at_the_turn_boundary_as_one() {
    let script = Script::new().say("Thinking.").failing_at_first(Fault::HangAfter, 1);
    let stage = Stage::with(ModelServer::builder().script("work", script).script("more", writes("more.txt")));
    stage.spawn();
    stage.wait_for_screen("Thinking.");
    for text in ["first wish", "second wish SCRIPT:more"] {
        let sent = stage.swarm.run(["send", "work", text]).success();
        assert!(sent.contains("waits for the turn to end"), "{sent}");
    }
    stage.server.release("work");
    let request = stage.server.wait_for_request(|request| request.mentions("first wish"));
    let texts = request.user_texts();
    let last = texts.last().unwrap();
    assert!(last.contains("first wish\n\nsecond wish SCRIPT:more"), "{texts:?}");
    let worker = stage.reach("review");
    assert_eq!(worker["commits"], 1, "{worker:#}");
    let sent = stage.records("events.jsonl").into_iter().filter(|event| event["event"] == "message_sent");
    assert_eq!(sent.count(), 1);
}

#[test]
fn a_message_to_a_finished_worker_takes_its_ticket_back_and_to_review_again() {
    let stage = Stage::with(ModelServer::builder().script("work", writes("one.txt")).script("more", writes("two.txt")));
    stage.spawn();
    assert_eq!(stage.reach("review")["commits"], 1);
    let sent = stage.swarm.run(["send", "work", "SCRIPT:more also this"]).success();
    assert!(sent.contains("Delivered"), "{sent}");
    let worker = stage.reach("review");
    assert_eq!((&worker["commits"], &worker["status"]), (&json!(2), &json!("done")), "{worker:#}");
    assert_eq!(worker["attempt"], 1);
    let ended = stage.records("events.jsonl").into_iter().filter(|event| event["event"] == "attempt_ended");
    assert_eq!(ended.count(), 2);
}

#[test]
fn a_message_arrives_literally() {
    let stage = Stage::new(Script::new().say("Ready."));
    stage.spawn();
    stage.reach("done");
    stage.swarm.run_with_input(["send", "work", "-"], AWKWARD).success();
    stage.server.wait_for_request(|request| request.mentions(AWKWARD));
    let short = "two `lines`\nwith \"quotes\" and it's fine";
    stage.reach("done");
    stage.swarm.run(["send", "work", short]).success();
    let request = stage.server.wait_for_request(|request| request.mentions(short));
    assert!(request.user_texts().iter().any(|text| text == short), "{:?}", request.user_texts());
    // Neither a command of the program nor a shell command: words for the model.
    stage.reach("done");
    let sent = stage.swarm.run(["send", "work", "!touch shell.txt"]);
    assert_eq!(sent.code, 0, "{}\n{}", sent.transcript(), stage.explain());
    stage.server.wait_for_request(|request| request.mentions("!touch shell.txt"));
    stage.reach("done");
    assert_eq!(stage.file("shell.txt"), None);
}

#[test]
fn a_ticket_arrives_literally() {
    let stage = Stage::new(writes("a.txt"));
    let text = format!("---\ntitle: 'It''s a \"quoted\" `title` $(id)'\nagent: shell\n---\nSCRIPT:work\n{AWKWARD}\n");
    stage.swarm.write(".swarm/tickets/work.md", &text);
    stage.spawn();
    stage.server.wait_for_request(|request| request.mentions(AWKWARD));
    let worker = stage.reach("review");
    assert_eq!(worker["title"], "It's a \"quoted\" `title` $(id)");
}

#[test]
fn a_prompt_of_200_kilobytes_arrives_whole() {
    let stage = Stage::new(writes("a.txt"));
    let text = long_text("ticket");
    stage.swarm.write_ticket("work", "shell", &format!("{text}{}\nThe end.\nSCRIPT:work", "endless ".repeat(5_000)));
    stage.spawn();
    stage.reach("review");
    let request = stage.server.wait_for_request(|request| request.mentions("The end."));
    let body = request.user_texts().join("\n");
    assert_eq!(missing(&text, &body), [""; 0]);
    // Parts that have no end of a line count, too, and every one of them was there to be read.
    assert!(body.matches("endless ").count() >= 5_000);
    let named = body.lines().filter(|line| line.trim().starts_with("@\"")).count();
    assert!(named > 200_000 / 24_000, "{named} parts");
}

#[test]
fn messages_of_200_kilobytes_arrive_whole() {
    let builder = ModelServer::builder().script("work", writes("a.txt")).script("more", writes("b.txt"));
    let stage = Stage::with(builder.script("last", Script::new().say("Understood.")));
    stage.spawn();
    stage.reach("review");
    for (mark, script) in [("first", "SCRIPT:more"), ("second", "SCRIPT:last")] {
        let text = long_text(mark);
        let message = format!("{text}End of the {mark} message. {script}");
        let sent = stage.swarm.run_with_input(["send", "work", "-"], &message).success();
        assert!(sent.contains("Delivered"), "{sent}");
        let request = stage.server.wait_for_request(|request| request.mentions(&format!("End of the {mark} message.")));
        assert_eq!(missing(&text, &request.user_texts().join("\n")), [""; 0]);
        stage.reach("done");
    }
}

#[test]
fn a_draft_in_the_terminal_is_not_cleared() {
    let stage = Stage::new(Script::new().say("Ready."));
    stage.spawn();
    stage.reach("done");
    stage.press(&["-l", "half a thought"]);
    stage.wait_for_screen("half a thought");
    let sent = stage.swarm.run(["send", "work", "from the side"]).success();
    assert!(sent.contains("waits for the draft"), "{sent}");
    assert!(stage.screen().contains("half a thought"));
    stage.press(&["Enter"]);
    let request = stage.server.wait_for_request(|request| request.mentions("half a thought"));
    assert!(!request.mentions("from the side"), "{:?}", request.user_texts());
    assert!(request.user_texts().iter().any(|text| text == "half a thought"), "{:?}", request.user_texts());
    stage.server.wait_for_request(|request| request.mentions("from the side"));
    stage.reach("done");
}

#[test]
fn a_failing_check_goes_back_as_evidence_and_the_second_try_passes() {
    let stage =
        Stage::with(ModelServer::builder().script("work", writes("one.txt")).script("repair", writes("two.txt")));
    let check = stage.check_for_two();
    stage.spawn();
    let worker = stage.reach("review");
    assert_eq!((&worker["commits"], &worker["checks"][0]["passed"]), (&json!(2), &json!(true)), "{worker:#}");
    let request = stage.server.wait_for_request(|request| request.mentions("two is missing"));
    assert!(request.user_texts().last().unwrap().contains(&check), "{:?}", request.user_texts());
    let checks = stage.records("events.jsonl").into_iter().filter(|event| event["event"] == "check_ran");
    assert_eq!(checks.map(|event| event["result"]["passed"].clone()).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn a_check_that_never_passes_fails_the_ticket_after_two_returns() {
    let stage = Stage::new(writes("one.txt"));
    let ticket = json!({"agent": "shell", "checks": ["false"]});
    stage.swarm.write(".swarm/tickets/work.md", &format!("---\n{ticket}\n---\nSCRIPT:work\n"));
    stage.spawn();
    let worker = stage.reach("failed");
    assert_eq!(worker["reason"], "its checks fail", "{worker:#}");
    let checks = stage.records("events.jsonl").into_iter().filter(|event| event["event"] == "check_ran");
    assert_eq!(checks.count(), 3);
}

#[test]
fn a_message_while_a_tool_runs_waits_for_the_end_of_the_turn() {
    let script = Script::new().call("Bash", shell("sh -c 'until test -f go; do sleep 0.05; done'")).say("Went.");
    let stage = Stage::new(script);
    stage.spawn();
    stage.wait_for_calls(1);
    stage.swarm.run(["send", "work", "and then this"]).success();
    stage.swarm.write_at(&stage.swarm.worktree("work").join("go"), "");
    let request = stage.server.wait_for_request(|request| request.mentions("and then this"));
    assert!(request.user_texts().iter().any(|text| text == "and then this"), "{:?}", request.user_texts());
    stage.reach("review");
}
