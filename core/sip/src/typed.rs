//! A request in `rsip`'s types, for reading further than this crate does. Built field by field: parsing the bytes again
//! is what rsip does badly.

use rsip::headers::header::Tokenizer;

use crate::reader::Request;
use crate::uri::Uri;

/// What rsip's closed types cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Untypable {
    #[error("cannot type request: rsip does not know the method")]
    Method,
    #[error("cannot type request: the request uri is not a sip uri")]
    Uri,
}

impl Request<'_> {
    /// This request as `rsip::Request`: compact names expanded, folds undone, body as cut. What is not UTF-8 becomes
    /// replacement characters, so this is for reading and nothing of it should be sent back.
    pub fn to_rsip(&self) -> Result<rsip::Request, Untypable> {
        let method = self.method.parse().map_err(|_| Untypable::Method)?;
        let uri = Uri::parse(self.uri).map_err(|_| Untypable::Uri)?.to_rsip();
        let headers: Vec<rsip::Header> =
            self.headers.iter().map(|header| to_rsip(header.name, &header.value)).collect();
        Ok(rsip::Request { method, uri, version: rsip::Version::V2, headers: headers.into(), body: self.body.to_vec() })
    }
}

fn to_rsip(name: &str, value: &[u8]) -> rsip::Header {
    let value = String::from_utf8_lossy(value);
    // rsip's own table from names to variants, entered behind its parser.
    Tokenizer::from((name.as_bytes(), value.as_bytes()))
        .try_into()
        .unwrap_or_else(|_| rsip::Header::Other(name.to_owned(), value.into_owned()))
}
