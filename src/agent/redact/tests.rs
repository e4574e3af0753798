use serde_json::json;

use super::{INPUT_LIMIT, MARK, Redactor, VALUE_LIMIT, pattern};

fn redactor() -> Redactor {
    Redactor::new(&[]).unwrap()
}

/// A token of a known kind, put together here so that no scanner takes this file for a leak.
fn token(prefix: &str, length: usize) -> String {
    format!("{prefix}{}", "a1B2c3D4e5".repeat(20).chars().take(length).collect::<String>())
}

#[test]
fn fields_are_known_by_their_names() {
    for name in ["password", "db_password", "apiKey", "api-key", "X-Api-Key", "clientSecret", "access_token", "token"] {
        assert!(pattern::is_secret_name(name), "{name}");
    }
    for name in ["AUTHORIZATION", "Cookie", "awsSecretAccessKey", "private_key", "GITHUB_TOKEN", "passwd"] {
        assert!(pattern::is_secret_name(name), "{name}");
    }
    for name in ["max_tokens", "tokens", "key", "file_path", "secretary", "token_count", "description", "author", ""] {
        assert!(!pattern::is_secret_name(name), "{name}");
    }
}

#[test]
fn values_of_secret_fields_go_whatever_they_are() {
    let input = json!({"env": {"API_TOKEN": "abc", "PORT": "80"}, "auth": [{"password": 12345}], "token": null,
        "secret": {"a": "b"}, "max_tokens": 10});
    let clean = redactor().clean(&input);
    let expected = json!({"env": {"API_TOKEN": MARK, "PORT": "80"}, "auth": [{"password": MARK}], "token": null,
        "secret": MARK, "max_tokens": 10});
    assert_eq!(clean.value, expected);
    assert_eq!(clean.redacted, ["auth.0.password", "env.API_TOKEN", "secret"]);
    assert!(clean.truncated.is_empty());
}

#[test]
fn tokens_are_known_by_their_shape() {
    let jwt = format!("{}.{}.{}", token("eyJ", 20), token("eyJ", 40), token("", 30));
    let secrets = [
        token("sk-", 24),
        token("sk-ant-api03-", 40),
        token("sk-proj-", 40),
        token("sk_live_", 24),
        token("ghp_", 36),
        token("gho_", 36),
        token("github_pat_", 60),
        token("glpat-", 20),
        format!("AKIA{}", "A1B2C3D4E5F6G7H8"),
        token("AIza", 35),
        token("xoxb-", 30),
        token("npm_", 36),
        token("hf_", 30),
        jwt,
    ];
    for secret in secrets {
        let text = format!("curl -H 'x: {secret}' https://api.example.org # {secret}");
        let clean = redactor().text(&text);
        assert!(!clean.contains(&secret), "{secret} in {clean}");
        assert!(clean.contains("https://api.example.org"), "{clean}");
    }
}

#[test]
fn secrets_in_shell_text_go_and_the_command_stays() {
    let cases = [
        ("export FOO_TOKEN=abc123 && run", "export FOO_TOKEN=[redacted] && run"),
        ("DB_PASSWORD='p w' ./x; ls", "DB_PASSWORD=[redacted] ./x; ls"),
        ("AWS_SECRET_ACCESS_KEY=\"x/y+z\" aws s3 ls", "AWS_SECRET_ACCESS_KEY=[redacted] aws s3 ls"),
        ("mysql --password=hunter2 -u root", "mysql --password=[redacted] -u root"),
        ("tool --token abcdef --verbose", "tool --token [redacted] --verbose"),
        ("git clone https://me:s3cret@host/x.git", "git clone https://me:[redacted]@host/x.git"),
        ("psql postgres://u:p%40ss@db:5432/x", "psql postgres://u:[redacted]@db:5432/x"),
        ("curl -u me:pass123 https://x", "curl -u me:[redacted] https://x"),
        ("curl -H 'Authorization: Bearer abcdef123456'", "curl -H 'Authorization: Bearer [redacted]'"),
        ("curl -H 'Authorization: Basic dXNlcjpwYXNz'", "curl -H 'Authorization: Basic [redacted]'"),
        ("{\"password\": \"hunter22\", \"a\": 1}", "{\"password\": [redacted], \"a\": 1}"),
    ];
    for (text, expected) in cases {
        assert_eq!(redactor().text(text), expected);
    }
}

#[test]
fn a_private_key_goes_whole_and_also_when_its_end_is_missing() {
    let key = format!("-----BEGIN RSA {k}-----\nMIIE\nabc\n-----END RSA {k}-----", k = "PRIVATE KEY");
    assert_eq!(redactor().text(&format!("a\n{key}\nb")), "a\n[redacted]\nb");
    assert_eq!(redactor().text(&format!("a\n{}", &key[..50])), "a\n[redacted]");
}

#[test]
fn ordinary_text_and_references_stay() {
    for text in [
        "cargo test -- --nocapture",
        "let token = next_token();",
        "export GITHUB_TOKEN=$(gh auth token)",
        "API_KEY=\"$API_KEY\" run",
        "echo \"$PASSWORD\"",
        "git log --author=me",
        "see https://example.org:8080/a@b",
        "basic configuration of the parser",
        "max_tokens: 4096",
        "task-list-of-many-words-here",
        "git push -u origin swarm/fix",
        "ssh user@host",
    ] {
        assert_eq!(redactor().text(text), text);
    }
}

#[test]
fn extra_patterns_redact_their_group_or_their_match() {
    let redactor = Redactor::new(&["INT-[0-9]+".to_owned(), "pin: ([0-9]+)".to_owned()]).unwrap();
    assert_eq!(redactor.text("INT-123 pin: 99 x"), "[redacted] pin: [redacted] x");
    let error = Redactor::new(&["(".to_owned()]).unwrap_err();
    assert_eq!(error.to_string(), "`(` in `redact` is not a regular expression");
}

#[test]
fn large_values_keep_their_beginning_size_and_hash() {
    let text = "é".repeat(VALUE_LIMIT);
    let clean = redactor().clean(&json!({"file_path": "/w/a", "content": text}));
    let kept = clean.value["content"].as_str().unwrap();
    assert!(kept.len() <= VALUE_LIMIT && text.starts_with(kept) && kept.len() > VALUE_LIMIT - 4);
    let capped = &clean.truncated["content"];
    assert_eq!(capped.bytes, 2 * VALUE_LIMIT as u64);
    assert_eq!(capped.sha256.len(), 64);
    assert!(clean.redacted.is_empty());
}

#[test]
fn a_secret_at_the_cut_leaves_no_half() {
    let secret = token("ghp_", 36);
    let text = format!("{} {secret} {}", "x".repeat(VALUE_LIMIT - 10), "y".repeat(100));
    let clean = redactor().clean(&json!({"content": text}));
    assert!(!clean.value["content"].as_str().unwrap().contains("ghp_"));
    assert_eq!(clean.redacted, ["content"]);
    assert!(clean.truncated.contains_key("content"));
}

#[test]
fn an_input_of_very_many_values_is_cut_as_a_whole() {
    let items: Vec<String> = (0..20_000).map(|number| format!("item {number}")).collect();
    let clean = redactor().clean(&json!({"items": items}));
    assert!(clean.value.as_str().unwrap().len() <= VALUE_LIMIT);
    assert!(clean.truncated[""].bytes > INPUT_LIMIT as u64);
}

#[test]
fn values_that_are_no_objects_are_cleaned_too() {
    let clean = redactor().clean(&json!("TOKEN=abc"));
    assert_eq!((clean.value, clean.redacted), (json!("TOKEN=[redacted]"), vec![String::new()]));
    assert_eq!(redactor().clean(&json!(null)).value, json!(null));
}
