//! Checks of the settings about models.

use super::{Check, Checked};
use crate::config::environment as env;
use crate::model::providers::{Price, Provider, ProviderKind, built_in_providers};
use crate::model::settings::Settings;

/// All checks of providers, model lists and prices.
pub(super) fn check(check: &Check<'_>, settings: &Settings) -> Checked {
    for (name, provider) in &settings.providers {
        let key = ["providers", name];
        let good = !name.is_empty() && name != "replay" && name.chars().all(is_name_char);
        check.ensure_at(good, &key, "the name of a provider has letters, digits, `-` and `_`, and is not `replay`")?;
        self::provider(check, name, provider)?;
    }
    let known: Vec<_> = settings.providers.keys().map(String::as_str).collect();
    let default = settings.default_provider.as_str();
    if !known.contains(&default) {
        let problem = check.problem("default_provider", &format!("no provider is called `{default}`"));
        return Err(problem.with_valid("providers", &known, default));
    }
    for (name, list) in &settings.models {
        let key = ["models", name];
        let good = !name.is_empty() && !name.contains(['/', ':']) && !name.chars().any(char::is_control);
        check.ensure_at(good, &key, "the name of a list has no `/` and no `:`")?;
        check.ensure_at(!known.contains(&name.as_str()), &key, "a provider has the same name")?;
        check.ensure_at(!list.is_empty(), &key, "a list needs at least one model")?;
        for (index, model) in list.iter().enumerate() {
            let index = index.to_string();
            let key = ["models", name, &index];
            let Some((provider, rest)) = model.split_once('/') else {
                return Err(check.problem_at(&key, &format!("`{model}` is not of the form provider/model")));
            };
            check.ensure_at(!rest.trim().is_empty(), &key, "the name of the model is missing after the `/`")?;
            if !known.contains(&provider) {
                let problem = check.problem_at(&key, &format!("no provider is called `{provider}`"));
                return Err(problem.with_valid("providers", &known, provider));
            }
        }
    }
    settings.prices.iter().try_for_each(|(model, price)| self::price(check, model, price))
}

/// One provider.
fn provider(check: &Check<'_>, name: &str, provider: &Provider) -> Checked {
    let key = ["providers", name];
    let built_in = built_in_providers().get(name).is_some_and(|built_in| built_in.kind == provider.kind);
    check.ensure_at(
        provider.kind.is_some(),
        &key,
        "the key `kind` is missing; valid values: ollama, openai, anthropic",
    )?;
    let message = "the key `url` is missing, and only the built-in providers do without";
    check.ensure_at(built_in || provider.url.is_some(), &key, message)?;
    if let Some(url) = &provider.url {
        let key = ["providers", name, "url"];
        let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).unwrap_or_default();
        let good = !host.is_empty() && !host.starts_with(['/', ':']) && !url.contains(char::is_whitespace);
        check.ensure_at(good, &key, "expected an address that begins with `http://` or `https://`")?;
        let secret = host.split('/').next().is_some_and(|authority| authority.contains('@'));
        check.ensure_at(!secret, &key, "an address cannot hold a name or a password; use `key_env`")?;
        check.ensure_at(!url.contains(['?', '#']), &key, "an address ends with its path, without `?` and `#`")?;
    }
    if let Some(variable) = &provider.key_env {
        let cause = env::refuse_variable(variable, "");
        let key = ["providers", name, "key_env"];
        check.ensure_at(cause.is_none(), &key, cause.as_deref().unwrap_or_default())?;
    }
    for (what, number) in [("context_window", provider.context_window), ("max_output", provider.max_output)] {
        check.ensure_at(number != Some(0), &["providers", name, what], "it must be at least 1")?;
    }
    if let Some(text) = &provider.keep_alive {
        let good = text.parse::<i64>().is_ok() || crate::model::parse_duration(text).is_ok();
        let message = format!("expected a duration such as `30m`, or `-1` for ever, found `{text}`");
        check.ensure_at(good, &["providers", name, "keep_alive"], &message)?;
        let unused = provider.kind != Some(ProviderKind::Ollama);
        check.ensure_at(!unused, &["providers", name, "keep_alive"], "only Ollama keeps models loaded for a time")?;
    }
    let times = &provider.timeouts;
    let times =
        [("connect", times.connect), ("first_byte", times.first_byte), ("idle", times.idle), ("total", times.total)];
    let zero = times.into_iter().find(|(_, time)| time.is_zero());
    zero.map_or(Ok(()), |(what, _)| {
        Err(check.problem_at(&["providers", name, "timeouts", what], "it must be longer than zero"))
    })
}

/// One price.
fn price(check: &Check<'_>, model: &str, price: &Price) -> Checked {
    let good = model.contains('/') && !model.trim_end_matches('*').contains('*');
    check.ensure_at(good, &["prices", model], "expected provider/model, with `*` at its end at most")?;
    let amounts = [
        ("input", Some(price.input)),
        ("output", Some(price.output)),
        ("cached_input", price.cached_input),
        ("cache_write", price.cache_write),
    ];
    let negative = amounts.into_iter().find(|(_, amount)| amount.is_some_and(|amount| amount < 0.0));
    let say = |(what, _): (&str, _)| Err(check.problem_at(&["prices", model, what], "a price is not negative"));
    negative.map_or(Ok(()), say)
}

/// Whether the name of a provider may have this character.
fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}
