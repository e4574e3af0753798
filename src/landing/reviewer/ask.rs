//! One call of a reviewer agent, of whatever runtime: in print mode, in a checkout of its own, without a terminal.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Reviewer;
use crate::agent::{
    self, AgentEvent, Ending, Exit, ExitInfo, LaunchPlan, Mode, Runtime, Turns, discard_spool, take_spool,
};
use crate::files::{Access, write_atomically};
use crate::landing::LandingError;
use crate::model::Time;
use crate::process::{Finished, Invocation, ProcessError, run_until, stop_marked};

/// Time that leftovers of a reviewer get to end by themselves.
const GRACE: Duration = Duration::from_secs(2);
/// Lines of its output that help to say why it ended.
const LAST_LINES: usize = 20;
/// Why an agent has no answer that was ended because nobody waits for it any more.
const INTERRUPTED: &str = "it was interrupted";

/// What a reviewer said in one call.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Spoken {
    /// What may hold its verdict, the likeliest first.
    pub(crate) texts: Vec<String>,
    /// Why it failed, where it did.
    pub(crate) failure: Option<String>,
    /// The conversation to go on with.
    pub(crate) session: Option<String>,
    /// What it used.
    pub(crate) used: Used,
}

/// What a reviewer used; `None` is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Used {
    /// Input and output tokens.
    pub(crate) tokens: Option<(u64, u64)>,
    /// US dollars.
    pub(crate) cost_usd: Option<f64>,
    /// Whether this counts the whole conversation, earlier calls included.
    pub(crate) is_total: bool,
}

impl Reviewer<'_> {
    /// Asks, in an earlier conversation where one is given.
    pub(crate) fn ask(&self, prompt: &str, resume: Option<&str>, spent_usd: f64) -> Result<Spoken, LandingError> {
        let prompt_file = self.folder.join("prompt.md");
        write_atomically(&prompt_file, prompt.as_bytes(), Access::Private)?;
        let mut runtime = agent::runtime(self.agent);
        let resume = resume.filter(|_| agent::turns(self.agent, Mode::Print) == Turns::Resumable);
        let launch = match runtime.launch(&LaunchPlan { spent_usd, ..self.plan(prompt, &prompt_file, resume) }) {
            Ok(launch) => launch,
            Err(error) => return Ok(Spoken { failure: Some(error.to_string()), ..Spoken::default() }),
        };
        let mut argv = launch.argv.into_iter();
        let mut call = Invocation::new(argv.next().unwrap_or_default(), self.checkout).args(argv);
        call.env = Some(launch.env);
        call.timeout = Some(self.timeout);
        let stop = || stop_marked(self.marker, &self.folder.to_string_lossy(), GRACE);
        let answer = run_until(&call, || self.is_ended(), || drop(stop()));
        stop()?;
        let mut spoken = match answer {
            Ok(finished) => self.listen(&mut *runtime, &finished, launch.raw_output)?,
            Err(error) => {
                let failure = Some(error.to_string());
                let ProcessError::TimedOut { output, limit, .. } = error else { return Err(error.into()) };
                // What it used until then was used all the same; what it said is no answer.
                let cut_off = Finished {
                    status: ExitStatus::from_raw(rustix::process::Signal::KILL.as_raw()),
                    stdout: output.into_bytes(),
                    stderr: Vec::new(),
                    duration: limit,
                };
                Spoken { failure, ..self.listen(&mut *runtime, &cut_off, launch.raw_output)? }
            }
        };
        if self.is_ended() {
            spoken.failure = Some(INTERRUPTED.to_owned());
        }
        spoken.session = launch.session_id.or(spoken.session);
        spoken.used.is_total = launch.is_resumed && !launch.usage_restarts;
        Ok(spoken)
    }

    /// Whether whoever asks was asked to end.
    pub(crate) fn is_ended(&self) -> bool {
        self.ends.load(Ordering::SeqCst)
    }

    /// What the launch is made from. Everything the reviewer writes goes to its own folder.
    fn plan<'p>(&'p self, prompt: &'p str, prompt_file: &'p Path, resume: Option<&'p str>) -> LaunchPlan<'p> {
        LaunchPlan {
            agent: self.agent,
            ticket: &self.worker.ticket,
            worker: &self.worker.id,
            branch: &self.worker.place.branch,
            worktree: self.checkout,
            repo: self.repository,
            common_dir: self.common_dir,
            worker_dir: self.folder,
            prompt,
            ticket_prompt: "",
            prompt_file,
            system_prompt: self.system_prompt,
            mode: Mode::Print,
            resume,
            env: self.env,
            swarm_exe: self.program,
            writable: &[],
            limits: self.limits,
            models: self.models,
            budget_usd: self.budget.ticket.usd,
            spent_usd: 0.0,
        }
    }

    /// Feeds the runtime with everything there is, as a supervisor would have.
    fn listen(&self, runtime: &mut dyn Runtime, finished: &Finished, is_raw: bool) -> Result<Spoken, LandingError> {
        let mut events = self.told(runtime)?;
        if is_raw {
            events.extend(runtime.output(&finished.stdout, Time::now()));
        }
        let stdout = finished.text();
        let both = [stdout.as_str(), &String::from_utf8_lossy(&finished.stderr)].concat();
        let lines: Vec<_> = both.lines().collect();
        let last_lines =
            lines.iter().skip(lines.len().saturating_sub(LAST_LINES)).map(|line| (*line).to_owned()).collect();
        let exit = match finished.status.signal() {
            Some(signal) => Exit::Signal(signal),
            None => Exit::Code(finished.code()),
        };
        let (more, ending) = runtime.exited(&ExitInfo { exit, last_lines }, Time::now());
        events.extend(more);
        let mut spoken = gather(&events);
        spoken.texts.push(stdout);
        spoken.failure = match ending {
            Ending::Finished { .. } => None,
            Ending::Failed { reason, .. }
            | Ending::Interrupted { reason }
            | Ending::Limit { reason }
            | Ending::NeedsPerson { reason } => Some(reason),
        };
        Ok(spoken)
    }

    /// What its hooks told; they found no supervisor and were kept in its folder.
    fn told(&self, runtime: &mut dyn Runtime) -> Result<Vec<AgentEvent>, LandingError> {
        let spool = self.folder.join("hooks.spool.jsonl");
        let calls = take_spool(&spool)?;
        discard_spool(&spool)?;
        Ok(calls.iter().flat_map(|call| runtime.hook(call).0).collect())
    }
}

/// What events say of interest.
fn gather(events: &[AgentEvent]) -> Spoken {
    let mut spoken = Spoken::default();
    let mut shown = String::new();
    for event in events {
        match event {
            AgentEvent::TurnEnded { last_message: Some(text), .. } => spoken.texts.insert(0, text.clone()),
            AgentEvent::SessionStarted { id, .. } => spoken.session = Some(id.clone()),
            AgentEvent::Usage(usage) => {
                spoken.used.tokens = Some((usage.input_tokens, usage.output_tokens));
                spoken.used.cost_usd = usage.cost_usd.or(spoken.used.cost_usd);
            }
            AgentEvent::Display(line) => {
                shown.push_str(line);
                shown.push('\n');
            }
            _ => {}
        }
    }
    spoken.texts.push(shown);
    spoken
}
