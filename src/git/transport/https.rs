//! Git over `https://` and `http://`, by reqwest and rustls.
//!
//! Invariant: credentials go to the remote's own host alone, and a redirect never leads to another one.

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
    journey::{Advertised, Journey, Trouble},
    pack_stream::PackStream,
    private_network::OpenNetwork,
    ref_stream::RefStream,
};
use crate::git::{GitFailure, LoginProof, progress::plain, remote::Remote};

/// Until the connection stands.
const CONNECT: Duration = Duration::from_secs(30);

const REDIRECTS_MAX: usize = 5;

/// What a list of refs is called.
const REFS_TYPE: &str = "application/x-git-upload-pack-advertisement";

/// Some servers tell git from browsers by this.
const USER_AGENT: &str = concat!("git/2.0 (landfall ", env!("CARGO_PKG_VERSION"), ")");

/// One remote's connection.
pub(in crate::git) struct Https {
    client: Client,
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
        let client = match journey.is_vouched_for {
            true => client(journey.silence),
            false => client_of_open_network(journey.silence),
        };
        let client = client.inspect_err(|failure| journey.trouble.note(failure))?;
        let login = login(journey);
        Ok(Self { client, base: RefCell::new(url.clone()), login, journey: journey.clone() })
    }

    /// Asks for the refs, following redirects on the same host.
    fn ask_for_refs(&self) -> Result<Response, GitFailure> {
        const SUFFIX: &str = "/info/refs";
        let mut url = below(&self.base.borrow(), "info/refs");
        url.set_query(Some("service=git-upload-pack"));
        for _ in 0..=REDIRECTS_MAX {
            let request = self.client.get(url.clone()).header(CACHE_CONTROL, "no-cache");
            let answer = send(self.with_login(request), &url)?;
            if !answer.status().is_redirection() {
                if let Some(path) = url.path().strip_suffix(SUFFIX) {
                    let mut base = url.clone();
                    base.set_query(None);
                    base.set_path(path);
                    self.base.replace(base);
                }
                return judge(answer, &url, REFS_TYPE, self.login.is_some());
            }
            url = redirected(&url, &answer)?;
        }
        Err(GitFailure::permanent(format!("`{}` redirects more than {REDIRECTS_MAX} times", shown(&url))))
    }

    fn with_login(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.login {
            Some((username, password)) => request.basic_auth(username, Some(password)),
            None => request,
        }
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
                let request = self.client.post(url.clone());
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
            let answer = send(request.body(body), &url)
                .and_then(|answer| judge(answer, &url, "application/x-git-upload-pack-result", has_login));
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

/// Where a redirect leads, if it stays with the host.
pub(in crate::git) fn redirected(url: &Url, answer: &Response) -> Result<Url, GitFailure> {
    let location = answer.headers().get(LOCATION).and_then(|it| it.to_str().ok());
    let Some(target) = location.and_then(|it| url.join(it).ok()) else {
        return Err(GitFailure::permanent(format!("`{}` redirects to nowhere", shown(url))));
    };
    let is_upgrade = url.scheme() == "http" && target.scheme() == "https";
    let is_same_port = url.port_or_known_default() == target.port_or_known_default();
    let stays = url.host_str() == target.host_str() && (is_upgrade || is_same_port && url.scheme() == target.scheme());
    if !stays {
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

/// The answer, if it is one of a git server that lets us in.
fn judge(answer: Response, url: &Url, media_type: &str, has_login: bool) -> Result<Response, GitFailure> {
    let status = answer.status();
    let shown = shown(url);
    let refused = match status {
        StatusCode::UNAUTHORIZED if has_login => format!("`{shown}` does not accept the token"),
        StatusCode::UNAUTHORIZED => {
            format!(
                "`{shown}` asks for credentials (or is not there): `deploy.credentials` sets them, and only the host of \
                 `deploy.remote` is shown them"
            )
        }
        StatusCode::FORBIDDEN if !has_login => {
            format!("`{shown}` is forbidden to us, who show nothing there: `deploy.credentials` sets what is shown")
        }
        StatusCode::FORBIDDEN => format!("`{shown}` is forbidden to us: the token has no right to read it"),
        StatusCode::NOT_FOUND | StatusCode::GONE if has_login => {
            format!("there is no repository at `{shown}`, or the token may not read it")
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            format!("there is no repository at `{shown}`, or it is private: set `deploy.credentials`")
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
