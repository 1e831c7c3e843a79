//! The `filters` of lists, events and prunes: JSON of the form `{"label": {"a=b": true}}`, or `{"label": ["a=b"]}` from old clients.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use regex_lite::Regex;
use serde_json::{Map, Value, json};

use super::refusal::Refusal;

/// Filters: each key's values, any of which may match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, BTreeSet<String>>);

impl Filters {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// 400 where they have none of the two forms.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let wrong = || Refusal::bad_request("invalid filter: the query's filters are not of the form {\"key\":{\"value\":true}}");
        let Ok(Value::Object(keys)) = serde_json::from_str(text) else { return Err(wrong()) };
        let mut filters = Self::default();
        for (key, values) in keys {
            let values = match values {
                // A value that is set to false does not count, as in an engine.
                Value::Object(values) => {
                    values.into_iter().filter(|(_, on)| on != &Value::Bool(false)).map(|(value, _)| value).collect()
                }
                Value::Array(values) => {
                    let texts = values.iter().map(|value| value.as_str().map(str::to_owned));
                    texts.collect::<Option<BTreeSet<_>>>().ok_or_else(wrong)?
                }
                _ => return Err(wrong()),
            };
            filters.0.insert(key, values);
        }
        Ok(filters)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is one of this key.
    pub fn has(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|values| !values.is_empty())
    }

    /// The keys that have values.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, values)| !values.is_empty()).map(|(key, _)| key.as_str())
    }

    /// The values of a key.
    pub fn all<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.0.get(key).into_iter().flatten().map(String::as_str)
    }

    /// Takes the values of a key away.
    pub fn take(&mut self, key: &str) -> BTreeSet<String> {
        self.0.remove(key).unwrap_or_default()
    }

    /// Adds a value to a key.
    pub fn add(&mut self, key: &str, value: impl Into<String>) {
        self.0.entry(key.to_owned()).or_default().insert(value.into());
    }

    /// Whether `value` is one of the key's, or the key has none.
    pub fn exact(&self, key: &str, value: &str) -> bool {
        !self.has(key) || self.all(key).any(|own| own == value)
    }

    /// Whether one of the key's values, as text or as a regular expression, is in `value`; or the key has none.
    pub fn matches(&self, key: &str, value: &str) -> bool {
        !self.has(key) || self.all(key).any(|own| own == value || Regex::new(own).is_ok_and(|pattern| pattern.is_match(value)))
    }
}

/// As they stand in a query, not yet encoded.
impl fmt::Display for Filters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values =
            |values: &BTreeSet<String>| values.iter().map(|value| (value.clone(), Value::Bool(true))).collect::<Map<_, _>>();
        let keys: Map<_, _> = self.0.iter().map(|(key, own)| (key.clone(), json!(values(own)))).collect();
        write!(f, "{}", Value::Object(keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(text: &str) -> Filters {
        Filters::parse(text).expect(text)
    }

    #[test]
    fn both_forms() {
        let new = filters(r#"{"label":{"a=b":true,"c":true,"off":false},"name":{"x":true}}"#);
        assert_eq!(new, filters(r#"{"label":["a=b","c"],"name":["x"]}"#));
        assert_eq!(filters(&new.to_string()), new);
        assert_eq!(filters(""), Filters::default());
        for wrong in ["[]", "{", "{\"a\":1}", "{\"a\":[1]}", "null", "\u{0}"] {
            assert!(Filters::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn matching() {
        let name = filters(r#"{"name":["^web","a("]}"#);
        for (value, fits) in [("webserver", true), ("myweb", false), ("a(", true), ("a", false)] {
            assert_eq!(name.matches("name", value), fits, "{value}");
        }
        assert!(name.matches("id", "anything"));
        assert!(name.exact("status", "running"));
    }

    #[test]
    fn taken_and_added() {
        let mut own = filters(r#"{"node":["n1"],"name":["x"]}"#);
        assert_eq!(own.take("node").into_iter().collect::<Vec<_>>(), ["n1"]);
        assert!(!own.has("node"));
        own.add("label", "a");
        assert_eq!(own.to_string(), r#"{"label":{"a":true},"name":{"x":true}}"#);
    }
}
