//! One connection to a server, for callers that block.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::jetstream::{self, Context};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::clock::Clock;
use super::error::{NatsError, is_passing};
use super::stream::{self, Names};
use crate::model::Time;
use crate::queue::server::Server;

/// What one request waits for its answer. A server that is restarted answers nothing to what was under way.
pub(super) const ANSWER: Duration = Duration::from_secs(2);
/// What an operation waits for a server that does not answer, all its requests together.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// The pause before a request is repeated that was refused at once.
pub(super) const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// A connection to the server of one project.
#[derive(Debug)]
pub(crate) struct Link {
    /// The connection's thread.
    driver: Driver,
    /// The server's face.
    context: Context,
    /// What the project's things are called there.
    names: Names,
    /// The server, for messages.
    address: String,
    /// Its clock.
    clock: Clock,
}

impl Link {
    /// Connects to a server that has all that is needed.
    pub(super) fn open(server: &Server) -> Result<Arc<Self>, NatsError> {
        let address = server.address.clone();
        let driver = Driver::start().map_err(|error| NatsError::unreachable(&address, Some(error.into())))?;
        let to = server.clone();
        let context = driver.run(async move { stream::context(&to).await });
        let context = context.ok_or_else(|| NatsError::unreachable(&address, None))??;
        Ok(Arc::new(Self { driver, context, names: Names::of(server), address, clock: Clock::default() }))
    }

    /// The server's face.
    pub(super) fn context(&self) -> Context {
        self.context.clone()
    }

    /// The server, for messages.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// What the project's things are called there.
    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    /// What the server's clock says at a moment that is `local` by this machine's.
    pub(super) fn by_server(&self, local: Time) -> Result<Time, NatsError> {
        self.clock.by_server(local, || {
            self.patiently(PATIENCE, || {
                let (context, stream) = (self.context(), self.names.stream.clone());
                async move {
                    let info = stream_info(&context, &stream, json!({})).await?;
                    Ok(serde_json::from_value(info["ts"].clone())?)
                }
            })
        })
    }

    /// The version of the server that answers, and how many servers keep the log.
    pub(crate) fn kept_by(&self) -> Result<(String, usize), NatsError> {
        self.patiently(PATIENCE, || {
            let (context, stream) = (self.context(), self.names.stream.clone());
            async move {
                let info = stream_info(&context, &stream, json!({})).await?;
                let version = context.client().server_info().version;
                Ok((version, serde_json::from_value(info["config"]["num_replicas"].clone())?))
            }
        })
    }

    /// What the subjects of the project begin with.
    pub(crate) fn prefix(&self) -> &str {
        &self.names.prefix
    }

    /// Which of the connections to the server that there were one after the other is up; `None` where none is. What a
    /// server keeps for a reader is gone with its connection, which the client would notice late by itself.
    pub(super) fn connection(context: &Context) -> Option<u64> {
        let client = context.client();
        let is_up = client.connection_state() == State::Connected;
        is_up.then(|| client.statistics().connects.load(Ordering::Relaxed))
    }

    /// Runs a future that ends by itself.
    pub(super) fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, NatsError> {
        self.driver.run(future).ok_or_else(|| NatsError::unreachable(&self.address, None))
    }

    /// Starts a future that nobody waits for.
    pub(super) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.driver.handle.spawn(future);
    }

    /// Waits for a future on the calling thread, while the connection's thread sees to what it waits for.
    pub(super) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.driver.handle.block_on(future)
    }

    /// Runs one request; `None` when no answer came in time.
    pub(super) fn once<T: Send + 'static>(&self, request: impl Future<Output = T> + Send + 'static) -> Option<T> {
        self.driver.run(async move { tokio::time::timeout(ANSWER, request).await.ok() })?
    }

    /// Makes one attempt at something, of which the server may have done its part when no answer came.
    pub(super) fn answered<T: Send + 'static>(
        &self,
        attempt: impl Future<Output = Result<T, async_nats::Error>> + Send + 'static,
    ) -> Result<T, NatsError> {
        match self.once(attempt) {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(error)) if !is_passing(&error) => Err(self.refused(error)),
            _ => Err(self.unanswered()),
        }
    }

    /// Repeats a request that changes nothing until it is answered.
    pub(super) fn patiently<T, F>(&self, patience: Duration, request: impl Fn() -> F) -> Result<T, NatsError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, async_nats::Error>> + Send + 'static,
    {
        let started = Instant::now();
        loop {
            match self.once(request()) {
                Some(Ok(answer)) => return Ok(answer),
                failed if started.elapsed() > patience => {
                    return Err(NatsError::unreachable(&self.address, failed.and_then(Result::err)));
                }
                _ => std::thread::sleep(AGAIN_AFTER),
            }
        }
    }

    /// The server's refusal.
    pub(super) fn refused(&self, source: async_nats::Error) -> NatsError {
        NatsError::Refused { address: self.address.clone(), source }
    }

    /// That no answer came.
    pub(super) fn unanswered(&self) -> NatsError {
        NatsError::Unanswered { address: self.address.clone() }
    }
}

/// What a server knows of a stream, as JSON with what is asked for beside. That it cannot tell, as while a cluster agrees
/// who leads, is an error; the client hands that on as an answer.
pub(super) async fn stream_info(context: &Context, stream: &str, ask: Value) -> Result<Value, async_nats::Error> {
    let info: Value = context.request(format!("STREAM.INFO.{stream}"), &ask).await?;
    match info.get("error") {
        None => Ok(info),
        Some(error) => Err(serde_json::from_value::<jetstream::Error>(error.clone())?.into()),
    }
}

/// Drives a connection on a thread of its own, so that callers may block on it wherever they are.
#[derive(Debug)]
struct Driver {
    /// Where its futures run.
    handle: Handle,
    /// Ends the thread when dropped.
    end: Option<oneshot::Sender<()>>,
    /// The thread.
    thread: Option<JoinHandle<()>>,
}

impl Driver {
    /// Starts the thread.
    ///
    /// # Errors
    /// Those of the system when it has no more threads or files.
    fn start() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let drive = move || {
            // Either way of ending means that nobody calls any more.
            let _ended = runtime.block_on(ended);
        };
        let thread = std::thread::Builder::new().name("nats".to_owned()).spawn(drive)?;
        Ok(Self { handle, end: Some(end), thread: Some(thread) })
    }

    /// Runs a future to its end and blocks for it. `None` when the thread ended under it.
    fn run<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.handle.spawn(async move {
            // Nobody listens any more only when the caller is gone.
            let _gone = sender.send(future.await);
        });
        receiver.recv().ok()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _panicked = thread.join();
        }
    }
}
