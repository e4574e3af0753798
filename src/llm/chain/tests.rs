use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::*;
use crate::llm::{Block, StopReason, Usage};

/// What a model does when it is asked, in order.
type Script = Arc<Mutex<VecDeque<Result<f64, Trouble>>>>;

/// A model that follows a script and notes that it was asked; after the script it answers.
struct Scripted {
    /// Its name.
    name: &'static str,
    /// What it does.
    script: Script,
    /// Who was asked, in order.
    asked: Arc<Mutex<Vec<&'static str>>>,
}

impl ChatModel for Scripted {
    fn chat<'a>(
        &'a mut self,
        _: &'a ChatRequest<'a>,
        on_delta: &'a mut (dyn FnMut(Delta) + Send),
    ) -> Pin<Box<dyn Future<Output = Result<Answer, ChatError>> + Send + 'a>> {
        self.asked.lock().unwrap().push(self.name);
        on_delta(Delta::Text(self.name.to_owned()));
        let next = self.script.lock().unwrap().pop_front().unwrap_or(Ok(0.0));
        Box::pin(async move {
            let cost = next.map_err(|trouble| {
                Fault::new(trouble, "went wrong").hint(format!("Mend {}.", self.name)).of(self.name)
            })?;
            let usage = Usage { cost_usd: Some(cost), ..Usage::default() };
            let blocks = vec![Block::Text { text: self.name.to_owned() }];
            Ok(Answer { blocks, stop: StopReason::End, usage, model: self.name.to_owned() })
        })
    }

    fn context_window(&self) -> Option<u64> {
        Some(self.name.len() as u64)
    }

    fn name(&self) -> String {
        self.name.to_owned()
    }
}

/// A chain under test.
struct Set {
    /// The chain.
    chain: Chain,
    /// Who was asked.
    asked: Arc<Mutex<Vec<&'static str>>>,
}

/// A chain of models with scripts; those whose name begins with `free` cost nothing.
fn chain(models: &[(&'static str, &[Result<f64, Trouble>])], budget: Option<Budget>) -> Set {
    let asked = Arc::default();
    let links = models.iter().map(|(name, script)| {
        let script = Arc::new(Mutex::new(script.iter().copied().collect()));
        let model = Scripted { name, script, asked: Arc::clone(&asked) };
        Link::new(Box::new(model), name.starts_with("free"), !name.starts_with("odd"))
    });
    Set { chain: Chain::new(links.collect(), budget), asked }
}

impl Set {
    /// Asks; `begins` says whether a turn begins.
    async fn ask(&mut self, begins: bool) -> (Result<Answer, ChatError>, Vec<String>) {
        let last = match begins {
            true => Message::User { text: "x".to_owned() },
            false => Message::Tool { results: Vec::new() },
        };
        let messages = [last];
        let request = ChatRequest { system: "", messages: &messages, tools: &[] };
        let mut restarts = Vec::new();
        let mut on_delta = |delta| {
            if let Delta::Restart { reason } = delta {
                restarts.push(reason);
            }
        };
        (self.chain.chat(&request, &mut on_delta).await, restarts)
    }

    /// Who was asked since the last time.
    fn asked(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// Limits that ask for a time.
fn limited(seconds: u64) -> Trouble {
    Trouble::RateLimited { retry_after: Some(Duration::from_secs(seconds)) }
}

#[tokio::test(start_paused = true)]
async fn a_refused_model_is_left_for_the_next_and_the_turn_stays_there() {
    let mut set = chain(&[("free-a", &[Err(Trouble::Refused)]), ("bb", &[])], None);
    let (answer, restarts) = set.ask(true).await;
    assert_eq!(answer.unwrap().model, "bb");
    assert_eq!(restarts, ["free-a: went wrong; going on with bb"]);
    assert_eq!((set.chain.name().as_str(), set.chain.context_window()), ("bb", Some(2)));
    tokio::time::advance(Duration::from_secs(3_600)).await;
    let (answer, restarts) = set.ask(false).await;
    assert_eq!((answer.unwrap().model.as_str(), restarts.len()), ("bb", 0), "no way back within a turn");
    let (answer, restarts) = set.ask(true).await;
    assert_eq!(answer.unwrap().model, "free-a");
    assert_eq!(restarts, ["a new turn begins with free-a"]);
    assert_eq!(set.asked(), ["free-a", "bb", "bb", "free-a"]);
}

#[tokio::test(start_paused = true)]
async fn a_short_wait_is_kept_and_a_long_one_moves_on() {
    let mut set = chain(&[("a", &[Err(limited(5)), Err(limited(600))]), ("b", &[])], None);
    let began = Instant::now();
    let (answer, restarts) = set.ask(true).await;
    assert_eq!(answer.unwrap().model, "b");
    assert_eq!(set.asked(), ["a", "a", "b"]);
    let waited = began.elapsed();
    assert!(waited >= Duration::from_secs(5) && waited < Duration::from_secs(8), "{waited:?}");
    assert!(restarts[0].starts_with("a: went wrong; trying again in "), "{restarts:?}");
    tokio::time::advance(Duration::from_secs(300)).await;
    drop(set.ask(true).await.0.unwrap());
    assert_eq!(set.asked(), ["b"], "what asked for ten minutes gets them");
    tokio::time::advance(Duration::from_secs(301)).await;
    drop(set.ask(true).await.0.unwrap());
    assert_eq!(set.asked(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_lone_model_is_waited_for_up_to_a_minute() {
    let mut set = chain(&[("a", &[Err(limited(50)), Err(Trouble::Overloaded { retry_after: None })])], None);
    assert_eq!(set.ask(true).await.0.unwrap().model, "a");
    let mut set = chain(&[("a", &[Err(limited(61))])], None);
    let error = set.ask(true).await.0.unwrap_err();
    assert_eq!(error.trouble, limited(61), "the caller may wait");
}

#[tokio::test(start_paused = true)]
async fn tries_end() {
    let busy = [Err(Trouble::Overloaded { retry_after: None }); 20];
    let mut set = chain(&[("a", &busy), ("b", &busy)], None);
    let error = set.ask(true).await.0.unwrap_err();
    assert_eq!(set.asked(), ["a", "a", "a", "b", "b", "b", "b", "b", "b"]);
    assert_eq!(error.to_string(), "b: went wrong; before that a: went wrong");
    assert_eq!(error.hint.as_deref(), Some("Mend a. Mend b."));
    let cut = [Err(Trouble::Cut); 20];
    let mut set = chain(&[("a", &cut)], None);
    assert_eq!(set.ask(true).await.0.unwrap_err().trouble, Trouble::Cut);
    assert_eq!(set.asked(), ["a", "a", "a"]);
}

#[tokio::test(start_paused = true)]
async fn what_the_caller_can_mend_moves_nowhere() {
    for trouble in [Trouble::TooLong, Trouble::BadRequest, Trouble::Mismatch] {
        let mut set = chain(&[("a", &[Err(trouble)]), ("b", &[])], None);
        assert_eq!(set.ask(true).await.0.unwrap_err().trouble, trouble);
        assert_eq!(set.asked(), ["a"]);
    }
    for trouble in [Trouble::Unauthorized, Trouble::ModelMissing, Trouble::NoTools, Trouble::TimedOut, Trouble::Budget]
    {
        let mut set = chain(&[("a", &[Err(trouble)]), ("b", &[])], None);
        assert_eq!(set.ask(true).await.0.unwrap().model, "b", "{trouble:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answered_before_may_restart() {
    let refused = Err(Trouble::Refused);
    let mut set = chain(&[("a", &[refused])], None);
    assert_eq!(set.ask(true).await.0.unwrap_err().trouble, Trouble::Refused);
    assert_eq!(set.asked(), ["a"], "one that is not there is told at once");
    let mut set = chain(&[("a", &[Ok(0.0), refused, refused])], None);
    drop(set.ask(true).await.0.unwrap());
    assert_eq!(set.ask(false).await.0.unwrap().model, "a");
}

#[tokio::test(start_paused = true)]
async fn the_last_resort_of_a_turn_is_the_model_before() {
    let mut set = chain(&[("a", &[Err(Trouble::Refused)]), ("b", &[Ok(0.0), Err(Trouble::Unauthorized)])], None);
    assert_eq!(set.ask(true).await.0.unwrap().model, "b");
    assert_eq!(set.ask(false).await.0.unwrap().model, "a");
}

#[tokio::test(start_paused = true)]
async fn a_budget_stops_what_costs_and_nothing_else() {
    let budget = Some(Budget { limit_usd: 1.0, spent_usd: 0.3 });
    let mut set = chain(&[("paid", &[Ok(0.4), Ok(0.4), Ok(0.4)]), ("free-b", &[])], budget);
    assert_eq!(set.ask(true).await.0.unwrap().model, "paid");
    assert_eq!(set.ask(false).await.0.unwrap().model, "paid");
    let (answer, restarts) = set.ask(false).await;
    assert_eq!(answer.unwrap().model, "free-b");
    assert_eq!(restarts, ["paid: the budget of $1.00 is used up ($1.10 spent); going on with free-b"]);
    let mut set = chain(&[("paid", &[])], Some(Budget { limit_usd: 1.0, spent_usd: 1.0 }));
    let error = set.ask(true).await.0.unwrap_err();
    assert_eq!((error.trouble, set.asked().len()), (Trouble::Budget, 0));
}

#[tokio::test(start_paused = true)]
async fn a_price_nobody_knows_fits_no_budget() {
    let budget = Some(Budget { limit_usd: 1.0, spent_usd: 0.0 });
    let mut set = chain(&[("odd", &[])], budget);
    let error = set.ask(true).await.0.unwrap_err();
    assert_eq!(error.trouble, Trouble::Budget);
    assert!(error.hint.unwrap().contains("`prices`"));
    assert_eq!(chain(&[("odd", &[])], None).ask(true).await.0.unwrap().model, "odd");
}

#[test]
fn a_pause_grows_by_a_quarter_at_most() {
    for _ in 0..200 {
        let pause = jitter(Duration::from_secs(4));
        assert!((4.0..=5.0).contains(&pause.as_secs_f64()), "{pause:?}");
    }
}
