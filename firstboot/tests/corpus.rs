//! Replays the frames of `corpus/frame`, which `corpus/make.py` wrote from the RFCs, through the codec.
//!
//! A name that begins with `bad-` must be dropped, every other one understood. The fuzz target `frame` starts from the same files.
//! So do `config` and the files of `corpus/overrides`, which are what people may make of `hcl.toml`.

use std::{collections::BTreeMap, fs, path::Path};

use hcl_firstboot::{
    config::Overrides,
    wire::{Dropped, decode, encode},
};

fn corpus() -> BTreeMap<String, Vec<u8>> {
    files("frame")
}

fn files(kind: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(kind);
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())).collect()
}

#[test]
fn good_frames_are_understood_and_bad_ones_dropped() {
    let corpus = corpus();
    assert!(corpus.len() > 90, "only {} files", corpus.len());
    for (name, frame) in corpus {
        match decode(&frame) {
            Ok(packet) => {
                assert!(!name.starts_with("bad-"), "{name} became {packet:?}");
                assert_eq!(decode(&encode(&packet)), Ok(packet), "{name}");
            }
            Err(reason) => assert!(name.starts_with("bad-"), "{name}: {reason}"),
        }
    }
}

/// What we send is, byte for byte, what a program that shares nothing with ours makes of the RFCs. Left out: frames that we
/// understand but would write in another way.
#[test]
fn encoding_makes_the_same_bytes() {
    let other = [
        "arp-unpadded",
        "dhcp-host-name-latin1",
        "dhcp-host-name-nul",
        "dhcp-host-name-shell",
        "dhcp-rapid-commit-long",
        "dhcp-split",
        "ip-options",
        "mdns-pointer-chain-127",
        "mdns-query-any-class",
        "mdns-query-mixed",
        "mdns-query-unsummed",
        "mdns-response-additional",
        "mdns-response-foreign",
        "mdns-response-no-data",
    ];
    for (name, frame) in corpus().into_iter().filter(|(name, _)| !name.starts_with("bad-")) {
        let again = encode(&decode(&frame).unwrap());
        assert_eq!(again == frame, !other.contains(&name.as_str()), "{name}:\n{frame:02x?}\n{again:02x?}");
    }
}

/// The hostile frames are dropped for what is wrong with them, not for something else on the way there.
#[test]
fn bad_frames_are_dropped_for_what_is_wrong_with_them() {
    let corpus = corpus();
    let reason = |name: &str| decode(&corpus[name]).unwrap_err();
    for (prefix, layer) in [
        ("bad-arp-", "ARP: "),
        ("bad-dhcp-", "DHCP: "),
        ("bad-ip-", "IPv4: "),
        ("bad-mdns-", "mDNS: "),
        ("bad-tagged", "has a VLAN tag"),
        ("bad-udp-", "UDP: "),
    ] {
        for name in corpus.keys().filter(|name| name.starts_with(prefix)) {
            let reason = reason(name);
            let elsewhere = matches!(reason, Dropped::Ports { .. } | Dropped::Group);
            assert!(elsewhere || reason.to_string().starts_with(layer), "{name}: {reason}");
        }
    }
    for (name, because) in [
        ("bad-arp-sizes", Dropped::Arp("is cut off")),
        ("bad-dhcp-client-id-300", Dropped::Option { code: 61, length: 300 }),
        ("bad-dhcp-hlen-255", Dropped::Dhcp("the hardware address is not of Ethernet")),
        ("bad-dhcp-lease-8", Dropped::Option { code: 51, length: 8 }),
        ("bad-dhcp-overload", Dropped::Dhcp("goes on in the fields for file and server name")),
        ("bad-dhcp-port", Dropped::Ports { source_port: 67, destination_port: 68 }),
        ("bad-dhcp-relay", Dropped::Dhcp("came through a relay")),
        ("bad-ip-fragment-first", Dropped::Fragment),
        ("bad-ip-fragment-last", Dropped::Fragment),
        ("bad-ip-source-group", Dropped::Group),
        ("bad-mdns-address-5", Dropped::Mdns("a record is not as long as its type is")),
        ("bad-mdns-control", Dropped::NothingForUs),
        ("bad-mdns-counts", Dropped::Mdns("is cut off")),
        ("bad-mdns-long", Dropped::Mdns("is longer than a message may be")),
        ("bad-mdns-pointer-chain-128", Dropped::Mdns("a name cannot be read")),
        ("bad-mdns-pointer-self", Dropped::Mdns("a name cannot be read")),
        ("bad-mdns-response-port", Dropped::Ports { source_port: 40000, destination_port: 5353 }),
        ("bad-source-group", Dropped::Group),
        ("bad-tagged", Dropped::Tagged(0x8100)),
    ] {
        assert_eq!(reason(name), because, "{name}");
    }
}

/// Every cut and every single flipped bit: any answer but a panic, and what is understood says the same once more.
#[test]
fn damaged_frames_never_panic() {
    let stable = |frame: &[u8]| {
        if let Ok(packet) = decode(frame) {
            assert_eq!(decode(&encode(&packet)), Ok(packet));
        }
    };
    for frame in corpus().into_values() {
        for length in 0..frame.len() {
            stable(&frame[..length]);
        }
        let mut damaged = frame;
        for bit in 0..8 * damaged.len() {
            damaged[bit / 8] ^= 1 << (bit % 8);
            stable(&damaged);
            damaged[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn overrides_are_understood_or_named() {
    let corpus = files("overrides");
    assert!(corpus.len() > 25, "only {} files", corpus.len());
    for (name, file) in &corpus {
        match Overrides::parse(file, "hcl.toml") {
            Ok(overrides) => assert!(!name.starts_with("bad-"), "{name} became {overrides:?}"),
            Err(error) => {
                let error = error.to_string();
                assert!(name.starts_with("bad-"), "{name}: {error}");
                assert!(error.starts_with("hcl.toml") && !error.contains(['\n', '\r']), "{name}: {error:?}");
            }
        }
    }
    for (name, because) in [
        ("bad-key-other", "hcl.toml:1: key `subnet`: unknown field `subnet`, expected `interface` or `vlan`"),
        ("bad-quotes", "hcl.toml:1: has curly quotation marks"),
        ("bad-twice", "hcl.toml:2: key `vlan`: duplicate key"),
        ("bad-utf16", "hcl.toml: is UTF-16"),
        ("bad-zero", "hcl.toml:1: key `vlan`: invalid value: integer `0`, expected a VLAN id from 1 to 4094, or \"off\""),
    ] {
        let error = Overrides::parse(&corpus[name], "hcl.toml").unwrap_err().to_string();
        assert!(error.starts_with(because), "{name}: {error}");
    }
}

/// Every cut and every single flipped bit: any answer but a panic.
#[test]
fn damaged_overrides_never_panic() {
    for file in files("overrides").into_values().filter(|file| file.len() < 4096) {
        for length in 0..file.len() {
            let _ = Overrides::parse(&file[..length], "n");
        }
        let mut damaged = file;
        for bit in 0..8 * damaged.len() {
            damaged[bit / 8] ^= 1 << (bit % 8);
            let _ = Overrides::parse(&damaged, "n");
            damaged[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
