use super::*;

#[test]
fn lines_mean_something() {
    let text = str::to_owned;
    let rows: &[(&str, &[Sight])] = &[
        ("[    0.000000] Booting Linux on physical CPU 0x0000000000 [0x410fd034]", &[Sight::Kernel]),
        ("Loading, please wait...", &[Sight::Initrd]),
        ("[    2.1] Run /init as init process", &[Sight::Initrd]),
        ("[    6.021] systemd[1]: systemd 257.8-1~deb13u2 running in system mode (+PAM", &[Sight::Systemd]),
        ("Welcome to Debian GNU/Linux 13 (trixie)!", &[Sight::Systemd]),
        ("[  OK  ] Reached target multi-user.target - Multi-User System.", &[Sight::Target(text("multi-user"))]),
        ("[  OK  ] Reached target network.target - Network.", &[Sight::Target(text("network"))]),
        ("[  OK  ] Reached target paths.target - Path Units.", &[]),
        (
            "[FAILED] Failed to start docker.service - Docker Application Container Engine.",
            &[Sight::FailedUnit(text("docker.service - Docker Application Container Engine"))],
        ),
        (
            "[   31.4] systemd[1]: Failed to start hcl.service - Cluster Lab.",
            &[Sight::FailedUnit(text("hcl.service - Cluster Lab"))],
        ),
        ("Failed to start talking", &[]),
        (
            "[    3.2] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
            &[Sight::KernelPanic(text("VFS: Unable to mount root fs on unknown-block(0,0)"))],
        ),
        ("[    3.3] ---[ end Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0) ]---", &[]),
        (
            "ALERT!  PARTUUID=ab-02 does not exist.  Dropping to a shell!",
            &[Sight::Emergency(text("PARTUUID=ab-02 does not exist."))],
        ),
        (
            "You are in emergency mode. After logging in, type \"journalctl -xb\"",
            &[Sight::Emergency(text("systemd stopped for a person"))],
        ),
        (
            "-- Press any key to proceed --",
            &[Sight::Question(text("systemd-firstboot wants this system configured; mask systemd-firstboot.service"))],
        ),
        ("[  93.1] reboot: Power down", &[Sight::PowerDown]),
        (
            "[  11.2] hcl-firstboot[311]: @hcl:vlan@ eth0.200 id 200 @hcl:ready@",
            &[Sight::Marker(text("vlan eth0.200 id 200")), Sight::Marker(text("ready"))],
        ),
        ("@hcl:@ @hcl:cut", &[]),
        (
            "[ 50.0] Out of memory: Killed process 412 (dockerd) total-vm:1kB",
            &[Sight::OutOfMemory(text("412 (dockerd) total-vm:1kB"))],
        ),
        ("", &[]),
    ];
    for (line, expected) in rows {
        assert_eq!(classify(line), *expected, "{line}");
    }
    for (prompt, expected) in [
        ("node-1 login: ", Some(Sight::Login)),
        ("(initramfs) ", Some(Sight::Emergency(text("the initramfs found no root file system")))),
        ("(or press Control-D to continue): ", Some(Sight::Emergency(text("systemd stopped for a person")))),
        ("Last login: Mon", None),
        ("", None),
    ] {
        assert_eq!(classify_prompt(prompt), expected, "{prompt}");
    }
}

#[test]
fn colours_and_returns_vanish_wherever_the_stream_breaks() {
    let stream = "[\x1b[0;32m  OK  \x1b[0m] Reached\r\n\x1b]0;title\x07\x1b[?25hübrig\r\nlogin: ".as_bytes();
    for cut in 0..stream.len() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        lines.feed(&stream[..cut], |line| seen.push(line.to_owned()));
        lines.feed(&stream[cut..], |line| seen.push(line.to_owned()));
        assert_eq!(seen, ["[  OK  ] Reached", "übrig"], "cut at {cut}");
        assert_eq!(lines.unfinished(), "login: ");
    }
}

#[test]
fn a_line_without_end_is_bounded() {
    let mut lines = Lines::default();
    let mut count = 0;
    for _ in 0..100 {
        lines.feed(&[b'x'; 1000], |line| {
            assert!(line.len() <= LONGEST);
            count += 1;
        });
    }
    assert_eq!(count, 100_000 / LONGEST);
    lines.feed(&[0xff, 0xfe, b'\n'], |_| {});
    assert_eq!(lines.unfinished(), "");
}

#[test]
fn a_milestone_counts_once_a_boot() {
    let mut fresh = Fresh::default();
    let marker = Sight::Marker("ready".into());
    for (sight, new) in [
        (Sight::Kernel, true),
        (Sight::Initrd, true),
        (Sight::Initrd, false),
        (Sight::Systemd, true),
        (Sight::Systemd, false),
        (Sight::Target("network".into()), true),
        (Sight::Target("multi-user".into()), true),
        (marker.clone(), true),
        (marker, true),
        (Sight::Kernel, true),
        (Sight::Systemd, true),
    ] {
        assert_eq!(fresh.is(&sight), new, "{sight:?}");
    }
}
