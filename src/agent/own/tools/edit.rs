//! Edit: one exact piece of a file replaced by another.

use std::io::Read;

use super::input::Input;
use super::place::Place;

/// Largest file that is edited, in bytes.
const FILE_LIMIT: u64 = 16 * 1024 * 1024;

/// Does the call.
pub(super) fn edit(place: &Place, input: &Input<'_>) -> Result<String, String> {
    let (old, new) = (input.text("old_string")?, input.text("new_string")?);
    let spot = place.to_write(input.text("file_path")?)?;
    let Some(file) = spot.open()? else {
        if !old.is_empty() {
            return Err(format!("there is no file `{}`; make it with Write", spot.shown));
        }
        spot.write(new.as_bytes())?;
        return Ok(format!("Made `{}`.", spot.shown));
    };
    let mut bytes = Vec::new();
    file.take(FILE_LIMIT + 1).read_to_end(&mut bytes).map_err(|e| format!("could not read `{}`: {e}", spot.shown))?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(format!(
            "`{}` is larger than {FILE_LIMIT} bytes; change it with a program of the shell",
            spot.shown
        ));
    }
    let text = String::from_utf8(bytes).map_err(|_| format!("`{}` is not UTF-8 text", spot.shown))?;
    let edited =
        replace(&text, old, new, input.flag("replace_all")).map_err(|why| format!("`{}`: {why}", spot.shown))?;
    spot.write(edited.text.as_bytes())?;
    let times = if edited.count == 1 { String::new() } else { format!(" in {} places", edited.count) };
    Ok(format!("Changed `{}`{times}, from line {}.", spot.shown, edited.line))
}

/// A text after its edit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Edited {
    /// The text.
    text: String,
    /// How many pieces were replaced.
    count: usize,
    /// Line of the first, from 1.
    line: usize,
}

/// Replaces `old`, which must be there exactly once unless all of them are meant. In a text with the line ends of DOS,
/// `old` and `new` may have plain ones.
///
/// # Errors
/// A sentence for the model; nothing is replaced then.
pub(super) fn replace(text: &str, old: &str, new: &str, is_all: bool) -> Result<Edited, String> {
    if old.is_empty() {
        return Err("`old_string` is empty, and the file exists. Give the exact text to replace.".to_owned());
    }
    if old == new {
        return Err("`old_string` and `new_string` are the same, so there is nothing to change.".to_owned());
    }
    if !text.contains(old) && text.contains("\r\n") && !old.contains('\r') {
        let dos = |text: &str| text.replace('\n', "\r\n");
        if text.contains(&dos(old)) {
            return replace(text, &dos(old), &dos(new), is_all);
        }
    }
    let Some(first) = text.find(old) else { return Err(not_found(text, old)) };
    let line = text[..first].matches('\n').count() + 1;
    if is_all {
        return Ok(Edited { text: text.replace(old, new), count: text.matches(old).count(), line });
    }
    // From the next letter on, so that places that overlap count as two.
    let step = text[first..].chars().next().map_or(1, char::len_utf8);
    if text[first + step..].contains(old) {
        let count = text.matches(old).count().max(2);
        return Err(format!(
            "`old_string` is there {count} times. Add lines around it until it is unique, or set `replace_all`."
        ));
    }
    Ok(Edited { text: [&text[..first], new, &text[first + old.len()..]].concat(), count: 1, line })
}

/// Why a piece was not found, with the place that was probably meant.
fn not_found(text: &str, old: &str) -> String {
    let wanted: Vec<&str> = old.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let lines: Vec<&str> = text.lines().collect();
    let first = wanted.first().and_then(|first| lines.iter().position(|line| line.trim() == *first));
    match first {
        Some(at) => format!(
            "`old_string` is not there. Line {} looks like its beginning, but white space or what follows differs. \
             Read the file and copy the text exactly, without line numbers.",
            at + 1
        ),
        None => "`old_string` is not there. Read the file and copy the text exactly, without line numbers.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn places_that_overlap_are_not_unique() {
        assert!(replace("aaa", "aa", "b", false).unwrap_err().contains("2 times"));
        assert_eq!(replace("ab aa", "aa", "", false).unwrap(), Edited { text: "ab ".to_owned(), count: 1, line: 1 });
        assert!(replace("äöä", "ä", "x", false).is_err());
    }

    #[test]
    fn line_ends_of_dos_stay() {
        let edited = replace("a\r\nb\r\nc\r\n", "a\nb", "x\ny\nz", false).unwrap();
        assert_eq!(edited.text, "x\r\ny\r\nz\r\nc\r\n");
        assert_eq!(replace("a\r\nb\n", "b\n", "c\n", false).unwrap().text, "a\r\nc\n");
    }

    #[test]
    fn a_near_miss_is_pointed_at() {
        let error = replace("fn a() {\n    one();\n}\n", "fn a() {\n  one();\n}", "x", false).unwrap_err();
        assert!(error.contains("Line 1"), "{error}");
        assert!(replace("x", "y", "z", false).is_err() && replace("x", "", "z", false).is_err());
        assert!(replace("x", "x", "x", false).is_err());
    }

    proptest! {
        #[test]
        fn exactly_the_unique_piece_changes(
            before in "[ab\n ]{0,12}", old in "[abx\n]{1,6}", after in "[ab\n ]{0,12}", new in "[abxy\n]{0,6}",
        ) {
            let text = format!("{before}{old}{after}");
            let starts = text.char_indices().filter(|(at, _)| text[*at..].starts_with(&old)).count();
            match replace(&text, &old, &new, false) {
                Ok(edited) => {
                    prop_assert_eq!(starts, 1);
                    prop_assert_eq!(edited.text, format!("{before}{new}{after}"));
                    prop_assert_eq!(edited.line, before.matches('\n').count() + 1);
                }
                Err(_) => prop_assert!(starts > 1 || old == new),
            }
        }

        #[test]
        fn all_pieces_change_when_all_are_meant(text in "[ab\n]{0,30}", old in "[ab\n]{1,3}", new in "[abc]{0,3}") {
            match replace(&text, &old, &new, true) {
                Ok(edited) => {
                    prop_assert_eq!(&edited.text, &text.replace(&old, &new));
                    prop_assert_eq!(edited.count, text.matches(&old).count());
                }
                Err(_) => prop_assert!(!text.contains(&old) || old == new),
            }
        }

        #[test]
        fn what_was_edited_can_be_edited_back(before in "[ab]{0,9}", after in "[ab]{0,9}", old in "[cd]{1,5}", new in "[ef]{1,5}") {
            let text = format!("{before}{old}{after}");
            let there = replace(&text, &old, &new, false).unwrap().text;
            prop_assert_eq!(replace(&there, &new, &old, false).unwrap().text, text);
        }
    }
}
