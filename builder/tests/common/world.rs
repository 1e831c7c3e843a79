//! A build to be attacked: its own copy of the cache, its own keys and temporary folder, and a mark by which all of
//! its processes are found.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::{
    fs::{self, File},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use hcl_image::{lock::Lock, units::Digest};
use tempfile::TempDir;

/// What a build that nobody disturbs makes.
pub struct Warm {
    pub sha256: String,
    pub lock: String,
    /// Name and content.
    keys: Vec<(PathBuf, Vec<u8>)>,
    /// How long a build with that lock takes.
    pub took: Duration,
}

/// What a run said.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Run {
    /// The only line that it said about its failure.
    pub fn refusal(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{self:?}");
        let lines: Vec<&str> = self.err.lines().collect();
        assert_eq!(lines.len(), 1, "{self:?}");
        lines[0].strip_prefix("hcl-image: ").unwrap_or_else(|| panic!("{self:?}"))
    }

    /// Titles of the steps that it began.
    pub fn steps(&self) -> Vec<String> {
        let events = self.out.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        events
            .filter(|event| event["event"] == "step-started")
            .filter_map(|event| event["step"].as_str().map(str::to_owned))
            .collect()
    }

    /// It made the image, and no base for it.
    pub fn built(&self, sha256: &str) {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert!(self.out.contains(sha256), "{self:?}");
        assert!(!self.steps().iter().any(|step| step == "Debian base system"), "{self:?}");
    }
}

/// See above.
pub struct World {
    pub folder: TempDir,
    pub cache: PathBuf,
    pub tmp: PathBuf,
    pub mark: String,
}

/// The project's folder.
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace")
}

fn variable(name: &str, default: impl FnOnce() -> PathBuf) -> PathBuf {
    std::env::var_os(name).map_or_else(default, PathBuf::from)
}

/// The cache that `make image` filled.
fn filled_cache() -> PathBuf {
    let home = || variable("XDG_CACHE_HOME", || variable("HOME", || "/".into()).join(".cache")).join("hcl-image");
    let path = variable("HCL_CACHE", home);
    assert!(path.join("debian").is_dir(), "{} holds no base: run make image, or name its cache in HCL_CACHE", path.display());
    path
}

fn node_program() -> PathBuf {
    let target = || variable("CARGO_TARGET_DIR", || project().join("target")).join("hcl-firstboot-armhf");
    let path = variable("HCL_NODE_PROGRAM", target);
    assert!(path.is_file(), "{} is missing: run make node, or name it in HCL_NODE_PROGRAM", path.display());
    path
}

/// A second name for a file of the cache, or a copy with the same time where that cannot be.
fn share(from: &Path, to: &Path) {
    if fs::hard_link(from, to).is_err() {
        fs::copy(from, to).expect("a copy");
        let time = fs::metadata(from).and_then(|metadata| metadata.modified()).expect("a time");
        File::options().write(true).open(to).and_then(|file| file.set_modified(time)).expect("our file");
    }
}

impl World {
    /// With all that the filled cache has, and the lock and keys of [`warm`].
    pub fn new() -> Self {
        let world = Self::without_lock();
        let warm = warm();
        for (name, bytes) in &warm.keys {
            let path = world.path("keys").join(name);
            let mut private = fs::DirBuilder::new();
            private.recursive(true).mode(0o700).create(path.parent().expect("a folder")).expect("room");
            fs::write(&path, bytes).expect("room");
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("our file");
        }
        fs::write(world.path("locked"), &warm.lock).expect("room");
        world
    }

    fn without_lock() -> Self {
        let folder = tempfile::Builder::new().prefix("hcl-failures-").tempdir().expect("a folder");
        let (cache, tmp) = (folder.path().join("cache"), folder.path().join("tmp"));
        fs::create_dir(&tmp).expect("room");
        fs::create_dir(folder.path().join("out")).expect("room");
        let mark = format!("HCL_TEST_MARK={}", folder.path().display());
        let world = Self { folder, cache, tmp, mark };
        for kind in ["debian", "download", "layer"] {
            world.fill(kind);
        }
        world
    }

    /// Entries of a kind from the filled cache.
    pub fn fill(&self, kind: &str) {
        let to = self.cache.join(kind);
        fs::create_dir_all(&to).expect("room");
        for entry in fs::read_dir(filled_cache().join(kind)).expect("a cache") {
            let from = entry.expect("an entry").path();
            let name = from.file_name().expect("a name");
            // No locks: they would be held by whoever uses that cache now.
            if name.len() == 64 || from.extension().is_some_and(|extension| extension == "json") && !to.join(name).exists() {
                drop(fs::remove_file(to.join(name)));
                share(&from, &to.join(name));
            }
        }
    }

    /// Forgets the entries of a kind.
    pub fn empty(&self, kind: &str) {
        drop(fs::remove_dir_all(self.cache.join(kind)));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn image(&self) -> PathBuf {
        self.path("out/lab.img")
    }

    /// Names in the output folder.
    pub fn output(&self) -> Vec<String> {
        names(&self.path("out"))
    }

    /// What belongs to every run of `hcl-image` here.
    pub fn dress(&self, command: &mut Command) {
        command.current_dir(project()).env("TMPDIR", &self.tmp).env("HCL_TEST_MARK", self.folder.path()).stdin(Stdio::null());
        for name in ["SOURCE_DATE_EPOCH", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(name);
        }
    }

    /// Arguments of a build; `more` come last.
    pub fn arguments(&self, more: &[&str]) -> Vec<String> {
        let shown = |path: PathBuf| path.display().to_string();
        let mut arguments = vec!["build".to_owned(), "--json".into()];
        for (option, path) in [
            ("--cache", self.cache.clone()),
            ("--keys", self.path("keys")),
            ("--node-program", node_program()),
            ("-o", self.image()),
        ] {
            if !more.contains(&option) {
                arguments.extend([option.to_owned(), shown(path)]);
            }
        }
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        arguments
    }

    pub fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hcl-image"));
        command.args(self.arguments(more));
        self.dress(&mut command);
        command
    }

    /// A build to its end, with the lock in the file `lock` of this folder.
    pub fn locked(&self, lock: &str, more: &[&str]) -> Run {
        let lock = self.path(lock).display().to_string();
        let mut all = vec!["--locked", &lock];
        all.extend(more);
        finish(&mut self.command(&all))
    }

    /// In a mount namespace, once `script` has run there; `$1` is this folder.
    pub fn inside(&self, script: &str, lock: Option<&str>, more: &[&str]) -> Run {
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-ec", &format!("{script}\nshift\nexec \"$@\""), "sh"]).arg(self.folder.path());
        command.arg(env!("CARGO_BIN_EXE_hcl-image"));
        let lock = lock.map(|lock| self.path(lock).display().to_string());
        let mut all: Vec<&str> = lock.iter().flat_map(|lock| ["--locked", lock]).collect();
        all.extend(more);
        command.args(self.arguments(&all));
        self.dress(&mut command);
        finish(&mut command)
    }

    /// The lock, for a test to change.
    pub fn lock(&self) -> Lock {
        Lock::load(&self.path("locked")).expect("a lock")
    }

    /// Every process that descends from a run here, with its command line.
    pub fn processes(&self) -> Vec<String> {
        let folder = self.folder.path();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            let path = entry.path();
            let environment = fs::read(path.join("environ")).unwrap_or_default();
            let marked = environment.split(|byte| *byte == 0).any(|variable| variable == self.mark.as_bytes());
            // Package scripts get another environment, but live in our temporary folder.
            let lives = ["cwd", "root"].iter().any(|link| fs::read_link(path.join(link)).is_ok_and(|at| at.starts_with(folder)));
            if marked || lives {
                let line = fs::read(path.join("cmdline")).unwrap_or_default();
                found.push(format!("{} {}", path.display(), String::from_utf8_lossy(&line).replace('\0', " ")));
            }
        }
        found
    }

    /// Waits until every process has ended; the guard gives them half a minute.
    pub fn settle(&self) {
        for _ in 0..900 {
            if self.processes().is_empty() {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("still there: {:#?}", self.processes());
    }

    /// Nothing half stands in the output folder or in the cache.
    pub fn is_tidy(&self) {
        for entry in walkdir::WalkDir::new(self.folder.path()).into_iter().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            assert!(!name.ends_with(".partial") && !name.ends_with(".draft"), "{}", entry.path().display());
        }
        assert_eq!(names(&self.tmp), [""; 0]);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // What a failed test left running would keep the folder from going.
        if !thread::panicking() {
            assert!(self.processes().is_empty(), "{:?}", self.processes());
        }
    }
}

pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

pub fn finish(command: &mut Command) -> Run {
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().expect("it starts");
    Run {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

pub fn sha256(path: &Path) -> String {
    Digest::of_reader(&mut File::open(path).expect("an image")).expect("readable").to_string()
}

/// One build without a lock, which writes it, and one with it, which is timed: once for all tests.
pub fn warm() -> &'static Warm {
    static WARM: OnceLock<Warm> = OnceLock::new();
    WARM.get_or_init(|| {
        let world = World::without_lock();
        let run = finish(&mut world.command(&[]));
        assert_eq!(run.code, Some(0), "{run:?}");
        let sha256 = sha256(&world.image());
        run.built(&sha256);
        fs::rename(world.path("out/lab.lock"), world.path("locked")).expect("a lock");
        let started = Instant::now();
        world.locked("locked", &[]).built(&sha256);
        let took = started.elapsed();
        let keys = world.path("keys");
        let files = walkdir::WalkDir::new(&keys).into_iter().flatten().filter(|entry| entry.file_type().is_file());
        let keys = files
            .map(|entry| (entry.path().strip_prefix(&keys).expect("below").to_owned(), fs::read(entry.path()).expect("our keys")))
            .collect();
        println!("a warm build takes {:.1} s", took.as_secs_f64());
        Warm { sha256, lock: fs::read_to_string(world.path("locked")).expect("a lock"), keys, took }
    })
}
