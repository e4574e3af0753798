//! A review as a text in an editor: the verdict at the top, the difference quoted below it, remarks between its lines.

use std::fmt::Write as _;

use similar::{Algorithm, DiffOp, capture_diff_slices};

use crate::coordinator::views::ReviewView;
use crate::git::{LineKind, PatchFile, parse_patch};
use crate::store::ReviewVerdict;

/// What the person reads at the top.
const HELP: &str = "\
# Behind `verdict:` write approve, reject or comment; below it what you have to say
# about the whole. Remarks on places go on lines of their own below the line they are
# about. Leave lines that begin with `>` as they are, or remove whole ones. Lines that
# begin with `#` up here count for nothing. A review without a word changes nothing.
";

/// A review that was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Draft {
    /// The verdict; `None` decides nothing.
    pub(super) verdict: Option<ReviewVerdict>,
    /// About the whole.
    pub(super) message: Option<String>,
    /// About places, as one writes them for `--comment`.
    pub(super) comments: Vec<(String, String)>,
    /// Items of the checklist that are ticked.
    pub(super) check: Vec<usize>,
    /// Those that are not.
    pub(super) uncheck: Vec<usize>,
}

/// One quoted line of the difference.
struct Quoted {
    /// As it stands in the text.
    text: String,
    /// The place of remarks below it.
    place: String,
}

/// The difference as quoted lines.
fn quote(patch: &str) -> Vec<Quoted> {
    let mut lines = Vec::new();
    for file in parse_patch(patch) {
        quote_file(&file, &mut lines);
    }
    lines
}

/// One file as quoted lines.
fn quote_file(file: &PatchFile, lines: &mut Vec<Quoted>) {
    let whole = file.name().to_owned();
    let mut put = |text: &str, place: &str| {
        lines.push(Quoted { text: format!("> {text}").trim_end().to_owned(), place: place.to_owned() });
    };
    file.header.iter().for_each(|line| put(line, &whole));
    for hunk in &file.hunks {
        let mut place = whole.clone();
        let first = hunk.lines.iter().find_map(|line| line.new);
        put(&hunk.head, &first.map_or_else(|| whole.clone(), |first| format!("{whole}:{first}")));
        for line in &hunk.lines {
            place = match (line.kind, line.old, line.new) {
                (LineKind::Removed, Some(old), _) => format!("{}:-{old}", file.old.as_deref().unwrap_or(&whole)),
                (_, _, Some(new)) => format!("{whole}:{new}"),
                _ => place,
            };
            put(&format!("{}{}", line.kind.sign(), line.text), &place);
        }
    }
}

/// The text to edit.
pub(super) fn compose(view: &ReviewView, commit: &str, patch: &str) -> String {
    let mut text =
        format!("# Review of `{}`: {}\n#\n{HELP}commit: {commit}\nverdict: \n\n", view.worker.id, view.worker.title);
    for item in &view.checklist {
        let mark = if item.is_ticked { 'x' } else { ' ' };
        writeln!(text, "[{mark}] {}. {}", item.number, item.text).expect("a string takes all text");
    }
    text.push('\n');
    for line in quote(patch) {
        text.push_str(&line.text);
        text.push('\n');
    }
    text
}

/// The commit that a text is about.
pub(super) fn commit_of(text: &str) -> Option<&str> {
    let mut head = text.lines().take_while(|line| !line.starts_with('>'));
    head.find_map(|line| line.strip_prefix("commit:")).map(str::trim)
}

/// Reads an edited text; `patch` is the difference it was made of.
///
/// # Errors
/// One sentence with the number of the line.
pub(super) fn read(text: &str, patch: &str) -> Result<Draft, String> {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let body = lines.iter().position(|line| line.starts_with('>')).unwrap_or(lines.len());
    let mut draft = read_head(&lines[..body])?;
    let original = quote(patch);
    let places = places(&original, &lines[body..], body)?;
    let mut remark: Option<(String, Vec<&str>)> = None;
    for (line, place) in lines[body..].iter().zip(places).chain([(&"", Some(String::new()))]) {
        match place {
            Some(place) => {
                if let Some((place, words)) = remark.replace((place, Vec::new())) {
                    let said = words.join("\n").trim().to_owned();
                    draft.comments.extend((!said.is_empty()).then_some((place, said)));
                }
            }
            None => remark.iter_mut().for_each(|(_, words)| words.push(line)),
        }
    }
    Ok(draft)
}

/// Reads what stands before the difference.
fn read_head(lines: &[&str]) -> Result<Draft, String> {
    let mut draft = Draft::default();
    let mut message = Vec::new();
    let (mut has_commit, mut has_verdict) = (false, false);
    for (line, number) in lines.iter().zip(1..) {
        if line.starts_with('#') {
            continue;
        }
        if let Some(word) = line.strip_prefix("verdict:").filter(|_| !has_verdict) {
            has_verdict = true;
            draft.verdict = match word.trim().to_lowercase().as_str() {
                "approve" | "approved" => Some(ReviewVerdict::Approved),
                "reject" | "rejected" => Some(ReviewVerdict::Rejected),
                "comment" | "" => None,
                other => return Err(format!("line {number}: `{other}` is not approve, reject or comment")),
            };
        } else if line.starts_with("commit:") && !has_commit {
            has_commit = true;
        } else if let Some((is_ticked, item)) = item(line) {
            if is_ticked { &mut draft.check } else { &mut draft.uncheck }.push(item);
        } else {
            message.push(*line);
        }
    }
    if !has_verdict {
        return Err("there is no line that begins with `verdict:`".to_owned());
    }
    let message = message.join("\n").trim().to_owned();
    draft.message = (!message.is_empty()).then_some(message);
    Ok(draft)
}

/// Reads `[x] 3. text`.
fn item(line: &str) -> Option<(bool, usize)> {
    let (mark, rest) = line.strip_prefix('[')?.split_once("] ")?;
    let number = rest.split_once('.')?.0.parse().ok()?;
    match mark {
        "x" | "X" => Some((true, number)),
        " " | "" => Some((false, number)),
        _ => None,
    }
}

/// For each line below the head the place it quotes, `None` for a remark. Whole quoted lines may be missing.
fn places(original: &[Quoted], lines: &[&str], before: usize) -> Result<Vec<Option<String>>, String> {
    let quoted: Vec<(usize, &str)> =
        lines.iter().enumerate().filter(|(_, line)| line.starts_with('>')).map(|(at, line)| (at, *line)).collect();
    let (old, new): (Vec<&str>, Vec<&str>) =
        (original.iter().map(|line| line.text.as_str()).collect(), quoted.iter().map(|(_, line)| *line).collect());
    let mut places = vec![None; lines.len()];
    for op in capture_diff_slices(Algorithm::Patience, &old, &new) {
        match op {
            DiffOp::Equal { old_index, new_index, len } => {
                for step in 0..len {
                    places[quoted[new_index + step].0] = Some(original[old_index + step].place.clone());
                }
            }
            DiffOp::Delete { .. } => {}
            DiffOp::Insert { new_index, .. } | DiffOp::Replace { new_index, .. } => {
                let (at, line) = quoted[new_index];
                let number = before + at + 1;
                return Err(format!(
                    "line {number}: `{line}` is not a line of the difference; a remark begins otherwise"
                ));
            }
        }
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "diff --git a/f b/f\nindex 1..2 100644\n--- a/f\n+++ b/f\n@@ -1,4 +1,4 @@\n one\n-two\n+zwei\n \n three\n\
        diff --git a/g b/g\nnew file mode 100644\nindex 0..1\n--- /dev/null\n+++ b/g\n@@ -0,0 +1,2 @@\n+one\n+\n";

    /// The text as it is handed to the editor.
    fn text(verdict: &str) -> String {
        let quoted: String = quote(PATCH).iter().map(|line| format!("{}\n", line.text)).collect();
        format!("# help\ncommit: abc\nverdict: {verdict}\n\n[ ] 1. docs\n\n{quoted}")
    }

    #[test]
    fn remarks_belong_to_the_line_above_them() {
        let edited = text("reject")
            .replace("verdict: reject\n", "verdict: reject\n\nNot yet.\nSorry.\n")
            .replace("[ ] 1.", "[x] 1.")
            .replace("> -two\n", "> -two\nkeep this\n\n")
            .replace("> +zwei\n", "> +zwei\n  in English,\n\nplease\n")
            .replace("> +++ b/g\n", "> +++ b/g\nwhy a file?\n")
            + "no end\n";
        let draft = read(&edited, PATCH).unwrap();
        let comments: Vec<_> = draft.comments.iter().map(|(place, text)| (place.as_str(), text.as_str())).collect();
        assert_eq!(
            comments,
            [("f:-2", "keep this"), ("f:2", "in English,\n\nplease"), ("g", "why a file?"), ("g:2", "no end")]
        );
        assert_eq!(
            (draft.verdict, draft.message.as_deref()),
            (Some(ReviewVerdict::Rejected), Some("Not yet.\nSorry."))
        );
        assert_eq!((draft.check, draft.uncheck), (vec![1], vec![]));
        assert_eq!(commit_of(&edited), Some("abc"));
    }

    #[test]
    fn what_was_left_as_it_was_says_nothing() {
        let draft = read(&text(""), PATCH).unwrap();
        assert_eq!(draft, Draft { uncheck: vec![1], ..Draft::default() });
        assert_eq!(read(&text("").replace('\n', "\r\n"), PATCH).unwrap(), draft, "line ends of another system");
    }

    #[test]
    fn whole_quoted_lines_may_go_and_changed_ones_are_an_error_with_their_number() {
        let all = text("comment");
        let second = all.find("> diff --git a/g").unwrap();
        let head = all.find("> diff").unwrap();
        let trimmed = format!("{}{}", &all[..head], &all[second..]).replace("> +one\n", "> +one\nhere\n");
        assert_eq!(read(&trimmed, PATCH).unwrap().comments, [("g:1".to_owned(), "here".to_owned())]);
        let error = read(&all.replace("> +zwei", "> +drei"), PATCH).unwrap_err();
        assert!(error.starts_with("line 14: `> +drei` is not a line"), "{error}");
        assert!(read(&text("maybe"), PATCH).unwrap_err().contains("line 3: `maybe`"));
        assert!(read("nothing here", PATCH).unwrap_err().contains("verdict:"));
    }
}
