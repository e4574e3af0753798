//! `doctor`: looks at everything a repository's work rests on. Unless it is asked to mend, it changes nothing but what the
//! queue says about leases that are over and workers that are lost.

use std::path::Path;

use super::mend::{Fault, is_preparing, old_lock, pids};
use super::sessions::is_abandoned;
use super::{Control, is_released};
use crate::agent::Probe;
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::views::{DoctorView, FindingView, VIEW_VERSION};
use crate::files::{self, FileLock};
use crate::git::is_gone;
use crate::model::ticket::TicketState;
use crate::model::worker::{Liveness, Phase, Status, TmuxSession, Worker};
use crate::model::{Time, counted, duration_text};
use crate::queue::QueueError;
use crate::store::{Store, StoreError};
use crate::supervisor::Client;
use crate::terminal::{Tmux, TmuxError};

/// A hand-over file is read within moments; one that is older was left by a start that never came about.
const HANDOVER_AGE: std::time::Duration = std::time::Duration::from_secs(60);

/// One finding, and what can be mended about it.
pub(super) struct Found {
    /// What a face shows.
    view: FindingView,
    /// What can be put right.
    fault: Option<Fault>,
}

impl Found {
    /// The same with something that can be put right.
    fn mendable(mut self, fault: Fault) -> Self {
        self.view.mend = Some(fault.remedy());
        self.fault = Some(fault);
        self
    }
}

/// A finding that all is well.
fn ok(subject: &str, text: impl Into<String>) -> Found {
    finding("ok", subject, text, None)
}

/// A finding that wants a look but stops nothing.
fn warning(subject: &str, text: impl Into<String>, hint: Option<String>) -> Found {
    finding("warning", subject, text, hint)
}

/// A finding that stops something.
fn problem(subject: &str, text: impl Into<String>, hint: Option<String>) -> Found {
    finding("problem", subject, text, hint)
}

/// One finding.
fn finding(level: &str, subject: &str, text: impl Into<String>, hint: Option<String>) -> Found {
    let (level, subject, text) = (level.to_owned(), subject.to_owned(), text.into());
    Found { view: FindingView { level, subject, text, hint, mend: None, mended: None }, fault: None }
}

/// A failure as a finding.
fn failed(subject: &str, failure: &Failure) -> Found {
    problem(subject, failure.chain.join(": "), failure.hints.first().cloned())
}

impl Control {
    /// Looks at everything, and with `mends` puts right what can be. The second value is the failure for the exit code,
    /// when something is a problem and stays one.
    pub(crate) fn doctor(&self, mends: bool) -> (DoctorView, Result<(), Failure>) {
        let mut found = self.look_around();
        let mut failures = 0;
        for found in found.iter_mut().filter(|_| mends) {
            let Some(fault) = &found.fault else { continue };
            match self.mend(fault) {
                Ok(done) => found.view.mended = Some(done),
                Err(failure) => {
                    failures += 1;
                    found.view.level = "problem".to_owned();
                    found.view.text = format!("{}; it was not mended: {}", found.view.text, failure.chain.join(": "));
                }
            }
        }
        let findings: Vec<_> = found.into_iter().map(|found| found.view).collect();
        let is_open = |finding: &&FindingView| finding.level == "problem" && finding.mended.is_none();
        let count = findings.iter().filter(is_open).count().max(failures);
        let result = match count {
            0 => Ok(()),
            1 => Err(Failure::new(FailureKind::Failed, "1 problem was found")),
            _ => Err(Failure::new(FailureKind::Failed, format!("{count} problems were found"))),
        };
        (DoctorView { version: VIEW_VERSION, findings }, result)
    }

    /// Every look.
    fn look_around(&self) -> Vec<Found> {
        let mut findings = self.look_at_machine();
        findings.extend(self.look("agents", Self::broken_agents));
        findings.extend(self.look("trust", Self::open_trust));
        findings.extend(self.look("state", Self::state));
        if matches!(Store::open_read_only(&self.project.paths), Err(StoreError::Copied { .. })) {
            // Whatever else is to be seen is the original's.
            return findings;
        }
        findings.extend(self.look("queue", Self::queue_server));
        findings.extend(self.look("coordinator", Self::coordinator_at_odds));
        findings.extend(self.look("workers", Self::workers_at_odds));
        findings.extend(self.look("tickets", Self::tickets_at_odds));
        findings.extend(self.look("worktrees", Self::worktrees_at_odds));
        findings.extend(self.look("sessions", Self::left_sessions));
        findings.extend(self.look("runtime", |_| stale_runtime_files()));
        findings.extend(self.look("ports", Self::stale_ports));
        findings.extend(self.look("locks", Self::old_locks));
        findings.extend(self.look("kept work", Self::kept_work));
        findings
    }

    /// One look; that it failed is a finding too.
    fn look(&self, subject: &str, look: impl FnOnce(&Self) -> Result<Vec<Found>, Failure>) -> Vec<Found> {
        look(self).unwrap_or_else(|failure| vec![failed(subject, &failure)])
    }

    /// What the machine and the repository bring along: git, tmux, who commits, target, configuration, default agent.
    pub(super) fn machine(&self) -> Vec<FindingView> {
        self.look_at_machine().into_iter().map(|found| found.view).collect()
    }

    /// The same as findings.
    fn look_at_machine(&self) -> Vec<Found> {
        let repository = &self.project.repository;
        let git = match repository.check_program() {
            Ok(version) => ok("git", format!("git {version}")),
            Err(error) => failed("git", &error.into()),
        };
        let identity = match repository.identity() {
            Ok(identity) => ok("identity", format!("commits are by {} <{}>", identity.name, identity.email)),
            Err(error) => failed("identity", &error.into()),
        };
        let mut findings = vec![git, identity];
        if let Err(failure) = self.project.settings() {
            findings.push(failed("config", &failure));
            return findings;
        }
        findings.extend(self.look("tmux", |control| Ok(vec![control.tmux_program()?])));
        findings.extend(self.look("target", |control| Ok(vec![control.landing_target()?])));
        findings.extend(self.look("agent", |control| Ok(vec![control.default_agent()?])));
        findings
    }

    /// Whether sessions are possible.
    fn tmux_program(&self) -> Result<Found, Failure> {
        let without = "workers run detached, and swarm attach shows them without tmux";
        let tmux = self.project.tmux_server(&self.project.settings()?.tmux.socket)?;
        Ok(match tmux.available() {
            Ok(version) => ok("tmux", format!("tmux {version}")),
            Err(error @ (TmuxError::Missing(_) | TmuxError::TooOld { .. })) => {
                let hint = "install tmux with your package manager, such as apt install tmux or brew install tmux";
                warning("tmux", format!("{error}: {without}"), Some(hint.to_owned()))
            }
            Err(error) => failed("tmux", &error.into()),
        })
    }

    /// Whether the branch that work lands on is there.
    fn landing_target(&self) -> Result<Found, Failure> {
        let branch = self.target()?;
        Ok(match self.project.repository.branch_head(&branch)? {
            Some(_) => ok("target", format!("work lands on `{branch}`")),
            None => {
                let hint = format!("make it: git branch {branch}, or set `target` in .swarm/config.yaml");
                problem("target", format!("there is no branch `{branch}`"), Some(hint))
            }
        })
    }

    /// Whether the default agent can run.
    fn default_agent(&self) -> Result<Found, Failure> {
        let agent = self.project.agent(&self.project.settings()?.agent)?;
        let probes = self.probe_all(&[agent])?;
        let name = &agent.name;
        let runtime = agent.runtime.as_str();
        Ok(match probes.first() {
            Some(Probe { problem: Some(text), hint, .. }) => {
                problem("agent", format!("default agent `{name}` cannot run: {text}"), hint.clone())
            }
            Some(Probe { version: Some(version), .. }) => {
                ok("agent", format!("default agent `{name}` runs on {runtime} {version}"))
            }
            _ => ok("agent", format!("default agent `{name}` runs on {runtime}")),
        })
    }

    /// Agent files that define none.
    fn broken_agents(&self) -> Result<Vec<Found>, Failure> {
        let problems = self.project.agents()?.problems().iter();
        Ok(problems.map(|error| warning("agents", error.to_string(), error.hint().map(str::to_owned))).collect())
    }

    /// Commands of the repository that would stop a spawn or a landing.
    fn open_trust(&self) -> Result<Vec<Found>, Failure> {
        let question = self.trust_question()?;
        let view = question.view();
        let open = view.commands.iter().filter(|command| !command.trusted).count();
        Ok(vec![match (view.commands.len(), open) {
            (0, _) => ok("trust", "no set-up commands or gates"),
            (all, 0) => ok("trust", format!("all {all} set-up commands and gates are trusted")),
            (all, open) => {
                let text = format!("{open} of {all} set-up commands and gates are not trusted, and will not run");
                warning("trust", text, Some("swarm trust".to_owned()))
            }
        }])
    }

    /// The state folder and its database.
    fn state(&self) -> Result<Vec<Found>, Failure> {
        let root = self.project.paths.root();
        let Some(store) = Store::open_read_only(&self.project.paths)? else {
            return Ok(vec![ok("state", "none yet; the first spawn makes it")]);
        };
        let faults = store.quick_check()?;
        let mut findings = vec![ok("state", format!("in {}", root.display()))];
        findings.push(match faults.first() {
            None => ok("database", "it is whole"),
            Some(fault) => {
                let hint =
                    "stop all workers, move the database away and start afresh; commits and kept work are in git";
                problem("database", format!("it is damaged: {fault}"), Some(hint.to_owned()))
            }
        });
        Ok(findings)
    }

    /// The server that keeps the queue, and whether as many keep it as are to.
    fn queue_server(&self) -> Result<Vec<Found>, Failure> {
        if Store::open_read_only(&self.project.paths)?.is_none() {
            return Ok(Vec::new());
        }
        let queue = self.project.queue()?;
        let (Some(server), Some(link)) = (queue.server(), queue.link()) else { return Ok(Vec::new()) };
        let (version, count) = link.kept_by().map_err(QueueError::from)?;
        let place = format!("project `{}` on {} (nats-server {version})", server.project, server.address);
        let (wanted, by) = (server.replicas, counted(count, "server"));
        Ok(vec![match count < wanted {
            false => ok("queue", format!("{place}, kept by {by}")),
            true => {
                let text = format!("{place} is kept by {by}, and `queue.replicas` is {wanted}");
                let hint = format!("swarm queue migrate --to file, then swarm queue migrate --to {}", server.address);
                warning("queue", text, Some(hint))
            }
        }])
    }

    /// A coordinator that was killed.
    fn coordinator_at_odds(&self) -> Result<Vec<Found>, Failure> {
        let found = |pid| {
            let text =
                format!("the coordinator in the background (process {pid}) was killed, and nobody started it again");
            warning("coordinator", text, Some("swarm up, or swarm down if that is as it should be".to_owned()))
        };
        Ok(self.killed_pid()?.map(found).into_iter().collect())
    }

    /// Workers whose facts do not fit together, and processes that nobody supervises.
    fn workers_at_odds(&self) -> Result<Vec<Found>, Failure> {
        let workers = self.recorded_workers()?;
        let mut findings = Vec::new();
        let mut live = 0;
        for worker in &workers {
            let mut known = self.know(worker.clone(), self.ticket_state(&worker.ticket)?);
            self.reconcile(&mut known)?;
            let id = &worker.id;
            match (known.verdict.status, known.liveness) {
                (Status::Lost, _) if matches!(worker.phase, Phase::Preparing { .. }) => {
                    let text = format!("the spawn of `{id}` was interrupted: {}", known.verdict.reason);
                    let hint = Some(format!("swarm resume {id}, or swarm rm {id}"));
                    findings.push(problem("workers", text, hint).mendable(Fault::HalfSpawned(id.clone())));
                }
                (Status::Lost, _) => {
                    let text = format!("`{id}` is lost: {}", known.verdict.reason);
                    let hint = Some(format!("swarm resume {id}"));
                    findings.push(problem("workers", text, hint).mendable(Fault::Lost(id.clone())));
                }
                (_, Liveness::Unreadable) => {
                    let text = format!("whether `{id}` lives cannot be told: {}", known.verdict.reason);
                    findings.push(problem("workers", text, Some(format!("swarm why {id}"))));
                }
                (_, Liveness::Alive) => live += 1,
                _ => {}
            }
            if known.liveness == Liveness::Dead {
                findings.extend(self.unsupervised(worker)?);
            }
            if self.awaits_release(worker)? {
                let text = format!("the work of `{id}` landed, and it was not released");
                let found = warning("workers", text, Some(format!("swarm rm {id} keeps its work")));
                findings.push(found.mendable(Fault::Unreleased(id.clone())));
            }
            if known.ticket_state.is_none() && !is_released(worker) && !is_preparing(worker) {
                let text = format!("the queue knows no ticket `{}` of worker `{id}`", worker.ticket);
                let found = problem("workers", text, Some(format!("swarm rm {id} keeps its work")));
                let is_dead = known.liveness == Liveness::Dead;
                findings.push(if is_dead { found.mendable(Fault::NoTicket(id.clone())) } else { found });
            }
        }
        if findings.is_empty() {
            let kept = workers.iter().filter(|worker| !is_released(worker)).count();
            findings.push(ok("workers", format!("{kept} with a worktree, {live} of them live")));
        }
        Ok(findings)
    }

    /// Tickets that the queue says are held, and nobody works on them: their command died before it had written a worker
    /// down, or their worker has ended. Leases that are over are told to the queue first.
    fn tickets_at_odds(&self) -> Result<Vec<Found>, Failure> {
        if Store::open_read_only(&self.project.paths)?.is_none() {
            return Ok(Vec::new());
        }
        let queue = self.project.queue()?;
        queue.expire(Time::now())?;
        let mut findings = Vec::new();
        for (ticket, state) in queue.states()? {
            if matches!(state, TicketState::Running | TicketState::Lost) && self.is_unattended(&ticket)? {
                let text = format!("ticket `{ticket}` is {state} in the queue, and no worker is at it");
                let found = problem("tickets", text, Some(format!("swarm spawn {ticket}")));
                findings.push(found.mendable(Fault::Unattended(ticket)));
            }
        }
        Ok(findings)
    }

    /// Processes that a worker without supervisor left behind.
    fn unsupervised(&self, worker: &Worker) -> Result<Option<Found>, Failure> {
        let running = self.left_running(worker)?;
        let text = format!("`{}` has no supervisor, but its processes run: {}", worker.id, pids(&running));
        let found = problem("processes", text, Some(format!("swarm stop {}", worker.id)));
        Ok((!running.is_empty()).then(|| found.mendable(Fault::LeftProcesses(worker.id.clone()))))
    }

    /// tmux sessions of workers that were released.
    fn left_sessions(&self) -> Result<Vec<Found>, Failure> {
        let left = self.released_sessions()?;
        let warn = |(tmux, session): (Tmux, TmuxSession)| {
            let text = format!("the session `{}` of a released worker is left", session.name);
            let flag = if session.socket.contains('/') { "-S" } else { "-L" };
            let hint = format!("tmux {flag} {} kill-session -t '{}'", session.socket, session.id);
            warning("sessions", text, Some(hint)).mendable(Fault::Session(tmux, session))
        };
        Ok(left.into_iter().map(warn).collect())
    }

    /// Worktrees and branches that workers record and git does not have, and the other way round.
    fn worktrees_at_odds(&self) -> Result<Vec<Found>, Failure> {
        let repository = &self.project.repository;
        let workers = self.recorded_workers()?;
        let mut findings = Vec::new();
        let snapshots = repository.references("refs/swarm/wip/")?;
        for worker in workers.iter().filter(|worker| !is_released(worker) && !is_preparing(worker)) {
            let (id, place) = (&worker.id, &worker.place);
            let has_branch = repository.branch_head(&place.branch)?.is_some();
            let hint = way_back(worker, &snapshots, has_branch);
            if let Err(error) = repository.linked(&place.worktree) {
                let text = format!("the worktree of `{id}` is not usable: {error}");
                let found = problem("worktrees", text, hint.clone());
                let is_gone = is_gone(&place.worktree) && self.liveness(worker) == Liveness::Dead;
                let fault = (is_gone && has_branch).then(|| Fault::NoWorktree(id.clone()));
                findings.push(match fault {
                    Some(fault) => found.mendable(fault),
                    None => found,
                });
            }
            if !has_branch {
                let text = format!("the branch `{}` of `{id}` is gone", place.branch);
                findings.push(problem("branches", text, hint));
            }
        }
        let scratch = repository.dead_scratch()?;
        for path in &scratch {
            let text = match path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"+gate-")) {
                true => format!("a gate that died left its worktree at {}", path.display()),
                false => format!("a removal that died left files to delete at {}", path.display()),
            };
            let found = warning("worktrees", text, Some("swarm clean --apply".to_owned()));
            findings.push(found.mendable(Fault::Scratch(path.clone())));
        }
        let mut foreign = 0;
        for worktree in repository.worktrees()?.into_iter().filter(|worktree| !scratch.contains(&worktree.path)) {
            let is_ours = |worker: &&Worker| is_place_of(worker, &worktree.path);
            let owner = workers.iter().find(is_ours);
            let is_current = owner.is_some_and(|worker| !is_released(worker) && worker.place.worktree == worktree.path);
            if is_current || repository.main_worktree() == Some(&worktree.path) {
                continue;
            }
            if worktree.path.exists() || worktree.locked {
                foreign += 1;
                continue;
            }
            let text = format!("git has a worktree registered at {}, which is gone", worktree.path.display());
            let found = warning("worktrees", text, Some("git worktree prune".to_owned()));
            findings.push(match owner {
                Some(_) => found.mendable(Fault::StaleRegistration(worktree.path)),
                None => found,
            });
        }
        if findings.is_empty() {
            findings.push(ok("worktrees", "registrations, folders and branches fit together"));
        }
        if foreign > 0 {
            findings.push(ok("worktrees", format!("{} not ours, left as they are", counted(foreign, "worktree"))));
        }
        findings.extend(self.foreign_branches(&workers)?);
        Ok(findings)
    }

    /// Branches that are named like ours and that no worker made.
    fn foreign_branches(&self, workers: &[Worker]) -> Result<Option<Found>, Failure> {
        let template = self.project.settings_or_default().branch.clone();
        let Some((prefix, "")) = template.split_once("{worker}").filter(|(prefix, _)| !prefix.is_empty()) else {
            return Ok(None);
        };
        let names = self.project.repository.references(&format!("refs/heads/{prefix}"))?;
        let is_recorded = |name: &&str| workers.iter().any(|worker| worker.place.branch.as_str() == *name);
        let others: Vec<_> = names
            .iter()
            .filter_map(|name| name.strip_prefix("refs/heads/"))
            .filter(|name| !is_recorded(name))
            .collect();
        let text = match &others[..] {
            [] => return Ok(None),
            [one] => format!("`{one}` was made by no worker, and is left as it is"),
            several => format!("{} were made by no worker, and are left as they are", quoted(several)),
        };
        Ok(Some(ok("branches", text)))
    }

    /// Blocks of ports whose workers are gone.
    fn stale_ports(&self) -> Result<Vec<Found>, Failure> {
        let Some(store) = Store::open_read_only(&self.project.paths)? else { return Ok(Vec::new()) };
        let mut findings = Vec::new();
        for id in store.stale_ports()? {
            // A spawn takes its ports before it writes its worker down.
            if !FileLock::is_held(&self.project.paths.spawn_lock(&id))? {
                let found = warning("ports", format!("ports are taken for `{id}`, which is gone"), None);
                findings.push(found.mendable(Fault::Ports(id)));
            }
        }
        Ok(findings)
    }

    /// Locks of git that are old. Nobody can tell whose they are, so they are only told.
    fn old_locks(&self) -> Result<Vec<Found>, Failure> {
        let repository = &self.project.repository;
        let common = repository.common_dir();
        let mut paths: Vec<_> = ["index.lock", "HEAD.lock", "config.lock", "packed-refs.lock"]
            .iter()
            .map(|name| common.join(name))
            .collect();
        for worktree in repository.worktrees()?.iter().filter(|worktree| worktree.git_dir != common) {
            paths.extend(["index.lock", "HEAD.lock"].iter().map(|name| worktree.git_dir.join(name)));
        }
        let told = |path: std::path::PathBuf| {
            let age = duration_text(old_lock(&path)?);
            let text = format!("{} is {age} old; a git command that died may have left it", path.display());
            Some(warning("locks", text, Some(format!("rm {} once no git command runs there", path.display()))))
        };
        Ok(paths.into_iter().filter_map(told).collect())
    }

    /// What lies under refs of ours without a worker that works on it.
    fn kept_work(&self) -> Result<Vec<Found>, Failure> {
        let repository = &self.project.repository;
        let workers = self.recorded_workers()?;
        let wip = repository.references("refs/swarm/wip/")?;
        let is_known = |name: &String| {
            let id = name.trim_start_matches("refs/swarm/wip/");
            workers.iter().any(|worker| worker.id.as_str() == id && !is_released(worker))
        };
        let orphans: Vec<_> = wip.iter().filter(|name| !is_known(name)).collect();
        let kept = repository.references("refs/swarm/keep/")?.len();
        let mut findings = Vec::new();
        if kept > 0 {
            let hint = Some("swarm recover list".to_owned());
            findings.push(finding(
                "ok",
                "kept work",
                format!("removed work is preserved in {}", counted(kept, "keep ref")),
                hint,
            ));
        }
        for name in orphans {
            let found = warning("kept work", format!("the snapshot {name} belongs to no worker"), None);
            findings.push(match name.trim_start_matches("refs/swarm/wip/").parse() {
                Ok(id) => found.mendable(Fault::Snapshots(id)),
                Err(_) => found,
            });
        }
        Ok(findings)
    }

    /// All workers ever spawned; none before there is any state.
    fn recorded_workers(&self) -> Result<Vec<Worker>, Failure> {
        let store = Store::open_read_only(&self.project.paths)?;
        Ok(store.map(|store| store.workers()).transpose()?.unwrap_or_default())
    }
}

/// How to come by a worker's work when its worktree or its branch is damaged: only what is there is named.
fn way_back(worker: &Worker, snapshots: &[String], has_branch: bool) -> Option<String> {
    let (id, place) = (&worker.id, &worker.place);
    let snapshot = format!("refs/swarm/wip/{id}");
    if snapshots.contains(&snapshot) {
        let branch = id.as_str().replace('+', "-");
        return Some(format!("git branch recovered/{branch} {snapshot} brings its last snapshot back"));
    }
    match (place.worktree.exists(), has_branch) {
        (false, true) => Some(format!("its commits are on `{}`; swarm rm {id} keeps them", place.branch)),
        (true, true) => {
            Some(format!("its commits are on `{}`, its files in {}", place.branch, place.worktree.display()))
        }
        (true, false) => Some(format!("its files are in {}", place.worktree.display())),
        (false, false) => None,
    }
}

/// Whether a path is where a worker's worktree is or was; one that was removed without its folder is registered under
/// another name.
fn is_place_of(worker: &Worker, path: &Path) -> bool {
    let place = &worker.place.worktree;
    let aside = place.file_name().map(|name| place.with_file_name(format!("{}.missing", name.to_string_lossy())));
    path == place || aside.as_deref() == Some(path)
}

/// Names in a sentence.
fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Sockets nobody listens on and hand-over files nobody took. A hand-over file holds an environment, so it should not lie
/// about.
fn stale_runtime_files() -> Result<Vec<Found>, Failure> {
    let folder = files::runtime_folder()?;
    let entries = std::fs::read_dir(&folder).map_err(files::FileError::on("list", &folder))?;
    let mut findings = Vec::new();
    for entry in entries {
        let path = entry.map_err(files::FileError::on("list", &folder))?.path();
        let hint = Some(format!("rm {}", path.display()));
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("sock") if Client::connect(&path)?.is_none() && path.exists() => {
                let found = warning("runtime", format!("nobody listens on {}", path.display()), hint);
                findings.push(found.mendable(Fault::RuntimeFile(path)));
            }
            Some("json") if is_old(&path) => {
                let found = warning("runtime", format!("nobody took the hand-over file {}", path.display()), hint);
                findings.push(found.mendable(Fault::RuntimeFile(path)));
            }
            Some("ready") if is_abandoned(&path)? => {
                let found = warning("runtime", format!("nobody waits on {}", path.display()), hint);
                findings.push(found.mendable(Fault::RuntimeFile(path)));
            }
            _ => {}
        }
    }
    if findings.is_empty() {
        findings.push(ok("runtime", format!("nothing stale in {}", folder.display())));
    }
    Ok(findings)
}

/// Whether a file has been there for longer than a start takes.
fn is_old(path: &Path) -> bool {
    let age = std::fs::metadata(path).and_then(|meta| meta.modified()).ok().and_then(|time| time.elapsed().ok());
    age.is_some_and(|age| age > HANDOVER_AGE)
}
