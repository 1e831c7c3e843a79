//! The home router: a QEMU without a machine whose user-mode network serves DHCP and forwards ports.
//!
//! `-M none` has no processor and no memory; a hub joins its user network to a stream socket of our
//! switch. The LAN is 192.168.77.0/24: like a home's, and not the lab's own 192.168.200.0/24.

use std::{
    net::Ipv4Addr,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};

use super::{
    process::{Process, listen},
    qmp::Qmp,
};

/// The first address that the router gives away; it has sixteen (`NB_BOOTP_CLIENTS` in libslirp).
pub const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 20);
/// How many nodes it can serve.
pub const CLIENTS: usize = 16;
/// QEMU is there within a second on a quiet machine.
pub const START: Duration = Duration::from_secs(60);

/// The running router.
#[derive(Debug)]
pub struct Router {
    process: Process,
    qmp: Qmp,
}

impl Router {
    /// Starts it on the switch port `wire`; its own files go into `folder`. With `internet` the nodes
    /// reach whatever this machine reaches, else only each other and the router.
    ///
    /// # Errors
    ///
    /// QEMU is missing, or ends at once.
    pub fn start(folder: &Path, wire: &Path, internet: bool) -> anyhow::Result<Self> {
        let socket: PathBuf = folder.join("router.qmp");
        let listener: UnixListener = listen(&socket)?;
        let restrict = if internet { "off" } else { "on" };
        let arguments = [
            "-M",
            "none",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-netdev",
            &format!(
                "user,id=lan,net=192.168.77.0/24,host=192.168.77.1,dns=192.168.77.2,dhcpstart={FIRST_ADDRESS},\
                 restrict={restrict},ipv6=off"
            ),
            "-netdev",
            "hubport,id=lan-side,hubid=0,netdev=lan",
            "-netdev",
            &format!("stream,id=wire,server=off,addr.type=unix,addr.path={}", escaped(wire)),
            "-netdev",
            "hubport,id=wire-side,hubid=0,netdev=wire",
            "-chardev",
            &format!("socket,id=qmp,path={}", escaped(&socket)),
            "-mon",
            "chardev=qmp,mode=control",
        ]
        .map(str::to_owned);
        let errors = folder.join("router.log");
        let mut process = Process::spawn("the router's QEMU", "qemu-system-aarch64", "qemu-system-arm", &arguments, errors)?;
        let qmp = Qmp::new(process.accept(&listener, START)?).context("starting the router")?;
        Ok(Self { process, qmp })
    }

    /// Forwards a free port of 127.0.0.1 to `port` of `address`, and says which.
    ///
    /// # Errors
    ///
    /// The router refused, or has gone.
    pub fn forward(&mut self, address: Ipv4Addr, port: u16) -> anyhow::Result<u16> {
        // Port 0: the system picks a free one as it binds, so nothing can be faster than us.
        let refusal = self.qmp.human(&format!("hostfwd_add lan tcp:127.0.0.1:0-{address}:{port}"))?;
        if !refusal.is_empty() {
            bail!("the router would not forward to {address}:{port}: {refusal}");
        }
        let table = self.qmp.human("info usernet")?;
        forwarded(&table, address, port)
            .with_context(|| format!("the router forwards to {address}:{port}, but does not say from where: {table}"))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What ended it, where it has ended although nobody asked for it.
    pub fn failure(&mut self) -> anyhow::Result<Option<String>> {
        let status = self.process.ended()?;
        Ok(status.map(|status| format!("the router's QEMU ended ({status}): {}", self.process.last_words())))
    }
}

/// A comma separates options of QEMU; doubled it stands for itself.
pub fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// The host port in QEMU's `info usernet`, whose rows are
/// `TCP[HOST_FORWARD]   9       127.0.0.1 34637   192.168.77.20    22     0     0`.
fn forwarded(table: &str, address: Ipv4Addr, port: u16) -> Option<u16> {
    table.lines().find_map(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let [kind, _, _, from, to, to_port, ..] = columns[..] else { return None };
        let ours = kind == "TCP[HOST_FORWARD]" && to == address.to_string() && to_port == port.to_string();
        ours.then(|| from.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forwarding_table() {
        let table = "Hub 0 (lan):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
                     TCP[ESTABLISHED]   7  127.0.0.1 1   192.168.77.20    22     0     0\r\n  \
                     TCP[HOST_FORWARD]   9       127.0.0.1 34637   192.168.77.20    22     0     0\r\n";
        assert_eq!(forwarded(table, FIRST_ADDRESS, 22), Some(34637));
        assert_eq!(forwarded(table, FIRST_ADDRESS, 80), None);
        assert_eq!(forwarded("", FIRST_ADDRESS, 22), None);
        assert_eq!(escaped(Path::new("/tmp/a,b")), "/tmp/a,,b");
    }
}
