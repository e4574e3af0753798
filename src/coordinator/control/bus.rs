//! The bus: channels that everybody may read and write, and who speaks on them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Control;
use super::events::Since;
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::views::{ChannelView, ChannelsView, VIEW_VERSION};
use crate::model::event::Event;
use crate::model::message::{Address, Channel, Message, Sender, SenderKind};
use crate::model::worker::{Phase, Worker};
use crate::model::{Time, WorkerId, duration_text, error_text};
use crate::process;
use crate::queue::{self, Bus, Start, Subscription};
use crate::supervisor::MARKER;

/// How far back somebody who follows without saying from where sees the last messages.
const SHOWN_BEFORE: Duration = Duration::from_secs(24 * 3_600);
/// How many of them.
const SHOWN_COUNT: usize = 20;

/// A message to publish.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PublishRequest {
    /// Where.
    pub(crate) channel: Channel,
    /// What it says.
    pub(crate) text: String,
    /// Anything for programs.
    pub(crate) body: Option<serde_json::Value>,
    /// Names it, so that it can be published again without effect.
    pub(crate) id: Option<String>,
    /// How long somebody may need it.
    pub(crate) expires: Option<Duration>,
}

/// Which messages are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BusFilter {
    /// Of these channels; all but `tasks` where none is named.
    pub(crate) channels: Vec<Channel>,
    /// From where on.
    pub(crate) since: Since,
}

/// What a follower hears.
pub(crate) enum Heard {
    /// Messages, oldest first; none when the time is over.
    Messages(Vec<Message>),
    /// The server is away, as a clause; what comes meanwhile is heard when it is back.
    Away(String),
}

/// A follower of channels.
pub(crate) struct BusReader {
    /// What was there when it began.
    before: Vec<Message>,
    /// What comes.
    incoming: Box<dyn Subscription>,
}

impl BusReader {
    /// Waits for the next messages until then.
    pub(crate) fn next(&mut self, until: Instant) -> Result<Heard, Failure> {
        if !self.before.is_empty() {
            return Ok(Heard::Messages(std::mem::take(&mut self.before)));
        }
        match self.incoming.next(until) {
            Ok(messages) => Ok(Heard::Messages(messages)),
            Err(error) if error.is_away() => Ok(Heard::Away(error_text(&error))),
            Err(error) => Err(error.into()),
        }
    }
}

/// Who runs this command.
pub(super) struct Speaker {
    /// As messages name them.
    pub(super) from: Sender,
    /// Their worker, where they are the agent of one.
    pub(super) worker: Option<Worker>,
}

impl Control {
    /// Publishes a message.
    pub(crate) fn publish_message(&self, request: PublishRequest) -> Result<Message, Failure> {
        let message = self.message(request)?;
        self.say(message)
    }

    /// Publishes an answer to a message on its channel.
    pub(crate) fn reply(&self, to: &str, text: String, body: Option<serde_json::Value>) -> Result<Message, Failure> {
        let found = self.bus()?.find(to)?;
        let asked = found.ok_or_else(|| {
            Failure::new(FailureKind::NotFound, format!("there is no message `{to}`"))
                .hint("swarm bus read lists messages with their numbers")
        })?;
        let Address::Channel(channel) = asked.channel else {
            return Err(Failure::new(FailureKind::Usage, format!("`{to}` was for one worker alone")));
        };
        let request = PublishRequest { channel, text, body, id: None, expires: None };
        self.say(Message { reply_to: Some(asked.id), ..self.message(request)? })
    }

    /// Publishes a message and waits for the first answer.
    pub(crate) fn request(&self, request: PublishRequest, within: Duration) -> Result<Message, Failure> {
        let message = self.message(request)?;
        self.count_message()?;
        let answer = self.bus()?.request(&message, within)?;
        answer.ok_or_else(|| {
            let text = format!("nobody answered within {}", duration_text(within));
            Failure::new(FailureKind::TimedOut, text).hint(format!(
                "swarm bus reply {} TEXT answers it; swarm bus read {} shows it",
                message.id, message.channel
            ))
        })
    }

    /// The messages of channels, oldest first, up to now.
    pub(crate) fn messages(&self, filter: &BusFilter) -> Result<Vec<Message>, Failure> {
        Ok(self.bus()?.read(start(filter.since), &channels(filter))?.messages)
    }

    /// The messages of channels from somewhere on, and then what comes.
    pub(crate) fn follow_messages(&self, filter: &BusFilter) -> Result<BusReader, Failure> {
        let (bus, channels) = (self.bus()?, channels(filter));
        let mut part = bus.read(start(filter.since), &channels)?;
        match filter.since {
            Since::Recent => drop(part.messages.drain(..part.messages.len().saturating_sub(SHOWN_COUNT))),
            Since::Now => part.messages.clear(),
            Since::Beginning | Since::Seq(_) | Since::Moment(_) => {}
        }
        Ok(BusReader { before: part.messages, incoming: bus.subscribe(part.seq, &channels)? })
    }

    /// The channels, with what is on them.
    pub(crate) fn channels(&self) -> Result<ChannelsView, Failure> {
        let all = self.bus()?.read(Start::Beginning, &Channel::open())?.messages;
        let channels = Channel::ALL.iter().map(|channel| {
            let on_it = || all.iter().filter(|message| message.channel == Address::Channel(*channel));
            ChannelView {
                channel: channel.to_string(),
                about: channel.about().to_owned(),
                read_only: channel.is_read_only(),
                messages: (!channel.is_read_only()).then(|| on_it().count()),
                last_at: on_it().map(|message| message.at).next_back(),
            }
        });
        Ok(ChannelsView { version: VIEW_VERSION, channels: channels.collect() })
    }

    /// The messages beside the queue.
    pub(super) fn bus(&self) -> Result<Arc<dyn Bus>, Failure> {
        Ok(queue::bus(&*self.project.queue()?, self.project.store()?, &self.project.paths)?)
    }

    /// Tells a server what happened here, and what it cost. In the file engine that is told already; a server that is away is told by
    /// whoever comes next.
    pub(in crate::coordinator) fn tell_facts(&self) {
        let told = self.project.queue().and_then(|queue| {
            let Some(_) = queue.link() else { return Ok(()) };
            let (store, paths) = (self.project.store()?, &self.project.paths);
            let events = queue::tell_events(&*queue, store, paths);
            queue::tell_facts(self.bus()?.as_ref(), store, paths)?;
            Ok(events?)
        });
        if let Err(failure) = told {
            tracing::warn!(error = failure.chain.join(": "), "what happened could not be told on the server");
        }
        self.share_spend();
    }

    /// A message of whoever runs this command.
    fn message(&self, request: PublishRequest) -> Result<Message, Failure> {
        if request.text.trim().is_empty() && request.body.is_none() {
            return Err(Failure::new(FailureKind::Usage, "the message is empty"));
        }
        let from = self.speaker()?.from;
        let message = Message::now(from, Address::Channel(request.channel), request.text);
        Ok(Message {
            id: request.id.unwrap_or(message.id),
            body: request.body,
            expires_at: request.expires.map(|after| message.at.after(after)),
            ..message
        })
    }

    /// Publishes a message; as it was published.
    fn say(&self, message: Message) -> Result<Message, Failure> {
        self.count_message()?;
        let seq = self.bus()?.publish(&message)?;
        Ok(Message { seq: Some(seq), ..message })
    }

    /// Who runs this command: the agent of a worker where it is below the supervisor of one, whatever its environment says,
    /// or where its environment says so; else a person.
    pub(super) fn speaker(&self) -> Result<Speaker, Failure> {
        let above = process::ancestors()?;
        let workers = self.project.store()?.workers()?;
        let supervised = above.iter().find_map(|process| {
            workers
                .iter()
                .find(|worker| matches!(&worker.phase, Phase::Supervised { supervisor, .. } if supervisor == process))
        });
        let environment = &self.project.call.environment;
        let marker = environment.get(MARKER).filter(|folder| !folder.is_empty()).map(std::path::Path::new);
        let named = || workers.iter().find(|worker| marker == Some(&self.project.paths.worker_dir(&worker.id)));
        if let Some(worker) = supervised.or_else(named) {
            let from = Sender { kind: SenderKind::Worker, name: worker.id.to_string() };
            return Ok(Speaker { from, worker: Some(worker.clone()) });
        }
        // The agent of another repository's worker is no person either.
        if let Some(name) = marker.and_then(std::path::Path::file_name) {
            let from = Sender { kind: SenderKind::Worker, name: name.to_string_lossy().into_owned() };
            return Ok(Speaker { from, worker: None });
        }
        let name = ["USER", "LOGNAME"].into_iter().find_map(|name| environment.get(name)).unwrap_or_default();
        Ok(Speaker { from: Sender { kind: SenderKind::Person, name: name.to_owned() }, worker: None })
    }

    /// Counts a message of the agent that runs this command.
    ///
    /// # Errors
    /// [`FailureKind::Limit`] when it has sent as many as it may.
    fn count_message(&self) -> Result<(), Failure> {
        self.count_message_of(&self.speaker()?)
    }

    /// The same of a speaker who is known.
    pub(super) fn count_message_of(&self, speaker: &Speaker) -> Result<(), Failure> {
        if speaker.from.kind != SenderKind::Worker {
            return Ok(());
        }
        // What an agent sets for its own call counts for nothing here.
        let limit = self.project.configured()?.limits.messages;
        let attempt = speaker.worker.as_ref().map_or(0, |worker| worker.attempt.number);
        let key = format!("{}#{attempt}", speaker.from.name);
        if self.project.store()?.count_sent(&key, limit)? {
            return Ok(());
        }
        let text =
            format!("worker `{}` has sent {limit} messages in this attempt, which is the limit", speaker.from.name);
        Err(Failure::new(FailureKind::Limit, text)
            .hint("go on without an answer, or end your turn and say what you wait for")
            .hint("a person raises it by `limits.messages` in .swarm/config.yaml"))
    }

    /// Writes into an agent's own log that it sent a message.
    pub(super) fn note_sent(&self, speaker: &Speaker, to: &WorkerId, message: &Message) -> Result<(), Failure> {
        let Some(worker) = &speaker.worker else { return Ok(()) };
        let (id, to, bytes) = (message.id.clone(), to.clone(), message.text.len());
        self.log(worker, Event::MailSent { id, to, bytes })
    }
}

/// Where to begin to read.
fn start(since: Since) -> Start {
    match since {
        Since::Beginning => Start::Beginning,
        Since::Seq(seq) => Start::After(seq.unsigned_abs()),
        Since::Moment(moment) => Start::Moment(moment),
        Since::Recent => Start::Moment(before_now(SHOWN_BEFORE)),
        Since::Now => Start::Moment(before_now(Duration::ZERO)),
    }
}

/// That long ago.
fn before_now(age: Duration) -> Time {
    Time::from_millis(Time::now().as_millis() - i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
}

/// The channels that are wanted.
fn channels(filter: &BusFilter) -> Vec<Channel> {
    if filter.channels.is_empty() { Channel::open() } else { filter.channels.clone() }
}
