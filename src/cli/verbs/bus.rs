//! `swarm bus`: messages on channels.

use std::time::{Duration, Instant};

use super::spawn::standard_input;
use crate::cli::Context;
use crate::cli::args::{
    BusFollowArgs, BusPublishArgs, BusReadArgs, BusReplyArgs, BusRequestArgs, BusVerb, MessageArgs,
};
use crate::cli::output::{Output, Style, Table, one_line, width};
use crate::coordinator::{BusFilter, Failure, FailureKind, Heard, PublishRequest, Since};
use crate::model::Time;
use crate::model::message::{Message, SenderKind};
use crate::model::short_age;

/// How often it is seen to that somebody who went away without a sign does not keep us.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Runs the verb.
pub(super) fn run(verb: &BusVerb, context: &Context) -> Result<(), Failure> {
    match verb {
        BusVerb::Publish(args) => publish(args, context),
        BusVerb::Read(args) => read(args, context),
        BusVerb::Follow(args) => follow(args, context),
        BusVerb::Request(args) => request(args, context),
        BusVerb::Reply(args) => reply(args, context),
        BusVerb::Channels => channels(context),
    }
}

/// `publish`.
fn publish(args: &BusPublishArgs, context: &Context) -> Result<(), Failure> {
    let (text, body) = content(&args.message)?;
    let (channel, id, expires) = (args.channel, args.id.clone(), args.expires);
    let message = context.control()?.publish_message(PublishRequest { channel, text, body, id, expires })?;
    published(&message, context)
}

/// `reply`.
fn reply(args: &BusReplyArgs, context: &Context) -> Result<(), Failure> {
    let (text, body) = content(&args.message)?;
    published(&context.control()?.reply(&args.to, text, body)?, context)
}

/// `request`.
fn request(args: &BusRequestArgs, context: &Context) -> Result<(), Failure> {
    let (text, body) = content(&args.message)?;
    let request = PublishRequest { channel: args.channel, text, body, id: None, expires: None };
    show(&context.control()?.request(request, args.timeout)?, context)
}

/// `read`.
fn read(args: &BusReadArgs, context: &Context) -> Result<(), Failure> {
    let filter = BusFilter { channels: args.channels.clone(), since: args.since.unwrap_or(Since::Beginning) };
    let messages = context.control()?.messages(&filter)?;
    let first = args.limit.map_or(0, |limit| messages.len().saturating_sub(limit));
    messages[first..].iter().try_for_each(|message| show(message, context))
}

/// `follow`.
fn follow(args: &BusFollowArgs, context: &Context) -> Result<(), Failure> {
    let filter = BusFilter { channels: args.channels.clone(), since: args.since.unwrap_or(Since::Recent) };
    let mut left = args.limit.unwrap_or(usize::MAX);
    let control = context.control()?;
    let mut reader = control.follow_messages(&filter)?;
    while left > 0 && context.output.has_reader() {
        match reader.next(Instant::now() + LOOK_EVERY)? {
            Heard::Messages(messages) => {
                let shown = messages.len().min(left);
                messages[..shown].iter().try_for_each(|message| show(message, context))?;
                left -= shown;
            }
            Heard::Away(why) => context.output.warn(&format!("{why}; what comes is shown when it is back")),
        }
    }
    Ok(())
}

/// `channels`.
fn channels(context: &Context) -> Result<(), Failure> {
    let view = context.control()?.channels()?;
    if context.output.json {
        return context.output.document(&view);
    }
    let mut table = Table::new(&["CHANNEL", "MESSAGES", "LAST", "FOR"], Some(3));
    for channel in &view.channels {
        let count = channel.messages.map_or_else(|| "-".to_owned(), |count| count.to_string());
        let last = channel.last_at.map_or_else(|| "-".to_owned(), |at| short_age(at.age_at(Time::now())));
        table.row(vec![
            (Style::Bold, channel.channel.clone()),
            (Style::Plain, count),
            (Style::Plain, last),
            (Style::Dim, channel.about.clone()),
        ]);
    }
    context.output.print(&table.render(context.output.color, width()))
}

/// Text and body of a message.
fn content(args: &MessageArgs) -> Result<(String, Option<serde_json::Value>), Failure> {
    let text = args.words.join(" ");
    if text == "-" && args.body.as_deref() == Some("-") {
        return Err(Failure::new(FailureKind::Usage, "text and body cannot both be on standard input"));
    }
    let text = if text == "-" { standard_input()? } else { text };
    let body = match args.body.as_deref() {
        Some("-") => Some(standard_input()?),
        body => body.map(str::to_owned),
    };
    let broken = |error: serde_json::Error| {
        let mut failure = Failure::new(FailureKind::Usage, "the body is not JSON");
        failure.chain.push(error.to_string());
        failure
    };
    let body = body.map(|body| serde_json::from_str(&body).map_err(broken)).transpose()?;
    Ok((text, body))
}

/// Says that a message was published.
fn published(message: &Message, context: &Context) -> Result<(), Failure> {
    if context.output.json {
        return context.output.record(message);
    }
    let answer = message.reply_to.as_ref().map(|to| format!(" in answer to {to}")).unwrap_or_default();
    context.output.line(&format!("Published {} on {}{answer}", message.seq.unwrap_or(0), message.channel))
}

/// Prints one message.
fn show(message: &Message, context: &Context) -> Result<(), Failure> {
    if context.output.json {
        return context.output.record(message);
    }
    context.output.line(&line(message, &context.output))
}

/// One message: number, day and time in UTC, channel, who says what. What follows the first line is indented.
fn line(message: &Message, output: &Output) -> String {
    let seq = message.seq.map_or_else(String::new, |seq| seq.to_string());
    let at: String = message.at.to_string().chars().take(19).map(|c| if c == 'T' { ' ' } else { c }).collect();
    let style = match message.from.kind {
        SenderKind::Person => Style::Bold,
        SenderKind::Worker => Style::Cyan,
        SenderKind::Coordinator | SenderKind::Client => Style::Plain,
    };
    let mut lines = message.text.lines().map(one_line);
    let first = lines.next().unwrap_or_default();
    let rest: String = lines.map(|line| format!("\n    {line}")).collect();
    let about = format!("{seq:>5} {at} {:12}", message.channel.to_string());
    let from = one_line(&message.from.to_string());
    format!("{} {}: {first}{rest}", output.paint(Style::Dim, &about), output.paint(style, &from))
}
