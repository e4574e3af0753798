//! Names and shapes of secrets.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::MARK;

/// Shapes of secrets; the group `secret`, where there is one, is what goes. Each source is the token format that its
/// issuer documents.
const SHAPES: &[&str] = &[
    // PEM private keys, also where the end was cut off.
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)",
    // Anthropic, OpenAI and the many that copied them; Stripe.
    r"\bsk-[A-Za-z0-9_-]{16,}",
    r"\b[srp]k_(?:live|test)_[A-Za-z0-9]{10,}",
    // GitHub, GitLab.
    r"\bgh[pousr]_[A-Za-z0-9]{20,}",
    r"\bgithub_pat_[A-Za-z0-9_]{20,}",
    r"\bgl(?:pat|ptt|dt|rt)-[A-Za-z0-9_-]{16,}",
    // AWS key ids, Google API keys and OAuth tokens, Slack, npm, PyPI, Hugging Face, DigitalOcean.
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    r"\bAIza[0-9A-Za-z_-]{30,}",
    r"\bya29\.[0-9A-Za-z_-]{20,}",
    r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
    r"\bnpm_[A-Za-z0-9]{30,}",
    r"\bpypi-[A-Za-z0-9_-]{30,}",
    r"\bhf_[A-Za-z0-9]{20,}",
    r"\bdop_v1_[a-f0-9]{40,}",
    // JSON Web Tokens (RFC 7519): header and payload both begin with `{"`.
    r"\beyJ[A-Za-z0-9_-]{6,}\.eyJ[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*)?",
    // HTTP authorization (RFC 9110 section 11).
    r#"(?i)\bbearer\s+(?<secret>[A-Za-z0-9._~+/=-]{16,})"#,
    r#"(?i)\b(?:proxy-)?authorization["']?\s*[:=]\s*["']?(?:(?:basic|bearer|token|digest)\s+)?(?<secret>[^\s"']{6,})"#,
    r#"(?i)\bx-api-key["']?\s*[:=]\s*["']?(?<secret>[^\s"']{6,})"#,
    // A password in a URL (RFC 3986 section 3.2.1).
    r#"(?i)\b[a-z][a-z0-9+.-]*://[^\s/:@'"]*:(?<secret>[^\s/@'"]+)@"#,
    // Assignments in shells, environment files and configuration.
    r#"\b(?:[A-Z0-9]+_)*(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|APIKEY|(?:API|ACCESS|PRIVATE|SECRET|SIGNING|ENCRYPTION)_KEY)(?:_[A-Z0-9]+)*["']?\s*[=:]\s*(?<secret>"[^"\n]+"|'[^'\n]+'|[^\s;&|"']+)"#,
    r#"(?i)\b[a-z0-9_.-]*(?:password|passwd|passphrase|secret|token|api[_-]?key|private[_-]?key|access[_-]?key)["']?\s*[:=]\s*(?<secret>"[^"\n]{6,}"|'[^'\n]{6,}')"#,
    // Options of command lines.
    r#"(?i)(?:^|\s)--?(?:password|passwd|passphrase|token|secret|api-?key|auth-?token|access-?token)[=\s]+(?<secret>"[^"\n]+"|'[^'\n]+'|[^\s"'-][^\s"']*)"#,
    r#"\bcurl\b[^\n]*?\s(?:-u|--user)[=\s]*["']?[^\s:"']+:(?<secret>[^\s"']+)"#,
];

/// Words a field's name ends in when it holds a secret, as the words of the name.
const SECRET_NAMES: &[&[&str]] = &[
    &["password"],
    &["passwd"],
    &["passphrase"],
    &["secret"],
    &["secrets"],
    &["token"],
    &["authorization"],
    &["credential"],
    &["credentials"],
    &["cookie"],
    &["apikey"],
    &["api", "key"],
    &["access", "key"],
    &["private", "key"],
    &["secret", "key"],
    &["secret", "access", "key"],
    &["signing", "key"],
    &["encryption", "key"],
];

/// The built-in patterns, compiled when a text is first looked at: they cost two milliseconds and a megabyte, which most
/// supervisors of plain programs never need.
pub(super) fn built_in() -> &'static [Regex] {
    static COMPILED: LazyLock<Vec<Regex>> =
        LazyLock::new(|| SHAPES.iter().map(|shape| Regex::new(shape).expect("a test compiles them all")).collect());
    &COMPILED
}

/// Whether a field of this name holds a secret: `api_key`, `X-Auth-Token`, `clientSecret`, but not `max_tokens`.
pub(super) fn is_secret_name(name: &str) -> bool {
    let words = words(name);
    SECRET_NAMES.iter().any(|secret| words.ends_with(&secret.iter().map(ToString::to_string).collect::<Vec<_>>()))
}

/// The words of an identifier, lower-case: at `_`, `-`, `.`, spaces and where a capital follows a small letter.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_small = false;
    for letter in name.chars() {
        let is_break = !letter.is_alphanumeric();
        if (is_break || (was_small && letter.is_uppercase())) && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        was_small = letter.is_lowercase() || letter.is_numeric();
        if let (false, Some(word)) = (is_break, words.last_mut()) {
            word.extend(letter.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// `text` with every secret of this shape marked; `None` when there is none.
pub(super) fn replace(pattern: &Regex, text: &str) -> Option<String> {
    if !pattern.is_match(text) {
        return None;
    }
    let changed = pattern.replace_all(text, |found: &Captures<'_>| {
        let whole = &found[0];
        let secret = found.name("secret").or_else(|| found.get(1)).or_else(|| found.get(0));
        let Some((secret, start)) = secret.zip(found.get(0).map(|whole| whole.start())) else {
            return whole.to_owned();
        };
        if is_reference(secret.as_str()) {
            return whole.to_owned();
        }
        format!("{}{MARK}{}", &whole[..secret.start() - start], &whole[secret.end() - start..])
    });
    (changed != text).then(|| changed.into_owned())
}

/// Whether a value only says where the secret is: `$TOKEN`, `${{ secrets.X }}`, `$(pass show x)`, or was redacted.
fn is_reference(value: &str) -> bool {
    let value = value.trim_matches(['"', '\'']);
    value.starts_with(['$', '<', '{']) || value.starts_with(MARK)
}
