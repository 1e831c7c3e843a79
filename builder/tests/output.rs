//! The finished image and its side files, judged by the programs that users have.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use hcl_image::{
    cache::{Begin, Cache},
    image::output::{Compression, Finished, Output},
    progress::{Mode, Reporter},
    source::download::{Downloads, Origin, Request},
    units::{Bytes, Digest},
};
use rustix::process::{Pid, Signal};

/// Runs a judge; one that is missing fails the test.
fn run(program: &str, args: &[&dyn AsRef<std::ffi::OsStr>], folder: &Path) -> (bool, String) {
    let output = Command::new(program)
        .args(args.iter().map(AsRef::as_ref))
        .current_dir(folder)
        .env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()))
        .output()
        .unwrap_or_else(|error| panic!("{program} does not run ({error}): install coreutils, bmap-tools, xz-utils, zstd, e2fsprogs, dosfstools, mtools, util-linux"));
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

fn judge(program: &str, args: &[&dyn AsRef<std::ffi::OsStr>], folder: &Path) -> String {
    let (good, text) = run(program, args, folder);
    assert!(good, "{program} says: {text}");
    text
}

fn quiet() -> Reporter {
    Reporter::new(Mode::Quiet)
}

/// 8 MiB and a bit, with data here and there; `dense` writes the zeros too.
fn fill(file: &File, dense: bool) {
    let size = (8 << 20) + 1536;
    if dense {
        file.write_all_at(&vec![0; size], 0).expect("room");
    }
    file.set_len(size as u64).expect("room");
    for at in [0, 1, 4096 * 7 + 9, 3 << 20, (3 << 20) + 4096, (8 << 20) - 1, (8 << 20) + 1535] {
        file.write_all_at(&[7], at).expect("room");
    }
    let text: Vec<u8> = (0..300_000u32).flat_map(|number| (number / 3).to_le_bytes()).collect();
    file.write_all_at(&text, 5 << 20).expect("room");
}

fn build(target: &Path, dense: bool, compress: &[Compression]) -> Finished {
    let output = Output::create(target).expect("created");
    fill(output.file(), dense);
    output.finish(compress, &quiet()).expect("finished")
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("a folder")
        .map(|file| file.expect("a file").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    names
}

const BOTH: [Compression; 2] = [Compression::Xz, Compression::Zstd];

#[test]
fn the_judges_take_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("deep/er/lab.img");
    let finished = build(&target, false, &BOTH);
    let folder = target.parent().expect("a folder");
    assert_eq!(
        names(folder),
        ["lab.img", "lab.img.bmap", "lab.img.sha256", "lab.img.xz", "lab.img.xz.sha256", "lab.img.zst", "lab.img.zst.sha256"]
    );
    let bytes = fs::read(&target).expect("readable");
    assert_eq!((finished.sha256, finished.size), (Digest::of(&bytes), Bytes(bytes.len() as u64)));
    assert_eq!(fs::metadata(&target).expect("metadata").permissions().mode() & 0o777, 0o600);

    judge("sha256sum", &[&"-c", &"lab.img.sha256", &"lab.img.xz.sha256", &"lab.img.zst.sha256"], folder);
    for (program, packed) in [("xz", "lab.img.xz"), ("zstd", "lab.img.zst")] {
        judge(program, &[&"-t", &packed], folder);
        judge("sh", &[&"-c", &format!("{program} -dc {packed} | cmp - lab.img")], folder);
    }
    judge("bmaptool", &[&"copy", &"lab.img", &"copy.img"], folder);
    judge("cmp", &[&"lab.img", &"copy.img"], folder);
    // The compressed image finds the same block map.
    judge("bmaptool", &[&"copy", &"--bmap", &"lab.img.bmap", &"lab.img.xz", &"copy2.img"], folder);
    judge("cmp", &[&"lab.img", &"copy2.img"], folder);
}

#[test]
fn the_judges_can_say_no() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("lab.img");
    build(&target, false, &BOTH);
    File::options().write(true).open(&target).expect("open").write_all_at(&[9], 3 << 20).expect("room");
    assert!(!run("sha256sum", &[&"-c", &"lab.img.sha256"], folder.path()).0);
    let (good, text) = run("bmaptool", &[&"copy", &"lab.img", &"copy.img"], folder.path());
    assert!(!good && text.contains("checksum mismatch"), "{text}");
    let bmap = target.with_extension("img.bmap");
    let text = fs::read_to_string(&bmap).expect("readable");
    fs::write(&bmap, text.replacen("Image size", "image size", 1)).expect("room");
    let (good, text) = run("bmaptool", &[&"copy", &"lab.img", &"copy.img"], folder.path());
    assert!(!good && text.contains("checksum mismatch for bmap file"), "{text}");
    for (program, packed) in [("xz", "lab.img.xz"), ("zstd", "lab.img.zst")] {
        let path = folder.path().join(packed);
        let len = fs::metadata(&path).expect("metadata").len();
        File::options().write(true).open(&path).expect("open").set_len(len - 1).expect("room");
        assert!(!run(program, &[&"-t", &packed], folder.path()).0, "{program}");
    }
}

#[test]
fn how_it_was_written_does_not_matter() {
    let (one, two) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    build(&one.path().join("lab.img"), false, &BOTH);
    build(&two.path().join("lab.img"), true, &BOTH);
    assert_eq!(names(one.path()), names(two.path()));
    for name in names(one.path()) {
        let (a, b) = (one.path().join(&name), two.path().join(&name));
        assert!(fs::read(&a).expect("readable") == fs::read(&b).expect("readable"), "{name} differs");
        // Not even the room that it takes, but for what the file system adds.
        let room = |path: &Path| fs::metadata(path).expect("metadata").blocks();
        assert!(room(&a).abs_diff(room(&b)) <= 64, "{name}: {} and {} blocks", room(&a), room(&b));
    }
}

#[test]
fn a_new_build_replaces_everything_of_the_old_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("lab.img");
    build(&target, false, &BOTH);
    let before = fs::read(&target).expect("readable");

    let mut output = Output::create(&target).expect("created");
    // What a killed build left goes at once, however this one ends.
    let left = folder.path().join("lab.lock.partial");
    fs::write(&left, b"ver").expect("room");
    output.reserve(&folder.path().join("lab.lock")).expect("removed");
    assert!(!left.exists());
    output.file().write_all_at(&[1; 8192], 0).expect("room");
    output.attach(folder.path().join("lab.lock"), b"version = 2\n".to_vec());
    assert!(fs::read(&target).expect("readable") == before, "the old image is gone too early");
    output.finish(&[], &quiet()).expect("finished");
    assert_eq!(names(folder.path()), ["lab.img", "lab.img.bmap", "lab.img.sha256", "lab.lock"]);
    assert_eq!(fs::read(&target).expect("readable"), [1; 8192]);
    judge("sha256sum", &[&"-c", &"lab.img.sha256"], folder.path());
}

#[test]
fn dropped_it_leaves_what_was_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("lab.img");
    let output = Output::create(&target).expect("created");
    fill(output.file(), false);
    assert_eq!(names(folder.path()), ["lab.img.partial"]);
    drop(output);
    assert!(names(folder.path()).is_empty());
    build(&target, false, &[]);
    let all = names(folder.path());
    drop(Output::create(&target).expect("created"));
    assert_eq!(names(folder.path()), all);
}

#[test]
fn what_a_killed_build_left_is_taken_and_what_is_under_way_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("lab.img");
    for left in ["lab.img.partial", "lab.img.bmap.partial", "lab.img.xz.partial"] {
        fs::write(folder.path().join(left), b"left over").expect("room");
    }
    let output = Output::create(&target).expect("created");
    assert_eq!(output.file().metadata().expect("metadata").len(), 0);
    let error = format!("{:#}", Output::create(&target).expect_err("it is under way"));
    assert!(error.contains("another build is writing"), "{error}");
    fill(output.file(), false);
    output.finish(&[], &quiet()).expect("finished");
    assert_eq!(names(folder.path()), ["lab.img", "lab.img.bmap", "lab.img.sha256"]);
}

#[test]
fn only_files_are_targets() {
    let folder = tempfile::tempdir().expect("a folder");
    let says = |target: &Path| format!("{:#}", Output::create(target).expect_err("refused"));
    assert!(says(folder.path()).contains("is a folder"));
    assert!(says(Path::new("/")).contains("is no file name"));
    assert!(says(Path::new("/dev/null")).contains("is not a file"));
    let file = folder.path().join("file");
    fs::write(&file, b"").expect("room");
    assert!(says(&file.join("lab.img")).contains("creating the folder"));
    // A link in place of the partial file is not followed.
    let elsewhere = folder.path().join("elsewhere");
    fs::write(&elsewhere, b"precious").expect("room");
    std::os::unix::fs::symlink(&elsewhere, folder.path().join("lab.img.partial")).expect("a link");
    Output::create(&folder.path().join("lab.img")).expect_err("refused");
    assert_eq!(fs::read(&elsewhere).expect("readable"), b"precious");
}

/// An MBR with a FAT32 and an ext4, both with files that hold zeros and files that were deleted again.
fn card_image(folder: &Path) -> PathBuf {
    let (boot, root) = (folder.join("boot"), folder.join("root"));
    judge("truncate", &[&"-s", &"80M", &boot], folder);
    judge("mkfs.vfat", &[&"-F", &"32", &"-s", &"1", &boot], folder);
    let zeros = folder.join("zeros");
    let mut content = vec![0; 300_000];
    content[123_456] = 1;
    fs::write(&zeros, &content).expect("room");
    judge("mmd", &[&"-i", &boot, &"::dir"], folder);
    judge("mcopy", &[&"-i", &boot, &zeros, &"::dir/zeros"], folder);
    judge("mcopy", &[&"-i", &boot, &zeros, &"::gone"], folder);
    judge("mdel", &[&"-i", &boot, &"::gone"], folder);

    let tree = folder.join("tree");
    fs::create_dir_all(tree.join("empty")).expect("a folder");
    fs::copy(&zeros, tree.join("zeros")).expect("room");
    fs::write(tree.join("all-zero"), vec![0; 500_000]).expect("room");
    judge("truncate", &[&"-s", &"300M", &root], folder);
    judge("mkfs.ext4", &[&"-q", &"-d", &tree, &"-b", &"4096", &root], folder);

    let image = folder.join("source.img");
    judge("truncate", &[&"-s", &"400M", &image], folder);
    judge(
        "sh",
        &[&"-c", &"printf 'start=8192,size=163840,type=c\\nstart=180224,size=614400,type=83\\n' | sfdisk -q source.img"],
        folder,
    );
    judge("dd", &[&"if=boot", &"of=source.img", &"bs=1M", &"seek=4", &"conv=notrunc,sparse", &"status=none"], folder);
    judge("dd", &[&"if=root", &"of=source.img", &"bs=1M", &"seek=88", &"conv=notrunc,sparse", &"status=none"], folder);
    image
}

/// What the file systems of a card at `card` say about themselves.
fn inspect_card(card: &Path, folder: &Path) -> Result<(), String> {
    let cut = |name: &str, start: u32, size: u32| {
        judge(
            "dd",
            &[
                &format!("if={}", card.display()),
                &format!("of={name}"),
                &"bs=1M",
                &format!("skip={start}"),
                &format!("count={size}"),
                &"status=none",
            ],
            folder,
        );
    };
    cut("boot2", 4, 80);
    cut("root2", 88, 300);
    for (program, args) in [
        ("fsck.vfat", "-n boot2"),
        ("e2fsck", "-fn root2"),
        ("sh", "-c 'mdir -/ -b -i boot2 :: | sort > list2 && mdir -/ -b -i boot :: | sort | cmp - list2'"),
        ("sh", "-c 'rm -f z2; mcopy -i boot2 ::dir/zeros z2 && cmp z2 zeros'"),
        ("sh", "-c 'debugfs -R \"dump /zeros z3\" root2 && cmp z3 zeros'"),
        ("sh", "-c 'debugfs -R \"dump /all-zero z4\" root2 && cmp z4 tree/all-zero'"),
    ] {
        let (good, text) = run("sh", &[&"-c", &format!("{program} {args}")], folder);
        if !good {
            return Err(format!("{program} {args}: {text}"));
        }
    }
    Ok(())
}

/// A card that was used before has old bytes in every block that is not written.
fn used_card(path: &Path) {
    fs::write(path, vec![0xaa; 400 << 20]).expect("room");
}

#[test]
fn the_block_map_is_right_for_a_card_that_was_used_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = card_image(folder.path());
    let target = folder.path().join("lab.img");
    let output = Output::create(&target).expect("created");
    hcl_image::image::sparse::copy_sparse(&File::open(&source).expect("open"), output.file()).expect("copied");
    output.finish(&[], &quiet()).expect("finished");
    judge("cmp", &[&"source.img", &"lab.img"], folder.path());

    let card = folder.path().join("card");
    used_card(&card);
    judge("bmaptool", &[&"copy", &"lab.img", &card], folder.path());
    inspect_card(&card, folder.path()).expect("a good card");
    let bmap = fs::read_to_string(folder.path().join("lab.img.bmap")).expect("readable");
    let number = |tag: &str| -> u64 {
        let text = bmap.split(&format!("<{tag}>")).nth(1).and_then(|text| text.split('<').next()).expect("the tag");
        text.trim().parse().expect("a number")
    };
    assert!(number("MappedBlocksCount") * 3 < number("BlocksCount"), "the block map leaves too little out:\n{bmap}");

    // What a block map of the blocks that are not zero would have done: this test can fail.
    used_card(&card);
    let naive = File::options().write(true).open(&card).expect("open");
    for (number, block) in fs::read(&target).expect("readable").chunks(4096).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            naive.write_all_at(block, number as u64 * 4096).expect("room");
        }
    }
    inspect_card(&card, folder.path()).expect_err("a bad card");
}

/// Not a test of its own: a build that the tests below end from outside. It says when it is under way, and goes on
/// when its standard input ends.
#[test]
fn victim() {
    let Some(target) = std::env::var_os("HCL_TEST_TARGET") else { return };
    let output = Output::create(Path::new(&target)).expect("created");
    fill(output.file(), false);
    println!("under way");
    std::io::stdin().read_to_end(&mut Vec::new()).expect("readable");
    output.finish(&BOTH, &quiet()).map(|_| ()).unwrap_or_else(|error| panic!("{}", hcl_image::error::one_line(&error)));
}

fn start_victim(target: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "victim", "--nocapture"])
        .env("HCL_TEST_TARGET", target)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let lines = BufReader::new(child.stdout.as_mut().expect("its output")).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("under way")), "it ended at once");
    child
}

#[test]
fn a_signal_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("lab.img");
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let child = start_victim(&target);
        assert_eq!(names(folder.path()), ["lab.img.partial"]);
        rustix::process::kill_process(Pid::from_child(&child), signal).expect("a child");
        let output = child.wait_with_output().expect("a child");
        assert_eq!(output.status.code(), Some(code));
        assert!(String::from_utf8_lossy(&output.stderr).contains("interrupted"));
        assert!(names(folder.path()).is_empty());
    }
}

#[test]
fn a_killed_build_leaves_no_image_and_the_next_one_succeeds() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("lab.img");
    let mut whole = None;
    for round in 0..20u64 {
        let mut child = start_victim(&target);
        drop(child.stdin.take());
        // Somewhere in the last part: spinning is no time, but spreads well.
        for _ in 0..round * round * 20_000 {
            std::hint::spin_loop();
        }
        child.kill().expect("a child");
        child.wait().expect("a child");
        if target.exists() {
            // Named, so whole, with all that belongs to it.
            judge("sha256sum", &[&"-c", &"lab.img.sha256", &"lab.img.xz.sha256", &"lab.img.zst.sha256"], folder.path());
            judge("bmaptool", &[&"copy", &"lab.img", &"copy.img"], folder.path());
            whole = Some(round);
            for name in names(folder.path()) {
                fs::remove_file(folder.path().join(name)).expect("removable");
            }
        }
    }
    build(&target, false, &BOTH);
    assert!(names(folder.path()).iter().all(|name| !name.ends_with(".partial")), "{whole:?}: {:?}", names(folder.path()));
}

/// Runs a test of this file, named in [`full_disk_inside`], where the temporary folder is a disk of `size`.
#[test]
fn a_full_disk_leaves_what_was_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = "mount -t tmpfs -o size=3m none \"$1\" && exec \"$2\" --exact full_disk_inside --nocapture";
    let output = Command::new("unshare")
        .args(["-rm", "sh", "-c", script, "sh"])
        .arg(folder.path())
        .arg(std::env::current_exe().expect("this test"))
        .env("HCL_TEST_DISK", folder.path())
        .output()
        .expect("install util-linux");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("the disk was full"), "{text}");
}

/// Not a test of its own, see above.
#[test]
fn full_disk_inside() {
    let Some(disk) = std::env::var_os("HCL_TEST_DISK").map(PathBuf::from) else { return };
    let target = disk.join("lab.img");
    fs::write(&target, b"an older image").expect("room");
    let says = |error: anyhow::Error| {
        let line = hcl_image::error::one_line(&error);
        assert!(line.contains("No space left"), "{line}");
    };
    // The image has room, its compressed copy has not.
    let output = Output::create(&target).expect("created");
    let mut state = 1u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(2 << 20)
    .collect();
    output.file().write_all_at(&noise, 0).expect("room");
    says(output.finish(&[Compression::Zstd], &quiet()).expect_err("full"));
    assert_eq!(names(&disk), ["lab.img"]);
    assert_eq!(fs::read(&target).expect("readable"), b"an older image");

    // The cache: nothing half is left, and what was there is good.
    let cache = Cache::open(Some(&disk.join("cache"))).expect("a cache");
    let begin = |key: &[u8]| match cache.begin("base", &Digest::of(key), &quiet()).expect("begin") {
        Begin::Missing(pending) => pending,
        Begin::Present(entry) => panic!("{entry:?}"),
    };
    let good = begin(b"good");
    good.file().expect("a file").write_all_at(b"good", 0).expect("room");
    good.commit(Some(Digest::of(b"good")), Default::default()).expect("room");
    let packed = disk.join("packed");
    fs::write(&packed, &noise[..1 << 20]).expect("room");
    let downloads = Downloads::new(&cache, &quiet());
    let request = Request { origin: Origin::File(packed), sha256: Digest::of(&noise[..1 << 20]), size: None };
    let filler = disk.join("filler");
    fs::write(&filler, &noise[..3 << 19]).expect("room");
    says(downloads.image(&request).expect_err("full"));
    says(downloads.file(&request).expect_err("full"));
    fs::remove_file(&filler).expect("removable");
    cache.verify("base", &Digest::of(b"good")).expect("still good");
    downloads.image(&request).expect("room again");
    println!("the disk was full");
}
