use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::llm::ToolResult;

fn user(text: &str) -> Entry {
    Entry::User { text: text.to_owned(), by_loop: false }
}

fn assistant(calls: &[&str], input_tokens: u64) -> Entry {
    let call = |id: &&str| Block::ToolCall { id: (*id).to_owned(), name: "Read".to_owned(), input: json!({"a": 1}) };
    let usage = Usage { input_tokens, output_tokens: 5, measured: input_tokens > 0, ..Usage::default() };
    Entry::Assistant { blocks: calls.iter().map(call).collect(), model: "m".to_owned(), usage }
}

fn result(id: &str, bytes: usize) -> Entry {
    let (call_id, name) = (id.to_owned(), "Read".to_owned());
    Entry::Tool { result: ToolResult { call_id, name, text: "x".repeat(bytes), is_error: false } }
}

/// A conversation of `rounds` calls whose results have these many bytes.
fn rounds(sizes: &[usize]) -> Context {
    let mut context = Context::new(300);
    context.apply(&user("Do it."));
    for (at, bytes) in sizes.iter().enumerate() {
        let id = format!("c{at}");
        context.apply(&assistant(&[&id], 0));
        context.apply(&result(&id, *bytes));
    }
    context
}

fn apply_all(context: &mut Context, entries: &[Entry]) {
    entries.iter().for_each(|entry| context.apply(entry));
}

/// Every result has its call right before it, and the first message is the person's.
fn assert_well_formed(context: &Context) {
    assert!(matches!(context.all().first(), Some(Message::User { .. })));
    for pair in context.all().windows(2) {
        if let Message::Tool { results } = &pair[1] {
            let Message::Assistant { blocks } = &pair[0] else { panic!("results without calls: {pair:?}") };
            let ids = blocks.iter().map(|block| match block {
                Block::ToolCall { id, .. } => id,
                _ => panic!("a call was expected"),
            });
            assert_eq!(ids.collect::<Vec<_>>(), results.iter().map(|result| &result.call_id).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_conversation_that_fits_is_left_alone() {
    let context = rounds(&[1000, 1000]);
    assert_eq!(context.fit(10_000), []);
    assert_eq!(context.open_calls(), []);
}

#[test]
fn the_oldest_results_go_first_and_the_last_ones_stay() {
    let mut context = rounds(&[3000; 10]);
    let entries = context.fit(8_000);
    let [Entry::Shortened { calls, keep: 0 }] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!(calls[0], "c0");
    assert!(!calls.contains(&"c9".to_owned()) && !calls.contains(&"c8".to_owned()));
    apply_all(&mut context, &entries);
    assert!(context.tokens() < 6_000 && context.fit(8_000).is_empty());
    assert_well_formed(&context);
}

#[test]
fn messages_go_when_results_do_not_suffice_and_the_first_says_so() {
    let mut context = rounds(&[300; 100]);
    let entries = context.fit(3_000);
    apply_all(&mut context, &entries);
    assert!(context.tokens() <= 2_250, "{}", context.tokens());
    assert_well_formed(&context);
    let Message::User { text } = &context.all()[0] else { panic!("the first message stays") };
    assert!(text.starts_with("Do it.") && text.ends_with(GAP));
}

#[test]
fn one_huge_result_is_cut_even_when_it_is_the_last() {
    let mut context = rounds(&[100, 200_000]);
    let entries = context.fit(4_000);
    apply_all(&mut context, &entries);
    assert!(context.tokens() <= 3_000, "{}", context.tokens());
    let Some(Message::Tool { results }) = context.all().last() else { panic!("the result stays") };
    assert!(results[0].text.contains("left out"));
}

#[test]
fn sizes_follow_what_was_measured() {
    let mut context = rounds(&[8_000]);
    let guessed = context.tokens();
    let bytes = context.fixed + context.bytes;
    context.apply(&assistant(&[], bytes as u64 / 4));
    assert!(context.tokens() < guessed * 8 / 10, "four bytes a token are less than guessed");
}

#[test]
fn calls_without_a_result_are_known() {
    let mut context = rounds(&[10]);
    context.apply(&assistant(&["a", "b"], 0));
    context.apply(&result("a", 10));
    assert_eq!(context.open_calls(), [("b".to_owned(), "Read".to_owned())]);
    context.apply(&result("b", 10));
    assert_eq!(context.open_calls(), []);
    assert_well_formed(&context);
}

proptest! {
    #[test]
    fn whatever_is_left_out_the_rest_is_a_conversation(
        sizes in proptest::collection::vec(0_usize..20_000, 1..40), window in 2_000_u64..20_000,
    ) {
        let mut context = rounds(&sizes);
        let entries = context.fit(window);
        apply_all(&mut context, &entries);
        assert_well_formed(&context);
        prop_assert!(context.tokens() <= window - ANSWER.min(window / 4), "{} of {window}", context.tokens());
        // A second look finds nothing more to do.
        prop_assert_eq!(context.fit(window), []);
    }
}
