//! Texts that come with `swarm` and are used as they stand: what `swarm init` writes, and screen rules.

use std::path::Path;

use serde::de::DeserializeOwned;

use super::error::{ConfigError, Problem};
use super::template::Template;
use super::yaml::parse_yaml;
use crate::model::agent::{Agent, RuntimeKind};

/// The configuration file with every default and what it means; reading it gives exactly the defaults.
pub(crate) fn default_config_text() -> &'static str {
    include_str!("../../templates/config.yaml")
}

/// The files that a project begins with: paths from the top of the repository, and their texts.
pub(crate) fn init_files() -> [(&'static str, &'static str); 2] {
    [(".swarm/config.yaml", default_config_text()), (".swarm/tickets/example.md", Template::SampleTicket.built_in())]
}

/// The workflow by which GitHub Actions runs the tickets: its path and text.
pub(crate) fn workflow_file() -> (&'static str, &'static str) {
    (".github/workflows/swarm.yml", include_str!("../../templates/workflow/swarm.yml"))
}

/// The rules that tell from its screen what an agent does, first match first; none for one whose screen says nothing.
/// The type of a rule belongs to the reader of screens.
pub(crate) fn screen_rules<T: DeserializeOwned>(agent: &Agent) -> Result<Vec<T>, ConfigError> {
    match (agent.runtime, &agent.preset) {
        (RuntimeKind::Claude, _) => {
            let text = include_str!("../../templates/screen_rules/claude.yaml");
            parse_yaml(Path::new("templates/screen_rules/claude.yaml"), text)
        }
        (RuntimeKind::Command, Some(preset)) => {
            let read = |rule: &serde_json::Value| {
                serde_json::from_value(rule.clone()).map_err(|error| {
                    Problem::new(format!("a rule in `screen` of the preset `{}`: {error}", preset.name)).into()
                })
            };
            preset.screen.iter().map(read).collect()
        }
        // Our own processes say everything by reports.
        _ => Ok(Vec::new()),
    }
}

/// Prices and limits of the models of clouds; the type of an entry belongs to who asks models.
pub(crate) fn model_facts<T: DeserializeOwned>() -> Result<Vec<T>, ConfigError> {
    parse_yaml(Path::new("templates/prices.yaml"), include_str!("../../templates/prices.yaml"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_ticket;

    #[test]
    fn screen_rules_are_lists_of_maps() {
        let book = crate::config::load_agents(&crate::config::AgentSources::default()).unwrap();
        let agent = book.all().next().unwrap();
        let rules: Vec<serde_json::Value> = screen_rules(agent).unwrap();
        assert!(rules.len() > 3 && rules.iter().all(|rule| rule["match"].is_array()), "{rules:?}");
        assert!(
            screen_rules::<serde_json::Value>(&Agent { runtime: RuntimeKind::Command, ..agent.clone() })
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn the_sample_ticket_is_a_ticket() {
        let [_, (path, text)] = init_files();
        let ticket = parse_ticket(Path::new(path), text).unwrap();
        assert_eq!(ticket.id.as_str(), "example");
        assert!(!ticket.title.is_empty() && !ticket.body.is_empty());
    }
}
