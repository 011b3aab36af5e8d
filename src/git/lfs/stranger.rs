//! Where a server may be that only the repository names: who owns a repository must not send us into a private network.
//!
//! Invariant: an address is judged where the connection is made, so neither a name nor a redirect gets around it. Who
//! keeps the remote itself in a private network may keep other servers there.

use reqwest::{
    Url,
    blocking::{Client, RequestBuilder},
};

use crate::git::{
    GitFailure,
    transport::{
        https,
        journey::Journey,
        private_network::{is_in_private_network, leads_inside},
    },
};

/// Makes requests to where one may go.
pub(super) struct Guide {
    client: Client,
    is_stranger: bool,
}

impl Guide {
    /// For a server that the remote's own host vouches for.
    pub(super) fn of_host(journey: &Journey) -> Result<Self, GitFailure> {
        Ok(Self { client: https::client(journey.silence)?, is_stranger: false })
    }

    /// For a server that only the repository names.
    pub(super) fn of_stranger(journey: &Journey) -> Result<Self, GitFailure> {
        if is_in_private_network(&journey.remote) {
            return Self::of_host(journey);
        }
        Ok(Self { client: https::client_of_open_network(journey.silence)?, is_stranger: true })
    }

    pub(super) fn get(&self, url: &Url) -> Result<RequestBuilder, GitFailure> {
        self.judge(url).map(|()| self.client.get(url.clone()))
    }

    pub(super) fn post(&self, url: &Url) -> Result<RequestBuilder, GitFailure> {
        self.judge(url).map(|()| self.client.post(url.clone()))
    }

    /// An address that is written out is never looked up. A name is looked up twice, here for the reason's sake.
    fn judge(&self, url: &Url) -> Result<(), GitFailure> {
        let host = url.host_str().unwrap_or_default();
        match self.is_stranger && leads_inside(host) {
            false => Ok(()),
            true => Err(GitFailure::permanent(format!(
                "the repository sends us to `{host}` for its Git LFS, in a private network where its remote is not: \
                 take that out of `.lfsconfig`, or set `deploy.lfs` to `ignore`"
            ))),
        }
    }
}
