//! Proves who sent a body, while it streams in.
//!
//! Invariant: how a sender proves itself comes from its source alone. A header that is missing, empty, repeated or
//! malformed proves nothing, and a comparison takes the same time wherever two values differ.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use hmac::{Hmac, KeyInit, Mac};
use hyper::HeaderMap;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;

use crate::model::{
    secret::{FoundSecret, SecretRef},
    source::{Forge, Proof, Source},
};

const GITHUB_SIGNATURE: &str = "X-Hub-Signature-256";
const GITLAB_TOKEN: &str = "X-Gitlab-Token";
/// The id that a GitLab signature covers.
pub(super) const SIGNED_ID: &str = "webhook-id";
const SIGNED_TIME: &str = "webhook-timestamp";
const SIGNATURES: &str = "webhook-signature";
/// How far the sender's clock may be off, both ways; the default of Standard Webhooks.
const CLOCK_SKEW_SECONDS_MAX: u64 = 300;

type HmacSha256 = Hmac<Sha256>;
type Digest32 = [u8; 32];

/// A body on its way in, and the proof that runs along with it.
pub struct Check {
    forge: Forge,
    proof: Running,
    body: BytesMut,
    body_hash: Sha256,
}

enum Running {
    /// Nothing of the body takes part.
    Token(SecretRef),
    /// The body is signed: any key may give any of the signatures.
    Signed { signatures: Vec<Digest32>, keys: Vec<(SecretRef, HmacSha256)> },
}

/// A body whose sender knew the secret. Only [`Check::finish`] makes one.
pub struct Proven {
    forge: Forge,
    fitted: SecretRef,
    body: Bytes,
    body_hash: Digest32,
}

/// Why a sender is not proven. The texts are for the operator; the sender learns none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unauthenticated {
    /// The header that proves is not there.
    #[error("header `{0}` is missing")]
    Missing(&'static str),
    /// The header that proves is there twice, so there is no telling which one counts.
    #[error("header `{0}` is repeated")]
    Repeated(&'static str),
    /// The header that proves is not of its form.
    #[error("header `{0}` is malformed")]
    Malformed(&'static str),
    /// The signature is too old, or from the future.
    #[error("header `{SIGNED_TIME}` is more than {CLOCK_SKEW_SECONDS_MAX} seconds away from this machine's clock")]
    OutOfTime,
    /// None of the source's secrets fits.
    #[error("no secret of the source fits header `{0}`")]
    WrongSecret(&'static str),
}

impl Check {
    /// Reads the headers that prove, and refuses what cannot be proven whatever the body will be.
    pub fn begin(source: &Source, headers: &HeaderMap, now: Timestamp) -> Result<Self, Unauthenticated> {
        let proof = match &source.proof {
            Proof::GitHub { secrets } => begin_github(secrets, headers)?,
            Proof::GitLabToken { tokens } => check_token(tokens, headers)?,
            // Never a way down: whoever sends a signature, even a broken one, is judged by it.
            Proof::GitLabSigned { tokens, .. } if !tokens.is_empty() && !headers.contains_key(SIGNATURES) => {
                check_token(tokens, headers)?
            }
            Proof::GitLabSigned { signing_tokens, .. } => begin_signed(signing_tokens, headers, now)?,
        };
        Ok(Self { forge: source.forge(), proof, body: BytesMut::new(), body_hash: Sha256::new() })
    }

    /// Takes in the next piece of the body.
    pub fn update(&mut self, piece: &[u8]) {
        self.body.extend_from_slice(piece);
        self.body_hash.update(piece);
        match &mut self.proof {
            Running::Token(_) => (),
            Running::Signed { keys, .. } => keys.iter_mut().for_each(|(_, mac)| mac.update(piece)),
        }
    }

    /// The proof, now that the whole body is in.
    pub fn finish(self) -> Result<Proven, Unauthenticated> {
        let fitted = match self.proof {
            Running::Token(origin) => origin,
            Running::Signed { signatures, keys } => which_fits(&signatures, keys).ok_or(match self.forge {
                Forge::GitHub => Unauthenticated::WrongSecret(GITHUB_SIGNATURE),
                Forge::GitLab => Unauthenticated::WrongSecret(SIGNATURES),
            })?,
        };
        let body_hash = self.body_hash.finalize().into();
        Ok(Proven { forge: self.forge, fitted, body: self.body.freeze(), body_hash })
    }
}

impl Proven {
    /// The forge that sent it.
    pub fn forge(&self) -> Forge {
        self.forge
    }

    /// Where the secret that fitted was found; for the operator, who rotates secrets.
    pub fn fitted(&self) -> &SecretRef {
        &self.fitted
    }

    /// Every byte that was sent.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// SHA-256 of the body.
    pub fn body_hash(&self) -> Digest32 {
        self.body_hash
    }
}

/// GitHub: `sha256=` and the HMAC of the body in hex.
/// <https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>
fn begin_github(secrets: &[FoundSecret], headers: &HeaderMap) -> Result<Running, Unauthenticated> {
    let malformed = Unauthenticated::Malformed(GITHUB_SIGNATURE);
    let hex = only(headers, GITHUB_SIGNATURE)?.strip_prefix(b"sha256=").ok_or(malformed)?;
    let mut signature = [0; 32];
    hex::decode_to_slice(hex, &mut signature).map_err(|_| malformed)?;
    let keys = secrets.iter().map(|it| (it.origin.clone(), begin_mac(it.value.expose().as_bytes()))).collect();
    Ok(Running::Signed { signatures: vec![signature], keys })
}

/// GitLab's secret token. Both sides are hashed first, so that a comparison tells nothing about a length.
fn check_token(tokens: &[FoundSecret], headers: &HeaderMap) -> Result<Running, Unauthenticated> {
    let shown = Sha256::digest(only(headers, GITLAB_TOKEN)?);
    let mut fitted = None;
    for token in tokens {
        // GitLab takes line breaks out of a token before it sends it.
        let expected = token.value.expose().replace(['\r', '\n'], "");
        let is_equal = shown.as_slice().ct_eq(Sha256::digest(&expected).as_slice());
        if bool::from(is_equal) && !expected.is_empty() {
            fitted.get_or_insert_with(|| token.origin.clone());
        }
    }
    fitted.map(Running::Token).ok_or(Unauthenticated::WrongSecret(GITLAB_TOKEN))
}

/// GitLab's signing token, after Standard Webhooks: the HMAC of `id.timestamp.body`.
/// <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>
fn begin_signed(tokens: &[FoundSecret], headers: &HeaderMap, now: Timestamp) -> Result<Running, Unauthenticated> {
    let list = only(headers, SIGNATURES)?;
    let id = only(headers, SIGNED_ID)?;
    let time = only(headers, SIGNED_TIME)?;
    // A dot would let the border between id and time be moved without a change of the signed text.
    if id.contains(&b'.') {
        return Err(Unauthenticated::Malformed(SIGNED_ID));
    }
    let sent_at = parse_seconds(time).ok_or(Unauthenticated::Malformed(SIGNED_TIME))?;
    if now.as_second().abs_diff(sent_at) > CLOCK_SKEW_SECONDS_MAX {
        return Err(Unauthenticated::OutOfTime);
    }
    let signatures: Vec<Digest32> = list.split(|it| *it == b' ').filter_map(parse_v1).collect();
    if signatures.is_empty() {
        return Err(Unauthenticated::Malformed(SIGNATURES));
    }
    let begin = |token: &FoundSecret| {
        let mut mac = begin_mac(&signing_key(token.value.expose())?);
        for part in [id, b".", time, b"."] {
            mac.update(part);
        }
        Some((token.origin.clone(), mac))
    };
    Ok(Running::Signed { signatures, keys: tokens.iter().filter_map(begin).collect() })
}

/// The key inside a signing token: `whsec_` and base64. `None`: it is none, or it is empty.
fn signing_key(token: &str) -> Option<Vec<u8>> {
    let key = STANDARD.decode(token.strip_prefix("whsec_")?).ok()?;
    (!key.is_empty()).then_some(key)
}

/// Digits only: no sign, no fraction, and nothing that a number could not hold.
fn parse_seconds(text: &[u8]) -> Option<i64> {
    text.iter().all(u8::is_ascii_digit).then(|| std::str::from_utf8(text).ok()?.parse().ok())?
}

/// One entry of a signature list. Other versions than `v1` are not ours to read.
fn parse_v1(entry: &[u8]) -> Option<Digest32> {
    STANDARD.decode(entry.strip_prefix(b"v1,")?).ok()?.try_into().ok()
}

fn begin_mac(key: &[u8]) -> HmacSha256 {
    HmacSha256::new_from_slice(key).expect("HMAC takes a key of any length")
}

/// Where the key that gave one of the signatures was found. Every pair is compared, whatever the others gave.
fn which_fits(signatures: &[Digest32], keys: Vec<(SecretRef, HmacSha256)>) -> Option<SecretRef> {
    let mut fitted = None;
    for (origin, mac) in keys {
        let expected = mac.finalize().into_bytes();
        let is_equal = |seen: Choice, it: &Digest32| seen | it.as_slice().ct_eq(expected.as_slice());
        if bool::from(signatures.iter().fold(Choice::from(0), is_equal)) {
            fitted.get_or_insert(origin);
        }
    }
    fitted
}

/// The value of a header that must be there once.
fn only<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a [u8], Unauthenticated> {
    let mut values = headers.get_all(name).into_iter();
    match (values.next(), values.next()) {
        (None, _) => Err(Unauthenticated::Missing(name)),
        (Some(_), Some(_)) => Err(Unauthenticated::Repeated(name)),
        (Some(value), None) if value.is_empty() => Err(Unauthenticated::Malformed(name)),
        (Some(value), None) => Ok(value.as_bytes()),
    }
}
