use hcl_image::{
    progress::*,
    source::{apt, bootstrap},
};
use std::path::*;
fn main() -> anyhow::Result<()> {
    let r = Reporter::new(Mode::Text);
    let pk = "apt,systemd,systemd-sysv,udev,dbus,systemd-resolved,systemd-timesyncd,openssh-server,sudo,ca-certificates,iproute2,iputils-ping,nftables,iptables,e2fsprogs,dosfstools,fdisk,kmod,linux-image-arm64:arm64,raspi-firmware,initramfs-tools,docker.io,docker-cli,docker-compose,busybox-static,less,nano,curl";
    let req = apt::Request {
        mirror: None,
        suites: vec!["trixie".into(), "stable".into()],
        components: vec!["main".into(), "non-free-firmware".into()],
        architecture: "armhf".into(),
        foreign: vec!["arm64".into()],
        packages: pk.split(',').map(String::from).collect(),
        keyring: None,
        tools: bootstrap::TOOL_PACKAGES.iter().map(|s| s.to_string()).collect(),
        tools_architecture: Some("amd64".into()),
    };
    let out = PathBuf::from(std::env::args().nth(1).unwrap());
    std::fs::create_dir_all("/tmp/w/bs/debs")?;
    let lock = apt::resolve(&req, Path::new("/tmp/w/bs/apt"), &r)?;
    let get = |ps: &[hcl_image::lock::PackageLock]| -> Vec<(hcl_image::lock::PackageLock, PathBuf)> {
        ps.iter()
            .map(|p| {
                let f = PathBuf::from(format!("/tmp/w/bs/debs/{}.deb", p.sha256));
                if !f.exists() {
                    assert!(
                        std::process::Command::new("curl")
                            .args(["-sf", "-o"])
                            .arg(&f)
                            .arg(format!("{}/{}", lock.mirror, p.path))
                            .status()
                            .unwrap()
                            .success()
                    );
                }
                (p.clone(), f)
            })
            .collect()
    };
    let debs = get(&lock.packages);
    let tools = get(&lock.tools);
    let s = bootstrap::Settings {
        kernel_architecture: "arm64".into(),
        root_label: "HCLROOT".into(),
        kernel_parameters: vec!["cgroup_enable=memory".into()],
        epoch: lock.date,
    };
    bootstrap::install(&lock, &debs, &tools, &s, &out, &r)
}
