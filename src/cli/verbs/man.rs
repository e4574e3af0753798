//! `swarm man`.

use std::io::IsTerminal;

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use super::init::shown;
use crate::cli::Context;
use crate::cli::args::{Cli, ManArgs};
use crate::coordinator::{Failure, FailureKind};
use crate::files::{self, Access};

/// Runs the verb.
pub(super) fn run(args: &ManArgs, context: &Context) -> Result<(), Failure> {
    let pages = pages(&program());
    let Some(folder) = &args.out else {
        return print(args.verb.as_deref(), &pages, context);
    };
    let directory = context.call()?.directory;
    let folder = directory.join(folder);
    for page in &pages {
        let path = folder.join(format!("{}.1", page_name(page)));
        files::write_atomically(&path, &render(page)?, Access::Shared)?;
    }
    context.output.line(&format!("Wrote {} manual pages to {}", pages.len(), shown(&folder, &directory)))
}

/// Prints the page of a verb, given as `ticket new` or `ticket-new`; the overview without one.
fn print(verb: Option<&str>, pages: &[Command], context: &Context) -> Result<(), Failure> {
    let wanted = match verb {
        Some(verb) => format!("swarm-{}", verb.split_whitespace().collect::<Vec<_>>().join("-")),
        None => "swarm".to_owned(),
    };
    let page = pages.iter().find(|page| {
        let parent = page_name(page).rsplit_once('-').map(|(parent, _)| parent.to_owned()).unwrap_or_default();
        page_name(page) == wanted || page.get_all_aliases().any(|alias| format!("{parent}-{alias}") == wanted)
    });
    let page = page.ok_or_else(|| {
        let text = format!("there is no verb `{}`", verb.unwrap_or_default());
        Failure::new(FailureKind::NotFound, text).hint("swarm --help lists the verbs")
    })?;
    if std::io::stdout().is_terminal() {
        context.output.narrate("this is the page's source; read it with: swarm man | man -l -");
    }
    context.output.print_bytes(&render(page)?)
}

/// The command line with every verb's flags in place.
fn program() -> Command {
    let mut program = Cli::command();
    // Fills global flags into the verbs, and names them as a person types them.
    program.build();
    program
}

/// A command and all verbs below it that are not hidden.
fn pages(command: &Command) -> Vec<Command> {
    let below = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    std::iter::once(command.clone()).chain(below.flat_map(pages)).collect()
}

/// The name of a command's page: `swarm-ticket-new`.
fn page_name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

/// A page in roff.
fn render(command: &Command) -> Result<Vec<u8>, Failure> {
    let version = concat!("swarm ", env!("CARGO_PKG_VERSION"));
    let page = Man::new(command.clone()).section("1").source(version).manual("swarm manual");
    let mut text = Vec::new();
    page.render(&mut text).map_err(|error| Failure::from_error(FailureKind::Internal, &error))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_a_page_and_hidden_ones_have_none() {
        let pages = pages(&program());
        let names: Vec<_> = pages.iter().map(page_name).collect();
        for name in ["swarm", "swarm-spawn", "swarm-ticket", "swarm-ticket-new", "swarm-recover-restore"] {
            assert!(names.contains(&name), "{name} in {names:?}");
        }
        assert!(!names.iter().any(|name| name.contains("supervise") || name.contains("hook")), "{names:?}");
    }
}
