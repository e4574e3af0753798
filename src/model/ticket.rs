//! Tickets: what a person wrote, and the state machine a ticket goes through.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::budget::Budget;
use super::{AgentName, TicketId, serde_duration};

/// A ticket as it is frozen when it is published; later edits of the file do not change it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Ticket {
    /// Its id.
    pub(crate) id: TicketId,
    /// One line for lists and commit subjects.
    pub(crate) title: String,
    /// The agent to use; `None` is the configured default.
    pub(crate) agent: Option<AgentName>,
    /// 1 to 10, higher first.
    pub(crate) priority: u8,
    /// What has to end first, in the order written.
    pub(crate) depends_on: Vec<Dependency>,
    /// Whether it may start from a dependency's branch before that has landed; `None` is the configured choice.
    #[serde(default)]
    pub(crate) start_from: Option<StartFrom>,
    /// What a node must offer to run it.
    pub(crate) capabilities: Vec<String>,
    /// Glob patterns of the files it means to touch; empty is "not stated".
    pub(crate) scope: Vec<String>,
    /// Shell commands run in the worktree before review.
    pub(crate) checks: Vec<String>,
    /// What a person ticks before approval, besides the open items (`- [ ]`) of the body.
    #[serde(default)]
    pub(crate) checklist: Vec<String>,
    /// The agents that review the work; `None` is the configured ones.
    #[serde(default)]
    pub(crate) reviewers: Option<Vec<AgentName>>,
    /// Where the branch starts: any revision; `None` is the target.
    pub(crate) base: Option<String>,
    /// The branch it lands on; `None` is the configured target.
    pub(crate) target: Option<String>,
    /// Wall time of one attempt; `None` is the configured limit.
    #[serde(with = "serde_duration::option")]
    #[schemars(with = "Option<String>")]
    pub(crate) timeout: Option<Duration>,
    /// Attempts before it is dead, from 1.
    pub(crate) max_attempts: u32,
    /// Spending limits.
    pub(crate) budget: Budget,
    /// Free words for people.
    pub(crate) labels: Vec<String>,
    /// Whether its agent is told of work that conflicts with its own; `None` is the configured choice.
    #[serde(default)]
    pub(crate) tell_overlaps: Option<bool>,
    /// The prompt.
    pub(crate) body: String,
}

impl Ticket {
    /// Takes the configured place to start from, where the ticket says nothing of its own and there is a choice.
    pub(crate) fn settle_start(&mut self, configured: StartFrom) {
        if self.start(configured) == StartFrom::Dependency {
            self.start_from = Some(StartFrom::Dependency);
        }
    }

    /// Where it starts, the configured choice included where it has one.
    pub(crate) fn start(&self, configured: StartFrom) -> StartFrom {
        let has_choice = self.base.is_none() && self.depends_on.iter().any(|it| it.kind == DependencyKind::Success);
        self.start_from.unwrap_or(if has_choice { configured } else { StartFrom::Target })
    }

    /// Whether the ticket may start from a dependency's branch.
    pub(crate) fn is_stackable_on(&self, dependency: &Dependency) -> bool {
        self.start_from == Some(StartFrom::Dependency) && dependency.kind == DependencyKind::Success
    }

    /// Its dependencies, each with the state that `state_of` tells.
    pub(crate) fn needs<E>(
        &self,
        mut state_of: impl FnMut(&TicketId) -> Result<Option<TicketState>, E>,
    ) -> Result<Vec<Need>, E> {
        let need = |dependency: &Dependency| {
            let state = state_of(&dependency.ticket)?;
            Ok(Need { dependency: dependency.clone(), is_stackable: self.is_stackable_on(dependency), state })
        };
        self.depends_on.iter().map(need).collect()
    }

    /// The whole checklist: what the front matter lists, then the open items of the body (`- [ ] text`, also with `*` or
    /// `+`, indented, or numbered) outside of blocks of code. An item that is there twice counts once.
    pub(crate) fn checklist(&self) -> Vec<String> {
        let mut fence = None;
        let mut items: Vec<String> = Vec::new();
        let listed = self.checklist.iter().map(String::as_str);
        let written = self.body.lines().filter_map(|line| {
            let line = line.trim_start();
            let mark = ["```", "~~~"].into_iter().find(|mark| line.starts_with(mark));
            match (mark, fence) {
                (Some(mark), None) => fence = Some(mark),
                (Some(mark), Some(open)) if mark == open => fence = None,
                _ => {}
            }
            let numbered = line.split_once(['.', ')']).filter(|(number, _)| number.bytes().all(|b| b.is_ascii_digit()));
            let rest = line.strip_prefix(['-', '*', '+']).or(numbered.map(|(_, rest)| rest))?;
            rest.trim_start().strip_prefix("[ ]").filter(|_| fence.is_none())
        });
        for item in listed.chain(written).map(str::trim).filter(|item| !item.is_empty()) {
            if !items.iter().any(|known| known == item) {
                items.push(item.to_owned());
            }
        }
        items
    }
}

#[cfg(any(test, feature = "bench-internals"))]
impl Ticket {
    /// A ticket that asks for nothing special.
    pub(crate) fn plain(id: TicketId) -> Self {
        Self {
            title: format!("Ticket {id}"),
            body: format!("Do {id}."),
            id,
            agent: None,
            priority: 5,
            depends_on: Vec::new(),
            start_from: None,
            capabilities: Vec::new(),
            scope: Vec::new(),
            checks: Vec::new(),
            checklist: Vec::new(),
            reviewers: None,
            base: None,
            target: None,
            timeout: None,
            max_attempts: 2,
            budget: Budget::default(),
            labels: Vec::new(),
            tell_overlaps: None,
        }
    }
}

/// What a ticket waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Dependency {
    /// The ticket waited for.
    pub(crate) ticket: TicketId,
    /// How far that one must have come.
    #[serde(default)]
    pub(crate) kind: DependencyKind,
}

/// How far a dependency must have come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DependencyKind {
    /// Landed, or done without changes: the dependent needs its code.
    #[default]
    Success,
    /// Ended: done, in review or later.
    Completion,
    /// As for `completion`, and what it came to is told in the dependent's prompt.
    Data,
}

/// Where the branch of a ticket starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StartFrom {
    /// From its base or target: what it depends on has to have landed.
    #[default]
    Target,
    /// From the branch of the one dependency that has not landed yet, when that one's work is in review or further.
    Dependency,
}

/// A dependency of a ticket and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Need {
    /// It.
    pub(crate) dependency: Dependency,
    /// Whether the ticket may start from its branch.
    pub(crate) is_stackable: bool,
    /// Where it is; `None` where nobody knows it.
    pub(crate) state: Option<TicketState>,
}

impl Need {
    /// Whether the dependency itself is satisfied.
    fn is_met(&self) -> bool {
        self.state.is_some_and(|state| self.dependency.kind.is_satisfied_by(state))
    }

    /// Whether there is finished work that has not landed, from which the dependent may start.
    fn offers_a_start(&self) -> bool {
        self.is_stackable
            && !self.is_met()
            && self.state.is_some_and(|it| DependencyKind::Completion.is_satisfied_by(it))
    }
}

/// The dependency from whose branch a ticket starts; `None` is its base or target. One branch can only begin in one
/// place, so it is the last one that is open, and only when its work is in review or further.
pub(crate) fn start_of(needs: &[Need]) -> Option<&Need> {
    let mut open = needs.iter().filter(|need| !need.is_met());
    open.next().filter(|need| need.offers_a_start() && open.next().is_none())
}

/// The dependencies that keep a ticket from starting.
pub(crate) fn unmet(needs: &[Need]) -> Vec<Dependency> {
    if start_of(needs).is_some() {
        return Vec::new();
    }
    needs.iter().filter(|need| !need.is_met()).map(|need| need.dependency.clone()).collect()
}

impl DependencyKind {
    /// Every kind.
    pub(crate) const ALL: [Self; 3] = [Self::Success, Self::Completion, Self::Data];

    /// The word used in ticket files, the store and JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Completion => "completion",
            Self::Data => "data",
        }
    }

    /// Whether a dependency in `state` lets its dependents start.
    pub(crate) fn is_satisfied_by(self, state: TicketState) -> bool {
        use TicketState as S;
        match self {
            Self::Success => matches!(state, S::Landed | S::Done),
            Self::Completion | Self::Data => {
                matches!(state, S::Review | S::Approved | S::Landing | S::Landed | S::Done)
            }
        }
    }
}

/// The circle of dependencies that leads from a ticket back to it, each depending on the next and the last on the first;
/// a shortest one. `needs` tells what a ticket depends on.
pub(crate) fn cycle<E>(
    start: &TicketId,
    mut needs: impl FnMut(&TicketId) -> Result<Vec<TicketId>, E>,
) -> Result<Option<Vec<TicketId>>, E> {
    let mut reached_from: BTreeMap<TicketId, TicketId> = BTreeMap::new();
    let mut todo = VecDeque::from([start.clone()]);
    while let Some(from) = todo.pop_front() {
        for to in needs(&from)? {
            if to == *start {
                let mut path = vec![from];
                while let Some(previous) = path.last().and_then(|id| reached_from.get(id)) {
                    path.push(previous.clone());
                }
                path.reverse();
                return Ok(Some(path));
            }
            if !reached_from.contains_key(&to) {
                reached_from.insert(to.clone(), from.clone());
                todo.push_back(to);
            }
        }
    }
    Ok(None)
}

/// A circle of dependencies for a person: `a -> b -> a`.
pub(crate) fn cycle_text(ids: &[TicketId]) -> String {
    let names: Vec<_> = ids.iter().chain(ids.first()).map(TicketId::as_str).collect();
    names.join(" -> ")
}

/// Where a ticket is in its life; the words that `--json` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TicketState {
    /// Written, not published.
    Open,
    /// Waiting to be claimed.
    Queued,
    /// A dependency is not satisfied.
    Blocked,
    /// Policy asks a person before it runs.
    WaitingApproval,
    /// An attempt holds it.
    Running,
    /// Its work waits for a verdict.
    Review,
    /// Approved at one commit.
    Approved,
    /// A landing holds it.
    Landing,
    /// Its work is in the target.
    Landed,
    /// Ended well without changes.
    Done,
    /// The last attempt failed; it may be tried again.
    Failed,
    /// No attempts left.
    Dead,
    /// Its supervisor vanished; held with its work.
    Lost,
    /// Ended by a person.
    Cancelled,
}

impl TicketState {
    /// Every state, in the order of a ticket's life.
    pub(crate) const ALL: [Self; 14] = [
        Self::Open,
        Self::Queued,
        Self::Blocked,
        Self::WaitingApproval,
        Self::Running,
        Self::Review,
        Self::Approved,
        Self::Landing,
        Self::Landed,
        Self::Done,
        Self::Failed,
        Self::Dead,
        Self::Lost,
        Self::Cancelled,
    ];

    /// The word used in the store, JSON and on screen.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Queued => "queued",
            Self::Blocked => "blocked",
            Self::WaitingApproval => "waiting_approval",
            Self::Running => "running",
            Self::Review => "review",
            Self::Approved => "approved",
            Self::Landing => "landing",
            Self::Landed => "landed",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Dead => "dead",
            Self::Lost => "lost",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state a word names, if any.
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether nothing more happens to the ticket without a person.
    pub(crate) fn is_ended(self) -> bool {
        matches!(self, Self::Landed | Self::Done | Self::Dead | Self::Cancelled)
    }

    /// Whether an attempt holds it, or its work is on its way to the target.
    pub(crate) fn is_begun(self) -> bool {
        matches!(self, Self::Running | Self::Review | Self::Approved | Self::Landing)
    }
}

impl std::fmt::Display for TicketState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that happened to a ticket; the only way its state changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TicketEvent {
    /// Published, with its dependencies satisfied or not.
    Published {
        /// Whether a dependency is still open.
        blocked: bool,
    },
    /// The last open dependency was satisfied.
    Unblocked,
    /// A dependency is no longer satisfied: it was reopened or published anew.
    Blocked,
    /// A lease was given to an attempt.
    Claimed,
    /// The attempt ended with work to judge.
    FinishedWithWork,
    /// The attempt ended well and changed nothing.
    FinishedWithoutWork,
    /// The attempt failed; attempts are left or not.
    AttemptFailed {
        /// Whether another attempt is allowed.
        exhausted: bool,
    },
    /// The lease ran out without its holder being heard of.
    LeaseExpired,
    /// A claim was given back unused.
    Released,
    /// A claim was given back unused together with the publication that was made for it.
    Withdrawn,
    /// A failed or dead ticket is queued again.
    Requeued,
    /// A verdict approved the work at its commit.
    Approved,
    /// An approval was withdrawn, or a new commit voided it.
    ApprovalVoided,
    /// The work goes back to its agent (changes requested, conflict, red gate, new input, resume).
    Reopened,
    /// A landing took the ticket.
    LandingStarted,
    /// The landing gave it back untouched (target busy or dirty).
    LandingDeferred,
    /// The target contains the work.
    Landed,
    /// A person ended it.
    Cancelled,
}

/// A state change that the machine does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a ticket that is `{state}` cannot take `{event:?}`")]
pub(crate) struct IllegalEdge {
    /// The state it is in.
    pub(crate) state: TicketState,
    /// What was to happen.
    pub(crate) event: TicketEvent,
}

/// The ticket state machine: the state after `event` happened in `state`.
///
/// # Errors
/// [`IllegalEdge`] for every pair that the design does not name; the caller changes nothing then.
pub(crate) fn apply(state: TicketState, event: TicketEvent) -> Result<TicketState, IllegalEdge> {
    use TicketEvent as E;
    use TicketState as S;
    let next = match (state, event) {
        (S::Open, E::Published { blocked }) => {
            if blocked {
                S::Blocked
            } else {
                S::Queued
            }
        }
        (S::Blocked, E::Unblocked) => S::Queued,
        (S::Queued, E::Blocked) => S::Blocked,
        (S::Queued, E::Claimed) => S::Running,
        (S::Running, E::FinishedWithWork) => S::Review,
        (S::Running, E::FinishedWithoutWork) => S::Done,
        (S::Running | S::Lost, E::AttemptFailed { exhausted }) => {
            if exhausted {
                S::Dead
            } else {
                S::Failed
            }
        }
        (S::Running, E::LeaseExpired) => S::Lost,
        // Somebody may have found the claim of a spawn that died before its first effect, and declared it lost.
        (S::Running | S::Lost, E::Released) => S::Queued,
        (S::Running | S::Lost, E::Withdrawn) => S::Open,
        (S::Failed | S::Dead, E::Requeued) => S::Queued,
        (S::Review, E::Approved) => S::Approved,
        (S::Approved, E::ApprovalVoided) => S::Review,
        // `failed`, `dead` and `done` may be reopened by a person who talks to the idle agent or restarts it.
        (
            S::Review | S::Approved | S::Landing | S::Lost | S::Failed | S::Dead | S::Done | S::Cancelled,
            E::Reopened,
        ) => S::Running,
        (S::Approved, E::LandingStarted) => S::Landing,
        (S::Landing, E::LandingDeferred) => S::Approved,
        (S::Landing, E::Landed) => S::Landed,
        (
            S::Open
            | S::Queued
            | S::Blocked
            | S::WaitingApproval
            | S::Running
            | S::Review
            | S::Approved
            | S::Failed
            | S::Dead
            | S::Lost
            | S::Cancelled,
            E::Cancelled,
        ) => S::Cancelled,
        _ => return Err(IllegalEdge { state, event }),
    };
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_path_ends_landed() {
        let path = [
            TicketEvent::Published { blocked: false },
            TicketEvent::Claimed,
            TicketEvent::FinishedWithWork,
            TicketEvent::Approved,
            TicketEvent::LandingStarted,
            TicketEvent::Landed,
        ];
        let end = path.into_iter().try_fold(TicketState::Open, apply);
        assert_eq!(end, Ok(TicketState::Landed));
    }

    #[test]
    fn a_landed_ticket_takes_nothing_more() {
        for event in [TicketEvent::Cancelled, TicketEvent::Reopened, TicketEvent::Claimed, TicketEvent::Requeued] {
            assert!(apply(TicketState::Landed, event).is_err(), "{event:?}");
        }
    }

    #[test]
    fn a_landing_ticket_cannot_be_cancelled() {
        assert!(apply(TicketState::Landing, TicketEvent::Cancelled).is_err());
    }

    #[test]
    fn the_checklist_is_the_listed_items_and_the_open_ones_of_the_body() {
        let body = "Do it.\n- [ ] docs\n  * [ ]  tests \n1. [ ] bench\n- [x] done\n```\n- [ ] code\n```\n- [ ]\n- [ ] docs\n[ ] no";
        let ticket = Ticket {
            checklist: vec!["no panics".to_owned(), "docs".to_owned()],
            body: body.to_owned(),
            ..Ticket::plain("a".parse().unwrap())
        };
        assert_eq!(ticket.checklist(), ["no panics", "docs", "tests", "bench"]);
    }

    #[test]
    fn words_name_their_states() {
        for state in TicketState::ALL {
            assert_eq!(TicketState::from_word(state.as_str()), Some(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }

    #[test]
    fn success_needs_the_code_and_completion_only_the_end() {
        assert!(DependencyKind::Success.is_satisfied_by(TicketState::Landed));
        assert!(!DependencyKind::Success.is_satisfied_by(TicketState::Review));
        assert!(DependencyKind::Completion.is_satisfied_by(TicketState::Review));
        assert!(!DependencyKind::Completion.is_satisfied_by(TicketState::Failed));
        for state in TicketState::ALL {
            let data = DependencyKind::Data.is_satisfied_by(state);
            assert_eq!(data, DependencyKind::Completion.is_satisfied_by(state), "{state}");
        }
    }

    fn need(name: &str, kind: DependencyKind, is_stackable: bool, state: TicketState) -> Need {
        let dependency = Dependency { ticket: name.parse().unwrap(), kind };
        Need { dependency, is_stackable, state: Some(state) }
    }

    #[test]
    fn a_cycle_is_found_and_named_by_its_tickets() {
        let id = |name: &str| name.parse::<TicketId>().unwrap();
        let edges = [("a", "b"), ("b", "c"), ("c", "b"), ("c", "d"), ("d", "a"), ("x", "a")];
        let needs = |from: &TicketId| {
            let to = edges.iter().filter(|(it, _)| *it == from.as_str()).map(|(_, to)| id(to));
            Ok::<_, std::convert::Infallible>(to.collect())
        };
        let text = |from: &str| cycle(&id(from), needs).unwrap().map(|ids| cycle_text(&ids));
        assert_eq!(text("a").as_deref(), Some("a -> b -> c -> d -> a"));
        assert_eq!(text("c").as_deref(), Some("c -> b -> c"));
        assert_eq!(text("x"), None, "it only waits for one");
    }

    #[test]
    fn a_ticket_starts_from_the_one_dependency_that_is_left() {
        use DependencyKind::{Completion, Success};
        let (landed, review) =
            (need("a", Success, true, TicketState::Landed), need("b", Success, true, TicketState::Review));
        let also = need("c", Success, true, TicketState::Approved);
        let started = |needs: &[Need]| start_of(needs).map(|need| need.dependency.ticket.to_string());
        assert_eq!(started(&[landed.clone(), review.clone()]).as_deref(), Some("b"));
        assert_eq!(unmet(&[landed.clone(), review.clone()]), []);
        // A branch begins in one place: with two that are open both have to be waited for.
        assert_eq!(started(&[review.clone(), also.clone()]), None);
        assert_eq!(unmet(&[review.clone(), also]).len(), 2);
        // What has not ended, and what nobody may start from, is waited for.
        for open in [
            need("b", Success, true, TicketState::Running),
            need("b", Success, false, TicketState::Review),
            need("b", Completion, false, TicketState::Running),
        ] {
            assert_eq!(unmet(&[landed.clone(), open.clone()]), [open.dependency]);
        }
        assert_eq!(unmet(&[review, need("c", Completion, false, TicketState::Running)]).len(), 2);
        assert_eq!((started(std::slice::from_ref(&landed)), unmet(&[landed])), (None, Vec::new()));
    }

    #[test]
    fn the_configured_start_counts_only_where_there_is_a_choice() {
        let depends_on = vec![Dependency { ticket: "a".parse().unwrap(), kind: DependencyKind::Success }];
        let settled = |mut ticket: Ticket| {
            ticket.settle_start(StartFrom::Dependency);
            ticket.start_from
        };
        let plain = Ticket::plain("b".parse().unwrap());
        let dependent = Ticket { depends_on, ..plain.clone() };
        assert_eq!(settled(plain), None);
        assert_eq!(settled(dependent.clone()), Some(StartFrom::Dependency));
        assert_eq!(settled(Ticket { base: Some("v1".to_owned()), ..dependent.clone() }), None);
        let own = Ticket { start_from: Some(StartFrom::Target), ..dependent };
        assert_eq!(settled(own), Some(StartFrom::Target));
    }
}
