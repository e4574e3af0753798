//! What a terminal sends, as keys (xterm control sequences, "Bracketed Paste Mode" and "PC-Style Function Keys").

/// Begins a paste.
const PASTE: &[u8] = b"\x1b[200~";
/// Ends a paste.
const PASTE_END: &[u8] = b"\x1b[201~";
/// Longest sequence of a key; what is longer is none.
const SEQUENCE_LIMIT: usize = 32;

/// One key, or a paste.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    /// A letter.
    Letter(char),
    /// A text as one piece, with line feeds.
    Paste(String),
    /// Return.
    Enter,
    /// A new line within the text.
    NewLine,
    /// Deletes before the cursor.
    Backspace,
    /// Deletes at the cursor.
    Delete,
    /// One letter back.
    Left,
    /// One letter on.
    Right,
    /// To the beginning of the line.
    Home,
    /// To the end of the line.
    End,
    /// Empties the line.
    Clear,
    /// Deletes to the end of the line.
    Cut,
    /// Deletes the word before the cursor.
    CutWord,
    /// Control-C.
    Interrupt,
    /// Control-D.
    EndOfInput,
    /// Escape.
    Escape,
    /// Control-L.
    Redraw,
}

/// Reads keys from bytes that are cut anywhere.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// What is not a whole key yet.
    rest: Vec<u8>,
}

impl Keys {
    /// The keys that are complete with these bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<Key> {
        // Alone it is the key, and no beginning of a sequence: those come in one piece.
        if self.rest.is_empty() && bytes == b"\x1b" {
            return vec![Key::Escape];
        }
        self.rest.extend_from_slice(bytes);
        let mut keys = Vec::new();
        while let Some((key, length)) = next(&self.rest) {
            self.rest.drain(..length);
            keys.extend(key);
        }
        keys
    }
}

/// The first key, or nothing for what is no key, and its length; `None` when more bytes are needed.
fn next(bytes: &[u8]) -> Option<(Option<Key>, usize)> {
    let first = *bytes.first()?;
    let control = match first {
        0x1b => return escape(bytes),
        b'\r' => Some(Key::Enter),
        b'\n' => Some(Key::NewLine),
        0x7f | 0x08 => Some(Key::Backspace),
        0x01 => Some(Key::Home),
        0x02 => Some(Key::Left),
        0x03 => Some(Key::Interrupt),
        0x04 => Some(Key::EndOfInput),
        0x05 => Some(Key::End),
        0x06 => Some(Key::Right),
        0x0b => Some(Key::Cut),
        0x0c => Some(Key::Redraw),
        0x15 => Some(Key::Clear),
        0x17 => Some(Key::CutWord),
        b'\t' => Some(Key::Letter('\t')),
        0..0x20 => None,
        _ => return letter(bytes),
    };
    Some((control, 1))
}

/// A letter in UTF-8; bytes that are none are passed over.
fn letter(bytes: &[u8]) -> Option<(Option<Key>, usize)> {
    let length = match bytes[0] {
        0..0x80 => 1,
        0xc0..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0..0xf8 => 4,
        _ => return Some((None, 1)),
    };
    let piece = bytes.get(..length)?;
    match std::str::from_utf8(piece).ok().and_then(|text| text.chars().next()) {
        Some(letter) => Some((Some(Key::Letter(letter)), length)),
        None => Some((None, 1)),
    }
}

/// What begins with an escape character.
fn escape(bytes: &[u8]) -> Option<(Option<Key>, usize)> {
    if bytes.starts_with(PASTE) {
        let at = bytes.windows(PASTE_END.len()).position(|window| window == PASTE_END)?;
        let text = String::from_utf8_lossy(&bytes[PASTE.len()..at]).replace("\r\n", "\n").replace('\r', "\n");
        let plain = text.chars().filter(|letter| !letter.is_control() || matches!(letter, '\n' | '\t')).collect();
        return Some((Some(Key::Paste(plain)), at + PASTE_END.len()));
    }
    match bytes.get(1)? {
        b'[' => {
            let end = bytes[2..].iter().position(|byte| (0x40..0x7f).contains(byte)).map(|at| at + 2);
            match end {
                Some(end) => Some((named(&bytes[2..=end]), end + 1)),
                None if bytes.len() > SEQUENCE_LIMIT => Some((None, bytes.len())),
                None => None,
            }
        }
        b'O' => Some((named(bytes.get(2..3)?), 3)),
        // With the Alt key.
        b'\r' | b'\n' => Some((Some(Key::NewLine), 2)),
        0x7f => Some((Some(Key::CutWord), 2)),
        0x1b => Some((Some(Key::Escape), 1)),
        _ => Some((None, 2)),
    }
}

/// The key of a sequence without its beginning.
fn named(sequence: &[u8]) -> Option<Key> {
    match sequence {
        b"D" => Some(Key::Left),
        b"C" => Some(Key::Right),
        b"H" | b"1~" | b"7~" => Some(Key::Home),
        b"F" | b"4~" | b"8~" => Some(Key::End),
        b"3~" => Some(Key::Delete),
        b"13;2u" | b"27;2;13~" => Some(Key::NewLine),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_being_split_anywhere() {
        let bytes = "aä\x1b[D\x1b[3~\x1b[200~x\x03\r/y\x1b[Az\x1b[201~\r\x15\x1b\x7f\u{1f600}\x1b[99;5u".as_bytes();
        let whole = Keys::default().feed(bytes);
        let expected = [
            Key::Letter('a'),
            Key::Letter('ä'),
            Key::Left,
            Key::Delete,
            Key::Paste("x\n/y[Az".to_owned()),
            Key::Enter,
            Key::Clear,
            Key::CutWord,
            Key::Letter('\u{1f600}'),
        ];
        assert_eq!(whole, expected);
        for at in 1..bytes.len() {
            let mut keys = Keys::default();
            let mut all = keys.feed(&bytes[..at]);
            all.extend(keys.feed(&bytes[at..]));
            assert_eq!(all, expected, "split at {at}");
        }
    }

    #[test]
    fn escape_alone_is_a_key_and_odd_bytes_are_none() {
        let mut keys = Keys::default();
        assert_eq!(keys.feed(b"\x1b"), [Key::Escape]);
        assert_eq!(keys.feed(b"\xff\xfe\x00a"), [Key::Letter('a')]);
    }
}
