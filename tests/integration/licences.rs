//! Every dependency comes from one registry, is not banned, and has a licence that `deny.toml` allows. `cargo deny` checks the
//! same and more; this needs nothing but cargo.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

/// A program's standard output; it must succeed.
#[expect(clippy::disallowed_methods, reason = "the door in `process` is not visible to integration tests")]
fn output_of(program: &str, args: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(args).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The packages of the tree for this machine: those of other platforms need not be there without a network.
fn packages() -> Vec<Value> {
    let cargo =
        std::env::var_os("CARGO").map_or_else(|| "cargo".to_owned(), |path| path.to_string_lossy().into_owned());
    let about = output_of("rustc", &["-vV"]);
    let host = about.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let text =
        output_of(&cargo, &["metadata", "--offline", "--locked", "--format-version", "1", "--filter-platform", host]);
    let metadata: Value = serde_json::from_str(&text).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// The text of `deny.toml`.
fn rules() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml")).unwrap()
}

/// The quoted words of a piece of `deny.toml` that begins with `start` and ends with `end`.
fn words<'a>(rules: &'a str, start: &str, end: &str) -> Vec<&'a str> {
    let rest = rules.split_once(start).unwrap_or_else(|| panic!("no `{start}` in deny.toml")).1;
    let piece = rest.split_once(end).unwrap().0;
    piece.split('"').skip(1).step_by(2).collect()
}

/// Whether an SPDX expression can be satisfied with the allowed licences. A `/` is the old way to write `OR`; an exception
/// after `WITH` only adds permissions.
fn is_allowed(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut tokens: Vec<&str> = spaced.split_whitespace().rev().collect();
    let answer = either(&mut tokens, allowed);
    assert!(tokens.is_empty(), "`{expression}` is not understood");
    answer
}

/// `A OR B`; tokens are taken from the end.
fn either(tokens: &mut Vec<&str>, allowed: &[&str]) -> bool {
    let mut answer = both(tokens, allowed);
    while tokens.last() == Some(&"OR") {
        tokens.pop();
        answer |= both(tokens, allowed);
    }
    answer
}

/// `A AND B`.
fn both(tokens: &mut Vec<&str>, allowed: &[&str]) -> bool {
    let mut answer = single(tokens, allowed);
    while tokens.last() == Some(&"AND") {
        tokens.pop();
        answer &= single(tokens, allowed);
    }
    answer
}

/// A licence, with its exception, or an expression in brackets.
fn single(tokens: &mut Vec<&str>, allowed: &[&str]) -> bool {
    match tokens.pop() {
        Some("(") => {
            let answer = either(tokens, allowed);
            assert_eq!(tokens.pop(), Some(")"));
            answer
        }
        name => {
            if tokens.last() == Some(&"WITH") {
                tokens.truncate(tokens.len() - 2);
            }
            name.is_some_and(|name| allowed.contains(&name))
        }
    }
}

#[test]
fn every_dependency_has_an_allowed_licence() {
    let rules = rules();
    let allowed = words(&rules, "\nallow = [", "]");
    let exceptions = words(&rules, "\nexceptions = [", "\n]");
    let mut used_exceptions = BTreeSet::new();
    let mut faults = Vec::new();
    for package in packages() {
        let (name, licence) = (package["name"].as_str().unwrap(), package["license"].as_str().unwrap_or_default());
        if is_allowed(licence, &allowed) {
            continue;
        }
        match exceptions.chunks(2).find(|exception| exception[0] == name && is_allowed(licence, &exception[1..])) {
            Some(exception) => drop(used_exceptions.insert(exception[0])),
            None => faults.push(format!("{name}: `{licence}`")),
        }
    }
    assert!(faults.is_empty(), "not allowed by deny.toml:\n{}", faults.join("\n"));
    let unused: Vec<_> = exceptions.chunks(2).filter(|exception| !used_exceptions.contains(exception[0])).collect();
    assert!(unused.is_empty(), "exceptions that nothing needs any more: {unused:?}");
}

#[test]
fn no_dependency_is_banned_or_from_elsewhere() {
    let rules = rules();
    let bans = rules.split_once("\ndeny = [").unwrap().1.split_once("\n]").unwrap().0;
    // A ban with exceptions is for `cargo deny` to check.
    let bans = bans.lines().filter(|line| !line.contains("wrappers = "));
    let banned: Vec<_> = bans.filter_map(|ban| ban.split_once("crate = \"")?.1.split('"').next()).collect();
    assert!(banned.contains(&"openssl"), "{banned:?}");
    let packages = packages();
    let names: Vec<_> = packages.iter().map(|package| package["name"].as_str().unwrap()).collect();
    assert!(names.len() > 100, "{names:?}");
    assert_eq!(names.iter().find(|name| banned.contains(name)), None);
    let sources: BTreeSet<_> = packages.iter().filter_map(|package| package["source"].as_str()).collect();
    assert!(sources.len() == 1 && sources.iter().all(|source| source.starts_with("registry+")), "{sources:?}");
}

#[test]
fn licence_expressions_are_read_as_spdx_means_them() {
    let allowed = ["MIT", "Zlib"];
    for good in
        ["MIT", "MIT OR GPL-3.0", "GPL-3.0/MIT", "(MIT OR X) AND Zlib", "MIT WITH LLVM-exception", "X AND Y OR MIT"]
    {
        assert!(is_allowed(good, &allowed), "{good}");
    }
    for bad in ["", "GPL-3.0", "MIT AND X", "(MIT OR Zlib) AND X"] {
        assert!(!is_allowed(bad, &allowed), "{bad}");
    }
}
