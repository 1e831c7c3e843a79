//! Any file in the place of the record: no panic, and what is read says the same once more.
//!
//! The checksum is put right first as well, or nothing would get to the content.

#![no_main]

use hcl_firstboot::record::Record;
use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};

fuzz_target!(|data: &[u8]| {
    stable(data);
    let sum = Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    stable(&[format!("hcl 1 {sum}\n").as_bytes(), data].concat());
});

fn stable(file: &[u8]) {
    if let Ok(record) = Record::from_file(file) {
        assert_eq!(Record::from_file(&record.to_file()).ok(), Some(record));
    }
}
