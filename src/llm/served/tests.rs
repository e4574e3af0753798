use std::net::TcpListener;

use super::*;
use crate::llm::Trouble;
use crate::llm::test_server::{Reply, TestServer, chat, chat_error, hello, provider, served, served_in, settings};
use crate::model::providers::Timeouts;

/// A short stream of Ollama.
const STREAM: &str = "{\"message\":{\"content\":\"Hi\"},\"done\":true,\"eval_count\":1,\"prompt_eval_count\":5}\n";

/// A provider whose time-outs are short.
fn hasty(url: &str) -> Provider {
    let short = Duration::from_millis(80);
    let timeouts = Timeouts { first_byte: short, idle: short, ..Timeouts::default() };
    Provider { timeouts, ..provider(ProviderKind::Ollama, url) }
}

#[tokio::test]
async fn nobody_there_is_told_at_once_with_the_command() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error =
        chat(&mut served(provider(ProviderKind::Ollama, &format!("http://{address}"))), &hello()).await.0.unwrap_err();
    assert_eq!(error.to_string(), format!("p/m: nobody listens at http://{address}"));
    assert_eq!((error.trouble, error.hint.as_deref()), (Trouble::Refused, Some("Start Ollama with `ollama serve`.")));
    let mut elsewhere = served(provider(ProviderKind::Openai, "http://name.invalid:9"));
    let error = chat(&mut elsewhere, &hello()).await.0.unwrap_err();
    assert_eq!(error.trouble, Trouble::Refused);
    assert!(error.hint.unwrap().contains("`providers.p.url`") && error.source.is_some());
}

#[tokio::test]
async fn each_part_of_an_answer_has_its_time() {
    let server = TestServer::start(|_| Reply::silence());
    let error = chat(&mut served(hasty(&server.url())), &hello()).await.0.unwrap_err();
    assert_eq!((error.to_string().as_str(), error.trouble), ("p/m: no answer began within 80ms", Trouble::TimedOut));
    assert!(error.hint.unwrap().contains("`providers.p.timeouts.first_byte`"));

    let server = TestServer::start(|_| Reply::hang(""));
    let error = chat(&mut served(hasty(&server.url())), &hello()).await.0.unwrap_err();
    assert_eq!(error.message, "no answer began within 80ms", "a head without a body");

    let begun = "{\"message\":{\"content\":\"Hel\"},\"done\":false}\n";
    let server = TestServer::start(move |_| Reply::hang(begun));
    let (answer, deltas) = chat(&mut served(hasty(&server.url())), &hello()).await;
    assert_eq!(answer.unwrap_err().message, "the answer did not go on within 80ms");
    assert_eq!(deltas, [Delta::Text("Hel".to_owned())]);

    let mut provider = hasty(&server.url());
    provider.timeouts = Timeouts { total: Duration::from_millis(80), ..Timeouts::default() };
    let error = chat(&mut served(provider), &hello()).await.0.unwrap_err();
    assert_eq!(error.message, "the answer did not end within 80ms");
}

#[tokio::test]
async fn an_answer_that_is_not_wanted_any_more_ends_at_the_server() {
    let server = TestServer::start(|seen| match seen.line.as_str() {
        "POST /api/chat" => Reply::hang("{\"message\":{\"content\":\"Hel\"},\"done\":false}\n"),
        _ => Reply::status(404, &[], ""),
    });
    let mut model = served(provider(ProviderKind::Ollama, &server.url()));
    {
        let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
        let messages = hello();
        let request = ChatRequest { system: "", messages: &messages, tools: &[] };
        let mut on_delta = move |delta| drop(heard.send(delta));
        tokio::select! {
            _ = model.chat(&request, &mut on_delta) => panic!("it does not end by itself"),
            delta = hears.recv() => assert_eq!(delta, Some(Delta::Text("Hel".to_owned()))),
        }
    }
    server.closed().await;
    assert_eq!(server.chats_seen().len(), 1);
}

#[tokio::test]
async fn a_key_that_is_missing_is_told_before_anybody_is_asked() {
    let mut provider = provider(ProviderKind::Anthropic, "http://name.invalid");
    provider.key_env = Some("SOME_KEY".to_owned());
    let error = chat(&mut served_in(provider, &[("SOME_KEY", " ")]), &hello()).await.0.unwrap_err();
    assert_eq!(error.to_string(), "p/m: the variable `SOME_KEY` is not set");
    assert_eq!(error.hint.as_deref(), Some("Set the key with `export SOME_KEY=...`."));
    assert_eq!(error.trouble, Trouble::Unauthorized);
}

#[tokio::test]
async fn a_key_is_in_no_message() {
    let refuse = |_: &_| Reply::status(401, &[], r#"{"error":{"message":"wrong key sk-very-secret"}}"#);
    let server = TestServer::start(refuse);
    let mut provider = provider(ProviderKind::Openai, &server.url());
    provider.key_env = Some("SOME_KEY".to_owned());
    let error = chat(&mut served_in(provider, &[("SOME_KEY", "sk-very-secret")]), &hello()).await.0.unwrap_err();
    assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("`export SOME_KEY=...`")), "{error:?}");
    assert_eq!(error.message, "wrong key [key]");
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    // An address of the environment may hold a password.
    let mut built_in = crate::model::providers::built_in_providers();
    let mut settings = settings(built_in.remove("ollama").unwrap());
    settings.providers.insert("ollama".to_owned(), settings.providers["p"].clone());
    let environment = [("OLLAMA_HOST", "http://me:secret@127.0.0.1:1")].into_iter().collect();
    let name = ModelName { provider: "ollama".to_owned(), model: "m".to_owned() };
    let error = chat(&mut Served::new(name, &settings, &environment), &hello()).await.0.unwrap_err();
    assert!(error.message.contains("127.0.0.1:1") && !format!("{error:?}").contains("secret"), "{error:?}");
}

#[tokio::test]
async fn redirections_are_not_followed() {
    let other = TestServer::start(|_| Reply::stream(STREAM));
    let location = format!("location: {}/api/chat", other.url());
    let error = chat_error(ProviderKind::Ollama, Reply::status(307, &[&location], "")).await;
    assert!(error.message.contains("redirection (status 307)"), "{error}");
    assert_eq!(error.trouble, Trouble::BadRequest);
    assert!(other.chats_seen().is_empty());
}

#[tokio::test]
async fn a_proxy_is_used_for_other_machines_only() {
    let proxy = TestServer::start(|_| Reply::stream(STREAM));
    let proxy_url = proxy.url();
    let variables = [("http_proxy", proxy_url.as_str()), ("NO_PROXY", "direct.invalid")];
    let mut far = served_in(provider(ProviderKind::Ollama, "http://far.invalid:11434"), &variables);
    chat(&mut far, &hello()).await.0.unwrap();
    assert_eq!(proxy.chats_seen()[0].line, "POST http://far.invalid:11434/api/chat");
    let mut direct = served_in(provider(ProviderKind::Ollama, "http://direct.invalid"), &variables);
    assert_eq!(chat(&mut direct, &hello()).await.0.unwrap_err().trouble, Trouble::Refused);
    let here = TestServer::start(|_| Reply::stream(STREAM));
    let mut near = served_in(provider(ProviderKind::Ollama, &here.url()), &variables);
    chat(&mut near, &hello()).await.0.unwrap();
    assert_eq!((proxy.chats_seen().len(), here.chats_seen().len()), (1, 1));
}

#[tokio::test]
async fn https_trusts_what_the_machine_trusts() {
    let (server, certificate) = TestServer::start_tls(|_| Reply::stream(STREAM));
    let url = format!("https://localhost:{}", server.port());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trusted.pem");
    crate::files::write_atomically(&file, certificate.as_bytes(), crate::files::Access::Shared).unwrap();
    let variables = [("SSL_CERT_FILE", file.to_str().unwrap())];
    let mut model = served_in(provider(ProviderKind::Ollama, &url), &variables);
    assert_eq!(chat(&mut model, &hello()).await.0.unwrap().blocks.len(), 1);
    let error = chat(&mut served(provider(ProviderKind::Ollama, &url)), &hello()).await.0.unwrap_err();
    let causes = crate::model::error_text(&error);
    assert!(causes.contains("certificate"), "{causes}");
    let mut model = served_in(provider(ProviderKind::Ollama, &url), &[("SSL_CERT_FILE", "/nowhere/x.pem")]);
    let error = chat(&mut model, &hello()).await.0.unwrap_err();
    assert!(error.message.contains("`/nowhere/x.pem`"), "{error}");
}

#[test]
fn a_model_is_free_where_it_runs_at_home() {
    let tariff = |url: &str, model: &str, local| {
        let provider = Provider { local, ..provider(ProviderKind::Ollama, url) };
        let name = ModelName { provider: "p".to_owned(), model: model.to_owned() };
        Served::new(name, &settings(provider), &Environment::default()).tariff
    };
    for here in ["http://127.0.0.1:11434", "http://localhost", "http://[::1]:1", "http://x.localhost:9"] {
        assert_eq!(tariff(here, "qwen3", None), Tariff::Free, "{here}");
    }
    assert_eq!(tariff("http://127.0.0.1", "gpt-oss:120b-cloud", None), Tariff::Unknown);
    assert_eq!(tariff("http://127.0.0.1", "qwen3", Some(false)), Tariff::Unknown);
    assert_eq!(tariff("http://box.lan:11434", "qwen3", None), Tariff::Unknown);
    assert_eq!(tariff("http://box.lan:11434", "qwen3", Some(true)), Tariff::Free);
}

#[test]
fn addresses_come_from_the_settings_the_environment_or_habit() {
    let url = |kind, url: Option<&str>, variables: &[(&str, &str)]| {
        let provider = Provider { url: url.map(str::to_owned), ..Provider::default() };
        address(kind, &provider, &variables.iter().copied().collect())
    };
    assert_eq!(url(ProviderKind::Ollama, None, &[("OLLAMA_HOST", "box:1")]), "http://box:1");
    assert_eq!(url(ProviderKind::Ollama, Some("http://x/"), &[("OLLAMA_HOST", "box:1")]), "http://x");
    assert_eq!(url(ProviderKind::Anthropic, None, &[("ANTHROPIC_BASE_URL", "")]), "https://api.anthropic.com");
    assert_eq!(url(ProviderKind::Openai, None, &[("OPENAI_BASE_URL", "http://y/v1/")]), "http://y/v1");
    assert_eq!(without_login("http://me:pw@x:1/p@th"), "http://x:1/p@th");
}

#[tokio::test]
async fn ids_are_made_up_where_a_server_repeats_them() {
    let stream = "{\"message\":{\"tool_calls\":[{\"id\":\"call_0\",\"function\":{\"name\":\"read\",\"arguments\":{}}}]},\"done\":true}\n";
    let server = TestServer::start(move |_| Reply::stream(stream));
    let mut model = served(provider(ProviderKind::Ollama, &server.url()));
    let mut messages = hello();
    let mut ids = std::collections::HashSet::new();
    for _ in 0..3 {
        let blocks = chat(&mut model, &messages).await.0.unwrap().blocks;
        let crate::llm::Block::ToolCall { id, .. } = &blocks[0] else { panic!("{blocks:?}") };
        assert!(ids.insert(id.clone()), "{id} twice");
        messages.push(crate::llm::Message::Assistant { blocks });
    }
    assert!(ids.contains("call_0"));
}

#[test]
fn opening_a_model_reads_no_certificates() {
    // The bar is far below what reading them takes; a slow machine does not reach it either.
    let began = std::time::Instant::now();
    for _ in 0..10 {
        drop(served(provider(ProviderKind::Openai, "https://far.invalid/v1")));
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}
