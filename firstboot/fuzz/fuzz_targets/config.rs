//! Any text in the place of `node.toml`: no panic, and what is read says the same once more.

#![no_main]

use hcl_firstboot::config::NodeConfig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(config) = NodeConfig::parse(text, "node.toml") {
        assert_eq!(NodeConfig::parse(&config.to_toml(), "node.toml").ok(), Some(config));
    }
});
