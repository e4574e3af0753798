//! `plan`: an agent proposes tickets, a person edits and approves them.
//!
//! The planner works in a scratch checkout of the target, without a person, as reviewers do; what it writes there is
//! thrown away, and its answer is one block of JSON. What cannot be used is asked for once more, with everything that is
//! wrong; then the answer is kept and the plan has failed. Proposals are files in `.swarm/plans/NAME`, which nothing runs.
//! `plan approve` makes tickets of them, checked again as the person left them.

mod proposal;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use self::proposal::{NO_BLOCK, Proposal, faults_of, in_order, read_proposal};
use super::Control;
use super::import::blank_ticket;
use crate::config::{self, SpawnDepth, Template, agent_environment, parse_ticket, ticket_text};
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::views::{PlanView, PlannedTicketView, PlansView, VIEW_VERSION};
use crate::files::{self, Access, FileError};
use crate::landing::{Reviewer, Spoken};
use crate::model::agent::Agent;
use crate::model::briefing::Briefing;
use crate::model::spend::Role;
use crate::model::ticket::Ticket;
use crate::model::worker::{Attempt, Phase, Place, SpawnStep, Worker};
use crate::model::{AgentName, CommitId, TicketId, Time};
use crate::process;
use crate::store::{Charge, Counted, clocks};
use crate::supervisor::MARKER;

/// Where proposals are, from the top of the repository.
const FOLDER: &str = ".swarm/plans";
/// How often a planner is asked.
const TRIES: u32 = 2;
/// Letters of a name that are taken from the goal.
const NAME: usize = 40;

/// What `plan` was asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct PlanRequest {
    /// The goal.
    pub(crate) goal: String,
    /// Who plans, instead of the built-in planner.
    pub(crate) agent: Option<String>,
    /// The plan's name, instead of the goal's first words.
    pub(crate) name: Option<String>,
}

/// A planner about to be asked.
struct Planner<'a> {
    /// Who.
    agent: Agent,
    /// The plan as a ticket and a worker that never are any.
    ticket: Ticket,
    worker: Worker,
    /// The commit it looks at.
    commit: &'a CommitId,
    /// Where its own files go.
    folder: PathBuf,
    /// What it is asked.
    prompt: String,
    /// Set when nobody waits for the plan any more.
    ends: &'a AtomicBool,
}

/// The variables of `plan_request.md` besides the common ones.
#[derive(Serialize)]
struct PlanVariables<'a> {
    goal: &'a str,
    existing: Vec<Existing>,
}

/// A ticket that is there.
#[derive(Serialize)]
struct Existing {
    id: String,
    title: String,
    state: &'static str,
}

impl Control {
    /// Asks a planner for tickets, and writes them down as proposals. The planner is ended when `ends` is set.
    pub(crate) fn plan(&self, request: &PlanRequest, ends: &AtomicBool) -> Result<PlanView, Failure> {
        if request.goal.trim().is_empty() {
            return Err(
                Failure::new(FailureKind::Usage, "a plan needs a goal").hint("swarm plan \"what is to be reached\"")
            );
        }
        self.check_spawn_depth()?;
        self.check_may_assign()?;
        self.check_day_budget()?;
        let name: TicketId = match &request.name {
            Some(name) => name.parse()?,
            None => self.free_name(&request.goal)?,
        };
        let agent: AgentName = request.agent.as_deref().unwrap_or("planner").parse()?;
        let agent = self.ready_agent(&agent)?;
        let proposals = self.plan_folder(&name)?;
        if proposals.exists() {
            let text = format!("there is a plan `{name}` already");
            return Err(Failure::new(FailureKind::Failed, text)
                .hint(format!("swarm plan show {name} shows it; choose another name with --name")));
        }
        let target = match &self.project.settings()?.target {
            Some(target) => target.clone(),
            None => self.project.repository.default_target()?,
        };
        let commit = self.project.repository.resolve(target.as_str())?.ok_or_else(|| {
            Failure::new(FailureKind::Failed, format!("the target `{target}` has no commit to plan on"))
        })?;
        let folder = self.project.paths.root().join("plans").join(name.as_str());
        files::make_folder(&folder)?;
        let parent = self.project.repository.anchor().parent().unwrap_or(Path::new("/")).to_owned();
        let checkout = self.project.repository.scratch_worktree(&commit, &parent)?;
        let worker = self.unreal_worker(&name, &agent, checkout.path(), &commit, &target)?;
        let ticket = Ticket { title: format!("Plan {name}"), body: request.goal.clone(), ..blank_ticket(&name)? };
        let prompt = self.plan_request(&worker, &ticket)?;
        let planner = Planner { agent, ticket, worker, commit: &commit, folder, prompt, ends };
        let (proposal, cost_usd) = self.ask_planner(&planner)?;
        self.write_proposals(&proposals, &proposal)?;
        Ok(plan_view(&name, &proposals, &proposal.tickets, proposal.remarks, cost_usd))
    }

    /// The plans that wait for a person.
    pub(crate) fn plans(&self) -> Result<PlansView, Failure> {
        let folder = self.top()?.join(FOLDER);
        let mut view = PlansView { version: VIEW_VERSION, plans: Vec::new(), failed: Vec::new() };
        let mut names: Vec<String> = match std::fs::read_dir(&folder) {
            Ok(entries) => entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(FileError::on("list", &folder)(error).into()),
        };
        names.sort();
        for name in names {
            match name.parse::<TicketId>().map_err(Failure::from).and_then(|id| self.plan_of(&id)) {
                Ok(plan) => view.plans.push(plan),
                Err(failure) => view.failed.push(failure.view(&name)),
            }
        }
        Ok(view)
    }

    /// One plan as it is now.
    pub(crate) fn show_plan(&self, name: &str) -> Result<PlanView, Failure> {
        self.plan_of(&name.parse()?)
    }

    /// One plan by its name.
    fn plan_of(&self, name: &TicketId) -> Result<PlanView, Failure> {
        let folder = self.plan_folder(name)?;
        let tickets = read_proposals(&folder, name)?;
        let tickets = in_order(tickets.clone()).unwrap_or(tickets);
        Ok(plan_view(name, &folder, &tickets, None, None))
    }

    /// Makes tickets of a plan, as a person left it. Either all of it is fit, or nothing is done; one that was cut off is
    /// gone on with.
    pub(crate) fn approve_plan(&self, name: &str) -> Result<PlanView, Failure> {
        let name: TicketId = name.parse()?;
        let folder = self.plan_folder(&name)?;
        let tickets = read_proposals(&folder, &name)?;
        let target = self.project.ticket_folder()?;
        let is_there = |ticket: &Ticket| {
            let known = files::read_if_exists(&target.join(format!("{}.md", ticket.id)));
            let own = files::read_if_exists(&folder.join(format!("{}.md", ticket.id)));
            matches!((known, own), (Ok(Some(known)), Ok(Some(own))) if known == own)
        };
        let known = self.known_ids()?;
        let left: Vec<Ticket> = tickets.iter().filter(|ticket| !is_there(ticket)).cloned().collect();
        let faults = faults_of(&left, &known);
        if !faults.is_empty() {
            let text = format!("plan `{name}` cannot be used as it is:\n  {}", faults.join("\n  "));
            return Err(Failure::new(FailureKind::Failed, text).hint(format!("edit the files in {FOLDER}/{name}")));
        }
        let tickets = in_order(tickets.clone()).unwrap_or(tickets);
        // As files, so that what the person wrote stays as they wrote it.
        for ticket in in_order(left.clone()).unwrap_or(left) {
            let file = format!("{}.md", ticket.id);
            let bytes = files::read_if_exists(&folder.join(&file))?.unwrap_or_default();
            files::write_new(&target.join(&file), &bytes)?;
        }
        for ticket in &tickets {
            files::remove_if_exists(&folder.join(format!("{}.md", ticket.id)))?;
        }
        // Whatever else a person put there stays.
        std::fs::remove_dir(&folder).ok();
        Ok(PlanView { folder: None, ..plan_view(&name, &target, &tickets, None, None) })
    }

    /// Asks until there is a plan that can be used, or it was asked often enough.
    fn ask_planner(&self, planner: &Planner<'_>) -> Result<(Proposal, Option<f64>), Failure> {
        let known = self.known_ids()?;
        let account = format!("plan:{}", uuid::Uuid::new_v4());
        let (mut session, mut faults, mut cost) = (None, Vec::new(), None);
        let answer_file = planner.folder.join("answer.md");
        for tries in 0..TRIES {
            let again = format!(
                "Your plan could not be used:\n- {}\nGive it again, whole: end with exactly one block of JSON as described, \
                 and nothing after it.",
                faults.join("\n- ")
            );
            let prompt = match (tries, &session) {
                (0, _) => planner.prompt.clone(),
                (_, Some(_)) => again,
                (_, None) => format!("{}\n\n{again}\n", planner.prompt),
            };
            self.tell(&format!("{} plans", planner.agent.name));
            self.check_day_budget()?;
            let began = Instant::now();
            let spoken = self.ask_once(planner, &prompt, session.as_deref())?;
            let account = if spoken.used.is_total { account.clone() } else { format!("{account}:{tries}") };
            cost = spoken.used.cost_usd.or(cost);
            self.charge_planner(planner, &account, &spoken, began.elapsed())?;
            files::write_atomically(&answer_file, spoken.texts.join("\n\n").as_bytes(), Access::Private)?;
            let answers = spoken.texts.iter().map(|text| read_proposal(text, &known));
            // One of the texts holds the plan; what is wrong with it says more than that the others hold none.
            let answer = answers.reduce(|best, next| match (&best, &next) {
                (Ok(_), _) => best,
                (Err(faults), Err(_)) if faults.iter().all(|fault| fault != NO_BLOCK) => best,
                _ => next,
            });
            match (spoken.failure, answer) {
                (Some(failure), _) => faults = vec![failure],
                (None, Some(Ok(proposal))) => return Ok((proposal, cost)),
                (None, Some(Err(wrong))) => faults = wrong,
                (None, None) => faults = vec!["it said nothing".to_owned()],
            }
            if planner.ends.load(Ordering::SeqCst) {
                break;
            }
            session = spoken.session;
        }
        let text = format!("agent `{}` gave no plan that can be used:\n  {}", planner.agent.name, faults.join("\n  "));
        Err(Failure::new(FailureKind::Failed, text).hint(format!("its answer is kept in {}", answer_file.display())))
    }

    /// Asks once.
    fn ask_once(&self, planner: &Planner<'_>, prompt: &str, session: Option<&str>) -> Result<Spoken, Failure> {
        let settings = self.project.settings()?;
        let briefing = Briefing::new(&planner.worker, &planner.ticket, self.project.repository.anchor());
        let system_prompt = config::render_system_prompt(&planner.agent, &briefing)?;
        let env = self.planner_environment(planner)?;
        let models = settings.for_models();
        let reviewer = Reviewer {
            agent: &planner.agent,
            worker: &planner.worker,
            commit: planner.commit,
            checkout: &planner.worker.place.worktree,
            folder: &planner.folder,
            prompt,
            system_prompt: &system_prompt,
            env: &env,
            marker: MARKER,
            repository: self.project.repository.anchor(),
            common_dir: self.project.repository.common_dir(),
            program: &self.project.call.program,
            limits: &settings.limits,
            models: &models,
            budget: settings.budget,
            run: &self.run,
            timeout: settings.review.timeout,
            ends: planner.ends,
        };
        // No ticket's money is spent here.
        Ok(reviewer.ask(prompt, session, 0.0)?)
    }

    /// Writes what a planner used into the spend ledger.
    fn charge_planner(
        &self,
        planner: &Planner<'_>,
        account: &str,
        spoken: &Spoken,
        worked: Duration,
    ) -> Result<(), Failure> {
        let counted = spoken.used.tokens.map(|(input_tokens, output_tokens)| Counted {
            input_tokens,
            output_tokens,
            cost_usd: spoken.used.cost_usd,
            is_estimated: false,
        });
        let charge = Charge {
            account,
            role: Role::Planner,
            run: &self.run,
            ticket: None,
            worker: None,
            attempt: 1,
            agent: &planner.agent.name,
            model: planner.agent.model.as_deref().unwrap_or_default(),
            counted,
            worked,
        };
        self.project.store()?.charge(&charge, &clocks())?;
        self.share_spend();
        Ok(())
    }

    /// The prompt of a planner.
    fn plan_request(&self, worker: &Worker, ticket: &Ticket) -> Result<String, Failure> {
        let tickets = self.tickets()?.tickets.into_iter();
        let existing = tickets.map(|view| Existing { id: view.id, title: view.title, state: view.state.as_str() });
        let variables = PlanVariables { goal: &ticket.body, existing: existing.collect() };
        self.render(Template::PlanRequest, worker, ticket, variables)
    }

    /// The allow-listed environment with what tells a planner where it is. It names no supervisor, so what its hooks tell
    /// is kept in its folder.
    fn planner_environment(&self, planner: &Planner<'_>) -> Result<Vec<(String, String)>, Failure> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let place = &planner.worker.place;
        let settings = self.project.settings()?;
        let own = [
            (MARKER, text(&planner.folder)),
            ("SWARM_WORKER", planner.worker.id.to_string()),
            ("SWARM_AGENT_NAME", planner.agent.name.to_string()),
            ("SWARM_RUN", self.run.as_str().to_owned()),
            ("SWARM_WORKTREE", text(&place.worktree)),
            ("SWARM_REPO", text(self.project.repository.anchor())),
            ("SWARM_BASE", place.base.to_string()),
            ("SWARM_TARGET_BRANCH", place.target.to_string()),
            ("SWARM_PROMPT_FILE", text(&planner.folder.join("prompt.md"))),
            ("TERM", "dumb".to_owned()),
        ];
        let mut own: Vec<_> = own.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        own.extend(SpawnDepth::of(&self.project.call.environment, &settings.limits).below());
        Ok(agent_environment(&self.project.call.environment, settings, &planner.agent, &own))
    }

    /// A planner's place in the words that runtimes and templates have for a worker's. It is in no store.
    fn unreal_worker(
        &self,
        name: &TicketId,
        agent: &Agent,
        checkout: &Path,
        commit: &CommitId,
        target: &crate::model::BranchName,
    ) -> Result<Worker, Failure> {
        let now = Time::now();
        let place = Place {
            worktree: checkout.to_owned(),
            branch: target.clone(),
            base: commit.clone(),
            target: target.clone(),
            first_port: 0,
            port_count: 0,
            made_branch: false,
            made_paths: Vec::new(),
            stacked_on: None,
        };
        let attempt = Attempt {
            number: 1,
            fence: 0,
            run: self.run.clone(),
            session_id: None,
            started_at: now,
            headless: true,
            tmux: None,
        };
        let spawner = process::own_identity()?;
        Ok(Worker {
            id: name.as_str().parse()?,
            ticket: name.clone(),
            title: format!("Plan {name}"),
            agent: agent.name.clone(),
            runtime: agent.runtime,
            place,
            attempt,
            phase: Phase::Preparing { step: SpawnStep::Agent, spawner, since: now, before: None, earlier: None },
            created_at: now,
        })
    }

    /// Writes proposals into a new folder.
    fn write_proposals(&self, folder: &Path, proposal: &Proposal) -> Result<(), Failure> {
        files::make_folder(folder)?;
        for ticket in &proposal.tickets {
            files::write_new(&folder.join(format!("{}.md", ticket.id)), ticket_text(ticket).as_bytes())?;
        }
        Ok(())
    }

    /// The ids of all tickets that are there.
    fn known_ids(&self) -> Result<BTreeSet<String>, Failure> {
        Ok(self.tickets()?.tickets.into_iter().map(|view| view.id).collect())
    }

    /// The main worktree.
    fn top(&self) -> Result<PathBuf, Failure> {
        let top = self.project.repository.main_worktree().map(Path::to_owned);
        top.ok_or_else(|| {
            Failure::new(FailureKind::Usage, "the repository is bare: a plan needs a worktree to be written to")
        })
    }

    /// The folder of a plan's proposals.
    fn plan_folder(&self, name: &TicketId) -> Result<PathBuf, Failure> {
        Ok(self.top()?.join(FOLDER).join(name.as_str()))
    }

    /// A name from the goal's first words that no plan has.
    fn free_name(&self, goal: &str) -> Result<TicketId, Failure> {
        let words: Vec<String> = goal
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(str::to_ascii_lowercase)
            .collect();
        let mut name = String::new();
        for word in &words {
            if name.len() + word.len() >= NAME {
                break;
            }
            name = if name.is_empty() { word.clone() } else { format!("{name}-{word}") };
        }
        if name.is_empty() {
            name = "plan".to_owned();
        }
        for number in 1.. {
            let candidate = if number == 1 { name.clone() } else { format!("{name}-{number}") };
            let candidate: TicketId = candidate.parse()?;
            if !self.plan_folder(&candidate)?.exists() {
                return Ok(candidate);
            }
        }
        Err(Failure::new(FailureKind::Internal, "no name is free"))
    }
}

/// The proposals in a folder, by id.
fn read_proposals(folder: &Path, name: &TicketId) -> Result<Vec<Ticket>, Failure> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Failure::new(FailureKind::NotFound, format!("there is no plan `{name}`"))
                .hint("swarm plan list shows all"));
        }
        Err(error) => return Err(FileError::on("list", folder)(error).into()),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(FileError::on("list", folder))?.path();
        paths.extend(path.extension().is_some_and(|extension| extension == "md").then_some(path));
    }
    paths.sort();
    if paths.is_empty() {
        return Err(Failure::new(FailureKind::NotFound, format!("plan `{name}` has no tickets")));
    }
    let read = |path: &PathBuf| {
        let bytes = files::read_if_exists(path)?.unwrap_or_default();
        let text = String::from_utf8(bytes)
            .map_err(|_| Failure::new(FailureKind::Usage, format!("`{}` is not UTF-8 text", path.display())))?;
        let shown = Path::new(FOLDER).join(name.as_str()).join(path.file_name().unwrap_or_default());
        Ok(parse_ticket(&shown, &text)?)
    };
    paths.iter().map(read).collect()
}

/// A plan as a view.
fn plan_view(
    name: &TicketId,
    folder: &Path,
    tickets: &[Ticket],
    remarks: Option<String>,
    cost_usd: Option<f64>,
) -> PlanView {
    let view = |ticket: &Ticket| PlannedTicketView {
        id: ticket.id.to_string(),
        title: ticket.title.clone(),
        priority: ticket.priority,
        depends_on: ticket.depends_on.iter().map(|need| need.ticket.to_string()).collect(),
        scope: ticket.scope.clone(),
        checks: ticket.checks.clone(),
        path: folder.join(format!("{}.md", ticket.id)),
    };
    PlanView {
        version: VIEW_VERSION,
        name: name.to_string(),
        folder: Some(folder.to_owned()),
        tickets: tickets.iter().map(view).collect(),
        remarks: remarks.filter(|text| !text.trim().is_empty()),
        cost_usd,
    }
}
