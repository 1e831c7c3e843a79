//! Random values from the seed that the driver gives at the start.

use std::time::Duration;

use sha2::{Digest, Sha256};

/// SHA-256 of seed and counter: enough for ids and back-off times, and the same again in a replay.
#[derive(Clone, Debug)]
pub struct Random {
    seed: [u8; 32],
    counter: u64,
}

impl Random {
    /// All that comes is made of `seed`.
    pub fn new(seed: [u8; 32]) -> Self {
        Self { seed, counter: 0 }
    }

    /// The next `N` bytes, 32 at most.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        const { assert!(N <= 32) };
        self.counter += 1;
        let block = Sha256::new().chain_update(self.seed).chain_update(self.counter.to_be_bytes()).finalize();
        std::array::from_fn(|place| block[place])
    }

    /// From zero up to, but not, `end`.
    pub fn below(&mut self, end: u32) -> u32 {
        // The bias of 64 bits over 32 is beyond notice.
        (u64::from_be_bytes(self.bytes()) % u64::from(end.max(1))) as u32
    }

    /// From zero up to `longest`, in whole milliseconds.
    pub fn up_to(&mut self, longest: Duration) -> Duration {
        Duration::from_millis(self.below(longest.as_millis() as u32 + 1).into())
    }
}
