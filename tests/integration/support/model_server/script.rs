//! What the scripted model says: scripts as data, and the place in them that a conversation has come to.

use std::collections::BTreeMap;

use serde_json::Value;

/// What starts a marker in a prompt.
const MARKER: &str = "SCRIPT:";

/// How the agent tells the model that a person stopped the turn before.
const INTERRUPTED: &str = "[Request interrupted by user";

/// How the agent begins, inside a tool result, a message that a person sent while a tool ran (measured with 2.1.329).
const STEERED: &str = "The user sent a new message while you were working:\n";

/// What ends such a message: the agent's own explanation of it, or its frame.
const STEERED_END: [&str; 2] = ["\n\nThis is how Claude Code surfaces", "\n</system-reminder>"];

/// One block of a model's message.
#[derive(Debug, Clone)]
pub(crate) enum Block {
    /// Text for the person.
    Text(String),
    /// A call of one of the agent's tools.
    Call {
        /// The tool, such as `Write`.
        tool: String,
        /// Its input; `{name}` in any string is replaced.
        input: Value,
    },
}

/// A text block.
pub(crate) fn say(text: &str) -> Block {
    Block::Text(text.to_owned())
}

/// A tool call block.
pub(crate) fn call(tool: &str, input: Value) -> Block {
    Block::Call { tool: tool.to_owned(), input }
}

/// What may go wrong instead of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// An error answer with this HTTP status, such as 429, 500, 529 or 401.
    Status(u16),
    /// The connection closes in the middle of the event stream.
    Cut,
    /// Nothing comes, not even a header, until the script is released; then the turn.
    HangBefore,
    /// The turn's blocks come, but the message does not end until the script is released.
    HangAfter,
}

/// A fault and how often it happens.
#[derive(Debug, Clone)]
pub(super) struct PlannedFault {
    /// What goes wrong.
    pub(super) fault: Fault,
    /// How many times in one session; `None` is every time.
    pub(super) times: Option<u32>,
}

/// One message of the model.
#[derive(Debug, Clone, Default)]
struct Turn {
    /// Its blocks in order.
    blocks: Vec<Block>,
    /// What goes wrong with it.
    fault: Option<PlannedFault>,
}

/// The messages of one conversation, in order. The agent asks for the next one with the results of the tools that the last one
/// called, so every turn but the last should hold a call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script {
    /// The turns.
    turns: Vec<Turn>,
}

impl Script {
    /// A script without turns.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a turn of several blocks: text, calls that run in parallel.
    pub(crate) fn turn(mut self, blocks: Vec<Block>) -> Self {
        self.turns.push(Turn { blocks, fault: None });
        self
    }

    /// Adds a turn of one text.
    pub(crate) fn say(self, text: &str) -> Self {
        self.turn(vec![say(text)])
    }

    /// Adds a turn of one tool call.
    pub(crate) fn call(self, tool: &str, input: Value) -> Self {
        self.turn(vec![call(tool, input)])
    }

    /// Makes the turn added last go wrong every time it is asked for.
    pub(crate) fn failing(self, fault: Fault) -> Self {
        self.with_fault(PlannedFault { fault, times: None })
    }

    /// Makes the turn added last go wrong the first `times` times in each session, so that a retry gets through.
    pub(crate) fn failing_at_first(self, fault: Fault, times: u32) -> Self {
        self.with_fault(PlannedFault { fault, times: Some(times) })
    }

    /// Gives the turn added last a fault; a script without turns gets an empty one.
    fn with_fault(mut self, fault: PlannedFault) -> Self {
        if self.turns.is_empty() {
            self.turns.push(Turn::default());
        }
        if let Some(last) = self.turns.last_mut() {
            last.fault = Some(fault);
        }
        self
    }

    /// The blocks of turn `index` with variables filled in, and its fault. Past the end the model has nothing more to do and says so.
    pub(super) fn turn_at(
        &self,
        index: usize,
        variables: &BTreeMap<String, String>,
    ) -> (Vec<Block>, Option<&PlannedFault>) {
        let Some(turn) = self.turns.get(index) else {
            return (vec![say("The script has ended.")], None);
        };
        let filled = turn.blocks.iter().map(|block| match block {
            Block::Text(text) => Block::Text(fill(text, variables)),
            Block::Call { tool, input } => Block::Call { tool: tool.clone(), input: fill_all(input, variables) },
        });
        (filled.collect(), turn.fault.as_ref())
    }
}

/// Where a conversation stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The script its last marker names.
    pub(super) script: String,
    /// How many turns of it have been answered with tool results.
    pub(super) turn: usize,
    /// The `key=value` words behind the marker.
    pub(super) parameters: BTreeMap<String, String>,
}

/// Finds the place: the last user message with a marker decides, and each message with tool results behind it is one turn.
///
/// `None` if the user's last word names no script: a prompt without a marker ends the script before it. Text that comes
/// along with a tool result (a person steering a busy agent) does not, unless the person interrupted the tool.
pub(super) fn place(body: &Value) -> Option<Place> {
    let mut place: Option<Place> = None;
    let mut turn_ended = false;
    for message in messages(body) {
        match message["role"].as_str() {
            Some("assistant") => turn_ended = blocks(message, "tool_use").next().is_none(),
            Some("user") => {
                let told = told(message);
                if let Some(marked) = told.iter().rev().find_map(|text| parse_marker(text)) {
                    place = Some(marked);
                } else if turn_ended || told.iter().any(|text| text.starts_with(INTERRUPTED)) {
                    place = None;
                } else if let Some(place) = place.as_mut().filter(|_| has_result(message)) {
                    place.turn += 1;
                }
                turn_ended = false;
            }
            _ => {}
        }
    }
    place
}

/// Reads `SCRIPT:name key=value ...` up to the end of its line.
fn parse_marker(text: &str) -> Option<Place> {
    let at = text.rfind(MARKER)? + MARKER.len();
    let line = text[at..].lines().next()?;
    let mut words = line.split_whitespace();
    let is_name = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let script: String = words.next()?.chars().take_while(is_name).collect();
    let parameters =
        words.map_while(|word| word.split_once('=')).map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    (!script.is_empty()).then_some(Place { script, turn: 0, parameters })
}

/// Whether the request wants JSON of a given shape: the agent asking for a title, not a turn of the conversation.
pub(super) fn asks_for_json(body: &Value) -> bool {
    !body["output_config"]["format"].is_null()
}

/// The values for `{name}`, weakest first: `cwd` as the agent states it, the server's, the marker's.
pub(super) fn variables(body: &Value, of_server: &BTreeMap<String, String>, place: &Place) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    if let Some(cwd) = working_directory(body) {
        variables.insert("cwd".to_owned(), cwd);
    }
    variables.extend(of_server.clone());
    variables.extend(place.parameters.clone());
    variables
}

/// The agent's working directory, which it tells the model in a line of its own.
fn working_directory(body: &Value) -> Option<String> {
    let told = messages(body).iter().flat_map(texts);
    std::iter::once(system_text(body)).chain(told).find_map(|text| {
        let (_, rest) = text.split_once("orking directory: ")?;
        rest.lines().next().map(|line| line.trim().to_owned())
    })
}

/// The system prompt as one text.
pub(super) fn system_text(body: &Value) -> String {
    match &body["system"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    }
}

/// What the user said, in order: the texts of all user messages, and what steered a running turn.
pub(super) fn user_texts(body: &Value) -> Vec<String> {
    messages(body).iter().filter(|message| message["role"] == "user").flat_map(told).collect()
}

/// The texts of one user message, tool results left out but for what a person said while the tool ran.
fn told(message: &Value) -> Vec<String> {
    let results = blocks(message, "tool_result").flat_map(texts).collect::<Vec<_>>();
    let steered = results.iter().flat_map(|result| result.split(STEERED).skip(1)).map(|rest| {
        let end = STEERED_END.iter().filter_map(|end| rest.find(end)).min().unwrap_or(rest.len());
        rest[..end].to_owned()
    });
    steered.chain(texts(message)).collect()
}

/// Whether a message answers tool calls.
fn has_result(message: &Value) -> bool {
    blocks(message, "tool_result").next().is_some()
}

/// The text of each tool result and whether it was an error.
pub(super) fn tool_results(body: &Value) -> Vec<(String, bool)> {
    let results = messages(body).iter().flat_map(|message| blocks(message, "tool_result"));
    results.map(|result| (texts(result).join("\n"), result["is_error"] == true)).collect()
}

/// The messages of a request.
fn messages(body: &Value) -> &[Value] {
    body["messages"].as_array().map_or(&[], Vec::as_slice)
}

/// The content blocks of one type.
fn blocks<'a>(message: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    message["content"].as_array().into_iter().flatten().filter(move |block| block["type"] == kind)
}

/// The texts in a `content`, which may be one string or a list of blocks.
fn texts(message: &Value) -> Vec<String> {
    match &message["content"] {
        Value::String(text) => vec![text.clone()],
        _ => blocks(message, "text").filter_map(|block| block["text"].as_str()).map(str::to_owned).collect(),
    }
}

/// Replaces each known `{name}` in a text; other braces stay.
fn fill(text: &str, variables: &BTreeMap<String, String>) -> String {
    variables.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
}

/// Replaces each known `{name}` in every string of a JSON value.
fn fill_all(value: &Value, variables: &BTreeMap<String, String>) -> Value {
    match value {
        Value::String(text) => Value::String(fill(text, variables)),
        Value::Array(items) => items.iter().map(|item| fill_all(item, variables)).collect(),
        Value::Object(entries) => entries.iter().map(|(key, item)| (key.clone(), fill_all(item, variables))).collect(),
        other => other.clone(),
    }
}
