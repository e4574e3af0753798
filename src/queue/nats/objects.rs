//! Files beside the log: bundles of commits that nodes hand to each other.
//!
//! A file is its parts, under a name that no other file ever has, and an entry with the name that it is called and the one
//! of its parts (the architecture note ADR-20 of NATS). Whoever dies while it writes leaves parts without an entry.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_nats::datetime::{DateTime, parse_rfc3339};
use async_nats::jetstream::object_store::{GetErrorKind, ObjectInfo, ObjectMetadata, ObjectStore};
use async_nats::jetstream::stream::{Config, DiscardPolicy, LastRawMessageErrorKind, StorageType, Stream};
use futures_util::StreamExt;
use serde_json::json;
use tokio::io::AsyncReadExt;

use super::connection::{Link, PATIENCE, stream_info};
use super::error::NatsError;
use super::stream::Names;

/// Bytes that arrive at once.
const CHUNK: usize = 128 * 1024;
/// What one file may take on its way.
const TRANSFER: Duration = Duration::from_secs(300);

/// What the server keeps of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    /// What it is called; `None` of one that was deleted, and of parts that no entry names.
    pub(crate) name: Option<String>,
    /// How long ago that was written, by the server's clock alone.
    pub(crate) age: Duration,
    /// The subjects that hold it, each with the number of its last message where something else may be written there since.
    held: Vec<(String, Option<u64>)>,
}

/// The files of a project.
#[derive(Clone)]
pub(crate) struct Objects {
    /// The connection.
    link: Arc<Link>,
    /// The bucket.
    store: ObjectStore,
}

impl Objects {
    /// Finds the bucket of the project that a connection is for, or makes it.
    pub(crate) fn open(link: &Arc<Link>) -> Result<Self, NatsError> {
        let store = link.patiently(PATIENCE, || {
            let (context, bucket, config) = (link.context(), link.names().objects.clone(), config(link.names()));
            async move {
                if let Ok(store) = context.get_object_store(&bucket).await {
                    return Ok(store);
                }
                // Somebody else may do so at the same time.
                let made = context.create_stream(config).await;
                match context.get_object_store(&bucket).await {
                    Ok(store) => Ok(store),
                    Err(error) => Err(made.err().map_or_else(|| error.into(), Into::into)),
                }
            }
        })?;
        Ok(Self { link: link.clone(), store })
    }

    /// Writes a file, over one of the same name. Whoever reads meanwhile reads all of one or of the other.
    pub(crate) fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), NatsError> {
        let store = self.store.clone();
        let metadata = ObjectMetadata {
            name: name.to_owned(),
            description: None,
            chunk_size: None,
            metadata: HashMap::new(),
            headers: None,
        };
        let sent = self.link.run(async move {
            let mut from = &bytes[..];
            tokio::time::timeout(TRANSFER, store.put(metadata, &mut from)).await
        })?;
        match sent {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.link.refused(error.into())),
            Err(_) => Err(self.link.unanswered()),
        }
    }

    /// Does something that takes so long at most.
    fn within<T: Send + 'static>(
        &self,
        time: Duration,
        work: impl Future<Output = Result<T, async_nats::Error>> + Send + 'static,
    ) -> Result<T, NatsError> {
        match self.link.run(async move { tokio::time::timeout(time, work).await })? {
            Ok(done) => done.map_err(|error| self.link.refused(error)),
            Err(_) => Err(self.link.unanswered()),
        }
    }

    /// Reads a file, checked against its digest; `None` where there is none.
    pub(crate) fn get(&self, name: &str) -> Result<Option<Vec<u8>>, NatsError> {
        let (store, name) = (self.store.clone(), name.to_owned());
        let read = async move {
            let mut object = match store.get(&name).await {
                Err(error) if error.kind() == GetErrorKind::NotFound => return Ok(None),
                found => found?,
            };
            let mut bytes = Vec::with_capacity(object.info.size);
            loop {
                bytes.reserve(CHUNK);
                // Of one that is deleted meanwhile nothing comes any more.
                let read = tokio::time::timeout(PATIENCE, object.read_buf(&mut bytes)).await?;
                if read? == 0 {
                    return Ok::<_, async_nats::Error>(Some(bytes));
                }
            }
        };
        self.within(TRANSFER, read)
    }

    /// The names of all files that begin with `prefix`, in no order.
    pub(super) fn names(&self, prefix: &str) -> Result<Vec<String>, NatsError> {
        let (store, prefix) = (self.store.clone(), prefix.to_owned());
        let listed = async move {
            let mut list = store.list().await?;
            let mut names = Vec::new();
            while let Some(info) = list.next().await {
                names.extend(Some(info?.name).filter(|name| name.starts_with(&prefix)));
            }
            Ok::<_, async_nats::Error>(names)
        };
        self.within(PATIENCE, listed)
    }

    /// Deletes a file; one that is not there stays so.
    pub(crate) fn delete(&self, name: &str) -> Result<(), NatsError> {
        let (store, name) = (self.store.clone(), name.to_owned());
        let deleted = self.link.once(async move {
            match store.info(&name).await {
                Ok(_) => store.delete(&name).await.map_err(async_nats::Error::from),
                Err(_) => Ok(()),
            }
        });
        match deleted {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(self.link.refused(error)),
            None => Err(self.link.unanswered()),
        }
    }

    /// All that the server keeps, with what is left of files that were never whole or were deleted.
    pub(crate) fn stored(&self) -> Result<Vec<Stored>, NatsError> {
        let (context, bucket) = (self.link.context(), self.link.names().objects.clone());
        let read = async move {
            let stream = context.get_stream_no_info(format!("OBJ_{bucket}")).await?;
            // One request tells the names and the server's time.
            let all = json!({"subjects_filter": format!("$O.{bucket}.>")});
            let info = stream_info(&context, &format!("OBJ_{bucket}"), all).await?;
            let now = info["ts"].as_str().and_then(|text| parse_rfc3339(text).ok());
            let subjects = info["state"]["subjects"].as_object();
            let subjects: Vec<_> = subjects.into_iter().flat_map(|subjects| subjects.keys().cloned()).collect();
            let (entries, parts) = (format!("$O.{bucket}.M."), format!("$O.{bucket}.C."));
            let (mut stored, mut named) = (Vec::new(), HashSet::new());
            for subject in subjects.iter().filter(|subject| subject.starts_with(&entries)) {
                let Some((text, number, age)) = last(&stream, subject, now).await? else { continue };
                let info: ObjectInfo = serde_json::from_slice(&text)?;
                let own = format!("{parts}{}", info.nuid);
                // The parts go first: an entry without parts is found again, and parts without an entry nearly so.
                let held = vec![(own.clone(), None), (subject.clone(), Some(number))];
                named.insert(own);
                stored.push(Stored { name: (!info.deleted).then_some(info.name), age, held });
            }
            for subject in subjects.iter().filter(|subject| subject.starts_with(&parts) && !named.contains(*subject)) {
                if let Some((_, _, age)) = last(&stream, subject, now).await? {
                    stored.push(Stored { name: None, age, held: vec![(subject.clone(), None)] });
                }
            }
            Ok::<_, async_nats::Error>(stored)
        };
        self.within(TRANSFER, read)
    }

    /// Deletes what is stored, and nothing that was written under its name since.
    pub(crate) fn discard(&self, stored: &Stored) -> Result<(), NatsError> {
        let (context, bucket, held) = (self.link.context(), self.link.names().objects.clone(), stored.held.clone());
        let discarded = self.link.once(async move {
            let stream = context.get_stream_no_info(format!("OBJ_{bucket}")).await?;
            for (subject, number) in held {
                let purge = stream.purge().filter(subject);
                match number {
                    Some(number) => purge.sequence(number + 1).await?,
                    None => purge.await?,
                };
            }
            Ok::<_, async_nats::Error>(())
        });
        match discarded {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(self.link.refused(error)),
            None => Err(self.link.unanswered()),
        }
    }
}

/// The last message on a subject with its number and its age; `None` where there is none any more.
async fn last(
    stream: &Stream<()>,
    subject: &str,
    now: Option<DateTime>,
) -> Result<Option<(Vec<u8>, u64, Duration)>, async_nats::Error> {
    let message = match stream.get_last_raw_message_by_subject(subject).await {
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => return Ok(None),
        found => found?,
    };
    // Without the server's time it is as young as can be.
    let age = now.and_then(|now| (now - message.time).try_into().ok()).unwrap_or_default();
    Ok(Some((message.payload.to_vec(), message.sequence, age)))
}

/// The stream of a bucket as clients make it (the architecture note ADR-20 of NATS), but for who answers questions.
fn config(names: &Names) -> Config {
    let subject = |kind: &str| format!("$O.{}.{kind}.>", names.objects);
    Config {
        name: format!("OBJ_{}", names.objects),
        subjects: vec![subject("C"), subject("M")],
        storage: StorageType::File,
        num_replicas: names.replicas,
        discard: DiscardPolicy::New,
        allow_rollup: true,
        allow_direct: names.is_direct(),
        ..Config::default()
    }
}
