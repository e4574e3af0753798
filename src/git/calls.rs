//! The states of a worktree after single tool calls, so that one can go back to them.
//!
//! Each state is a snapshot; a chain of commits of our own on `refs/swarm/calls/<worker>` keeps them and says which
//! call each came after. A link of the chain has the snapshot as its last parent and the link before as its first,
//! so the whole chain is one reference. A call that changed nothing adds no link. The chain stands beside the wip
//! reference and not behind it, because histories of other times behind a snapshot would mislead merges of it.

use serde::{Deserialize, Serialize};

use super::snapshot::Snapshot;
use super::{GitError, Repository, commit_id};
use crate::model::{BranchName, CommitId, Time, WorkerId};

/// What the message of a link starts with.
const SUBJECT: &str = "State after calls of ";

/// What a state came after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StateOf {
    /// Tool calls that ended: the first and the last of those that ended since the state before, by the numbers of
    /// the records of their ends in the tool log. Where they are several, their changes cannot be told apart.
    Calls {
        /// Number of the first.
        first: u64,
        /// Number of the last.
        last: u64,
    },
    /// Going back, when the last record of the tool log had this number.
    Rewind {
        /// The number.
        after: u64,
    },
}

/// A state that can be gone back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallState {
    /// What it came after.
    pub(crate) of: StateOf,
    /// The commit that was checked out; `None` when the branch was gone.
    pub(crate) head: Option<CommitId>,
    /// The branch that was checked out; `None` when the head was detached.
    pub(crate) branch: Option<BranchName>,
    /// The snapshot.
    pub(crate) snapshot: CommitId,
    /// When it was saved.
    pub(crate) at: Time,
}

/// All states of a worker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CallStates {
    /// Oldest first.
    pub(crate) states: Vec<CallState>,
    /// Whether there were earlier ones that are gone by now.
    pub(crate) is_cut: bool,
}

/// What the message of a link says in JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Link {
    /// Version of this object.
    schema: u32,
    /// What the state came after.
    of: StateOf,
    /// The commit that was checked out.
    head: Option<CommitId>,
    /// The branch that was checked out.
    branch: Option<BranchName>,
    /// When.
    at: Time,
    /// Links from here to the first, this one included.
    length: usize,
    /// Whether links before the first were cut off.
    is_cut: bool,
}

impl CallStates {
    /// The state after the call whose end has the number `end` in the tool log; `None` is the state that the worker
    /// began with.
    pub(crate) fn after(&self, end: u64) -> Option<&CallState> {
        self.states.iter().rev().find(|state| match state.of {
            StateOf::Calls { first, .. } => first <= end,
            StateOf::Rewind { after } => after < end,
        })
    }
}

impl Repository {
    /// The reference that holds the states of a worker.
    pub(super) fn calls_ref(worker: &WorkerId) -> String {
        format!("refs/swarm/calls/{worker}")
    }

    /// Adds a state to those of a worker, unless it is the same as the last one; says whether it did. Of more than
    /// twice `most` states only the newest `most` stay.
    pub(crate) fn record_state(
        &self,
        worker: &WorkerId,
        snapshot: &Snapshot,
        of: StateOf,
        most: usize,
    ) -> Result<bool, GitError> {
        let lock = self.lock_snapshot(worker)?;
        let name = Self::calls_ref(worker);
        let tip = self.ref_commit(&name)?;
        let known = self.call_states(worker)?;
        if known
            .states
            .last()
            .is_some_and(|last| last.snapshot == snapshot.commit && matches!(of, StateOf::Calls { .. }))
        {
            return Ok(false);
        }
        let (head, branch) = (snapshot.head.clone(), snapshot.branch.clone());
        let new = CallState { of, head, branch, snapshot: snapshot.commit.clone(), at: snapshot.at };
        let (mut before, mut is_cut, mut rest) = (tip.clone(), known.is_cut, vec![new]);
        let mut length = known.states.len();
        if length >= most.saturating_mul(2) {
            let kept = known.states[length + 1 - most..].iter().cloned();
            rest = kept.chain(rest).collect();
            (before, is_cut, length) = (None, true, 0);
        }
        for state in rest {
            length += 1;
            before = Some(self.make_link(worker, &state, before, length, is_cut)?);
        }
        if let Some(last) = before {
            self.move_ref(&name, tip.as_ref(), &last)?;
        }
        drop(lock);
        Ok(true)
    }

    /// Makes one link.
    fn make_link(
        &self,
        worker: &WorkerId,
        state: &CallState,
        before: Option<CommitId>,
        length: usize,
        is_cut: bool,
    ) -> Result<CommitId, GitError> {
        let CallState { of, head, branch, at, snapshot } = state.clone();
        let link = Link { schema: 1, of, head, branch, at, length, is_cut };
        let json = serde_json::to_string(&link).expect("a link is plain data");
        let tree = self.commit_facts(&snapshot)?.tree;
        let parents: Vec<_> = before.into_iter().chain([snapshot]).collect();
        self.own_commit(&tree, &parents, &format!("{SUBJECT}`{worker}`\n\n{json}\n"))
    }

    /// The states of a worker.
    pub(crate) fn call_states(&self, worker: &WorkerId) -> Result<CallStates, GitError> {
        let Some(tip) = self.ref_commit(&Self::calls_ref(worker))? else { return Ok(CallStates::default()) };
        let text = self.git(self.home(), ["show", "--no-patch", "--no-notes", "--format=%B", tip.as_str()]);
        let Some(last) = parse_link(&text.reading().text()?) else { return Ok(CallStates::default()) };
        let count = format!("--max-count={}", last.length);
        let flags = ["log", "-z", "--first-parent", "--no-show-signature", "--no-notes", "--format=tformat:%P%x00%B"];
        let call = self.git(self.home(), flags).args([count.as_str(), tip.as_str(), "--"]);
        let text = call.reading().output()?.text();
        let fields: Vec<_> = text.split('\0').collect();
        let mut states = Vec::new();
        for record in fields.chunks_exact(2) {
            let (Some(link), Some(snapshot)) = (parse_link(record[1]), record[0].split_whitespace().last()) else {
                break;
            };
            let Link { of, head, branch, at, .. } = link;
            states.push(CallState { of, head, branch, snapshot: commit_id(snapshot)?, at });
        }
        states.reverse();
        Ok(CallStates { states, is_cut: last.is_cut })
    }

    /// Deletes the states of a worker whose work is kept.
    pub(super) fn delete_states(&self, worker: &WorkerId) -> Result<(), GitError> {
        let name = Self::calls_ref(worker);
        match self.ref_commit(&name)? {
            Some(commit) => self.delete_ref(&name, &commit),
            None => Ok(()),
        }
    }
}

/// Reads the JSON of a link's message.
fn parse_link(message: &str) -> Option<Link> {
    let json = message.trim_start().strip_prefix(SUBJECT)?.split_once("\n\n")?.1;
    serde_json::from_str(json.trim()).ok()
}
