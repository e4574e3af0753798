use std::io::Write;

use serde_json::json;

use super::Transcript;
use crate::files::open_log;

fn message(id: &str, model: &str, input: u64, output: u64) -> String {
    let usage = json!({"input_tokens": input, "cache_read_input_tokens": 10, "output_tokens": output});
    format!("{}\n", json!({"type": "assistant", "message": {"id": id, "model": model, "usage": usage}}))
}

fn cost(usd: f64, model: &str, is_unknown: bool) -> String {
    let line = json!({"type": "cost-state", "totalCostUSD": usd, "modelUsage": {model: {}},
        "hasUnknownModelCost": is_unknown});
    format!("{line}\n")
}

struct File {
    folder: tempfile::TempDir,
    transcript: Transcript,
}

impl File {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut transcript = Transcript::default();
        transcript.follow(&folder.path().join("s1.jsonl"));
        Self { folder, transcript }
    }

    fn add(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        open_log(&path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn read(&mut self) -> (u64, u64, Option<f64>) {
        self.transcript.read_on();
        let usage = self.transcript.usage();
        (usage.input_tokens, usage.output_tokens, usage.cost_usd)
    }
}

#[test]
fn each_message_counts_once_with_its_last_figures() {
    let mut file = File::new();
    assert_eq!(file.read(), (0, 0, None), "a file that is not there yet is no trouble");
    file.add("s1.jsonl", &format!("{}{}", message("m1", "claude-x", 100, 1), message("m1", "claude-x", 100, 10)));
    file.add("s1.jsonl", "not json\n{\"type\":\"later\"}\n");
    assert_eq!(file.read(), (110, 10, None));
    file.add("s1.jsonl", &message("m2", "claude-x", 1, 2));
    assert_eq!(file.read(), (121, 12, None));
    assert_eq!(file.read(), (121, 12, None));
}

#[test]
fn a_torn_line_is_read_when_it_is_whole() {
    let mut file = File::new();
    let line = message("m1", "claude-x", 100, 1);
    file.add("s1.jsonl", &line[..30]);
    assert_eq!(file.read(), (0, 0, None));
    file.add("s1.jsonl", &line[30..]);
    assert_eq!(file.read(), (110, 1, None));
}

#[test]
fn sub_agents_count_too() {
    let mut file = File::new();
    file.add("s1.jsonl", &message("m1", "claude-x", 100, 1));
    file.add("s1/subagents/agent-a.jsonl", &message("m2", "claude-x", 5, 2));
    file.add("s1/subagents/agent-a.meta.json", "{}");
    assert_eq!(file.read(), (125, 3, None));
}

#[test]
fn a_file_that_became_shorter_is_read_again_and_counts_once() {
    let mut file = File::new();
    file.add("s1.jsonl", &format!("{}{}", message("m1", "claude-x", 100, 1), message("m2", "claude-x", 1, 1)));
    file.read();
    std::fs::remove_file(file.folder.path().join("s1.jsonl")).unwrap();
    file.add("s1.jsonl", &message("m1", "claude-x", 100, 1));
    assert_eq!(file.read(), (121, 2, None));
}

#[test]
fn a_cost_is_told_only_where_it_can_be_believed() {
    let mut file = File::new();
    file.add("s1.jsonl", &cost(0.5, "claude-x", false));
    assert_eq!(file.read().2, Some(0.5));
    file.add("s1.jsonl", &message("m1", "<synthetic>", 0, 0));
    assert_eq!(file.read().2, Some(0.5), "the program's own error messages are no model");
    file.add("s1.jsonl", &message("m2", "qwen3-coder", 1, 1));
    assert_eq!(file.read().2, None);
    let mut file = File::new();
    file.add("s1.jsonl", &cost(0.5, "claude-x", true));
    assert_eq!(file.read().2, None);
}

#[test]
fn another_conversation_starts_from_nothing() {
    let mut file = File::new();
    file.add("s1.jsonl", &message("m1", "claude-x", 100, 1));
    file.read();
    file.transcript.follow(&file.folder.path().join("s1.jsonl"));
    assert_eq!(file.read(), (110, 1, None));
    file.transcript.follow(&file.folder.path().join("s2.jsonl"));
    assert_eq!(file.read(), (0, 0, None));
}
