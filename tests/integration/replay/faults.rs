//! Each fault in each protocol.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{APIS, Api, ask, post_with};
use crate::support::model_server::{Fault, ModelServer, Script};

/// A script of one turn with one fault.
fn failing(fault: &str) -> ModelServer {
    let text = "Half of a text that is long enough for several pieces, and the other half of the same text.";
    ModelServer::of(&format!("conversations: [{{name: f, turns: [{{say: '{text}', faults: [{fault}]}}]}}]"))
}

#[test]
fn a_status_comes_with_its_words_and_the_time_to_wait_and_passes() {
    for api in APIS {
        let server = failing("{kind: 429, times: 2, retry_after: 1500ms, message: slow down}");
        for is_stream in [true, false] {
            let answer = ask(&server, api, "SCRIPT:f", is_stream);
            assert_eq!(answer.status, 429, "{api:?}");
            let error = &answer.json()["error"];
            let message = if api == Api::Ollama { error } else { &error["message"] };
            assert_eq!(message, "slow down", "{api:?}");
            assert!(answer.head.contains("retry-after: 2\r\nretry-after-ms: 1500"), "{}", answer.head);
        }
        assert_eq!(ask(&server, api, "SCRIPT:f", true).status, 200, "{api:?}");
        assert_eq!(ask(&server, api, "Another client: SCRIPT:f", true).status, 429, "{api:?} counts for each client");
    }
    let server = failing("{kind: 401}");
    assert_eq!(ask(&server, Api::Messages, "SCRIPT:f", true).json()["error"]["type"], "authentication_error");
}

#[test]
fn faults_happen_one_after_the_other() {
    let server = failing("{kind: 503, times: 1}, {kind: 500, times: 2}, {kind: cut, times: 1}");
    let mut seen = Vec::new();
    for _ in 0..5 {
        let answer = ask(&server, Api::Ollama, "SCRIPT:f", true);
        seen.push((answer.status, answer.is_complete));
    }
    assert_eq!(seen, [(503, true), (500, true), (500, true), (200, false), (200, true)]);
}

#[test]
fn a_cut_answer_has_no_end() {
    for api in APIS {
        let server = failing("{kind: cut}");
        let answer = ask(&server, api, "SCRIPT:f", true);
        assert!(answer.status == 200 && answer.body.contains("Half of a text"), "{answer:?}");
        assert!(!answer.is_complete && !answer.body.contains(api.end()), "{answer:?}");
        let whole = ask(&server, api, "SCRIPT:f", false);
        assert!(whole.status == 200 && !whole.is_complete && !whole.body.is_empty(), "{whole:?}");
    }
}

#[test]
fn a_malformed_answer_is_none_of_the_protocol() {
    for api in APIS {
        let server = failing("{kind: malformed}");
        let answer = ask(&server, api, "SCRIPT:f", true);
        assert!(answer.status == 200 && answer.is_complete && !answer.body.contains(api.end()), "{answer:?}");
        assert!(answer.body.contains("no answer, >>>"), "{answer:?}");
        let whole = ask(&server, api, "SCRIPT:f", false);
        assert!(whole.status == 200 && serde_json::from_str::<serde_json::Value>(&whole.body).is_err(), "{whole:?}");
    }
}

#[test]
fn an_error_in_the_middle_is_told_in_the_protocols_words() {
    for api in APIS {
        let server = failing("{kind: error, message: out of memory}");
        let answer = ask(&server, api, "SCRIPT:f", true);
        assert!(answer.status == 200 && answer.is_complete && answer.body.contains("Half"), "{answer:?}");
        let last = answer.events().pop().unwrap();
        let error = match api {
            Api::Messages | Api::Completions => &last["error"]["message"],
            Api::Responses => &last["response"]["error"]["message"],
            Api::Ollama => &last["error"],
        };
        assert_eq!(error, "out of memory", "{api:?}");
        let whole = ask(&server, api, "SCRIPT:f", false);
        assert!(whole.status == 500 && whole.body.contains("out of memory"), "{whole:?}");
    }
}

#[test]
fn a_slow_answer_takes_its_time() {
    for api in APIS {
        let server = failing("{kind: slow, first: 300ms, between: 50ms}");
        let began = Instant::now();
        let answer = ask(&server, api, "SCRIPT:f", true);
        assert!(answer.is_complete && began.elapsed() > Duration::from_millis(350), "{:?}", began.elapsed());
    }
}

#[test]
fn hanging_turns_wait_for_their_release_and_do_not_hang_again() {
    for (api, is_stream) in APIS.into_iter().flat_map(|api| [(api, true), (api, false)]) {
        for fault in [Fault::HangBefore, Fault::HangAfter] {
            let server = ModelServer::builder().script("hang", Script::new().say("At last.").failing(fault)).start();
            std::thread::scope(|scope| {
                let (sender, answers) = mpsc::channel();
                let server = &server;
                scope.spawn(move || sender.send(ask(server, api, "SCRIPT:hang", is_stream)).unwrap());
                server.wait_for_request(|request| request.mentions("SCRIPT:hang"));
                assert!(answers.recv_timeout(Duration::from_millis(100)).is_err(), "{fault:?} answered by itself");
                server.release("hang");
                let answer = answers.recv_timeout(Duration::from_secs(10)).unwrap();
                assert!(answer.is_complete && answer.body.contains("At last."), "{api:?} {answer:?}");
                assert!(ask(server, api, "SCRIPT:hang", is_stream).is_complete);
            });
        }
    }
}

#[test]
fn sessions_have_counts_of_their_own_and_do_not_mix() {
    let script = Script::new().say("I am {id}.").failing_at_first(Fault::Status(500), 1);
    let server = ModelServer::builder().script("who", script).start();
    std::thread::scope(|scope| {
        for id in 0..20 {
            let server = &server;
            scope.spawn(move || {
                let request =
                    json!({"messages": [{"role": "user", "content": format!("SCRIPT:who id=agent-{}", id % 2)}]});
                let header = format!("X-Claude-Code-Session-Id: session-{id}\r\n");
                let ask = || post_with(server, "/v1/messages", &header, &request);
                assert_eq!(ask().status, 500);
                assert!(ask().body.contains(&format!("I am agent-{}.", id % 2)));
            });
        }
    });
    assert_eq!(server.requests().len(), 40);
}
