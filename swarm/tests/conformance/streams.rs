//! What streams: attached containers, commands in them, terminals, logs, archives. Nothing is lost, nothing is held back.

use std::time::{Duration, Instant};

use super::{IMAGE, Rows, Stage, lab::terminal::Terminal};

pub const ROWS: Rows = &[
    ("attach", attach),
    ("half_close", half_close),
    ("binary", binary),
    ("terminal", terminal),
    ("exec", exec),
    ("exec_terminal", exec_terminal),
    ("detach_keys", detach_keys),
    ("log_options", log_options),
    ("log_rate", log_rate),
    ("log_flood", log_flood),
    ("copy", copy),
];
/// What takes its time, and is the same whatever the client.
pub const ONCE: Rows = &[("copy_large", copy_large), ("save_large", save_large), ("back_pressure", back_pressure)];

/// A pattern of `count` bytes that repeats at no power of two.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at * 7 + at / 251 + at / 65_521) as u8).collect()
}

fn attach(stage: &Stage) {
    let docker = &stage.docker;
    let script = "while read x; do echo got $x; echo err $x >&2; done";
    docker.ok(&format!("docker create -i --name one -e constraint:node==node-2 {IMAGE} sh -c '{script}'"));
    let mut attached = docker.start("docker start -a -i one 2>/dev/null");
    attached.type_in("a\n");
    attached.line_with("got a");
    attached.type_in("b\n");
    attached.line_with("got b");
    // Another one sees it too.
    let other = docker.start("docker attach --no-stdin --sig-proxy=false one 2>&1 >/dev/null");
    std::thread::sleep(Duration::from_millis(700));
    attached.type_in("c\n");
    other.line_with("err c");
    attached.close();
    assert_eq!(attached.end().0, 0);
    assert_eq!(other.end().0, 0);
    docker.prints("docker wait one", "0");
    stage.refused_alike("docker attach nothing");
    docker.fails(1, "docker attach one");
}

fn half_close(stage: &Stage) {
    let docker = &stage.docker;
    docker.prints(&format!("echo x | docker run -i --rm {IMAGE} cat"), "x");
    // The end of the input is passed on while the output goes on.
    docker.prints(&format!("echo x | docker run -i --rm {IMAGE} sh -c 'cat; sleep 1; echo after'"), "x\nafter");
    docker.prints(&format!("docker run -i --rm {IMAGE} sh -c 'cat | wc -c' </dev/null"), "0");
    // And output after the container closed its own input.
    docker.prints(&format!("yes | head -c 100000 | docker run -i --rm {IMAGE} sh -c 'exec <&-; sleep 0.3; echo well'"), "well");
    docker.ok(&format!("docker run -d --name one {IMAGE} sleep 1000"));
    docker.prints("echo y | docker exec -i one cat", "y");
    docker.prints("printf 'a\\nb\\n' | docker exec -i one sh -c 'cat; sleep 1; echo after'", "a\nb\nafter");
}

fn binary(stage: &Stage) {
    let sent = bytes(8 << 20);
    for line in [
        format!("docker run -i --rm -e constraint:node==node-3 {IMAGE} cat"),
        format!("docker run -d --name one -e constraint:node==node-2 {IMAGE} sleep 1000 >/dev/null; docker exec -i one cat"),
    ] {
        let (code, got) = stage.docker.feed(&line, &sent);
        assert_eq!((code, got.len()), (0, sent.len()), "{line}");
        assert!(got == sent, "{line}: other bytes came back");
    }
}

fn terminal(stage: &Stage) {
    let docker = &stage.docker;
    let mut terminal =
        Terminal::open(docker, 33, 111, &format!("docker run -it --rm --name one -e constraint:node==node-2 {IMAGE} sh"));
    terminal.shows("# ");
    terminal.type_in("tty\r");
    terminal.shows("/dev/pts/0");
    has_size(&mut terminal, "33 111");
    has_size_after(&mut terminal, 44, 88);
    // Control+C is the container's.
    terminal.type_in("sleep 100\r");
    std::thread::sleep(Duration::from_millis(300));
    terminal.type_in("\x03");
    terminal.shows("# ");
    terminal.type_in("exit 5\r");
    let (code, rest) = terminal.end();
    assert_eq!(code, 5, "{rest}");
    docker.prints("docker ps -aq", "");
}

/// The shell in the terminal knows its size: a client tells it a moment after the start, and after a change.
fn has_size(terminal: &mut Terminal, wanted: &str) {
    super::lab::until(wanted, || {
        terminal.type_in("stty size\r");
        terminal.shows_within(wanted, Duration::from_millis(500)).then_some(())
    });
}

/// The same after a change. A client that has not begun to look for changes misses the first one.
fn has_size_after(terminal: &mut Terminal, rows: u16, columns: u16) {
    super::lab::until("the new size", || {
        terminal.resize(rows, columns + 1);
        terminal.resize(rows, columns);
        terminal.type_in("stty size\r");
        terminal.shows_within(&format!("{rows} {columns}"), Duration::from_millis(500)).then_some(())
    });
}

fn exec(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok(&format!("docker run -d --name one -e constraint:node==node-3 {IMAGE} sleep 1000"));
    let said = docker.run("docker exec one sh -c 'echo out; echo err >&2; exit 9'");
    assert_eq!((said.code, said.out.as_str(), said.error.as_str()), (9, "out", "err"));
    docker.prints("docker exec -e WORD=w -w /tmp one sh -c 'echo $WORD; pwd'", "w\n/tmp");
    docker.prints("docker exec -u 7:8 one id -u", "7");
    docker.prints("docker exec -d one sh -c 'echo x >/tmp/made'", "");
    super::lab::until("what it made", || (docker.run("docker exec one cat /tmp/made").out == "x").then_some(()));
    // An engine of 20.10 says 126 of both.
    docker.fails(126, "docker exec one /nothing");
    docker.fails(126, "docker exec one /tmp");
    stage.refused_alike("docker exec nothing true");
    docker.ok("docker stop -t 0 one");
    let error = docker.fails(1, "docker exec one true");
    assert!(error.contains("is not running"), "{error}");
}

fn exec_terminal(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok(&format!("docker run -d --name one -e constraint:node==node-2 {IMAGE} sleep 1000"));
    let mut terminal = Terminal::open(docker, 25, 90, "docker exec -it one sh");
    terminal.shows("# ");
    has_size(&mut terminal, "25 90");
    has_size_after(&mut terminal, 30, 70);
    terminal.type_in("exit 4\r");
    assert_eq!(terminal.end().0, 4);
}

fn detach_keys(stage: &Stage) {
    let docker = &stage.docker;
    let mut terminal =
        Terminal::open(docker, 24, 80, &format!("docker run -it --name one -e constraint:node==node-3 {IMAGE} sh"));
    terminal.shows("# ");
    terminal.type_in("\x10\x11");
    assert_eq!(terminal.end().0, 0);
    docker.prints("docker inspect -f '{{.State.Running}}' one", "true");
    let mut again = Terminal::open(docker, 24, 80, "docker attach --detach-keys=ctrl-x one");
    std::thread::sleep(Duration::from_millis(500));
    again.type_in("echo again\r");
    again.shows("again\r\nagain");
    again.type_in("\x18");
    let (_, rest) = again.end();
    assert!(rest.contains("read escape sequence") || rest.is_empty() || rest.contains("# "), "{rest:?}");
    docker.prints("docker inspect -f '{{.State.Running}}' one", "true");
}

fn log_options(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok(&format!("docker run --name one -e constraint:node==node-2 {IMAGE} sh -c 'for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; done' 2>/dev/null"));
    docker.prints("docker logs one 2>/dev/null", "out 1\nout 2\nout 3\nout 4\nout 5");
    docker.prints("docker logs one 2>&1 >/dev/null | tail -n 1", "err 5");
    docker.prints("docker logs --tail 2 one 2>&1 | wc -l", "2");
    docker.prints("docker logs --since 1h one 2>/dev/null | wc -l", "5");
    docker.prints("docker logs --until 1h one 2>/dev/null | wc -l", "0");
    assert!(docker.ok("docker logs -t --tail 1 one 2>&1").contains("T"));
    // Of a container that has ended, following ends too.
    docker.prints("docker logs -f --tail 1 one 2>&1 | wc -l", "1");
    stage.refused_alike("docker logs -f nothing");
}

/// A thousand lines a second, followed from beginning to end; none is late, none is lost.
fn log_rate(stage: &Stage) {
    let docker = &stage.docker;
    const SECONDS: u64 = 6;
    let script = format!(
        "i=0; while [ $i -lt {} ]; do for k in 0 1 2 3 4 5 6 7 8 9; do echo line $((i*100+k*10)); for j in 1 2 3 4 5 6 7 8 9; do echo line $((i*100+k*10+j)); done; done; i=$((i+1)); usleep 95000; done",
        SECONDS * 10
    );
    docker.ok(&format!("docker run -d --name one -e constraint:node==node-3 {IMAGE} sh -c '{script}'"));
    let started = Instant::now();
    let log = docker.start("docker logs -f one");
    for number in 0..SECONDS * 1000 {
        let line = log.line_within(Duration::from_secs(10)).unwrap_or_else(|| panic!("no line after {number}"));
        assert_eq!(line, format!("line {number}"));
    }
    let took = started.elapsed().as_secs_f32();
    assert_eq!(log.end(), (0, Vec::new()), "it ends with the container");
    assert!(took < 3.0 * SECONDS as f32, "{SECONDS} s of lines took {took} s");
}

/// As much as there is at once, with many lines waiting.
fn log_flood(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok(&format!("docker run -d --name one -e constraint:node==node-2 {IMAGE} seq 1 100000 && docker wait one"));
    let (code, text) = docker.feed("docker logs one", b"");
    let wanted: String = (1..=100_000).map(|number| format!("{number}\n")).collect();
    assert!(code == 0 && text == wanted.as_bytes(), "{} of {} bytes", text.len(), wanted.len());
}

fn copy(stage: &Stage) {
    let docker = &stage.docker;
    let folder = stage.cluster.laptop.folder.join(format!("copy-{}", docker.version));
    std::fs::create_dir_all(folder.join("in/deep")).unwrap();
    std::fs::write(folder.join("in/deep/file"), bytes(100_000)).unwrap();
    let at = folder.display();
    docker.ok(&format!("docker run -d --name one -e constraint:node==node-2 {IMAGE} sleep 1000"));
    docker.ok(&format!(
        "docker cp {at}/in one:/tmp/ && docker cp one:/tmp/in {at}/out && cmp {at}/in/deep/file {at}/out/deep/file"
    ));
    docker.prints("docker exec one find /tmp/in -type f", "/tmp/in/deep/file");
    docker.prints("docker cp one:/tmp/in/deep/file - | tar t", "file");
    docker.ok("tar -C / -cf - etc/hostname | docker cp - one:/tmp && docker exec one test -s /tmp/etc/hostname");
    // Into one that does not run.
    docker.ok(&format!("docker create --name two {IMAGE} cat /note && echo noted >{at}/note && docker cp {at}/note two:/note"));
    docker.prints("docker start -a two", "noted");
    let error = docker.fails(1, "docker cp one:/nothing /tmp");
    assert!(error.contains("Could not find the file /nothing in container"), "{error}");
    stage.refused_alike("docker cp nothing:/x /tmp");
    stage.refused_alike("docker cp /etc/hostname nothing:/x");
    docker.fails(1, &format!("docker cp {at}/note one:/not/there/at/all"));
}

/// 500 MB into a container and out of it again.
fn copy_large(stage: &Stage) {
    let docker = &stage.docker;
    let file = stage.cluster.laptop.folder.join("large");
    if !file.exists() {
        docker.ok(&format!("head -c 500000000 /dev/urandom >{}", file.display()));
    }
    let file = file.display();
    docker.ok(&format!("docker run -d --name one -e constraint:node==node-3 {IMAGE} sleep 1000"));
    docker.ok(&format!("docker cp {file} one:/tmp/large"));
    let sum = docker.ok(&format!("sha256sum <{file}"));
    docker.prints("docker exec -i one sha256sum </dev/null /tmp/large | sed 's|/tmp/large|-|'", &sum);
    docker.prints("docker cp one:/tmp/large - | tar xO | sha256sum", &sum);
}

/// 500 MB through `save`, and into all engines again.
fn save_large(stage: &Stage) {
    let docker = &stage.docker;
    let archive = stage.cluster.laptop.folder.join(format!("saved-{}.tar", docker.version));
    let archive = archive.display();
    docker
        .ok(&format!("docker run --name one -e constraint:node==node-2 {IMAGE} sh -c 'head -c 500000000 /dev/urandom >/large'"));
    docker.ok("docker commit one hcl/large:1 && docker rm one");
    let id = docker.ok("docker images -q --no-trunc hcl/large:1");
    docker.ok(&format!("docker save hcl/large:1 >{archive}"));
    docker.ok("docker rmi hcl/large:1");
    docker.ok(&format!("docker load -i {archive} && rm {archive}"));
    let has = |list: &serde_json::Value| list.as_array().unwrap().iter().any(|image| image["Id"] == id.as_str());
    assert_eq!(stage.cluster.having("/images/json", has), ["node-1", "node-2", "node-3"]);
    docker.ok("docker rmi hcl/large:1");
}

/// Who does not read holds the writer up: nothing piles up on the way.
fn back_pressure(stage: &Stage) {
    let docker = &stage.docker;
    let manage = stage.cluster.process("manage", &stage.cluster.nodes[0]).expect("manage runs");
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{manage}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().trim().to_owned();
        line.trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    };
    let before = resident();
    docker.ok(&format!(
        "docker run -d --name one -e constraint:node==node-2 {IMAGE} sh -c 'head -c 300000000 /dev/zero >/zeros; exec sleep 1000'"
    ));
    super::lab::until("the file", || (docker.run("docker exec one stat -c %s /zeros").out == "300000000").then_some(()));
    let copying = docker.start("docker cp one:/zeros - | (sleep 4; wc -c)");
    std::thread::sleep(Duration::from_secs(3));
    let during = resident();
    let (code, lines) = copying.end();
    assert!(code == 0 && lines[0].parse::<u64>().unwrap() > 300_000_000, "{code} {lines:?}");
    assert!(during < before + 10, "{before} MB before, {during} MB with a reader that does not read");
}
