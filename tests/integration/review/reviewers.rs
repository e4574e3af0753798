//! Reviewer agents of several runtimes, good and bad.

use std::fs;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{comment, in_review, prepared};
use crate::support::schema::assert_conforms;
use crate::support::swarm::{SWARM, TestSwarm};

/// A reviewer that rejects with three comments, one of them on a line that is not there.
const CRITIC: &str = r#"
grep -q 'line 8' "$SWARM_PROMPT_FILE" && grep -q 'docs say it' "$SWARM_PROMPT_FILE"
test "$(git rev-parse HEAD)" = "$SWARM_COMMIT"
echo broken > work.txt; echo extra > extra.txt
cat <<'END'
I looked at it.
```json
{"verdict": "reject", "summary": "Two faults.", "comments": [
  {"file": "work.txt", "line": 8, "text": "Say it in words.", "severity": "high"},
  {"file": "work.txt", "line": null, "text": "No heading."},
  {"file": "work.txt", "line": 99, "text": "Far away."}]}
```
END
"#;

/// What `review --json` shows of one reviewer.
fn reviewer(swarm: &TestSwarm, agent: &str) -> Value {
    let review = swarm.json(["review", "fix"]);
    let reviewers = review["reviewers"].as_array().unwrap().clone();
    reviewers.into_iter().find(|view| view["agent"] == agent).unwrap_or_else(|| panic!("no {agent} in {review:#}"))
}

#[test]
fn a_configured_reviewer_is_asked_when_the_work_is_finished_and_its_comments_are_proposals() {
    let swarm = prepared("review: {agents: [critic]}\n", "", "Write.\n\n- [ ] docs say it");
    swarm.write_shell_agent("critic", CRITIC);
    swarm.run(["spawn", "fix", "--headless"]).success();
    swarm.run(["wait", "fix", "--timeout", "60s"]).success();
    swarm.wait_until("the reviewer's verdict", || reviewer(&swarm, "critic")["ended_at"].is_string());
    let review = swarm.json(["review", "fix"]);
    assert_conforms(&review, "review");
    let critic = reviewer(&swarm, "critic");
    assert_eq!((&critic["verdict"], &critic["summary"]), (&"reject".into(), &"Two faults.".into()), "{critic:#}");
    assert_eq!((&critic["is_current"], &critic["tries"]), (&true.into(), &1.into()));
    let said: Vec<_> = review["comments"].as_array().unwrap().iter().map(|c| (&c["state"], &c["first_line"])).collect();
    assert_eq!(serde_json::json!(said), serde_json::json!([["proposed", 8], ["proposed", null], ["proposed", null]]));
    assert!(comment(&swarm, 3)["text"].as_str().unwrap().contains("`work.txt:99`, which is not there"));
    assert_eq!(comment(&swarm, 1)["severity"], "high");
    swarm.run(["review", "fix"]).says("Proposed by reviewers");
    swarm.run(["logs", "fix"]).says("reviewer critic: reject");
    // It worked in a checkout of its own, which is gone.
    assert_eq!(swarm.git_in(&swarm.worktree("fix"), ["status", "--porcelain"]).success(), "");
    assert!(!swarm.git(["worktree", "list"]).success().contains("+gate"));
    // A person decides; what they drop is not sent.
    assert_eq!(swarm.json(["status", "fix"])["workers"][0]["ticket_state"], "review");
    swarm.run(["review", "fix", "--reject"]).expect_code(2).says("--accept ID");
    swarm.run(["review", "fix", "--accept", "1", "--drop", "all", "--reject"]).success();
    let prompt = fs::read_to_string(swarm.worker_dir("fix").join("prompt.md")).unwrap();
    assert!(prompt.contains("`work.txt:8`: Say it in words.") && !prompt.contains("heading"), "{prompt}");
    // The new work is reviewed anew, after the old verdict has stopped to count.
    swarm.run(["wait", "fix", "--timeout", "60s"]).success();
    swarm.wait_until("the second verdict", || {
        let critic = reviewer(&swarm, "critic");
        critic["is_current"] == true && critic["ended_at"].is_string()
    });
}

#[test]
fn what_is_no_verdict_is_asked_once_more_and_never_an_approval() {
    let config = "landing: {approval: auto}\nreview: {agents: [mute], agents_approve: true, timeout: 2s}\n";
    let swarm = prepared(config, "reviewers: []\n", "Write.");
    swarm.write_shell_agent("mute", "echo Looks good to me");
    swarm.run(["spawn", "fix", "--headless"]).success();
    swarm.run(["wait", "fix", "--timeout", "60s"]).success();
    swarm.run(["review", "fix", "--ask"]).expect_code(2).says("has no reviewers");
    let ask = |script: &str| {
        swarm.write_shell_agent("mute", script);
        swarm.run(["review", "fix", "--ask", "mute"])
    };
    ask("echo Looks good to me").expect_code(1).says("without a block of JSON");
    assert_eq!(
        (reviewer(&swarm, "mute")["verdict"].clone(), reviewer(&swarm, "mute")["tries"].clone()),
        ("no_verdict".into(), 2.into())
    );
    ask("echo '{\"verdict\": \"approve\"}'; exit 3").expect_code(1).says("exited with code 3");
    ask("echo '{\"verdict\": \"approve\"}'; exec tail -f /dev/null").expect_code(1).says("took longer than 2s");
    ask("grep -q 'could not be used' \"$SWARM_PROMPT_FILE\" && echo '{\"verdict\": \"approve\"}'; true").success();
    assert_eq!(
        (reviewer(&swarm, "mute")["verdict"].clone(), reviewer(&swarm, "mute")["tries"].clone()),
        ("approve".into(), 2.into())
    );
    swarm.run(["review", "fix", "--ask", "nobody"]).expect_code(2).says("no agent `nobody`");
    swarm.run(["review", "fix"]).says("no verdict");
}

#[test]
fn a_reviewer_nobody_waits_for_any_more_is_ended_and_written_down() {
    let swarm = prepared("review: {agents: [mute]}\n", "reviewers: []\n", "Write.");
    swarm.run(["spawn", "fix", "--headless", "--wait"]).success();
    swarm.write_shell_agent("mute", "touch \"$SWARM_REPO/reading\"; sleep 1000");
    let mut ask = swarm.command(SWARM, &swarm.repository());
    let mut ask = ask.args(["review", "fix", "--ask", "mute"]).stderr(Stdio::null()).spawn().unwrap();
    swarm.wait_until("the reviewer to begin", || swarm.repository().join("reading").exists());
    kill_process(Pid::from_child(&ask), Signal::INT).unwrap();
    assert_eq!(ask.wait().unwrap().code(), Some(130));
    swarm.wait_until("every process to be gone", || swarm.processes().is_empty());
    let ended = reviewer(&swarm, "mute");
    assert_eq!((&ended["verdict"], &ended["tries"]), (&"no_verdict".into(), &1.into()), "{ended:#}");
    swarm.run(["review", "fix"]).says("it was interrupted");
}

#[test]
fn reviewers_approve_only_where_the_configuration_says_so_and_only_all_of_them() {
    let swarm = prepared("", "reviewers: [yes, other]\n", "Write.");
    let approve = "echo '{\"verdict\": \"approve\", \"summary\": \"Fine.\", \"comments\": []}'";
    swarm.write_shell_agent("yes", approve);
    swarm.write_shell_agent("other", "echo '{\"verdict\": \"reject\", \"summary\": \"No.\"}'");
    swarm.run(["spawn", "fix", "--headless"]).success();
    swarm.run(["wait", "fix", "--timeout", "60s"]).success();
    swarm.wait_until("both verdicts", || reviewer(&swarm, "other")["ended_at"].is_string());
    swarm.run(["review", "fix"]).says("other: asks for changes");
    swarm.run(["merge"]).says("Nothing to land");
    swarm.write(".swarm/config.yaml", "review: {agents_approve: true}\n");
    swarm.run(["merge", "fix"]).expect_code(4).says("not approved");
    swarm.write_shell_agent("other", approve);
    swarm.run(["review", "fix", "--ask", "other"]).success();
    swarm.run(["review", "fix", "--ask"]).says("gave its verdict on this commit already");
    swarm.write(".swarm/config.yaml", "review: {agents_approve: false}\n");
    swarm.run(["merge", "fix"]).expect_code(4).says("not approved");
    // A verdict counts for the commit it was given on.
    swarm.write(".swarm/config.yaml", "review: {agents_approve: true}\n");
    swarm.git_in(&swarm.worktree("fix"), ["commit", "--quiet", "--allow-empty", "-m", "One more"]).success();
    swarm.run(["merge", "fix"]).expect_code(4).says("not approved");
    swarm.run(["review", "fix", "--ask"]).success();
    swarm.run(["merge"]).success();
    swarm.git(["notes", "--ref=swarm", "show", "main"]).says("reviewers yes, other");
}

#[test]
fn our_own_loop_reviews_and_what_it_used_is_counted() {
    let swarm = in_review("", "", "Write.");
    let again = r#"'{"verdict": "reject", "summary": "Look again.", "comments": [{"file": "work.txt", "line": 2, "text": "Here."}]}'"#;
    let script = format!(
        "conversations:\n  - name: first\n    prompt: Review the work on ticket\n    turns:\n      - calls:\n          \
         - Read: {{file_path: work.txt}}\n      - say: I think it is fine.\n  - name: again\n    \
         prompt: could not be used\n    turns:\n      - say: {again}\n"
    );
    swarm.write("script.yaml", &script);
    let head =
        "name: looper\ndescription: x\nruntime: replay\nmodel: script.yaml\ntools: [Read]\npermission_mode: default";
    swarm.write(
        ".swarm/agents/looper.md",
        &format!("---\n{head}\n---\nReview `{{{{ ticket }}}}` in {{{{ worktree }}}}.\n"),
    );
    swarm.run(["review", "fix", "--ask", "looper"]).says("looper asks for changes: Look again.");
    let looper = reviewer(&swarm, "looper");
    assert_eq!((&looper["verdict"], &looper["tries"]), (&"reject".into(), &2.into()), "{looper:#}");
    assert!(looper["input_tokens"].as_u64().unwrap() > 0, "{looper:#}");
    assert_eq!(comment(&swarm, 1)["by"], "looper");
    let spent = swarm.json(["budget", "--by", "agent"]);
    let row = spent["rows"].as_array().unwrap().iter().find(|row| row["name"] == "looper").unwrap().clone();
    assert_eq!((&row["input_tokens"], &row["attempts"]), (&looper["input_tokens"], &1.into()), "{spent:#}");
}

#[test]
fn a_reviewer_is_not_asked_over_the_tickets_budget_nor_a_second_time() {
    let swarm = in_review("", "", "Write.");
    swarm.write(
        "script.yaml",
        "conversations:\n  - name: vague\n    prompt: Review\n    turns:\n      - say: I think it is fine.\n",
    );
    let head =
        "name: looper\ndescription: x\nruntime: replay\nmodel: script.yaml\ntools: [Read]\npermission_mode: default";
    swarm.write(".swarm/agents/looper.md", &format!("---\n{head}\n---\nReview.\n"));
    let ask = || swarm.run(["review", "fix", "--ask", "looper", "--config", "budget.ticket.tokens=1"]);
    ask().expect_code(1).says("it is not asked again, because the ticket's budget of 1 token");
    let spent = swarm.json(["budget"])["total"]["input_tokens"].clone();
    assert!(spent.as_u64().unwrap() > 0);
    assert_eq!(reviewer(&swarm, "looper")["tries"], 1);
    ask().expect_code(7).says("the ticket's budget of 1 token");
    assert_eq!(swarm.json(["budget"])["total"]["input_tokens"], spent);
}

#[test]
fn a_reviewer_whose_process_was_killed_has_no_verdict_and_leaves_nothing_behind() {
    let swarm = in_review("", "", "Write.");
    swarm.write_shell_agent("slow", "echo $$ > \"$SWARM_WORKER_DIR/pid\"; exec tail -f /dev/null");
    let mut asking = swarm.command(crate::support::swarm::SWARM, &swarm.repository());
    asking.args(["review", "fix", "--ask", "slow"]).stderr(std::process::Stdio::null());
    let mut asking = asking.spawn().unwrap();
    let pid = swarm.worker_dir("fix").join("reviewers/1/pid");
    let read = || fs::read_to_string(&pid).ok().filter(|text| text.ends_with('\n'));
    swarm.wait_until("the reviewer to run", || read().is_some());
    assert_eq!(reviewer(&swarm, "slow")["verdict"], "running");
    asking.kill().unwrap();
    asking.wait().unwrap();
    let slow = reviewer(&swarm, "slow");
    assert_eq!((&slow["verdict"], &slow["summary"]), (&"no_verdict".into(), &"it was cut off".into()));
    let process = std::path::Path::new("/proc").join(read().unwrap().trim());
    assert!(process.exists(), "a killed process ends nothing");
    swarm.write_shell_agent("quick", "echo '{\"verdict\": \"approve\"}'");
    swarm.run(["review", "fix", "--ask", "quick"]).success();
    swarm.wait_until("the killed reviewer's process to be ended", || !process.exists());
    assert!(!swarm.git(["worktree", "list"]).success().contains("+gate"));
}

#[test]
fn a_run_asks_reviewers_again_whose_process_was_killed() {
    let swarm = prepared("review: {agents: [slow], agents_approve: true}\n", "", "Write.");
    // The first time it never answers.
    let script = "n=$(dirname \"$PWD\")/n; echo $PPID >> \"$n\"; test $(wc -l < \"$n\") -gt 1 || exec tail -f /dev/null
echo '{\"verdict\": \"approve\", \"summary\": \"Fine.\"}'";
    let asked = swarm.worktree("fix").with_file_name("n");
    let read = || fs::read_to_string(&asked).unwrap_or_default();
    swarm.write_shell_agent("slow", script);
    swarm.run(["up", "--headless", "--merge"]).success();
    swarm.run(["queue", "add", "fix"]).success();
    swarm.wait_until("the reviewer to be asked", || read().ends_with('\n'));
    let asking = read().trim().parse().unwrap();
    let command = fs::read_to_string(format!("/proc/{asking}/cmdline")).unwrap();
    assert!(command.contains("--ask"), "{command}");
    kill_process(Pid::from_raw(asking).unwrap(), Signal::KILL).unwrap();
    let state = || swarm.json(["queue", "list", "--all"])["tickets"][0]["state"].clone();
    swarm.wait_until("it to land", || state() == "landed");
    assert_eq!(read().lines().count(), 2);
    swarm.run(["down"]).success();
}
