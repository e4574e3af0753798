//! The layers of the crate (house style, section 3): one crate has no compiler wall between its modules, so this is it.

use std::fs;
use std::path::{Path, PathBuf};

/// A module of the crate and what it may import besides itself.
struct Layer {
    /// Its name below `src/`.
    module: &'static str,
    /// Modules it may import.
    may_import: &'static [&'static str],
}

/// A row of the table.
const fn layer(module: &'static str, may_import: &'static [&'static str]) -> Layer {
    Layer { module, may_import }
}

/// Everything below the supervisor.
const BELOW_4: &[&str] = &["model", "process", "files", "config", "store", "git", "terminal", "llm", "queue", "agent"];

/// The table; a change here is a change of the design.
const LAYERS: &[Layer] = &[
    // 0
    layer("model", &[]),
    // 1
    layer("process", &["model"]),
    layer("files", &["model"]),
    layer("config", &["model", "files"]),
    // 2
    layer("store", &["model", "process", "files", "config"]),
    layer("git", &["model", "process", "files", "config"]),
    layer("terminal", &["model", "process", "files", "config"]),
    layer("llm", &["model", "process", "files", "config"]),
    // 3
    layer("queue", &["model", "process", "files", "config", "store"]),
    layer("agent", &["model", "process", "files", "config", "store", "llm", "terminal"]),
    // 4
    layer("supervisor", BELOW_4),
    layer("landing", BELOW_4),
    // 5
    layer(
        "coordinator",
        &[
            "model",
            "process",
            "files",
            "config",
            "store",
            "git",
            "terminal",
            "llm",
            "queue",
            "agent",
            "supervisor",
            "landing",
        ],
    ),
    // 7: everything.
    layer(
        "cli",
        &[
            "model",
            "process",
            "files",
            "config",
            "store",
            "git",
            "terminal",
            "llm",
            "queue",
            "agent",
            "supervisor",
            "landing",
            "coordinator",
        ],
    ),
];

/// Crates that one module alone knows.
const DOORS: &[(&str, &str)] = &[
    ("git2", "git"),
    ("portable_pty", "terminal"),
    ("tmux_interface", "terminal"),
    ("vt100", "terminal"),
    ("serde_yaml", "config"),
    ("rusqlite", "store"),
    ("reqwest", "llm"),
    ("rustls", "llm"),
    ("indicatif", "cli"),
];

/// A source file without its comments.
struct Source {
    /// Its path below the crate.
    path: PathBuf,
    /// The module it belongs to.
    module: String,
    /// Its text; comments are blanks, so that offsets and lines stay.
    code: String,
}

impl Source {
    /// The line of an offset, from 1.
    fn line(&self, offset: usize) -> usize {
        self.code[..offset].matches('\n').count() + 1
    }

    /// The modules that are named after `crate::`, with the offsets of their names.
    fn imports(&self) -> Vec<(usize, &str)> {
        let mut found = Vec::new();
        for (at, start) in self.code.match_indices("crate::") {
            if self.code[..at].ends_with(is_word) {
                continue;
            }
            let after = at + start.len();
            match self.code[after..].strip_prefix('{') {
                Some(group) => {
                    found.extend(group_heads(group).into_iter().map(|(offset, name)| (after + 1 + offset, name)))
                }
                None => found.push((after, word_at(&self.code[after..]))),
            }
        }
        found
    }
}

/// The first word of each entry of a `{a, b::{c, d}}` whose opening brace was taken off.
fn group_heads(group: &str) -> Vec<(usize, &str)> {
    let (mut depth, mut heads, mut wants_head) = (0_usize, Vec::new(), true);
    for (offset, c) in group.char_indices() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => wants_head = true,
            c if is_word(c) && wants_head => {
                heads.push((offset, word_at(&group[offset..])));
                wants_head = false;
            }
            _ => {}
        }
    }
    heads
}

/// Whether a character belongs to a name.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The name at the beginning of a text.
fn word_at(text: &str) -> &str {
    &text[..text.find(|c| !is_word(c)).unwrap_or(text.len())]
}

/// Every file below `src/`.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let short = path.strip_prefix(root).unwrap().to_owned();
                let module = short.iter().nth(1).unwrap().to_string_lossy().trim_end_matches(".rs").to_owned();
                let code = without_comments(&fs::read_to_string(&path).unwrap());
                sources.push(Source { path: short, module, code });
            }
        }
    }
    sources.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(sources.len() > 100, "only {} files were found", sources.len());
    sources
}

/// Blanks out line comments; one after code on its line only where it follows a space, so that `//` in an address stays.
fn without_comments(text: &str) -> String {
    let line = |line: &str| {
        let is_comment = line.trim_start().starts_with("//");
        let end = if is_comment { 0 } else { line.find(" // ").unwrap_or(line.len()) };
        format!("{}\n", &line[..end])
    };
    text.lines().map(line).collect()
}

#[test]
fn modules_import_only_from_the_layers_below() {
    let mut faults = Vec::new();
    for source in sources() {
        let Some(layer) = LAYERS.iter().find(|layer| layer.module == source.module) else {
            let is_root = ["lib", "main"].contains(&source.module.as_str());
            assert!(is_root, "`{}` is in no layer: add it to the table", source.path.display());
            continue;
        };
        for (offset, name) in source.imports() {
            let is_module = LAYERS.iter().any(|layer| layer.module == name);
            if is_module && name != layer.module && !layer.may_import.contains(&name) {
                let place = format!("{}:{}", source.path.display(), source.line(offset));
                faults.push(format!("{place}: `{}` may not import `{name}`", layer.module));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn each_door_has_one_owner() {
    let mut faults = Vec::new();
    for source in sources() {
        for (name, owner) in DOORS {
            let path = format!("{name}::");
            let uses = source.code.match_indices(&path).filter(|(at, _)| !source.code[..*at].ends_with(is_word));
            for (offset, _) in uses.filter(|_| source.module != *owner) {
                let place = format!("{}:{}", source.path.display(), source.line(offset));
                faults.push(format!("{place}: `{name}` belongs to `{owner}`"));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn only_the_command_line_is_public() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let library = fs::read_to_string(root.join("src/lib.rs")).unwrap();
    let public: Vec<_> = library.lines().filter(|line| line.starts_with("pub mod ")).collect();
    assert_eq!(public, ["pub mod cli;", "pub mod bench_internals {"]);
    for layer in LAYERS {
        assert!(library.contains(&format!("mod {};", layer.module)), "`{}` is in the table only", layer.module);
    }
}

#[test]
fn grouped_and_nested_imports_are_seen() {
    let code = without_comments("use crate::{a, b::{c, d}, e};\n// crate::f\nlet x = crate::g::h(); // crate::i\n");
    let source = Source { path: "x.rs".into(), module: "x".to_owned(), code };
    let names: Vec<_> = source.imports().into_iter().map(|(offset, name)| (source.line(offset), name)).collect();
    assert_eq!(names, [(1, "a"), (1, "b"), (1, "e"), (3, "g")]);
}
