//! What keeps the queue of a play: one server, or a cluster of three.

use super::line::Line;
use crate::support::nats::{NatsCluster, NatsServer};
use crate::support::swarm::TestSwarm;

/// The servers of a play.
#[derive(Debug)]
pub(super) enum Broker {
    /// One, which may be away; its port.
    One(Option<NatsServer>, String),
    /// Three, of which one at a time may be away.
    Three(NatsCluster),
}

impl Broker {
    /// Starts it.
    pub(super) fn start(ground: &TestSwarm, is_cluster: bool) -> Self {
        if is_cluster {
            return Self::Three(NatsCluster::start(ground));
        }
        let server = NatsServer::start(ground);
        let port = server.port();
        Self::One(Some(server), port)
    }

    /// A line to each server.
    pub(super) fn lines(&self) -> Vec<Line> {
        match self {
            Self::One(_, port) => vec![Line::to(port.parse().unwrap())],
            Self::Three(cluster) => cluster.ports().map(Line::to).into(),
        }
    }

    /// How many servers there are.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::One(..) => 1,
            Self::Three(cluster) => cluster.ports().len(),
        }
    }

    /// Whether a server may be killed: of several, two have to have everything.
    pub(super) fn is_whole(&self) -> bool {
        match self {
            Self::One(server, _) => server.is_some(),
            Self::Three(cluster) => cluster.is_whole(),
        }
    }

    /// Kills a server.
    pub(super) fn kill(&mut self, at: usize) {
        match self {
            Self::One(server, _) => *server = None,
            Self::Three(cluster) => cluster.kill(at),
        }
    }

    /// Starts it again, on what it had written.
    pub(super) fn restart(&mut self, ground: &TestSwarm, at: usize) {
        match self {
            Self::One(server, port) => *server = Some(NatsServer::start_at(ground, port)),
            Self::Three(cluster) => cluster.restart(ground, at),
        }
    }
}
