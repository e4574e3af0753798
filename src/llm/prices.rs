//! What tokens cost, and what else is known about models of clouds: data with a date, never a guess.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use super::draft::Counts;
use super::reference::ModelName;
use crate::config::{self, ConfigError};
use crate::model::providers::{Price, ProviderKind};

/// What the answers of one model cost.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tariff {
    /// Nothing: it runs on a machine of the person.
    Free,
    /// By the token.
    Priced {
        /// The usual price.
        price: Price,
        /// The price of requests whose input is longer than so many tokens; it may be unknown.
        long: Option<(u64, Option<Price>)>,
        /// Where the price was read, and when.
        origin: String,
    },
    /// Nobody here knows.
    Unknown,
}

/// As a person reads it.
impl fmt::Display for Tariff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free => f.write_str("free"),
            Self::Unknown => f.write_str("price unknown"),
            Self::Priced { price: Price { input, output, .. }, origin, .. } => {
                write!(f, "${input} in, ${output} out for a million tokens ({origin})")
            }
        }
    }
}

impl Tariff {
    /// US dollars for an answer; `None` where no price is known. Tokens that were not counted cost nothing here, so
    /// count or estimate first.
    pub(super) fn cost(&self, counts: Counts) -> Option<f64> {
        let input = counts.input.unwrap_or_default();
        let price = match self {
            Self::Free => return Some(0.0),
            Self::Unknown => return None,
            Self::Priced { long: Some((above, price)), .. } if input > *above => price.as_ref()?,
            Self::Priced { price, .. } => price,
        };
        let plain = input.saturating_sub(counts.cached).saturating_sub(counts.cache_write);
        let parts = [
            (plain, price.input),
            (counts.cached, price.cached_input.unwrap_or(price.input)),
            (counts.cache_write, price.cache_write.unwrap_or(price.input)),
            (counts.output.unwrap_or_default(), price.output),
        ];
        #[expect(clippy::cast_precision_loss, reason = "a count beyond 2^53 is no count of tokens")]
        let cost = |(tokens, price): (u64, f64)| tokens as f64 * price;
        Some(parts.into_iter().map(cost).sum::<f64>() / 1_000_000.0)
    }
}

/// What is known about models of one cloud from one source.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cloud {
    /// How it is spoken to.
    kind: ProviderKind,
    /// Prices hold at this host only: whoever passes requests on has prices of their own.
    host: String,
    /// The day on which the numbers were right.
    as_of: String,
    /// Where they were read.
    source: String,
    /// The models by their names without a date.
    models: BTreeMap<String, Facts>,
}

/// What is known about one model.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Facts {
    /// US dollars for a million tokens of input.
    input: f64,
    /// Of output.
    output: f64,
    /// Of cached input.
    #[serde(default)]
    cached_input: Option<f64>,
    /// Of input put into the cache.
    #[serde(default)]
    cache_write: Option<f64>,
    /// What long requests cost.
    #[serde(default)]
    long: Option<LongPrice>,
    /// Tokens of a request with its answer.
    #[serde(default)]
    pub(super) context_window: Option<u64>,
    /// Tokens of an answer.
    #[serde(default)]
    pub(super) max_output: Option<u64>,
    /// How Anthropic's models are told to think.
    #[serde(default)]
    pub(super) thinking: Option<ThinkingStyle>,
}

/// The price of long requests.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct LongPrice {
    /// Tokens of input above which it holds.
    above: u64,
    /// As in [`Facts`]; missing where it is not known what long requests cost.
    #[serde(default)]
    input: Option<f64>,
    /// As in [`Facts`].
    #[serde(default)]
    output: Option<f64>,
    /// As in [`Facts`].
    #[serde(default)]
    cached_input: Option<f64>,
    /// As in [`Facts`].
    #[serde(default)]
    cache_write: Option<f64>,
}

/// How a model of Anthropic is told to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ThinkingStyle {
    /// By a number of tokens.
    Budget,
    /// By effort.
    Adaptive,
    /// By effort, and it cannot be turned off.
    Always,
}

/// Everything that is known, from the data that comes with the program.
pub(super) struct Knowledge(Vec<Cloud>);

impl Knowledge {
    /// Reads the data.
    pub(super) fn load() -> Result<Self, ConfigError> {
        config::model_facts().map(Self)
    }

    /// What is known about a model spoken to in this way, wherever it is.
    pub(super) fn facts(&self, kind: ProviderKind, model: &str) -> Option<&Facts> {
        let clouds = self.0.iter().filter(|cloud| cloud.kind == kind);
        clouds.filter_map(|cloud| cloud.models.get(without_date(model))).next()
    }

    /// What a model costs at a host.
    fn tariff(&self, kind: ProviderKind, host: &str, model: &str) -> Option<Tariff> {
        let clouds = self.0.iter().filter(|cloud| cloud.kind == kind && cloud.host == host);
        let found = clouds.filter_map(|cloud| Some((cloud, cloud.models.get(without_date(model))?))).next();
        let (cloud, facts) = found?;
        let price = Price {
            input: facts.input,
            output: facts.output,
            cached_input: facts.cached_input,
            cache_write: facts.cache_write,
        };
        let long = facts.long.map(|long| {
            let LongPrice { above, cached_input, cache_write, .. } = long;
            let price = long.input.zip(long.output);
            (above, price.map(|(input, output)| Price { input, output, cached_input, cache_write }))
        });
        let origin = format!("{}, {}", cloud.as_of, cloud.source);
        Some(Tariff::Priced { price, long, origin })
    }
}

/// What a model costs: what the person says, else nothing for one of their own, else what we know.
pub(super) fn tariff(
    name: &ModelName,
    written: &BTreeMap<String, Price>,
    is_free: bool,
    known: Option<(&Knowledge, ProviderKind, &str)>,
) -> Tariff {
    if let Some(price) = written_price(&name.to_string(), written) {
        return Tariff::Priced { price, long: None, origin: "the configuration".to_owned() };
    }
    if is_free {
        return Tariff::Free;
    }
    known.and_then(|(known, kind, host)| known.tariff(kind, host, &name.model)).unwrap_or(Tariff::Unknown)
}

/// The price a person wrote: of exactly this model, else of the longest pattern that fits.
fn written_price(name: &str, written: &BTreeMap<String, Price>) -> Option<Price> {
    let fits = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => pattern == name,
    };
    let fitting = written.iter().filter(|(pattern, _)| fits(pattern));
    let best = fitting.max_by_key(|(pattern, _)| (!pattern.ends_with('*'), pattern.len()));
    best.map(|(_, price)| *price)
}

/// A model's name without the date of its snapshot: `-20251001`, `-2025-08-07` or `-latest` at the end.
fn without_date(model: &str) -> &str {
    if let Some(name) = model.strip_suffix("-latest") {
        return name;
    }
    let is_date = |text: &str, shape: &str| {
        text.len() == shape.len()
            && text.bytes().zip(shape.bytes()).all(|(c, s)| if s == b'0' { c.is_ascii_digit() } else { c == s })
    };
    for shape in ["-00000000", "-0000-00-00"] {
        if let Some((name, end)) = model.len().checked_sub(shape.len()).and_then(|at| model.split_at_checked(at))
            && is_date(end, shape)
        {
            return name;
        }
    }
    model
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counted tokens.
    fn counts(input: u64, cached: u64, cache_write: u64, output: u64) -> Counts {
        Counts { input: Some(input), cached, cache_write, output: Some(output) }
    }

    /// The tariff of a model at its maker's address.
    fn known(kind: ProviderKind, host: &str, model: &str) -> Tariff {
        let name = ModelName { provider: "p".to_owned(), model: model.to_owned() };
        tariff(&name, &BTreeMap::new(), false, Some((&Knowledge::load().unwrap(), kind, host)))
    }

    /// Whether two amounts are the same to a millionth of a cent.
    fn same(cost: Option<f64>, expected: f64) -> bool {
        cost.is_some_and(|cost| (cost - expected).abs() < 1e-8)
    }

    #[test]
    fn every_entry_has_its_day_and_source_and_sensible_prices() {
        let knowledge = Knowledge::load().unwrap();
        assert!(knowledge.0.len() >= 2);
        for cloud in &knowledge.0 {
            assert!(cloud.as_of.parse::<jiff::civil::Date>().is_ok(), "{}", cloud.as_of);
            assert!(cloud.source.starts_with("https://"), "{}", cloud.source);
            for (name, facts) in &cloud.models {
                assert_eq!(without_date(name), name, "names are without dates");
                assert!(facts.input > 0.0 && facts.output >= facts.input, "{name}");
                assert!(facts.cached_input.is_none_or(|cached| cached < facts.input), "{name}");
                assert!(facts.context_window.is_some(), "{name}");
                assert_eq!(facts.thinking.is_some(), cloud.kind == ProviderKind::Anthropic, "{name}");
            }
        }
    }

    #[test]
    fn each_kind_of_token_has_its_price() {
        let tariff = known(ProviderKind::Anthropic, "api.anthropic.com", "claude-haiku-4-5-20251001");
        assert!(tariff.to_string().starts_with("$1 in, $5 out for a million tokens (2026-"), "{tariff}");
        // 1 $ input, 0.10 $ cached, 1.25 $ cache write, 5 $ output.
        assert!(same(tariff.cost(counts(1_000_000, 200_000, 300_000, 10_000)), 0.5 + 0.02 + 0.375 + 0.05));
    }

    #[test]
    fn long_requests_cost_what_long_requests_cost() {
        let tariff = known(ProviderKind::Anthropic, "api.anthropic.com", "claude-haiku-5-5");
        assert!(same(tariff.cost(counts(100_000, 0, 0, 1_000)), 0.01 + 0.0005));
        assert!(same(tariff.cost(counts(100_001, 0, 0, 1_000)), 0.050_000_5 + 0.0025));
        let unknown = known(ProviderKind::Openai, "api.openai.com", "gpt-6-sol");
        assert!(same(unknown.cost(counts(272_000, 0, 0, 0)), 0.544));
        assert_eq!(unknown.cost(counts(272_001, 0, 0, 0)), None);
    }

    #[test]
    fn an_unknown_price_stays_unknown() {
        let anthropic = ProviderKind::Anthropic;
        assert_eq!(known(anthropic, "api.anthropic.com", "claude-unheard-of"), Tariff::Unknown);
        assert_eq!(known(anthropic, "gateway.example", "claude-haiku-4-5"), Tariff::Unknown);
        assert_eq!(Tariff::Unknown.cost(counts(1, 0, 0, 1)), None);
    }

    #[test]
    fn what_a_person_wrote_goes_first() {
        let price = |input| Price { input, output: 1.0, cached_input: None, cache_write: None };
        let written: BTreeMap<String, Price> = [("p/*", 1.0), ("p/some-*", 2.0), ("p/some-model", 3.0), ("q/*", 4.0)]
            .map(|(name, input)| (name.to_owned(), price(input)))
            .into();
        let input = |model: &str| {
            let name = ModelName { provider: "p".to_owned(), model: model.to_owned() };
            match tariff(&name, &written, true, None) {
                Tariff::Priced { price, .. } => price.input,
                other => panic!("{other:?}"),
            }
        };
        assert!(same(Some(input("some-model")), 3.0));
        assert!(same(Some(input("some-other")), 2.0));
        assert!(same(Some(input("x")), 1.0));
        let other = ModelName { provider: "r".to_owned(), model: "x".to_owned() };
        assert_eq!(tariff(&other, &written, true, None), Tariff::Free);
        assert!(same(Tariff::Free.cost(counts(9, 0, 0, 9)), 0.0));
    }

    #[test]
    fn a_date_is_no_part_of_a_name() {
        for (dated, name) in [
            ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
            ("gpt-5-2025-08-07", "gpt-5"),
            ("claude-3-7-sonnet-latest", "claude-3-7-sonnet"),
            ("claude-haiku-4-5", "claude-haiku-4-5"),
            ("日本", "日本"),
        ] {
            assert_eq!(without_date(dated), name);
        }
    }
}
