//! Where a value was written: in which file at which offset, or in which `--set`.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, Serialize, de};

/// A point in one of the [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Place {
    /// Index into the sources.
    pub source: usize,
    /// Bytes from the start of its text.
    pub offset: usize,
}

/// One text that values come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A manifest file.
    File {
        /// As the user or an `include` named it.
        path: PathBuf,
        /// Its content.
        text: String,
    },
    /// `--set KEY=VALUE`, as typed.
    Set(String),
}

/// All texts of one load, in the order read.
#[derive(Clone, Debug, Default)]
pub struct Sources(Vec<Source>);

impl Sources {
    /// Adds a text; its index.
    pub fn add(&mut self, source: Source) -> usize {
        self.0.push(source);
        self.0.len() - 1
    }

    /// The folder that relative paths written at `place` start from; the working directory for `--set`.
    pub fn folder(&self, place: Place) -> &Path {
        match self.0.get(place.source) {
            Some(Source::File { path, .. }) => path.parent().unwrap_or(Path::new("")),
            _ => Path::new(""),
        }
    }

    /// `FILE:LINE:COLUMN`, or the `--set` as typed.
    pub fn show(&self, place: Place) -> String {
        match self.0.get(place.source) {
            Some(Source::File { path, text }) => {
                let (line, column) = line_column(text, place.offset);
                format!("{}:{line}:{column}", path.display())
            }
            // A password given by mistake is not repeated.
            Some(Source::Set(text)) => match text.split_once('=') {
                Some((key, _)) if key.contains("password") => format!("--set {key}=…"),
                _ => format!("--set {text}"),
            },
            None => "manifest".to_owned(),
        }
    }
}

/// Line and column of an offset, both from 1; columns count characters.
pub fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
}

/// A value and where it was written. Only the manifest's own decoder knows the place; another one yields the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub place: Place,
}

/// The name by which [`Placed`] asks the decoder for a place.
pub(super) const PLACED: &str = "$hcl::Placed";

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Placed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Visitor<T> {
            type Value = Placed<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Placed<T>, D::Error> {
                Ok(Placed { value: T::deserialize(deserializer)?, place: Place::default() })
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut parts: A) -> Result<Placed<T>, A::Error> {
                let mut next = || parts.next_element::<usize>().map(Option::unwrap_or_default);
                let place = Place { source: next()?, offset: next()? };
                let value = parts.next_element::<T>()?.ok_or_else(|| de::Error::custom("a value is missing"))?;
                Ok(Placed { value, place })
            }
        }

        deserializer.deserialize_newtype_struct(PLACED, Visitor(std::marker::PhantomData))
    }
}

impl<T: schemars::JsonSchema> schemars::JsonSchema for Placed<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        generator.subschema_for::<T>()
    }
}

/// A file or folder on the host, named in a manifest relative to that manifest's own file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePath {
    /// As written: what lock and image record, so that they do not depend on where the project lies.
    pub written: String,
    /// Where it is, seen from the working directory.
    pub path: PathBuf,
}

impl SourcePath {
    /// The path `written` in a manifest that lies in `folder`; a leading `~/` is the home folder.
    pub fn new(written: &str, folder: &Path) -> Self {
        let home = || std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        let path = match written.strip_prefix("~/").zip(home()) {
            Some((rest, home)) => home.join(rest),
            None => folder.join(written),
        };
        Self { written: written.to_owned(), path }
    }
}

impl fmt::Display for SourcePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.path.to_string_lossy())
    }
}

impl Serialize for SourcePath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns() {
        let text = "ab\nü = 1\n";
        for (offset, expected) in [(0, (1, 1)), (2, (1, 3)), (3, (2, 1)), (5, (2, 2)), (99, (3, 1))] {
            assert_eq!(line_column(text, offset), expected, "offset {offset}");
        }
    }
}
