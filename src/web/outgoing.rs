//! One HTTP request to the daemon's own public listener.
//!
//! Invariant: it goes to the address it is given and nowhere else; no proxy, no redirect, no name is looked up.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

use crate::{forge::rehearsal::Rehearsal, web::listeners::Local};

type Posted = Result<(u16, Value), Box<dyn std::error::Error + Send + Sync>>;

/// Posts a rehearsal; gives the status and the answer.
pub async fn post(to: impl Into<Local>, path: &str, rehearsal: Rehearsal) -> Posted {
    match to.into() {
        Local::At(address) => exchange(TcpStream::connect(address).await?, &address.to_string(), path, rehearsal).await,
        Local::Unix(socket) => exchange(UnixStream::connect(socket).await?, "localhost", path, rehearsal).await,
    }
}

async fn exchange<S>(stream: S, host: &str, path: &str, rehearsal: Rehearsal) -> Posted
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::post(path).header("host", host);
    for (name, value) in &rehearsal.headers {
        request = request.header(*name, value);
    }
    let request = request.body(Full::new(Bytes::from(rehearsal.body)))?;
    let answer = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status().as_u16();
        Ok::<_, hyper::Error>((status, answer.into_body().collect().await?.to_bytes()))
    };
    let mut answer = std::pin::pin!(answer);
    let (status, body) = tokio::select! {
        answer = &mut answer => answer?,
        ended = connection => { ended?; answer.await? }
    };
    let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
    Ok((status, serde_json::from_slice(&body).unwrap_or_else(|_| text())))
}
