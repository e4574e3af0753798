//! Glob and Grep: what git ignores is left out, and so is what the rules forbid to read. Results are in the order of
//! their paths, so that the same tree gives the same answer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use globset::{GlobBuilder, GlobMatcher};
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder, Sink, SinkContext, SinkMatch};
use ignore::WalkBuilder;
use tokio::sync::watch;

use super::cap::floor;
use super::input::Input;
use super::place::Place;
use super::{MayRead, Output};
use crate::model::counted;

/// Most files that Glob lists.
const FILES: usize = 500;
/// Most lines that Grep shows.
const LINES: usize = 2000;
/// Longest line that is shown, in bytes.
const LINE_LIMIT: usize = 500;
/// Bytes of one file that may be in memory, for a line without end or a match over several lines.
const HEAP: usize = 8 * 1024 * 1024;

/// A search that is to run beside the loop; it looks at the flag and stops when that is set.
type Job = Box<dyn FnOnce(&AtomicBool) -> Result<String, String> + Send>;

/// Runs a search until it is done or stopped.
pub(super) async fn run(job: Result<Job, String>, mut stop: watch::Receiver<bool>) -> Output {
    let job = match job {
        Ok(job) => job,
        Err(reason) => return Output::error(reason),
    };
    let is_stopped = Arc::new(AtomicBool::new(false));
    let flag = is_stopped.clone();
    let mut search = tokio::task::spawn_blocking(move || job(&flag));
    tokio::select! {
        done = &mut search => match done {
            Ok(result) => Output::from(result),
            Err(_panicked) => Output::error("the search broke off by a fault of the tool"),
        },
        Ok(_) = stop.wait_for(|stop| *stop) => {
            is_stopped.store(true, Ordering::Relaxed);
            Output::interrupted("The search was interrupted.")
        }
    }
}

/// Prepares a Glob.
pub(super) fn glob(place: &Place, input: &Input<'_>, may_read: &Arc<MayRead>) -> Result<Job, String> {
    let pattern = input.text("pattern")?;
    let (root, pattern) = match pattern.strip_prefix('/') {
        // An absolute pattern is taken from its first folders without a wild card on.
        Some(_) => split_absolute(pattern),
        None => (PathBuf::from(input.optional_text("path").unwrap_or(".")), pattern.to_owned()),
    };
    let tree = Tree::new(place, &root.to_string_lossy(), may_read)?;
    let wanted = matcher(&pattern)?;
    Ok(Box::new(move |stop| {
        let mut found = Vec::new();
        let mut more = 0_usize;
        tree.each_file(stop, |path, shown| {
            let below = path.strip_prefix(&tree.root).unwrap_or(path);
            if wanted.is_match(below) {
                if found.len() < FILES { found.push(shown.to_owned()) } else { more += 1 }
            }
            true
        })?;
        if found.is_empty() {
            return Ok("No files match.".to_owned());
        }
        let note = if more > 0 {
            format!("\n[... {}; use a narrower pattern ...]", counted(more, "more file"))
        } else {
            String::new()
        };
        Ok(found.join("\n") + &note)
    }))
}

/// The part of an absolute pattern that is plain folders, and the rest.
fn split_absolute(pattern: &str) -> (PathBuf, String) {
    let is_plain = |part: &&str| !part.contains(['*', '?', '[', '{']);
    let parts: Vec<&str> = pattern.split('/').collect();
    let plain = parts.iter().take(parts.len() - 1).take_while(|part| is_plain(part)).count();
    (PathBuf::from(format!("{}/", parts[..plain].join("/"))), parts[plain..].join("/"))
}

/// A matcher of paths. A pattern without a `/` means files of that name anywhere, as in ignore files.
fn matcher(pattern: &str) -> Result<GlobMatcher, String> {
    let pattern = pattern.trim_start_matches("./");
    let anywhere = if pattern.contains('/') { pattern.to_owned() } else { format!("**/{pattern}") };
    let glob = GlobBuilder::new(&anywhere).literal_separator(true).build();
    glob.map(|glob| glob.compile_matcher()).map_err(|error| format!("`{pattern}` is no pattern: {error}"))
}

/// What Grep shows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shows {
    /// Paths.
    Files,
    /// Lines.
    Lines,
    /// Numbers of lines.
    Counts,
}

/// Prepares a Grep.
pub(super) fn grep(place: &Place, input: &Input<'_>, may_read: &Arc<MayRead>) -> Result<Job, String> {
    let tree = Tree::new(place, input.optional_text("path").unwrap_or("."), may_read)?;
    let wanted = input.optional_text("glob").map(matcher).transpose()?;
    let shows = match input.optional_text("output_mode") {
        Some("content") => Shows::Lines,
        Some("count") => Shows::Counts,
        None | Some("files_with_matches") => Shows::Files,
        Some(other) => return Err(format!("`output_mode` cannot be `{other}`")),
    };
    let is_multiline = input.flag("multiline");
    let pattern = input.text("pattern")?;
    let mut builder = RegexMatcherBuilder::new();
    builder.case_insensitive(input.flag("-i")).multi_line(true).dot_matches_new_line(is_multiline);
    if !is_multiline {
        builder.line_terminator(Some(b'\n'));
    }
    let regex = builder.build(pattern).map_err(|error| format!("`{pattern}` is no regular expression: {error}"))?;
    let around = |name: &str| -> Result<usize, String> {
        let lines = match input.number(name)? {
            Some(lines) => lines,
            None => input.number("-C")?.unwrap_or(0),
        };
        Ok(usize::try_from(lines).unwrap_or(usize::MAX).min(100))
    };
    let (before, after) = (around("-B")?, around("-A")?);
    let limit = usize::try_from(input.number("head_limit")?.unwrap_or(0)).unwrap_or(usize::MAX);
    let limit = if limit == 0 { LINES } else { limit.min(LINES) };
    Ok(Box::new(move |stop| {
        let mut searcher = SearcherBuilder::new()
            .binary_detection(BinaryDetection::quit(0))
            .multi_line(is_multiline)
            .before_context(if shows == Shows::Lines { before } else { 0 })
            .after_context(if shows == Shows::Lines { after } else { 0 })
            .heap_limit(Some(HEAP))
            .build();
        let mut found = Found { lines: Vec::new(), limit, shows, is_cut: false };
        tree.each_file(stop, |path, shown| {
            let below = path.strip_prefix(&tree.root).unwrap_or(path);
            if wanted.as_ref().is_none_or(|wanted| wanted.is_match(below)) {
                found.search(&mut searcher, &regex, path, shown);
            }
            !found.is_cut
        })?;
        Ok(found.text())
    }))
}

/// A tree that is searched.
struct Tree {
    /// Where it begins; a file is a tree of itself.
    root: PathBuf,
    /// Names paths.
    place: Place,
    /// What may be read.
    may_read: Arc<MayRead>,
}

impl Tree {
    /// The tree at a path as the model named it.
    fn new(place: &Place, named: &str, may_read: &Arc<MayRead>) -> Result<Self, String> {
        let spot = place.to_read(named)?;
        if !spot.path.exists() {
            return Err(format!("there is no `{}`", spot.shown));
        }
        Ok(Self { root: spot.path, place: place.clone(), may_read: may_read.clone() })
    }

    /// Hands every file with its shown path to `look`, until that says false. Links are not followed.
    fn each_file(&self, stop: &AtomicBool, mut look: impl FnMut(&Path, &str) -> bool) -> Result<(), String> {
        let mut walk = WalkBuilder::new(&self.root);
        walk.hidden(false).require_git(false).sort_by_file_path(Path::cmp);
        walk.filter_entry(|entry| entry.file_name() != ".git");
        for entry in walk.build() {
            if stop.load(Ordering::Relaxed) {
                return Err("interrupted".to_owned());
            }
            // What cannot be entered is as if it were not there.
            let Ok(entry) = entry else { continue };
            let shown = self.place.shown(entry.path());
            let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
            if is_file && (self.may_read)(&shown) && !look(entry.path(), &shown) {
                break;
            }
        }
        Ok(())
    }
}

/// What Grep has found.
struct Found {
    /// The answer so far.
    lines: Vec<String>,
    /// Most lines.
    limit: usize,
    /// What is shown.
    shows: Shows,
    /// The limit was reached.
    is_cut: bool,
}

impl Found {
    /// Searches one file; one that cannot be read is passed over.
    fn search(&mut self, searcher: &mut Searcher, regex: &RegexMatcher, path: &Path, shown: &str) {
        let before = self.lines.len();
        let mut sink = FileSink { found: self, shown, count: 0 };
        let searched = searcher.search_path(regex, path, &mut sink);
        let count = sink.count;
        if searched.is_err() {
            self.lines.truncate(before);
        } else if count > 0 && self.shows == Shows::Files {
            self.push(shown.to_owned());
        } else if count > 0 && self.shows == Shows::Counts {
            self.push(format!("{shown}:{count}"));
        }
    }

    /// Adds a line.
    fn push(&mut self, line: String) {
        if self.lines.len() >= self.limit {
            self.is_cut = true;
        } else {
            self.lines.push(line);
        }
    }

    /// The answer.
    fn text(self) -> String {
        if self.lines.is_empty() {
            return "Nothing matches.".to_owned();
        }
        let note = if self.is_cut { format!("\n[... more than {} lines ...]", self.limit) } else { String::new() };
        self.lines.join("\n") + &note
    }
}

/// Takes what is found in one file.
struct FileSink<'a> {
    /// Where it goes.
    found: &'a mut Found,
    /// The file.
    shown: &'a str,
    /// Matching lines.
    count: usize,
}

impl FileSink<'_> {
    /// Adds the lines of a piece of the file, from this number on.
    fn push(&mut self, bytes: &[u8], number: Option<u64>, mark: char) {
        for (line, number) in bytes.split_inclusive(|byte| *byte == b'\n').zip(number.unwrap_or(0)..) {
            let line = String::from_utf8_lossy(line);
            let line = line.trim_end_matches(['\n', '\r']);
            let cut = &line[..floor(line, LINE_LIMIT)];
            self.found.push(format!("{}{mark}{number}{mark}{cut}", self.shown));
        }
    }
}

impl Sink for FileSink<'_> {
    type Error = std::io::Error;

    fn matched(&mut self, _searcher: &Searcher, matched: &SinkMatch<'_>) -> Result<bool, Self::Error> {
        self.count += 1;
        match self.found.shows {
            Shows::Files => Ok(false),
            Shows::Counts => Ok(true),
            Shows::Lines => {
                self.push(matched.bytes(), matched.line_number(), ':');
                Ok(!self.found.is_cut)
            }
        }
    }

    fn context(&mut self, _searcher: &Searcher, context: &SinkContext<'_>) -> Result<bool, Self::Error> {
        self.push(context.bytes(), context.line_number(), '-');
        Ok(!self.found.is_cut)
    }

    fn context_break(&mut self, _searcher: &Searcher) -> Result<bool, Self::Error> {
        self.found.push("--".to_owned());
        Ok(true)
    }

    fn binary_data(&mut self, _searcher: &Searcher, _offset: u64) -> Result<bool, Self::Error> {
        Ok(false)
    }
}
