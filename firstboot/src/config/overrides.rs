//! `hcl.toml` on the boot partition: the few keys of `node.toml` that a person may change from a laptop, card in hand.
//!
//! The boot partition is a FAT that any system can edit, so the file may have come through any editor: a byte-order mark and CRLF
//! are fine. The node does not guess: what is wrong in the file is named, and the node stops, since any guess could be the wrong
//! network.

use std::{fs::File, io::Read, path::Path};

use serde::Deserialize;

use super::{ConfigError, NodeConfig, Vlan, WiredInterface, misplaced};

/// The folder where a node has its boot partition.
pub const BOOT_FOLDER: &str = "/boot/firmware";
/// The file's name on the boot partition.
pub const OVERRIDES: &str = "hcl.toml";
/// How long the file may be, in bytes: it is read on every boot, and nobody writes so much by hand.
pub const LONGEST: usize = 16 << 10;

/// What the file says. Keys that it does not name stay as `node.toml` has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Overrides {
    /// Which wired interface carries the cluster.
    pub interface: Option<WiredInterface>,
    /// The cluster's 802.1Q VLAN on that interface, or none.
    pub vlan: Option<Vlan>,
}

impl Overrides {
    /// Reads the file in `folder`. A file, folder or partition that is not there overrides nothing.
    ///
    /// # Errors
    ///
    /// The file is there and cannot be read, or something in it is wrong.
    pub fn read(folder: &Path) -> Result<Self, ConfigError> {
        use std::io::ErrorKind::{NotADirectory, NotFound};
        let path = folder.join(OVERRIDES);
        let name = path.display().to_string();
        let mut bytes = Vec::new();
        // One byte more shows that it is too long.
        let read = File::open(&path).and_then(|file| file.take(LONGEST as u64 + 1).read_to_end(&mut bytes));
        match read {
            Ok(_) => Self::parse(&bytes, &name),
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(Self::default()),
            Err(source) => Err(ConfigError::Read { path: name, source }),
        }
    }

    /// Reads the overrides from a file's content; `name` is what errors call it.
    ///
    /// # Errors
    ///
    /// It is too long, no UTF-8, no TOML, or a key in it is wrong or not to be changed here.
    pub fn parse(bytes: &[u8], name: &str) -> Result<Self, ConfigError> {
        if bytes.len() > LONGEST {
            return Err(ConfigError::whole(name, format!("has more than {LONGEST} bytes: leave only the lines that you need")));
        }
        if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
            return Err(ConfigError::whole(name, "is UTF-16: save it once more, with the encoding UTF-8"));
        }
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = std::str::from_utf8(text).map_err(|error| {
            let line = text[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
            ConfigError::at(name, line, "has a letter that is no UTF-8: save the file once more, with the encoding UTF-8")
        })?;
        if let Some(line) = text.lines().position(|line| code(line).contains(['“', '”', '„', '‘', '’'])) {
            return Err(ConfigError::at(name, line + 1, "has curly quotation marks: write straight ones, as in \"off\""));
        }
        toml::from_str(text).map_err(|error| misplaced(text, name, &error))
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// In words, for the log.
    pub fn describe(&self) -> String {
        let interface = self.interface.as_ref().map(|interface| format!("interface = {interface}"));
        let vlan = self.vlan.map(|vlan| format!("vlan = {vlan}"));
        interface.into_iter().chain(vlan).collect::<Vec<_>>().join(", ")
    }

    /// The file that an image for `config` begins with: all keys with a comment, none of them set. CRLF, since the Notepad of older
    /// Windows shows nothing else as lines.
    pub fn template(config: &NodeConfig) -> String {
        let interface = &config.interface;
        let vlan = match config.vlan {
            Vlan::Off => "\"off\"".to_owned(),
            Vlan::Id(id) => id.to_string(),
        };
        format!(
            "# Changes how this card is set up, without a new image. To use a line, take the # in front of it away,\n\
             # change the value, save the file, put the card back and power on. A line with an error stops the node:\n\
             # it does nothing then, its green LED blinks once every few seconds, and hcl-log.txt says what is wrong.\n\
             # Everything else is set when the image is built.\n\
             \n\
             # The wired interface that carries the cluster, or \"auto\": the first one that has a cable in it.\n\
             #interface = \"{interface}\"\n\
             \n\
             # The number of the cluster's VLAN, 1 to 4094, or \"off\" where the nodes have a switch of their own.\n\
             # The same on every card of the lab, or they do not find each other.\n\
             #vlan = {vlan}\n"
        )
        .replace('\n', "\r\n")
    }
}

/// A line without its comment; good enough to look for what has no place in code.
fn code(line: &str) -> &str {
    line.split('#').next().unwrap_or_default()
}

impl NodeConfig {
    /// What a node works with: the file at `path`, and on top of it what `hcl.toml` in `boot` says.
    ///
    /// # Errors
    ///
    /// One of the two is wrong.
    pub fn on_node(path: &Path, boot: &Path) -> Result<(Self, Overrides), ConfigError> {
        let config = Self::read(path)?;
        let overrides = Overrides::read(boot)?;
        Ok((config.with(&overrides), overrides))
    }

    /// The same for a user who may not read the boot partition, which is root's: without what it says then.
    ///
    /// # Errors
    ///
    /// One of the two is wrong.
    pub fn as_far_as_seen(path: &Path, boot: &Path) -> Result<Self, ConfigError> {
        match Overrides::read(boot) {
            Err(ConfigError::Read { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => Self::read(path),
            _ => Self::on_node(path, boot).map(|(config, _)| config),
        }
    }

    /// This configuration with `overrides` on top.
    pub fn with(mut self, overrides: &Overrides) -> Self {
        if let Some(interface) = &overrides.interface {
            self.interface = interface.clone();
        }
        self.vlan = overrides.vlan.unwrap_or(self.vlan);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: impl AsRef<[u8]>) -> Result<Overrides, String> {
        Overrides::parse(text.as_ref(), "n").map_err(|error| error.to_string())
    }

    #[test]
    fn what_editors_make_of_it() {
        let wanted = Overrides { interface: Some("eth1".parse().unwrap()), vlan: Some(Vlan::Off) };
        for text in [
            "interface = \"eth1\"\nvlan = \"off\"\n",
            "interface = \"eth1\"\r\nvlan = \"off\"\r\n",
            "\u{feff}interface = \"eth1\"\r\nvlan = \"off\"",
            "# “quoted”\n\tinterface='eth1' # ’\nvlan='off'",
        ] {
            assert_eq!(parsed(text), Ok(wanted.clone()), "{text:?}");
        }
        assert_eq!(parsed(""), Ok(Overrides::default()));
        assert_eq!(parsed("\u{feff}"), Ok(Overrides::default()));
    }

    #[test]
    fn the_template_changes_nothing_and_each_line_of_it_works() {
        for config in ["", "vlan = \"off\"\ninterface = \"enx00e04c680001\""] {
            let config: NodeConfig = config.parse().unwrap();
            let template = Overrides::template(&config);
            assert!(parsed(&template).unwrap().is_empty());
            assert_eq!(template.matches('\n').count(), template.matches("\r\n").count());
            let used = template.replace("#interface", "interface").replace("#vlan", "vlan");
            let overrides = parsed(used).unwrap();
            assert!(overrides.interface.is_some() && overrides.vlan.is_some());
            assert_eq!(config.clone().with(&overrides), config);
        }
    }

    #[test]
    fn bad_files_are_named_with_the_fix() {
        let long = " ".repeat(LONGEST + 1);
        let table: [(&[u8], &str); 12] = [
            (b"vlan = 5000", "n:1: key `vlan`: invalid value: integer `5000`, expected a VLAN id from 1 to 4094, or \"off\""),
            (b"\r\nvlan = off", "n:2: key `vlan`: "),
            (
                b"vlan = \"none\"",
                "n:1: key `vlan`: invalid value: string \"none\", expected a VLAN id from 1 to 4094, or \"off\"",
            ),
            (b"interface = \"eth 0\"", "n:1: key `interface`: "),
            (b"subnet = \"10.0.0.0/24\"", "n:1: key `subnet`: unknown field `subnet`, expected `interface` or `vlan`"),
            (b"vlna = 3", "n:1: key `vlna`: unknown field `vlna`, expected `interface` or `vlan`"),
            (b"vlan = 3\nvlan = 4", "n:2: key `vlan`: duplicate key"),
            (b"#\nvlan = \xe2\x80\x9coff\xe2\x80\x9d", "n:2: has curly quotation marks: write straight ones"),
            (b"\xff\xfev\0l\0", "n: is UTF-16: save it once more"),
            (b"#\n#\nvlan = \"\xe4\"", "n:3: has a letter that is no UTF-8"),
            (b"vlan = 3\0", "n:1: key `vlan`: "),
            (long.as_bytes(), "n: has more than 16384 bytes"),
        ];
        for (text, expected) in table {
            let error = parsed(text).expect_err(expected);
            assert!(error.starts_with(expected), "{error}\nnot\n{expected}");
            assert!(!error.contains(['\n', '\r']), "{error:?}");
        }
    }

    #[test]
    fn on_top_of_the_nodes_own_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.toml");
        std::fs::write(&path, "vlan = 7\ninterface = \"eth0\"\n").unwrap();
        let boot = folder.path().join("boot");
        let load = || NodeConfig::on_node(&path, &boot).map(|(config, _)| config).map_err(|error| error.to_string());
        // No partition, then no file.
        assert_eq!(load().unwrap().vlan.to_string(), "7");
        std::fs::create_dir(&boot).unwrap();
        assert_eq!(load().unwrap().vlan.to_string(), "7");
        std::fs::write(boot.join(OVERRIDES), "vlan = 8\r\n").unwrap();
        let config = load().unwrap();
        assert_eq!((config.vlan.to_string(), config.interface.to_string()), ("8".into(), "eth0".into()));
        std::fs::write(boot.join(OVERRIDES), "vlan = 0\r\n").unwrap();
        assert!(load().unwrap_err().contains("boot/hcl.toml:1: key `vlan`: invalid value: integer `0`"));
        std::fs::remove_file(boot.join(OVERRIDES)).unwrap();
        std::fs::create_dir(boot.join(OVERRIDES)).unwrap();
        assert!(load().unwrap_err().contains("boot/hcl.toml: Is a directory"));
    }
}
