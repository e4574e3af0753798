//! Commits from one clone to another: through the server, and as a bundle in a file.

use std::path::{Path, PathBuf};

use swarm::bench_internals::BundleWay;

use crate::process::Server;
use crate::support::{Scene, clock, median};

/// Files that a commit adds; of the size of a large source of data, and incompressible.
const FILES: usize = 32;
/// Bytes of each.
const BYTES: usize = 1 << 20;
/// How often each way is gone.
const REPEATS: usize = 3;

/// Measures both ways in turns.
pub(crate) fn compare() {
    let (scene, server) = (Scene::new(1, 100), Server::start());
    let base = head(&scene);
    for number in 0..FILES {
        write_noise(&scene.repository.join(format!("noise{number}")), number as u64);
    }
    scene.git(["add", "--all"]);
    scene.git(["commit", "--quiet", "-m", "Add noise"]);
    scene.git(["repack", "-adq"]);
    let commit = head(&scene);
    let from = BundleWay::open(&scene.repository, &server.url);
    let (mut sent, mut taken, mut written, mut fetched) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for number in 0..REPEATS {
        let bundle = scene.root().join(format!("{number}.bundle"));
        let bundle = bundle.to_str().expect("a plain path");
        written.push(clock(|| scene.git(["bundle", "create", "--quiet", bundle, "main", &format!("^{base}")])));
        let clone = make_clone(&scene, &base, &format!("file{number}"));
        let into = clone.to_str().expect("a plain path");
        fetched.push(clock(|| scene.git(["-C", into, "fetch", "--quiet", bundle, "main:refs/swarm/taken"])));
        let to = BundleWay::open(&make_clone(&scene, &base, &format!("server{number}")), &server.url);
        sent.push(clock(|| from.send(&commit, &base)));
        taken.push(clock(|| to.take(&commit, "refs/swarm/kept/bench")));
        from.forget(&commit);
    }
    print(&[median(&sent), median(&taken)], &[median(&written), median(&fetched)]);
}

/// Prints both ways, of which each is milliseconds out of one clone and into the other.
fn print(server: &[f64; 2], file: &[f64; 2]) {
    let megabytes = (FILES * BYTES) as f64 / 1e6;
    let rate = |times: &[f64; 2]| megabytes / times.iter().sum::<f64>() * 1e3;
    println!("a bundle of {megabytes:.1} MB from one clone to another, the middle of {REPEATS}:");
    for (name, times) in [("through the server", server), ("floor: a file", file)] {
        let [out, into] = times;
        println!("  {name:<20} {:8.1} MB/s  ({out:.0} ms out, {into:.0} ms in)", rate(times));
    }
    println!("  ratio                {:8.2} of the floor's time", rate(file) / rate(server));
}

/// A clone that has the first commit only.
fn make_clone(scene: &Scene, base: &str, name: &str) -> PathBuf {
    let clone = scene.root().join(name);
    let path = clone.to_str().expect("a plain path");
    let from = scene.repository.to_str().expect("a plain path");
    scene.git(["init", "--quiet", "-b", "main", path]);
    scene.git(["-C", path, "fetch", "--quiet", from, base]);
    scene.git(["-C", path, "reset", "--quiet", "--hard", "FETCH_HEAD"]);
    clone
}

/// The commit that the repository is at.
fn head(scene: &Scene) -> String {
    let output = scene.run("git", ["rev-parse", "HEAD"]);
    String::from_utf8(output.stdout).expect("it is a number").trim().to_owned()
}

/// Writes a file that no compression makes smaller (the generator xorshift64* of Vigna).
fn write_noise(path: &Path, seed: u64) {
    let mut state = seed + 0x9e37_79b9_7f4a_7c15;
    let next = |_| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()
    };
    let bytes: Vec<u8> = (0..BYTES / 8).flat_map(next).collect();
    std::fs::write(path, bytes).expect("the bench may write");
}
