//! Cuts a stream of bytes into what its lines say: JSON documents one per line, or server-sent events.
//!
//! A piece may end anywhere, inside a character too. Events follow the HTML standard ("Server-sent events",
//! interpreting an event stream) as far as model servers use them: several `data` lines of one event belong together,
//! comments and other fields say nothing to us.

use super::Trouble;
use super::fault::Fault;

/// How a stream is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// One document per line.
    Lines,
    /// Server-sent events.
    Events,
}

/// Bytes of one line that are kept; a whole answer is shorter. More is a server that went mad.
const LINE_LIMIT: usize = 32 << 20;

/// What came and is not complete yet.
#[derive(Debug)]
pub(super) struct Splitter {
    /// How it is cut.
    framing: Framing,
    /// The line that has not ended.
    line: Vec<u8>,
    /// The data of the event that has not ended.
    data: Option<String>,
}

impl Splitter {
    /// An empty one.
    pub(super) fn new(framing: Framing) -> Self {
        Self { framing, line: Vec::new(), data: None }
    }

    /// Takes a piece and hands out the payloads that it completes.
    pub(super) fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(&str) -> Result<(), Fault>) -> Result<(), Fault> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if self.line.len() > LINE_LIMIT {
                return Err(Fault::new(Trouble::Malformed, format!("a line has more than {LINE_LIMIT} bytes")));
            }
            if self.line.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.take_line(&line, &mut each)?;
            }
        }
        Ok(())
    }

    /// Takes what is left when the stream has ended: some servers leave out the last line break.
    pub(super) fn end(&mut self, mut each: impl FnMut(&str) -> Result<(), Fault>) -> Result<(), Fault> {
        let line = std::mem::take(&mut self.line);
        self.take_line(&line, &mut each)?;
        self.data.take().map_or(Ok(()), |data| each(&data))
    }

    /// Takes one line.
    fn take_line(&mut self, line: &[u8], each: &mut dyn FnMut(&str) -> Result<(), Fault>) -> Result<(), Fault> {
        let line = std::str::from_utf8(line)
            .map_err(|error| Fault::new(Trouble::Malformed, "a line is not UTF-8 text").caused_by(error))?;
        let line = line.trim_end_matches(['\n', '\r']);
        match self.framing {
            Framing::Lines if line.trim().is_empty() => Ok(()),
            Framing::Lines => each(line),
            Framing::Events => self.take_field(line, each),
        }
    }

    /// Takes one line of an event.
    fn take_field(&mut self, line: &str, each: &mut dyn FnMut(&str) -> Result<(), Fault>) -> Result<(), Fault> {
        if line.is_empty() {
            return self.data.take().map_or(Ok(()), |data| each(&data));
        }
        // A server that fails early may answer with a plain document where events were asked for.
        if line.starts_with('{') {
            return each(line);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        if field.trim_start_matches('\u{feff}') == "data" {
            let value = value.strip_prefix(' ').unwrap_or(value);
            match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The payloads of a stream that comes in these pieces.
    fn cut(framing: Framing, pieces: &[&[u8]]) -> Vec<String> {
        let mut found = Vec::new();
        let mut splitter = Splitter::new(framing);
        let mut each = |payload: &str| {
            found.push(payload.to_owned());
            Ok(())
        };
        for piece in pieces {
            splitter.feed(piece, &mut each).unwrap();
        }
        splitter.end(&mut each).unwrap();
        found
    }

    #[test]
    fn lines_are_documents() {
        assert_eq!(
            cut(Framing::Lines, &[b"{\"a\":1}\r\n\n{\"b\"", b":2}\n{\"c\":3}"]),
            ["{\"a\":1}", "{\"b\":2}", "{\"c\":3}"]
        );
    }

    #[test]
    fn events_are_their_data() {
        let stream = "\u{feff}data: 1\n\n: ping\nevent: x\nid: 4\ndata:2\ndata: 3\n\n{\"error\":\"e\"}\ndata: [DONE]\n";
        assert_eq!(cut(Framing::Events, &[stream.as_bytes()]), ["1", "2\n3", "{\"error\":\"e\"}", "[DONE]"]);
    }

    #[test]
    fn a_line_that_is_no_text_is_refused() {
        let error = Splitter::new(Framing::Lines).feed(b"\xff\xfe\n", |_| Ok(())).unwrap_err();
        assert_eq!(error.trouble, Trouble::Malformed);
    }

    proptest! {
        #[test]
        fn cuts_anywhere_change_nothing(at in proptest::collection::vec(0_usize..60, 0..6)) {
            let stream = "data: {\"ä\":\"日本\"}\n\ndata: {\"b\":\"…\"}\r\n\r\ndata: [DONE]\n\n".as_bytes();
            let mut at: Vec<_> = at.into_iter().map(|at| at.min(stream.len())).collect();
            at.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for to in at {
                pieces.push(&stream[from..to]);
                from = to;
            }
            pieces.push(&stream[from..]);
            for framing in [Framing::Events, Framing::Lines] {
                prop_assert_eq!(cut(framing, &pieces), cut(framing, &[stream]));
            }
        }
    }
}
