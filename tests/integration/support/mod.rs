//! What the tests stand on: servers that play a model, agents under test, repositories, and their surroundings.

pub(crate) mod claude;
pub(crate) mod model_server;
#[cfg(feature = "real-agents")]
pub(crate) mod nats;
#[cfg(feature = "real-agents")]
pub(crate) mod nodes;
pub(crate) mod scene;
pub(crate) mod schema;
pub(crate) mod swarm;
