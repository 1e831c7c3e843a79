//! Expressions such as `node==master`, `region!=~us*`, `node==/node-[01]/`.
//!
//! A key, an operator, `~` if the expression is soft, a value. The characters that may stand in a key and a value are classic
//! Swarm's. A value between slashes is a regular expression and matches anywhere; any other matches from end to end, with `*` for
//! any characters. (Classic Swarm made a regular expression of those too, so that a dot matched anything and
//! `operatingsystem==Debian GNU/Linux 13 (trixie)` nothing; here everything but the star stands for itself.)

use std::fmt;

use regex_lite::{Regex, RegexBuilder};
use thiserror::Error;

use super::glob;

/// Longest expression in bytes.
const LONGEST: usize = 1024;
/// Most expressions of a family.
pub(super) const MOST: usize = 100;
/// What a compiled regular expression may weigh, in bytes; its running time grows with it.
const REGEX_SIZE: usize = 64 * 1024;

/// What an expression is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// The node: `constraint:`.
    Constraint,
    /// What is on the node already: `affinity:`.
    Affinity,
    /// What classic Swarm did when the node was lost: `reschedule:`, a word and no expression.
    Reschedule,
}

impl Family {
    /// As in front of the colon.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Constraint => "constraint",
            Self::Affinity => "affinity",
            Self::Reschedule => "reschedule",
        }
    }
}

/// An expression that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("invalid {} '{expression}': {wrong}", family.name())]
pub struct BadExpression {
    /// Which kind.
    pub family: Family,
    /// The expression as it was given, shortened if it is very long.
    pub expression: String,
    /// What is wrong with it.
    pub wrong: Wrong,
}

impl BadExpression {
    pub(super) fn new(family: Family, expression: &str, wrong: Wrong) -> Self {
        let mut shown: String = expression.chars().take(200).flat_map(char::escape_debug).collect();
        if expression.chars().nth(200).is_some() {
            shown.push('…');
        }
        Self { family, expression: shown, wrong }
    }
}

/// What is wrong with an expression. The first three texts begin as classic Swarm's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Wrong {
    /// Neither `==` nor `!=` is in it.
    #[error("One of operator ==, != is expected")]
    Operator,
    /// The key is not a letter or underscore followed by letters, digits, `-`, `_` or `.`.
    #[error("Key '{0}' is invalid; it takes two characters at least, letters, digits and -_. and no digit first")]
    Key(String),
    /// The value is empty or has a character that no value has.
    #[error("Value '{0}' is invalid; it takes letters, digits, blanks and :-_.*/()?+[]\\^$|")]
    Value(String),
    /// What stands between the slashes is no regular expression.
    #[error("{0}")]
    Regex(String),
    /// It is longer than 1024 bytes.
    #[error("it is longer than {LONGEST} bytes")]
    Long,
    /// There are more than 100 of its kind.
    #[error("it is one of more than {MOST}")]
    Many,
    /// The label that keeps such expressions does not hold a list of them.
    #[error("label {0} is not a JSON list of strings")]
    Label(&'static str),
    /// The container's labels are no object, so that the expression cannot be kept there.
    #[error("it cannot be kept: Labels is not an object")]
    NoLabels,
    /// There is more than one policy.
    #[error("too many reschedule policies")]
    Policies,
    /// A policy that classic Swarm did not have.
    #[error("invalid reschedule policy; there are off and on-node-failure")]
    Policy,
}

/// How key and value compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `==`
    Equal,
    /// `!=`
    Unequal,
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "==",
            Self::Unequal => "!=",
        })
    }
}

/// A constraint or an affinity. `Display` writes it without the mark of a soft one, as classic Swarm's errors do.
#[derive(Debug, Clone)]
pub struct Expression {
    key: String,
    operator: Operator,
    value: String,
    soft: bool,
    pattern: Pattern,
}

#[derive(Debug, Clone)]
enum Pattern {
    /// The value is a text with stars.
    Glob,
    /// The value stands for itself.
    Exact,
    Regex(Regex),
}

impl Expression {
    /// Reads `KEY==VALUE` or `KEY!=VALUE`.
    ///
    /// # Errors
    ///
    /// [`BadExpression`], which names the expression.
    pub fn parse(family: Family, text: &str) -> Result<Self, BadExpression> {
        Self::read(text).map_err(|wrong| BadExpression::new(family, text, wrong))
    }

    /// `key==value` where the value stands for itself whatever its characters: for the API's own wishes, such as the one node that
    /// has the image.
    #[must_use]
    pub fn exactly(key: &str, value: &str) -> Self {
        let (key, value) = (key.to_owned(), value.to_owned());
        Self { key, operator: Operator::Equal, value, soft: false, pattern: Pattern::Exact }
    }

    /// The same, given up when no node satisfies it.
    #[must_use]
    pub fn soft(self) -> Self {
        Self { soft: true, ..self }
    }

    fn read(text: &str) -> Result<Self, Wrong> {
        if text.len() > LONGEST {
            return Err(Wrong::Long);
        }
        // `==` is looked for first, wherever it stands.
        let found = [("==", Operator::Equal), ("!=", Operator::Unequal)].into_iter();
        let mut found = found.filter_map(|(sign, operator)| text.split_once(sign).map(|(key, value)| (key, operator, value)));
        let (key, operator, value) = found.next().ok_or(Wrong::Operator)?;
        if !is_key(key) {
            return Err(Wrong::Key(key.escape_debug().to_string()));
        }
        if !is_value(value) {
            return Err(Wrong::Value(value.escape_debug().to_string()));
        }
        let (value, soft) = value.strip_prefix('~').map_or((value, false), |value| (value, true));
        let pattern = match value.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
            None => Pattern::Glob,
            Some(regex) => RegexBuilder::new(regex)
                .size_limit(REGEX_SIZE)
                .build()
                .map(Pattern::Regex)
                .map_err(|error| Wrong::Regex(format!("regular expression: {error}")))?,
        };
        Ok(Self { key: key.to_owned(), operator, value: value.to_owned(), soft, pattern })
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The operator.
    #[must_use]
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// The value without the mark of a soft expression.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether it is given up when no node satisfies it.
    #[must_use]
    pub fn is_soft(&self) -> bool {
        self.soft
    }

    /// Whether one of the texts matches or, for `!=`, none of them.
    #[must_use]
    pub fn holds<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> bool {
        let matches = texts.into_iter().any(|text| match &self.pattern {
            Pattern::Glob => glob::matches(&self.value, text),
            Pattern::Exact => self.value == text,
            Pattern::Regex(regex) => regex.is_match(text),
        });
        matches == (self.operator == Operator::Equal)
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        let same = |a: &Pattern, b: &Pattern| matches!(a, Pattern::Exact) == matches!(b, Pattern::Exact);
        (&self.key, self.operator, &self.value, self.soft) == (&other.key, other.operator, &other.value, other.soft)
            && same(&self.pattern, &other.pattern)
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.key, self.operator, self.value)
    }
}

/// `^(?i)[a-z_][a-z0-9\-_.]+$`
fn is_key(key: &str) -> bool {
    let mut bytes = key.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    first && key.len() > 1 && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// `^(?i)[=!\/]?(~)?[a-z0-9:\-_\s\.\*/\(\)\?\+\[\]\\\^\$\|]+$`
fn is_value(value: &str) -> bool {
    let rest = value.strip_prefix(['=', '!', '/']).unwrap_or(value);
    let rest = rest.strip_prefix('~').unwrap_or(rest);
    // A slash may be the one in front or be part of what must follow.
    let is_character = |byte: u8| byte.is_ascii_alphanumeric() || b":-_ \t\n\r\x0c.*/()?+[]\\^$|".contains(&byte);
    (!rest.is_empty() || value == "/") && rest.bytes().all(is_character)
}

#[cfg(test)]
mod tests {
    use super::{
        Expression, Family,
        Operator::{self, Equal, Unequal},
    };

    fn parse(text: &str) -> Expression {
        Expression::parse(Family::Constraint, text).unwrap()
    }

    fn error(text: &str) -> String {
        Expression::parse(Family::Constraint, text).unwrap_err().to_string()
    }

    #[test]
    fn expressions_are_read() {
        let table: &[(&str, &str, Operator, bool, &str)] = &[
            ("node==node1", "node", Equal, false, "node1"),
            ("node!=node1", "node", Unequal, false, "node1"),
            ("region==~us*", "region", Equal, true, "us*"),
            ("region!=~us*", "region", Unequal, true, "us*"),
            ("NoDe==Node1", "NoDe", Equal, false, "Node1"),
            ("no.de-1_x==a", "no.de-1_x", Equal, false, "a"),
            ("_n==_node1", "_n", Equal, false, "_node1"),
            ("node==*node*", "node", Equal, false, "*node*"),
            ("node==node 1", "node", Equal, false, "node 1"),
            ("image==localhost:5000/test:1.0", "image", Equal, false, "localhost:5000/test:1.0"),
            ("node==/(?i)^[a-b]+c*(n|b)$/", "node", Equal, false, "/(?i)^[a-b]+c*(n|b)$/"),
            ("node!=/foo\\[bar\\]/", "node", Unequal, false, "/foo\\[bar\\]/"),
            ("node==~/node\\d/", "node", Equal, true, "/node\\d/"),
            // One more sign belongs to the value, and a tilde after it is none of ours.
            ("node===x", "node", Equal, false, "=x"),
            ("node==!x", "node", Equal, false, "!x"),
            ("node==!~x", "node", Equal, false, "!~x"),
            ("node==/", "node", Equal, false, "/"),
            ("node==/~x/", "node", Equal, false, "/~x/"),
        ];
        for (text, key, operator, soft, value) in table {
            let read = parse(text);
            let found = (read.key(), read.operator(), read.is_soft(), read.value());
            assert_eq!(found, (*key, *operator, *soft, *value), "{text}");
        }
    }

    #[test]
    fn bad_expressions_are_named() {
        for (text, wrong) in [
            ("", "One of operator ==, != is expected"),
            ("1node", "One of operator ==, != is expected"),
            ("node", "One of operator ==, != is expected"),
            ("node=x", "One of operator ==, != is expected"),
            ("node<x", "One of operator ==, != is expected"),
            ("1node==x", "Key '1node' is invalid"),
            ("==x", "Key '' is invalid"),
            // Classic Swarm's expression wanted two characters.
            ("n==x", "Key 'n' is invalid"),
            ("node ==x", "Key 'node ' is invalid"),
            ("no*de==x", "Key 'no*de' is invalid"),
            ("no$de==x", "Key 'no$de' is invalid"),
            ("-node==x", "Key '-node' is invalid"),
            ("nöde==x", "Key 'nöde' is invalid"),
            // `==` is looked for first.
            ("a!=b==c", "Key 'a!=b' is invalid"),
            ("node!==x", "Key 'node!' is invalid"),
            ("node==", "Value '' is invalid"),
            ("node!=", "Value '' is invalid"),
            ("node==~", "Value '~' is invalid"),
            ("node==~~x", "Value '~~x' is invalid"),
            ("node===", "Value '=' is invalid"),
            ("node==a,b", "Value 'a,b' is invalid"),
            ("node==a@b", "Value 'a@b' is invalid"),
            ("node==ä", "Value 'ä' is invalid"),
            ("node==a\u{b}b", "Value 'a\\u{b}b' is invalid"),
            ("node==/a{2}/", "Value '/a{2}/' is invalid"),
            // Look-ahead: Go's expressions had none either, and the characters for it are no characters of a value.
            ("node==/(?!x)/", "Value '/(?!x)/' is invalid"),
            ("node==/(?=x)/", "Value '/(?=x)/' is invalid"),
            ("node==/(/", "regular expression: "),
            ("node==/[a/", "regular expression: "),
            ("node!=~/*/", "regular expression: "),
        ] {
            let error = error(text);
            assert!(error.starts_with(&format!("invalid constraint '{}'", text.escape_debug())), "{error}");
            assert!(error.contains(wrong), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn nothing_is_too_big() {
        let long = format!("node=={}", "x".repeat(1019));
        assert!(error(&long).contains("longer than 1024 bytes"));
        assert!(error(&long).len() < 400);
        let nested = format!("node==/{}x{}/", "(".repeat(400), ")".repeat(400));
        assert!(error(&nested).contains("regular expression"), "{}", error(&nested));
        let heavy = format!("node==/{}/", "[\\w\\W]".repeat(160));
        assert!(parse(&heavy).holds(["x".repeat(160).as_str()]));
        // Back-tracking would not come back.
        let slow = format!("node==/{}{}/", "x?".repeat(30), "x".repeat(30));
        assert!(parse(&slow).holds(["x".repeat(30).as_str()]));
        assert!(!parse("node==/^(x+x+)+$/").holds([format!("{}y", "x".repeat(2000)).as_str()]));
    }

    #[test]
    fn values_match() {
        for (text, texts, holds) in [
            ("node==foo", &["foo"][..], true),
            ("node==foo", &["bar"], false),
            ("node==foo", &["foo", "bar"], true),
            ("node==foo", &["Foo"], false),
            ("node==foo", &["afoob"], false),
            ("node==foo", &[], false),
            ("node!=foo", &["foo"], false),
            ("node!=foo", &["bar"], true),
            ("node!=foo", &["foo", "bar"], false),
            ("node!=foo", &["bar", "foo"], false),
            ("node!=foo", &[], true),
            ("node==f*o", &["fuo"], true),
            ("node!=f*o", &["foo", "bar"], false),
            ("node==*", &[""], true),
            ("node==*", &[], false),
            ("region!=us*", &["us-east"], false),
            ("region!=us*", &["eu", ""], true),
            ("node==/node[12]/", &["node2"], true),
            ("node==/node[12]/", &["node3"], false),
            // Not anchored.
            ("node==/ode/", &["node3"], true),
            ("node==/^ode/", &["node3"], false),
            ("node==/(?i)node1/", &["NoDe1"], true),
            ("node!=/node-[01]/", &["node-1"], false),
            ("node!=/foo\\[bar\\]/", &["foo[bar]"], false),
            ("node==//", &["anything"], true),
            ("node==/", &["/"], true),
            ("node==/a", &["/a"], true),
            ("node==~foo", &["foo"], true),
            // Only a star is special outside slashes.
            ("node==a.c", &["abc"], false),
            ("node==a|b", &["a"], false),
            ("operatingsystem==Debian GNU/Linux 13 (trixie)", &["Debian GNU/Linux 13 (trixie)"], true),
        ] {
            assert_eq!(parse(text).holds(texts.iter().copied()), holds, "{text} {texts:?}");
        }
    }

    #[test]
    fn exact_values_are_not_patterns() {
        let image = Expression::exactly("image", "a*@sha256:0");
        assert!(image.holds(["a*@sha256:0"]));
        assert!(!image.holds(["ab@sha256:0"]));
        assert_eq!(image.to_string(), "image==a*@sha256:0");
        assert!(!image.is_soft() && image.clone().soft().is_soft());
        assert_ne!(Expression::exactly("node", "a"), parse("node==a"));
    }
}
