//! Rings: the branch of a ticket passes several agents in order, and a token says whose turn it is.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{AgentName, Time};

/// Parameters of a ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Ring {
    /// With whom a ticket begins.
    pub(crate) order: RingOrder,
    /// How long an agent that cannot begin may keep the token.
    pub(crate) token_timeout_ms: u64,
    /// Whether the token then passes to the next one; else a person is needed.
    pub(crate) skip_unhealthy: bool,
    /// The agents in order.
    pub(crate) agents: Vec<AgentName>,
}

impl Default for Ring {
    fn default() -> Self {
        let agents = ["ticket-worker", "test-writer", "code-reviewer", "documentation-writer"];
        Self {
            order: RingOrder::Sequential,
            token_timeout_ms: 5_000,
            skip_unhealthy: true,
            agents: agents.map(|name| name.parse().expect("built-in agents have valid names")).to_vec(),
        }
    }
}

/// With whom a ticket begins its way round a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RingOrder {
    /// The first.
    Sequential,
    /// The one with the fewest workers; the others follow in their order, round to the one before it.
    Load,
}

impl Ring {
    /// What is wrong with it.
    pub(super) fn fault(&self) -> Option<(&'static str, String)> {
        if self.agents.len() < 2 {
            return Some(("agents", "a ring has two agents at least".to_owned()));
        }
        let twice = self.agents.iter().enumerate().find(|(index, agent)| self.agents[..*index].contains(agent));
        if let Some((_, agent)) = twice {
            return Some(("agents", format!("`{agent}` is there twice")));
        }
        let is_good = (100..=3_600_000).contains(&self.token_timeout_ms);
        (!is_good).then(|| ("token_timeout_ms", "expected a number from 100 to 3600000".to_owned()))
    }

    /// The agents in the order for a ticket that begins with one of them.
    fn from(&self, first: &AgentName) -> Vec<AgentName> {
        let mut agents = self.agents.clone();
        let start = agents.iter().position(|agent| agent == first).unwrap_or_default();
        agents.rotate_left(start);
        agents
    }
}

/// Whose turn it is on a ticket. It is frozen when the ticket begins, so that a ticket under way ends its round whatever the
/// topology is by then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Token {
    /// Version of this shape.
    schema: u32,
    /// The agents in the order of this ticket.
    pub(crate) agents: Vec<AgentName>,
    /// Which of them has it, from 0; as many as there are when nobody is left.
    pub(crate) turn: usize,
    /// The fence of the ticket when that one got it: under a later one it has begun, where it is the one that works.
    fence: u64,
    /// Since when.
    pub(crate) since: Time,
    /// How long it may be kept by one that cannot begin.
    timeout_ms: u64,
    /// Whether it then passes on.
    pub(crate) skips: bool,
    /// Those that were passed over, in order.
    pub(crate) skipped: Vec<Skipped>,
    /// What the last one that had its turn left.
    pub(crate) report: Option<Report>,
}

/// An agent that was passed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Skipped {
    /// Which.
    pub(crate) agent: AgentName,
    /// Why, as a clause.
    pub(crate) why: String,
}

/// What an agent of a ring left for the next one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Which.
    pub(crate) agent: AgentName,
    /// Its result; `None` where it left none.
    pub(crate) text: Option<String>,
}

/// Where a ticket is on its way round a ring, for a node that takes it over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Round {
    /// Whose turn it is.
    pub(crate) token: Token,
    /// The agent that worked on it last.
    pub(crate) agent: AgentName,
}

impl Round {
    /// The same as it is under the fence `now`, where it was handed over under `then`, with that turn finished or not: who
    /// began since is whose turn it was.
    pub(crate) fn under(self, now: u64, then: u64, is_finished: bool) -> Self {
        if now == then {
            return self;
        }
        let Self { token, agent } = self;
        let token = match token.has_begun(then, &agent) && is_finished {
            true => token.passed(then, None),
            false => token,
        };
        let agent = token.holder().cloned().unwrap_or(agent);
        Self { token, agent }
    }
}

impl Token {
    /// The token of a ticket that begins its round with this agent.
    pub(crate) fn begin(ring: &Ring, first: &AgentName, fence: u64) -> Self {
        Self {
            schema: 1,
            agents: ring.from(first),
            turn: 0,
            fence,
            since: Time::now(),
            timeout_ms: ring.token_timeout_ms,
            skips: ring.skip_unhealthy,
            skipped: Vec::new(),
            report: None,
        }
    }

    /// Who has it; `None` when nobody is left.
    pub(crate) fn holder(&self) -> Option<&AgentName> {
        self.agents.get(self.turn)
    }

    /// Whether its holder has begun, by the fence of the ticket and the agent that worked on it last: a message may have
    /// brought the one before back.
    pub(crate) fn has_begun(&self, fence: u64, agent: &AgentName) -> bool {
        fence != self.fence && self.holder() == Some(agent)
    }

    /// Whether the round is over once the work of this agent under this fence is finished.
    pub(crate) fn is_over(&self, fence: u64, agent: &AgentName) -> bool {
        self.turn >= self.agents.len() || self.turn + 1 == self.agents.len() && self.has_begun(fence, agent)
    }

    /// Who goes on with the ticket when its round has ended: the last that had its turn; `None` where nobody had one.
    pub(crate) fn last(&self) -> Option<&AgentName> {
        self.report.as_ref().map(|report| &report.agent)
    }

    /// The same when somebody approved what this agent made: nobody else gets a turn.
    pub(crate) fn ended(&self, agent: &AgentName) -> Self {
        let report = Some(Report { agent: agent.clone(), text: None });
        Self { turn: self.agents.len(), since: Time::now(), report, ..self.clone() }
    }

    /// Until when its holder may keep it without beginning.
    pub(crate) fn due(&self) -> Time {
        self.since.after(self.timeout())
    }

    /// How long that is.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// The same with the next one, after its holder had its turn.
    pub(crate) fn passed(&self, fence: u64, report: Option<String>) -> Self {
        let report = self.holder().map(|agent| Report { agent: agent.clone(), text: report });
        Self { turn: self.turn + 1, fence, since: Time::now(), report, ..self.clone() }
    }

    /// The same with the next one, because its holder cannot begin.
    pub(crate) fn skipped(&self, why: String) -> Self {
        let mut next = Self { turn: self.turn + 1, since: Time::now(), ..self.clone() };
        next.skipped.extend(self.holder().map(|agent| Skipped { agent: agent.clone(), why }));
        next
    }
}
