//! Reads the files of a manifest, with everything they include, and lays them and `--set` over each other.

use std::path::{Component, Path, PathBuf};

use super::{
    place::{Place, Source, Sources},
    tree::{Entry, Node, Problem, Table, Value, merge, parse_file, parse_key, parse_value},
};

/// Files include each other at most this deep: more is a mistake.
const DEEPEST: usize = 16;

/// All layers merged into one table.
pub(super) fn read(path: &Path, sets: &[String], sources: &mut Sources) -> Result<Table, Vec<Problem>> {
    let mut table = Table::new();
    read_file(path, None, &mut Vec::new(), sources, &mut table)?;
    let mut problems = Vec::new();
    for set in sets {
        if let Err(found) = apply(set, sources, &mut table) {
            problems.extend(found);
        }
    }
    if problems.is_empty() { Ok(table) } else { Err(problems) }
}

/// Lays the file at `path`, below it what it includes, over `table`. `open` are the files that are being read.
fn read_file(
    path: &Path,
    included: Option<Place>,
    open: &mut Vec<PathBuf>,
    sources: &mut Sources,
    table: &mut Table,
) -> Result<(), Vec<Problem>> {
    let fail = |message: String| Err(vec![Problem { place: included, message }]);
    let real = match std::fs::canonicalize(path) {
        Ok(real) => real,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return fail(format!("{}: no such manifest{}", path.display(), neighbour(path)));
        }
        Err(error) => return fail(format!("{}: cannot be read: {error}", path.display())),
    };
    if let Some(first) = open.iter().position(|earlier| *earlier == real) {
        let names = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let circle: Vec<String> = open[first..].iter().chain([&real]).map(names).collect();
        return fail(format!("`include` goes in a circle: {}", circle.join(" → ")));
    }
    if open.len() == DEEPEST {
        return fail(format!("`include` goes more than {DEEPEST} files deep"));
    }
    let text = match std::fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => text,
        Ok(Err(_)) => return fail(format!("{}: is no text in UTF-8", path.display())),
        Err(error) => return fail(format!("{}: cannot be read: {error}", path.display())),
    };
    let source = sources.add(Source::File { path: path.to_owned(), text: text.clone() });
    let mut layer = parse_file(&text, source)?;
    if let Some(Entry { node, .. }) = layer.remove("include") {
        open.push(real);
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut problems = Vec::new();
        for (name, place) in includes(node)? {
            if let Err(found) = read_file(&clean(&folder.join(name)), Some(place), open, sources, table) {
                problems.extend(found);
            }
        }
        open.pop();
        if !problems.is_empty() {
            return Err(problems);
        }
    }
    merge(table, layer);
    Ok(())
}

/// `a/b/../c` as `a/c`: how a person would name it. Links are not looked at, so a leading `..` stays.
fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        let inside = matches!(out.components().next_back(), Some(Component::Normal(_)));
        if part == Component::ParentDir && inside {
            out.pop();
        } else if part != Component::CurDir {
            out.push(part);
        }
    }
    out
}

fn includes(node: Node) -> Result<Vec<(String, Place)>, Vec<Problem>> {
    let wrong = |place| vec![Problem::at(place, "`include`: the path of a manifest is expected, or an array of such")];
    let one = |node: Node| match node.value {
        Value::String(name) => Ok((name, node.place)),
        _ => Err(wrong(node.place)),
    };
    match node.value {
        Value::Array(items) => items.into_iter().map(one).collect(),
        _ => one(node).map(|one| vec![one]),
    }
}

/// ": did you mean …" when the folder holds a manifest of a similar name.
fn neighbour(path: &Path) -> String {
    let wanted = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".toml").map(str::to_owned))
        .collect();
    match super::decode::nearest(&wanted, names.iter().map(String::as_str)) {
        Some(name) => format!("; did you mean `{}`?", path.with_file_name(format!("{name}.toml")).display()),
        None => String::new(),
    }
}

/// Lays one `--set KEY=VALUE` over `table`.
fn apply(set: &str, sources: &mut Sources, table: &mut Table) -> Result<(), Vec<Problem>> {
    let source = sources.add(Source::Set(set.to_owned()));
    let place = Place { source, offset: 0 };
    let fail = |message: &str| Err(vec![Problem::at(place, message)]);
    let Some((key, text)) = set.split_once('=') else {
        return fail("write it as KEY=VALUE, such as `--set node.vlan=201`");
    };
    let Some(keys) = parse_key(key.trim()) else {
        return fail("in front of `=` stands a key of the manifest, such as `node.vlan`");
    };
    if keys[0] == "include" {
        return fail("`include` cannot be set: name the manifest that you mean instead");
    }
    let node = match parse_value(text.trim(), source) {
        Ok(node) => node,
        // Whoever opens a bracket or a quote means TOML; everything else is a text that needs no quotes.
        Err(problems) if text.trim_start().starts_with(['[', '{', '"', '\'']) => return Err(problems),
        Err(_) => Node { place, value: Value::String(text.to_owned()) },
    };
    let layer = keys
        .into_iter()
        .rev()
        .fold(node, |node, key| Node { place, value: Value::Table(Table::from([(key, Entry { key: place, node })])) });
    if let Value::Table(layer) = layer.value {
        merge(table, layer);
    }
    Ok(())
}
