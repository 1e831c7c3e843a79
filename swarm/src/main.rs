//! `hcl-swarm manage` and `hcl-swarm join`.

fn main() -> std::process::ExitCode {
    hcl_swarm::cli::main()
}
