//! `hcl-image build` attacked: killed, out of room, without network or tools, twice at once, with wrong input.
//!
//! Always: one clear line, an exit code, no image under the final name but one that stood there before, a good cache,
//! and a next run that succeeds and repeats no finished work.

#[path = "common/web.rs"]
#[allow(dead_code, reason = "shared with tests that need more of it")]
mod web;
#[path = "common/world.rs"]
mod world;

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::symlink,
    process::{Child, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use hcl_image::lock::{BaseLock, BootstrapLock, PackageLock};
use rustix::process::{Pid, Signal, kill_process};

use web::{Reply, Web};
use world::{World, names, sha256, warm};

const OLD: &[u8] = b"an older image";

/// Seeded: a failing run is repeated as it was.
struct Random(u64);

impl Random {
    /// A number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end.max(1)
    }
}

fn end(mut child: Child, signal: Signal) -> Option<i32> {
    // It may have ended by itself: until it is waited for, its number is its own.
    kill_process(Pid::from_child(&child), signal).expect("our child");
    child.wait().expect("our child").code()
}

#[test]
#[ignore = "needs a built image and its cache: scripts/stages test"]
fn killed_at_any_moment() {
    let world = World::new();
    let warm = warm();
    let mut random = Random(2026);
    let (mut killed, mut told, mut finished) = (0, 0, 0);
    let mut round = 0;
    while killed < 20 || told < 5 {
        round += 1;
        assert!(round < 100, "{finished} of {round} were done before they were ended");
        let signal = match (killed, told) {
            (0..20, _) => Signal::KILL,
            (_, 0..3) => Signal::INT,
            _ => Signal::TERM,
        };
        let old = round % 2 == 1;
        if old {
            fs::write(world.image(), OLD).expect("room");
        } else {
            drop(fs::remove_file(world.image()));
        }
        let lock = world.path("locked").display().to_string();
        let child = world.command(&["--locked", &lock]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        let moment = random.below(warm.took.as_millis() as u64);
        thread::sleep(Duration::from_millis(moment));
        let code = end(child, signal);
        let what = format!("round {round}, {signal:?} after {moment} ms");
        world.settle();
        match (code, signal) {
            (Some(0), _) => finished += 1,
            (_, Signal::KILL) => killed += 1,
            _ => told += 1,
        }
        match fs::metadata(world.image()) {
            Err(_) => assert!(!old, "{what}: the old image is gone"),
            Ok(metadata) if old && metadata.len() == OLD.len() as u64 => {
                assert_eq!(fs::read(world.image()).expect("readable"), OLD, "{what}");
            }
            Ok(_) => assert_eq!(sha256(&world.image()), warm.sha256, "{what}: an image that is not whole"),
        }
        // It did not end for another reason, which would show nothing.
        let expected = if signal == Signal::KILL { [None, Some(0)] } else { [Some(128 + signal.as_raw()), Some(0)] };
        assert!(expected.contains(&code), "{what}: {code:?}");
        if signal != Signal::KILL {
            assert!(!world.output().iter().any(|name| name.ends_with(".partial")), "{what}: {:?}", world.output());
        }
    }
    println!("{killed} killed, {told} ended by other signals, {finished} more were done before");
    world.locked("locked", &[]).built(&warm.sha256);
    assert_eq!(sha256(&world.image()), warm.sha256);
    assert_eq!(world.output(), ["lab.img", "lab.img.bmap", "lab.img.sha256", "lab.lock"]);
    world.is_tidy();
}

fn bootstrap(world: &World) -> BootstrapLock {
    match world.lock().base {
        BaseLock::Bootstrap(lock) => lock,
        BaseLock::Download { .. } => panic!("the default manifest bootstraps"),
    }
}

/// Writes a lock whose packages come from `mirror`: the base stays the same.
fn lock_with_mirror(world: &World, mirror: &str) {
    let mut lock = world.lock();
    if let BaseLock::Bootstrap(base) = &mut lock.base {
        base.mirror = mirror.to_owned();
    }
    fs::write(world.path("mirrored"), lock.render().expect("a lock")).expect("room");
}

/// The three smallest packages, taken out of the cache.
fn forget_three(world: &World) -> Vec<(PackageLock, Arc<Vec<u8>>)> {
    let mut packages = bootstrap(world).packages;
    packages.sort_by_key(|package| (package.size, package.name.clone()));
    packages.truncate(3);
    let take = |package: PackageLock| {
        let path = world.cache.join("download").join(package.sha256.to_string());
        let body = Arc::new(fs::read(&path).expect("in the cache"));
        fs::remove_file(&path).expect("ours");
        fs::remove_file(path.with_extension("json")).expect("ours");
        (package, body)
    };
    packages.into_iter().map(take).collect()
}

/// Begins a build and waits until it installs packages.
fn installing(world: &World) -> Child {
    let lock = world.path("mirrored").display().to_string();
    let mut child = world.command(&["--locked", &lock]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let begun = lines.map_while(Result::ok).any(|line| line.contains("step-started") && line.contains("Debian base system"));
    assert!(begun, "it ended before");
    let busy = (0..600).any(|_| {
        thread::sleep(Duration::from_millis(50));
        world.processes().iter().any(|process| process.contains("dpkg"))
    });
    assert!(busy, "no package is installed: {:#?}", world.processes());
    child
}

#[test]
#[ignore = "needs a built image and its cache: scripts/stages test"]
fn bad_packages_then_killed_while_installing() {
    let world = World::new();
    world.empty("debian");
    let total = bootstrap(&world).packages.len();
    let three = forget_three(&world);
    let good = Arc::new(Mutex::new(false));
    let web = {
        let (three, good) = (three.clone(), good.clone());
        Web::start(move |asked| {
            let path = asked.path.replace("%2b", "+").replace("%2B", "+").replace("%7e", "~").replace("%7E", "~");
            let Some(number) = three.iter().position(|(package, _)| path == format!("/debian/{}", package.path)) else {
                return Reply::status(404);
            };
            let body = &three[number].1;
            match (*good.lock().expect("no panic"), number) {
                (true, _) => Reply::good(body),
                (false, 0) => {
                    let mut damaged = body.to_vec();
                    damaged[100] ^= 1;
                    Reply::good(&Arc::new(damaged))
                }
                (false, 1) => Reply::good(&Arc::new(body[..body.len() - 10].to_vec())),
                (false, _) => Reply::status(404),
            }
        })
    };

    // Nobody there: told once, not for each package.
    lock_with_mirror(&world, "http://127.0.0.1:1/debian");
    let run = world.locked("mirrored", &[]);
    let line = run.refusal(1);
    assert!(line.contains("refused the connection") && line.contains("are in the cache and stay there"), "{line}");

    // Damaged, too short, gone: one list, and nothing else is asked for.
    lock_with_mirror(&world, &web.url("/debian"));
    let run = world.locked("mirrored", &[]);
    let line = run.refusal(1);
    assert!(line.starts_with(&format!("3 of {total} packages cannot be had")), "{line}");
    for ((package, _), why) in three.iter().zip(["SHA-256 mismatch", "where", "404"]) {
        let part = line.split("; ").find(|part| part.contains(&format!("{} {} (", package.name, package.version)));
        assert!(part.is_some_and(|part| part.contains(why)), "{}: {line}", package.name);
    }
    assert_eq!(world.output(), [""; 0]);

    // Good again: the three are asked for once, and a kill does not change that.
    *good.lock().expect("no panic") = true;
    let before = web.seen().len();
    for signal in [Signal::KILL, Signal::TERM] {
        let child = installing(&world);
        assert_eq!(names(&world.tmp).len(), 1, "one work folder: what the run before left is gone");
        end(child, signal);
        world.settle();
        assert_eq!(world.output().iter().filter(|name| !name.ends_with(".partial")).count(), 0);
    }
    assert_eq!(web.seen().len() - before, 3, "{:?}", web.seen());

    world.fill("debian");
    world.locked("locked", &[]).built(&warm().sha256);
    world.is_tidy();
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(!mounts.contains(&world.folder.path().display().to_string()), "{mounts}");
}

#[test]
#[ignore = "needs a built image and its cache: scripts/stages test"]
fn a_full_disk() {
    let world = World::new();
    let mount = "mkdir -p \"$1/disk\"; mount -t tmpfs -o size=64m none \"$1/disk\"; printf old >\"$1/disk/lab.img\"";
    // The listing comes from inside: outside there is no such disk.
    let script = format!("{mount}; folder=$1; shift; code=0; \"$@\" || code=$?; ls -A \"$folder/disk\"; exit $code");
    let image = world.path("disk/lab.img").display().to_string();
    let run = world.inside(&script, Some("locked"), &["-o", &image]);
    let line = run.refusal(1);
    assert!(line.contains("lab.img") && line.contains("No space left"), "{line}");
    assert!(run.out.ends_with("}\nlab.img\n"), "only what was there: {}", run.out);

    // The cache has no room for the packages.
    let packages = bootstrap(&world).packages;
    let cache = world.cache.join("download");
    let bodies: Vec<_> = packages.iter().map(|package| (package.path.clone(), cache.join(package.sha256.to_string()))).collect();
    let web = Web::start(move |asked| {
        let path = asked.path.replace("%2b", "+").replace("%2B", "+").replace("%7e", "~").replace("%7E", "~");
        match bodies.iter().find(|(name, _)| path == format!("/debian/{name}")) {
            Some((_, file)) => Reply::good(&Arc::new(fs::read(file).expect("in the cache"))),
            None => Reply::status(404),
        }
    });
    lock_with_mirror(&world, &web.url("/debian"));
    let cache = world.path("disk/cache").display().to_string();
    let script = format!("{mount}; mkdir \"$1/disk/cache\"");
    let run = world.inside(&script, Some("mirrored"), &["--cache", &cache]);
    let line = run.refusal(1);
    assert!(line.contains("disk/cache/download") && (line.contains("has room for") || line.contains("No space left")), "{line}");
    assert!(line.contains("stay there"), "{line}");
    assert_eq!(world.output(), [""; 0]);
    world.locked("locked", &[]).built(&warm().sha256);
    world.is_tidy();
}

#[test]
#[ignore = "needs a built image and its cache: scripts/stages test"]
fn a_missing_tool() {
    let world = World::new();
    world.empty("debian");
    for (hidden, lock, says) in [
        (&["mmdebstrap"][..], Some("locked"), "mmdebstrap is not installed: apt-get install mmdebstrap"),
        (&["mke2fs"], Some("locked"), "mke2fs is not installed: apt-get install e2fsprogs"),
        (&["mmdebstrap", "mke2fs"], Some("locked"), "mmdebstrap, mke2fs are not installed: apt-get install mmdebstrap e2fsprogs"),
        (&["apt-get"], None, "apt-get is not installed: apt-get install apt"),
    ] {
        // Folders of links to everything but what is hidden stand where the programs were.
        let mut script = String::new();
        for folder in ["bin", "sbin"] {
            let (real, farm) = (world.path(&format!("real-{folder}")), world.path(&format!("farm-{folder}")));
            drop(fs::remove_dir_all(&farm));
            fs::create_dir(&farm).expect("room");
            fs::create_dir_all(&real).expect("room");
            for name in names(std::path::Path::new(&format!("/usr/{folder}"))) {
                if !hidden.contains(&name.as_str()) {
                    symlink(real.join(&name), farm.join(&name)).expect("room");
                }
            }
            script +=
                &format!("mount --bind /usr/{folder} \"$1/real-{folder}\"; mount --bind \"$1/farm-{folder}\" /usr/{folder}\n");
        }
        let run = world.inside(&script, lock, &[]);
        let line = run.refusal(1);
        assert!(line.contains(says), "{line}");
        assert_eq!(world.output(), [""; 0]);
    }
    world.is_tidy();
}

#[test]
#[ignore = "needs a built image and its cache: scripts/stages test"]
fn wrong_input() {
    let world = World::new();
    let write = |name: &str, text: &str| {
        fs::write(world.path(name), text).expect("room");
        world.path(name).display().to_string()
    };
    let default = fs::read_to_string(world::project().join("manifests/debian-trixie-armhf.toml")).expect("the default");
    let default = default.replace("../overlays", &world::project().join("overlays").display().to_string());
    let typo = write("typo.toml", &default.replace("[engine]", "[engin]"));
    let value = write("value.toml", &default.replace("vlan = 200", "vlan = 5000"));
    let missing = world.path("missing.toml").display().to_string();
    let nonsense = write("nonsense", "nonsense");
    let later = write("later", &warm().lock.replace("version = 1", "version = 9"));
    let folder = world.path("out").display().to_string();
    let locked = world.path("locked").display().to_string();
    for (code, arguments, says) in [
        (2, vec![typo.as_str()], "unknown key `engin`: did you mean `engine`?"),
        (2, vec![&value], "`node.vlan`: the number 5000 is not allowed"),
        (2, vec![&missing], "no such manifest"),
        (2, vec!["--locked", &nonsense], "not a lock"),
        (2, vec!["--locked", &later], "version 9"),
        (2, vec!["--locked", &missing], "give the NAME.lock that a build wrote"),
        (2, vec!["--set", "node.vlam=3"], "unknown key `node.vlam`: did you mean `node.vlan`?"),
        (2, vec!["--set", "nonsense"], "write it as KEY=VALUE"),
        (2, vec!["--compress", "gz"], "`gz` is none of `none`, `xz`, `zstd`"),
        (2, vec!["--locked", &locked, "-o", &folder], "is a folder: name the image in it with -o FILE"),
        (1, vec!["--locked", &locked, "-o", "/proc/lab.img"], "creating /proc/lab.img.partial"),
    ] {
        let run = world::finish(&mut world.command(&arguments));
        let line = run.refusal(code);
        assert!(line.contains(says), "{arguments:?}: {line}");
        assert_eq!(world.output(), [""; 0], "{arguments:?}");
    }

    // Other overlays and another manifest than what was locked: one list.
    fs::create_dir(world.path("overlay")).expect("room");
    fs::write(world.path("overlay/motd"), "hello").expect("room");
    let overlay = format!("overlays=[\"{}\"]", world.path("overlay").display());
    let run = world.locked("locked", &["--set", &overlay]);
    let line = run.refusal(1);
    assert!(
        line.starts_with("not what was locked, so nothing was built: manifest: ") && line.matches("overlay ").count() == 2,
        "{line}"
    );
    assert_eq!(world.output(), [""; 0]);
    world.is_tidy();
}

#[test]
#[ignore = "needs a built image and its cache: scripts/stages test"]
fn two_at_once() {
    let world = World::new();
    let lock = world.path("locked").display().to_string();
    let other = world.path("out/other.img").display().to_string();
    let start = |more: &[&str]| {
        let mut command = world.command(&[&["--locked", lock.as_str()][..], more].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts")
    };
    let mut first = start(&[]);
    let mut lines = BufReader::new(first.stdout.take().expect("piped")).lines();
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line.contains("copy of the base")), "it ended at once");
    let second = start(&["-o", &other]);
    let run = world.locked("locked", &[]);
    assert!(run.refusal(1).contains("another build is writing"), "{run:?}");
    assert!(lines.map_while(Result::ok).any(|line| line.contains(&warm().sha256)));
    assert!(first.wait().expect("our child").success());
    let output = second.wait_with_output().expect("our child");
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains(&warm().sha256));
    world.is_tidy();
}
