//! What a reverse proxy says of whom it stands before. From anybody else the same headers are words like any other, and not read.

use std::net::{IpAddr, SocketAddr};

use hyper::{HeaderMap, header::HeaderName};
use ipnet::IpNet;
use percent_encoding::percent_decode_str;
use rustls::pki_types::{CertificateDer, pem::PemObject};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Proxies that are taken at their word.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    pub networks: Vec<IpNet>,
    /// The header with the certificate that a client has shown to the proxy.
    pub certificate_header: Option<HeaderName>,
}

/// Who stands behind a proxy.
#[derive(Debug, PartialEq)]
pub struct Behind {
    pub client: SocketAddr,
    /// Between the client and the proxy.
    pub encrypted: bool,
    /// As the proxy has it; whether it is worth anything is not said.
    pub certificate: Option<Result<CertificateDer<'static>, &'static str>>,
}

impl Proxies {
    pub(super) fn is_one(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// None where the peer is no proxy, or asks for itself.
    pub fn behind(&self, headers: &HeaderMap, peer: SocketAddr) -> Option<Behind> {
        if !self.is_one(peer.ip()) {
            return None;
        }
        // Each proxy adds at the end whom it saw, so the words grow less reliable to the left: the first that is not one of ours is the
        // client, and what stands before it is its own invention.
        let hops = headers.get_all(FORWARDED_FOR).iter().map(|value| value.to_str().unwrap_or_default());
        let hops: Vec<&str> = hops.flat_map(|line| line.split(',')).map(str::trim).collect();
        let mut client = None;
        for hop in hops.into_iter().rev() {
            let Some(address) = address(hop) else { break };
            client = Some(address);
            if !self.is_one(address) {
                break;
            }
        }
        let client = SocketAddr::new(client?, 0);
        let proto = headers.get_all(FORWARDED_PROTO).iter().next_back().and_then(|value| value.to_str().ok());
        let proto = proto.and_then(|proto| proto.rsplit(',').next()).unwrap_or_default();
        let header = self.certificate_header.as_ref().and_then(|name| headers.get(name));
        let header = header.map(|value| value.to_str().unwrap_or_default().trim());
        Some(Behind {
            client,
            encrypted: proto.trim().eq_ignore_ascii_case("https"),
            // nginx leaves it empty, HAProxy too, where the client has shown none.
            certificate: header.filter(|value| !matches!(*value, "" | "-" | "(null)")).map(certificate),
        })
    }
}

/// `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]:4711`.
fn address(hop: &str) -> Option<IpAddr> {
    let bare = hop.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|socket| socket.ip()))?;
    Some(IpAddr::to_canonical(&address))
}

/// PEM with percent signs (nginx's `$ssl_client_escaped_cert`), or DER in base64, bare (HAProxy's `ssl_c_der,base64`) or between colons
/// (RFC 9440).
fn certificate(value: &str) -> Result<CertificateDer<'static>, &'static str> {
    let text = percent_decode_str(value).decode_utf8().map_err(|_| "the proxy's certificate is not UTF-8")?;
    let pem = if text.contains("-----BEGIN ") {
        text.into_owned()
    } else {
        let base64 = text.trim_matches(':');
        format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n")
    };
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| "the proxy's certificate is neither PEM nor DER in base64")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies() -> Proxies {
        let networks = ["10.0.0.0/24", "::1/128"].map(|network| network.parse().unwrap()).to_vec();
        Proxies { networks, certificate_header: Some(HeaderName::from_static("x-client-cert")) }
    }

    fn behind(peer: &str, headers: &[(&'static str, &str)]) -> Option<Behind> {
        let headers = headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        proxies().behind(&headers.collect(), SocketAddr::new(peer.parse().unwrap(), 4711))
    }

    fn client(peer: &str, forwarded: &[&str]) -> Option<String> {
        let headers: Vec<_> = forwarded.iter().map(|value| ("x-forwarded-for", *value)).collect();
        behind(peer, &headers).map(|behind| behind.client.ip().to_string())
    }

    #[test]
    fn the_client_is_the_last_hop_that_is_no_proxy_of_ours() {
        let some = |address: &str| Some(address.to_owned());
        assert_eq!(client("10.0.0.1", &["192.0.2.7"]), some("192.0.2.7"));
        assert_eq!(client("10.0.0.1", &["1.2.3.4, 192.0.2.7"]), some("192.0.2.7"));
        assert_eq!(client("10.0.0.1", &["1.2.3.4, 192.0.2.7, 10.0.0.2"]), some("192.0.2.7"));
        assert_eq!(client("10.0.0.1", &["1.2.3.4", "192.0.2.7,10.0.0.2"]), some("192.0.2.7"));
        assert_eq!(client("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), some("10.0.0.3"));
        assert_eq!(client("::1", &["192.0.2.7:4711"]), some("192.0.2.7"));
        assert_eq!(client("::1", &["[2001:db8::1]:80"]), some("2001:db8::1"));
        assert_eq!(client("::1", &["2001:db8::1"]), some("2001:db8::1"));
        assert_eq!(client("::1", &["::ffff:192.0.2.7"]), some("192.0.2.7"));
        // What cannot be read ends the way: whoever stands before it is anybody's word.
        assert_eq!(client("10.0.0.1", &["192.0.2.7, unknown"]), None);
        assert_eq!(client("10.0.0.1", &["192.0.2.7, unknown, 10.0.0.2"]), some("10.0.0.2"));
        assert_eq!(client("10.0.0.1", &[]), None);
        assert_eq!(client("10.0.0.1", &[""]), None);
    }

    #[test]
    fn nobody_but_a_proxy_is_believed() {
        assert_eq!(client("10.0.1.1", &["192.0.2.7"]), None);
        let forged = [("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", "https"), ("x-client-cert", "AAAA")];
        assert_eq!(behind("192.0.2.1", &forged), None);
        // Without a client there is nobody whose certificate it could be.
        assert_eq!(behind("10.0.0.1", &forged[1..]), None);
    }

    #[test]
    fn the_proxy_tells_how_the_client_came_to_it() {
        let asked =
            |proto| behind("10.0.0.1", &[("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", proto)]).unwrap();
        assert!(asked("https").encrypted && asked("HTTPS").encrypted && asked("http, https").encrypted);
        assert!(!asked("http").encrypted && !asked("https, http").encrypted && !asked("").encrypted);
    }

    #[test]
    fn a_certificate_is_read_in_the_form_of_each_proxy() {
        let shown = |value: &str| {
            behind("10.0.0.1", &[("x-forwarded-for", "192.0.2.7"), ("x-client-cert", value)]).unwrap().certificate
        };
        let der = Some(Ok(CertificateDer::from(vec![0x30, 3, 2, 1, 0xfb])));
        assert_eq!(shown("MAMCAfs="), der);
        assert_eq!(shown(":MAMCAfs=:"), der);
        assert_eq!(shown("-----BEGIN%20CERTIFICATE-----%0AMAMCAfs%3D%0A-----END%20CERTIFICATE-----%0A"), der);
        assert!(shown("").is_none() && shown("-").is_none());
        assert!(shown("%ff").unwrap().is_err() && shown("*").unwrap().is_err());
    }
}
