//! Agent files: ours, and those of Claude Code.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::command;
use super::environment::refuse_variable;
use super::error::Problem;
use super::fill::fill;
use super::front_matter::{self, FrontMatter};
use super::preset::Presets;
use super::template;
use super::yaml::{Node, Value};
use crate::model::AgentName;
use crate::model::agent::{Agent, AgentOrigin, PermissionMode, Permissions, PromptDelivery, RuntimeKind};

/// The keys of an agent file of ours.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AgentFile {
    /// See [`Agent`]; the same for all fields. Defaults to the file's name.
    name: Option<AgentName>,
    /// One line.
    description: String,
    /// A word; by default `command` beside `preset`, else `claude`.
    runtime: Option<RuntimeKind>,
    /// The name of a preset.
    preset: Option<String>,
    /// Program and arguments.
    command: Vec<String>,
    /// A word.
    prompt: PromptDelivery,
    /// `inherit` is the same as none.
    model: Option<String>,
    /// A name of `providers` in the settings.
    provider: Option<String>,
    /// A text with commas is turned into a list before this is read.
    tools: Vec<String>,
    /// A word.
    permission_mode: PermissionMode,
    /// Rules.
    permissions: Permissions,
    /// Own configuration folder.
    isolated: bool,
    /// As written.
    mcp_servers: BTreeMap<String, serde_json::Value>,
    /// Words.
    capabilities: Vec<String>,
    /// Variables.
    env: BTreeMap<String, String>,
}

/// The keys of Claude Code's own format that have a meaning here; others may stand beside them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ClaudeFile {
    /// As in ours.
    name: Option<AgentName>,
    /// As in ours.
    description: String,
    /// As in ours.
    model: Option<String>,
    /// As in ours.
    tools: Vec<String>,
    /// Rules that are never allowed.
    #[serde(rename = "disallowedTools")]
    disallowed_tools: Vec<String>,
    /// A word; more of them than ours.
    #[serde(rename = "permissionMode")]
    permission_mode: Option<String>,
    /// By name. Claude Code also takes a list of names of servers that are configured elsewhere.
    #[serde(rename = "mcpServers")]
    mcp_servers: BTreeMap<String, serde_json::Value>,
}

/// The keys that [`ClaudeFile`] reads.
const CLAUDE_KEYS: [&str; 7] =
    ["name", "description", "model", "tools", "disallowedTools", "permissionMode", "mcpServers"];

/// Keys of Claude Code's format that a file of ours may have as well, so that one can be copied over. They say
/// nothing to `swarm`.
const TOLERATED: [&str; 9] =
    ["maxTurns", "skills", "hooks", "memory", "background", "effort", "isolation", "color", "initialPrompt"];

/// Reads an agent from the text of its file. `origin` tells the format.
///
/// # Errors
/// With the name that the broken agent goes by: that in the file if it can be read, else the file's own.
pub(super) fn parse_agent(
    path: &Path,
    text: &str,
    origin: AgentOrigin,
    presets: &Presets,
) -> Result<Agent, (String, Problem)> {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let split = match origin {
        AgentOrigin::ClaudeProject => front_matter::split_leniently(path, text),
        _ => front_matter::split(path, text),
    };
    let mut parts = split.map_err(|problem| (stem.clone(), problem))?;
    let written = parts.head.as_ref().and_then(|head| head.get("name")).and_then(Node::text);
    let known_as = written.filter(|name| name.parse::<AgentName>().is_ok()).unwrap_or_else(|| stem.clone());
    let fail = |problem: Problem| (known_as.clone(), problem);
    let Some(head) = &mut parts.head else {
        let problem = parts.source.problem(None, "an agent begins with its settings between two lines `---`");
        return Err(fail(problem.with_hint("see `swarm agents show` of a built-in agent for an example")));
    };
    split_tools(head);
    let agent = match origin {
        AgentOrigin::ClaudeProject => read_claude(head, &parts.body, origin),
        _ => read_ours(head, &parts.body, origin, presets),
    };
    let (name, mut agent) = agent.map_err(fail)?;
    agent.name = match name {
        Some(name) => name,
        None => stem.parse().map_err(|rule| fail(parts.source.problem(None, format!("{rule}"))))?,
    };
    agent.file = path.to_owned();
    let check = Check { parts: &parts, agent: &agent };
    check.all().and_then(|()| template_of(path, text, &parts, &agent)).map_err(fail)?;
    Ok(agent)
}

/// Fails when the system prompt is not a template.
fn template_of(path: &Path, text: &str, parts: &FrontMatter, agent: &Agent) -> Result<(), Problem> {
    template::check_syntax(path, &agent.system_prompt, parts.body_line, text)
}

/// Turns `tools: Read, Bash(git log, -p)` into a list, as Claude Code reads it.
fn split_tools(head: &mut Node) {
    let Value::Map(entries) = &mut head.value else {
        return;
    };
    for (_, node) in entries.iter_mut().filter(|(key, _)| key == "tools" || key == "disallowedTools") {
        let Value::Text(text) = &node.value else {
            continue;
        };
        let mut depth = 0_usize;
        let words = text.split(|c| {
            match c {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == ',' && depth == 0
        });
        let words = words.map(str::trim).filter(|word| !word.is_empty());
        let item = |word: &str| Node { place: node.place.clone(), value: Value::Text(word.to_owned()) };
        node.value = Value::List(words.map(item).collect());
    }
}

/// The part of a map whose keys are wanted.
fn only(head: &Node, wanted: impl Fn(&str) -> bool) -> Node {
    match &head.value {
        Value::Map(entries) => {
            let kept = entries.iter().filter(|(key, _)| wanted(key)).cloned().collect();
            Node { place: head.place.clone(), value: Value::Map(kept) }
        }
        _ => head.clone(),
    }
}

/// Reads our format. The name of the agent is returned beside it, because it may be missing.
fn read_ours(
    head: &Node,
    body: &str,
    origin: AgentOrigin,
    presets: &Presets,
) -> Result<(Option<AgentName>, Agent), Problem> {
    let is_theirs =
        |key: &str| TOLERATED.contains(&key) || (CLAUDE_KEYS.contains(&key) && key.contains(char::is_uppercase));
    let file: AgentFile = fill(&only(head, |key| !is_theirs(key)))?;
    let theirs: ClaudeFile = fill(&only(head, |key| is_theirs(key) && CLAUDE_KEYS.contains(&key)))?;
    let preset = file.preset.map(|name| presets.get(&name, head.get("preset").unwrap_or(head))).transpose()?;
    let mut agent = Agent {
        name: placeholder_name(),
        description: file.description,
        runtime: file.runtime.unwrap_or(if preset.is_some() { RuntimeKind::Command } else { RuntimeKind::default() }),
        command: file.command,
        preset,
        prompt: file.prompt,
        model: named_model(file.model),
        provider: file.provider,
        tools: file.tools,
        permission_mode: file.permission_mode,
        permissions: file.permissions,
        isolated: file.isolated,
        mcp_servers: file.mcp_servers,
        capabilities: file.capabilities,
        env: file.env,
        system_prompt: body.to_owned(),
        origin,
        file: PathBuf::new(),
    };
    agent.permissions.deny.extend(theirs.disallowed_tools);
    agent.mcp_servers.extend(theirs.mcp_servers);
    if head.get("permission_mode").is_none() {
        agent.permission_mode = claude_mode(head, theirs.permission_mode.as_deref())?.unwrap_or(agent.permission_mode);
    }
    Ok((file.name, agent))
}

/// Reads Claude Code's format: unknown keys are left alone, as it does itself, and the body is no template.
fn read_claude(head: &Node, body: &str, origin: AgentOrigin) -> Result<(Option<AgentName>, Agent), Problem> {
    let mut known = only(head, |key| CLAUDE_KEYS.contains(&key));
    if let Value::Map(entries) = &mut known.value {
        // A list names servers that are configured elsewhere; Claude Code finds them there.
        entries.retain(|(key, node)| key != "mcpServers" || matches!(node.value, Value::Map(_)));
    }
    let file: ClaudeFile = fill(&known)?;
    let mode = claude_mode(head, file.permission_mode.as_deref())?;
    let agent = Agent {
        name: placeholder_name(),
        description: file.description,
        runtime: RuntimeKind::Claude,
        command: Vec::new(),
        preset: None,
        prompt: PromptDelivery::default(),
        model: named_model(file.model),
        provider: None,
        tools: file.tools,
        permission_mode: mode.unwrap_or_default(),
        permissions: Permissions { deny: file.disallowed_tools, ..Permissions::default() },
        isolated: false,
        mcp_servers: file.mcp_servers,
        capabilities: Vec::new(),
        env: BTreeMap::new(),
        system_prompt: template::literal(body),
        origin,
        file: PathBuf::new(),
    };
    Ok((file.name, agent))
}

/// Stands in until the caller knows the name.
fn placeholder_name() -> AgentName {
    "agent".parse().expect("a word is a name")
}

/// `inherit` means the model that would be used anyway.
fn named_model(model: Option<String>) -> Option<String> {
    model.filter(|model| model != "inherit")
}

/// Claude Code's word for a permission mode as ours. Modes that ask less than ours do are not taken from a
/// file that was written for something else.
fn claude_mode(head: &Node, word: Option<&str>) -> Result<Option<PermissionMode>, Problem> {
    match word {
        None => Ok(None),
        Some("acceptEdits") => Ok(Some(PermissionMode::AcceptEdits)),
        Some("plan") => Ok(Some(PermissionMode::Plan)),
        Some("bypassPermissions") => {
            let node = head.get("permissionMode").unwrap_or(head);
            let problem =
                node.place.problem("`permissionMode`: an agent that is never asked must say so to swarm itself");
            Err(problem.with_hint("write `permission_mode: bypass` in a file in `.swarm/agents`"))
        }
        Some(_) => Ok(Some(PermissionMode::Default)),
    }
}

/// Checks of what types cannot say.
struct Check<'a> {
    /// The file's parts, for places.
    parts: &'a FrontMatter,
    /// What was read.
    agent: &'a Agent,
}

impl Check<'_> {
    /// A problem with a key's value, or with an item or entry of it.
    fn problem(&self, key: &str, inner: Option<&str>, message: &str) -> Problem {
        let node = self.parts.head.as_ref().and_then(|head| head.get(key));
        let within = inner.zip(node).and_then(|(inner, node)| match inner.parse::<usize>() {
            Ok(index) => node.item(index),
            Err(_) => node.get(inner),
        });
        let message = format!("`{key}`: {message}");
        match within.or(node).or(self.parts.head.as_ref()) {
            Some(node) => node.place.problem(message),
            None => self.parts.source.problem(None, message),
        }
    }

    /// All checks.
    fn all(&self) -> Result<(), Problem> {
        let Agent { runtime, command, .. } = self.agent;
        self.program()?;
        if *runtime == RuntimeKind::Replay && self.agent.model.is_none() {
            let problem = self.problem("model", None, "the runtime `replay` needs the recording that it plays");
            return Err(problem.with_hint("for example `model: recordings/parser.jsonl`"));
        }
        for (index, argument) in command.iter().enumerate() {
            self.argument(index, argument)?;
        }
        for (name, value) in &self.agent.env {
            if let Some(cause) = refuse_variable(name, value) {
                return Err(self.problem("env", Some(name), &cause));
            }
        }
        let mut words = self.agent.tools.iter().map(|word| ("tools", word));
        if let Some((key, _)) = words.find(|(_, word)| word.trim().is_empty()) {
            return Err(self.problem(key, None, "a name in it is empty"));
        }
        Ok(())
    }

    /// The command and the preset, as the runtime needs or forbids them.
    fn program(&self) -> Result<(), Problem> {
        let Agent { runtime, command, preset, .. } = self.agent;
        let takes_command = matches!(runtime, RuntimeKind::Command | RuntimeKind::Acp);
        let is_unnamed = command.first().is_none_or(String::is_empty);
        let useless = |key| self.problem(key, None, &format!("the runtime `{}` has no use for it", runtime.as_str()));
        match preset {
            Some(_) if !takes_command => {
                return Err(useless("preset").with_hint("write `runtime: command`, or leave it out"));
            }
            Some(preset) if *runtime == RuntimeKind::Acp && preset.acp.is_none() => {
                let message = format!("`{}` is no agent of the Agent Client Protocol", preset.name);
                return Err(self.problem("preset", None, &message).with_hint("write `runtime: command`"));
            }
            None if *runtime == RuntimeKind::Command && is_unnamed => {
                let problem = self.problem("command", None, "the runtime `command` needs a program to run");
                return Err(problem.with_hint(
                    "for example `command: [\"sh\", \"work.sh\", \"{prompt_file}\"]`, or a preset such as `preset: codex`",
                ));
            }
            None if *runtime == RuntimeKind::Acp && is_unnamed => {
                let problem = self.problem("command", None, "the runtime `acp` needs an agent to start");
                return Err(problem.with_hint("for example `command: [\"opencode\", \"acp\"]`, or `preset: opencode`"));
            }
            _ => {}
        }
        if self.agent.provider.is_some() && *runtime != RuntimeKind::Claude {
            let hint = "the runtime `ollama` takes both in one: `model: PROVIDER/MODEL`";
            return Err(useless("provider").with_hint(hint));
        }
        if self.agent.provider.is_some() && self.agent.model.is_none() {
            let problem = self.problem("provider", None, "which of its models is meant, `model` must say");
            return Err(problem.with_hint("for example `model: qwen3-coder`"));
        }
        if !takes_command && !command.is_empty() {
            return Err(useless("command").with_hint("add `runtime: command`"));
        }
        Ok(())
    }

    /// One argument of the command.
    fn argument(&self, index: usize, argument: &str) -> Result<(), Problem> {
        let index = index.to_string();
        if argument.contains('\0') {
            return Err(self.problem("command", Some(&index), "an argument cannot contain a NUL character"));
        }
        let unknown = command::placeholders(argument).find(|name| !command::PLACEHOLDERS.contains(name));
        let Some(unknown) = unknown else {
            return Ok(());
        };
        let names: Vec<_> = command::PLACEHOLDERS.iter().map(|name| format!("{{{name}}}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let problem = self.problem("command", Some(&index), &format!("unknown placeholder `{{{unknown}}}`"));
        let mut problem = problem.with_valid("valid placeholders", &names, &format!("{{{unknown}}}"));
        problem.hint.get_or_insert_with(|| format!("write `{{{{{unknown}}}}}` for the text itself"));
        Err(problem)
    }
}
