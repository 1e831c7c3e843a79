//! `hcl-firstboot`: the program on each card; called as `hcl` for a person.

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    hcl_firstboot::cli::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    eprintln!("hcl-firstboot runs on the nodes, under Linux");
    std::process::ExitCode::from(2)
}
