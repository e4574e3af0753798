//! Enough of the grammar of common languages to colour a line of code: comments, texts, numbers, keywords.
//!
//! A hunk begins anywhere in a file, so no grammar could be sure what it is in; a small table of languages is as right
//! there as a whole parser, costs nothing at the start, and takes microseconds a line.

use std::ops::Range;

/// What a piece of code is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// Nothing special.
    Plain,
    /// A word of the language.
    Keyword,
    /// A text in quotes.
    Text,
    /// A remark.
    Comment,
    /// A number.
    Number,
}

/// A language.
#[derive(Debug)]
pub(super) struct Syntax {
    /// What begins a remark to the end of the line.
    line: &'static [&'static str],
    /// What begins and ends a longer remark.
    block: Option<(&'static str, &'static str)>,
    /// What begins and ends a text, and whether it goes on over line ends; longer beginnings first.
    texts: &'static [(&'static str, &'static str, bool)],
    /// Its words.
    words: &'static [&'static str],
}

/// What a line goes on with that an earlier one began.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Inside(Option<(&'static str, Token)>);

const QUOTES: &[(&str, &str, bool)] = &[("\"", "\"", false), ("'", "'", false)];
const BACKTICKS: &[(&str, &str, bool)] = &[("\"", "\"", false), ("'", "'", false), ("`", "`", true)];
const TRIPLE: &[(&str, &str, bool)] =
    &[("\"\"\"", "\"\"\"", true), ("'''", "'''", true), ("\"", "\"", false), ("'", "'", false)];
const SLASHES: Option<(&str, &str)> = Some(("/*", "*/"));

/// A language with remarks as in C.
const fn like_c(texts: &'static [(&'static str, &'static str, bool)], words: &'static [&'static str]) -> Syntax {
    Syntax { line: &["//"], block: SLASHES, texts, words }
}

/// A language with remarks after `#`.
const fn like_shell(texts: &'static [(&'static str, &'static str, bool)], words: &'static [&'static str]) -> Syntax {
    Syntax { line: &["#"], block: None, texts, words }
}

// A lifetime or label would look like the beginning of a text, so single quotes are none in Rust.
static RUST: Syntax = like_c(
    &[("\"", "\"", true)],
    &[
        "as", "async", "await", "break", "const", "continue", "crate", "dyn", "else", "enum", "extern", "false", "fn",
        "for", "if", "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub", "ref", "return", "self",
        "Self", "static", "struct", "super", "trait", "true", "type", "unsafe", "use", "where", "while",
    ],
);
static C: Syntax = like_c(
    QUOTES,
    &[
        "auto",
        "bool",
        "break",
        "case",
        "catch",
        "char",
        "class",
        "const",
        "constexpr",
        "continue",
        "default",
        "delete",
        "do",
        "double",
        "else",
        "enum",
        "extern",
        "false",
        "float",
        "for",
        "goto",
        "if",
        "inline",
        "int",
        "long",
        "namespace",
        "new",
        "nullptr",
        "operator",
        "private",
        "protected",
        "public",
        "return",
        "short",
        "signed",
        "sizeof",
        "static",
        "struct",
        "switch",
        "template",
        "this",
        "throw",
        "true",
        "try",
        "typedef",
        "typename",
        "union",
        "unsigned",
        "using",
        "virtual",
        "void",
        "volatile",
        "while",
    ],
);
static JVM: Syntax = like_c(
    TRIPLE,
    &[
        "abstract",
        "as",
        "async",
        "await",
        "boolean",
        "break",
        "case",
        "catch",
        "class",
        "companion",
        "const",
        "continue",
        "data",
        "def",
        "default",
        "do",
        "else",
        "enum",
        "extends",
        "extension",
        "false",
        "final",
        "finally",
        "for",
        "fun",
        "func",
        "guard",
        "if",
        "implements",
        "import",
        "in",
        "init",
        "instanceof",
        "int",
        "interface",
        "internal",
        "is",
        "let",
        "long",
        "namespace",
        "new",
        "nil",
        "null",
        "object",
        "open",
        "override",
        "package",
        "private",
        "protected",
        "public",
        "record",
        "return",
        "sealed",
        "self",
        "static",
        "string",
        "struct",
        "super",
        "switch",
        "this",
        "throw",
        "throws",
        "trait",
        "true",
        "try",
        "using",
        "val",
        "var",
        "void",
        "when",
        "where",
        "while",
    ],
);
static SCRIPT: Syntax = like_c(
    BACKTICKS,
    &[
        "abstract",
        "any",
        "as",
        "async",
        "await",
        "boolean",
        "break",
        "case",
        "catch",
        "class",
        "const",
        "continue",
        "default",
        "delete",
        "do",
        "else",
        "enum",
        "export",
        "extends",
        "false",
        "finally",
        "for",
        "from",
        "function",
        "if",
        "implements",
        "import",
        "in",
        "instanceof",
        "interface",
        "let",
        "new",
        "null",
        "number",
        "of",
        "private",
        "protected",
        "public",
        "readonly",
        "return",
        "static",
        "string",
        "super",
        "switch",
        "this",
        "throw",
        "true",
        "try",
        "type",
        "typeof",
        "undefined",
        "var",
        "void",
        "while",
        "yield",
    ],
);
static GO: Syntax = like_c(
    BACKTICKS,
    &[
        "break",
        "case",
        "chan",
        "const",
        "continue",
        "default",
        "defer",
        "else",
        "error",
        "fallthrough",
        "false",
        "for",
        "func",
        "go",
        "goto",
        "if",
        "import",
        "int",
        "interface",
        "map",
        "nil",
        "package",
        "range",
        "return",
        "select",
        "string",
        "struct",
        "switch",
        "true",
        "type",
        "var",
    ],
);
static PHP: Syntax = Syntax {
    line: &["//", "#"],
    block: SLASHES,
    texts: QUOTES,
    words: &[
        "abstract",
        "array",
        "as",
        "break",
        "case",
        "catch",
        "class",
        "const",
        "continue",
        "default",
        "do",
        "echo",
        "else",
        "elseif",
        "extends",
        "false",
        "final",
        "fn",
        "for",
        "foreach",
        "function",
        "if",
        "implements",
        "interface",
        "match",
        "namespace",
        "new",
        "null",
        "private",
        "protected",
        "public",
        "return",
        "static",
        "switch",
        "throw",
        "trait",
        "true",
        "try",
        "use",
        "while",
    ],
};
static PYTHON: Syntax = like_shell(
    TRIPLE,
    &[
        "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del", "elif", "else", "except",
        "False", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda", "None", "nonlocal", "not",
        "or", "pass", "raise", "return", "self", "True", "try", "while", "with", "yield",
    ],
);
static RUBY: Syntax = like_shell(
    QUOTES,
    &[
        "alias",
        "and",
        "begin",
        "break",
        "case",
        "class",
        "def",
        "defmodule",
        "defp",
        "do",
        "else",
        "elsif",
        "end",
        "ensure",
        "false",
        "fn",
        "for",
        "if",
        "in",
        "module",
        "next",
        "nil",
        "not",
        "or",
        "require",
        "rescue",
        "return",
        "self",
        "super",
        "then",
        "true",
        "unless",
        "until",
        "use",
        "when",
        "while",
        "with",
        "yield",
    ],
);
static SHELL: Syntax = like_shell(
    &[("\"", "\"", true), ("'", "'", true)],
    &[
        "case", "do", "done", "elif", "else", "esac", "exit", "export", "fi", "for", "function", "if", "in", "local",
        "readonly", "return", "set", "shift", "then", "until", "while",
    ],
);
static SETTINGS: Syntax = like_shell(QUOTES, &["false", "no", "null", "off", "on", "true", "yes"]);
static JSON: Syntax = like_c(&[("\"", "\"", false)], &["false", "null", "true"]);
static STYLE: Syntax = Syntax { line: &[], block: SLASHES, texts: QUOTES, words: &["important", "media", "import"] };
static MARKUP: Syntax = Syntax { line: &[], block: Some(("<!--", "-->")), texts: &[("\"", "\"", false)], words: &[] };
static SQL: Syntax = Syntax {
    line: &["--"],
    block: SLASHES,
    texts: &[("'", "'", true)],
    words: &[
        "ALTER", "AND", "AS", "BY", "CREATE", "DELETE", "DROP", "FROM", "GROUP", "IN", "INDEX", "INSERT", "INTO",
        "JOIN", "KEY", "LIMIT", "NOT", "NULL", "ON", "OR", "ORDER", "PRIMARY", "SELECT", "SET", "TABLE", "UPDATE",
        "VALUES", "WHERE",
    ],
};
static LUA: Syntax = Syntax {
    line: &["--"],
    block: Some(("--[[", "]]")),
    texts: QUOTES,
    words: &[
        "and", "break", "data", "do", "else", "elseif", "end", "false", "for", "function", "if", "import", "in", "let",
        "local", "module", "nil", "not", "of", "or", "repeat", "return", "then", "true", "type", "until", "where",
        "while",
    ],
};

/// The language of a file, by its name.
pub(super) fn syntax_of(path: &str) -> Option<&'static Syntax> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let ending = name.rsplit_once('.').map_or(name, |(_, ending)| ending);
    Some(match ending.to_ascii_lowercase().as_str() {
        "rs" => &RUST,
        "c" | "h" | "cc" | "cpp" | "cxx" | "hpp" | "hh" | "m" | "mm" | "glsl" | "proto" | "zig" => &C,
        "java" | "kt" | "kts" | "scala" | "swift" | "cs" | "dart" | "groovy" | "gradle" => &JVM,
        "js" | "jsx" | "mjs" | "cjs" | "ts" | "tsx" | "vue" | "svelte" => &SCRIPT,
        "go" => &GO,
        "php" => &PHP,
        "py" | "pyi" => &PYTHON,
        "rb" | "ex" | "exs" | "gemfile" | "rakefile" | "cr" => &RUBY,
        "sh" | "bash" | "zsh" | "fish" | "makefile" | "mk" | "dockerfile" | "justfile" => &SHELL,
        "toml" | "yaml" | "yml" | "ini" | "cfg" | "conf" | "nix" | "tf" | "hcl" | "properties" => &SETTINGS,
        "json" | "jsonc" | "json5" => &JSON,
        "css" | "scss" | "less" | "sass" => &STYLE,
        "html" | "htm" | "xml" | "svg" | "md" | "markdown" => &MARKUP,
        "sql" => &SQL,
        "lua" | "hs" | "elm" => &LUA,
        _ => return None,
    })
}

/// Takes a line apart; the ranges follow each other from its first to its last byte.
pub(super) fn tokens(syntax: &Syntax, line: &str, inside: &mut Inside) -> Vec<(Range<usize>, Token)> {
    let mut found: Vec<(Range<usize>, Token)> = Vec::new();
    let mut at = 0;
    let mut put = |range: Range<usize>, token: Token| match found.last_mut() {
        Some((last, kind)) if *kind == token && last.end == range.start => last.end = range.end,
        _ if range.is_empty() => {}
        _ => found.push((range, token)),
    };
    while at < line.len() {
        let rest = &line[at..];
        if let Some((close, token)) = inside.0 {
            let length = end_of(rest, close, token);
            if length.is_some() {
                inside.0 = None;
            }
            let length = length.unwrap_or(rest.len());
            put(at..at + length, token);
            at += length;
            continue;
        }
        let (length, token) = match opening(syntax, rest) {
            Some(Opening::Line) => (rest.len(), Token::Comment),
            Some(Opening::Long(open, close, token, goes_on)) => match end_of(&rest[open..], close, token) {
                Some(length) => (open + length, token),
                // A text that ends nowhere on the line where it has to is an apostrophe.
                None if !goes_on => (open, Token::Plain),
                None => {
                    inside.0 = Some((close, token));
                    (rest.len(), token)
                }
            },
            None => word(syntax, rest),
        };
        put(at..at + length, token);
        at += length;
    }
    found
}

/// What begins at the beginning of a text.
enum Opening {
    /// A remark to the end of the line.
    Line,
    /// Length of the beginning, the end, what it is, whether it goes on over line ends.
    Long(usize, &'static str, Token, bool),
}

/// What begins here.
fn opening(syntax: &Syntax, rest: &str) -> Option<Opening> {
    if let Some((open, close)) = syntax.block.filter(|(open, _)| rest.starts_with(open)) {
        return Some(Opening::Long(open.len(), close, Token::Comment, true));
    }
    if syntax.line.iter().any(|mark| rest.starts_with(mark)) {
        return Some(Opening::Line);
    }
    let text = syntax.texts.iter().find(|(open, ..)| rest.starts_with(open))?;
    Some(Opening::Long(text.0.len(), text.1, Token::Text, text.2))
}

/// Where something ends, the ending included; in a text a backslash hides what comes after it.
fn end_of(rest: &str, close: &str, token: Token) -> Option<usize> {
    let mut is_hidden = false;
    for (at, letter) in rest.char_indices() {
        if is_hidden {
            is_hidden = false;
        } else if token == Token::Text && letter == '\\' {
            is_hidden = true;
        } else if rest[at..].starts_with(close) {
            return Some(at + close.len());
        }
    }
    None
}

/// A word, number or single character at the beginning of a text.
fn word(syntax: &Syntax, rest: &str) -> (usize, Token) {
    let first = rest.chars().next().unwrap_or(' ');
    if !(first.is_alphanumeric() || first == '_') {
        return (first.len_utf8(), Token::Plain);
    }
    let is_number = first.is_ascii_digit();
    let is_in = |c: char| c.is_alphanumeric() || c == '_' || (is_number && c == '.');
    let length = rest.find(|c| !is_in(c)).unwrap_or(rest.len());
    let token = match &rest[..length] {
        _ if is_number => Token::Number,
        word if syntax.words.contains(&word) => Token::Keyword,
        word if std::ptr::eq(syntax, &raw const SQL) && syntax.words.contains(&&*word.to_uppercase()) => Token::Keyword,
        _ => Token::Plain,
    };
    (length, token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(path: &str, lines: &[&str]) -> Vec<String> {
        let mut inside = Inside::default();
        let syntax = syntax_of(path).unwrap();
        let of = |line: &&str| {
            let all = tokens(syntax, line, &mut inside);
            assert_eq!(all.last().map_or(0, |(range, _)| range.end), line.len(), "{line} is whole");
            let named = all.iter().filter(|(_, token)| *token != Token::Plain);
            named.map(|(range, token)| format!("{token:?}:{}", &line[range.clone()])).collect::<Vec<_>>().join(" ")
        };
        lines.iter().map(of).collect()
    }

    #[test]
    fn words_texts_numbers_and_remarks_are_told_apart() {
        let rust = shown("src/a.rs", &["let x: &'a str = \"if \\\" // no\"; // 1", "format!(\"ä\", 0x1F, letter)"]);
        assert_eq!(rust, ["Keyword:let Text:\"if \\\" // no\" Comment:// 1", "Text:\"ä\" Number:0x1F"]);
        assert_eq!(shown("Makefile", &["if x # it's"]), ["Keyword:if Comment:# it's"]);
        assert_eq!(shown("a.md", &["it's \"so\" <!-- x"]), ["Text:\"so\" Comment:<!-- x"]);
        assert_eq!(shown("a.sql", &["select x -- y"]), ["Keyword:select Comment:-- y"]);
        assert!(syntax_of("LICENSE").is_none());
    }

    #[test]
    fn what_goes_on_over_lines_is_remembered() {
        let c = shown("a.c", &["a /* b", "if */ return 'x'", "char c = 'it"]);
        assert_eq!(c, ["Comment:/* b", "Comment:if */ Keyword:return Text:'x'", "Keyword:char"]);
        assert_eq!(shown("a.py", &["\"\"\"def", "x\"\"\" def"]), ["Text:\"\"\"def", "Text:x\"\"\" Keyword:def"]);
    }
}
