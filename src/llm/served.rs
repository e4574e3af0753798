//! One model of one provider.

use std::pin::pin;
use std::time::Duration;

use super::chain::Link;
use super::draft::{Draft, End};
use super::fault::Fault;
use super::http::{self, Http};
use super::lines::Splitter;
use super::prices::{self, Facts, Knowledge, Tariff};
use super::reference::ModelName;
use super::target::Target;
use super::wire::{Abilities, Decoder, Wire};
use super::{Answer, ChatError, ChatModel, ChatRequest, Delta, anthropic, ollama, openai};
use crate::config::Environment;
use crate::model::providers::{ModelSettings, Provider, ProviderKind};

/// How long the question what a model can do may take; it goes on beside the first request, and the answer to that
/// counts for more.
const QUESTION_LIMIT: Duration = Duration::from_secs(3);

/// A model that is asked over the network.
pub(super) struct Served {
    /// Who it is.
    pub(super) target: Target,
    /// The way to it.
    pub(super) http: Http,
    /// How it is spoken to.
    pub(super) wire: Box<dyn Wire>,
    /// What it costs.
    pub(super) tariff: Tariff,
    /// Tokens that fit, as far as known.
    window: Option<u64>,
    /// Whether the server may still be asked about it.
    may_ask: bool,
}

/// Opens a model for a chain.
pub(super) fn open(name: ModelName, settings: &ModelSettings, environment: &Environment) -> Link {
    let served = Served::new(name, settings, environment);
    let (is_free, has_price) = (served.tariff == Tariff::Free, served.tariff != Tariff::Unknown);
    Link::new(Box::new(served), is_free, has_price)
}

impl Served {
    /// The model `name`, whose provider is configured; connects nowhere.
    pub(super) fn new(name: ModelName, settings: &ModelSettings, environment: &Environment) -> Self {
        let provider = settings.providers.get(&name.provider).cloned().unwrap_or_default();
        let kind = provider.kind.unwrap_or(ProviderKind::Ollama);
        let url = address(kind, &provider, environment);
        let key = provider.key_env.as_deref().and_then(|name| environment.get(name)).map(str::trim);
        let key = key.filter(|key| !key.is_empty());
        let target = Target {
            is_here: http::is_here(&url),
            has_key: key.is_some(),
            key_env: provider.key_env.clone(),
            name,
            kind,
            url: without_login(&url),
        };
        let http = Http::new(&target, url, key, provider.timeouts, environment);
        let is_free = is_free(&target, &provider);
        // What comes with the program is tested to be readable; without it prices are unknown.
        let knowledge = (!is_free).then(Knowledge::load).and_then(Result::ok);
        let facts = knowledge.as_ref().and_then(|known| known.facts(kind, &target.name.model)).cloned();
        let host = reqwest::Url::parse(&target.url).ok().and_then(|url| url.host_str().map(str::to_owned));
        let host = host.unwrap_or_default();
        let known = knowledge.as_ref().map(|known| (known, kind, host.as_str()));
        let tariff = prices::tariff(&target.name, &settings.prices, is_free, known);
        let window = facts.as_ref().and_then(|facts| facts.context_window).or(provider.context_window);
        let wire = wire(&target, &provider, facts);
        let may_ask = kind == ProviderKind::Ollama || window.is_none();
        Self { target, http, wire, tariff, window, may_ask }
    }

    /// Asks what the model can do.
    pub(super) async fn ask(&self, limit: Duration) -> Result<Abilities, Fault> {
        match self.wire.question() {
            Some(question) => {
                let answer = self.http.fetch(&self.target, &question.path, question.body.as_ref(), limit).await?;
                Ok(self.wire.abilities(&answer))
            }
            None => Ok(Abilities::default()),
        }
    }

    /// Fails when a key is needed and missing.
    pub(super) fn check_key(&self) -> Result<(), Fault> {
        match &self.target.key_env {
            Some(variable) if !self.target.has_key && !self.target.is_here => Err(self.target.no_key(variable)),
            _ => Ok(()),
        }
    }

    /// Tokens that fit, with what the server says.
    pub(super) fn window_of(&self, abilities: &Abilities) -> Option<u64> {
        self.window.into_iter().chain(abilities.context_window).min()
    }

    /// Asks for an answer, and beside that what the model can do, if nobody knows yet.
    async fn answer(
        &mut self,
        request: &ChatRequest<'_>,
        on_delta: &mut (dyn FnMut(Delta) + Send),
    ) -> Result<Answer, Fault> {
        self.check_key()?;
        loop {
            let (answer, abilities) = {
                let (answer, question) = (self.receive(request, on_delta), self.ask_if_unknown());
                let (mut answer, mut question) = (pin!(answer), pin!(question));
                tokio::select! {
                    // A request that failed needs no word about the model, which may never come.
                    answer = &mut answer => if answer.is_ok() { (answer, question.await) } else { (answer, None) },
                    abilities = &mut question => (answer.await, abilities),
                }
            };
            if let Some(abilities) = abilities {
                self.may_ask = false;
                self.window = self.window_of(&abilities);
            }
            match answer {
                Err(fault) if self.wire.learn(&fault) => {}
                answer => return answer,
            }
        }
    }

    /// What the model can do, if nobody knows yet and the server says it in time.
    async fn ask_if_unknown(&self) -> Option<Abilities> {
        if self.may_ask { self.ask(QUESTION_LIMIT).await.ok() } else { None }
    }

    /// Asks for an answer once.
    async fn receive(
        &self,
        request: &ChatRequest<'_>,
        on_delta: &mut (dyn FnMut(Delta) + Send),
    ) -> Result<Answer, Fault> {
        let body = self.wire.body(request);
        let mut incoming = self.http.stream(&self.target, self.wire.path(), &body).await?;
        let mut reception = Reception::new(self.wire.as_ref(), &self.target, on_delta);
        while !reception.is_complete {
            match incoming.next(&self.target).await? {
                Some(piece) => reception.feed(piece.as_ref())?,
                None => break,
            }
        }
        let (draft, end) = reception.end()?;
        Ok(draft.finish(end, request, self.name(), &self.tariff))
    }
}

/// An answer that is being read.
pub(super) struct Reception<'a> {
    /// Cuts it into payloads.
    splitter: Splitter,
    /// Reads the payloads.
    decoder: Box<dyn Decoder + 'a>,
    /// What was read.
    draft: Draft<'a>,
    /// Whether nothing more is wanted.
    pub(super) is_complete: bool,
}

impl<'a> Reception<'a> {
    /// Nothing was read yet.
    pub(super) fn new(wire: &'a dyn Wire, target: &'a Target, on_delta: &'a mut (dyn FnMut(Delta) + Send)) -> Self {
        Self {
            splitter: Splitter::new(wire.framing()),
            decoder: wire.decoder(target),
            draft: Draft::new(on_delta),
            is_complete: false,
        }
    }

    /// Reads a piece.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let Self { splitter, decoder, draft, is_complete } = self;
        splitter.feed(bytes, |payload| {
            *is_complete = *is_complete || decoder.payload(payload, draft)?;
            Ok(())
        })
    }

    /// Reads what is left when nothing more comes.
    pub(super) fn end(mut self) -> Result<(Draft<'a>, End), Fault> {
        let Self { splitter, decoder, draft, is_complete } = &mut self;
        if !*is_complete {
            splitter.end(|payload| decoder.payload(payload, draft).map(drop))?;
        }
        let end = decoder.end(draft)?;
        Ok((self.draft, end))
    }
}

impl ChatModel for Served {
    fn chat<'a>(
        &'a mut self,
        request: &'a ChatRequest<'a>,
        on_delta: &'a mut (dyn FnMut(Delta) + Send),
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Answer, ChatError>> + Send + 'a>> {
        Box::pin(async move {
            let name = self.name();
            self.answer(request, on_delta).await.map_err(|fault| fault.of(name))
        })
    }

    fn context_window(&self) -> Option<u64> {
        self.window
    }

    fn name(&self) -> String {
        self.target.name.to_string()
    }
}

/// The way to speak to a model.
fn wire(target: &Target, provider: &Provider, facts: Option<Facts>) -> Box<dyn Wire> {
    let model = target.name.model.clone();
    match target.kind {
        ProviderKind::Ollama => Box::new(ollama::Ollama::new(model, provider)),
        ProviderKind::Openai => Box::new(openai::OpenAi::new(model, provider, &target.url)),
        ProviderKind::Anthropic => Box::new(anthropic::Anthropic::new(model, provider, facts)),
    }
}

/// Whether a model costs nothing: the person says so, or it runs on this machine. Ollama passes models whose name ends
/// in `cloud` on to its own servers.
fn is_free(target: &Target, provider: &Provider) -> bool {
    let model = &target.name.model;
    let passed_on = target.kind == ProviderKind::Ollama && (model.ends_with("-cloud") || model.ends_with(":cloud"));
    provider.local.unwrap_or(target.is_here && !passed_on)
}

/// The address of a provider without a last `/`: what is written, else what the variable of its own programs says,
/// else the usual one.
fn address(kind: ProviderKind, provider: &Provider, environment: &Environment) -> String {
    let variable = |name: &str| environment.get(name).map(str::trim).filter(|value| !value.is_empty());
    let url = provider.url.clone().unwrap_or_else(|| match kind {
        ProviderKind::Ollama => ollama::address(variable("OLLAMA_HOST").unwrap_or_default()),
        ProviderKind::Anthropic => variable("ANTHROPIC_BASE_URL").unwrap_or("https://api.anthropic.com").to_owned(),
        ProviderKind::Openai => variable("OPENAI_BASE_URL").unwrap_or("https://api.openai.com/v1").to_owned(),
    });
    url.trim_end_matches('/').to_owned()
}

/// An address as messages show it: without a name and password, which an address of the environment may hold.
fn without_login(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority_end = rest.find('/').unwrap_or(rest.len());
    match rest[..authority_end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests;
