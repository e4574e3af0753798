//! Presets: what is known about an agent program, as data. A preset file says how a program is started and goes on
//! with a conversation, and what its output means; no program that has one needs code.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One agent program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Preset {
    /// The name agents call it by: that of its file. Set by the reader.
    #[serde(default)]
    pub(crate) name: String,
    /// The program's own name.
    pub(crate) title: String,
    /// What is started unless the agent names a command of its own.
    pub(crate) program: String,
    /// The command that installs it.
    pub(crate) install: String,
    /// How far what is written here was seen to be true.
    pub(crate) verified: Verified,
    /// Arguments that make it print its version and end.
    #[serde(default = "version_arguments")]
    pub(crate) version: Vec<String>,
    /// How it shows that somebody is logged in.
    #[serde(default)]
    pub(crate) login: Option<Login>,
    /// Variables of the person's environment that it is given; a name that ends in `*` stands for all that begin so.
    #[serde(default)]
    pub(crate) pass_env: Vec<String>,
    /// Variables it is given.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// How it works without a person.
    pub(crate) headless: Start,
    /// How it works in a person's terminal; without it, as without a person.
    #[serde(default)]
    pub(crate) interactive: Option<Start>,
    /// Arguments that make it an agent of the Agent Client Protocol; absent where it is none.
    #[serde(default)]
    pub(crate) acp: Option<Vec<String>>,
    /// Variables that make it ask about everything when it speaks that protocol, so that the rules of the agent
    /// definition decide.
    #[serde(default)]
    pub(crate) acp_env: BTreeMap<String, String>,
    /// What `{model}` stands for where the agent names a model; `{name}` in it is the name.
    #[serde(default)]
    pub(crate) model: Vec<String>,
    /// What `{permission}` stands for, by permission mode.
    #[serde(default)]
    pub(crate) permission_mode: BTreeMap<String, Permission>,
    /// How rules of the agent definition are said to it; without this it is not told them.
    #[serde(default)]
    pub(crate) rules: Option<RulesIn>,
    /// What its lines and hooks mean; every rule that matches counts, in order.
    #[serde(default)]
    pub(crate) events: Vec<Rule>,
    /// How its usage figures count.
    #[serde(default)]
    pub(crate) usage: UsageCount,
    /// Whether the ids of its calls count from the start of each process, and so come again.
    #[serde(default)]
    pub(crate) ids_repeat: bool,
    /// What an exit code other than 0 means where it is no plain failure.
    #[serde(default)]
    pub(crate) exit_codes: BTreeMap<String, ExitMeaning>,
    /// Rules that tell from its screen what it does, first match first; the reader of screens knows their shape.
    #[serde(default)]
    pub(crate) screen: Vec<serde_json::Value>,
}

/// `--version`.
fn version_arguments() -> Vec<String> {
    vec!["--version".to_owned()]
}

/// How far a preset was seen to be true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Verified {
    /// How.
    pub(crate) by: VerifiedBy,
    /// Which version was run, or documented.
    pub(crate) version: String,
}

/// How a preset was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum VerifiedBy {
    /// The program was run.
    Run,
    /// Its documentation was read.
    Documentation,
}

impl Verified {
    /// As lists show it.
    pub(crate) fn text(&self) -> String {
        match self.by {
            VerifiedBy::Run => format!("run against {}", self.version),
            VerifiedBy::Documentation => format!("from the documentation of {}", self.version),
        }
    }
}

/// How a program shows that somebody is logged in: any one of the variables or files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Login {
    /// Variables that carry a key.
    pub(crate) env: Vec<String>,
    /// Files that hold a login or a configuration with one; `~` is the home folder.
    pub(crate) files: Vec<String>,
    /// The command that logs in.
    pub(crate) command: String,
}

/// One way to start a program.
///
/// Arguments may hold `{prompt}`, `{prompt_file}`, `{session}`, `{worktree}`, `{ticket}`, `{worker}` and `{branch}`.
/// An argument that is only `{model}` or `{permission}` stands for as many as those have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Start {
    /// Arguments for a new conversation.
    pub(crate) start: Vec<String>,
    /// Arguments that go on with the conversation `{session}`; absent where it cannot.
    #[serde(default)]
    pub(crate) resume: Option<Vec<String>>,
    /// Whether it reads the prompt from standard input.
    #[serde(default)]
    pub(crate) prompt_on_stdin: bool,
    /// Whether what it prints are events, one JSON object a line.
    #[serde(default)]
    pub(crate) stream: bool,
    /// Whether it tells the end of its turns by hooks; else the end of its process is the end of its work.
    #[serde(default)]
    pub(crate) hooks: bool,
}

/// How a permission mode is said to a program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Permission {
    /// By arguments.
    pub(crate) args: Vec<String>,
    /// By variables.
    pub(crate) env: BTreeMap<String, String>,
}

/// Rules by tool and pattern as part of a JSON text in a variable: at the pointer of the rule's tool, an object of
/// patterns, each with the word for what is done about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RulesIn {
    /// The variable; a permission mode may set the rest of it.
    pub(crate) env: String,
    /// Pointers by tool.
    pub(crate) tools: BTreeMap<String, String>,
    /// The words for allow, ask and deny.
    pub(crate) words: [String; 3],
}

/// How usage figures count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum UsageCount {
    /// Each figure is that of the whole conversation.
    #[default]
    Conversation,
    /// Each figure is that of the process so far.
    Process,
    /// Each figure is that of one step and adds to those before.
    Step,
}

/// What an exit code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExitMeaning {
    /// A limit was reached.
    Limit,
    /// A person has to decide something.
    NeedsPerson,
    /// It was ended from outside.
    Interrupted,
}

/// What one kind of line, or hook, means. A line that is no JSON object counts as `{"line": TEXT}`, a hook call as its
/// payload with the hook's name as `hook`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Rule {
    /// What must hold, by JSON pointer.
    #[serde(rename = "match")]
    pub(crate) all: BTreeMap<String, Test>,
    /// What must not hold.
    pub(crate) unless: BTreeMap<String, Test>,
    /// The conversation has this id.
    pub(crate) session: Option<Source>,
    /// A turn began.
    pub(crate) turn_started: bool,
    /// A call began.
    pub(crate) tool_started: Option<CallRule>,
    /// A call ended; where it was never told to begin, it did so now.
    pub(crate) tool_ended: Option<CallRule>,
    /// It said something; shown, and kept as its last word.
    pub(crate) message: Option<Source>,
    /// Shown, and nothing more.
    pub(crate) show: Option<Source>,
    /// What was used.
    pub(crate) usage: Option<UsageRule>,
    /// Its provider answered with an error that it tries again.
    pub(crate) retry: Option<Source>,
    /// Its turn ended with an error.
    pub(crate) failed: Option<FailureRule>,
    /// A person is asked for this.
    pub(crate) waiting: Option<Source>,
    /// Its turn ended.
    pub(crate) turn_ended: bool,
    /// Nothing of it is shown; by default a line that is no event is.
    pub(crate) hide: bool,
}

/// What a value must be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Test {
    /// A text that contains this.
    Contains {
        /// The part.
        contains: String,
    },
    /// There, and not null; or not there.
    Exists {
        /// Which of the two.
        exists: bool,
    },
    /// One of these.
    OneOf(Vec<serde_json::Value>),
    /// This.
    Is(serde_json::Value),
}

/// Where a value comes from: a JSON pointer when it begins with `/`, else the text itself; a list of which the first
/// that is there counts; or an object made of others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Source {
    /// A pointer or a text.
    One(String),
    /// Alternatives.
    First(Vec<Self>),
    /// Fields.
    Object(BTreeMap<String, Self>),
}

/// One end of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CallRule {
    /// Pairs start and end; absent where a call has no id and its line says both.
    #[serde(default)]
    pub(crate) id: Option<Source>,
    /// The tool.
    #[serde(default)]
    pub(crate) tool: Option<Source>,
    /// What it is given.
    #[serde(default)]
    pub(crate) input: Option<Source>,
    /// How it ended, first match first; `ok` where none is given, `error` where none matches. An exit code other than
    /// 0 makes an error of `ok`.
    #[serde(default)]
    pub(crate) outcome: Vec<OutcomeRule>,
    /// What went wrong.
    #[serde(default)]
    pub(crate) error: Option<Source>,
    /// Exit code of a command.
    #[serde(default)]
    pub(crate) exit_code: Option<Source>,
    /// What the tool returned, for its size.
    #[serde(default)]
    pub(crate) output: Option<Source>,
    /// Pointers to when it began and ended, in milliseconds.
    #[serde(default)]
    pub(crate) time_ms: Option<[String; 2]>,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutcomeRule {
    /// What must hold; nothing always holds.
    #[serde(rename = "match", default)]
    pub(crate) all: BTreeMap<String, Test>,
    /// Then it ended so.
    pub(crate) is: super::tool_call::ToolOutcome,
}

/// What was used: figures that are missing count as 0, several are added up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UsageRule {
    /// Pointers to input tokens, cached ones included.
    pub(crate) input: Vec<String>,
    /// Pointers to output tokens.
    pub(crate) output: Vec<String>,
    /// Pointer to US dollars.
    #[serde(default)]
    pub(crate) cost_usd: Option<String>,
}

/// A turn that ended with an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FailureRule {
    /// Why.
    pub(crate) reason: Source,
    /// What must hold for the same thing to be worth another try; nothing never holds.
    #[serde(default)]
    pub(crate) transient: BTreeMap<String, Test>,
}
