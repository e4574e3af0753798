//! What a reviewer reads before the diff.

use std::fmt::Write as _;

use crate::cli::Context;
use crate::cli::output::{Style, last_lines, one_line, width, wrapped};
use crate::coordinator::views::{CommentView, ReviewView, ReviewerView, ReviewerWord, SinceView, WorkerView};
use crate::landing::Fate;
use crate::model::ticket::TicketState as S;
use crate::store::{CommentState, Side};

/// Columns where the width is not known.
const COLUMNS: usize = 80;

/// A text with the colours and the width of one call.
struct Page<'a> {
    /// Colours.
    context: &'a Context,
    /// Columns.
    columns: usize,
    /// What is written so far.
    text: String,
}

/// Everything before the diff, at most as wide as the terminal.
pub(super) fn summary(view: &ReviewView, context: &Context) -> String {
    let mut page = Page { context, columns: width().unwrap_or(COLUMNS).max(40), text: String::new() };
    page.facts(view);
    page.checklist(view);
    page.reviewers(&view.reviewers);
    page.comments(view);
    page.since(view.since.as_ref());
    page.heading("Commits");
    for commit in &view.commits {
        let short = page.paint(Style::Yellow, &short(&commit.id));
        page.line(&format!("  {short} {} ({})", one_line(&commit.subject), one_line(&commit.author)));
    }
    if !view.stat.is_empty() {
        write!(page.text, "\n{}", view.stat).expect("a string takes all text");
    }
    let Some(next) = next_step(&view.worker) else { return page.text };
    let next: Vec<_> =
        wrapped(&format!("\n{next}"), page.columns).iter().map(|line| page.paint(Style::Dim, line)).collect();
    next.iter().for_each(|line| page.line(line));
    page.text
}

impl Page<'_> {
    /// `text` in a style.
    fn paint(&self, style: Style, text: &str) -> String {
        self.context.output.paint(style, text)
    }

    /// One line.
    fn line(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    /// A heading after an empty line.
    fn heading(&mut self, text: &str) {
        let heading = self.paint(Style::Bold, text);
        self.line(&format!("\n{heading}"));
    }

    /// A name and what there is to say of it, wrapped.
    fn fact(&mut self, name: &str, value: &str) {
        let room = self.columns.saturating_sub(11);
        for (index, line) in wrapped(value, room).iter().enumerate() {
            let name = if index == 0 { name } else { "" };
            self.line(format!("{name:<11}{line}").trim_end());
        }
    }

    /// A paragraph, indented and wrapped.
    fn paragraph(&mut self, indent: usize, text: &str) {
        let room = self.columns.saturating_sub(indent);
        for line in text.lines().flat_map(|line| wrapped(&one_line(line), room)) {
            self.line(&format!("{:indent$}{line}", ""));
        }
    }

    /// The worker and the verdicts.
    fn facts(&mut self, view: &ReviewView) {
        let worker = &view.worker;
        let title = self.paint(Style::Bold, &format!("{}: {}", worker.id, one_line(&worker.title)));
        self.line(&format!("{title}\n"));
        let state = worker.ticket_state.map_or("-", |state| state.as_str());
        self.fact("Status", &format!("{}, ticket {state}: {}", worker.status.as_str(), one_line(&worker.reason)));
        self.fact("Branch", &format!("{} to land on {}", worker.branch, worker.target));
        if let Some(commit) = &view.commit {
            self.fact("Commit", commit);
        }
        if let Some(calls) = worker.tool_calls {
            self.fact("Tool calls", &format!("{calls}, {} failed", worker.tool_errors.unwrap_or(0)));
        }
        if let (Some(input), Some(output)) = (worker.input_tokens, worker.output_tokens) {
            self.fact("Tokens", &format!("{input} in, {output} out{}", cost(worker.cost_usd)));
        }
        if worker.checks.is_empty() {
            self.fact("Checks", "the ticket names none");
        }
        for check in &worker.checks {
            let style = if check.passed { Style::Green } else { Style::Red };
            let clause = self.paint(style, &check.clause());
            let shown = format!("{:<11}{clause}: {}", "Check", one_line(&check.run));
            self.line(&shown);
            if !check.passed && !check.output_tail.trim().is_empty() {
                let tail = last_lines(&check.output_tail);
                self.line(&format!("{:11}the end of its output:\n{}", "", tail.trim_end()));
            }
        }
        if !view.outside_scope.is_empty() {
            let files = self.paint(Style::Yellow, &super::named(&view.outside_scope));
            self.fact("Beyond", &format!("changes files outside the scope of its ticket: {files}"));
        }
        for verdict in &view.verdicts {
            let said = if verdict.text.is_empty() { String::new() } else { format!(": {}", one_line(&verdict.text)) };
            let void = if verdict.void { ", void by now" } else { "" };
            let (at, by) = (short(&verdict.commit), &verdict.by);
            self.fact("Verdict", &format!("{} at {at} by {by}{void}{said}", verdict.verdict));
        }
    }

    /// The checklist with its ticks.
    fn checklist(&mut self, view: &ReviewView) {
        if view.checklist.is_empty() {
            return;
        }
        self.heading("Checklist");
        for item in &view.checklist {
            let mark = if item.is_ticked { "[x]" } else { "[ ]" };
            let note = match (&item.ticked_at, item.is_ticked) {
                (Some(commit), false) => format!(" (ticked at {}, before the newest commits)", short(commit)),
                _ => String::new(),
            };
            let lines = wrapped(&format!("{}{note}", one_line(&item.text)), self.columns.saturating_sub(9));
            for (index, line) in lines.iter().enumerate() {
                let head = if index == 0 { format!("{:>3}. {mark}", item.number) } else { " ".repeat(8) };
                self.line(&format!("{head} {line}"));
            }
        }
    }

    /// What reviewer agents found.
    fn reviewers(&mut self, reviewers: &[ReviewerView]) {
        if reviewers.is_empty() {
            return;
        }
        self.heading("Reviewers");
        for reviewer in reviewers {
            let style = match reviewer.verdict {
                ReviewerWord::Approve if reviewer.is_current => Style::Green,
                ReviewerWord::Reject => Style::Red,
                _ => Style::Yellow,
            };
            let at = match &reviewer.commit {
                Some(commit) if reviewer.is_current => format!(" at {}", short(commit)),
                Some(commit) => format!(" at {}, before the newest commits", short(commit)),
                None => String::new(),
            };
            let word = self.paint(style, reviewer.verdict.clause());
            let line = format!("  {}: {word}{at}{}", reviewer.agent, cost(reviewer.cost_usd));
            self.line(&line);
            self.paragraph(4, &reviewer.summary);
        }
    }

    /// Comments: proposals first, then what is open, then what the agent has; the rest is counted.
    fn comments(&mut self, view: &ReviewView) {
        let of = |state: CommentState| view.comments.iter().filter(move |comment| comment.state == state);
        let groups = [
            (CommentState::Proposed, "Proposed by reviewers (--accept ID or --drop ID)"),
            (CommentState::Open, "Open comments (sent with --reject)"),
            (CommentState::Sent, "Sent comments (--resolve ID or --reopen ID)"),
        ];
        for (state, heading) in groups {
            if of(state).next().is_some() {
                self.heading(heading);
            }
            for comment in of(state) {
                self.comment(comment);
            }
        }
        let settled = of(CommentState::Resolved).count();
        if settled > 0 {
            self.line(&format!("\n{settled} resolved"));
        }
    }

    /// One comment with the code as it was and as it is.
    fn comment(&mut self, comment: &CommentView) {
        let id = self.paint(Style::Yellow, &comment.id.to_string());
        let severity = comment.severity.as_ref().map(|word| format!(" [{}]", one_line(word))).unwrap_or_default();
        let line = format!("  {id} {} by {}{severity}", place(comment), one_line(&comment.by));
        self.line(&line);
        self.paragraph(6, &comment.text);
        for line in &comment.quote {
            self.code('>', line);
        }
        let now = &comment.now;
        let lines = match (now.first_line, now.last_line) {
            (Some(first), Some(last)) if first != last => format!(":{first}-{last}"),
            (Some(first), _) => format!(":{first}"),
            _ => String::new(),
        };
        match now.fate {
            Fate::Same | Fate::Removed => {}
            Fate::Moved | Fate::Changed => {
                let file = now.file.as_deref().unwrap_or(&comment.file);
                self.paragraph(6, &format!("{}, now {file}{lines}:", now.fate.clause()));
                for line in now.code.iter().filter(|_| now.fate == Fate::Changed) {
                    self.code('|', line);
                }
            }
            Fate::Gone => {
                let what = if now.file.is_some() { "these lines are gone" } else { "the file is gone" };
                self.paragraph(6, what);
            }
            Fate::Unknown => self.paragraph(6, "where this is now cannot be told: its commit is no longer there"),
        }
    }

    /// A line of code, cut to the width.
    fn code(&mut self, mark: char, line: &str) {
        let shown = crate::cli::output::cut(&one_line(&line.replace('\t', "    ")), self.columns.saturating_sub(8));
        let shown = self.paint(Style::Dim, &format!("{mark} {shown}"));
        self.line(&format!("      {shown}"));
    }

    /// What changed since the last verdict.
    fn since(&mut self, since: Option<&SinceView>) {
        let Some(since) = since else { return };
        self.heading(&format!("Since it was {} at {}", since.verdict, short(&since.commit)));
        if since.is_lost {
            return self.paragraph(2, "nothing can be compared: that commit is no longer there");
        }
        if since.is_rewritten {
            self.paragraph(2, "commits were written anew; before against after, commit by commit:");
        }
        for commit in &since.commits {
            let short = self.paint(Style::Yellow, &short(&commit.id));
            self.line(&format!("  {short} {}", one_line(&commit.subject)));
        }
        self.line("");
        self.text.push_str(&since.text);
    }
}

/// The place of a comment as one writes it.
fn place(comment: &CommentView) -> String {
    let sign = if comment.side == Side::Old { "-" } else { "" };
    match (comment.first_line, comment.last_line) {
        (Some(first), Some(last)) if first != last => format!("{}:{sign}{first}-{last}", comment.file),
        (Some(first), _) => format!("{}:{sign}{first}", comment.file),
        _ => comment.file.clone(),
    }
}

/// Money behind a clause.
fn cost(usd: Option<f64>) -> String {
    usd.map(|usd| format!(", ${usd:.2}")).unwrap_or_default()
}

/// What can be done about the work now; `None` where it is over.
fn next_step(worker: &WorkerView) -> Option<String> {
    let id = &worker.id;
    Some(match worker.ticket_state {
        Some(S::Landed | S::Done | S::Cancelled) => return None,
        Some(S::Review | S::Approved | S::Landing) | None => format!(
            "swarm review {id} --approve, or --reject -m TEXT [--comment FILE:LINE TEXT]; --editor writes it over the diff"
        ),
        Some(S::Failed | S::Dead | S::Lost) => {
            format!("it is not finished, so there is nothing to approve: swarm why {id}, then swarm restart {id}")
        }
        Some(_) => format!("it is not finished, so there is nothing to approve yet: swarm wait {id}"),
    })
}

/// The first letters of a commit id.
fn short(commit: &str) -> String {
    commit.chars().take(8).collect()
}
