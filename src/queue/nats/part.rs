//! Reading a part of a stream beside the log.

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::{Context, Message};
use futures_util::StreamExt;
use tokio::time::{Instant, timeout_at};

use super::connection::{ANSWER, PATIENCE};

/// Messages in one part, at most.
const PART: usize = 500;

/// A part of a stream.
pub(super) struct Part {
    /// The messages, in order.
    pub(super) messages: Vec<Message>,
    /// The number of the last of them.
    pub(super) seq: Option<u64>,
    /// Whether there was more.
    pub(super) is_more: bool,
}

/// Reads what comes within half of what one try may take, so that it is not cut off. Of several servers the one that reads
/// may be behind: what it has not got yet is read the next time.
pub(super) async fn part(
    context: &Context,
    stream: &str,
    deliver_policy: DeliverPolicy,
) -> Result<Part, async_nats::Error> {
    let until = Instant::now() + ANSWER / 2;
    let config = pull::Config {
        deliver_policy,
        ack_policy: AckPolicy::None,
        inactive_threshold: PATIENCE,
        num_replicas: 1,
        memory_storage: true,
        ..pull::Config::default()
    };
    let consumer = context.get_stream_no_info(stream).await?.create_consumer(config).await?;
    let mut left = consumer.cached_info().num_pending;
    let mut part = Part { messages: Vec::new(), seq: None, is_more: false };
    if left == 0 {
        return Ok(part);
    }
    let mut incoming = consumer.fetch().max_messages(PART).messages().await?;
    while left > 0 && part.messages.len() < PART {
        let Ok(Some(Ok(message))) = timeout_at(until, incoming.next()).await else { break };
        let info = message.info()?;
        // One that was lost on the way is not passed over.
        if usize::try_from(info.consumer_sequence) != Ok(part.messages.len() + 1) {
            break;
        }
        (left, part.seq) = (info.pending, Some(info.stream_sequence));
        part.messages.push(message);
    }
    part.is_more = left > 0;
    Ok(part)
}
