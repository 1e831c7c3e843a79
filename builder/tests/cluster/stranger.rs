//! A machine without the key that is plugged into the lab's switch: a network namespace of this machine, with nmap in it.
//!
//! Its card is a TAP whose frames a QEMU without a machine carries to a port of the switch. A user namespace makes the commands root
//! of that network only: nothing of this machine's own network is touched, and no right is needed.

use std::{
    collections::BTreeMap,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use hcl_image::lab::router::escaped;

/// What nmap found open on one address.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Port and protocol, such as `22/tcp`, and the state in nmap's words: `open`, or `open|filtered` for UDP without an answer.
    pub ports: BTreeMap<String, String>,
    /// How many ports were closed, and answered so.
    pub closed: u32,
    /// How many ports gave no answer at all.
    pub filtered: u32,
}

/// Runs `script` with `sh` on a machine plugged into `socket`, whose card is `wire`; what it printed.
pub fn run(socket: &Path, script: &str) -> String {
    let bridge = format!(
        "qemu-system-aarch64 -M none -nodefaults -no-user-config -display none \
         -netdev tap,id=tap,ifname=wire,script=no,downscript=no -netdev hubport,id=a,hubid=0,netdev=tap \
         -netdev 'stream,id=wire,server=off,addr.type=unix,addr.path={}' -netdev hubport,id=b,hubid=0,netdev=wire",
        escaped(socket)
    );
    // The bridge ends with the shell: both die with this test, or when the script is done.
    let whole = format!(
        "set -eu\nip link set lo up\nip tuntap add wire mode tap\nip link set wire address 02:00:00:00:00:99 up\n\
         setpriv --pdeathsig KILL -- {bridge} &\nbridge=$!\ntrap 'kill $bridge' EXIT\n\
         for try in $(seq 100); do [ \"$(cat /sys/class/net/wire/carrier)\" = 0 ] || break; sleep 0.1; done\n{script}\n"
    );
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", "unshare", "--map-root-user", "--net", "--mount", "sh", "-s"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("unshare is in the package util-linux");
    child.stdin.take().unwrap().write_all(whole.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let (said, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "the stranger's commands failed: {said}{complaint}");
    said.into_owned()
}

/// The words of nmap's output for scripts (`-oG -`), address by address.
pub fn scans(printed: &str) -> BTreeMap<String, Scan> {
    let mut scans: BTreeMap<String, Scan> = BTreeMap::new();
    for line in printed.lines() {
        let Some((address, rest)) = line.strip_prefix("Host: ").and_then(|line| line.split_once(' ')) else { continue };
        let scan = scans.entry(address.to_owned()).or_default();
        for field in rest.split('\t') {
            if let Some(ports) = field.strip_prefix("Ports: ") {
                // Of a host that answers nowhere there are none.
                for port in ports.split(", ").filter(|port| !port.trim().is_empty()) {
                    let parts: Vec<_> = port.trim().split('/').collect();
                    let [number, state, protocol, ..] = parts[..] else { panic!("{line}") };
                    match state {
                        "closed" => scan.closed += 1,
                        "filtered" => scan.filtered += 1,
                        _ => drop(scan.ports.insert(format!("{number}/{protocol}"), state.to_owned())),
                    }
                }
            } else if let Some(ignored) = field.strip_prefix("Ignored State: ") {
                let (state, count) = ignored.split_once(" (").unwrap();
                let count: u32 = count.trim_end_matches(')').parse().unwrap();
                match state {
                    "closed" => scan.closed += count,
                    _ => scan.filtered += count,
                }
            }
        }
    }
    scans
}

#[test]
fn nmaps_words() {
    let printed = "# Nmap 7.93\nHost: 10.0.0.1 ()\tStatus: Up\n\
                   Host: 10.0.0.1 ()\tPorts: 22/open/tcp//ssh///, 80/closed/tcp//http///\tIgnored State: filtered (65533)\n";
    let scans = scans(printed);
    let open = BTreeMap::from([("22/tcp".to_owned(), "open".to_owned())]);
    assert_eq!(scans["10.0.0.1"], Scan { ports: open, closed: 1, filtered: 65533 });
    let silent = self::scans("Host: 10.0.0.1 ()\tPorts: \tIgnored State: filtered (65535)\n");
    assert_eq!(silent["10.0.0.1"], Scan { filtered: 65535, ..Scan::default() });
}
