//! The query of a request: read, changed and written again. Order and repeated keys stay.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{filters::Filters, refusal::Refusal};

/// Everything but what a query may hold as it is.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Keys and values, decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads what stands after the question mark. Bytes that are no UTF-8 are replaced; nothing fails.
    pub fn parse(text: &str) -> Self {
        let decode = |text: &str| {
            let text = text.replace('+', " ");
            percent_decode_str(&text).decode_utf8_lossy().into_owned()
        };
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Self(pairs.map(|(key, value)| (decode(key), decode(value))).collect())
    }

    /// The first value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.all(key).next()
    }

    /// All values of `key`.
    pub fn all<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(own, _)| own == key).map(|(_, value)| value.as_str())
    }

    /// Whether `key` is switched on, by an engine's rule.
    pub fn flag(&self, key: &str) -> bool {
        let value = self.get(key).unwrap_or_default().trim().to_ascii_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// Takes `key` away and gives its first value.
    pub fn take(&mut self, key: &str) -> Option<String> {
        let value = self.get(key).map(str::to_owned);
        self.0.retain(|(own, _)| own != key);
        value
    }

    /// Gives `key` this value and no other.
    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        let value = value.into();
        match self.0.iter().position(|(own, _)| own == key) {
            Some(index) => {
                self.0[index].1 = value;
                let mut seen = false;
                self.0.retain(|(own, _)| own != key || !std::mem::replace(&mut seen, true));
            }
            None => self.0.push((key.to_owned(), value)),
        }
    }

    /// Adds a value to those that `key` has.
    pub fn push(&mut self, key: &str, value: impl Into<String>) {
        self.0.push((key.to_owned(), value.into()));
    }

    /// The filters.
    ///
    /// # Errors
    ///
    /// 400 where they are no JSON of the known forms.
    pub fn filters(&self) -> Result<Filters, Refusal> {
        self.get("filters").map_or_else(|| Ok(Filters::default()), Filters::parse)
    }

    /// Puts the filters in place of those that were there.
    pub fn set_filters(&mut self, filters: &Filters) {
        match filters.is_empty() {
            true => drop(self.take("filters")),
            false => self.set("filters", filters.to_string()),
        }
    }

    /// `path` with this query.
    pub fn on(&self, path: &str) -> String {
        let mut text = path.to_owned();
        for (index, (key, value)) in self.0.iter().enumerate() {
            text.push(if index == 0 { '?' } else { '&' });
            text.extend(utf8_percent_encode(key, ENCODED));
            text.push('=');
            text.extend(utf8_percent_encode(value, ENCODED));
        }
        text
    }
}

/// One segment of a path, such as a name, encoded; slashes stay, as names of images need them.
pub fn segment(text: &str) -> String {
    const SEGMENT: &AsciiSet = &ENCODED.remove(b'/').remove(b':').remove(b'@');
    utf8_percent_encode(text, SEGMENT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_and_written() {
        let query = Query::parse("all=1&name=a%2Fb&t=x&t=y+z&empty&=v&bad=%zz%ff");
        assert_eq!(query.get("name"), Some("a/b"));
        assert_eq!(query.all("t").collect::<Vec<_>>(), ["x", "y z"]);
        assert_eq!(query.get("empty"), Some(""));
        assert_eq!(query.get("bad"), Some("%zz\u{fffd}"));
        assert_eq!(Query::parse(&query.on("")[1..]), query);
        assert_eq!(Query::default().on("/info"), "/info");
    }

    #[test]
    fn flags_as_an_engine_reads_them() {
        for (text, on) in
            [("f=1", true), ("f=true", true), ("f=x", true), ("f=0", false), ("f=False", false), ("f=", false), ("", false)]
        {
            assert_eq!(Query::parse(text).flag("f"), on, "{text}");
        }
    }

    #[test]
    fn changed() {
        let mut query = Query::parse("a=1&b=2&a=3");
        query.set("a", "4");
        assert_eq!(query.on(""), "?a=4&b=2");
        assert_eq!(query.take("a"), Some("4".to_owned()));
        query.set("c", "/");
        assert_eq!(query.on("/x"), "/x?b=2&c=%2F");
    }

    #[test]
    fn segments() {
        assert_eq!(segment("library/nginx:1.2@sha256:0"), "library/nginx:1.2@sha256:0");
        assert_eq!(segment("a b?c#d"), "a%20b%3Fc%23d");
    }
}
