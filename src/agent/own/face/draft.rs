//! The text that a person is typing.

use super::keys::Key;

/// A text with a cursor.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// The text.
    text: String,
    /// Where the cursor is, in bytes.
    at: usize,
    /// Whether a part was pasted: then it is no command, whatever it begins with.
    is_pasted: bool,
}

impl Draft {
    /// Whether nothing is typed.
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Takes a key that changes the text or moves the cursor.
    pub(super) fn take(&mut self, key: &Key) {
        let before = self.text[..self.at].char_indices().next_back().map_or(0, |(at, _)| at);
        let after = self.text[self.at..].chars().next().map_or(self.at, |letter| self.at + letter.len_utf8());
        let line_start = self.text[..self.at].rfind('\n').map_or(0, |at| at + 1);
        let line_end = self.text[self.at..].find('\n').map_or(self.text.len(), |at| self.at + at);
        match key {
            Key::Letter(letter) => self.insert(&letter.to_string()),
            Key::NewLine => self.insert("\n"),
            Key::Paste(text) => {
                self.is_pasted = true;
                self.insert(text);
            }
            Key::Backspace => self.remove(before, self.at),
            Key::Delete => self.remove(self.at, after),
            Key::Left => self.at = before,
            Key::Right => self.at = after,
            Key::Home => self.at = line_start,
            Key::End => self.at = line_end,
            Key::Clear => self.clear(),
            Key::Cut => self.remove(self.at, line_end),
            Key::CutWord => {
                let word = self.text[..self.at].trim_end();
                let from = word.rfind(char::is_whitespace).map_or(0, |at| at + 1);
                self.remove(from, self.at);
            }
            Key::Enter | Key::Interrupt | Key::EndOfInput | Key::Escape | Key::Redraw => {}
        }
    }

    /// Takes the text out; and whether it was typed by hand alone.
    pub(super) fn finish(&mut self) -> (String, bool) {
        let text = std::mem::take(&mut self.text);
        let is_typed = !self.is_pasted;
        self.clear();
        (text, is_typed)
    }

    /// Empties it.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The lines, and the line and the column in letters at which the cursor is.
    pub(super) fn lines(&self) -> (Vec<&str>, usize, usize) {
        let before = &self.text[..self.at];
        let line = before.matches('\n').count();
        let column = before.rsplit('\n').next().unwrap_or("").chars().count();
        (self.text.split('\n').collect(), line, column)
    }

    /// Adds a text at the cursor.
    fn insert(&mut self, text: &str) {
        self.text.insert_str(self.at, text);
        self.at += text.len();
    }

    /// Removes a piece.
    fn remove(&mut self, from: usize, to: usize) {
        self.text.drain(from..to);
        self.at = from;
        self.is_pasted &= !self.text.is_empty();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn typed(keys: &[Key]) -> Draft {
        let mut draft = Draft::default();
        keys.iter().for_each(|key| draft.take(key));
        draft
    }

    #[test]
    fn text_is_edited_at_the_cursor() {
        let letters = |text: &str| text.chars().map(Key::Letter).collect::<Vec<_>>();
        let mut keys = letters("one twö");
        keys.extend([Key::Left, Key::Backspace, Key::Delete, Key::Letter('ä'), Key::Home, Key::Letter('>')]);
        keys.extend([Key::End, Key::NewLine]);
        keys.extend(letters("three four"));
        keys.push(Key::CutWord);
        let mut draft = typed(&keys);
        assert_eq!(draft.lines(), (vec![">one tä", "three "], 1, 6));
        assert_eq!(draft.finish(), (">one tä\nthree ".to_owned(), true));
        assert!(draft.is_empty());
        assert_eq!(typed(&[Key::Paste("/exit".to_owned())]).finish(), ("/exit".to_owned(), false));
        assert!(typed(&[Key::Paste("x".to_owned()), Key::Clear, Key::Letter('/')]).finish().1);
    }

    proptest! {
        #[test]
        fn no_keys_break_it(choices in proptest::collection::vec(0_usize..11, 0..60)) {
            let keys = [
                Key::Letter('ä'), Key::Letter(' '), Key::NewLine, Key::Backspace, Key::Delete, Key::Left, Key::Right,
                Key::Home, Key::End, Key::Cut, Key::CutWord,
            ];
            let mut draft = Draft::default();
            for choice in choices {
                draft.take(&keys[choice]);
                let (lines, line, column) = draft.lines();
                prop_assert!(column <= lines[line].chars().count());
            }
        }
    }
}
