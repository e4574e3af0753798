//! What nobody needs any more: what it is, why it can go, and letting it go.
//!
//! Only things that are recorded as ours are ever looked at: rows of the store, references under `refs/swarm/`, scratch
//! worktrees that were written down, folders of the state folder. A worker goes only when the content of its branch is
//! proven to be in its target and nothing in its worktree is uncommitted, and even then its work is kept first. Each
//! thing is judged again right before it goes and goes by the id that was judged; being cut off anywhere leaves some
//! things gone and the rest as they were, for the next call.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Landing, LandingError};
use crate::files::{FileError, FileLock};
use crate::git::{Check, GitError, Held, KeepEntry, crash_point};
use crate::model::event::Event;
use crate::model::ticket::TicketState;
use crate::model::worker::{Phase, Worker};
use crate::model::{BranchName, CommitId, Time, WorkerId, duration_text};
use crate::queue::Settlement;

/// Kept work that is younger goes only when a person insists.
pub(crate) const YOUNG: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Where the states after tool calls lie, of which a snapshot has the last.
const CALLS: &str = "refs/swarm/calls/";
/// Where snapshots lie: of workers here, of tickets whose work went on here that another node had begun, and the states
/// after tool calls.
const SNAPSHOTS: [&str; 3] = ["refs/swarm/wip/", "refs/swarm/inherited/", CALLS];

/// What may go.
#[derive(Debug, Clone)]
pub(crate) struct CleanPolicy {
    /// How long removed work is kept.
    pub(crate) keep: Duration,
    /// How long logs of workers that are gone stay.
    pub(crate) logs: Duration,
    /// Kept work younger than [`YOUNG`] may go, too.
    pub(crate) insists: bool,
    /// Kept work that is nowhere else may go, too, once it is old enough.
    pub(crate) unlanded: bool,
    /// The remote whose copy of the target counts as the target, too.
    pub(crate) remote: String,
    /// The present.
    pub(crate) now: Time,
}

/// A thing of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Thing {
    /// A worker's worktree, branch and snapshots.
    Worker(WorkerId),
    /// A keep ref.
    Kept {
        /// Its full name.
        reference: String,
        /// What it points to.
        commit: CommitId,
        /// Whose work it is.
        worker: WorkerId,
    },
    /// Snapshots of a worker that is gone.
    Snapshots {
        /// Full name of the reference.
        reference: String,
        /// What it points to.
        commit: CommitId,
    },
    /// A gate's worktree that a dead process left, or what it had begun to delete.
    Scratch(PathBuf),
    /// Logs and recordings of a worker that is gone.
    Logs(WorkerId),
}

impl Thing {
    /// The word for its kind.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Worker(_) => "worker",
            Self::Kept { .. } => "kept",
            Self::Snapshots { .. } => "snapshots",
            Self::Scratch(_) => "scratch",
            Self::Logs(_) => "logs",
        }
    }

    /// Which one it is.
    pub(crate) fn subject(&self) -> String {
        match self {
            Self::Worker(worker) | Self::Logs(worker) => worker.to_string(),
            Self::Kept { reference, .. } | Self::Snapshots { reference, .. } => reference.clone(),
            Self::Scratch(path) => path.display().to_string(),
        }
    }
}

/// A thing that can go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Goes {
    /// It.
    pub(crate) thing: Thing,
    /// Bytes that are free afterwards; for references some time later, when git cleans up.
    pub(crate) bytes: u64,
    /// Why it can go, as a clause.
    pub(crate) why: String,
    /// What proved that its content is in the target.
    pub(crate) check: Option<Check>,
}

/// A thing that stays although somebody might expect it to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stays {
    /// It.
    pub(crate) thing: Thing,
    /// Why, as a clause.
    pub(crate) why: String,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Proposal {
    /// What can go.
    pub(crate) goes: Vec<Goes>,
    /// What stays.
    pub(crate) stays: Vec<Stays>,
}

/// A judgement on one thing; none about what is out of the question.
type Judged = Option<Result<Goes, Stays>>;

impl Proposal {
    /// Takes a judgement in.
    fn take(&mut self, judged: Judged) {
        match judged {
            Some(Ok(goes)) => self.goes.push(goes),
            Some(Err(stays)) => self.stays.push(stays),
            None => {}
        }
    }
}

impl Landing<'_> {
    /// Looks at everything of ours and says what can go and what stays; changes nothing.
    pub(crate) fn propose(&self, policy: &CleanPolicy) -> Result<Proposal, LandingError> {
        let mut proposal = Proposal::default();
        for worker in self.store.workers()? {
            proposal.take(self.judge_gone(&worker, policy)?);
        }
        let kept = self.repository.kept()?;
        for entry in &kept {
            proposal.take(self.judge_kept(entry, policy)?);
        }
        for prefix in SNAPSHOTS {
            for reference in self.repository.references(prefix)? {
                proposal.take(self.judge_snapshots(&reference, prefix, policy)?);
            }
        }
        for path in self.repository.dead_scratch()? {
            let bytes = folder_bytes(&path);
            let why = "a process that is gone left it".to_owned();
            proposal.take(Some(Ok(Goes { thing: Thing::Scratch(path), bytes, why, check: None })));
        }
        for worker in self.log_folders()? {
            proposal.take(self.judge_logs(&worker, &kept, policy)?);
        }
        Ok(proposal)
    }

    /// Lets one thing go that was proposed, after judging it again; says what was done, as a sentence without its full
    /// stop. The inner error says why it stays after all.
    pub(crate) fn clean(&self, thing: &Thing, policy: &CleanPolicy) -> Result<Result<String, String>, LandingError> {
        // What it comes to must be true when the ticket is settled, and a landing may keep the turn for as long as its
        // gates run.
        let turn = matches!(thing, Thing::Worker(_)).then(|| self.take_turn(&mut |_| ())).transpose()?;
        let mut head = None;
        let judged = match thing {
            Thing::Worker(worker) => {
                let worker = self.worker(worker)?;
                head = self.repository.branch_head(&worker.place.branch)?;
                self.judge_gone(&worker, policy)?
            }
            Thing::Kept { reference, .. } => {
                let kept = self.repository.kept()?;
                let entry = kept.iter().find(|entry| entry.reference == *reference);
                entry.map(|entry| self.judge_kept(entry, policy)).transpose()?.flatten()
            }
            Thing::Snapshots { reference, .. } => {
                let prefix = SNAPSHOTS.into_iter().find(|prefix| reference.starts_with(prefix)).unwrap_or_default();
                self.judge_snapshots(reference, prefix, policy)?
            }
            Thing::Scratch(path) => {
                self.repository.sweep_scratch()?;
                return Ok(match self.repository.dead_scratch()?.contains(path) {
                    true => Err("not all of its files can be deleted; look whose they are".to_owned()),
                    false => Ok("Removed".to_owned()),
                });
            }
            Thing::Logs(worker) => self.judge_logs(worker, &self.repository.kept()?, policy)?,
        };
        let why = match judged {
            Some(Ok(goes)) if goes.thing == *thing => goes.why,
            Some(Ok(_)) => return Ok(Err("it changed meanwhile".to_owned())),
            Some(Err(stays)) => return Ok(Err(stays.why)),
            None => return Ok(Err("it is gone already, or in use again".to_owned())),
        };
        crash_point!("judged again");
        match thing {
            Thing::Worker(worker) => {
                let row = self.worker(worker)?;
                let Some(head) = head.filter(|head| self.head_of(&row).is_ok_and(|now| now == *head)) else {
                    return Ok(Err("it changed meanwhile".to_owned()));
                };
                self.settle_by_content(&row, head)?;
                drop(turn);
                crash_point!("ticket settled");
                let released = self.release(worker, &format!("cleaned: {why}"))?;
                Ok(Ok(format!("Removed worktree and branch; the work stays in {}", released.keep)))
            }
            Thing::Kept { reference, commit, worker } => {
                if let Some(worker) = self.store.worker(worker)? {
                    let (reference, commit) = (reference.clone(), commit.clone());
                    self.note_event(&worker, Event::KeptRemoved { reference, commit, why })?;
                }
                crash_point!("removal told");
                self.repository.forget_swarm_ref(reference, commit)?;
                Ok(Ok(format!("Removed; until git cleans up, {commit} still has it")))
            }
            Thing::Snapshots { reference, commit } => {
                self.repository.forget_swarm_ref(reference, commit)?;
                Ok(Ok(format!("Removed; until git cleans up, {commit} still has them")))
            }
            Thing::Scratch(_) => Ok(Ok("Removed".to_owned())),
            Thing::Logs(worker) => self.remove_logs(worker),
        }
    }

    /// Whether a worker is of no use any more.
    fn judge_gone(&self, worker: &Worker, policy: &CleanPolicy) -> Result<Judged, LandingError> {
        let thing = Thing::Worker(worker.id.clone());
        let stays = |why: String| Ok(Some(Err(Stays { thing: thing.clone(), why })));
        match &worker.phase {
            Phase::Released { .. } => return Ok(None),
            Phase::Preparing { .. } => return stays("its spawn is not through".to_owned()),
            _ if FileLock::is_held(&self.paths.supervisor_lock(&worker.id))? => {
                return stays("its supervisor runs".to_owned());
            }
            Phase::Supervised { .. } => return stays("it is lost; swarm resume or swarm rm decides".to_owned()),
            Phase::Ended { .. } => {}
        }
        let open = self.queue.ticket(&worker.ticket)?.map(|ticket| ticket.state).filter(|state| !state.is_ended());
        // Finished work that somebody brought into the target by hand has landed, too.
        if let Some(state) = open.filter(|state| !matches!(state, TicketState::Review | TicketState::Approved)) {
            return stays(format!("its ticket is {state}"));
        }
        let target = &worker.place.target;
        let Some(head) = self.repository.branch_head(&worker.place.branch)? else {
            return stays(format!("its branch `{}` is gone; swarm rm keeps what is left", worker.place.branch));
        };
        let held = self.held_by_target(&head, target, policy)?.filter(|_| open.is_none() || head != worker.place.base);
        let Some(held) = held else {
            return stays(open.map_or_else(|| not_proven(target), |state| format!("its ticket is {state}")));
        };
        let worktree = &worker.place.worktree;
        if worktree.symlink_metadata().is_ok() {
            let left = self.repository.leftovers(worktree, &worker.place.made_paths)?;
            if let Some(operation) = left.operation {
                return stays(format!("a {} is unfinished in its worktree", operation.as_str()));
            }
            let count = left.files.len() + left.nested.len();
            if count > 0 {
                return stays(format!("{count} files in its worktree are not committed"));
            }
            if let Some(other) = left.head.filter(|other| *other != head)
                && self.held_by_target(&other, target, policy)?.is_none()
            {
                return stays(format!("its worktree is at {}, which is not in `{target}`", other.short()));
            }
        }
        let why = held.clause(target.as_str());
        Ok(Some(Ok(Goes { thing, bytes: folder_bytes(worktree), why, check: Some(held.check) })))
    }

    /// Marks a ticket as landed whose work, up to `head`, the target has without a landing of ours. The caller has the turn.
    fn settle_by_content(&self, worker: &Worker, head: CommitId) -> Result<(), LandingError> {
        let Some(ticket) = self.queue.ticket(&worker.ticket)? else { return Ok(()) };
        let steps: &[Settlement] = match ticket.state {
            TicketState::Review => &[Settlement::Approve, Settlement::BeginLanding, Settlement::Landed],
            TicketState::Approved => &[Settlement::BeginLanding, Settlement::Landed],
            _ => return Ok(()),
        };
        for step in steps {
            self.queue.settle(&worker.ticket, ticket.fence, *step)?;
        }
        let target = worker.place.target.to_string();
        self.note_event(worker, Event::Landed { target, commit: head })
    }

    /// Whether kept work is past its time and of no use any more.
    fn judge_kept(&self, entry: &KeepEntry, policy: &CleanPolicy) -> Result<Judged, LandingError> {
        let age = entry.at.age_at(policy.now);
        if age < policy.keep {
            return Ok(None);
        }
        let (reference, commit, worker) = (entry.reference.clone(), entry.commit.clone(), entry.worker.clone());
        let thing = Thing::Kept { reference, commit, worker };
        let stays = |why: String| Ok(Some(Err(Stays { thing: thing.clone(), why })));
        if age < YOUNG && !policy.insists {
            return stays("it is younger than 30 days; --yes lets it go".to_owned());
        }
        let target = match self.store.worker(&entry.worker)? {
            Some(worker) => worker.place.target,
            None => self.repository.default_target()?,
        };
        let old = format!("it is {} old", duration_text(age));
        let (why, check) = match self.kept_held(entry, &target, policy)? {
            Some(held) => (format!("{old}, and {}", held.clause(target.as_str())), Some(held.check)),
            None if policy.unlanded => (format!("{old}; its work is nowhere else"), None),
            None => return stays(format!("{}; --unlanded lets it go", not_proven(&target))),
        };
        let bytes = self.repository.bytes_only_in(&[&entry.reference])?;
        Ok(Some(Ok(Goes { thing, bytes, why, check })))
    }

    /// What proves that a target has everything that was kept; the proof of the branch itself where there are several.
    fn kept_held(
        &self,
        entry: &KeepEntry,
        target: &BranchName,
        policy: &CleanPolicy,
    ) -> Result<Option<Held>, LandingError> {
        let mut proof = None;
        for parent in &entry.parents {
            let is_loose_end = entry.also.iter().any(|(_, also)| also == parent);
            let held = match self.held_by_target(parent, target, policy)? {
                None if is_loose_end => self.files_held_by_target(parent, target, policy)?,
                held => held,
            };
            let Some(held) = held else { return Ok(None) };
            proof.get_or_insert(held);
        }
        if entry.has_uncommitted || entry.parents.is_empty() {
            let Some(held) = self.files_held_by_target(&entry.commit, target, policy)? else { return Ok(None) };
            proof.get_or_insert(held);
        }
        Ok(proof)
    }

    /// Whether snapshots belong to a worker that is gone, and are past their time.
    fn judge_snapshots(&self, reference: &str, prefix: &str, policy: &CleanPolicy) -> Result<Judged, LandingError> {
        let Some(Ok(worker)) = reference.strip_prefix(prefix).map(str::parse::<WorkerId>) else { return Ok(None) };
        let row = self.store.worker(&worker)?;
        if row.is_some_and(|row| !matches!(row.phase, Phase::Released { .. })) {
            return Ok(None);
        }
        let Some(commit) = self.repository.ref_commit(reference)? else { return Ok(None) };
        let age = self.repository.committed_at(&commit)?.age_at(policy.now);
        if age < policy.keep || (age < YOUNG && !policy.insists) {
            return Ok(None);
        }
        let thing = Thing::Snapshots { reference: reference.to_owned(), commit: commit.clone() };
        let target = self.repository.default_target()?;
        let check = self.files_held_by_target(&commit, &target, policy)?.map(|held| held.check);
        if prefix != CALLS && check.is_none() && !policy.unlanded {
            return Ok(Some(Err(Stays { thing, why: format!("{}; --unlanded lets it go", not_proven(&target)) })));
        }
        let bytes = self.repository.bytes_only_in(&[reference])?;
        let why = format!("its worker is gone, and it is {} old", duration_text(age));
        Ok(Some(Ok(Goes { thing, bytes, why, check })))
    }

    /// Whether logs belong to a worker that is long gone, of which nothing is kept.
    fn judge_logs(&self, worker: &WorkerId, kept: &[KeepEntry], policy: &CleanPolicy) -> Result<Judged, LandingError> {
        let row = self.store.worker(worker)?;
        if row.is_some_and(|row| !matches!(row.phase, Phase::Released { .. })) {
            return Ok(None);
        }
        let folder = self.paths.worker_dir(worker);
        let age = newest_change(&folder).map_or(Duration::ZERO, |at| at.age_at(policy.now));
        let thing = Thing::Logs(worker.clone());
        if age < policy.logs || FileLock::is_held(&self.paths.supervisor_lock(worker))? {
            return Ok(None);
        }
        if let Some(entry) = kept.iter().find(|entry| entry.worker == *worker) {
            return Ok(Some(Err(Stays { thing, why: format!("its work is still kept in {}", entry.reference) })));
        }
        let why = format!("its worker is gone, and nothing was written for {}", duration_text(age));
        Ok(Some(Ok(Goes { thing, bytes: folder_bytes(&folder), why, check: None })))
    }

    /// Removes a worker's folder while nobody can spawn it.
    fn remove_logs(&self, worker: &WorkerId) -> Result<Result<String, String>, LandingError> {
        let Some(_unspawned) = FileLock::try_take(&self.paths.spawn_lock(worker))? else {
            return Ok(Err("it is being spawned".to_owned()));
        };
        let Some(_unsupervised) = FileLock::try_take(&self.paths.supervisor_lock(worker))? else {
            return Ok(Err("its supervisor runs".to_owned()));
        };
        let row = self.store.worker(worker)?;
        if row.is_some_and(|row| !matches!(row.phase, Phase::Released { .. })) {
            return Ok(Err("it was spawned again".to_owned()));
        }
        let folder = self.paths.worker_dir(worker);
        std::fs::remove_dir_all(&folder).map_err(FileError::on("remove", &folder))?;
        Ok(Ok("Removed".to_owned()))
    }

    /// Workers that have a folder for logs.
    fn log_folders(&self) -> Result<Vec<WorkerId>, LandingError> {
        let folder = self.paths.root().join("workers");
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(FileError::on("list", &folder)(error).into()),
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let mut workers: Vec<WorkerId> = names.collect();
        workers.sort();
        Ok(workers)
    }

    /// What proves that a target, here or as last fetched, has the content of some work.
    pub(super) fn held_by_target(
        &self,
        work: &CommitId,
        target: &BranchName,
        policy: &CleanPolicy,
    ) -> Result<Option<Held>, LandingError> {
        self.held_by_any(target, policy, |head| self.repository.held_in(work, head))
    }

    /// The same for files alone.
    fn files_held_by_target(
        &self,
        work: &CommitId,
        target: &BranchName,
        policy: &CleanPolicy,
    ) -> Result<Option<Held>, LandingError> {
        self.held_by_any(target, policy, |head| self.repository.files_held_in(work, head))
    }

    /// What `held` finds in the first place of a target in which it finds something.
    fn held_by_any(
        &self,
        target: &BranchName,
        policy: &CleanPolicy,
        held: impl Fn(&CommitId) -> Result<Option<Held>, GitError>,
    ) -> Result<Option<Held>, LandingError> {
        for head in self.target_heads(target, &policy.remote)? {
            if let Some(found) = held(&head)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Where a target is, here and as last fetched from its remote.
    fn target_heads(&self, target: &BranchName, remote: &str) -> Result<Vec<CommitId>, LandingError> {
        let own = self.repository.branch_head(target)?;
        let fetched = self.repository.ref_commit(&format!("refs/remotes/{remote}/{target}"))?;
        Ok(own.into_iter().chain(fetched).collect())
    }
}

/// Why work that no check found stays.
fn not_proven(target: &BranchName) -> String {
    format!("its work is not proven to be in `{target}`: none of the six checks holds")
}

/// Bytes on disk of everything below a folder; links are not followed, and what cannot be read counts nothing.
fn folder_bytes(path: &Path) -> u64 {
    let Ok(meta) = path.symlink_metadata() else { return 0 };
    let own = meta.blocks() * 512;
    if !meta.is_dir() {
        return own;
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    own + entries.map(|entry| folder_bytes(&entry.path())).sum::<u64>()
}

/// When a file right in a folder was last written; the folder itself where it has none.
fn newest_change(folder: &Path) -> Option<Time> {
    let changed = |path: &Path| {
        let at = path.symlink_metadata().ok()?.modified().ok()?;
        let since = at.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(Time::from_millis(i64::try_from(since.as_millis()).ok()?))
    };
    let files = std::fs::read_dir(folder).ok()?.flatten().filter(|entry| entry.path().is_file());
    files.filter_map(|entry| changed(&entry.path())).max().or_else(|| changed(folder))
}
