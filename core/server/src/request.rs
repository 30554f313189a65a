//! What a phone asks for, once it has left its door, and what the desk says to that.
//!
//! After this point nothing asks whether HTTP or TFTP brought it, except to name the door in a log line.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::SystemTime,
};

use bytes::Bytes;
use provost_plugin::MacAddr;

/// The door a request came through. For logs, counters and `explain`; never for deciding what a file contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Door {
    Pnp,
    Http,
    Tftp,
}

impl Door {
    pub fn as_str(self) -> &'static str {
        match self {
            Door::Pnp => "pnp",
            Door::Http => "http",
            Door::Tftp => "tftp",
        }
    }
}

/// A file asked for, over HTTP or TFTP.
#[derive(Clone, Debug)]
pub struct ConfigRequest {
    pub door: Door,
    /// The path as named by the phone: percent-decoded once, without query and without leading slashes, otherwise untouched.
    /// It is a name to be looked up, never a path to be opened.
    pub path: String,
    pub user_agent: Option<String>,
    pub peer: SocketAddr,
    /// The address of ours that was asked.
    pub local: SocketAddr,
    pub proof: Proof,
}

/// What an asker shows of itself beside its address, as its door checked it. TFTP can show nothing.
#[derive(Clone, Debug, Default)]
pub struct Proof {
    /// Nobody on the way could read along.
    pub encrypted: bool,
    /// It came through another server that is not one of the site's own proxies: its address is that server's.
    pub relayed: bool,
    /// The client certificate, which one of the authorities that this site trusts has signed.
    pub certificate: Option<Arc<ClientCertificate>>,
    pub credentials: Option<Arc<Credentials>>,
    /// The reverse proxy that passed the request on, where it did not come by itself.
    pub via: Option<IpAddr>,
}

/// Whose certificate a client has shown, once its chain was found good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The common name of its subject.
    pub name: String,
    /// Every MAC address that its subject or its alternative names hold.
    pub macs: Vec<MacAddr>,
    /// The common name of the authority that signed it.
    pub issuer: String,
}

/// The words of a client that knows a password, which the desk compares with those of the phone that it claims to be.
#[derive(Clone)]
pub struct Credentials {
    pub method: &'static str,
    /// The target as it stands in the request, which Digest is made over.
    pub target: String,
    /// The header `Authorization`, as it came.
    pub authorization: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(•••)")
    }
}

/// The outcomes, kept apart so that the log, the counters and `explain` can tell "no such phone" from "broken template".
#[derive(Clone, Debug)]
pub enum Fetched {
    Found(ConfigFile),
    /// A file from `assets/`, already confined to that directory; the door streams it.
    Asset(Asset),
    /// Nothing by that name is offered. HTTP 404, TFTP error 1.
    Unknown {
        reason: String,
    },
    /// There is such a file, but not for this asker. HTTP 403, TFTP error 2.
    Refused {
        reason: String,
    },
    /// There is such a file, for who logs in: the values of `WWW-Authenticate`. HTTP 401, TFTP error 2.
    Challenged {
        challenges: Vec<String>,
    },
    /// The asker has tried too much that no phone does, and gets nothing for so many seconds. HTTP 429, TFTP error 2.
    Locked {
        seconds: u64,
    },
    /// There is such a file, and it could not be made. HTTP 500, TFTP error 0. `public` is safe to send; the chain is in the log.
    Failed {
        public: String,
    },
}

/// A rendered configuration file, complete and in memory.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    pub body: Bytes,
    pub content_type: Arc<str>,
    /// Strong ETag without quotes: a digest of the body, so that it is the same across restarts.
    pub etag: String,
    /// When the newest of its sources (profiles, templates, plugin) last changed.
    pub modified: SystemTime,
}

#[derive(Clone, Debug)]
pub struct Asset {
    pub path: PathBuf,
    pub content_type: Arc<str>,
    pub len: u64,
    pub modified: SystemTime,
}

/// Where every fetch ends up. The doors know this trait and nothing behind it.
pub trait Desk: Send + Sync + 'static {
    fn fetch(&self, request: ConfigRequest) -> impl Future<Output = Fetched> + Send;
}

/// The longest name a door passes on, in bytes. Phones ask for some tens.
pub(crate) const LONGEST_NAME: usize = 1024;

/// What both doors make of a path that arrived (already percent-decoded, where that applies) before it becomes [`ConfigRequest::path`].
///
/// The desk only looks names up, so nothing here keeps the disk safe; it keeps log lines whole and odd names out of every later question.
/// The error is a sentence that may be sent.
pub(crate) fn asked_name(path: &str) -> Result<&str, &'static str> {
    let name = path.trim_start_matches('/');
    if name.len() > LONGEST_NAME {
        Err("the name is too long")
    } else if name.chars().any(char::is_control) {
        Err("the name holds a control character")
    } else if name.contains('\\') {
        Err("the name holds a backslash")
    } else if name.split('/').any(|segment| segment == "..") {
        Err("the name points upwards")
    } else {
        Ok(name)
    }
}
