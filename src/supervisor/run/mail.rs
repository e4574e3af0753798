//! The worker's mailbox: what is in it goes to the agent at the boundary of a turn, and is taken out when the agent has it.

use std::time::Duration;

use tokio::time::Instant;

use super::{Job, Supervision};
use crate::config::{Template, Templates};
use crate::model::event::Event;
use crate::model::message::{Message, SenderKind};
use crate::model::{Time, cut, tildes_around};
use crate::queue::Hear;
use crate::store::Fate;
use crate::supervisor::ledger::Ledger;
use crate::supervisor::machine::{Input, Letter, Parcel};
use crate::supervisor::protocol::Reply;

/// How often the mailbox is looked at, whether anybody said that there is something in it or not, where a server is asked.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// The same where nobody can put something in but processes of this machine, which say so; only one that was killed before
/// it could say so is waited for, and hundreds of workers at rest look.
const LOOK_HERE_EVERY: Duration = Duration::from_secs(300);
/// The pause before a server is listened to again.
const LISTEN_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How long whoever ends waits for another process of this machine that tells what was spent.
const TELL_WITHIN: Duration = Duration::from_secs(5);
/// Letters of a sender's name that an agent is told.
const NAME_TOLD: usize = 80;

impl Supervision {
    /// Listens for what comes over a server, for as long as this process lives.
    pub(super) fn watch_mail(&self) {
        if self.assignment.handover.queue.is_none() {
            return;
        }
        let (ledger, results) = (self.assignment.ledger.clone(), self.job_results.clone());
        std::thread::spawn(move || {
            while !results.is_closed() {
                if let Ok(Some(mut incoming)) = ledger.await_mail() {
                    // A server that is away is told by others; what it has comes when it is back.
                    while !results.is_closed() {
                        let came = incoming.next(std::time::Instant::now() + LOOK_EVERY);
                        if came.is_ok_and(|came| !came.is_empty()) && results.blocking_send(Job::MailCame).is_err() {
                            return;
                        }
                    }
                }
                std::thread::sleep(LISTEN_AGAIN_AFTER);
            }
        });
    }

    /// Looks into the mailbox where it was not for a while: whoever put something in may have died before they said so.
    /// And tells a server what it may not have been told because it was away.
    pub(super) fn begin_mail_if_due(&mut self, now: Instant) {
        let every = if self.assignment.handover.queue.is_some() { LOOK_EVERY } else { LOOK_HERE_EVERY };
        if self.timers.mail.is_none_or(|last| now.duration_since(last) >= every) {
            self.timers.mail = Some(now);
            self.begin_mail();
            self.begin_telling();
        }
    }

    /// Fetches what is in the mailbox, beside the loop: a server may take its time.
    pub(super) fn begin_mail(&self) {
        let (ledger, results) = (self.assignment.ledger.clone(), self.job_results.clone());
        let limit = self.assignment.handover.limits.mailbox;
        tokio::task::spawn_blocking(move || match ledger.fetch_mail(limit) {
            Ok(mail) if mail.is_empty() => {}
            Ok(mail) => {
                results.blocking_send(Job::Mail(mail)).ok();
            }
            Err(error) => tracing::warn!(error = crate::model::error_text(&error), "the mailbox could not be read"),
        });
    }

    /// Takes what is in the mailbox on this machine.
    pub(super) async fn take_own_mail(&mut self) {
        let mail = self.book(|ledger| ledger.own_mail()).await.unwrap_or_default();
        self.take_mail(mail).await;
    }

    /// Gives the machine what it was not given yet.
    pub(super) async fn take_mail(&mut self, mail: Vec<Message>) {
        for message in mail {
            if self.machine.is_ending() || self.told.letters.contains(&message.id) {
                continue;
            }
            let letter = Letter {
                id: message.id.clone(),
                from: message.from.to_string(),
                is_of_person: message.from.kind == SenderKind::Person,
                expires_at: message.expires_at,
            };
            self.told.letters.insert(message.id.clone());
            if message.is_expired(Time::now()) {
                self.settle_letter(letter, Fate::Expired).await;
                continue;
            }
            let (bytes, from) = (message.text.len(), Some(letter.from.clone()).filter(|_| !letter.is_of_person));
            let waits = self.machine.letter_waits_for(&letter).is_some();
            let text = self.framed(&message);
            self.input(Input::Letter { text, letter }).await;
            if waits {
                self.log(Event::MessageQueued { bytes, from }).await;
            }
        }
    }

    /// What a sender is told about its letter; `None` while it is typed.
    pub(super) fn where_is(&self, id: &str) -> Option<Reply> {
        if !self.told.letters.contains(id) {
            return Some(Reply::Queued { until: "its mailbox to be readable".to_owned() });
        }
        if self.machine.holds_letter(id) {
            let until = self.machine.send_waits_for().unwrap_or("its work to be taken up again");
            return Some(Reply::Queued { until: until.to_owned() });
        }
        (!self.machine.is_typing_letter(id)).then_some(Reply::Delivered)
    }

    /// Tells a server what happened, beside the loop, where nobody does so already. In the file engine that is told.
    pub(super) fn begin_telling(&mut self) {
        let is_told = self.told.telling.as_ref().is_none_or(tokio::task::JoinHandle::is_finished);
        if self.assignment.handover.queue.is_some() && is_told {
            let ledger = self.assignment.ledger.clone();
            let telling = tokio::task::spawn_blocking(move || {
                tell(&ledger, Duration::ZERO);
            });
            self.told.telling = Some(telling);
        }
    }

    /// The same at the end, when nothing happens any more; and which letters the agent has, so that whoever goes on with the
    /// work elsewhere does not get them.
    pub(super) async fn end_telling(&mut self) {
        if let Some(telling) = self.told.telling.take() {
            telling.await.ok();
            let (ledger, limit) = (self.assignment.ledger.clone(), self.assignment.handover.limits.mailbox);
            let had_mail = !self.told.letters.is_empty();
            let told = tokio::task::spawn_blocking(move || {
                if tell(&ledger, TELL_WITHIN) && had_mail {
                    tell_settled(&ledger, limit);
                }
            });
            told.await.ok();
        }
    }

    /// A message as the agent gets it. What is not the person's word says whose it is, and that it has no authority.
    fn framed(&self, message: &Message) -> String {
        if message.from.kind == SenderKind::Person {
            return message.text.clone();
        }
        let name: String = message.from.name.chars().filter(|letter| !letter.is_control() && *letter != '`').collect();
        let variables = MessageVariables {
            kind: message.from.kind,
            name: cut(&name, NAME_TOLD).to_owned(),
            text: message.text.clone(),
            fence: tildes_around(&message.text),
        };
        let briefing = self.briefing();
        let files = self.assignment.handover.templates.clone();
        let own = Templates::from_files(files).and_then(|own| own.render(Template::Message, briefing.with(&variables)));
        own.unwrap_or_else(|error| {
            self.note_error::<(), _>(Err(error));
            let built_in = Templates::default().render(Template::Message, briefing.with(&variables));
            built_in.expect("the built-in template has all it names")
        })
    }

    /// Takes letters out of the mailbox. Until a server is told, they count as waiting there, and have the place of others.
    pub(super) async fn settle(&mut self, parcel: &Parcel, fate: Fate) {
        let letters: Vec<_> = parcel.letters().cloned().collect();
        let tells_server = self.assignment.handover.queue.is_some() && !letters.is_empty();
        for letter in letters {
            self.settle_letter(letter, fate).await;
        }
        if tells_server {
            self.begin_mail();
        }
    }

    /// Takes a letter out of the mailbox and writes down what became of it; a server is told at the next look.
    pub(super) async fn settle_letter(&mut self, letter: Letter, fate: Fate) {
        self.book(move |ledger| {
            ledger.settle_mail(&letter.id, fate)?;
            let Letter { id, from, .. } = letter;
            match fate {
                Fate::Delivered => ledger.log(Event::MailDelivered { id, from }),
                Fate::Expired => ledger.log(Event::MailExpired { id, from }),
                Fate::Withdrawn => Ok(()),
            }
        })
        .await;
    }
}

/// Tells a server what happened and what was spent; one that is away is told by whoever comes next. Whether it was told.
/// Another process that tells what was spent is waited for so long.
fn tell(ledger: &Ledger, wait: Duration) -> bool {
    let told = ledger.tell_facts();
    if let Err(error) = &told {
        tracing::warn!(error = crate::model::error_text(error), "what happened could not be told on the server");
    }
    share(ledger, wait, Hear::IfDue);
    told.is_ok()
}

/// Tells a server what was spent, and may `hear` what was spent elsewhere; one that is away is told by whoever comes next.
pub(super) fn share(ledger: &Ledger, wait: Duration, hear: Hear) {
    if let Err(error) = ledger.share_spend(wait, hear) {
        tracing::warn!(error = crate::model::error_text(&error), "what was spent could not be shared");
    }
}

/// Tells a server which letters left the mailbox here.
fn tell_settled(ledger: &Ledger, limit: usize) {
    if let Err(error) = ledger.fetch_mail(limit) {
        tracing::warn!(error = crate::model::error_text(&error), "the mailbox on the server could not be cleared");
    }
}

/// Variables of `message.md` besides the common ones.
#[derive(serde::Serialize)]
struct MessageVariables {
    kind: SenderKind,
    name: String,
    text: String,
    fence: String,
}
