//! What must hold after a blow, and at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::scenery::Scenery;
use crate::support::swarm::TestSwarm;

/// What was approved in this play, and what is known to have landed.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Every head that was approved, by ticket.
    approved: BTreeMap<String, BTreeSet<String>>,
    /// Tickets in the target's history.
    landed: BTreeSet<String>,
    /// The history from the start on, oldest first, as last seen.
    history: Vec<String>,
}

/// One commit of the target's first-parent history.
struct Step {
    id: String,
    tree: String,
    parents: Vec<String>,
    subject: String,
    ticket: String,
}

impl Ledger {
    /// At the beginning of a play.
    pub(super) fn open(scenery: &Scenery) -> Self {
        let first = scenery.approved.iter();
        let approved = first.map(|(ticket, head)| (ticket.clone(), BTreeSet::from([head.clone()]))).collect();
        Self { approved, landed: BTreeSet::new(), history: Vec::new() }
    }

    /// Notes that the present head of a branch is about to be approved.
    pub(super) fn note_approval(&mut self, scenery: &Scenery, ticket: &str) {
        let head = scenery.swarm.git(["rev-parse", &format!("swarm/{ticket}")]).success();
        self.approved.get_mut(ticket).unwrap().insert(head.trim().to_owned());
    }

    /// Whether every branch has landed.
    pub(super) fn has_all(&self, scenery: &Scenery) -> bool {
        self.landed.len() == scenery.tickets.len()
    }

    /// After any blow: the target only went on, each branch is in it once or still there, and the person's work is
    /// where it was.
    pub(super) fn check_so_far(&mut self, scenery: &Scenery) {
        let steps = steps(&scenery.swarm, &scenery.start);
        let ids: Vec<_> = steps.iter().map(|step| step.id.clone()).collect();
        assert!(ids.starts_with(&self.history), "the target lost commits\n{}", scenery.describe());
        let mut landed = BTreeSet::new();
        for step in steps.iter().filter(|step| !step.ticket.is_empty()) {
            assert!(landed.insert(step.ticket.clone()), "{} landed twice\n{}", step.ticket, scenery.describe());
            let approved = &self.approved[&step.ticket];
            assert!(approved.contains(&step.parents[1]), "{} is not what was approved", step.id);
        }
        let branches = scenery.swarm.git(["for-each-ref", "--format=%(refname:short)", "refs/heads/swarm"]).success();
        let branches: BTreeSet<_> = branches.lines().filter_map(|name| name.strip_prefix("swarm/")).collect();
        for ticket in scenery.tickets.iter().filter(|ticket| !landed.contains(*ticket)) {
            assert!(branches.contains(ticket.as_str()), "the branch of {ticket} is gone\n{}", scenery.describe());
        }
        assert_eq!(scenery.swarm.read("person.txt"), "changed again\n");
        assert_eq!(scenery.swarm.read("untracked.txt"), "not even added\n");
        (self.history, self.landed) = (ids, landed);
    }

    /// When everything has landed: the history is that of a valid order, every tip was tested as it is, everything
    /// is written down, nothing is left lying around.
    pub(super) fn check_end(&self, scenery: &Scenery) {
        check_order(&scenery.swarm, &scenery.start);
        check_tips(&scenery.swarm);
        let swarm = &scenery.swarm;
        let status = swarm.json(["status", "--all"]);
        for worker in status["workers"].as_array().unwrap() {
            assert_eq!(worker["ticket_state"], "landed", "{worker:#}");
            let id = worker["id"].as_str().unwrap();
            assert!(!swarm.worktree(id).exists(), "its worktree is left\n{}", swarm.run(["why", id]).transcript());
        }
        for step in steps(swarm, &scenery.start).iter().filter(|step| !step.ticket.is_empty()) {
            let note = swarm.git(["notes", "--ref=swarm", "show", &step.id]).success();
            assert_eq!(note.lines().count(), 1, "{note}");
            let kept = format!("refs/swarm/keep/{}", step.ticket);
            let kept = swarm.git(["for-each-ref", "--format=%(refname)", &kept]).success();
            let holds = |name: &str| swarm.git(["merge-base", "--is-ancestor", &step.parents[1], name]).code == 0;
            assert!(kept.lines().any(holds), "{} is not kept: {kept}", step.ticket);
        }
        assert_eq!(swarm.git(["status", "--porcelain"]).success(), "MM person.txt\n?? untracked.txt\n");
        assert_eq!(swarm.git(["show", ":person.txt"]).success(), "changed and staged\n");
        assert_eq!(swarm.git(["branch", "--list", "swarm/*"]).success(), "");
        assert_eq!(swarm.git(["worktree", "list"]).success().lines().count(), 1);
        swarm.git(["fsck", "--connectivity-only", "--no-dangling"]).success();
        check_nothing_is_left(scenery);
    }

    /// How often a gate ran in this play.
    pub(super) fn gate_runs(&self, scenery: &Scenery) -> usize {
        gate_log(&scenery.swarm).iter().filter(|(what, _)| what == "run").count()
    }
}

/// The target's history since the start, oldest first.
fn steps(swarm: &TestSwarm, start: &str) -> Vec<Step> {
    let format = "--format=%H%x09%T%x09%P%x09%s%x09%(trailers:key=Swarm-Ticket,valueonly,separator=%x2C)";
    let range = format!("{start}..main");
    let text = swarm.git(["log", "--first-parent", "--reverse", format, &range]).success();
    let step = |line: &str| {
        let fields: Vec<_> = line.split('\t').map(str::to_owned).collect();
        let [id, tree, parents, subject, ticket] = fields.try_into().unwrap();
        let parents = parents.split(' ').map(str::to_owned).collect();
        Step { id, tree, parents, subject, ticket }
    };
    text.lines().map(step).collect()
}

/// Every commit is the person's, or exactly the merge of an approved head into the commit before it.
pub(super) fn check_order(swarm: &TestSwarm, start: &str) {
    let mut before = start.to_owned();
    for step in steps(swarm, start) {
        assert_eq!(step.parents[0], before, "{} does not follow", step.id);
        if step.ticket.is_empty() {
            assert_eq!((step.subject.as_str(), step.parents.len()), ("Diary", 1), "who made {}?", step.id);
        } else {
            let merged = swarm.git(["merge-tree", "--write-tree", &step.parents[0], &step.parents[1]]);
            assert_eq!(merged.success().trim(), step.tree, "{} is not the merge of its parents", step.id);
        }
        before = step.id;
    }
}

/// Every commit to which a landing moved the target had passed its gate as that very tree.
pub(super) fn check_tips(swarm: &TestSwarm) {
    check_tips_by(swarm, swarm);
}

/// The same where the gates of several clones write beside another repository.
pub(super) fn check_tips_by(swarm: &TestSwarm, ground: &TestSwarm) {
    let log = gate_log(ground);
    let passed: BTreeSet<_> = log.iter().filter(|(what, _)| what == "pass").map(|(_, tree)| tree.as_str()).collect();
    let reflog = swarm.git(["log", "-g", "--format=%T%x09%gs", "main"]).success();
    let moves = reflog.lines().filter_map(|line| line.split_once('\t'));
    let moves: Vec<_> = moves.filter(|(_, reason)| reason.starts_with("swarm:")).collect();
    assert!(!moves.is_empty());
    for (tree, reason) in moves {
        assert!(passed.contains(tree), "`{reason}` moved the target to {tree}, which never passed");
    }
}

/// What gates wrote outside the repository: a word and an id a line.
fn gate_log(swarm: &TestSwarm) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(swarm.root().join("gates.log")).unwrap();
    let line = |line: &str| line.split_once(' ').map(|(what, id)| (what.to_owned(), id.to_owned()));
    text.lines().filter_map(line).collect()
}

/// No process, worktree, lock, journal or half-written file.
fn check_nothing_is_left(scenery: &Scenery) {
    let swarm = &scenery.swarm;
    swarm.wait_until("the last process to end", || swarm.processes().is_empty());
    let git = swarm.repository().join(".git");
    for folder in ["swarm/moves", "swarm/scratch", "worktrees"] {
        let left: Vec<_> = std::fs::read_dir(git.join(folder)).into_iter().flatten().flatten().collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
    let worktrees: Vec<_> = std::fs::read_dir(swarm.root().join("project-worktrees")).unwrap().flatten().collect();
    assert!(worktrees.is_empty(), "{worktrees:?}");
    let mut left = Vec::new();
    find_litter(&git, &mut left);
    assert!(left.is_empty(), "left behind: {left:?}");
}

/// Files that only a dead process can have left.
pub(super) fn find_litter(folder: &Path, left: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if entry.file_type().unwrap().is_dir() {
            find_litter(&path, left);
        } else if is_litter(&path, &name) {
            left.push(path.display().to_string());
        }
    }
}

/// Git's locks, our copies of an index and files that were being written. Files below `.git/swarm` that end in `.lock`, and
/// that of a checkout, are what our own processes hold while they live, and stay.
fn is_litter(path: &Path, name: &str) -> bool {
    let is_state =
        path.components().any(|part| part.as_os_str() == "swarm") && !path.to_string_lossy().contains("/refs/");
    let is_ours = is_state || name == "swarm-checkout.lock";
    (name.ends_with(".lock") && !is_ours) || name.starts_with(".swarm-") || name == "index.swarm"
}
