//! The site's own authority, for whoever has no other: it signs the certificate that the server shows to phones, and certificates for
//! phones. Everything lies below `state/certs/`, keys for the owner's eyes alone.
//!
//! What a server does with certificates is [`crate::tls`]'s; this is only about making them.

use std::{
    collections::BTreeSet,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use provost_plugin::MacAddr;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::{
    edit,
    pnp::interfaces,
    settings::Settings,
    tls::{self, Findings, Shown, read_shown},
};

/// The files, below [`place`].
pub(crate) const CA: &str = "ca.pem";
/// The same for phones that read no PEM.
pub(crate) const CA_DER: &str = "ca.der";
const CA_KEY: &str = "ca.key";
pub(crate) const SERVER: &str = "server.pem";
pub(crate) const SERVER_KEY: &str = "server.key";

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Phones hang on walls for long, and to bring them another root means to touch each.
const AUTHORITY_DAYS: u32 = 20 * 365;
/// More than this is refused by clients that go by the rules of browsers.
const SERVER_DAYS: u32 = 825;

#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("there is an authority already: {}. Whatever trusts it would have to learn to trust another; move it away if that is meant", .0.display())]
    Exists(PathBuf),
    #[error("there is no authority yet ({} is missing): `provost certs init` makes one", .0.display())]
    None(PathBuf),
    #[error("cannot read {}: {why}", .path.display())]
    Unreadable { path: PathBuf, why: String },
    #[error("cannot write {}", .path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    #[error("a certificate cannot be for \"{0}\": it is neither an address nor the name of a host")]
    Name(String),
    #[error("cannot make the certificate")]
    Made(#[from] rcgen::Error),
}

/// A certificate that was made or found.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub file: PathBuf,
    pub name: String,
    pub issuer: String,
    /// The names and addresses that it is for.
    pub names: Vec<String>,
    pub until: SystemTime,
    /// SHA-256 in pairs, as phones and browsers show it.
    pub fingerprint: String,
}

impl Certificate {
    /// The last day on which it is good, in UTC.
    pub fn until_day(&self) -> String {
        tls::date(self.until)
    }
}

pub(crate) fn place(settings: &Settings) -> PathBuf {
    settings.state.join("certs")
}

/// Makes the authority.
pub fn init(settings: &Settings) -> Result<Certificate, AuthorityError> {
    let place = place(settings);
    let (file, key_file) = (place.join(CA), place.join(CA_KEY));
    if let Some(there) = [&file, &key_file].into_iter().find(|path| path.exists()) {
        return Err(AuthorityError::Exists(there.clone()));
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let host = host_name().unwrap_or_else(|| "this server".into());
    // The day tells it from one of before, which phones may still hold.
    let name = format!("Provost on {host}, {}", tls::date(SystemTime::now()));
    let mut params = params(&name, AUTHORITY_DAYS, None)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    write(&key_file, key.serialize_pem(), 0o600)?;
    write(&file, certificate.pem(), 0o644)?;
    write(&place.join(CA_DER), certificate.der(), 0o644)?;
    read_one(&file)
}

/// Makes the server's certificate anew. Where no names are given it is for those of before, and for what the machine and the settings
/// say today.
pub fn issue(settings: &Settings, names: &[String]) -> Result<Certificate, AuthorityError> {
    let place = place(settings);
    let authority = Authority::open(&place)?;
    let (file, der) = (place.join(SERVER), place.join(CA_DER));
    // Authorities of before had none.
    if !der.exists() {
        let root = place.join(CA);
        let read = tls::read_authorities(&root);
        let read = read.map_err(|error| AuthorityError::Unreadable { path: root, why: error.why })?;
        if let Some(root) = read.first() {
            write(&der, root, 0o644)?;
        }
    }
    let names: BTreeSet<String> = if names.is_empty() {
        let before = read_one(&file).map(|before| before.names).unwrap_or_default();
        before.into_iter().chain(own_names(settings)).collect()
    } else {
        names.iter().cloned().collect()
    };
    for name in &names {
        if name.parse::<IpAddr>().is_err() && !is_host(name) {
            return Err(AuthorityError::Name(name.clone()));
        }
    }
    // People know it by a name, if it has one.
    let is_address = |name: &&String| name.parse::<IpAddr>().is_ok() || *name == "localhost";
    let name = names.iter().find(|name| !is_address(name)).or(names.first()).cloned().unwrap_or_default();
    let mut params = params(&name, SERVER_DAYS, Some(&authority))?;
    params.subject_alt_names = CertificateParams::new(names.into_iter().collect::<Vec<_>>())?.subject_alt_names;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let (certificate, key) = authority.sign(params)?;
    // The key first: a server that looks in between sees a pair that does not fit, and stays with what it has.
    write(&place.join(SERVER_KEY), &key, 0o600)?;
    write(&file, &certificate, 0o644)?;
    read_one(&file)
}

/// Makes a certificate for a phone, with its key, in one file. It holds for as long as the authority.
pub fn client(settings: &Settings, mac: MacAddr, file: Option<&Path>) -> Result<Certificate, AuthorityError> {
    let place = place(settings);
    let authority = Authority::open(&place)?;
    let file = file.map_or_else(|| place.join("clients").join(format!("{}.pem", mac.bare())), Path::to_owned);
    let mut params = params(&mac.bare_upper(), AUTHORITY_DAYS, Some(&authority))?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let (certificate, key) = authority.sign(params)?;
    write(&file, format!("{certificate}{key}"), 0o600)?;
    read_one(&file)
}

/// Every certificate that this server shows or goes by, with what it is there for; and what cannot be read.
pub fn known(settings: &Settings) -> (Vec<(&'static str, Certificate)>, Vec<String>) {
    let (mut all, mut unreadable) = (Vec::new(), Vec::new());
    let mut add = |what, file: PathBuf| match read_all(&file) {
        Ok(certificates) => all.extend(certificates.into_iter().map(|certificate| (what, certificate))),
        Err(error) => unreadable.push(error.to_string()),
    };
    let own = place(settings).join(CA);
    let (server, _) = tls::pair_files(settings);
    if server.exists() || settings.https.certificate.is_some() {
        add("server", server);
    }
    let mut found = Findings::default();
    for file in tls::authority_files(settings, &mut found) {
        add(if file == own { "authority" } else { "phones' authority" }, file);
    }
    let phones =
        fs::read_dir(place(settings).join("clients")).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut phones: Vec<PathBuf> = phones.filter(|path| path.extension().is_some_and(|pem| pem == "pem")).collect();
    phones.sort();
    phones.into_iter().for_each(|file| add("phone", file));
    (all, unreadable)
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    until: SystemTime,
}

impl Authority {
    fn open(place: &Path) -> Result<Authority, AuthorityError> {
        let text = |path: PathBuf| match fs::read_to_string(&path) {
            Ok(text) => Ok(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(AuthorityError::None(path)),
            Err(error) => Err(AuthorityError::Unreadable { path, why: error.to_string() }),
        };
        let file = place.join(CA);
        let (certificate, key) = (text(file.clone())?, text(place.join(CA_KEY))?);
        let unreadable = |path: &Path, error: rcgen::Error| AuthorityError::Unreadable {
            path: path.to_owned(),
            why: error.to_string(),
        };
        let key = KeyPair::from_pem(&key).map_err(|error| unreadable(&place.join(CA_KEY), error))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate, key).map_err(|error| unreadable(&file, error))?;
        Ok(Authority { issuer, until: read_one(&file)?.until })
    }

    /// The certificate and its key, both as PEM.
    fn sign(&self, mut params: CertificateParams) -> Result<(String, String), AuthorityError> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

/// For `days`, but not for longer than its authority.
fn params(name: &str, days: u32, authority: Option<&Authority>) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // Clocks of phones are behind at times; whatever is made today is good since yesterday.
    let from = SystemTime::now() - DAY;
    let until = from + DAY * days;
    let until = authority.map_or(until, |authority| until.min(authority.until));
    (params.not_before, params.not_after) = (OffsetDateTime::from(from), OffsetDateTime::from(until));
    Ok(params)
}

/// What phones may reach this server by, as far as the machine and the settings tell.
fn own_names(settings: &Settings) -> Vec<String> {
    let mut names: Vec<String> = host_name().into_iter().chain(["localhost".to_owned()]).collect();
    let addresses = interfaces::addresses(&interfaces::list().unwrap_or_default());
    names.extend(addresses.iter().map(ToString::to_string));
    let urls = settings.public_url.iter().chain(settings.networks.iter().map(|network| &network.public_url));
    names.extend(urls.filter_map(|url| {
        let uri: hyper::Uri = url.parse().ok()?;
        Some(uri.host()?.trim_matches(['[', ']']).to_owned())
    }));
    names.retain(|name| name.parse::<IpAddr>().is_ok() || is_host(name));
    names
}

fn host_name() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| is_host(name))
}

fn is_host(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    // A star stands for one label, as phones' makers and browsers read it.
    let name = name.strip_prefix("*.").unwrap_or(name);
    name.len() <= 253
        && name.split('.').all(is_label)
        && !name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

fn read_one(file: &Path) -> Result<Certificate, AuthorityError> {
    let unreadable =
        || AuthorityError::Unreadable { path: file.to_owned(), why: "there is no certificate in it".into() };
    read_all(file)?.into_iter().next().ok_or_else(unreadable)
}

fn read_all(file: &Path) -> Result<Vec<Certificate>, AuthorityError> {
    let unreadable = |why| AuthorityError::Unreadable { path: file.to_owned(), why };
    let bytes = tls::read_file(file).map_err(|error| unreadable(error.why))?;
    let certificates = tls::certificates(&bytes).map_err(unreadable)?;
    let read = |der: &rustls::pki_types::CertificateDer<'_>| {
        let Shown { name, issuer, names, until, .. } = read_shown(der)?;
        let pairs: Vec<String> = Sha256::digest(der).iter().map(|byte| format!("{byte:02X}")).collect();
        Ok(Certificate { file: file.to_owned(), name, issuer, names, until, fingerprint: pairs.join(":") })
    };
    certificates.iter().map(read).collect::<Result<_, String>>().map_err(unreadable)
}

fn write(path: &Path, content: impl AsRef<[u8]>, mode: u32) -> Result<(), AuthorityError> {
    edit::write(path, Some(content.as_ref()), mode)
        .map_err(|source| AuthorityError::Unwritable { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::is_host;

    #[test]
    fn a_host_is_a_name_and_no_number() {
        for name in ["pbx", "pbx.example.net", "*.example.net", "a-b.example", "localhost", "10gig.example"] {
            assert!(is_host(name), "{name}");
        }
        for name in
            ["", ".", "a..b", "10.0.0.1", "10.0.0", "https://pbx", "pbx:8443", "pb x", "*", "ä.example", "a.*.example"]
        {
            assert!(!is_host(name), "{name}");
        }
    }
}
