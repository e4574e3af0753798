//! Which agent gets a ticket that names none: rules over plain data.
//!
//! Who has no room, and who lacks a capability that the ticket asks for, is no candidate under any rule. Where a rule
//! finds several alike, the one with the fewest workers is taken, and among those the first of the pool.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::model::AgentName;
use crate::model::settings::{Distribution, RunSettings};
use crate::model::ticket::{Ticket, TicketState};
use crate::model::worker::{Outcome, Phase, Worker};
use crate::queue::QueueTicket;

/// Somebody who could take a ticket: an agent of the pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The agent.
    pub(crate) agent: AgentName,
    /// The model that it names.
    pub(crate) model: Option<String>,
    /// What it can do.
    pub(crate) capabilities: Vec<String>,
}

/// How many workers run with what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// By agent.
    agents: BTreeMap<AgentName, usize>,
    /// By the model's name as the agents give it.
    models: BTreeMap<String, usize>,
}

impl Load {
    /// Counts one more worker.
    pub(crate) fn add(&mut self, agent: &AgentName, model: Option<&str>) {
        *self.agents.entry(agent.clone()).or_default() += 1;
        if let Some(model) = model {
            *self.models.entry(model.to_owned()).or_default() += 1;
        }
    }

    /// Workers of an agent.
    fn of(&self, agent: &AgentName) -> usize {
        self.agents.get(agent).copied().unwrap_or(0)
    }
}

/// A limit that is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Full {
    /// Of an agent.
    Agent {
        /// Which.
        agent: AgentName,
        /// Workers allowed.
        most: usize,
    },
    /// Of a model.
    Model {
        /// Which.
        model: String,
        /// Workers allowed.
        most: usize,
    },
}

impl std::fmt::Display for Full {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Agent { agent, most } => write!(f, "{most} of {most} workers of agent `{agent}` run"),
            Self::Model { model, most } => write!(f, "{most} of {most} workers of model `{model}` run"),
        }
    }
}

/// The limit that keeps an agent from one more worker.
pub(crate) fn full(settings: &RunSettings, load: &Load, agent: &AgentName, model: Option<&str>) -> Option<Full> {
    if let Some(most) = settings.max_per_agent.get(agent).filter(|most| load.of(agent) >= **most) {
        return Some(Full::Agent { agent: agent.clone(), most: *most });
    }
    let model = model?;
    let running = load.models.get(model).copied().unwrap_or(0);
    let most = settings.max_per_model.get(model).filter(|most| running >= **most)?;
    Some(Full::Model { model: model.to_owned(), most: *most })
}

/// How agents did so far, by label; tickets without labels count under none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// Tickets that went well, and all of them.
    counts: BTreeMap<(AgentName, Option<String>), (u32, u32)>,
}

impl History {
    /// Takes the end of a ticket.
    pub(crate) fn add(&mut self, agent: &AgentName, labels: &[String], went_well: bool) {
        for label in keys(labels) {
            let (well, all) = self.counts.entry((agent.clone(), label)).or_default();
            *well += u32::from(went_well);
            *all += 1;
        }
    }

    /// How likely an agent does well with labels, in millionths: the mean of its shares, each as if one ticket more had
    /// gone well and one badly, so that a single success does not outweigh nine of ten.
    fn promise(&self, agent: &AgentName, labels: &[String]) -> u64 {
        let shares: Vec<u64> = keys(labels)
            .into_iter()
            .map(|label| {
                let (well, all) = self.counts.get(&(agent.clone(), label)).copied().unwrap_or_default();
                u64::from(well + 1) * 1_000_000 / u64::from(all + 2)
            })
            .collect();
        shares.iter().sum::<u64>() / shares.len() as u64
    }
}

/// What is remembered of earlier work: all of it follows from workers and tickets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Past {
    /// Who got the last new worker.
    pub(crate) last: Option<AgentName>,
    /// How agents did.
    pub(crate) history: History,
}

impl Past {
    /// What workers, released ones included, and the tickets they worked on tell. A ticket that landed or was done went
    /// well; one that is dead, or whose worker failed, went badly; of others nothing is known yet.
    pub(crate) fn of(workers: &[Worker], tickets: &[QueueTicket]) -> Self {
        let by_id: BTreeMap<_, _> = tickets.iter().map(|entry| (&entry.ticket.id, entry)).collect();
        let mut past = Self::default();
        for worker in workers {
            let Some(entry) = by_id.get(&worker.ticket) else { continue };
            let has_failed = matches!(worker.phase, Phase::Ended { outcome: Outcome::Failed { .. }, .. });
            match entry.state {
                TicketState::Landed | TicketState::Done => past.history.add(&worker.agent, &entry.ticket.labels, true),
                state if state == TicketState::Dead || has_failed => {
                    past.history.add(&worker.agent, &entry.ticket.labels, false);
                }
                _ => {}
            }
        }
        let newest = workers.iter().max_by_key(|worker| worker.attempt.started_at);
        past.last = newest.map(|worker| worker.agent.clone());
        past
    }
}

/// What a ticket with these labels counts under; never empty.
fn keys(labels: &[String]) -> Vec<Option<String>> {
    if labels.is_empty() { vec![None] } else { labels.iter().cloned().map(Some).collect() }
}

/// What a choice is made by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice<'a> {
    /// The rules and limits.
    pub(crate) settings: &'a RunSettings,
    /// The agents, in order of preference.
    pub(crate) pool: &'a [Candidate],
    /// What runs.
    pub(crate) load: &'a Load,
    /// Who got the ticket before this one.
    pub(crate) last: Option<&'a AgentName>,
    /// How they did.
    pub(crate) history: &'a History,
}

/// Why nobody of a pool gets a ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoOne {
    /// Each that could take it is at a limit; the first of these limits.
    Full(Full),
    /// Nobody has all the capabilities.
    Unable {
        /// What the ticket asks for.
        capabilities: Vec<String>,
    },
}

impl std::fmt::Display for NoOne {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full(full) => full.fmt(f),
            Self::Unable { capabilities } => {
                write!(f, "needs what no agent of `run.agents` offers: {}", capabilities.join(", "))
            }
        }
    }
}

/// The agent of the pool that gets a ticket.
pub(crate) fn choose<'a>(ticket: &Ticket, choice: &Choice<'a>) -> Result<&'a Candidate, NoOne> {
    let is_able = |it: &&Candidate| ticket.capabilities.iter().all(|needed| it.capabilities.contains(needed));
    let able: Vec<&Candidate> = choice.pool.iter().filter(is_able).collect();
    let limit = |it: &Candidate| full(choice.settings, choice.load, &it.agent, it.model.as_deref());
    let mut free = able.iter().copied().filter(|it| limit(it).is_none());
    let load = |it: &Candidate| choice.load.of(&it.agent);
    // `min_by_key` takes the first of those that are alike, which is the order of the pool.
    let chosen = match choice.settings.distribution {
        Distribution::Capability => free.min_by_key(|it| (it.capabilities.len(), load(it))),
        Distribution::LeastLoaded => free.min_by_key(|it| load(it)),
        Distribution::Affinity => {
            free.min_by_key(|it| (Reverse(choice.history.promise(&it.agent, &ticket.labels)), load(it)))
        }
        Distribution::Priority => free.next(),
        Distribution::RoundRobin => {
            let last = choice.pool.iter().position(|it| Some(&it.agent) == choice.last);
            let turn = last.map_or(0, |last| last + 1);
            let place = |it: &Candidate| choice.pool.iter().position(|other| other.agent == it.agent).unwrap_or(0);
            free.min_by_key(|it| (place(it) + choice.pool.len() - turn) % choice.pool.len())
        }
    };
    chosen.ok_or_else(|| match able.iter().find_map(|it| limit(it)) {
        Some(full) => NoOne::Full(full),
        None => NoOne::Unable { capabilities: ticket.capabilities.clone() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> AgentName {
        text.parse().unwrap()
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// Three agents: one that can do everything, one that knows Rust, and one that knows nothing special.
    fn pool() -> Vec<Candidate> {
        let candidate = |agent: &str, model: &str, capabilities: &[&str]| Candidate {
            agent: name(agent),
            model: Some(model.to_owned()),
            capabilities: words(capabilities),
        };
        vec![
            candidate("all", "large", &["rust", "web", "docs"]),
            candidate("rusty", "large", &["rust"]),
            candidate("plain", "small", &[]),
        ]
    }

    /// What the tests change of a choice.
    #[derive(Default)]
    struct Scene {
        settings: RunSettings,
        load: Load,
        last: Option<AgentName>,
        history: History,
    }

    impl Scene {
        fn choose(&self, rule: Distribution, ticket: &Ticket) -> Result<String, NoOne> {
            let settings = RunSettings { distribution: rule, ..self.settings.clone() };
            let (pool, last) = (pool(), self.last.as_ref());
            let choice = Choice { settings: &settings, pool: &pool, load: &self.load, last, history: &self.history };
            choose(ticket, &choice).map(|candidate| candidate.agent.to_string())
        }

        /// What each rule says, in the order of the settings' documentation.
        fn all(&self, ticket: &Ticket) -> [String; 5] {
            use Distribution::{Affinity, Capability, LeastLoaded, Priority, RoundRobin};
            [Capability, RoundRobin, LeastLoaded, Affinity, Priority].map(|rule| self.choose(rule, ticket).unwrap())
        }
    }

    fn ticket(capabilities: &[&str], labels: &[&str]) -> Ticket {
        let (capabilities, labels) = (words(capabilities), words(labels));
        Ticket { capabilities, labels, ..Ticket::plain("t".parse().unwrap()) }
    }

    #[test]
    fn each_rule_decides_by_its_own() {
        let mut scene = Scene { last: Some(name("all")), ..Scene::default() };
        // `plain` is busiest, `all` is idle; `rusty` has its turn; `plain` did well with bugs and `rusty` badly.
        for agent in ["plain", "plain", "rusty"] {
            scene.load.add(&name(agent), None);
        }
        scene.history.add(&name("plain"), &words(&["bug"]), true);
        scene.history.add(&name("rusty"), &words(&["bug"]), false);
        let [capability, round_robin, least_loaded, affinity, priority] = scene.all(&ticket(&[], &["bug"]));
        assert_eq!(capability, "plain", "the specialists stay free for what needs them");
        assert_eq!(round_robin, "rusty");
        assert_eq!(least_loaded, "all");
        assert_eq!(affinity, "plain");
        assert_eq!(priority, "all", "the first of the pool");
        // The same for what needs Rust: `plain` cannot.
        assert_eq!(scene.all(&ticket(&["rust"], &["bug"])), ["rusty", "rusty", "all", "all", "all"]);
    }

    #[test]
    fn capability_takes_the_most_specific_that_has_all() {
        let scene = Scene::default();
        assert_eq!(scene.choose(Distribution::Capability, &ticket(&["rust"], &[])).unwrap(), "rusty");
        assert_eq!(scene.choose(Distribution::Capability, &ticket(&["rust", "web"], &[])).unwrap(), "all");
        let unable = scene.choose(Distribution::Capability, &ticket(&["cobol"], &[])).unwrap_err();
        assert_eq!(unable.to_string(), "needs what no agent of `run.agents` offers: cobol");
    }

    #[test]
    fn round_robin_goes_around_and_passes_over_who_has_no_room() {
        let mut scene = Scene::default();
        scene.settings.max_per_agent.insert(name("rusty"), 1);
        scene.load.add(&name("rusty"), None);
        let mut order = Vec::new();
        for _ in 0..4 {
            let next = scene.choose(Distribution::RoundRobin, &ticket(&[], &[])).unwrap();
            scene.last = Some(name(&next));
            order.push(next);
        }
        assert_eq!(order, ["all", "plain", "all", "plain"]);
    }

    #[test]
    fn affinity_learns_and_one_success_is_not_worth_nine_of_ten() {
        let mut scene = Scene::default();
        let docs = ticket(&[], &["docs"]);
        scene.history.add(&name("plain"), &docs.labels, true);
        (0..10).for_each(|n| scene.history.add(&name("all"), &docs.labels, n > 0));
        assert_eq!(scene.choose(Distribution::Affinity, &docs).unwrap(), "all");
        (0..9).for_each(|_| scene.history.add(&name("all"), &docs.labels, false));
        assert_eq!(scene.choose(Distribution::Affinity, &docs).unwrap(), "plain");
        // Of other labels, and of none, nothing is known: then it is the load, then the order.
        scene.load.add(&name("all"), None);
        assert_eq!(scene.choose(Distribution::Affinity, &ticket(&[], &["bug"])).unwrap(), "rusty");
        assert_eq!(scene.choose(Distribution::Affinity, &ticket(&[], &[])).unwrap(), "rusty");
    }

    #[test]
    fn limits_of_agents_and_models_hold_under_every_rule() {
        let mut scene = Scene::default();
        scene.settings.max_per_model.insert("large".to_owned(), 2);
        scene.load.add(&name("all"), Some("large"));
        assert_eq!(scene.choose(Distribution::Priority, &ticket(&[], &[])).unwrap(), "all");
        scene.load.add(&name("rusty"), Some("large"));
        assert_eq!(scene.all(&ticket(&[], &[])), ["plain"; 5]);
        let full = scene.choose(Distribution::Priority, &ticket(&["rust"], &[])).unwrap_err();
        assert_eq!(full.to_string(), "2 of 2 workers of model `large` run");
        scene.settings.max_per_agent.insert(name("plain"), 1);
        let of = |agent: &str, model| full_text(&scene, agent, model);
        assert_eq!(of("plain", None), None);
        assert_eq!(of("other", Some("large")).as_deref(), Some("2 of 2 workers of model `large` run"));
        scene.load.add(&name("plain"), None);
        let text = full_text(&scene, "plain", Some("small"));
        assert_eq!(text.as_deref(), Some("1 of 1 workers of agent `plain` run"));
    }

    fn full_text(scene: &Scene, agent: &str, model: Option<&str>) -> Option<String> {
        full(&scene.settings, &scene.load, &name(agent), model).map(|full| full.to_string())
    }
}
