use std::time::Duration;

use super::*;
use crate::config::init::default_config_text;
use crate::model::providers::ProviderKind;
use crate::model::scaling::Metric;
use crate::model::settings::{Durability, Strategy};

/// Loads settings from a project text, variables and flags, with an empty user folder.
fn load(project: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    load_from(folder.path(), project, variables, flags)
}

/// The same with a user folder.
fn load_from(
    folder: &Path,
    project: &str,
    variables: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<Settings, ConfigError> {
    let environment: Environment = variables.iter().copied().collect();
    load_settings(&Layers {
        user_folder: folder,
        project: Some((PathBuf::from(".swarm/config.yaml"), project.to_owned())),
        clone: None,
        environment: &environment,
        overrides: flags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
    })
}

/// Everything a person sees of an error.
fn shown(error: &ConfigError) -> String {
    let mut text = format!("{error}\n");
    if let Some(snippet) = error.snippet() {
        text.push_str(&format!("{snippet}\n"));
    }
    if let Some(hint) = error.hint() {
        text.push_str(&format!("hint: {hint}\n"));
    }
    text
}

#[test]
fn the_default_text_is_exactly_the_defaults() {
    assert_eq!(load(default_config_text(), &[], &[]).unwrap(), Settings::default());
    assert_eq!(load("", &[], &[]).unwrap(), Settings::default());
    assert_eq!(load("# nothing\n", &[], &[]).unwrap(), Settings::default());
}

#[test]
fn the_default_text_shows_every_key() {
    let tree = Source::file(Path::new("config.yaml"), default_config_text()).parse().unwrap();
    let keys = load("no_such_key: 1", &[], &[]).unwrap_err();
    let ConfigError::Text(problem) = keys else { panic!("{keys}") };
    for key in &problem.valid.as_ref().unwrap().1 {
        assert!(tree.get(key).is_some(), "{key}");
    }
    for (section, keys) in [
        ("landing", &["strategy", "approval"][..]),
        ("ports", &["base", "size"]),
        ("limits", &["timeout", "grace", "setup_timeout", "check_timeout", "gate_timeout", "commit_timeout"]),
        ("limits", &["snapshot_every", "leftover_files", "leftover_bytes"]),
    ] {
        for key in keys {
            assert!(tree.get(section).unwrap().get(key).is_some(), "{section}.{key}");
        }
    }
}

#[test]
fn stronger_layers_win_key_by_key() {
    let folder = tempfile::tempdir().unwrap();
    let user =
        "max_workers: 5\ndurability: full\nlimits:\n  grace: 9s\n  timeout: 2h\nenv: {A: user, B: user}\ncopy: [x]\n";
    files::write_new(&folder.path().join("config.yaml"), user.as_bytes()).unwrap();
    let project =
        "\u{feff}max_workers: 6\r\nlimits:\r\n  grace: 11s\r\nenv: {B: 1.10, C: no}\r\ncopy: []\r\ngates:\r\n";
    let variables =
        [("SWARM_MAX_WORKERS", "7"), ("SWARM_TMUX_SOCKET", "/tmp/x"), ("SWARM_TARGET", ""), ("SWARM_WORKER", "w")];
    let flags =
        [("landing.strategy", "squash"), ("tmux.socket", "1.0"), ("worktrees", "{worker}"), ("target", "rel: 1.0")];
    let error = load_from(folder.path(), project, &variables, &flags).unwrap_err();
    assert_eq!(
        error.to_string(),
        "target=rel: 1.0: `target`: `rel: 1.0` is not a branch name: \
         it must not contain spaces, control characters, `..`, `@{` or any of `~^:?*[\\`"
    );
    let settings = load_from(folder.path(), project, &variables, &flags[..3]).unwrap();
    assert_eq!(settings.max_workers, 7);
    assert_eq!(settings.durability, Durability::Full);
    assert_eq!(settings.limits.grace, Duration::from_secs(11));
    assert_eq!(settings.limits.timeout, Duration::from_secs(7_200));
    let env: Vec<_> = settings.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(env, ["A=user", "B=1.10", "C=no"]);
    assert!(settings.copy.is_empty() && settings.gates.is_empty());
    assert_eq!(settings.landing.strategy, Strategy::Squash);
    assert_eq!(settings.tmux.socket, "1.0");
    assert_eq!(settings.worktrees, "{worker}");
}

#[test]
fn the_queue_is_one_word_or_keys_in_any_layer() {
    let folder = tempfile::tempdir().unwrap();
    let user = "queue:\n  credentials: ~/me.creds\n  url: nats://elsewhere\n";
    files::write_new(&folder.path().join("config.yaml"), user.as_bytes()).unwrap();
    let queue =
        |project: &str, variables: &[(&str, &str)]| load_from(folder.path(), project, variables, &[]).unwrap().queue;
    let merged = queue("queue: nats://box:4222\n", &[]);
    assert_eq!((merged.url.as_str(), merged.credentials), ("nats://box:4222", Some("~/me.creds".into())));
    assert_eq!(queue("queue: {url: auto, fallback: file}\n", &[("SWARM_QUEUE", "file")]).url, "file");
}

#[test]
fn what_is_wrong_with_the_queue_is_said_without_its_secrets() {
    let said = |text: &str| shown(&load(text, &[], &[]).unwrap_err());
    let word = said("queue: fiel\n");
    assert!(
        word.starts_with(".swarm/config.yaml:1:8: `queue.url`: unknown value `fiel`; valid values: file, auto, "),
        "{word}"
    );
    assert!(word.contains("hint: did you mean `file`?"), "{word}");
    let key = said("queue:\n  url: auto\n  creds: x\n");
    assert!(
        key.starts_with(".swarm/config.yaml:3:3: unknown key `creds` in `queue`; valid keys: url, project, "),
        "{key}"
    );
    for address in ["nats://me:hush@box", "tls://hush@box", "hush@box"] {
        let text = said(&format!("queue: {address}\n"));
        assert!(text.contains("an address cannot hold") && !text.contains("hush"), "{text}");
    }
    for (text, words) in [
        ("queue: http://box\n", "expected an address that begins with `nats://` or `tls://`"),
        ("queue: {user: me}\n", "`queue.user`: `user` and `password_env` belong together"),
        ("queue: {nkey: a, token_env: B}\n", "`queue.token_env`: `nkey` says already who you are"),
        ("queue: {tls: {cert: a}}\n", "`queue.tls.cert`: `cert` and `key` belong together"),
        ("queue: {token_env: a b}\n", "`a b` is not the name of a variable"),
        ("queue: {fallback: nats}\n", "unknown value `nats`; valid values: file"),
        ("queue: [file]\n", "expected keys and values, found a list"),
        ("node: {bundle_bytes: 0}\n", "`node.bundle_bytes`: expected a number of bytes from 1"),
        ("node: {bundle_bytes: 256 MiB}\n", "`node.bundle_bytes`: expected a whole number, found `256 MiB`"),
    ] {
        assert!(said(text).contains(words), "{text}: {}", said(text));
    }
}

#[test]
fn providers_are_put_on_top_of_the_built_in_ones() {
    let text = "providers:\n  ollama: {context_window: 8192}\n  openai: {kind: anthropic, url: \"http://x:1\"}\n  \
                lmstudio: {kind: openai, url: \"http://127.0.0.1:1234/v1\"}\nmodels:\n  v1.5: [lmstudio/x]\n";
    let settings = load(text, &[], &[]).unwrap();
    let ollama = &settings.providers["ollama"];
    assert_eq!((ollama.kind, ollama.context_window), (Some(ProviderKind::Ollama), Some(8_192)));
    assert_eq!(ollama.keep_alive.as_deref(), Some("30m"));
    assert_eq!(settings.providers["anthropic"].key_env.as_deref(), Some("ANTHROPIC_API_KEY"));
    assert_eq!(settings.providers["openai"].key_env, None, "another kind of server under a built-in name");
    assert_eq!(settings.for_models().key_variables(), ["ANTHROPIC_API_KEY"]);
    let folder = tempfile::tempdir().unwrap();
    files::write_new(&folder.path().join("config.yaml"), text.as_bytes()).unwrap();
    let project = "providers:\n  lmstudio: {max_output: 99}\n";
    let merged = load_from(folder.path(), project, &[], &[("providers.ollama.url", "http://box:11434")]).unwrap();
    assert_eq!(merged.providers["lmstudio"].max_output, Some(99));
    assert_eq!(merged.providers["ollama"].url.as_deref(), Some("http://box:11434"));
    let json = serde_json::to_string(&merged.for_models()).unwrap();
    let read: crate::model::providers::ModelSettings = serde_json::from_str(&json).unwrap();
    assert_eq!(read, merged.for_models());
}

#[test]
fn an_empty_section_of_the_project_keeps_the_users() {
    let folder = tempfile::tempdir().unwrap();
    files::write_new(&folder.path().join("config.yaml"), b"target: work\nlimits: {grace: 9s}\n").unwrap();
    let settings = load_from(folder.path(), "limits:\n", &[], &[]).unwrap();
    assert_eq!(settings.limits.grace, Duration::from_secs(9));
    assert_eq!(settings.target.unwrap().as_str(), "work");
    let settings = load_from(folder.path(), "target: null\n", &[], &[]).unwrap();
    assert_eq!(settings.target, None);
}

#[test]
fn a_fault_of_the_user_file_is_not_hidden_by_the_project() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    files::write_new(&path, b"max_workers: many\n").unwrap();
    let error = load_from(folder.path(), "max_workers: 2\n", &[], &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{}:1:14: `max_workers`: expected a whole number, found `many`", path.display())
    );
    files::write_atomically(&path, b"agent: \xff\n", files::Access::Shared).unwrap();
    let error = load_from(folder.path(), "", &[], &[]).unwrap_err();
    assert_eq!(error.to_string(), format!("{}: not UTF-8 text", path.display()));
}

#[test]
fn broken_files_are_explained() {
    let faults = [
        "agent: a\nmax_workers: 3\ngate: []\n",
        "limits:\n  grace: 5s\n  gracee: 5s\n",
        "gates:\n  - name: tests\n    run: cargo test\n    retries: 2\n",
        "colour: green\n",
        "max_workers: many\n",
        "max_workers: -1\n",
        "max_workers: 1.5\n",
        "max_workers:\n",
        "max_workers: 0\n",
        "max_workers: 9000\n",
        "ports: {size: 70000}\n",
        "ports: {base: 65000, size: 500}\n",
        "agent: a\n\nagent: b\n",
        "limits:\n  grace: 1s\n  timeout: 1h\n  grace: 2s\n",
        "limits:\n\tgrace: 5s\n",
        "- agent: a\n",
        "just words\n",
        "worktrees: {repo}/{worker}\n",
        "worktrees: ../trees\n",
        "branch: \"swarm/{ticket}\"\n",
        "branch: \"work {worker}\"\n",
        "target: feature branch\n",
        "landing: {strategy: fast}\n",
        "landing: {strategy: Squash}\n",
        "landing: merge\n",
        "copy: .env\n",
        "copy: [a, \"x[\"]\n",
        "limits:\n  grace: soon\n",
        "limits: {grace: 0s}\n",
        "limits: {timeout: 30}\n",
        "gates:\n  - run: a\n",
        "gates:\n  - {name: t, run: a}\n  - {name: t, run: b}\n",
        "gates:\n  - {name: \" \", run: a}\n",
        "gates: [{name: t, run: \"\"}]\n",
        "gates: [{name: t, run: a, timeout: 0s}]\n",
        "setup: [npm ci]\n",
        "env: {CLAUDECODE: 1}\n",
        "env:\n  my-name: 1\n",
        "pass_env: [HOME, TMUX]\n",
        "redact: [\"a(\"]\n",
        "env: {A: [1]}\n",
        "a: *nothing\n",
        "agent: !word x\n",
        "agent: \"unfinished\nmax_workers: 1\n",
        "agent: a: b\n",
        "tmux: {socket: \"\"}\n",
        "agent: a\n---\nagent: b\n",
        "<<: {agent: a}\n",
        "? [a, b]\n: c\n",
        "agent: ../../x\n",
        "providers:\n  lmstudio:\n    url: http://127.0.0.1:1234/v1\n",
        "providers:\n  lmstudio: {kind: openai}\n",
        "providers:\n  lmstudio: {kind: openai, url: 127.0.0.1}\n",
        "providers:\n  gate: {kind: openai, url: \"https://me:secret@gate.example/v1\"}\n",
        "providers:\n  gate: {kind: opnai, url: \"https://gate.example/v1\"}\n",
        "providers:\n  ollama: {key: abc}\n",
        "providers:\n  anthropic: {key_env: \"sk-ant-123\"}\n",
        "providers:\n  anthropic: {keep_alive: 5m}\n",
        "providers:\n  ollama: {keep_alive: long}\n",
        "providers:\n  ollama: {context_window: 0}\n",
        "providers:\n  ollama:\n    timeouts: {idle: 0s}\n",
        "providers:\n  a/b: {kind: openai, url: \"http://x\"}\n",
        "default_provider: olama\n",
        "models:\n  fast: []\n",
        "models:\n  fast: [qwen3]\n",
        "models:\n  fast: [ollama/a, antropic/b]\n",
        "models:\n  ollama: [ollama/a]\n",
        "models:\n  a/b: [ollama/a]\n",
        "prices:\n  qwen3: {input: 1, output: 2}\n",
        "prices:\n  openrouter/*: {input: 1}\n",
        "prices:\n  openrouter/x: {input: -1, output: 2}\n",
    ];
    let mut report = String::new();
    for text in faults {
        match load(text, &[], &[]) {
            Err(error) => report.push_str(&format!("{}\n", shown(&error))),
            Ok(_) => panic!("accepted: {text}"),
        }
    }
    insta::assert_snapshot!(report);
}

#[test]
fn broken_variables_and_flags_are_named() {
    for (variables, flags, expected) in [
        (
            &[("SWARM_MAX_WORKERS", "many")][..],
            &[][..],
            "SWARM_MAX_WORKERS: `max_workers`: expected a whole number, found `many`",
        ),
        (
            &[("SWARM_DURABILITY", "hard")],
            &[],
            "SWARM_DURABILITY: `durability`: unknown value `hard`; valid values: normal, full",
        ),
        (
            &[],
            &[("landing.strateg", "x")],
            "landing.strateg=x: unknown key `strateg` in `landing`; valid keys: strategy, approval, batch, speculate, \
             on_conflict, tries, resolver, tell_overlaps, mode, remote, forge, poll",
        ),
        (&[], &[("agent.name", "x")], "agent.name=x: `agent`: expected a text, found keys and values"),
        (&[], &[("limits.grace", "0s")], "limits.grace=0s: `limits.grace`: it must be longer than zero"),
    ] {
        assert_eq!(load("", variables, flags).unwrap_err().to_string(), expected);
    }
}

#[test]
fn policies_of_scaling_have_defaults_and_one_a_metric_and_scope() {
    let read = |text: &str| load(&format!("max_workers: 4\nscaling:\n{text}"), &[], &[]);
    let policy = |metric, up| ScalingPolicy { up: Some(up), ..ScalingPolicy::new(metric, ScaleScope::Node) };
    let swarm = ScalingPolicy { scope: ScaleScope::Swarm, ..policy(Metric::QueueDepth, 5.0) };
    let text = "  - {metric: queue_depth, up: 5}\n  - {metric: queue_depth, up: 5, scope: swarm}\n";
    assert_eq!(read(text).unwrap().scaling, [policy(Metric::QueueDepth, 5.0), swarm]);
    let refused = |text: &str, why: &str| {
        let error = shown(&read(text).unwrap_err());
        assert!(error.contains(why), "{error}");
    };
    refused("  - {metric: queue_depth}\n", "`scaling[0].metric`: a policy needs one of the thresholds");
    refused(
        "  - {metric: queue_depth, up: 1}\n  - {metric: queue_depth, up: 2}\n",
        "`scaling[1].metric`: another policy",
    );
    refused("  - {metric: queue_depth, up: 1, max_workers: 9000}\n", "`scaling[0].max_workers`: there are ports for");
    let apart = "  - {metric: queue_depth, up: 1, min_workers: 5, max_workers: 6}\n  - {metric: error_rate, down: 0.5, max_workers: 4}\n";
    refused(apart, "`scaling`: no number of workers is at least 5 and at most 4");
}

proptest::proptest! {
    #[test]
    fn any_text_is_settings_or_an_error(text in "[a-z:\\- \\n\\t{}\\[\\]\"'#&*!|>%@0-9]{0,60}") {
        // Only the absence of a panic counts.
        drop(load(&text, &[], &[("agent", &text)]));
    }
}
