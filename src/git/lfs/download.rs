//! Fetches files by the batch API of Git LFS
//! (<https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md>).
//!
//! Invariant: an answer is read up to a limit, a file streams to disk, and no header line meant for one host is shown to
//! another.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use reqwest::{
    Url,
    blocking::{RequestBuilder, Response},
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION},
};
use serde::{Deserialize, Serialize};

use super::{
    Pointer, Wanted,
    endpoint::{Server, Source},
    store::{Refused, Store},
};
use crate::git::{GitFailure, progress::plain, transport::https};

const MEDIA_TYPE: &str = "application/vnd.git-lfs+json";

/// Objects that are asked for at once, as git-lfs does.
const BATCH: usize = 100;

/// What an answer about a batch may take.
const ANSWER_BYTES_MAX: u64 = 8 << 20;

/// Files that come in at once.
const THREADS: usize = 4;

const REDIRECTS_MAX: usize = 5;

/// Fetches all of these.
pub(super) fn all(source: &Source, store: &Store, wanted: &Wanted) -> Result<(), GitFailure> {
    let wanted: Vec<(&Pointer, &[u8])> = wanted.iter().map(|(pointer, path)| (pointer, path.as_slice())).collect();
    match source {
        Source::Folder(folder) => wanted.iter().try_for_each(|(pointer, path)| {
            let (oid, size) = (&pointer.oid, pointer.size);
            let file = folder.join(&oid[..2]).join(&oid[2..4]).join(oid);
            let mut file = File::open(&file)
                .map_err(|err| failed(path, &format!("cannot read `{}` ({size} bytes): {err}", file.display())))?;
            taken(store.take(pointer, &mut file), path)
        }),
        Source::Server(server) => wanted.chunks(BATCH).try_for_each(|batch| server.fetch_batch(store, batch)),
    }
}

/// A failure that no other try mends.
fn failed(path: &[u8], why: &str) -> GitFailure {
    GitFailure::permanent(format!("cannot fetch `{}` from Git LFS: {why}", plain(path)))
}

/// A failure that may pass.
fn passing(path: &[u8], why: &str) -> GitFailure {
    GitFailure::fetch(failed(path, why).reason)
}

fn taken(result: Result<(), Refused>, path: &[u8]) -> Result<(), GitFailure> {
    result.map_err(|refused| match refused {
        Refused::Other(why) => failed(path, why),
        Refused::BrokeOff(err) => passing(path, &format!("it broke off: {err}")),
        Refused::Unwritten(err) => GitFailure::other(format!("cannot write `{}` from Git LFS: {err}", plain(path))),
    })
}

#[derive(Serialize)]
struct FileRequest<'a> {
    operation: &'static str,
    transfers: [&'static str; 1],
    objects: Vec<FileWanted<'a>>,
    hash_algo: &'static str,
}

#[derive(Serialize)]
struct FileWanted<'a> {
    oid: &'a str,
    size: u64,
}

#[derive(Deserialize)]
struct FileAnswer {
    transfer: Option<String>,
    objects: Vec<FileObject>,
}

#[derive(Deserialize)]
struct FileObject {
    oid: String,
    actions: Option<FileActions>,
    error: Option<FileError>,
}

#[derive(Deserialize)]
struct FileActions {
    download: Option<FileAction>,
}

#[derive(Deserialize)]
struct FileAction {
    href: String,
    #[serde(default)]
    header: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct FileError {
    code: u16,
    #[serde(default)]
    message: String,
}

impl Server {
    fn fetch_batch(&self, store: &Store, batch: &[(&Pointer, &[u8])]) -> Result<(), GitFailure> {
        let answer = self.ask(batch)?;
        let next = AtomicUsize::new(0);
        let labour = || -> Result<(), GitFailure> {
            while let Some((pointer, path)) = batch.get(next.fetch_add(1, Ordering::Relaxed)) {
                let action = action(&answer, pointer, path)?;
                let result = self.download(action, path).and_then(|mut it| taken(store.take(pointer, &mut it), path));
                // The others need not go on.
                result.inspect_err(|_| next.store(batch.len(), Ordering::Relaxed))?;
            }
            Ok(())
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (1..THREADS.min(batch.len())).map(|_| scope.spawn(labour)).collect();
            let mine = labour();
            let others =
                threads.into_iter().map(|it| it.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            others.fold(mine, |result, other| result.and(other))
        })
    }

    /// Asks where a batch of files is.
    fn ask(&self, batch: &[(&Pointer, &[u8])]) -> Result<FileAnswer, GitFailure> {
        let objects = batch.iter().map(|(it, _)| FileWanted { oid: &it.oid, size: it.size }).collect();
        let request = FileRequest { operation: "download", transfers: ["basic"], objects, hash_algo: "sha256" };
        let body = serde_json::to_vec(&request).expect("a request is strings and numbers");
        let mut url = https::below(&self.base, "objects/batch");
        for _ in 0..=REDIRECTS_MAX {
            let request = self.guide.post(&url)?.header(ACCEPT, MEDIA_TYPE).header(CONTENT_TYPE, MEDIA_TYPE);
            let answer = https::send(self.with_login(request, &self.headers).body(body.clone()), &url)?;
            if answer.status().is_redirection() {
                url = https::redirected(&url, &answer)?;
                continue;
            }
            return read_answer(answer, &url, self.login.is_some() || !self.headers.is_empty());
        }
        Err(GitFailure::permanent(format!("`{}` redirects more than {REDIRECTS_MAX} times", https::shown(&url))))
    }

    /// Adds the given header lines, and the login where they do not say who we are.
    fn with_login(&self, mut request: RequestBuilder, headers: &BTreeMap<String, String>) -> RequestBuilder {
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let names_us = headers.keys().any(|it| it.eq_ignore_ascii_case(AUTHORIZATION.as_str()));
        match &self.login {
            Some((username, password)) if !names_us => request.basic_auth(username, Some(password)),
            Some(_) | None => request,
        }
    }

    /// Begins to fetch one file. A redirect to another host takes nothing along.
    fn download(&self, action: &FileAction, path: &[u8]) -> Result<Response, GitFailure> {
        let parse = |text: &str| Url::parse(text).ok().filter(|it| matches!(it.scheme(), "https" | "http"));
        let mut url = parse(&action.href).ok_or_else(|| failed(path, "the server names no web address for it"))?;
        let mut headers = Some(&action.header);
        for _ in 0..=REDIRECTS_MAX {
            let request = self.guide.get(&url)?;
            let request = match headers {
                Some(headers) if url.origin() == self.base.origin() => self.with_login(request, headers),
                Some(headers) => headers.iter().fold(request, |request, (name, value)| request.header(name, value)),
                None => request,
            };
            let answer = https::send(request, &url)?;
            let status = answer.status();
            if status.is_redirection() {
                let location = answer.headers().get(LOCATION).and_then(|it| it.to_str().ok());
                let target = location.and_then(|it| url.join(it).ok()).and_then(|it| parse(it.as_str()));
                let target = target.ok_or_else(|| failed(path, "the server redirects to nowhere"))?;
                if target.origin() != url.origin() {
                    headers = None;
                }
                url = target;
                continue;
            }
            let why = format!("`{}` answers {status}", url.host_str().unwrap_or_default());
            return match status.as_u16() {
                _ if status.is_success() => Ok(answer),
                408 | 429 => Err(passing(path, &why)),
                _ if status.is_server_error() => Err(passing(path, &why)),
                _ => Err(failed(path, &why)),
            };
        }
        Err(failed(path, &format!("it is redirected more than {REDIRECTS_MAX} times")))
    }
}

fn read_answer(answer: Response, url: &Url, has_login: bool) -> Result<FileAnswer, GitFailure> {
    let (status, shown) = (answer.status(), https::shown(url));
    let refused = match status.as_u16() {
        _ if status.is_success() => {
            let mut text = Vec::new();
            let read = answer.take(ANSWER_BYTES_MAX).read_to_end(&mut text);
            read.map_err(|err| GitFailure::fetch(format!("`{shown}` broke off: {err}")))?;
            let parsed: FileAnswer = serde_json::from_slice(&text)
                .map_err(|err| GitFailure::permanent(format!("`{shown}` does not answer as Git LFS does: {err}")))?;
            return match parsed.transfer.as_deref() {
                None | Some("basic") => Ok(parsed),
                Some(other) => Err(GitFailure::permanent(format!(
                    "`{shown}` offers its Git LFS by `{}` alone, which we do not speak",
                    plain(other.as_bytes())
                ))),
            };
        }
        401 | 403 if has_login => {
            format!("`{shown}` does not let us read its Git LFS: the credentials have no right to it")
        }
        401 | 403 => {
            format!("`{shown}` asks for credentials for its Git LFS: set `deploy.credentials`")
        }
        404 => format!("there is no Git LFS at `{shown}`, or we may not read it"),
        408 | 429 => {
            return Err(GitFailure::fetch(format!("`{shown}` answers {status}")));
        }
        _ if status.is_server_error() => return Err(GitFailure::fetch(format!("`{shown}` answers {status}"))),
        _ => format!("`{shown}` answers {status}"),
    };
    Err(GitFailure::permanent(refused))
}

/// How the server gives one file.
fn action<'a>(answer: &'a FileAnswer, pointer: &Pointer, path: &[u8]) -> Result<&'a FileAction, GitFailure> {
    let object = answer.objects.iter().find(|it| it.oid == pointer.oid);
    let object = object.ok_or_else(|| failed(path, "the server says nothing of it"))?;
    if let Some(error) = &object.error {
        let why = format!("the server says {} {}", error.code, plain(error.message.as_bytes()));
        return Err(if error.code >= 500 { passing(path, &why) } else { failed(path, &why) });
    }
    let action = object.actions.as_ref().and_then(|it| it.download.as_ref());
    action.ok_or_else(|| failed(path, "the server does not say where it is"))
}
