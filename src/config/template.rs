//! The texts that `swarm` fills in, and those a project puts in their place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use minijinja::UndefinedBehavior;
use serde::Serialize;

use super::error::{ConfigError, Position, Problem};
use crate::model::agent::Agent;

/// What a system prompt is called in the template engine's messages, before the line.
const PROMPT: &str = "prompt";

/// Declares the templates with their files.
macro_rules! templates {
    ($($(#[$doc:meta])* $name:ident = $file:literal),+ $(,)?) => {
        /// A text that `swarm` fills in; `templates/README.md` lists what each is given.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Template {
            $($(#[$doc])* $name),+
        }

        impl Template {
            /// All of them.
            pub(crate) const ALL: &[Self] = &[$(Self::$name),+];

            /// The name of its file in `.swarm/templates/`.
            pub(crate) fn file(self) -> &'static str {
                match self {
                    $(Self::$name => $file),+
                }
            }

            /// The built-in text.
            pub(super) fn built_in(self) -> &'static str {
                match self {
                    $(Self::$name => include_str!(concat!("../../templates/", $file))),+
                }
            }
        }
    };
}

templates! {
    /// The first message to an agent.
    Prompt = "prompt.md",
    /// What a reviewer agent is asked.
    ReviewRequest = "review_request.md",
    /// What the planner is asked.
    PlanRequest = "plan_request.md",
    /// A rejected review, as one message.
    ChangesRequested = "changes_requested.md",
    /// The branch does not merge with the target.
    Conflict = "conflict.md",
    /// Work that goes on beside a worker's does not merge with its own.
    Overlap = "overlap.md",
    /// A message to an agent that is not the person's.
    Message = "message.md",
    /// A gate is red on the merged tree.
    GateFailed = "gate_failed.md",
    /// The ticket's own checks failed.
    ChecksFailed = "checks_failed.md",
    /// The repository refused the commit of leftovers.
    HookFailed = "hook_failed.md",
    /// The message of the commit of leftovers.
    CommitLeftovers = "commit_leftovers.txt",
    /// The message of a merge commit.
    MergeCommit = "merge_commit.txt",
    /// The message of a squash commit.
    SquashCommit = "squash_commit.txt",
    /// The ticket that `swarm init` writes; used as it stands.
    SampleTicket = "sample_ticket.md",
    /// The file that `swarm ticket new` writes.
    NewTicket = "new_ticket.md",
}

/// The templates of one project.
#[derive(Debug, Default)]
pub(crate) struct Templates {
    /// Texts of the project by template, with their files as shown in errors.
    overrides: BTreeMap<Template, (PathBuf, String)>,
}

impl Templates {
    /// The built-in templates with these texts in their place; the file name of each path says which it is.
    ///
    /// # Errors
    /// When a name is not that of a template, or a text is not valid as one.
    pub(crate) fn from_files(found: Vec<(PathBuf, String)>) -> Result<Self, ConfigError> {
        let mut overrides = BTreeMap::new();
        for (path, text) in found {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if name == "README.md" {
                continue;
            }
            let Some(template) = Template::ALL.iter().copied().find(|template| template.file() == name) else {
                let names: Vec<_> = Template::ALL.iter().map(|template| template.file()).collect();
                let problem = Problem::in_file(path.display().to_string(), format!("there is no template `{name}`"));
                return Err(problem.with_valid("valid names", &names, &name).into());
            };
            check_syntax(&path, &text, 1, &text)?;
            overrides.insert(template, (path, text));
        }
        Ok(Self { overrides })
    }

    /// The text of a template before it is filled in.
    pub(crate) fn text(&self, template: Template) -> &str {
        self.overrides.get(&template).map_or_else(|| template.built_in(), |(_, text)| text)
    }

    /// A template filled in.
    ///
    /// # Errors
    /// When it uses a value that is not given.
    pub(crate) fn render(&self, template: Template, context: impl Serialize) -> Result<String, ConfigError> {
        let shown = self.overrides.get(&template).map(|(path, _)| path.display().to_string());
        render_named(shown.as_deref().unwrap_or(template.file()), self.text(template), context)
    }
}

/// Fills in the system prompt of an agent. Values are put in as they are: nothing is escaped, no value is read as a
/// template, no program is run, no file is read.
///
/// # Errors
/// When the prompt is no template or uses a value that is not given; agent and file are named.
pub(crate) fn render_system_prompt(agent: &Agent, context: impl Serialize) -> Result<String, ConfigError> {
    engine().render_named_str(PROMPT, &agent.system_prompt, minijinja::value::Serde(context)).map_err(|source| {
        ConfigError::SystemPrompt { agent: agent.name.to_string(), file: agent.file.display().to_string(), source }
    })
}

/// Fills in a text with a name for errors.
fn render_named(name: &str, text: &str, context: impl Serialize) -> Result<String, ConfigError> {
    let filled = engine().render_named_str(name, text, minijinja::value::Serde(context));
    filled.map_err(|source| ConfigError::Render { name: name.to_owned(), source })
}

/// Fails when `template`, which begins on `first_line` of the file with the text `whole`, cannot be one.
pub(super) fn check_syntax(path: &Path, template: &str, first_line: usize, whole: &str) -> Result<(), Problem> {
    let Err(error) = engine().template_from_str(template) else {
        return Ok(());
    };
    let cause = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    let problem = Problem::in_file(path.display().to_string(), format!("not a valid template: {cause}"));
    Err(match error.line() {
        Some(line) => problem.at(Position { line: first_line + line - 1, column: 1 }, whole),
        None => problem,
    })
}

/// The settings all templates are written for.
fn engine() -> minijinja::Environment<'static> {
    let mut engine = minijinja::Environment::new();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    // By default the engine escapes by file name: texts with a name like `x.yaml` would come out as JSON.
    engine.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    let mut syntax = minijinja::syntax::SyntaxConfig::builder();
    let syntax = syntax.trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build();
    engine.set_syntax(syntax.expect("the standard delimiters are valid"));
    engine
}

/// A text that a template shows as it is.
pub(super) fn literal(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = ["{{", "{%", "{#"].iter().filter_map(|mark| rest.find(mark)).min() {
        let mark = &rest[at..at + 2];
        out.push_str(&rest[..at]);
        out.push_str(&format!("{{{{ '{mark}' }}}}"));
        rest = &rest[at + 2..];
    }
    out.push_str(rest);
    out
}

/// The names between single braces of a path or name template such as `swarm/{worker}`.
pub(super) fn braces(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|part| part.split_once('}').map(|(name, _)| name))
}

#[cfg(test)]
mod tests;
