//! A phone's GET: one connection for one file, from the phone's own address.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpSocket;

use super::{Answer, MOST_BYTES, Status};
use crate::{phone::Options, url::Url};

pub(super) async fn get(url: &Url, server: SocketAddr, from: Ipv4Addr, user_agent: &str, options: &Options) -> Answer {
    let mut last = Answer::failed("it was never tried");
    for attempt in 0..options.fetch_tries.max(1) {
        if attempt > 0 {
            tokio::time::sleep(options.fetch_pause).await;
        }
        last = match tokio::time::timeout(options.fetch_timeout, once(url, server, from, user_agent)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => Answer::failed(why),
            Err(_) => Answer::failed(format!("no complete answer within {:?}", options.fetch_timeout)),
        };
        match last.status {
            // A busy server asks to come back; everything else that it says is final.
            Status::Refused { code: 429 | 503, .. } | Status::Failed(_) => {}
            Status::Found | Status::Refused { .. } => break,
        }
    }
    last
}

async fn once(url: &Url, server: SocketAddr, from: Ipv4Addr, user_agent: &str) -> Result<Answer, String> {
    let socket = TcpSocket::new_v4().map_err(|error| format!("cannot make a socket: {error}"))?;
    // The server may tie a file to the address that announced itself.
    socket.bind(SocketAddr::from((from, 0))).map_err(|error| format!("cannot bind {from}: {error}"))?;
    let stream = socket.connect(server).await.map_err(|error| format!("cannot connect to {server}: {error}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .title_case_headers(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| format!("cannot speak HTTP to {server}: {error}"))?;
    let host = if url.port == 80 { url.host.clone() } else { format!("{}:{}", url.host, url.port) };
    let request = Request::get(&url.path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, user_agent)
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("cannot ask for {}: {error}", url.path))?;
    let exchange = async {
        let response =
            sender.send_request(request).await.map_err(|error| format!("no answer from {server}: {error}"))?;
        let status = response.status();
        let content_type =
            response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = Limited::new(response.into_body(), MOST_BYTES)
            .collect()
            .await
            .map_err(|error| format!("the answer broke off: {error}"))?;
        Ok(if status == StatusCode::OK {
            Answer { status: Status::Found, content_type, body: body.to_bytes() }
        } else {
            Answer::refused(status.as_u16(), status.canonical_reason().unwrap_or_default())
        })
    };
    tokio::pin!(exchange);
    let mut connection = std::pin::pin!(connection);
    // Driven here and not in a task of its own, so that a phone that gives up leaves nothing running.
    tokio::select! {
        answer = &mut exchange => answer,
        closed = &mut connection => match closed {
            // The server has closed after its answer; what it sent is read to the end.
            Ok(()) => tokio::time::timeout(Duration::from_secs(1), exchange).await.unwrap_or_else(|_| Err(format!("{server} closed without an answer"))),
            Err(error) => Err(format!("the connection to {server} broke: {error}")),
        },
    }
}
