//! A real engine on a data folder, socket and containerd of its own: no bridge, no rules in the firewall.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

/// An engine starts within this, on a busy machine too; and so it stops.
const DEADLINE: Duration = Duration::from_secs(60);

pub struct Engine {
    child: Child,
    folder: PathBuf,
}

fn missing(program: &str, error: &std::io::Error) -> ! {
    panic!("{program} is missing ({error}): apt-get install docker.io docker-cli (both are in docker.io before Debian 13)")
}

impl Engine {
    /// Starts one on `data`. Its own files go into `folder`.
    pub fn start(folder: &Path, data: &Path) -> Result<Self, String> {
        fs::create_dir_all(folder).unwrap();
        let config = folder.join("daemon.json");
        fs::write(&config, r#"{"features":{"containerd-snapshotter":false}}"#).unwrap();
        let log = File::create(folder.join("log")).unwrap();
        let socket = folder.join("sock");
        let child = Command::new("dockerd")
            .env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()))
            .args(["--bridge", "none", "--iptables=false", "--ip6tables=false", "--storage-driver", "overlay2"])
            .arg("--config-file")
            .arg(&config)
            .arg("--data-root")
            .arg(data)
            .arg("--exec-root")
            .arg(folder.join("exec"))
            .arg("--pidfile")
            .arg(folder.join("pid"))
            .arg("--host")
            .arg(format!("unix://{}", socket.display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| missing("dockerd", &error));
        let mut engine = Self { child, folder: folder.to_owned() };
        let start = Instant::now();
        while engine.try_docker(&["version"]).is_err() {
            let ended = engine.child.try_wait().unwrap();
            if ended.is_some() || start.elapsed() > DEADLINE {
                return Err(format!("the engine did not start: {}", engine.log()));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(engine)
    }

    /// As `DOCKER_HOST` has it.
    pub fn address(&self) -> String {
        format!("unix://{}", self.folder.join("sock").display())
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new("docker")
            .arg("--host")
            .arg(self.address())
            .args(arguments)
            .env("DOCKER_CONFIG", &self.folder)
            .env_remove("DOCKER_TLS_VERIFY")
            .env_remove("DOCKER_CONTEXT")
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| missing("docker", &error))
    }

    /// What `docker ARGUMENTS` prints, or why it failed.
    pub fn try_docker(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.run(arguments);
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(format!("docker {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
    }

    /// As [`Engine::try_docker`], which must succeed.
    pub fn docker(&self, arguments: &[&str]) -> String {
        self.try_docker(arguments).unwrap_or_else(|error| panic!("{error}\n{}", self.log()))
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Engine {
    /// Namespaces that its containers had stay mounted after its end.
    fn unmount(&self) {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let own =
            mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|path| Path::new(path).starts_with(&self.folder));
        for path in own {
            let _ = Command::new("umount").arg(path).status();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // SIGTERM: it stops its containerd and unmounts most of what it mounted.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let start = Instant::now();
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if start.elapsed() > DEADLINE {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.unmount();
    }
}
