//! `swarm hook`: the hidden process that passes one hook call of an agent to its supervisor. It runs before every
//! tool call, so it opens nothing but a socket; it never fails, because a failing hook would stop the agent.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::agent::{self, HookCall, HookReply};
use crate::cli::Context;
use crate::cli::args::HookArgs;
use crate::coordinator::Failure;
use crate::files;
use crate::model::Time;
use crate::supervisor::protocol::{Reply, Request};
use crate::supervisor::{Client, MARKER};

/// Runs the verb.
pub(super) fn run(args: &HookArgs, context: &Context) -> Result<(), Failure> {
    let mut payload = Vec::new();
    std::io::stdin().lock().read_to_end(&mut payload).ok();
    let Some(folder) = context.environment.get(MARKER).map(PathBuf::from) else { return Ok(()) };
    let call = HookCall::new(&args.event, &payload, Time::now());
    // The rules hold whether or not a supervisor lives, so they are judged here.
    let denied = by_policy(&folder, &call);
    let reply = match tell(context, &call) {
        Some(reply) => reply,
        None => {
            agent::append_to_spool(&folder.join("hooks.spool.jsonl"), &call).ok();
            HookReply::default()
        }
    };
    let stdout = if denied.stdout.is_empty() { reply.stdout } else { denied.stdout };
    context.output.print(&stdout)
}

/// What the worker's policy says about the call; consent when there is none.
fn by_policy(folder: &Path, call: &HookCall) -> HookReply {
    let text = files::read_if_exists(&agent::policy_file(folder)).ok().flatten();
    let policy = text.and_then(|text| serde_json::from_slice(&text).ok());
    policy.map(|policy| agent::reply_by_policy(call, &policy)).unwrap_or_default()
}

/// Tells the supervisor; `None` when there is none.
fn tell(context: &Context, call: &HookCall) -> Option<HookReply> {
    let socket = context.environment.get("SWARM_SOCKET")?;
    let mut client = Client::connect(Path::new(socket)).ok()??;
    match client.ask(&Request::Hook { call: call.clone() }).ok()? {
        Reply::Hook { stdout } => Some(HookReply { stdout }),
        _ => None,
    }
}
