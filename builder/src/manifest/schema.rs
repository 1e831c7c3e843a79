//! What a manifest may say: as JSON Schema for editors, and as a page for people. Both come from the types that read it.

use schemars::{Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value};

use super::file::ManifestFile;

/// The JSON Schema (draft 2020-12) of a manifest file.
pub fn json() -> Schema {
    generator(false).into_root_schema_for::<ManifestFile>()
}

fn generator(inline: bool) -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = inline);
    SchemaGenerator::new(settings.for_deserialize())
}

/// The reference of all keys, in Markdown: `docs/manifest.md` is this text.
pub fn markdown() -> String {
    let schema = generator(true).into_root_schema_for::<ManifestFile>();
    let mut page = INTRODUCTION.to_owned();
    if let Some(root) = schema.as_object() {
        table("", root, &mut page);
    }
    page.push_str(CLOSING);
    page
}

const INTRODUCTION: &str = "\
# The manifest

One TOML file says what an image is made of. This page is made from the code (`hcl-image schema --markdown`); `hcl-image schema`
prints the same as JSON Schema, which editors complete and check with.

```sh
hcl-image plan manifests/debian-trixie-armhf.toml     # what a build would do
hcl-image build my.toml --set node.vlan=201           # one key changed for once
```

## Layers

- `include = \"other.toml\"` lays a manifest over another one, or over several: the later one wins, the file itself last.
- Tables are merged key by key. Everything else is replaced whole, arrays too: `packages = [\"vim\"]` replaces the list below it.
- `base` is the exception: to name `base.download` drops an included `base.bootstrap`, and the other way round.
- `--set KEY=VALUE` comes last. The value is TOML; what is no TOML is taken as text, so `--set node.subnet=10.1.0.0/24` needs no
  quotes.
- A relative path starts from the file that it is written in; in `--set`, from the working directory. `~/` is your home folder.

A small one, to put beside the project:

```toml
include = \"hypriot/manifests/debian-trixie-armhf.toml\"
name = \"kitchen\"
boards = [\"pi4\"]
packages = [\"vim\"]

[user]
ssh_keys = [{ file = \"~/.ssh/id_ed25519.pub\" }]

[node]
cluster = \"kitchen\"
```

All that is wrong in a manifest is reported at once, one line each, and the exit code is 2:

```text
kitchen.toml:3:1: unknown key `bords`: did you mean `boards`?
kitchen.toml:10:9: `node.vlan`: …
```

## Keys
";

const CLOSING: &str = "
## Container images

They lie in the engine's store before the first boot: `docker images` lists them and `docker run` starts them with nothing to
pull and nothing to load. The default manifest has Consul, HAProxy, busybox and a web server of busybox's, all from Debian, and `hcl-swarm`, which
is a program of this project and makes the cluster one Docker endpoint ([services](services.md)). One more, from each source:

```toml
[images.redis]                       # Debian packages: their files and those of what they need
reference = \"lab/redis:8\"
entrypoint = [\"/usr/bin/redis-server\"]
debian = { packages = [\"redis-server\"] }

[images.hello]                       # a static program and nothing else
reference = \"lab/hello:1\"
binary = { path = \"hello\", install = \"/hello\" }

[images.mine]                        # what `docker save` wrote, or an OCI layout
reference = \"lab/mine:2\"
archive = { path = \"mine.tar\" }

[images.other]                       # a registry, by digest
reference = \"lab/other:3\"
registry = { image = \"registry.example/lab/other@sha256:0123…\" }

[images.haproxy]                     # not wanted from an included manifest
omit = true

[images.swarm]                       # without the endpoint `tcp://master:2378`; all else works as ever
omit = true
```

- From Debian packages: no script of a package runs; `/usr` is merged; manuals, translations, init scripts and units stay out,
  `/usr/share/doc/*/copyright` stays in. Users beyond root and nobody, and folders that a script would have made, are named in
  `files`. The layer is the same bytes for the same lock.
- A saved image or one from a registry keeps its configuration byte by byte, and so its id, unless the manifest says something
  else about it: then `entrypoint`, `env`, … change the configuration, and `files` become one more layer.
- The lock pins each package by SHA-256, a file by its own, an image in a registry by its manifest's. `hcl-image plan` lists them.
- `/usr/share/hcl/image.spdx.json` in the image names the packages of each layer with the licences that their copyright files
  list, `/usr/share/hcl/image.json` the ids.

Consul comes from Debian 11 \"bullseye\", the last release with it, whose support has ended. The build names what is known to be
open in that version. It is MPL-2.0; from 1.17 on Consul is under BUSL-1.1, which is no free licence: that is for you to judge
when you give another one. For another Consul, or when bullseye has left the mirrors:

```toml
[images.consul]
reference = \"hcl/consul:1.20.2\"
archive = { path = \"consul.tar\" }    # docker save hashicorp/consul:1.20.2, pulled with --platform linux/arm/v7
entrypoint = [\"/bin/consul\"]
```

## The cluster key

It stands in no manifest. The first build for a name in `node.cluster` makes it, from the system's random source:
`~/.config/hcl-image/CLUSTER/cluster.key` (`--keys DIR` for another folder), 64 hexadecimal digits, mode 0600; later builds use it. It is laid into the image at
`/etc/hcl/cluster.key`, root:root 0600, whether the manifest names SSH keys or not. Images of one key make one cluster; copy the
file to build for the same cluster elsewhere. The lock and the summary show the cluster id, which is derived from the key and
no secret. The image file holds the key, so its mode is 0600.

`hcl-image build --no-key` lays neither the key nor a login of this machine into the image, so that it can be shared; `hcl-image key IMAGE` adds both
([who trusts whom](trust.md)).

## Sizes

A number is bytes. A text has a number and `K`, `M`, `G` or `T`, which count in 1024s: `\"256M\"`, `\"2GiB\"`.
";

/// One table of the manifest: its own keys first, then the tables in it.
fn table(name: &str, schema: &Map<String, Value>, page: &mut String) {
    let Some(Value::Object(keys)) = schema.get("properties") else { return };
    let required: Vec<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    if !name.is_empty() {
        page.push_str(&format!("\n### `{name}`\n\n"));
        if let Some(text) = schema.get("description").and_then(Value::as_str) {
            page.push_str(&format!("{}\n", one_line(text)));
        }
    }
    // The files of a container image have the keys of the manifest's own, which are explained there.
    let told = |key: &str| key == "files" && !name.is_empty();
    let (tables, plain): (Vec<_>, Vec<_>) = keys.iter().partition(|(key, value)| inner_table(value).is_some() && !told(key));
    if !plain.is_empty() {
        page.push_str("\n| key | value | meaning |\n| --- | --- | --- |\n");
    }
    for (key, value) in plain {
        let needed = if required.contains(&key.as_str()) { " **Required.**" } else { "" };
        let meaning = one_line(value.get("description").and_then(Value::as_str).unwrap_or_default());
        let default = shown_default(value).map(|default| format!(" Default: `{default}`.")).unwrap_or_default();
        let stop = if meaning.ends_with('.') { "" } else { "." };
        page.push_str(&format!("| `{key}` | {} | {meaning}{stop}{default}{needed} |\n", kind(value)));
    }
    for (key, value) in tables {
        let Some((inner, many)) = inner_table(value) else { continue };
        let prefix = if name.is_empty() { String::new() } else { format!("{}.", name.trim_matches(['[', ']'])) };
        let full = match many {
            Many::One => format!("[{prefix}{key}]"),
            Many::Array => format!("[[{prefix}{key}]]"),
            Many::Named => format!("[{prefix}{key}.NAME]"),
        };
        let mut inner = inner.clone();
        // What the key says about itself is closer to the reader than what its type says.
        if let Some(text) = value.get("description") {
            inner.insert("description".to_owned(), text.clone());
        }
        table(&full, &inner, page);
    }
}

/// How many tables a key holds.
#[derive(Clone, Copy)]
enum Many {
    One,
    Array,
    /// Under names of the user's choice.
    Named,
}

/// The table that a key holds (or many of), if it has keys of its own.
fn inner_table(value: &Value) -> Option<(&Map<String, Value>, Many)> {
    let object = value.as_object()?;
    if object.contains_key("properties") {
        return Some((object, Many::One));
    }
    if let Some(items) = object.get("items") {
        return inner_table(items).map(|(inner, _)| (inner, Many::Array));
    }
    // Names that have to fit a pattern are pattern properties.
    let named = object.get("additionalProperties").filter(|named| named.is_object());
    let named = named.or_else(|| object.get("patternProperties")?.as_object()?.values().next());
    if let Some(named) = named {
        return inner_table(named).map(|(inner, _)| (inner, Many::Named));
    }
    let choices = object.get("anyOf").and_then(Value::as_array)?;
    let tables: Vec<_> = choices.iter().filter(|choice| choice.get("type") != Some(&Value::from("null"))).collect();
    match tables.as_slice() {
        [one] => inner_table(one),
        _ => None,
    }
}

/// What may stand to the right of `=`, in a word or two.
fn kind(value: &Value) -> String {
    let choices: Vec<&Value> = ["anyOf", "oneOf"]
        .iter()
        .filter_map(|key| value.get(*key)?.as_array())
        .flatten()
        .filter(|choice| !null(choice))
        .collect();
    if let Some(word) = value.get("const").and_then(Value::as_str) {
        return format!("`\"{word}\"`");
    }
    if let Some(words) = value.get("enum").and_then(Value::as_array) {
        return words.iter().filter_map(Value::as_str).map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", ");
    }
    if !choices.is_empty() {
        let mut kinds: Vec<String> = choices.iter().map(|choice| kind(choice)).collect();
        kinds.dedup();
        let separator = if kinds.iter().all(|kind| kind.starts_with('`')) { ", " } else { " or " };
        return kinds.join(separator);
    }
    let types: Vec<&str> = match value.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).filter(|kind| *kind != "null").collect(),
        _ => Vec::new(),
    };
    let names: Vec<&str> = types
        .iter()
        .map(|kind| match *kind {
            "string" => "text",
            "integer" => "number",
            "boolean" => "`true`, `false`",
            "array" => "array",
            _ => "table",
        })
        .collect();
    match (names.as_slice(), value.get("items")) {
        (["array"], Some(items)) => match kind(items).as_str() {
            words if words.starts_with('`') => "array of words".to_owned(),
            "text" => "array of texts".to_owned(),
            other => format!("array of {other}"),
        },
        _ => names.join(" or "),
    }
}

fn null(choice: &Value) -> bool {
    choice.get("type").and_then(Value::as_str) == Some("null")
}

/// The default, unless it says nothing (`null`, an empty list).
fn shown_default(value: &Value) -> Option<String> {
    match value.get("default")? {
        Value::Null => None,
        Value::Array(items) if items.is_empty() => None,
        Value::Object(_) => None,
        other => Some(other.to_string().replace("\",\"", "\", \"")),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
