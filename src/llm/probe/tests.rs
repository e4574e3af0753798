use std::net::TcpListener;

use serde_json::json;

use super::*;
use crate::llm::test_server::{Reply, TestServer, provider, settings};
use crate::model::providers::Provider;

/// Probes `p/m` of a provider, with an empty search path.
async fn probe_of(provider: Provider) -> Probe {
    let environment: Environment = [("PATH", "/nowhere")].into_iter().collect();
    probe("p/m", &settings(provider), &environment).await.unwrap().remove(0)
}

#[tokio::test]
async fn a_model_of_ollama_says_what_it_can() {
    let show = json!({"capabilities": ["completion", "tools"], "model_info": {"llama.context_length": 8192}});
    let server = TestServer::start(move |_| Reply::status(200, &[], &show.to_string()));
    let mut provider = provider(ProviderKind::Ollama, &server.url());
    provider.context_window = Some(65_536);
    let found = probe_of(provider).await;
    assert!(found.problem.is_none() && found.is_reachable, "{found:?}");
    assert_eq!((found.has_model, found.has_tools, found.context_window), (Some(true), Some(true), Some(8_192)));
    assert_eq!(found.price, "free");
}

#[tokio::test]
async fn each_problem_comes_with_its_command() {
    let missing = TestServer::start(|_| Reply::status(404, &[], r#"{"error":"model 'm' not found"}"#));
    let found = probe_of(provider(ProviderKind::Ollama, &missing.url())).await;
    assert_eq!((found.is_reachable, found.has_model), (true, Some(false)));
    assert_eq!(found.command.as_deref(), Some("ollama pull m"));

    let mute = TestServer::start(|_| Reply::status(200, &[], r#"{"capabilities":["completion"]}"#));
    let found = probe_of(provider(ProviderKind::Ollama, &mute.url())).await;
    assert_eq!((found.has_tools, found.problem.unwrap().trouble), (Some(false), Trouble::NoTools));
    assert_eq!(found.command.as_deref(), Some("ollama pull qwen3-coder"));

    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let found = probe_of(provider(ProviderKind::Ollama, &format!("http://{nobody}"))).await;
    assert!(!found.is_reachable);
    assert_eq!(found.command.as_deref(), Some("ollama serve"));
    let hint = found.problem.unwrap().hint.unwrap();
    assert!(hint.starts_with("Install Ollama from "), "not installed here: {hint}");

    let keyed =
        Provider { key_env: Some("SOME_KEY".to_owned()), ..provider(ProviderKind::Anthropic, "http://name.invalid") };
    let found = probe_of(keyed).await;
    assert_eq!((found.is_reachable, found.command.as_deref()), (false, Some("export SOME_KEY=...")));
}

#[tokio::test]
async fn a_list_of_models_is_searched() {
    let list = TestServer::start(|_| Reply::status(200, &[], r#"{"data":[{"id":"a"},{"id":"b"}]}"#));
    let found = probe_of(provider(ProviderKind::Openai, &list.url())).await;
    assert_eq!(found.has_model, Some(false));
    assert_eq!(found.problem.unwrap().message, "the server does not have it; it has `a`, `b`");
    let empty = TestServer::start(|_| Reply::status(404, &[], ""));
    let found = probe_of(provider(ProviderKind::Openai, &empty.url())).await;
    assert!(found.is_reachable && found.problem.is_none() && found.has_model.is_none(), "{found:?}");
}

#[tokio::test]
async fn every_model_of_a_list_is_probed() {
    let server = TestServer::start(|_| Reply::status(200, &[], r#"{"capabilities":["tools"]}"#));
    let mut settings = settings(provider(ProviderKind::Ollama, &server.url()));
    settings.models.insert("both".to_owned(), vec!["p/a".to_owned(), "p/b".to_owned()]);
    let found = probe("both", &settings, &Environment::default()).await.unwrap();
    let names: Vec<_> = found.iter().map(|probe| probe.model.as_str()).collect();
    assert_eq!(names, ["p/a", "p/b"]);
    assert!(probe("nobody/x", &settings, &Environment::default()).await.is_err());
}
