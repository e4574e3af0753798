//! Two states of the same work: what changed between them, also when the commits were written anew in between.

use super::patch::parse_patch;
use super::{GitError, PatchFile, Repository};
use crate::model::CommitId;

impl Repository {
    /// The files that differ between two commits, by lines without context; renames are found, binary files have no
    /// hunks. Independent of how the person likes differences to be shown.
    pub(crate) fn line_changes(&self, from: &CommitId, to: &CommitId) -> Result<Vec<PatchFile>, GitError> {
        let out = self.plain_patch(["-U0", from.as_str(), to.as_str(), "--"])?;
        Ok(parse_patch(&String::from_utf8_lossy(&out)))
    }

    /// What `head` changed since it left `base` as `git apply` takes it, whatever the person configured: whole ids,
    /// binary content, the standard prefixes, no filters.
    pub(crate) fn patch(&self, base: &CommitId, head: &CommitId) -> Result<Vec<u8>, GitError> {
        let range = format!("{base}...{head}");
        self.plain_patch(["-U3", "--binary", range.as_str(), "--"])
    }

    /// The same as text for a reader: binary files are named only.
    pub(crate) fn patch_text(&self, base: &CommitId, head: &CommitId) -> Result<String, GitError> {
        let range = format!("{base}...{head}");
        let out = self.plain_patch(["-U3", range.as_str(), "--"])?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    /// A patch in the one form that programs read.
    fn plain_patch<'s>(&self, args: impl IntoIterator<Item = &'s str>) -> Result<Vec<u8>, GitError> {
        let fixed = ["diff", "--color=never", "--no-ext-diff", "--no-textconv", "--word-diff=none", "--find-renames"];
        let form = [
            "--src-prefix=a/",
            "--dst-prefix=b/",
            "--submodule=short",
            "--no-relative",
            "--inter-hunk-context=0",
            "-O/dev/null",
        ];
        let call = self.git(self.attributes_folder(), fixed).args(form).args(args);
        // Other settings that change the text of a patch.
        let call = call.config("diff.suppressBlankEmpty=false").reading();
        Ok(call.output()?.stdout)
    }

    /// Compares two series of commits (`old_base..old` and `new_base..new`) as `git range-diff` does.
    pub(crate) fn range_diff(
        &self,
        old: (&CommitId, &CommitId),
        new: (&CommitId, &CommitId),
        color: bool,
    ) -> Result<String, GitError> {
        let color = if color { "--color=always" } else { "--color=never" };
        let (old, new) = (format!("{}..{}", old.0, old.1), format!("{}..{}", new.0, new.1));
        let call = ["range-diff", color, "--no-notes", old.as_str(), new.as_str(), "--"];
        let out = self.git(self.attributes_folder(), call).reading().output()?.stdout;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    /// The pager that the configuration names for differences, `pager.diff` before `core.pager`; empty is none.
    pub(crate) fn pager_setting(&self) -> Result<Option<String>, GitError> {
        let done =
            self.git(self.home(), ["config", "-z", "--get-regexp", r"^(pager\.diff|core\.pager)$"]).reading().run()?;
        let text = done.text();
        let find = |name: &str| {
            let mut entries = text.split('\0').filter_map(|entry| entry.split_once('\n'));
            entries.rfind(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
        };
        let own = find("pager.diff").and_then(|value| match value.as_str() {
            "true" | "yes" | "on" | "1" => None,
            "false" | "no" | "off" | "0" => Some(String::new()),
            _ => Some(value),
        });
        Ok(own.or_else(|| find("core.pager")))
    }

    /// The person's editor: `GIT_EDITOR`, `core.editor`, `VISUAL`, `EDITOR`, or what git was built with.
    pub(crate) fn editor(&self) -> Result<String, GitError> {
        self.git(self.home(), ["var", "GIT_EDITOR"]).reading().text()
    }
}
