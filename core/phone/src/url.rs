//! URLs as phones take them: `http` and `tftp`, a host, and a path that is sent as it was told.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    Http,
    Tftp,
}

impl Scheme {
    fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Tftp => 69,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Tftp => "tftp",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Url {
    pub scheme: Scheme,
    pub host: String,
    pub port: u16,
    /// With its query, and with the slash in front.
    pub path: String,
}

impl Url {
    pub fn parse(text: &str) -> Result<Url, String> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| "it has no scheme".to_owned())?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "tftp" => Scheme::Tftp,
            other => return Err(format!("the simulated phone speaks http and tftp, not {other}")),
        };
        let cut = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(cut);
        if authority.contains('@') {
            return Err("the simulated phone has no credentials to send".into());
        }
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| format!("\"{port}\" is not a port"))?),
            None => (authority, scheme.default_port()),
        };
        if host.is_empty() {
            return Err("it names no host".into());
        }
        if let Some(odd) = rest.chars().find(|c| c.is_control() || c.is_whitespace() || !c.is_ascii()) {
            return Err(format!("it holds {odd:?}"));
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Url { scheme, host: host.to_owned(), port, path })
    }

    /// Whether phones put file names behind it.
    pub fn is_directory(&self) -> bool {
        self.path.ends_with('/')
    }

    /// What a reference in a file fetched from here means.
    pub fn join(&self, reference: &str) -> Result<Url, String> {
        if reference.contains("://") {
            return Url::parse(reference);
        }
        let directory = self.path.split('?').next().unwrap_or_default().rsplit_once('/').map_or("", |(above, _)| above);
        let path = if reference.starts_with('/') { reference.to_owned() } else { format!("{directory}/{reference}") };
        Url::parse(&format!("{}://{}:{}{path}", self.scheme.name(), self.host, self.port))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.host)?;
        if self.port != self.scheme.default_port() {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_written_as_it_was_read() {
        for text in ["http://10.0.0.1:8080/a/b.xml?mac=1", "tftp://10.0.0.1/x.cfg", "http://pbx/"] {
            assert_eq!(Url::parse(text).unwrap().to_string(), text);
        }
        // A bare server address is a directory: that is how some manuals print it.
        assert!(Url::parse("tftp://10.13.4.121").unwrap().is_directory());
        assert_eq!(Url::parse("http://pbx?x").unwrap().path, "/?x");
    }

    #[test]
    fn what_cannot_be_fetched_is_refused_in_words() {
        for text in
            ["", "10.0.0.1/x", "https://pbx/", "http:///x", "http://pbx:port/", "http://pbx/a b", "http://u:p@pbx/"]
        {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn references_are_read_from_where_they_stand() {
        let from = Url::parse("http://pbx:81/p/a.boot?x=/y/").unwrap();
        for (reference, url) in [
            ("b.cfg", "http://pbx:81/p/b.cfg"),
            ("/b.cfg", "http://pbx:81/b.cfg"),
            ("tftp://other/b.cfg", "tftp://other/b.cfg"),
        ] {
            assert_eq!(from.join(reference).unwrap().to_string(), url);
        }
    }
}
