//! The resolved settings; each module gets the part it needs by value.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::budget::BudgetSettings;
use super::health::HealthSettings;

use super::node::NodeSettings;
use super::providers::{self, ModelSettings, OLLAMA, Price, Provider, built_in_providers};
use super::queue::QueueSettings;
use super::scaling::ScalingPolicy;
use super::ticket::StartFrom;
use super::topology::{Topology, TopologySetting};
use super::{AgentName, BranchName, serde_duration};

/// All settings after files, environment and flags were merged.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// Agent for tickets that name none.
    pub(crate) agent: AgentName,
    /// Branch that work lands on; `None` is the repository's default branch.
    pub(crate) target: Option<BranchName>,
    /// Path template of worktrees with `{repo}` and `{worker}`, relative to the main worktree.
    pub(crate) worktrees: String,
    /// Name template of branches with `{worker}`.
    pub(crate) branch: String,
    /// Workers that may run at once on this machine for this repository, from 1.
    pub(crate) max_workers: usize,
    /// When a coordinator lets more or fewer run at once.
    pub(crate) scaling: Vec<ScalingPolicy>,
    /// Glob patterns of ignored files copied into each new worktree.
    pub(crate) copy: Vec<String>,
    /// Commands run in each new worktree, in order; they need trust.
    pub(crate) setup: Vec<SetupCommand>,
    /// What must pass before landing, in order; they need trust.
    pub(crate) gates: Vec<Gate>,
    /// How `swarm run` and `swarm up` go about it.
    pub(crate) run: RunSettings,
    /// How work lands.
    pub(crate) landing: LandingSettings,
    /// How long what was removed is kept.
    pub(crate) recover: RecoverSettings,
    /// Who looks at it before, and what approval takes.
    pub(crate) review: ReviewSettings,
    /// Where tickets wait.
    pub(crate) queue: QueueSettings,
    /// This clone among those that share a queue.
    pub(crate) node: NodeSettings,
    /// Who may assign and message whom; `None` is what a full mesh is without being asked.
    pub(crate) topology: Option<TopologySetting>,
    /// Topologies by name.
    pub(crate) topologies: BTreeMap<String, Topology>,
    /// Where tmux sessions live.
    pub(crate) tmux: TmuxSettings,
    /// Durations and sizes.
    pub(crate) limits: Limits,
    /// What workers may use, and when one that does not go on is looked after.
    pub(crate) health: HealthSettings,
    /// What may be spent.
    pub(crate) budget: BudgetSettings,
    /// Environment given to every agent, set-up command and check.
    pub(crate) env: BTreeMap<String, String>,
    /// Names of variables of the spawning process that agents may see besides the built-in list.
    pub(crate) pass_env: Vec<String>,
    /// Port blocks.
    pub(crate) ports: PortSettings,
    /// How hard the store writes.
    pub(crate) durability: Durability,
    /// Extra patterns of secrets that logs must not hold.
    pub(crate) redact: Vec<String>,
    /// The provider of a model that is named without one.
    pub(crate) default_provider: String,
    /// Who serves models, by name.
    #[serde(deserialize_with = "providers::with_built_ins")]
    pub(crate) providers: BTreeMap<String, Provider>,
    /// Names for models in order of preference.
    pub(crate) models: BTreeMap<String, Vec<String>>,
    /// Prices by model that go before those we know.
    pub(crate) prices: BTreeMap<String, Price>,
}

impl Settings {
    /// How many workers there are ports for.
    pub(crate) fn port_blocks(&self) -> usize {
        let (base, size) = (usize::from(self.ports.base), usize::from(self.ports.size));
        (usize::from(u16::MAX) + 1).saturating_sub(base).checked_div(size).unwrap_or(0)
    }

    /// The part that opens models.
    pub(crate) fn for_models(&self) -> ModelSettings {
        ModelSettings {
            default_provider: self.default_provider.clone(),
            providers: self.providers.clone(),
            models: self.models.clone(),
            prices: self.prices.clone(),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            agent: "ticket-worker".parse().expect("the built-in agent has a valid name"),
            target: None,
            worktrees: "../{repo}-worktrees/{worker}".to_owned(),
            branch: "swarm/{worker}".to_owned(),
            max_workers: 3,
            scaling: Vec::new(),
            copy: Vec::new(),
            setup: Vec::new(),
            gates: Vec::new(),
            run: RunSettings::default(),
            landing: LandingSettings::default(),
            recover: RecoverSettings::default(),
            review: ReviewSettings::default(),
            queue: QueueSettings::default(),
            node: NodeSettings::default(),
            topology: None,
            topologies: BTreeMap::new(),
            tmux: TmuxSettings::default(),
            limits: Limits::default(),
            health: HealthSettings::default(),
            budget: BudgetSettings::default(),
            env: BTreeMap::new(),
            pass_env: Vec::new(),
            ports: PortSettings::default(),
            durability: Durability::default(),
            redact: Vec::new(),
            default_provider: OLLAMA.to_owned(),
            providers: built_in_providers(),
            models: BTreeMap::new(),
            prices: BTreeMap::new(),
        }
    }
}

/// One command that prepares a new worktree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetupCommand {
    /// Shell text, run with `sh -c` in the worktree.
    pub(crate) run: String,
    /// Time it may take; `None` is `limits.setup_timeout`.
    #[serde(default, with = "serde_duration::option")]
    pub(crate) timeout: Option<Duration>,
}

/// A command that must pass on exactly the merged tree before it lands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Gate {
    /// Its name in evidence and messages.
    pub(crate) name: String,
    /// Shell text, run with `sh -c` in a scratch worktree of the merged tree.
    pub(crate) run: String,
    /// Time it may take; `None` is `limits.gate_timeout`.
    #[serde(default, with = "serde_duration::option")]
    pub(crate) timeout: Option<Duration>,
    /// How often a red result is tried again before it counts, for flaky tests.
    #[serde(default)]
    pub(crate) retry: u32,
}

/// How a coordinator goes about it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RunSettings {
    /// What becomes of workers whose supervisor is gone.
    pub(crate) restart: Restart,
    /// How long a ticket waits after a failed attempt.
    pub(crate) backoff: Backoff,
    /// Agents among which tickets that name none are distributed, in order of preference; empty is the one of `agent`.
    pub(crate) agents: Vec<AgentName>,
    /// By which rule.
    pub(crate) distribution: Distribution,
    /// Workers at once with one agent, by its name.
    pub(crate) max_per_agent: BTreeMap<AgentName, usize>,
    /// Workers at once with one model, by its name as agents give it.
    pub(crate) max_per_model: BTreeMap<String, usize>,
    /// Whether tickets whose scopes have files in common may run at once.
    pub(crate) allow_scope_overlap: bool,
    /// Where the branches of tickets start that say nothing of it.
    pub(crate) start_from: StartFrom,
}

/// How tickets are distributed among agents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Distribution {
    /// To the agent whose capabilities fit best: all that the ticket asks for, and the fewest besides.
    #[default]
    Capability,
    /// To one after the other.
    RoundRobin,
    /// To the agent with the fewest workers.
    LeastLoaded,
    /// To the agent that did best with tickets of the same labels.
    Affinity,
    /// To the first one of the list that has room.
    Priority,
}

/// What becomes of workers whose supervisor is gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Restart {
    /// They are continued, in the agent's own conversation where it has one.
    #[default]
    Lost,
    /// They wait for a person.
    Never,
}

/// The waiting times between attempts: each longer than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Backoff {
    /// After the first failed attempt.
    #[serde(with = "serde_duration")]
    pub(crate) first: Duration,
    /// How many times longer each is than the one before, from 1.
    pub(crate) factor: u32,
    /// The longest.
    #[serde(with = "serde_duration")]
    pub(crate) max: Duration,
}

impl Backoff {
    /// The waiting time after the `count`th failure in a row, from 1.
    pub(crate) fn wait_after(&self, count: u32) -> Duration {
        let times = self.factor.saturating_pow(count.saturating_sub(1));
        self.first.saturating_mul(times).min(self.max)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_secs(10), factor: 2, max: Duration::from_secs(10 * 60) }
    }
}

/// How work lands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LandingSettings {
    /// What the target's history looks like.
    pub(crate) strategy: Strategy,
    /// Who approves.
    pub(crate) approval: Approval,
    /// Most workers whose work is tested together; 1 tests each alone.
    pub(crate) batch: usize,
    /// Whether the next batch is tested while the present one is, where there are cores for it.
    pub(crate) speculate: bool,
    /// What is begun in the worktree of work that does not fit the target any more.
    pub(crate) on_conflict: OnConflict,
    /// How often work goes back to its own agent.
    pub(crate) tries: usize,
    /// The agent that gets a conflict which the worker's own one did not resolve; `None` is a person at once.
    pub(crate) resolver: Option<AgentName>,
    /// Whether agents are told with whose work theirs conflicts.
    pub(crate) tell_overlaps: bool,
    /// Where work is merged.
    pub(crate) mode: LandingMode,
    /// The remote that pull requests go through.
    pub(crate) remote: String,
    /// The program that speaks with the forge.
    pub(crate) forge: ForgeChoice,
    /// How often the forge is asked while one waits for it.
    #[serde(with = "serde_duration")]
    pub(crate) poll: Duration,
}

impl Default for LandingSettings {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            approval: Approval::default(),
            batch: 8,
            speculate: true,
            on_conflict: OnConflict::default(),
            tries: 3,
            resolver: Some("conflict-resolver".parse().expect("the built-in agent has a valid name")),
            tell_overlaps: true,
            mode: LandingMode::default(),
            remote: "origin".to_owned(),
            forge: ForgeChoice::default(),
            poll: Duration::from_secs(15),
        }
    }
}

/// Who looks at finished work, and what approval takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ReviewSettings {
    /// Agents that review finished work of tickets that name none themselves.
    pub(crate) agents: Vec<AgentName>,
    /// Whether work that all its reviewers approve lands without a person.
    pub(crate) agents_approve: bool,
    /// Whether every item of the ticket's checklist must be ticked before approval.
    pub(crate) require_checklist: bool,
    /// Time one reviewer may take for one answer.
    #[serde(with = "serde_duration")]
    pub(crate) timeout: Duration,
}

impl Default for ReviewSettings {
    fn default() -> Self {
        Self {
            agents: Vec::new(),
            agents_approve: false,
            require_checklist: false,
            timeout: Duration::from_secs(30 * 60),
        }
    }
}

/// Where work is merged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LandingMode {
    /// Here, by `swarm merge`.
    #[default]
    Local,
    /// By pull request, on a forge.
    Pr,
}

/// The program that speaks with the forge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ForgeChoice {
    /// `glab` where the remote's address names GitLab, else `gh`.
    #[default]
    Auto,
    /// GitHub's.
    Gh,
    /// GitLab's.
    Glab,
}

/// What landing does to the target's history.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Strategy {
    /// A merge commit.
    #[default]
    Merge,
    /// One commit with all changes.
    Squash,
    /// The branch's commits on top of the target.
    Rebase,
    /// The branch as it is, where the target did not go on since; else the work goes back to its agent.
    #[serde(rename = "fast-forward")]
    FastForward,
}

impl Strategy {
    /// The word for it, as in settings.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Merge => "merge",
            Self::Squash => "squash",
            Self::Rebase => "rebase",
            Self::FastForward => "fast-forward",
        }
    }
}

/// What is begun in a worktree whose work conflicts with the target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnConflict {
    /// Merging the target into the branch.
    #[default]
    Merge,
    /// Rebasing the branch onto the target.
    Rebase,
    /// Nothing; the agent is told.
    Nothing,
}

/// Who approves finished work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Approval {
    /// A person, with `swarm review`.
    #[default]
    Person,
    /// Nobody: a ticket whose checks pass may land.
    Auto,
}

/// How long what was removed is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RecoverSettings {
    /// Days after which `swarm clean` proposes kept work for removal, from 1.
    pub(crate) keep_days: u32,
    /// Days after which it proposes the logs and recordings of workers that are gone, from 1.
    pub(crate) log_days: u32,
    /// Snapshots of tool calls that stay for `swarm rewind`, for each worker, from 1.
    pub(crate) snapshots: usize,
}

impl Default for RecoverSettings {
    fn default() -> Self {
        Self { keep_days: 30, log_days: 90, snapshots: 500 }
    }
}

/// Where tmux sessions live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TmuxSettings {
    /// Socket name of the tmux server, or its path when it holds a `/`.
    pub(crate) socket: String,
}

impl Default for TmuxSettings {
    fn default() -> Self {
        Self { socket: "swarm".to_owned() }
    }
}

/// Durations and sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Wall time of one attempt, where the ticket says nothing; zero is no limit.
    #[serde(with = "serde_duration")]
    pub(crate) timeout: Duration,
    /// Time between asking a process to end and killing it.
    #[serde(with = "serde_duration")]
    pub(crate) grace: Duration,
    /// Time one set-up command may take.
    #[serde(with = "serde_duration")]
    pub(crate) setup_timeout: Duration,
    /// Time one check of a ticket may take.
    #[serde(with = "serde_duration")]
    pub(crate) check_timeout: Duration,
    /// Time one gate may take.
    #[serde(with = "serde_duration")]
    pub(crate) gate_timeout: Duration,
    /// Time a commit with the person's hooks may take.
    #[serde(with = "serde_duration")]
    pub(crate) commit_timeout: Duration,
    /// How often the worktree is saved to the wip ref while an agent works.
    #[serde(with = "serde_duration")]
    pub(crate) snapshot_every: Duration,
    /// Leftover files above which a person is asked instead of committing them.
    pub(crate) leftover_files: usize,
    /// Leftover bytes above which a person is asked instead of committing them.
    pub(crate) leftover_bytes: u64,
    /// Answers that swarm's own agent loop may ask of a model in one turn, from 1.
    pub(crate) max_turns: u32,
    /// Time that a tool of the loop may take where the call names none.
    #[serde(with = "serde_duration")]
    pub(crate) tool_timeout: Duration,
    /// Bytes of a tool's output that the loop's model gets to read, from 1000.
    pub(crate) tool_output: usize,
    /// Messages that a worker's agent may send in one attempt.
    pub(crate) messages: u32,
    /// Messages that may wait for one worker, from 1.
    pub(crate) mailbox: usize,
    /// How deep agents may start workers: 1 is not at all, 2 lets the agents that a person started do so.
    pub(crate) spawn_depth: u32,
}

impl Default for Limits {
    fn default() -> Self {
        const MINUTE: u64 = 60;
        Self {
            timeout: Duration::ZERO,
            grace: Duration::from_secs(5),
            setup_timeout: Duration::from_secs(10 * MINUTE),
            check_timeout: Duration::from_secs(10 * MINUTE),
            gate_timeout: Duration::from_secs(30 * MINUTE),
            commit_timeout: Duration::from_secs(5 * MINUTE),
            snapshot_every: Duration::from_secs(30),
            leftover_files: 200,
            leftover_bytes: 10_000_000,
            max_turns: 200,
            tool_timeout: Duration::from_secs(2 * MINUTE),
            tool_output: 30_000,
            messages: 50,
            mailbox: 100,
            spawn_depth: 1,
        }
    }
}

/// Port blocks: each live worker gets `size` consecutive ports from `base` up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PortSettings {
    /// First port of the first block.
    pub(crate) base: u16,
    /// Ports in a block.
    pub(crate) size: u16,
}

impl Default for PortSettings {
    fn default() -> Self {
        Self { base: 41_000, size: 10 }
    }
}

/// How hard the store writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Durability {
    /// Safe against the end of any process; a power cut may lose the last moments of bookkeeping, never work.
    #[default]
    Normal,
    /// Also safe against a power cut, four to five times slower.
    Full,
}
