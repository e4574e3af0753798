//! The shape of the list of channels.

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::Time;

/// `bus channels --json`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct ChannelsView {
    /// [`super::VIEW_VERSION`].
    pub(crate) version: u32,
    /// By name.
    pub(crate) channels: Vec<ChannelView>,
}

/// One channel.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct ChannelView {
    /// Its name.
    pub(crate) channel: String,
    /// What it is for.
    pub(crate) about: String,
    /// Whether nobody publishes on it.
    pub(crate) read_only: bool,
    /// How many messages are kept; `None` where nobody counts.
    pub(crate) messages: Option<usize>,
    /// When the last one was made; `None` where there is none, or nobody looks.
    pub(crate) last_at: Option<Time>,
}
