//! What a certificate says: whose it is, who signed it, and which phones it names.

use std::time::{Duration, SystemTime};

use provost_plugin::MacAddr;
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    prelude::FromDer,
    x509::{AttributeTypeAndValue, X509Name},
};

use super::mac::addresses;
use crate::request::ClientCertificate;

/// Names are for logs and pages; a certificate may hold kilobytes of them.
const LONGEST_NAME: usize = 128;
/// Addresses of one certificate. A phone has two or three.
const MOST_MACS: usize = 16;

/// What of a certificate is shown to people.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    /// The common name of its subject, or else all of it.
    pub(crate) name: String,
    pub(crate) issuer: String,
    /// The names and addresses that a server is reached by.
    pub(crate) names: Vec<String>,
    pub(crate) until: SystemTime,
    /// It may sign others, or is too old to say.
    pub(crate) is_authority: bool,
}

/// Whose certificate a client has shown. That its chain is good was found out before.
pub(super) fn read(der: &[u8]) -> Result<ClientCertificate, String> {
    let certificate = parse(der)?;
    let subject = certificate.subject();
    let mut macs: Vec<MacAddr> = Vec::new();
    let texts = subject.iter_attributes().map(text).chain(alternatives(&certificate));
    for mac in texts.flat_map(|text| addresses(&text)) {
        if macs.len() < MOST_MACS && !macs.contains(&mac) {
            macs.push(mac);
        }
    }
    Ok(ClientCertificate { name: name(subject), macs, issuer: name(certificate.issuer()) })
}

pub(crate) fn read_shown(der: &[u8]) -> Result<Shown, String> {
    let certificate = parse(der)?;
    let constraints = certificate.basic_constraints().ok().flatten();
    // Roots of the last century and of some factories say nothing; whoever signed himself may be one.
    let is_root = certificate.subject().as_raw() == certificate.issuer().as_raw();
    let until = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or_default();
    Ok(Shown {
        name: name(certificate.subject()),
        issuer: name(certificate.issuer()),
        names: alternatives(&certificate).map(|name| plain(&name)).collect(),
        until: SystemTime::UNIX_EPOCH + Duration::from_secs(until),
        is_authority: constraints.map_or(is_root, |constraints| constraints.value.ca),
    })
}

/// The day of a moment, in UTC.
pub(crate) fn date(time: SystemTime) -> String {
    let date = time::OffsetDateTime::from(time).date();
    format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day())
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|error| format!("it is no certificate of X.509: {error}"))?;
    Ok(certificate)
}

fn name(of: &X509Name<'_>) -> String {
    let common = of.iter_common_name().next().map(text).unwrap_or_else(|| of.to_string());
    plain(&common)
}

/// The letters of a value in whatever string type it is. Of UTF-16 the zeros go: what matters here is ASCII.
fn text(attribute: &AttributeTypeAndValue<'_>) -> String {
    let letters: Vec<u8> = attribute.attr_value().data.iter().copied().filter(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&letters).into_owned()
}

fn alternatives<'a>(certificate: &'a X509Certificate<'_>) -> impl Iterator<Item = String> + 'a {
    let names = certificate.subject_alternative_name().ok().flatten().map(|extension| &extension.value.general_names);
    names.into_iter().flatten().filter_map(|name| match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => Some((*name).to_owned()),
        GeneralName::DirectoryName(name) => Some(name.iter_attributes().map(text).collect::<Vec<_>>().join(", ")),
        GeneralName::IPAddress(bytes) => match *bytes {
            [a, b, c, d] => Some(std::net::Ipv4Addr::new(*a, *b, *c, *d).to_string()),
            bytes => <[u8; 16]>::try_from(bytes).ok().map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
        },
        _ => None,
    })
}

/// One line, and not a long one.
fn plain(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(LONGEST_NAME).collect()
}
