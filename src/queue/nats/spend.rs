//! What the clones of a project spent, beside the log: a stream that has the last report of each clone for each day and
//! ticket.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, StorageType};

use super::bus::begins;
use super::connection::Link;
use super::error::NatsError;
use super::part::part;
use super::stream::{Names, ensure, marked, marks_of};
use crate::model::spend::SpendReport;
use crate::queue::bus::Start;
use crate::queue::server::encoded;
use crate::store::Heard;

/// How long the server keeps a report.
const KEPT: Duration = Duration::from_secs(24 * 3_600 * REPORTS_KEPT_DAYS as u64);
/// The same in days.
pub(crate) const REPORTS_KEPT_DAYS: u32 = 90;
/// Bytes of what is sent with a report besides, at most.
const HEADERS: usize = 1024;

/// A part of what was told.
pub(crate) struct SpendPart {
    /// The reports, as far as they can be used.
    pub(crate) reports: Vec<SpendReport>,
    /// The number of the last message that it has; the one before it where it has none.
    pub(crate) seq: u64,
    /// Whether there was more.
    pub(crate) is_more: bool,
}

/// Nobody waits long for what is told and heard again in a moment.
const ONE_TRY: Duration = Duration::ZERO;

impl Link {
    /// How far reports go, which are looked for or begun.
    pub(crate) fn reports(&self) -> Result<Heard, NatsError> {
        let (context, names) = (self.context(), self.names().clone());
        self.answered(async move {
            let log = context.get_stream(&names.stream).await?;
            let (_, founder) = marks_of(&log.cached_info().config);
            let found = ensure(&context, marked(config(&names), &founder), true).await?;
            let info = found.cached_info();
            let made = info.created.unix_timestamp_nanos();
            Ok(Heard { stream: made.to_string(), seq: info.state.last_sequence, ..Heard::default() })
        })
    }

    /// Tells what a clone spent on a ticket on a day, in the place of what it told before; the number of that message, and
    /// `None` where it is more than the server takes.
    pub(crate) fn report(&self, report: &SpendReport) -> Result<Option<u64>, NatsError> {
        let SpendReport { clone, day, ticket, version, .. } = report;
        let about = ticket.as_ref().map_or_else(String::new, |ticket| format!(".{}", encoded(ticket.as_str())));
        let place = format!("{clone}.{day}{about}");
        let payload = serde_json::to_vec(report).expect("reports have keys of text");
        if payload.len() + HEADERS > self.context().client().server_info().max_payload {
            return Ok(None);
        }
        let subject = format!("{}.spend.{place}", self.names().prefix);
        self.keep(subject, payload, &format!("{place}/{version}")).map(Some)
    }

    /// Deletes what was told, as a server that is made anew does.
    #[cfg(all(test, feature = "real-agents"))]
    pub(crate) fn forget_reports(&self) {
        let (context, name) = (self.context(), self.names().spend.clone());
        self.once(async move { context.delete_stream(name).await.map(drop) })
            .expect("it answers")
            .expect("it is there");
    }

    /// Deletes one of them, as a server does that loses it.
    #[cfg(all(test, feature = "real-agents"))]
    pub(crate) fn forget_report(&self, seq: u64) {
        let (context, name) = (self.context(), self.names().spend.clone());
        let delete = async move { context.get_stream(name).await.expect("it is there").delete_message(seq).await };
        assert!(self.once(delete).expect("it answers").expect("it is there"));
    }

    /// The reports after a number, as far as they come in one try.
    pub(crate) fn reports_after(&self, seq: u64) -> Result<SpendPart, NatsError> {
        self.patiently(ONE_TRY, || {
            let (context, name) = (self.context(), self.names().spend.clone());
            async move {
                let part = part(&context, &name, begins(Start::After(seq))?).await?;
                let read = part.messages.iter().filter_map(|message| {
                    let report = SpendReport::read(&message.payload);
                    if report.is_none() {
                        let subject = message.subject.as_str();
                        tracing::warn!(subject, "a report of what was spent cannot be read");
                    }
                    report
                });
                Ok(SpendPart {
                    reports: read.collect(),
                    seq: part.seq.unwrap_or(seq),
                    is_more: part.is_more && part.seq.is_some(),
                })
            }
        })
    }
}

/// The stream.
fn config(names: &Names) -> Config {
    Config {
        name: names.spend.clone(),
        subjects: vec![format!("{}.spend.>", names.prefix)],
        storage: StorageType::File,
        num_replicas: names.replicas,
        allow_direct: names.is_direct(),
        max_messages_per_subject: 1,
        max_age: KEPT,
        ..Config::default()
    }
}
