//! The commands of a shell text, as far as they can be told from its words (Shell Command Language, sections 2.2 to
//! 2.10). What cannot be told is not guessed.

/// One simple command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Command {
    /// As it is written, without redirections, its words one space apart.
    pub(super) text: String,
    /// Its words without quotes.
    pub(super) words: Vec<String>,
    /// Files that its output goes to.
    pub(super) writes_to: Vec<String>,
}

/// A text as its reader goes through it.
struct Reader<'a> {
    /// What is left.
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    /// The word under way: as written, without quotes, and whether there is one.
    raw: String,
    plain: String,
    has_word: bool,
    /// Where the word goes when it ends.
    target: Target,
    /// The command under way.
    command: Command,
    /// Commands that are complete.
    done: Vec<Command>,
}

/// What a word is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    /// A word of the command.
    Word,
    /// The file of an output redirection.
    Output,
    /// The file of an input redirection.
    Input,
}

/// The commands of a shell text, in order; `None` where they cannot be told: substitutions, here-documents, quotes that
/// do not end.
pub(super) fn commands(text: &str) -> Option<Vec<Command>> {
    let mut reader = Reader {
        rest: text.chars().peekable(),
        raw: String::new(),
        plain: String::new(),
        has_word: false,
        target: Target::Word,
        command: Command::default(),
        done: Vec::new(),
    };
    while let Some(letter) = reader.rest.next() {
        reader.take(letter)?;
    }
    reader.end_command()?;
    Some(reader.done)
}

impl Reader<'_> {
    /// Takes a letter, and what belongs to it.
    fn take(&mut self, letter: char) -> Option<()> {
        match letter {
            '\'' => self.quoted('\'')?,
            '"' => self.quoted('"')?,
            '\\' => {
                let next = self.rest.next()?;
                if next != '\n' {
                    self.push(&format!("\\{next}"), next);
                }
            }
            '`' => return None,
            '$' if matches!(self.rest.peek(), Some('(' | '{' | '\'' | '"')) => return None,
            ' ' | '\t' => self.end_word(),
            '#' if !self.has_word => while self.rest.next_if(|letter| *letter != '\n').is_some() {},
            '\n' | ';' | '|' | '(' | ')' => self.end_command()?,
            '&' if self.rest.next_if_eq(&'>').is_some() => {
                self.end_word();
                self.redirect_output()?;
            }
            '&' => self.end_command()?,
            '>' => {
                self.drop_descriptor();
                self.end_word();
                self.redirect_output()?;
            }
            '<' if matches!(self.rest.peek(), Some('<' | '(' | '&' | '>')) => return None,
            '<' => {
                self.drop_descriptor();
                self.end_word();
                self.target = Target::Input;
            }
            letter => self.push(&letter.to_string(), letter),
        }
        Some(())
    }

    /// Adds a letter to the word.
    fn push(&mut self, raw: &str, plain: char) {
        self.raw.push_str(raw);
        self.plain.push(plain);
        self.has_word = true;
    }

    /// Takes a quoted piece whose first quote was taken.
    fn quoted(&mut self, quote: char) -> Option<()> {
        self.raw.push(quote);
        self.has_word = true;
        loop {
            let letter = self.rest.next()?;
            self.raw.push(letter);
            match letter {
                letter if letter == quote => return Some(()),
                '`' if quote == '"' => return None,
                '$' if quote == '"' && matches!(self.rest.peek(), Some('(' | '{')) => return None,
                '\\' if quote == '"' => {
                    let next = self.rest.next()?;
                    self.raw.push(next);
                    self.plain.push(next);
                }
                letter => self.plain.push(letter),
            }
        }
    }

    /// A number right before a redirection is part of it.
    fn drop_descriptor(&mut self) {
        if self.has_word && self.raw.chars().all(|letter| letter.is_ascii_digit()) {
            self.raw.clear();
            self.plain.clear();
            self.has_word = false;
        }
    }

    /// An output redirection, whose first `>` was taken.
    fn redirect_output(&mut self) -> Option<()> {
        match self.rest.peek() {
            Some('(') => return None,
            Some('>' | '|') => drop(self.rest.next()),
            Some('&') => {
                self.rest.next();
                let mut digits = 0;
                while self.rest.next_if(|letter| letter.is_ascii_digit() || *letter == '-').is_some() {
                    digits += 1;
                }
                // Another descriptor; a name there would be a file.
                return (digits > 0).then_some(());
            }
            _ => {}
        }
        self.target = Target::Output;
        Some(())
    }

    /// The word is over.
    fn end_word(&mut self) {
        if !std::mem::take(&mut self.has_word) {
            return;
        }
        let (raw, plain) = (std::mem::take(&mut self.raw), std::mem::take(&mut self.plain));
        match std::mem::replace(&mut self.target, Target::Word) {
            Target::Word => {
                if !self.command.text.is_empty() {
                    self.command.text.push(' ');
                }
                self.command.text.push_str(&raw);
                self.command.words.push(plain);
            }
            Target::Output if raw == "/dev/null" => {}
            // A name that the shell makes up is not known; nothing may be written to the empty name.
            Target::Output if raw.contains(['$', '*', '?', '[', '~']) => self.command.writes_to.push(String::new()),
            Target::Output => self.command.writes_to.push(plain),
            Target::Input => {}
        }
    }

    /// The command is over; a redirection without its file cannot be told.
    fn end_command(&mut self) -> Option<()> {
        self.end_word();
        if self.target != Target::Word {
            return None;
        }
        let command = std::mem::take(&mut self.command);
        if command != Command::default() {
            self.done.push(command);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Option<Vec<String>> {
        commands(text).map(|all| all.into_iter().map(|command| command.text).collect())
    }

    #[test]
    fn commands_are_told_apart_outside_of_quotes() {
        let told = texts("cd a && cargo test -- 'x; y' 2>&1 | tail -5; echo \"a && b\" # c; d\nls &").unwrap();
        assert_eq!(told, ["cd a", "cargo test -- 'x; y'", "tail -5", "echo \"a && b\"", "ls"]);
        assert_eq!(commands("a\\;b 'c d'").unwrap()[0].words, ["a;b", "c d"]);
        assert_eq!(texts("(a; b)").unwrap(), ["a", "b"]);
    }

    #[test]
    fn what_cannot_be_told_is_not_guessed() {
        for text in ["a $(b)", "a `b`", "a \"$(b)\"", "a <<E\nb\nE", "a <(b)", "a 'b", "a ${b}", "a >", "a >&f", "a \\"]
        {
            assert_eq!(commands(text), None, "{text}");
        }
    }

    #[test]
    fn files_that_are_written_to_are_known() {
        let told = commands("a >b 2>>c </d 2>/dev/null >&2 &>'e f' >$g").unwrap();
        assert_eq!(told[0].text, "a");
        assert_eq!(told[0].writes_to, ["b", "c", "e f", ""]);
        assert_eq!(commands("echo 5>x").unwrap()[0].words, ["echo"]);
        assert_eq!(commands("echo a5>x").unwrap()[0].words, ["echo", "a5"]);
    }
}
