//! CRC-64 as ISO 3309 defines it (polynomial x^64 + x^4 + x^3 + x + 1, reflected, inverted at both ends): the checksum that
//! tar-split keeps of every file.

/// The polynomial, lowest power in the highest bit.
const POLYNOMIAL: u64 = 0xd800_0000_0000_0000;
/// Bytes taken at a time. One table each.
const STRIDE: usize = 8;

/// `TABLES[n][byte]`: what `byte` does to the sum when `n` zero bytes follow it.
static TABLES: [[u64; 256]; STRIDE] = tables();

const fn tables() -> [[u64; 256]; STRIDE] {
    let mut tables = [[0; 256]; STRIDE];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ POLYNOMIAL } else { sum >> 1 };
            bit += 1;
        }
        tables[0][byte] = sum;
        byte += 1;
    }
    let mut row = 1;
    while row < STRIDE {
        let mut byte = 0;
        while byte < 256 {
            let sum = tables[row - 1][byte];
            tables[row][byte] = sum >> 8 ^ tables[0][(sum & 0xff) as usize];
            byte += 1;
        }
        row += 1;
    }
    tables
}

/// A checksum in the making.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Crc64(u64);

impl Crc64 {
    /// Of nothing.
    pub(super) fn new() -> Self {
        Self(u64::MAX)
    }

    /// Takes in `data`.
    pub(super) fn update(&mut self, data: &[u8]) {
        let mut sum = self.0;
        let (strides, rest) = data.as_chunks::<STRIDE>();
        for stride in strides {
            let bytes = (sum ^ u64::from_le_bytes(*stride)).to_le_bytes();
            sum = 0;
            for (at, byte) in bytes.into_iter().enumerate() {
                sum ^= TABLES[STRIDE - 1 - at][usize::from(byte)];
            }
        }
        for byte in rest {
            sum = sum >> 8 ^ TABLES[0][usize::from(sum as u8 ^ byte)];
        }
        self.0 = sum;
    }

    /// The eight bytes that tar-split stores: highest first.
    pub(super) fn bytes(self) -> [u8; 8] {
        (!self.0).to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(data: &[u8]) -> u64 {
        let mut sum = Crc64::new();
        sum.update(data);
        u64::from_be_bytes(sum.bytes())
    }

    /// The check value is the catalogue's of CRC-64/GO-ISO; the others stand in what an engine wrote.
    #[test]
    fn known_values() {
        assert_eq!(sum(b""), 0);
        assert_eq!(sum(b"123456789"), 0xb909_56c7_75a4_1001);
        assert_eq!(sum(b"x"), 0x2310_0000_0000_0000);
        assert_eq!(sum(b"hello<&>"), 0x51ec_79ec_3eee_e2d8);
    }

    #[test]
    fn pieces_make_no_difference() {
        let data: Vec<u8> = (0..1000_u32).map(|at| (at * 7 % 251) as u8).collect();
        for cut in [0, 1, 7, 8, 9, 500, 999, 1000] {
            let mut pieces = Crc64::new();
            pieces.update(&data[..cut]);
            pieces.update(&data[cut..]);
            assert_eq!(u64::from_be_bytes(pieces.bytes()), sum(&data), "{cut}");
        }
    }
}
