//! Sources: the senders we trust, each with its own way of proving itself.
//!
//! Invariant: how a sender proves itself is fixed in hooks.yaml and never read off a request.

use std::fmt;

use ipnet::IpNet;

use crate::model::{
    name::{HookName, SourceName},
    secret::FoundSecret,
};

/// The kind of forge that sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Forge {
    /// github.com, GitHub Enterprise.
    GitHub,
    /// gitlab.com, self-managed GitLab.
    GitLab,
}

impl Forge {
    /// The word of hooks.yaml and of `DEPLOY_FORGE`.
    pub fn word(self) -> &'static str {
        match self {
            Self::GitHub => "github",
            Self::GitLab => "gitlab",
        }
    }

    /// The forge of that word.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "github" => Some(Self::GitHub),
            "gitlab" => Some(Self::GitLab),
            _ => None,
        }
    }

    /// Where the forge's own cloud lives, without a trailing slash.
    pub fn cloud(self) -> &'static str {
        match self {
            Self::GitHub => "https://github.com",
            Self::GitLab => "https://gitlab.com",
        }
    }
}

impl fmt::Display for Forge {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::GitHub => "GitHub",
            Self::GitLab => "GitLab",
        })
    }
}

/// The URL path of a source. It names the secret, so a body need not be parsed to find it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourcePath {
    /// `/hooks/<hook>`: the hook's own sender.
    Hook(HookName),
    /// `/sources/<source>`: a sender that several hooks share.
    Shared(SourceName),
}

impl fmt::Display for SourcePath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hook(name) => write!(out, "/hooks/{name}"),
            Self::Shared(name) => write!(out, "/sources/{name}"),
        }
    }
}

/// A sender we trust.
#[derive(Clone, Debug)]
pub struct Source {
    /// Where it posts to.
    pub path: SourcePath,
    /// How it proves itself.
    pub proof: Proof,
    /// Addresses it may post from; empty means any.
    pub allow_from: Vec<IpNet>,
}

impl Source {
    /// The forge that sends here.
    pub fn forge(&self) -> Forge {
        match self.proof {
            Proof::GitHub { .. } => Forge::GitHub,
            Proof::GitLabToken { .. } | Proof::GitLabSigned { .. } => Forge::GitLab,
        }
    }
}

/// How a sender proves itself. A list of secrets means rotation: any one of them is accepted, and none is empty.
#[derive(Clone, Debug)]
pub enum Proof {
    /// `X-Hub-Signature-256`, HMAC-SHA256 over the body.
    GitHub {
        /// Keys of the HMAC.
        secrets: Vec<FoundSecret>,
    },
    /// `X-Gitlab-Token`, compared in constant time.
    GitLabToken {
        /// Accepted tokens.
        tokens: Vec<FoundSecret>,
    },
    /// `webhook-signature` after the Standard Webhooks rules.
    GitLabSigned {
        /// Signing tokens, `whsec_` and base64; checked to decode to a key that is not empty.
        signing_tokens: Vec<FoundSecret>,
        /// Tokens accepted from a request without `webhook-signature` (`accept_token_too`); usually none.
        tokens: Vec<FoundSecret>,
    },
}
