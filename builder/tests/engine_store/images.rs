//! Images with one of everything that a layer can hold.

use std::{
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::Command,
};

use hcl_image::{
    oci::{ContainerImage, Layer, Packing},
    units::{Bytes, Digest},
};
use serde_json::json;
use tar::EntryType as Kind;

/// A member: name, kind, mode, owner, content or target, extended attributes.
pub struct Member<'a> {
    pub name: &'a [u8],
    pub kind: Kind,
    pub mode: u32,
    pub owner: u64,
    pub content: &'a [u8],
    pub xattrs: &'a [(&'a str, &'a [u8])],
}

pub const TIME: u64 = 1_600_000_000;

/// A member of root's without attributes.
pub const fn member<'a>(name: &'a str, kind: Kind, mode: u32, content: &'a [u8]) -> Member<'a> {
    Member { name: name.as_bytes(), kind, mode, owner: 0, content, xattrs: &[] }
}

/// The archive of `members`, long names as `pax` or GNU write them.
pub fn archive(members: &[Member<'_>], pax: bool) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for member in members {
        let link = matches!(member.kind, Kind::Link | Kind::Symlink);
        let mut header = if pax { tar::Header::new_ustar() } else { tar::Header::new_gnu() };
        header.set_entry_type(member.kind);
        header.set_mode(member.mode);
        header.set_uid(member.owner);
        header.set_gid(member.owner);
        header.set_mtime(TIME);
        header.set_size(if link { 0 } else { member.content.len() as u64 });
        if member.kind == Kind::Char {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        let mut records: Vec<(String, Vec<u8>)> = Vec::new();
        for (name, value) in member.xattrs {
            records.push((format!("SCHILY.xattr.{name}"), value.to_vec()));
        }
        if pax && member.name.len() > 100 {
            records.push(("path".to_owned(), member.name.to_vec()));
        }
        if !records.is_empty() {
            tar.append_pax_extensions(records.iter().map(|(name, value)| (name.as_str(), value.as_slice()))).unwrap();
        }
        let name = Path::new(std::ffi::OsStr::from_bytes(if pax && member.name.len() > 100 { b"long" } else { member.name }));
        if link {
            tar.append_link(&mut header, name, Path::new(std::ffi::OsStr::from_bytes(member.content))).unwrap();
        } else {
            tar.append_data(&mut header, name, member.content).unwrap();
        }
    }
    tar.into_inner().unwrap()
}

/// A layer of `archive` in a file of `folder`.
pub fn layer(folder: &Path, archive: &[u8], packing: Packing) -> Layer {
    let diff_id = Digest::of(archive);
    let path = folder.join(diff_id.to_string());
    let stored = match packing {
        Packing::Plain => archive.to_vec(),
        Packing::Gzip => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut gzip, archive).unwrap();
            gzip.finish().unwrap()
        }
        Packing::Zstd => zstd::encode_all(archive, 1).unwrap(),
    };
    fs::write(&path, stored).unwrap();
    Layer { diff_id, size: Bytes(archive.len() as u64), path, packing }
}

/// An image of `layers` that says what it is made of.
pub fn image(reference: &str, layers: Vec<Layer>) -> ContainerImage {
    let steps: Vec<_> =
        layers.iter().map(|layer| json!({ "created": "2020-09-13T12:26:40Z", "created_by": layer.diff_id })).collect();
    let config = json!({
        "architecture": match std::env::consts::ARCH { "aarch64" => "arm64", "x86_64" => "amd64", other => other },
        "os": "linux", "created": "2020-09-13T12:26:40Z",
        "config": { "Env": ["PATH=/bin"], "Cmd": ["/bin/busybox", "sh"], "Labels": { "hcl.system": "1" } },
        "rootfs": { "type": "layers", "diff_ids": layers.iter().map(|layer| format!("sha256:{}", layer.diff_id)).collect::<Vec<_>>() },
        "history": steps,
    });
    ContainerImage { reference: reference.to_owned(), config: serde_json::to_vec(&config).unwrap(), layers }
}

/// busybox of this machine and the libraries that it needs, by path.
fn busybox() -> Vec<(PathBuf, Vec<u8>)> {
    let program = ["/usr/bin/busybox", "/bin/busybox"].map(Path::new).into_iter().find(|path| path.exists());
    let program = program.expect("busybox is missing: apt-get install busybox");
    let linked = Command::new("ldd").arg(program).output().expect("ldd is missing: apt-get install libc-bin");
    let linked = String::from_utf8(linked.stdout).unwrap();
    let libraries = linked.split_ascii_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
    let mut files = vec![(PathBuf::from("/bin/busybox"), fs::read(program).unwrap())];
    files.extend(libraries.map(|path| (path.clone(), fs::read(&path).unwrap())));
    files
}

/// `CAP_NET_RAW` permitted and effective, as `linux/capability.h` lays out version 2. One of its bytes is made a newline, which
/// careless readers of pax records take for the end.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Four layers: one of everything, one that removes and replaces, an empty one, and one on top.
pub fn everything(folder: &Path) -> Vec<Layer> {
    let long_gnu = format!("{}/{}/file", "g".repeat(90), "u".repeat(120));
    let long_pax = format!("{}/{}/file", "p".repeat(90), "x".repeat(120));
    let big: Vec<u8> = (0..5_000_000_u32).flat_map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[2..3].to_vec()).collect();
    let busybox = busybox();
    let mut first = vec![member("./", Kind::Directory, 0o700, b""), member("bin/", Kind::Directory, 0o755, b"")];
    for (path, content) in &busybox {
        first.push(Member {
            name: &path.as_os_str().as_bytes()[1..],
            kind: Kind::Regular,
            mode: 0o755,
            owner: 0,
            content,
            xattrs: &[],
        });
    }
    first.extend([
        member("bin/setuid", Kind::Regular, 0o4755, b"set"),
        member("bin/sh", Kind::Link, 0o755, b"bin/busybox"),
        member("etc/", Kind::Directory, 0o755, b""),
        member("etc/gone", Kind::Regular, 0o644, b"gone"),
        member("etc/kept", Kind::Regular, 0o644, b"kept"),
        member("etc/replaced", Kind::Regular, 0o644, b"old"),
        member("etc/empty", Kind::Regular, 0o600, b""),
        member("etc/becomes-folder", Kind::Regular, 0o600, b"file"),
        member("opaque/", Kind::Directory, 0o755, b""),
        member("opaque/old", Kind::Regular, 0o644, b"old"),
        member("removed/", Kind::Directory, 0o755, b""),
        member("removed/inner", Kind::Regular, 0o644, b"inner"),
        member("real/", Kind::Directory, 0o2775, b""),
        member("alias", Kind::Symlink, 0o777, b"real"),
        member("alias/through", Kind::Regular, 0o644, b"through a link"),
        member("absolute", Kind::Symlink, 0o777, b"/etc/kept"),
        member("dangling", Kind::Symlink, 0o777, b"nowhere"),
        member("implied/folder/file", Kind::Regular, 0o644, b"implied"),
        member("null", Kind::Char, 0o666, b""),
        member("pipe", Kind::Fifo, 0o622, b""),
        member("tmp/", Kind::Directory, 0o1777, b""),
        member("big", Kind::Regular, 0o644, &big),
        member("a <&> \"b\" \u{2028} \u{1f980}", Kind::Regular, 0o644, b"name"),
        member(&long_gnu, Kind::Regular, 0o644, b"long"),
        Member { owner: 100_000, ..member("owned/", Kind::Directory, 0o750, b"") },
        Member { owner: 100_001, ..member("owned/file", Kind::Regular, 0o640, b"mine") },
        Member { owner: 33, ..member("owned/link", Kind::Symlink, 0o777, b"file") },
        Member { name: b"not-utf-8-\xff\xfe", ..member("", Kind::Regular, 0o644, b"bytes") },
    ]);
    let with_attributes = [
        Member {
            xattrs: &[("security.capability", &CAPABILITY), ("user.note", b"line\nline")],
            ..member("capable", Kind::Regular, 0o755, b"cap")
        },
        Member { xattrs: &[("user.folder", b"x")], ..member("attributes/", Kind::Directory, 0o755, b"") },
        member(&long_pax, Kind::Regular, 0o644, b"long"),
    ];
    // One archive in both forms: without the end of the first one.
    let mut base = archive(&first, false);
    base.truncate(base.len() - 1024);
    base.extend(archive(&with_attributes, true));
    // As tar(1) pads, and more.
    base.resize(base.len().next_multiple_of(10_240) + 100_000, 0);

    let changes = archive(
        &[
            member("etc/.wh.gone", Kind::Regular, 0o644, b""),
            Member { owner: 7, ..member(".wh.removed", Kind::Regular, 0o644, b"") },
            member("opaque/", Kind::Directory, 0o711, b""),
            member("opaque/.wh..wh..opq", Kind::Regular, 0o644, b""),
            member("opaque/new", Kind::Regular, 0o644, b"new"),
            member("etc/replaced", Kind::Regular, 0o640, b"replaced"),
            member("etc/.wh.becomes-folder", Kind::Regular, 0o644, b""),
            member("etc/becomes-folder/", Kind::Directory, 0o755, b""),
            member("etc/becomes-folder/file", Kind::Regular, 0o644, b"in a folder"),
            member("twice", Kind::Regular, 0o644, b"twice"),
            Member { owner: 5, ..member("twice-more", Kind::Link, 0o600, b"twice") },
        ],
        false,
    );
    let top = archive(&[member("etc/top", Kind::Regular, 0o644, b"top"), member("opaque/.wh.new", Kind::Regular, 0, b"")], true);
    vec![
        layer(folder, &base, Packing::Gzip),
        layer(folder, &changes, Packing::Zstd),
        layer(folder, &archive(&[], false), Packing::Plain),
        layer(folder, &top, Packing::Plain),
    ]
}

/// Three images: one of everything, one that shares its first layers, and one from scratch.
pub fn three(folder: &Path) -> Vec<ContainerImage> {
    let all = everything(folder);
    let mut other = all[..1].to_vec();
    other.push(layer(folder, &archive(&[member("other", Kind::Regular, 0o644, b"other")], false), Packing::Gzip));
    let scratch = archive(&[member("program", Kind::Regular, 0o755, b"from scratch")], false);
    vec![
        image("hcl/everything:1.2", all),
        image("docker.io/library/shares", other),
        image("registry.lan:5000/hcl/scratch:x", vec![layer(folder, &scratch, Packing::Plain)]),
    ]
}

/// An image of one program of `bytes` and `count` small files, compressed as a registry gives it.
pub fn large(folder: &Path, bytes: u32, count: usize) -> ContainerImage {
    // As compressible as a program: every other byte repeats.
    let program: Vec<u8> =
        (0..bytes).map(|at| if at % 2 == 0 { (at.wrapping_mul(2_654_435_761) >> 24) as u8 } else { 0x48 }).collect();
    let names: Vec<String> = (0..count).map(|number| format!("usr/share/doc/{number}/copyright")).collect();
    let mut members = vec![member("usr/bin/program", Kind::Regular, 0o755, &program)];
    members.extend(names.iter().map(|name| member(name, Kind::Regular, 0o644, &program[..3000])));
    image("hcl/large:1", vec![layer(folder, &archive(&members, false), Packing::Gzip)])
}
