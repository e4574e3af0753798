//! YAML as a tree that knows where it came from.
//!
//! The YAML crate tells positions only with its errors. So a place is kept as the way to it (which entry of
//! which map), and is turned into line and column when an error needs them, by reading the text again up to
//! there and failing on purpose.

use std::cell::RefCell;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::error::{ConfigError, Position, Problem};
use super::fill::fill;

/// Reads a YAML text of our own shape, such as a data file, with the errors of a configuration file.
pub(crate) fn parse_yaml<T: DeserializeOwned>(file: &Path, text: &str) -> Result<T, ConfigError> {
    let source = Source::file(file, text);
    Ok(fill(&source.parse()?)?)
}

/// A text and its name in messages.
#[derive(Debug)]
pub(super) struct Source {
    /// How messages call it.
    name: String,
    /// The whole text, for snippets.
    text: String,
    /// The YAML in it, with empty lines in place of what stands before, so that line numbers agree.
    yaml: String,
    /// Whether positions mean anything to a person; not so for variables and flags.
    has_positions: bool,
}

impl Source {
    /// A file that is YAML from the first to the last line.
    pub(super) fn file(path: &Path, text: &str) -> Arc<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self::part(path, text.to_owned(), text.to_owned())
    }

    /// A file with YAML in a part of it; `yaml` has empty lines before that part.
    pub(super) fn part(path: &Path, text: String, yaml: String) -> Arc<Self> {
        Arc::new(Self { name: path.display().to_string(), text, yaml, has_positions: true })
    }

    /// A value from the environment or the command line; `name` says which.
    pub(super) fn value(name: &str, text: &str) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), text: text.to_owned(), yaml: text.to_owned(), has_positions: false })
    }

    /// Reads the YAML. An empty text is [`Value::Null`].
    pub(super) fn parse(self: &Arc<Self>) -> Result<Node, Problem> {
        let build = Build { source: self, trail: Vec::new() };
        let node = build.deserialize(serde_yaml::Deserializer::from_str(&self.yaml)).map_err(|e| self.explain(&e))?;
        node.refuse_duplicates()?;
        Ok(node)
    }

    /// The whole text as one value.
    pub(super) fn text_node(self: &Arc<Self>) -> Node {
        Build { source: self, trail: Vec::new() }.node(Value::Text(self.text.clone()))
    }

    /// A problem in this text at `position`.
    pub(super) fn problem(&self, position: Option<Position>, message: impl Into<String>) -> Problem {
        let problem = Problem::in_file(self.name.clone(), message);
        match position.filter(|_| self.has_positions) {
            Some(position) => problem.at(position, &self.text),
            None => problem,
        }
    }

    /// Words for an error of the YAML crate.
    fn explain(&self, error: &serde_yaml::Error) -> Problem {
        let position = error.location().map(|at| Position { line: at.line(), column: at.column() });
        let line = position.and_then(|at| self.yaml.lines().nth(at.line.saturating_sub(1))).unwrap_or_default();
        let indentation = &line[..line.len() - line.trim_start().len()];
        if let Some(tab) = indentation.chars().position(|c| c == '\t') {
            let position = position.map(|at| Position { column: tab + 1, ..at });
            return self.problem(position, "tab in the indentation").with_hint("indent with spaces");
        }
        if position.is_none() && serde_yaml::Deserializer::from_str(&self.yaml).take(2).count() > 1 {
            return self.problem(None, "a line `---` begins a second document, and only one is read");
        }
        let problem = self.problem(position, format!("not valid YAML: {}", without_position(&error.to_string())));
        let value = line.split_once(": ").map_or(line, |(_, value)| value).trim_start_matches(['-', ' ']);
        match value.chars().next() {
            Some(first @ ('{' | '[' | '*' | '&' | '!' | '%' | '@' | '`' | '"' | '\'')) => {
                problem.with_hint(format!("a text that begins with `{first}` must stand in quotes as a whole"))
            }
            _ => problem,
        }
    }

    /// Line and column of a place; `None` when the text cannot be read that far.
    fn locate(&self, trail: &[usize], goal: Goal<'_>) -> Option<Position> {
        let error = Walk { trail, goal }.deserialize(serde_yaml::Deserializer::from_str(&self.yaml)).err()?;
        error.location().map(|at| Position { line: at.line(), column: at.column() })
    }

    /// A scalar as written, without its quotes: `1.10` and not the number 1.1.
    fn raw(&self, trail: &[usize]) -> Option<String> {
        let raw = RefCell::new(None);
        self.locate(trail, Goal::Raw(&raw));
        raw.into_inner()
    }
}

/// Cuts the first line and column out of a message of the YAML crate, which we show in our own way. A second
/// pair stays: it tells where the thing began that is wrong here, such as a quote that is never closed.
fn without_position(message: &str) -> String {
    let Some((before, after)) = message.split_once(" at line ") else {
        return message.to_owned();
    };
    let after = after.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start_matches(" column ");
    format!("{before}{}", after.trim_start_matches(|c: char| c.is_ascii_digit()))
}

/// Where a value stands: the entry or item number on each level.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// In which text.
    source: Arc<Source>,
    /// The way to it.
    trail: Vec<usize>,
}

impl Place {
    /// A problem with the value here.
    pub(super) fn problem(&self, message: impl Into<String>) -> Problem {
        self.source.problem(self.source.locate(&self.trail, Goal::Value), message)
    }

    /// A place in the same text that is not the whole of it, for a map that only we see.
    pub(super) fn inside(&self) -> Self {
        Self { source: Arc::clone(&self.source), trail: vec![0] }
    }

    /// A problem with the key of the value here.
    pub(super) fn key_problem(&self, message: impl Into<String>) -> Problem {
        self.source.problem(self.source.locate(&self.trail, Goal::Key), message)
    }
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Where it stands.
    pub(super) place: Place,
    /// What it is.
    pub(super) value: Value,
}

/// What YAML can say.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Nothing, `null` or `~`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// Another number.
    Float(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// Keys and values in the order written.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// A map that stands where `place` says, made by us.
    pub(super) fn map_at(place: &Place, entries: Vec<(String, Self)>) -> Self {
        Self { place: place.clone(), value: Value::Map(entries) }
    }

    /// The value of a key of this map; `None` when this is no map or has no such key.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// An item of this list.
    pub(super) fn item(&self, index: usize) -> Option<&Self> {
        match &self.value {
            Value::List(items) => items.get(index),
            _ => None,
        }
    }

    /// The text of a scalar as written; `None` for lists and maps. What a person gave as a flag or variable is
    /// text as a whole where text is wanted, whatever YAML makes of it.
    pub(super) fn text(&self) -> Option<String> {
        match &self.value {
            Value::Text(text) => Some(text.clone()),
            _ if self.place.trail.is_empty() && !self.place.source.has_positions => {
                Some(self.place.source.text.clone())
            }
            Value::List(_) | Value::Map(_) | Value::Null => None,
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => self.place.source.raw(&self.place.trail),
        }
    }

    /// The value in a few words, for `found ...`.
    pub(super) fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "keys and values".to_owned(),
            _ => match self.text() {
                Some(text) if text.chars().count() <= 40 => format!("`{text}`"),
                _ => "a text".to_owned(),
            },
        }
    }

    /// Fails on the second of two equal keys, at any depth.
    fn refuse_duplicates(&self) -> Result<(), Problem> {
        match &self.value {
            Value::List(items) => items.iter().try_for_each(Self::refuse_duplicates),
            Value::Map(entries) => {
                for (index, (key, node)) in entries.iter().enumerate() {
                    if entries[..index].iter().any(|(earlier, _)| earlier == key) {
                        return Err(node.place.key_problem(format!("the key `{key}` is there twice")));
                    }
                    node.refuse_duplicates()?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Builds the tree.
struct Build<'a> {
    /// The text it is read from.
    source: &'a Arc<Source>,
    /// The way to the value that comes next.
    trail: Vec<usize>,
}

impl Build<'_> {
    /// The node of a value that was just read.
    fn node(self, value: Value) -> Node {
        Node { place: Place { source: Arc::clone(self.source), trail: self.trail }, value }
    }

    /// The builder of the value with this number inside this one.
    fn inner(&self, index: usize) -> Self {
        let trail = self.trail.iter().copied().chain([index]).collect();
        Self { source: self.source, trail }
    }
}

impl<'de> DeserializeSeed<'de> for Build<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Build<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(self.node(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(self.node(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(self.node(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(self.node(Value::Int(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(self.node(Value::Int(value.into())))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
        Ok(self.node(Value::Int(value)))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Node, E> {
        Ok(self.node(Value::Int(i128::try_from(value).unwrap_or(i128::MAX))))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(self.node(Value::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(self.node(Value::Text(value.to_owned())))
    }

    fn visit_enum<A: de::EnumAccess<'de>>(self, _: A) -> Result<Node, A::Error> {
        Err(A::Error::custom("a tag such as `!name` has no meaning here"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(self.inner(items.len()))? {
            items.push(item);
        }
        Ok(self.node(Value::List(items)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = access.next_key::<String>()? {
            let value = access.next_value_seed(self.inner(entries.len()))?;
            entries.push((key, value));
        }
        Ok(self.node(Value::Map(entries)))
    }
}

/// Walks to a place and fails there on purpose, so that the error tells the position.
#[derive(Clone, Copy)]
struct Walk<'a> {
    /// The rest of the way.
    trail: &'a [usize],
    /// What is wanted at its end.
    goal: Goal<'a>,
}

/// What a walk wants.
#[derive(Clone, Copy)]
enum Goal<'a> {
    /// The position of the key of the last entry.
    Key,
    /// The position of the value.
    Value,
    /// The scalar as written.
    Raw(&'a RefCell<Option<String>>),
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.goal {
            Goal::Raw(_) if self.trail.is_empty() => deserializer.deserialize_str(self),
            _ => deserializer.deserialize_any(self),
        }
    }
}

/// Values that are not overridden here fail by serde's own default, which is what a walk wants at its end.
impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        if let (Goal::Raw(raw), []) = (self.goal, self.trail) {
            *raw.borrow_mut() = Some(text.to_owned());
        }
        Err(E::custom("here"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let Some((&index, trail)) = self.trail.split_first() else {
            return Err(A::Error::custom("here"));
        };
        for _ in 0..index {
            access.next_element::<IgnoredAny>()?;
        }
        access.next_element_seed(Walk { trail, ..self })?;
        Err(A::Error::custom("not there"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let Some((&index, trail)) = self.trail.split_first() else {
            return Err(A::Error::custom("here"));
        };
        for _ in 0..index {
            access.next_entry::<IgnoredAny, IgnoredAny>()?;
        }
        if trail.is_empty() && matches!(self.goal, Goal::Key) {
            access.next_key_seed(Walk { trail, goal: Goal::Value })?;
        } else {
            access.next_key::<IgnoredAny>()?;
            access.next_value_seed(Walk { trail, ..self })?;
        }
        Err(A::Error::custom("not there"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_a_data_file_have_places() {
        let error = parse_yaml::<Vec<u8>>(Path::new("x.yaml"), "- 1\n- 300\n").unwrap_err();
        assert_eq!(error.to_string(), "x.yaml:2:3: `[1]`: expected a whole number from 0 to 255, found `300`");
    }

    #[test]
    fn a_value_behind_an_anchor_is_placed_where_it_is_written() {
        let error = parse_yaml::<Vec<Vec<u8>>>(Path::new("x.yaml"), "- &a [1, x]\n- *a\n").unwrap_err();
        assert_eq!(error.to_string(), "x.yaml:1:10: `[0][1]`: expected a whole number from 0 to 255, found `x`");
    }

    #[test]
    fn a_text_that_grows_without_end_is_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let inner = vec![format!("*a{}", level - 1); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
        }
        let error = parse_yaml::<serde_json::Value>(Path::new("x.yaml"), &text).unwrap_err();
        assert_eq!(error.to_string(), "x.yaml: not valid YAML: repetition limit exceeded");
        let deep = "[".repeat(10_000);
        assert!(parse_yaml::<serde_json::Value>(Path::new("x.yaml"), &deep).is_err());
    }
}
