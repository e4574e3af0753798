//! The `swarm` program: everything is in the library.

fn main() -> std::process::ExitCode {
    swarm::cli::run()
}
