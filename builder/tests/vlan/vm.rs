//! A machine in QEMU that runs kernel and system of a built image, without writing to it, and does what the test says.
//!
//! The image's own initramfs is started with one folder more, in which `init.sh` is the first process. It ends by itself: when
//! the test's connection closes, or after a limit. QEMU ends with the test too ([`Process`]).

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use hcl_image::{
    image::disk::Disk,
    lab::{
        boot,
        machine::Machine,
        process::{Process, listen},
        router::escaped,
    },
    progress::{Mode, Reporter},
};

/// For one command: it takes a second at most, on a machine that is emulated and busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// From power to shell; 8 s on two quiet cores.
const BOOT: Duration = Duration::from_secs(120);

pub struct Vm {
    process: Process,
    input: UnixStream,
    output: BufReader<UnixStream>,
    folder: tempfile::TempDir,
}

impl Vm {
    /// Boots. `files` lie in /run/hcl-vlan afterwards; after `limit` the machine ends by itself.
    pub fn boot(image: &Path, files: &[(&str, Vec<u8>)], limit: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let disk = Disk::open(image, &Reporter::new(Mode::Quiet)).unwrap();
        let boot = boot::extract(&disk, Machine::Virt.boards(), false, folder.path()).unwrap();
        let mut initrd = archive(files);
        initrd.extend(fs::read(boot.initrd.expect("the image boots with an initramfs")).unwrap());
        fs::write(at("initrd"), initrd).unwrap();
        let [console, port, wire] = ["console", "port", "wire"].map(|name| listen(&at(name)).unwrap());
        let path = |name: &str| escaped(&at(name));
        let arguments = [
            "-nodefaults -no-user-config -no-reboot -display none -M virt -cpu cortex-a53 -smp 2 -m 512".to_owned(),
            "-accel tcg,thread=multi,tb-size=256".to_owned(),
            format!("-kernel {} -initrd {}", boot.kernel.display(), at("initrd").display()),
            format!("-chardev socket,id=console,path={} -serial chardev:console", path("console")),
            "-device virtio-serial-device -device virtserialport,chardev=port,name=hcl".to_owned(),
            format!("-chardev socket,id=port,path={}", path("port")),
            format!("-drive if=none,id=card,format=raw,readonly=on,file={}", escaped(&image.canonicalize().unwrap())),
            "-device virtio-blk-device,drive=card -device virtio-rng-device".to_owned(),
            format!("-netdev stream,id=wire,server=off,addr.type=unix,addr.path={}", path("wire")),
            "-device virtio-net-device,netdev=wire,mac=52:54:00:00:00:01".to_owned(),
            format!("-object filter-dump,id=dump,netdev=wire,file={}", at("wire.pcap").display()),
        ];
        let mut arguments: Vec<_> = arguments.iter().flat_map(|line| line.split(' ').map(str::to_owned)).collect();
        let command_line = format!("rdinit=/hcl-vlan/init.sh console=ttyAMA0 quiet panic=-1 HCL_LIMIT={}", limit.as_secs());
        arguments.extend(["-append".to_owned(), command_line]);
        let mut process =
            Process::spawn("the VLAN machine", "qemu-system-aarch64", "qemu-system-arm", &arguments, at("qemu.log")).unwrap();
        // Both end with QEMU.
        let drain = |mut from: UnixStream, mut to: Box<dyn Write + Send>| thread::spawn(move || io::copy(&mut from, &mut to));
        let log = fs::File::create(at("console.log")).unwrap();
        drain(process.accept(&wire, PATIENCE).unwrap(), Box::new(io::sink()));
        drain(process.accept(&console, PATIENCE).unwrap(), Box::new(log));
        let input = process.accept(&port, PATIENCE).unwrap();
        input.set_read_timeout(Some(BOOT)).unwrap();
        let output = BufReader::new(input.try_clone().unwrap());
        let mut vm = Self { process, input, output, folder };
        vm.sh(". /run/hcl-vlan/lab.sh");
        vm.input.set_read_timeout(Some(PATIENCE)).unwrap();
        vm
    }

    /// Runs a command; its output. It must succeed.
    #[track_caller]
    pub fn sh(&mut self, command: &str) -> String {
        let (code, text) = self.try_sh(command);
        assert_eq!(code, 0, "{command}\n{text}");
        text
    }

    /// Runs a command; its exit code and output.
    #[track_caller]
    pub fn try_sh(&mut self, command: &str) -> (i32, String) {
        writeln!(self.input, "{{ {command}\n}} 2>&1; echo \"@@ $?\"").unwrap();
        let mut text = String::new();
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line);
            if !matches!(read, Ok(1..)) {
                panic!("the machine did not answer to `{command}` ({read:?}):\n{text}\n{}", self.console());
            }
            if let Some(code) = line.strip_prefix("@@ ") {
                return (code.trim().parse().unwrap(), text);
            }
            text.push_str(&line);
        }
    }

    /// Every frame that a station sent so far, as pcap.
    pub fn capture(&self) -> PathBuf {
        self.folder.path().join("wire.pcap")
    }

    /// What the machine wrote to its console.
    pub fn console(&self) -> String {
        let mut text = Vec::new();
        if let Ok(mut file) = fs::File::open(self.folder.path().join("console.log")) {
            let _ = file.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Closes the connection, upon which the machine ends by itself.
    pub fn end(mut self) {
        self.input.shutdown(std::net::Shutdown::Both).unwrap();
        let status = self.process.wait(PATIENCE).unwrap();
        assert!(status.success(), "QEMU ended with {status}: {}", self.process.last_words());
    }
}

/// The folder /hcl-vlan as a cpio archive in the form that the kernel reads (`newc`, its Documentation/driver-api/early-userspace/
/// buffer-format.rst). It stands before the image's own, as that document allows.
fn archive(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    const FOLDER: u32 = 0o040_755;
    const PROGRAM: u32 = 0o100_755;
    let mut archive = Vec::new();
    let mut put = |inode: usize, path: &str, mode: u32, content: &[u8]| {
        archive.extend(b"070701");
        // Inode, mode, owner, group, links, time, size, device and special device (two each), length of the name, checksum.
        let fields = [inode, mode as usize, 0, 0, 1, 0, content.len(), 0, 0, 0, 0, path.len() + 1, 0];
        archive.extend(fields.iter().flat_map(|field| format!("{field:08x}").into_bytes()));
        archive.extend(path.as_bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend(content);
        archive.resize(archive.len().next_multiple_of(4), 0);
    };
    put(1, "hcl-vlan", FOLDER, &[]);
    for (number, (name, content)) in files.iter().enumerate() {
        put(number + 2, &format!("hcl-vlan/{name}"), PROGRAM, content);
    }
    put(0, "TRAILER!!!", 0, &[]);
    archive
}
