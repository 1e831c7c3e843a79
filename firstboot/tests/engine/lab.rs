//! A wire with engines on it.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use hcl_firstboot::{
    engine::{Engine, Error, InitSwarm},
    http::Client,
};

use super::shell::Shell;

/// How long a busy machine may take for anything here.
pub const BOUND: Duration = Duration::from_secs(180);
/// The image that every engine of the lab has.
pub const IMAGE: &str = "hcl/test:1";
/// Programs that are needed, and the Debian package of each.
const PACKAGES: [(&str, &str); 6] = [
    ("dockerd", "docker.io"),
    ("busybox", "busybox"),
    ("docker", "docker.io"),
    ("ip", "iproute2"),
    ("ldd", "libc-bin"),
    ("openssl", "openssl"),
];

/// Settings of an engine that makes no network unless it is told to.
const ALONE: &str = r#"{ "bridge": "none", "iptables": false }"#;

/// A wire, as a bridge in a namespace of its own; all that runs in there ends with it.
pub struct Lab {
    shell: Shell,
    pub folder: tempfile::TempDir,
    hosts: u8,
}

impl Lab {
    /// A wire without anything on it.
    pub fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "a real engine needs root: run this test with sudo -E");
        for (program, package) in PACKAGES {
            let found = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
                .iter()
                .any(|folder| Path::new(folder).join(program).exists());
            assert!(found, "{program} is needed: apt-get install {package}");
        }
        let shell = Shell::new(&["--net", "--mount-proc", "--pid", "--fork", "--kill-child"], None);
        let mut lab = Self { shell, folder: tempfile::tempdir().unwrap(), hosts: 0 };
        lab.sh("ip link set lo up && ip link add br0 type bridge forward_delay 0 && ip link set br0 up");
        lab.image();
        lab
    }

    #[track_caller]
    pub fn sh(&mut self, command: &str) -> String {
        self.shell.sh(command)
    }

    /// A tar archive with busybox, what it needs, and a link for each of its programs.
    fn image(&mut self) {
        let at = self.folder.path().join("image").display().to_string();
        self.sh(&format!(
            "mkdir -p {at}/bin {at}/tmp && cp $(command -v busybox) {at}/bin/busybox && \
             for file in $(ldd {at}/bin/busybox | grep -o '/[^ ]*'); do mkdir -p {at}/${{file%/*}} && cp -L $file {at}/$file; done; \
             for name in $(busybox --list); do [ $name = busybox ] || ln -s busybox {at}/bin/$name; done; tar -C {at} -cf {at}.tar ."
        ));
    }

    /// A machine on the wire with an engine that runs and has [`IMAGE`].
    pub fn engine(&mut self) -> u8 {
        let host = self.machine();
        fs::write(self.at(host, "daemon.json"), ALONE).unwrap();
        self.start(host);
        self.import(host);
        host
    }

    /// Puts [`IMAGE`] into the store of `host`.
    pub fn import(&self, host: u8) {
        let tar = fs::read(self.folder.path().join("image.tar")).unwrap();
        let (name, tag) = IMAGE.split_once(':').unwrap();
        let path = format!("/images/create?fromSrc=-&repo={name}&tag={tag}&changes=CMD%20sh");
        let body = Some(("application/x-tar", &tar[..]));
        let response = Client::unix(self.socket(host)).request("POST", &path, &[], body, BOUND).unwrap();
        assert!(response.is_success(), "{}", response.text());
    }

    /// A machine on the wire, with a folder and nothing that runs. An engine there reads its settings from `daemon.json`.
    pub fn machine(&mut self) -> u8 {
        self.hosts += 1;
        let host = self.hosts;
        fs::create_dir_all(self.at(host, "")).unwrap();
        self.sh(&format!("unshare --net --uts sleep 3600 & h{host}=$!"));
        // The child is in its namespace once that is another one than ours.
        self.sh(&format!("while [ \"$(readlink /proc/$h{host}/ns/net)\" = \"$(readlink /proc/self/ns/net)\" ]; do :; done"));
        self.sh(&format!("ip link add end{host} type veth peer name eth0 netns $h{host} && ip link set end{host} master br0 up"));
        let address = self.address(host);
        self.on(
            host,
            &format!("hostname node-{host}; ip link set lo up; ip address add {address}/24 dev eth0; ip link set eth0 up"),
        );
        host
    }

    pub fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 168, 200, 10 + host)
    }

    /// How `host` founds a swarm.
    pub fn founding(&self, host: u8) -> InitSwarm {
        let address = self.address(host);
        InitSwarm { address, taken: vec![(address, 24)], force_new: false }
    }

    /// A folder of a machine, and files in it.
    pub fn at(&self, host: u8, name: &str) -> PathBuf {
        self.folder.path().join(format!("host{host}")).join(name)
    }

    pub fn socket(&self, host: u8) -> PathBuf {
        self.at(host, "docker.sock")
    }

    #[track_caller]
    pub fn on(&mut self, host: u8, command: &str) -> String {
        self.sh(&format!("nsenter -t $h{host} -n -u sh -c '{command}'"))
    }

    /// Starts the engine of `host` and waits until it answers.
    #[track_caller]
    pub fn start(&mut self, host: u8) {
        self.launch(host);
        self.until(host, "answers", || Engine::connect(Client::unix(self.socket(host))).ok());
    }

    /// Starts the engine of `host`.
    #[track_caller]
    pub fn launch(&mut self, host: u8) {
        let at = self.at(host, "").display().to_string();
        let folders = format!("--config-file {at}daemon.json --data-root {at}root --exec-root {at}exec -p {at}pid");
        let options = format!("{folders} -H unix://{at}docker.sock --storage-driver overlay2");
        self.sh(&format!("nsenter -t $h{host} -n -u unshare --mount dockerd {options} >>{at}log 2>&1 & d{host}=$!"));
    }

    /// Stops it, as for a reboot.
    pub fn stop(&mut self, host: u8) {
        self.sh(&format!("kill $d{host}; wait $d{host}; true"));
    }

    pub fn connect(&self, host: u8) -> Engine {
        Engine::connect(Client::unix(self.socket(host))).unwrap()
    }

    /// Docker's own command line on the engine of `host`.
    #[track_caller]
    pub fn docker(&self, host: u8, arguments: &str) -> String {
        let (done, text) = self.try_docker(host, arguments);
        assert!(done, "docker {arguments}\n{text}");
        text
    }

    pub fn try_docker(&self, host: u8, arguments: &str) -> (bool, String) {
        let socket = format!("unix://{}", self.socket(host).display());
        let mut command = Command::new("docker");
        command.arg("-H").arg(socket).args(arguments.split_whitespace()).env_remove("DOCKER_TLS_VERIFY");
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text.trim().to_owned())
    }

    /// Waits until `look` finds something.
    #[track_caller]
    pub fn until<T>(&self, host: u8, what: &str, look: impl Fn() -> Option<T>) -> T {
        let end = Instant::now() + BOUND;
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(Instant::now() < end, "engine {host} never {what}, in {BOUND:?}:\n{}", self.log(host));
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// The last lines of an engine's log that are no information.
    fn log(&self, host: u8) -> String {
        let text = fs::read_to_string(self.at(host, "log")).unwrap_or_default();
        let lines: Vec<_> = text.lines().filter(|line| !line.contains("level=info")).collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // An engine that is killed leaves control groups behind.
        let engines: String = (1..=self.hosts).map(|host| format!(" $d{host}")).collect();
        // A `wait` for nobody would wait for all that runs here.
        let _ = self
            .shell
            .try_sh(&format!("for engine in {engines}; do kill $engine; done; for engine in {engines}; do wait $engine; done"));
    }
}

/// What the engine says, of a call that must fail.
#[track_caller]
pub fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    let line = result.unwrap_err().to_string();
    assert!(!line.contains('\n'), "{line}");
    line
}
