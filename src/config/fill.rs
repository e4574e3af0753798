//! Fills our types from a YAML tree, with errors in our words.
//!
//! A type that derives `Deserialize` is enough: its field names are the valid keys, its variants the valid
//! words. Unknown keys fail at any depth. A key without a value is an empty list or map, as in `gates:` with
//! every example below it commented out.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};

use super::error::Problem;
use super::yaml::{Node, Value};

/// Reads a value of type `T` from a tree.
pub(super) fn fill<T: DeserializeOwned>(node: &Node) -> Result<T, Problem> {
    T::deserialize(Reader(node)).map_err(|fault| fault.at(node).into_problem())
}

/// A problem on its way out, gathering the place where it arose and the keys that lead there.
#[derive(Debug)]
struct Fault {
    /// What is wrong, without the path; still without a place until [`Fault::at`] was called.
    problem: Problem,
    /// Whether the place is known.
    placed: bool,
    /// Whether the message names the key itself.
    names_key: bool,
    /// Keys and indexes from the innermost out.
    path: Vec<String>,
}

impl Fault {
    /// A fault without a place yet.
    fn new(message: impl Into<String>) -> Self {
        Self { problem: Problem::new(message), placed: false, names_key: false, path: Vec::new() }
    }

    /// Puts it at a value unless it has a place.
    fn at(mut self, node: &Node) -> Self {
        if !self.placed {
            let mut placed = node.place.problem(std::mem::take(&mut self.problem.message));
            placed.valid = self.problem.valid.take();
            placed.hint = self.problem.hint.take();
            self.problem = placed;
            self.placed = true;
        }
        self
    }

    /// Notes that it arose below `key` of a map or an item of a list.
    fn below(mut self, step: String) -> Self {
        self.path.push(step);
        self
    }

    /// The problem with its path in front.
    fn into_problem(self) -> Problem {
        let mut path = String::new();
        for step in self.path.iter().rev() {
            if !path.is_empty() && !step.starts_with('[') {
                path.push('.');
            }
            path.push_str(step);
        }
        let mut problem = self.problem;
        if self.names_key && !path.is_empty() {
            problem.message.push_str(&format!(" in `{path}`"));
        } else if !path.is_empty() {
            problem.message = format!("`{path}`: {}", problem.message);
        }
        problem
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(f)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn missing_field(field: &'static str) -> Self {
        Self { names_key: true, ..Self::new(format!("the key `{field}` is missing")) }
    }
}

/// Reads one node; borrowed, because errors need its place afterwards.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a Node);

impl Reader<'_> {
    /// The error for a value of the wrong kind.
    fn wrong(self, expected: &str) -> Fault {
        Fault::new(format!("expected {expected}, found {}", self.0.describe())).at(self.0)
    }

    /// A whole number within the bounds of its type.
    fn whole(self, low: i128, high: i128) -> Result<i128, Fault> {
        match self.0.value {
            Value::Int(number) if (low..=high).contains(&number) => Ok(number),
            _ if high > i128::from(u32::MAX) => Err(self.wrong("a whole number")),
            _ => Err(self.wrong(&format!("a whole number from {low} to {high}"))),
        }
    }
}

/// Reads whole numbers, checked against the bounds of the type.
macro_rules! whole_numbers {
    ($($method:ident $visit:ident $type:ty),+ $(,)?) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            let number = self.whole(<$type>::MIN.into(), <$type>::MAX.into())?;
            visitor.$visit(<$type>::try_from(number).map_err(|_| self.wrong("a whole number"))?)
        }
    )+};
}

impl<'de> de::Deserializer<'de> for Reader<'_> {
    type Error = Fault;

    whole_numbers! {
        deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16, deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64, deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64,
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Int(value) => match (u64::try_from(*value), i64::try_from(*value)) {
                (Ok(value), _) => visitor.visit_u64(value),
                (_, Ok(value)) => visitor.visit_i64(value),
                _ => Err(self.wrong("a smaller number")),
            },
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_str(text),
            Value::List(_) => self.deserialize_seq(visitor),
            Value::Map(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0.value {
            Value::Bool(value) => visitor.visit_bool(value),
            _ => Err(self.wrong("true or false")),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0.value {
            Value::Float(value) if value.is_finite() => visitor.visit_f64(value),
            #[expect(clippy::cast_precision_loss, reason = "an amount that large has no cents")]
            Value::Int(value) => visitor.visit_f64(value as f64),
            _ => Err(self.wrong("a number")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0.text() {
            Some(text) => visitor.visit_string(text),
            None => Err(self.wrong("a text")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Fault> {
        Err(self.wrong("something other than bytes"))
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0.value {
            Value::Null => visitor.visit_unit(),
            _ => Err(self.wrong("nothing")),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.value {
            Value::List(items) => visitor.visit_seq(Items { rest: items, index: 0 }),
            Value::Null => visitor.visit_seq(Items { rest: &[], index: 0 }),
            Value::Map(_) => Err(self.wrong("a list")),
            _ => {
                let mut fault = self.wrong("a list");
                fault.problem.hint = Some("write it in brackets, `[...]`, or on lines that begin with `- `".to_owned());
                Err(fault)
            }
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.value {
            Value::Map(entries) => visitor.visit_map(Entries { rest: entries, value: None }),
            Value::Null => visitor.visit_map(Entries { rest: &[], value: None }),
            _ => Err(self.wrong("keys and values")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let entries = match &self.0.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Null => &[],
            _ => {
                let fault = self.wrong("keys and values");
                return Err(Fault { problem: fault.problem.with_valid("valid keys", fields, ""), ..fault });
            }
        };
        let unknown = entries.iter().find(|(key, _)| !fields.contains(&key.as_str()));
        let Some((key, node)) = unknown else {
            return self.deserialize_map(visitor);
        };
        let problem = node.place.key_problem(format!("unknown key `{key}`")).with_valid("valid keys", fields, key);
        Err(Fault { problem, placed: true, names_key: true, path: Vec::new() })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.0.text() {
            Some(word) if variants.contains(&word.as_str()) => {
                let word: StrDeserializer<'_, Fault> = word.as_str().into_deserializer();
                visitor.visit_enum(word)
            }
            found => {
                let problem = self.0.place.problem(format!("unknown value {}", self.0.describe()));
                let problem = problem.with_valid("valid values", variants, found.as_deref().unwrap_or_default());
                Err(Fault { problem, placed: true, names_key: false, path: Vec::new() })
            }
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }
}

/// The items of a list.
struct Items<'a> {
    /// Those not read yet.
    rest: &'a [Node],
    /// The number of the next one.
    index: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some((node, rest)) = self.rest.split_first() else {
            return Ok(None);
        };
        let step = format!("[{}]", self.index);
        self.rest = rest;
        self.index += 1;
        seed.deserialize(Reader(node)).map(Some).map_err(|fault| fault.at(node).below(step))
    }
}

/// The entries of a map.
struct Entries<'a> {
    /// Those not read yet.
    rest: &'a [(String, Node)],
    /// The entry whose key was read.
    value: Option<&'a (String, Node)>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let Some((entry, rest)) = self.rest.split_first() else {
            return Ok(None);
        };
        self.rest = rest;
        self.value = Some(entry);
        let key: StrDeserializer<'_, Fault> = entry.0.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Fault> {
        let (key, node) = self.value.take().expect("serde asks for a value after its key");
        seed.deserialize(Reader(node)).map_err(|fault| fault.at(node).below(key.clone()))
    }
}
