//! `swarm replay check`.

use serde_json::json;

use crate::support::schema::assert_conforms;
use crate::support::swarm::TestSwarm;

#[test]
fn the_conversations_of_a_script_are_listed() {
    let swarm = TestSwarm::without_repository();
    let script = "conversations:\n\
        - {name: greet, for: any, turns: [{say: Hi., faults: [{kind: cut}]}]}\n\
        - {name: fix, prompt: fix it, turns: [{calls: [{bash: {}}, {bash: {}}]}, {say: Done.}]}\n";
    swarm.write_at(&swarm.root().join("s.yaml"), script);
    let output = swarm.run_in(swarm.root(), ["replay", "check", "s.yaml"]).expect_code(0);
    insta::assert_snapshot!(output.stdout, @r"
    CONVERSATION  TURNS  CALLS  FAULTS  CHOSEN BY
    greet         1      0      1       SCRIPT:greet, any prompt
    fix           2      2      0       SCRIPT:fix, prompts with `fix it`
    ");
    let view = swarm.run_in(swarm.root(), ["replay", "check", "s.yaml", "--json"]).expect_code(0).json();
    assert_conforms(&view, "replay");
    assert_eq!(view["kind"], "script");
}

#[test]
fn a_fault_in_a_script_is_shown_where_it_is() {
    let swarm = TestSwarm::without_repository();
    swarm.write_at(&swarm.root().join("s.yaml"), "conversations:\n- name: a\n  turns:\n  - sy: Hello\n");
    let output = swarm.run_in(swarm.root(), ["replay", "check", "s.yaml"]).expect_code(2);
    insta::assert_snapshot!(output.stderr.replace(&swarm.root().display().to_string(), "[ROOT]"));
    swarm.run_in(swarm.root(), ["replay", "check", "none.yaml"]).expect_code(5).says("there is no file");
    swarm.write_at(&swarm.root().join("r.jsonl"), "{\"version\": 1}\n");
    swarm.run_in(swarm.root(), ["replay", "check", "r.jsonl"]).expect_code(2).says("r.jsonl:1: not an exchange");
}

#[test]
fn the_conversations_of_a_recording_are_listed_with_their_prompts() {
    let swarm = TestSwarm::without_repository();
    let line = |turn: usize, after: Option<&str>, call: bool| {
        let saw = json!([{"role": "user", "text": "Fix the parser\nnow"}]);
        let answer =
            if call { json!([{"type": "tool_call", "id": "1", "name": "bash", "input": {}}]) } else { json!([]) };
        let mut line = json!({
            "version": 1, "at": "2026-11-21T10:00:00.000Z", "model": "ollama/qwen3", "turn": turn, "cwd": "{cwd}",
            "conversation": "0123456789ab", "saw": saw, "answer": answer, "stop": "end",
            "usage": {"input_tokens": 1, "output_tokens": 1, "cached_tokens": 0, "cost_usd": null, "measured": true},
        });
        if let Some(after) = after {
            line["after"] = json!(after);
        }
        assert_conforms(&line, "recording");
        format!("{line}\n")
    };
    let text = line(0, None, true) + &line(1, Some("abc"), false);
    swarm.write_at(&swarm.root().join("r.jsonl"), &text);
    let output = swarm.run_in(swarm.root(), ["replay", "check", "r.jsonl"]).expect_code(0);
    insta::assert_snapshot!(output.stdout, @r"
    CONVERSATION  TURNS  CALLS  FAULTS  FIRST PROMPT
    0123456789ab  2      1      0       Fix the parser
    ");
}
