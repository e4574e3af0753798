//! `swarm resolve`: opens the person's merge tool in a worker's worktree.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cli::Context;
use crate::cli::args::ResolveArgs;
use crate::coordinator::{Failure, FailureKind, Resolving, has_markers};
use crate::process::{self, Invocation};

/// Runs the verb.
pub(super) fn run(args: &ResolveArgs, context: &Context) -> Result<(), Failure> {
    let control = context.control()?;
    if args.abort {
        let (view, operation) = control.give_up_resolve(&args.worker)?;
        if context.output.json {
            return context.output.document(&view);
        }
        context.output.line(&match operation {
            Some(operation) => format!("Gave the {operation} in `{}` up", view.worker),
            None => format!("Nothing is begun in `{}`", view.worker),
        })?;
        if let Some(keep) = &view.keep {
            context.output.narrate(&format!("its files as they were are kept in {keep}"));
        }
        return Ok(());
    }
    let resolving = control.begin_resolve(&args.worker)?;
    if !resolving.files.is_empty() {
        if has_tool(&resolving.worktree)? {
            let mut command = git(&resolving.worktree);
            command.arg("mergetool");
            wait(command, context)?;
        } else {
            let marked = resolving.files.iter().filter(|file| has_markers(&resolving.worktree.join(file)));
            let marked: Vec<PathBuf> = marked.cloned().collect();
            edit(&resolving, context)?;
            control.take_edited(&resolving, &marked)?;
        }
    }
    let (view, result) = control.end_resolve(&resolving)?;
    if context.output.json {
        context.output.document(&view)?;
        return result;
    }
    if view.operation.is_none() {
        let state = view.ticket_state.map_or("unknown", |state| state.as_str());
        let commit = view.commit.as_deref().map(|commit| format!(" at {}", &commit[..8])).unwrap_or_default();
        context.output.line(&format!("Nothing is in conflict in `{}`{commit}; its ticket is {state}", view.worker))?;
        context.output.narrate(&format!("look at it: swarm review {}", view.worker));
    }
    result
}

/// A call of git in a worktree, on the person's terminal.
fn git(worktree: &Path) -> Command {
    let mut command = process::command("git");
    command.current_dir(worktree);
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        command.env_remove(name);
    }
    command
}

/// Whether the person has told git of a merge tool.
fn has_tool(worktree: &Path) -> Result<bool, Failure> {
    let call = Invocation::new("git", worktree).args(["config", "--get-regexp", "^merge\\.(gui)?tool$"]);
    Ok(process::run(&call)?.code() == 0)
}

/// Opens the files in the person's editor, as git would find it.
fn edit(resolving: &Resolving, context: &Context) -> Result<(), Failure> {
    let asked = process::run(&Invocation::new("git", &resolving.worktree).args(["var", "GIT_EDITOR"]))?;
    let editor = asked.text().trim().to_owned();
    if asked.code() != 0 || editor.is_empty() {
        return Err(Failure::new(FailureKind::NeedsPerson, "git knows neither a merge tool nor an editor")
            .hint("git config --global merge.tool NAME, or set EDITOR")
            .hint(format!("the merge is begun in {}", resolving.worktree.display())));
    }
    context.output.narrate(&format!("no merge.tool is configured; opening {editor}"));
    let mut command = process::command("sh");
    // An editor can be a command with arguments, and is run as git runs it.
    command.current_dir(&resolving.worktree).args(["-c", &format!("{editor} \"$@\""), &editor]);
    command.args(&resolving.files);
    wait(command, context)
}

/// Runs a program on the person's terminal to its end, whatever that is: what counts is what it left. What it prints
/// goes beside the answer.
fn wait(mut command: Command, context: &Context) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::from_error(FailureKind::Failed, &error);
    if context.output.json {
        let stderr = std::io::stderr().as_fd().try_clone_to_owned().map_err(failed)?;
        command.stdout(Stdio::from(stderr));
    }
    let mut child = process::spawn(&mut command)?;
    let ended = child.wait();
    process::forget(child.id());
    ended.map(drop).map_err(failed)
}
