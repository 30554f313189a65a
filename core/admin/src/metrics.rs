//! Figures for Prometheus, in its text format (version 0.0.4). `core/admin/README.md` lists them.

use std::{fmt::Write, sync::atomic::Ordering};

use provost_fleet::State;

use crate::Admin;

pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

struct Page(String);

impl Page {
    fn figure(&mut self, name: &str, kind: &str, help: &str, values: &[(&str, u64)]) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in values {
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
    }
}

pub(crate) fn page(admin: &Admin) -> String {
    let (world, counts, pnp) = (admin.desk.world(), admin.desk.registry.counts(), &admin.counters);
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let mut page = Page(String::new());
    page.figure("provost_devices", "gauge", "Devices in the inventory.", &[("", world.fleet.len() as u64)]);
    let label = |state: State| format!("{{state=\"{}\"}}", state.as_str());
    page.figure(
        "provost_phones_seen",
        "gauge",
        "Phones in the registry, by state.",
        &[(&label(State::Pending), counts.pending as u64), (&label(State::Known), counts.known as u64)],
    );
    page.figure(
        "provost_sightings_total",
        "counter",
        "Times that a phone was seen at any door.",
        &[("", counts.sightings)],
    );
    page.figure(
        "provost_phones_forgotten_total",
        "counter",
        "Phones forgotten to make room.",
        &[("", counts.forgotten)],
    );
    page.figure(
        "provost_devices_in_trouble",
        "gauge",
        "Devices whose files cannot be made.",
        &[
            ("{held=\"true\"}", world.held.len() as u64),
            ("{held=\"false\"}", (world.troubles.len() - world.held.len().min(world.troubles.len())) as u64),
        ],
    );
    page.figure("provost_plugins", "gauge", "Vendors in service.", &[("", world.shelf.plugins().count() as u64)]);
    if let Some(kernel) = admin.network.kernel() {
        page.figure(
            "provost_pnp_lost_total",
            "counter",
            "Datagrams that the kernel had no room for.",
            &[("", kernel.lost)],
        );
    }
    for (name, help, counter) in [
        ("provost_pnp_datagrams_total", "Datagrams heard.", &pnp.datagrams),
        ("provost_pnp_subscribes_total", "SUBSCRIBEs for ua-profile among them, copies included.", &pnp.subscribes),
        ("provost_pnp_duplicates_total", "Copies of a SUBSCRIBE.", &pnp.duplicates),
        ("provost_pnp_unreadable_total", "Datagrams that are no SIP.", &pnp.unreadable),
        ("provost_pnp_other_total", "SIP that is none of our business.", &pnp.other),
        ("provost_pnp_dropped_total", "Datagrams dropped because there were too many.", &pnp.overflow),
        (
            "provost_pnp_unwanted_total",
            "SUBSCRIBEs dropped because their address sends too many, or is beyond a router.",
            &pnp.unwanted,
        ),
        ("provost_pnp_silent_total", "Phones that were given no answer.", &pnp.silent),
        ("provost_pnp_notifies_total", "NOTIFYs, each counted once.", &pnp.notifies),
        ("provost_pnp_retransmissions_total", "NOTIFYs sent again.", &pnp.retransmissions),
        ("provost_pnp_notifies_answered_total", "NOTIFYs answered with a 2xx.", &pnp.answered),
        ("provost_pnp_notifies_refused_total", "NOTIFYs answered otherwise.", &pnp.refused),
        ("provost_pnp_notifies_timed_out_total", "NOTIFYs not answered within 32 s.", &pnp.timed_out),
    ] {
        page.figure(name, "counter", help, &[("", load(counter))]);
    }
    page.0
}
