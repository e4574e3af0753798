//! Talking to a supervisor that may hang: who waits is told for what, and in the end what to do.

use std::time::Duration;

use super::Control;
use crate::coordinator::failure::{Failure, FailureKind};
use crate::files::FileLock;
use crate::model::duration_text;
use crate::model::worker::{Phase, Worker};
use crate::process;
use crate::supervisor::protocol::{Reply, Request};
use crate::supervisor::{Client, SLOW};

/// How long one may take to end, besides the grace that its agent gets twice.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// How long whoever stops a worker waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// Until its supervisor is gone: something is to be done with the worker.
    Gone,
    /// Until it is written down that its attempt ended: the supervisor may still be telling a server that is away.
    Written,
}

impl Control {
    /// Asks a supervisor to end; `None` when there is none. One that does not answer is ended by its identity, and what
    /// it leaves of its agent is the caller's to end.
    pub(super) fn ask_to_stop(&self, worker: &Worker, reason: &str, until: Until) -> Result<Option<Reply>, Failure> {
        self.ask_to_end(worker, Request::Stop { reason: reason.to_owned(), is_failure: false }, until)
    }

    /// Ends a worker's attempt as failed, as far as it is not over.
    pub(super) fn end_failed(&self, worker: &Worker, reason: &str) -> Result<(), Failure> {
        let request = Request::Stop { reason: reason.to_owned(), is_failure: true };
        self.ask_to_end(worker, request, Until::Gone).map(drop)
    }

    /// The same with this request.
    fn ask_to_end(&self, worker: &Worker, request: Request, until: Until) -> Result<Option<Reply>, Failure> {
        let grace = self.project.settings_or_default().limits.grace;
        let is_written = || {
            let phase = self.worker(worker.id.as_str())?.phase;
            Ok::<_, Failure>(until == Until::Written && matches!(phase, Phase::Ended { .. }))
        };
        let ended = match self.client(&worker.id) {
            Ok(None) => return Ok(None),
            Ok(Some(_)) if is_written()? => return Ok(Some(Reply::Ok)),
            Ok(Some(client)) => self.hear(worker, client, &request, self.stop_within()),
            Err(failure) => Err(failure),
        };
        let await_end = |reply| {
            let is_free = FileLock::take_within(&self.project.paths.supervisor_lock(&worker.id), SLOW)?.is_some();
            if !is_free && !is_written()? {
                self.await_end(worker)?;
            }
            Ok(reply)
        };
        match ended.and_then(await_end) {
            Ok(reply) => Ok(Some(reply)),
            Err(failure) if failure.kind == FailureKind::TimedOut => {
                let Phase::Supervised { supervisor, .. } = self.worker(worker.id.as_str())?.phase else {
                    return Err(failure);
                };
                let (id, pid) = (&worker.id, supervisor.pid);
                self.tell(&format!("ending the supervisor of `{id}` (process {pid}), which does not answer"));
                // One that was only held goes on with that and ends its agent itself.
                process::stop_process(&supervisor, grace * 2)?;
                self.await_end(worker)?;
                Ok(Some(Reply::Ending))
            }
            Err(failure) => Err(failure),
        }
    }

    /// How long a supervisor may take to end: its agent gets the grace, and what that leaves behind gets it again.
    fn stop_within(&self) -> Duration {
        STOP_WITHIN + self.project.settings_or_default().limits.grace * 2
    }

    /// Waits for a supervisor's answer, and says so when it takes longer than a person expects.
    pub(super) fn hear(
        &self,
        worker: &Worker,
        mut client: Client,
        request: &Request,
        within: Duration,
    ) -> Result<Reply, Failure> {
        let slow = || self.tell_waiting(worker, within);
        match client.ask_within(request, within, &slow)? {
            Some(reply) => Ok(reply),
            None => Err(self.no_answer(worker, within)),
        }
    }

    /// Says what is waited for.
    fn tell_waiting(&self, worker: &Worker, within: Duration) {
        let limit = duration_text(within);
        self.tell(&format!("waiting for {}; it gets {limit}", self.supervisor_of(worker)));
    }

    /// A supervisor as messages name it.
    fn supervisor_of(&self, worker: &Worker) -> String {
        let id = &worker.id;
        match self.supervisor_pid(worker) {
            Some(pid) => format!("the supervisor of `{id}` (process {pid})"),
            None => format!("the supervisor of `{id}`"),
        }
    }

    /// The pid of a worker's supervisor, as it wrote it down.
    fn supervisor_pid(&self, worker: &Worker) -> Option<u32> {
        match self.worker(worker.id.as_str()).ok()?.phase {
            Phase::Supervised { supervisor, .. } => Some(supervisor.pid),
            _ => None,
        }
    }

    /// The failure for a supervisor that lives and does nothing.
    fn no_answer(&self, worker: &Worker, within: Duration) -> Failure {
        let (who, limit) = (self.supervisor_of(worker), duration_text(within));
        let mut failure = Failure::new(FailureKind::TimedOut, format!("{who} did not answer within {limit}"));
        if let Some(pid) = self.supervisor_pid(worker) {
            failure = failure
                .hint(format!("if it was held (kill -STOP), kill -CONT {pid} lets it go on and do what it was asked"));
        }
        let id = &worker.id;
        failure.hint(format!("swarm stop {id} ends it with its agent, swarm resume {id} then goes on with the work"))
    }

    /// Waits until the supervisor is gone; it answered, so this is moments unless it hangs.
    pub(super) fn await_end(&self, worker: &Worker) -> Result<(), Failure> {
        let lock = self.project.paths.supervisor_lock(&worker.id);
        // The lock is free the moment the process ends, so waiting for it is waiting for the end.
        if FileLock::take_within(&lock, SLOW)?.is_some() {
            return Ok(());
        }
        let within = self.stop_within();
        self.tell_waiting(worker, within);
        match FileLock::take_within(&lock, within)? {
            Some(_free) => Ok(()),
            None => Err(self.no_answer(worker, within)),
        }
    }
}
