//! Models in order of preference, and patience with each.
//!
//! A request goes to the current model. What may pass is tried again there after a pause, as long as the provider asks
//! for where that is short; what will not pass soon moves on to the next model, whichever comes after the last being
//! the first again, until each was asked. Nothing moves on from a conversation that is too long or a request that is
//! wrong: the caller can mend those, and another model would only hide them. Whoever listens hears of each pause and
//! each switch as a [`Delta::Restart`], because what came before it does not count.
//!
//! A turn stays with the model it moved to, even when the one before is well again: models see things differently, and
//! changing them back and forth costs each one's cache. A turn begins with a message of the user; then the first model
//! whose pause is over is asked again.

use std::pin::Pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::fault::Fault;
use super::{Answer, ChatError, ChatModel, ChatRequest, Delta, Message, Trouble};
use crate::model::duration_text;

/// The longest wait a provider may ask for before another model is asked instead.
const SHORT_WAIT: Duration = Duration::from_secs(15);

/// The same where there is no other model.
const LONG_WAIT: Duration = Duration::from_secs(60);

/// Tries of one model for one request where another one waits to be asked.
const TRIES: u32 = 3;

/// The same where there is no other model: with doubling pauses about half a minute.
const LAST_TRIES: u32 = 6;

/// What may be spent on models that cost money.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Budget {
    /// US dollars.
    pub(crate) limit_usd: f64,
    /// What of them is spent already.
    pub(crate) spent_usd: f64,
}

/// A model of a chain.
pub(super) struct Link {
    /// The model.
    model: Box<dyn ChatModel>,
    /// Whether its answers cost nothing.
    is_free: bool,
    /// Whether it is known what they cost.
    has_price: bool,
    /// Until when it is passed over.
    paused_until: Option<Instant>,
    /// Whether it ever answered here.
    has_answered: bool,
}

/// Models in order of preference.
pub(super) struct Chain {
    /// At least one.
    links: Vec<Link>,
    /// The one that is asked next in this turn.
    current: usize,
    /// The one that was asked last.
    asked: Option<usize>,
    /// What may be spent; `None` is without limit.
    budget: Option<Budget>,
}

/// What to do after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// Ask the same model again after a pause.
    Again(Duration),
    /// Ask the next model, and this one not before a pause is over.
    Next(Duration),
    /// Tell the caller.
    Fail,
}

/// What is known when something went wrong.
#[derive(Debug, Clone, Copy)]
struct Situation {
    /// Tries of this model for this request, this one included.
    tries: u32,
    /// Whether no other model is left.
    is_last: bool,
    /// Whether the model answered before.
    has_answered: bool,
}

impl Link {
    /// A model that was not asked yet.
    pub(super) fn new(model: Box<dyn ChatModel>, is_free: bool, has_price: bool) -> Self {
        Self { model, is_free, has_price, paused_until: None, has_answered: false }
    }

    /// Whether it may be asked at this moment.
    fn is_ready(&self, now: Instant) -> bool {
        self.paused_until.is_none_or(|until| until <= now)
    }
}

impl Chain {
    /// A chain of at least one model.
    pub(super) fn new(links: Vec<Link>, budget: Option<Budget>) -> Self {
        Self { links, current: 0, asked: None, budget }
    }

    /// Asks until somebody answers or nobody is left.
    async fn ask(
        &mut self,
        request: &ChatRequest<'_>,
        on_delta: &mut (dyn FnMut(Delta) + Send),
    ) -> Result<Answer, ChatError> {
        if matches!(request.messages.last(), Some(Message::User { .. })) {
            let now = Instant::now();
            self.current = self.links.iter().position(|link| link.is_ready(now)).unwrap_or_default();
        }
        let first = self.current;
        let mut errors: Vec<ChatError> = Vec::new();
        for step in 0..self.links.len() {
            self.current = (first + step) % self.links.len();
            self.tell_switch(errors.last(), on_delta);
            let is_last = step + 1 == self.links.len();
            match self.ask_current(request, on_delta, is_last).await {
                Ok(answer) => return Ok(answer),
                Err((error, true)) => errors.push(error),
                Err((error, false)) => return Err(error),
            }
        }
        Err(together(errors))
    }

    /// Says that another model is asked than last time.
    fn tell_switch(&mut self, cause: Option<&ChatError>, on_delta: &mut (dyn FnMut(Delta) + Send)) {
        let name = self.links[self.current].model.name();
        let reason = match (cause, self.asked) {
            (Some(error), _) => Some(format!("{error}; going on with {name}")),
            (None, Some(asked)) if asked != self.current => Some(format!("a new turn begins with {name}")),
            _ => None,
        };
        self.asked = Some(self.current);
        if let Some(reason) = reason {
            on_delta(Delta::Restart { reason });
        }
    }

    /// Asks the current model, with patience. An error comes with whether to move on.
    async fn ask_current(
        &mut self,
        request: &ChatRequest<'_>,
        on_delta: &mut (dyn FnMut(Delta) + Send),
        is_last: bool,
    ) -> Result<Answer, (ChatError, bool)> {
        for tries in 1.. {
            if let Some(fault) = self.budget_fault() {
                return Err((fault.of(self.name()), true));
            }
            let link = &mut self.links[self.current];
            let error = match link.model.chat(request, on_delta).await {
                Ok(answer) => {
                    link.has_answered = true;
                    link.has_price &= answer.usage.cost_usd.is_some();
                    if let Some(budget) = &mut self.budget {
                        budget.spent_usd += answer.usage.cost_usd.unwrap_or_default();
                    }
                    return Ok(answer);
                }
                Err(error) => error,
            };
            if let (Trouble::Overloaded { retry_after: wait } | Trouble::RateLimited { retry_after: wait }, true) =
                (error.trouble, is_last)
            {
                on_delta(Delta::Busy { why: error.to_string(), wait });
            }
            match plan(error.trouble, Situation { tries, is_last, has_answered: link.has_answered }) {
                Plan::Again(pause) => {
                    let text = duration_text(Duration::from_millis(pause.as_millis().try_into().unwrap_or(u64::MAX)));
                    on_delta(Delta::Restart { reason: format!("{error}; trying again in {text}") });
                    sleep(pause).await;
                }
                Plan::Next(pause) => {
                    link.paused_until = Some(Instant::now() + pause);
                    return Err((error, true));
                }
                Plan::Fail => return Err((error, false)),
            }
        }
        unreachable!("a model is given up after some tries")
    }

    /// Why the current model may not be paid.
    fn budget_fault(&self) -> Option<Fault> {
        let (budget, link) = (self.budget?, &self.links[self.current]);
        if link.is_free {
            return None;
        }
        if !link.has_price {
            let message = "its price is not known, so no budget of money can hold it";
            let hint = "Add its price to `prices` in the configuration, or set `local: true` for its provider.";
            return Some(Fault::new(Trouble::Budget, message).hint(hint));
        }
        (budget.spent_usd >= budget.limit_usd).then(|| {
            let Budget { limit_usd, spent_usd } = budget;
            Fault::new(Trouble::Budget, format!("the budget of ${limit_usd:.2} is used up (${spent_usd:.2} spent)"))
                .hint("Raise the budget, or name a local model.")
        })
    }
}

impl ChatModel for Chain {
    fn chat<'a>(
        &'a mut self,
        request: &'a ChatRequest<'a>,
        on_delta: &'a mut (dyn FnMut(Delta) + Send),
    ) -> Pin<Box<dyn Future<Output = Result<Answer, ChatError>> + Send + 'a>> {
        Box::pin(self.ask(request, on_delta))
    }

    fn context_window(&self) -> Option<u64> {
        self.links[self.current].model.context_window()
    }

    fn name(&self) -> String {
        self.links[self.current].model.name()
    }
}

/// What to do after an error.
fn plan(trouble: Trouble, situation: Situation) -> Plan {
    const MINUTE: Duration = Duration::from_secs(60);
    let Situation { tries, is_last, has_answered } = situation;
    let doubled = |first: Duration| jitter(first * 2_u32.pow((tries - 1).min(6)));
    let limit = if is_last { LAST_TRIES } else { TRIES };
    match trouble {
        Trouble::TooLong | Trouble::BadRequest | Trouble::Mismatch => Plan::Fail,
        Trouble::Overloaded { retry_after } | Trouble::RateLimited { retry_after } => match retry_after {
            Some(wait) if wait > if is_last { LONG_WAIT } else { SHORT_WAIT } => Plan::Next(wait),
            _ if tries >= limit => Plan::Next(retry_after.unwrap_or(MINUTE)),
            // A little later than asked for: others were told the same.
            Some(wait) => Plan::Again(jitter(wait.max(Duration::from_millis(100)))),
            None => Plan::Again(doubled(Duration::from_secs(1))),
        },
        Trouble::Cut | Trouble::ServerError | Trouble::Malformed => match tries < TRIES {
            true => Plan::Again(doubled(Duration::from_millis(500))),
            false => Plan::Next(MINUTE),
        },
        // A server that has answered is restarting; one that never did is not there.
        Trouble::Refused if has_answered && is_last && tries < LAST_TRIES => {
            Plan::Again(doubled(Duration::from_secs(1)))
        }
        Trouble::Refused => Plan::Next(MINUTE),
        Trouble::TimedOut | Trouble::Budget => Plan::Next(10 * MINUTE),
        Trouble::Unauthorized | Trouble::ModelMissing | Trouble::NoTools => Plan::Next(5 * MINUTE),
    }
}

/// A pause up to a quarter longer, so that many who wait do not come back at once.
fn jitter(pause: Duration) -> Duration {
    let [random, ..] = *uuid::Uuid::new_v4().as_bytes();
    pause + pause / 4 * u32::from(random) / 255
}

/// One error for all: the last one, with what happened before it and all advice. It is transient if any was.
fn together(mut errors: Vec<ChatError>) -> ChatError {
    let hints: Vec<String> = errors.iter().filter_map(|error| error.hint.clone()).collect();
    let transient = errors.iter().map(|error| error.trouble).find(|trouble| trouble.is_transient());
    let mut last = errors.pop().expect("a chain has at least one model");
    if !errors.is_empty() {
        let before: Vec<_> = errors.iter().map(ToString::to_string).collect();
        last.message = format!("{}; before that {}", last.message, before.join("; "));
        last.hint = (!hints.is_empty()).then(|| hints.join(" "));
        last.trouble = transient.unwrap_or(last.trouble);
    }
    last
}

#[cfg(test)]
mod tests;
