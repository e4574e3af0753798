//! Hearing at once that somebody logged something.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use futures_util::StreamExt;

use super::connection::{ANSWER, Link};
use super::replica::applied;
use super::stream::Names;
use crate::store::Store;

/// How often it is seen to that the connection is the one that the watch was begun on, and that somebody still watches.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The pause before a server that is away is looked for again.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Hears of the changes of a log until it is dropped, after the server has them on file. It is a hint: while the server is
/// away nothing is heard, and whoever watches looks by itself now and then. Renewals are not heard of.
#[derive(Debug)]
pub(crate) struct Watch {
    /// The number of the last change that was heard of.
    heard: Arc<AtomicU64>,
}

impl Watch {
    /// Begins to hear.
    pub(crate) fn begin(link: &Link) -> Self {
        let heard = Arc::new(AtomicU64::new(0));
        link.spawn(follow(link.context(), link.names().clone(), Arc::downgrade(&heard)));
        Self { heard }
    }

    /// The number of the last change that was heard of; 0 before the first.
    pub(crate) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// The number of the last change that was heard of or that the replica in `store` has.
    pub(crate) fn known(&self, store: &Store) -> u64 {
        // Unknown is nothing: then it is heard of as if it were new.
        self.heard().max(store.read(applied).unwrap_or(0))
    }
}

/// Follows a log for as long as somebody wants to hear of it.
async fn follow(context: Context, names: Names, heard: Weak<AtomicU64>) {
    while heard.strong_count() > 0 {
        if let Ok(Ok(incoming)) = tokio::time::timeout(ANSWER, open(&context, &names)).await {
            hear(&context, incoming, &heard).await;
        }
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
}

/// Begins to listen with the last change, so that none is passed over that was made while nobody listened.
async fn open(context: &Context, names: &Names) -> Result<Ordered, async_nats::Error> {
    let stream = context.get_stream_no_info(&names.stream).await?;
    let config = OrderedConfig {
        deliver_policy: DeliverPolicy::Last,
        filter_subject: names.changes.clone(),
        headers_only: true,
        ..OrderedConfig::default()
    };
    Ok(stream.create_consumer(config).await?.messages().await?)
}

/// Listens until that fails, or nobody wants to hear any more.
async fn hear(context: &Context, mut incoming: Ordered, heard: &Weak<AtomicU64>) {
    let first = Link::connection(context);
    loop {
        let next = tokio::select! {
            next = incoming.next() => next,
            () = tokio::time::sleep(LOOK_EVERY) => {
                if heard.strong_count() == 0 || Link::connection(context).is_none_or(|now| Some(now) != first) {
                    return;
                }
                continue;
            }
        };
        let (Some(Ok(message)), Some(heard)) = (next, heard.upgrade()) else { return };
        if let Ok(info) = message.info() {
            heard.store(info.stream_sequence, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
#[cfg(feature = "real-agents")]
mod tests {
    use std::time::Instant;

    use super::Watch;
    use crate::queue::contract::{publish, ticket};
    use crate::queue::nats::tests::{DEADLINE, Process, queue};

    /// Waits until more was heard of than `before`; how far that is.
    fn heard_after(watch: &Watch, before: u64) -> u64 {
        let started = Instant::now();
        while watch.heard() <= before {
            assert!(started.elapsed() < DEADLINE, "nothing was heard after {before}");
            std::thread::yield_now();
        }
        watch.heard()
    }

    #[test]
    fn a_change_that_another_machine_makes_is_heard_of_also_after_the_server_was_away() {
        let folder = tempfile::tempdir().unwrap();
        let places = ["one", "other"].map(|name| folder.path().join(name));
        for place in &places {
            std::fs::create_dir(place).unwrap();
        }
        let server = Process::start(folder.path());
        let url = server.url.clone();
        let [one, other] = places.each_ref().map(|place| queue(&url, place));
        let watch = Watch::begin(other.link().unwrap());
        publish(&*one, ticket("a")).unwrap();
        let first = heard_after(&watch, 0);
        publish(&*one, ticket("b")).unwrap();
        let second = heard_after(&watch, first);
        drop(server);
        let port = url.rsplit(':').next().unwrap();
        let _server = Process::start_at(folder.path(), port);
        publish(&*one, ticket("c")).unwrap();
        heard_after(&watch, second);
    }
}
