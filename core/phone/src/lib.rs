//! A simulated phone, on the wire only: it announces itself, fetches its files and reports what it got.
//!
//! Used by `provost simulate`, the end-to-end tests and the benches. What a vendor's phone sends is data (`simulate:` in its
//! `vendor.yaml`), so no vendor is named here. The crate reads SIP and TFTP with small readers of its own, not with the server's: two
//! ends that share a mistake would agree with each other and with no phone.

mod challenge;
pub mod fetch;
pub mod fleet;
mod outcome;
mod phone;
mod placeholders;
mod signalling;
mod sip;
mod url;

use provost_plugin::{MacAddr, spec::Simulation};

pub use challenge::{Algorithm, Challenge, Challenged, Proof};
pub use fetch::{Fetched, Status};
pub use fleet::{Fleet, Report};
pub use outcome::{Failure, Finding, Outcome, Resync};
pub use phone::{Door, Options, Phone};
pub use url::{Scheme, Url};

/// The MAC of the `index`th phone of this kind: its prefix, then the number. The same number always gives the same MAC, so that an
/// inventory can be written beforehand. None when the prefix leaves no room for so many phones.
pub fn mac(simulation: &Simulation, index: u32) -> Option<MacAddr> {
    let room = 12 - simulation.oui.digits();
    let number = format!("{index:0room$x}");
    if number.len() > room { None } else { format!("{}{number}", simulation.oui).parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_number_is_always_the_same_phone_and_a_prefix_has_an_end() {
        let yaml = "{model: M, firmware: '1', oui: 02005E123, subscribe: '', user_agent: '', fetch: []}";
        let kind: Simulation = serde_yaml::from_str(yaml).unwrap();
        assert_eq!(mac(&kind, 0x0af).unwrap().to_string(), "02:00:5e:12:30:af");
        assert_eq!(mac(&kind, 0xfff).unwrap().to_string(), "02:00:5e:12:3f:ff");
        assert_eq!(mac(&kind, 0x1000), None);
    }
}
