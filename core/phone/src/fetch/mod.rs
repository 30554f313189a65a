//! What a phone fetches once it knows from where: which files, in which order, and what they refer to.

mod http;
mod tftp;

use std::{
    collections::HashSet,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use bytes::Bytes;
use provost_plugin::spec::Simulation;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::{
    outcome::{Finding, seconds},
    phone::{Door, Options},
    placeholders::Words,
    url::{Scheme, Url},
};

/// No vendor's files refer to more; a loop of references ends here.
const MOST_FILES: usize = 32;
/// Firmware fits; what is larger is a mistake.
const MOST_BYTES: usize = 256 << 20;

/// A file that was asked for.
#[derive(Clone, Debug, Serialize)]
pub struct Fetched {
    #[serde(serialize_with = "shown")]
    pub url: Url,
    pub status: Status,
    /// Content-Type, over HTTP.
    pub content_type: Option<String>,
    pub bytes: usize,
    /// Of the content, in hex.
    pub sha256: Option<String>,
    /// The content, if the options say that it is kept.
    #[serde(skip)]
    pub body: Option<Bytes>,
    #[serde(serialize_with = "seconds")]
    pub elapsed: Duration,
}

impl Fetched {
    pub fn is_found(&self) -> bool {
        self.status == Status::Found
    }

    /// The content as text; empty if there is none.
    pub fn text(&self) -> String {
        self.body.as_ref().map(|body| String::from_utf8_lossy(body).into_owned()).unwrap_or_default()
    }
}

impl fmt::Display for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.status {
            Status::Found => write!(f, "{} {} bytes", self.url, self.bytes),
            Status::Refused { code, message } => write!(f, "{} {code} {message}", self.url),
            Status::Failed(why) => write!(f, "{} {why}", self.url),
        }
    }
}

/// The door told these apart; beyond it they are the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Found,
    /// The server said no: an HTTP status, or the code of a TFTP ERROR.
    Refused {
        code: u16,
        message: String,
    },
    /// No answer that could be used.
    Failed(String),
}

/// What a door brought.
struct Answer {
    status: Status,
    content_type: Option<String>,
    body: Bytes,
}

impl Answer {
    fn failed(why: impl Into<String>) -> Answer {
        Answer { status: Status::Failed(why.into()), content_type: None, body: Bytes::new() }
    }

    fn refused(code: u16, message: impl Into<String>) -> Answer {
        Answer { status: Status::Refused { code, message: message.into() }, content_type: None, body: Bytes::new() }
    }
}

pub(crate) struct Fetcher<'a> {
    pub(crate) simulation: &'a Simulation,
    pub(crate) options: &'a Options,
    pub(crate) words: &'a Words,
    pub(crate) findings: Vec<Finding>,
}

impl Fetcher<'_> {
    /// Fetches all that a phone told `url` would, and says whether it is then configured.
    pub(crate) async fn fetch(&mut self, told: &str) -> Result<(Vec<Fetched>, bool), String> {
        let url = self.through_door(Url::parse(&self.meant(told))?);
        let mut files = Vec::new();
        let mut asked = HashSet::new();
        // Whoever is told a directory asks for its own file among others; whoever is told a file takes that for its own.
        let own = self.simulation.fetch.iter().any(|name| name.contains("{mac") || name.contains("{MAC"));
        let needs_own = own && url.is_directory();
        if url.is_directory() {
            for name in &self.simulation.fetch {
                let file = url.join(&self.words.expand(name))?;
                if self.tree(file, &mut files, &mut asked).await && self.simulation.first_only {
                    break;
                }
            }
        } else {
            self.tree(url, &mut files, &mut asked).await;
        }
        let mac = self.words.mac.bare();
        let configured = files.iter().any(|file| {
            file.is_found() && file.bytes > 0 && (!needs_own || file.url.path.to_ascii_lowercase().contains(&mac))
        });
        // What did not come at all may yet: a phone that lacks half of its files boots again.
        let is_whole = !files.iter().any(|file| matches!(file.status, Status::Failed(_)));
        Ok((files, configured && is_whole))
    }

    /// One file and, right after it, those that it refers to: that is the order in which phones apply them.
    async fn tree(&mut self, url: Url, files: &mut Vec<Fetched>, asked: &mut HashSet<Url>) -> bool {
        let mut found = None;
        let mut next = vec![url];
        while let Some(url) = next.pop() {
            if files.len() >= MOST_FILES {
                self.findings
                    .push(Finding::new("files: they refer to ever more files", format!("stopped before {url}")));
                break;
            }
            if !asked.insert(url.clone()) {
                continue;
            }
            let (mut file, body) = self.one(url).await;
            found.get_or_insert(file.is_found());
            let references = self.references(&file, &body);
            next.extend(references.into_iter().rev());
            file.body = self.options.keep_bodies.then_some(body);
            files.push(file);
        }
        found.unwrap_or(false)
    }

    fn references(&mut self, file: &Fetched, body: &Bytes) -> Vec<Url> {
        let Some(follow) = self.simulation.follow.as_ref().filter(|_| file.is_found()) else { return Vec::new() };
        let text = String::from_utf8_lossy(body);
        let mut references = Vec::new();
        for found in follow.0.captures_iter(&text).filter_map(|captures| captures.get(1)) {
            // In XML an ampersand of a query is written as its entity; in no other format does a URL hold that.
            let reference = found.as_str().trim().replace("&amp;", "&");
            let reference = self.meant(&reference);
            match file.url.join(&reference) {
                Ok(url) => references.push(self.through_door(url)),
                Err(why) => self
                    .findings
                    .push(Finding::new("files: a reference that cannot be fetched", format!("{reference}: {why}"))),
            }
        }
        references
    }

    /// A URL or name with the phone's own words in the place of its macros.
    fn meant(&self, text: &str) -> String {
        let macros = self.simulation.macros.iter();
        self.words.expand(&macros.fold(text.to_owned(), |text, (word, meant)| text.replace(word, meant)))
    }

    fn through_door(&self, url: Url) -> Url {
        match self.options.door {
            Door::AsTold => url,
            Door::Over { scheme, port } => Url { scheme, port, ..url },
        }
    }

    async fn one(&mut self, url: Url) -> (Fetched, Bytes) {
        let started = Instant::now();
        let answer = match resolve(&url).await {
            Err(why) => Answer::failed(why),
            Ok(server) => match url.scheme {
                Scheme::Http => {
                    let user_agent = self.words.expand(&self.simulation.user_agent);
                    http::get(&url, server, self.words.ip, &user_agent, self.options).await
                }
                Scheme::Tftp => {
                    tftp::read(
                        url.path.trim_start_matches('/'),
                        server,
                        self.words.ip,
                        self.options,
                        &mut self.findings,
                    )
                    .await
                }
            },
        };
        let found = answer.status == Status::Found;
        let file = Fetched {
            url,
            status: answer.status,
            content_type: answer.content_type,
            bytes: if found { answer.body.len() } else { 0 },
            sha256: found.then(|| Sha256::digest(&answer.body).iter().map(|byte| format!("{byte:02x}")).collect()),
            body: None,
            elapsed: started.elapsed(),
        };
        tracing::debug!(url = %file.url, status = ?file.status, bytes = file.bytes, "fetched");
        (file, answer.body)
    }
}

async fn resolve(url: &Url) -> Result<SocketAddr, String> {
    if let Ok(ip) = url.host.parse::<Ipv4Addr>() {
        return Ok(SocketAddr::new(IpAddr::V4(ip), url.port));
    }
    let found = tokio::net::lookup_host((url.host.as_str(), url.port))
        .await
        .map_err(|error| format!("cannot look up {}: {error}", url.host))?;
    found.into_iter().find(SocketAddr::is_ipv4).ok_or_else(|| format!("{} has no IPv4 address", url.host))
}

fn shown<S: Serializer>(url: &Url, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(url)
}
