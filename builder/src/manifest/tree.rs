//! TOML as a tree whose every key and value knows where it was written.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use super::place::Place;

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub place: Place,
    pub value: Value,
}

/// A TOML value. Dates are texts: no key takes one.
#[derive(Clone, Debug)]
pub(super) enum Value {
    String(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Datetime(String),
    Array(Vec<Node>),
    Table(Table),
    /// Was wrong and has been reported; stands here so that its neighbours keep their index.
    Dropped,
}

/// Keys in alphabetical order, each with its own place.
pub(super) type Table = BTreeMap<String, Entry>;

/// A key's place and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub key: Place,
    pub node: Node,
}

/// What is wrong at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// Where; `None` when it is something missing.
    pub place: Option<Place>,
    /// What, as a sentence that names the key.
    pub message: String,
}

impl Problem {
    pub fn at(place: Place, message: impl Into<String>) -> Self {
        Self { place: Some(place), message: message.into() }
    }
}

/// Parses a whole file.
pub(super) fn parse_file(text: &str, source: usize) -> Result<Table, Vec<Problem>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut problems: Vec<Problem> = errors.iter().map(|error| syntax(error, source)).collect();
    let table = convert_table(table.get_ref(), source, &mut problems);
    if problems.is_empty() { Ok(table) } else { Err(problems) }
}

/// Parses one value; offsets count from its start.
pub(super) fn parse_value(text: &str, source: usize) -> Result<Node, Vec<Problem>> {
    let value = DeValue::parse(text).map_err(|error| vec![syntax(&error, source)])?;
    let mut problems = Vec::new();
    let node = convert(value.get_ref(), Place { source, offset: 0 }, source, &mut problems);
    if problems.is_empty() { Ok(node) } else { Err(problems) }
}

/// Parses a dotted key.
pub(super) fn parse_key(text: &str) -> Option<Vec<String>> {
    let line = format!("{text} = 0");
    if text.contains(['\n', '=', '#']) {
        return None;
    }
    let table = DeTable::parse(&line).ok()?;
    let mut keys = Vec::new();
    let mut table = table.get_ref();
    loop {
        let (key, value) = table.iter().next()?;
        keys.push(key.get_ref().to_string());
        match value.get_ref() {
            DeValue::Table(next) => table = next,
            _ => return Some(keys),
        }
    }
}

fn syntax(error: &toml::de::Error, source: usize) -> Problem {
    let offset = error.span().map_or(0, |span| span.start);
    Problem::at(Place { source, offset }, format!("not valid TOML: {}", error.message().replace('\n', ", ")))
}

fn convert_table(table: &DeTable<'_>, source: usize, problems: &mut Vec<Problem>) -> Table {
    let entry = |(key, value): (&toml::Spanned<std::borrow::Cow<'_, str>>, &toml::Spanned<DeValue<'_>>)| {
        let at = |span: std::ops::Range<usize>| Place { source, offset: span.start };
        let node = convert(value.get_ref(), at(value.span()), source, problems);
        (key.get_ref().to_string(), Entry { key: at(key.span()), node })
    };
    table.iter().map(entry).collect()
}

fn convert(value: &DeValue<'_>, place: Place, source: usize, problems: &mut Vec<Problem>) -> Node {
    let value = match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => {
                problems.push(Problem::at(place, format!("`{}` is too big a number", number.as_str())));
                Value::Dropped
            }
        },
        DeValue::Float(number) => number.as_str().parse().map_or(Value::Dropped, Value::Float),
        DeValue::Boolean(truth) => Value::Boolean(*truth),
        DeValue::Datetime(moment) => Value::Datetime(moment.to_string()),
        DeValue::Array(items) => {
            let item = |item: &toml::Spanned<DeValue<'_>>| {
                let place = Place { source, offset: item.span().start };
                convert(item.get_ref(), place, source, problems)
            };
            Value::Array(items.iter().map(item).collect())
        }
        DeValue::Table(table) => Value::Table(convert_table(table, source, problems)),
    };
    Node { place, value }
}

/// Lays `upper` over `lower`: tables are merged key by key, everything else is replaced whole.
///
/// `base` and the tables in `images` are the exceptions: each has one table a kind of source, and naming another kind
/// replaces the whole.
pub(super) fn merge(lower: &mut Table, upper: Table) {
    merge_at(&mut Vec::new(), lower, upper);
}

/// The kinds of source that a container image can have.
const IMAGE_KINDS: [&str; 4] = ["debian", "binary", "archive", "registry"];

/// [`merge`] of what stands at `path`.
fn merge_at(path: &mut Vec<String>, lower: &mut Table, upper: Table) {
    for (key, entry) in upper {
        path.push(key.clone());
        let other_kind = |below: &Table, above: &Table| {
            let other = |kind: &String| !below.contains_key(kind);
            match path.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
                ["base"] => above.keys().any(other),
                ["images", _] => above.keys().filter(|key| IMAGE_KINDS.contains(&key.as_str())).any(other),
                _ => false,
            }
        };
        match (lower.get_mut(&key).map(|below| &mut below.node.value), entry) {
            (Some(Value::Table(below)), Entry { node: Node { value: Value::Table(above), .. }, .. })
                if !other_kind(below, &above) =>
            {
                merge_at(path, below, above);
            }
            (_, entry) => {
                lower.insert(key, entry);
            }
        }
        path.pop();
    }
}

/// Marks what stands at `path` as dealt with; false when there is nothing (any more).
pub(super) fn drop_at(root: &mut Node, path: &[String]) -> bool {
    let Some((first, rest)) = path.split_first() else { return false };
    let child = match &mut root.value {
        Value::Table(table) => table.get_mut(first).map(|entry| &mut entry.node),
        Value::Array(items) => first.parse().ok().and_then(|index: usize| items.get_mut(index)),
        _ => None,
    };
    match child {
        None | Some(Node { value: Value::Dropped, .. }) => false,
        Some(child) if rest.is_empty() => {
            child.value = Value::Dropped;
            true
        }
        Some(child) => drop_at(child, rest),
    }
}
