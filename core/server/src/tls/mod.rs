//! What the server shows of itself over TLS, and whose certificates it takes: read from PEM files and tried before they serve.
//!
//! A file that is no good leaves in service what it would have replaced. Whether TLS is offered at all, and to whom, is the door's;
//! making certificates is [`crate::authority`]'s.

mod client;
mod mac;

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    DistinguishedName, RootCertStore, ServerConfig,
    client::danger::HandshakeSignatureValid,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::{
        NoServerSessionStorage, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    {DigitallySignedStruct, SignatureScheme},
};

pub(crate) use self::client::{Shown, date, read_shown};
use crate::{
    authority,
    request::ClientCertificate,
    settings::{ClientCertificates, Settings},
    world::{Finding, Severity},
};

/// A file of certificates is some kilobytes; of what is longer the rest would only cost memory.
const LARGEST_FILE: u64 = 1 << 20;
/// Files of authorities that are read. There are not so many vendors.
const MOST_FILES: usize = 1000;
/// How long before the end of a certificate people are told.
const NEAR: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Tells what holds at this moment: each connection asks anew.
pub type Current = Arc<dyn Fn() -> Arc<Tls> + Send + Sync>;

/// Everything that a handshake needs, as it stands at one moment.
#[derive(Default)]
pub struct Tls {
    pair: Option<Pair>,
    authorities: BTreeMap<PathBuf, Vec<CertificateDer<'static>>>,
    asks: ClientCertificates,
    /// Checks chains against the authorities; none where there are none.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// None where there is nothing to serve with.
    server: Option<Arc<ServerConfig>>,
    /// The same for people, who are not asked for certificates.
    people: Option<Arc<ServerConfig>>,
}

#[derive(Debug, PartialEq)]
struct Pair {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("serves", &self.server.is_some()).field("asks", &self.asks).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads what the settings name. What is no good is found, and stays as it is in `current`.
    pub(crate) fn read(settings: &Settings, current: Option<&Arc<Tls>>) -> (Arc<Tls>, Vec<Finding>) {
        let mut found = Findings::default();
        let https = &settings.https;
        let (authorities, verifier) = match authorities(settings, current, &mut found) {
            authorities if current.is_some_and(|current| current.authorities == authorities) => {
                (authorities, current.and_then(|current| current.verifier.clone()))
            }
            authorities => {
                let verifier = verifier(&authorities);
                (authorities, verifier)
            }
        };
        // Closed, there is nothing to show; but a proxy may still hand over certificates that are to be checked.
        let asks = if https.enabled { https.client_certificates } else { ClientCertificates::Off };
        if asks != ClientCertificates::Off && verifier.is_none() {
            let place = https.client_authorities.clone().unwrap_or_else(|| authority::place(settings));
            let message = match asks {
                ClientCertificates::Required => {
                    "certificates of phones are required, and there is no authority to check them with: nobody is served over HTTPS"
                }
                _ => {
                    "certificates of phones are asked for, and there is no authority to check them with: none is taken"
                }
            };
            found.error(&place, message.to_owned(), false);
        }
        let pair = if https.enabled || settings.admin.tls { pair(settings, current, &mut found) } else { None };
        let same =
            |current: &&Arc<Tls>| (&current.pair, &current.authorities, current.asks) == (&pair, &authorities, asks);
        // The same object, so that the sessions that phones would resume are not forgotten at each look.
        if let Some(current) = current.filter(same) {
            return (Arc::clone(current), found.0);
        }
        let server = pair.as_ref().and_then(|pair| config(pair, asks, verifier.as_ref()).ok());
        let people = pair.as_ref().and_then(|pair| config(pair, ClientCertificates::Off, None).ok());
        (Arc::new(Tls { pair, authorities, asks, verifier, server, people }), found.0)
    }

    /// What the people's door makes a handshake with.
    pub fn people(&self) -> Option<Arc<ServerConfig>> {
        self.people.clone()
    }

    /// What a handshake is made with; none where there is no certificate to show.
    pub(crate) fn server(&self) -> Option<Arc<ServerConfig>> {
        self.server.clone()
    }

    /// Whose certificate this is, if one of the authorities has signed it and it holds today. The error is a reason for the log.
    pub(crate) fn client(&self, chain: &[CertificateDer<'_>]) -> Result<ClientCertificate, String> {
        let (leaf, between) = chain.split_first().ok_or("there is no certificate in it")?;
        let verifier = self.verifier.as_ref().ok_or("no authority is known here that could have signed it")?;
        verifier.verify_client_cert(leaf, between, UnixTime::now()).map_err(|error| error.to_string())?;
        client::read(leaf)
    }
}

/// What the door shows, tried; where it is no good, what it showed before.
fn pair(settings: &Settings, current: Option<&Arc<Tls>>, found: &mut Findings) -> Option<Pair> {
    let (certificate, key) = pair_files(settings);
    let before = current.and_then(|current| current.pair.as_ref());
    let read = || {
        let bytes = read_file(&certificate)?;
        let chain = certificates(&bytes)?;
        let (key_bytes, key_file) = if key == certificate {
            (bytes, &certificate)
        } else {
            (read_file(&key).map_err(|why| why.at(&key))?, &key)
        };
        let private = PrivateKeyDer::from_pem_slice(&key_bytes)
            .map_err(|error| Unreadable::from(format!("there is no private key in it: {error}")).at(key_file))?;
        let pair = Pair { chain, key: private };
        config(&pair, ClientCertificates::Off, None)
            .map_err(|error| format!("it cannot be served with the key in {}: {error}", key.display()))?;
        Ok::<_, Unreadable>(pair)
    };
    match read() {
        Ok(pair) => {
            for (index, der) in pair.chain.iter().enumerate() {
                found.ends(
                    &certificate,
                    if index == 0 { "the certificate" } else { "a certificate of the chain" },
                    der,
                );
            }
            Some(pair)
        }
        Err(Unreadable { file, why, missing }) => {
            let file = file.unwrap_or_else(|| certificate.clone());
            let hint = if missing && settings.https.certificate.is_none() {
                "; `provost certs init` and `provost certs issue` make one, or https.certificate names one"
            } else {
                ""
            };
            let message = format!("no certificate for HTTPS: {why}{hint}");
            found.error(&file, message, before.is_some());
            before.map(|before| Pair { chain: before.chain.clone(), key: before.key.clone_key() })
        }
    }
}

/// The files of certificate and key: those that are set, or those that `provost certs issue` writes.
pub fn pair_files(settings: &Settings) -> (PathBuf, PathBuf) {
    match (&settings.https.certificate, &settings.https.key) {
        (Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
        // Both in one file, as some proxies want it.
        (Some(certificate), None) => (certificate.clone(), certificate.clone()),
        (None, _) => {
            (authority::place(settings).join(authority::SERVER), authority::place(settings).join(authority::SERVER_KEY))
        }
    }
}

/// Whose signatures count: the site's own authority, and those that the administrator put in place. Each file by itself.
fn authorities(
    settings: &Settings,
    current: Option<&Arc<Tls>>,
    found: &mut Findings,
) -> BTreeMap<PathBuf, Vec<CertificateDer<'static>>> {
    let mut all = BTreeMap::new();
    for file in authority_files(settings, found) {
        match read_authorities(&file) {
            Ok(certificates) => {
                for der in &certificates {
                    found.ends(&file, "an authority's certificate", der);
                }
                all.insert(file, certificates);
            }
            Err(Unreadable { why, .. }) => {
                let before = current.and_then(|current| current.authorities.get(&file)).cloned();
                found.error(&file, format!("no authority for phones' certificates: {why}"), before.is_some());
                all.extend(before.map(|before| (file, before)));
            }
        }
    }
    all
}

/// The files that are read for authorities, our own first.
pub(crate) fn authority_files(settings: &Settings, found: &mut Findings) -> Vec<PathBuf> {
    let own = authority::place(settings).join(authority::CA);
    let mut files: Vec<PathBuf> = own.is_file().then_some(own).into_iter().collect();
    if let Some(directory) = &settings.https.client_authorities {
        match fs::read_dir(directory) {
            Ok(entries) => {
                let is_one = |path: &PathBuf| {
                    let known = ["pem", "crt", "cer", "der"];
                    let extension = path.extension().and_then(|extension| extension.to_str());
                    let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
                    !hidden
                        && extension.is_some_and(|extension| known.contains(&&*extension.to_ascii_lowercase()))
                        && path.is_file()
                };
                let mut listed: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(is_one).collect();
                listed.sort();
                if listed.len() > MOST_FILES {
                    found.error(
                        directory,
                        format!("of {} files only the first {MOST_FILES} are read", listed.len()),
                        false,
                    );
                    listed.truncate(MOST_FILES);
                }
                files.extend(listed);
            }
            Err(error) => found.error(directory, format!("cannot read the directory of authorities: {error}"), false),
        }
    }
    files
}

/// The authorities in a file. One that could sign nothing by its own words is refused: taken as an anchor, it could sign everything.
pub(crate) fn read_authorities(file: &Path) -> Result<Vec<CertificateDer<'static>>, Unreadable> {
    let certificates = certificates(&read_file(file)?)?;
    let mut store = RootCertStore::empty();
    for der in &certificates {
        let shown = read_shown(der)?;
        if !shown.is_authority {
            return Err(format!("the certificate of \"{}\" is not an authority's", shown.name).into());
        }
        store
            .add(der.clone())
            .map_err(|error| format!("the certificate of \"{}\" is of no use: {error}", shown.name))?;
    }
    Ok(certificates)
}

/// The certificates of a file, PEM or one in DER.
pub(crate) fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    if bytes.first() == Some(&0x30) {
        return Ok(vec![CertificateDer::from(bytes.to_vec())]);
    }
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    match all {
        Ok(all) if all.is_empty() => Err("there is no certificate in it".into()),
        Ok(all) => Ok(all),
        Err(error) => Err(format!("it is no PEM file: {error}")),
    }
}

pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, Unreadable> {
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() as u64 > LARGEST_FILE => Err(format!("it is longer than {LARGEST_FILE} bytes").into()),
        Ok(_) => Ok(bytes),
        Err(error) => Err(Unreadable {
            file: None,
            why: format!("cannot read it: {error}"),
            missing: error.kind() == io::ErrorKind::NotFound,
        }),
    }
}

fn verifier(authorities: &BTreeMap<PathBuf, Vec<CertificateDer<'static>>>) -> Option<Arc<dyn ClientCertVerifier>> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(authorities.values().flatten().cloned());
    // It refuses to be made of nothing.
    WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider()).build().ok()
}

fn config(
    pair: &Pair,
    asks: ClientCertificates,
    verifier: Option<&Arc<dyn ClientCertVerifier>>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
    let config = match (asks, verifier) {
        (ClientCertificates::Off, _) | (ClientCertificates::Optional, None) => config.with_no_client_auth(),
        (ClientCertificates::Optional, Some(verifier)) => {
            config.with_client_cert_verifier(Arc::new(Lenient(Arc::clone(verifier))))
        }
        (ClientCertificates::Required, Some(verifier)) => config.with_client_cert_verifier(Arc::clone(verifier)),
        (ClientCertificates::Required, None) => {
            return Err(rustls::Error::General("there is no authority to check certificates with".into()));
        }
    };
    let mut config = config.with_single_cert(pair.chain.clone(), pair.key.clone_key())?;
    if asks != ClientCertificates::Off {
        // A resumed session shows the certificate of the first one, which may have ended since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Arc::new(config))
}

/// Named and not the process's default: a crate that brings another one must not change what phones meet.
fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Asks for a certificate and lets in also those whose certificate is of no use; [`Tls::client`] decides afterwards whether it counts.
///
/// Web servers end the handshake instead. But phones show their factory's certificate to whoever asks for one, whether its authority was
/// named or not, so that with the authority of one vendor in place the phones of all others would be locked out, who could as well have
/// shown none.
#[derive(Debug)]
struct Lenient(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Lenient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    // That the asker holds the key is always asked for.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Why a file is of no use.
#[derive(Debug)]
pub(crate) struct Unreadable {
    /// Where it is another one than that which was asked for.
    file: Option<PathBuf>,
    pub(crate) why: String,
    missing: bool,
}

impl Unreadable {
    fn at(self, file: &Path) -> Unreadable {
        Unreadable { file: Some(file.to_owned()), ..self }
    }
}

impl From<String> for Unreadable {
    fn from(why: String) -> Unreadable {
        Unreadable { file: None, why, missing: false }
    }
}

#[derive(Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    fn error(&mut self, file: &Path, message: String, older_serves: bool) {
        self.push(file, Severity::Error, message, older_serves);
    }

    fn push(&mut self, file: &Path, severity: Severity, message: String, older_serves: bool) {
        let file = file.display().to_string();
        self.0.push(Finding { file, line: 0, column: 0, severity, message, older_serves });
    }

    /// A certificate that has ended, or soon will.
    fn ends(&mut self, file: &Path, what: &str, der: &CertificateDer<'_>) {
        let Ok(Shown { name, until, .. }) = read_shown(der) else { return };
        let now = SystemTime::now();
        if until <= now {
            let message =
                format!("{what} of \"{name}\" ended on {}; whoever looks at a calendar refuses it", date(until));
            self.push(file, Severity::Error, message, false);
        } else if until <= now + NEAR {
            self.push(file, Severity::Warning, format!("{what} of \"{name}\" ends on {}", date(until)), false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused_in_words() {
        assert_eq!(certificates(b"hello").unwrap_err(), "there is no certificate in it");
        let cut = b"-----BEGIN CERTIFICATE-----\nAAAA\n";
        assert!(certificates(cut).unwrap_err().starts_with("it is no PEM file: "), "{:?}", certificates(cut));
        let missing = read_file(Path::new("/nonexistent")).unwrap_err();
        assert!(missing.missing && missing.why.starts_with("cannot read it: "), "{missing:?}");
    }
}
