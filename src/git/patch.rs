//! Patches as git prints them, taken apart: files, hunks, lines with their numbers on both sides.

/// One file of a patch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PatchFile {
    /// Its path before; `None` for a new file.
    pub(crate) old: Option<String>,
    /// Its path after; `None` for a removed file.
    pub(crate) new: Option<String>,
    /// The lines before the first hunk, the one that begins with `diff` first. A binary file has nothing else.
    pub(crate) header: Vec<String>,
    /// Its hunks in order.
    pub(crate) hunks: Vec<PatchHunk>,
}

impl PatchFile {
    /// The path to call it by.
    pub(crate) fn name(&self) -> &str {
        self.new.as_deref().or(self.old.as_deref()).unwrap_or_default()
    }
}

/// One hunk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PatchHunk {
    /// Its first line as git printed it.
    pub(crate) head: String,
    /// First line and count before; with a count of 0, the line after which something was put.
    pub(crate) old: (u32, u32),
    /// First line and count after; with a count of 0, the line after which something was taken out.
    pub(crate) new: (u32, u32),
    /// Its lines.
    pub(crate) lines: Vec<PatchLine>,
}

/// One line of a hunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PatchLine {
    /// What happened to it.
    pub(crate) kind: LineKind,
    /// Its text without the sign.
    pub(crate) text: String,
    /// Its number before, where it was there.
    pub(crate) old: Option<u32>,
    /// Its number after, where it is there.
    pub(crate) new: Option<u32>,
}

/// What happened to a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineKind {
    /// Nothing.
    Context,
    /// Taken out.
    Removed,
    /// Put in.
    Added,
    /// No line, but git's remark that the one before has no line end.
    NoNewline,
}

impl LineKind {
    /// The sign in front of such a line.
    pub(crate) fn sign(self) -> char {
        match self {
            Self::Context => ' ',
            Self::Removed => '-',
            Self::Added => '+',
            Self::NoNewline => '\\',
        }
    }
}

/// Takes a patch apart. Text before the first file, such as a table of files, is left out.
pub(crate) fn parse_patch(text: &str) -> Vec<PatchFile> {
    let mut files: Vec<PatchFile> = Vec::new();
    // Lines that the current hunk still has before and after.
    let mut left = (0, 0);
    for line in text.split('\n') {
        let in_hunk = left != (0, 0) || line.starts_with('\\');
        if let Some(hunk) = files.last_mut().and_then(|file| file.hunks.last_mut())
            && in_hunk
        {
            take_line(hunk, line, &mut left);
        } else if line.starts_with("diff --git ") {
            files.push(PatchFile { header: vec![line.to_owned()], ..PatchFile::default() });
        } else if let Some(file) = files.last_mut() {
            match hunk_head(line) {
                Some(hunk) => {
                    left = (hunk.old.1, hunk.new.1);
                    file.hunks.push(hunk);
                }
                None if file.hunks.is_empty() && !line.is_empty() => file.header.push(line.to_owned()),
                None => {}
            }
        }
    }
    files.iter_mut().for_each(name_sides);
    files
}

/// Adds a line to a hunk.
fn take_line(hunk: &mut PatchHunk, line: &str, left: &mut (u32, u32)) {
    let (old, new) = (hunk.old.0 + hunk.old.1 - left.0, hunk.new.0 + hunk.new.1 - left.1);
    let rest = line.get(1..).unwrap_or_default().to_owned();
    let (kind, old, new) = match line.as_bytes().first() {
        Some(b'-') => (LineKind::Removed, Some(old), None),
        Some(b'+') => (LineKind::Added, None, Some(new)),
        Some(b'\\') => (LineKind::NoNewline, None, None),
        // `diff.suppressBlankEmpty` prints an empty line without its space.
        _ => (LineKind::Context, Some(old), Some(new)),
    };
    left.0 -= u32::from(old.is_some()).min(left.0);
    left.1 -= u32::from(new.is_some()).min(left.1);
    hunk.lines.push(PatchLine { kind, text: rest, old, new });
}

/// Reads `@@ -1,2 +3,4 @@`.
fn hunk_head(line: &str) -> Option<PatchHunk> {
    let (ranges, _) = line.strip_prefix("@@ -")?.split_once(" @@")?;
    let (old, new) = ranges.split_once(" +")?;
    let range = |text: &str| match text.split_once(',') {
        Some((first, count)) => Some((first.parse().ok()?, count.parse().ok()?)),
        None => Some((text.parse().ok()?, 1)),
    };
    Some(PatchHunk { head: line.to_owned(), old: range(old)?, new: range(new)?, lines: Vec::new() })
}

/// Finds the paths of a file in its header.
fn name_sides(file: &mut PatchFile) {
    let find = |mark: &str| file.header.iter().find_map(|line| line.strip_prefix(mark)).map(unquoted);
    let side = |path: String, prefix: &str| path.strip_prefix(prefix).map(str::to_owned);
    let common = file.header.first().and_then(|line| same_name(line));
    let old = find("rename from ").or_else(|| find("copy from "));
    let new = find("rename to ").or_else(|| find("copy to "));
    let (before, after) = (find("--- "), find("+++ "));
    let is_new = find("new file mode ").is_some();
    let is_removed = find("deleted file mode ").is_some();
    let old = old.or_else(|| before.and_then(|path| side(path, "a/"))).or_else(|| common.clone());
    let new = new.or_else(|| after.and_then(|path| side(path, "b/"))).or(common);
    (file.old, file.new) = (old.filter(|_| !is_new), new.filter(|_| !is_removed));
}

/// The path in `diff --git a/PATH b/PATH`, where both are the same.
fn same_name(line: &str) -> Option<String> {
    let rest = line.strip_prefix("diff --git ")?;
    if rest.starts_with('"') {
        let end = rest.find("\" \"")?;
        return unquoted(&rest[..=end]).strip_prefix("a/").map(str::to_owned);
    }
    let half = rest.len().checked_sub(1)? / 2;
    let (old, new) = (rest.get(..half)?.strip_prefix("a/")?, rest.get(half + 1..)?.strip_prefix("b/")?);
    (old == new).then(|| old.to_owned())
}

/// A path that git may have put in quotes, with a tab behind it where it holds spaces.
fn unquoted(text: &str) -> String {
    let text = text.strip_suffix('\t').unwrap_or(text);
    let Some(inner) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else {
        return text.to_owned();
    };
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next() {
            Some(b'n') => bytes.push(b'\n'),
            Some(b't') => bytes.push(b'\t'),
            Some(b'r') => bytes.push(b'\r'),
            Some(b'a') => bytes.push(7),
            Some(b'b') => bytes.push(8),
            Some(b'v') => bytes.push(11),
            Some(b'f') => bytes.push(12),
            Some(digit @ b'0'..=b'7') => {
                let mut octal = || u32::from(rest.next().unwrap_or(b'0').saturating_sub(b'0'));
                let value = u32::from(digit - b'0') * 64 + octal() * 8 + octal();
                bytes.push(u8::try_from(value & 0xFF).unwrap_or(b'?'));
            }
            Some(other) => bytes.push(other),
            None => {}
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_get_their_numbers_and_content_that_looks_like_headers_stays_content() {
        let text = "diff --git a/x b/x\nindex 1..2 100644\n--- a/x\n+++ b/x\n@@ -3,3 +3,4 @@ fn x()\n one\n--- two\n\
                    +++ two\n+diff --git a/y b/y\n three\n\\ No newline at end of file\ndiff --git a/z b/z\nold mode 1\n\
                    new mode 2\n";
        let files = parse_patch(text);
        assert_eq!(files.iter().map(PatchFile::name).collect::<Vec<_>>(), ["x", "z"]);
        let lines: Vec<_> = files[0].hunks[0].lines.iter().map(|l| (l.kind.sign(), &*l.text, l.old, l.new)).collect();
        assert_eq!(
            lines,
            [
                (' ', "one", Some(3), Some(3)),
                ('-', "-- two", Some(4), None),
                ('+', "++ two", None, Some(4)),
                ('+', "diff --git a/y b/y", None, Some(5)),
                (' ', "three", Some(5), Some(6)),
                ('\\', " No newline at end of file", None, None),
            ]
        );
        assert_eq!(files[1].header.len(), 3);
    }

    #[test]
    fn names_are_read_from_renames_quotes_and_one_sided_files() {
        let of = |text: &str| {
            let file = parse_patch(text).remove(0);
            (file.old, file.new)
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            of("diff --git a/a b b/c\nsimilarity index 100%\nrename from a b\nrename to c\n"),
            (some("a b"), some("c"))
        );
        assert_eq!(
            of("diff --git a/n b/n\nnew file mode 100644\n--- /dev/null\n+++ b/n\n@@ -0,0 +1 @@\n+x\n"),
            (None, some("n"))
        );
        assert_eq!(of("diff --git a/n b/n\ndeleted file mode 100644\nindex 1..0\n"), (some("n"), None));
        let quoted = "diff --git \"a/t\\ta\\303\\274\" \"b/t\\ta\\303\\274\"\nold mode 1\nnew mode 2\n";
        assert_eq!(of(quoted).1, some("t\taü"));
        assert_eq!(
            of("diff --git a/a b b/a b\nindex 1..2\n--- a/a b\t\n+++ b/a b\t\n@@ -1 +1 @@\n-x\n+y\n").1,
            some("a b")
        );
    }
}
