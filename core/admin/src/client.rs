//! Asks a running server: for the command line, and for tests. HTTP/1.1 with the key that the server wrote; plain, or over TLS with a
//! server whose certificate is known.

use std::{fs, io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{pinned, problem::Problem};

/// The longest that a question may take: an edit of a great fleet is tried on each device first.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot read the key {path}: {error}. Is the server running, and may you read its state directory?")]
    Key { path: String, error: io::Error },
    #[error("cannot read the certificate of the server, {path}: {error}")]
    Certificate { path: String, error: io::Error },
    #[error("the server at {address} does not show the certificate of {path}, or speaks no TLS: {error}")]
    Stranger { address: SocketAddr, path: String, error: io::Error },
    #[error("cannot reach the server at {address}: {error}")]
    Unreachable { address: SocketAddr, error: io::Error },
    #[error("the server at {address} broke off: {error}")]
    BrokeOff { address: SocketAddr, error: hyper::Error },
    #[error("the server at {address} did not answer within {} s", PATIENCE.as_secs())]
    Late { address: SocketAddr },
    /// It answered with a problem.
    #[error("{}", said(.0))]
    Refused(Box<Problem>),
    #[error("the answer of {address} is none of Provost's (status {status})")]
    Foreign { address: SocketAddr, status: StatusCode },
}

fn said(problem: &Problem) -> String {
    let mut text = problem.detail.clone();
    for wrong in &problem.errors {
        if !text.contains(&wrong.message) {
            text.push_str(&format!("\n  {}: {}", wrong.at, wrong.message));
        }
    }
    text
}

/// A running server.
#[derive(Clone, Debug)]
pub struct Client {
    address: SocketAddr,
    key: String,
    /// The file of its certificate, where it is asked over TLS.
    tls: Option<(String, Arc<ClientConfig>)>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub version: Option<String>,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Client {
    /// The server whose key lies at `path`.
    pub fn new(address: SocketAddr, path: &Path) -> Result<Client, ClientError> {
        let key =
            fs::read_to_string(path).map_err(|error| ClientError::Key { path: path.display().to_string(), error })?;
        Ok(Client { address, key: key.trim().to_owned(), tls: None })
    }

    /// The same over TLS, if it shows a certificate of this PEM file.
    pub fn over_tls(self, certificate: &Path) -> Result<Client, ClientError> {
        let path = certificate.display().to_string();
        match pinned::config(certificate) {
            Ok(config) => Ok(Client { tls: Some((path, config)), ..self }),
            Err(error) => Err(ClientError::Certificate { path, error }),
        }
    }

    pub async fn get(&self, path: &str) -> Result<Answer, ClientError> {
        self.ask(Method::GET, path, &[], Bytes::new()).await
    }

    /// Sends JSON.
    pub async fn send(&self, method: Method, path: &str, body: &Value) -> Result<Answer, ClientError> {
        let body = serde_json::to_vec(body).unwrap_or_default();
        self.ask(method, path, &[(header::CONTENT_TYPE, "application/json")], body.into()).await
    }

    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(header::HeaderName, &str)],
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        let address = self.address;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, address.to_string())
            .header(header::AUTHORIZATION, format!("Bearer {}", self.key));
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let request = request.body(Full::new(body)).map_err(|error| ClientError::Unreachable {
            address,
            error: io::Error::new(io::ErrorKind::InvalidInput, error),
        })?;
        let late = Err(ClientError::Late { address });
        tokio::time::timeout(PATIENCE, self.exchange(request)).await.unwrap_or(late)
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, ClientError> {
        let address = self.address;
        let stream = TcpStream::connect(address).await.map_err(|error| ClientError::Unreachable { address, error })?;
        let Some((path, config)) = &self.tls else { return self.converse(stream, request).await };
        let name = ServerName::IpAddress(address.ip().into());
        let shaken = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
        let stream = shaken.map_err(|error| ClientError::Stranger { address, path: path.clone(), error })?;
        self.converse(stream, request).await
    }

    async fn converse(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, ClientError> {
        let address = self.address;
        let broke_off = |error| ClientError::BrokeOff { address, error };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broke_off)?;
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(broke_off)?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(broke_off)?.to_bytes();
        connection.abort();
        let version = head.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok());
        let version = version.map(|tag| tag.trim_matches('"').to_owned());
        if head.status.is_success() {
            return Ok(Answer { status: head.status, version, body });
        }
        match serde_json::from_slice(&body) {
            Ok(problem) => Err(ClientError::Refused(Box::new(problem))),
            Err(_) => Err(ClientError::Foreign { address, status: head.status }),
        }
    }
}
