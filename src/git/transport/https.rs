//! Git over `https://` and `http://`, by reqwest and rustls.
//!
//! Invariant: credentials go to the remote's own host alone. A redirect leads to another one only where nothing is shown,
//! the repository is a submodule, and its URL might as well have named that host.

use std::{
    cell::RefCell,
    error::Error as _,
    io::{self, Read, Write},
    sync::Arc,
    time::Duration,
};

use git2::{
    Error,
    transport::{Service, SmartSubtransport, SmartSubtransportStream},
};
use reqwest::{
    StatusCode, Url,
    blocking::{Client, ClientBuilder, RequestBuilder, Response},
    header::{ACCEPT, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, LOCATION},
    redirect::Policy,
};

use super::{
    journey::{Advertised, Journey, NamedBy, Trouble},
    pack_stream::PackStream,
    private_network::{self, OpenNetwork},
    ref_stream::RefStream,
};
use crate::git::{GitFailure, LoginProof, progress::plain, remote::Remote};

/// Until the connection stands.
const CONNECT: Duration = Duration::from_secs(30);

const REDIRECTS_MAX: usize = 5;

/// What a list of refs is below its repository.
const SUFFIX: &str = "/info/refs";

/// What a list of refs is called.
const REFS_TYPE: &str = "application/x-git-upload-pack-advertisement";

/// Some servers tell git from browsers by this.
const USER_AGENT: &str = concat!("git/2.0 (landfall ", env!("CARGO_PKG_VERSION"), ")");

/// One remote's connection.
pub(in crate::git) struct Https {
    /// Another one where a redirect leads to a host that the hook vouches for as little as it does for others.
    client: RefCell<Client>,
    /// Moved by a redirect of the first request.
    base: RefCell<Url>,
    login: Option<(String, String)>,
    journey: Journey,
}

impl Https {
    pub(in crate::git) fn new(journey: &Journey) -> Result<Self, GitFailure> {
        let Remote::Http { url, .. } = &journey.remote else {
            return Err(GitFailure::other("this remote is not one for HTTP"));
        };
        let client =
            client_for(journey, journey.is_vouched_for).inspect_err(|failure| journey.trouble.note(failure))?;
        let (client, login) = (RefCell::new(client), login(journey));
        Ok(Self { client, base: RefCell::new(url.clone()), login, journey: journey.clone() })
    }

    /// Asks for the refs, following redirects.
    fn ask_for_refs(&self) -> Result<Response, GitFailure> {
        let mut url = below(&self.base.borrow(), "info/refs");
        url.set_query(Some("service=git-upload-pack"));
        for _ in 0..=REDIRECTS_MAX {
            let request = self.client.borrow().get(url.clone()).header(CACHE_CONTROL, "no-cache");
            let answer = send(self.with_login(request), &url)?;
            if !answer.status().is_redirection() {
                if let Some(path) = url.path().strip_suffix(SUFFIX) {
                    let mut base = url.clone();
                    base.set_query(None);
                    base.set_path(path);
                    self.base.replace(base);
                }
                return judge(answer, &url, REFS_TYPE, (&self.journey, self.login.is_some()));
            }
            url = self.redirected(&url, &answer)?;
        }
        Err(GitFailure::permanent(format!("`{}` redirects more than {REDIRECTS_MAX} times", shown(&url))))
    }

    /// Where a redirect of the first request leads. The URL of a submodule is whatever a commit says, so where nothing is
    /// shown, another one is as good, if it is judged as that was.
    fn redirected(&self, url: &Url, answer: &Response) -> Result<Url, GitFailure> {
        let named_by = &self.journey.named_by;
        let target = target(url, answer)?;
        let remote = Remote::Http { url: target.clone(), login: None };
        match named_by {
            NamedBy::Hook => redirected(url, answer),
            NamedBy::Gitmodules { .. } if stays(url, &target) => Ok(target),
            NamedBy::Gitmodules { .. } if self.login.is_none() && may_lead_elsewhere(url, &target) => {
                let is_vouched_for = private_network::judge(&remote, named_by).map_err(|why| GitFailure {
                    reason: format!("`{}` redirects: {}", shown(url), why.reason),
                    ..why
                })?;
                self.client.replace(client_for(&self.journey, is_vouched_for)?);
                Ok(target)
            }
            NamedBy::Gitmodules { .. } => Err(GitFailure::permanent(format!(
                "`{}` redirects to `{}`; if that is right, change its URL in `.gitmodules`",
                shown(url),
                shown(&target)
            ))),
        }
    }

    fn with_login(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.login {
            Some((username, password)) => request.basic_auth(username, Some(password)),
            None => request,
        }
    }
}

/// The client of a journey, to a host that the hook vouches for, or to another one.
fn client_for(journey: &Journey, is_vouched_for: bool) -> Result<Client, GitFailure> {
    match is_vouched_for {
        true => client(journey.silence),
        false => client_of_open_network(journey.silence),
    }
}

/// A client that follows no redirect by itself.
pub(in crate::git) fn client(silence: Duration) -> Result<Client, GitFailure> {
    built(builder(silence))
}

/// Such a client that reaches no host of a private network.
pub(in crate::git) fn client_of_open_network(silence: Duration) -> Result<Client, GitFailure> {
    // A proxy would look up names by itself.
    built(builder(silence).dns_resolver(Arc::new(OpenNetwork)).no_proxy())
}

/// The beginning of such a client.
fn builder(silence: Duration) -> ClientBuilder {
    // In reqwest's blocking client the time-out is one of each wait, for an answer or for more of it.
    let builder = Client::builder().redirect(Policy::none()).connect_timeout(CONNECT.min(silence)).timeout(silence);
    builder.user_agent(USER_AGENT)
}

fn built(builder: ClientBuilder) -> Result<Client, GitFailure> {
    let client = builder.build();
    client.map_err(|err| GitFailure::other(format!("cannot set up HTTPS: {}", clause(err))))
}

/// What is shown to the server: the hook's token, else what is written into the remote.
pub(in crate::git) fn login(journey: &Journey) -> Option<(String, String)> {
    match &journey.proof {
        Some(LoginProof::Token { username, token }) => Some((username.clone(), token.expose().to_owned())),
        Some(LoginProof::SshKey { .. }) | None => journey.remote.login().cloned(),
    }
}

impl SmartSubtransport for Https {
    fn action(&self, _url: &str, service: Service) -> Result<Box<dyn SmartSubtransportStream>, Error> {
        match service {
            Service::UploadPackLs => {
                let answer = self.ask_for_refs().inspect_err(|failure| self.journey.trouble.note(failure));
                let answer = answer.map_err(|failure| Error::from_str(&failure.reason))?;
                let exchange = Exchange::Answered(Box::new(answer));
                let refs = Some(Advertised::new());
                Ok(Box::new(RefStream::new(HttpStream { exchange, refs, journey: self.journey.clone() })))
            }
            Service::UploadPack => {
                let url = below(&self.base.borrow(), "git-upload-pack");
                let request = self.client.borrow().post(url.clone());
                let request = request.header(CONTENT_TYPE, "application/x-git-upload-pack-request");
                let request = self.with_login(request.header(ACCEPT, "application/x-git-upload-pack-result"));
                let has_login = self.login.is_some();
                let exchange = Exchange::Asking { request: Box::new(request), url, body: Vec::new(), has_login };
                let stream = HttpStream { exchange, refs: None, journey: self.journey.clone() };
                Ok(Box::new(PackStream::new(stream, &self.journey)))
            }
            Service::ReceivePackLs | Service::ReceivePack => Err(Error::from_str("nothing is ever pushed")),
        }
    }

    fn close(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// One request and its answer; libgit2 writes all of the one, then reads the other.
struct HttpStream {
    exchange: Exchange,
    /// Where the answer is a list of refs: how long it is so far.
    refs: Option<Advertised>,
    journey: Journey,
}

enum Exchange {
    Asking { request: Box<RequestBuilder>, url: Url, body: Vec<u8>, has_login: bool },
    Answered(Box<Response>),
    Broken,
}

fn note(trouble: &Trouble, failure: GitFailure) -> io::Error {
    trouble.note(&failure);
    io::Error::other(failure.reason)
}

impl Read for HttpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if matches!(self.exchange, Exchange::Asking { .. })
            && let Exchange::Asking { request, url, body, has_login } =
                std::mem::replace(&mut self.exchange, Exchange::Broken)
        {
            let answer = send(request.body(body), &url).and_then(|answer| {
                judge(answer, &url, "application/x-git-upload-pack-result", (&self.journey, has_login))
            });
            self.exchange =
                Exchange::Answered(Box::new(answer.map_err(|failure| note(&self.journey.trouble, failure))?));
        }
        match &mut self.exchange {
            Exchange::Answered(answer) => {
                let (silence, trouble) = (self.journey.silence, &self.journey.trouble);
                let host = answer.url().host_str().unwrap_or_default().to_owned();
                let length = answer.read(buffer).map_err(|err| {
                    let silent = || format!("`{host}` fell silent for {} seconds", silence.as_secs_f32());
                    let cause = err.get_ref().and_then(|it| it.downcast_ref::<reqwest::Error>());
                    let is_silence =
                        err.kind() == io::ErrorKind::TimedOut || cause.is_some_and(reqwest::Error::is_timeout);
                    let broken = || format!("`{host}` broke off: {}", interruption(err));
                    note(trouble, GitFailure::fetch(if is_silence { silent() } else { broken() }))
                })?;
                if let Some(refs) = &mut self.refs {
                    refs.add(length, &self.journey)?;
                }
                Ok(length)
            }
            Exchange::Asking { .. } | Exchange::Broken => Err(io::Error::other("this request has failed before")),
        }
    }
}

impl Write for HttpStream {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        match &mut self.exchange {
            Exchange::Asking { body, .. } => {
                body.extend_from_slice(piece);
                Ok(piece.len())
            }
            Exchange::Answered(_) | Exchange::Broken => Err(io::Error::other("this request has been sent")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(in crate::git) fn below(base: &Url, name: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{name}", base.path().trim_end_matches('/')));
    url
}

pub(in crate::git) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    plain(url.as_str().trim_end_matches("/info/refs").trim_end_matches("/git-upload-pack").as_bytes())
}

pub(in crate::git) fn send(request: RequestBuilder, url: &Url) -> Result<Response, GitFailure> {
    request.send().map_err(|err| {
        if let Some(why) = distrust(&err) {
            return GitFailure::permanent(format!(
                "cannot trust `{}`: {why} (a private authority goes into the system's CA bundle, or into SSL_CERT_FILE \
                 of the daemon)",
                url.host_str().unwrap_or_default()
            ));
        }
        let why = match err.is_timeout() {
            true => "no answer in time".to_owned(),
            false => clause(err),
        };
        GitFailure::fetch(format!("cannot reach `{}`: {why}", shown(url)))
    })
}

/// Why TLS turned the server away, if it did.
fn distrust(err: &reqwest::Error) -> Option<String> {
    match tls_error(err.source()?)? {
        tls @ rustls::Error::InvalidCertificate(_) => Some(plain(tls.to_string().as_bytes())),
        _ => None,
    }
}

/// The error of rustls below this one. An `io::Error` does not name the error it wraps as its source.
fn tls_error<'a>(err: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(tls) = err.downcast_ref() {
        return Some(tls);
    }
    match err.downcast_ref::<io::Error>() {
        Some(wrapper) => tls_error(wrapper.get_ref()?),
        None => tls_error(err.source()?),
    }
}

/// Why an answer ended too early.
fn interruption(err: io::Error) -> String {
    match err.downcast::<reqwest::Error>() {
        Ok(err) => clause(err),
        Err(err) => with_causes(&err),
    }
}

/// An error with all its causes, without the URL.
fn clause(err: reqwest::Error) -> String {
    with_causes(&err.without_url())
}

fn with_causes(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    let mut cause = err.source();
    while let Some(err) = cause {
        let next = err.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = err.source();
    }
    plain(text.as_bytes())
}

/// Where a redirect leads.
fn target(url: &Url, answer: &Response) -> Result<Url, GitFailure> {
    let location = answer.headers().get(LOCATION).and_then(|it| it.to_str().ok());
    let target = location.and_then(|it| url.join(it).ok());
    target.ok_or_else(|| GitFailure::permanent(format!("`{}` redirects to nowhere", shown(url))))
}

/// Whether a redirect stays with the host.
fn stays(url: &Url, target: &Url) -> bool {
    let is_upgrade = url.scheme() == "http" && target.scheme() == "https";
    let is_same_port = url.port_or_known_default() == target.port_or_known_default();
    url.host_str() == target.host_str() && (is_upgrade || is_same_port && url.scheme() == target.scheme())
}

/// Whether a redirect to another host leads to a list of refs, shows nothing there, and is no less safe.
fn may_lead_elsewhere(url: &Url, target: &Url) -> bool {
    let is_as_safe = target.scheme() == "https" || url.scheme() == "http" && target.scheme() == "http";
    is_as_safe && target.username().is_empty() && target.password().is_none() && target.path().ends_with(SUFFIX)
}

/// Where a redirect leads, if it stays with the host.
pub(in crate::git) fn redirected(url: &Url, answer: &Response) -> Result<Url, GitFailure> {
    let target = target(url, answer)?;
    if !stays(url, &target) {
        let (from, to) = (shown(url), shown(&target));
        return Err(GitFailure::permanent(format!(
            "`{from}` redirects to `{to}`; if that is right, make it the remote"
        )));
    }
    Ok(target)
}

/// Whether a list of refs is the file that a web server without git hands out
/// (<https://git-scm.com/docs/gitprotocol-http>, "Dumb Clients").
fn is_dumb(answer: Response) -> bool {
    const ID_AND_TAB: u64 = 41;
    let mut begin = Vec::new();
    let is_read = answer.take(ID_AND_TAB).read_to_end(&mut begin).is_ok();
    is_read && begin.len() == 41 && begin[..40].iter().all(u8::is_ascii_hexdigit) && begin[40] == b'\t'
}

/// How we get in where we show nothing.
fn access(url: &Url, journey: &Journey) -> String {
    let is_own = matches!(&journey.remote, Remote::Http { url: own, .. } if stays(own, url));
    let host = (Remote::Http { url: url.clone(), login: None }).host().unwrap_or_default();
    match journey.named_by {
        NamedBy::Hook => "`deploy.credentials` sets them".to_owned(),
        NamedBy::Gitmodules { .. } if !is_own => {
            "a redirect led there, and nothing is shown where one leads: change its URL in `.gitmodules`".to_owned()
        }
        NamedBy::Gitmodules { .. } if journey.remote.is_in_the_clear() => {
            "a submodule is shown none over plain http: change its URL in `.gitmodules` to one of https".to_owned()
        }
        NamedBy::Gitmodules { .. } => format!("add one with `host: {host}` to `deploy.credentials`"),
    }
}

/// The answer, if it is one of a git server that lets us in.
fn judge(
    answer: Response,
    url: &Url,
    media_type: &str,
    (journey, has_login): (&Journey, bool),
) -> Result<Response, GitFailure> {
    let status = answer.status();
    let shown = shown(url);
    let refused = match status {
        StatusCode::UNAUTHORIZED if has_login => format!("`{shown}` does not accept the token"),
        StatusCode::UNAUTHORIZED => {
            format!("`{shown}` asks for credentials (or is not there): {}", access(url, journey))
        }
        StatusCode::FORBIDDEN if !has_login => {
            format!("`{shown}` is forbidden to us, who show nothing there: {}", access(url, journey))
        }
        StatusCode::FORBIDDEN => format!("`{shown}` is forbidden to us: the token has no right to read it"),
        StatusCode::NOT_FOUND | StatusCode::GONE if has_login => {
            format!("there is no repository at `{shown}`, or the token may not read it")
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            format!("there is no repository at `{shown}`, or it is private: {}", access(url, journey))
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            return Err(GitFailure::fetch(format!("`{shown}` answers {status}")));
        }
        _ if status.is_server_error() => return Err(GitFailure::fetch(format!("`{shown}` answers {status}"))),
        _ if !status.is_success() => format!("`{shown}` answers {status}"),
        _ if answer.headers().get(CONTENT_ENCODING).is_some_and(|it| it.as_bytes() != b"identity") => {
            format!("`{shown}` answers compressed (`Content-Encoding`), which nobody asked for: switch that off there")
        }
        _ if answer.headers().get(CONTENT_TYPE).is_none_or(|it| it.as_bytes() != media_type.as_bytes()) => {
            match media_type == REFS_TYPE && is_dumb(answer) {
                true => format!(
                    "`{shown}` speaks git's dumb protocol alone, which Landfall does not: have its web server hand \
                     requests on to `git http-backend` (git-http-backend(1))"
                ),
                false => format!("`{shown}` does not answer as a git server does"),
            }
        }
        _ => return Ok(answer),
    };
    Err(GitFailure::permanent(refused))
}

#[cfg(test)]
mod tests {
    use reqwest::Url;

    use super::may_lead_elsewhere;

    #[test]
    fn a_redirect_to_another_host_is_no_less_safe_and_leads_to_a_list_of_refs() {
        let may_lead = |from: &str, to: &str| {
            let url = |text: &str| Url::parse(text).expect(text);
            may_lead_elsewhere(&url(from), &url(to))
        };
        let from = "https://www.example.org/a/info/refs?service=git-upload-pack";
        assert!(may_lead(from, "https://example.org/a/info/refs?service=git-upload-pack"));
        assert!(may_lead("http://www.example.org/a/info/refs", "http://example.org/a/info/refs"));
        for to in [
            "http://example.org/a/info/refs",
            "https://x:y@example.org/a/info/refs",
            "https://x@example.org/a/info/refs",
            "https://example.org/login",
            "file:///a/info/refs",
            "ftp://example.org/a/info/refs",
        ] {
            assert!(!may_lead(from, to), "{to}");
        }
    }
}
