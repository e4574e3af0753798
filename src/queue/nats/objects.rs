//! Files beside the log: bundles of commits that nodes hand to each other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::object_store::{GetErrorKind, ObjectMetadata, ObjectStore};
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use futures_util::StreamExt;
use tokio::io::AsyncReadExt;

use super::connection::{Link, PATIENCE};
use super::error::NatsError;
use super::stream::Names;

/// Bytes that arrive at once.
const CHUNK: usize = 128 * 1024;
/// What one file may take on its way.
const TRANSFER: Duration = Duration::from_secs(300);

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
        match self.link.run(async move { tokio::time::timeout(TRANSFER, read).await })? {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(self.link.refused(error)),
            Err(_) => Err(self.link.unanswered()),
        }
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
        match self.link.run(async move { tokio::time::timeout(PATIENCE, listed).await })? {
            Ok(Ok(names)) => Ok(names),
            Ok(Err(error)) => Err(self.link.refused(error)),
            Err(_) => Err(self.link.unanswered()),
        }
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
