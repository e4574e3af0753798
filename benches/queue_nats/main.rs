//! The NATS engine against the file engine, in one run: what a ticket, a heartbeat and a bundle of commits cost.
//!
//! - Publish, claim and complete by one client and by eight, as tickets a second. No bar: design section 10 names none for
//!   the NATS engine.
//! - Assignment: from the return of `publish` to the claim of another process, which waits as a coordinator does. The bars
//!   are requirements section 11's on task assignment: 10 ms on one machine (file engine), 50 ms distributed (NATS engine).
//! - Heartbeats of 620 workers: renewals of leases in both engines, and heartbeats of other programs at a gateway. The bar
//!   is requirements section 11's on heartbeat processing, 10 ms.
//! - A bundle of commits from one clone through the server into another, against `git bundle create` and `git fetch` of the
//!   same commits by a file on disk. No bar.
//!
//! Each client is a process. Those of the file engine share one store, as on one machine; those of the NATS engine have
//! a replica each, as if each were a machine of its own, and a server on loopback with files for its streams and its own
//! default of `sync_interval`.
//!
//! Run it with `cargo bench --bench queue_nats --features bench-internals`, after `tests/tools/install-nats`; a name
//! (`throughput`, `assignment`, `heartbeats`, `bundles`) as argument runs that part.

#![expect(clippy::print_stdout, reason = "a bench answers on standard output")]
#![expect(clippy::disallowed_methods, reason = "a bench is outside the program's own door")]

mod assignment;
mod bundles;
mod heartbeats;
mod process;
#[expect(dead_code, reason = "this bench measures the queue, and has bars of another shape")]
#[path = "../support/mod.rs"]
mod support;
mod throughput;

use std::path::Path;

/// What a child does: with a server or without, in a folder, under a name.
type Part = fn(Option<&str>, &Path, &str);

/// The parts that children do.
const CHILDREN: [(&str, Part); 3] =
    [("client", throughput::client), ("waiter", assignment::wait), ("gateway", heartbeats::serve)];

/// What is measured.
const MEASURED: [(&str, fn()); 4] = [
    ("throughput", throughput::compare),
    ("assignment", assignment::compare),
    ("heartbeats", heartbeats::compare),
    ("bundles", bundles::compare),
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // A child is `queue_nats KIND URL|- FOLDER NAME`; cargo itself passes `--bench`.
    if let [kind, url, folder, name] = &args[..]
        && let Some((_, part)) = CHILDREN.iter().find(|(known, _)| known == kind)
    {
        let url = Some(url.as_str()).filter(|url| *url != "-");
        return part(url, folder.as_ref(), name);
    }
    let only: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    for (name, measure) in MEASURED {
        if only.is_empty() || only.iter().any(|wanted| *wanted == name) {
            measure();
        }
    }
}
