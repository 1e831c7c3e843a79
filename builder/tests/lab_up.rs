//! `hcl-image up` and `test` as a user runs them, on an image whose kernel is twenty instructions long:
//! real QEMU, real processes, real signals, within seconds.

#[path = "common/tiny.rs"]
mod tiny;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Output, Stdio},
    time::{Duration, SystemTime},
};

use hcl_image::units::Digest;
use serde_json::Value;

use crate::tiny::{Then, image, kernel};

/// A folder with an image that boots `kernel`, and room for what a run leaves.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(kernel: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["tmp", "home"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("key"), "no key").unwrap();
        fs::write(folder.path().join("tiny.img"), image(kernel)).unwrap();
        Self { folder }
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("tiny.img")
    }

    fn fingerprint(&self) -> (Digest, SystemTime) {
        let image = self.image();
        (Digest::of(&fs::read(&image).unwrap()), image.metadata().unwrap().modified().unwrap())
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hcl-image"));
        command
            .args(words)
            .current_dir(self.folder.path())
            .env("TMPDIR", self.folder.path().join("tmp"))
            .env("HOME", self.folder.path().join("home"))
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_CACHE_HOME")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    fn left_behind(&self) -> Vec<String> {
        let names = fs::read_dir(self.folder.path().join("tmp")).unwrap();
        names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }
}

/// A running `up --json`.
struct Up {
    child: Child,
    events: BufReader<ChildStdout>,
}

impl Up {
    fn start(bench: &Bench, words: &[&str]) -> Self {
        let mut child = bench
            .command(&[&["--json", "up", "tiny.img", "--memory", "64M"], words].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let events = BufReader::new(child.stdout.take().unwrap());
        Self { child, events }
    }

    /// Types a line and returns what is answered.
    fn order(&mut self, line: &str) -> String {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
        let mut text = String::new();
        loop {
            text.clear();
            assert!(self.events.read_line(&mut text).unwrap() > 0, "`up` ended before it answered {line}");
            let event: Value = serde_json::from_str(&text).unwrap();
            if event["event"] == "order" && event["line"] == line {
                return event["answer"].as_str().unwrap().to_owned();
            }
        }
    }

    /// Reads events until `wanted` was seen of `nodes` nodes.
    fn until(&mut self, wanted: &str, mut nodes: usize) {
        let mut line = String::new();
        let mut seen = String::new();
        while nodes > 0 {
            line.clear();
            assert!(self.events.read_line(&mut line).unwrap() > 0, "`up` ended before {wanted}: {seen}");
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["what"] == wanted {
                nodes -= 1;
            }
            seen.push_str(&line);
        }
    }

    fn children(&self) -> Vec<u32> {
        let children = format!("/proc/{id}/task/{id}/children", id = self.child.id());
        fs::read_to_string(children).unwrap().split_whitespace().map(|id| id.parse().unwrap()).collect()
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a process runs (a zombie does not).
fn alive(id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn gone(ids: &[u32]) -> bool {
    (0..6000).any(|_| {
        std::thread::park_timeout(Duration::from_millis(10));
        ids.iter().all(|id| !alive(*id))
    })
}

const HELLO: &str = "[    0.0] Booting Linux on physical CPU 0x0\n@hcl:hello@\n";

#[test]
fn nodes_boot_the_same_bytes_and_leave_no_trace() {
    let bench = Bench::new(&kernel(HELLO, Then::Off));
    let before = bench.fingerprint();
    let output = bench.run(&["up", "tiny.img", "--nodes", "2", "--memory", "64M", "--dir", "logs"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    for node in ["node-1", "node-2"] {
        let lines: Vec<_> = text.lines().filter(|line| line.contains(node)).collect();
        let has = |what: &str| lines.iter().any(|line| line.trim_end().ends_with(what));
        assert!(has("kernel") && has("hello") && has("is off"), "{node}: {text}");
        let console = fs::read_to_string(bench.folder.path().join(format!("logs/{node}.console.log"))).unwrap();
        assert!(console.lines().any(|line| line.ends_with("  @hcl:hello@")), "{console}");
    }
    assert!(bench.folder.path().join("logs/wire.pcapng").exists());
    assert_eq!(bench.fingerprint(), before, "the image was touched");
    assert_eq!(bench.left_behind(), [] as [&str; 0]);
}

#[test]
fn control_c_ends_everything_in_order() {
    let bench = Bench::new(&kernel(HELLO, Then::Wait));
    let mut up = Up::start(&bench, &["--nodes", "2"]);
    up.until("hello", 2);
    let children = up.children();
    assert_eq!(children.len(), 3, "two nodes and the router");
    up.signal("INT");
    assert!(up.child.wait().unwrap().success());
    assert!(children.iter().all(|id| !alive(*id)));
    assert_eq!(bench.left_behind(), [] as [&str; 0]);
}

#[test]
fn orders_typed_while_it_runs_are_carried_out_or_refused() {
    let bench = Bench::new(&kernel(HELLO, Then::Wait));
    let mut up = Up::start(&bench, &["--nodes", "2"]);
    for (line, answer) in [
        ("cut 1", "node-1 is cut off"),
        ("split 1 2", "2 islands"),
        ("loss 0.5", "50.0 % of frames are lost on the way to each node"),
        ("delay 20ms", "frames to each node take 20 ms more"),
        ("heal", "all cables are in, one island, no loss, no delay"),
        ("cut 3", "there is no node-3, only 2"),
        ("off 2", "node-2: power button pressed"),
        ("jump", "`jump` is no order; there are:"),
        ("status", "node-1  on, no address yet"),
        ("pull 1", "node-1: power pulled"),
        ("pull 1", "node-1 is off"),
        ("status", "node-1  off"),
        ("on 2", "node-2 is on"),
        ("on 1", "node-1 is on"),
        ("add", "node-3 is on, a new one"),
        ("pull 3", "node-3: power pulled"),
        ("pull 4", "there is no node-4, only 3"),
    ] {
        assert_eq!(up.order(line).lines().next(), Some(answer), "{line}");
    }
    up.signal("TERM");
    assert!(up.child.wait().unwrap().success());
}

#[test]
fn orders_come_from_a_second_terminal_too() {
    let bench = Bench::new(&kernel(HELLO, Then::Wait));
    let lab = |words: &[&str]| {
        let output = bench.run(&[&["lab"], words].concat());
        let text = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned();
        (output.status.code(), text)
    };
    let (code, text) = lab(&["status"]);
    assert!(code == Some(2) && text.contains("no lab runs here"), "{text}");

    let mut first = Up::start(&bench, &["--nodes", "2"]);
    first.until("hello", 2);
    assert_eq!(lab(&["cut", "1"]), (Some(0), "node-1 is cut off\n".into()));
    assert_eq!(lab(&["add"]), (Some(0), "node-3 is on, a new one\n".into()));
    first.until("hello", 1);
    assert_eq!(lab(&["pull", "2"]), (Some(0), "node-2: power pulled\n".into()));
    assert_eq!(lab(&["status"]), (Some(0), "node-1  on, no address yet\nnode-2  off\nnode-3  on, no address yet\n".into()));
    let (code, text) = lab(&["jump"]);
    assert!(code == Some(1) && text.starts_with("hcl-image: `jump` is no order"), "{text}");

    let mut second = Up::start(&bench, &[]);
    second.until("hello", 1);
    let (code, text) = lab(&["heal"]);
    assert!(code == Some(2) && text.contains("2 labs run here: choose one with `--lab`"), "{text}");
    let names: Vec<_> = text.trim().rsplit("--lab` ").next().unwrap().split(" or ").collect();
    let nodes = |name: &str| lab(&["--lab", name, "status"]).1.lines().count();
    let mut counts = [nodes(names[0]), nodes(names[1])];
    counts.sort_unstable();
    assert_eq!(counts, [1, 3]);
    assert_eq!(lab(&["--lab", "nobody", "status"]).0, Some(2));

    for up in [&mut first, &mut second] {
        up.signal("TERM");
        assert!(up.child.wait().unwrap().success());
    }
    assert_eq!(lab(&["status"]).0, Some(2), "a lab that has ended still answers");
}

#[test]
fn after_a_kill_no_qemu_lives_and_the_next_lab_tidies_up() {
    let bench = Bench::new(&kernel(HELLO, Then::Wait));
    let mut up = Up::start(&bench, &["--nodes", "2"]);
    up.until("hello", 2);
    let children = up.children();
    assert_eq!(children.len(), 3, "two nodes and the router");
    up.signal("KILL");
    up.child.wait().unwrap();
    assert!(gone(&children), "a QEMU outlived hcl-image");
    assert!(!bench.left_behind().is_empty(), "nobody could tidy up after SIGKILL");

    let other = Bench::new(&kernel(HELLO, Then::Off));
    let output = bench.command(&["up", "--memory", "64M"]).arg(other.image()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(bench.left_behind(), [] as [&str; 0]);
}

#[test]
fn a_panic_ends_the_test_with_its_words_and_a_report() {
    let panic = "Booting Linux on physical CPU 0x0\n[ 1.0] Kernel panic - not syncing: VFS: Unable to mount root fs\n";
    let bench = Bench::new(&kernel(panic, Then::Wait));
    let output = bench.run(&["test", "tiny.img", "--memory", "64M", "--user", "hcl", "--identity", "key"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("hcl-image: node-1: kernel panic: VFS: Unable to mount root fs; see out/test-tiny/"), "{text}");
    let report: Value =
        serde_json::from_slice(&fs::read(bench.folder.path().join("out/test-tiny/report.json")).unwrap()).unwrap();
    assert_eq!(report["passed"], false);
    assert_eq!(report["failure"], "node-1: kernel panic: VFS: Unable to mount root fs");
    assert_eq!(report["nodes"][0]["milestones"][0]["label"], "kernel");
    assert!(bench.folder.path().join("out/test-tiny/report.html").exists());
    assert_eq!(bench.left_behind(), [] as [&str; 0]);
}

#[test]
fn a_node_that_stays_silent_or_goes_off_is_named_with_the_reason() {
    for (kernel, words) in [
        (kernel("", Then::Wait), "no address from the router after 3 s; it said nothing at all on its console"),
        (kernel(HELLO, Then::Off), "QEMU ended although nobody had asked for it (exit code 0)"),
    ] {
        let bench = Bench::new(&kernel);
        let options = ["--memory", "64M", "--user", "hcl", "--identity", "key", "--patience", "3"];
        let output = bench.run(&[&["test", "tiny.img"], &options[..]].concat());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.lines().last().unwrap().contains(words), "{text}");
    }
}

#[test]
fn what_cannot_boot_is_refused_in_one_line() {
    let bench = Bench::new(b"no kernel at all");
    let folder = bench.folder.path();
    fs::write(folder.join("text.img"), "not an image").unwrap();
    let login = ["--user", "hcl", "--identity", "key"];
    let rows: [(&[&str], i32, &str); 5] = [
        (&["up", "tiny.img"], 1, "`tiny.img` on the boot partition is no Linux kernel for ARM"),
        (&["up", "text.img"], 1, "neither a partition table nor a known file system"),
        (&["up", "nothing.img"], 1, "opening nothing.img: No such file or directory"),
        (&["up", "tiny.img", "--nodes", "17"], 2, "--nodes takes 1 to 16, not 17"),
        (&["test", "tiny.img"], 2, "no key of yours opens tiny.img"),
    ];
    for (words, code, message) in rows {
        let output = bench.run(words);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = text.lines().last().unwrap_or_default().to_owned();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {text}");
        assert!(last.starts_with("hcl-image: ") && last.contains(message), "{words:?}: {text}");
    }

    let bench = Bench::new(&kernel(HELLO, Then::Off));
    let output = bench.run(&["up", "tiny.img", "--disk", "1M"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && text.contains("smaller than the image"), "{text}");

    // Without QEMU: one line that names the package.
    let empty = bench.folder.path().join("home");
    let output = bench.command(&[&["test", "tiny.img"], &login[..]].concat()).env("PATH", &empty).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let last = text.lines().last().unwrap_or_default();
    assert!(last.contains("`qemu-system-aarch64` is not installed") && last.contains("package `qemu-system-arm`"), "{text}");
    let mut rest = String::new();
    (&output.stdout[..]).read_to_string(&mut rest).unwrap();
    assert_eq!(bench.left_behind(), [] as [&str; 0]);
}
