//! Arguments of `bus`.

use std::time::Duration;

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

use crate::cli::complete;
use crate::coordinator::Since;
use crate::model::message::Channel;
use crate::model::parse_duration;

// `bus`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum BusVerb {
    /// Publish a message on a channel.
    Publish(BusPublishArgs),
    /// Print what was published on channels, and end.
    Read(BusReadArgs),
    /// Print what was published on channels, and go on as messages come, until Ctrl-C.
    Follow(BusFollowArgs),
    /// Publish a message, and print the first answer to it.
    Request(BusRequestArgs),
    /// Answer a message on its channel.
    Reply(BusReplyArgs),
    /// List the channels.
    Channels,
}

// What a message says.
#[derive(Debug, Args)]
pub(in crate::cli) struct MessageArgs {
    /// The text (`-` is standard input). Several words are one text.
    #[arg(value_name = "TEXT", required = true, num_args = 1..)]
    pub(crate) words: Vec<String>,
    /// Something for programs besides, as JSON (`-` is standard input).
    #[arg(long, value_name = "JSON")]
    pub(crate) body: Option<String>,
}

// `bus publish`.
#[derive(Debug, Args)]
pub(in crate::cli) struct BusPublishArgs {
    /// The channel.
    #[arg(value_parser = channel, add = ArgValueCompleter::new(complete::channels))]
    pub(crate) channel: Channel,
    /// What.
    #[command(flatten)]
    pub(crate) message: MessageArgs,
    /// Name the message: published again under the same name, it has no effect (on a server, within two minutes).
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
    /// Do not show it any more after this long.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) expires: Option<Duration>,
}

// `bus read`.
#[derive(Debug, Args)]
#[command(after_help = "\
Messages have numbers that only grow: with the number of the last one that it dealt with, a program goes on there with \
--since and misses none. They are kept for 30 days.")]
pub(in crate::cli) struct BusReadArgs {
    /// Channels; all but `tasks` when none is named.
    #[arg(value_name = "CHANNEL", value_parser = channel, add = ArgValueCompleter::new(complete::channels))]
    pub(crate) channels: Vec<Channel>,
    /// Begin after the message of this number, or with those of a moment (2026-11-21T10:00:00Z, 2026-11-21), or of this long
    /// ago (2h).
    #[arg(long, value_name = "SEQ|TIME|DURATION", value_parser = Since::parse)]
    pub(crate) since: Option<Since>,
    /// Only the last so many.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}

// `bus follow`.
#[derive(Debug, Args)]
pub(in crate::cli) struct BusFollowArgs {
    /// Channels; all but `tasks` when none is named.
    #[arg(value_name = "CHANNEL", value_parser = channel, add = ArgValueCompleter::new(complete::channels))]
    pub(crate) channels: Vec<Channel>,
    /// Begin after the message of this number, or with those of a moment, or of this long ago; default: the last twenty of
    /// the last day.
    #[arg(long, value_name = "SEQ|TIME|DURATION", value_parser = Since::parse)]
    pub(crate) since: Option<Since>,
    /// End after so many.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}

// `bus request`.
#[derive(Debug, Args)]
pub(in crate::cli) struct BusRequestArgs {
    /// The channel.
    #[arg(value_parser = channel, add = ArgValueCompleter::new(complete::channels))]
    pub(crate) channel: Channel,
    /// What.
    #[command(flatten)]
    pub(crate) message: MessageArgs,
    /// How long to wait for the answer; exit code 6 when none came.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
}

// `bus reply`.
#[derive(Debug, Args)]
pub(in crate::cli) struct BusReplyArgs {
    /// The id or the number of the message.
    #[arg(value_name = "ID")]
    pub(crate) to: String,
    /// What.
    #[command(flatten)]
    pub(crate) message: MessageArgs,
}

/// Reads the name of a channel.
fn channel(text: &str) -> Result<Channel, String> {
    text.parse()
}
