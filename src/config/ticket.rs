//! Ticket files.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::error::{ConfigError, Problem};
use super::fill::fill;
use super::front_matter::{self, FrontMatter};
use super::yaml::{Node, Value};
use crate::model::budget::Budget;
use crate::model::ticket::{Dependency, DependencyKind, StartFrom, Ticket};
use crate::model::{AgentName, BranchName, TicketId, serde_duration};

/// Priority of a ticket that names none.
const DEFAULT_PRIORITY: u8 = 5;
/// Attempts of a ticket that names no number: one more than the first, for faults that pass.
const DEFAULT_ATTEMPTS: u32 = 2;
/// Characters of a title that is taken from the body.
const DERIVED_TITLE: usize = 100;

/// The keys of a ticket file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TicketFile {
    /// See [`Ticket`]; the same for all fields.
    id: Option<TicketId>,
    /// Defaults to the first heading or line of the body.
    title: Option<String>,
    /// The configured agent if absent.
    agent: Option<AgentName>,
    /// From 1 to 10.
    priority: u8,
    /// Ids are turned into maps before this is read.
    depends_on: Vec<Dependency>,
    /// The configured choice if absent.
    start_from: Option<StartFrom>,
    /// Words that nodes offer.
    capabilities: Vec<String>,
    /// Glob patterns.
    scope: Vec<String>,
    /// Shell commands.
    checks: Vec<String>,
    /// Lines.
    checklist: Vec<String>,
    /// Agents.
    reviewers: Option<Vec<AgentName>>,
    /// Any revision.
    base: Option<String>,
    /// A branch.
    target: Option<BranchName>,
    /// Wall time of an attempt.
    #[serde(with = "serde_duration::option")]
    timeout: Option<Duration>,
    /// From 1.
    max_attempts: u32,
    /// Spending limits.
    budget: Budget,
    /// Free words.
    labels: Vec<String>,
    /// The configured choice if absent.
    tell_overlaps: Option<bool>,
}

impl Default for TicketFile {
    fn default() -> Self {
        Self {
            id: None,
            title: None,
            agent: None,
            priority: DEFAULT_PRIORITY,
            depends_on: Vec::new(),
            start_from: None,
            capabilities: Vec::new(),
            scope: Vec::new(),
            checks: Vec::new(),
            checklist: Vec::new(),
            reviewers: None,
            base: None,
            target: None,
            timeout: None,
            max_attempts: DEFAULT_ATTEMPTS,
            budget: Budget::default(),
            labels: Vec::new(),
            tell_overlaps: None,
        }
    }
}

/// Reads a ticket from the text of its file; `path` gives the id and names the file in errors.
///
/// # Errors
/// Unknown keys, values out of bounds, an id that is not the file's name, or nothing to do in it.
pub(crate) fn parse_ticket(path: &Path, text: &str) -> Result<Ticket, ConfigError> {
    let mut parts = front_matter::split(path, text)?;
    if let Some(head) = &mut parts.head {
        spell_out_dependencies(head);
    }
    let file: TicketFile = parts.head.as_ref().map(fill).transpose()?.unwrap_or_default();
    let check = Check { path, parts: &parts };
    let id = check.id(file.id.as_ref())?;
    check.values(&file, &id)?;
    if parts.body.is_empty() {
        let problem = parts.source.problem(None, "the ticket has no text");
        return Err(problem.with_hint("write below the second line of dashes what is to be done").into());
    }
    if parts.body.contains('\0') {
        let problem = parts.source.problem(None, "the text contains a NUL character");
        return Err(problem.with_hint("no program can be given one; remove it").into());
    }
    let title = match &file.title {
        Some(title) => check.title(title)?,
        None => derive_title(&parts.body),
    };
    Ok(Ticket {
        id,
        title,
        agent: file.agent,
        priority: file.priority,
        depends_on: file.depends_on,
        start_from: file.start_from,
        capabilities: file.capabilities,
        scope: file.scope,
        checks: file.checks,
        checklist: file.checklist.iter().map(|item| one_line(item)).collect(),
        reviewers: file.reviewers,
        base: file.base,
        target: file.target.map(String::from),
        timeout: file.timeout,
        max_attempts: file.max_attempts,
        budget: file.budget,
        labels: file.labels,
        tell_overlaps: file.tell_overlaps,
        body: parts.body,
    })
}

/// Turns `depends_on: [lexer]` into `depends_on: [{ticket: lexer}]`.
fn spell_out_dependencies(head: &mut Node) {
    let Value::Map(entries) = &mut head.value else {
        return;
    };
    let lists = entries.iter_mut().filter(|(key, _)| key == "depends_on");
    for (_, list) in lists {
        let Value::List(items) = &mut list.value else {
            continue;
        };
        for item in items.iter_mut().filter(|item| item.text().is_some()) {
            *item = Node::map_at(&item.place, vec![("ticket".to_owned(), item.clone())]);
        }
    }
}

/// The first heading of a text, else its first line, as a title.
pub(crate) fn derive_title(body: &str) -> String {
    let heading = |line: &&str| line.trim_start_matches('#').starts_with(' ') && line.starts_with('#');
    let mut lines = body.lines().filter(|line| !line.trim().is_empty());
    let line = body.lines().find(heading).or_else(|| lines.next()).unwrap_or_default();
    let line = if heading(&line) { line.trim_matches('#') } else { line };
    let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = one_line(&line);
    if line.chars().count() <= DERIVED_TITLE {
        return line;
    }
    let cut: String = line.chars().take(DERIVED_TITLE - 1).collect();
    format!("{}…", cut.trim_end())
}

/// A text with every run of white space as one space.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Checks of what types cannot say; each failure points at the value.
struct Check<'a> {
    /// The file as the caller named it.
    path: &'a Path,
    /// Its parts.
    parts: &'a FrontMatter,
}

impl Check<'_> {
    /// A problem with a key's value, or with an item of it.
    fn problem(&self, key: &str, item: Option<usize>, message: &str) -> Problem {
        let node = self.parts.head.as_ref().and_then(|head| head.get(key));
        let node = item.and_then(|index| node.and_then(|list| list.item(index))).or(node);
        let shown = item.map_or_else(|| format!("`{key}`"), |index| format!("`{key}[{index}]`"));
        let message = format!("{shown}: {message}");
        match node {
            Some(node) => node.place.problem(message),
            None => self.parts.source.problem(None, message),
        }
    }

    /// The id, which is the file's name.
    fn id(&self, written: Option<&TicketId>) -> Result<TicketId, Problem> {
        let stem = self.path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        match (written, stem.parse::<TicketId>()) {
            (Some(id), Ok(stem)) if *id == stem => Ok(stem),
            (None, Ok(stem)) => Ok(stem),
            (Some(id), _) => {
                let message = format!("`{id}` is not the name of the file, which is `{stem}`");
                Err(self.problem("id", None, &message).with_hint(format!("rename the file to `{id}.md`")))
            }
            (None, Err(rule)) => {
                let problem = self.parts.source.problem(None, rule.to_string());
                Err(problem.with_hint("the name of the file is the id of the ticket; rename it"))
            }
        }
    }

    /// A title as it is shown: one line.
    fn title(&self, title: &str) -> Result<String, Problem> {
        let title = one_line(title);
        if title.is_empty() {
            return Err(self.problem("title", None, "the title is empty"));
        }
        if title.chars().any(char::is_control) {
            return Err(self.problem("title", None, "a title is one line of plain text"));
        }
        Ok(title)
    }

    /// Everything else.
    fn values(&self, file: &TicketFile, id: &TicketId) -> Result<(), Problem> {
        let ensure = |good: bool, key: &str, message: &str| {
            if good { Ok(()) } else { Err(self.problem(key, None, message)) }
        };
        ensure((1..=10).contains(&file.priority), "priority", "expected a number from 1 to 10, higher first")?;
        ensure(file.max_attempts >= 1, "max_attempts", "at least one attempt is needed")?;
        ensure(file.budget.fault().is_none(), "budget", file.budget.fault().unwrap_or_default())?;
        let base = file.base.as_deref().unwrap_or("main");
        let odd = base.is_empty() || base.starts_with('-') || base.chars().any(|c| c.is_control() || c == ' ');
        ensure(!odd, "base", &format!("`{base}` is not a revision"))?;
        self.dependencies(&file.depends_on, id)?;
        if file.start_from == Some(StartFrom::Dependency) {
            let has_one = file.depends_on.iter().any(|dependency| dependency.kind == DependencyKind::Success);
            ensure(has_one, "start_from", "there is no dependency of kind `success` to start from")?;
            ensure(file.base.is_none(), "start_from", "the ticket has a `base`, and a branch starts in one place")?;
        }
        let lists = [
            ("checks", &file.checks),
            ("checklist", &file.checklist),
            ("capabilities", &file.capabilities),
            ("labels", &file.labels),
        ];
        for (key, words) in lists {
            let bad = words.iter().position(|word| word.trim().is_empty() || word.contains('\0'));
            bad.map_or(Ok(()), |index| Err(self.problem(key, Some(index), "the text is empty")))?;
        }
        for (index, pattern) in file.scope.iter().enumerate() {
            let cause = globset::Glob::new(pattern).err().map(|error| error.kind().to_string());
            let cause = cause.or_else(|| pattern.trim().is_empty().then(|| "it is empty".to_owned()));
            if let Some(cause) = cause {
                return Err(self.problem("scope", Some(index), &format!("not a file pattern: {cause}")));
            }
        }
        Ok(())
    }

    /// What it waits for.
    fn dependencies(&self, dependencies: &[Dependency], id: &TicketId) -> Result<(), Problem> {
        for (index, dependency) in dependencies.iter().enumerate() {
            let other = &dependency.ticket;
            if other.as_str().eq_ignore_ascii_case(id.as_str()) {
                return Err(self.problem("depends_on", Some(index), "a ticket cannot wait for itself"));
            }
            if dependencies[..index].iter().any(|earlier| earlier.ticket == *other) {
                return Err(self.problem("depends_on", Some(index), &format!("`{other}` is there twice")));
            }
        }
        Ok(())
    }
}

/// Writes a ticket as the text of its file; what is a default is left out. Reading it again gives the same
/// ticket, provided that its body has no empty lines before or white space after it and its title is one line.
pub(crate) fn ticket_text(ticket: &Ticket) -> String {
    let mut text = "---\n".to_owned();
    let mut put = |key: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{key}: {value}");
    };
    put("id", quoted(ticket.id.as_str()));
    put("title", quoted(&ticket.title));
    if let Some(agent) = &ticket.agent {
        put("agent", quoted(agent.as_str()));
    }
    if ticket.priority != DEFAULT_PRIORITY {
        put("priority", ticket.priority.to_string());
    }
    if !ticket.depends_on.is_empty() {
        let items: Vec<_> = ticket.depends_on.iter().map(dependency_text).collect();
        put("depends_on", format!("[{}]", items.join(", ")));
    }
    if let Some(start) = ticket.start_from {
        let word = match start {
            StartFrom::Target => "target",
            StartFrom::Dependency => "dependency",
        };
        put("start_from", word.to_owned());
    }
    let lists = [
        ("capabilities", &ticket.capabilities),
        ("scope", &ticket.scope),
        ("checks", &ticket.checks),
        ("checklist", &ticket.checklist),
        ("labels", &ticket.labels),
    ];
    for (key, words) in lists.into_iter().filter(|(_, words)| !words.is_empty()) {
        let items: Vec<_> = words.iter().map(|word| quoted(word)).collect();
        put(key, format!("[{}]", items.join(", ")));
    }
    if let Some(reviewers) = &ticket.reviewers {
        let names: Vec<_> = reviewers.iter().map(|name| quoted(name.as_str())).collect();
        put("reviewers", format!("[{}]", names.join(", ")));
    }
    for (key, value) in [("base", &ticket.base), ("target", &ticket.target)] {
        if let Some(value) = value {
            put(key, quoted(value));
        }
    }
    if let Some(timeout) = ticket.timeout {
        put("timeout", exact_duration(timeout));
    }
    if ticket.max_attempts != DEFAULT_ATTEMPTS {
        put("max_attempts", ticket.max_attempts.to_string());
    }
    if let Some(tell) = ticket.tell_overlaps {
        put("tell_overlaps", tell.to_string());
    }
    let Budget { usd, tokens, time } = &ticket.budget;
    let limits = [
        usd.map(|usd| format!("usd: {usd:?}")),
        tokens.map(|tokens| format!("tokens: {tokens}")),
        time.map(|time| format!("time: {}", exact_duration(time))),
    ];
    let limits: Vec<_> = limits.into_iter().flatten().collect();
    if !limits.is_empty() {
        put("budget", format!("{{{}}}", limits.join(", ")));
    }
    text.push_str("---\n");
    text.push_str(&ticket.body);
    text.push('\n');
    text
}

/// A dependency as an item of a flow list.
fn dependency_text(dependency: &Dependency) -> String {
    let ticket = quoted(dependency.ticket.as_str());
    match dependency.kind {
        DependencyKind::Success => ticket,
        kind => format!("{{ticket: {ticket}, kind: {}}}", kind.as_str()),
    }
}

/// A text as a YAML scalar on one line: plain where nothing could misread it, else as a JSON string, which
/// YAML reads as it is.
fn quoted(text: &str) -> String {
    let plain_start = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.' | '/'));
    let word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_lowercase().as_str());
    if plain_start && plain && !word && !text.ends_with(' ') {
        text.to_owned()
    } else {
        serde_json::Value::String(text.to_owned()).to_string()
    }
}

/// A duration in one unit without loss, such as `90s`.
fn exact_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [(3_600_000_u128, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    let fit = units.into_iter().find(|(size, _)| millis.is_multiple_of(*size) && millis > 0);
    fit.map_or_else(|| "0s".to_owned(), |(size, unit)| format!("{}{unit}", millis / size))
}

#[cfg(test)]
mod tests;
