//! The command line and environment of a program with a preset.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::agent::AgentError;
use crate::agent::launch::{
    Launch, LaunchPlan, Mode, check_argument, environment, find_program, read_from_prompt_file,
};
use crate::files::{Access, write_atomically};
use crate::model::agent::Permissions;
use crate::model::preset::{Permission, Preset, RulesIn, Start, UsageCount};

/// A first message above this many bytes is given by its file where it would be an argument.
const PROMPT_LIMIT: usize = 100_000;
/// What to do about an argument that is too long.
const LONG_HINT: &str = "shorten the agent definition";

/// How `plan` starts its program: without a terminal's start, as without a person.
pub(super) fn way(preset: &Preset, mode: Mode) -> &Start {
    match (mode, &preset.interactive) {
        (Mode::Interactive, Some(start)) => start,
        _ => &preset.headless,
    }
}

/// Works out a launch and writes its prompt.
pub(super) fn prepare(plan: &LaunchPlan<'_>, preset: &Preset) -> Result<Launch, AgentError> {
    let start = way(preset, plan.mode);
    if start.stream && plan.prompt.trim().is_empty() {
        return Err(AgentError::EmptyPrompt);
    }
    let resumed = plan.resume.zip(start.resume.as_ref());
    let prompt = prompt(plan, resumed.is_some());
    let prompt_file = plan.worker_dir.join("preset-prompt.md");
    write_atomically(&prompt_file, prompt.as_bytes(), Access::Private)?;
    let permission = permission(plan, preset)?;
    let (session, arguments) = match resumed {
        Some((session, arguments)) => (session, arguments),
        None => ("", &start.start),
    };
    let values = Values { plan, preset, permission: &permission, session, prompt: &prompt, prompt_file: &prompt_file };
    let mut argv = program(plan, preset)?;
    argv.extend(values.expand(arguments));
    for argument in &argv {
        check_argument(argument, "command line", LONG_HINT)?;
    }
    if start.prompt_on_stdin {
        argv = read_from_prompt_file(argv);
    }
    Ok(Launch {
        argv,
        env: launch_environment(plan, preset, &permission, prompt_file.as_os_str()),
        files: vec![prompt_file],
        raw_output: start.stream,
        session_id: resumed.map(|(session, _)| session.to_owned()),
        is_resumed: resumed.is_some(),
        usage_restarts: preset.usage != UsageCount::Conversation,
        warnings: warnings(plan, preset),
    })
}

/// An environment as a launch has it.
pub(in crate::agent) type Variables = Vec<(OsString, OsString)>;

/// Program, arguments and environment as an agent of the Agent Client Protocol.
pub(in crate::agent) fn acp(plan: &LaunchPlan<'_>, preset: &Preset) -> Result<(Vec<OsString>, Variables), AgentError> {
    let mut argv = program(plan, preset)?;
    argv.extend(preset.acp.iter().flatten().map(OsString::from));
    // Its questions come to us: the rules of the definition are judged there.
    let asks = preset.acp_env.iter().map(|(name, value)| (name.clone(), value.clone()));
    let asks = Permission { args: Vec::new(), env: asks.collect() };
    Ok((argv, launch_environment(plan, preset, &asks, plan.prompt_file.as_os_str())))
}

/// The program and what stands before the preset's arguments.
fn program(plan: &LaunchPlan<'_>, preset: &Preset) -> Result<Vec<OsString>, AgentError> {
    let named: Vec<&str> = match plan.agent.command.as_slice() {
        [] => vec![&preset.program],
        words => words.iter().map(String::as_str).collect(),
    };
    let path = find_program(OsStr::new(named[0]), plan.env, plan.worktree)
        .ok_or_else(|| AgentError::ProgramNotFound { program: named[0].to_owned(), hint: install_hint(preset) })?;
    let mut argv: Vec<OsString> = vec![path.into()];
    argv.extend(named[1..].iter().map(OsString::from));
    Ok(argv)
}

/// How to get the program.
pub(super) fn install_hint(preset: &Preset) -> String {
    format!("install it with `{}`", preset.install)
}

/// The first message: programs have no common way to take a system prompt, so it stands before the message that
/// begins the conversation.
fn prompt(plan: &LaunchPlan<'_>, is_resumed: bool) -> String {
    let system = plan.system_prompt.trim();
    if is_resumed || system.is_empty() || plan.prompt.is_empty() {
        plan.prompt.to_owned()
    } else {
        format!("{system}\n\n{}", plan.prompt)
    }
}

/// What placeholders stand for.
struct Values<'a> {
    plan: &'a LaunchPlan<'a>,
    preset: &'a Preset,
    permission: &'a Permission,
    session: &'a str,
    prompt: &'a str,
    prompt_file: &'a PathBuf,
}

impl Values<'_> {
    /// All arguments filled in. Without a prompt an argument that holds it is left out, with the flag before it.
    fn expand(&self, arguments: &[String]) -> Vec<OsString> {
        let mut all: Vec<OsString> = Vec::new();
        for argument in arguments {
            match argument.as_str() {
                "{model}" => {
                    let model = self.plan.agent.model.iter();
                    all.extend(model.flat_map(|name| {
                        self.preset.model.iter().map(move |part| OsString::from(part.replace("{name}", name)))
                    }));
                }
                "{permission}" => all.extend(self.permission.args.iter().map(OsString::from)),
                "{prompt}" if self.prompt.is_empty() => {
                    all.pop_if(|flag| flag.as_encoded_bytes().starts_with(b"--"));
                }
                other => all.push(self.one(other)),
            }
        }
        all
    }

    /// One argument. A value is never searched for placeholders itself.
    fn one(&self, argument: &str) -> OsString {
        let plan = self.plan;
        let by_file;
        let prompt = if self.prompt.len() > PROMPT_LIMIT || self.prompt.contains('\0') {
            by_file = format!("Read the file `{}` and do the task that is written there.", self.prompt_file.display());
            &by_file
        } else {
            self.prompt
        };
        let value = |name: &str| -> Option<&OsStr> {
            Some(match name {
                "prompt" => OsStr::new(prompt),
                "prompt_file" => self.prompt_file.as_os_str(),
                "session" => OsStr::new(self.session),
                "worktree" => plan.worktree.as_os_str(),
                "ticket" => OsStr::new(plan.ticket.as_str()),
                "worker" => OsStr::new(plan.worker.as_str()),
                "branch" => OsStr::new(plan.branch.as_str()),
                _ => return None,
            })
        };
        let mut filled = OsString::new();
        let mut rest = argument;
        while let Some((before, after)) = rest.split_once('{') {
            filled.push(before);
            match after.split_once('}').and_then(|(name, tail)| Some((value(name)?, tail))) {
                Some((value, tail)) => {
                    filled.push(value);
                    rest = tail;
                }
                None => {
                    filled.push("{");
                    rest = after;
                }
            }
        }
        filled.push(rest);
        filled
    }
}

/// What the agent's permission mode is to the program.
fn permission(plan: &LaunchPlan<'_>, preset: &Preset) -> Result<Permission, AgentError> {
    let mode = serde_json::to_value(plan.agent.permission_mode).ok();
    let word = mode.as_ref().and_then(Value::as_str).unwrap_or_default();
    let mut permission = preset.permission_mode.get(word).cloned().unwrap_or_default();
    if let Some(rules) = &preset.rules {
        let text = permission.env.get(&rules.env).map_or("{}", String::as_str);
        let text = with_rules(text, rules, &plan.agent.permissions);
        permission.env.insert(rules.env.clone(), text);
    }
    Ok(permission)
}

/// Puts rules into the JSON text of a variable. Rules for tools that it does not know are left out.
fn with_rules(text: &str, into: &RulesIn, permissions: &Permissions) -> String {
    let mut value: Value = serde_json::from_str(text).unwrap_or_else(|_| json!({}));
    let kinds = [&permissions.allow, &permissions.ask, &permissions.deny];
    for (rules, word) in kinds.into_iter().zip(&into.words) {
        for rule in rules {
            let (tool, pattern) = rule
                .split_once('(')
                .map_or((rule.as_str(), "*"), |(tool, rest)| (tool, rest.strip_suffix(')').unwrap_or(rest)));
            let Some(pointer) = into.tools.get(tool.trim()) else { continue };
            if let Some(patterns) = object_at(&mut value, pointer) {
                patterns.insert(pattern.replace(":*", "*"), json!(word));
            }
        }
    }
    value.to_string()
}

/// The object of patterns at a pointer of one level; a word that stands there becomes the word for everything.
fn object_at<'a>(value: &'a mut Value, pointer: &str) -> Option<&'a mut Map<String, Value>> {
    let slot = value.as_object_mut()?.entry(pointer.trim_start_matches('/')).or_insert_with(|| json!({}));
    if slot.is_string() {
        *slot = json!({"*": slot.take()});
    }
    slot.as_object_mut()
}

/// The environment. What the agent definition sets stands above what the preset sets.
fn launch_environment(
    plan: &LaunchPlan<'_>,
    preset: &Preset,
    permission: &Permission,
    prompt_file: &OsStr,
) -> Vec<(OsString, OsString)> {
    let of_preset: BTreeMap<&str, &OsStr> = preset
        .env
        .iter()
        .chain(&permission.env)
        .filter(|(name, _)| !plan.agent.env.contains_key(*name))
        .map(|(name, value)| (name.as_str(), OsStr::new(value)))
        .collect();
    let ours = [("SWARM_PROMPT_FILE", prompt_file), ("SWARM_EXE", plan.swarm_exe.as_os_str())];
    environment(plan.env, &of_preset.into_iter().chain(ours).collect::<Vec<_>>())
}

/// Parts of the definition that do not reach the program.
fn warnings(plan: &LaunchPlan<'_>, preset: &Preset) -> Vec<String> {
    let agent = plan.agent;
    let rules = &agent.permissions;
    let has_rules = !(rules.allow.is_empty() && rules.ask.is_empty() && rules.deny.is_empty());
    let lost = [
        ("permissions", has_rules && preset.rules.is_none()),
        ("tools", !agent.tools.is_empty()),
        ("mcp_servers", !agent.mcp_servers.is_empty()),
    ];
    let lost: Vec<&str> = lost.into_iter().filter(|(_, is_lost)| *is_lost).map(|(name, _)| name).collect();
    if lost.is_empty() {
        return Vec::new();
    }
    let list = lost.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    vec![format!("{} is not told {list} of the agent `{}`; its own configuration counts", preset.title, agent.name)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_become_patterns_beside_the_word_of_the_mode() {
        let into = RulesIn {
            env: "P".to_owned(),
            tools: [("Bash".to_owned(), "/bash".to_owned()), ("Edit".to_owned(), "/edit".to_owned())].into(),
            words: ["allow", "ask", "deny"].map(str::to_owned),
        };
        let permissions = Permissions {
            allow: vec!["Bash(cargo test*)".to_owned(), "Bash(git log:*)".to_owned(), "mcp__x__y".to_owned()],
            ask: vec!["Edit".to_owned()],
            deny: vec!["Bash(rm *)".to_owned()],
        };
        let text = with_rules(r#"{"bash":"ask","other":1}"#, &into, &permissions);
        let expected = json!({
            "bash": {"*": "ask", "cargo test*": "allow", "git log*": "allow", "rm *": "deny"},
            "edit": {"*": "ask"}, "other": 1,
        });
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
    }
}
