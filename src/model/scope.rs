//! File scopes: which files a ticket means to touch, and whether two tickets could mean the same one.
//!
//! Patterns are those of the `globset` crate with its literal separator: `*` and `?` stay within a folder, `**` as a
//! whole part of a path is any number of folders, `[a-z]` and `{a,b}` choose. A pattern that names a folder means all
//! that is in it. Each is made into a small automaton; two scopes overlap when the product of two of their automata
//! accepts some path, so the answer is exact, and the path is told. What cannot be read as a pattern means every file.

use std::collections::{HashMap, VecDeque};

/// Ranges of characters, both ends included.
type Ranges = Vec<(u32, u32)>;

/// The last character there is.
const LAST: u32 = char::MAX as u32;
/// The separator of folders.
const SLASH: u32 = '/' as u32;

/// The files that a ticket means to touch.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    /// One a pattern; none is "not stated".
    automata: Vec<Automaton>,
}

impl Scope {
    /// The scope that patterns describe.
    pub(crate) fn new(patterns: &[String]) -> Self {
        Self { automata: patterns.iter().map(|pattern| Automaton::of(pattern)).collect() }
    }

    /// Whether there is one; without, nothing is known of what the ticket touches.
    pub(crate) fn is_stated(&self) -> bool {
        !self.automata.is_empty()
    }

    /// Whether a file is in it; `path` is seen from the top of the repository.
    pub(crate) fn covers(&self, path: &str) -> bool {
        self.automata.iter().any(|automaton| automaton.accepts(path))
    }

    /// The files that are outside of it, in their order; none where no scope is stated.
    pub(crate) fn outside(&self, paths: impl IntoIterator<Item = String>) -> Vec<String> {
        paths.into_iter().filter(|path| self.is_stated() && !self.covers(path)).collect()
    }

    /// A path that is in both scopes; `None` where they have no file in common, or one is not stated.
    pub(crate) fn common(&self, other: &Self) -> Option<String> {
        let pairs = self.automata.iter().flat_map(|one| other.automata.iter().map(move |two| (one, two)));
        pairs.into_iter().find_map(|(one, two)| one.common(two))
    }
}

/// A piece of a pattern.
#[derive(Debug, Clone)]
enum Piece {
    /// One of these characters.
    One(Ranges),
    /// Any number of these characters.
    Many(Ranges),
    /// One of these.
    Either(Vec<Vec<Piece>>),
}

/// A state of an automaton.
#[derive(Debug, Clone, Default)]
struct State {
    /// States that follow without a character.
    free: Vec<usize>,
    /// The characters that lead on, and where to.
    step: Option<(Ranges, usize)>,
}

/// What accepts the paths of one pattern: begins in state 0 and ends in the last one.
#[derive(Debug, Clone)]
struct Automaton {
    states: Vec<State>,
}

impl Automaton {
    /// The automaton of a pattern.
    fn of(pattern: &str) -> Self {
        let trimmed = pattern.trim().trim_start_matches("./").trim_start_matches('/').trim_end_matches('/');
        let mut pieces = Parser::new(trimmed).pieces(false).unwrap_or_else(|| vec![Piece::Many(anything())]);
        // What names a folder means what is in it.
        pieces.push(Piece::Either(vec![Vec::new(), vec![Piece::One(vec![(SLASH, SLASH)]), Piece::Many(anything())]]));
        let mut automaton = Self { states: vec![State::default()] };
        automaton.add(0, &pieces);
        automaton
    }

    /// Makes a state.
    fn state(&mut self) -> usize {
        self.states.push(State::default());
        self.states.len() - 1
    }

    /// Adds what accepts pieces behind a state; the state behind them, which is the newest one.
    fn add(&mut self, mut at: usize, pieces: &[Piece]) -> usize {
        for piece in pieces {
            let begin = at;
            match piece {
                Piece::One(ranges) => {
                    at = self.state();
                    self.states[begin].step = Some((ranges.clone(), at));
                }
                Piece::Many(ranges) => {
                    let again = self.state();
                    at = self.state();
                    self.states[begin].free.extend([again, at]);
                    let back = self.state();
                    self.states[again].step = Some((ranges.clone(), back));
                    self.states[back].free.extend([again, at]);
                    at = self.joined(at);
                }
                Piece::Either(branches) => {
                    let ends: Vec<usize> = branches
                        .iter()
                        .map(|branch| {
                            let first = self.state();
                            self.states[begin].free.push(first);
                            self.add(first, branch)
                        })
                        .collect();
                    at = self.state();
                    for end in ends {
                        self.states[end].free.push(at);
                    }
                }
            }
        }
        at
    }

    /// A new last state behind another one.
    fn joined(&mut self, before: usize) -> usize {
        let last = self.state();
        self.states[before].free.push(last);
        last
    }

    /// Whether the whole of a path is accepted.
    fn accepts(&self, path: &str) -> bool {
        let mut now = self.closure([0]);
        for character in path.chars().map(u32::from) {
            let next = now.iter().filter_map(|state| match &self.states[*state].step {
                Some((ranges, to)) if ranges.iter().any(|(a, b)| (*a..=*b).contains(&character)) => Some(*to),
                _ => None,
            });
            now = self.closure(next.collect::<Vec<_>>());
        }
        now.contains(&(self.states.len() - 1))
    }

    /// The states that are reached without a character.
    fn closure(&self, from: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let mut is_seen = vec![false; self.states.len()];
        let mut todo: Vec<usize> = from.into_iter().collect();
        let mut found = Vec::new();
        while let Some(state) = todo.pop() {
            if !std::mem::replace(&mut is_seen[state], true) {
                found.push(state);
                todo.extend(&self.states[state].free);
            }
        }
        found
    }

    /// A shortest path that both accept.
    fn common(&self, other: &Self) -> Option<String> {
        let end = (self.states.len() - 1, other.states.len() - 1);
        // How each pair of states was reached: from which, and by which character.
        let mut reached = Reached::new();
        reached.insert((0, 0), None);
        let mut todo = VecDeque::from([(0, 0)]);
        while let Some(at) = todo.pop_front() {
            if at == end {
                return Some(path_to(&reached, at));
            }
            let (one, two) = (&self.states[at.0], &other.states[at.1]);
            let free = one.free.iter().map(|to| (*to, at.1)).chain(two.free.iter().map(|to| (at.0, *to)));
            let mut next: Vec<_> = free.map(|to| (to, None)).collect();
            if let (Some((ours, left)), Some((theirs, right))) = (&one.step, &two.step)
                && let Some(character) = shared(ours, theirs)
            {
                next.push(((*left, *right), Some(character)));
            }
            for (to, character) in next {
                reached.entry(to).or_insert_with(|| {
                    // Without a character first, so that paths are short.
                    if character.is_none() {
                        todo.push_front(to)
                    } else {
                        todo.push_back(to)
                    }
                    Some((at, character))
                });
            }
        }
        None
    }
}

/// A state of each of two.
type Pair = (usize, usize);

/// How pairs were reached: from which one, and by which character; the first from none.
type Reached = HashMap<Pair, Option<(Pair, Option<char>)>>;

/// The characters on the way to a pair of states.
fn path_to(reached: &Reached, mut at: Pair) -> String {
    let mut characters: Vec<char> = Vec::new();
    while let Some(Some((before, character))) = reached.get(&at) {
        characters.extend(character);
        at = *before;
    }
    characters.iter().rev().collect()
}

/// A character in both, a letter where one is.
fn shared(ours: &Ranges, theirs: &Ranges) -> Option<char> {
    let pairs = ours.iter().flat_map(|one| theirs.iter().map(move |two| (one.0.max(two.0), one.1.min(two.1))));
    let common: Vec<(u32, u32)> = pairs.filter(|(from, to)| from <= to).collect();
    let letters = [('a', 'z'), ('0', '9'), ('A', 'Z'), ('!', '~')];
    let letter = letters.into_iter().find_map(|(first, last)| {
        let fits = |(from, to): &(u32, u32)| Some((*from).max(first.into())).filter(|at| *at <= (*to).min(last.into()));
        common.iter().find_map(fits)
    });
    // The ends of a range are characters; only what lies between may be none.
    letter.or_else(|| common.first().map(|(from, _)| *from)).and_then(char::from_u32)
}

/// Every character.
fn anything() -> Ranges {
    vec![(0, 0xD7FF), (0xE000, LAST)]
}

/// Every character but some.
fn but(excluded: &[(u32, u32)]) -> Ranges {
    let mut sorted = excluded.to_vec();
    sorted.sort_unstable();
    let mut rest = Vec::new();
    for (first, last) in anything() {
        let mut from = first;
        for (start, end) in sorted.iter().filter(|(start, end)| *start <= last && *end >= first) {
            if *start > from {
                rest.push((from, start - 1));
            }
            from = from.max(end.saturating_add(1));
        }
        if from <= last {
            rest.push((from, last));
        }
    }
    rest
}

/// Reads a pattern.
struct Parser {
    /// Its characters.
    text: Vec<char>,
    /// Where it reads.
    at: usize,
}

impl Parser {
    /// One at the beginning.
    fn new(pattern: &str) -> Self {
        Self { text: pattern.chars().collect(), at: 0 }
    }

    /// The character to be read, `ahead` further on.
    fn peek(&self, ahead: usize) -> Option<char> {
        self.text.get(self.at + ahead).copied()
    }

    /// Reads to the end, or in a choice to the end of a branch. `None` for what is no pattern.
    fn pieces(&mut self, is_in_choice: bool) -> Option<Vec<Piece>> {
        let not_slash = || but(&[(SLASH, SLASH)]);
        let begin = self.at;
        let mut pieces = Vec::new();
        while let Some(character) = self.peek(0) {
            match character {
                ',' | '}' if is_in_choice => return Some(pieces),
                '}' => return None,
                '{' => {
                    self.at += 1;
                    pieces.push(self.choice()?);
                }
                '[' => {
                    self.at += 1;
                    pieces.push(Piece::One(self.class()?));
                }
                '*' if self.peek(1) == Some('*') && self.is_whole_part(begin, is_in_choice) => {
                    self.at += 2;
                    let some = Piece::Many(anything());
                    if self.peek(0) == Some('/') {
                        self.at += 1;
                        let folders = vec![some, Piece::One(vec![(SLASH, SLASH)])];
                        pieces.push(Piece::Either(vec![Vec::new(), folders]));
                    } else {
                        pieces.push(some);
                    }
                }
                '*' => {
                    self.at += 1;
                    pieces.push(Piece::Many(not_slash()));
                }
                '?' => {
                    self.at += 1;
                    pieces.push(Piece::One(not_slash()));
                }
                '\\' => {
                    let escaped = u32::from(self.peek(1)?);
                    self.at += 2;
                    pieces.push(Piece::One(vec![(escaped, escaped)]));
                }
                plain => {
                    self.at += 1;
                    pieces.push(Piece::One(vec![(plain.into(), plain.into())]));
                }
            }
        }
        (!is_in_choice).then_some(pieces)
    }

    /// Whether the two stars to be read are a whole part of the path.
    fn is_whole_part(&self, begin: usize, is_in_choice: bool) -> bool {
        let begins = self.at == begin || self.text[self.at - 1] == '/';
        let ends = match self.peek(2) {
            None | Some('/') => true,
            Some(',' | '}') => is_in_choice && self.at != begin,
            Some(_) => false,
        };
        begins && ends
    }

    /// Reads a choice behind its brace.
    fn choice(&mut self) -> Option<Piece> {
        let mut branches = Vec::new();
        loop {
            branches.push(self.pieces(true)?);
            self.at += 1;
            if self.text[self.at - 1] == '}' {
                break;
            }
        }
        // An empty branch is none, where there are others.
        if branches.iter().any(|branch| !branch.is_empty()) {
            branches.retain(|branch| !branch.is_empty());
        }
        Some(Piece::Either(branches))
    }

    /// Reads a class of characters behind its bracket.
    fn class(&mut self) -> Option<Ranges> {
        let is_negated = matches!(self.peek(0), Some('!' | '^'));
        self.at += usize::from(is_negated);
        let mut ranges: Ranges = Vec::new();
        let (mut is_first, mut is_range) = (true, false);
        loop {
            let character = self.peek(0)?;
            self.at += 1;
            match character {
                ']' if !is_first => break,
                '-' if !is_first && !is_range => is_range = true,
                end if is_range => {
                    let last = ranges.last_mut()?;
                    last.1 = end.into();
                    if last.1 < last.0 {
                        return None;
                    }
                    is_range = false;
                }
                one => ranges.push((one.into(), one.into())),
            }
            is_first = false;
        }
        if is_range {
            ranges.push(('-'.into(), '-'.into()));
        }
        Some(if is_negated { but(&ranges) } else { ranges })
    }
}

#[cfg(test)]
mod tests {
    use globset::GlobBuilder;
    use proptest::prelude::*;

    use super::*;

    fn scope(patterns: &[&str]) -> Scope {
        Scope::new(&patterns.iter().map(|pattern| (*pattern).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn patterns_mean_what_they_mean_elsewhere() {
        for (pattern, path, is_covered) in [
            ("src/parser/**", "src/parser/a/b.rs", true),
            ("src/parser/**", "src/parser.rs", false),
            ("src/*.rs", "src/a.rs", true),
            ("src/*.rs", "src/a/b.rs", false),
            ("**/*.md", "README.md", true),
            ("**/*.md", "docs/a/b.md", true),
            ("src/**/mod.rs", "src/mod.rs", true),
            ("src/**/mod.rs", "src/a/b/mod.rs", true),
            ("src/{lexer,parser}/?.rs", "src/lexer/a.rs", true),
            ("src/{lexer,parser}/?.rs", "src/other/a.rs", false),
            ("v[0-9].txt", "v3.txt", true),
            ("v[!0-9].txt", "v3.txt", false),
            // What names a folder means what is in it, however it is written.
            ("src/parser", "src/parser/a.rs", true),
            ("./src/parser/", "src/parser/a/b.rs", true),
            ("src/parser", "src/parser2", false),
            ("src/{a", "anything/at/all", true),
        ] {
            assert_eq!(scope(&[pattern]).covers(path), is_covered, "{pattern} and {path}");
        }
        assert!(!scope(&[]).is_stated() && scope(&[]).outside(["a".to_owned()]).is_empty());
        let outside = scope(&["src/**", "*.md"]).outside(["src/a", "README.md", "docs/a.md"].map(str::to_owned));
        assert_eq!(outside, ["docs/a.md"]);
    }

    #[test]
    fn scopes_overlap_where_some_file_is_in_both() {
        let common = |ours: &[&str], theirs: &[&str]| scope(ours).common(&scope(theirs));
        assert_eq!(common(&["src/parser/**"], &["src/lexer/**"]), None);
        assert_eq!(common(&["src/*.rs"], &["src/**/mod.rs"]).as_deref(), Some("src/mod.rs"));
        assert_eq!(common(&["docs", "a*c"], &["x", "ab?"]).as_deref(), Some("abc"));
        assert_eq!(common(&["*.rs"], &["src/*.rs"]), None);
        assert_eq!(common(&["[a-f]x"], &["[g-z]x"]), None);
        assert_eq!(common(&["src"], &["src/parser/mod.rs"]).as_deref(), Some("src/parser/mod.rs"));
        assert_eq!(common(&["**"], &[]), None, "a scope that is not stated is no scope");
        assert!(common(&["**/test_*.py"], &["**/*_a.py"]).is_some());
    }

    /// Patterns of few letters, so that they often have something in common.
    fn pattern() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            4 => "[ab]{1,2}",
            2 => "[ab]?\\*[ab]?",
            1 => "[ab]?\\?",
            2 => Just("**".to_owned()),
            1 => Just("{a,b*}".to_owned()),
            1 => Just("{a/b,?}".to_owned()),
            1 => Just("[!a]".to_owned()),
            1 => Just("[a-b]b".to_owned()),
        ];
        proptest::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"))
    }

    /// Every path of up to three parts of up to two letters.
    fn paths() -> Vec<String> {
        let parts = ["a", "b", "ab", "ba", "aa", "bb"];
        let mut paths: Vec<String> = parts.map(str::to_owned).to_vec();
        for _ in 0..2 {
            let longer: Vec<String> =
                paths.iter().flat_map(|path| parts.iter().map(move |part| format!("{path}/{part}"))).collect();
            paths.extend(longer);
        }
        paths
    }

    /// The judge: the pattern itself, or all that is in the folder of its name.
    fn judge(pattern: &str) -> impl Fn(&str) -> bool {
        let glob = |text: &str| GlobBuilder::new(text).literal_separator(true).build().unwrap().compile_matcher();
        let (own, below) = (glob(pattern), glob(&format!("{pattern}/**")));
        move |path| own.is_match(path) || below.is_match(path)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_scope_overlaps_another_exactly_when_a_path_is_in_both(one in pattern(), two in pattern()) {
            let (first, second) = (judge(&one), judge(&two));
            let (ours, theirs) = (scope(&[one.as_str()]), scope(&[two.as_str()]));
            let mut is_shared = false;
            for path in paths() {
                prop_assert_eq!(ours.covers(&path), first(&path), "{} and {}", one, path);
                is_shared |= first(&path) && second(&path);
            }
            let common = ours.common(&theirs);
            prop_assert!(!is_shared || common.is_some(), "{} and {}", one, two);
            if let Some(path) = common {
                prop_assert!(ours.covers(&path) && theirs.covers(&path), "`{}` for {} and {}", path, one, two);
            }
        }

        #[test]
        fn any_text_is_some_scope(text in "[ab*?/{},\\[\\]!^\\\\ -]{0,12}") {
            let any = scope(&[text.as_str()]);
            prop_assert!(any.common(&scope(&["**"])).is_some() || !any.covers("a"));
        }
    }
}
