//! Everything that people write down for `swarm`: settings, tickets, agents, templates, trust decisions, and
//! the environment they start it in.
//!
//! This is the only code that reads YAML, front matter and the process environment. It never guesses where a
//! repository is: callers say which texts to read and how those are called in messages. An error names file,
//! line and column, and says what would have been valid. Text is checked completely before a value exists, so
//! a [`Settings`](crate::model::settings::Settings), ticket or agent from here needs no second look.

mod agent;
mod agent_book;
mod command;
mod environment;
mod error;
mod fill;
mod folder;
mod front_matter;
mod init;
mod preset;
mod settings;
mod spawn_depth;
mod template;
mod ticket;
mod trust;
mod yaml;

pub(crate) use agent_book::{AgentBook, AgentSources, load_agents};
pub(crate) use command::{CommandValues, expand_command};
pub(crate) use environment::{Environment, agent_environment, environment};
pub(crate) use error::ConfigError;
pub(crate) use init::{init_files, model_facts, screen_rules, workflow_file};
pub(crate) use settings::{Layers, load_settings, user_folder};
pub(crate) use spawn_depth::SpawnDepth;
pub(crate) use template::{Template, Templates, render_system_prompt};
pub(crate) use ticket::{derive_title, parse_ticket, ticket_text};
pub(crate) use trust::{TrustItem, TrustKind, TrustStore, trust_keys_of_gates, trust_keys_of_setup};
pub(crate) use yaml::parse_yaml;
