//! What happened at a node, as it tells those that share its queue.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NodeName;
use super::event::{EventRecord, SwarmRecord};

/// Version of the shape of [`NodeEvent`].
const NODE_EVENT_SCHEMA: u32 = 1;

/// One thing that happened at a node. What the queue says is not among it: every node has that itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct NodeEvent {
    /// [`NODE_EVENT_SCHEMA`].
    schema: u32,
    /// The node.
    pub(crate) node: NodeName,
    /// What tells the node's clone from every other one.
    pub(crate) clone: String,
    /// Its number there: it and the clone tell the event from every other one.
    pub(crate) seq: i64,
    /// What happened: `kind`, and the `record` of it.
    #[serde(flatten)]
    pub(crate) fact: NodeFact,
}

/// What happened, by who says it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", content = "record", rename_all = "snake_case")]
pub(crate) enum NodeFact {
    /// A worker's supervisor, or landing.
    Worker(EventRecord),
    /// The coordinator.
    Swarm(SwarmRecord),
}

impl NodeEvent {
    /// What a node of this clone has to tell; `None` of what is of another kind, or cannot be read any more.
    pub(crate) fn of(node: &NodeName, clone: &str, seq: i64, kind: &str, record: &str) -> Option<Self> {
        let fact = match kind {
            "worker" => NodeFact::Worker(serde_json::from_str(record).ok()?),
            "swarm" => NodeFact::Swarm(serde_json::from_str(record).ok()?),
            _ => return None,
        };
        Some(Self { schema: NODE_EVENT_SCHEMA, node: node.clone(), clone: clone.to_owned(), seq, fact })
    }
}

impl NodeFact {
    /// The word for it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Worker(_) => "worker",
            Self::Swarm(_) => "swarm",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::RunId;
    use crate::model::event::{Event, SwarmEvent};

    #[test]
    fn an_event_is_read_as_it_was_told() {
        let (node, run, fix) = ("mill".parse().unwrap(), RunId::random(), "fix".parse().unwrap());
        let worker = EventRecord::now(&run, &fix, &"fix".parse().unwrap(), Event::Warning { text: "Ah.".to_owned() });
        let swarm = SwarmRecord::now(&run, SwarmEvent::Nudged).about(&"fix".parse().unwrap());
        for (kind, record) in [("worker", json!(worker)), ("swarm", json!(swarm))] {
            let event = NodeEvent::of(&node, "c1", 7, kind, &record.to_string()).unwrap();
            let told = serde_json::to_value(&event).unwrap();
            assert_eq!((&told["node"], &told["kind"], &told["record"]), (&json!("mill"), &json!(kind), &record));
            assert_eq!(serde_json::from_value::<NodeEvent>(told).unwrap(), event);
        }
        assert_eq!(NodeEvent::of(&node, "c1", 7, "queue", &json!(worker).to_string()), None);
        assert_eq!(NodeEvent::of(&node, "c1", 7, "worker", "{}"), None);
    }
}
