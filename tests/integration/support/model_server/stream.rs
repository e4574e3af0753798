//! A model's message as the event stream of the Messages API.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::http::Exchange;
use super::script::Block;

/// Tokens that every answer claims to have read, so that tests can check sums.
pub(crate) const INPUT_TOKENS: u64 = 100;

/// Tokens that every answer claims to have written.
pub(crate) const OUTPUT_TOKENS: u64 = 10;

/// Sends the whole message.
pub(super) fn send(exchange: &mut Exchange, request: &Value, blocks: &[Block]) -> io::Result<()> {
    send_waiting(exchange, request, blocks, || true)
}

/// Sends the blocks, then waits, then ends the message; if `wait` returns false the connection just closes.
pub(super) fn send_waiting(
    exchange: &mut Exchange,
    request: &Value,
    blocks: &[Block],
    wait: impl FnOnce() -> bool,
) -> io::Result<()> {
    exchange.begin_stream()?;
    send_event(exchange, &message_start(request))?;
    for (index, block) in blocks.iter().enumerate() {
        for event in block_events(index, block) {
            send_event(exchange, &event)?;
        }
    }
    if !wait() {
        return Ok(());
    }
    let stop_reason =
        if blocks.iter().any(|block| matches!(block, Block::Call { .. })) { "tool_use" } else { "end_turn" };
    let delta = json!({"stop_reason": stop_reason, "stop_sequence": null});
    send_event(exchange, &json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": OUTPUT_TOKENS}}))?;
    send_event(exchange, &json!({"type": "message_stop"}))?;
    exchange.end_stream()
}

/// Sends the beginning of the message and leaves the stream without an end.
pub(super) fn send_cut(exchange: &mut Exchange, request: &Value, blocks: &[Block]) -> io::Result<()> {
    exchange.begin_stream()?;
    send_event(exchange, &message_start(request))?;
    for event in blocks.first().into_iter().flat_map(|block| block_events(0, block)).take(2) {
        send_event(exchange, &event)?;
    }
    Ok(())
}

/// The body of an error answer.
pub(super) fn error_body(status: u16, message: &str) -> Value {
    let kind = match status {
        400 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        _ => "api_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": message}})
}

/// Sends one server-sent event, named as its `type`.
fn send_event(exchange: &mut Exchange, event: &Value) -> io::Result<()> {
    let name = event["type"].as_str().unwrap_or_default();
    exchange.send(format!("event: {name}\ndata: {event}\n\n").as_bytes())
}

/// The event that opens a message of the model that was asked for.
fn message_start(request: &Value) -> Value {
    let usage = json!({"input_tokens": INPUT_TOKENS, "output_tokens": 1, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0});
    let message = json!({
        "id": fresh_id("msg"), "type": "message", "role": "assistant", "model": request["model"],
        "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage,
    });
    json!({"type": "message_start", "message": message})
}

/// Start, one delta and stop of a block.
fn block_events(index: usize, block: &Block) -> [Value; 3] {
    let (content, delta) = match block {
        Block::Text(text) => (json!({"type": "text", "text": ""}), json!({"type": "text_delta", "text": text})),
        Block::Call { tool, input } => (
            json!({"type": "tool_use", "id": fresh_id("toolu"), "name": tool, "input": {}}),
            json!({"type": "input_json_delta", "partial_json": input.to_string()}),
        ),
    };
    [
        json!({"type": "content_block_start", "index": index, "content_block": content}),
        json!({"type": "content_block_delta", "index": index, "delta": delta}),
        json!({"type": "content_block_stop", "index": index}),
    ]
}

/// An id no other block or message of this process has: agents key tool calls by it.
fn fresh_id(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{prefix}_{:020}", NEXT.fetch_add(1, Ordering::Relaxed))
}
