//! MAC addresses in a text that somebody else worded: `000413AABBCC`, `SEP001122334455`, `desk-00:04:13:aa:bb:cc`, `0011.2233.4455`.

use provost_plugin::MacAddr;

/// Every address in the text, each once. Twelve digits that are part of something longer are none.
pub(super) fn addresses(text: &str) -> Vec<MacAddr> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(run) = run(bytes, at) {
        // Runs of hex digits, each parted from the next by the same one character.
        let mut chain = vec![run];
        let separator = bytes.get(run.1).copied().filter(|byte| matches!(byte, b':' | b'-' | b'.'));
        while let (Some(separator), Some(last)) = (separator, chain.last().copied())
            && bytes.get(last.1) == Some(&separator)
            && let Some(next) = self::run(bytes, last.1 + 1)
            && next.0 == last.1 + 1
        {
            chain.push(next);
        }
        // One that is parted from the next by another character may begin something of its own: `uuid:550e8400-e29b-…`.
        at = chain.last().map_or(run.1, |last| {
            let goes_on = matches!(bytes.get(last.1), Some(b':' | b'-' | b'.'));
            if chain.len() > 1 && goes_on { last.0 } else { last.1 }
        });
        found.extend(in_chain(bytes, &chain, separator));
    }
    let mut seen = Vec::new();
    found.retain(|mac| {
        // Neither nobody's address nor a group's can be a phone's.
        let phones = mac.octets() != [0; 6] && mac.octets()[0] & 1 == 0;
        let new = phones && !seen.contains(mac);
        seen.extend(new.then_some(*mac));
        new
    });
    found
}

fn in_chain(bytes: &[u8], chain: &[(usize, usize)], separator: Option<u8>) -> Vec<MacAddr> {
    let lengths: Vec<usize> = chain.iter().map(|(from, to)| to - from).collect();
    // The end of a UUID has twelve digits too.
    if lengths.ends_with(&[8, 4, 4, 4, 12]) {
        return Vec::new();
    }
    let digits =
        |part: &[(usize, usize)]| part.iter().flat_map(|(from, to)| &bytes[*from..*to]).copied().collect::<Vec<u8>>();
    let mut found: Vec<MacAddr> =
        chain.chunks(1).filter(|part| part[0].1 - part[0].0 == 12).filter_map(|part| mac(&digits(part))).collect();
    // Runs of one length side by side are one number: of eight pairs no six are an address.
    let mut from = 0;
    while from < chain.len() {
        let length = lengths[from];
        let to = from + lengths[from..].iter().take_while(|other| **other == length).count();
        let is_one = match separator {
            Some(b':' | b'-') => (length, to - from) == (2, 6),
            Some(b'.') => matches!((length, to - from), (2, 6) | (4, 3)),
            _ => false,
        };
        found.extend(is_one.then(|| mac(&digits(&chain[from..to]))).flatten());
        from = to;
    }
    found
}

/// The next run of hex digits from `at` on.
fn run(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let from = at + bytes.get(at..)?.iter().position(u8::is_ascii_hexdigit)?;
    let length = bytes[from..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    Some((from, from + length))
}

fn mac(digits: &[u8]) -> Option<MacAddr> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> String {
        addresses(text).into_iter().map(MacAddr::bare).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn an_address_is_found_as_vendors_write_it() {
        for text in [
            "000413aabbcc",
            "000413AABBCC",
            "00:04:13:AA:BB:CC",
            "00-04-13-aa-bb-cc",
            "0004.13aa.bbcc",
            "00.04.13.aa.bb.cc",
            "SEP000413AABBCC",
            "XY-8841-SEP000413AABBCC",
            "desk-000413AABBCC",
            "desk_12_000413aabbcc.phones.example.net",
            "D411-000413AABBCC",
            "DX-411-00-04-13-AA-BB-CC",
            "MAC: 00:04:13:AA:BB:CC, again 000413AABBCC",
            "urn:dev:mac:000413aabbcc",
        ] {
            assert_eq!(found(text), "000413aabbcc", "{text}");
        }
        assert_eq!(found("000413aabbcc 000b82000001"), "000413aabbcc 000b82000001");
    }

    #[test]
    fn what_only_looks_like_an_address_is_none() {
        for text in [
            "",
            "T-46",
            "0004",
            "000413aabbc",
            "000413aabbccd",
            "face000413aabbcc",
            "550e8400-e29b-41d4-a716-446655440000",
            "urn:uuid:550e8400-e29b-41d4-a716-446655440000",
            "00:04:13:ff:fe:aa:bb:cc",
            "00:04:13:aa:bb",
            "00:04-13:aa-bb:cc",
            "0004:13aa:bbcc",
            "000000000000",
            "ffffffffffff",
            "010203040506",
            "10.20.30.40",
            "é000413éaabbcc",
        ] {
            assert_eq!(found(text), "", "{text}");
        }
    }
}
