//! The repository with forty approved branches that every play begins with, made once and copied back.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::swarm::{SWARM, TestSwarm};

/// An undisturbed landing of all branches takes no longer on a slow machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// How many branches there are.
const BRANCHES: u64 = 40;
/// Files that several branches change in different places.
const SHARED: u64 = 10;
/// Lines of each of them.
const LINES: u64 = 80;

/// Random numbers that a seed decides (splitmix64, by Sebastiano Vigna, public domain).
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    /// Dice for a seed. The factor is another one than the step between numbers: else the dice of each seed would throw
    /// what those of the seed before it threw, one throw later.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// A number below `limit`.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }

    /// Puts things into another order.
    pub(super) fn shuffle<T>(&mut self, things: &mut [T]) {
        for index in (1..things.len()).rev() {
            let other = usize::try_from(self.below(index as u64 + 1)).unwrap();
            things.swap(index, other);
        }
    }
}

/// Forty approved branches, saved.
#[derive(Debug)]
pub(super) struct Scenery {
    /// The repository and its surroundings.
    pub(super) swarm: TestSwarm,
    /// What decided the branches.
    pub(super) seed: u64,
    /// The tickets, in the order they were made.
    pub(super) tickets: Vec<String>,
    /// The approved head of each branch.
    pub(super) approved: BTreeMap<String, String>,
    /// Where the target begins.
    pub(super) start: String,
    /// How long it takes to land everything that lands at once.
    pub(super) usual: Duration,
}

/// What an agent does: its plan; when it has its work back, it takes over the target and drops what makes gates red.
const AGENT: &str = r#"
set -e
if [ "$SWARM_ATTEMPT" = 1 ]; then
    sh "../../plans/$SWARM_TICKET"
    git add -A
    git commit -q -m "Work of $SWARM_TICKET"
else
    sh "../../resolve.sh"
fi
"#;

/// How a conflict and a red gate are resolved, by an agent and by a person alike.
const RESOLVE: &str = r#"
git merge -q --no-edit -X ours main || { git add -A; git commit -q --no-edit; }
rm -f red-*
git add -A
git commit -q --allow-empty -m "Resolve"
"#;

/// Writes down the tree of what really lies there when it passes. Leaves a process behind, as gates do.
const GATE: &str = r#"
echo "run $SWARM_COMMIT" >> "$1/gates.log"
export GIT_INDEX_FILE="$1/tmp/index.$$"
sleep 1000 &
git add -A
tree=$(git write-tree)
rm -f "$GIT_INDEX_FILE"
sleep 0.02
for red in red-*; do
    if [ -e "$red" ]; then echo "red $tree" >> "$1/gates.log"; exit 1; fi
done
echo "pass $tree" >> "$1/gates.log"
"#;

impl Scenery {
    /// Makes the branches by real workers, and saves everything.
    pub(super) fn build(seed: u64) -> Self {
        let swarm = TestSwarm::new();
        let mut dice = Dice::new(seed ^ 0xb4a9);
        for file in 0..SHARED {
            let lines: String = (0..LINES).map(|line| format!("file {file} line {line}\n")).collect();
            swarm.write(&format!("src/shared{file}.txt"), &lines);
        }
        for name in ["clash", "person", "diary"] {
            swarm.write(&format!("{name}.txt"), &(0..20).map(|line| format!("{name} {line}\n")).collect::<String>());
        }
        swarm.git(["add", "."]).success();
        swarm.git(["commit", "-q", "-m", "Files"]).success();
        swarm.write_shell_agent("planned", AGENT);
        let root = swarm.root().to_owned();
        swarm.write_at(&root.join("gate.sh"), GATE);
        swarm.write_at(&root.join("resolve.sh"), RESOLVE);
        let gate = format!("sh {0}/gate.sh {0}", root.display());
        let config = format!("max_workers: 100\ngates:\n  - {{name: tree, run: '{gate}'}}\nlimits: {{grace: 1s}}\n");
        swarm.write(".swarm/config.yaml", &config);
        swarm.write(".git/info/exclude", ".swarm/\n");
        let mut tickets = Vec::new();
        for number in 0..BRANCHES {
            let ticket = format!("t{number:02}");
            swarm.write_ticket(&ticket, "planned", "Work.");
            swarm.write_at(&root.join("plans").join(&ticket), &plan(number, &mut dice));
            tickets.push(ticket);
        }
        swarm.run(["trust", "--yes"]).success();
        for some in tickets.chunks(8) {
            swarm.run(["spawn", "--headless", "--wait"].into_iter().chain(some.iter().map(String::as_str))).success();
        }
        let mut approved = BTreeMap::new();
        for ticket in &tickets {
            swarm.run(["review", ticket, "--approve"]).success();
            let head = swarm.git(["rev-parse", &format!("swarm/{ticket}")]).success();
            approved.insert(ticket.clone(), head.trim().to_owned());
        }
        // A person's own work, which nobody may touch.
        swarm.write("person.txt", "changed and staged\n");
        swarm.git(["add", "person.txt"]).success();
        swarm.write("person.txt", "changed again\n");
        swarm.write("untracked.txt", "not even added\n");
        swarm.wait_until("the supervisors to end", || swarm.processes().is_empty());
        let start = swarm.git(["rev-parse", "main"]).success().trim().to_owned();
        let mut scenery = Self { swarm, seed, tickets, approved, start, usual: Duration::ZERO };
        scenery.copy("project", "saved", "project");
        scenery.copy("project-worktrees", "saved", "project-worktrees");
        let started = Instant::now();
        let (code, said) = scenery.merge_to_end();
        assert!([0, 3].contains(&code), "{said}");
        scenery.usual = started.elapsed();
        scenery.swarm.wait_until("the agents to end", || scenery.swarm.processes().is_empty());
        scenery
    }

    /// Lands what is ready, undisturbed; the exit code and what was said.
    pub(super) fn merge_to_end(&self) -> (i32, String) {
        let said = self.swarm.root().join("said");
        let (stdout, stderr) = (File::create(&said).unwrap(), File::options().append(true).open(&said).unwrap());
        let mut command = self.swarm.command(SWARM, &self.swarm.repository());
        let mut merge = command.arg("merge").stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn().unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = merge.try_wait().unwrap() {
                return (status.code().unwrap_or(-1), std::fs::read_to_string(&said).unwrap());
            }
            if Instant::now() > deadline {
                let running = format!("{:#?}", self.swarm.processes());
                merge.kill().unwrap();
                merge.wait().unwrap();
                panic!("the landing does not end: {running}\n{}", self.describe());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Puts everything back to where it was saved.
    pub(super) fn restore(&self) {
        for name in ["project", "project-worktrees"] {
            std::fs::remove_dir_all(self.swarm.root().join(name)).unwrap();
            self.copy(&format!("saved/{name}"), ".", name);
        }
        self.swarm.write_at(&self.swarm.root().join("gates.log"), "");
    }

    /// Copies a folder of the surroundings with all times.
    pub(super) fn copy(&self, from: &str, folder: &str, name: &str) {
        let root = self.swarm.root();
        std::fs::create_dir_all(root.join(folder)).unwrap();
        let to = root.join(folder).join(name);
        let mut command = self.swarm.command("cp", root);
        let status = command.args([OsStr::new("-a"), OsStr::new(from), to.as_os_str()]).status().unwrap();
        assert!(status.success(), "{command:?}");
    }

    /// A person commits a line of their diary and nothing else. It may not be the moment for it: a killed landing
    /// leaves the index locked until the next one, and a living one holds it for moments.
    pub(super) fn person_commits(&self) {
        let diary = self.swarm.read("diary.txt");
        self.swarm.write("diary.txt", &format!("{diary}a day\n"));
        let committed = self.swarm.git(["commit", "-q", "-m", "Diary", "--", "diary.txt"]);
        if committed.code != 0 {
            self.swarm.write("diary.txt", &diary);
        }
    }

    /// A person resolves what conflicts with the target or fails its gate: work goes back to its agent only so often. A
    /// lock that a landing left when it was killed goes before, as git tells them; agents find none.
    pub(super) fn person_resolves(&self, ticket: &str) {
        let lock = self.swarm.repository().join(".git/worktrees").join(ticket).join("index.lock");
        if lock.exists() {
            self.swarm.wait_until("nothing to run", || self.swarm.processes().is_empty());
            std::fs::remove_file(lock).ok();
        }
        let merged = self.swarm.git(["merge-tree", "--write-tree", "main", &format!("swarm/{ticket}")]);
        let files = self.swarm.git(["ls-tree", "--name-only", &format!("swarm/{ticket}")]).success();
        if merged.code != 0 || files.lines().any(|name| name.starts_with("red-")) {
            let mut command = self.swarm.command("sh", &self.swarm.worktree(ticket));
            let output = command.arg(self.swarm.root().join("resolve.sh")).output().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
    }

    /// A person removes the lock that a killed git left on the target, when they are told of it and nothing runs that
    /// could hold it; whether there was one. Swarm cannot know whose it is.
    pub(super) fn person_removes_lock(&self, said: &str) -> bool {
        let is_targets = |part: &&str| part.ends_with("refs/heads/main.lock") || part.ends_with(".git/HEAD.lock");
        let locks = said.split('`').find(is_targets);
        let Some(lock) = locks.filter(|_| said.contains("cannot be changed while")) else { return false };
        self.swarm.wait_until("nothing to run", || self.swarm.processes().is_empty());
        std::fs::remove_file(lock).is_ok()
    }

    /// What to look at when something is wrong; what did not land comes first.
    pub(super) fn describe(&self) -> String {
        let log = self.swarm.git(["log", "--oneline", "-60", "main"]).stdout;
        let reflog = self.swarm.git(["reflog", "main"]).stdout;
        let all = self.swarm.json(["status", "--all"]);
        let workers = all["workers"].as_array().unwrap().iter().filter(|worker| worker["ticket_state"] != "landed");
        let open = workers.map(|worker| {
            let id = worker["id"].as_str().unwrap();
            let (why, logs) = (self.swarm.run(["why", id]).transcript(), self.swarm.run(["logs", id]).transcript());
            format!("{worker:#}\n{why}\n{logs}\n")
        });
        format!("{}\n{log}\n{reflog}", open.collect::<String>())
    }
}

/// The shell commands by which branch `number` does its work.
fn plan(number: u64, dice: &mut Dice) -> String {
    let mut plan = format!("set -e\necho own > own-{number}.txt\n");
    // Different places of a shared file: these fit each other, in whatever order.
    let (file, line) = (number % SHARED, 4 + (number / SHARED) * (LINES / 4));
    plan.push_str(&format!("sed -i '{line}s/$/ by {number}/' src/shared{file}.txt\n"));
    if dice.below(3) == 0 {
        let other = (file + 1 + dice.below(SHARED - 1)) % SHARED;
        let line = 10 + (number / SHARED) * (LINES / 4) + dice.below(2);
        plan.push_str(&format!("sed -i '{line}s/$/ by {number}/' src/shared{other}.txt\n"));
    }
    match number % 10 {
        // The same line as all others of its kind.
        3 => plan.push_str(&format!("sed -i '10s/.*/{number} was here/' clash.txt\n")),
        // Makes the gates fail.
        6 if number < 20 => plan.push_str(&format!("touch red-{number}\n")),
        8 if number > 30 => plan.push_str("git mv src/shared9.txt src/moved.txt\n"),
        _ => {}
    }
    plan
}
