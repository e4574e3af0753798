//! The JSON Schemas in `schemas/`: generated from the views and log records, checked in, and compared here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::Value;

use super::args::Cli;
use crate::coordinator::views;
use crate::files::{self, Access};
use crate::llm::play::PlayView;
use crate::llm::replay::Exchange;
use crate::llm::script::Script;
use crate::llm::serve::{RequestRecord, ServeView};
use crate::model::event::EventRecord;
use crate::model::message::Message;
use crate::model::node_event::NodeEvent;
use crate::model::spend::SpendReport;
use crate::model::ticket::Ticket;
use crate::model::tool_call::ToolRecord;
use crate::queue::{QueueEvent, message};

/// Set to write the files anew.
const BLESS: &str = "SWARM_BLESS";

/// The schema that each verb answers `--json` with. `logs --json` prints records.
const ANSWERS: &[(&str, &str)] = &[
    ("init", "init"),
    ("ticket new", "tickets"),
    ("ticket list", "tickets"),
    ("ticket show", "tickets"),
    ("ticket import", "import"),
    ("spawn", "spawn"),
    ("run", "run"),
    ("up", "coordinator"),
    ("down", "coordinator"),
    ("queue list", "queue"),
    ("queue add", "actions"),
    ("queue retry", "actions"),
    ("queue cancel", "actions"),
    ("queue dead", "queue"),
    ("queue migrate", "queue_migrate"),
    ("queue serve", "queue_serve"),
    ("scale", "scale"),
    ("scale set", "scale"),
    ("scale pause", "scale"),
    ("scale resume", "scale"),
    ("scale remove", "scale"),
    ("scale reset", "scale"),
    ("node join", "node"),
    ("node list", "nodes"),
    ("node drain", "node"),
    ("node remove", "node"),
    ("topology show", "topology"),
    ("topology list", "topologies"),
    ("topology set", "topology_changed"),
    ("topology reset", "topology_changed"),
    ("status", "status"),
    ("send", "actions"),
    ("log", "log"),
    ("logs", "event"),
    ("events", "events"),
    ("bus publish", "message"),
    ("bus read", "message"),
    ("bus follow", "message"),
    ("bus request", "message"),
    ("bus reply", "message"),
    ("bus channels", "channels"),
    ("stats", "stats"),
    ("wait", "wait"),
    ("stop", "actions"),
    ("pause", "actions"),
    ("resume", "actions"),
    ("restart", "actions"),
    ("rm", "actions"),
    ("why", "why"),
    ("trust", "trust"),
    ("diff", "diff"),
    ("review", "review"),
    ("conflicts", "conflicts"),
    ("merge", "merge"),
    ("resolve", "resolve"),
    ("recover list", "recover"),
    ("recover show", "recover"),
    ("recover diff", "diff"),
    ("recover restore", "restored"),
    ("clean", "clean"),
    ("rewind", "rewind"),
    ("plan", "plan"),
    ("plan list", "plans"),
    ("plan show", "plan"),
    ("plan approve", "plan"),
    ("budget", "budget"),
    ("agents list", "agents"),
    ("agents show", "agents"),
    ("agents check", "agents"),
    ("doctor", "doctor"),
    ("replay serve", "replay_serve"),
    ("replay check", "replay"),
];

/// Verbs without a JSON answer (design section 7).
const NO_ANSWER: &[&str] = &["attach", "completions", "man", "demo", "queue client"];

/// What a program says of itself when it comes, as the body of a message on the channel `status`: for whoever looks, since
/// tickets are claimed and not assigned.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "programs in other languages write and read it")]
struct Registration {
    /// `registered`.
    event: String,
    /// What it calls itself, as in its claims.
    worker: String,
    /// What it offers, as in its claims.
    capabilities: Vec<String>,
    /// What it is, in a word of its own; null where it says nothing of it.
    role: Option<String>,
    /// Whatever else is worth knowing.
    about: serde_json::Map<String, Value>,
}

/// The schema of what is written for `T`.
fn schema<T: JsonSchema>(title: &str) -> Schema {
    // As it is written, not read: every key is there, and null means unknown.
    let settings = SchemaSettings::draft2020_12().for_serialize();
    titled(settings.into_generator().into_root_schema_for::<T>(), title)
}

/// The schema of what is read into `T`: keys may be missing.
fn input_schema<T: JsonSchema>(title: &str) -> Schema {
    let settings = SchemaSettings::draft2020_12().for_deserialize();
    titled(settings.into_generator().into_root_schema_for::<T>(), title)
}

/// A schema with its title.
fn titled(mut schema: Schema, title: &str) -> Schema {
    schema.insert("title".to_owned(), Value::String(title.to_owned()));
    let mut value = schema.to_value();
    tidy(&mut value);
    Schema::try_from(value).unwrap()
}

/// Takes what only readers of the source understand out of the descriptions.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if key == "description" && text.starts_with("[`") => {
                        *text = "Version of this shape; within one version fields are only added.".to_owned();
                    }
                    Value::String(text) if key == "description" => *text = text.replace("`None`", "null"),
                    _ => tidy(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// All schemas by file name.
fn all() -> BTreeMap<&'static str, Schema> {
    BTreeMap::from([
        (
            "actions",
            schema::<views::ActionsView>("swarm send, stop, pause, resume, restart, rm, review with a verdict --json"),
        ),
        ("agents", schema::<views::AgentsView>("swarm agents --json")),
        ("budget", schema::<views::BudgetView>("swarm budget --json")),
        ("channels", schema::<views::ChannelsView>("swarm bus channels --json")),
        ("clean", schema::<views::CleanView>("swarm clean --json")),
        ("conflicts", schema::<views::ConflictsView>("swarm conflicts --json")),
        ("diff", schema::<views::DiffView>("swarm diff --json")),
        ("doctor", schema::<views::DoctorView>("swarm doctor --json")),
        ("event", schema::<EventRecord>("One line of events.jsonl and of swarm logs --json")),
        ("events", schema::<views::EventView>("One line of swarm events --json")),
        ("import", schema::<views::ImportView>("swarm ticket import --json")),
        ("init", schema::<views::InitView>("swarm init --json")),
        ("log", schema::<views::LogView>("swarm log --json")),
        ("merge", schema::<views::MergeView>("swarm merge --json")),
        (
            "message",
            schema::<Message>("A message on a channel or in a mailbox, and one line of swarm bus read, follow --json"),
        ),
        ("plan", schema::<views::PlanView>("swarm plan, plan show, plan approve --json")),
        ("plans", schema::<views::PlansView>("swarm plan list --json")),
        ("node", schema::<views::NodeChangedView>("swarm node join, drain, remove --json")),
        ("node_event", schema::<NodeEvent>("What happened at a node; on events.NODE.KIND")),
        ("nodes", schema::<views::NodesView>("swarm node list --json")),
        ("topology", schema::<views::TopologyView>("swarm topology show --json")),
        ("topologies", schema::<views::TopologiesView>("swarm topology list --json")),
        ("topology_changed", schema::<views::TopologyChangedView>("swarm topology set, reset --json")),
        ("coordinator", schema::<views::CoordinatorView>("swarm up, down --json")),
        ("queue", schema::<views::QueueView>("swarm queue list, dead --json")),
        ("queue_event", schema::<QueueEvent>("One change of a ticket in the queue; on tasks.changed.TICKET")),
        ("queue_migrate", schema::<views::MigrateView>("swarm queue migrate --json")),
        ("queue_serve", schema::<views::QueueServeView>("swarm queue serve --json")),
        ("recover", schema::<views::RecoverView>("swarm recover list, show --json")),
        ("recording", schema::<Exchange>("One line of a recording of a model conversation")),
        (
            "registration",
            input_schema::<Registration>("The body of a message on `status` by which a program registers"),
        ),
        ("replay", schema::<PlayView>("swarm replay check --json")),
        ("replay_request", schema::<RequestRecord>("One line of the file of swarm replay serve --requests")),
        ("replay_serve", schema::<ServeView>("swarm replay serve --json")),
        ("resolve", schema::<views::ResolveView>("swarm resolve --json")),
        ("restored", schema::<views::RestoredView>("swarm recover restore --json")),
        ("review", schema::<views::ReviewView>("swarm review --json")),
        ("rewind", schema::<views::RewindView>("swarm rewind --json")),
        ("run", schema::<views::RunView>("swarm run --json")),
        ("scale", schema::<views::ScaleView>("swarm scale, scale set, pause, resume, remove, reset --json")),
        ("script", input_schema::<Script>("A script for swarm replay serve and model: replay:FILE")),
        ("spawn", schema::<views::SpawnView>("swarm spawn --json")),
        ("spend_report", schema::<SpendReport>("What a machine spent on a ticket on a day; on spend.CLONE.DAY.TICKET")),
        ("task", schema::<message::Task>("A ticket on tasks.available")),
        ("task_claim", input_schema::<message::ClaimAsk>("A request to tasks.claimed")),
        ("task_completion", input_schema::<message::CompletionAsk>("A request to tasks.completed")),
        ("task_ended", schema::<message::Ended>("The answer of tasks.completed, failed and released")),
        ("task_failure", input_schema::<message::FailureAsk>("A request to tasks.failed")),
        ("task_grant", schema::<message::Grant>("The answer of tasks.claimed to a claim that is granted")),
        ("task_lease", input_schema::<message::LeaseAsk>("A request to tasks.renewed; a message to heartbeat.WORKER")),
        ("task_list", schema::<message::Listing>("The answer of tasks.list")),
        ("task_list_query", input_schema::<message::ListAsk>("A request to tasks.list, which may be empty")),
        ("task_query", input_schema::<message::StatusAsk>("A request to tasks.status")),
        ("task_refusal", schema::<message::Refusal>("The answer to every request that is refused")),
        ("task_rejected", schema::<message::Rejected>("A message on tasks.rejected")),
        ("task_release", input_schema::<message::ReleaseAsk>("A request to tasks.released")),
        ("task_renewal", schema::<message::Renewal>("The answer of tasks.renewed")),
        ("task_result", schema::<message::TaskResult>("What an attempt came to, on tasks.results.TICKET")),
        ("task_status", schema::<message::TaskWithResult>("The answer of tasks.status")),
        ("task_submission", input_schema::<message::Submission>("A ticket on tasks.submitted")),
        ("stats", schema::<views::StatsView>("swarm stats --json")),
        ("status", schema::<views::StatusView>("swarm status --json")),
        ("ticket", schema::<Ticket>("A ticket as published in the queue")),
        ("tickets", schema::<views::TicketsView>("swarm ticket --json")),
        ("tool_call", schema::<ToolRecord>("One line of tool_calls.jsonl and of swarm logs --tools --json")),
        ("trust", schema::<views::TrustView>("swarm trust --json")),
        ("wait", schema::<views::WaitView>("swarm wait --json")),
        ("why", schema::<views::WhyView>("swarm why --json")),
    ])
}

/// Where they are checked in.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas")
}

#[test]
fn the_checked_in_schemas_are_those_of_the_code() {
    let bless = crate::config::environment().get(BLESS).is_some();
    let mut names = Vec::new();
    for (name, schema) in all() {
        let path = folder().join(format!("{name}.json"));
        // By name: the order of keys in a `Value` depends on features that some dependency asks for.
        let mut schema = schema.to_value();
        schema.sort_all_objects();
        let text = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
        if bless {
            files::write_atomically(&path, text.as_bytes(), Access::Shared).unwrap();
        }
        let checked_in = files::read_if_exists(&path).unwrap().unwrap_or_default();
        let same = String::from_utf8(checked_in).unwrap() == text;
        assert!(same, "{} differs: run the tests with {BLESS}=1 to write it", path.display());
        names.push(format!("{name}.json"));
    }
    let listed = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let stale: Vec<_> = listed.filter(|file| !names.contains(file)).collect();
    assert!(stale.is_empty(), "no view has these schemas any more: {stale:?}");
}

#[test]
fn every_verb_with_an_answer_has_a_schema() {
    let schemas = all();
    let command = Cli::command();
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let below: Vec<_> =
            verb.get_subcommands().map(|sub| format!("{} {}", verb.get_name(), sub.get_name())).collect();
        let names = if below.is_empty() { vec![verb.get_name().to_owned()] } else { below };
        for name in names {
            if NO_ANSWER.contains(&name.as_str()) {
                continue;
            }
            let answer = ANSWERS.iter().find(|(known, _)| *known == name);
            let (_, schema) = answer.unwrap_or_else(|| panic!("`{name}` answers with no known schema"));
            assert!(schemas.contains_key(schema), "`{name}` answers with `{schema}`");
        }
    }
}
