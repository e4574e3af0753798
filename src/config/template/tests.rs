use serde_json::json;

use super::*;
use crate::config::preset::Presets;
use crate::model::agent::AgentOrigin;

/// What every template gets, and what some get besides.
fn context() -> serde_json::Value {
    let mut context = json!({
        "worker": "fix", "ticket": "fix", "title": "Fix `it` for {{ all }}", "branch": "swarm/fix", "base": "main",
        "target": "main", "worktree": "/w/fix.yaml", "repo": "/w/repo", "checks": ["cargo test"], "scope": ["src/**"],
        "labels": [], "port": 41000, "ports": 10,
        "body": "Do <it> & \"that\" {{ body }} {% if %} {# x #}", "attempt": 2,
        "ring": {"agents": ["a", "b"], "agent": "b", "turn": 2, "before": "a", "text": "did", "is_cut": true, "fence": "~~~"},
        "dependencies": [{"ticket": "a", "title": "A", "kind": "completion", "state": "landed", "commit": null, "is_base": false}],
        "results": [{"ticket": "s", "title": "Survey", "text": "found", "is_cut": true, "fence": "~~~~"}],
        "reviewer": null, "summary": null, "comments": [{"id": 1, "file": "a.rs", "line": 3, "place": "a.rs:3", "quote": ["x"], "text": "no\nno", "by": "x"}],
        "target_commit": "abc", "files": [{"path": "a b.rs", "kind": "both modified",
            "places": [{"line": 3, "target": ["t"], "base": [], "branch": ["b"]}]}],
        "landed": [{"id": "abc", "subject": "s", "author": "A", "ticket": null, "title": null, "touches": true}],
        "gate": "tests", "command": "make", "exit_code": null, "timeout": "5m", "runs": 2, "output": "o",
        "output_cut": true,
        "failures": [{"command": "c", "exit_code": 1, "timeout": null, "output": "o", "output_cut": false}],
        "passed": [], "tries_left": 0, "id": "fix",
        "commits": [{"id": "a", "subject": "one"}, {"id": "b", "subject": "two"}],
    });
    context["why"] = json!("`a b.rs` conflicts with `main`");
    (context["begun"], context["refused"]) = (json!("merge"), json!(null));
    let files = json!([{"path": "a b.rs", "kind": "content", "places": [{"line": 3, "theirs": ["x"]}]}]);
    context["goal"] = json!("Build a parser.");
    context["existing"] = json!([{"id": "a", "title": "A", "state": "open"}]);
    context["overlaps"] = json!([{"name": "other", "ticket": "o", "ticket_title": "Other", "files": files}]);
    let of_reviews =
        [("commit", json!("abc")), ("checklist", json!(["docs"])), ("diff", json!("+x")), ("is_cut", json!(true))];
    let of_messages = [("kind", "worker"), ("name", "other"), ("text", "Use {{ tabs }}."), ("fence", "~~~~")];
    of_messages.into_iter().for_each(|(name, value)| context[name] = json!(value));
    of_reviews.into_iter().for_each(|(name, value)| context[name] = value);
    context
}

/// An agent with this system prompt.
fn agent(prompt: &str) -> Agent {
    let text = "---\nname: tidy\ncommand: [\"true\"]\nruntime: command\n---\nx";
    let path = Path::new(".swarm/agents/tidy-one.md");
    let parsed = crate::config::agent::parse_agent(path, text, AgentOrigin::Project, &Presets::default());
    Agent { system_prompt: prompt.to_owned(), ..parsed.unwrap() }
}

#[test]
fn a_prompt_that_cannot_be_filled_in_names_agent_and_file() {
    let error = render_system_prompt(&agent("One.\n{{ nothing_of_that_name }}"), context()).unwrap_err();
    let text = crate::model::error_text(&error);
    assert!(text.starts_with("could not fill in the prompt of agent `tidy` in `.swarm/agents/tidy-one.md`"), "{text}");
    assert!(text.contains("undefined value") && text.contains("prompt:2"), "{text}");
}

#[test]
fn every_built_in_template_renders_with_what_it_is_promised() {
    let templates = Templates::default();
    for &template in Template::ALL {
        let text = templates.render(template, context()).unwrap();
        assert!(!text.trim().is_empty(), "{template:?}");
    }
}

#[test]
fn values_are_shown_as_they_are() {
    let prompt = Templates::default().render(Template::Prompt, context()).unwrap();
    assert!(prompt.contains("Do <it> & \"that\" {{ body }} {% if %} {# x #}"), "{prompt}");
    assert!(prompt.contains("Fix `it` for {{ all }}\n"), "{prompt}");
    assert_eq!(render_system_prompt(&agent("{{ worktree }}\n"), context()).unwrap(), "/w/fix.yaml\n");
}

#[test]
fn a_new_ticket_is_a_ticket_whatever_its_title() {
    for title in ["It's a \"test\": {{ x }} # y", "no", "- a", "\\e"] {
        let context = json!({"id": "fix", "title": title, "body": "Do it."});
        let text = Templates::default().render(Template::NewTicket, context).unwrap();
        let ticket = crate::config::parse_ticket(Path::new("fix.md"), &text).unwrap();
        assert_eq!((ticket.title.as_str(), ticket.body.as_str()), (title, "Do it."));
    }
}

#[test]
fn a_missing_value_is_an_error() {
    let error = Templates::default().render(Template::MergeCommit, json!({"ticket": "x"})).unwrap_err();
    assert_eq!(error.to_string(), "could not fill in the template `merge_commit.txt`");
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("undefined"));
    assert!(render_system_prompt(&agent("{% include 'prompt.md' %}"), json!({})).is_err());
}

#[test]
fn a_project_replaces_templates_by_name() {
    let file = |name: &str, text: &str| (PathBuf::from(".swarm/templates").join(name), text.to_owned());
    let files = vec![file("prompt.md", "Hello {{ worker }}"), file("README.md", "{% not a template")];
    let templates = Templates::from_files(files).unwrap();
    assert_eq!(templates.render(Template::Prompt, context()).unwrap(), "Hello fix");
    assert_eq!(templates.text(Template::Conflict), Template::Conflict.built_in());
}

#[test]
fn broken_overrides_are_explained() {
    let fails =
        |name: &str, text: &str| Templates::from_files(vec![(PathBuf::from(name), text.to_owned())]).unwrap_err();
    let error = fails(".swarm/templates/promt.md", "");
    assert!(
        error
            .to_string()
            .starts_with(".swarm/templates/promt.md: there is no template `promt.md`; valid names: prompt.md, ")
    );
    assert_eq!(error.hint(), Some("did you mean `prompt.md`?"));
    let error = fails(".swarm/templates/prompt.md", "a\n{% if x %}\nb {{ }}\n");
    assert_eq!(
        error.to_string(),
        ".swarm/templates/prompt.md:3:1: not a valid template: unexpected end of variable block"
    );
    assert_eq!(error.snippet(), Some("  |\n3 | b {{ }}\n  | ^"));
}

#[test]
fn a_literal_is_its_own_rendering() {
    for text in ["", "{{ x }}", "{{{ {%- if %} {##} }}", "a {{'x'}} b", "{% raw %}{% endraw %}", "{\n{"] {
        assert_eq!(render_system_prompt(&agent(&literal(text)), json!({})).unwrap(), text);
    }
}
