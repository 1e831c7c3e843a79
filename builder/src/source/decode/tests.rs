use std::{io::Write, os::unix::fs::FileExt, process::Command};

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;

use super::*;

fn image() -> Vec<u8> {
    let mut data = vec![0; 200 * 4096];
    for (at, byte) in data.iter_mut().enumerate().skip(30_000).take(200_000) {
        *byte = (at * at % 251) as u8;
    }
    data[800_000] = 9;
    data
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).expect("memory");
    encoder.finish().expect("memory")
}

fn xz(data: &[u8]) -> Vec<u8> {
    let stream = liblzma::stream::MtStreamBuilder::new()
        .preset(1)
        .block_size(100_000)
        .check(liblzma::stream::Check::Crc64)
        .encoder()
        .expect("an encoder");
    let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(data).expect("memory");
    encoder.finish().expect("memory")
}

fn zstandard(data: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
    encoder.include_checksum(true).expect("an option");
    encoder.write_all(data).expect("memory");
    encoder.finish().expect("memory")
}

/// A `.zip` as `zip` makes it, or with sizes after the data where it is written to a pipe.
fn zipped(data: &[u8], args: &[&str], piped: bool) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("lab.img"), data).expect("room");
    std::fs::write(folder.path().join("a-readme.txt"), b"hello hello hello hello").expect("room");
    let script = if piped { "zip - a-readme.txt lab.img | cat > out.zip" } else { "zip $@ out.zip a-readme.txt lab.img" };
    let output = Command::new("sh").arg("-c").arg(script).arg("sh").args(args).current_dir(folder.path()).output().expect("sh");
    assert!(output.status.success(), "install zip: {}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(folder.path().join("out.zip")).expect("readable")
}

/// Gives one to three bytes at a time.
struct Slow<'a>(&'a [u8]);

impl Read for Slow<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.0.len().min(buf.len()).min(1 + self.0.len() % 3);
        buf[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

fn unpack(packed: &[u8]) -> Result<(Decoded, Vec<u8>), String> {
    let file = tempfile::tempfile().expect("a file");
    let decoded = decode(&mut &packed[..], &file, LARGEST).map_err(|error| format!("{:#}", anyhow::Error::new(error)))?;
    let mut data = vec![1; decoded.size.0 as usize];
    file.read_exact_at(&mut data, 0).expect("readable");
    Ok((decoded, data))
}

fn all() -> Vec<(Format, Vec<u8>)> {
    let image = image();
    let (head, tail) = image.split_at(123_456);
    vec![
        (Format::Raw, image.clone()),
        (Format::Gzip, gzip(&image)),
        (Format::Gzip, [gzip(head), gzip(tail)].concat()),
        (Format::Zstd, zstandard(&image)),
        (Format::Zstd, [zstandard(head), zstandard(tail)].concat()),
        (Format::Xz, xz(&image)),
        (Format::Xz, [xz(head), vec![0; 8], xz(tail), vec![0; 4]].concat()),
        (Format::Zip, zipped(&image, &["-q"], false)),
        (Format::Zip, zipped(&image, &["-q", "-0"], false)),
        (Format::Zip, zipped(&image, &[], true)),
    ]
}

#[test]
fn every_format_is_told_by_its_bytes_and_unpacked() {
    let image = image();
    for (index, (format, packed)) in all().into_iter().enumerate() {
        let (decoded, data) = unpack(&packed).unwrap_or_else(|error| panic!("{index}: {error}"));
        assert_eq!((decoded.format, decoded.sha256), (format, Digest::of(&image)), "{index}");
        assert!(decoded.stored.0 <= 240_000, "{index}: {}", decoded.stored);
        assert!(data == image, "{index}");
        let file = tempfile::tempfile().expect("a file");
        assert_eq!(decode(&mut Slow(&packed), &file, LARGEST).expect("unpacked").sha256, Digest::of(&image), "{index}");
    }
}

#[test]
fn what_is_cut_off_or_goes_on_is_refused() {
    for (index, (format, packed)) in all().into_iter().enumerate() {
        if matches!(format, Format::Raw) {
            continue;
        }
        // The directory of a zip is not read.
        let ends = if format == Format::Zip { vec![40, packed.len() / 2] } else { vec![7, packed.len() / 2, packed.len() - 1] };
        for end in ends {
            let error = unpack(&packed[..end]).expect_err("cut off");
            assert!(error.contains("damaged") || error.contains("no disk image"), "{index} {end}: {error}");
        }
        if format != Format::Zip {
            let error = unpack(&[&packed[..], b"garbage!"].concat()).expect_err("garbage");
            assert!(error.contains("damaged"), "{index}: {error}");
        }
    }
}

#[test]
fn what_is_no_image_is_refused_by_name() {
    for (data, says) in [
        (&b"BZh91AY&SY"[..], "bzip2"),
        (b"<!DOCTYPE html><html>not found", "HTML"),
        (b"hello", "whole sectors"),
        (b"", "whole sectors"),
        (b"PK\x03\x04", "damaged zip"),
    ] {
        let error = unpack(data).expect_err("no image");
        assert!(error.contains(says), "{error}");
    }
    let error = unpack(&gzip(b"hello")).expect_err("no image");
    assert!(error.contains("whole sectors"), "{error}");
}

#[test]
fn a_bomb_is_stopped() {
    let bomb = xz(&vec![0; 32 << 20]);
    assert!(bomb.len() < 1 << 18);
    let file = tempfile::tempfile().expect("a file");
    let error = decode(&mut &bomb[..], &file, Bytes(16 << 20)).expect_err("too large").to_string();
    assert!(error.contains("more than 16.0 MiB"), "{error}");
}

#[test]
fn an_input_that_fails_is_not_called_damaged() {
    struct Failing<'a>(&'a [u8]);
    impl Read for Failing<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buf)? {
                0 => Err(io::Error::other("the network is gone")),
                count => Ok(count),
            }
        }
    }
    for (_, packed) in all() {
        let file = tempfile::tempfile().expect("a file");
        let error = decode(&mut Failing(&packed[..packed.len() / 3]), &file, LARGEST).expect_err("it fails");
        assert!(matches!(&error, DecodeError::Read(error) if error.to_string().contains("gone")), "{error:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// A changed byte never gives another image: an error, or (where nothing depends on the byte) the same one.
    #[test]
    fn a_changed_byte_never_gives_another_image(which in 1usize..7, at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let (format, mut packed) = all_cached()[which].clone();
        let at = at.index(packed.len());
        packed[at] ^= 1 << bit;
        if let Ok((decoded, data)) = unpack(&packed) {
            // A changed magic makes it raw, which the digest of the file refuses.
            prop_assert!(decoded.format != format || data == image());
        }
    }
}

fn all_cached() -> &'static [(Format, Vec<u8>)] {
    static ALL: std::sync::OnceLock<Vec<(Format, Vec<u8>)>> = std::sync::OnceLock::new();
    ALL.get_or_init(all)
}
