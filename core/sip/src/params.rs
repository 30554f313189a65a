//! Cuts header values into their parts: `;` parameters, `,` lists, name-addr. Knows quoting, not what a parameter means.
//!
//! Every walk is linear in the value, whatever quotes it leaves open.

use std::borrow::Cow;

/// The pieces of `value` between separators that stand outside quotes, untrimmed, so that joining them gives `value`.
///
/// A quote that is never closed is an ordinary byte: the alternative loses every parameter behind it.
pub(crate) fn split(value: &[u8], separator: u8) -> Split<'_> {
    Split { rest: Some(value), separator, double_closes: true }
}

#[derive(Debug)]
pub(crate) struct Split<'a> {
    rest: Option<&'a [u8]>,
    separator: u8,
    // Once a search for the closing quote has run to the end, another would too; asking again makes the walk quadratic.
    double_closes: bool,
}

impl Split<'_> {
    /// Where to go on reading after the byte at `at`: behind the quoted part if it opens one, else one further.
    fn step(&mut self, rest: &[u8], at: usize) -> usize {
        match rest[at] {
            b'"' if self.double_closes => match closing_quote(rest, at) {
                Some(end) => end + 1,
                None => {
                    self.double_closes = false;
                    at + 1
                }
            },
            // An apostrophe is a legal token character, so it quotes only as a whole value: `='...'`.
            b'\'' if rest[..at].trim_ascii_end().ends_with(b"=") => {
                match rest[at + 1..].iter().position(|&byte| byte == b'\'') {
                    Some(length) => {
                        let end = at + 1 + length;
                        let behind = rest[end + 1..].trim_ascii_start();
                        if behind.is_empty() || behind[0] == self.separator { end + 1 } else { at + 1 }
                    }
                    None => at + 1,
                }
            }
            _ => at + 1,
        }
    }
}

impl<'a> Iterator for Split<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        let mut at = 0;
        while at < rest.len() {
            if rest[at] == self.separator {
                self.rest = Some(&rest[at + 1..]);
                return Some(&rest[..at]);
            }
            at = self.step(rest, at);
        }
        self.rest = None;
        Some(rest)
    }
}

/// The place of the `"` that closes the one at `open`; a backslash takes the next byte out of consideration.
fn closing_quote(value: &[u8], open: usize) -> Option<usize> {
    let mut at = open + 1;
    while at < value.len() {
        match value[at] {
            b'\\' => at += 2,
            b'"' => return Some(at),
            _ => at += 1,
        }
    }
    None
}

/// One `name` or `name=value`, trimmed, quotes still on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Param<'a> {
    pub(crate) name: &'a [u8],
    raw: Option<&'a [u8]>,
}

impl<'a> Param<'a> {
    pub(crate) fn parse(piece: &'a [u8]) -> Self {
        match piece.iter().position(|&byte| byte == b'=') {
            Some(at) => Param { name: piece[..at].trim_ascii(), raw: Some(piece[at + 1..].trim_ascii()) },
            None => Param { name: piece.trim_ascii(), raw: None },
        }
    }

    pub(crate) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The value without its quotes. `None` for a bare name, and for `name=` with nothing behind it.
    pub(crate) fn value(&self) -> Option<Cow<'a, [u8]>> {
        self.raw.map(unquote).filter(|value| !value.is_empty())
    }

    /// The value as it stands between its quotes, backslashes and all, for what has to go back as it came. Empty is a value here.
    pub(crate) fn inside_quotes(&self) -> Option<&'a [u8]> {
        self.raw.map(|raw| match raw {
            [b'"', inside @ ..] => closing_quote(raw, 0).map_or(inside, |end| &raw[1..end]),
            bare => bare,
        })
    }
}

/// The parameters of `Head;name=value;name`, without the head. Empty pieces (`;;`) are passed over.
pub(crate) fn params(value: &[u8]) -> impl Iterator<Item = Param<'_>> {
    split(value, b';').skip(1).map(Param::parse).filter(|param| !param.name.is_empty())
}

/// What stands before the first `;`, trimmed.
pub(crate) fn head(value: &[u8]) -> &[u8] {
    split(value, b';').next().unwrap_or_default().trim_ascii()
}

/// The first parameter of that name, compared without case.
pub(crate) fn param<'a>(value: &'a [u8], name: &str) -> Option<Cow<'a, [u8]>> {
    params(value).find(|param| param.is(name)).and_then(|param| param.value())
}

fn unquote(raw: &[u8]) -> Cow<'_, [u8]> {
    match raw {
        [b'"', inside @ ..] => {
            let inside = closing_quote(raw, 0).map_or(inside, |end| &raw[1..end]);
            if !inside.contains(&b'\\') {
                return Cow::Borrowed(inside);
            }
            let mut plain = Vec::with_capacity(inside.len());
            let mut bytes = inside.iter();
            while let Some(&byte) = bytes.next() {
                // A lone backslash at the end escapes nothing and says nothing.
                plain.extend(if byte == b'\\' { bytes.next() } else { Some(&byte) });
            }
            Cow::Owned(plain)
        }
        [b'\'', inside @ .., b'\''] => Cow::Borrowed(inside),
        bare => Cow::Borrowed(bare),
    }
}

/// `"Display" <uri>;params` or `uri;params`, as From, To and Contact have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NameAddr<'a> {
    pub(crate) uri: &'a [u8],
    /// From the first `;` on, or empty. Without brackets these belong to the header, never to the URI.
    pub(crate) params: &'a [u8],
}

impl<'a> NameAddr<'a> {
    pub(crate) fn parse(value: &'a [u8]) -> Self {
        let value = value.trim_ascii();
        // A display name may hold `<`, `;` and escaped quotes, so it goes first.
        let past_name = match value.first() {
            Some(b'"') => closing_quote(value, 0).map_or(0, |end| end + 1),
            _ => 0,
        };
        let rest = &value[past_name..];
        if let Some(open) = rest.iter().position(|&byte| byte == b'<') {
            let inside = &rest[open + 1..];
            let close = inside.iter().position(|&byte| byte == b'>').unwrap_or(inside.len());
            let behind = inside.get(close + 1..).unwrap_or_default();
            return NameAddr { uri: inside[..close].trim_ascii(), params: from_semicolon(behind) };
        }
        let end = rest.iter().position(|&byte| byte == b';' || byte == b',').unwrap_or(rest.len());
        NameAddr { uri: rest[..end].trim_ascii(), params: from_semicolon(&rest[end..]) }
    }

    pub(crate) fn param(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        param(self.params, name)
    }
}

/// The parameters of one element: a Contact may list several, and those behind the comma are another's.
fn from_semicolon(behind: &[u8]) -> &[u8] {
    let one = split(behind, b',').next().unwrap_or_default();
    one.iter().position(|&byte| byte == b';').map_or(&[], |at| &one[at..])
}

/// RFC 3261's `token`: what a method, a header name, a tag or a branch may be made of.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(value: &str, name: &str) -> Option<String> {
        param(value.as_bytes(), name).map(|value| String::from_utf8(value.into_owned()).unwrap())
    }

    #[test]
    fn values_come_bare_quoted_and_single_quoted() {
        let event = r#"ua-profile;profile-type=device;vendor="Acme";model='X 1;2' ; version = "1.0" "#;
        assert_eq!(get(event, "profile-type").as_deref(), Some("device"));
        assert_eq!(get(event, "vendor").as_deref(), Some("Acme"));
        assert_eq!(get(event, "model").as_deref(), Some("X 1;2"));
        assert_eq!(get(event, "version").as_deref(), Some("1.0"));
        assert_eq!(get(event, "absent"), None);
    }

    #[test]
    fn a_separator_inside_quotes_separates_nothing() {
        let event = r#"ua-profile;vendor="a;model=\"no\";b";model="yes""#;
        assert_eq!(get(event, "vendor").as_deref(), Some(r#"a;model="no";b"#));
        assert_eq!(get(event, "model").as_deref(), Some("yes"));
    }

    #[test]
    fn names_are_compared_without_case_and_the_first_wins() {
        assert_eq!(get("x;VENDOR=one;vendor=two", "Vendor").as_deref(), Some("one"));
    }

    #[test]
    fn an_open_quote_costs_its_own_value_only() {
        let event = r#"ua-profile;vendor="Acme;model="X1";version=2"#;
        // The quote does close, two parameters later: nothing can tell.
        assert_eq!(get(event, "vendor").as_deref(), Some("Acme;model="));
        assert_eq!(get(event, "version").as_deref(), Some("2"));
        assert_eq!(get(r#"ua-profile;vendor="Acme;model=X1"#, "model").as_deref(), Some("X1"));
        assert_eq!(get(r#"ua-profile;vendor="Acme;model=X1"#, "vendor").as_deref(), Some("Acme"));
        assert_eq!(get("ua-profile;vendor='Acme;model=X1", "model").as_deref(), Some("X1"));
    }

    #[test]
    fn an_apostrophe_within_a_value_is_a_letter() {
        assert_eq!(get("x;vendor=O'Brien;model='t;version=1'", "vendor").as_deref(), Some("O'Brien"));
        assert_eq!(get("x;vendor='n Berg;model=a'b;c=1", "model").as_deref(), Some("a'b"));
    }

    #[test]
    fn an_empty_value_is_no_value() {
        assert_eq!(get("x;rport=;vendor=\"\";;branch=b", "rport"), None);
        assert_eq!(get("x;rport=;vendor=\"\";;branch=b", "vendor"), None);
        assert_eq!(get("x;rport=;vendor=\"\";;branch=b", "branch").as_deref(), Some("b"));
    }

    #[test]
    fn the_pieces_join_to_the_value() {
        let value = b"a ; b=\"x;y\"; c='q;r' ;;d".as_slice();
        let pieces: Vec<_> = split(value, b';').collect();
        assert_eq!(pieces, [b"a ".as_slice(), b" b=\"x;y\"", b" c='q;r' ", b"", b"d"]);
        assert_eq!(pieces.join(&b';'), value);
    }

    #[test]
    fn a_display_name_may_hold_anything() {
        let addr = NameAddr::parse(br#""Gr; \"x\" <a>" <sip:u@h;lr>;tag=1;x="a,b", <sip:other>;tag=2"#);
        assert_eq!(addr.uri, b"sip:u@h;lr");
        assert_eq!(addr.param("tag").as_deref(), Some(b"1".as_slice()));
        assert_eq!(addr.param("x").as_deref(), Some(b"a,b".as_slice()));
        assert_eq!(NameAddr::parse(b"<sip:u@h>, <sip:other>;tag=2").param("tag"), None);
    }

    #[test]
    fn without_brackets_the_parameters_are_the_headers() {
        let addr = NameAddr::parse(b" sip:u@h;tag=7 ");
        assert_eq!(addr.uri, b"sip:u@h");
        assert_eq!(addr.param("tag").as_deref(), Some(b"7".as_slice()));
        let open = NameAddr::parse(b"<sip:u@h");
        assert_eq!((open.uri, open.params), (b"sip:u@h".as_slice(), b"".as_slice()));
    }

    #[test]
    fn open_quotes_by_the_thousand_are_walked_once() {
        // 2 MB would take hours if each quote searched to the end; the walk takes milliseconds.
        for unit in ["\\\"", ";a=\"\\", ";a='x", "'", ";a= '"] {
            let value = unit.repeat(2_000_000 / unit.len());
            assert!(split(value.as_bytes(), b';').count() > 0);
        }
    }
}
