//! An object of JSON of which a few fields are looked at or changed; the others stay as the engine wrote them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

/// One object, for example an entry of a list.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Entry(BTreeMap<String, Box<RawValue>>);

impl Entry {
    /// Reads an engine's own words.
    ///
    /// # Errors
    ///
    /// They are no object.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// A field as the type that is expected; none where there is no such field, it is null, or of another type.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        serde_json::from_str(self.0.get(key)?.get()).ok().flatten()
    }

    /// A text; empty where there is none.
    pub fn text(&self, key: &str) -> String {
        self.get(key).unwrap_or_default()
    }

    /// A number; zero where there is none.
    pub fn number(&self, key: &str) -> i64 {
        self.get(key).unwrap_or_default()
    }

    /// A list; empty where there is none.
    pub fn list<T: DeserializeOwned>(&self, key: &str) -> Vec<T> {
        self.get(key).unwrap_or_default()
    }

    /// Sets a field.
    pub fn set(&mut self, key: &str, value: &impl Serialize) {
        // What is put in here are texts, numbers, lists and maps with texts for keys: those can always be written.
        if let Ok(value) = serde_json::value::to_raw_value(value) {
            self.0.insert(key.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_touched_stays() {
        let mut entry =
            Entry::parse(r#"{"A":18446744073709551616.5e1,"B":"x","C":null,"D":[1],"E":{"z":1,"a":2}}"#).expect("an object");
        assert_eq!((entry.text("B"), entry.text("C"), entry.text("D")), ("x".to_owned(), String::new(), String::new()));
        assert_eq!(entry.list::<i64>("D"), [1]);
        assert_eq!(entry.number("missing"), 0);
        entry.set("B", &"y");
        let text = serde_json::to_string(&entry).expect("JSON");
        assert_eq!(text, r#"{"A":18446744073709551616.5e1,"B":"y","C":null,"D":[1],"E":{"z":1,"a":2}}"#);
    }

    #[test]
    fn no_object() {
        for text in ["", "[]", "1", "{", "\u{0}"] {
            assert!(Entry::parse(text).is_err(), "{text}");
        }
    }
}
