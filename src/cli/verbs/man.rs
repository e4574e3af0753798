//! `swarm man`.

use std::io::IsTerminal;

use clap::{Arg, ArgAction, Command, CommandFactory};
use clap_mangen::Man;

use super::init::shown;
use crate::cli::Context;
use crate::cli::args::{Cli, ManArgs};
use crate::coordinator::{Failure, FailureKind};
use crate::files::{self, Access};
use crate::model::counted;

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
    context.output.line(&format!("Wrote {} to {}", counted(pages.len(), "manual page"), shown(&folder, &directory)))
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
    Ok(with_synopsis(&String::from_utf8_lossy(&text), &synopsis(command)).into_bytes())
}

/// Puts our synopsis where the page has one: the generator's leaves out the values of options and what may be repeated.
fn with_synopsis(page: &str, synopsis: &str) -> String {
    let heading = ".SH SYNOPSIS\n";
    let Some((before, rest)) = page.split_once(heading) else { return page.to_owned() };
    let after = rest.find("\n.SH ").map_or("", |end| &rest[end + 1..]);
    format!("{before}{heading}{synopsis}\n{after}")
}

/// How a command is called, in roff.
fn synopsis(command: &Command) -> String {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let shown = |arg: &&Arg| !arg.is_hide_set();
    let (positionals, options): (Vec<_>, Vec<_>) =
        command.get_arguments().filter(shown).partition(|a| a.is_positional());
    let mut parts = vec![bold(name)];
    parts.extend(options.into_iter().chain(positionals).map(usage));
    if command.has_subcommands() {
        parts.push(italic("VERB"));
    }
    parts.join(" ")
}

/// One argument in a synopsis: brackets where it may be left out, its values' names, dots where it may be repeated.
fn usage(arg: &Arg) -> String {
    let flags = [arg.get_long().map(|long| format!("--{long}")), arg.get_short().map(|short| format!("-{short}"))];
    let mut text = flags.into_iter().flatten().map(|flag| bold(&flag)).collect::<Vec<_>>().join("|");
    let values = if arg.get_action().takes_values() { arg.get_value_names().unwrap_or_default() } else { &[] };
    for value in values {
        let space = if text.is_empty() { "" } else { " " };
        text = format!("{text}{space}{}", italic(value));
    }
    let text = if arg.is_required_set() { text } else { format!("[{text}]") };
    let takes_many = arg.is_positional() && arg.get_num_args().is_some_and(|count| count.max_values() > values.len());
    let is_repeated = matches!(arg.get_action(), ArgAction::Count) || (!arg.is_positional() && is_appended(arg));
    if takes_many || is_repeated { format!("{text}...") } else { text }
}

/// Whether an option may be given several times.
fn is_appended(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

/// Text in bold.
fn bold(text: &str) -> String {
    format!("\\fB{}\\fR", escaped(text))
}

/// Text in italics.
fn italic(text: &str) -> String {
    format!("\\fI{}\\fR", escaped(text))
}

/// Text without a meaning to roff.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
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

    #[test]
    fn every_verb_is_told_by_its_own_words_in_help_and_manual_page() {
        let about = |command: &Command| command.get_about().map(ToString::to_string).unwrap_or_default();
        // Before it is built a verb has nothing but what its own line says.
        let own: Vec<_> =
            Cli::command().get_subcommands().map(|verb| (verb.get_name().to_owned(), about(verb))).collect();
        let built = program();
        for (name, text) in own {
            let verb = built.find_subcommand(&name).unwrap();
            assert_eq!(about(verb), text, "about of {name}");
            assert!(!text.is_empty() && !text.starts_with('`'), "{name}: {text}");
        }
        assert!(["replay", "conflicts", "loop"].iter().all(|name| built.find_subcommand(name).is_some()));
        let mut told = std::collections::BTreeMap::new();
        for mut page in pages(&built) {
            let (name, text) = (page_name(&page).to_owned(), about(&page));
            assert!(!text.is_empty() && !text.starts_with('`'), "{name}: {text}");
            let help = page.render_long_help().to_string();
            assert!(help.starts_with(&text), "{name}: {help}");
            let roff = String::from_utf8(render(&page).unwrap()).unwrap();
            let line = roff.lines().skip_while(|line| *line != ".SH NAME").nth(1).unwrap().to_owned();
            assert!(line.ends_with(&escaped(&text).replace('\'', "\\*(Aq")), "{name}: {line}");
            if let Some(other) = told.insert(text, name.clone()) {
                panic!("{other} and {name} are told by the same words");
            }
        }
    }

    #[test]
    fn a_synopsis_names_every_value_and_what_may_be_repeated() {
        for page in pages(&program()) {
            let name = page_name(&page).to_owned();
            let roff = String::from_utf8(render(&page).unwrap()).unwrap();
            let synopsis = roff.lines().skip_while(|line| *line != ".SH SYNOPSIS").nth(1).unwrap().to_owned();
            for arg in page.get_arguments().filter(|arg| arg.get_action().takes_values() && !arg.is_hide_set()) {
                for value in arg.get_value_names().unwrap_or_default() {
                    assert!(synopsis.contains(&italic(value)), "{name}: {value} is not in {synopsis}");
                }
            }
        }
        let built = program();
        let of = |name: &str| synopsis(built.find_subcommand(name).unwrap());
        assert!(of("stop").ends_with("[\\fIWORKER\\fR]..."), "{}", of("stop"));
        assert!(of("spawn").ends_with(" \\fITICKET\\fR..."), "{}", of("spawn"));
        assert!(of("why").ends_with(" \\fIWORKER\\fR"), "{}", of("why"));
        assert!(of("stop").contains("[\\fB\\-\\-config\\fR \\fIKEY=VALUE\\fR]..."), "{}", of("stop"));
    }
}
