//! What a phone answers to our NOTIFY. Which NOTIFY it was is for the caller to look up.

use crate::reader::Response;
use crate::subscribe::parse_cseq;
use crate::via::Via;
use crate::wire::lossy;

/// A response, as far as it tells which request it answers and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub reason: String,
    pub call_id: String,
    pub cseq: u32,
    /// The method in CSeq, in upper case.
    pub method: String,
    /// Of the topmost Via, which should be ours. Some phones mangle it, so it may be absent or another's.
    pub branch: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAnswer {
    #[error("cannot take response: no {header} header")]
    Missing { header: &'static str },
    #[error("cannot take response: malformed {header} header")]
    Malformed { header: &'static str },
}

impl NotAnswer {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing { .. } => "missing-header",
            Self::Malformed { .. } => "malformed-header",
        }
    }
}

impl Answer {
    pub fn from_response(response: &Response<'_>) -> Result<Self, NotAnswer> {
        let headers = &response.headers;
        let call_id = headers.get("Call-ID").ok_or(NotAnswer::Missing { header: "Call-ID" })?;
        let cseq = headers.get("CSeq").ok_or(NotAnswer::Missing { header: "CSeq" })?;
        let (cseq, method) = parse_cseq(cseq).ok_or(NotAnswer::Malformed { header: "CSeq" })?;
        Ok(Self {
            status: response.status,
            reason: lossy(response.reason),
            call_id: lossy(call_id),
            cseq,
            method: lossy(method).to_ascii_uppercase(),
            branch: headers.vias().next().and_then(Via::parse).and_then(|via| via.branch),
        })
    }

    /// Whether retransmitting ends: anything but a 1xx.
    pub fn is_final(&self) -> bool {
        self.status >= 200
    }

    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether this answers the NOTIFY that was sent so. The branch decides where it came back; where it did not,
    /// Call-ID and CSeq do, as they did before RFC 3261.
    pub fn answers(&self, branch: &str, call_id: &str, cseq: u32) -> bool {
        self.method == "NOTIFY"
            && (self.branch.as_deref() == Some(branch) || (self.call_id == call_id && self.cseq == cseq))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::{Message, read};

    fn answer(bytes: &str) -> Result<Answer, NotAnswer> {
        match read(bytes.as_bytes()) {
            Ok(Message::Response(response)) => Answer::from_response(&response),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_reason_phrase_may_be_missing() {
        for start in ["SIP/2.0 200", "SIP/2.0 200 ", "sip/2.0 200"] {
            let answer = answer(&format!("{start}\ni: c@h\ncseq: 1 notify\nv: SIP/2.0/UDP h;branch=b\n")).unwrap();
            assert_eq!((answer.status, answer.reason.as_str(), answer.cseq), (200, "", 1));
            assert!(answer.is_final() && answer.is_success());
            assert!(answer.answers("b", "other", 7));
            assert!(answer.answers("other", "c@h", 1));
            assert!(!answer.answers("other", "c@h", 2));
        }
    }

    #[test]
    fn an_answer_to_another_method_is_not_ours() {
        let answer = answer("SIP/2.0 200 OK\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n\r\n").unwrap();
        assert!(!answer.answers("b", "c", 1));
        assert_eq!(answer.branch, None);
    }

    #[test]
    fn a_provisional_answer_ends_nothing() {
        let answer = answer("SIP/2.0 100 Trying\r\nCall-ID: c\r\nCSeq: 1 NOTIFY\r\n\r\n").unwrap();
        assert!(!answer.is_final() && !answer.is_success());
    }

    #[test]
    fn what_cannot_be_matched_is_no_answer() {
        assert_eq!(answer("SIP/2.0 200 OK\r\nCSeq: 1 NOTIFY\r\n\r\n"), Err(NotAnswer::Missing { header: "Call-ID" }));
        assert_eq!(answer("SIP/2.0 200 OK\r\nCall-ID: c\r\n\r\n"), Err(NotAnswer::Missing { header: "CSeq" }));
        let malformed = answer("SIP/2.0 200 OK\r\nCall-ID: c\r\nCSeq: x NOTIFY\r\n\r\n").unwrap_err();
        assert_eq!(malformed, NotAnswer::Malformed { header: "CSeq" });
        assert_eq!(malformed.as_str(), "malformed-header");
    }
}
