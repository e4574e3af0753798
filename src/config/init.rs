//! What `swarm init` writes.

use super::template::Template;

/// The configuration file with every default and what it means; reading it gives exactly the defaults.
pub(crate) fn default_config_text() -> &'static str {
    include_str!("../../templates/config.yaml")
}

/// The files that a project begins with: paths from the top of the repository, and their texts.
pub(crate) fn init_files() -> [(&'static str, &'static str); 2] {
    [(".swarm/config.yaml", default_config_text()), (".swarm/tickets/example.md", Template::SampleTicket.built_in())]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse_ticket;

    #[test]
    fn the_sample_ticket_is_a_ticket() {
        let [_, (path, text)] = init_files();
        let ticket = parse_ticket(Path::new(path), text).unwrap();
        assert_eq!(ticket.id.as_str(), "example");
        assert!(!ticket.title.is_empty() && !ticket.body.is_empty());
    }
}
