use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

use super::*;
use crate::files::{Access, write_atomically};
use crate::process::find_marked;

/// A worktree with tools.
struct Bench {
    folder: tempfile::TempDir,
    toolbox: Toolbox,
    runtime: tokio::runtime::Runtime,
    warnings: Vec<String>,
}

impl Bench {
    fn new() -> Self {
        Self::with(&BTreeMap::new(), &[])
    }

    fn with(servers: &BTreeMap<String, Value>, tools: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["tree/src", "outside", "extra"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        let workshop = Workshop {
            place: Place::new(&root.join("tree"), &[root.join("extra")], &[]),
            environment: vec![("PATH".into(), std::env::var_os("PATH").unwrap()), ("HOME".into(), root.clone().into())],
            folder: root.clone(),
            marker: root.display().to_string(),
            tools: tools.iter().map(|tool| (*tool).to_owned()).collect(),
            timeout: Duration::from_secs(20),
            output: 4000,
            grace: Duration::from_millis(200),
            may_read: Arc::new(|shown| !shown.ends_with(".env")),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (toolbox, warnings) = runtime.block_on(Toolbox::open(workshop, servers));
        Self { folder, toolbox, runtime, warnings }
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        write_atomically(&self.at(name), text.as_bytes(), Access::Shared).unwrap();
    }

    fn text(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.at(name)).ok()
    }

    fn call(&self, tool: &str, input: Value) -> Output {
        let (_keep, stop) = watch::channel(false);
        let call = Call { id: "c".to_owned(), tool: tool.to_owned(), input };
        self.runtime.block_on(self.toolbox.call(&call, stop))
    }

    #[track_caller]
    fn ok(&self, tool: &str, input: Value) -> String {
        let output = self.call(tool, input);
        assert_eq!(output.outcome, ToolOutcome::Ok, "{}", output.text);
        output.text
    }

    #[track_caller]
    fn fails(&self, tool: &str, input: Value) -> String {
        let output = self.call(tool, input);
        assert_eq!(output.outcome, ToolOutcome::Error, "{}", output.text);
        output.text
    }

    fn close(self) -> String {
        let marker = self.at("").display().to_string().trim_end_matches('/').to_owned();
        self.runtime.block_on(self.toolbox.close());
        marker
    }
}

#[test]
fn lines_come_with_numbers_from_where_they_are_wanted() {
    let bench = Bench::new();
    bench.put("tree/a.txt", "one\r\ntwo\nthree");
    assert_eq!(bench.ok("Read", json!({"file_path": "a.txt"})), "     1\tone\n     2\ttwo\n     3\tthree\n");
    let some = bench.ok("Read", json!({"path": bench.at("tree/a.txt"), "offset": "2", "limit": 1}));
    assert_eq!(some, "     2\ttwo\n[... more lines follow; read on with offset 3 ...]\n");
    assert!(bench.fails("Read", json!({"file_path": "a.txt", "offset": 9})).contains("only 3 lines"));
    bench.put("tree/long.txt", &format!("{}\nend\n", "ä".repeat(5000)));
    let long = bench.ok("Read", json!({"file_path": "long.txt"}));
    assert!(long.contains("bytes more ...]\n     2\tend"), "{long}");
    bench.put("tree/many.txt", &"line of some length\n".repeat(5000));
    let many = bench.ok("Read", json!({"file_path": "many.txt"}));
    assert!(many.len() < 4200 && many.contains("read on with offset"), "{}", many.len());
}

#[test]
fn what_is_no_text_is_not_read() {
    let bench = Bench::new();
    bench.put("tree/binary", "ELF\0\0");
    bench.put("tree/empty", "");
    assert!(bench.fails("Read", json!({"file_path": "binary"})).contains("binary"));
    assert!(bench.fails("Read", json!({"file_path": "src"})).contains("folder"));
    assert!(bench.fails("Read", json!({"file_path": "none"})).contains("no file"));
    assert!(bench.ok("Read", json!({"file_path": "empty"})).contains("empty"));
    rustix::fs::mknodat(rustix::fs::CWD, bench.at("tree/pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(bench.fails("Read", json!({"file_path": "pipe"})).contains("no regular file"));
    assert!(bench.fails("Write", json!({"file_path": "pipe", "content": "x"})).contains("no regular file"));
}

#[test]
fn files_are_made_with_their_folders_and_replaced_whole() {
    let bench = Bench::new();
    assert!(bench.ok("Write", json!({"file_path": "new/deep/a.sh", "content": "1\n2\n"})).starts_with("Made"));
    std::fs::set_permissions(bench.at("tree/new/deep/a.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(bench.ok("Write", json!({"file_path": "new/deep/a.sh", "content": "3\n"})).starts_with("Replaced"));
    let mode = std::fs::metadata(bench.at("tree/new/deep/a.sh")).unwrap().permissions().mode();
    assert_eq!((bench.text("tree/new/deep/a.sh").as_deref(), mode & 0o777), (Some("3\n"), 0o755));
    bench.ok("Edit", json!({"file_path": "new/deep/a.sh", "old_string": "3", "new_string": "4"}));
    bench.ok("Write", json!({"file_path": bench.at("extra/x"), "content": "declared"}));
    assert_eq!(bench.text("tree/new/deep/a.sh").as_deref(), Some("4\n"));
    assert!(bench.fails("Write", json!({"file_path": "new", "content": "x"})).contains("could not write"));
    assert!(bench.fails("Write", json!({"file_path": ".", "content": "x"})).contains("folder"));
}

#[test]
fn no_path_leads_out() {
    let bench = Bench::new();
    bench.put("outside/secret", "secret");
    symlink(bench.at("outside"), bench.at("tree/link")).unwrap();
    symlink(bench.at("outside/secret"), bench.at("tree/file")).unwrap();
    symlink(bench.at("outside/new"), bench.at("tree/broken")).unwrap();
    symlink("loop", bench.at("tree/loop")).unwrap();
    let absolute = bench.at("outside/secret").display().to_string();
    let paths = [
        "../outside/secret",
        "src/../../outside/secret",
        "link/secret",
        "file",
        "broken",
        "loop",
        "~/x",
        "a\0b",
        &absolute,
    ];
    for path in paths {
        let write = bench.call("Write", json!({"file_path": path, "content": "x"}));
        let edit = bench.call("Edit", json!({"file_path": path, "old_string": "secret", "new_string": "x"}));
        let read = bench.call("Read", json!({"file_path": path}));
        let outcomes = [write.outcome, edit.outcome, read.outcome];
        assert_eq!(outcomes, [ToolOutcome::Error; 3], "{path}");
        assert!(!read.text.contains("1\tsecret"), "{path}");
    }
    for tool in ["Glob", "Grep"] {
        bench.fails(tool, json!({"pattern": "secret", "path": "../outside"}));
        bench.fails(tool, json!({"pattern": "secret", "path": "link"}));
    }
    assert_eq!((bench.text("outside/secret").as_deref(), bench.text("outside/new")), (Some("secret"), None));
    bench.put("tree/.git", "gitdir: x");
    assert!(bench.fails("Write", json!({"file_path": ".git", "content": "x"})).contains("git's own"));
    // A link that stays inside is followed.
    symlink("src", bench.at("tree/inner")).unwrap();
    bench.ok("Write", json!({"file_path": "inner/a", "content": "x"}));
    assert_eq!(bench.text("tree/src/a").as_deref(), Some("x"));
}

#[test]
fn a_folder_that_is_swapped_for_a_link_in_between_lets_nothing_out() {
    let bench = Bench::new();
    bench.put("outside/a", "old");
    let place = Place::new(&bench.at("tree"), &[], &[]);
    let (write, read) = (place.to_write("src/a").unwrap(), place.to_read("src/a").unwrap());
    std::fs::remove_dir(bench.at("tree/src")).unwrap();
    symlink(bench.at("outside"), bench.at("tree/src")).unwrap();
    assert!(write.write(b"new").is_err());
    assert!(!matches!(read.open(), Ok(Some(_))));
    assert_eq!(bench.text("outside/a").as_deref(), Some("old"));
}

#[test]
fn a_command_tells_its_output_and_its_code() {
    let bench = Bench::new();
    let output = bench.call("Bash", json!({"command": "pwd; echo err >&2; exit 3"}));
    let expected = format!("{}\nerr\nExit code 3", bench.at("tree").display());
    assert_eq!((output.text, output.exit_code, output.outcome), (expected, Some(3), ToolOutcome::Error));
    assert_eq!(bench.ok("Bash", json!({"cmd": "true"})), "(no output)");
    let no_terminal = "cat; if (: </dev/tty) 2>/dev/null; then echo terminal; else echo none; fi";
    assert_eq!(bench.ok("Bash", json!({"command": no_terminal})).trim(), "none");
    let long = bench.call("Bash", json!({"command": "seq 1 20000"}));
    assert!(long.bytes > 100_000 && long.text.len() < 4200, "{}", long.text.len());
    assert!(long.text.starts_with("1\n2\n") && long.text.trim_end().ends_with("20000"));
    assert_eq!(bench.ok("Bash", json!({"command": "printf '\\033[31mred\\033[0m'"})), "red");
    // What it leaves behind does not hold it.
    let started = Instant::now();
    bench.ok("Bash", json!({"command": "sleep 100 & echo started"}));
    assert!(started.elapsed() < Duration::from_secs(10));
    let marker = bench.close();
    assert_eq!(find_marked(shell::LOOP_MARK, &marker).unwrap(), []);
}

#[test]
fn a_command_that_takes_too_long_ends_with_all_it_started() {
    let bench = Bench::new();
    let script = "echo begun; setsid sleep 100 & trap '' TERM; sleep 100 & wait; wait";
    let output = bench.call("Bash", json!({"command": script, "timeout": 300}));
    assert!(output.text.starts_with("begun\n") && output.text.contains("longer than"), "{}", output.text);
    assert_eq!(output.outcome, ToolOutcome::Error);
    let marker = bench.at("").display().to_string().trim_end_matches('/').to_owned();
    assert_eq!(find_marked(shell::LOOP_MARK, &marker).unwrap(), []);
}

#[test]
fn a_command_can_be_stopped_by_the_person() {
    let bench = Bench::new();
    let (stop, stopped) = watch::channel(false);
    let call = Call { id: "c".to_owned(), tool: "Bash".to_owned(), input: json!({"command": "echo a; sleep 100"}) };
    let output = bench.runtime.block_on(async {
        let stopping = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            stop.send_replace(true);
            std::future::pending::<()>().await;
        };
        tokio::select! { output = bench.toolbox.call(&call, stopped) => output, () = stopping => unreachable!() }
    });
    assert_eq!(output.outcome, ToolOutcome::Interrupted);
    assert!(output.text.starts_with("a\n"), "{}", output.text);
}

#[test]
fn shells_in_the_background_are_read_on_and_ended() {
    let bench = Bench::new();
    let said =
        bench.ok("Bash", json!({"command": "echo one; while :; do sleep 0.05; done", "run_in_background": true}));
    assert!(said.contains("`shell-1`"), "{said}");
    let deadline = Instant::now() + Duration::from_secs(10);
    while !bench.ok("BashOutput", json!({"bash_id": "shell-1"})).contains("one") {
        assert!(Instant::now() < deadline);
    }
    assert!(bench.ok("BashOutput", json!({"bash_id": "shell-1"})).contains("(nothing new)\nIt is still running"));
    assert_eq!(bench.toolbox.running_shells(), 1);
    assert!(bench.ok("KillShell", json!({"shell_id": "shell-1"})).contains("exit code 143"));
    assert!(bench.ok("BashOutput", json!({"bash_id": "shell-1"})).contains("It ended"));
    assert!(bench.fails("BashOutput", json!({"bash_id": "shell-9"})).contains("shell-1"));
    bench.ok("Bash", json!({"command": "sleep 100", "run_in_background": true}));
    let marker = bench.close();
    assert_eq!(find_marked(shell::LOOP_MARK, &marker).unwrap(), []);
}

#[test]
fn files_are_found_by_pattern_except_those_that_git_ignores() {
    let bench = Bench::new();
    for name in ["a.rs", "src/b.rs", "src/deep/c.rs", "src/d.txt", "target/e.rs", ".hidden/f.rs", ".git/g.rs"] {
        bench.put(&format!("tree/{name}"), "x");
    }
    bench.put("tree/.gitignore", "target/\n");
    let glob = |input: Value| bench.ok("Glob", input).lines().map(ToOwned::to_owned).collect::<Vec<_>>();
    assert_eq!(glob(json!({"pattern": "**/*.rs"})), [".hidden/f.rs", "a.rs", "src/b.rs", "src/deep/c.rs"]);
    assert_eq!(glob(json!({"pattern": "*.rs", "path": "src"})), ["src/b.rs", "src/deep/c.rs"]);
    assert_eq!(glob(json!({"pattern": "src/*.{rs,txt}"})), ["src/b.rs", "src/d.txt"]);
    let absolute = format!("{}/**/*.txt", bench.at("tree/src").display());
    assert_eq!(glob(json!({"pattern": absolute})), ["src/d.txt"]);
    assert_eq!(glob(json!({"pattern": "none"})), ["No files match."]);
    bench.fails("Glob", json!({"pattern": "a[", "path": "src"}));
    bench.fails("Glob", json!({"pattern": "/etc/*"}));
}

#[test]
fn content_is_searched_and_what_may_not_be_read_is_not_shown() {
    let bench = Bench::new();
    bench.put("tree/src/a.rs", "fn one() {}\nfn two() {}\nlet x = 1;\nlet y = 2;\n");
    bench.put("tree/b.txt", "One\n");
    bench.put("tree/.env", "one=secret\n");
    bench.put("tree/ignored.txt", "one\n");
    bench.put("tree/binary", "one\0one\n");
    bench.put("tree/.gitignore", "ignored.txt\n");
    let grep = |input: Value| bench.ok("Grep", input);
    assert_eq!(grep(json!({"pattern": "one"})), "src/a.rs");
    assert_eq!(grep(json!({"pattern": "one", "-i": true})), "b.txt\nsrc/a.rs");
    assert_eq!(grep(json!({"pattern": "fn \\w+", "output_mode": "count"})), "src/a.rs:2");
    let lines = grep(json!({"pattern": "two", "output_mode": "content", "-C": 1}));
    assert_eq!(lines, "src/a.rs-1-fn one() {}\nsrc/a.rs:2:fn two() {}\nsrc/a.rs-3-let x = 1;");
    assert_eq!(grep(json!({"pattern": "one.*two", "multiline": true})), "src/a.rs");
    assert_eq!(grep(json!({"pattern": "one", "-i": true, "glob": "*.txt"})), "b.txt");
    let cut = grep(json!({"pattern": ".", "output_mode": "content", "head_limit": 2, "path": "src/a.rs"}));
    assert_eq!(cut.lines().count(), 3, "{cut}");
    assert_eq!(grep(json!({"pattern": "nowhere"})), "Nothing matches.");
    bench.fails("Grep", json!({"pattern": "("}));
    bench.fails("Grep", json!({"pattern": "x", "path": "none"}));
}

#[test]
fn the_list_of_what_is_to_do_is_kept() {
    let bench = Bench::new();
    bench.ok("TodoWrite", json!({"todos": [{"content": "a", "status": "completed"}, {"content": "b"}]}));
    let todos = bench.toolbox.todos();
    assert_eq!((todos.len(), todos[0].status, todos[1].status), (2, TodoStatus::Completed, TodoStatus::Pending));
    bench.ok("TodoWrite", json!({"todos": "[\"c\"]"}));
    assert_eq!(bench.toolbox.todos()[0].content, "c");
    bench.fails("TodoWrite", json!({"todos": 3}));
}

/// A server in a few lines of shell.
const SERVER: &str = r#"
while read -r line; do
  id=$(printf %s "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  case "$line" in
    *'"initialize"'*) r='{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"fake","version":"1"}}';;
    *tools/list*) r='{"tools":[{"name":"greet","description":"Greets.","inputSchema":{"type":"object"}}]}';;
    *'"die"'*) exit 1;;
    *'"name":"greet"'*) r='{"content":[{"type":"text","text":"hello from '"$WHO"'"}]}';;
    *) continue;;
  esac
  printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$r"
done
"#;

#[test]
fn servers_give_their_tools_and_a_broken_one_costs_nothing_else() {
    let servers = BTreeMap::from([
        ("good one".to_owned(), json!({"command": "sh", "args": ["-c", SERVER], "env": {"WHO": "it"}})),
        ("missing".to_owned(), json!({"command": "no-such-server"})),
        ("mute".to_owned(), json!({"command": "true"})),
        ("web".to_owned(), json!({"url": "http://127.0.0.1/"})),
    ]);
    let bench = Bench::with(&servers, &["Read", "Bash(git *)"]);
    let names: Vec<String> = bench.toolbox.specs().into_iter().map(|spec| spec.name).collect();
    assert_eq!(names, ["Read", "Bash", "BashOutput", "KillShell", "mcp__good_one__greet"]);
    assert_eq!(bench.warnings.len(), 3, "{:?}", bench.warnings);
    assert_eq!(bench.ok("mcp__good_one__greet", json!({"a": 1})), "hello from it");
    assert!(bench.fails("mcp__good_one__greet", json!({"a": "die"})).contains("failed"));
    bench.fails("mcp__good_one__greet", json!({"a": 1}));
    bench.fails("mcp__other", json!({}));
    let marker = bench.close();
    assert_eq!(find_marked(shell::LOOP_MARK, &marker).unwrap(), []);
}
