//! The main job on a real published package: its source as the repository, its own test suite as the gate.

use std::path::{Path, PathBuf};

use crate::support::swarm::TestSwarm;

/// The source of a dependency of ours, as cargo unpacked it.
#[expect(clippy::disallowed_methods, reason = "the door in `process` is not visible to integration tests")]
fn package_source(name: &str) -> PathBuf {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let mut command = std::process::Command::new(env!("CARGO"));
    let args = ["metadata", "--format-version", "1", "--offline", "--filter-platform", "x86_64-unknown-linux-gnu"];
    let output = command.args(args).args(["--manifest-path", manifest]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let package = metadata["packages"].as_array().unwrap().iter().find(|package| package["name"] == name);
    let manifest = package.expect("it is in the dependency tree")["manifest_path"].as_str().unwrap();
    Path::new(manifest).parent().unwrap().to_owned()
}

/// Copies a folder's files into the repository.
fn copy(swarm: &TestSwarm, from: &Path, below: &str) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{below}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            copy(swarm, &path, &format!("{name}/"));
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            swarm.write(&name, &text);
        }
    }
}

#[test]
fn a_published_crate_with_its_own_tests_as_gate_takes_good_work_and_returns_bad_work() {
    let mut swarm = TestSwarm::new();
    for name in ["CARGO_HOME", "RUSTUP_HOME"] {
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        let default = home.join(format!(".{}", name.trim_end_matches("_HOME").to_lowercase()));
        swarm.set_env(name, std::env::var_os(name).unwrap_or(default.into()));
    }
    copy(&swarm, &package_source("fnv"), "");
    swarm.write(".gitignore", "target\nCargo.lock\n");
    swarm.git(["add", "."]).success();
    swarm.git(["commit", "--quiet", "-m", "Import the package"]).success();
    swarm.write(".git/info/exclude", ".swarm/\n");
    swarm.write(
        ".swarm/config.yaml",
        "gates:\n  - name: tests\n    run: cargo test --offline --lib --quiet\n    timeout: 5m\n",
    );
    let good = "printf '\\n/// The basis of the hash.\\npub const BASIS: u64 = 0xcbf29ce484222325;\\n' >> lib.rs";
    let bad = "sed -i 's/0xcbf29ce484222325/0xcbf29ce484222326/' lib.rs";
    swarm.write_shell_agent("good", good);
    swarm.write_shell_agent("bad", bad);
    swarm.write_ticket("basis", "good", "Name the basis.");
    swarm.write_ticket("break", "bad", "Change the basis.");
    swarm.run(["spawn", "basis", "break"]).success();
    swarm.run(["wait", "--timeout", "60s"]).success();
    swarm.run(["review", "basis", "--approve"]).success();
    swarm.run(["merge", "basis", "--yes"]).success();
    assert!(swarm.read("lib.rs").contains("pub const BASIS"));
    let before = swarm.git(["rev-parse", "main"]).success();
    swarm.run(["review", "break", "--approve"]).success();
    let merged = swarm.run(["merge", "break", "--json"]).expect_code(1).json();
    assert!(merged["returned"][0]["why"].as_str().unwrap().contains("tests"), "{merged:#}");
    assert_eq!(swarm.git(["rev-parse", "main"]).success(), before);
    swarm.run(["stop", "--all"]).success();
}
