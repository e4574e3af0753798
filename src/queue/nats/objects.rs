//! Files beside the log: bundles of commits that nodes hand to each other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::object_store::{Config, GetErrorKind, ObjectMetadata, ObjectStore};
use tokio::io::AsyncReadExt;

use super::connection::{Link, PATIENCE};
use super::error::NatsError;

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
            let (context, bucket) = (link.context(), link.names().objects.clone());
            async move {
                if let Ok(store) = context.get_object_store(&bucket).await {
                    return Ok(store);
                }
                let config = Config { bucket: bucket.clone(), ..Config::default() };
                match context.create_object_store(config).await {
                    Ok(store) => Ok(store),
                    // Somebody else does so at the same time.
                    Err(error) => context.get_object_store(&bucket).await.map_err(|_| error.into()),
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
            let mut bytes = Vec::new();
            object.read_to_end(&mut bytes).await?;
            Ok::<_, async_nats::Error>(Some(bytes))
        };
        match self.link.run(async move { tokio::time::timeout(TRANSFER, read).await })? {
            Ok(Ok(found)) => Ok(found),
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
