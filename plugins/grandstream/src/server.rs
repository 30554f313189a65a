//! Takes a URL apart as the phones want it: the protocol in one parameter, host and path without scheme in another.

/// Where a phone fetches something, without the name of the file, which it puts together itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    /// `tftp`, `http` or `https`.
    pub(crate) protocol: &'static str,
    /// `10.20.0.5:8080/firmware`
    pub(crate) path: String,
    /// The file that the URL named, if its extension was the one expected.
    pub(crate) file: Option<String>,
}

/// Nothing if the URL has a scheme that the phones do not know, or none.
pub(crate) fn split(url: &str, extension: &str) -> Option<Server> {
    let (scheme, rest) = url.split_once("://")?;
    let protocol = ["tftp", "http", "https"].into_iter().find(|known| known.eq_ignore_ascii_case(scheme))?;
    let (path, file) = match rest.rsplit_once('/') {
        Some((path, file)) if file.to_ascii_lowercase().ends_with(extension) => (path, Some(file.to_owned())),
        _ => (rest, None),
    };
    Some(Server { protocol, path: path.trim_end_matches('/').to_owned(), file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheme_and_file_name_are_taken_off() {
        let server = split("http://10.20.0.5:8080/assets/grp2612fw.bin", ".bin").unwrap();
        assert_eq!((server.protocol, server.path.as_str()), ("http", "10.20.0.5:8080/assets"));
        assert_eq!(server.file.as_deref(), Some("grp2612fw.bin"));
        let server = split("HTTPS://prov.example.net/t0k3n/", ".bin").unwrap();
        assert_eq!((server.protocol, server.path.as_str(), server.file), ("https", "prov.example.net/t0k3n", None));
        assert_eq!(split("tftp://10.20.0.5", ".xml").unwrap().path, "10.20.0.5");
        assert_eq!(split("ftp://10.20.0.5/", ".xml"), None);
        assert_eq!(split("10.20.0.5", ".xml"), None);
    }
}
