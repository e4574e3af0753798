//! Runs in CI: no terminal, no person, no home; what comes out for the machines.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::schema::assert_conforms;
use crate::support::swarm::{Output, SWARM, TestSwarm};

/// A clone as a job has it, of a repository with tickets.
struct Job {
    swarm: TestSwarm,
    clone: PathBuf,
    out: PathBuf,
}

/// Tickets: `good` lands, `next` needs it and lands, `bad` fails, `later` needs `bad`.
fn job() -> Job {
    let swarm = TestSwarm::new();
    swarm.write_shell_agent("writer", "echo made by $SWARM_WORKER > \"$SWARM_WORKER.txt\"");
    // What it prints would be commands to the CI system if they began a line.
    let bad =
        "echo half > half.txt; printf '::error::from an agent\\n##[group]x\\n\\033[31mred\\033[0m\\000\\n'; exit 3";
    swarm.write_shell_agent("failing", bad);
    swarm.write_shell_agent("slow", "echo begun > begun.txt; sleep 1000");
    let config = "agent: writer\nlanding: {approval: auto}\ngates: [{name: clean, run: \"test -f good.txt\"}]\n";
    swarm.write(".swarm/config.yaml", config);
    swarm.write_ticket("good", "writer", "Write.");
    swarm.write(".swarm/tickets/next.md", "---\nagent: writer\ndepends_on: [good]\n---\nWrite on.\n");
    let text = "---\nagent: failing\ntitle: \"A <bad> | one & more\"\nmax_attempts: 1\n---\nFail.\n";
    swarm.write(".swarm/tickets/bad.md", text);
    swarm.write(".swarm/tickets/later.md", "---\nagent: writer\ndepends_on: [bad]\n---\nWrite later.\n");
    swarm.run(["init", "--ci"]).success();
    fs::remove_file(swarm.repository().join(".swarm/tickets/example.md")).ok();
    swarm.git(["add", "-A"]).success();
    swarm.git(["commit", "--quiet", "-m", "Tickets"]).success();
    let (clone, out) = (swarm.root().join("clone"), swarm.root().join("clone/swarm-out"));
    swarm.git(["clone", "--quiet", ".", &clone.to_string_lossy()]).success();
    for (name, value) in [("user.name", "swarm"), ("user.email", "swarm@example.com")] {
        swarm.git_in(&clone, ["config", name, value]).success();
    }
    Job { swarm, clone, out }
}

impl Job {
    /// A program in the clone as CI starts it: nothing in the environment but what CI sets, no home, no terminal, standard
    /// input closed.
    fn command(&self, script: &str, variables: &[(&str, &str)]) -> Command {
        let programs = Path::new(SWARM).parent().unwrap().to_str().unwrap();
        let path = format!("PATH={programs}:{}", self.swarm.environment()["PATH"].to_string_lossy());
        let place = |name: &str, folder: &str| format!("{name}={}", self.swarm.root().join(folder).display());
        let mut command = self.swarm.command("setsid", &self.clone);
        command.args(["--wait", "env", "-i", &path, &place("XDG_CONFIG_HOME", "config"), &place("TMPDIR", "tmp")]);
        command.args(["CI=true", "GITHUB_ACTIONS=true", &place("GITHUB_STEP_SUMMARY", "summary.md")]);
        command.args(variables.iter().map(|(name, value)| format!("{name}={value}")));
        command.args(["bash", "-e", "-c", &format!("exec <&-\n{script}")]);
        command
    }

    /// Runs it to its end.
    fn run(&self, script: &str, variables: &[(&str, &str)]) -> Output {
        let child = self.command(script, variables).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        self.end_of(child)
    }

    /// Waits for the end of a program that writes less than a pipe holds.
    fn end_of(&self, mut child: Child) -> Output {
        let mut status = None;
        self.swarm.wait_until("the job to end", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        let mut text = [String::new(), String::new()];
        child.stdout.take().unwrap().read_to_string(&mut text[0]).unwrap();
        child.stderr.take().unwrap().read_to_string(&mut text[1]).unwrap();
        let [stdout, stderr] = text;
        Output { code: status.unwrap().code().unwrap_or(-1), stdout, stderr }
    }

    /// A file of what came out.
    fn read(&self, name: &str) -> String {
        let path = self.out.join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The events that came out.
    fn events(&self, text: &str) -> Vec<Value> {
        let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        events.iter().for_each(|event| assert_conforms(event, "events"));
        events
    }

    /// Nothing of the job runs on.
    fn is_quiet(&self) -> bool {
        self.swarm.processes().is_empty()
    }
}

/// The attribute of the one element of a test case.
fn attribute(junit: &str, ticket: &str, element: &str, name: &str) -> Option<String> {
    let document = roxmltree::Document::parse(junit).unwrap();
    let mut cases = document.descendants().filter(|node| node.has_tag_name("testcase"));
    let case = cases.find(|node| node.attribute("name") == Some(ticket))?;
    let child = case.children().find(|node| node.has_tag_name(element))?;
    child.attribute(name).map(str::to_owned)
}

#[test]
fn the_workflow_that_comes_with_swarm_does_what_it_says() {
    let job = job();
    let workflow = fs::read_to_string(job.clone.join(".github/workflows/swarm.yml")).unwrap();
    let workflow: serde_json::Value = serde_yaml::from_str(&workflow).unwrap();
    let steps = workflow["jobs"]["run"]["steps"].as_array().unwrap();
    let scripts: Vec<&str> = steps.iter().filter_map(|step| step["run"].as_str()).collect();
    assert_eq!(scripts.len(), 3);
    // Expressions are what GitHub makes of them: no tickets were named, and there are no secrets here.
    let variables = [("TICKETS", ""), ("SWARM_REPOSITORY", ""), ("ANTHROPIC_API_KEY", "")];
    for script in &scripts[..2] {
        job.run(script, &variables).expect_code(0);
    }
    let ran = job.run(scripts[2], &variables).expect_code(3);

    let junit = job.read("junit.xml");
    let document = roxmltree::Document::parse(&junit).unwrap();
    let counts =
        ["tests", "failures", "errors", "skipped"].map(|name| document.root_element().attribute(name).unwrap());
    assert_eq!(counts, ["4", "1", "0", "1"], "{junit}");
    let failure = attribute(&junit, "bad", "failure", "message").unwrap();
    assert!(failure.contains('3'), "{failure}");
    let evidence = document.descendants().find(|node| node.has_tag_name("failure")).unwrap().text().unwrap();
    assert!(evidence.contains("::error::from an agent"), "the end of its terminal: {evidence}");
    assert!(attribute(&junit, "later", "skipped", "message").unwrap().contains("bad"));

    // The log: a line an event, no command of an agent at the beginning of one, and our own at the end.
    assert!(ran.stdout.contains("good           queued -> running"), "{}", ran.stdout);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    let word = lines[0].strip_prefix("::stop-commands::").unwrap();
    let end = lines.iter().position(|line| *line == format!("::{word}::")).unwrap();
    let commands = |lines: &[&str]| lines.iter().filter(|line| line.trim_start().starts_with("::")).count();
    assert_eq!(commands(&lines[1..end]), 0, "{}", ran.stdout);
    assert!(
        lines[end + 1].starts_with("::error file=.swarm/tickets/bad.md,line=1,title=bad failed::"),
        "{}",
        ran.stdout
    );
    let summary = fs::read_to_string(job.swarm.root().join("summary.md")).unwrap();
    assert!(summary.contains("| bad | failed | A &lt;bad&gt; &#124; one &amp; more |"), "{summary}");

    let events = job.events(&job.read("events.jsonl"));
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert!(names.contains(&"run_began") && names.last() == Some(&"run_ended"), "{names:?}");
    let seqs: Vec<i64> = events.iter().map(|event| event["seq"].as_i64().unwrap()).collect();
    assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seqs:?}");

    // What landed and what was not committed are in the bundle, and another clone can have both.
    let bundle = job.out.join("branches.bundle").to_string_lossy().into_owned();
    let both = ["refs/heads/*:refs/remotes/swarm/*", "refs/swarm/*:refs/swarm/*"];
    job.swarm.git(["fetch", "--quiet", &bundle, both[0], both[1]]).success();
    job.swarm.git(["cat-file", "-e", "refs/remotes/swarm/main:next.txt"]).success();
    job.swarm.git(["grep", "half", "refs/swarm/wip/bad", "--", "half.txt"]).says("half");
    for name in ["run.json", "stats.json", "summary.md", "workers/bad/diff.patch", "workers/bad/terminal.1.cast"] {
        assert!(job.out.join(name).exists(), "{name}");
    }
    assert!(job.read("workers/good/events.jsonl").contains("\"landed\""));
    let stats: Value = serde_json::from_str(&job.read("stats.json")).unwrap();
    assert_conforms(&stats, "stats");
    assert!(stats["total"]["utilisation"].as_f64().unwrap() > 0.0, "{stats:#}");

    // It landed, nobody used tmux, and nothing runs on.
    assert!(job.clone.join("next.txt").exists());
    let status = job.swarm.run_in(&job.clone, ["status", "bad", "--json"]).expect_code(0).json();
    assert_eq!(status["workers"][0]["tmux_session"], Value::Null);
    assert_eq!(job.swarm.git_in(&job.clone, ["status", "--porcelain", "--", ":!swarm-out"]).success(), "");
    job.swarm.wait_until("everything to end", || job.is_quiet());
}

#[test]
fn a_job_that_is_told_to_end_stops_its_agents_and_keeps_what_they_did() {
    let job = job();
    job.swarm.write_at(&job.clone.join(".swarm/tickets/slow.md"), "---\nagent: slow\n---\nTake your time.\n");
    let script = "exec swarm run slow later --ci --yes --junit swarm-out/junit.xml --artifacts swarm-out";
    // Without `setsid`, so that the child is the program itself.
    let mut command = job.command(script, &[]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = |place: &Path| {
        fs::read_dir(place).is_ok_and(|mut found| found.any(|entry| entry.unwrap().path().join("begun.txt").exists()))
    };
    let worktrees = job.swarm.root().join("clone-worktrees");
    job.swarm.wait_until("the agent to begin", || begun(&worktrees));
    let (pid, _) = job
        .swarm
        .processes()
        .into_iter()
        .find(|(_, shown)| shown.starts_with("swarm run slow"))
        .expect("the coordinator runs");
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::TERM).unwrap();
    let ended = job.end_of(child).expect_code(143);
    let junit = job.read("junit.xml");
    let why = attribute(&junit, "slow", "error", "message");
    assert!(why.is_some(), "{junit}\n{}", ended.transcript());
    let bundle = job.out.join("branches.bundle").to_string_lossy().into_owned();
    job.swarm.git(["fetch", "--quiet", &bundle, "refs/swarm/*:refs/swarm/*"]).success();
    job.swarm.git(["grep", "begun", "refs/swarm/wip/slow", "--", "begun.txt"]).says("begun");
    job.swarm.wait_until("everything to end", || job.is_quiet());
}

#[test]
fn time_that_is_over_is_reported_like_everything_else() {
    let job = job();
    job.swarm.write_at(&job.clone.join(".swarm/tickets/slow.md"), "---\nagent: slow\n---\nTake your time.\n");
    let script = "swarm run slow --ci --yes --timeout 2s --junit out/junit.xml";
    job.run(script, &[]).expect_code(6);
    let junit = fs::read_to_string(job.clone.join("out/junit.xml")).unwrap();
    assert!(attribute(&junit, "slow", "error", "message").is_some(), "{junit}");
    job.swarm.wait_until("everything to end", || job.is_quiet());
}

#[test]
fn events_on_standard_output_leave_it_to_the_machine() {
    let job = job();
    let ran = job.run("swarm run good --ci --yes --events -", &[]).expect_code(0);
    let events = job.events(&ran.stdout);
    assert!(events.iter().any(|event| event["event"] == "moved" && event["to"] == "review"), "{}", ran.stdout);
    assert!(ran.stderr.contains("good           queued -> running"), "{}", ran.stderr);
    job.run("swarm run good --ci --json --events -", &[]).expect_code(2).says("both want standard output");
}

#[test]
fn a_run_that_cannot_begin_is_reported_too() {
    let job = job();
    job.run("swarm run nowhere --ci --junit junit.xml", &[]).says("nowhere");
    let junit = fs::read_to_string(job.clone.join("junit.xml")).unwrap();
    assert!(attribute(&junit, "run", "error", "message").unwrap().contains("nowhere"), "{junit}");
}

#[test]
fn nothing_starts_where_nobody_could_commit_or_land() {
    let job = job();
    // Without it, whether git finds a name depends on the machine.
    job.swarm.git_in(&job.clone, ["config", "user.useConfigOnly", "true"]).success();
    for name in ["user.name", "user.email"] {
        job.swarm.git_in(&job.clone, ["config", "--unset", name]).success();
    }
    let refused = job.run("swarm run good --ci --yes --merge", &[]).expect_code(4);
    refused.says("git does not know who commits here");
    refused.says("git config user.name NAME");
    // One of the two is not enough.
    let author = [("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "a@example.com")];
    job.run("swarm run good --ci --yes", &author).expect_code(4).says("git does not know who commits here");
    for (name, value) in [("user.name", "swarm"), ("user.email", "swarm@example.com")] {
        job.swarm.git_in(&job.clone, ["config", name, value]).success();
    }
    for (config, code, says) in [
        ("target=gone", 5, "there is no branch `gone` to land on"),
        ("landing={mode: pr, remote: nowhere}", 5, "nowhere"),
        ("review.agents=[nobody]", 2, "there is no agent `nobody`"),
    ] {
        let script = format!("swarm run good --ci --yes --merge --config '{config}'");
        job.run(&script, &[]).expect_code(code).says(says);
    }
    let log = job.run("swarm status --json", &[]).expect_code(0).json();
    assert_eq!(log["workers"], Value::Array(Vec::new()), "nothing was started");
}
