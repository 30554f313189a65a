//! The SIP that PnP needs: bytes to values and values to bytes.
//!
//! [`read`] takes one UDP payload, [`Subscribe`] is what a phone asked, [`Answer`] is what it said to our NOTIFY, and
//! [`compose`] writes what goes back. Sockets, clocks, randomness, retransmission and the decision whether a phone is
//! served belong to the caller. A phone that wants to know who orders it about is answered by [`Challenge`].
//!
//! Received bytes are touched by this crate's own reader only: `rsip` refuses or misreads what phones send in practice
//! (folding, compact names, bare line feeds, bytes that are not UTF-8). Its types carry everything that is composed.

pub mod compose;
mod digest;
mod params;
mod reader;
mod response;
mod subscribe;
mod typed;
mod uri;
mod via;
mod wire;

pub use compose::Unsendable;
pub use digest::{Algorithm, Authorization, Challenge, Claimed, Credentials, NotAnswerable};
pub use reader::{BodyFit, Header, Headers, MAX_DATAGRAM, MAX_HEADERS, Message, Request, Response, Unreadable, read};
pub use response::{Answer, NotAnswer};
pub use subscribe::{FoundMac, MacPlace, NotPnp, PACKAGE, Subscribe, TransactionKey};
pub use typed::Untypable;
pub use uri::{BadUri, Uri};
pub use via::Via;
