//! Any bytes in the place of the black box, and of one slot with its checksum put right: no panic, and what is read says the same once
//! more.

#![no_main]

use hcl_firstboot::blackbox::{BlackBox, Record, SIZE, SLOT};
use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};

fuzz_target!(|data: &[u8]| {
    let _ = Record::parse(data);
    // As many slots as fit, in a file of the right length.
    let mut file = BlackBox::blank();
    let length = data.len().min(SIZE - SLOT);
    file[SLOT..SLOT + length].copy_from_slice(&data[..length]);
    if let Ok(known) = BlackBox::parse(&file) {
        let _ = (known.boots(), known.damaged(), known.next_slot());
    }
    let text = &data[..data.len().min(SLOT - 200)];
    let digest = Sha256::new().chain_update(format!("7 3 {}\n", text.len())).chain_update(text).finalize();
    let sum = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>();
    let slot = [format!("=== hcl record 7, boot 3, {} bytes, sum {sum} ===\r\n", text.len()).as_bytes(), text].concat();
    if let Ok(record) = Record::parse(&slot) {
        assert!(record.to_slot().len() == SLOT);
        let again = Record::parse(&record.to_slot()).expect("what we write we can read");
        assert_eq!((again.number, again.boot), (7, 3));
    }
});
