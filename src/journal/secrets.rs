//! The secrets of one run, on their way from `work` to the keeper through a pipe.
//!
//! Invariant: this form is never written to disk.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{journal::Unreadable, model::secret::Secret};

/// The secrets of one run, and of no other.
#[derive(Clone, Debug, Default)]
pub struct RunSecrets {
    /// What steps get in their environment, by name.
    pub env: BTreeMap<String, Secret>,
    /// The tokens among the credentials of the hook's remote, in the order of the hook.
    pub git_tokens: Vec<Secret>,
}

impl RunSecrets {
    /// All values, for masking.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.env.values().chain(&self.git_tokens).map(Secret::expose)
    }
}

/// The message for the keeper's standard input.
pub fn encode(secrets: &RunSecrets) -> String {
    let sent = Sent {
        env: secrets.env.iter().map(|(name, it)| (name.clone(), it.expose().to_owned())).collect(),
        git_tokens: secrets.git_tokens.iter().map(|it| it.expose().to_owned()).collect(),
    };
    serde_json::to_string(&sent).expect("secrets are strings")
}

/// The message that [`encode`] made. The error never quotes it.
pub fn decode(message: &[u8]) -> Result<RunSecrets, Unreadable> {
    let unreadable = |why: &str| Unreadable::new("message of secrets", why);
    let sent: Sent = serde_json::from_slice(message).map_err(|_| unreadable("it is not complete"))?;
    let secret = |value: String| Secret::new(value).ok_or_else(|| unreadable("one of them is empty"));
    let mut env = BTreeMap::new();
    for (name, value) in sent.env {
        env.insert(name, secret(value)?);
    }
    let git_tokens = sent.git_tokens.into_iter().map(secret).collect::<Result<_, _>>()?;
    Ok(RunSecrets { env, git_tokens })
}

#[derive(Serialize, Deserialize)]
struct Sent {
    env: BTreeMap<String, String>,
    git_tokens: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::{RunSecrets, decode, encode};
    use crate::model::secret::Secret;

    #[test]
    fn what_was_sent_arrives_and_half_of_it_does_not() {
        let secret = |text: &str| Secret::new(text.into()).expect("not empty");
        let env = [("TOKEN".to_owned(), secret("hunter2"))].into();
        let message = encode(&RunSecrets { env, git_tokens: vec![secret("ghp_1"), secret("glpat")] });
        let arrived = decode(message.as_bytes()).expect("complete");
        assert_eq!(arrived.values().collect::<Vec<_>>(), ["hunter2", "ghp_1", "glpat"]);
        let err = decode(&message.as_bytes()[..20]).expect_err("half").to_string();
        assert!(!err.contains("hunter"), "{err}");
        assert!(decode(b"").is_err());
    }
}
