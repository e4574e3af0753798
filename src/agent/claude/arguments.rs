//! The command line, environment and files of one launch.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::folder::Folder;
use super::{parts, version};
use crate::agent::AgentError;
use crate::agent::launch::{Launch, LaunchPlan, Mode, check_argument, environment, read_from_prompt_file, variable};
use crate::agent::policy::{Policy, policy_file};
use crate::config::Environment;
use crate::files::{Access, write_atomically};
use crate::llm::{Endpoint, endpoint};
use crate::model::agent::PermissionMode;
use crate::model::providers::ProviderKind;

/// Hooks that are registered. All of them are known to 2.1.197 and 2.1.329; a name that a version does not know
/// makes it stop at a warning.
const HOOKS: [&str; 13] = [
    "SessionStart",
    "UserPromptSubmit",
    "PreToolUse",
    "PostToolUse",
    "PostToolUseFailure",
    "PermissionRequest",
    "PermissionDenied",
    "Notification",
    "SubagentStart",
    "SubagentStop",
    "Stop",
    "StopFailure",
    "SessionEnd",
];
/// Seconds after which the program goes on without a hook's answer.
const HOOK_TIMEOUT: u64 = 30;
/// A text above this many bytes is given by files: one argument takes 128 KiB.
const PROMPT_LIMIT: usize = 100_000;
/// Variables that carry a login of their own.
pub(super) const CREDENTIALS: [&str; 6] = [
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_VERTEX",
    "CLAUDE_CODE_USE_FOUNDRY",
];

/// A launch with what the runtime keeps of it.
#[derive(Debug)]
pub(super) struct Prepared {
    /// What to start.
    pub(super) launch: Launch,
    /// What the agent may not do.
    pub(super) policy: Policy,
    /// The program's folder.
    pub(super) folder: Folder,
    /// Who serves the model, where that is not Anthropic.
    pub(super) provider: Option<Endpoint>,
}

/// Works out a launch and writes its files.
pub(super) fn prepare(plan: &LaunchPlan<'_>) -> Result<Prepared, AgentError> {
    let program = version::locate(plan.env, plan.worktree).ok_or_else(|| AgentError::ProgramNotFound {
        program: version::program(plan.env).to_owned(),
        hint: version::INSTALL_HINT.to_owned(),
    })?;
    check(plan)?;
    let provider = provider(plan)?;
    let mut files = Vec::new();
    let folder = choose_folder(plan, &mut files)?;
    let policy = policy(plan, &folder);
    let settings = plan.worker_dir.join("claude-settings.json");
    let servers = plan.worker_dir.join("claude-mcp.json");
    write_json(&settings, &settings_value(plan), &mut files)?;
    write_json(&servers, &json!({"mcpServers": plan.agent.mcp_servers}), &mut files)?;
    write_json(&policy_file(plan.worker_dir), &json!(policy), &mut files)?;
    // A conversation that ended before its first message was never written, and resuming it would fail.
    let known = plan.resume.filter(|id| folder.has_conversation(id));
    let session = known.or(plan.resume).map_or_else(|| Uuid::new_v4().to_string(), ToOwned::to_owned);
    let mut argv: Vec<OsString> = vec![program.into()];
    argv.extend([if known.is_some() { "--resume" } else { "--session-id" }.into(), OsString::from(&session)]);
    argv.extend(["--settings".into(), settings.into(), "--mcp-config".into(), servers.into()]);
    argv.push("--strict-mcp-config".into());
    argv.extend(mode_arguments(plan));
    argv.extend(agent_arguments(plan));
    argv.extend(system_prompt(plan, &mut files)?);
    if plan.mode == Mode::Interactive && !plan.prompt.is_empty() {
        argv.extend(["--".into(), first_message(plan, &mut files)?.into()]);
    }
    for argument in &argv {
        check_argument(argument, "command line", "shorten the agent definition")?;
    }
    if plan.mode == Mode::Print {
        argv = read_from_prompt_file(argv);
    }
    let warnings = warnings(plan, &folder);
    let launch = Launch {
        argv,
        env: launch_environment(plan, &folder, provider.as_ref()),
        files,
        raw_output: plan.mode == Mode::Print,
        session_id: Some(session),
        is_resumed: known.is_some(),
        usage_restarts: false,
        warnings,
    };
    Ok(Prepared { launch, policy, folder, provider })
}

/// Refuses what the program would refuse after its start, or stop at.
fn check(plan: &LaunchPlan<'_>) -> Result<(), AgentError> {
    if plan.mode == Mode::Print && plan.prompt.trim().is_empty() {
        return Err(AgentError::EmptyPrompt);
    }
    let is_root = rustix::process::geteuid().is_root();
    let is_bypass = plan.agent.permission_mode == PermissionMode::Bypass;
    if is_bypass && is_root && variable(plan.env, "IS_SANDBOX") != Some("1") {
        return Err(AgentError::BypassAsRoot);
    }
    let has_login = CREDENTIALS.iter().any(|name| variable(plan.env, name).is_some());
    if plan.agent.isolated && !has_login && plan.agent.provider.is_none() {
        return Err(AgentError::NoCredentials);
    }
    Ok(())
}

/// Who serves the model in place of Anthropic, where the agent names somebody.
fn provider(plan: &LaunchPlan<'_>) -> Result<Option<Endpoint>, AgentError> {
    let Some(name) = &plan.agent.provider else { return Ok(None) };
    let environment: Environment = plan.env.iter().map(|(name, value)| (name, value)).collect();
    let refused = |why| AgentError::Provider { name: name.clone(), why };
    let found = endpoint(name, plan.models, &environment).ok_or_else(|| refused("there is none of that name"))?;
    if found.kind == ProviderKind::Openai {
        return Err(refused("it is of kind `openai`, and claude speaks as Anthropic does"));
    }
    Ok(Some(found))
}

/// The variables by which the program asks `provider` and nobody else, with `model` for everything it does.
fn provider_variables(plan: &LaunchPlan<'_>, provider: &Endpoint) -> Vec<(&'static str, OsString)> {
    let key = provider.key_env.as_deref().and_then(|name| variable(plan.env, name));
    let model = OsString::from(plan.agent.model.as_deref().unwrap_or_default());
    let url = provider.url.strip_suffix("/v1").unwrap_or(&provider.url);
    vec![
        ("ANTHROPIC_BASE_URL", url.into()),
        // A server without logins wants to see one all the same, and any will do.
        ("ANTHROPIC_AUTH_TOKEN", key.unwrap_or("local").into()),
        ("ANTHROPIC_DEFAULT_HAIKU_MODEL", model.clone()),
        ("ANTHROPIC_SMALL_FAST_MODEL", model),
        ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".into()),
    ]
}

/// The folder the agent uses: the person's, or its own with the first-run questions answered.
fn choose_folder(plan: &LaunchPlan<'_>, files: &mut Vec<PathBuf>) -> Result<Folder, AgentError> {
    let own = Folder::moved(&plan.worker_dir.join("claude"));
    if !plan.agent.isolated {
        return Ok(Folder::of_person(plan.env).unwrap_or(own));
    }
    files.push(own.seed(plan)?);
    Ok(own)
}

/// What the agent may not do.
fn policy(plan: &LaunchPlan<'_>, folder: &Folder) -> Policy {
    let mut writable = plan.writable.to_vec();
    if plan.agent.permission_mode == PermissionMode::Plan {
        writable.push(folder.plans());
    }
    Policy {
        worktree: plan.worktree.to_owned(),
        writable,
        protected: vec![plan.repo.join(".swarm"), plan.common_dir.to_owned(), plan.worker_dir.to_owned()],
        ask: plan.agent.permissions.ask.clone(),
        is_headless: plan.mode == Mode::Print,
    }
}

/// The settings file: hooks, rules that ask, and consent to the mode the definition names.
fn settings_value(plan: &LaunchPlan<'_>) -> Value {
    let exe = shell_quoted(plan.swarm_exe);
    let hook = |event: &&str| {
        let command = format!("{exe} hook {event}");
        let hooks = json!([{"hooks": [{"type": "command", "command": command, "timeout": HOOK_TIMEOUT}]}]);
        ((*event).to_owned(), hooks)
    };
    let hooks: Map<String, Value> = HOOKS.iter().map(hook).collect();
    // Registering the program as the handler of its links writes into the person's home (2.1.329).
    let mut settings = json!({"hooks": hooks, "disableDeepLinkRegistration": "disable"});
    if !plan.agent.permissions.ask.is_empty() {
        settings["permissions"] = json!({"ask": plan.agent.permissions.ask});
    }
    if plan.agent.permission_mode == PermissionMode::Bypass {
        settings["skipDangerousModePermissionPrompt"] = json!(true);
    }
    settings
}

/// A path as one word of a shell command.
fn shell_quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}

/// Writes a file that only its owner reads.
fn write_json(path: &Path, value: &Value, files: &mut Vec<PathBuf>) -> Result<(), AgentError> {
    write_atomically(path, value.to_string().as_bytes(), Access::Private)?;
    files.push(path.to_owned());
    Ok(())
}

/// Arguments that depend on who watches.
fn mode_arguments(plan: &LaunchPlan<'_>) -> Vec<OsString> {
    match plan.mode {
        Mode::Interactive => vec!["-n".into(), plan.worker.as_str().into()],
        Mode::Print => ["-p", "--output-format", "stream-json", "--verbose"].map(OsString::from).to_vec(),
    }
}

/// The system prompt: as an argument, or by file where it is too long for one.
fn system_prompt(plan: &LaunchPlan<'_>, files: &mut Vec<PathBuf>) -> Result<Vec<OsString>, AgentError> {
    let text = plan.system_prompt;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    if text.len() <= PROMPT_LIMIT && !text.contains('\0') {
        return Ok(vec!["--append-system-prompt".into(), text.into()]);
    }
    let path = plan.worker_dir.join("system-prompt.md");
    write_atomically(&path, text.as_bytes(), Access::Private)?;
    files.push(path.clone());
    Ok(vec!["--append-system-prompt-file".into(), path.into()])
}

/// Arguments that the agent definition asks for.
fn agent_arguments(plan: &LaunchPlan<'_>) -> Vec<OsString> {
    let agent = plan.agent;
    // Always stated: without it the newest version starts in another mode. `default` is the word both versions know.
    let mode = match agent.permission_mode {
        PermissionMode::Default => "default",
        PermissionMode::AcceptEdits => "acceptEdits",
        PermissionMode::Plan => "plan",
        PermissionMode::Bypass => "bypassPermissions",
    };
    let mut argv: Vec<OsString> = vec!["--permission-mode".into(), mode.into()];
    if let Some(model) = &agent.model {
        argv.extend(["--model".into(), model.into()]);
    }
    if !agent.tools.is_empty() {
        argv.extend(["--tools".into(), built_in_tools(&agent.tools).into()]);
    }
    let mut allow = agent.permissions.allow.clone();
    // Rules and servers' tools in the list of tools say what may be done; bare names say what is offered.
    allow.extend(agent.tools.iter().filter(|tool| tool.contains('(') || is_server_tool(tool)).cloned());
    // Each of these takes all words up to the next flag.
    if !allow.is_empty() {
        argv.push("--allowedTools".into());
        argv.extend(allow.into_iter().map(OsString::from));
    }
    if !agent.permissions.deny.is_empty() {
        argv.push("--disallowedTools".into());
        argv.extend(agent.permissions.deny.iter().map(OsString::from));
    }
    argv
}

/// The names of the program's own tools in a list of tools, without patterns, each once.
fn built_in_tools(tools: &[String]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for tool in tools.iter().filter(|tool| !is_server_tool(tool)) {
        let name = tool.split('(').next().unwrap_or(tool).trim();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(",")
}

/// Whether a tool comes from an MCP server.
fn is_server_tool(tool: &str) -> bool {
    tool.starts_with("mcp__")
}

/// Whether the first message is too long to be an argument, or cannot be one.
fn is_by_reference(plan: &LaunchPlan<'_>) -> bool {
    plan.mode == Mode::Interactive && (plan.prompt.len() > PROMPT_LIMIT || plan.prompt.contains('\0'))
}

/// The first message as the program gets it.
fn first_message(plan: &LaunchPlan<'_>, files: &mut Vec<PathBuf>) -> Result<String, AgentError> {
    if is_by_reference(plan) {
        let written = parts::write(&plan.worker_dir.join("first-message"), plan.prompt)?;
        files.extend_from_slice(&written);
        return Ok(parts::message(&written));
    }
    // A message that begins like this is a command to the program, not to the model.
    let is_command = plan.prompt.trim_start().starts_with(['/', '!']);
    Ok(if is_command { format!("Your ticket:\n\n{}", plan.prompt) } else { plan.prompt.to_owned() })
}

/// The environment of the agent.
fn launch_environment(
    plan: &LaunchPlan<'_>,
    folder: &Folder,
    provider: Option<&Endpoint>,
) -> Vec<(OsString, OsString)> {
    let on = OsStr::new("1");
    let mut extra = vec![
        ("SWARM_PROMPT_FILE", plan.prompt_file.as_os_str()),
        // Many agents at once must not each replace the program under the others.
        ("DISABLE_AUTOUPDATER", on),
    ];
    match plan.mode {
        // The normal screen keeps a scrollback.
        Mode::Interactive => extra.push(("CLAUDE_CODE_DISABLE_ALTERNATE_SCREEN", on)),
        // A background task that never ends holds the process for ten minutes after its last word (2.1.329).
        Mode::Print => extra.push(("CLAUDE_CODE_DISABLE_BACKGROUND_TASKS", on)),
    }
    if plan.agent.isolated {
        extra.push(("CLAUDE_CONFIG_DIR", folder.root().as_os_str()));
    }
    let Some(provider) = provider else { return environment(plan.env, &extra) };
    let variables = provider_variables(plan, provider);
    extra.extend(variables.iter().map(|(name, value)| (*name, value.as_os_str())));
    // The person's own login is for Anthropic, and would win over the provider's.
    let others: Vec<_> = plan.env.iter().filter(|(name, _)| !CREDENTIALS.contains(&name.as_str())).cloned().collect();
    environment(&others, &extra)
}

/// Questions that the program will stop at, for a person to know beforehand.
fn warnings(plan: &LaunchPlan<'_>, folder: &Folder) -> Vec<String> {
    let mut warnings = Vec::new();
    if plan.mode == Mode::Print || plan.agent.isolated {
        return warnings;
    }
    if folder.asks_for_trust(plan) {
        let repo = plan.repo.display();
        warnings.push(format!(
            "claude does not trust `{repo}` yet and will ask first: attach and answer, or run `claude` there once"
        ));
    }
    if folder.asks_for_key(plan.env) {
        warnings.push("claude will ask first whether it may use ANTHROPIC_API_KEY: attach and answer".to_owned());
    }
    warnings
}

#[cfg(test)]
mod tests;
