//! Any bytes in the place of `node.toml`, and of `hcl.toml` on the boot partition: no panic, what is read says the same once more, and
//! what is wrong is said in one line.

#![no_main]

use hcl_firstboot::config::{NodeConfig, Overrides};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(config) = NodeConfig::parse(text, "node.toml") {
            assert_eq!(NodeConfig::parse(&config.to_toml(), "node.toml").ok(), Some(config));
        }
    }
    match Overrides::parse(data, "hcl.toml") {
        // On top of any configuration it gives one that is right.
        Ok(overrides) => {
            let config = NodeConfig::default().with(&overrides);
            assert_eq!(NodeConfig::parse(&config.to_toml(), "node.toml").ok(), Some(config));
        }
        Err(error) => assert!(!error.to_string().contains('\n')),
    }
});
