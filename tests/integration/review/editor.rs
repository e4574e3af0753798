//! Reviews that are written over the difference in an editor.

use std::fs;

use super::{comment, in_review};
use crate::support::swarm::TestSwarm;

/// Makes `script` the editor; it gets the file as `$1`.
fn edit_with(swarm: &mut TestSwarm, script: &str) {
    let path = swarm.root().join("editor.sh");
    swarm.write_at(&path, script);
    swarm.set_env("EDITOR", format!("sh '{}'", path.display()));
}

/// Reviews that were kept because they could not be taken.
fn kept(swarm: &TestSwarm) -> Vec<String> {
    let names =
        fs::read_dir(swarm.worker_dir("fix")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("review.")).collect()
}

#[test]
fn remarks_between_the_lines_become_comments_and_the_verdict_at_the_top_counts() {
    let mut swarm = in_review("", "", "Write.\n\n- [ ] docs");
    let script = "sed -i -e 's/^verdict:.*/verdict: reject\\nAlmost./' -e 's/^\\[ \\] 1/[x] 1/' \
                  -e '/^> +line 4$/a in words' -e '/^> -second$/a keep it' \"$1\"";
    edit_with(&mut swarm, script);
    swarm.run(["review", "fix", "--editor"]).says("Ticked 1. Rejected.");
    let prompt = fs::read_to_string(swarm.worker_dir("fix").join("prompt.md")).unwrap();
    for said in ["Almost.", "`work.txt:4`: in words\n   > line 4", "`shared.txt:-2`: keep it\n   > second"] {
        assert!(prompt.contains(said), "{said} is not in\n{prompt}");
    }
    assert_eq!(comment(&swarm, 1)["state"], "sent");
    assert!(kept(&swarm).is_empty());
}

#[test]
fn an_empty_review_changes_nothing() {
    let mut swarm = in_review("", "", "Write.");
    for script in [
        "true",
        ": > \"$1\"",
        "echo '# x' >> \"$1\"; sed -i '$d' \"$1\"",
        "sed -i 's/verdict:.*/verdict: comment/' \"$1\"",
    ] {
        edit_with(&mut swarm, script);
        swarm.run(["review", "fix", "--editor"]).expect_code(1).says("nothing was changed");
        for name in kept(&swarm) {
            fs::remove_file(swarm.worker_dir("fix").join(name)).unwrap();
        }
    }
    edit_with(&mut swarm, "exit 3");
    swarm.run(["review", "fix", "--editor"]).expect_code(1).says("ended with exit status: 3");
    assert!(kept(&swarm).is_empty());
    assert_eq!(swarm.json(["review", "fix"])["verdicts"], serde_json::json!([]));
}

#[test]
fn a_text_that_cannot_be_read_is_kept_named_and_taken_when_it_was_mended() {
    let mut swarm = in_review("", "", "Write.");
    edit_with(&mut swarm, "sed -i -e 's/^verdict:.*/verdict: perhaps/' -e '/^> +line 4$/a in words' \"$1\"");
    let failed = swarm.run(["review", "fix", "--editor"]).expect_code(2);
    failed.says("`perhaps` is not approve, reject or comment");
    let path = swarm.worker_dir("fix").join("review.1.diff");
    failed.says(&format!("--file {}", path.display()));
    let text = fs::read_to_string(&path).unwrap();
    swarm.write_at(&path, &text.replace("> +line 5", "> +line five"));
    swarm.run(["review", "fix", "--file", path.to_str().unwrap()]).expect_code(2).says("perhaps");
    swarm.write_at(&path, &text.replace("perhaps", "comment").replace("> +line 5", "> +line five"));
    swarm.run(["review", "fix", "--file", path.to_str().unwrap()]).expect_code(2).says("`> +line five` is not a line");
    // The editor goes on where it was.
    edit_with(&mut swarm, "sed -i 's/perhaps/comment/' \"$1\"");
    swarm.write_at(&path, &text);
    swarm.run(["review", "fix", "--editor"]).says("Noted #1");
    assert_eq!(comment(&swarm, 1)["text"], "in words");
    assert!(kept(&swarm).is_empty());
}

#[test]
fn a_verdict_in_the_editor_is_for_the_commit_that_was_shown() {
    let mut swarm = in_review("", "", "Write.");
    let worktree = swarm.worktree("fix");
    let script = format!(
        "git -C '{}' commit --quiet --allow-empty -m 'One more' && sed -i 's/^verdict:.*/verdict: approve/' \"$1\"",
        worktree.display()
    );
    edit_with(&mut swarm, &script);
    swarm.run(["review", "fix", "--editor"]).expect_code(4).says("review.1.diff");
    assert_eq!(swarm.json(["status", "fix"])["workers"][0]["ticket_state"], "review");
    assert_eq!(kept(&swarm), ["review.1.diff"]);
    edit_with(&mut swarm, "sed -i 's/^verdict:.*/verdict: approve/' \"$1\"");
    swarm.run(["review", "fix", "--editor"]).says("Approved at");
}
