//! The model, asked beside the loop: the loop goes on listening to its person while an answer streams.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::llm::{Answer, ChatError, ChatModel, ChatRequest, Delta, Message, ToolSpec};

/// What comes from a model.
#[derive(Debug)]
pub(super) enum FromModel {
    /// A piece of the answer.
    Delta(Delta),
    /// The whole of it, or why there is none.
    Answer(Result<Answer, ChatError>),
    /// How many tokens it takes, as it says now.
    Window(Option<u64>),
}

/// A model that answers one request at a time.
pub(super) struct ModelTask {
    /// Requests, with their numbers.
    requests: mpsc::UnboundedSender<(u64, Arc<Vec<Message>>)>,
    /// What came of which.
    answers: mpsc::UnboundedReceiver<(u64, FromModel)>,
    /// Requests up to this number are not wanted any more.
    cancelled: watch::Sender<u64>,
    /// The number of the last request.
    last: u64,
}

impl ModelTask {
    /// Starts a model with what comes with every request.
    pub(super) fn start(model: Box<dyn ChatModel>, system: String, tools: Vec<ToolSpec>) -> Self {
        let (requests, incoming) = mpsc::unbounded_channel();
        let (outgoing, answers) = mpsc::unbounded_channel();
        let (cancelled, watched) = watch::channel(0);
        tokio::spawn(serve(model, system, tools, incoming, outgoing, watched));
        Self { requests, answers, cancelled, last: 0 }
    }

    /// Asks; an earlier request that is under way is given up.
    pub(super) fn ask(&mut self, messages: Arc<Vec<Message>>) {
        self.cancel();
        self.last += 1;
        self.requests.send((self.last, messages)).ok();
    }

    /// Gives up what is under way; nothing of it comes any more.
    pub(super) fn cancel(&mut self) {
        self.cancelled.send_replace(self.last);
    }

    /// What comes next of what is still wanted. Cancel safe.
    pub(super) async fn next(&mut self) -> FromModel {
        loop {
            match self.answers.recv().await {
                Some((number, answer)) if number == self.last && *self.cancelled.borrow() < number => return answer,
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
    }
}

/// Answers requests until nobody asks any more.
async fn serve(
    mut model: Box<dyn ChatModel>,
    system: String,
    tools: Vec<ToolSpec>,
    mut requests: mpsc::UnboundedReceiver<(u64, Arc<Vec<Message>>)>,
    answers: mpsc::UnboundedSender<(u64, FromModel)>,
    mut cancelled: watch::Receiver<u64>,
) {
    while let Some((number, messages)) = requests.recv().await {
        let request = ChatRequest { system: &system, messages: &messages, tools: &tools };
        let mut on_delta = |delta| {
            answers.send((number, FromModel::Delta(delta))).ok();
        };
        let answer = tokio::select! {
            answer = model.chat(&request, &mut on_delta) => answer,
            Ok(_) = cancelled.wait_for(|last| *last >= number) => continue,
        };
        // Before the answer is told: whoever hears of it changes the conversation in place.
        drop(messages);
        answers.send((number, FromModel::Window(model.context_window()))).ok();
        answers.send((number, FromModel::Answer(answer))).ok();
    }
}
