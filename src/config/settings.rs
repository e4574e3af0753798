//! The layers of configuration and the one set of settings they make.

use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::error::{ConfigError, Problem};
use super::fill::fill;
use super::yaml::{Node, Source, Value};
use super::{environment as env, template};
use crate::files;
use crate::model::BranchName;
use crate::model::health::ByteSize;
use crate::model::scaling::{ScaleScope, ScalingPolicy, contradiction};
use crate::model::settings::Settings;
use crate::model::topology::Topology;

/// The variables of the environment that are settings, and the key each stands for. An empty one counts as
/// not set. `swarm` gives its agents other `SWARM_*` variables; these seven must not be among them, or a
/// `swarm` that an agent starts would see them as a person's wish.
const VARIABLES: [(&str, &str); 7] = [
    ("SWARM_AGENT", "agent"),
    ("SWARM_TARGET", "target"),
    ("SWARM_WORKTREES", "worktrees"),
    ("SWARM_MAX_WORKERS", "max_workers"),
    ("SWARM_TMUX_SOCKET", "tmux.socket"),
    ("SWARM_DURABILITY", "durability"),
    ("SWARM_QUEUE", "queue.url"),
];

/// Where settings come from, from the weakest up: built-in defaults, the user's `config.yaml`, the project's,
/// this clone's, the environment, flags. Maps are merged key by key; lists and single values are replaced.
#[derive(Debug)]
pub(crate) struct Layers<'a> {
    /// The user's configuration folder; `config.yaml` in it is read if it exists.
    pub(crate) user_folder: &'a Path,
    /// The project's configuration: its name in messages and its text, wherever that came from.
    pub(crate) project: Option<(PathBuf, String)>,
    /// This clone's own settings: their name in messages and their text.
    pub(crate) clone: Option<(PathBuf, String)>,
    /// The environment of this process.
    pub(crate) environment: &'a Environment,
    /// Flags as key path and value, such as `landing.strategy` and `squash`.
    pub(crate) overrides: Vec<(String, String)>,
}

/// The user's configuration folder as the platform names it. It need not exist.
///
/// # Errors
/// When the user has no home folder.
pub(crate) fn user_folder() -> Result<PathBuf, ConfigError> {
    let folders = directories::ProjectDirs::from("", "", "swarm").ok_or(ConfigError::NoHome)?;
    Ok(folders.config_dir().to_owned())
}

/// Reads and checks all layers.
///
/// # Errors
/// The first fault of the weakest layer that has one: unreadable files, YAML that is none, unknown keys,
/// values of the wrong kind or out of bounds. A setting that only makes sense together with another is
/// checked after merging, and the error names the layer whose value counted.
pub(crate) fn load_settings(layers: &Layers<'_>) -> Result<Settings, ConfigError> {
    let mut tree = read_user_file(&layers.user_folder.join("config.yaml"))?;
    for (path, text) in layers.project.iter().chain(&layers.clone) {
        let mut project = Source::file(path, text).parse()?;
        expand(&mut project);
        check_kind(&project)?;
        tree = merge(tree, project);
    }
    for (name, key) in VARIABLES {
        if let Some(value) = layers.environment.text(name)?.filter(|value| !value.is_empty()) {
            tree = merge(tree, value_at(name, key, value));
        }
    }
    for (key, value) in &layers.overrides {
        let mut node = value_at(&format!("{key}={value}"), key, value);
        expand(&mut node);
        tree = merge(tree, node);
    }
    let settings: Settings = fill(&tree)?;
    Check { tree: &tree }.all(&settings)?;
    Ok(settings)
}

/// Reads the user's file, or nothing.
fn read_user_file(path: &Path) -> Result<Node, ConfigError> {
    let bytes = files::read_if_exists(path)?.unwrap_or_default();
    let text = String::from_utf8(bytes).map_err(|_| Problem::in_file(path.display().to_string(), "not UTF-8 text"))?;
    let mut node = Source::file(path, &text).parse()?;
    expand(&mut node);
    check_kind(&node)?;
    Ok(node)
}

/// Fails unless a file is a map or empty, and unless each known part of it has the right kind, so that a
/// stronger layer cannot hide a fault in a weaker one.
fn check_kind(node: &Node) -> Result<(), Problem> {
    fill::<Settings>(node).map(drop)
}

/// Turns the short ways to write a section into the long ones, so that layers are merged key by key whichever way each is
/// written: `queue: WORD` is `queue: {url: WORD}`, `topology: WORD` is `topology: {kind: WORD}`.
fn expand(node: &mut Node) {
    let Value::Map(entries) = &mut node.value else { return };
    for (section, inner) in [("queue", "url"), ("topology", "kind")] {
        if let Some((_, value)) = entries.iter_mut().find(|(key, _)| key == section)
            && !matches!(value.value, Value::Map(_) | Value::List(_) | Value::Null)
        {
            *value = Node::map_at(&value.place.clone(), vec![(inner.to_owned(), value.clone())]);
        }
    }
}

/// A tree with one value at a key path, from a variable or flag.
fn value_at(name: &str, key: &str, value: &str) -> Node {
    let source = Source::value(name, value);
    // What is no YAML by itself is meant as text: `SWARM_WORKTREES=@work/{worker}`.
    let leaf = source.parse().unwrap_or_else(|_| source.text_node());
    key.split('.').rev().fold(leaf, |inner, key| {
        let place = inner.place.inside();
        Node::map_at(&place, vec![(key.to_owned(), inner)])
    })
}

/// Puts `over` on top of `under`.
fn merge(under: Node, over: Node) -> Node {
    match (under.value, over.value) {
        // A section without content says nothing.
        (value @ Value::Map(_), Value::Null) => Node { place: under.place, value },
        (Value::Map(mut entries), Value::Map(stronger)) => {
            for (key, node) in stronger {
                match entries.iter_mut().find(|(name, _)| *name == key) {
                    Some((_, slot)) => *slot = merge(slot.clone(), node),
                    None => entries.push((key, node)),
                }
            }
            Node { place: over.place, value: Value::Map(entries) }
        }
        (_, value) => Node { place: over.place, value },
    }
}

/// Checks of what types cannot say; each failure points at the value.
struct Check<'a> {
    /// The merged tree, for places.
    tree: &'a Node,
}

/// Outcome of one check.
type Checked = Result<(), Problem>;

impl Check<'_> {
    /// All checks, in the order of the fields.
    fn all(&self, settings: &Settings) -> Checked {
        self.path_templates(settings)?;
        self.ensure(settings.landing.batch >= 1, "landing.batch", "at least one worker lands at a time")?;
        let remote = &settings.landing.remote;
        let is_plain = !remote.is_empty() && !remote.starts_with('-') && !remote.contains(char::is_whitespace);
        self.ensure(!settings.landing.poll.is_zero(), "landing.poll", "it must be longer than zero")?;
        self.ensure(is_plain, "landing.remote", "expected the name of a remote, such as `origin`")?;
        self.ensure(settings.recover.keep_days >= 1, "recover.keep_days", "expected a number of days from 1")?;
        self.ensure(settings.recover.log_days >= 1, "recover.log_days", "expected a number of days from 1")?;
        self.ensure(settings.recover.snapshots >= 1, "recover.snapshots", "expected a number from 1")?;
        self.ensure(!settings.review.timeout.is_zero(), "review.timeout", "it must be longer than zero")?;
        for (index, name) in settings.review.agents.iter().enumerate() {
            let is_known = settings.review.agents[..index].contains(name);
            self.ensure(!is_known, &format!("review.agents.{index}"), &format!("`{name}` is there twice"))?;
        }
        for (index, name) in settings.run.agents.iter().enumerate() {
            let is_known = settings.run.agents[..index].contains(name);
            self.ensure(!is_known, &format!("run.agents.{index}"), &format!("`{name}` is there twice"))?;
        }
        self.ensure(settings.max_workers >= 1, "max_workers", "at least one worker is needed")?;
        for (index, pattern) in settings.copy.iter().enumerate() {
            self.glob(&format!("copy.{index}"), pattern)?;
        }
        self.commands(settings)?;
        self.run(settings)?;
        self.tmux(&settings.tmux.socket)?;
        self.limits(settings)?;
        self.health(settings)?;
        self.variables(settings)?;
        self.ports(settings)?;
        self.scaling(settings)?;
        for (index, pattern) in settings.redact.iter().enumerate() {
            let key = format!("redact.{index}");
            let cause = regex::Regex::new(pattern).err().map(|error| last_line(&error.to_string()));
            self.ensure(cause.is_none(), &key, &format!("not a regular expression: {}", cause.unwrap_or_default()))?;
        }
        queue::check(self, &settings.queue)?;
        let remote = settings.node.remote.as_deref().unwrap_or("origin");
        let is_plain = !remote.is_empty() && !remote.starts_with('-') && !remote.contains(char::is_whitespace);
        self.ensure(is_plain, "node.remote", "expected the name of a remote, such as `origin`")?;
        self.ensure(settings.node.bundle_bytes >= 1, "node.bundle_bytes", "expected a number of bytes from 1")?;
        self.topologies(settings)?;
        models::check(self, settings)
    }

    /// The saved topologies, and the one that is chosen.
    fn topologies(&self, settings: &Settings) -> Checked {
        for (name, topology) in &settings.topologies {
            let is_kind = Topology::KINDS.contains(&name.as_str());
            self.ensure_at(!is_kind, &["topologies", name], "a kind is no name; give it another one")?;
            if let Some((key, why)) = topology.fault() {
                let path: Vec<_> = ["topologies", name].into_iter().chain(key.split('.')).collect();
                return Err(self.problem_at(&path, &why));
            }
        }
        let Some(setting) = &settings.topology else { return Ok(()) };
        setting.resolve(&settings.topologies).map(drop).map_err(|fault| {
            let path: Vec<_> =
                ["topology"].into_iter().chain(fault.key.iter().flat_map(|key| key.split('.'))).collect();
            self.problem_at(&path, &fault.why)
        })
    }

    /// Fails with `message` at the value of `key` unless `good`.
    fn ensure(&self, good: bool, key: &str, message: &str) -> Checked {
        if good { Ok(()) } else { Err(self.problem(key, message)) }
    }

    /// The same with the steps of the key one by one, for names that hold a dot.
    fn ensure_at(&self, good: bool, key: &[&str], message: &str) -> Checked {
        if good { Ok(()) } else { Err(self.problem_at(key, message)) }
    }

    /// A problem with the value at a key path; items of lists are numbers in it. A value that is not written
    /// anywhere is placed at what would hold it.
    fn problem(&self, key: &str, message: &str) -> Problem {
        self.problem_at(&key.split('.').collect::<Vec<_>>(), message)
    }

    /// The same with the steps of the key one by one.
    fn problem_at(&self, key: &[&str], message: &str) -> Problem {
        let mut node = self.tree;
        let mut shown = String::new();
        for step in key {
            let index = matches!(node.value, Value::List(_)).then(|| step.parse::<usize>().ok()).flatten();
            node = index.map_or_else(|| node.get(step), |index| node.item(index)).unwrap_or(node);
            match index {
                Some(index) => shown.push_str(&format!("[{index}]")),
                None if shown.is_empty() => shown.push_str(step),
                None => shown.push_str(&format!(".{step}")),
            }
        }
        node.place.problem(format!("`{shown}`: {message}"))
    }

    /// Worktree paths and branch names.
    fn path_templates(&self, settings: &Settings) -> Checked {
        let both =
            [("worktrees", &settings.worktrees, &["repo", "worker"][..]), ("branch", &settings.branch, &["worker"])];
        for (key, text, known) in both {
            for name in template::braces(text) {
                let problem = || self.problem(key, &format!("unknown placeholder `{{{name}}}`"));
                let shown: Vec<_> = known.iter().map(|name| format!("{{{name}}}")).collect();
                let shown: Vec<_> = shown.iter().map(String::as_str).collect();
                if !known.contains(&name) {
                    return Err(problem().with_valid("valid placeholders", &shown, &format!("{{{name}}}")));
                }
            }
            let message = format!("`{text}` gives every worker the same one; it must contain `{{worker}}`");
            self.ensure(text.contains("{worker}"), key, &message)?;
        }
        let sample = settings.branch.replace("{worker}", "a+2");
        let rule = sample.parse::<BranchName>().err().map(|error| error.to_string());
        self.ensure(rule.is_none(), "branch", &rule.unwrap_or_default())?;
        self.ensure(!settings.worktrees.contains('\0'), "worktrees", "a path cannot contain a NUL character")
    }

    /// One pattern in the style of `.gitignore`.
    fn glob(&self, key: &str, pattern: &str) -> Checked {
        self.ensure(!pattern.trim().is_empty(), key, "the pattern is empty")?;
        let mut builder = ignore::gitignore::GitignoreBuilder::new("/");
        builder.allow_unclosed_class(false);
        let cause = builder.add_line(None, pattern).err().map(|error| error.to_string());
        self.ensure(cause.is_none(), key, &format!("not a file pattern: {}", cause.unwrap_or_default()))
    }

    /// Set-up commands and gates.
    fn commands(&self, settings: &Settings) -> Checked {
        for (index, setup) in settings.setup.iter().enumerate() {
            self.command(&format!("setup.{index}"), &setup.run, setup.timeout)?;
        }
        for (index, gate) in settings.gates.iter().enumerate() {
            let name = format!("gates.{index}.name");
            self.ensure(!gate.name.trim().is_empty(), &name, "a gate needs a name")?;
            self.ensure(!gate.name.chars().any(char::is_control), &name, "a name is one line of plain text")?;
            let taken = settings.gates[..index].iter().any(|earlier| earlier.name == gate.name);
            self.ensure(!taken, &name, &format!("another gate is called `{}` already", gate.name))?;
            self.command(&format!("gates.{index}"), &gate.run, gate.timeout)?;
        }
        Ok(())
    }

    /// One command with its time.
    fn command(&self, key: &str, run: &str, timeout: Option<std::time::Duration>) -> Checked {
        self.ensure(!run.trim().is_empty(), &format!("{key}.run"), "the command is empty")?;
        self.ensure(!run.contains('\0'), &format!("{key}.run"), "a command cannot contain a NUL character")?;
        let endless = timeout.is_some_and(|timeout| timeout.is_zero());
        self.ensure(!endless, &format!("{key}.timeout"), "a command needs some time")
    }

    /// How a coordinator goes about it.
    fn run(&self, settings: &Settings) -> Checked {
        let run = &settings.run;
        self.ensure(run.backoff.factor >= 1, "run.backoff.factor", "expected a number from 1")?;
        self.ensure(run.backoff.max >= run.backoff.first, "run.backoff.max", "it must not be shorter than `first`")?;
        let zero = |key: &str, name: &str| self.ensure_at(false, &["run", key, name], "expected a number from 1");
        for (name, _) in run.max_per_agent.iter().filter(|(_, limit)| **limit == 0) {
            zero("max_per_agent", name.as_str())?;
        }
        for (name, _) in run.max_per_model.iter().filter(|(_, limit)| **limit == 0) {
            zero("max_per_model", name)?;
        }
        Ok(())
    }

    /// The tmux socket.
    fn tmux(&self, socket: &str) -> Checked {
        let bad = matches!(socket, "" | "." | "..") || socket.chars().any(char::is_control);
        self.ensure(!bad, "tmux.socket", "expected a name, or a path with a `/`")
    }

    /// Times that cannot be zero.
    fn limits(&self, settings: &Settings) -> Checked {
        let limits = &settings.limits;
        let times = [
            ("grace", limits.grace),
            ("setup_timeout", limits.setup_timeout),
            ("check_timeout", limits.check_timeout),
            ("gate_timeout", limits.gate_timeout),
            ("commit_timeout", limits.commit_timeout),
            ("snapshot_every", limits.snapshot_every),
            ("tool_timeout", limits.tool_timeout),
        ];
        let zero = times.into_iter().find(|(_, time)| time.is_zero());
        let zero = zero.map(|(key, _)| self.problem(&format!("limits.{key}"), "it must be longer than zero"));
        zero.map_or(Ok(()), Err)?;
        self.ensure(limits.max_turns > 0, "limits.max_turns", "expected a number from 1")?;
        self.ensure(limits.tool_output >= 1000, "limits.tool_output", "expected a number from 1000")?;
        self.ensure(limits.mailbox > 0, "limits.mailbox", "expected a number from 1")?;
        self.ensure(limits.spawn_depth > 0, "limits.spawn_depth", "expected a number from 1")?;
        let budget = &settings.budget;
        for (scope, budget) in [("ticket", budget.ticket), ("run", budget.run), ("day", budget.day)] {
            let fault = budget.fault();
            self.ensure(fault.is_none(), &format!("budget.{scope}"), fault.unwrap_or_default())?;
        }
        Ok(())
    }

    /// Policies that say when more or fewer workers run at once.
    fn scaling(&self, settings: &Settings) -> Checked {
        for (index, policy) in settings.scaling.iter().enumerate() {
            if let Some((key, message)) = policy.fault() {
                return Err(self.problem(&format!("scaling.{index}.{key}"), message));
            }
            let is_same = |other: &ScalingPolicy| (other.metric, other.scope) == (policy.metric, policy.scope);
            let is_taken = settings.scaling[..index].iter().any(is_same);
            let message = format!("another policy of this scope looks at `{}` already", policy.metric);
            self.ensure(!is_taken, &format!("scaling.{index}.metric"), &message)?;
            let blocks = settings.port_blocks();
            let message = format!("there are ports for {blocks} workers only: see `ports`");
            let fits = policy.max_workers.is_none_or(|max| max <= blocks || policy.scope == ScaleScope::Swarm);
            self.ensure(fits, &format!("scaling.{index}.max_workers"), &message)?;
        }
        for scope in [ScaleScope::Node, ScaleScope::Swarm] {
            let policies = settings.scaling.iter().filter(|policy| policy.scope == scope);
            if let Some((low, high)) = contradiction(policies) {
                let message = format!(
                    "no number of workers is at least {low} and at most {high}, as policies of the scope `{scope}` ask for"
                );
                return Err(self.problem("scaling", &message));
            }
        }
        Ok(())
    }

    /// Amounts that would stop or hold every worker.
    fn health(&self, settings: &Settings) -> Checked {
        let health = &settings.health;
        let nothing = "it would stop every worker; null is no limit";
        self.ensure(health.max_memory != Some(ByteSize(0)), "health.max_memory", nothing)?;
        self.ensure(health.max_disk != Some(ByteSize(0)), "health.max_disk", nothing)?;
        self.ensure(health.max_processes != Some(0), "health.max_processes", nothing)?;
        self.ensure(health.max_cpu != Some(std::time::Duration::ZERO), "health.max_cpu", nothing)?;
        self.ensure(health.crash_loop.count != 1, "health.crash_loop.count", "expected 0 (never), or a number from 2")?;
        let pacing = health.pacing;
        self.ensure(!pacing.first.is_zero(), "health.pacing.first", "it must be longer than zero")?;
        self.ensure(pacing.first <= pacing.max, "health.pacing.max", "it must not be shorter than `first`")
    }

    /// Names and values of variables.
    fn variables(&self, settings: &Settings) -> Checked {
        for (name, value) in &settings.env {
            let cause = env::refuse_variable(name, value);
            self.ensure(cause.is_none(), &format!("env.{name}"), cause.as_deref().unwrap_or_default())?;
        }
        for (index, name) in settings.pass_env.iter().enumerate() {
            let cause = env::refuse_variable(name, "");
            self.ensure(cause.is_none(), &format!("pass_env.{index}"), cause.as_deref().unwrap_or_default())?;
        }
        Ok(())
    }

    /// Room for a block of ports for each worker.
    fn ports(&self, settings: &Settings) -> Checked {
        let (base, size) = (usize::from(settings.ports.base), usize::from(settings.ports.size));
        self.ensure(base >= 1, "ports.base", "ports count from 1")?;
        self.ensure(size >= 1, "ports.size", "a block needs at least one port")?;
        let fits = settings.port_blocks();
        let workers = settings.max_workers;
        let message =
            format!("{workers} workers need as many blocks of {size} ports, and from {base} to 65535 only {fits} fit");
        let ports = self.tree.get("ports");
        let written = self.tree.get("max_workers").is_some() || ports.is_none();
        let key = match ports.and_then(|ports| ports.get("base")) {
            _ if written => "max_workers",
            Some(_) => "ports.base",
            None => "ports.size",
        };
        self.ensure(fits >= settings.max_workers, key, &message)
    }
}

/// The last line of a message with several; it says what is wrong, those before draw it.
fn last_line(message: &str) -> String {
    let line = message.lines().last().unwrap_or_default();
    line.trim().trim_start_matches("error: ").to_owned()
}

mod models;
mod queue;
#[cfg(test)]
mod tests;
