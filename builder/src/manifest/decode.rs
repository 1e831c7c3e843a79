//! Reads Rust types from a [`Node`] tree: serde with places, and wording for people.
//!
//! serde stops at the first error. [`decode`] notes it, drops that key or value from the tree and starts again, so that
//! all wrong keys are reported at once.

use std::fmt;

use serde::{
    de::{self, DeserializeSeed, Deserializer, IntoDeserializer, Visitor},
    forward_to_deserialize_any,
};

use super::{
    place::{PLACED, Place},
    tree::{Node, Problem, Table, Value, drop_at},
};

/// After this many problems the rest would hardly be read.
const MOST: usize = 20;

/// Reads a `T`, or says everything that is wrong with it.
pub(super) fn decode<T: de::DeserializeOwned>(mut root: Node) -> Result<T, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut dropped: Vec<Vec<String>> = Vec::new();
    loop {
        match T::deserialize(&root) {
            Ok(value) if problems.is_empty() => return Ok(value),
            Ok(_) => return Err(problems),
            Err(mut error) => {
                error.path.reverse();
                // A table that lost a key to an earlier error complains of what is missing: that is no news.
                if !dropped.iter().any(|path| path.len() > error.path.len() && path.starts_with(&error.path)) {
                    problems.push(Problem { place: error.place, message: error.in_words() });
                }
                if !drop_at(&mut root, &error.path) || problems.len() == MOST {
                    return Err(problems);
                }
                dropped.push(error.path);
            }
        }
    }
}

/// An error on its way up: each level adds its key.
#[derive(Debug)]
pub(super) struct Error {
    place: Option<Place>,
    /// Keys and indices, innermost first.
    path: Vec<String>,
    what: What,
}

#[derive(Debug)]
enum What {
    /// The value does not fit.
    Value(String),
    /// The key does not exist; maybe one that does was meant.
    Key { nearest: Option<&'static str>, known: &'static [&'static str] },
    /// The value is one of a few words, but not this one.
    Word(String),
    /// A key is missing.
    Missing(&'static str),
}

impl Error {
    fn new(what: What) -> Self {
        Self { place: None, path: Vec::new(), what }
    }

    fn within(mut self, key: impl Into<String>, place: Place) -> Self {
        self.place.get_or_insert(place);
        self.path.push(key.into());
        self
    }

    /// The message; `path` is outermost first by now.
    fn in_words(&self) -> String {
        let path = dotted(&self.path);
        match &self.what {
            What::Value(message) | What::Word(message) => format!("`{path}`: {message}"),
            What::Missing(key) if path.is_empty() => format!("`{key}` is missing"),
            What::Missing(key) => format!("`{path}`: `{key}` is missing"),
            What::Key { nearest, known } => {
                let parents = self.path.split_last().map_or(&[][..], |(_, parents)| parents);
                let full = |key: &str| dotted(&parents.iter().map(String::as_str).chain([key]).collect::<Vec<_>>());
                match nearest {
                    Some(nearest) => format!("unknown key `{path}`: did you mean `{}`?", full(nearest)),
                    None => format!("unknown key `{path}`: here go {}", list(known)),
                }
            }
        }
    }
}

/// `["files", "0", "mode"]` as `files[0].mode`.
fn dotted<S: AsRef<str>>(path: &[S]) -> String {
    let mut text = String::new();
    for part in path {
        let part = part.as_ref();
        if !text.is_empty() && !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) {
            text.push_str(&format!("[{part}]"));
        } else {
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(part);
        }
    }
    text
}

fn list(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// The word that was probably meant: at most a third of it is different.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |candidate: &&str| strsim::damerau_levenshtein(&word.to_lowercase(), candidate);
    let candidate = known.into_iter().min_by_key(distance)?;
    (distance(&candidate) <= (word.chars().count().max(candidate.len()) / 3).max(1)).then_some(candidate)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.in_words())
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(What::Value(message.to_string()))
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(What::Value(format!("{} is expected, this is {}", wanted(expected), shown(found))))
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(What::Value(format!("{} is not allowed: {} is expected", shown(found), wanted(expected))))
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        let hint = nearest(word, known.iter().copied()).map(|nearest| format!("; did you mean `{nearest}`?"));
        Self::new(What::Word(format!("`{word}` is none of {}{}", list(known), hint.unwrap_or_default())))
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self::new(What::Key { nearest: nearest(key, known.iter().copied()), known })
    }

    fn missing_field(key: &'static str) -> Self {
        Self::new(What::Missing(key))
    }

    fn duplicate_field(key: &'static str) -> Self {
        Self::new(What::Value(format!("`{key}` is there twice")))
    }
}

fn wanted(expected: &dyn de::Expected) -> String {
    match expected.to_string().as_str() {
        "a string" | "string" => "a text in quotes".to_owned(),
        "a boolean" => "`true` or `false`".to_owned(),
        "a sequence" => "an array in brackets".to_owned(),
        "a map" => "a table".to_owned(),
        "u8" => "a number from 0 to 255".to_owned(),
        "u16" => "a number from 0 to 65535".to_owned(),
        "u32" => "a number from 0 to 4294967295".to_owned(),
        "u64" | "usize" => "a number from 0 on".to_owned(),
        text if text.starts_with("struct ") => "a table".to_owned(),
        text if text.starts_with("enum ") => "one of a few words in quotes".to_owned(),
        text => text.to_owned(),
    }
}

fn shown(found: de::Unexpected<'_>) -> String {
    match found {
        de::Unexpected::Bool(truth) => format!("`{truth}`"),
        de::Unexpected::Unsigned(number) => format!("the number {number}"),
        de::Unexpected::Signed(number) => format!("the number {number}"),
        de::Unexpected::Float(number) => format!("the number {number}"),
        de::Unexpected::Str(text) => format!("the text \"{}\"", text.escape_debug()),
        de::Unexpected::Seq => "an array".to_owned(),
        de::Unexpected::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.value {
            Value::String(text) => visitor.visit_str(text),
            Value::Integer(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Boolean(truth) => visitor.visit_bool(*truth),
            Value::Datetime(moment) => Err(de::Error::custom(format_args!("no date is expected here, put {moment} in quotes"))),
            Value::Array(items) => visitor.visit_seq(Items(items.iter().enumerate())),
            Value::Table(table) => visitor.visit_map(Entries { rest: table.iter(), next: None }),
            Value::Dropped => Err(de::Error::custom("was wrong already")),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        if name == PLACED { visitor.visit_seq(PlacedParts { node: self, next: 0 }) } else { visitor.visit_newtype_struct(self) }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.value {
            Value::String(word) => visitor.visit_enum(word.as_str().into_deserializer()),
            // Enums in a manifest are words; a visitor of an enum explains itself badly, so ask it for a text instead.
            _ => self.deserialize_any(Words).map(|never| match never {}),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// Takes no value at all: its only use is the error it makes.
struct Words;

enum Never {}

impl Visitor<'_> for Words {
    type Value = Never;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a word in quotes")
    }
}

struct Items<'de>(std::iter::Enumerate<std::slice::Iter<'de, Node>>);

impl<'de> de::SeqAccess<'de> for Items<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some((index, node)) = self.0.by_ref().find(|(_, node)| !matches!(node.value, Value::Dropped)) else {
            return Ok(None);
        };
        seed.deserialize(node).map(Some).map_err(|error| error.within(index.to_string(), node.place))
    }
}

struct Entries<'de> {
    rest: std::collections::btree_map::Iter<'de, String, super::tree::Entry>,
    next: Option<(&'de String, &'de super::tree::Entry)>,
}

impl<'de> de::MapAccess<'de> for Entries<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.next = self.rest.by_ref().find(|(_, entry)| !matches!(entry.node.value, Value::Dropped));
        let Some((key, entry)) = self.next else { return Ok(None) };
        let key_in_place = de::value::StrDeserializer::<Error>::new(key);
        seed.deserialize(key_in_place).map(Some).map_err(|error| error.within(key, entry.key))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let (key, entry) = self.next.take().ok_or_else(|| de::Error::custom("a value was asked for before its key"))?;
        seed.deserialize(&entry.node).map_err(|error| error.within(key, entry.node.place))
    }
}

/// The three parts that [`super::place::Placed`] is read from: source, offset, value.
struct PlacedParts<'de> {
    node: &'de Node,
    next: u8,
}

impl<'de> de::SeqAccess<'de> for PlacedParts<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.next += 1;
        match self.next {
            1 => seed.deserialize(self.node.place.source.into_deserializer()).map(Some),
            2 => seed.deserialize(self.node.place.offset.into_deserializer()).map(Some),
            3 => seed.deserialize(self.node).map(Some),
            _ => Ok(None),
        }
    }
}

/// A whole table as one node.
pub(super) fn root(table: Table) -> Node {
    Node { place: Place::default(), value: Value::Table(table) }
}
