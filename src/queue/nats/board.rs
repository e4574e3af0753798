//! A board beside the log: a bucket of short entries that the nodes of a project keep about themselves and about what
//! they did together. Every entry is changed only by who knows its last revision, so two who change it at once do not
//! both succeed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::datetime::{DateTime, parse_rfc3339};
use async_nats::jetstream::kv::{CreateErrorKind, Entry, Operation, Store, UpdateErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use serde_json::json;
use tokio::task::JoinSet;

use super::connection::{AGAIN_AFTER, ANSWER, Link, PATIENCE, stream_info};
use super::error::NatsError;
use super::stream::Names;

/// An entry of a board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Posted {
    /// What it is called.
    pub(crate) key: String,
    /// What it says.
    pub(crate) value: Vec<u8>,
    /// Its revision, which only grows.
    pub(crate) revision: u64,
    /// How long ago it was written, by the server's clock alone.
    pub(crate) age: Duration,
}

/// The board of a project.
#[derive(Debug, Clone)]
pub(crate) struct Board {
    /// The connection.
    link: Arc<Link>,
    /// The bucket.
    store: Store,
}

impl Board {
    /// Finds the board of the project that a connection is for, or makes it.
    pub(crate) fn open(link: &Arc<Link>) -> Result<Self, NatsError> {
        let store = link.patiently(PATIENCE, || {
            let (context, bucket, config) = (link.context(), link.names().board.clone(), config(link.names()));
            async move {
                if let Ok(store) = context.get_key_value(&bucket).await {
                    return Ok(store);
                }
                // Somebody else may do so at the same time.
                let made = context.create_stream(config).await;
                match context.get_key_value(&bucket).await {
                    Ok(store) => Ok(store),
                    Err(error) => Err(made.err().map_or_else(|| error.into(), Into::into)),
                }
            }
        })?;
        Ok(Self { link: link.clone(), store })
    }

    /// One entry; `None` where there is none.
    pub(crate) fn entry(&self, key: &str) -> Result<Option<Posted>, NatsError> {
        self.link.patiently(PATIENCE, || {
            let (store, key) = (self.store.clone(), key.to_owned());
            async move { Ok(store.entry(key).await?.and_then(|entry| posted(entry, None))) }
        })
    }

    /// All entries whose keys begin with `prefix` and a dot, in the order of their keys, as they were within one moment.
    pub(crate) fn entries(&self, prefix: &str) -> Result<Vec<Posted>, NatsError> {
        self.link.patiently(ANSWER, || {
            let (context, store) = (self.link.context(), self.store.clone());
            let subject = format!("{}{prefix}.>", store.prefix);
            async move {
                // One request tells the keys and the server's time.
                let info = stream_info(&context, &store.stream_name, json!({"subjects_filter": subject})).await?;
                let now = info["ts"].as_str().and_then(|text| parse_rfc3339(text).ok());
                let keys = info["state"]["subjects"].as_object().into_iter().flat_map(|subjects| subjects.keys());
                let mut asked = JoinSet::new();
                for key in keys.filter_map(|subject| subject.strip_prefix(&store.prefix)) {
                    let (store, key) = (store.clone(), key.to_owned());
                    asked.spawn(async move { store.entry(key).await });
                }
                let mut found = Vec::new();
                while let Some(answer) = asked.join_next().await {
                    found.extend(answer??.and_then(|entry| posted(entry, now)));
                }
                found.sort_by(|one, other| one.key.cmp(&other.key));
                Ok(found)
            }
        })
    }

    /// Writes an entry whose last revision is `known`, `None` where there must be none; its new revision, or `None` where
    /// somebody was faster. A value that is written twice must not be the same: an answer that was lost is looked for.
    pub(crate) fn put(&self, key: &str, value: &[u8], known: Option<u64>) -> Result<Option<u64>, NatsError> {
        let started = Instant::now();
        let mut is_repeated = false;
        loop {
            let (store, name, text) = (self.store.clone(), key.to_owned(), value.to_vec());
            let sent = self.link.once(async move {
                match known {
                    Some(revision) => store.update(name, text.into(), revision).await.map_err(|error| {
                        (error.kind() == UpdateErrorKind::WrongLastRevision, async_nats::Error::from(error))
                    }),
                    None => store.create(name, text.into()).await.map_err(|error| {
                        (error.kind() == CreateErrorKind::AlreadyExists, async_nats::Error::from(error))
                    }),
                }
            });
            match sent {
                Some(Ok(revision)) => return Ok(Some(revision)),
                Some(Err((true, _))) if is_repeated => {
                    let now = self.entry(key)?.filter(|now| now.value == value);
                    return Ok(now.map(|now| now.revision));
                }
                Some(Err((true, _))) => return Ok(None),
                _ if started.elapsed() > PATIENCE => return Err(self.link.unanswered()),
                _ => {
                    is_repeated = true;
                    std::thread::sleep(AGAIN_AFTER);
                }
            }
        }
    }

    /// Removes an entry; one that is not there stays so.
    pub(crate) fn remove(&self, key: &str) -> Result<(), NatsError> {
        self.link.patiently(PATIENCE, || {
            let (store, key) = (self.store.clone(), key.to_owned());
            async move { Ok(store.purge(key).await?) }
        })
    }
}

/// The stream of a bucket as clients make it (the architecture note ADR-8 of NATS), but for who answers questions.
fn config(names: &Names) -> Config {
    Config {
        name: format!("KV_{}", names.board),
        subjects: vec![format!("$KV.{}.>", names.board)],
        max_messages_per_subject: 1,
        storage: StorageType::File,
        num_replicas: names.replicas,
        discard: DiscardPolicy::New,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: names.is_direct(),
        ..Config::default()
    }
}

/// An entry as it is handed on; `None` of one that was removed.
fn posted(entry: Entry, now: Option<DateTime>) -> Option<Posted> {
    if entry.operation != Operation::Put {
        return None;
    }
    let age = now.and_then(|now| (now - entry.created).try_into().ok()).unwrap_or_default();
    Some(Posted { key: entry.key, value: entry.value.to_vec(), revision: entry.revision, age })
}
